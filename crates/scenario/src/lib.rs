//! A **scenario** is one text file: a machine, a device, what the guest maps and does, and what must come out under each
//! policy. Every machine (the model in this process, real KVM) runs the same scenario and brings back the same kind of
//! [`Observation`]; this crate is what they have in common.
//!
//! * [`Scenario`], [`Device`], [`Map`], [`Asked`], [`Expect`]: what the file says ([`parse`] reads it).
//! * [`program`]: the guest program and its lowering to instructions, one [`Insn`](program::Insn) an instruction, so that
//!   every machine agrees on the registers used (they appear in `ESR_EL2.ISS.SRT`).
//! * [`layout`]: where everything lies in the guest's address spaces.
//! * [`guest`]: a guest ready to start, as data.
//! * [`a64`]: the same program as A64 machine code.
//! * [`observation`]: what came out.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "std")]
pub mod a64;
#[cfg(feature = "std")]
pub mod file;
pub mod guest;
pub mod layout;
pub mod observation;
pub mod program;

use alloc::{string::String, vec::Vec};

use memtype::Attribute;
use platform::Platform;
use serde::{Deserialize, Serialize};

#[cfg(feature = "std")]
pub use file::{Error, parse};
pub use guest::Guest;
pub use layout::Layout;
pub use observation::{Observation, Outcome};
pub use program::Program;

use observation::Pattern;
use program::Place;

/// One scenario file, read and checked: every name resolved to an index, every offset inside its BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// One line for people.
    pub title: String,
    /// What happened, to whom: prose of any length. Empty where the file has none. Not carried along.
    #[serde(skip)]
    pub story: String,
    /// Where the case comes from: a thread, a section, a function. Empty where the file has none. Not carried along.
    #[serde(skip)]
    pub source: String,
    /// The machine it needs.
    pub machine: Machine,
    /// What the file declares of the machine that no software can find out.
    pub platform: Platform,
    /// The erratum of the platform, by its name alone: who has the table of errata puts what it says into
    /// [`platform`](Self::platform). Not carried along.
    #[serde(skip)]
    pub erratum: Option<String>,
    /// The devices passed through.
    pub devices: Vec<Device>,
    /// What user space asked for before the guest starts; no two overlap.
    pub attributes: Vec<Asked>,
    /// The guest's own stage-1 mappings, in the order of the file.
    pub maps: Vec<Map>,
    /// The IOMMU between the devices and memory.
    pub iommu: Iommu,
    /// Its mappings, in the order of the file.
    pub iovas: Vec<Iova>,
    /// Whether the guest's stage 1 is on (`SCTLR_EL1.M`). Off, every data access is Device-nGnRnE and addresses are IPAs.
    pub mmu: bool,
    /// What the guest does.
    pub program: Program,
    /// What must come out, by policy. Not carried along where a scenario goes elsewhere to be run.
    #[serde(skip)]
    pub expect: Expect,
}

impl Scenario {
    /// What [`Op::SetAttribute`](program::Op::SetAttribute) at this place is about: the [`Asked`] it lies in, or the whole
    /// BAR, for which nothing was asked. `None` where the place is in no BAR.
    #[must_use]
    pub fn asked_at(&self, at: Place) -> Option<Asked> {
        let map = self.maps.get(at.map)?;
        let Target::Bar { device, bar } = map.of else { return None };
        let offset = map.offset + at.offset;
        let inside =
            |a: &&Asked| (a.device, a.bar) == (device, bar) && a.offset <= offset && offset - a.offset < a.size;
        let whole = || {
            let size = self.devices.get(device)?.bars.get(bar)?.size;
            Some(Asked { device, bar, offset: 0, size, ask: Attribute::Default })
        };
        self.attributes.iter().find(inside).copied().or_else(whole)
    }

    /// Whether the DMA of one of the devices sees what is in the caches, where no mapping of the IOMMU says otherwise.
    #[must_use]
    pub fn snoops(&self, device: &Device) -> bool {
        let coherent = device.coherent.unwrap_or(self.platform.coherent);
        Platform { coherent, ..self.platform }.snoops(device.no_snoop)
    }
}

/// What a scenario asks of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// `Some`: FEAT_S2FWB must be present (absent). `None`: the outcome does not depend on it.
    pub fwb: Option<bool>,
}

/// A device passed through to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name in this file.
    pub name: String,
    /// The PCI class code, 24 bits: base class, sub-class, programming interface.
    pub class: u32,
    /// Its requests have the No Snoop attribute set.
    pub no_snoop: bool,
    /// Whether its own DMA is coherent; `None`: as the platform's.
    pub coherent: Option<bool>,
    /// Its memory BARs, at least one.
    pub bars: Vec<Bar>,
}

impl Device {
    /// The class code of a device that does not say one: base class FFh, of devices that fit no other (PCI Code and ID
    /// Assignment Specification).
    pub const NO_CLASS: u32 = 0xff_0000;
    /// The class codes that have a name in a file.
    pub const CLASSES: [(&str, u32); 4] =
        [("vga", 0x03_0000), ("display", 0x03_8000), ("ethernet", 0x02_0000), ("nvme", 0x01_0802)];
}

