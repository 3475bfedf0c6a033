#![no_main]

use firmware::dmar::Dmar;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Dmar::parse(data);
    let table = bartender_fuzz::sealed(b"DMAR", data);
    let Ok(dmar) = Dmar::parse(&table) else { return };
    assert!(dmar.units.len() * 16 + dmar.ats.len() * 8 + 48 <= table.len());
});
