#![no_main]

use host::{Host, Root, snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(read) = snapshot::parse(data) else { return };
    let asked = read.asked().clone();
    let host = Host::gather(&Root::of_snapshot(read), &asked);
    // Whatever is in it, a machine comes of it, and no more of one than was in it.
    assert!(host.functions.len() <= data.len() && host.holes.len() <= 64 + data.len());
});
