//! What the host has to do for a request, and what it may answer.

use crate::{EndpointId, Interval, Mapping};

/// The identifier of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct DomainId(pub u32);

/// Where the accesses of an endpoint go that is attached to no domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unattached {
    /// Nowhere.
    Blocked,
    /// Everywhere, by the identity: it is in bypass mode.
    Identity,
}

/// One thing for the host to do. All of a request are done in order, before the reply is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The domain comes into being, without mappings. With `bypass` it is the identity and never has any.
    Create {
        /// The domain.
        domain: DomainId,
        /// VIRTIO_IOMMU_ATTACH_F_BYPASS.
        bypass: bool,
    },
    /// The endpoint, which was attached to none, translates by the domain, which may have mappings already.
    Attach {
        /// The endpoint.
        endpoint: EndpointId,
        /// The domain.
        domain: DomainId,
    },
    /// The endpoint leaves the domain.
    Detach {
        /// The endpoint.
        endpoint: EndpointId,
        /// The domain.
        domain: DomainId,
        /// Where its accesses go from now on.
        then: Unattached,
    },
    /// The domain, which no endpoint is attached to, ceases to exist, with all that it maps.
    Destroy {
        /// The domain.
        domain: DomainId,
    },
    /// The domain has one mapping more.
    Map {
        /// The domain.
        domain: DomainId,
        /// The mapping.
        mapping: Mapping,
    },
    /// The domain has no mapping within the range any more. None lies partly within.
    Unmap {
        /// The domain.
        domain: DomainId,
        /// The range.
        range: Interval,
    },
    /// The endpoint, attached to none, is in bypass mode from now on or no longer.
    Unattached {
        /// The endpoint.
        endpoint: EndpointId,
        /// Where its accesses go.
        now: Unattached,
    },
}

/// Why the host could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It has no more memory, or no more of something else: VIRTIO_IOMMU_S_NOMEM.
    #[error("the host has not enough of something")]
    NoMemory,
    /// There is no guest memory at the physical addresses: VIRTIO_IOMMU_S_FAULT.
    #[error("no guest memory is there")]
    BadAddress,
    /// It can do nothing of the kind: VIRTIO_IOMMU_S_UNSUPP.
    #[error("the host cannot do this")]
    Unsupported,
    /// It should have worked and has not: VIRTIO_IOMMU_S_DEVERR.
    #[error("the host failed")]
    Failed,
}

/// Who does the effects.
pub trait Host {
    /// Does one. An effect that fails has done nothing.
    ///
    /// # Errors
    /// Why it could not.
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError>;
}
