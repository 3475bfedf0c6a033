//! QEMU's virtio-iommu under the conformance suite. These tests start QEMU: `cargo test -p bartender --test qemu_viommu --
//! --ignored`, after `bartender lab setup x86-6.12`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::Instant;

use bartender::cmd::viommu::qemu;
use bartender::findings::{all, qemu_viommu};
use conformance::bytes::{Attach, Detach, F_ALL, Map, S_OK, TAIL, Unmap};
use conformance::like::{Like, Project};
use conformance::qtest::Machine;
use conformance::suite::{Verdict, run_all};
use conformance::{Device, Fresh, clause};

/// The clauses that fail, each with what was seen.
fn failing(device: &mut dyn Device) -> Vec<(&'static str, String)> {
    let all = run_all(device).into_iter();
    all.filter_map(|(clause, verdict)| match verdict {
        Verdict::Fail { saw, .. } => Some((clause.id, saw)),
        _ => None,
    })
    .collect()
}

fn started(options: &str, accept: u64) -> Machine {
    let mut machine = qemu::machine(options).unwrap();
    machine.fresh(Fresh { accept }).unwrap();
    machine
}

fn done(device: &mut dyn Device, request: &[u8]) {
    let reply = device.handle(request, TAIL).unwrap();
    assert_eq!((reply.used, reply.buffer[0]), (4, S_OK), "{request:02x?}");
}

/// Both ways: a QEMU that mends one of them is news as well.
#[test]
#[ignore = "starts QEMU"]
fn what_fails_is_what_is_written_down() {
    for options in ["", "boot-bypass=off", "granule=64k", "aw-bits=48", "absent=0x10100"] {
        let begun = Instant::now();
        let seen = failing(&mut *qemu::device(options).unwrap());
        let names: BTreeSet<&str> = seen.iter().map(|(id, _)| *id).collect();
        let written: BTreeSet<&str> = qemu_viommu::failing(options).into_iter().collect();
        let news: Vec<_> = seen.iter().filter(|(id, _)| !written.contains(id)).collect();
        assert!(news.is_empty(), "qemu:{options} fails what no finding names: {news:#?}");
        let mended: Vec<_> = written.difference(&names).collect();
        assert!(mended.is_empty(), "qemu:{options} passes what a finding says that it fails: {mended:?}");
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }
}

#[test]
fn a_finding_names_clauses_that_are_and_each_once() {
    let mut seen = BTreeSet::new();
    for it in qemu_viommu::DEPARTURES {
        for id in it.clauses {
            assert!(clause::by_id(id).is_some(), "{}: {id}", it.name);
            assert!(seen.insert(id), "{}: {id} is in another too", it.name);
        }
        let finding = all().into_iter().find(|f| f.name == it.name).unwrap();
        assert!(it.clauses.iter().all(|id| finding.reproduce.contains(&format!("--clause {id}"))));
    }
}

