//! The answer to "what do these layers come to", the same shape for every architecture but Arm, whose two stages have more to
//! say.

use std::fmt::Write as _;
use std::process::ExitCode;

use anstyle::Style;
use memtype::MemoryType;
use memtype::cite::{Checked, Cite};
use memtype::guarantee::{Guarantee, Question, Standing};
use serde::Serialize;

use crate::cmd::Result;
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

/// A layer of the question, in the order in which it applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Layer {
    /// Who says it: `guest PAT`, `EPT`.
    pub(super) name: &'static str,
    /// What it says: `WC`.
    pub(super) says: String,
    /// The bits, or what was assumed.
    pub(super) from: String,
}

/// A rule that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Because {
    /// The rule, as a sentence.
    pub(super) says: String,
    /// Where it comes from.
    pub(super) source: String,
    /// `read`, `second-hand` or `unverified`.
    pub(super) checked: &'static str,
}

impl Because {
    pub(super) fn new(says: impl Into<String>, cite: Cite) -> Self {
        Self { says: says.into(), source: cite.to_string(), checked: cite.checked.short() }
    }
}

/// What is known of the result, a question each.
#[derive(Debug, Serialize)]
pub(crate) struct Known {
    question: &'static str,
    standing: Option<&'static str>,
    by: &'static [&'static str],
    note: &'static str,
    source: Option<String>,
    checked: Option<&'static str>,
}

/// What is known of a memory type, as JSON has it; `standing` is null where the architecture has no such operation.
pub(crate) fn known(ty: MemoryType) -> Vec<Known> {
    let known = |q: Question| {
        let g = ty.guarantee(q);
        Known {
            question: q.name(),
            standing: g.map(|g| g.standing.name()),
            by: g.map_or(&[], |g| g.by),
            note: g.map_or("", |g| g.note),
            source: g.map(|g| g.cite.to_string()),
            checked: g.map(|g| g.cite.checked.short()),
        }
    };
    Question::ALL.map(known).into()
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// `x86`.
    pub(super) arch: &'static str,
    /// The layers, in the order in which they apply.
    pub(super) layers: Vec<Layer>,
    /// The result, as in files.
    #[serde(rename = "type")]
    pub(super) name: &'static str,
    /// The result for people.
    #[serde(skip)]
    pub(super) shown: String,
    /// The result as one of the vocabulary, to say what is known of it.
    #[serde(skip)]
    pub(super) ty: Option<MemoryType>,
    /// The rules.
    pub(super) because: Vec<Because>,
    /// What else is to be said.
    pub(super) notes: Vec<String>,
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    answer: &'a Answer,
    guarantees: Vec<Known>,
}

