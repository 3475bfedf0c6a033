//! What was saved comes back, and what no requests could have led to does not.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{All, Bench, Books, attach, endpoints, iv, map};
use viommu::{
    Config, Device, Effect, Endpoint, EndpointId, Iova,
    access::Kind,
    coherency::{Coherency, Dma},
    device::{Bypass, Wrong},
    effect::DomainId,
    endpoint::{Reserved, ReservedKind},
    event::{FaultReport, Posted},
    limits::Limits,
    save::{Saved, SavedDomain, SavedMapping},
    translate::{Reason, Target},
    wire::{Features, Status},
};

fn config() -> Config {
    let limits = Limits { domains: 3, mappings_per_domain: 3, mappings: 4, events: 2 };
    Config { domain_range: (DomainId(1), DomainId(9)), input_range: iv(0, 0xffff_ffff), limits, ..Config::default() }
}

/// 8 and 9 are alike, 10 is not coherent, 11 reserves its first pages.
fn all() -> Vec<Endpoint> {
    let [eight, nine, mut ten, mut eleven] = endpoints([8, 9, 10, 11]);
    ten.coherency = Coherency { dma: Dma::NonCoherent, ..Coherency::default() };
    eleven.reserved = vec![Reserved { at: iv(0, 0x1fff), kind: ReservedKind::Reserved }];
    vec![eight, nine, ten, eleven]
}

fn bench() -> Bench {
    let mut it = Bench::started(config(), &all());
    for request in [
        attach(8, 1, 0),
        attach(9, 1, 0),
        attach(10, 5, 1),
        map(1, 0x1000, 0x1fff, 0x8000, 3),
        map(1, 0x2000, 0x2fff, 0x9000, 5),
    ] {
        assert_eq!(it.send(request), Status::Ok);
    }
    let fault = FaultReport { reason: Reason::Domain, endpoint: EndpointId(11), access: None, address: Some(Iova(1)) };
    let _ = it.device.fault(fault);
    let effects = it.device.write_config(36, &[1]);
    it.host.books.all(&effects);
    it
}

fn restore(saved: &Saved) -> Result<Device, Wrong> {
    Device::restore(config(), all(), saved).map(|(device, _)| device)
}

#[test]
fn it_comes_back() {
    let it = bench();
    let saved = it.device.save();
    let (mut device, effects) = Device::restore(config(), all(), &saved).unwrap();
    let mut books = Books::default();
    books.all(&effects);
    assert_eq!((&books, device.save()), (&it.host.books, saved));
    let mut translator = device.translator(EndpointId(8)).unwrap();
    let Ok(Target::Memory { at, .. }) = translator.translate(Iova(0x1234), Kind::Read) else { panic!() };
    assert_eq!(at.0, 0x8234);
    assert_eq!(device.config_space().bypass, 1);
    assert!(matches!(device.event_buffer(24), Posted::Write(_)));
    // It goes on as before.
    let mut it = Bench { device, host: common::Mock::default() };
    it.host.books = books;
    assert_eq!(
        (it.unmap(1, 0x1000, 0x1fff), it.attach(10, 1), it.detach(10, 5)),
        (Status::Ok, Status::Unsupp, Status::Ok)
    );
    it.agree();
}

#[test]
fn what_was_in_doubt_stays_so() {
    let mut it = bench();
    it.device.broke(&[Effect::Attach { endpoint: EndpointId(9), domain: DomainId(1) }]);
    let saved = it.device.save();
    let device = restore(&saved).unwrap();
    assert_eq!((device.needs_reset(), device.save()), (true, saved));
    let seen = device.translator(EndpointId(9)).unwrap().translate(Iova(0x1000), Kind::Read);
    assert_eq!(seen, Err(Reason::Unknown));
}

/// What is changed, and what is said of it.
type Forgery = (fn(&mut Saved), Wrong);

