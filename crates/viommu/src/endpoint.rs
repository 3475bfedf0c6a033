//! Endpoints: who does DMA, and what the host says of them.

use std::fmt;

use crate::{Interval, coherency::Coherency};

/// The identifier of an endpoint: of a PCI function its RID, with what the platform's description adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct EndpointId(pub u32);

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// An endpoint that the device manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Who.
    pub id: EndpointId,
    /// What its addresses hold already: the RESV_MEM properties of a PROBE, in order of address and apart.
    pub reserved: Vec<Reserved>,
    /// What the host says of its coherency.
    pub coherency: Coherency,
}

impl Endpoint {
    /// One that reserves nothing, and of whose coherency nobody has said anything.
    #[must_use]
    pub fn new(id: EndpointId) -> Self {
        Self { id, reserved: Vec::new(), coherency: Coherency::default() }
    }
}

/// Addresses of an endpoint that no MAP can have (5.13.6.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reserved {
    /// Which.
    pub at: Interval,
    /// Why.
    pub kind: ReservedKind,
}

/// Why addresses are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReservedKind {
    /// VIRTIO_IOMMU_RESV_MEM_T_RESERVED: accesses reach nothing.
    Reserved,
    /// VIRTIO_IOMMU_RESV_MEM_T_MSI: writes are messages to the interrupt controller.
    Msi,
}
