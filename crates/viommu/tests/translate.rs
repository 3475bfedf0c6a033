//! Where accesses go, also while the guest maps.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    thread,
};

use common::{All, Bench, endpoints, iv};
use viommu::{
    Config, Device, Endpoint, EndpointId, Gpa, Iova, MemoryType, Translator,
    access::Kind::{Read, Write},
    device::Bypass,
    endpoint::{Reserved, ReservedKind},
    limits::Limits,
    translate::{Reason, Target},
    wire::Status,
};

const DONE: Status = Status::Ok;

fn to(at: u64, more: u64) -> Result<Target, Reason> {
    Ok(Target::Memory { at: Gpa(at), more, memory: MemoryType::Normal })
}

#[test]
fn a_device_can_be_on_any_thread_and_its_translators_on_many() {
    fn send<T: Send>() {}
    fn clone<T: Send + Clone>() {}
    send::<Device>();
    clone::<Translator>();
}

#[test]
fn permissions_offsets_and_types() {
    let region = |first, last, kind| Reserved { at: iv(first, last), kind };
    let reserved =
        vec![region(0x1_0000, 0x1_ffff, ReservedKind::Reserved), region(0x2_0000, 0x2_ffff, ReservedKind::Msi)];
    let it = Endpoint { reserved, ..Endpoint::new(EndpointId(8)) };
    let mut it = Bench::started(Config { page_size_mask: !0, ..Config::default() }, &[it]);
    assert!(it.device.translator(EndpointId(9)).is_none());
    let mut translator = it.device.translator(EndpointId(8)).unwrap();
    for at in [0, 0x1_0000, 0x2_0000, u64::MAX] {
        assert_eq!(translator.translate(Iova(at), Write), Err(Reason::Domain));
    }
    assert_eq!(it.attach(8, 1), DONE);
    for (flags, start) in [(0, 0), (1, 0x100), (2, 0x200), (3, 0x300), (7, 0x400)] {
        assert_eq!(it.map(1, start, start + 0xff, start + 0x1_0000, flags), DONE);
    }
    assert_eq!(it.map(1, u64::MAX - 9, u64::MAX, 0x77, 3), DONE);
    let mut at = |at, kind| translator.translate(Iova(at), kind);
    let no = Err(Reason::Mapping);
    assert_eq!((at(0x10, Read), at(0x10, Write)), (no, no));
    assert_eq!((at(0x110, Read), at(0x110, Write)), (to(0x1_0110, 0xef), no));
    assert_eq!((at(0x210, Read), at(0x2ff, Write)), (no, to(0x1_02ff, 0)), "write-only is not read");
    assert_eq!(
        (at(0x300, Read), at(0x300, Write)),
        (to(0x1_0300, 0xff), to(0x1_0300, 0xff)),
        "one mapping, no further"
    );
    assert_eq!(at(0x400, Read), Ok(Target::Memory { at: Gpa(0x1_0400), more: 0xff, memory: MemoryType::Mmio }));
    assert_eq!((at(u64::MAX, Read), at(u64::MAX - 9, Write)), (to(0x80, 0), to(0x77, 9)));
    assert_eq!((at(0x500, Read), at(0xffff, Write)), (no, no));
    for inside in [0x1_0000, 0x1_ffff] {
        assert_eq!((at(inside, Read), at(inside, Write)), (no, no), "RESERVED");
    }
    for inside in [0x2_0000, 0x2_ffff] {
        assert_eq!((at(inside, Read), at(inside, Write)), (no, Ok(Target::Msi)), "MSI");
    }
    assert_eq!(at(0x3_0000, Write), no);
}

#[test]
fn bypass_is_the_identity_also_where_memory_is_reserved() {
    let msi = Reserved { at: iv(0xfee0_0000, 0xfeef_ffff), kind: ReservedKind::Msi };
    let endpoint = Endpoint { reserved: vec![msi], ..Endpoint::new(EndpointId(8)) };
    let config = Config { bypass: Bypass::Config { initially: true }, ..Config::default() };
    let mut it = Bench::started(config, &[endpoint]);
    let mut translator = it.device.translator(EndpointId(8)).unwrap();
    let mut identity = |expected: bool| {
        for at in [0, 0xfee0_0000, u64::MAX] {
            for kind in [Read, Write] {
                assert_eq!(translator.translate(Iova(at), kind) == to(at, u64::MAX - at), expected);
            }
        }
    };
    identity(true);
    let _ = it.device.write_config(36, &[0]);
    identity(false);
    assert_eq!(it.bypass(8, 1), DONE);
    identity(true);
    assert_eq!(it.attach(8, 2), DONE);
    identity(false);
    let _ = it.device.system_reset();
    identity(true);
    let _ = it.device.remove_endpoint(EndpointId(8));
    identity(false);
}

