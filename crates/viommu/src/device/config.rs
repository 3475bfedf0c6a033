//! What a device is to be, and why there is no such device.

use crate::{
    EndpointId, Interval, Iova,
    coherency::Spaces,
    effect::DomainId,
    limits::Limits,
    wire::{self, Features, Status},
};

/// How a device treats endpoints that are attached to no domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bypass {
    /// They are blocked: neither VIRTIO_IOMMU_F_BYPASS nor VIRTIO_IOMMU_F_BYPASS_CONFIG is offered.
    #[default]
    Never,
    /// VIRTIO_IOMMU_F_BYPASS, which is superseded: in bypass mode if the driver takes the feature.
    Legacy,
    /// VIRTIO_IOMMU_F_BYPASS_CONFIG.
    Config {
        /// The field `bypass` of the configuration after a system reset.
        initially: bool,
    },
}

/// What a device is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `page_size_mask`; at least one bit, the lowest is the granule.
    pub page_size_mask: u64,
    /// `input_range`; the whole of 2^64 is VIRTIO_IOMMU_F_INPUT_RANGE not offered.
    pub input_range: Interval,
    /// `domain_range`, both ends included; all of 32 bits is VIRTIO_IOMMU_F_DOMAIN_RANGE not offered.
    pub domain_range: (DomainId, DomainId),
    /// VIRTIO_IOMMU_F_PROBE and `probe_size`; 0 is not offered.
    pub probe_size: u32,
    /// VIRTIO_IOMMU_F_MMIO.
    pub mmio: bool,
    /// VIRTIO_IOMMU_F_BYPASS and VIRTIO_IOMMU_F_BYPASS_CONFIG.
    pub bypass: Bypass,
    /// VIRTIO_IOMMU_F_COHERENCY, which is a proposal (docs/virtio-iommu-coherency.md) and off by default. Needs PROBE.
    pub coherency: bool,
    /// What the host's side of a domain can hold together.
    pub spaces: Spaces,
    /// Whether the virtqueues are coherent memory, as the transport's description tells the guest. Others are refused (thread 004, case D).
    pub coherent_virtqueues: bool,
    /// Limits.
    pub limits: Limits,
}

impl Default for Config {
    /// Pages of 4 KiB, all addresses and domains, PROBE, MMIO, VIRTIO_IOMMU_F_BYPASS_CONFIG with `bypass` 0, no coherency.
    fn default() -> Self {
        Self {
            page_size_mask: !0xfff,
            input_range: Interval::ALL,
            domain_range: ALL_DOMAINS,
            probe_size: 512,
            mmio: true,
            bypass: Bypass::Config { initially: false },
            coherency: false,
            spaces: Spaces::default(),
            coherent_virtqueues: true,
            limits: Limits::default(),
        }
    }
}

/// Every number that a domain can have.
pub(super) const ALL_DOMAINS: (DomainId, DomainId) = (DomainId(0), DomainId(u32::MAX));

/// The most that `probe_size` can be: a reply is as long, and the driver has one allocated for each PROBE.
pub const MAX_PROBE_SIZE: u32 = 1 << 16;

