//! Boots real kernels. Run `bartender lab setup 6.1` first: where the lab is not set up these tests fail, they do not
//! skip, since a boot that was not tried proves nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use lab::{Boot, Cache, Error, Kernel, Series};

fn lab() -> (Cache, Kernel) {
    let cache = Cache::user().unwrap();
    let kernel = cache.kernel(Series::new(6, 1)).unwrap_or_else(|error| panic!("{error}"));
    (cache, kernel)
}

/// The program that powers off, with one of its instructions exchanged.
fn changed(from: u32, to: u32) -> Vec<u8> {
    let mut program = lab::poweroff_init();
    let at = program.windows(4).position(|word| word == from.to_le_bytes()).unwrap();
    program[at..at + 4].copy_from_slice(&to.to_le_bytes());
    program
}

const SVC: u32 = 0xd400_0001;
const NOP: u32 = 0xd503_201f;
const MOVZ_X8_REBOOT: u32 = 0xd280_11c8;
const MOVZ_X8_EXIT: u32 = 0xd280_0ba8;

#[test]
fn a_server_boots_and_powers_off() {
    let (cache, kernel) = lab();
    let init = lab::poweroff_init();
    let boot = Boot { bars: vec![1 << 20, 2 << 20], ..Boot::new(&kernel, &init) };
    let booted = boot.run(&cache, &mut |_| {}).unwrap();
    assert!(booted.console.contains("Power down"), "{}", booted.console);
    assert!(booted.lines.is_empty());
}

#[test]
fn a_panic_is_told_with_the_console() {
    let (cache, kernel) = lab();
    let init = changed(MOVZ_X8_REBOOT, MOVZ_X8_EXIT);
    match Boot::new(&kernel, &init).run(&cache, &mut |_| {}) {
        Err(Error::Panic { tail, .. }) => assert!(tail.contains("Attempted to kill init"), "{tail}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hang_ends_at_the_limit() {
    let (cache, kernel) = lab();
    let init = changed(SVC, NOP);
    let limit = Duration::from_secs(10);
    let begun = Instant::now();
    match (Boot { limit, ..Boot::new(&kernel, &init) }).run(&cache, &mut |_| {}) {
        Err(Error::TimedOut { limit: told, .. }) => assert_eq!(told, limit),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn what_qemu_says_is_told() {
    let (cache, kernel) = lab();
    let init = lab::poweroff_init();
    let boot = Boot { cpu: "no-such-processor".to_owned(), ..Boot::new(&kernel, &init) };
    match boot.run(&cache, &mut |_| {}) {
        Err(Error::QemuExited { stderr, .. }) => assert!(stderr.contains("no-such-processor"), "{stderr}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_boot_that_cannot_be_is_refused_before_it_starts() {
    let (cache, kernel) = lab();
    let init = lab::poweroff_init();
    for boot in [
        Boot { cpu: "max -M none".to_owned(), ..Boot::new(&kernel, &init) },
        Boot { bars: vec![3 << 20], ..Boot::new(&kernel, &init) },
        Boot { bars: vec![4096; 17], ..Boot::new(&kernel, &init) },
        Boot { files: vec![("../init".to_owned(), vec![])], ..Boot::new(&kernel, &init) },
    ] {
        assert!(matches!(boot.run(&cache, &mut |_| {}), Err(Error::BadBoot { .. })));
    }
}
