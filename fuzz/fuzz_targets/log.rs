#![no_main]

use diagnose::log::{KEPT, Scanner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((cut, log)) = data.split_first() else { return };
    let scan = |pieces: &[&[u8]]| {
        let mut scanner = Scanner::new();
        pieces.iter().for_each(|piece| scanner.push(piece));
        scanner.finish()
    };
    let (found, lines) = scan(&[log]);
    for it in &found {
        assert!(it.lines.len() <= KEPT && it.count >= it.lines.len() as u64 && it.last <= lines, "{it:?}");
        assert!(it.lines.iter().all(|line| (1..=lines).contains(&line.number) && !line.text.contains('\n')));
    }
    // It may be cut anywhere.
    let (head, tail) = log.split_at(usize::from(*cut).min(log.len()));
    assert_eq!(scan(&[head, tail]), (found, lines));
});
