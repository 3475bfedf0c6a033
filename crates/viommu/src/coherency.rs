//! What the host says of an endpoint's coherency (thread 004), and which endpoints one domain can hold.

/// Whether the accesses of an endpoint look into the CPUs' caches (thread 004, case A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
pub enum NoSnoop {
    /// Nobody has said.
    #[default]
    Unknown,
    /// It counts: such an access does not look into the caches.
    Allowed,
    /// It is taken off, or has no effect: every access snoops.
    Enforced,
}

/// Whether the IOMMU's own walks of page tables look into the CPUs' caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
pub struct Coherency {
    /// Case A.
    pub dma: Dma,
    /// Case B: the host can make its mappings non-cacheable.
    pub non_cacheable: bool,
    /// Case C.
    pub no_snoop: NoSnoop,
    /// For a format of page tables that is yet to come.
    pub walks: Walks,
}

/// What the host's side of a domain, one address space for all its endpoints or one for each, can hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Spaces {
    /// Endpoints that are coherent beside others that are not.
    pub mixed_dma: bool,
    /// Endpoints whose No Snoop is taken off beside others whose is not: iommufd's one HWPT cannot, a container for each endpoint can.
    pub mixed_no_snoop: bool,
}

/// Why an endpoint cannot join a domain: VIRTIO_IOMMU_S_UNSUPP (5.13.6.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// One is coherent and the other not.
    #[error("{new:?} DMA beside {present:?} DMA, in one address space that holds one kind")]
    Dma {
        /// Of those that are attached.
        present: Dma,
        /// Of the endpoint.
        new: Dma,
    },
    /// Of one No Snoop is taken off, of the other it is not.
    #[error("No Snoop {new:?} beside No Snoop {present:?}, in one address space that holds one kind")]
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
/// # Errors
/// Why not.
pub fn serves(spaces: Spaces, present: &[Coherency], new: Coherency, non_cacheable_mappings: bool) -> Result<(), Unserved> {
    let _ = (spaces, present, new, non_cacheable_mappings);
    todo!()
}
