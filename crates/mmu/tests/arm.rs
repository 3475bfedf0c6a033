//! Building, walking and decoding, named after what they check; a second page-table crate as the oracle.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use aarch64_paging::{
    descriptor::{El1Attributes, PhysicalAddress, Stage2Attributes},
    paging::{Constraints, El1And0, MemoryRegion, RootTable, VaRange},
    target::TargetAllocator,
};
use mmu::{
    Arena, Frames, Ia, Oa, OutsideArena, Words, WordsMut,
    arm::{self, Access, Config, Entry, FaultKind, MapError, S1Attrs, S2Attrs, Stage1, Stage2, TableBits, WalkError},
};
use proptest::prelude::*;

const BASE: u64 = 0x1_0000;
const K4: u64 = 4096;
const M2: u64 = 2 << 20;
const G1: u64 = 1 << 30;

fn arena(frames: usize) -> Arena<Vec<u64>> {
    Arena::new(Oa(BASE), vec![0; frames * 512])
}

fn s1() -> Config {
    Config::stage1(48, 48).unwrap()
}

const NC: S1Attrs = S1Attrs {
    attr_index: 2,
    sh: 3,
    writable: true,
    el0: false,
    accessed: true,
    not_global: false,
    contiguous: false,
    pxn: true,
    uxn: true,
};
const DEVICE: S2Attrs =
    S2Attrs { memattr: 1, sh: 3, read: true, write: true, accessed: true, fnxs: false, contiguous: false, xn: 2 };

fn built(ranges: &[(u64, u64, u64)], largest: u64) -> (Oa, Arena<Vec<u64>>) {
    let mut memory = arena(64);
    let root = memory.frame().unwrap();
    for &(ia, oa, size) in ranges {
        arm::map::<Stage1, _>(root, s1(), &mut memory, (Ia(ia), Oa(oa), size), &NC, largest).unwrap();
    }
    (root, memory)
}

#[test]
fn the_start_level_follows_from_the_input_size_table_d8_16() {
    for (bits, start) in [(48, 0), (40, 0), (39, 1), (31, 1), (30, 2), (25, 2)] {
        assert_eq!(Config::stage1(bits, 48).unwrap().start_level(), start, "{bits}");
    }
    assert_eq!((Config::stage1(24, 48), Config::stage1(49, 48), Config::stage1(48, 49)), (None, None, None));
    // Stage 2 may concatenate up to 16 tables: 40 bits from level 1 are two, 43 bits sixteen, 44 too many.
    for (bits, start, frames) in [(40, 1, 2), (39, 1, 1), (43, 1, 16), (48, 0, 1), (34, 2, 16), (31, 1, 1)] {
        assert_eq!(Config::stage2(bits, 48, start).unwrap().root_frames(), frames, "{bits} from {start}");
    }
    for (bits, start) in [(44, 1), (35, 2), (39, 0), (30, 1), (40, 3)] {
        assert_eq!(Config::stage2(bits, 48, start), None, "{bits} from {start}");
    }
}

#[test]
fn every_level_blocks_and_pages() {
    let (root, memory) = built(&[(G1, G1, G1), (5 * M2, 7 * M2, M2), (0x3000, 0x9000, K4)], G1);
    for (ia, oa, level) in [(G1 + 0x1234, G1 + 0x1234, 1), (5 * M2 + 5, 7 * M2 + 5, 2), (0x3abc, 0x9abc, 3)] {
        let leaf = arm::walk::<Stage1, _>(root, s1(), &memory, Ia(ia)).unwrap();
        assert_eq!((leaf.oa, leaf.step.level, leaf.attrs, leaf.size()), (Oa(oa), level, NC, arm::entry_size(level)));
        assert_eq!(memory.read(leaf.step.at).unwrap(), leaf.step.descriptor);
    }
}

