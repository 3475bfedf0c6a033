#![no_main]

use bartender_fuzz::iommu::{Bytes, made, ours, reference};
use conformance::random::{Held, World, decode, run};
use libfuzzer_sys::fuzz_target;

// A device, and what is done to it: what a driver can tell of it, and where accesses go, is what the reference says. Its host
// fails now and then, after which all is as before.
fuzz_target!(|data: &[u8]| {
    let mut from = Bytes(data);
    let made = made(&mut from);
    let seed = u64::from_le_bytes(from.take());
    let world = World::of(&made);
    let operations = decode(&world, from.0);
    let mut ours = ours(&made, seed);
    let mut reference = reference(&made, u64::MAX);
    if let Err(difference) = run(&mut ours, &mut reference, &world, &operations, Held::Strictly) {
        panic!("{difference}\n{made:#x?}");
    }
    ours.agrees().unwrap();
    ours.rebuilds().unwrap();
});