/// What was read of an older QEMU is all still so; what came since is the reset.
#[test]
#[ignore = "starts QEMU"]
fn what_was_read_of_an_older_one_is_so_still() {
    let read: BTreeSet<&str> = failing(&mut Like::of(Project::Qemu).device()).into_iter().map(|(id, _)| id).collect();
    let seen: BTreeSet<&str> = failing(&mut *qemu::device("").unwrap()).into_iter().map(|(id, _)| id).collect();
    assert_eq!(read.difference(&seen).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(seen.contains("reset-detaches") && !read.contains("reset-detaches"));
}

/// A byte that lies in the first of two neighbours is written where the second maps the byte before its own.
#[test]
#[ignore = "starts QEMU"]
fn a_neighbour_translates_the_last_byte() {
    let mut machine = started("", F_ALL);
    let (endpoint, ram) = (machine.setup().endpoints[0], *machine.setup().ram.start());
    let mut lands = |first: (u64, u64), second: (u64, u64)| {
        done(&mut machine, &Attach::new(1, endpoint).readable());
        for (iova, phys) in [first, second] {
            done(&mut machine, &Map::new(1, iova, iova + 0xfff, phys, 3).readable());
        }
        machine.ram_write(ram, &[0; 0x4000]).unwrap();
        machine.dma_write(endpoint, 0x10_1fff, &[0xee]).unwrap();
        let memory = machine.ram_read(ram, 0x4000).unwrap();
        done(&mut machine, &Unmap::new(1, 0, u64::MAX).readable());
        done(&mut machine, &Detach::new(1, endpoint).readable());
        memory.iter().position(|byte| *byte == 0xee)
    };
    let (low, high) = ((0x10_1000, ram), (0x10_2000, ram + 0x3000));
    assert_eq!(lands(low, high), Some(0xfff));
    assert_eq!(lands(high, low), Some(0x2fff), "right would be 0xfff");
}

/// QEMU dies of it; with bypass 0 it does not, and the access is refused.
#[test]
#[ignore = "starts QEMU"]
fn a_bus_renumbered_under_an_attached_endpoint() {
    for (options, dies) in [("", true), ("boot-bypass=off", false)] {
        let mut machine = started(options, F_ALL);
        let (endpoint, ram) = (machine.setup().endpoints[0], *machine.setup().ram.start());
        done(&mut machine, &Attach::new(1, endpoint).readable());
        match machine.write_renumbered(endpoint, 0x20, ram) {
            Err(why) => assert!(dies && why.0.contains("Assertion `ep && ep->domain"), "{options}: {why}"),
            Ok(()) => assert!(!dies, "{options}: mended"),
        }
        // It is started anew where it has died.
        machine.fresh(Fresh { accept: F_ALL }).unwrap();
        done(&mut machine, &Attach::new(1, endpoint).readable());
    }
}

/// What the transport does beside the suite leaves no trace: no event, no endpoint of the suite attached, and accesses go
/// where they should with either value of `bypass`.
#[test]
#[ignore = "starts QEMU"]
fn the_transport_leaves_no_trace() {
    for options in ["", "boot-bypass=off"] {
        let mut machine = started(options, F_ALL);
        let (endpoints, ram) = (machine.setup().endpoints.clone(), *machine.setup().ram.start());
        for bypass in [1, 0, 1] {
            machine.write_config(36, &[bypass]);
            for endpoint in &endpoints {
                for _ in 0..4 {
                    machine.event_buffer(24).unwrap();
                }
                machine.ram_write(ram, b"before").unwrap();
                machine.dma_write(*endpoint, ram, b"behind").unwrap();
                let (written, bypassed) = (machine.ram_read(ram, 6).unwrap() == b"behind", bypass == 1);
                assert_eq!(written, bypassed, "{options} {bypass} {endpoint:#x}");
                assert_eq!(machine.dma_read(*endpoint, ram, 6).unwrap() == b"behind", bypassed);
                let events = machine.events().unwrap();
                assert_eq!(events.is_empty(), bypassed, "{events:02x?}");
                // All are of the access itself, which is the suite's.
                let of = |it: &conformance::Reply| u32::from_le_bytes(it.buffer[8..12].try_into().unwrap());
                assert!(events.iter().all(|it| of(it) == *endpoint), "{events:02x?}");
            }
        }
        // INVAL or NOENT: attached to nothing.
        let reply = machine.handle(&Detach::new(conformance::qtest::ASIDE, endpoints[0]).readable(), TAIL).unwrap();
        assert_ne!(reply.buffer[0], S_OK);
    }
}

/// More than the buffer of an `edu`, at any alignment, up to the end of the addresses.
#[test]
#[ignore = "starts QEMU"]
fn accesses_are_what_they_are_said_to_be() {
    let mut machine = started("", F_ALL);
    let (endpoint, ram) = (machine.setup().endpoints[1], *machine.setup().ram.start());
    done(&mut machine, &Attach::new(7, endpoint).readable());
    for iova in [0x4000_0000, 0xffff_ffff_0000_0000, 0xffff_ffff_ffff_0000 - 0x1_0000] {
        done(&mut machine, &Map::new(7, iova, iova + 0xffff, ram, 3).readable());
        for (offset, bytes) in [(0, 1), (1, 2), (0xffe, 3), (0xfff, 4096), (0x1003, 10_000), (0, 0x1_0000)] {
            let data: Vec<u8> = (0..bytes).map(|i| (i * 7 + i / 256 + 1) as u8).collect();
            machine.ram_write(ram, &[0; 0x1_0000]).unwrap();
            machine.dma_write(endpoint, iova + offset, &data).unwrap();
            let at = ram + offset;
            assert!(machine.ram_read(at, bytes).unwrap() == data, "{iova:#x} + {offset:#x}, {bytes}");
            let around: usize = machine.ram_read(ram, 0x1_0000).unwrap().iter().filter(|byte| **byte != 0).count();
            assert_eq!(around, data.iter().filter(|byte| **byte != 0).count());
            assert!(machine.dma_read(endpoint, iova + offset, bytes).unwrap() == data);
        }
        done(&mut machine, &Unmap::new(7, iova, iova + 0xffff).readable());
    }
    assert!(machine.dma_write(machine.setup().absent, 0, b"x").is_err());
    assert!(machine.ram_write(0x1000, b"x").is_err());
}
/// What MAP takes though it is not aligned is not what is translated: the offset within a page is the address's own.
#[test]
#[ignore = "starts QEMU"]
fn an_unaligned_mapping_reaches_elsewhere() {
    let mut machine = started("", F_ALL);
    let (endpoint, phys) = (machine.setup().endpoints[0], *machine.setup().ram.start() + 0x8000);
    done(&mut machine, &Attach::new(1, endpoint).readable());
    done(&mut machine, &Map::new(1, 0x10_0001, 0x10_0fff, phys, 3).readable());
    machine.dma_write(endpoint, 0x10_0001, &[0xee]).unwrap();
    assert_eq!(machine.ram_read(phys, 2).unwrap(), [0, 0xee], "right would be the first");
}