#[test]
fn translation_faults_name_their_level_dfsc() {
    let (root, memory) = built(&[(0x3000, 0x9000, K4)], K4);
    for (ia, level, fsc) in [(0x4000, 3, 0b00_0111), (M2, 2, 0b00_0110), (G1, 1, 0b00_0101), (1 << 39, 0, 0b00_0100)] {
        match arm::walk::<Stage1, _>(root, s1(), &memory, Ia(ia)) {
            Err(WalkError::Fault(f, Some(step))) => {
                assert_eq!((f.kind, f.level, f.fsc(), step.level), (FaultKind::Translation, level, fsc, level));
            }
            other => panic!("{ia:#x}: {other:?}"),
        }
    }
    // Beyond the input size: level 0, no lookup (D8.15.5 item 2).
    let outside = arm::walk::<Stage1, _>(root, s1(), &memory, Ia(1 << 48));
    assert!(matches!(outside, Err(WalkError::Fault(f, None)) if f.fsc() == 0b00_0100));
}

#[test]
fn address_size_faults_name_their_level() {
    let narrow = Config::stage1(48, 36).unwrap();
    let (root, memory) = built(&[(0x3000, 1 << 36, K4), (G1, 1 << 40, G1)], G1);
    for (ia, level) in [(0x3000, 3), (G1, 1)] {
        let r = arm::walk::<Stage1, _>(root, narrow, &memory, Ia(ia));
        assert!(matches!(r, Err(WalkError::Fault(f, _)) if f.fsc() == level), "{r:?}");
    }
    let r = arm::walk::<Stage1, _>(Oa(1 << 36), narrow, &memory, Ia(0));
    assert!(matches!(r, Err(WalkError::Fault(f, None)) if f.kind == FaultKind::AddressSize && f.level == 0));
}

#[test]
fn a_block_at_level_0_or_3_is_no_block() {
    for level in [0, 3] {
        assert_eq!(arm::decode::<Stage1>(0x4000_0401, level), Entry::Invalid);
    }
    assert!(matches!(arm::decode::<Stage1>(0x4000_0401, 1), Entry::Leaf { oa: Oa(0x4000_0000), .. }));
    assert_eq!(arm::decode::<Stage2>(2, 1), Entry::Invalid);
}