impl Answer {
    /// Prints it.
    pub(super) fn print(&self, json: bool) -> Result {
        if json {
            show::json(&Whole { answer: self, guarantees: self.ty.map(known).unwrap_or_default() })?;
        } else {
            show::text(&self.picture())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn picture(&self) -> String {
        let name = self.layers.iter().map(|l| l.name.chars().count()).max().unwrap_or(0).max(6);
        let says =
            self.layers.iter().map(|l| l.says.chars().count()).max().unwrap_or(0).max(self.shown.chars().count());
        let mut out = String::new();
        for layer in &self.layers {
            let line = format!("  {:<name$}  {:<says$}", layer.name, layer.says);
            let _ = if layer.from.is_empty() {
                writeln!(out, "{}", line.trim_end())
            } else {
                writeln!(out, "{line}  {}", paint(FAINT, &layer.from))
            };
        }
        let style = self.ty.map_or(Style::new(), show::colour_of).bold();
        let _ =
            writeln!(out, "  {:name$}  {}\n  {:<name$}  {}", "", "─".repeat(says), "result", paint(style, &self.shown));
        if let Some(ty) = self.ty {
            out.push('\n');
            out.push_str(&guarantees(ty));
        }
        let _ = writeln!(out, "\n{}", paint(STRONG, "because"));
        for rule in &self.because {
            out.push_str(&show::wrapped("  - ", &format!("{} [{}]", rule.says, rule.source)));
        }
        out.push_str(&show::list("notes", &self.notes));
        out
    }
}

/// How a standing is shown.
pub(crate) fn standing(g: Option<Guarantee>) -> (Style, &'static str) {
    match g.map(|g| g.standing) {
        Some(Standing::Guaranteed) => (GOOD, "guaranteed"),
        Some(Standing::Permitted) => (Style::new(), "permitted"),
        Some(Standing::Forbidden) => (BAD, "forbidden"),
        Some(Standing::ImplementationDefined) => (OPEN, "implementation-defined"),
        None => (FAINT, "no such operation"),
    }
}

/// What is known of a memory type, a line each.
pub(crate) fn guarantees(ty: MemoryType) -> String {
    let mut out = String::new();
    for q in Question::ALL {
        let g = ty.guarantee(q);
        let (style, stands) = standing(g);
        let mut rest = g.map_or_else(String::new, |g| {
            let by = if g.by.is_empty() { String::new() } else { format!("{}; ", g.by.join(", ")) };
            let note = if g.note.is_empty() { String::new() } else { format!("{}; ", g.note) };
            format!("{by}{note}{}", g.cite)
        });
        if g.is_some_and(|g| g.cite.checked == Checked::Unverified) {
            rest.insert_str(0, "? ");
        }
        // The padding of `wrapped` counts characters, so the colours come after.
        let first = format!("  {:<17}  {stands:<22}  ", q.name());
        let text = show::wrapped(&first, &rest);
        let painted = format!("  {:<17}  {:<22}  ", q.name(), paint(style, stands));
        out.push_str(painted.trim_end_matches(if rest.is_empty() { ' ' } else { '\0' }));
        out.push_str(text.get(first.len()..).unwrap_or("\n"));
    }
    out
}

/// `KEY=VALUE` terms, each at most once.
pub(super) struct Terms<'a> {
    arch: &'static str,
    keys: &'static [&'static str],
    given: Vec<(&'a str, &'a str)>,
}

impl<'a> Terms<'a> {
    /// Takes the terms apart.
    ///
    /// # Errors
    /// A term without `=`, a key that is none of `keys`, or one given twice.
    pub(super) fn new(
        arch: &'static str,
        keys: &'static [&'static str],
        terms: &'a [String],
    ) -> std::result::Result<Self, String> {
        let mut given: Vec<(&str, &str)> = Vec::new();
        for term in terms {
            let Some((key, value)) = term.split_once('=') else {
                return Err(format!("{arch}: `{term}` is no LAYER=TYPE\nlayers: {}", keys.join(", ")));
            };
            if !keys.contains(&key) {
                return Err(input::unknown(arch, key, keys));
            }
            if given.iter().any(|(k, _)| *k == key) {
                return Err(format!("{arch}: {key} is given twice"));
            }
            given.push((key, value));
        }
        Ok(Self { arch, keys, given })
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &'static str) -> Option<&'a str> {
        debug_assert!(self.keys.contains(&key));
        self.given.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// The value of a key, by a table of names.
    ///
    /// # Errors
    /// A value that is none of the names.
    pub(super) fn one_of<T: Copy>(
        &self,
        key: &'static str,
        names: &[(&'static str, T)],
    ) -> std::result::Result<Option<T>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let lower = value.to_ascii_lowercase();
        match names.iter().find(|(name, _)| *name == lower) {
            Some((_, it)) => Ok(Some(*it)),
            None => {
                let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
                Err(input::unknown(&format!("{}: {key}", self.arch), value, &names))
            }
        }
    }

    /// The value of a key that is 0 or 1.
    ///
    /// # Errors
    /// Another value.
    pub(super) fn flag(&self, key: &'static str) -> std::result::Result<Option<bool>, String> {
        self.one_of(key, &[("0", false), ("1", true)])
    }
}
