//! Anything at all: no panic, and the host's books say what the device's say.

use proptest::prelude::*;
use viommu::{
    Config, Device, Endpoint, EndpointId, HostError, Iova,
    access::Kind,
    coherency::{Coherency, Dma},
    device::Bypass,
    effect::DomainId,
    endpoint::{Reserved, ReservedKind},
    limits::Limits,
    translate::Target,
    wire::{Features, Request},
};

use crate::common::{All, Bench, Books, attach, iv, map, unmap};

#[derive(Debug, Clone)]
enum Step {
    Request(Vec<u8>, usize),
    /// With the host failing at some effect.
    Failing(Vec<u8>, usize, HostError),
    Write(u64, Vec<u8>),
    Accept(u64),
    Reset(bool),
    Add(u32),
    Remove(u32),
}

fn endpoint(id: u32) -> Endpoint {
    let region = |first, last, kind| Reserved { at: iv(first, last), kind };
    let reserved = match id {
        1 => vec![region(4, 7, ReservedKind::Reserved), region(8, 9, ReservedKind::Msi)],
        2 => vec![region(8, 9, ReservedKind::Msi), region(u64::MAX - 3, u64::MAX, ReservedKind::Reserved)],
        _ => vec![],
    };
    let dma = if id == 3 { Dma::NonCoherent } else { Dma::Coherent };
    Endpoint {
        id: EndpointId(id),
        reserved,
        coherency: Coherency { dma, non_cacheable: id < 2, ..Coherency::default() },
    }
}

