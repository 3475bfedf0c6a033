//! A whole log: the lines that matter, repeats folded.
//!
//! Most lines of a log match nothing, so that the text is first searched, many lines at once, for the longest plain text of every
//! pattern together; only a line that has one is looked at. Time is linear in the log whatever it holds, and memory is bounded: of a line
//! [`LONGEST`] bytes are looked at, of a case [`KEPT`] lines are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::OnceLock;

use serde::Serialize;

use crate::case::{Case, all};
use crate::pattern::Captured;
use crate::query::{self, How};

/// The most bytes of a line that are looked at. Linux breaks its own at 1024.
pub const LONGEST: usize = 4096;
/// The most lines that are kept of a case.
pub const KEPT: usize = 4;
/// The most characters of a line that are kept.
const SHOWN: usize = 400;

/// A case that a log has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The case.
    #[serde(serialize_with = "name")]
    pub case: &'static Case,
    /// By what it was found.
    pub how: How,
    /// How much of the line matched.
    pub specific: usize,
    /// How many lines.
    pub count: u64,
    /// The first [`KEPT`] of them.
    pub lines: Vec<Line>,
    /// What stood in the places of the pattern of the first.
    pub captured: Vec<Captured>,
    /// The number of the last of them.
    pub last: u64,
}

fn name<S: serde::Serializer>(case: &Case, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&case.name)
}

/// A line that matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// What it says, without control characters; cut if it is long.
    pub text: String,
}

/// Finds every case of a log.
#[must_use]
pub fn scan(log: &[u8]) -> Vec<Match> {
    let mut scanner = Scanner::new();
    scanner.push(log);
    scanner.finish().0
}

/// Reads a log to its end, and finds every case; also says how many lines there were. `progress` is told how many bytes were read,
/// after each piece.
///
/// # Errors
/// The log cannot be read.
pub fn read(mut log: impl Read, mut progress: impl FnMut(u64)) -> io::Result<(Vec<Match>, u64)> {
    let mut scanner = Scanner::new();
    let mut piece = vec![0; 1 << 18];
    let mut total = 0;
    loop {
        match log.read(&mut piece) {
            Ok(0) => return Ok(scanner.finish()),
            Ok(n) => {
                scanner.push(piece.get(..n).unwrap_or_default());
                total += n as u64;
                progress(total);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Takes a log piece by piece, cut anywhere.
#[derive(Debug)]
pub struct Scanner {
    /// The beginning of a line whose end has not come: at most [`LONGEST`] bytes.
    begun: Vec<u8>,
    /// Whether a line is begun, of which `begun` may hold less than there was.
    open: bool,
    /// Lines that are done.
    lines: u64,
    found: BTreeMap<&'static str, Match>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// Nothing read yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { begun: Vec::new(), open: false, lines: 0, found: BTreeMap::new() }
    }

    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        if self.open {
            let (head, tail) = match rest.iter().position(|b| *b == b'\n') {
                Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                None => (rest, None),
            };
            self.begin(head);
            let Some(tail) = tail else { return };
            self.end();
            rest = tail;
        }
        let whole = rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let (whole, tail) = rest.split_at(whole);
        self.whole_lines(whole);
        if !tail.is_empty() {
            self.begin(tail);
        }
    }

    /// What was found, in the order of the log, and how many lines there were.
    #[must_use]
    pub fn finish(mut self) -> (Vec<Match>, u64) {
        if self.open {
            self.end();
        }
        let mut found: Vec<_> = self.found.into_values().collect();
        found.sort_by_key(|it| it.lines.first().map(|line| line.number));
        (found, self.lines)
    }

    fn begin(&mut self, part: &[u8]) {
        self.open = true;
        let room = LONGEST.saturating_sub(self.begun.len());
        self.begun.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.begun);
        self.open = false;
        self.lines += 1;
        self.line(&line, self.lines);
    }

    /// Lines with their ends.
    fn whole_lines(&mut self, text: &[u8]) {
        let Some(candidates) = candidates() else { return };
        let (mut at, mut counted) = (0, 0);
        while let Some(found) = candidates.find_at(text, at) {
            let first = text[..found.start()].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let last = text[found.start()..].iter().position(|b| *b == b'\n').map_or(text.len(), |n| found.start() + n);
            self.lines += ends(&text[counted..first]) + 1;
            self.line(&text[first..last], self.lines);
            at = (last + 1).min(text.len());
            counted = at;
        }
        self.lines += ends(&text[counted..]);
    }

    fn line(&mut self, line: &[u8], number: u64) {
        let line = line.get(..LONGEST).unwrap_or(line);
        // Again, of what is left of it: how a log comes in pieces must not matter.
        if !candidates().is_some_and(|search| search.is_match(line)) {
            return;
        }
        let known = |case: &Case| self.found.contains_key(case.name.as_str());
        for it in query::line(line, known) {
            let entry = self.found.entry(&it.case.name).or_insert_with(|| Match {
                case: it.case,
                how: it.how,
                specific: it.specific,
                count: 0,
                lines: Vec::new(),
                captured: it.captured,
                last: number,
            });
            entry.count += 1;
            entry.last = number;
            entry.specific = entry.specific.max(it.specific);
            if entry.lines.len() < KEPT {
                entry.lines.push(Line { number, text: shown(line) });
            }
        }
    }
}

/// Line ends in a text.
fn ends(text: &[u8]) -> u64 {
    // In blocks that a byte can count, so that it is done with vectors.
    text.chunks(255).map(|block| u64::from(block.iter().fold(0u8, |n, b| n.wrapping_add(u8::from(*b == b'\n'))))).sum()
}

/// A line for people: what is not UTF-8 replaced, control characters gone, so that a log cannot write to the terminal.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    if text.trim().chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// The search for lines that may matter: the longest plain text of each pattern, or a labelled syndrome.
fn candidates() -> Option<&'static regex::bytes::Regex> {
    static SEARCH: OnceLock<Option<regex::bytes::Regex>> = OnceLock::new();
    let search = SEARCH.get_or_init(|| {
        let literals = all().iter().flat_map(|case| &case.lines).map(|pattern| pattern.literal.as_str());
        let literals: BTreeSet<&str> =
            literals.chain(["ESR = 0x", "ESR_EL1", "ESR_EL2", "ESR: 0x", ", ESR 0x"]).collect();
        let any: Vec<String> = literals.into_iter().map(regex::escape).collect();
        regex::bytes::Regex::new(&format!("(?-u){}", any.join("|"))).ok()
    });
    search.as_ref()
}
