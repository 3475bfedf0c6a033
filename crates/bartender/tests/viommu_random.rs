//! `viommu`'s device beside the naive reference of the conformance suite, under operations at random.
//!
//! The accesses of endpoints go by the translators and, beside them, by a host that knows nothing but the effects it was told: three
//! answers, of which each would show a mistake of another (`viommu::suite`).
//!
//! In the second test each request is first made to fail in the host, or done and taken back by a restore of what was saved.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use conformance::{
    like::Deviation,
    random::{Found, Held, Operation, Search, World, run},
    reference::{self, Reference},
};
use viommu::{HostError, suite::Under};

/// The device; before each request the same request is made to fail in the host, after fewer than so many effects.
fn ours(from: &reference::Config, fails: Option<usize>) -> Under {
    let it = Under::like(from).unwrap();
    let Some(most) = fails else { return it };
    let mut requests = 0;
    it.before(Box::new(move |it, readable, writable| {
        requests += 1;
        it.fails(readable, writable, requests % most, HostError::NoMemory).map(drop)
    }))
}

/// Small enough that the limits are met.
fn limited(from: reference::Config) -> reference::Config {
    let limits = reference::Limits { domains: 2, mappings_per_domain: 3, mappings: 4, events: 2 };
    reference::Config { limits, ..from }
}

/// What the device and a reference, which may deviate, differ in.
fn search(from: &reference::Config, deviation: Option<Deviation>, cases: u32, fails: Option<usize>) -> Found {
    let from = reference::Config { ram: (0x4000_0000, 0x4000_3fff), ..from.clone() };
    let world = World::of(&from);
    let differs = |operations: &[Operation]| {
        let deviations = deviation.into_iter().collect();
        let mut reference = Reference::deviating("the reference".to_owned(), from.clone(), deviations);
        run(&mut ours(&from, fails), &mut reference, &world, operations, Held::Strictly).err()
    };
    Search { most: 60, cases, shrink: 10_000, alike: deviation.is_some() }.run(&world, differs).unwrap()
}

fn compare(from: &reference::Config, cases: u32, fails: Option<usize>) {
    if let Some((_, difference)) = search(from, None, cases, fails) {
        panic!("{from:#x?}\n{difference}");
    }
}

#[test]
fn as_the_reference() {
    use reference::Config;
    for from in [Config::default(), Config::plain(), Config::bytewise(), Config::coherent()] {
        compare(&from, 256, None);
        compare(&limited(from), 100, None);
    }
    let mixed = Config { mixed_dma: true, mixed_no_snoop: true, ..Config::coherent() };
    compare(&mixed, 50, None);
    compare(&Config { bypass: reference::Bypass::Config(true), ..Config::default() }, 50, None);
    compare(&Config { bypass: reference::Bypass::Never, ..Config::default() }, 50, None);
}

/// The same with a host that fails at one effect of every request before it does them all: nothing has changed by that.
#[test]
fn as_the_reference_with_a_host_that_fails() {
    use reference::Config;
    for from in [Config::default(), Config::plain(), limited(Config::coherent())] {
        compare(&from, 50, Some(3));
    }
}

/// The comparison sees what it should: a reference without one of its rules differs from the device, and in how few operations.
#[test]
fn a_difference_is_seen() {
    let least = [
        (Deviation::TailReservedNotZero, 1),
        (Deviation::BypassResets, 2),
        (Deviation::ReservedNotChecked, 2),
        (Deviation::UnmapSplits, 3),
        (Deviation::DetachedStillAccesses, 3),
        (Deviation::WritePermissionIgnored, 3),
    ];
    for (deviation, number) in least {
        let (operations, difference) = search(&reference::Config::default(), Some(deviation), 3000, None).unwrap();
        assert_eq!(operations.len(), number, "{deviation}:\n{difference}");
    }
}
