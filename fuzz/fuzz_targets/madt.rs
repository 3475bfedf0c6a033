#![no_main]

use firmware::madt::Madt;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Madt::parse(data);
    let table = bartender_fuzz::sealed(b"APIC", data);
    let Ok(madt) = Madt::parse(&table) else { return };
    assert!((madt.its.len() + madt.frames.len()) * 16 + 44 <= table.len());
});
