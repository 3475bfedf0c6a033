//! Where everything lies in the guest's address spaces: a pure function of the scenario, so that every machine uses the
//! same addresses and `FAR` can be compared to the bit.

use alloc::vec::Vec;

use crate::{Scenario, Target, program::Place};

/// IPA of the guest's own RAM: code first, then the stage-1 tables, then the `ram` maps.
pub const RAM_BASE: u64 = 0x4000_0000;
/// Bytes of guest code, vectors included. The reset vector is its first byte, the exception vectors its second 4 KiB page.
pub const CODE_SIZE: u64 = 0x10_0000;
/// IPA of the page whose only use is a store that leaves to the machine: the guest's way of saying "done". No slot is here.
pub const REPORT_IPA: u64 = 0x0900_0000;
/// IPA of the first stage-1 table (the root), after the code.
pub const TABLES_BASE: u64 = RAM_BASE + CODE_SIZE;
/// Bytes reserved for stage-1 tables.
pub const TABLES_SIZE: u64 = 0x20_0000;
/// IPA of the first `ram` map.
pub const RAM_MAPS_BASE: u64 = TABLES_BASE + TABLES_SIZE;
/// IPA of the first BAR or hole; everything here is aligned to its own size.
pub const DEVICE_BASE: u64 = 0x1_0000_0000;
/// Largest BAR or map.
pub const MAX_SIZE: u64 = 1 << 30;
/// Most maps in a scenario.
pub const MAX_MAPS: usize = 64;

/// What backs a memory slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Anonymous memory of the machine.
    Ram,
    /// A BAR: indices into [`Scenario::devices`] and its `bars`.
    Bar {
        /// Index of the device.
        device: usize,
        /// Index among its BARs.
        bar: usize,
    },
}

/// A memory slot the machine registers before the guest starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// First guest-physical address.
    pub ipa: u64,
    /// Bytes.
    pub size: u64,
    /// Registered read-only.
    pub readonly: bool,
    /// What is behind it.
    pub backing: Backing,
}

/// One stage-1 mapping to build, identity or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// First virtual address.
    pub va: u64,
    /// First intermediate physical address.
    pub ipa: u64,
    /// Bytes.
    pub size: u64,
}

/// The addresses of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The memory slots: slot 0 is the guest's own RAM, then one for each BAR.
    pub slots: Vec<Slot>,
    /// For each of [`Scenario::maps`], where it lies.
    pub maps: Vec<Mapped>,
}

impl Layout {
    /// The layout of `scenario`.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        let mut next = DEVICE_BASE;
        let mut place = |size: u64| {
            let size = size.next_power_of_two();
            let at = next.next_multiple_of(size);
            next = at + size;
            at
        };
        let mut slots = alloc::vec![Slot { ipa: RAM_BASE, size: 0, readonly: false, backing: Backing::Ram }];
        for (device, d) in scenario.devices.iter().enumerate() {
            for (bar, b) in d.bars.iter().enumerate() {
                slots.push(Slot {
                    ipa: place(b.size),
                    size: b.size,
                    readonly: b.readonly,
                    backing: Backing::Bar { device, bar },
                });
            }
        }
        let mut ram = RAM_MAPS_BASE;
        let mut maps = Vec::with_capacity(scenario.maps.len());
        for (i, m) in scenario.maps.iter().enumerate() {
            let ipa = match m.of {
                Target::Bar { device, bar } => {
                    let slot = slots.iter().find(|s| s.backing == Backing::Bar { device, bar });
                    slot.map_or(0, |s| s.ipa) + m.offset
                }
                Target::Ram => {
                    let at = ram;
                    ram += m.size;
                    at
                }
                Target::Hole => place(m.size),
            };
            // With the MMU off an address is an IPA; with it on each map has a VA of its own, so that two maps of one BAR
            // differ, and no VA is an IPA, so that a mix-up shows.
            let va = if scenario.mmu { ipa | ((i as u64 + 1) << 40) } else { ipa };
            maps.push(Mapped { va, ipa, size: m.size });
        }
        slots[0].size = (ram - RAM_BASE).next_multiple_of(0x20_0000);
        Self { slots, maps }
    }

    /// The address the program uses for `at`.
    #[must_use]
    pub fn va(&self, at: Place) -> u64 {
        self.maps[at.map].va + at.offset
    }

    /// The intermediate physical address of `at`.
    #[must_use]
    pub fn ipa(&self, at: Place) -> u64 {
        self.maps[at.map].ipa + at.offset
    }
}
