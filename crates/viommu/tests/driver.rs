//! The driver's side: a test for each clause of the driver's normative parts of virtio 5.13, named after it, and the coherency of buffers.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;
use viommu::access::Kind;
use viommu::coherency::{Coherency, Dma, NoSnoop, Spaces, Walks};
use viommu::driver::*;
use viommu::effect::DomainId;
use viommu::endpoint::{Reserved, ReservedKind};
use viommu::event::FaultReport;
use viommu::translate::{Reason, Target};
use viommu::wire::{self, Features, Status};
use viommu::{Access, Config, Device, Effect, Endpoint, EndpointId, Gpa, Host, HostError, Interval, Iova, MemoryType};

const D: DomainId = DomainId(3);
const E: EndpointId = EndpointId(0x10);

fn at(first: u64, last: u64) -> Interval {
    Interval::new(Iova(first), Iova(last)).unwrap()
}

/// Bytes written by hand, after the specification's layout: page_size_mask, input_range, domain_range, probe_size, bypass.
fn config() -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[0..8].copy_from_slice(&0xffff_ffff_ffff_f000u64.to_le_bytes());
    bytes[8..16].copy_from_slice(&0x1000u64.to_le_bytes());
    bytes[16..24].copy_from_slice(&0xffff_ffffu64.to_le_bytes());
    bytes[24..28].copy_from_slice(&2u32.to_le_bytes());
    bytes[28..32].copy_from_slice(&9u32.to_le_bytes());
    bytes[32..36].copy_from_slice(&64u32.to_le_bytes());
    bytes
}

fn driver(features: u64) -> Driver {
    Driver::new(Features(features), &config()).unwrap()
}

fn full() -> Driver {
    driver(USABLE)
}

fn domain() -> Domain {
    Domain::new(D, false)
}

#[test]
fn c5_13_3_1_it_accepts_input_range_domain_range_and_probe_if_offered() {
    let all = u64::MAX;
    let taken = negotiate(Features(all)).unwrap().0;
    for bit in [wire::F_INPUT_RANGE, wire::F_DOMAIN_RANGE, wire::F_PROBE] {
        assert_ne!(taken & bit, 0);
        assert_eq!(negotiate(Features(all & !bit)).unwrap().0 & bit, 0);
    }
    // Not what is superseded, and not what it does not know.
    assert_eq!(taken & wire::F_BYPASS, 0);
    assert_eq!(taken, USABLE);
}

#[test]
fn c5_13_4_1_it_writes_bypass_alone_and_0_or_1() {
    assert_eq!(full().set_bypass(true), Ok((36, 1)));
    assert_eq!(full().set_bypass(false), Ok((36, 0)));
    let without = driver(USABLE & !wire::F_BYPASS_CONFIG);
    assert_eq!(without.set_bypass(true), Err(NotSent::Feature(wire::F_BYPASS_CONFIG)));
    assert_eq!(without.bypass(1), None);
}

#[test]
fn c5_13_4_1_it_ignores_bits_1_to_7_of_bypass() {
    for field in 0..=255 {
        assert_eq!(full().bypass(field), Some(field % 2 == 1));
    }
}

#[test]
fn c5_13_5_1_without_map_unmap_it_fails_gracefully() {
    assert_eq!(negotiate(Features(wire::F_PROBE)), Err(Unusable::NoMapUnmap(wire::F_PROBE)));
    assert_eq!(Driver::new(Features(wire::F_PROBE), &config()), Err(Unusable::NoMapUnmap(wire::F_PROBE)));
    let mut none = config();
    none[..8].fill(0);
    assert_eq!(Driver::new(Features(USABLE), &none), Err(Unusable::NoGranule));
    let mut empty = config();
    empty[8..16].fill(0xff);
    assert!(matches!(Driver::new(Features(USABLE), &empty), Err(Unusable::EmptyRange { .. })));
    // What was not negotiated is not looked at.
    assert!(Driver::new(Features(USABLE & !wire::F_INPUT_RANGE), &empty).is_ok());
}

#[test]
fn c5_13_5_1_it_probes_before_it_attaches() {
    let first = |driver: Driver| -> Vec<u8> {
        driver.begin(&domain(), E).unwrap().iter().map(|sent| sent.readable[0]).collect()
    };
    assert_eq!(first(full()), [5, 1]);
    assert_eq!(first(driver(USABLE & !wire::F_PROBE)), [1]);
}

