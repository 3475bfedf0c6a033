//! What the host has to do for a request, and what it may answer.

use std::fmt;

use crate::{EndpointId, Interval, Mapping, wire::Status};

/// The identifier of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct DomainId(pub u32);

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

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
    /// The endpoint, which was attached to none, translates by the domain, which may have mappings already. A host with an address
    /// space for each endpoint makes them for this one now: it keeps its own books, or finds them in
    /// [`Device::mappings`](crate::Device::mappings). Where one cannot be made, the whole effect has failed.
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
        /// Where its accesses go from now on. On the way to another domain that is nowhere.
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
    /// The domain has no mapping within the range any more. One at least has been there, and none lies partly within. Holes may.
    Unmap {
        /// The domain.
        domain: DomainId,
        /// The range.
        range: Interval,
    },
    /// The endpoint, attached to none, is in bypass mode from now on or no longer. It is the first that a host hears of an endpoint.
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

impl HostError {
    /// What the driver is told.
    #[must_use]
    pub const fn status(self) -> Status {
        match self {
            Self::NoMemory => Status::NoMem,
            Self::BadAddress => Status::Fault,
            Self::Unsupported => Status::Unsupp,
            Self::Failed => Status::DevErr,
        }
    }
}

/// Who does the effects.
pub trait Host {
    /// Does one. An effect that fails has done nothing. What an endpoint may no longer reach when one is done, it does not reach: an
    /// IOTLB that still holds it is flushed before this returns.
    ///
    /// # Errors
    /// Why it could not.
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError>;
}
