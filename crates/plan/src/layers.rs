//! One BAR, one way to map it, layer by layer: bus, host VMA, stage 2, guest.

use host::{Bar, Function, Hole, Host, Opened};
use memtype::MemoryType;
use memtype::guarantee::{Question, Standing};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::{bus, kernel, process, seat::Seat, slot, verdict};

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

impl Way {
    /// All, in their order.
    pub const ALL: [Self; 5] = [Self::Vfio, Self::VfioWriteCombine, Self::Sysfs, Self::SysfsWriteCombine, Self::Trap];

    /// As JSON and the command line have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vfio => "vfio",
            Self::VfioWriteCombine => "vfio-write-combine",
            Self::Sysfs => "sysfs",
            Self::SysfsWriteCombine => "sysfs-write-combine",
            Self::Trap => "trap",
        }
    }
    /// For people: what is mapped.
    #[must_use]
    pub fn says(self, bar: u8) -> String {
        match self {
            Self::Vfio => format!("VFIO region {bar}"),
            Self::VfioWriteCombine => format!("VFIO region {bar}, write-combining"),
            Self::Sysfs => format!("sysfs resource{bar}"),
            Self::SysfsWriteCombine => format!("sysfs resource{bar}_wc"),
            Self::Trap => String::from("trapped"),
        }
    }
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

impl Answer {
    /// In a word, as the verdict of a run has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Maybe => "maybe",
            Self::No => "no",
            Self::NotAsked => "not asked",
        }
    }
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
pub(crate) fn name<S: Serializer>(ty: &Option<MemoryType>, to: S) -> Result<S::Ok, S::Error> {
    match ty {
        Some(ty) => to.collect_str(ty),
        None => to.serialize_none(),
    }
}

/// `{"ok": true}`, or `{"ok": false, "why": "..."}`.
fn outcome<S: Serializer>(it: &Result<(), String>, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(1 + usize::from(it.is_err())))?;
    map.serialize_entry("ok", &it.is_ok())?;
    if let Err(why) = it {
        map.serialize_entry("why", why)?;
    }
    map.end()
}

/// `{"is": "yes", "why": "..."}`.
fn answer<S: Serializer>((is, why): &(Answer, String), to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(2))?;
    map.serialize_entry("is", is)?;
    map.serialize_entry("why", why)?;
    map.end()
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
    #[serde(serialize_with = "outcome")]
    pub unaligned: Result<(), String>,
}

/// One way to map a BAR, with what comes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layers {
    /// The way.
    pub way: Way,
    /// Whether it can be had on this machine now; if not, why.
    #[serde(serialize_with = "outcome")]
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
    #[serde(serialize_with = "answer")]
    pub works: (Answer, String),
    /// Are its bursts combined?
    #[serde(serialize_with = "answer")]
    pub fast: (Answer, String),
    /// Can it harm the host or others?
    #[serde(serialize_with = "answer")]
    pub safe: (Answer, String),
    /// What to do about it, the most useful first.
    pub advice: Vec<String>,
}

/// A machine, looked at once for what its BARs have in common: for who asks of many of them.
#[derive(Debug)]
pub struct Machine<'a> {
    host: &'a Host,
    elsewhere: Option<kernel::Marks>,
}

impl<'a> Machine<'a> {
    /// Of these facts.
    #[must_use]
    pub fn new(host: &'a Host) -> Self {
        Self { host, elsewhere: kernel::elsewhere(host) }
    }
    fn seat(&self, function: &'a Function, bar: &'a Bar) -> Seat<'a> {
        Seat { elsewhere: self.elsewhere.clone().into(), ..Seat::new(self.host, function, bar) }
    }
    /// [`layers`] of one of its BARs.
    #[must_use]
    pub fn layers(&self, function: &'a Function, bar: &'a Bar) -> Vec<Layers> {
        all(&self.seat(function, bar))
    }
    /// [`at_a_glance`] of one of its BARs.
    #[must_use]
    pub fn at_a_glance(&self, function: &'a Function, bar: &'a Bar) -> Option<Glance> {
        glance(&self.seat(function, bar))
    }
}

/// Every way to map a BAR, in the order of [`Way`].
#[must_use]
pub fn layers(host: &Host, function: &Function, bar: &Bar) -> Vec<Layers> {
    all(&Seat::new(host, function, bar))
}

