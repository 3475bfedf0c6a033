//! ATTACH and DETACH, limits, endpoints that come and go.

use viommu::{
    Config, Device, Effect, Endpoint, EndpointId, HostError,
    coherency::{Coherency, Dma, Spaces},
    device::{Bypass, Wrong},
    effect::{DomainId, Unattached},
    endpoint::{Reserved, ReservedKind},
    limits::Limits,
    wire::{self, Features, Status},
};

use crate::common::{All, Bench, attach, endpoints, iv};
use Status::{Fault, Inval, NoEnt, NoMem, Ok as Done, Range, Unsupp};

fn ranged() -> Config {
    Config { domain_range: (DomainId(1), DomainId(3)), ..Config::default() }
}

#[test]
fn attach_statuses() {
    let mut it = Bench::started(ranged(), &endpoints([8, 9, 10]));
    for flags in [2, 1 << 16, 1 << 31, 3] {
        assert_eq!(it.send(attach(8, 1, flags)), Inval);
    }
    assert_eq!(it.attach(7, 1), NoEnt);
    assert_eq!(it.attach(7, 0), NoEnt, "the endpoint is looked for first");
    assert_eq!((it.attach(8, 0), it.attach(8, 4), it.attach(8, u32::MAX)), (Range, Range, Range));
    assert_eq!((it.attach(8, 1), it.bypass(9, 2)), (Done, Done));
    assert_eq!((it.bypass(10, 1), it.attach(10, 2)), (Inval, Inval));
    assert_eq!((it.bypass(8, 1), it.attach(9, 2)), (Inval, Inval), "its own domain, and the other kind");
    assert_eq!((it.attach(8, 1), it.bypass(9, 2)), (Done, Done), "again the same");
    it.agree();
}

#[test]
fn without_bypass_config_the_flag_is_unknown() {
    for bypass in [Bypass::Never, Bypass::Legacy] {
        let mut it = Bench::started(Config { bypass, ..Config::default() }, &endpoints([8]));
        assert_eq!(it.bypass(8, 1), Inval);
    }
    let mut it = Bench::new(Config::default(), &endpoints([8]));
    assert_eq!(it.bypass(8, 1), Inval, "offered and not taken");
}

#[test]
fn attach_elsewhere_is_detach_and_attach() {
    let mut it = Bench::started(Config::default(), &endpoints([8, 9]));
    assert_eq!((it.attach(8, 1), it.attach(9, 1), it.map(1, 0, 0xfff, 0, 3)), (Done, Done, Done));
    let (endpoint, from, to) = (EndpointId(8), DomainId(1), DomainId(2));
    let then = Unattached::Blocked;
    let request = attach(8, 2, 0).bytes();
    assert_eq!(
        it.device.handle(&request, 4).effects(),
        [
            Effect::Create { domain: to, bypass: false },
            Effect::Detach { endpoint, domain: from, then },
            Effect::Attach { endpoint, domain: to },
        ]
    );
    assert_eq!(it.attach(8, 2), Done);
    assert_eq!(it.mapped(1), [(0, 0xfff)], "the other endpoint is still there");
    it.agree();
    // The last one takes the domain with it.
    let request = attach(9, 2, 0).bytes();
    assert_eq!(
        it.device.handle(&request, 4).effects(),
        [
            Effect::Detach { endpoint: EndpointId(9), domain: from, then },
            Effect::Attach { endpoint: EndpointId(9), domain: to },
            Effect::Destroy { domain: from },
        ]
    );
    assert_eq!(it.attach(9, 2), Done);
    it.agree();
    assert_eq!((it.attach(8, 1), it.mapped(1)), (Done, vec![]), "a new domain, without what the old one had");
    it.agree();
}

#[test]
fn an_attach_that_cannot_be_leaves_the_endpoint_where_it_was() {
    let mut it = Bench::started(ranged(), &endpoints([8, 9]));
    assert_eq!((it.attach(8, 1), it.map(1, 0, 0xfff, 0, 3), it.bypass(9, 2)), (Done, Done, Done));
    let before = it.device.save();
    assert_eq!((it.attach(8, 2), it.attach(8, 4), it.send(attach(8, 3, 2))), (Inval, Range, Inval));
    assert_eq!(it.device.save(), before);
    it.agree();
}

