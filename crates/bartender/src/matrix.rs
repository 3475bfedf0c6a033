//! The matrix: scenarios × policies × machines, as data. How it is printed is [`cmd::matrix`](crate::cmd::matrix)'s, the page
//! is [`page`](crate::page)'s.

use std::collections::BTreeMap;

use hyp::{Cpu, Facts, Policy};
use memtype::Attribute;
use model::Is;
use scenario::{Device, Scenario, Target};
use serde::Serialize;

use crate::suite::Case;
use crate::verdict::{Row, Verdict, answers};

/// The answers, the best first.
pub const ANSWERS: [Is; 4] = [Is::Yes, Is::Maybe, Is::No, Is::NotAsked];

/// An answer in one character.
#[must_use]
pub const fn glyph(is: Is) -> char {
    match is {
        Is::Yes => '✓',
        Is::Maybe => '~',
        Is::No => '✗',
        Is::NotAsked => '·',
    }
}

/// How often each answer was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Count {
    /// Yes.
    pub yes: usize,
    /// Maybe.
    pub maybe: usize,
    /// No.
    pub no: usize,
    /// Not asked; or the scenario could not be run.
    #[serde(rename = "not asked")]
    pub not_asked: usize,
}

impl Count {
    /// How often an answer was asked for.
    #[must_use]
    pub const fn asked(&self) -> usize {
        self.yes + self.maybe + self.no
    }
    /// How often this one was given.
    #[must_use]
    pub const fn of(&self, is: Is) -> usize {
        match is {
            Is::Yes => self.yes,
            Is::Maybe => self.maybe,
            Is::No => self.no,
            Is::NotAsked => self.not_asked,
        }
    }
}

/// What part of a BAR becomes under a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapped {
    /// Which part: `gpu.2`, `gpu.2+0x10000..0x20000`.
    pub place: String,
    /// The host's mapping.
    pub vma: String,
    /// Why VFIO made it so.
    pub why_vma: String,
    /// The type at stage 2, or what an EPT leaf says.
    pub stage2: String,
    /// Why KVM made it so.
    pub why_stage2: String,
}

/// What the real machines have to do with a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agreement {
    /// None was asked.
    NotAsked,
    /// None of them can show it.
    Cannot,
    /// Each that can saw what the model predicts.
    Agree,
    /// As the model predicts of a departure that is known by name.
    Finding,
    /// One saw something else, or did not run it.
    Differ,
}

impl Agreement {
    /// In one character.
    #[must_use]
    pub const fn glyph(self) -> char {
        match self {
            Self::NotAsked => ' ',
            Self::Cannot => '–',
            Self::Agree => '=',
            Self::Finding => '≈',
            Self::Differ => '≠',
        }
    }
    /// What one row says.
    #[must_use]
    pub fn of(row: &Row) -> Self {
        match row.verdict {
            Verdict::Cannot => Self::Cannot,
            Verdict::Met if row.departs.is_some() => Self::Finding,
            Verdict::Met => Self::Agree,
            Verdict::Unmet => Self::Differ,
        }
    }
    /// In a few words.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::NotAsked => "no machine beside the model ran it",
            Self::Cannot => "cannot be shown there",
            Self::Agree => "agrees with the model",
            Self::Finding => "as a finding says",
            Self::Differ => "differs from what is expected",
        }
    }
}

/// One scenario under one policy.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// The policy.
    pub policy: &'static str,
    /// What becomes of each part of each BAR that the guest maps.
    pub mapped: Vec<Mapped>,
    /// What the model says.
    pub model: Row,
    /// What the real machines saw.
    pub machines: Vec<Row>,
}

impl Cell {
    /// The three answers. Where the model could not run it, none was asked.
    #[must_use]
    pub fn answers(&self) -> [Is; 3] {
        self.model.judged.as_ref().map_or([Is::NotAsked; 3], |j| answers(j).map(|a| a.is))
    }
    /// What the machines say, the worst of them.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        self.machines.iter().map(Agreement::of).max().unwrap_or(Agreement::NotAsked)
    }
    /// Whether the model came to what the scenario expects.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.model.verdict == Verdict::Met
    }
    /// The last glyph of a cell: an expectation that is not met before what the machines say.
    #[must_use]
    pub fn mark(&self) -> char {
        if self.is_met() { self.agreement().glyph() } else { '!' }
    }
}

/// One scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its file's name.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// What happened, to whom.
    pub story: String,
    /// Where it comes from.
    pub source: String,
    /// The threads it comes from, in the order of the source; none: the architecture alone.
    pub threads: Vec<u16>,
    /// The file.
    #[serde(skip)]
    pub text: String,
    /// A cell for each policy.
    pub cells: Vec<Cell>,
}