#[test]
fn c5_13_6_1_reserved_is_zero_in_the_head() {
    let mut all = full().begin(&domain(), E).unwrap();
    all.push(full().detach(&domain(), E).unwrap());
    all.push(full().map(&domain(), at(0x1000, 0x1fff), Gpa(0), Access::READ_WRITE).unwrap());
    all.push(full().unmap(&domain(), at(0x1000, 0x1fff)).unwrap());
    let types: Vec<u8> = all.iter().map(|sent| sent.readable[0]).collect();
    assert_eq!(types, [5, 1, 2, 3, 4]);
    assert!(all.iter().all(|sent| sent.readable[1..4] == [0; 3]));
    let sizes: Vec<(usize, usize)> = all.iter().map(|sent| (sent.readable.len(), sent.writable)).collect();
    assert_eq!(sizes, [(72, 68), (20, 4), (20, 4), (36, 4), (28, 4)]);
}

#[test]
fn c5_13_6_1_reserved_is_ignored_in_the_tail() {
    let sent = full().attach(&domain(), E).unwrap();
    assert_eq!(sent.reply(&[0, 1, 2, 3], 4), Ok(&[][..]));
    assert_eq!(sent.reply(&[4, 1, 2, 3], 4), Err(Failure::Status(Status::Inval)));
}

#[test]
fn c5_13_6_1_used_length_zero_is_a_failure() {
    let sent = full().attach(&domain(), E).unwrap();
    // Whatever the buffer held before.
    assert_eq!(sent.reply(&[0; 4], 0), Err(Failure::NothingWritten));
    let probe = full().probe(E).unwrap();
    assert_eq!(probe.reply(&[0; 68], 64), Err(Failure::NoTail { used: 64, tail: 64 }));
    assert_eq!(probe.reply(&[0; 68], 68).unwrap().len(), 64);
    assert_eq!(probe.reply(&[], 68), Err(Failure::NoTail { used: 68, tail: 64 }));
    assert_eq!(sent.reply(&[9, 0, 0, 0], 4), Err(Failure::Unknown(9)));
}

#[test]
fn c5_13_6_1_no_request_is_outside_of_input_range() {
    let range = at(0x1000, 0xffff_ffff);
    for asked in [at(0, 0x1fff), at(0xffff_f000, 0x1_0000_0fff), Interval::ALL] {
        let no = NotSent::Input { asked, range };
        assert_eq!(full().map(&domain(), asked, Gpa(0), Access::READ_WRITE), Err(no));
        assert_eq!(full().unmap(&domain(), asked), Err(no));
    }
    assert!(full().map(&domain(), range, Gpa(0), Access::READ_WRITE).is_ok());
    let without = driver(USABLE & !wire::F_INPUT_RANGE);
    assert!(without.map(&domain(), Interval::ALL, Gpa(0), Access::READ_WRITE).is_ok());
}

#[test]
fn c5_13_6_1_no_request_is_outside_of_domain_range() {
    for id in [DomainId(1), DomainId(10)] {
        let domain = Domain::new(id, false);
        let no = NotSent::Domain { domain: id, range: (DomainId(2), DomainId(9)) };
        assert_eq!(full().attach(&domain, E), Err(no));
        assert_eq!(full().detach(&domain, E), Err(no));
        assert_eq!(full().map(&domain, at(0x1000, 0x1fff), Gpa(0), Access::READ_WRITE), Err(no));
        assert_eq!(full().unmap(&domain, at(0x1000, 0x1fff)), Err(no));
        assert!(driver(USABLE & !wire::F_DOMAIN_RANGE).attach(&domain, E).is_ok());
    }
    assert!(full().attach(&Domain::new(DomainId(9), false), E).is_ok());
}

