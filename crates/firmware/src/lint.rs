//! Contradictions in a description of a machine: on coherency, and on which IOMMU translates what.
//!
//! The rules are rows of [`RULES`]; [`check`] asks each of them whose parts are there. What a guest makes of it is what
//! Linux does, as the source of the rule says.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};

use crate::aml::Namespace;
use crate::dmar::Dmar;
use crate::dt::{Entry, Map, Tree, Wiring};
use crate::iort::{Iort, Kind, Node as IortNode};
use crate::madt::Madt;
use crate::mcfg::Ecam;
use crate::viot::{Node as ViotNode, Viot};

mod rules;

pub use rules::RULES;

/// A description of a machine, as far as it was found.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// IORT.
    pub iort: Option<Iort>,
    /// MCFG.
    pub mcfg: Option<Vec<Ecam>>,
    /// VIOT.
    pub viot: Option<Viot>,
    /// MADT.
    pub madt: Option<Madt>,
    /// DMAR.
    pub dmar: Option<Dmar>,
    /// The devices of the DSDT and SSDTs.
    pub names: Option<Namespace>,
    /// The device tree.
    pub tree: Option<(Tree, Wiring)>,
    /// A table that only machines of Arm have is there (GTDT).
    pub arm: bool,
    /// What is there and cannot be read: which table or file, and why.
    pub malformed: Vec<(String, String)>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A guest that believes it does not work, or its data is wrong.
    Error,
    /// Something is lost: speed, a feature, or it works only on some hosts.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// All, the worst first.
    pub const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Note];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A part of a description that a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Part {
    /// IORT.
    #[serde(rename = "IORT")]
    Iort,
    /// MCFG.
    #[serde(rename = "MCFG")]
    Mcfg,
    /// VIOT.
    #[serde(rename = "VIOT")]
    Viot,
    /// MADT.
    #[serde(rename = "APIC")]
    Madt,
    /// The DSDT and SSDTs.
    #[serde(rename = "DSDT")]
    Names,
    /// The device tree.
    #[serde(rename = "device-tree")]
    Tree,
}

impl Part {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iort => "IORT",
            Self::Mcfg => "MCFG",
            Self::Viot => "VIOT",
            Self::Madt => "APIC",
            Self::Names => "DSDT",
            Self::Tree => "device tree",
        }
    }
}

/// A rule.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rule {
    /// Its name: `cca-missing`.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it finds.
    pub finds: &'static str,
    /// What follows for the guest.
    pub follows: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// Where it comes from.
    pub source: &'static [&'static str],
    /// What it looks at: without one of these it cannot be asked.
    pub needs: &'static [Part],
    #[serde(skip)]
    check: fn(&Description) -> Vec<Place>,
}

/// Where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    at: String,
    found: String,
}

/// A rule that is broken.
#[derive(Debug, Clone, Serialize)]
pub struct Complaint {
    /// The rule.
    #[serde(flatten, serialize_with = "short")]
    pub rule: &'static Rule,
    /// Where: a path, a table with an offset.
    pub at: String,
    /// What is there, with its values.
    pub found: String,
}

fn short<S: Serializer>(rule: &&'static Rule, to: S) -> Result<S::Ok, S::Error> {
    rule.serialize(to)
}

impl Description {
    /// Whether a part is there.
    #[must_use]
    pub const fn has(&self, part: Part) -> bool {
        match part {
            Part::Iort => self.iort.is_some(),
            Part::Mcfg => self.mcfg.is_some(),
            Part::Viot => self.viot.is_some(),
            Part::Madt => self.madt.is_some(),
            Part::Names => self.names.is_some(),
            Part::Tree => self.tree.is_some(),
        }
    }
    /// Whether it describes a machine of Arm, as far as it says so: a GIC, an IORT, a GTDT.
    #[must_use]
    pub fn is_arm(&self) -> bool {
        let tree = self.tree.as_ref().is_some_and(|(_, wiring)| wiring.arm);
        self.arm || tree || self.iort.is_some() || self.madt.as_ref().is_some_and(|madt| madt.gic)
    }
}

impl Rule {
    /// Whether all it looks at is there.
    #[must_use]
    pub fn applies(&self, description: &Description) -> bool {
        self.needs.iter().all(|part| description.has(*part))
    }
}

/// Every rule that is broken, the worst first.
#[must_use]
pub fn check(description: &Description) -> Vec<Complaint> {
    let mut out = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.applies(description)) {
        let places = (rule.check)(description);
        out.extend(places.into_iter().map(|Place { at, found }| Complaint { rule, at, found }));
    }
    out.sort_by_key(|complaint| complaint.rule.severity);
    out
}

/// The rule of a name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
