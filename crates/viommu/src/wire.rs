//! The bytes (5.13.3 to 5.13.6): features, configuration, requests, properties, fault reports.

/// Feature bits of the device (5.13.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features(pub u64);

/// VIRTIO_IOMMU_F_INPUT_RANGE.
pub const F_INPUT_RANGE: u64 = 1 << 0;
/// VIRTIO_IOMMU_F_DOMAIN_RANGE.
pub const F_DOMAIN_RANGE: u64 = 1 << 1;
/// VIRTIO_IOMMU_F_MAP_UNMAP.
pub const F_MAP_UNMAP: u64 = 1 << 2;
/// VIRTIO_IOMMU_F_BYPASS, superseded.
pub const F_BYPASS: u64 = 1 << 3;
/// VIRTIO_IOMMU_F_PROBE.
pub const F_PROBE: u64 = 1 << 4;
/// VIRTIO_IOMMU_F_MMIO.
pub const F_MMIO: u64 = 1 << 5;
/// VIRTIO_IOMMU_F_BYPASS_CONFIG.
pub const F_BYPASS_CONFIG: u64 = 1 << 6;
/// VIRTIO_IOMMU_F_COHERENCY. A proposal (docs/virtio-iommu-coherency.md); the number is provisional, as those of the next two are.
pub const F_COHERENCY: u64 = 1 << 16;
/// VIRTIO_IOMMU_MAP_F_NON_CACHEABLE, of the same proposal.
pub const MAP_F_NON_CACHEABLE: u32 = 1 << 16;
/// VIRTIO_IOMMU_PROBE_T_COHERENCY, of the same proposal.
pub const PROBE_T_COHERENCY: u16 = 16;

/// `status` of a reply (5.13.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// VIRTIO_IOMMU_S_OK.
    Ok = 0,
    /// VIRTIO_IOMMU_S_IOERR: virtio communication error.
    IoErr = 1,
    /// VIRTIO_IOMMU_S_UNSUPP: unsupported request.
    Unsupp = 2,
    /// VIRTIO_IOMMU_S_DEVERR: internal device error.
    DevErr = 3,
    /// VIRTIO_IOMMU_S_INVAL: invalid parameters.
    Inval = 4,
    /// VIRTIO_IOMMU_S_RANGE: out-of-range parameters.
    Range = 5,
    /// VIRTIO_IOMMU_S_NOENT: entry not found.
    NoEnt = 6,
    /// VIRTIO_IOMMU_S_FAULT: bad address.
    Fault = 7,
    /// VIRTIO_IOMMU_S_NOMEM: insufficient resources.
    NoMem = 8,
}
