//! Building, walking and decoding, named after what they check; a second page-table crate as the oracle.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use aarch64_paging::{
    descriptor::{El1Attributes, PhysicalAddress, Stage2Attributes},
    paging::{Constraints, El1And0, MemoryRegion, RootTable, VaRange},
    target::TargetAllocator,
};
use mmu::{
    Arena, Frames, Ia, Oa, Words, WordsMut,
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
