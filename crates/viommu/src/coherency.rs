//! What the host says of an endpoint's coherency (thread 004), which endpoints one domain can hold, and what an access then is.
//!
//! ```
//! use viommu::MemoryType;
//! use viommu::coherency::{Coherency, Dma, NoSnoop, Spaces, serves};
//!
//! let snooped = Coherency { dma: Dma::Coherent, no_snoop: NoSnoop::Enforced, ..Coherency::default() };
//! let not = Coherency { dma: Dma::NonCoherent, ..snooped };
//! assert!(serves(Spaces::default(), &[snooped], snooped, false).is_ok());
//! assert!(serves(Spaces::default(), &[snooped], not, false).is_err());
//! assert!(serves(Spaces { mixed_dma: true, ..Spaces::default() }, &[snooped], not, false).is_ok());
//! assert_eq!(snooped.snoops(MemoryType::Normal, true), Some(true));
//! ```

use crate::MemoryType;

/// Whether the accesses of an endpoint look into the CPUs' caches (thread 004, case A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Dma {
    /// Nobody has said.
    #[default]
    Unknown,
    /// They do, unless the endpoint sets No Snoop or the mapping is non-cacheable.
    Coherent,
    /// They never do.
    NonCoherent,
}

/// What becomes of a transaction's No Snoop attribute (thread 004, case C).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum NoSnoop {
    /// Nobody has said.
    #[default]
    Unknown,
    /// It counts: such an access need not look into the caches.
    Allowed,
    /// It is taken off, or has no effect: no access is less coherent for it.
    Enforced,
}

/// Whether the IOMMU's own walks of page tables look into the CPUs' caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Walks {
    /// Nobody has said.
    #[default]
    Unknown,
    /// They do.
    Coherent,
    /// They do not: the guest would have to clean its tables.
    NonCoherent,
}

/// What the host says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub struct Coherency {
    /// Case A.
    pub dma: Dma,
    /// Case B: the host can make its mappings non-cacheable, and leaves the guest's own mappings so: not where stage 2 forces the guest's
    /// memory cacheable (FEAT_S2FWB with KVM).
    pub non_cacheable: bool,
    /// Case C.
    pub no_snoop: NoSnoop,
    /// For a format of page tables that is yet to come.
    pub walks: Walks,
}

impl Dma {
    /// As people and JSON are told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Coherent => "coherent",
            Self::NonCoherent => "non-coherent",
        }
    }
}

impl NoSnoop {
    /// As people and JSON are told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Allowed => "allowed",
            Self::Enforced => "enforced",
        }
    }
}

impl Walks {
    /// As people and JSON are told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Coherent => "coherent",
            Self::NonCoherent => "non-coherent",
        }
    }
}

impl Coherency {
    /// Whether an access of the endpoint through a mapping looks into the CPUs' caches; `no_snoop` is the attribute that it
    /// sets on the access. Nothing where that cannot be told: then a reader has to take both.
    ///
    /// * An endpoint that is never coherent is not, whatever the rest says.
    /// * A non-cacheable mapping is not, where the host makes such mappings. Where it does not the device refuses to map
    ///   ([`Unserved::NonCacheable`]), and of what nobody can map nothing is said.
    /// * Of VIRTIO_IOMMU_MAP_F_MMIO virtio says that accesses are not cached (5.13.6.5), not what they do to memory that is. An SMMU makes
    ///   them Device, which does not snoop; VT-d has no such type.
    /// * Ordinary memory: as the endpoint is. An access with No Snoop, where that counts, need not look. PCIe lets it look all the same, so
    ///   that an answer `false` is what to reckon with, not what is certain to be seen.
    #[must_use]
    pub const fn snoops(self, memory: MemoryType, no_snoop: bool) -> Option<bool> {
        if matches!(self.dma, Dma::NonCoherent) {
            return Some(false);
        }
        match memory {
            MemoryType::NonCacheable if self.non_cacheable => Some(false),
            MemoryType::NonCacheable | MemoryType::Mmio => None,
            MemoryType::Normal => match (self.dma, if no_snoop { self.no_snoop } else { NoSnoop::Enforced }) {
                (_, NoSnoop::Allowed) => Some(false),
                (Dma::Coherent, NoSnoop::Enforced) => Some(true),
                _ => None,
            },
        }
    }

    /// Whether the guest's software has to maintain caches for the endpoint's accesses through a mapping; `no_snoop` is
    /// whether the endpoint may set the attribute at all. What is not known counts as yes.
    #[must_use]
    pub const fn needs_maintenance(self, memory: MemoryType, no_snoop: bool) -> bool {
        !matches!(self.snoops(memory, false), Some(true))
            || no_snoop && !matches!(self.snoops(memory, true), Some(true))
    }
}