#[test]
fn detach_statuses() {
    let mut it = Bench::started(Config::default(), &endpoints([8, 9]));
    assert_eq!(it.detach(7, 1), NoEnt);
    assert_eq!(it.detach(8, 1), Inval, "no domain");
    assert_eq!((it.attach(8, 1), it.attach(9, 2)), (Done, Done));
    assert_eq!((it.detach(8, 2), it.detach(8, 3)), (Inval, Inval), "not attached to that one");
    assert_eq!(it.device.domains().count(), 2);
    assert_eq!((it.detach(8, 1), it.detach(8, 1)), (Done, Inval));
    assert_eq!(it.map(1, 0, 0xfff, 0, 3), NoEnt, "it ceased to exist");
    it.agree();
}

#[test]
fn endpoints_that_do_not_go_together() {
    let with =
        |id, dma| Endpoint { coherency: Coherency { dma, ..Coherency::default() }, ..Endpoint::new(EndpointId(id)) };
    let both = [with(8, Dma::Coherent), with(9, Dma::NonCoherent), with(10, Dma::Coherent)];
    let mut it = Bench::started(Config::default(), &both);
    assert_eq!((it.attach(8, 1), it.attach(9, 1), it.attach(10, 1)), (Done, Unsupp, Done));
    assert_eq!((it.detach(8, 1), it.attach(9, 1)), (Done, Unsupp), "10 is still there");
    assert_eq!((it.attach(9, 2), it.attach(9, 1)), (Done, Unsupp));
    assert_eq!(it.device.endpoint(EndpointId(9)).unwrap().domain, Some(DomainId(2)));
    assert_eq!((it.attach(10, 2), it.detach(9, 2), it.attach(10, 2)), (Unsupp, Done, Done));
    it.agree();
    let mixed = Config { spaces: Spaces { mixed_dma: true, ..Spaces::default() }, ..Config::default() };
    let mut it = Bench::started(mixed, &both);
    assert_eq!((it.attach(8, 1), it.attach(9, 1)), (Done, Done));
}

#[test]
fn an_endpoint_whose_reserved_memory_is_mapped_cannot_join() {
    let msi = Reserved { at: iv(0xfee0_0000, 0xfeef_ffff), kind: ReservedKind::Msi };
    let low = Reserved { at: iv(0x800, 0x17ff), kind: ReservedKind::Reserved };
    let with = |id, reserved| Endpoint { reserved, ..Endpoint::new(EndpointId(id)) };
    let mut it = Bench::started(Config::default(), &[with(8, vec![]), with(9, vec![msi]), with(10, vec![low, msi])]);
    assert_eq!((it.attach(8, 1), it.map(1, 0xfee0_f000, 0xfee0_ffff, 0, 3), it.attach(9, 1)), (Done, Done, Unsupp));
    assert_eq!((it.unmap(1, 0, u64::MAX), it.attach(9, 1)), (Done, Done));
    assert_eq!(it.map(1, 0xfee0_f000, 0xfee0_ffff, 0, 3), Inval);
    assert_eq!((it.map(1, 0, 0xfff, 0, 3), it.attach(10, 1)), (Done, Unsupp));
    assert_eq!((it.unmap(1, 0, 0xfff), it.attach(10, 1)), (Done, Done));
    for page in [0, 0x1000] {
        assert_eq!(it.map(1, page, page + 0xfff, 0, 3), Inval);
    }
    assert_eq!(it.map(1, 0x2000, 0xfedf_ffff, 0, 3), Done, "up to the next");
    // Two endpoints have the MSI region: it is free when both have left.
    assert_eq!((it.detach(10, 1), it.map(1, 0, 0x1fff, 0, 3)), (Done, Done));
    assert_eq!((it.map(1, 0xfee0_0000, 0xfeef_ffff, 0, 3), it.detach(9, 1)), (Inval, Done));
    assert_eq!(it.map(1, 0xfee0_0000, 0xfeef_ffff, 0, 3), Done);
    it.agree();
}