/// Why there is no such device, or no such endpoint of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// `page_size_mask` has no bit (5.13.4.2).
    #[error("page_size_mask is 0; one bit at least says the granule")]
    NoGranule,
    /// `input_range` does not begin and end between pages: a driver that allocates by pages would ask for one that is partly outside.
    #[error("the input range {range} does not begin and end at multiples of the granule {granule:#x}")]
    InputRange {
        /// `input_range`.
        range: Interval,
        /// The lowest bit of `page_size_mask`.
        granule: u64,
    },
    /// `domain_range` is empty.
    #[error("the domain range {first}..={last} is empty")]
    DomainRange {
        /// `domain_range.start`.
        first: DomainId,
        /// `domain_range.end`.
        last: DomainId,
    },
    /// `probe_size` is more than a reply is allowed to be.
    #[error("probe_size is {size}; at most {MAX_PROBE_SIZE}")]
    ProbeSize {
        /// `probe_size`.
        size: u32,
    },
    /// VIRTIO_IOMMU_F_COHERENCY without VIRTIO_IOMMU_F_PROBE: the driver could not learn of any endpoint's coherency.
    #[error("coherency is a property that PROBE tells, and probe_size is 0")]
    CoherencyWithoutProbe,
    /// The virtqueues are not coherent (thread 004, case D). The device reads what the driver wrote through the caches; it can clean
    /// none of the guest's lines, and the guest's driver does not clean its own for a device that is described as coherent.
    #[error(
        "the virtqueues are described to the guest as not coherent, and this device reads and writes them through the CPUs' caches: \
         describe the transport as coherent (`dma-coherent`, _CCA 1)"
    )]
    VirtqueuesNotCoherent,
    /// The driver took features that were not offered (virtio 2.2).
    #[error("features {:#x} are not offered; these are: {:#x}", .refused.0, .offered.0)]
    NotOffered {
        /// Those.
        refused: Features,
        /// All that were.
        offered: Features,
    },
    /// The driver took features before, and there was no reset since (virtio 2.2).
    #[error("features {:#x} were taken before; others, {:#x}, only after a reset", .before.0, .now.0)]
    Renegotiated {
        /// Those that it took.
        before: Features,
        /// Those that it would take.
        now: Features,
    },
    /// An endpoint with this identifier is there already.
    #[error("endpoint {0} is there already")]
    EndpointExists(EndpointId),
    /// RESV_MEM not in order of address, or one overlapping another (5.13.6.8.1.2).
    #[error("endpoint {endpoint}: the reserved region {next} does not lie above {before}")]
    ReservedOrder {
        /// The endpoint.
        endpoint: EndpointId,
        /// A region.
        before: Interval,
        /// The one after it.
        next: Interval,
    },
    /// Two MSI regions (5.13.6.8.1.2).
    #[error("endpoint {endpoint}: {second} is a second MSI region, after {first}")]
    SecondMsi {
        /// The endpoint.
        endpoint: EndpointId,
        /// An MSI region.
        first: Interval,
        /// Another.
        second: Interval,
    },
    /// The properties are more than `probe_size` bytes, so that a driver could not learn of them.
    #[error("endpoint {endpoint}: its properties are {bytes} bytes, and probe_size is {probe_size}")]
    Properties {
        /// The endpoint.
        endpoint: EndpointId,
        /// How long they are.
        bytes: usize,
        /// `probe_size`.
        probe_size: u32,
    },
    /// What was saved is of a version that is not known.
    #[error("a saved state of version {found}; this is version {known}")]
    SavedVersion {
        /// Its version.
        found: u32,
        /// The one that is known.
        known: u32,
    },
    /// What was saved is of a device that a driver could tell from this one.
    #[error("the saved device has {field} {saved:#x}, and this one {here:#x}")]
    SavedConfig {
        /// What differs.
        field: &'static str,
        /// As it was saved.
        saved: u64,
        /// As it is here.
        here: u64,
    },
    /// `bypass` was saved as 1 of a device that does not have the field.
    #[error("the saved device has bypass 1 and does not offer VIRTIO_IOMMU_F_BYPASS_CONFIG")]
    SavedBypass,
    /// Saved mappings without VIRTIO_IOMMU_F_MAP_UNMAP having been negotiated.
    #[error("domain {0} has mappings, and VIRTIO_IOMMU_F_MAP_UNMAP was not negotiated")]
    SavedUnnegotiated(DomainId),
    /// A saved domain is there twice.
    #[error("domain {0} is saved twice")]
    SavedDomainTwice(DomainId),
    /// A saved domain has no endpoint: it would have ceased to exist (5.13.6.4).
    #[error("domain {0} is saved without an endpoint")]
    SavedDomainEmpty(DomainId),
    /// A saved endpoint is attached to two domains, or twice to one.
    #[error("endpoint {endpoint} is saved as attached to domain {first} and to domain {second}")]
    SavedTwice {
        /// The endpoint.
        endpoint: EndpointId,
        /// A domain.
        first: DomainId,
        /// Another, or the same.
        second: DomainId,
    },
    /// The ATTACH that would lead to the saved state would be refused.
    #[error("endpoint {endpoint} cannot be attached to domain {domain}: {status}")]
    SavedAttach {
        /// The endpoint.
        endpoint: EndpointId,
        /// The domain.
        domain: DomainId,
        /// With what it would be refused.
        status: Status,
    },
    /// The MAP that would lead to the saved state would be refused.
    #[error("domain {domain} cannot have the mapping {first}..={last}: {status}")]
    SavedMap {
        /// The domain.
        domain: DomainId,
        /// `virt_start`.
        first: Iova,
        /// `virt_end`.
        last: Iova,
        /// With what it would be refused.
        status: Status,
    },
    /// An endpoint was saved as in doubt that does not exist, or while the device needed no reset.
    #[error("endpoint {0} is saved as in doubt, and there is no such endpoint or no reset was needed")]
    SavedDoubt(EndpointId),
    /// More faults wait than the limit allows.
    #[error("{waiting} faults are saved as waiting, and the limit is {limit}")]
    SavedFaults {
        /// How many.
        waiting: usize,
        /// [`Limits::events`].
        limit: usize,
    },
    /// A fault waits of an endpoint that does not exist (5.13.6.9.2).
    #[error("a fault is saved of endpoint {0}, which does not exist")]
    SavedFault(EndpointId),
    /// A fault that waits is not the bytes of one.
    #[error("a saved fault is not the {} bytes that a fault report is", wire::FAULT)]
    SavedFaultBytes,
}

impl Config {
    /// The lowest bit of `page_size_mask`.
    pub(super) const fn granule(&self) -> u64 {
        self.page_size_mask & self.page_size_mask.wrapping_neg()
    }
    /// `bypass` after a system reset.
    pub(super) const fn initially(&self) -> bool {
        matches!(self.bypass, Bypass::Config { initially: true })
    }
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.page_size_mask == 0 {
            return Err(Wrong::NoGranule);
        }
        let (range, granule) = (self.input_range, self.granule());
        if (range.first().0 | range.last().0.wrapping_add(1)) & (granule - 1) != 0 {
            return Err(Wrong::InputRange { range, granule });
        }
        let (first, last) = self.domain_range;
        if last < first {
            return Err(Wrong::DomainRange { first, last });
        }
        if self.probe_size > MAX_PROBE_SIZE {
            return Err(Wrong::ProbeSize { size: self.probe_size });
        }
        if self.coherency && self.probe_size == 0 {
            return Err(Wrong::CoherencyWithoutProbe);
        }
        if !self.coherent_virtqueues {
            return Err(Wrong::VirtqueuesNotCoherent);
        }
        Ok(())
    }
}
