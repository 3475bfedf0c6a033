//! What a guest can make the device hold: domains, mappings and faults that wait. Endpoints are the VMM's to give, and what a domain
//! keeps for its endpoints is of their number.
//!
//! In memory: a domain keeps room for less than four times the mappings that it has, or for 64. Room that a
//! [`Translator`](crate::Translator) keeps of a domain that is gone counts as mappings, where it is for more than 64
//! ([`Device::held`](crate::Device::held)).

/// Limits; beyond them a request is answered VIRTIO_IOMMU_S_NOMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Domains at a time. Domains without an endpoint cease to exist, so there are never more than endpoints. The host has one more
    /// for a moment, while the last endpoint of one moves to a new one.
    pub domains: usize,
    /// Mappings of one domain.
    pub mappings_per_domain: usize,
    /// Mappings of all, with those that are gone and that somebody [holds](crate::Device::held).
    pub mappings: usize,
    /// Faults that wait for a buffer of the driver's; later ones are dropped, and counted. With 0 none is reported: a fault waits before it
    /// gets one.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { domains: 1 << 16, mappings_per_domain: 1 << 20, mappings: 1 << 22, events: 64 }
    }
}
