//! What a guest can make the device hold.

/// Limits; beyond them a request is answered VIRTIO_IOMMU_S_NOMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Domains at a time. Domains without an endpoint cease to exist, so there are never more than endpoints.
    pub domains: usize,
    /// Mappings of one domain.
    pub mappings_per_domain: usize,
    /// Mappings of all.
    pub mappings: usize,
    /// Faults kept for which the driver has given no buffer; later ones are dropped, and counted.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { domains: 1 << 16, mappings_per_domain: 1 << 20, mappings: 1 << 22, events: 64 }
    }
}