/// What the host's side of a domain, one address space for all its endpoints or one for each, can hold together.
///
/// With VFIO on Linux: a container takes endpoints of both kinds and makes an IOMMU domain for each kind (`vfio_iommu_type1_attach_group`
/// looks for one whose `enforce_cache_coherency` is the same, or keeps the new one). iommufd does not keep them apart: see [`serves`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub struct Spaces {
    /// Endpoints that are coherent beside others that are not.
    pub mixed_dma: bool,
    /// Endpoints whose No Snoop is taken off beside others whose is not: iommufd cannot, a container of VFIO can.
    pub mixed_no_snoop: bool,
}

impl Spaces {
    /// One table for all the endpoints of a domain, with one memory type for all of ordinary memory.
    pub const ONE_TABLE: Self = Self { mixed_dma: false, mixed_no_snoop: false };
    /// The same where that type is always Write-Back, as it is in iommufd (IOMMU_CACHE): it does an endpoint that does not snoop no
    /// harm.
    pub const IOMMUFD: Self = Self { mixed_dma: true, mixed_no_snoop: false };
    /// A table for each endpoint, or for each kind of endpoint, as in a container of VFIO.
    pub const TABLE_EACH: Self = Self { mixed_dma: true, mixed_no_snoop: true };
}

/// Why an endpoint cannot join a domain: VIRTIO_IOMMU_S_UNSUPP (5.13.6.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// One is coherent and the other not.
    #[error("{} DMA beside {} DMA, in one address space that holds one kind", .new.name(), .present.name())]
    Dma {
        /// Of those that are attached.
        present: Dma,
        /// Of the endpoint.
        new: Dma,
    },
    /// Of one No Snoop is taken off, of the other it is not.
    #[error("No Snoop {} beside No Snoop {}, in one address space that holds one kind", .new.name(), .present.name())]
    NoSnoop {
        /// Of those that are attached.
        present: NoSnoop,
        /// Of the endpoint.
        new: NoSnoop,
    },
    /// The domain has non-cacheable mappings, which the host cannot make for the endpoint.
    #[error("the domain has non-cacheable mappings, which the host cannot make for this endpoint")]
    NonCacheable,
}

/// Whether an endpoint can join those that are attached.
///
/// virtio lets a device refuse any second endpoint (5.13.6.3.2), and thread 004 says that mixes are fine where the host can have them: a domain
/// only spares the driver from sending each MAP twice. So nothing is refused but what would make something untrue that the guest was told:
///
/// * *Coherent beside non-coherent*, in one table. The table's entries have one memory type. Write-Back for the one is not harmful to the
///   other; but a host that maps non-cacheable, for the one that cannot snoop, makes the coherent one non-coherent.
/// * *No Snoop enforced beside not*, in one table. iommufd: a table that enforces cache coherency, made for an endpoint of which that is
///   possible, cannot take one of which it is not; one that does not enforce takes both, and enforces for neither (Linux 6.13
///   drivers/iommu/iommufd/hw_pagetable.c, `iommufd_hwpt_paging_alloc`, a comment). So it goes by who is attached first, in an IOAS too, where
///   any table that takes an endpoint will do (`iommufd_device_auto_get_domain`). The guest has been told "enforced" of one of them.
/// * *Unknown* is a kind of its own: it goes with others of which nobody has said anything, and not with those of which somebody has. Beside an
///   endpoint with a promise it may be the one that breaks it. Among themselves there is no promise to break, and to refuse would
///   take several endpoints in a domain away from every host that was asked nothing; such a host still says by its own failure that it cannot.
/// * *Non-cacheable mappings* of the domain, which a host could not replay for the endpoint.
///
/// # Errors
/// Why not; the first that is in the way.
pub fn serves(
    spaces: Spaces,
    present: &[Coherency],
    new: Coherency,
    non_cacheable_mappings: bool,
) -> Result<(), Unserved> {
    if non_cacheable_mappings && !new.non_cacheable {
        return Err(Unserved::NonCacheable);
    }
    for there in present {
        if !spaces.mixed_dma && there.dma != new.dma {
            return Err(Unserved::Dma { present: there.dma, new: new.dma });
        }
        if !spaces.mixed_no_snoop && there.no_snoop != new.no_snoop {
            return Err(Unserved::NoSnoop { present: there.no_snoop, new: new.no_snoop });
        }
    }
    Ok(())
}
