//! A page-table entry of RISC-V (Sv39, Sv48, Sv57; VS-stage and G-stage alike), with Svpbmt and Svnapot.

use memtype::riscv::{Fault, Kind, Pbmt, Pte, Thead, thead};

use super::{Decoded, Means, Spec, fields};
use crate::show::Hex;

const NO_YES: Means = Means::One(&[(0, "no"), (1, "yes")]);

const LAYOUT: [Spec<Pte>; 13] = [
    Spec::new("N", 63, 63, Means::One(&[(0, "a translation by itself"), (1, "one of a contiguous range (Svnapot)")]))
        .quiet(),
    Spec::new(
        "PBMT",
        62,
        61,
        Means::One(&[
            (0, "PMA: as the platform says"),
            (1, "NC: non-cacheable, idempotent, weakly ordered"),
            (2, "IO: non-cacheable, non-idempotent, strongly ordered"),
        ]),
    ),
    Spec::new("reserved", 60, 54, Means::Number).quiet(),
    Spec::new("PPN", 53, 10, Means::By(|ppn| format!("physical address {:#x}", ppn << 12))),
    Spec::new("RSW", 9, 8, Means::By(|_| "software's".into())).quiet(),
    Spec::new("D", 7, 7, Means::One(&[(0, "not dirty"), (1, "dirty")])).when(is_leaf),
    Spec::new("A", 6, 6, Means::One(&[(0, "not accessed"), (1, "accessed")])).when(is_leaf),
    Spec::new("G", 5, 5, Means::One(&[(0, "not global"), (1, "global")])).quiet(),
    Spec::new("U", 4, 4, Means::One(&[(0, "not for user mode"), (1, "for user mode (a G-stage leaf must have it)")]))
        .when(is_leaf),
    Spec::new("X", 3, 3, NO_YES),
    Spec::new("W", 2, 2, NO_YES),
    Spec::new("R", 1, 1, NO_YES),
    Spec::new("V", 0, 0, Means::One(&[(0, "not valid: nothing else counts"), (1, "valid")])),
];

fn is_leaf(pte: &Pte) -> bool {
    pte.kind() != Kind::Pointer
}

/// Decodes.
///
/// # Errors
/// None: every value is an entry.
pub fn decode(value: u64) -> Result<Decoded, String> {
    let pte = Pte(value);
    let (mut fields, _) = fields(&LAYOUT, &pte, value);
    let kind = pte.kind();
    if kind == Kind::Pointer
        && let Some(ppn) = fields.iter_mut().find(|f| f.name == "PPN")
    {
        ppn.means = format!("next table at {:#x}", pte.ppn() << 12);
    }
    let pbmt = pte.pbmt(true);
    let says = match kind {
        Kind::Invalid => "not valid".into(),
        Kind::Pointer => "points to the next level".into(),
        Kind::WriteOnly => "reserved: W without R".into(),
        Kind::Leaf => match pbmt {
            Ok(Pbmt::Pma) => "PMA: the platform decides".to_string(),
            Ok(Pbmt::Nc) => "NC: write-combining".into(),
            Ok(Pbmt::Io) => "IO: for registers".into(),
            Err(_) => "PBMT 3 is reserved".into(),
        },
    };
    let ty = match (kind, pbmt) {
        (Kind::Leaf, Ok(Pbmt::Nc)) => Some("nc"),
        (Kind::Leaf, Ok(Pbmt::Io)) => Some("io"),
        _ => None,
    };
    Ok(Decoded {
        register: "PTE".into(),
        value: vec![Hex(value)],
        says,
        ty: ty.map(Into::into),
        fields,
        what: what(pte),
        notes: notes(pte),
    })
}

fn what(pte: Pte) -> Vec<String> {
    let mut what = Vec::new();
    match (pte.kind(), pte.pbmt(true)) {
        (Kind::Invalid, _) => what.push("An access raises a page fault; bits 63:1 are software's.".into()),
        (Kind::WriteOnly, _) => what.push(
            "An access raises a page fault; with Zicfiss, W alone marks a shadow stack page.".into(),
        ),
        (Kind::Pointer, Ok(_)) => what.push("The walk goes on there; memory types are of leaves.".into()),
        (Kind::Pointer | Kind::Leaf, Err(fault)) => what.push(
            match fault {
                Fault::PbmtInPointer => "PBMT is of leaves: in an entry that points on it must be zero, so this raises a page fault.",
                Fault::ReservedPbmt => "PBMT = 3 is reserved: this raises a page fault.",
                Fault::NoSvpbmt => "Without Svpbmt bits 62:61 must be zero: this raises a page fault.",
            }
            .into(),
        ),
        (Kind::Leaf, Ok(Pbmt::Pma)) => what.push(
            "No override: main memory or I/O, cacheable or not, as the platform says of the physical address. In a guest's \
             tables: as the G-stage and the platform say."
                .into(),
        ),
        (Kind::Leaf, Ok(Pbmt::Nc)) => {
            what.push("Writes may be combined, reads may be speculative; ordering is RVWMO.".into());
            what.push("Over an I/O region, as a BAR is, accesses count as memory and as I/O for FENCE.".into());
        }
        (Kind::Leaf, Ok(Pbmt::Io)) => {
            what.push("Accesses are in program order to one region (channel 0), none speculative, none repeated.".into());
            what.push("Over main memory accesses count as memory and as I/O for FENCE.".into());
        }
    }
    if pte.kind() == Kind::Leaf && matches!(pte.pbmt(true), Ok(Pbmt::Nc | Pbmt::Io)) {
        what.push(
            "In a guest's tables it overrides the hypervisor's: bartender explain --arch riscv pma=io g=io vs=nc"
                .into(),
        );
    }
    what
}

