//! DMAR: the remapping units of VT-d (Intel VT-d specification, chapter 8).

use serde::Serialize;

use crate::table::{Error, HEADER, Table};

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dmar {
    /// Flags; bit 0: interrupts are remapped.
    pub flags: u8,
    /// Bits of a host address.
    pub address_bits: u8,
    /// The units.
    pub units: Vec<Unit>,
    /// Segments whose root ports take ATS (ATSR).
    pub ats: Vec<u16>,
}

/// A remapping unit (DRHD).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// PCI segment.
    pub segment: u16,
    /// Base address of its registers.
    pub base: u64,
    /// INCLUDE_PCI_ALL: every function of the segment that no other unit has.
    pub all: bool,
}

/// After the header: a width, flags, ten reserved bytes.
const STRUCTURES: usize = HEADER + 12;

impl Dmar {
    /// Reads a table with its header.
    ///
    /// # Errors
    /// Where it is not one, and what is there.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let table = Table::open("DMAR", bytes)?;
        table.bytes(HEADER, STRUCTURES - HEADER)?;
        let width = table.u8(HEADER)?;
        let address_bits = width.saturating_add(1);
        let mut out = Self { flags: table.u8(HEADER + 1)?, address_bits, units: Vec::new(), ats: Vec::new() };
        let mut at = STRUCTURES;
        while at < table.len() {
            let (kind, length) = (table.u16(at)?, usize::from(table.u16(at + 2)?));
            let least = match kind {
                0 => 16,
                2 => 8,
                _ => 4,
            };
            if length < least {
                let what = format!("a structure of type {kind} of {length} bytes; it has at least {least}");
                return Err(table.error(at + 2, what));
            }
            table.bytes(at, length)?;
            match kind {
                0 => out.units.push(Unit {
                    segment: table.u16(at + 6)?,
                    base: table.u64(at + 8)?,
                    all: table.u8(at + 4)? & 1 != 0,
                }),
                2 => out.ats.push(table.u16(at + 6)?),
                _ => {}
            }
            at += length;
        }
        Ok(out)
    }
}
