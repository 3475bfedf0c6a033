//! What came out, clause by clause: as text, as JSON, and as a page of several devices side by side.

mod page;
mod text;

use serde::Serialize;

use crate::{
    Device, Fresh,
    bytes::feature_names,
    clause::{Binds, CLAUSES, Clause, Level},
    suite::{self, SILENT, Verdict},
};

pub use text::Style;

/// How a clause stands with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It could not be seen.
    NotShown,
    /// A MAY that is made use of.
    Does,
    /// A MAY that is not.
    DoesNot,
    /// It binds the driver: no device can keep it or break it.
    BindsTheDriver,
}

impl Outcome {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Pass, Self::Fail, Self::NotShown, Self::Does, Self::DoesNot, Self::BindsTheDriver];

    /// In words.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::NotShown => "not shown",
            Self::Does => "does",
            Self::DoesNot => "does not",
            Self::BindsTheDriver => "driver",
        }
    }
}

/// A clause on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// How it stands.
    pub outcome: Outcome,
    /// What was seen, or why nothing was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub saw: String,
    /// What the clause asks for, where that was not it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wanted: String,
}

impl Seen {
    fn new(verdict: Option<Verdict>) -> Self {
        let (outcome, saw, wanted) = match verdict {
            None => (Outcome::BindsTheDriver, String::new(), String::new()),
            Some(Verdict::Pass) => (Outcome::Pass, String::new(), String::new()),
            Some(Verdict::Fail { saw, wanted }) => (Outcome::Fail, saw, wanted),
            Some(Verdict::NotShown { why }) => (Outcome::NotShown, why, String::new()),
            Some(Verdict::Does { what }) => (Outcome::Does, what, String::new()),
            Some(Verdict::DoesNot { what }) => (Outcome::DoesNot, what, String::new()),
        };
        Self { outcome, saw, wanted }
    }
    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        if self.wanted.is_empty() { self.saw.clone() } else { format!("{} (wanted: {})", self.saw, self.wanted) }
    }
}

/// A device and all that was seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Which device: a short name, by which the report speaks of it.
    pub device: String,
    /// What it is, in full.
    pub what: String,
    /// The features it offers, as far as the specification has them.
    pub offers: Vec<String>,
    /// In the order of the report's clauses.
    #[serde(skip)]
    pub seen: Vec<Seen>,
    /// In the order of [`SILENT`]: what it does, or why that is not known. Empty if it was not asked.
    #[serde(skip)]
    pub silent: Vec<Result<String, String>>,
}

impl Column {
    /// Runs the tests of those clauses on a device, and looks at the silent points if asked to. What it says it is is its short name too.
    pub fn of(device: &mut dyn Device, clauses: &[&'static Clause], silent: bool) -> Self {
        // What is offered is known after a start; a device that does not start says so at each clause.
        let _ = device.fresh(Fresh { accept: u64::MAX });
        let offers = feature_names(device.offered() & 0xff_ffff);
        let seen = clauses.iter().map(|clause| Seen::new(suite::run(clause, device))).collect();
        let silent = if silent { SILENT.iter().map(|it| it.look(device)).collect() } else { Vec::new() };
        Self { device: device.name(), what: device.name(), offers, seen, silent }
    }
    /// The same under another short name.
    #[must_use]
    pub fn named(self, device: &str) -> Self {
        Self { device: device.to_owned(), ..self }
    }
    /// Several configurations of one device as one: a clause fails if it does with any of them, and is shown if any shows it.
    #[must_use]
    pub fn merged(device: String, parts: &[Self]) -> Self {
        let Some(first) = parts.first() else {
            return Self { device, what: String::new(), offers: Vec::new(), seen: Vec::new(), silent: Vec::new() };
        };
        let mut offers: Vec<String> = Vec::new();
        for feature in parts.iter().flat_map(|part| &part.offers) {
            if !offers.contains(feature) {
                offers.push(feature.clone());
            }
        }
        let clause = |at: usize| {
            let with = |outcome| parts.iter().find(|part| part.seen[at].outcome == outcome);
            let found = [Outcome::Fail, Outcome::Pass, Outcome::Does, Outcome::DoesNot].into_iter().find_map(with);
            let part = found.unwrap_or(first);
            let mut seen = part.seen[at].clone();
            if seen.outcome == Outcome::Fail {
                seen.saw = format!("{}: {}", part.device, seen.saw);
            }
            if let (Outcome::Does, Some(other)) = (seen.outcome, with(Outcome::DoesNot)) {
                seen.saw = format!("{}: {}; {}: {}", part.device, seen.saw, other.device, other.seen[at].saw);
            }
            seen
        };
        let silent = |at: usize| {
            let shown = parts.iter().find(|part| part.silent[at].is_ok());
            shown.unwrap_or(first).silent[at].clone()
        };
        let names: Vec<_> = parts.iter().map(|part| part.device.as_str()).collect();
        Self {
            device,
            what: format!("what {} show together", names.join(", ")),
            offers,
            seen: (0..first.seen.len()).map(clause).collect(),
            silent: (0..first.silent.len()).map(silent).collect(),
        }
    }
}

/// How many of a level came out how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Total {
    /// [`Outcome::Pass`].
    pub pass: usize,
    /// [`Outcome::Fail`].
    pub fail: usize,
    /// [`Outcome::NotShown`].
    pub not_shown: usize,
    /// [`Outcome::Does`].
    pub does: usize,
    /// [`Outcome::DoesNot`].
    pub does_not: usize,
}

