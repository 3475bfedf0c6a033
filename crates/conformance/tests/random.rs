//! Random testing finds what it should, and makes it short.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;

use conformance::{
    like::{Deviation, Like, Project, mutant},
    random::{BYTES, Found, Held, MOST, Operation, Search, World, decode, run},
    reference::{Config, Reference},
};
use proptest::{prelude::*, test_runner::Config as Cases};

/// The shortest sequence found on which the device differs from the reference, and what differs.
fn shortest(device: Reference, config: &Config, cases: u32, held: Held, shrink: u32) -> Found {
    let world = World::of(config);
    let both = RefCell::new((device, Reference::new(config.clone())));
    let differs = |operations: &[Operation]| {
        let (device, reference) = &mut *both.borrow_mut();
        run(device, reference, &world, operations, held).err()
    };
    Search { most: 40, cases, shrink, alike: true }.run(&world, differs).unwrap()
}

const SHRINK: u32 = 10_000;

fn strictly(deviation: Deviation, shrink: u32) -> Found {
    // most show soon in what offers everything; some show only in what does not
    let rounds = [(Config::default(), 300), (Config::plain(), 300), (Config::default(), 3000)];
    rounds
        .iter()
        .find_map(|(config, cases)| shortest(mutant(deviation, config.clone()), config, *cases, Held::Strictly, shrink))
}

/// Every rule that is not kept is found within a few thousand sequences, and told in a few operations.
#[test]
fn every_deviation_is_found() {
    let (mut table, mut missed) = (String::new(), Vec::new());
    for &deviation in Deviation::ALL {
        match strictly(deviation, 0) {
            None => missed.push(deviation),
            Some((least, difference)) if least.len() > 6 => table += &format!("{deviation}:\n{difference}\n"),
            Some(_) => {}
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
    assert!(table.is_empty(), "too long:\n{table}");
}

/// How many operations it takes at least, which can be counted by hand.
#[test]
fn shortest_sequences() {
    use Deviation as D;
    let least = [
        // nothing: it can be read from the configuration
        (D::NoPageSize, 0),
        (D::BothBypass, 0),
        // one request
        (D::HeadReservedChecked, 1),
        (D::AttachReservedIgnored, 1),
        (D::UnknownTypeUnsupp, 1),
        (D::ProbeRestNotZeroed, 1),
        (D::EndOfAddressesKills, 1),
        // bypass = 1, reset
        (D::BypassResets, 2),
        // attach, map; then every page is looked at
        (D::TranslateLooksTwoBytes, 2),
        (D::ReservedNotChecked, 2),
        (D::ReadPermissionIgnored, 2),
        // attach, map, unmap
        (D::UnmapSplits, 3),
        (D::UnmapDoesNothing, 3),
        // attach, map without WRITE, write
        (D::WritePermissionIgnored, 3),
        // attach, map, detach
        (D::DetachedStillAccesses, 3),
        // attach, map, attach of another
        (D::OnlyLastAttachedMaps, 3),
        // attach, map, attach again
        (D::ReattachForgets, 3),
        // attach, map, map, unmap over one and half of the other
        (D::UnmapRemovesUntilSplit, 4),
        (D::UnmapRemovesOne, 4),
    ];
    for (deviation, number) in least {
        let (operations, difference) = strictly(deviation, SHRINK).unwrap();
        assert_eq!(operations.len(), number, "{deviation}:\n{difference}");
    }
}

/// A sequence reads as a story.
#[test]
fn stories() {
    let (_, difference) = strictly(Deviation::UnmapSplits, SHRINK).unwrap();
    let told = difference.to_string();
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("   0  attach(endpoint=0x"), "{told}");
    assert!(lines[1].starts_with("   1  map(domain=") && lines[1].contains("..=0x"), "{told}");
    assert!(lines[2].starts_with("   2  unmap(domain="), "{told}");
    assert_eq!(lines[3], "the reply differs", "{told}");
    assert!(lines[4].starts_with("  request    00000004 "), "{told}");
    assert!(lines[5].starts_with("  device     used 4, OK"), "{told}");
    assert!(lines[6].starts_with("  reference  used 4, RANGE"), "{told}");
}

/// The reference does not differ from itself, nor does what the specification leaves open count where a device is held loosely.
#[test]
fn what_is_open_is_no_difference() {
    for config in [Config::default(), Config::plain(), Config::bytewise()] {
        let found = shortest(Reference::new(config.clone()), &config, 100, Held::Strictly, 0);
        assert!(found.is_none(), "{}", found.unwrap().1);
        for deviation in [
            Deviation::UnmapReservedIgnored,
            Deviation::UnmapInvertedAccepted,
            Deviation::MapInvertedAccepted,
            Deviation::PhysOverflowAccepted,
            Deviation::PhysOverflowNothing,
            Deviation::DetachUnattachedNoent,
            Deviation::DetachDomainIgnored,
            Deviation::DetachWrongDomainForgets,
            Deviation::ReattachForgets,
            Deviation::FaultAddressOnly,
            Deviation::FaultBufferSmallKills,
            Deviation::NoEvents,
            Deviation::LongRefused,
            Deviation::ShortInval,
            Deviation::BypassTakesLowestBit,
            Deviation::BypassWritableAlways,
            Deviation::ForbiddenConfigWriteKills,
            Deviation::ProbeShortKills,
            Deviation::ProbeTailAtEnd,
        ] {
            let found = shortest(mutant(deviation, config.clone()), &config, 50, Held::Loosely, SHRINK);
            assert!(found.is_none(), "{deviation}:\n{}", found.unwrap().1);
        }
    }
}

/// The three that were read differ however they are held.
#[test]
fn others_differ() {
    for like in Project::ALL.map(Like::of) {
        let found = shortest(like.device(), &like.config, 1000, Held::Loosely, SHRINK);
        assert!(found.is_some_and(|(least, _)| least.len() <= 3), "{}", like.project);
    }
}

proptest! {
    #![proptest_config(Cases { failure_persistence: None, ..Cases::default() })]
    /// Any bytes are operations, no more than bounded many, and every one has a text and can be done.
    #[test]
    fn any_bytes_are_operations(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let config = Config::default();
        let world = World::of(&config);
        let operations = decode(&world, &bytes);
        prop_assert_eq!(operations.len(), bytes.len().div_ceil(BYTES).min(MOST));
        prop_assert!(operations.iter().all(|operation| !operation.to_string().is_empty()));
        let (mut one, mut two) = (Reference::new(config.clone()), Reference::new(config));
        let told = run(&mut one, &mut two, &world, &operations, Held::Strictly);
        prop_assert!(told.is_ok());
    }
}