fn notes(pte: Pte) -> Vec<String> {
    let mut notes = Vec::new();
    if pte.kind() == Kind::Invalid {
        return notes;
    }
    if pte.pbmt_bits() != 0 {
        notes.push(
            "where Svpbmt is off (menvcfg.PBMTE for S-mode and the G-stage, henvcfg.PBMTE for the VS-stage) bits 62:61 must be \
             zero, or the entry raises a page fault"
                .into(),
        );
    }
    if pte.is_napot() && !pte.is_napot_64k() {
        notes.push(
            "N is set, and the PPN does not end in 0b1000 (64 KiB) in a leaf: reserved, a page fault (Svnapot)".into(),
        );
    }
    if pte.is_napot_64k() {
        notes.push("N: 64 KiB from the address without its low four PPN bits; in a leaf of the last level only".into());
    }
    if pte.reserved(false) != 0 {
        let mut note = String::from("bits 60:54 are reserved and must be zero, or the entry raises a page fault");
        if pte.reserved(true) == 0 {
            note.push_str("; with Svrsw60t59b bits 60 and 59 are software's");
        }
        notes.push(note);
    }
    if pte.kind() == Kind::Leaf
        && let Some(ty) = thead(pte)
    {
        let ty = match ty {
            Thead::Pma => "cacheable, what Linux uses as PMA",
            Thead::Nc => "non-cacheable, bufferable, as NC",
            Thead::Io => "strongly ordered, non-cacheable, as IO",
        };
        notes.push(format!(
            "on T-Head C9xx cores bits 63:59 are an encoding of their own, and this is {ty} (Linux, \
             arch/riscv/include/asm/pgtable-64.h)"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves() {
        for (pbmt, ty) in [(0, None), (1, Some("nc")), (2, Some("io")), (3, None)] {
            let it = decode(pbmt << 61 | 0x8_0000 << 10 | 0xc7).unwrap();
            assert_eq!(it.ty.as_deref(), ty);
            assert_eq!(it.fields.iter().find(|f| f.name == "PBMT").unwrap().value, pbmt);
            assert!(it.fields.iter().any(|f| f.means == "physical address 0x80000000"));
            assert_eq!(it.notes.is_empty(), pbmt == 0, "{:?}", it.notes);
            assert_eq!(it.what[0].contains("page fault"), pbmt == 3);
        }
    }

    #[test]
    fn pointers_and_invalid_entries() {
        let it = decode(0x2000_0001).unwrap();
        assert!(it.fields.iter().any(|f| f.means == "next table at 0x80000000"));
        assert!(!it.fields.iter().any(|f| f.name == "D"), "of leaves");
        assert!(it.notes.is_empty() && it.ty.is_none());
        assert!(decode(1 << 61 | 0x2000_0001).unwrap().what[0].contains("must be zero"));
        let it = decode(!1).unwrap();
        assert_eq!((it.says.as_str(), it.ty, it.notes.len()), ("not valid", None, 0));
    }

    /// All bits belong to a field, and no value is without words.
    #[test]
    fn every_bit_is_of_a_field() {
        for value in (0..64).map(|bit| 1u64 << bit).chain((0..64).map(|bit| 1u64 << bit | 0b111)).chain([0, u64::MAX]) {
            let pte = Pte(value);
            let (all, rest) = fields(&LAYOUT, &pte, value);
            assert_eq!(rest & !(if is_leaf(&pte) { 0 } else { 0xd0 }), 0, "{value:#x}");
            assert!(!all.is_empty());
            let it = decode(value).unwrap();
            assert!(!it.says.is_empty() && !it.what.is_empty(), "{value:#x}");
        }
    }

    #[test]
    fn odd_bits_have_notes() {
        let napot = decode(1 << 63 | 0b1000 << 10 | 0b111).unwrap();
        assert!(napot.notes[0].contains("64 KiB"));
        assert!(decode(1 << 63 | 0b111).unwrap().notes[0].contains("reserved"));
        assert!(decode(1 << 54 | 0b111).unwrap().notes[0].contains("60:54"));
        assert!(decode(1 << 59 | 0b111).unwrap().notes[0].contains("Svrsw60t59b"));
        let thead = decode(0b10010 << 59 | 0b111).unwrap();
        assert!(thead.notes.iter().any(|n| n.contains("T-Head") && n.contains("as IO")));
    }
}