#[test]
fn reserved_to_the_byte() {
    let region = |first, last| Reserved { at: iv(first, last), kind: ReservedKind::Reserved };
    let reserved = vec![region(4, 7), region(8, 8), region(u64::MAX, u64::MAX)];
    let endpoint = Endpoint { reserved, ..Endpoint::new(EndpointId(8)) };
    let mut it = Bench::started(Config { page_size_mask: !0, ..Config::default() }, &[endpoint]);
    assert_eq!(it.attach(8, 1), Done);
    for (first, last) in [(3, 4), (4, 4), (5, 6), (7, 7), (7, 20), (8, 8), (0, 9), (0, u64::MAX), (u64::MAX, u64::MAX)]
    {
        assert_eq!(it.map(1, first, last, 0, 3), Inval, "{first} {last}");
    }
    assert_eq!((it.map(1, 0, 3, 0, 3), it.map(1, 9, u64::MAX - 1, 0, 3)), (Done, Done));
}

#[test]
fn limits_are_answered_nomem() {
    let limits = Limits { domains: 2, mappings_per_domain: 3, mappings: 4, events: 0 };
    let mut it = Bench::started(Config { limits, ..Config::default() }, &endpoints([8, 9, 10]));
    assert_eq!((it.attach(8, 1), it.attach(9, 2), it.attach(10, 3)), (Done, Done, NoMem));
    assert_eq!((it.attach(9, 3), it.attach(10, 3)), (Done, Done), "the domain that goes makes room");
    for (domain, page, status) in
        [(1, 0, Done), (1, 1, Done), (1, 2, Done), (1, 3, NoMem), (3, 0, Done), (3, 1, NoMem), (3, 0, Inval)]
    {
        assert_eq!(it.map(domain, page << 12, (page << 12) + 0xfff, 0, 3), status, "{domain} {page}");
    }
    assert_eq!(it.map(1, 0, 0xfff, 0, 3), Inval, "an overlap is told first");
    assert_eq!((it.unmap(1, 0, 0xfff), it.map(3, 0x1000, 0x1fff, 0, 3)), (Done, Done));
    assert_eq!((it.detach(8, 1), it.map(3, 0x2000, 0x2fff, 0, 3)), (Done, Done), "a domain's mappings go with it");
    it.agree();
    for _ in 0..3 {
        let effects = it.device.reset();
        it.host.books.all(&effects);
        it.accept_all();
        assert_eq!(it.attach(8, 1), Done);
        for page in 0..3 {
            assert_eq!(it.map(1, page << 12, (page << 12) + 0xfff, 0, 3), Done, "a reset makes room for all");
        }
    }
}

#[test]
fn what_the_host_says() {
    for (why, status) in [
        (HostError::NoMemory, NoMem),
        (HostError::BadAddress, Fault),
        (HostError::Unsupported, Unsupp),
        (HostError::Failed, Status::DevErr),
    ] {
        let mut it = Bench::started(Config::default(), &endpoints([8]));
        assert_eq!(it.attach(8, 1), Done);
        it.host.fails = vec![(it.host.calls, why)];
        assert_eq!((it.map(1, 0, 0xfff, 0, 3), it.mapped(1)), (status, vec![]));
        assert!(!it.device.needs_reset());
        assert_eq!(it.device.counts().requests(wire::RequestKind::Map, status), 1);
    }
}

