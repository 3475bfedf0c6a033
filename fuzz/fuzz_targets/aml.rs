#![no_main]

use firmware::aml::Namespace;
use firmware::lint::Description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut names = Namespace::default();
    let _ = names.read(data);
    let block = bartender_fuzz::sealed(b"DSDT", data);
    names.read(&block).unwrap();
    // A device is kept for four bytes of code or more, with at most 16 segments of a path and 8 ids.
    assert!(names.devices.len() <= 2 * block.len() / 4);
    for (path, device) in &names.devices {
        assert!(path.starts_with('\\') && path.len() <= 16 * 5 + 1, "{path}");
        assert!(device.ids.len() <= 8 && device.ids.iter().all(|id| id.len() <= 16), "{device:?}");
    }
    for bridge in names.host_bridges() {
        assert!(names.devices.contains_key(&bridge.path));
        assert!(!(bridge.open && bridge.cca.is_some()));
    }
    bartender_fuzz::linted(&Description { names: Some(names), arm: true, ..Description::default() }, block.len());
});