/// A memory BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// BAR index, 0 to 5.
    pub index: u8,
    /// Bytes; a power of two, 4 KiB to 1 GiB.
    pub size: u64,
    /// The prefetchable bit (bit 3 of the BAR).
    pub prefetchable: bool,
    /// The memory slot is registered with `KVM_MEM_READONLY`.
    pub readonly: bool,
    /// What a read does.
    pub reads: Reads,
    /// [`Reads::Clear`]: how much of the BAR that is true of, in bytes from its first: a multiple of 4 KiB, up to all. Else 0.
    pub clear: u64,
    /// Memory decode is off or the device is gone: every access fails.
    pub dead: bool,
    /// The device's own driver maps it cacheable.
    pub cached: bool,
}

/// What a read of a BAR does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reads {
    /// It gives what was written, and changes nothing.
    #[default]
    Plain,
    /// It gives what was written and clears it: a read side effect.
    Clear,
}

impl Reads {
    /// All.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Clear];

    /// As a file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Clear => "clear",
        }
    }
}

/// What user space asked for part of a BAR. It lies inside the BAR, in whole pages of 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Index into [`Scenario::devices`].
    pub device: usize,
    /// Index into that device's [`Device::bars`] (not the BAR number).
    pub bar: usize,
    /// Offset of its first byte in the BAR.
    pub offset: u64,
    /// Bytes, not zero.
    pub size: u64,
    /// What was asked.
    #[serde(with = "attribute")]
    pub ask: Attribute,
}

/// An [`Attribute`] by its name.
mod attribute {
    use alloc::{format, string::String};

    use memtype::Attribute;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(ask: &Attribute, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(ask.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Attribute, D::Error> {
        let name = String::deserialize(from)?;
        Attribute::named(&name).ok_or_else(|| D::Error::custom(format!("there is no attribute `{name}`")))
    }
}

/// A stage-1 mapping of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Its name in the program.
    pub name: String,
    /// What lies under it.
    pub of: Target,
    /// Offset of its first byte in the target; a multiple of 4 KiB.
    pub offset: u64,
    /// Bytes; a multiple of 4 KiB, not zero.
    pub size: u64,
    /// The `MAIR_EL1` byte of its memory type. Any byte, reserved ones too.
    pub mair: u8,
    /// Whether the guest's own page table allows writes (AP\[2\] = 0).
    pub writable: bool,
}

/// What a [`Map`] maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A BAR: indices into [`Scenario::devices`] and [`Device::bars`].
    Bar {
        /// Index into [`Scenario::devices`].
        device: usize,
        /// Index into that device's [`Device::bars`] (not the BAR number).
        bar: usize,
    },
    /// Guest RAM of its own, zeroed.
    Ram,
    /// Guest-physical addresses behind which there is no memory slot.
    Hole,
}

/// The IOMMU between the devices and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iommu {
    /// Its walks of page tables see what is in the caches (VT-d ECAP_REG.C, SMMU_IDR0.COHACC).
    pub coherent_walks: bool,
}

impl Default for Iommu {
    fn default() -> Self {
        Self { coherent_walks: true }
    }
}

/// A mapping of the IOMMU's: from addresses that devices use (IOVA) to guest RAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iova {
    /// Its name in the program.
    pub name: String,
    /// Index into [`Scenario::maps`]: what it translates to, all of it; a map of RAM. With an entry the first page, at the
    /// start.
    pub to: usize,
    /// Where in guest RAM its page-table entry lies, one of 8 bytes. `None`: its tables are the host's own.
    pub entry: Option<Place>,
    /// Accesses through it do not look into the caches, where the IOMMU can have that.
    pub non_cacheable: bool,
}

impl Iova {
    /// Bytes that an entry maps.
    pub const PAGE: u64 = 4096;

    /// The entry that maps the page at this guest-physical address: as VMSAv8-64 has it at level 3, of which the address and
    /// bits 1:0 count.
    #[must_use]
    pub const fn descriptor(ipa: u64) -> u64 {
        ipa & Self::ADDRESS | 0b11
    }
    /// The guest-physical address of the page that an entry maps. `None`: it maps none.
    #[must_use]
    pub const fn page(descriptor: u64) -> Option<u64> {
        if descriptor & 0b11 == 0b11 { Some(descriptor & Self::ADDRESS) } else { None }
    }
    const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
}

/// What must come out. Alternatives are the outcomes the architecture allows: the model must produce each of them and no
/// other, a real machine one of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expect {
    /// For every policy that [`by_policy`](Self::by_policy) does not name.
    pub all: Vec<Pattern>,
    /// By policy name, with the line of the file that says so (1 is the first).
    pub by_policy: Vec<(String, u32, Vec<Pattern>)>,
}

impl Expect {
    /// The allowed outcomes under `policy`; empty where the file says nothing about it.
    #[must_use]
    pub fn under(&self, policy: &str) -> &[Pattern] {
        self.by_policy.iter().find(|(name, _, _)| name == policy).map_or(&self.all, |(_, _, p)| p)
    }
}
