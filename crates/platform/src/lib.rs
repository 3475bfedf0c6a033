//! What no software can find out about a machine, as declared facts.
//!
//! Whether a failing access is contained, whether Normal-NC works on this SoC, whether a device's DMA snoops: threads 002 and
//! 003 end on "unknowable platform specific property". Nothing here is probed. Somebody who knows says so ([`Platform`]).
//! With feature `std`, `errata` has what is known of particular machines.
//!
//! ```
//! use platform::{Errors, NcDefect, Platform};
//!
//! let usual = Platform::USUAL;
//! assert_eq!((usual.containment.device, usual.normal_nc), (Errors::AllOnes, NcDefect::None));
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

mod bdf;
#[cfg(feature = "std")]
pub mod errata;

pub use bdf::{Bdf, NotBdf};

use serde::{Deserialize, Serialize};

/// What comes of an access that fails on the bus: the device is gone, its memory decode is off, the link is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Errors {
    /// A read gives ones, a write is dropped, nobody is told: what PCIe integrations do (thread 003, Gunthorpe).
    #[default]
    AllOnes,
    /// Whoever made the access is told, by an External abort or an SError that names it.
    Contained,
    /// An SError that nobody can put down to the guest (`ESR_ELx.AET` = UC): Linux panics (`do_serror`).
    Uncontained,
}

impl Errors {
    /// All, the mildest first.
    pub const ALL: [Self; 3] = [Self::AllOnes, Self::Contained, Self::Uncontained];

    /// As a scenario writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllOnes => "all-ones",
            Self::Contained => "contained",
            Self::Uncontained => "uncontained",
        }
    }
    /// By name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }
}

/// [`Errors`] by the memory type of the failing access: the argument of thread 003 is whether they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Containment {
    /// Of accesses by any Device type.
    pub device: Errors,
    /// Of accesses by any Normal type.
    pub normal: Errors,
}

/// What a SoC does wrong with Normal-NC accesses to PCIe memory ("we know of some ARM SOC's that don't work fully with
/// NORMAL_NC for this usage", thread 002, Gunthorpe).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NcDefect {
    /// Nothing.
    #[default]
    None,
    /// A write whose byte enables are not contiguous goes to wrong addresses.
    Holes,
    /// A write with some but not all byte enables of an 8-byte beat goes to wrong addresses.
    Partial,
    /// Writes merged to more than 256 bytes hang the machine.
    Long,
    /// Every access fails.
    Fails,
}

impl NcDefect {
    /// All.
    pub const ALL: [Self; 5] = [Self::None, Self::Holes, Self::Partial, Self::Long, Self::Fails];

    /// As a scenario writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "works",
            Self::Holes => "holes",
            Self::Partial => "partial",
            Self::Long => "long",
            Self::Fails => "fails",
        }
    }
    /// By name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }
    /// In a sentence.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::None => "Normal-NC works.",
            Self::Holes => "A Normal-NC write whose byte enables are not contiguous goes to wrong addresses.",
            Self::Partial => "A Normal-NC write of less than a whole 8-byte beat goes to wrong addresses.",
            Self::Long => "Normal-NC writes merged to more than 256 bytes hang the machine.",
            Self::Fails => "Every Normal-NC access to PCIe memory fails.",
        }
    }
}

/// Whether a device's request with the No Snoop attribute (PCIe) can bypass the caches here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoSnoop {
    /// The IOMMU or the root complex takes the attribute off.
    #[default]
    Never,
    /// It can.
    Possible,
}

/// What somebody who knows the machine declares of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// What comes of failing accesses.
    pub containment: Containment,
    /// What Normal-NC does wrong.
    pub normal_nc: NcDefect,
    /// A device's DMA snoops the CPU's caches (`_CCA`, `dma-coherent`).
    pub coherent: bool,
    /// Whether No Snoop can undo that.
    pub no_snoop: NoSnoop,
    /// The firmware describes PCIe memory as fit for Normal-NC. No firmware does today: thread 002 asks for it.
    pub described: bool,
}

impl Platform {
    /// A server as thread 003 has them: failing accesses give ones, Normal-NC works, DMA is coherent, and no firmware says so.
    pub const USUAL: Self = Self {
        containment: Containment { device: Errors::AllOnes, normal: Errors::AllOnes },
        normal_nc: NcDefect::None,
        coherent: true,
        no_snoop: NoSnoop::Never,
        described: false,
    };

    /// Whether the DMA of a device that sets No Snoop, or does not, sees what is in the caches.
    #[must_use]
    pub const fn snoops(&self, no_snoop: bool) -> bool {
        self.coherent && !(no_snoop && matches!(self.no_snoop, NoSnoop::Possible))
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self::USUAL
    }
}
