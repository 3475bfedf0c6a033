//! RISC-V's combination table against the same table written in another shape, its laws, and its page-table entries.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use memtype::cite::Checked;
use memtype::guarantee::{Question, Standing};
use memtype::riscv::{Combined, Exception, Fault, Kind, Layer, Pbmt, Pma, Pte, Rule, Thead, Type, combine, thead};

fn all() -> impl Iterator<Item = Combined> {
    Pma::ALL.into_iter().flat_map(|pma| {
        Pbmt::ALL.into_iter().flat_map(move |g| Pbmt::ALL.into_iter().map(move |vs| combine(pma, g, vs)))
    })
}

/// The table as a drawing: a block for each PMA, a row for each G-stage, a column for each VS-stage PBMT; `.` main memory,
/// `o` an I/O region, `n` NC, `i` IO. Drawn from the two sentences on two-stage translation in the Svpbmt chapter.
const DRAWN: [[&str; 3]; 2] = [[".ni", "nni", "ini"], ["oni", "nni", "ini"]];

#[test]
fn the_table_is_the_drawing() {
    let mut rows = 0;
    for both in all() {
        let mark = DRAWN[both.pma as usize][both.g as usize].as_bytes()[both.vs as usize];
        let expected = match mark {
            b'.' => Type::PmaMain,
            b'o' => Type::PmaIo,
            b'n' => Type::Nc,
            b'i' => Type::Io,
            _ => panic!("{mark}"),
        };
        assert_eq!(both.ty, expected, "{both:?}");
        rows += 1;
    }
    assert_eq!(rows, 18);
}

/// The last layer that says anything decides.
#[test]
fn the_guest_wins() {
    for both in all() {
        let (by, ty) = match (both.vs, both.g, both.pma) {
            (Pbmt::Nc, ..) => (Layer::VsStage, Type::Nc),
            (Pbmt::Io, ..) => (Layer::VsStage, Type::Io),
            (Pbmt::Pma, Pbmt::Nc, _) => (Layer::GStage, Type::Nc),
            (Pbmt::Pma, Pbmt::Io, _) => (Layer::GStage, Type::Io),
            (Pbmt::Pma, Pbmt::Pma, Pma::Main) => (Layer::Pma, Type::PmaMain),
            (Pbmt::Pma, Pbmt::Pma, Pma::Io) => (Layer::Pma, Type::PmaIo),
        };
        assert_eq!((both.by(), both.ty), (by, ty), "{both:?}");
        assert_eq!(both.intermediate, combine(both.pma, both.g, Pbmt::Pma).ty, "walks see no VS-stage");
    }
}

/// What a layer asks for by itself.
fn alone(pbmt: Pbmt) -> Option<Type> {
    match pbmt {
        Pbmt::Pma => None,
        Pbmt::Nc => Some(Type::Nc),
        Pbmt::Io => Some(Type::Io),
    }
}

/// No combination is weaker than each layer that speaks, with the exceptions that have a name; and those are these.
#[test]
fn weaker_than_a_layer_by_name_only() {
    let mut named = BTreeSet::new();
    for both in all() {
        let beneath = if both.pma == Pma::Main { Type::PmaMain } else { Type::PmaIo };
        let layers = [Some(beneath), alone(both.g), alone(both.vs)];
        let strictest = layers.into_iter().flatten().map(Type::freedom).min().unwrap();
        let exceptions: Vec<_> = both.exceptions().into_iter().flatten().collect();
        assert_eq!(both.ty.freedom() > strictest, !exceptions.is_empty(), "{both:?}");
        named.extend(exceptions.into_iter().map(|e| (e, both.pma, both.g as u8, both.vs as u8)));
    }
    let expected = [
        (Exception::NcOverIoRegion, Pma::Io, 0, 1),
        (Exception::NcOverIoRegion, Pma::Io, 1, 0),
        (Exception::NcOverIoRegion, Pma::Io, 1, 1),
        (Exception::NcOverIoRegion, Pma::Io, 2, 1),
        (Exception::GuestNcOverGStageIo, Pma::Main, 2, 1),
        (Exception::GuestNcOverGStageIo, Pma::Io, 2, 1),
    ];
    assert_eq!(named, expected.into());
}

#[test]
fn saying_it_twice_changes_nothing() {
    for both in all() {
        assert_eq!(combine(both.pma, both.vs, both.vs).ty, combine(both.pma, Pbmt::Pma, both.vs).ty);
        assert_eq!(combine(both.pma, both.g, both.g).ty, combine(both.pma, both.g, Pbmt::Pma).ty);
    }
}

/// Both sets of a FENCE where an override changes memory into I/O or back, one everywhere else; never none.
#[test]
fn what_a_fence_counts_it_as() {
    for both in all() {
        let (memory, io) = (both.counts_as_memory(), both.counts_as_io());
        let crossed = matches!((both.ty, both.pma), (Type::Nc, Pma::Io) | (Type::Io, Pma::Main));
        assert_eq!(memory && io, crossed, "{both:?}");
        assert!(memory || io);
        // The region's own set is always among them.
        assert!(if both.pma == Pma::Io { io } else { memory }, "{both:?}");
    }
}

