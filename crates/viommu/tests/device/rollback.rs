//! What fails on the way.

use viommu::{
    Config, Device, Effect, EndpointId, HostError, Iova,
    access::Kind,
    effect::{DomainId, Unattached},
    translate::Reason,
    wire::{Request, RequestKind, Status},
};

use crate::common::{All, Bench, Books, attach, endpoints, map, unmap};

/// Endpoints 8 and 9 in domain 1, 10 alone in domain 2, both with mappings; 11 nowhere; 12 in a bypass domain.
fn bench() -> Bench {
    let mut it = Bench::started(Config::default(), &endpoints([8, 9, 10, 11, 12]));
    for request in [
        attach(8, 1, 0),
        attach(9, 1, 0),
        attach(10, 2, 0),
        attach(12, 3, 1),
        map(1, 0, 0xfff, 0x1000, 3),
        map(1, 0x1000, 0x2fff, 0x8000, 1),
        map(2, 0x1000, 0x1fff, 0, 3),
    ] {
        assert_eq!(it.send(request), Status::Ok);
    }
    it
}

/// Requests that have effects, and how many.
fn requests() -> Vec<(Request, usize)> {
    let detach = |endpoint, domain| Request::Detach { domain: DomainId(domain), endpoint: EndpointId(endpoint) };
    vec![
        (attach(11, 1, 0), 1),
        (attach(11, 7, 0), 2),
        (attach(11, 7, 1), 2),
        (attach(8, 2, 0), 2),
        (attach(8, 7, 0), 3),
        (attach(10, 1, 0), 3),
        (attach(10, 7, 0), 4),
        (attach(10, 3, 1), 3),
        (attach(12, 7, 0), 4),
        (detach(8, 1), 1),
        (detach(10, 2), 2),
        (map(1, 0x5000, 0x5fff, 0, 3), 1),
        (unmap(1, 0, 0xfff), 1),
        (unmap(1, 0, 0xffff), 1),
    ]
}

fn translations(device: &Device) -> Vec<Result<viommu::translate::Target, Reason>> {
    let at = |endpoint: u32| {
        let mut translator = device.translator(EndpointId(endpoint)).unwrap();
        [0, 0x1000, 0x5000].map(|at| translator.translate(Iova(at), Kind::Read))
    };
    [8, 9, 10, 11, 12].into_iter().flat_map(at).collect()
}

#[test]
fn nothing_happens_before_done() {
    for (request, count) in requests() {
        let mut it = bench();
        let (before, seen) = (it.device.save(), translations(&it.device));
        let pending = it.device.handle(&request.bytes(), 4);
        assert_eq!((pending.effects().len(), pending.status()), (count, Some(Status::Ok)), "{request:?}");
        drop(pending);
        assert_eq!((it.device.save(), translations(&it.device)), (before.clone(), seen), "{request:?}");
        assert_eq!(
            it.device.counts().requests(request.kind(), Status::Ok),
            bench().device.counts().requests(request.kind(), Status::Ok)
        );
        let reply = it.device.handle(&request.bytes(), 4).done();
        assert_eq!(reply.written, [0; 4]);
        assert_ne!(it.device.save(), before);
    }
}

#[test]
fn every_effect_can_fail_and_leaves_all_as_it_was() {
    for (request, count) in requests() {
        for failing in 0..count {
            let mut it = bench();
            let (before, seen, books) = (it.device.save(), translations(&it.device), it.host.books.clone());
            it.host.fails = vec![(it.host.calls + failing, HostError::NoMemory)];
            assert_eq!(it.send(request), Status::NoMem, "{request:?}, effect {failing}");
            assert_eq!(it.host.books, books, "{request:?}, effect {failing}");
            assert_eq!((it.device.save(), translations(&it.device)), (before, seen));
            assert!(!it.device.needs_reset());
            it.agree();
            // And afterwards it works.
            it.host.fails.clear();
            assert_eq!(it.send(request), Status::Ok);
            it.agree();
        }
    }
}

#[test]
fn also_by_hand() {
    for (request, count) in requests() {
        for (applied, bypass) in (0..=count).flat_map(|applied| [(applied, 0), (applied, 1)]) {
            let mut it = bench();
            let effects = it.device.write_config(36, &[bypass]);
            it.host.books.all(&effects);
            let before = it.host.books.clone();
            let pending = it.device.handle(&request.bytes(), 4);
            let effects = pending.effects().to_vec();
            it.host.books.all(&effects[..applied]);
            let failed = pending.failed(applied, HostError::BadAddress);
            it.host.books.all(&failed.undo);
            assert_eq!(failed.reply.written, [Status::Fault as u8, 0, 0, 0]);
            // Also where all were done and the caller wants them back.
            assert_eq!(it.host.books, before, "{request:?}, {applied} applied");
        }
    }
}