#[test]
fn table_memory_that_cannot_be_read_is_told_apart() {
    let (root, mut memory) = built(&[(0x3000, 0x9000, K4)], K4);
    memory.write(root, 0x7777_7000 | 3).unwrap();
    match arm::walk::<Stage1, _>(root, s1(), &memory, Ia(0)) {
        Err(WalkError::Memory { level: 1, at, error }) => assert_eq!((at, error.0), (Oa(0x7777_7000), Oa(0x7777_7000))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn access_flag_and_permissions() {
    let mut memory = arena(8);
    let root = memory.frame().unwrap();
    let map = |m: &mut Arena<Vec<u64>>, ia, attrs: S1Attrs| {
        arm::map::<Stage1, _>(root, s1(), m, (Ia(ia), Oa(ia), K4), &attrs, K4).unwrap();
    };
    map(&mut memory, 0x1000, S1Attrs { accessed: false, ..NC });
    map(&mut memory, 0x2000, S1Attrs { writable: false, pxn: false, ..NC });
    map(&mut memory, 0x3000, S1Attrs { el0: true, pxn: false, ..NC });
    let leaf = |m: &Arena<Vec<u64>>, ia| arm::walk::<Stage1, _>(root, s1(), m, Ia(ia)).unwrap();
    assert_eq!(leaf(&memory, 0x1000).check_accessed().unwrap_err().fsc(), 0b00_1011);
    let ro = leaf(&memory, 0x2000);
    assert_eq!(ro.permit(Access::Write).unwrap_err().fsc(), 0b00_1111);
    assert_eq!(ro.permit(Access::ReadWrite).unwrap_err().fsc(), 0b00_1111);
    assert!(ro.permit(Access::Read).is_ok() && ro.permit(Access::Execute).is_ok() && ro.check_accessed().is_ok());
    // What EL0 may write, EL1 does not execute (R_VWLLR).
    assert!(leaf(&memory, 0x3000).permit(Access::Execute).is_err());
    // Hierarchical: APTable[1] and PXNTable in the level-2 table descriptor (D8.4.1.2.2).
    let l2 = leaf(&memory, 0x2000).step.at.0 & !0xfff;
    let l2_entry = (BASE..BASE + 8 * K4).step_by(8).find(|a| memory.read(Oa(*a)).unwrap() & !0xfff == l2).unwrap();
    let table = memory.read(Oa(l2_entry)).unwrap();
    memory.write(Oa(l2_entry), table | 1 << 62 | 1 << 59).unwrap();
    let below = leaf(&memory, 0x3000);
    assert_eq!(below.tables, TableBits { read_only: true, pxn: true, ..TableBits::default() });
    assert!(below.permit(Access::Write).is_err() && below.permit(Access::Read).is_ok());
    assert!(leaf(&memory, 0x2000).permit(Access::Execute).is_err());
}

#[test]
fn stage_2_permissions_and_table_d8_78() {
    for xn in 0..4u8 {
        let p = <Stage2 as arm::Format>::privileges(&S2Attrs { xn, ..DEVICE }, TableBits::default());
        assert_eq!(p.execute, matches!(xn, 0 | 3));
    }
    let none = <Stage2 as arm::Format>::privileges(&S2Attrs { read: false, xn: 0, ..DEVICE }, TableBits::default());
    assert!(!none.permit(Access::Read) && !none.permit(Access::Execute) && none.permit(Access::Write));
    assert!(!none.permit(Access::ReadWrite));
}

#[test]
fn a_concatenated_root_is_one_long_table() {
    let config = Config::stage2(40, 40, 1).unwrap();
    let mut memory = arena(8);
    let root = memory.frame().unwrap();
    assert_eq!(memory.frame(), Some(Oa(root.0 + K4)));
    let ia = 700 * G1;
    arm::map::<Stage2, _>(root, config, &mut memory, (Ia(ia), Oa(0), G1), &DEVICE, G1).unwrap();
    let leaf = arm::walk::<Stage2, _>(root, config, &memory, Ia(ia + 5)).unwrap();
    assert_eq!((leaf.step.at, leaf.oa, leaf.attrs), (Oa(root.0 + 700 * 8), Oa(5), DEVICE));
}

#[test]
fn bad_ranges_change_nothing() {
    let mut memory = arena(4);
    let root = memory.frame().unwrap();
    let mut map = |ia, oa, size| arm::map::<Stage1, _>(root, s1(), &mut memory, (Ia(ia), Oa(oa), size), &NC, G1);
    for (ia, oa, size) in [(1, 0, K4), (0, 1, K4), (0, 0, 1), (0, 0, 0)] {
        assert!(matches!(map(ia, oa, size), Err(MapError::Unaligned { .. })), "{ia} {oa} {size}");
    }
    let top = (1 << 48) - K4;
    for (ia, oa, size) in [(top, 0, 2 * K4), (0, top, 2 * K4), (u64::MAX - K4 + 1, 0, K4), (K4, 0, u64::MAX - K4 + 1)] {
        assert!(matches!(map(ia, oa, size), Err(MapError::OutOfRange { .. })), "{ia:#x} {oa:#x} {size:#x}");
    }
    assert_eq!(map(top, top, K4), Ok(()));
    assert_eq!(memory.frames_used(), 4);
}

#[test]
fn nothing_is_replaced_and_frames_run_out() {
    let (root, mut memory) = built(&[(0, 0, M2)], M2);
    let mut map =
        |ia, size, largest| arm::map::<Stage1, _>(root, s1(), &mut memory, (Ia(ia), Oa(0), size), &NC, largest);
    assert_eq!(map(0x5000, K4, K4), Err(MapError::Occupied { ia: Ia(0x5000), level: 2 }));
    assert_eq!(map(0, G1, G1), Err(MapError::Occupied { ia: Ia(0), level: 1 }));
    let mut small = arena(2);
    let root = small.frame().unwrap();
    assert_eq!(arm::map::<Stage1, _>(root, s1(), &mut small, (Ia(0), Oa(0), K4), &NC, K4), Err(MapError::NoFrame));
}

#[test]
fn unmap_clears_what_overlaps_and_counts_it() {
    let (root, mut memory) = built(&[(0, 0, 16 * K4), (M2, M2, M2), (G1, G1, G1)], G1);
    assert_eq!(arm::unmap::<Stage1, _>(root, s1(), &mut memory, Ia(3 * K4), 2 * K4), Ok(2));
    assert_eq!(arm::unmap::<Stage1, _>(root, s1(), &mut memory, Ia(M2 + 5), 1), Ok(1));
    assert_eq!(arm::unmap::<Stage1, _>(root, s1(), &mut memory, Ia(0), u64::MAX), Ok(14 + 1));
    assert_eq!(arm::unmap::<Stage1, _>(root, s1(), &mut memory, Ia(0), u64::MAX), Ok(0));
    assert_eq!(arm::unmap::<Stage1, _>(root, s1(), &mut memory, Ia(u64::MAX), u64::MAX), Ok(0));
    assert!(arm::walk::<Stage1, _>(root, s1(), &memory, Ia(0)).is_err());
}

#[test]
fn entries_in_the_way_are_the_valid_ones_and_only_leaves_are_cleared() {
    for slices in SLICES {
        let (root, arena) = built(&[(0x3000, 0x9000, K4)], K4);
        let mut memory = Memory { arena, slices };
        let table = arm::walk::<Stage1, _>(root, s1(), &memory, Ia(0x3000)).unwrap().step.at.0 & !0xfff;
        // What software keeps in an invalid entry, and an encoding level 3 has not.
        let junk = [(4, 0xdead_beee), (5, 0x1_2345_6001), (6, u64::MAX << 2)];
        for (i, word) in junk {
            memory.write(Oa(table + 8 * i), word).unwrap();
        }
        assert_eq!(arm::unmap::<Stage1, _>(root, s1(), &mut memory, Ia(0), 16 * K4), Ok(1));
        for (i, word) in junk {
            assert_eq!(memory.read(Oa(table + 8 * i)), Ok(word), "{slices:?}");
        }
        let mut map = |ia, pages| arm::map::<Stage1, _>(root, s1(), &mut memory, (Ia(ia), Oa(ia), pages * K4), &NC, K4);
        assert_eq!(map(0x8000, 1), Ok(()));
        // Pages 2 to 7 are mapped, over the junk; page 8 is in the way.
        assert_eq!(map(0x2000, 9), Err(MapError::Occupied { ia: Ia(0x8000), level: 3 }));
        assert!(arm::walk::<Stage1, _>(root, s1(), &memory, Ia(0x9000)).is_err());
        let mut told = Vec::new();
        let each = |ia: Ia, level| told.push((ia.0, level));
        assert_eq!(arm::unmap_with::<Stage1, _>(root, s1(), &mut memory, Ia(0x4fff), 0x2002, each), Ok(4));
        assert_eq!(told, [(0x4000, 3), (0x5000, 3), (0x6000, 3), (0x7000, 3)]);
    }
}

#[test]
fn table_memory_that_cannot_be_written_is_told_of() {
    for slices in SLICES {
        let (root, arena) = built(&[(0x3000, 0x9000, K4)], K4);
        let mut memory = Memory { arena, slices };
        let level2 = arm::walk::<Stage1, _>(root, s1(), &memory, Ia(M2)).unwrap_err();
        let WalkError::Fault(_, Some(step)) = level2 else { panic!("{level2:?}") };
        // The table of the second 2 MiB lies half a frame before the end of the arena.
        let outside = OutsideArena(Oa(BASE + 64 * K4));
        memory.write(step.at, (BASE + 64 * K4) | 3).unwrap();
        let range = (Ia(M2 - K4), Oa(0), 2 * K4);
        let mapped = arm::map::<Stage1, _>(root, s1(), &mut memory, range, &NC, K4);
        assert_eq!(mapped, Err(MapError::Memory(outside)), "{slices:?}");
        let mut told = Vec::new();
        let each = |ia: Ia, level| told.push((ia.0, level));
        assert_eq!(arm::unmap_with::<Stage1, _>(root, s1(), &mut memory, Ia(0), 2 * M2, each), Err(outside));
        assert_eq!(told, [(0x3000, 3), (M2 - K4, 3)], "{slices:?}");
    }
}

/// Which words a [`Memory`] gives as slices.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Slices {
    All,
    None,
    /// Of every second frame.
    Some,
    /// One word too few, which is none.
    Short,
}

const SLICES: [Slices; 4] = [Slices::All, Slices::None, Slices::Some, Slices::Short];

/// An arena that gives slices, or does not.
struct Memory {
    arena: Arena<Vec<u64>>,
    slices: Slices,
}

impl Words for Memory {
    type Error = OutsideArena;
    fn read(&self, at: Oa) -> Result<u64, OutsideArena> {
        self.arena.read(at)
    }
}

impl WordsMut for Memory {
    fn write(&mut self, at: Oa, word: u64) -> Result<(), OutsideArena> {
        self.arena.write(at, word)
    }
    fn words_mut(&mut self, at: Oa, count: usize) -> Option<&mut [u64]> {
        match self.slices {
            Slices::All => self.arena.words_mut(at, count),
            Slices::Some if (at.0 / K4).is_multiple_of(2) => self.arena.words_mut(at, count),
            Slices::Short => self.arena.words_mut(at, count - 1),
            Slices::None | Slices::Some => None,
        }
    }
}

impl Frames for Memory {
    fn frame(&mut self) -> Option<Oa> {
        self.arena.frame()
    }
}

/// What tables mean, without tables: the leaves by input address, and which entries are tables.
#[derive(Debug, Default)]
struct Naive {
    start: u8,
    frames: usize,
    leaves: BTreeMap<u64, (u64, u8)>,
    tables: BTreeSet<(u8, u64)>,
}

impl Naive {
    fn map(&mut self, (mut ia, mut oa, mut size): (u64, u64, u64), largest: u64) -> Result<(), MapError<OutsideArena>> {
        while size != 0 {
            for level in self.start..4 {
                let span = arm::entry_size(level);
                let base = ia / span * span;
                let is_table = self.tables.contains(&(level, base));
                let fits = [ia, oa].iter().all(|a| a % span == 0) && size >= span && level > 0;
                let leaf = level == 3 || fits && span <= largest;
                if matches!(self.leaves.get(&base), Some((_, l)) if *l == level) || leaf && is_table {
                    return Err(MapError::Occupied { ia: Ia(ia), level });
                }
                if leaf {
                    self.leaves.insert(ia, (oa, level));
                    (ia, oa, size) = (ia + span, oa + span, size - span);
                    break;
                }
                if !is_table {
                    self.frames = self.frames.checked_sub(1).ok_or(MapError::NoFrame)?;
                    self.tables.insert((level, base));
                }
            }
        }
        Ok(())
    }

    /// The leaves that overlap, which are gone.
    fn unmap(&mut self, ia: u64, size: u64) -> Vec<(u64, u8)> {
        let overlaps = |at: u64, level: u8| at < ia + size && ia < at + arm::entry_size(level);
        let gone: Vec<_> =
            self.leaves.iter().map(|(at, (_, l))| (*at, *l)).filter(|(at, l)| overlaps(*at, *l)).collect();
        for (at, _) in &gone {
            self.leaves.remove(at);
        }
        gone
    }
}

/// What is done to tables. Addresses are pages from some middle, which is a boundary between tables.
#[derive(Debug, Clone)]
enum Op {
    Map {
        ia: i64,
        off: u64,
        pages: u64,
        largest: u64,
    },
    Unmap {
        ia: i64,
        inside: u64,
        bytes: u64,
    },
    /// Something of software's in an entry that is empty; bit 0 is clear.
    Junk {
        word: usize,
        junk: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let page = || {
        let unit = prop_oneof![Just(1i64), Just(512), Just(512 * 512)];
        (unit, -3i64..3, -2i64..3).prop_map(|(unit, n, beside)| unit * n + beside * i64::from(beside % 2 != 0))
    };
    let largest = prop_oneof![Just(K4), Just(M2), Just(G1)];
    let size = || {
        prop_oneof![
            2 => (prop_oneof![1..4u64, 500..530u64, Just(512), Just(1024), 1..3000u64], largest.clone()),
            1 => ((1..1100u64).prop_map(|n| n * 512), prop_oneof![Just(M2), Just(G1)]),
            1 => ((1..5u64).prop_map(|n| n * 512 * 512), Just(G1)),
        ]
    };
    prop_oneof![
        4 => (page(), prop_oneof![Just(0), Just(512), Just(1)], size())
            .prop_map(|(ia, off, (pages, largest))| Op::Map { ia, off, pages, largest }),
        2 => (page(), 0..K4, size()).prop_map(|(ia, inside, (pages, _))| Op::Unmap { ia, inside, bytes: pages * K4 - 1 }),
        1 => (0..64 * 512usize, any::<u64>()).prop_map(|(word, junk)| Op::Junk { word, junk: junk & !1 }),
    ]
}

/// Ascending, disjoint ranges: (input, output, size), whole pages, some of them large and aligned.
fn ranges() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    let one = (0..4u64, prop_oneof![Just(1), Just(512), 1..2000u64], any::<bool>());
    proptest::collection::vec(one, 1..6).prop_map(|parts| {
        let mut at = 0;
        let mut out = Vec::new();
        for (gap, pages, aligned) in parts {
            let unit = if aligned { M2 } else { K4 };
            at = u64::next_multiple_of(at + gap * K4, unit);
            // An output as aligned as the input, somewhere else.
            out.push((at, at + 6 * G1, pages * K4));
            at += pages * K4;
        }
        out
    })
}

proptest! {
    /// Bit for bit what `aarch64-paging` builds, stage 1.
    #[test]
    fn stage_1_tables_equal_aarch64_paging(ranges in ranges(), pages in any::<bool>()) {
        let (_, ours) = built(&ranges, if pages { K4 } else { G1 });
        let mut theirs = RootTable::with_va_range(TargetAllocator::new(BASE), 0, El1And0, VaRange::Lower);
        let attrs = El1Attributes::VALID | El1Attributes::ATTRIBUTE_INDEX_2 | El1Attributes::INNER_SHAREABLE
            | El1Attributes::ACCESSED | El1Attributes::PXN | El1Attributes::UXN;
        let how = if pages { Constraints::NO_BLOCK_MAPPINGS } else { Constraints::empty() };
        for (ia, oa, size) in ranges {
            let region = MemoryRegion::new(ia as usize, (ia + size) as usize);
            theirs.map_range(&region, PhysicalAddress(oa as usize), attrs, how).unwrap();
        }
        let theirs = theirs.translation().as_bytes();
        let ours: Vec<u8> = ours.used().iter().flat_map(|w| w.to_le_bytes()).collect();
        prop_assert_eq!(ours.len(), theirs.len());
        prop_assert!(ours == theirs);
    }

    /// And stage 2, whose attributes it spells without FWB.
    #[test]
    fn stage_2_tables_equal_aarch64_paging(ranges in ranges()) {
        let config = Config::stage2(39, 40, 1).unwrap();
        let mut memory = arena(64);
        let root = memory.frame().unwrap();
        let mut theirs = RootTable::new(TargetAllocator::new(BASE), 1, aarch64_paging::paging::Stage2);
        let attrs = Stage2Attributes::VALID | Stage2Attributes::MEMATTR_DEVICE_nGnRE | Stage2Attributes::ACCESS_FLAG
            | Stage2Attributes::S2AP_ACCESS_RW | Stage2Attributes::SH_INNER | Stage2Attributes::XN;
        for (ia, oa, size) in ranges {
            arm::map::<Stage2, _>(root, config, &mut memory, (Ia(ia), Oa(oa), size), &DEVICE, G1).unwrap();
            let region = MemoryRegion::new(ia as usize, (ia + size) as usize);
            theirs.map_range(&region, PhysicalAddress(oa as usize), attrs, Constraints::empty()).unwrap();
        }
        let ours: Vec<u8> = memory.used().iter().flat_map(|w| w.to_le_bytes()).collect();
        prop_assert!(ours == theirs.translation().as_bytes());
    }

    /// Any memory has the same words after the same calls, and they mean what the naive tables mean: single, concatenated
    /// and full roots, runs over the ends of tables, runs with something in the way, frames that run out.
    #[test]
    fn any_memory_does_what_the_naive_tables_do(
        (config, middle) in prop_oneof![
            Just((Config::stage2(39, 48, 1).unwrap(), 4 * G1)),
            Just((Config::stage2(40, 48, 1).unwrap(), 512 * G1)),
            Just((Config::stage2(34, 48, 2).unwrap(), 8 * G1)),
            Just((Config::stage2(48, 48, 0).unwrap(), 512 * G1)),
        ],
        frames in 0..40usize,
        ops in proptest::collection::vec(op(), 1..8),
    ) {
        let roots = config.root_frames() as usize;
        let mut naive = Naive { start: config.start_level(), frames, ..Naive::default() };
        let mut memories = SLICES.map(|slices| Memory { arena: arena(roots + frames), slices });
        let root = Oa(BASE);
        for memory in &mut memories {
            for _ in 0..roots {
                memory.frame().unwrap();
            }
        }
        let at = |page: i64| middle.checked_add_signed(page * K4 as i64).unwrap();
        for op in ops {
            match op {
                Op::Map { ia, off, pages, largest } => {
                    let range = (at(ia), at(ia) + off * K4, pages * K4);
                    let want = naive.map(range, largest);
                    for memory in &mut memories {
                        let range = (Ia(range.0), Oa(range.1), range.2);
                        prop_assert_eq!(arm::map::<Stage2, _>(root, config, memory, range, &DEVICE, largest), want);
                    }
                }
                Op::Unmap { ia, inside, bytes } => {
                    let want = naive.unmap(at(ia) + inside, bytes);
                    for memory in &mut memories {
                        let mut told = Vec::new();
                        let each = |ia: Ia, level| told.push((ia.0, level));
                        let from = Ia(at(ia) + inside);
                        let count = arm::unmap_with::<Stage2, _>(root, config, memory, from, bytes, each);
                        prop_assert_eq!(count, Ok(told.len() as u64));
                        prop_assert_eq!(&told, &want);
                    }
                }
                Op::Junk { word, junk } => for memory in &mut memories {
                    let at = Oa(BASE + 8 * (word % memory.arena.used().len()) as u64);
                    if memory.read(at) == Ok(0) {
                        memory.write(at, junk).unwrap();
                    }
                },
            }
            for memory in &memories[1..] {
                prop_assert!(memory.arena.used() == memories[0].arena.used(), "{:?}", memory.slices);
            }
        }
        let memory = &mut memories[0];
        for (ia, (oa, level)) in &naive.leaves {
            let leaf = arm::walk::<Stage2, _>(root, config, memory, Ia(*ia)).unwrap();
            prop_assert_eq!((leaf.oa, leaf.step.level, leaf.attrs), (Oa(*oa), *level, DEVICE));
        }
        // And nothing else is mapped.
        let count = arm::unmap::<Stage2, _>(root, config, memory, Ia(0), u64::MAX);
        prop_assert_eq!(count, Ok(naive.leaves.len() as u64));
    }

    /// Every mapped address translates to its own output, the ones around do not.
    #[test]
    fn what_was_mapped_walks(ranges in ranges(), probe in any::<u64>()) {
        let (root, memory) = built(&ranges, G1);
        for (ia, oa, size) in &ranges {
            let at = probe % size;
            prop_assert_eq!(arm::walk::<Stage1, _>(root, s1(), &memory, Ia(ia + at)).unwrap().oa, Oa(oa + at));
        }
        let mapped = ranges.iter().any(|(ia, _, size)| (*ia..ia + size).contains(&probe));
        prop_assert_eq!(arm::walk::<Stage1, _>(root, s1(), &memory, Ia(probe)).is_ok(), mapped);
    }

    /// Random words as tables: a walk always ends, with a leaf or a fault.
    #[test]
    fn any_memory_walks_to_an_end(words in proptest::collection::vec(any::<u64>(), 1024), ia in any::<u64>()) {
        let memory = Arena::new(Oa(0), words);
        let _ = arm::walk::<Stage1, _>(Oa(0), s1(), &memory, Ia(ia));
        let _ = arm::walk::<Stage2, _>(Oa(0), Config::stage2(40, 40, 1).unwrap(), &memory, Ia(ia & 0xff_ffff_ffff));
    }

    /// Attributes survive their bits.
    #[test]
    fn attributes_round_trip(d in any::<u64>()) {
        use arm::Format;
        let a = Stage1::attrs(d);
        prop_assert_eq!(Stage1::attrs(Stage1::encode(&a)), a);
        let a = Stage2::attrs(d);
        prop_assert_eq!(Stage2::attrs(Stage2::encode(&a)), a);
    }
}
