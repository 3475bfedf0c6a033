//! What the console of an emulated server tells about its end.

use crate::error::tail;

/// A way in which a kernel fails by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Oops,
    Panic,
}

/// How the kernel begins the report of a fault of its own.
const OOPS: [&str; 4] = ["Internal error: ", "Unable to handle kernel ", "kernel BUG at ", "Oops: "];
const PANIC: &str = "Kernel panic - not syncing: ";

/// Lines of a report that are kept: registers and call trace take some sixty.
const REPORT: usize = 80;

/// Finds the first report of trouble; with it comes the console from there on, in bounds. An oops ends in a panic (the
/// lab asks for that), so it is looked for first.
pub(crate) fn trouble(console: &str) -> Option<(Trouble, String)> {
    let first = |mark: &str| at_message(console, mark);
    let oops = OOPS.iter().filter_map(|mark| first(mark)).min();
    let (kind, at) = oops.map(|at| (Trouble::Oops, at)).or_else(|| first(PANIC).map(|at| (Trouble::Panic, at)))?;
    // A little of what came before often says why.
    let before = tail(console.get(..at).unwrap_or_default(), 5);
    let report: Vec<&str> = console.get(at..).unwrap_or_default().lines().take(REPORT).collect();
    let after = tail(&report.join("\n"), REPORT);
    Some((kind, if before.is_empty() { after } else { format!("{before}\n{after}") }))
}

/// Where the line begins whose message (after the kernel's time stamp) begins with `mark`.
fn at_message(console: &str, mark: &str) -> Option<usize> {
    let mut at = 0;
    for line in console.split_inclusive('\n') {
        let stamped = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("] "));
        let message = stamped.map_or(line, |(_, message)| message);
        if message.trim_start().starts_with(mark) {
            return Some(at);
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PANICKED: &str =
        "[    1.3] Run /init\n[    1.4] Kernel panic - not syncing: Attempted to kill init!\n[    1.5] CPU: 0\n";
    const OOPSED: &str = "[    2.0] Unable to handle kernel NULL pointer dereference at virtual address 0\n\
        [    2.0] Internal error: Oops: 96000004 [#1] SMP\n[    2.1] Kernel panic - not syncing: Oops: Fatal exception\n";

    #[test]
    fn a_panic_and_an_oops_are_told_apart() {
        let (kind, text) = trouble(PANICKED).unwrap();
        assert_eq!(kind, Trouble::Panic);
        assert!(text.starts_with("[    1.3] Run /init\n") && text.ends_with("CPU: 0"), "{text}");
        assert_eq!(trouble(OOPSED).unwrap().0, Trouble::Oops);
    }

    #[test]
    fn a_quiet_end_is_no_trouble() {
        for text in ["", "[    1.0] reboot: Power down\n", "bartender: a Kernel panic - not syncing: would look so\n"] {
            assert_eq!(trouble(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_do_not_hide_it() {
        let mut bytes = b"\xff\xfe\0\x1b[2J\n".to_vec();
        bytes.extend(PANICKED.as_bytes());
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(trouble(&text).unwrap().0, Trouble::Panic);
    }

    proptest! {
        #[test]
        fn any_console(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..400) {
            let mut bytes = bytes;
            let at = at.min(bytes.len());
            bytes.splice(at..at, OOPSED.bytes());
            if let Some((_, text)) = trouble(&String::from_utf8_lossy(&bytes)) {
                prop_assert!(text.len() <= 4 * bytes.len() + 16);
            }
        }
    }
}
