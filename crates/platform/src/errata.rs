//! Errata and quirks: what is known of machines that do not do with a memory type what the architecture says.
//!
//! Whether Normal-NC works is a property of a SoC that no register tells. What people found out, mostly by losing data, is
//! written down in mailing lists, in `Kconfig` and in trackers. It is collected in `errata.toml`, one entry for each defect,
//! with where it can be read and how sure that is ([`Checked`]). An entry says
//!
//! * what breaks, and what is done about it, in words;
//! * the fields of [`Platform`] it sets ([`Effect`]), or why `Platform` has no field for it;
//! * which machines have it ([`Match`]): by `MIDR_EL1`, by the PCI id of a root port or host bridge, by the `compatible` of the
//!   SoC in the device tree; or why no id can be given. Such an entry can still be [`named`].
//!
//! That nothing matches a machine says nothing about the machine: most defects are not written down anywhere.
//!
//! ```
//! use platform::errata::{self, Midr};
//! use platform::{NcDefect, Platform};
//!
//! // Ampere Altra: the CPU is any Neoverse N1, so it is the root complex that tells.
//! let found = errata::matching(None, &["1def:e100".parse().unwrap()], &[]);
//! assert_eq!(found[0].name, "altra-pcie65");
//! assert_eq!(found[0].apply(Platform::USUAL).normal_nc, NcDefect::Holes);
//!
//! // Cortex-A77 r1p0 has erratum 1508412, r1p1 has not.
//! let names = |midr| errata::matching(Some(Midr(midr)), &[], &[]).iter().map(|e| e.name.as_str()).collect::<Vec<_>>();
//! assert_eq!(names(0x411f_d0d0), ["cortex-a77-1508412"]);
//! assert!(names(0x411f_d0d1).is_empty());
//! assert_eq!(Midr(0x411f_d0d0).to_string(), "Arm Cortex-A77 r1p0");
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Errors, NcDefect, NoSnoop, Platform};

/// What the file says, read and checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    implementer: Vec<Implementer>,
    erratum: Vec<Erratum>,
}

/// Who makes CPUs, and which.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Implementer {
    code: u8,
    name: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    part: u16,
    name: String,
}

/// One defect of one kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Erratum {
    /// As a scenario names it: `altra-pcie65`.
    pub name: String,
    /// The machine, and what is wrong with it, in a line.
    pub title: String,
    /// What breaks.
    #[serde(deserialize_with = "prose")]
    pub breaks: String,
    /// The fields of [`Platform`] it sets.
    #[serde(default)]
    pub effect: Effect,
    /// What more there is to know: what [`Platform`] cannot express, what is doubtful.
    #[serde(default, deserialize_with = "some_prose", skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What is done about it.
    #[serde(deserialize_with = "prose")]
    pub workaround: String,
    /// Where that can be read.
    pub source: Vec<String>,
    /// How far it was read there.
    pub checked: Checked,
    /// Which machines have it.
    #[serde(rename = "match", default, skip_serializing_if = "Match::is_empty")]
    pub matches: Match,
    /// Why no machine can be told by an id, where that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_id: Option<String>,
}

/// A text that is broken into lines in the file, in one line.
fn prose<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn some_prose<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    prose(deserializer).map(Some)
}

/// What an erratum makes of a [`Platform`]. A field that is not there is not touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Effect {
    /// What comes of failing accesses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containment: Option<Failing>,
    /// What Normal-NC does wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normal_nc: Option<NcDefect>,
    /// Whether DMA snoops the caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coherent: Option<bool>,
    /// Whether No Snoop bypasses them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_snoop: Option<NoSnoop>,
}

/// What comes of failing accesses, by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Failing {
    /// By a Device type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Errors>,
    /// By a Normal type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normal: Option<Errors>,
}

/// How far an entry was checked against its sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// Who found it, or who made the machine, wrote it, and that was read.
    Read,
    /// Somebody else reports it: users of the machine, the press.
    SecondHand,
    /// It is said, and nothing was found to check it against.
    Unverified,
}