#[test]
fn rules_are_of_the_manual() {
    for both in all() {
        let rules: Vec<_> = both.because().into_iter().flatten().collect();
        assert!(!rules.is_empty());
        assert!(rules.iter().all(|r| r.cite().checked == Checked::Read && r.says().ends_with('.')));
        assert_eq!(rules.contains(&Rule::VsStageOverrides), both.by() == Layer::VsStage);
        assert_eq!(rules.contains(&Rule::GStageOverrides), both.g != Pbmt::Pma);
        assert_eq!(rules.contains(&Rule::NcOverIoBoth), both.ty == Type::Nc && both.pma == Pma::Io);
        assert_eq!(rules.contains(&Rule::IoOverMainBoth), both.ty == Type::Io && both.pma == Pma::Main);
    }
}

/// The constants of Linux, arch/riscv/include/asm/pgtable-64.h and pgtable-bits.h.
#[test]
fn encodings_are_those_of_linux() {
    const PRESENT: u64 = 1;
    const READ: u64 = 1 << 1;
    const NOCACHE_SVPBMT: u64 = 1 << 61;
    const IO_SVPBMT: u64 = 1 << 62;
    assert_eq!(Pte(PRESENT | READ).pbmt(true), Ok(Pbmt::Pma));
    assert_eq!(Pte(PRESENT | READ | NOCACHE_SVPBMT).pbmt(true), Ok(Pbmt::Nc));
    assert_eq!(Pte(PRESENT | READ | IO_SVPBMT).pbmt(true), Ok(Pbmt::Io));
    for (bits, ty) in
        [(1 << 62 | 1 << 61 | 1 << 60, Thead::Pma), (1 << 61 | 1 << 60, Thead::Nc), (1 << 63 | 1 << 60, Thead::Io)]
    {
        assert_eq!(thead(Pte(bits | PRESENT | READ)), Some(ty));
    }
    assert_eq!((0..32u64).filter(|b| thead(Pte(b << 59)).is_some()).count(), 3);
}

/// All upper and lower bits that matter, with and without Svpbmt.
#[test]
fn entries_exhaustively() {
    for high in 0..4u64 {
        for low in 0..16u64 {
            for n in 0..2u64 {
                let pte = Pte(n << 63 | high << 61 | low);
                let [v, r, w, x] = [0, 1, 2, 3].map(|i| low >> i & 1 == 1);
                let kind = match (v, r || w || x, w && !r) {
                    (false, ..) => Kind::Invalid,
                    (true, false, _) => Kind::Pointer,
                    (true, true, true) => Kind::WriteOnly,
                    (true, true, false) => Kind::Leaf,
                };
                assert_eq!(pte.kind(), kind, "{pte:?}");
                assert_eq!(pte.is_napot(), n == 1);
                assert_eq!(u64::from(pte.pbmt_bits()), high);
                let without = if high == 0 { Ok(Pbmt::Pma) } else { Err(Fault::NoSvpbmt) };
                assert_eq!(pte.pbmt(false), without, "{pte:?}");
                let with = match (kind, high) {
                    (_, 0) => Ok(Pbmt::Pma),
                    (Kind::Pointer, _) => Err(Fault::PbmtInPointer),
                    (_, 1) => Ok(Pbmt::Nc),
                    (_, 2) => Ok(Pbmt::Io),
                    _ => Err(Fault::ReservedPbmt),
                };
                assert_eq!(pte.pbmt(true), with, "{pte:?}");
            }
        }
    }
    for bits in 0..=u8::MAX {
        assert_eq!(Pbmt::from_bits(bits).map(Pbmt::bits), (bits & 3 != 3).then_some(bits & 3));
    }
}

#[test]
fn napot_and_reserved_bits() {
    let leaf = 1 << 63 | 0b111;
    for ppn in 0..64u64 {
        assert_eq!(Pte(leaf | ppn << 10).is_napot_64k(), ppn % 16 == 8, "{ppn}");
        assert!(!Pte((leaf | ppn << 10) & !(1 << 63)).is_napot_64k());
    }
    for bit in 0..64 {
        let pte = Pte(1 << bit);
        assert_eq!(pte.reserved(false) != 0, (54..=60).contains(&bit), "{bit}");
        assert_eq!(pte.reserved(true) != 0, (54..=58).contains(&bit), "{bit}");
        assert_eq!(pte.ppn() != 0, (10..=53).contains(&bit), "{bit}");
    }
}

/// The words of the PBMT table, as answers.
#[test]
fn guarantees_are_the_pbmt_table() {
    let standing = |ty: Type, q| ty.guarantee(q).unwrap().standing;
    for ty in [Type::Nc, Type::Io] {
        assert_eq!(standing(ty, Question::Cached), Standing::Forbidden, "non-cacheable");
    }
    for (question, nc, io) in [
        (Question::SpeculativeRead, Standing::Permitted, Standing::Forbidden), // idempotent, non-idempotent
        (Question::Repeat, Standing::Permitted, Standing::Forbidden),
        (Question::ReorderSame, Standing::Permitted, Standing::Forbidden), // weakly, strongly ordered
        (Question::Gather, Standing::Permitted, Standing::Forbidden),
    ] {
        assert_eq!((standing(Type::Nc, question), standing(Type::Io, question)), (nc, io), "{question:?}");
    }
    // A type that leaves it to the region promises nothing about it.
    for question in [Question::Cached, Question::SpeculativeRead, Question::ReorderSame, Question::Gather] {
        assert_eq!(standing(Type::PmaIo, question), Standing::ImplementationDefined, "{question:?}");
    }
}
