//! PCI: what is on the first bus, and its BARs, put into the bridge's windows.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

use crate::{
    board::{Bridge, Window},
    memory::{Own, Region},
};

/// `ivshmem-plain`: BAR 2 is memory; BAR 0 has a register at offset 4 that is cleared by a read.
const IVSHMEM: u32 = 0x1110_1af4;
/// `edu`: BAR 0 has the registers of a DMA engine.
const EDU: u32 = 0x11e8_1234;

/// Offsets in configuration space.
const COMMAND: u64 = 0x04;
const BAR_0: u64 = 0x10;
/// The command register: memory decode, bus master.
const MEMORY: u32 = 1 << 1;
const MASTER: u32 = 1 << 2;

/// Every BAR gets at least so much, so that no page of one is a page of another.
const LEAST: u64 = 1 << 20;

/// A device for scenarios.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    config: Region,
    /// BAR 2.
    pub(crate) bar: Window,
    bar_bus: u64,
    /// BAR 0, and what is free behind it.
    pub(crate) clears: Window,
    clears_bus: u64,
}

impl Memory {
    /// Turns memory decode on or off.
    pub(crate) fn decode(&self, on: bool) {
        let command = self.config.read(COMMAND) & !MEMORY & 0xffff;
        self.config.write(COMMAND, command | if on { MEMORY } else { 0 });
    }

    /// Puts BAR 2 where BAR 0 is, under it: memory that has a register in it which is cleared by a read. In QEMU the BAR that
    /// is placed last is the one on top.
    pub(crate) fn with_register(&self, on: bool) {
        self.decode(false);
        let bus = if on { self.clears_bus } else { self.bar_bus };
        self.config.write(BAR_0 + 8, bus as u32);
        self.config.write(BAR_0 + 12, (bus >> 32) as u32);
        self.config.write(BAR_0, 0);
        self.decode(true);
        self.config.write(BAR_0, self.clears_bus as u32);
    }
}

/// The DMA engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dma {
    registers: Region,
}

/// The engine's own buffer, as its bus addresses have it (QEMU docs/specs/edu.rst).
const BUFFER: u64 = 0x4_0000;

impl Dma {
    /// Copies up to 8 bytes by way of the buffer: from `from` to `to`, both physical addresses.
    ///
    /// # Errors
    /// Where it does not end.
    pub(crate) fn copy(&self, from: u64, to: u64, bytes: u64) -> Result<(), String> {
        // Bit 1: from the buffer to memory. Bit 0: start, and busy.
        self.transfer(from, BUFFER, bytes, 0b01)?;
        self.transfer(BUFFER, to, bytes, 0b11)
    }

    fn transfer(&self, from: u64, to: u64, bytes: u64, command: u64) -> Result<(), String> {
        let write = |offset, value| self.registers.store(offset, 3, value).map_err(|esr| format!("edu: ESR {esr:#x}"));
        write(0x80, from)?;
        write(0x88, to)?;
        write(0x90, bytes)?;
        write(0x98, command)?;
        // A transfer takes a tenth of a second.
        crate::cpu::wait(1000, || self.registers.load(0x98, 3).is_ok_and(|status| status & 1 == 0))
            .ok_or_else(|| "the device's DMA did not end within a second".to_string())
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Pci {
    /// Devices for scenarios, in the order of their addresses.
    pub(crate) memory: Vec<Memory>,
    /// The DMA engine.
    pub(crate) dma: Option<Dma>,
}

/// A window of the bridge, given out from its start.
struct Space {
    bus: u64,
    window: Window,
    next: u64,
}

impl Space {
    /// So many bytes, aligned to themselves: the bus address and the CPU's.
    fn take(&mut self, size: u64) -> Option<(u64, Window)> {
        let size = size.max(LEAST);
        let bus = (self.bus + self.next).next_multiple_of(size);
        let next = (bus - self.bus).checked_add(size)?;
        if next > self.window.size {
            return None;
        }
        self.next = next;
        Some((bus, Window { base: self.window.base + (bus - self.bus), size }))
    }
}

impl Pci {
    /// Looks at the first bus, places every memory BAR, and turns decode on.
    ///
    /// # Errors
    /// Where a BAR has no place.
    pub(crate) fn find(bridge: &Bridge, own: &mut Own) -> Result<Self, String> {
        let ecam = own.device(bridge.ecam)?;
        let space = |wide: bool| {
            let found = bridge.windows.iter().find(|(_, _, is_wide)| *is_wide == wide);
            found.map(|(bus, window, _)| Space { bus: *bus, window: *window, next: 0 })
        };
        let mut spaces = [space(false), space(true)];
        let mut pci = Self { memory: Vec::new(), dma: None };
        for device in 0..32 {
            let Some(config) = ecam.part(device << 15, 4096) else { break };
            let id = config.read(0);
            if id != IVSHMEM && id != EDU {
                continue;
            }
            let bars = place(config, &mut spaces).map_err(|why| format!("PCI device {device}: {why}"))?;
            config.write(COMMAND, config.read(COMMAND) & 0xffff | MEMORY | MASTER);
            match (id, bars) {
                (IVSHMEM, [Some((_, clears_bus, clears)), _, Some((size, bar_bus, bar)), ..]) => {
                    let bar = Window { size, ..bar };
                    pci.memory.push(Memory { config, bar, bar_bus, clears, clears_bus });
                }
                (EDU, [Some((_, _, bar)), ..]) => pci.dma = Some(Dma { registers: own.device(bar)? }),
                _ => {}
            }
        }
        Ok(pci)
    }
}

/// The BARs of a device: the size of each, its bus address, and where the CPU has it.
type Bars = [Option<(u64, u64, Window)>; 6];

/// Gives every memory BAR of a device a place.
fn place(config: Region, spaces: &mut [Option<Space>; 2]) -> Result<Bars, String> {
    let mut bars = [None; 6];
    let mut i = 0;
    while i < bars.len() {
        let at = BAR_0 + 4 * i as u64;
        let kind = config.read(at);
        // Bit 0: an I/O BAR. Bits 2:1: 0b10 of 64 bits.
        let (memory, wide) = (kind & 1 == 0, kind >> 1 & 3 == 0b10);
        config.write(at, u32::MAX);
        let mut mask = u64::from(config.read(at) & !0xf) | 0xffff_ffff << 32;
        if wide {
            config.write(at + 4, u32::MAX);
            mask = mask & 0xffff_ffff | u64::from(config.read(at + 4)) << 32;
        }
        if memory && mask as u32 != 0 || wide && mask >> 32 != 0 {
            let size = mask.wrapping_neg();
            let [low, high] = spaces;
            let space = if wide { high.as_mut().or(low.as_mut()) } else { low.as_mut() };
            let placed = space.and_then(|space| space.take(size));
            let (bus, window) = placed.ok_or_else(|| format!("no place for BAR {i} of {size:#x} bytes"))?;
            config.write(at, bus as u32);
            if wide {
                config.write(at + 4, (bus >> 32) as u32);
            }
            bars[i] = Some((size, bus, window));
        }
        i += if wide { 2 } else { 1 };
    }
    Ok(bars)
}
