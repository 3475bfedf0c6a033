//! One BAR, one way to map it, layer by layer: bus, host VMA, stage 2, guest.

use host::{Bar, Function, Hole, Host};
use memtype::MemoryType;
use serde::{Serialize, Serializer};

/// A way to map a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// mmap of a region of vfio-pci.
    Vfio,
    /// The same by an attribute uAPI (alias region, dma-buf attribute): write-combining. No kernel up to 7.3 has it.
    VfioWriteCombine,
    /// mmap of sysfs `resourceN`.
    Sysfs,
    /// mmap of sysfs `resourceN_wc`.
    SysfsWriteCombine,
    /// Not mapped: every access of a guest exits, and the VMM does it by pread and pwrite on the VFIO region.
    Trap,
}

/// How sure something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sure {
    /// Seen: behaviour of this machine shows it. How.
    Seen(String),
    /// By rule, from facts that were read. Which.
    Rule(String),
    /// It rests on a hole: what would have to be known.
    Rests(Vec<Hole>),
}

/// One of the answers: works, fast, safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Yes.
    Yes,
    /// It depends, or is not known.
    Maybe,
    /// No.
    No,
    /// The question does not arise (fast, of a BAR that nobody writes in bursts).
    NotAsked,
}

/// A layer: what it makes of the mapping, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// In words: `prefetchable window of 0000:00:01.0`, `pgprot_noncached`, `Normal-NC (MemAttr 0b0101)`.
    pub what: String,
    /// The memory type at this layer, where it has one.
    #[serde(serialize_with = "name")]
    pub ty: Option<MemoryType>,
    /// Why, with the function or section.
    pub why: String,
    /// How sure.
    pub sure: Sure,
}

/// The memory type under the name it has in files: `arm64:normal-nc`.
fn name<S: Serializer>(ty: &Option<MemoryType>, to: S) -> Result<S::Ok, S::Error> {
    match ty {
        Some(ty) => to.collect_str(ty),
        None => to.serialize_none(),
    }
}

/// What a guest gets for what it asks in its own page tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gets {
    /// What it asks.
    #[serde(serialize_with = "name")]
    pub asks: Option<MemoryType>,
    /// What it gets.
    #[serde(serialize_with = "name")]
    pub gets: Option<MemoryType>,
    /// Whether an unaligned access works; if not, who takes the fault.
    pub unaligned: Result<(), String>,
}

/// One way to map a BAR, with what comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layers {
    /// The way.
    pub way: Way,
    /// Whether it can be had on this machine now; if not, why.
    pub available: Result<(), String>,
    /// The bus.
    pub bus: Layer,
    /// The mapping in the process.
    pub vma: Layer,
    /// Stage 2 (EPT, NPT, G-stage), if it is put into a memory slot; nothing where no slot can be.
    pub stage2: Option<Layer>,
    /// What a guest may ask, and gets.
    pub guest: Vec<Gets>,
    /// Does a guest's driver that maps it write-combining work?
    pub works: (Answer, String),
    /// Are its bursts combined?
    pub fast: (Answer, String),
    /// Can it harm the host or others?
    pub safe: (Answer, String),
    /// What to do about it, the most useful first.
    pub advice: Vec<String>,
}

/// Every way to map a BAR, in the order of [`Way`].
#[must_use]
pub fn layers(_host: &Host, _function: &Function, _bar: &Bar) -> Vec<Layers> {
    todo!()
}
