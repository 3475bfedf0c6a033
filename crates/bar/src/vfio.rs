//! VFIO: groups and containers, cdevs and iommufd.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod capabilities;
#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
mod device;

pub use capabilities::{Capabilities, capabilities};
#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub(crate) use device::{By, driver, flags_of};
#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub use device::{Device, Region, Removal, command};

/// What VFIO answers of a device that was opened for it. Opening resets the function, so that it is asked only where the user says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// By which way: `group` or `cdev`.
    pub by: String,
    /// `VFIO_CHECK_EXTENSION(VFIO_DMA_CC_IOMMU)`: the IOMMU takes No Snoop off.
    pub enforces_coherency: Option<bool>,
    /// The BARs, by index.
    pub regions: BTreeMap<u32, OpenedRegion>,
    /// Attribute calls this kernel has: `alias`, `dma-buf`. None up to Linux 7.3. `dma-buf-export` is not one: VFIO_DEVICE_FEATURE_DMA_BUF
    /// gives a range out to other devices; `dma-buf-mmap` is that what it gave could be mapped.
    pub attributes: Vec<String>,
}

impl Opened {
    /// Whether there is a call by which to ask for an attribute. That a range can be exported, or what was exported be mapped, is none.
    #[must_use]
    pub fn takes_attributes(&self) -> bool {
        self.attributes.iter().any(|call| matches!(call.as_str(), "alias" | "dma-buf"))
    }
}

/// What VFIO answers of a BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedRegion {
    /// Bytes.
    pub size: u64,
    /// `VFIO_REGION_INFO_FLAG_MMAP`.
    pub mmap: bool,
    /// Parts that may be mapped, as (offset, size), where not all may.
    pub sparse: Option<Vec<(u64, u64)>>,
    /// `VmFlags` of `/proc/self/smaps` of a mapping of it, where one was made. `??` is a flag without a name: VM_ALLOW_ANY_UNCACHED.
    pub vm_flags: Option<String>,
}

/// Asks VFIO of a device: opens it (which resets it), looks, maps each BAR that can be without touching it, closes it.
///
/// # Errors
/// Why it could not be opened, in words with the file and the remedy.
pub fn ask(bdf: platform::Bdf) -> Result<Opened, String> {
    #[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
    return device::ask(bdf);
    #[cfg(not(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64"))))]
    return Err(format!("{bdf}: VFIO is asked on Linux on arm64 and x86 only"));
}
