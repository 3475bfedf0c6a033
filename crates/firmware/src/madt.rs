//! MADT (signature `APIC`): who takes interrupts (ACPI 6.5, 5.2.12). Only what tells the architecture, and what takes
//! MSIs on Arm.

use serde::Serialize;

use crate::table::{Error, HEADER, Table};

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Madt {
    /// A GIC's CPU interface (type 11) is in it: the machine is Arm's.
    pub gic: bool,
    /// GIC ITSs (type 15): id and base address.
    pub its: Vec<(u32, u64)>,
    /// GICv2m frames (type 13): id and base address.
    pub frames: Vec<(u32, u64)>,
}

/// After the header: an address, flags.
const ENTRIES: usize = HEADER + 8;

impl Madt {
    /// Reads a table with its header.
    ///
    /// # Errors
    /// Where it is not one, and what is there.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let table = Table::open("APIC", bytes)?;
        table.bytes(HEADER, ENTRIES - HEADER)?;
        let mut out = Self::default();
        let mut at = ENTRIES;
        while at < table.len() {
            let (kind, length) = (table.u8(at)?, usize::from(table.u8(at + 1)?));
            if length < 2 {
                return Err(table.error(at + 1, format!("an entry of type {kind} of {length} bytes")));
            }
            table.bytes(at, length)?;
            let least = if matches!(kind, 13 | 15) { 16 } else { 2 };
            if length < least {
                let what = format!("an entry of type {kind} of {length} bytes; it has at least {least}");
                return Err(table.error(at + 1, what));
            }
            match kind {
                11 => out.gic = true,
                13 => out.frames.push((table.u32(at + 4)?, table.u64(at + 8)?)),
                15 => out.its.push((table.u32(at + 4)?, table.u64(at + 8)?)),
                _ => {}
            }
            at += length;
        }
        Ok(out)
    }
}