/// A policy's column.
#[derive(Debug, Clone, Serialize)]
pub struct Column {
    /// Its name.
    pub policy: &'static str,
    /// The rule in a sentence.
    pub rule: &'static str,
    /// How often it makes a driver work.
    pub works: Count,
    /// How often fast.
    pub fast: Count,
    /// How often it is safe.
    pub safe: Count,
    /// Which policy.
    #[serde(skip)]
    pub is: Policy,
}

impl Column {
    /// The counts, in the order of [`ASKED`](crate::verdict::ASKED).
    #[must_use]
    pub const fn counts(&self) -> [Count; 3] {
        [self.works, self.fast, self.safe]
    }
}

/// A machine that ran, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// Its name: `model`, `el2`, `lab:6.12`.
    pub machine: String,
    /// What it says of itself.
    pub about: String,
}

/// The whole.
#[derive(Debug, Clone, Serialize)]
pub struct Matrix {
    /// This program's version.
    pub version: &'static str,
    /// The machines, the model first.
    pub machines: Vec<Ran>,
    /// The columns.
    pub policies: Vec<Column>,
    /// The lines: by the first thread of each, those of the architecture last; then by name.
    pub scenarios: Vec<Line>,
}

impl Matrix {
    /// Of what ran: a row of the model for each case and each policy, and those of any other machine.
    #[must_use]
    pub fn new(cases: &[Case], policies: &[Policy], machines: Vec<Ran>, rows: Vec<Row>) -> Self {
        /// What the model says, and what the others saw.
        type Rows = (Option<Row>, Vec<Row>);
        let mut by_cell: BTreeMap<(String, &'static str), Rows> = BTreeMap::new();
        for row in rows {
            let (model, others) = by_cell.entry((row.scenario.clone(), row.policy)).or_default();
            if row.machine == "model" {
                *model = Some(row);
            } else {
                others.push(row);
            }
        }
        let mut scenarios: Vec<Line> = cases
            .iter()
            .map(|case| {
                let cell = |policy: &Policy| {
                    let (row, machines) = by_cell.remove(&(case.name.clone(), policy.name()))?;
                    let row = row?;
                    let mapped = mapped(&case.scenario, *policy);
                    Some(Cell { policy: policy.name(), mapped, model: row, machines })
                };
                Line {
                    scenario: case.name.clone(),
                    title: case.scenario.title.clone(),
                    story: case.scenario.story.clone(),
                    source: case.scenario.source.clone(),
                    threads: threads(&case.scenario.source),
                    text: case.text.clone(),
                    cells: policies.iter().filter_map(cell).collect(),
                }
            })
            .collect();
        scenarios.sort_by(|a, b| {
            let thread = |l: &Line| l.threads.first().copied().unwrap_or(u16::MAX);
            (thread(a), &a.scenario).cmp(&(thread(b), &b.scenario))
        });
        let columns = policies.iter().map(|policy| column(*policy, &scenarios)).collect();
        Self { version: env!("CARGO_PKG_VERSION"), machines, policies: columns, scenarios }
    }

    /// Every cell.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.scenarios.iter().flat_map(|l| &l.cells)
    }
    /// Whether every expectation is met, and every machine that could show a cell agrees with the model.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.cells().all(|c| c.is_met() && c.agreement() != Agreement::Differ)
    }
    /// The lines in groups: a thread's, and last those of the architecture alone.
    #[must_use]
    pub fn groups(&self) -> Vec<(Option<u16>, &[Line])> {
        let same = |a: &Line, b: &Line| a.threads.first() == b.threads.first();
        self.scenarios.chunk_by(same).map(|l| (l.first().and_then(|l| l.threads.first().copied()), l)).collect()
    }
}

fn column(policy: Policy, lines: &[Line]) -> Column {
    let mut counts = [Count::default(); 3];
    for cell in lines.iter().flat_map(|l| &l.cells).filter(|c| c.policy == policy.name()) {
        for (count, is) in counts.iter_mut().zip(cell.answers()) {
            match is {
                Is::Yes => count.yes += 1,
                Is::Maybe => count.maybe += 1,
                Is::No => count.no += 1,
                Is::NotAsked => count.not_asked += 1,
            }
        }
    }
    let [works, fast, safe] = counts;
    Column { policy: policy.name(), rule: policy.rule(), works, fast, safe, is: policy }
}

/// What the threads are called here: their number, what they are about, when.
pub const THREADS: [(u16, &str); 5] = [
    (0, "[RFC 1/2] vfio/pci: keep the prefetchable attribute of a BAR region in VMA (2021)"),
    (1, "[PATCH v3 1/6] kvm: determine memory type from VMA (2023)"),
    (2, "[PATCH v2] kvm/arm64: fixed passthrough gpu into vm on arm64 (2022)"),
    (3, "[PATCH v1 2/2] KVM: arm64: allow the VM to select DEVICE_* and NORMAL_NC for IO memory (2023)"),
    (4, "VFIO under virtio-iommu: whether DMA is coherent (2022)"),
];

