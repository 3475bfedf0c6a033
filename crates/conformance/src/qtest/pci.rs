//! PCI by the ports of a PC (0xcf8, 0xcfc), as far as it is needed: BARs, bridges, capabilities.

use super::wire::Wire;
use crate::device::Broken;

/// A function: bus, and device and function in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) bus: u8,
    pub(super) devfn: u8,
}

/// The registers that are used: offsets in configuration space (PCI Local Bus 3.0, 6.1; PCI-to-PCI Bridge 1.2, 3.2).
const COMMAND: u8 = 0x04;
const STATUS: u8 = 0x06;
const BAR0: u8 = 0x10;
const BUSES: u8 = 0x18;
const SECONDARY: u8 = 0x19;
const MEMORY: u8 = 0x20;
const PREFETCHABLE: u8 = 0x24;
const CAPABILITIES: u8 = 0x34;

/// Memory Space Enable, Bus Master Enable.
const ENABLE: u64 = 0x0006;

impl Function {
    pub(super) fn read(self, wire: &mut Wire, at: u8, bytes: u8) -> Result<u32, Broken> {
        wire.ask(&self.select(at))?;
        let value = wire.number(&format!("in{} {:#x}", letter(bytes), 0xcfc + u16::from(at & 3)))?;
        Ok(u32::try_from(value).unwrap_or(u32::MAX))
    }

    pub(super) fn write(self, wire: &mut Wire, at: u8, bytes: u8, value: u64) -> Result<(), Broken> {
        wire.tell(&self.written(at, bytes, value))
    }

    /// The commands that write a register.
    fn written(self, at: u8, bytes: u8, value: u64) -> [String; 2] {
        [self.select(at), format!("out{} {:#x} {value:#x}", letter(bytes), 0xcfc + u16::from(at & 3))]
    }

    fn select(self, at: u8) -> String {
        let address = 0x8000_0000 | u32::from(self.bus) << 16 | u32::from(self.devfn) << 8 | u32::from(at & !3);
        format!("outl 0xcf8 {address:#x}")
    }

    /// Vendor and device.
    pub(super) fn id(self, wire: &mut Wire) -> Result<(u16, u16), Broken> {
        let id = self.read(wire, 0, 4)?;
        Ok(((id & 0xffff) as u16, (id >> 16) as u16))
    }

    /// Gives its memory BARs addresses from `next` on, each aligned to its size, and has it decode them and do DMA. BARs of
    /// ports get none: nothing here uses one.
    pub(super) fn enable(self, wire: &mut Wire, next: &mut u64) -> Result<[Option<u64>; 6], Broken> {
        let mut bars = [None; 6];
        let mut index = 0;
        while index < 6 {
            let at = BAR0 + 4 * index as u8;
            self.write(wire, at, 4, 0xffff_ffff)?;
            let is = self.read(wire, at, 4)?;
            let (io, wide) = (is & 1 != 0, is & 7 == 4);
            if is != 0 && !io {
                // None here is as large as 4 GiB.
                let size = u64::from(!(is & !0xf)) + 1;
                let base = next.next_multiple_of(size);
                *next = base + size;
                self.write(wire, at, 4, base)?;
                if wide {
                    self.write(wire, at + 4, 4, base >> 32)?;
                }
                bars[index] = Some(base);
            }
            index += if wide && !io { 2 } else { 1 };
        }
        self.write(wire, COMMAND, 2, ENABLE)?;
        Ok(bars)
    }

    /// As a bridge: its bus, and the MiB-aligned memory that is behind it.
    pub(super) fn open(self, wire: &mut Wire, bus: u8, base: u64, end: u64) -> Result<(), Broken> {
        // Configuration requests for any bus behind it pass: it is given the number it has only then.
        self.write(wire, BUSES, 4, u64::from(bus) << 8 | u64::from(bus) << 16)?;
        self.write(wire, MEMORY, 4, (base >> 16 & 0xfff0) | (end >> 16 & 0xfff0) << 16)?;
        // No prefetchable memory: a base above the end.
        self.write(wire, PREFETCHABLE, 4, 0x0000_fff0)?;
        self.write(wire, COMMAND, 2, ENABLE)
    }

    /// The commands that give the bus behind a bridge another number.
    pub(super) fn renumber(self, bus: u8) -> [String; 2] {
        self.written(BUSES, 4, u64::from(bus) << 8 | u64::from(bus) << 16)
    }

    /// The number of the bus behind a bridge.
    pub(super) fn secondary(self, wire: &mut Wire) -> Result<u8, Broken> {
        Ok((self.read(wire, SECONDARY, 1)? & 0xff) as u8)
    }

    /// Where its vendor-specific capabilities (ID 9) are.
    pub(super) fn vendor_capabilities(self, wire: &mut Wire) -> Result<Vec<u8>, Broken> {
        let mut found = Vec::new();
        if self.read(wire, STATUS, 2)? & 0x10 == 0 {
            return Ok(found);
        }
        let mut at = (self.read(wire, CAPABILITIES, 1)? & 0xfc) as u8;
        // A list that fits in 256 bytes has fewer members than this.
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            let head = self.read(wire, at, 2)?;
            if head & 0xff == 9 {
                found.push(at);
            }
            at = (head >> 8 & 0xfc) as u8;
        }
        Ok(found)
    }
}

fn letter(bytes: u8) -> char {
    match bytes {
        1 => 'b',
        2 => 'w',
        _ => 'l',
    }
}
