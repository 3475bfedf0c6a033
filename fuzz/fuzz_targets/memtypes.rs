#![no_main]

use bar::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    match text::memtypes(&text) {
        Ok(found) => {
            assert!(found.len() <= text.lines().count());
            assert!(found.iter().all(|it| it.first <= it.last));
        }
        // The line is shown, and not all of a long one.
        Err(why) => assert!(why.starts_with("line ") && why.len() <= 2048, "{why}"),
    }
});
