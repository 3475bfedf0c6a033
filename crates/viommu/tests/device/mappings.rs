//! MAP and UNMAP.

use viommu::{
    Config, Endpoint, EndpointId, MemoryType,
    coherency::Coherency,
    effect::DomainId,
    wire::{self, Features, Status},
};

use crate::common::{Bench, endpoints, iv};
use Status::{Inval, NoEnt, Ok as Done, Range, Unsupp};

const R: u32 = 1;
const RW: u32 = 3;

/// Granule of one byte, endpoint 8 in domain 1.
fn bytewise() -> Bench {
    let mut it = Bench::started(Config { page_size_mask: !0, ..Config::default() }, &endpoints([8]));
    assert_eq!(it.attach(8, 1), Done);
    it
}

fn pages() -> Bench {
    let mut it = Bench::started(Config::default(), &endpoints([8, 9]));
    assert_eq!((it.attach(8, 1), it.bypass(9, 2)), (Done, Done));
    it
}

#[test]
fn the_seven_examples_of_unmap() {
    type Pairs = &'static [(u64, u64)];
    let examples: [(Pairs, (u64, u64), Status, Pairs); 7] = [
        (&[], (0, 4), Done, &[]),
        (&[(0, 9)], (0, 9), Done, &[]),
        (&[(0, 4), (5, 9)], (0, 9), Done, &[]),
        (&[(0, 9)], (0, 4), Range, &[(0, 9)]),
        (&[(0, 4), (5, 9)], (0, 4), Done, &[(5, 9)]),
        (&[(0, 4)], (0, 9), Done, &[]),
        (&[(0, 4), (10, 14)], (0, 14), Done, &[]),
    ];
    for (number, (maps, unmap, status, left)) in (1..).zip(examples) {
        let mut it = bytewise();
        for (first, last) in maps {
            assert_eq!(it.map(1, *first, *last, *first, RW), Done);
        }
        let reply = it.reply(&crate::common::unmap(1, unmap.0, unmap.1).bytes(), 4);
        assert_eq!(reply.written, [status as u8, 0, 0, 0], "({number})");
        assert_eq!(it.mapped(1), left, "({number})");
        it.agree();
    }
}

#[test]
fn a_split_at_either_end_removes_nothing() {
    let mut it = bytewise();
    for first in [0, 10, 20, 30] {
        assert_eq!(it.map(1, first, first + 9, first, RW), Done);
    }
    for range in [(0, 34), (5, 39), (5, 34), (12, 15), (0, 0), (39, 39), (0, 38), (1, 100)] {
        assert_eq!(it.unmap(1, range.0, range.1), Range, "{range:?}");
        assert_eq!(it.mapped(1).len(), 4);
    }
    assert_eq!((it.unmap(1, 10, 29), it.mapped(1)), (Done, vec![(0, 9), (30, 39)]));
    assert_eq!((it.unmap(1, 10, 29), it.unmap(1, 40, u64::MAX)), (Done, Done), "holes are no error");
    it.agree();
}

#[test]
fn at_the_ends_of_2_64() {
    let last = u64::MAX;
    let mut it = bytewise();
    assert_eq!(it.map(1, last, last, 7, RW), Done, "one byte, and the last");
    assert_eq!((it.map(1, last - 1, last, 0, RW), it.map(1, 0, last, 0, RW)), (Inval, Inval));
    assert_eq!((it.map(1, 0, last - 1, 1, RW), it.map(1, 0, last - 1, 2, RW)), (Done, Range));
    assert_eq!((it.unmap(1, 0, last), it.mapped(1)), (Done, vec![]));
    assert_eq!(it.map(1, 0, last, 0, RW), Done, "all of it");
    assert_eq!(it.map(1, 0, last, 1, RW), Range, "phys_end is beyond");
    assert_eq!((it.unmap(1, 1, last), it.unmap(1, 0, last - 1)), (Range, Range));
    it.agree();
    assert_eq!((it.unmap(1, 0, last), it.mapped(1)), (Done, vec![]));
    let mut it = pages();
    assert_eq!(it.map(1, last - 0xfff, last, last - 0xfff, RW), Done);
    assert_eq!((it.map(1, 0, last - 0x1000, 0x1000, RW), it.map(1, 0, last - 0x1000, 0x2000, RW)), (Done, Range));
    it.agree();
}

#[test]
fn ends_below_starts() {
    let mut it = bytewise();
    for (first, last) in [(1, 0), (u64::MAX, 0), (u64::MAX, u64::MAX - 1), (0x1000, 0xfff)] {
        assert_eq!((it.map(1, first, last, 0, RW), it.unmap(1, first, last)), (Inval, Inval));
    }
    assert_eq!(it.map(1, 5, 5, 9, RW), Done, "one byte, where the granule is one");
    let mut it = pages();
    assert_eq!((it.map(1, 0x1000, 0x1000, 0, RW), it.map(1, 0x1000, 0xfff, 0, RW)), (Range, Inval));
}