#[test]
fn c5_13_6_3_1_reserved_is_zero_in_attach() {
    let sent = full().attach(&domain(), E).unwrap();
    assert_eq!(sent.readable, [1, 0, 0, 0, 3, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn c5_13_6_3_1_the_bypass_flag_is_the_domains() {
    let flags = |domain: &Domain| full().attach(domain, E).unwrap().readable[12];
    assert_eq!((flags(&Domain::new(D, true)), flags(&Domain::new(D, false))), (1, 0));
    let without = driver(USABLE & !wire::F_BYPASS_CONFIG);
    assert_eq!(without.attach(&Domain::new(D, true), E), Err(NotSent::Feature(wire::F_BYPASS_CONFIG)));
}

#[test]
fn c5_13_6_4_1_reserved_is_zero_in_detach() {
    assert_eq!(full().detach(&domain(), E).unwrap().readable[12..], [0; 8]);
}

#[test]
fn c5_13_6_5_1_undefined_flags_are_zero() {
    for read in [false, true] {
        for write in [false, true] {
            for (memory, bit) in
                [(MemoryType::Normal, 0), (MemoryType::Mmio, 4), (MemoryType::NonCacheable, wire::MAP_F_NON_CACHEABLE)]
            {
                let access = Access { read, write, memory };
                let sent = full().map(&domain(), at(0x1000, 0x1fff), Gpa(0x5000), access).unwrap();
                let flags = u32::from_le_bytes(sent.readable[32..36].try_into().unwrap());
                assert_eq!(flags, u32::from(read) | u32::from(write) << 1 | bit);
            }
        }
    }
}

#[test]
fn c5_13_6_5_1_no_map_on_a_bypass_domain() {
    let domain = Domain::new(D, true);
    let sent = full().map(&domain, at(0x1000, 0x1fff), Gpa(0), Access::READ_WRITE);
    assert_eq!(sent, Err(NotSent::Bypass(D)));
}

#[test]
fn c5_13_6_5_1_virt_end_is_greater_than_virt_start() {
    let sent = full().map(&domain(), at(0x1000, 0x1000), Gpa(0), Access::READ_WRITE);
    assert_eq!(sent, Err(NotSent::OneByte(Iova(0x1000))));
}

#[test]
fn c5_13_6_5_1_registers_are_mapped_mmio() {
    let buffer = Buffer { cpu: Cpu::Cacheable, direction: Direction::Both, mmio: true, no_snoop: true };
    for dma in [Dma::Unknown, Dma::Coherent, Dma::NonCoherent] {
        let it = dma_map(Coherency { dma, ..Coherency::default() }, buffer).unwrap();
        assert_eq!(it, Decision { memory: MemoryType::Mmio, clean_before: false, invalidate_after: false });
    }
}

#[test]
fn c5_13_6_5_1_no_mmio_flag_without_the_feature() {
    let access = Access { memory: MemoryType::Mmio, ..Access::READ_WRITE };
    let sent = driver(USABLE & !wire::F_MMIO).map(&domain(), at(0x1000, 0x1fff), Gpa(0), access);
    assert_eq!(sent, Err(NotSent::Feature(wire::F_MMIO)));
}

/// Of the proposal: the feature requires PROBE.
#[test]
fn coherency_is_not_accepted_without_probe() {
    assert_eq!(negotiate(Features(USABLE & !wire::F_PROBE)).unwrap().0, USABLE & !wire::F_PROBE & !wire::F_COHERENCY);
}

/// Of the proposal: no flag without the feature.
#[test]
fn coherency_no_non_cacheable_flag_without_the_feature() {
    let access = Access { memory: MemoryType::NonCacheable, ..Access::READ_WRITE };
    let sent = driver(USABLE & !wire::F_COHERENCY).map(&domain(), at(0x1000, 0x1fff), Gpa(0), access);
    assert_eq!(sent, Err(NotSent::Feature(wire::F_COHERENCY)));
}

#[test]
fn c5_13_6_6_1_reserved_is_zero_in_unmap() {
    assert_eq!(full().unmap(&domain(), at(0x1000, 0x1fff)).unwrap().readable[24..], [0; 4]);
}

#[test]
fn c5_13_6_6_1_a_range_covers_mappings_and_may_spill_over() {
    let mut domain = domain();
    domain.mapped(at(0x1000, 0x1fff));
    domain.mapped(at(0x2000, 0x2fff));
    domain.mapped(at(0x8000, 0x8fff));
    for range in
        [at(0x1000, 0x1fff), at(0x1000, 0x2fff), at(0x3000, 0x7fff), at(0x1000, 0xffff_ffff), at(0x1000, 0x5000)]
    {
        assert!(full().unmap(&domain, range).is_ok(), "{range}");
    }
    for (range, mapping) in [
        (at(0x1000, 0x1ffe), at(0x1000, 0x1fff)),
        (at(0x1001, 0x2fff), at(0x1000, 0x1fff)),
        (at(0x3000, 0x8000), at(0x8000, 0x8fff)),
        (at(0x8001, 0x8002), at(0x8000, 0x8fff)),
    ] {
        assert_eq!(full().unmap(&domain, range), Err(NotSent::Splits { range, mapping }));
    }
    domain.unmapped(at(0x1000, 0x2fff));
    assert!(full().unmap(&domain, at(0x1001, 0x2001)).is_ok());
    assert!(full().unmap(&domain, at(0x8001, 0x8002)).is_err());
}

#[test]
fn c5_13_6_6_1_no_unmap_on_a_bypass_domain() {
    assert_eq!(full().unmap(&Domain::new(D, true), at(0x1000, 0x1fff)), Err(NotSent::Bypass(D)));
}

#[test]
fn c5_13_6_7_1_properties_have_probe_size_bytes_and_reserved_is_zero() {
    let sent = full().probe(E).unwrap();
    assert_eq!(sent.writable, 64 + 4);
    assert_eq!(sent.readable[8..], [0; 64]);
    assert_eq!(driver(USABLE & !wire::F_PROBE).probe(E), Err(NotSent::Feature(wire::F_PROBE)));
}

/// A property by hand: type with its four reserved bits, length, body.
fn property(head: u16, body: &[u8]) -> Vec<u8> {
    [&head.to_le_bytes()[..], &(body.len() as u16).to_le_bytes(), body].concat()
}

fn resv(subtype: u8, start: u64, end: u64) -> Vec<u8> {
    [&[subtype, 0xaa, 0xbb, 0xcc][..], &start.to_le_bytes(), &end.to_le_bytes()].concat()
}

#[test]
fn c5_13_6_7_1_a_property_of_unknown_type_is_ignored_and_the_list_goes_on() {
    let list = [property(0x7ff, &[1, 2, 3]), property(1, &resv(0, 0x1000, 0x1fff))].concat();
    assert_eq!(full().properties(&list).reserved.len(), 1);
}

#[test]
fn c5_13_6_7_1_the_length_is_not_deduced_from_the_type() {
    // A longer one, as of a later version; and a shorter one, that is none.
    let longer = [resv(1, 0x1000, 0x1fff), vec![1, 0, 20, 0, 0, 0]].concat();
    let list = [property(1, &[0; 4]), property(1, &longer), property(1, &resv(0, 0x5000, 0x5fff))].concat();
    let found: Vec<_> = full().properties(&list).reserved.iter().map(|r| r.at).collect();
    assert_eq!(found, [at(0x1000, 0x1fff), at(0x5000, 0x5fff)]);
}

#[test]
fn c5_13_6_7_1_a_property_with_reserved_bits_is_ignored_and_the_list_goes_on() {
    for bit in 12..16 {
        let list = [property(1 | 1 << bit, &resv(0, 0x1000, 0x1fff)), property(1, &resv(0, 0x5000, 0x5fff))].concat();
        let found: Vec<_> = full().properties(&list).reserved.iter().map(|r| r.at).collect();
        assert_eq!(found, [at(0x5000, 0x5fff)]);
    }
}

#[test]
fn c5_13_6_7_it_stops_at_the_empty_property_and_at_the_end() {
    let list = [property(0, &[]), property(1, &resv(0, 0x1000, 0x1fff))].concat();
    assert_eq!(full().properties(&list), Properties::default());
    let mut cut = property(1, &resv(0, 0x1000, 0x1fff));
    cut.truncate(20);
    assert_eq!(full().properties(&cut), Properties::default());
    assert_eq!(full().properties(&[1, 0, 0xff]), Properties::default());
}

#[test]
fn c5_13_6_8_1_1_reserved_is_ignored_and_an_unknown_subtype_is_reserved() {
    for subtype in 0..=255 {
        let found = full().properties(&property(1, &resv(subtype, 0, u64::MAX))).reserved;
        let kind = if subtype == 1 { ReservedKind::Msi } else { ReservedKind::Reserved };
        assert_eq!(found.iter().map(|r| (r.at, r.kind)).collect::<Vec<_>>(), [(Interval::ALL, kind)]);
    }
    // A range that ends before it begins says nothing.
    assert!(full().properties(&property(1, &resv(0, 2, 1))).reserved.is_empty());
}

#[test]
fn c5_13_6_8_1_1_no_reserved_address_is_mapped() {
    let list = [property(1, &resv(1, 0x8000, 0x8fff)), property(1, &resv(7, 0xa000, 0xa000))].concat();
    let mut domain = domain();
    domain.reserve(&full().properties(&list));
    for (asked, reserved) in [
        (at(0x7000, 0x8000), at(0x8000, 0x8fff)),
        (at(0x8fff, 0x9fff), at(0x8000, 0x8fff)),
        (at(0x9000, 0xafff), at(0xa000, 0xa000)),
    ] {
        let sent = full().map(&domain, asked, Gpa(0), Access::READ_WRITE);
        assert_eq!(sent, Err(NotSent::Reserved { asked, reserved }));
    }
    assert!(full().map(&domain, at(0x9000, 0x9fff), Gpa(0), Access::READ_WRITE).is_ok());
}

#[test]
fn c5_13_6_9_1_a_report_with_reserved_is_ignored() {
    let mut report = [0u8; 24];
    report[0] = 2;
    report[4..8].copy_from_slice(&0x102u32.to_le_bytes());
    report[8] = 0x10;
    report[16] = 0x40;
    // `reserved1`, and a flag that is not defined, are ignored.
    report[12..16].fill(0xff);
    report[7] = 0x80;
    let says = fault(&report, 24).unwrap();
    assert_eq!((says.reason, says.endpoint, says.address), (Reason::Mapping, E, Some(Iova(0x40))));
    for byte in 1..4 {
        let mut report = report;
        report[byte] = 1;
        assert_eq!(fault(&report, 24), None);
    }
    assert_eq!((fault(&report, 23), fault(&report[..20], 20), fault(&report, 25)), (None, None, None));
    // A longer buffer, and a longer report of a later version.
    let longer = [&report[..], &[7; 8]].concat();
    assert!(fault(&longer, 24).is_some() && fault(&longer, 32).is_some());
}

#[test]
fn c5_13_6_9_1_an_unknown_reason_is_unknown() {
    for reason in 0..=255 {
        let mut report = [0u8; 24];
        report[0] = reason;
        let FaultReport { reason: is, address, .. } = fault(&report, 24).unwrap();
        let should = match reason {
            1 => Reason::Domain,
            2 => Reason::Mapping,
            _ => Reason::Unknown,
        };
        assert_eq!((is, address), (should, None));
    }
}

/// Of the proposal: values that are not known are unknown, reserved bytes are ignored, a longer body is a later version's.
#[test]
fn coherency_what_is_not_known_is_unknown() {
    let read = |body: &[u8]| full().properties(&property(16, body)).coherency;
    let it = read(&[1, 2, 2, 1, 0, 0, 0, 0]).unwrap();
    let should =
        Coherency { dma: Dma::Coherent, no_snoop: NoSnoop::Enforced, walks: Walks::NonCoherent, non_cacheable: true };
    assert_eq!(it, should);
    assert_eq!(read(&[1, 2, 2, 0xff, 9, 9, 9, 9]), Some(should));
    assert_eq!(read(&[1, 2, 2, 1, 0, 0, 0, 0, 5, 5]), Some(should));
    assert_eq!(read(&[3, 3, 3, 0xfe, 0, 0, 0, 0]), Some(Coherency::default()));
    assert_eq!(read(&[1; 7]), None);
}

/// Of the proposal: without the feature the property is skipped; of two the first counts.
#[test]
fn coherency_one_property_and_only_with_the_feature() {
    let first = property(16, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let list = [first.clone(), property(16, &[2, 0, 0, 0, 0, 0, 0, 0])].concat();
    assert_eq!(full().properties(&list).coherency.unwrap().dma, Dma::Coherent);
    assert_eq!(driver(USABLE & !wire::F_COHERENCY).properties(&first).coherency, None);
}

/// Of the proposal: firmware stands in for what the property leaves open, and a contradiction is not believed.
#[test]
fn coherency_the_property_and_firmware() {
    let of = |dma| Some(Coherency { dma, ..Coherency::default() });
    for (property, firmware, is) in [
        (None, None, Dma::Unknown),
        (None, Some(true), Dma::Coherent),
        (None, Some(false), Dma::NonCoherent),
        (of(Dma::Unknown), Some(true), Dma::Coherent),
        (of(Dma::Coherent), None, Dma::Coherent),
        (of(Dma::Coherent), Some(true), Dma::Coherent),
        (of(Dma::Coherent), Some(false), Dma::Unknown),
        (of(Dma::NonCoherent), Some(true), Dma::Unknown),
    ] {
        assert_eq!(known(property, firmware).dma, is, "{property:?} {firmware:?}");
    }
    let whole =
        Coherency { dma: Dma::Coherent, no_snoop: NoSnoop::Enforced, walks: Walks::Coherent, non_cacheable: true };
    assert_eq!(known(Some(whole), None), whole);
    // Without the property: nothing of No Snoop, of walks, of the flag.
    assert_eq!(known(None, Some(true)), Coherency { dma: Dma::Coherent, ..Coherency::default() });
    assert!(!no_snoop_is_useful(known(None, Some(true))) && !no_snoop_is_useful(whole));
    assert!(no_snoop_is_useful(Coherency { no_snoop: NoSnoop::Allowed, ..whole }));
    assert!(cleans_tables(Walks::Unknown) && cleans_tables(Walks::NonCoherent) && !cleans_tables(Walks::Coherent));
}

/// Memory and a cache of one line, after the definition of each: what the CPU or the endpoint sees. The endpoint's accesses snoop or not; a
/// dirty line may be written back at any moment, and a clean one be filled.
mod line {
    /// Whether what is written on one side can be missed on the other, for some moment at which the cache does what it may.
    pub(super) fn stale(cpu_cached: bool, snoops: bool, endpoint_writes: bool, clean: bool, invalidate: bool) -> bool {
        let mut stale = false;
        // Evictions and fills: before the DMA, after the DMA; 2 bits.
        for choice in 0..4 {
            let (evict_before, evict_after) = (choice & 1 != 0, choice & 2 != 0);
            let mut memory = 0;
            let mut cache: Option<(u32, bool)> = None;
            // The CPU writes 1.
            if cpu_cached {
                cache = Some((1, true));
            } else {
                memory = 1;
            }
            if (evict_before || clean)
                && let Some((value, dirty @ true)) = &mut cache
            {
                memory = *value;
                *dirty = false;
            }
            // The endpoint reads or writes 2.
            if endpoint_writes {
                if snoops {
                    // Into the cache if the line is there, else it may be put there.
                    cache = Some((2, true));
                } else {
                    memory = 2;
                }
            } else {
                let seen = if snoops { cache.map_or(memory, |(v, _)| v) } else { memory };
                stale |= seen != 1;
            }
            if evict_after && let Some((value, dirty)) = cache {
                if dirty {
                    memory = value;
                }
                cache = None;
                // A speculative fill.
                if cpu_cached {
                    cache = Some((memory, false));
                }
            }
            if invalidate {
                // With a clean: what a snooping access left dirty is not lost.
                if let Some((value, true)) = cache {
                    memory = value;
                }
                cache = None;
            }
            if endpoint_writes {
                let seen = if cpu_cached { cache.map_or(memory, |(v, _)| v) } else { memory };
                stale |= seen != 2;
            }
        }
        stale
    }
}

/// Every decision, held against a cache of one line: what the driver is told to do is enough for whatever the accesses may turn out to be,
/// and where they are known, to leave out anything is not.
#[test]
fn coherency_a_decision_is_enough_and_not_too_much() {
    let mut decided = 0;
    for dma in [Dma::Unknown, Dma::Coherent, Dma::NonCoherent] {
        for no_snoop in [NoSnoop::Unknown, NoSnoop::Allowed, NoSnoop::Enforced] {
            for non_cacheable in [false, true] {
                for cpu in [Cpu::Cacheable, Cpu::NonCacheable] {
                    for direction in [Direction::ToDevice, Direction::FromDevice, Direction::Both] {
                        for bit in [false, true] {
                            let coherency = Coherency { dma, no_snoop, non_cacheable, walks: Walks::Unknown };
                            let buffer = Buffer { cpu, direction, mmio: false, no_snoop: bit };
                            let cached = cpu == Cpu::Cacheable;
                            let of = |memory, bit| match coherency.snoops(memory, bit) {
                                Some(it) => vec![it],
                                None => vec![false, true],
                            };
                            let mut ways: Vec<bool> = of(MemoryType::Normal, false);
                            ways.extend(if bit { of(MemoryType::Normal, true) } else { Vec::new() });
                            let writes: &[bool] = match direction {
                                Direction::ToDevice => &[false],
                                Direction::FromDevice => &[true],
                                Direction::Both => &[false, true],
                            };
                            let Ok(it) = dma_map(coherency, buffer) else {
                                // Refused: the CPU does not look where a snooping access may leave what it writes.
                                assert!(!cached && !non_cacheable && dma != Dma::NonCoherent);
                                assert!(ways.contains(&true) || bit);
                                continue;
                            };
                            decided += 1;
                            if it.memory == MemoryType::NonCacheable {
                                ways = of(MemoryType::NonCacheable, bit);
                            }
                            let stale = |clean, invalidate| {
                                ways.iter().any(|snoops| {
                                    writes.iter().any(|w| line::stale(cached, *snoops, *w, clean, invalidate))
                                })
                            };
                            assert!(!stale(it.clean_before, it.invalidate_after), "{coherency:?} {buffer:?} {it:?}");
                            if it.clean_before {
                                assert!(stale(false, it.invalidate_after), "{coherency:?} {buffer:?} {it:?}");
                            }
                            if it.invalidate_after {
                                assert!(stale(it.clean_before, false), "{coherency:?} {buffer:?} {it:?}");
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(decided > 150, "{decided}");
}

/// A host that notes what it is told.
#[derive(Default)]
struct Noted(Vec<Effect>);

impl Host for Noted {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        self.0.push(*effect);
        Ok(())
    }
}

/// A device of this crate with these endpoints, brought up by the driver.
struct Up {
    device: Device,
    driver: Driver,
    host: Noted,
}

impl Up {
    fn new(config: Config, endpoints: &[(EndpointId, Coherency)]) -> Self {
        let mut device = Device::new(config).unwrap();
        for (id, coherency) in endpoints {
            let reserved = vec![Reserved { at: at(0xfee0_0000, 0xfeef_ffff), kind: ReservedKind::Msi }];
            device.add_endpoint(Endpoint { id: *id, reserved, coherency: *coherency }).unwrap();
        }
        let features = negotiate(device.features()).unwrap();
        device.accept(features).unwrap();
        let mut config = [0; wire::CONFIG];
        device.read_config(0, &mut config);
        let driver = Driver::new(features, &config).unwrap();
        Self { device, driver, host: Noted::default() }
    }
    /// Sends it, and reads what comes back as the driver does.
    fn send(&mut self, sent: Sent) -> Result<Vec<u8>, Failure> {
        let reply = self.device.handle_with(&sent.readable, sent.writable, &mut self.host);
        let mut buffer = vec![0xee; sent.writable];
        buffer[..reply.written.len()].copy_from_slice(&reply.written);
        sent.reply(&buffer, reply.written.len()).map(<[u8]>::to_vec)
    }
    /// Probes, attaches, and says what the endpoint's properties are.
    fn begin(&mut self, domain: &Domain, endpoint: EndpointId) -> Result<Properties, Failure> {
        let mut found = Properties::default();
        for sent in self.driver.begin(domain, endpoint).unwrap() {
            let list = self.send(sent)?;
            if !list.is_empty() {
                found = self.driver.properties(&list);
            }
        }
        Ok(found)
    }
    /// Maps a buffer as the driver decides for an endpoint.
    fn buffer(
        &mut self,
        domain: &Domain,
        range: Interval,
        known: Coherency,
        buffer: Buffer,
    ) -> Result<Decision, Failure> {
        let decision = dma_map(known, buffer).unwrap();
        let access = Access { memory: decision.memory, ..Access::READ_WRITE };
        let sent = self.driver.map(domain, range, Gpa(0x8000_0000), access).unwrap();
        self.send(sent).map(|_| decision)
    }
    /// Of which type the endpoint's accesses are.
    fn memory(&self, endpoint: EndpointId, at: u64) -> Option<MemoryType> {
        match self.device.translator(endpoint)?.translate(Iova(at), Kind::Read) {
            Ok(Target::Memory { memory, .. }) => Some(memory),
            _ => None,
        }
    }
}

const CAN: Coherency =
    Coherency { dma: Dma::Coherent, non_cacheable: true, no_snoop: NoSnoop::Allowed, walks: Walks::Coherent };
const CANNOT: Coherency = Coherency { non_cacheable: false, ..CAN };
const F: EndpointId = EndpointId(0x18);

fn uncached() -> Buffer {
    Buffer { cpu: Cpu::NonCacheable, direction: Direction::Both, mmio: false, no_snoop: false }
}

/// Case B from one end to the other: the property, the flag, the mapping, the access.
#[test]
fn device_a_non_cacheable_mapping() {
    let mut up = Up::new(Config { coherency: true, ..Config::default() }, &[(E, CAN)]);
    let found = up.begin(&domain(), E).unwrap();
    assert_eq!(found.coherency, Some(CAN));
    assert_eq!(found.reserved.len(), 1);
    let known = known(found.coherency, Some(true));
    let decision = up.buffer(&domain(), at(0x1000, 0x1fff), known, uncached()).unwrap();
    assert_eq!(decision.memory, MemoryType::NonCacheable);
    let cached = Buffer { cpu: Cpu::Cacheable, ..uncached() };
    let decision = up.buffer(&domain(), at(0x2000, 0x2fff), known, cached).unwrap();
    assert!(!decision.clean_before && !decision.invalidate_after);
    assert_eq!(up.memory(E, 0x1000), Some(MemoryType::NonCacheable));
    assert_eq!(up.memory(E, 0x2000), Some(MemoryType::Normal));
    let maps: Vec<_> = up
        .host
        .0
        .iter()
        .filter_map(|e| if let Effect::Map { mapping, .. } = e { Some(mapping.access.memory) } else { None })
        .collect();
    assert_eq!(maps, [MemoryType::NonCacheable, MemoryType::Normal]);
}

/// Case B refused: an endpoint of the domain of which the host cannot make such mappings; and one that comes later.
#[test]
fn device_a_non_cacheable_mapping_is_refused() {
    let config = Config { coherency: true, spaces: Spaces::TABLE_EACH, ..Config::default() };
    let mut up = Up::new(config, &[(E, CAN), (F, CANNOT)]);
    up.begin(&domain(), E).unwrap();
    up.begin(&domain(), F).unwrap();
    let unsupp = Err(Failure::Status(Status::Unsupp));
    assert_eq!(up.buffer(&domain(), at(0x1000, 0x1fff), CAN, uncached()), unsupp);
    assert_eq!(up.memory(E, 0x1000), None);
    let sent = up.driver.detach(&domain(), F).unwrap();
    up.send(sent).unwrap();
    assert!(up.buffer(&domain(), at(0x1000, 0x1fff), CAN, uncached()).is_ok());
    let sent = up.driver.attach(&domain(), F).unwrap();
    assert_eq!(up.send(sent), Err(Failure::Status(Status::Unsupp)));
    assert_eq!(up.memory(F, 0x1000), None);
}

/// Case B without the feature, which is how a device is by default: no property, and the flag is one that is not known.
#[test]
fn device_without_the_feature_nothing_is_said() {
    let mut up = Up::new(Config::default(), &[(E, CAN)]);
    assert_eq!(up.driver.features().0 & wire::F_COHERENCY, 0);
    assert_eq!(up.begin(&domain(), E).unwrap().coherency, None);
    let known = known(None, Some(true));
    assert_eq!(dma_map(known, uncached()), Err(Mismatch));
    let access = Access { memory: MemoryType::NonCacheable, ..Access::READ_WRITE };
    let sent = up.driver.map(&domain(), at(0x1000, 0x1fff), Gpa(0), access);
    assert_eq!(sent, Err(NotSent::Feature(wire::F_COHERENCY)));
    // A driver that sends it all the same.
    let sent = Driver::new(Features(USABLE), &config()).unwrap().map(&domain(), at(0x1000, 0x1fff), Gpa(0), access);
    assert_eq!(up.send(sent.unwrap()), Err(Failure::Status(Status::Inval)));
}

/// Case A: endpoints of both kinds in one domain, where the host has a table for each; not where it has one.
#[test]
fn device_coherent_beside_non_coherent() {
    let never = Coherency { dma: Dma::NonCoherent, ..CAN };
    for (spaces, is) in [
        (Spaces::TABLE_EACH, Ok(())),
        (Spaces::IOMMUFD, Ok(())),
        (Spaces::ONE_TABLE, Err(Failure::Status(Status::Unsupp))),
    ] {
        let config = Config { coherency: true, spaces, ..Config::default() };
        let mut up = Up::new(config, &[(E, CAN), (F, never)]);
        up.begin(&domain(), E).unwrap();
        assert_eq!(up.begin(&domain(), F).map(|_| ()), is, "{spaces:?}");
        // In a domain of its own it is served, and the driver maintains caches for it.
        let other = Domain::new(DomainId(4), false);
        let found = up.begin(&other, F).unwrap();
        let it = known(found.coherency, Some(false));
        let buffer = Buffer { cpu: Cpu::Cacheable, ..uncached() };
        let decision = up.buffer(&other, at(0x1000, 0x1fff), it, buffer).unwrap();
        assert!(decision.clean_before && decision.invalidate_after);
    }
}

/// Case C: an endpoint of which No Snoop is enforced beside one of which it is not.
#[test]
fn device_no_snoop_enforced_beside_allowed() {
    let enforced = Coherency { no_snoop: NoSnoop::Enforced, ..CAN };
    for (spaces, is) in [(Spaces::TABLE_EACH, true), (Spaces::IOMMUFD, false)] {
        for order in [[(E, CAN), (F, enforced)], [(E, enforced), (F, CAN)]] {
            let mut up = Up::new(Config { coherency: true, spaces, ..Config::default() }, &order);
            up.begin(&domain(), E).unwrap();
            assert_eq!(up.begin(&domain(), F).is_ok(), is, "{spaces:?}");
        }
    }
}

/// Case D: a device whose transport has non-coherent queues is refused.
#[test]
fn device_non_coherent_queues_are_refused() {
    assert!(Device::new(Config { coherent_virtqueues: false, ..Config::default() }).is_err());
}

proptest! {
    /// Any bytes for properties and for a report: an answer, and no more properties than there is room for.
    #[test]
    fn any_bytes_are_read(list in proptest::collection::vec(any::<u8>(), 0..256), used in 0usize..300) {
        let found = full().properties(&list);
        prop_assert!(found.reserved.len() * 24 <= list.len());
        let _ = fault(&list, used);
        let _ = full().probe(E).unwrap().reply(&list, used);
    }
}
