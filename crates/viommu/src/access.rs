//! What a mapping allows, and of which memory type its accesses are.

/// What the accesses of an endpoint through a mapping are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum MemoryType {
    /// Memory, as the endpoint accesses it of itself: coherent if the endpoint is.
    #[default]
    Normal,
    /// Memory whose accesses are not coherent, whatever the endpoint does of itself: VIRTIO_IOMMU_MAP_F_NON_CACHEABLE
    /// (docs/virtio-iommu-coherency.md; thread 004, case B).
    NonCacheable,
    /// VIRTIO_IOMMU_MAP_F_MMIO (5.13.6.5): not speculated, buffered, cached, split or combined.
    Mmio,
}

/// What a mapping allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Access {
    /// VIRTIO_IOMMU_MAP_F_READ.
    pub read: bool,
    /// VIRTIO_IOMMU_MAP_F_WRITE.
    pub write: bool,
    /// Of which type the accesses are.
    pub memory: MemoryType,
}

/// What an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

impl Access {
    /// Reads and writes of ordinary memory.
    pub const READ_WRITE: Self = Self { read: true, write: true, memory: MemoryType::Normal };

    /// Whether it allows that.
    #[must_use]
    pub const fn allows(self, kind: Kind) -> bool {
        match kind {
            Kind::Read => self.read,
            Kind::Write => self.write,
        }
    }
}