#[test]
fn forgeries() {
    let (eight, nine, absent) = (EndpointId(8), EndpointId(9), EndpointId(77));
    let (one, five) = (DomainId(1), DomainId(5));
    let wrong_map = |first, last, status| Wrong::SavedMap { domain: one, first: Iova(first), last: Iova(last), status };
    let attach = |endpoint, domain, status| Wrong::SavedAttach { endpoint, domain, status };
    fn push(saved: &mut Saved, virt_start: u64, virt_end: u64, phys_start: u64, flags: u32) {
        saved.domains[0].mappings.push(SavedMapping { virt_start, virt_end, phys_start, flags });
    }
    fn domain(id: u32, endpoints: &[u32]) -> SavedDomain {
        let endpoints = endpoints.iter().copied().map(EndpointId).collect();
        SavedDomain { id, bypass: false, endpoints, mappings: vec![] }
    }
    let offered = bench().device.features();
    let forgeries: Vec<Forgery> = vec![
        (|it| it.version = 2, Wrong::SavedVersion { found: 2, known: 1 }),
        (
            |it| it.offered |= 1 << 16,
            Wrong::SavedConfig { field: "features", saved: offered.0 | 1 << 16, here: offered.0 },
        ),
        (|it| it.page_size_mask = 0, Wrong::SavedConfig { field: "page_size_mask", saved: 0, here: !0xfff }),
        (|it| it.input_range.1 = 5, Wrong::SavedConfig { field: "input_range.end", saved: 5, here: 0xffff_ffff }),
        (|it| it.domain_range.0 = 0, Wrong::SavedConfig { field: "domain_range.start", saved: 0, here: 1 }),
        (|it| it.probe_size = 9, Wrong::SavedConfig { field: "probe_size", saved: 9, here: 512 }),
        (|it| it.accepted |= 1 << 3, Wrong::NotOffered { refused: Features(1 << 3), offered }),
        (|it| it.accepted |= 1 << 32, Wrong::NotOffered { refused: Features(1 << 32), offered }),
        (|it| it.accepted &= !(1 << 2), Wrong::SavedUnnegotiated(one)),
        (|it| it.accepted &= !(1 << 5), wrong_map(0x2000, 0x2fff, Status::Inval)),
        (|it| it.accepted &= !(1 << 6), attach(EndpointId(10), five, Status::Inval)),
        (|it| it.domains[1].id = 1, Wrong::SavedDomainTwice(one)),
        (|it| it.domains[0].endpoints.clear(), Wrong::SavedDomainEmpty(one)),
        (|it| it.domains[0].endpoints.push(EndpointId(77)), attach(absent, one, Status::NoEnt)),
        (
            |it| it.domains[0].endpoints.push(EndpointId(8)),
            Wrong::SavedTwice { endpoint: eight, first: one, second: one },
        ),
        (
            |it| it.domains[1].endpoints.push(EndpointId(9)),
            Wrong::SavedTwice { endpoint: nine, first: one, second: five },
        ),
        (|it| it.domains[0].id = 0, attach(eight, DomainId(0), Status::Range)),
        (|it| it.domains[0].id = 10, attach(eight, DomainId(10), Status::Range)),
        (
            |it| it.domains[0].bypass = true,
            Wrong::SavedMap { domain: one, first: Iova(0x1000), last: Iova(0x1fff), status: Status::Inval },
        ),
        (
            |it| it.domains.remove(1).endpoints.into_iter().for_each(|id| it.domains[0].endpoints.push(id)),
            attach(EndpointId(10), one, Status::Unsupp),
        ),
        (|it| it.domains[0].endpoints.push(EndpointId(11)), wrong_map(0x1000, 0x1fff, Status::Inval)),
        (|it| push(it, 0x1000, 0x1fff, 0, 3), wrong_map(0x1000, 0x1fff, Status::Inval)),
        (|it| push(it, 0, u64::MAX, 0, 3), wrong_map(0, u64::MAX, Status::Range)),
        (|it| push(it, 0x5000, 0x4fff, 0, 3), wrong_map(0x5000, 0x4fff, Status::Inval)),
        (|it| push(it, 0x5001, 0x5fff, 0, 3), wrong_map(0x5001, 0x5fff, Status::Range)),
        (|it| push(it, 0x5000, 0x6fff, !0xfff, 3), wrong_map(0x5000, 0x6fff, Status::Range)),
        (|it| push(it, 0x5000, 0x5fff, 0, 8), wrong_map(0x5000, 0x5fff, Status::Inval)),
        (|it| push(it, 0x5000, 0x5fff, 0, 1 << 16), wrong_map(0x5000, 0x5fff, Status::Inval)),
        (
            |it| (5..7).for_each(|page| push(it, page << 12, (page << 12) + 0xfff, 0, 3)),
            wrong_map(0x6000, 0x6fff, Status::NoMem),
        ),
        (
            |it| {
                it.domains[1].endpoints = vec![EndpointId(9)];
                it.domains[0].endpoints = vec![EndpointId(8)];
                it.domains.extend([domain(6, &[10]), domain(7, &[11])]);
            },
            attach(EndpointId(11), DomainId(7), Status::NoMem),
        ),
        (|it| it.faults = vec![it.faults[0].clone(); 3], Wrong::SavedFaults { waiting: 3, limit: 2 }),
        (|it| it.faults[0][8] = 77, Wrong::SavedFault(absent)),
        (|it| it.faults[0][1] = 1, Wrong::SavedFaultBytes),
        (|it| it.faults[0][4] |= 1 << 2, Wrong::SavedFaultBytes),
        (|it| it.faults[0].truncate(23), Wrong::SavedFaultBytes),
        (|it| it.doubtful.push(EndpointId(8)), Wrong::SavedDoubt(eight)),
        (
            |it| {
                it.needs_reset = true;
                it.doubtful.push(EndpointId(77));
            },
            Wrong::SavedDoubt(absent),
        ),
    ];
    for (number, (forge, wrong)) in forgeries.into_iter().enumerate() {
        let mut saved = bench().device.save();
        forge(&mut saved);
        assert_eq!(restore(&saved).map(|device| device.save()).unwrap_err(), wrong, "forgery {number}");
    }
    let fixed = Config { bypass: Bypass::Never, ..config() };
    let mut saved = Device::new(fixed.clone()).unwrap().save();
    saved.bypass = true;
    assert_eq!(Device::restore(fixed, [], &saved).unwrap_err(), Wrong::SavedBypass);
}

