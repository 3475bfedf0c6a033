//! For people, on a terminal.

use std::fmt::Write as _;

use super::{Outcome, Report, SPECIFICATION};
use crate::{
    clause::{Binds, Clause},
    suite::SILENT,
};

/// What a piece of text is; the caller knows the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Strong,
    /// Of less weight.
    Faint,
    /// It holds.
    Good,
    /// It does not.
    Bad,
    /// Neither.
    Open,
}

/// Columns of the text.
const WIDTH: usize = 100;

impl Outcome {
    /// How it is shown.
    #[must_use]
    pub const fn style(self) -> Style {
        match self {
            Self::Pass => Style::Good,
            Self::Fail => Style::Bad,
            Self::NotShown | Self::BindsTheDriver => Style::Faint,
            Self::Does | Self::DoesNot => Style::Open,
        }
    }
}

/// Words in lines, each after so many blanks.
fn wrapped(indent: usize, text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let size = word.chars().count();
        if column > 0 && column + 1 + size > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += size;
    }
    out.push('\n');
    out
}

/// The letter of a device in a table of several.
fn letter(index: usize) -> char {
    u8::try_from(index).map_or('?', |index| char::from(b'A'.saturating_add(index.min(25))))
}

impl Report {
    /// The report as text.
    pub fn text(&self, paint: impl Fn(Style, &str) -> String) -> String {
        let mut out = format!("Against {SPECIFICATION}\n");
        for (index, column) in self.columns.iter().enumerate() {
            let name = if self.columns.len() > 1 { format!("{}  ", letter(index)) } else { String::new() };
            let offers = if column.offers.is_empty() { "nothing".to_owned() } else { column.offers.join(", ") };
            let _ = writeln!(out, "{name}{}", paint(Style::Strong, &column.device));
            if column.what != column.device {
                out.push_str(&wrapped(name.len(), &column.what));
            }
            out.push_str(&paint(Style::Faint, &wrapped(name.len(), &format!("offers {offers}"))));
        }
        self.rows(&mut out, &paint);
        self.totals(&mut out, &paint);
        self.silent(&mut out, &paint);
        out
    }

    fn rows(&self, out: &mut String, paint: &impl Fn(Style, &str) -> String) {
        let several = self.columns.len() > 1;
        let width = self.clauses.iter().map(|c| c.id.len()).max().unwrap_or(0).max(6);
        let head = format!("{:<12} {:<width$} {:<10}", "section", "clause", "level");
        let letters: String = (0..self.columns.len()).map(|at| format!(" {:<9}", letter(at))).collect();
        let head = if several { head + &letters } else { head + " result" };
        let _ = writeln!(out, "\n{}", paint(Style::Strong, head.trim_end()));
        let mut section = "";
        for (at, clause) in self.clauses.iter().enumerate() {
            let shown = if clause.section == section { "" } else { clause.section };
            section = clause.section;
            let _ = write!(out, "{shown:<12} {:<width$} {:<10}", clause.id, clause.level);
            if clause.binds == Binds::Driver {
                let _ = writeln!(out, " {}", paint(Style::Faint, "binds the driver"));
                continue;
            }
            for (index, column) in self.columns.iter().enumerate() {
                let outcome = column.seen[at].outcome;
                let last = index + 1 == self.columns.len();
                let word = if last { outcome.word().to_owned() } else { format!("{:<9}", outcome.word()) };
                let _ = write!(out, " {}", paint(outcome.style(), &word));
            }
            out.push('\n');
            for (index, column) in self.columns.iter().enumerate() {
                let seen = &column.seen[at];
                // Side by side, it is what fails that one wants to know about.
                if seen.saw.is_empty() || several && seen.outcome != Outcome::Fail {
                    continue;
                }
                let who = if several { format!("{}: ", letter(index)) } else { String::new() };
                out.push_str(&paint(Style::Faint, &wrapped(15, &(who + &seen.line()))));
            }
        }
    }

    fn totals(&self, out: &mut String, paint: &impl Fn(Style, &str) -> String) {
        let driver = self.clauses.iter().filter(|c| c.binds == Binds::Driver).count();
        for (index, column) in self.columns.iter().enumerate() {
            let name =
                if self.columns.len() > 1 { format!("{}  {}", letter(index), column.device) } else { String::new() };
            let head = format!(
                "{:<11} {:>5} {:>5} {:>10} {:>5} {:>9}",
                "level", "pass", "FAIL", "not shown", "does", "does not"
            );
            let _ = writeln!(out);
            if !name.is_empty() {
                let _ = writeln!(out, "{}", paint(Style::Strong, &name));
            }
            let _ = writeln!(out, "{}", paint(Style::Strong, &head));
            for level in self.levels() {
                let t = self.total(column, level);
                let failed = format!("{:>5}", t.fail);
                let failed = if t.fail > 0 { paint(Style::Bad, &failed) } else { failed };
                let (level, does, not) = (level.to_string(), t.does, t.does_not);
                let _ = writeln!(out, "{level:<11} {:>5} {failed} {:>10} {does:>5} {not:>9}", t.pass, t.not_shown);
            }
        }
        if driver > 0 {
            let _ = writeln!(
                out,
                "{}",
                paint(Style::Faint, &format!("{driver} clauses bind the driver, and no device shows them."))
            );
        }
    }

    fn silent(&self, out: &mut String, paint: &impl Fn(Style, &str) -> String) {
        if self.columns.iter().all(|column| column.silent.is_empty()) {
            return;
        }
        let _ = writeln!(out, "\n{}", paint(Style::Strong, "Where the specification is silent"));
        for (at, point) in SILENT.iter().enumerate() {
            let _ = writeln!(out, "{:<12} {}", point.section, point.id);
            out.push_str(&paint(Style::Faint, &wrapped(15, point.asks)));
            for (index, column) in self.columns.iter().enumerate() {
                let who = if self.columns.len() > 1 { format!("{}: ", letter(index)) } else { String::new() };
                match &column.silent[at] {
                    Ok(does) => out.push_str(&wrapped(15, &format!("{who}{does}"))),
                    Err(why) => out.push_str(&paint(Style::Faint, &wrapped(15, &format!("{who}not shown: {why}")))),
                }
            }
        }
    }
}

/// A clause in full.
pub(super) fn whole(clause: &Clause) -> String {
    let mut out = wrapped(2, clause.says);
    if !clause.shown.is_empty() {
        out.push_str(&wrapped(2, clause.shown));
    }
    out
}

impl Clause {
    /// The clause in full, as text.
    #[must_use]
    pub fn text(&self, paint: impl Fn(Style, &str) -> String) -> String {
        let binds = match self.binds {
            Binds::Device => "the device",
            Binds::Driver => "the driver",
        };
        let head = paint(Style::Strong, self.id);
        format!("{head}\n  {}, {}; {}, binds {binds}\n{}", self.section, self.place, self.level, whole(self))
    }
}