/// A thread's name, as headings have it.
#[must_use]
pub fn thread_name(thread: Option<u16>) -> String {
    thread.map_or_else(|| "architecture".into(), |t| format!("thread {t:03}"))
}

/// The threads a source names: `thread 002`, `threads 000, 001 and 002`.
fn threads(source: &str) -> Vec<u16> {
    let mut found = Vec::new();
    let mut named = false;
    for word in source.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
        match word {
            "thread" | "threads" | "Thread" | "Threads" => named = true,
            "and" => {}
            number if named && number.len() == 3 => match number.parse() {
                Ok(thread) if !found.contains(&thread) => found.push(thread),
                Ok(_) => {}
                Err(_) => named = false,
            },
            _ => named = false,
        }
    }
    found
}

/// What VFIO knows of a BAR, as the scenario declares it.
fn facts(scenario: &Scenario, device: &Device, bar: &scenario::Bar) -> Facts {
    let of = Facts::of_device(device.class, scenario.platform);
    Facts { prefetchable: bar.prefetchable, cached: bar.cached, ..of }
}

/// What becomes of each part of each BAR that the guest maps.
fn mapped(scenario: &Scenario, policy: Policy) -> Vec<Mapped> {
    let cpu = Cpu { fwb: scenario.machine.fwb.unwrap_or(model::DEFAULT_FWB), dic: true };
    let noncoherent = scenario.devices.iter().any(|d| !scenario.snoops(d));
    let mut all = Vec::new();
    for (d, device) in scenario.devices.iter().enumerate() {
        for (b, bar) in device.bars.iter().enumerate() {
            let here = Target::Bar { device: d, bar: b };
            if !scenario.maps.iter().any(|m| m.of == here) {
                continue;
            }
            let facts = facts(scenario, device, bar);
            let place = format!("{}.{}", device.name, bar.index);
            // A whole that user space asked for part by part is never mapped as one.
            let asked = scenario.attributes.iter().filter(|a| policy.takes_attributes() && (a.device, a.bar) == (d, b));
            let asked: Vec<_> = asked.collect();
            let asked_for: u64 = asked.iter().map(|a| a.size).sum();
            if asked_for < bar.size {
                let rest = if asked.is_empty() { place.clone() } else { format!("{place}, the rest") };
                all.push(part(policy, &facts, Attribute::Default, cpu, noncoherent, rest));
            }
            for a in asked {
                let place = format!("{place}+{:#x}..{:#x}", a.offset, a.offset.saturating_add(a.size));
                all.push(part(policy, &facts, a.ask, cpu, noncoherent, place));
            }
        }
    }
    all
}

/// What becomes of a part of a BAR with these facts for which user space asked for this.
#[must_use]
pub fn part(policy: Policy, facts: &Facts, asked: Attribute, cpu: Cpu, noncoherent: bool, place: String) -> Mapped {
    let (vma, why) = match policy.mmap(facts, asked) {
        Ok(it) => it,
        Err(no) => {
            let nothing = || "nothing: there is no mapping".to_owned();
            return Mapped {
                place,
                vma: "refused".into(),
                why_vma: format!("{no}."),
                stage2: "none".into(),
                why_stage2: nothing(),
            };
        }
    };
    let flag = if vma.allow_any_uncached { ", VM_ALLOW_ANY_UNCACHED" } else { "" };
    let (stage2, why_stage2) = match policy.decide(&vma, cpu) {
        Ok(decision) if policy.is_arm() => (decision.kind.name().into(), decision.why.to_string()),
        Ok(decision) => {
            let ept = Policy::ept(&vma, noncoherent);
            (format!("EPT {}, IPAT {}", ept.ty.upper(), u8::from(ept.ipat)), decision.why.to_string())
        }
        Err(refused) => ("refused".into(), format!("The slot is refused: {refused}.")),
    };
    Mapped { place, vma: format!("{}{flag}", vma.pgprot.name()), why_vma: why.says().into(), stage2, why_stage2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_source() {
        for (source, found) in [
            ("thread 002, xieming 2022-04-01; Linux kvm_handle_guest_abort", &[2u16] as &[u16]),
            ("thread 002, thread 003; DDI 0487 B2.8.2", &[2, 3]),
            ("threads 000, 001 and 002: KVM takes the type from the VMA", &[0, 1, 2]),
            ("DDI 0487 B2.2.6, B2.12", &[]),
            ("DDI 0487 LSInstructionSyndrome; thread 002", &[2]),
            ("thread 002, section 003", &[2]),
            ("thread 2, thread 0002", &[]),
            ("thread 003 thread 003", &[3]),
            ("", &[]),
        ] {
            assert_eq!(threads(source), found, "{source}");
        }
    }
}
