//! The header that every ACPI table begins with (ACPI 6.5, 5.2.6), and its checksum.

/// Why bytes are not the table they should be. It carries where, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{table} at byte {at}: {what}")]
pub struct Error {
    /// Which table.
    pub table: &'static str,
    /// Offset of what is wrong.
    pub at: usize,
    /// What is wrong, with the values that are.
    pub what: String,
}
