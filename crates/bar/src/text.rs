//! Texts of the kernel: a function's `resource`, the PAT memtype list, `smaps`. Pure; any text is taken.

use serde::{Deserialize, Serialize};

/// A line of `/sys/bus/pci/devices/BDF/resource`: line N is BAR N for 0 to 5, 6 the ROM; of a bridge 7 on are its windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// `IORESOURCE_*` of Linux.
    pub flags: u64,
}

/// The lines of the file; nothing where a line is empty of content (all zero) or not understood.
#[must_use]
pub fn resources(_text: &str) -> Vec<Option<Resource>> {
    todo!()
}

/// An entry of the PAT memtype list: what the kernel reserved physical addresses as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// First address.
    pub first: u64,
    /// Last address. The file's end is exclusive; this is not.
    pub last: u64,
    /// As what.
    pub kind: Cachemode,
}

/// Linux's `enum page_cache_mode`, in the words of `pat_memtype_list`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cachemode {
    /// UC.
    Uncached,
    /// UC-: an MTRR may make it WC.
    UncachedMinus,
    /// WB.
    WriteBack,
    /// WC.
    WriteCombining,
    /// WT.
    WriteThrough,
    /// WP.
    WriteProtected,
}

/// The entries of `/sys/kernel/debug/x86/pat_memtype_list`.
///
/// # Errors
/// The first line that is not understood.
pub fn memtypes(_text: &str) -> Result<Vec<Reserved>, String> {
    todo!()
}

/// `VmFlags` of the mapping at an address, out of `/proc/PID/smaps`.
#[must_use]
pub fn vm_flags(_smaps: &str, _address: u64) -> Option<&str> {
    todo!()
}