#[test]
fn destroy_comes_last_so_that_undoing_builds_nothing_anew() {
    for (request, count) in requests() {
        let mut it = bench();
        let pending = it.device.handle(&request.bytes(), 4);
        let effects = pending.effects().to_vec();
        let destroys = effects.iter().position(|effect| matches!(effect, Effect::Destroy { .. }));
        assert!(destroys.is_none_or(|at| at == count - 1));
        let undo = pending.failed(count - 1, HostError::Failed).undo;
        assert!(undo.iter().all(|effect| !matches!(effect, Effect::Create { .. } | Effect::Map { .. })));
    }
}

#[test]
fn what_cannot_be_undone() {
    for (request, count) in requests() {
        for failing in 1..count {
            for undoing in 0..failing {
                let mut it = bench();
                let calls = it.host.calls + failing;
                it.host.fails = vec![(calls, HostError::NoMemory), (calls + 1 + undoing, HostError::NoMemory)];
                assert_eq!(it.send(request), Status::DevErr, "{request:?} {failing} {undoing}");
                assert!(it.device.needs_reset());
                let doubtful: Vec<_> =
                    it.device.endpoints().filter(|is| is.doubtful).map(|is| is.endpoint.id).collect();
                let (endpoint, creates) = match request {
                    Request::Attach { endpoint, domain, .. } => (endpoint, domain == DomainId(7)),
                    Request::Detach { endpoint, .. } => (endpoint, false),
                    _ => panic!("{request:?} has one effect"),
                };
                // Create comes first and is undone last: with the endpoint back, a domain that nobody uses is left.
                let only_a_domain = undoing + 1 == failing && creates;
                assert_eq!(
                    doubtful,
                    if only_a_domain { vec![] } else { vec![endpoint] },
                    "{request:?} {failing} {undoing}"
                );
                for id in [8, 9, 10, 11, 12].map(EndpointId) {
                    let seen = it.device.translator(id).unwrap().translate(Iova(0), Kind::Read);
                    assert_eq!(seen == Err(Reason::Unknown), doubtful.contains(&id));
                }
                // Nothing is done any more.
                let before = it.device.save();
                for kind in RequestKind::ALL {
                    let request = [&[kind as u8][..], &[0; 71]].concat();
                    assert_eq!(it.reply(&request, 516).status(), Some(Status::DevErr));
                }
                assert_eq!(it.device.save(), before);
                // A reset makes it good: on a host made anew, as on the one that is there as far as that knows what it has.
                let mut anew = Books::default();
                anew.all(&it.device.replay());
                it.host.fails.clear();
                let reset = it.device.reset();
                assert!(doubtful.iter().all(|id| reset.iter().any(|effect| match effect {
                    Effect::Detach { endpoint, .. } | Effect::Unattached { endpoint, .. } => endpoint == id,
                    _ => false,
                })));
                assert!(!it.device.needs_reset());
                it.host.books = Books::default();
                it.host.books.all(&it.device.replay());
                it.agree();
                it.accept_all();
                assert_eq!(it.send(attach(11, 1, 0)), Status::Ok);
                it.agree();
            }
        }
    }
}

#[test]
fn a_host_that_breaks_elsewhere() {
    let mut it = bench();
    let effects = it.device.remove_endpoint(EndpointId(9));
    assert_eq!(effects.len(), 1);
    it.device.broke(&[Effect::Unmap { domain: DomainId(1), range: viommu::Interval::ALL }]);
    assert!(it.device.needs_reset() && it.device.endpoint(EndpointId(8)).unwrap().doubtful);
    assert!(!it.device.endpoint(EndpointId(10)).unwrap().doubtful);
    // In doubt is blocked, whatever `bypass` says then.
    assert_eq!(
        it.device.write_config(36, &[1]),
        [Effect::Unattached { endpoint: EndpointId(11), now: Unattached::Identity }]
    );
    let mut books = Books::default();
    books.all(&it.device.replay());
    assert_eq!(books.endpoints[&EndpointId(8)], Err(Unattached::Blocked));
    assert_eq!(books.endpoints[&EndpointId(11)], Err(Unattached::Identity));
    // And a reset tells its host again where each of them goes.
    let unattached = Effect::Unattached { endpoint: EndpointId(11), now: Unattached::Identity };
    it.device.broke(&[unattached]);
    assert!(it.device.reset().contains(&unattached));
    assert!(it.device.endpoints().all(|is| !is.doubtful));
    assert_eq!(it.device.reset(), []);
}
