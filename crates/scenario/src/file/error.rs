//! What is wrong with a file, where, and what would be right.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Widest excerpt of a line, in columns.
const EXCERPT: usize = 100;
/// What of a long line stands before the fault, in columns.
const BEFORE: usize = 40;

/// Why a text is no scenario. Display shows the line with a caret under the fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Error {
    /// The name given to [`parse`](super::parse).
    pub file: String,
    /// Line; 1 is the first.
    pub line: u32,
    /// Column in characters; 1 is the first.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub remedy: String,
    /// The line, fit for a terminal: tabs as spaces, no control characters, clipped around the fault where it is long.
    #[serde(skip)]
    pub excerpt: String,
    /// Columns of a terminal before the caret and under it.
    #[serde(skip)]
    pub caret: [u32; 2],
}

/// An [`Error`] that does not know its file yet: bytes of the text, and the two sentences.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(at: Range<usize>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { at, message: message.into(), remedy: remedy.into() }
    }
}

impl Error {
    pub(super) fn new(file: &str, text: &str, fault: Fault) -> Self {
        // A fault at the very end is shown after the last thing there is, not on a line that no editor shows.
        let end = text.trim_end().len();
        let mut start = if fault.at.start >= text.len() { end } else { fault.at.start };
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line = text[line_start..].split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let from = line.get(..start - line_start).unwrap_or(line).chars().count();
        let mut stop = fault.at.end.clamp(start, line_start + line.len().max(start - line_start));
        while !text.is_char_boundary(stop) {
            stop -= 1;
        }
        let length = text.get(start..stop).map_or(0, |s| s.chars().count());
        let (excerpt, caret) = excerpt(line, from, length);
        Self {
            file: file.into(),
            line: number(text[..line_start].matches('\n').count() + 1),
            column: number(from + 1),
            message: fault.message,
            remedy: fault.remedy,
            excerpt,
            caret,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message, remedy, excerpt, caret: [pad, length] } = self;
        let gutter = line.to_string().len() + 1;
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        writeln!(f, "{:gutter$}|", "")?;
        writeln!(f, "{}", format!("{line} | {excerpt}").trim_end())?;
        writeln!(f, "{:gutter$}| {:pad$}{:^<length$}", "", "", "", pad = *pad as usize, length = *length as usize)?;
        write!(f, "{:gutter$}= {remedy}", "")
    }
}

impl std::error::Error for Error {}

