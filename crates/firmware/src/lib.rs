//! Firmware's description of a machine, as far as it decides coherency and translation: ACPI tables (IORT, VIOT, MCFG,
//! MADT, DMAR, `_CCA` of the DSDT), flattened device trees, and what is contradictory in them ([`lint`]).
//!
//! Every parser takes any bytes: a clear error, no panic, time and memory bounded by the length of what it was given.
#![forbid(unsafe_code)]

pub mod aml;
pub mod dmar;
pub mod dt;
pub mod iort;
pub mod lint;
pub mod madt;
pub mod mcfg;
pub mod table;
pub mod viot;
