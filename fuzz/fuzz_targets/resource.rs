#![no_main]

use bar::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let found = text::resources(&text);
    // Line N is BAR N: none is dropped.
    assert_eq!(found.len(), text.lines().count());
    for it in found.iter().flatten() {
        assert!(it.first <= it.last, "{it:?}");
        let again = format!("{:#018x} {:#018x} {:#018x}", it.first, it.last, it.flags);
        assert_eq!(text::resources(&again), [Some(*it)]);
    }
});