#[test]
fn what_the_host_says_is_asked_anew() {
    let saved = bench().device.save();
    let missing = Device::restore(config(), all().split_off(1), &saved).map(|_| ()).unwrap_err();
    let status = Status::NoEnt;
    assert_eq!(missing, Wrong::SavedAttach { endpoint: EndpointId(8), domain: DomainId(1), status });
    let mut other = all();
    other[1].coherency.dma = Dma::Coherent;
    let mixed = Device::restore(config(), other, &saved).map(|_| ()).unwrap_err();
    let status = Status::Unsupp;
    assert_eq!(mixed, Wrong::SavedAttach { endpoint: EndpointId(9), domain: DomainId(1), status });
    let mut twice = all();
    twice.push(Endpoint::new(EndpointId(8)));
    assert_eq!(Device::restore(config(), twice, &saved).map(|_| ()).unwrap_err(), Wrong::EndpointExists(EndpointId(8)));
}

#[cfg(feature = "serde")]
#[test]
fn as_text() {
    let saved = bench().device.save();
    let text = serde_json::to_string(&saved).unwrap();
    assert_eq!(serde_json::from_str::<Saved>(&text).unwrap(), saved);
    let more = text.replacen("{\"version\"", "{\"more\":1,\"version\"", 1);
    assert!(serde_json::from_str::<Saved>(&more).is_err(), "a field that nobody knows");
}
