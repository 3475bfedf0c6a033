//! MCFG: where configuration space lies (PCI Firmware 3.3, 4.1.2).

use serde::Serialize;

use crate::table::{Error, HEADER, Table};

/// An enhanced configuration access window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ecam {
    /// Base address.
    pub base: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus.
    pub first: u8,
    /// Last bus.
    pub last: u8,
}

/// After the header, eight reserved bytes.
const ENTRIES: usize = HEADER + 8;
const ENTRY: usize = 16;

/// Reads a table with its header.
///
/// # Errors
/// Where it is not one, and what is there.
pub fn parse(bytes: &[u8]) -> Result<Vec<Ecam>, Error> {
    let table = Table::open("MCFG", bytes)?;
    table.bytes(HEADER, ENTRIES - HEADER)?;
    let mut out = Vec::with_capacity((table.len() - ENTRIES) / ENTRY);
    let mut at = ENTRIES;
    while at < table.len() {
        let it = table.bytes(at, ENTRY)?;
        let entry = Ecam { base: table.u64(at)?, segment: table.u16(at + 8)?, first: it[10], last: it[11] };
        if entry.last < entry.first {
            let what = format!("buses {:#04x} to {:#04x}: the last is below the first", entry.first, entry.last);
            return Err(table.error(at + 10, what));
        }
        out.push(entry);
        at += ENTRY;
    }
    Ok(out)
}