#[test]
fn alignment_and_range() {
    let config = Config { input_range: iv(0x1_0000, 0xf_ffff), ..Config::default() };
    let mut it = Bench::started(config, &endpoints([8]));
    assert_eq!(it.attach(8, 1), Done);
    for (first, last, to) in [
        (0x2_0001, 0x2_0fff, 0),
        (0x2_0000, 0x2_1000, 0),
        (0x2_0000, 0x2_0ffe, 0),
        (0x2_0000, 0x2_0fff, 0x800),
        (0xf000, 0x1_0fff, 0),
        (0xf_f000, 0x10_0fff, 0),
        (0, u64::MAX, 0),
        (0x2_0000, 0x2_1fff, 0xffff_ffff_ffff_f000),
    ] {
        assert_eq!(it.map(1, first, last, to, RW), Range, "{first:#x} {last:#x} {to:#x}");
        assert_eq!(it.map(9, first, last, to, RW), Range, "before the domain is looked for");
    }
    assert_eq!((it.map(1, 0x1_0000, 0x1_0fff, 0, RW), it.map(1, 0xf_f000, 0xf_ffff, 0, RW)), (Done, Done));
    assert_eq!(it.unmap(1, 0, u64::MAX), Done, "an UNMAP may spill over what can be mapped");
    it.agree();
}

#[test]
fn domains() {
    let mut it = pages();
    assert_eq!((it.map(3, 0, 0xfff, 0, RW), it.unmap(3, 0, 0xfff)), (NoEnt, NoEnt));
    assert_eq!((it.map(2, 0, 0xfff, 0, RW), it.unmap(2, 0, 0xfff)), (Inval, Inval), "a bypass domain");
    assert_eq!((it.map(1, 0, 0xfff, 0, RW), it.map(1, 0, 0xfff, 0, RW)), (Done, Inval));
    it.agree();
}

#[test]
fn flags() {
    let mut it = pages();
    for bit in 3..32 {
        assert_eq!(it.map(1, 0, 0xfff, 0, RW | 1 << bit), Inval, "bit {bit}");
        assert_eq!(it.map(7, 9, 0, 1, RW | 1 << bit), Inval, "before all else");
    }
    for flags in 0..8 {
        let page = u64::from(flags) << 12;
        assert_eq!(it.map(1, page, page + 0xfff, 0, flags), Done);
    }
    let all: Vec<_> = it.device.mappings(DomainId(1)).map(|is| is.access).collect();
    for (flags, access) in (0_u32..).zip(all) {
        assert_eq!((access.read, access.write), (flags & 1 != 0, flags & 2 != 0));
        assert_eq!(access.memory, if flags & 4 == 0 { MemoryType::Normal } else { MemoryType::Mmio });
    }
    let mut it = Bench::new(Config::default(), &endpoints([8]));
    it.device.accept(Features(wire::F_MAP_UNMAP)).unwrap();
    assert_eq!((it.attach(8, 1), it.map(1, 0, 0xfff, 0, wire::MAP_F_MMIO)), (Done, Inval), "MMIO was not taken");
}

#[test]
fn non_cacheable() {
    let can = |id, non_cacheable| Endpoint {
        coherency: Coherency { non_cacheable, ..Coherency::default() },
        ..Endpoint::new(EndpointId(id))
    };
    let both = [can(8, true), can(9, false)];
    let config = Config { coherency: true, ..Config::default() };
    let flag = wire::MAP_F_NON_CACHEABLE;
    let mut it = Bench::started(config.clone(), &both);
    assert_eq!(it.attach(8, 1), Done);
    assert_eq!(it.map(1, 0, 0xfff, 0, flag | wire::MAP_F_MMIO), Inval, "two types at once");
    assert_eq!((it.map(1, 0, 0xfff, 0, RW | flag), it.map(1, 0x1000, 0x1fff, 0, R)), (Done, Done));
    let first = it.device.mappings(DomainId(1)).next().unwrap();
    assert_eq!(first.access.memory, MemoryType::NonCacheable);
    assert_eq!(it.attach(9, 1), Unsupp, "the host could not make it for that one");
    assert_eq!((it.unmap(1, 0x1000, 0x1fff), it.attach(9, 1)), (Done, Unsupp));
    assert_eq!((it.unmap(1, 0, u64::MAX), it.attach(9, 1)), (Done, Done));
    assert_eq!((it.map(1, 0, 0xfff, 0, flag), it.map(1, 0, 0xfff, 0, R)), (Unsupp, Done));
    assert_eq!(it.map(1, 0, 0xfff, 0, flag), Inval, "an overlap is told first");
    it.agree();
    let mut it = Bench::new(config, &both);
    it.device.accept(Features(wire::F_MAP_UNMAP | wire::F_PROBE)).unwrap();
    assert_eq!((it.attach(8, 1), it.map(1, 0, 0xfff, 0, flag)), (Done, Inval), "not negotiated");
}

#[test]
fn a_mapping_is_of_all_endpoints_of_its_domain() {
    let mut it = Bench::started(Config::default(), &endpoints([8, 9]));
    assert_eq!((it.attach(8, 1), it.map(1, 0, 0xfff, 0, R), it.attach(9, 1)), (Done, Done, Done));
    assert_eq!((it.detach(8, 1), it.mapped(1)), (Done, vec![(0, 0xfff)]), "it is the domain's, not the endpoint's");
    it.agree();
}