impl Checked {
    /// As the file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::SecondHand => "second-hand",
            Self::Unverified => "unverified",
        }
    }
}

/// Which machines have an erratum: those that any of these describes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Match {
    /// By CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpu: Vec<CpuMatch>,
    /// By a root port, root complex or host bridge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub root_port: Vec<PciId>,
    /// By a `compatible` string of the device tree's root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub soc: Vec<String>,
}

impl Match {
    /// Whether it describes no machine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpu.is_empty() && self.root_port.is_empty() && self.soc.is_empty()
    }
}

/// A part, and its revisions from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CpuMatch {
    /// `MIDR_EL1.Implementer`.
    pub implementer: u8,
    /// `MIDR_EL1.PartNum`.
    pub part: u16,
    /// The first with the defect.
    #[serde(default = "Revision::first", skip_serializing_if = "Revision::is_first")]
    pub from: Revision,
    /// The last.
    #[serde(default = "Revision::last", skip_serializing_if = "Revision::is_last")]
    pub to: Revision,
}

impl CpuMatch {
    /// Whether it is this CPU. As `is_midr_in_range` of Linux: the implementer, architecture and part are equal, and the
    /// variant and revision lie in the range. The architecture of an A64 CPU is `0xF`.
    #[must_use]
    pub fn is(&self, midr: Midr) -> bool {
        midr.implementer() == self.implementer
            && midr.architecture() == Midr::ID_REGISTERS
            && midr.part() == self.part
            && (self.from..=self.to).contains(&midr.rnpn())
    }
}

impl fmt::Display for CpuMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cpu(f, self.implementer, self.part)?;
        match (self.from == Revision::first(), self.to == Revision::last()) {
            (true, true) => Ok(()),
            (true, false) => write!(f, " up to {}", self.to),
            (false, true) => write!(f, " from {}", self.from),
            (false, false) if self.from == self.to => write!(f, " {}", self.to),
            (false, false) => write!(f, " {} to {}", self.from, self.to),
        }
    }
}

/// The number in `MIDR_EL1`, the Main ID Register (DDI 0487 D24.2). Bits 63 to 32 of the register are RES0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Midr(pub u32);

impl Midr {
    /// The architecture field that says "look at the ID registers": what every A64 CPU has.
    pub const ID_REGISTERS: u8 = 0xF;

    /// Bits 31 to 24: who made it.
    #[must_use]
    pub const fn implementer(self) -> u8 {
        self.0.to_be_bytes()[0]
    }
    /// Bits 23 to 20: the `n` of `rnpm`.
    #[must_use]
    pub const fn variant(self) -> u8 {
        self.0.to_be_bytes()[1] >> 4
    }
    /// Bits 19 to 16.
    #[must_use]
    pub const fn architecture(self) -> u8 {
        self.0.to_be_bytes()[1] & 0xF
    }
    /// Bits 15 to 4.
    #[must_use]
    pub const fn part(self) -> u16 {
        let [_, _, high, low] = self.0.to_be_bytes();
        u16::from_be_bytes([high, low]) >> 4
    }
    /// Bits 3 to 0: the `m` of `rnpm`.
    #[must_use]
    pub const fn revision(self) -> u8 {
        self.0.to_be_bytes()[3] & 0xF
    }
    /// Variant and revision: `r1p0`.
    #[must_use]
    pub const fn rnpn(self) -> Revision {
        Revision { variant: self.variant(), revision: self.revision() }
    }
}

/// As people write it, where the table knows the part: "Arm Neoverse N1 r3p1".
impl fmt::Display for Midr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cpu(f, self.implementer(), self.part())?;
        write!(f, " {}", self.rnpn())
    }
}

/// Hexadecimal with `0x`, as the kernel prints it, or decimal.
impl FromStr for Midr {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = |why| BadId { text: text.into(), why };
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None => (text, 10),
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(bad("MIDR_EL1 is a number like 0x413fd0c1"));
        }
        let value = u64::from_str_radix(digits, radix).map_err(|_| bad("it has more than 64 bits"))?;
        u32::try_from(value).map(Self).map_err(|_| bad("bits 63 to 32 of MIDR_EL1 are zero"))
    }
}