fn all(seat: &Seat<'_>) -> Vec<Layers> {
    let bus = bus::layer(seat);
    Way::ALL.into_iter().map(|way| one(seat, way, &bus)).collect()
}

fn one(seat: &Seat<'_>, way: Way, bus: &Layer) -> Layers {
    let blocks = process::blocks(seat, way);
    let vma = process::vma(seat, way);
    let slot = slot::slot(seat, way);
    let verdict = verdict::verdict(seat, way, &slot);
    let mut advice: Vec<String> = blocks.iter().filter_map(|b| b.remedy.clone()).collect();
    advice.extend(verdict.advice);
    let available = match blocks.as_slice() {
        [] => Ok(()),
        some => Err(some.iter().map(|b| b.why.as_str()).collect::<Vec<_>>().join("; ")),
    };
    Layers {
        way,
        available,
        bus: bus.clone(),
        vma,
        stage2: slot.layer,
        guest: slot.guest,
        works: verdict.works,
        fast: verdict.fast,
        safe: verdict.safe,
        advice,
    }
}

/// The best a guest can get of a BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Glance {
    /// By which way: one that is available now, else the one that would be had, were what is in the way of it done.
    pub way: Way,
    /// Whether it can be had now; if not, why.
    #[serde(serialize_with = "outcome")]
    pub available: Result<(), String>,
    /// What a guest that asks for write-combining gets; nothing if that is not known.
    #[serde(serialize_with = "name")]
    pub gets: Option<MemoryType>,
    /// As in [`Layers`].
    pub works: Answer,
    /// As in [`Layers`].
    pub fast: Answer,
    /// As in [`Layers`].
    pub safe: Answer,
}

/// The best a guest can get of a BAR: of the ways through VFIO, since no other confines the device's DMA. Nothing of an I/O BAR.
#[must_use]
pub fn at_a_glance(host: &Host, function: &Function, bar: &Bar) -> Option<Glance> {
    glance(&Seat::new(host, function, bar))
}

fn glance(seat: &Seat<'_>) -> Option<Glance> {
    if seat.bar.io {
        return None;
    }
    let bus = bus::layer(seat);
    let mut best = one(seat, Way::Vfio, &bus);
    if seat.function.opened.known().is_some_and(Opened::takes_attributes) {
        let alias = one(seat, Way::VfioWriteCombine, &bus);
        let better = alias.available.is_ok() && alias.fast.0 == Answer::Yes && best.fast.0 != Answer::Yes;
        if better {
            best = alias;
        }
    }
    if !process::mappable(seat) {
        best = one(seat, Way::Trap, &bus);
    }
    Some(Glance {
        way: best.way,
        gets: best.asked_wc().and_then(|g| g.gets),
        available: best.available,
        works: best.works.0,
        fast: best.fast.0,
        safe: best.safe.0,
    })
}

impl Layers {
    /// What a guest gets that asks for write-combining: by the type in which its architecture has it.
    #[must_use]
    pub fn asked_wc(&self) -> Option<&Gets> {
        self.guest.iter().find(|g| g.asks.is_some_and(is_wc))
    }
}

/// Whether it is what an architecture has for write-combining: what Linux's `pgprot_writecombine` gives there.
pub(crate) fn is_wc(ty: MemoryType) -> bool {
    let entry = memtype::linux::of(ty.arch(), memtype::linux::Helper::PgprotWritecombine);
    entry.and_then(|e| e.ty) == Some(ty)
}

/// Whether writes may be merged.
pub(crate) fn gathers(ty: MemoryType) -> bool {
    ty.guarantee(Question::Gather).is_some_and(|g| g.standing != Standing::Forbidden)
}

/// Whether a cache may hold it.
pub(crate) fn cacheable(ty: MemoryType) -> bool {
    ty.guarantee(Question::Cached).is_some_and(|g| g.standing != Standing::Forbidden)
}

/// Whether the CPU may read it ahead.
pub(crate) fn reads_ahead(ty: MemoryType) -> bool {
    ty.guarantee(Question::SpeculativeRead).is_some_and(|g| g.standing != Standing::Forbidden)
}
