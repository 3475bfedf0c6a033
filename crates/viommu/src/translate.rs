//! Translation of an endpoint's accesses, on any thread, while the guest maps.

use crate::{Gpa, Iova, MemoryType, access::Kind};

/// Translates the accesses of one endpoint.
#[derive(Debug, Clone)]
pub struct Translator {}

/// Where an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To guest-physical memory.
    Memory {
        /// Where.
        at: Gpa,
        /// How many addresses from there on are the same mapping, less one.
        more: u64,
        /// Of which type.
        memory: MemoryType,
    },
    /// To the interrupt controller: the address lies in an MSI region.
    Msi,
}

/// Why an access goes nowhere: `reason` of a fault report (5.13.6.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The endpoint is attached to no domain: VIRTIO_IOMMU_FAULT_R_DOMAIN.
    Domain,
    /// Nothing is mapped there, or it does not allow this: VIRTIO_IOMMU_FAULT_R_MAPPING.
    Mapping,
}

impl Translator {
    /// Where the access goes. Hot path: no lock is taken while the endpoint stays attached as it is.
    ///
    /// # Errors
    /// It goes nowhere; for [`event`](crate::event).
    pub fn translate(&mut self, at: Iova, kind: Kind) -> Result<Target, Reason> {
        let _ = (at, kind);
        todo!()
    }
}
