//! MCFG: where configuration space lies (PCI Firmware 3.3, 4.1.2).

use serde::Serialize;

use crate::table::Error;

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

/// Reads a table with its header.
///
/// # Errors
/// Where it is not one, and what is there.
pub fn parse(_bytes: &[u8]) -> Result<Vec<Ecam>, Error> {
    todo!()
}