/// Devices, clause by clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The clauses that were looked at.
    pub clauses: Vec<&'static Clause>,
    /// The devices.
    pub columns: Vec<Column>,
}

/// The clauses of these names and of that level; all without either.
#[must_use]
pub fn select(ids: &[String], level: impl Fn(Level) -> bool) -> Vec<&'static Clause> {
    CLAUSES.iter().filter(|c| (ids.is_empty() || ids.iter().any(|id| id == c.id)) && level(c.level)).collect()
}

impl Report {
    /// Whether nothing failed.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.columns.iter().all(|column| column.seen.iter().all(|seen| seen.outcome != Outcome::Fail))
    }
    /// How many of that level came out how, on that device.
    #[must_use]
    pub fn total(&self, column: &Column, level: Level) -> Total {
        let mut total = Total::default();
        for (clause, seen) in self.clauses.iter().zip(&column.seen).filter(|(c, _)| c.level == level) {
            debug_assert_eq!(clause.binds == Binds::Driver, seen.outcome == Outcome::BindsTheDriver);
            match seen.outcome {
                Outcome::Pass => total.pass += 1,
                Outcome::Fail => total.fail += 1,
                Outcome::NotShown => total.not_shown += 1,
                Outcome::Does => total.does += 1,
                Outcome::DoesNot => total.does_not += 1,
                Outcome::BindsTheDriver => {}
            }
        }
        total
    }
    fn levels(&self) -> impl Iterator<Item = Level> {
        let is_there = |level: &Level| self.clauses.iter().any(|c| c.level == *level && c.binds == Binds::Device);
        Level::ALL.into_iter().filter(is_there)
    }
    /// As a value for JSON.
    #[must_use]
    pub fn value(&self) -> impl Serialize + use<> {
        let totals = |column: &Column| {
            self.levels().map(|level| LevelTotal { level, total: self.total(column, level) }).collect()
        };
        let device = |column: &Column| DeviceValue { column: column.clone(), totals: totals(column) };
        let seen = |at: usize| {
            self.columns.iter().map(move |c| OnDevice { device: c.device.clone(), seen: c.seen[at].clone() }).collect()
        };
        let asked = self.columns.iter().any(|c| !c.silent.is_empty());
        let silent = |at: usize| {
            let does = |c: &Column| match &c.silent[at] {
                Ok(does) => Silent { device: c.device.clone(), does: Some(does.clone()), not_shown: None },
                Err(why) => Silent { device: c.device.clone(), does: None, not_shown: Some(why.clone()) },
            };
            self.columns.iter().filter(|c| !c.silent.is_empty()).map(does).collect()
        };
        Value {
            specification: SPECIFICATION,
            holds: self.holds(),
            devices: self.columns.iter().map(device).collect(),
            clauses: self.clauses.iter().enumerate().map(|(at, &clause)| Row { clause, seen: seen(at) }).collect(),
            silent: SILENT
                .iter()
                .enumerate()
                .filter(|_| asked)
                .map(|(at, point)| Point { point, seen: silent(at) })
                .collect(),
        }
    }
}

/// What is held against what.
pub const SPECIFICATION: &str = "virtio 1.4, 5.13 (oasis-tcs/virtio-spec 15f488c)";

#[derive(Serialize)]
struct Value {
    specification: &'static str,
    holds: bool,
    devices: Vec<DeviceValue>,
    clauses: Vec<Row>,
    silent: Vec<Point>,
}

#[derive(Serialize)]
struct DeviceValue {
    #[serde(flatten)]
    column: Column,
    totals: Vec<LevelTotal>,
}

#[derive(Serialize)]
struct LevelTotal {
    level: Level,
    #[serde(flatten)]
    total: Total,
}

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    clause: &'static Clause,
    seen: Vec<OnDevice>,
}

#[derive(Serialize)]
struct OnDevice {
    device: String,
    #[serde(flatten)]
    seen: Seen,
}

#[derive(Serialize)]
struct Point {
    #[serde(flatten)]
    point: &'static suite::Silent,
    seen: Vec<Silent>,
}

#[derive(Serialize)]
struct Silent {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    does: Option<String>,
    #[serde(rename = "not-shown", skip_serializing_if = "Option::is_none")]
    not_shown: Option<String>,
}