impl Serialize for Midr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#010x}", self.0))
    }
}

/// A variant and a revision, `r1p0`, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// `r`.
    pub variant: u8,
    /// `p`.
    pub revision: u8,
}

impl Revision {
    const fn first() -> Self {
        Self { variant: 0, revision: 0 }
    }
    const fn last() -> Self {
        Self { variant: 15, revision: 15 }
    }
    fn is_first(&self) -> bool {
        *self == Self::first()
    }
    fn is_last(&self) -> bool {
        *self == Self::last()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}p{}", self.variant, self.revision)
    }
}

impl FromStr for Revision {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let four_bits = |digits: &str| {
            let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse().ok().filter(|&n| plain && n <= 15)
        };
        text.strip_prefix('r')
            .and_then(|rest| rest.split_once('p'))
            .and_then(|(r, p)| Some(Self { variant: four_bits(r)?, revision: four_bits(p)? }))
            .ok_or_else(|| BadId { text: text.into(), why: "a revision looks like r1p0, each up to 15" })
    }
}

/// A vendor and a device of PCI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciId {
    /// Who made it.
    pub vendor: u16,
    /// What it is.
    pub device: u16,
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl FromStr for PciId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let four = |digits: &str| {
            let hex = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            u16::from_str_radix(digits, 16).ok().filter(|_| hex)
        };
        text.split_once(':')
            .and_then(|(vendor, device)| Some(Self { vendor: four(vendor)?, device: four(device)? }))
            .ok_or_else(|| BadId { text: text.into(), why: "a PCI id is two times four hexadecimal digits: 1def:e100" })
    }
}

/// Serialised as people write them.
macro_rules! as_text {
    ($($ty:ty),+) => {$(
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
as_text!(PciId, Revision);

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadId {
    text: String,
    why: &'static str,
}

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not that: {}", self.text, self.why)
    }
}

impl std::error::Error for BadId {}

/// Why a text is no table of errata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTable(String);

impl fmt::Display for BadTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for BadTable {}

impl Erratum {
    /// The platform with this defect. It is never better than it was: what fails worse stays, and of two defects of Normal-NC
    /// that say different things the result is the one that contains both, [`NcDefect::Fails`].
    #[must_use]
    pub fn apply(&self, platform: Platform) -> Platform {
        let mut p = platform;
        let Effect { containment, normal_nc, coherent, no_snoop } = self.effect;
        let Failing { device, normal } = containment.unwrap_or_default();
        p.containment.device = p.containment.device.max(device.unwrap_or_default());
        p.containment.normal = p.containment.normal.max(normal.unwrap_or_default());
        p.normal_nc = both(p.normal_nc, normal_nc.unwrap_or_default());
        p.coherent &= coherent.unwrap_or(true);
        if no_snoop == Some(NoSnoop::Possible) {
            p.no_snoop = NoSnoop::Possible;
        }
        p
    }
}

/// The least defect that does whatever either does wrong.
fn both(a: NcDefect, b: NcDefect) -> NcDefect {
    match (a, b) {
        (NcDefect::None, it) | (it, NcDefect::None) => it,
        (a, b) if a == b => a,
        _ => NcDefect::Fails,
    }
}

const FILE: &str = include_str!("../errata.toml");

/// The table, read once.
///
/// # Errors
/// When `errata.toml` is broken, which a test of this crate excludes.
pub fn table() -> Result<&'static Table, &'static BadTable> {
    static TABLE: OnceLock<Result<Table, BadTable>> = OnceLock::new();
    TABLE.get_or_init(|| parse(FILE)).as_ref()
}

/// All entries, in the order of the file.
#[must_use]
pub fn all() -> &'static [Erratum] {
    table().map_or(&[], |t| &t.erratum)
}

/// By name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Erratum> {
    all().iter().find(|e| e.name == name)
}

