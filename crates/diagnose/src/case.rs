//! The table: what the file says, read and checked.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;

use platform::errata::Checked;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::errno::Errno;
use crate::here::Note;
use crate::pattern::Pattern;

/// A symptom with its cause and what to do about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Case {
    /// A short name: `stage2-alignment`.
    pub name: String,
    /// The symptom in a line.
    pub title: String,
    /// What it belongs to, for the list: `arm64`, `vfio`.
    pub area: String,
    /// Lines of a log or of a program that show it.
    #[serde(default, deserialize_with = "patterns", serialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Pattern>,
    /// Syndromes that show it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub esr: Vec<EsrIs>,
    /// Calls that fail with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// What people call it, in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// Why. `{name|else}` is what a line's pattern captured under this name, or else these words.
    #[serde(deserialize_with = "prose")]
    pub cause: String,
    /// What a host's facts say about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host: Vec<Note>,
    /// What to do, in this order.
    #[serde(deserialize_with = "proses")]
    pub remedy: Vec<String>,
    /// Where that can be read.
    pub source: Vec<String>,
    /// How far it was read there.
    pub checked: Checked,
    /// Symptoms as they are printed, or typed, which must find this case first.
    pub examples: Vec<String>,
}

/// An exception syndrome: what its fields are. A field that is not there may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EsrIs {
    /// Taken to EL1 or EL2; a syndrome of which that is not known matches both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub el: Option<u8>,
    /// EC, bits 31 to 26.
    pub ec: Vec<u8>,
    /// DFSC or IFSC, bits 5 to 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fsc: Vec<u8>,
    /// WnR, bit 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wnr: Option<bool>,
    /// ISV, bit 24.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isv: Option<bool>,
}

impl EsrIs {
    /// Whether a syndrome is such a one; how many fields say so.
    #[must_use]
    pub fn is(&self, esr: u64, el: Option<u8>) -> Option<usize> {
        let bit = |n: u32| esr >> n & 1 == 1;
        let ec = (esr >> 26 & 0x3f) as u8;
        let fsc = (esr & 0x3f) as u8;
        let is = self.ec.contains(&ec)
            && (self.fsc.is_empty() || self.fsc.contains(&fsc))
            && self.wnr.is_none_or(|wnr| wnr == bit(6))
            && self.isv.is_none_or(|isv| isv == bit(24))
            && (self.el.is_none() || el.is_none() || self.el == el);
        let given = [!self.fsc.is_empty(), self.wnr.is_some(), self.isv.is_some(), self.el.is_some() && el.is_some()];
        is.then(|| 1 + given.into_iter().filter(|it| *it).count())
    }
}

/// A call that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Call {
    /// With what.
    pub errno: Errno,
    /// Which: `KVM_RUN`, `mmap`. What is typed may have more at its end (`KVM_SET_USER_MEMORY_REGION2`).
    pub call: String,
}

/// A text that is broken into lines in the file, in one line.
fn prose<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(one_line(&String::deserialize(deserializer)?))
}
fn proses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Vec::<String>::deserialize(deserializer)?.iter().map(|text| one_line(text)).collect())
}
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| Pattern::new(text).map_err(serde::de::Error::custom)).collect()
}
fn texts<S: Serializer>(patterns: &[Pattern], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(patterns.iter().map(|p| &p.text))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

/// Why a table is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTable(String);

impl fmt::Display for BadTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for BadTable {}

/// All cases, in the order of the file; none if it is broken, which a test of this crate excludes.
#[must_use]
pub fn all() -> &'static [Case] {
    static TABLE: OnceLock<Vec<Case>> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("../symptoms.toml")).unwrap_or_default())
}

/// By name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Case> {
    all().iter().find(|case| case.name == name)
}

/// Reads a table. Strict: a key it does not know, a name given twice, a case without a symptom, an example or a source is an error.
///
/// # Errors
/// Says what is wrong, and in which case.
pub fn parse(text: &str) -> Result<Vec<Case>, BadTable> {
    let table: Table = toml::from_str(text).map_err(|e| BadTable(e.to_string()))?;
    let mut names = BTreeSet::new();
    for case in &table.case {
        case.check().map_err(|why| BadTable(format!("case `{}`: {why}", case.name)))?;
        if !names.insert(&case.name) {
            return Err(BadTable(format!("case `{}` is given twice", case.name)));
        }
    }
    Ok(table.case)
}

impl Case {
    fn check(&self) -> Result<(), String> {
        let blank = |texts: &[String]| texts.is_empty() || texts.iter().any(|text| text.trim().is_empty());
        if self.name.is_empty() || !self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err("its name has other than lower-case letters, digits and dashes".into());
        }
        if self.title.is_empty() || self.area.is_empty() || self.cause.is_empty() {
            return Err("it has no title, no area or no cause".into());
        }
        if self.lines.is_empty() && self.esr.is_empty() && self.calls.is_empty() && self.words.is_empty() {
            return Err("it has no symptom".into());
        }
        for (what, texts) in [("source", &self.source), ("example", &self.examples), ("remedy", &self.remedy)] {
            if blank(texts) {
                return Err(format!("it has no {what}, or an empty one"));
            }
        }
        if let Some(word) = self.words.iter().find(|w| **w != w.to_lowercase() || w.contains(char::is_whitespace)) {
            return Err(format!("`{word}` is not a word in lower case"));
        }
        if self.esr.iter().any(|esr| esr.ec.is_empty() || esr.ec.iter().chain(&esr.fsc).any(|n| *n > 0x3f)) {
            return Err("a syndrome without an EC, or with a code of more than six bits".into());
        }
        self.host.iter().try_for_each(Note::check)?;
        for text in self.remedy.iter().chain([&self.cause]) {
            crate::query::places(text)?;
        }
        Ok(())
    }
}