/// Addresses that meet: near 0 and near the end.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..40, 2 => (0_u64..20).prop_map(|below| u64::MAX - below), 1 => any::<u64>()]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let number = || prop_oneof![30 => 0_u32..5, 1 => any::<u32>()];
    let bypass = prop_oneof![6 => Just(0_u32), 2 => Just(1), 1 => any::<u32>()];
    let flags = prop_oneof![10 => 0_u32..4, 4 => (0_u32..4).prop_map(|flags| flags | 1 << 16), 2 => 0_u32..9, 1 => any::<u32>()];
    prop_oneof![
        5 => (number(), number(), bypass).prop_map(|(endpoint, domain, flags)| attach(endpoint, domain, flags).bytes()),
        2 => (number(), number()).prop_map(|(endpoint, domain)| {
            Request::Detach { domain: DomainId(domain), endpoint: EndpointId(endpoint) }.bytes()
        }),
        12 => (number(), address(), address(), address(), flags)
            .prop_map(|(domain, first, last, to, flags)| map(domain, first, last, to, flags).bytes()),
        6 => (number(), address(), address()).prop_map(|(domain, first, last)| unmap(domain, first, last).bytes()),
        1 => number().prop_map(|endpoint| Request::Probe { endpoint: EndpointId(endpoint) }.bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..80),
        1 => (0_u8..7, proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(kind, mut bytes)| {
            bytes.insert(0, kind);
            bytes
        }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let why = prop_oneof![Just(HostError::NoMemory), Just(HostError::BadAddress), Just(HostError::Failed)];
    let room = || prop_oneof![20 => Just(64_usize), 1 => 0_usize..200];
    prop_oneof![
        60 => (request(), room()).prop_map(|(bytes, room)| Step::Request(bytes, room)),
        10 => (request(), 0_usize..4, why).prop_map(|(bytes, at, why)| Step::Failing(bytes, at, why)),
        1 => (30_u64..40, proptest::collection::vec(0_u8..3, 0..8)).prop_map(|(at, data)| Step::Write(at, data)),
        1 => any::<u64>().prop_map(Step::Accept),
        1 => any::<bool>().prop_map(Step::Reset),
        2 => (0_u32..5).prop_map(Step::Add),
        1 => (0_u32..5).prop_map(Step::Remove),
    ]
}

fn bypass() -> impl Strategy<Value = Bypass> {
    prop_oneof![
        Just(Bypass::Never),
        Just(Bypass::Legacy),
        any::<bool>().prop_map(|initially| Bypass::Config { initially })
    ]
}

fn check(it: &Bench, config: &Config) {
    it.agree();
    assert!(it.device.domains().count() <= config.limits.domains);
    assert!(it.device.domains().map(|domain| domain.mappings).sum::<usize>() <= config.limits.mappings);
    for endpoint in it.device.endpoints() {
        let id = endpoint.endpoint.id;
        let mut translator = it.device.translator(id).unwrap();
        for at in (0..44).chain(u64::MAX - 24..=u64::MAX).map(Iova) {
            for kind in [Kind::Read, Kind::Write] {
                let seen = match translator.translate(at, kind) {
                    Ok(Target::Memory { at, .. }) => Some(at),
                    Ok(Target::Msi) => {
                        let there = |region: &Reserved| region.kind == ReservedKind::Msi && region.at.contains(at);
                        assert!(kind == Kind::Write && endpoint.endpoint.reserved.iter().any(there));
                        None
                    }
                    Err(_) => None,
                };
                assert_eq!(
                    seen,
                    it.host.books.translate(id, at, kind).map(|it| it.at),
                    "endpoint {id} {kind:?} at {at}"
                );
            }
        }
    }
}

fn run(config: &Config, steps: Vec<Step>) {
    let mut it = Bench::started(config.clone(), &[0, 1, 2, 3].map(endpoint));
    for step in steps {
        match step {
            Step::Request(bytes, room) => {
                let before = it.device.save();
                let reply = it.reply(&bytes, room);
                assert!(reply.written.len() <= room);
                if reply.written.last_chunk() != Some(&[0; 4]) {
                    assert_eq!(it.device.save(), before, "rejected, and changed");
                }
            }
            Step::Failing(bytes, at, why) => {
                let (before, books) = (it.device.save(), it.host.books.clone());
                it.host.fails = vec![(it.host.calls + at, why)];
                let reply = it.reply(&bytes, 64);
                it.host.fails.clear();
                assert!(!it.device.needs_reset());
                if reply.written.last_chunk() != Some(&[0; 4]) {
                    assert_eq!((it.device.save(), &it.host.books), (before, &books));
                }
            }
            Step::Write(offset, data) => {
                let effects = it.device.write_config(offset, &data);
                it.host.books.all(&effects);
            }
            Step::Accept(bits) => {
                let offered = it.device.features().0;
                let effects = it.device.reset();
                it.host.books.all(&effects);
                let effects = it.device.accept(Features(offered & bits)).unwrap();
                it.host.books.all(&effects);
            }
            Step::Reset(system) => {
                let effects = if system { it.device.system_reset() } else { it.device.reset() };
                it.host.books.all(&effects);
                it.accept_all();
            }
            Step::Add(id) => {
                let there = it.device.endpoint(EndpointId(id)).is_some();
                let added = it.device.add_endpoint(endpoint(id));
                assert_eq!(added.is_err(), there);
                it.host.books.all(&added.unwrap_or_default());
            }
            Step::Remove(id) => {
                let effects = it.device.remove_endpoint(EndpointId(id));
                it.host.books.all(&effects);
                it.host.books.endpoints.remove(&EndpointId(id));
            }
        }
    }
    check(&it, config);
    // What is saved is what comes back, on a host that has nothing.
    let saved = it.device.save();
    let endpoints: Vec<_> = it.device.endpoints().map(|is| is.endpoint.clone()).collect();
    let (device, effects) = Device::restore(config.clone(), endpoints, &saved).unwrap();
    assert_eq!(device.save(), saved);
    let mut books = Books::default();
    books.all(&effects);
    assert_eq!(books, it.host.books);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_host_does_what_the_device_says(
        bypass in bypass(),
        coherency in any::<bool>(),
        granule in prop_oneof![6 => Just(1_u64), 1 => Just(4_u64)],
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let limits = Limits { domains: 3, mappings_per_domain: 6, mappings: 9, events: 2 };
        run(&Config { page_size_mask: !(granule - 1), probe_size: 60, bypass, coherency, limits, ..Config::default() }, steps);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), room in 0_usize..200) {
        let mut it = Bench::started(Config { probe_size: 100, ..Config::default() }, &[endpoint(1)]);
        let reply = it.reply(&bytes, room);
        prop_assert!(reply.written.len() <= room);
    }
}
