#![no_main]

use firmware::mcfg;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = mcfg::parse(data);
    let table = bartender_fuzz::sealed(b"MCFG", data);
    let Ok(windows) = mcfg::parse(&table) else { return };
    assert_eq!(windows.len() * 16 + 44, table.len());
    assert!(windows.iter().all(|window| window.first <= window.last));
});
