//! A **scenario** is one text file: a machine, a device, what the guest maps and does, and what must come out under each
//! policy. Every machine (the model in this process, real KVM) runs the same scenario and brings back the same kind of
//! [`Observation`]; this crate is what they have in common.
//!
//! * [`Scenario`], [`Device`], [`Map`], [`Expect`]: what the file says ([`parse`] reads it).
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

use serde::{Deserialize, Serialize};

#[cfg(feature = "std")]
pub use file::{Error, parse};
pub use guest::Guest;
pub use layout::Layout;
pub use observation::{Observation, Outcome};
pub use program::Program;

use observation::Pattern;

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
    /// The devices passed through.
    pub devices: Vec<Device>,
    /// The guest's own stage-1 mappings, in the order of the file.
    pub maps: Vec<Map>,
    /// Whether the guest's stage 1 is on (`SCTLR_EL1.M`). Off, every data access is Device-nGnRnE and addresses are IPAs.
    pub mmu: bool,
    /// What the guest does.
    pub program: Program,
    /// What must come out, by policy. Not carried along where a scenario goes elsewhere to be run.
    #[serde(skip)]
    pub expect: Expect,
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
    /// Its memory BARs, at least one.
    pub bars: Vec<Bar>,
}

/// A memory BAR: RAM-backed, without read side effects.
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
