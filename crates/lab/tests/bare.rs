//! Runs the bare-metal program. Run `bartender lab setup` first: where there is no QEMU these tests fail, they do not skip,
//! since a boot that was not tried proves nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use el2::{JOBS_AT, Order, Par, RAM_SIZE, STAGE1, Said, unpack};
use lab::bare::Device;
use lab::{Bare, Cache, Error, Progress};

fn found() -> (Cache, PathBuf) {
    let cache = Cache::user().unwrap();
    let program = lab::build_bare(&cache, Progress::silent()).unwrap_or_else(|error| panic!("{error}"));
    (cache, program)
}

fn bare<'a>(program: &'a std::path::Path, orders: &'a [u8]) -> Bare<'a> {
    Bare {
        program,
        orders: (JOBS_AT, orders),
        ram: RAM_SIZE,
        cpu: "max".into(),
        devices: vec![],
        aborts: false,
        limit: Duration::from_secs(30),
    }
}

fn said(lines: &[String]) -> Vec<Said> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

#[test]
fn every_combination_translates() {
    let (cache, program) = found();
    let orders = format!("{}\n\0", serde_json::to_string(&Order::Sweep {}).unwrap());
    let ran = bare(&program, orders.as_bytes()).run(&cache, &mut |_| {}).unwrap();
    let said = said(&ran.lines);
    assert!(matches!(&said[0], Said::About(about) if about.fwb && about.midr != 0), "{:?}", said[0]);
    assert_eq!(said.last(), Some(&Said::Done {}));
    let mut seen = std::collections::BTreeSet::new();
    for one in &said[1..said.len() - 1] {
        let Said::Swept(swept) = one else { panic!("{one:?}") };
        seen.insert((swept.fwb, swept.memattr, swept.sh));
        let pars = unpack(&swept.par).unwrap();
        assert!(pars.len() == STAGE1 && pars.iter().all(|par| !par.failed), "{swept:?}");
        // Named by what everybody agrees on: Normal-NC, and both shareabilities Inner, is Outer Shareable; Device stays Device.
        if (swept.memattr, swept.sh) == (0b0101, 0b11) {
            let at = |mair: usize, sh: usize| pars[mair * 4 + sh];
            assert_eq!(at(0x44, 3), Par { attr: 0x44, sh: 0b10, failed: false });
            assert_eq!(at(0xff, 3), Par { attr: 0x44, sh: 0b10, failed: false });
            assert_eq!(at(0x00, 3), Par { attr: 0x00, sh: 0b10, failed: false });
            assert_eq!(at(0x04, 3), Par { attr: 0x04, sh: 0b10, failed: false });
        }
    }
    assert_eq!(seen.len(), 128, "FWB, MemAttr and SH");
    assert_eq!(seen.len() * STAGE1, 131_072);
}

#[test]
fn it_finds_its_devices() {
    let (cache, program) = found();
    let devices = vec![Device::Memory { size: 1 << 20 }, Device::Dma, Device::Memory { size: 4096 }];
    let ran = Bare { devices, ..bare(&program, b"\0") }.run(&cache, &mut |_| {}).unwrap();
    let said = said(&ran.lines);
    assert!(matches!(&said[0], Said::About(about) if about.bars == [1 << 20, 4096]), "{:?}", said[0]);
    assert_eq!(said.len(), 2, "{said:?}");
}

#[test]
fn orders_that_are_none_are_refused() {
    let (cache, program) = found();
    for (orders, says) in [
        (&b"{\"sweep\":{}}"[..], None),
        (b"{\"dance\":{}}\n\0", Some("unknown variant")),
        (b"\xff\xfe\n\0", Some("an order: ")),
    ] {
        let ran = bare(&program, orders).run(&cache, &mut |_| {}).unwrap();
        // The machine's RAM is zero: orders always end.
        match (said(&ran.lines).pop(), says) {
            (Some(Said::Done {}), None) => {}
            (Some(Said::Lost { what }), Some(says)) => assert!(what.contains(says), "{what}"),
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_machine_that_hangs_is_stopped() {
    let (cache, program) = found();
    // Less RAM than the program needs: it cannot even say so.
    let hung = Bare { ram: 1 << 20, limit: Duration::from_secs(3), ..bare(&program, b"\0") };
    let begun = Instant::now();
    match hung.run(&cache, &mut |_| {}) {
        Err(Error::TimedOut { .. } | Error::QemuExited { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