#[test]
fn a_translator_follows_its_endpoint() {
    let mut it = Bench::started(Config::default(), &endpoints([8, 9]));
    let mut translator = it.device.translator(EndpointId(8)).unwrap();
    let mut copy = translator.clone();
    let mut both = |expected| {
        assert_eq!(translator.translate(Iova(0x1010), Read), expected);
        assert_eq!(copy.translate(Iova(0x1010), Read), expected);
    };
    assert_eq!((it.attach(9, 2), it.map(2, 0x1000, 0x1fff, 0x5000, 3)), (DONE, DONE));
    both(Err(Reason::Domain));
    assert_eq!(it.attach(8, 1), DONE);
    both(Err(Reason::Mapping));
    assert_eq!(it.map(1, 0x1000, 0x1fff, 0x3000, 3), DONE);
    both(to(0x3010, 0xfef));
    assert_eq!(it.attach(8, 2), DONE);
    both(to(0x5010, 0xfef));
    assert_eq!(it.unmap(2, 0, u64::MAX), DONE);
    both(Err(Reason::Mapping));
    assert_eq!(it.detach(8, 2), DONE);
    both(Err(Reason::Domain));
    let _ = it.device.remove_endpoint(EndpointId(8));
    both(Err(Reason::Domain));
    // Another one by the same name is another one.
    let _ = it.device.add_endpoint(Endpoint::new(EndpointId(8))).unwrap();
    it.host.books.endpoints.insert(EndpointId(8), Err(viommu::effect::Unattached::Blocked));
    assert_eq!((it.attach(8, 2), it.map(2, 0x1000, 0x1fff, 0x5000, 3)), (DONE, DONE));
    both(Err(Reason::Domain));
}

/// The writer says before each request which targets may be seen from now on, and after its reply which may no longer. A reader that
/// looks at what is allowed before and after its call must have been given one of those.
///
/// Round `n` attaches 8 to domain `n`, maps page 0 to `n` pages up, and takes it away again, now by UNMAP, now by DETACH, now by
/// an ATTACH elsewhere. Targets never come back, so an old one is known by its number.
#[test]
fn no_old_target_after_the_reply() {
    const ROUNDS: u64 = if cfg!(miri) { 20 } else { 6_000 };
    let mut it = Bench::started(Config::default(), &endpoints([8]));
    let gone = AtomicU64::new(0); // targets up to this one are gone, and the reply has been given
    let latest = AtomicU64::new(0); // targets from here on have not been asked for
    let over = AtomicBool::new(false);
    let translator = it.device.translator(EndpointId(8)).unwrap();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (mut translator, gone, latest, over) = (translator.clone(), &gone, &latest, &over);
                scope.spawn(move || {
                    let mut seen = 0_u64;
                    while !over.load(Relaxed) {
                        let before = gone.load(SeqCst);
                        let target = translator.translate(Iova(0x10), Read);
                        let after = latest.load(SeqCst);
                        if let Ok(Target::Memory { at, .. }) = target {
                            let round = at.0 >> 12;
                            assert!(before < round && round <= after, "{round} is not in {before}..={after}");
                            assert_eq!(at.0 & 0xfff, 0x10);
                            seen += 1;
                        }
                    }
                    seen
                })
            })
            .collect();
        for round in 1..=ROUNDS {
            let domain = round as u32;
            if it.device.endpoint(EndpointId(8)).unwrap().domain.is_none() || round % 3 == 0 {
                assert_eq!(it.attach(8, domain), DONE);
                gone.store(round - 1, SeqCst);
            }
            let domain = it.device.endpoint(EndpointId(8)).unwrap().domain.unwrap().0;
            latest.store(round, SeqCst);
            assert_eq!(it.map(domain, 0, 0xfff, round << 12, 1), DONE);
            if round % 64 == 0 {
                thread::yield_now();
            }
            match round % 4 {
                0 => assert_eq!(it.unmap(domain, 0, 0xfff), DONE),
                1 => assert_eq!(it.detach(8, domain), DONE),
                2 => assert_eq!(it.attach(8, u32::MAX - round as u32), DONE),
                _ => {
                    let effects = it.device.reset();
                    it.host.books.all(&effects);
                    it.accept_all();
                }
            }
            gone.store(round, SeqCst);
        }
        over.store(true, Relaxed);
        let seen: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(seen > 0, "the readers never saw a mapping");
    });
}