/// Those of a machine: of its CPU, of any of its root ports, of any `compatible` of its device tree's root.
#[must_use]
pub fn matching(midr: Option<Midr>, root_ports: &[PciId], compatible: &[&str]) -> Vec<&'static Erratum> {
    all()
        .iter()
        .filter(|e| {
            e.matches.cpu.iter().any(|cpu| midr.is_some_and(|midr| cpu.is(midr)))
                || e.matches.root_port.iter().any(|id| root_ports.contains(id))
                || e.matches.soc.iter().any(|soc| compatible.contains(&soc.as_str()))
        })
        .collect()
}

fn write_cpu(f: &mut fmt::Formatter<'_>, code: u8, part: u16) -> fmt::Result {
    let implementers = table().map_or(&[][..], |t| &t.implementer);
    let Some(by) = implementers.iter().find(|i| i.code == code) else {
        return write!(f, "implementer {code:#04x} part {part:#05x}");
    };
    match by.parts.iter().find(|p| p.part == part) {
        Some(it) => write!(f, "{} {}", by.name, it.name),
        None => write!(f, "{} part {part:#05x}", by.name),
    }
}

/// Reads a table. Strict: a key it does not know, a name given twice, an entry without a source is an error.
///
/// # Errors
/// Says what is wrong, and in which entry.
pub fn parse(text: &str) -> Result<Table, BadTable> {
    let table: Table = toml::from_str(text).map_err(|e| BadTable(e.to_string()))?;
    table.check().map_err(BadTable)?;
    Ok(table)
}

impl Table {
    /// The entries.
    #[must_use]
    pub fn errata(&self) -> &[Erratum] {
        &self.erratum
    }

    fn check(&self) -> Result<(), String> {
        let mut codes = BTreeSet::new();
        for by in &self.implementer {
            let mut parts = BTreeSet::new();
            if !codes.insert(by.code) {
                return Err(format!("implementer {:#04x} is given twice", by.code));
            }
            for it in &by.parts {
                if it.part > 0xFFF || !parts.insert(it.part) {
                    return Err(format!("{} part {:#05x} is given twice, or has more than 12 bits", by.name, it.part));
                }
            }
        }
        let mut names = BTreeSet::new();
        for e in &self.erratum {
            e.check().map_err(|why| format!("erratum `{}`: {why}", e.name))?;
            if !names.insert(&e.name) {
                return Err(format!("erratum `{}` is given twice", e.name));
            }
        }
        Ok(())
    }
}

impl Erratum {
    fn check(&self) -> Result<(), &'static str> {
        let kebab = |name: &str| {
            name.split('-')
                .all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
        };
        if !kebab(&self.name) {
            return Err("a name is lower case words and hyphens");
        }
        let texts = [&self.title, &self.breaks, &self.workaround];
        let more = self.source.iter().chain(&self.note).chain(&self.no_id).chain(&self.matches.soc);
        if texts.into_iter().chain(more).any(|text| text.trim().is_empty()) {
            return Err("an empty text");
        }
        if self.source.is_empty() {
            return Err("no source");
        }
        if self.matches.is_empty() != self.no_id.is_some() {
            return Err("either `match` says which machines have it, or `no-id` why nobody can say");
        }
        if self.matches.cpu.iter().any(|cpu| cpu.part > 0xFFF || cpu.from > cpu.to) {
            return Err("a part has 12 bits, and `from` is not after `to`");
        }
        self.effect.check(self.note.is_some())
    }
}

impl Effect {
    /// Whether it sets nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// An effect says what is worse than [`Platform::USUAL`], and nothing else.
    fn check(&self, explained: bool) -> Result<(), &'static str> {
        let failing = self.containment.map(|f| [f.device, f.normal]);
        if failing == Some([None, None]) || failing.into_iter().flatten().any(|e| e == Some(Errors::AllOnes)) {
            return Err("`containment` says nothing that is worse than all-ones");
        }
        if self.normal_nc == Some(NcDefect::None)
            || self.coherent == Some(true)
            || self.no_snoop == Some(NoSnoop::Never)
        {
            return Err("an effect that is no defect");
        }
        if self.is_empty() && !explained {
            return Err("without an effect a `note` says what Platform cannot express");
        }
        Ok(())
    }
}