#[test]
fn endpoints_come_and_go() {
    let mut it = Bench::started(Config::default(), &endpoints([8, 9]));
    assert_eq!(it.device.add_endpoint(Endpoint::new(EndpointId(8))), Err(Wrong::EndpointExists(EndpointId(8))));
    assert_eq!((it.attach(8, 1), it.attach(9, 1), it.map(1, 0, 0xfff, 0, 3)), (Done, Done, Done));
    let remove = |it: &mut Bench, id| {
        let effects = it.device.remove_endpoint(EndpointId(id));
        it.host.books.all(&effects);
        assert_ne!(it.host.books.endpoints.remove(&EndpointId(id)), Some(Err(Unattached::Identity)));
        it.agree();
        effects
    };
    let (domain, then) = (DomainId(1), Unattached::Blocked);
    assert_eq!(remove(&mut it, 8), [Effect::Detach { endpoint: EndpointId(8), domain, then }]);
    assert_eq!((it.attach(8, 1), it.detach(8, 1)), (NoEnt, NoEnt));
    assert_eq!(
        remove(&mut it, 9),
        [Effect::Detach { endpoint: EndpointId(9), domain, then }, Effect::Destroy { domain }]
    );
    assert_eq!(it.device.remove_endpoint(EndpointId(9)), []);
    let effects = it.device.add_endpoint(Endpoint::new(EndpointId(9))).unwrap();
    it.host.books.all(&effects);
    assert_eq!((it.attach(9, 1), it.mapped(1)), (Done, vec![]));
    it.agree();
    let mut it =
        Bench::new(Config { bypass: Bypass::Config { initially: true }, ..Config::default() }, &endpoints([8]));
    assert_eq!(remove(&mut it, 8), [Effect::Unattached { endpoint: EndpointId(8), now: then }]);
}

#[test]
fn endpoints_that_are_wrong() {
    let endpoint = EndpointId(8);
    let region = |first, last, kind| Reserved { at: iv(first, last), kind };
    let with = |reserved| Endpoint { reserved, ..Endpoint::new(endpoint) };
    let mut device = Device::new(Config { probe_size: 48, ..Config::default() }).unwrap();
    let (reserved, msi) = (ReservedKind::Reserved, ReservedKind::Msi);
    for next in [(0x1000, 0x1fff), (0, 0xfff), (0x1fff, 0x2fff)] {
        let wrong = with(vec![region(0x1000, 0x1fff, msi), region(next.0, next.1, reserved)]);
        let before = iv(0x1000, 0x1fff);
        assert_eq!(
            device.add_endpoint(wrong),
            Err(Wrong::ReservedOrder { endpoint, before, next: iv(next.0, next.1) })
        );
    }
    let two = with(vec![region(0, 0xf, msi), region(0x10, 0x1f, msi)]);
    assert_eq!(device.add_endpoint(two), Err(Wrong::SecondMsi { endpoint, first: iv(0, 0xf), second: iv(0x10, 0x1f) }));
    let three = with((0..3).map(|i| region(i * 2, i * 2, reserved)).collect());
    assert_eq!(device.add_endpoint(three), Err(Wrong::Properties { endpoint, bytes: 72, probe_size: 48 }));
    let last = with(vec![region(0, u64::MAX - 1, reserved), region(u64::MAX, u64::MAX, msi)]);
    assert!(device.add_endpoint(last).is_ok());
    let mut device = Device::new(Config { probe_size: 24, coherency: true, ..Config::default() }).unwrap();
    let one = with(vec![region(0, 1, reserved)]);
    assert_eq!(device.add_endpoint(one), Err(Wrong::Properties { endpoint, bytes: 36, probe_size: 24 }));
}

#[test]
fn reset_detaches_all_and_forgets_the_features() {
    for initially in [false, true] {
        let config = Config { bypass: Bypass::Config { initially }, ..Config::default() };
        let now = if initially { Unattached::Identity } else { Unattached::Blocked };
        let mut it = Bench::started(config, &endpoints([8, 9, 10]));
        assert_eq!((it.attach(8, 1), it.map(1, 0, 0xfff, 0, 3), it.bypass(9, 2)), (Done, Done, Done));
        let effects = it.device.reset();
        assert_eq!(
            effects,
            [
                Effect::Detach { endpoint: EndpointId(8), domain: DomainId(1), then: now },
                Effect::Detach { endpoint: EndpointId(9), domain: DomainId(2), then: now },
                Effect::Destroy { domain: DomainId(1) },
                Effect::Destroy { domain: DomainId(2) },
            ]
        );
        it.host.books.all(&effects);
        it.agree();
        assert_eq!((it.device.accepted(), it.device.domains().count()), (Features(0), 0));
        assert_eq!(it.reply(&crate::common::map(1, 0, 0xfff, 0, 3).bytes(), 4).written, []);
        it.accept_all();
        assert_eq!((it.attach(8, 1), it.mapped(1)), (Done, vec![]));
    }
}