#[test]
fn what_an_idle_translator_keeps_counts() {
    let limits = Limits { mappings: 300, ..Limits::default() };
    let mut it = Bench::started(Config { limits, ..Config::default() }, &endpoints([8, 9]));
    let page = |it: &mut Bench, domain, page: u64| it.map(domain, page << 12, (page << 12) + 0xfff, 0, 3);
    let mut idle = it.device.translator(EndpointId(8)).unwrap();
    assert_eq!(it.attach(8, 1), DONE);
    assert_eq!(idle.translate(Iova(0), Read), Err(Reason::Mapping));
    (0..200).for_each(|at| assert_eq!(page(&mut it, 1, at), DONE));
    assert_eq!((it.detach(8, 1), it.attach(9, 2), it.device.held()), (DONE, DONE, 200));
    (0..100).for_each(|at| assert_eq!(page(&mut it, 2, at), DONE));
    assert_eq!(page(&mut it, 2, 100), Status::NoMem);
    assert_eq!(idle.translate(Iova(0), Read), Err(Reason::Domain), "which lets go of it");
    assert_eq!((it.device.held(), page(&mut it, 2, 100)), (0, DONE));
    // Over and over: there are never more than one.
    for (domain, count, held) in (3..40).flat_map(|id| [(id, 65, 65), (id + 1000, 64, 0)]) {
        assert_eq!((it.attach(8, domain), idle.translate(Iova(0), Read)), (DONE, Err(Reason::Mapping)));
        (0..count).for_each(|at| assert_eq!(page(&mut it, domain, at), DONE));
        assert_eq!((it.detach(8, domain), it.device.held()), (DONE, held));
    }
    drop(idle);
    assert_eq!(it.device.held(), 0);
}

#[test]
fn a_domain_that_shrinks_gives_memory_back_and_loses_nothing() {
    const PAGES: u64 = 20_000;
    let mut it = Bench::started(Config::default(), &endpoints([8, 9]));
    assert_eq!((it.attach(8, 1), it.attach(9, 1)), (DONE, DONE));
    let mut translators = [8, 9].map(|id| it.device.translator(EndpointId(id)).unwrap());
    let at = |page: u64| page << 12;
    for page in 0..PAGES {
        assert_eq!(
            it.device.handle(&common::map(1, at(page), at(page) + 0xfff, at(page), 1).bytes(), 4).done().status(),
            Some(DONE)
        );
    }
    let most = it.device.mapping_bytes();
    assert!(translators.iter_mut().all(|it| it.translate(Iova(0), Read).is_ok()));
    let mut before = most;
    for page in 0..PAGES - 10 {
        // A page that stays is reached all the while, by the one that was called before and by the one that was not.
        assert_eq!(
            it.device.handle(&common::unmap(1, at(page), at(page) + 0xfff).bytes(), 4).done().status(),
            Some(DONE)
        );
        assert_eq!(translators[0].translate(Iova(at(PAGES - 1)), Read), to(at(PAGES - 1), 0xfff));
        assert_eq!(translators[0].translate(Iova(at(page)), Read), Err(Reason::Mapping));
        let now = it.device.mapping_bytes();
        assert!(now <= before, "{before} {now}");
        before = now;
    }
    assert!(before < most / 100, "{before} of {most}");
    assert_eq!(it.device.held(), PAGES as usize, "the other one");
    assert_eq!(translators[1].translate(Iova(at(PAGES - 1)), Read), to(at(PAGES - 1), 0xfff));
    assert_eq!((translators[1].translate(Iova(0), Read), it.device.held()), (Err(Reason::Mapping), 0));
    assert_eq!(it.mapped(1).len(), 10);
}

#[test]
fn a_page_that_stays_is_reached_all_the_while() {
    const ROUNDS: u64 = 300;
    let mut it = Bench::started(Config::default(), &endpoints([8]));
    assert_eq!((it.attach(8, 1), it.map(1, 0, 0xfff, 0, 3)), (DONE, DONE));
    let (mut translator, over) = (it.device.translator(EndpointId(8)).unwrap(), AtomicBool::new(false));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut calls = 0_u64;
            while !over.load(Relaxed) || calls == 0 {
                assert_eq!(translator.translate(Iova(0x10), Write), to(0x10, 0xfef));
                calls += 1;
            }
        });
        for _ in 0..ROUNDS {
            for page in 1..200 {
                let map = common::map(1, page << 12, (page << 12) + 0xfff, 0x10_0000, 3);
                assert_eq!(it.device.handle(&map.bytes(), 4).done().status(), Some(DONE));
            }
            let before = it.device.mapping_bytes();
            assert_eq!(it.device.handle(&common::unmap(1, 0x1000, u64::MAX).bytes(), 4).done().status(), Some(DONE));
            assert!(it.device.mapping_bytes() < before, "it has moved");
        }
        over.store(true, Relaxed);
        reader.join().unwrap();
    });
}
