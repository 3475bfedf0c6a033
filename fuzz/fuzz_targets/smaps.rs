#![no_main]

use bar::text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((address, data)) = data.split_first_chunk::<8>() else { return };
    let text = String::from_utf8_lossy(data);
    for address in [u64::from_le_bytes(*address), 0, u64::MAX, 0x7f00_0000_0800] {
        if let Some(flags) = text::vm_flags(&text, address) {
            // It is a piece of one line of the text.
            assert!(text.as_bytes().as_ptr_range().contains(&flags.as_ptr()) || flags.is_empty());
            assert!(!flags.contains('\n') && text.contains(flags));
        }
    }
});