/// A file has at most [`MAX_BYTES`](super::MAX_BYTES), or its fault is on the first line.
fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// `line` as a terminal can show it, around `length` characters from the character `from`; and the caret's columns.
fn excerpt(line: &str, from: usize, length: usize) -> (String, [u32; 2]) {
    let widths: Vec<usize> = line.chars().map(width).collect();
    let mut first = 0;
    if widths.iter().sum::<usize>() > EXCERPT {
        let mut before = 0;
        first = from.min(widths.len());
        while first > 0 && before + widths[first - 1] <= BEFORE {
            first -= 1;
            before += widths[first];
        }
    }
    let mut out = String::new();
    let [mut column, mut pad, mut under] = [0; 3];
    if first > 0 {
        out.push('…');
        column = 1;
    }
    pad += column;
    for (i, (c, w)) in line.chars().zip(&widths).enumerate().skip(first) {
        if column + w > EXCERPT {
            out.push('…');
            break;
        }
        column += w;
        if i < from {
            pad += w;
        } else if i < from + length {
            under += w;
        }
        match c {
            '\t' => out.push_str("    "),
            c if unshowable(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    (out, [number(pad), number(under.max(1))])
}

/// Control characters, and those that turn the direction of a line.
fn unshowable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns of a terminal: the wide blocks of Unicode and the combining ones, as far as a caret needs them.
fn width(c: char) -> usize {
    match c {
        '\t' => 4,
        '\u{300}'..='\u{36f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A piece of the file in a message: in backquotes, short, without control characters.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for (i, c) in text.chars().enumerate() {
        if i == 48 {
            out.push('…');
            break;
        }
        out.push(if unshowable(c) { '\u{fffd}' } else { c });
    }
    out.push('`');
    out
}

/// `a`, `b` and `c`.
pub(super) fn list<S: AsRef<str>>(names: &[S]) -> String {
    let mut out = String::new();
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            out.push_str(if i + 1 == names.len() { " and " } else { ", " });
        }
        out.push('`');
        out.push_str(name.as_ref());
        out.push('`');
    }
    out
}

/// The one of `names` that was probably meant.
pub(super) fn near<S: AsRef<str>>(word: &str, names: &[S]) -> Option<String> {
    let length = word.chars().count();
    if length > 48 {
        return None;
    }
    let allowed = match length {
        0..=4 => 1,
        5..=7 => 2,
        _ => 3,
    };
    names
        .iter()
        .map(|n| (distance(word, n.as_ref()), n.as_ref()))
        .filter(|(d, n)| *d <= allowed && *d < n.chars().count())
        .min_by_key(|(d, _)| *d)
        .map(|(_, n)| n.into())
}

/// How many letters to insert, delete, replace or swap, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let lower = |s: &str| s.chars().map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (a, b) = (lower(a), lower(b));
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let above = &rows[i - 1];
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, at: Range<usize>) -> String {
        Error::new("f.toml", text, Fault::new(at, "bad", "good")).to_string()
    }

    #[test]
    fn a_caret_stands_under_the_fault() {
        let text = "a = 1\nsiez = \"64K\"\n";
        assert_eq!(shown(text, 6..10), "f.toml:2:1: bad\n  |\n2 | siez = \"64K\"\n  | ^^^^\n  = good");
        // A span over lines ends with its first; one beyond the text stands at the end of what there is.
        assert_eq!(shown(text, 13..99), "f.toml:2:8: bad\n  |\n2 | siez = \"64K\"\n  |        ^^^^^\n  = good");
        assert_eq!(shown("ab\n\n", 99..100), "f.toml:1:3: bad\n  |\n1 | ab\n  |   ^\n  = good");
        assert_eq!(shown("", 0..0), "f.toml:1:1: bad\n  |\n1 |\n  | ^\n  = good");
        assert_eq!(shown("\r\n", 1..2), "f.toml:1:1: bad\n  |\n1 |\n  | ^\n  = good");
    }

    #[test]
    fn tabs_wide_letters_and_controls_keep_the_caret_in_place() {
        assert_eq!(shown("\tab", 1..2), "f.toml:1:2: bad\n  |\n1 |     ab\n  |     ^\n  = good");
        assert_eq!(shown("日é = x", 8..9), "f.toml:1:6: bad\n  |\n1 | 日é = x\n  |       ^\n  = good");
        // A span inside a character is moved to its start.
        assert_eq!(shown("日本", 1..2), "f.toml:1:1: bad\n  |\n1 | 日本\n  | ^\n  = good");
        assert_eq!(shown("a\u{1b}[2J\u{202e}b", 0..1).matches('\u{fffd}').count(), 2);
        assert!(!quoted("\u{1b}[2J").contains('\u{1b}'));
    }

    #[test]
    fn a_long_line_is_clipped_around_the_fault() {
        let text = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let error = Error::new("f", &text, Fault::new(5000..5001, "bad", "good"));
        assert_eq!(error.column, 5001);
        let e: Vec<char> = error.excerpt.chars().collect();
        assert_eq!(e.len(), 101);
        assert_eq!((e[0], e[error.caret[0] as usize], e[100]), ('…', 'X', '…'));
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["size", "name", "prefetchable"];
        assert_eq!(near("siez", &names).as_deref(), Some("size"));
        assert_eq!(near("SIZE", &names).as_deref(), Some("size"));
        assert_eq!(near("prefetcheable", &names).as_deref(), Some("prefetchable"));
        assert_eq!(near("bogus", &names), None);
        assert_eq!(near("none", &["long", "holes"]), None, "half of it is another word");
        assert_eq!(near("", &names), None);
        assert_eq!(near("q", &["a"]), None);
        assert_eq!(near(&"size".repeat(100_000), &names), None);
    }
}
