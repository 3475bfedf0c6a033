//! The driver's side: requests written, replies and fault reports read, the properties of a PROBE parsed, and which flags a buffer is mapped
//! with and which caches are maintained for it. Pure values: no queue, no memory.
//!
//! It does what virtio demands of a driver (5.13.3 to 5.13.6, the driver's normative parts) and refuses to write what virtio forbids, so that
//! a device can be tested with what a correct driver sends. The coherency part follows docs/virtio-iommu-coherency.md.
//!
//! ```
//! use viommu::MemoryType;
//! use viommu::coherency::{Coherency, Dma};
//! use viommu::driver::{Buffer, Cpu, Direction, dma_map, known};
//!
//! let buffer = Buffer { cpu: Cpu::Cacheable, direction: Direction::FromDevice, mmio: false, no_snoop: false };
//! // Without the proposal there is what firmware says, and nothing else.
//! let coherent = dma_map(known(None, Some(true)), buffer).unwrap();
//! assert!(!coherent.clean_before && !coherent.invalidate_after);
//! let not = dma_map(known(None, Some(false)), buffer).unwrap();
//! assert!(not.clean_before && not.invalidate_after && not.memory == MemoryType::Normal);
//! ```

use std::collections::BTreeMap;

use crate::{
    Access, EndpointId, Gpa, Interval, Iova, MemoryType,
    coherency::{Coherency, Dma, NoSnoop, Walks},
    effect::DomainId,
    endpoint::Reserved,
    event::FaultReport,
    wire::{
        self, ATTACH_F_BYPASS, CONFIG, CONFIG_BYPASS, ConfigSpace, F_BYPASS, F_BYPASS_CONFIG, F_COHERENCY,
        F_DOMAIN_RANGE, F_INPUT_RANGE, F_MAP_UNMAP, F_MMIO, F_PROBE, FAULT, Features, MAP_F_MMIO, MAP_F_NON_CACHEABLE,
        MAP_F_READ, MAP_F_WRITE, Property, Request, Status, TAIL,
    },
};

/// What the driver can use. [`F_BYPASS`] is not among it: it is superseded (5.13.3.2).
pub const USABLE: u64 = F_INPUT_RANGE | F_DOMAIN_RANGE | F_MAP_UNMAP | F_PROBE | F_MMIO | F_BYPASS_CONFIG | F_COHERENCY;
const _: () = assert!(USABLE & F_BYPASS == 0);

/// Why the driver does not use the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// VIRTIO_IOMMU_F_MAP_UNMAP is not offered: there is no mode of operation that the driver knows (5.13.5).
    #[error("VIRTIO_IOMMU_F_MAP_UNMAP is not offered (the device offers {0:#x})")]
    NoMapUnmap(u64),
    /// `page_size_mask` is 0 (5.13.4.2).
    #[error("page_size_mask is 0: there is no granule")]
    NoGranule,
    /// `input_range` or `domain_range` ends before it begins.
    #[error("a range of the configuration is from {start:#x} to {end:#x}: it ends before it begins")]
    EmptyRange {
        /// Its `start`.
        start: u64,
        /// Its `end`.
        end: u64,
    },
}

/// Why a request is not sent: virtio says MUST NOT, or the device would reject it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// 5.13.6.1: outside of `domain_range`.
    #[error("domain {domain} is not within {first} to {last}", domain = .domain.0, first = .range.0.0, last = .range.1.0)]
    Domain {
        /// What was asked for.
        domain: DomainId,
        /// What there is.
        range: (DomainId, DomainId),
    },
    /// 5.13.6.1: outside of `input_range`.
    #[error("{asked} is not within {range}")]
    Input {
        /// What was asked for.
        asked: Interval,
        /// What there is.
        range: Interval,
    },
    /// 5.13.6.5.1: `virt_end` MUST be greater than `virt_start`.
    #[error("a mapping of one byte at {0}: virt_end has to be greater than virt_start")]
    OneByte(Iova),
    /// 5.13.6.8.1.1: an endpoint of the domain has reserved it.
    #[error("{asked} overlaps {reserved}, which is reserved")]
    Reserved {
        /// What was asked for.
        asked: Interval,
        /// What is reserved.
        reserved: Interval,
    },
    /// 5.13.6.5.1, 5.13.6.6.1: the domain is a bypass domain, and has no mappings.
    #[error("domain {domain} is a bypass domain", domain = .0.0)]
    Bypass(DomainId),
    /// 5.13.6.6.1: a range MUST begin and end at the ends of mappings or outside of them.
    #[error("{range} ends or begins within the mapping {mapping}")]
    Splits {
        /// What was asked for.
        range: Interval,
        /// What is mapped.
        mapping: Interval,
    },
    /// The feature that it needs was not negotiated.
    #[error("feature {0:#x} was not negotiated")]
    Feature(u64),
}

/// The driver of one device, after FEATURES_OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Driver {
    features: Features,
    page_size_mask: u64,
    input_range: Interval,
    domain_range: (DomainId, DomainId),
    probe_size: u32,
}

/// A domain as its driver knows it: which endpoints are in it is the caller's to know; those that cannot be isolated from each other belong in the
/// same (5.13.6.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    id: DomainId,
    bypass: bool,
    mappings: BTreeMap<Iova, Iova>,
    reserved: Vec<Interval>,
}

impl Domain {
    /// One without mappings; with `bypass`, the identity.
    #[must_use]
    pub const fn new(id: DomainId, bypass: bool) -> Self {
        Self { id, bypass, mappings: BTreeMap::new(), reserved: Vec::new() }
    }
    /// An endpoint with these properties is to be attached: what it reserves is not mapped (5.13.6.8.1.1).
    pub fn reserve(&mut self, properties: &Properties) {
        self.reserved.extend(properties.reserved.iter().map(|it| it.at));
    }
    /// A MAP has succeeded.
    pub fn mapped(&mut self, at: Interval) {
        self.mappings.insert(at.first(), at.last());
    }
    /// An UNMAP has succeeded.
    pub fn unmapped(&mut self, range: Interval) {
        self.mappings.retain(|first, last| !(range.contains(*first) && range.contains(*last)));
    }
    fn is_no_bypass(&self) -> Result<(), NotSent> {
        if self.bypass { Err(NotSent::Bypass(self.id)) } else { Ok(()) }
    }
    fn splits_none(&self, range: Interval) -> Result<(), NotSent> {
        // Mappings are apart: those that an end can lie in are the last that begin before it.
        for end in [range.first(), range.last()] {
            let at = self.mappings.range(..=end).next_back().and_then(|(f, l)| Interval::new(*f, *l));
            if let Some(mapping) = at.filter(|it| it.contains(end) && !range.covers(*it)) {
                return Err(NotSent::Splits { range, mapping });
            }
        }
        Ok(())
    }
}

/// A request as it goes into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The device-readable part.
    pub readable: Vec<u8>,
    /// Bytes of the device-writable part.
    pub writable: usize,
}

/// The properties of an endpoint, as the driver understands them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// RESV_MEM, in order of appearance.
    pub reserved: Vec<Reserved>,
    /// COHERENCY: the first, and only where the feature was negotiated.
    pub coherency: Option<Coherency>,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The used length is 0: the device did not understand it (5.13.6.1).
    #[error("the device wrote nothing")]
    NothingWritten,
    /// The used length ends before the tail.
    #[error("the device wrote {used} bytes, and the tail begins at {tail}")]
    NoTail {
        /// Used length.
        used: usize,
        /// Where the tail begins.
        tail: usize,
    },
    /// The device says so.
    #[error("the device says {0:?}")]
    Status(Status),
    /// A status that is not known.
    #[error("the device says status {0}, which is not known")]
    Unknown(u8),
}

/// Which of the offered features the driver takes: all that it can use. 5.13.3.1 says SHOULD of three of them. VIRTIO_IOMMU_F_COHERENCY
/// requires VIRTIO_IOMMU_F_PROBE.
///
/// # Errors
/// Without VIRTIO_IOMMU_F_MAP_UNMAP it can do nothing (5.13.5).
pub const fn negotiate(offered: Features) -> Result<Features, Unusable> {
    if !offered.has(F_MAP_UNMAP) {
        return Err(Unusable::NoMapUnmap(offered.0));
    }
    let usable = if offered.has(F_PROBE) { USABLE } else { USABLE & !F_COHERENCY };
    Ok(Features(offered.0 & usable))
}

impl Sent {
    /// What came back: the device-writable part, of which the device says that it wrote the first `used` bytes. The properties, if it
    /// was a PROBE; else nothing.
    ///
    /// # Errors
    /// It failed.
    pub fn reply<'a>(&self, written: &'a [u8], used: usize) -> Result<&'a [u8], Failure> {
        if used == 0 {
            return Err(Failure::NothingWritten);
        }
        let tail = self.writable.saturating_sub(TAIL);
        // The three reserved bytes behind the status are ignored (5.13.6.1).
        let status = *written.get(tail).filter(|_| used > tail).ok_or(Failure::NoTail { used, tail })?;
        match Status::from_byte(status) {
            Some(Status::Ok) => Ok(written.get(..tail).unwrap_or_default()),
            Some(status) => Err(Failure::Status(status)),
            None => Err(Failure::Unknown(status)),
        }
    }
}

impl Driver {
    /// From what was negotiated and the bytes of the configuration (5.13.4). A field whose feature was not negotiated is not looked at.
    ///
    /// # Errors
    /// The device cannot be used.
    pub fn new(features: Features, config: &[u8; CONFIG]) -> Result<Self, Unusable> {
        let config = ConfigSpace::parse(config);
        if !features.has(F_MAP_UNMAP) {
            return Err(Unusable::NoMapUnmap(features.0));
        }
        if config.page_size_mask == 0 {
            return Err(Unusable::NoGranule);
        }
        let mut input_range = Interval::ALL;
        if features.has(F_INPUT_RANGE) {
            let (start, end) = config.input_range;
            input_range = Interval::new(start, end).ok_or(Unusable::EmptyRange { start: start.0, end: end.0 })?;
        }
        let mut domain_range = (DomainId(0), DomainId(u32::MAX));
        if features.has(F_DOMAIN_RANGE) {
            domain_range = config.domain_range;
            let (DomainId(start), DomainId(end)) = domain_range;
            if end < start {
                return Err(Unusable::EmptyRange { start: start.into(), end: end.into() });
            }
        }
        let probe_size = if features.has(F_PROBE) { config.probe_size } else { 0 };
        Ok(Self { features, page_size_mask: config.page_size_mask, input_range, domain_range, probe_size })
    }

    /// What was negotiated.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }
    /// Bytes of the smallest mapping; the lowest bit of `page_size_mask`.
    #[must_use]
    pub const fn granule(&self) -> u64 {
        1 << self.page_size_mask.trailing_zeros()
    }

    fn needs(&self, feature: u64) -> Result<(), NotSent> {
        if self.features.has(feature) { Ok(()) } else { Err(NotSent::Feature(feature)) }
    }
    fn domain(&self, domain: DomainId) -> Result<DomainId, NotSent> {
        let range = self.domain_range;
        if domain < range.0 || range.1 < domain { Err(NotSent::Domain { domain, range }) } else { Ok(domain) }
    }
    fn input(&self, asked: Interval) -> Result<(), NotSent> {
        let range = self.input_range;
        if range.covers(asked) { Ok(()) } else { Err(NotSent::Input { asked, range }) }
    }
    fn sent(&self, request: &Request) -> Sent {
        Sent { readable: request.bytes(), writable: request.kind().writable(self.probe_size) }
    }

    /// ATTACH (5.13.6.3). VIRTIO_IOMMU_ATTACH_F_BYPASS is the domain's, so that it is the same for all its endpoints.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn attach(&self, domain: &Domain, endpoint: EndpointId) -> Result<Sent, NotSent> {
        let id = self.domain(domain.id)?;
        if domain.bypass {
            self.needs(F_BYPASS_CONFIG)?;
        }
        let flags = if domain.bypass { ATTACH_F_BYPASS } else { 0 };
        Ok(self.sent(&Request::Attach { domain: id, endpoint, flags, reserved: 0 }))
    }

    /// What an endpoint is begun with: a PROBE, where that is negotiated, and then the ATTACH (5.13.5.1).
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn begin(&self, domain: &Domain, endpoint: EndpointId) -> Result<Vec<Sent>, NotSent> {
        let attach = self.attach(domain, endpoint)?;
        Ok(self.probe(endpoint).into_iter().chain([attach]).collect())
    }

    /// DETACH (5.13.6.4).
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn detach(&self, domain: &Domain, endpoint: EndpointId) -> Result<Sent, NotSent> {
        let domain = self.domain(domain.id)?;
        Ok(self.sent(&Request::Detach { domain, endpoint }))
    }

    /// MAP (5.13.6.5). When it has succeeded, [`Domain::mapped`].
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn map(&self, domain: &Domain, at: Interval, to: Gpa, access: Access) -> Result<Sent, NotSent> {
        let id = self.domain(domain.id)?;
        domain.is_no_bypass()?;
        self.input(at)?;
        if at.first() == at.last() {
            return Err(NotSent::OneByte(at.first()));
        }
        if let Some(reserved) = domain.reserved.iter().copied().find(|it| it.overlaps(at)) {
            return Err(NotSent::Reserved { asked: at, reserved });
        }
        let memory = match access.memory {
            MemoryType::Normal => 0,
            MemoryType::Mmio => {
                self.needs(F_MMIO)?;
                MAP_F_MMIO
            }
            MemoryType::NonCacheable => {
                self.needs(F_COHERENCY)?;
                MAP_F_NON_CACHEABLE
            }
        };
        let read = if access.read { MAP_F_READ } else { 0 };
        let write = if access.write { MAP_F_WRITE } else { 0 };
        let (virt_start, virt_end) = (at.first(), at.last());
        let flags = read | write | memory;
        Ok(self.sent(&Request::Map { domain: id, virt_start, virt_end, phys_start: to, flags }))
    }

    /// UNMAP (5.13.6.6). When it has succeeded, [`Domain::unmapped`].
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn unmap(&self, domain: &Domain, range: Interval) -> Result<Sent, NotSent> {
        let id = self.domain(domain.id)?;
        domain.is_no_bypass()?;
        self.input(range)?;
        domain.splits_none(range)?;
        let (virt_start, virt_end) = (range.first(), range.last());
        Ok(self.sent(&Request::Unmap { domain: id, virt_start, virt_end, reserved: 0 }))
    }

    /// Whether endpoints that are attached to no domain are in bypass mode, by the field `bypass` as it was read. Nothing if it was not
    /// negotiated. Bits 1 to 7 are ignored (5.13.4.1).
    #[must_use]
    pub fn bypass(&self, field: u8) -> Option<bool> {
        self.features.has(F_BYPASS_CONFIG).then_some(field & 1 != 0)
    }

    /// The one write to the configuration that there is (5.13.4.1): its offset and its byte.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn set_bypass(&self, on: bool) -> Result<(u64, u8), NotSent> {
        self.needs(F_BYPASS_CONFIG)?;
        Ok((CONFIG_BYPASS as u64, u8::from(on)))
    }

    /// PROBE, with as many bytes for properties as `probe_size` says.
    ///
    /// # Errors
    /// [`NotSent`].
    pub fn probe(&self, endpoint: EndpointId) -> Result<Sent, NotSent> {
        self.needs(F_PROBE)?;
        Ok(self.sent(&Request::Probe { endpoint }))
    }

    /// The properties of an endpoint out of the answer to a PROBE (5.13.6.7, [`wire::properties`]).
    #[must_use]
    pub fn properties(&self, list: &[u8]) -> Properties {
        let mut found = Properties::default();
        for property in wire::properties(list) {
            match property {
                Property::ResvMem(it) => found.reserved.push(it),
                Property::Coherency(it) if self.features.has(F_COHERENCY) => {
                    found.coherency.get_or_insert(it);
                }
                Property::Coherency(_) => {}
            }
        }
        found
    }
}

/// A fault report out of the event queue (5.13.6.9), in a buffer of which the device wrote the first `used` bytes. Nothing if it is to be
/// ignored: its field `reserved` is not zero, or there are fewer bytes than a report has.
#[must_use]
pub fn fault(buffer: &[u8], used: usize) -> Option<FaultReport> {
    FaultReport::parse(buffer.get(..used)?.first_chunk::<FAULT>()?)
}

/// What the driver knows of an endpoint's coherency: the property, if there is one, and what firmware says (`_CCA`, `dma-coherent`).
///
/// Without the property there is firmware alone, of No Snoop and of non-cacheable mappings nothing. With it, firmware stands in where
/// the property leaves `dma` open. Where the two contradict each other neither is believed: unknown.
#[must_use]
pub fn known(property: Option<Coherency>, firmware: Option<bool>) -> Coherency {
    let says = match firmware {
        None => Dma::Unknown,
        Some(true) => Dma::Coherent,
        Some(false) => Dma::NonCoherent,
    };
    let Some(property) = property else { return Coherency { dma: says, ..Coherency::default() } };
    let dma = match (property.dma, says) {
        (it, Dma::Unknown) | (Dma::Unknown, it) => it,
        (a, b) if a == b => a,
        _ => Dma::Unknown,
    };
    Coherency { dma, ..property }
}

/// Whether the driver may set Enable No Snoop of the endpoint to gain something by it: only where the attribute is known to count, and then
/// with maintenance (`no_snoop` of [`Buffer`]).
#[must_use]
pub const fn no_snoop_is_useful(coherency: Coherency) -> bool {
    matches!(coherency.no_snoop, NoSnoop::Allowed)
}

/// Whether the driver has to clean page tables that it writes for the IOMMU, once there is a format of them.
#[must_use]
pub const fn cleans_tables(walks: Walks) -> bool {
    !matches!(walks, Walks::Coherent)
}

/// How the CPU has a buffer mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cpu {
    /// Write-Back.
    Cacheable,
    /// Non-cacheable: Normal-NC on Arm, write-combining or uncached on x86. No line of it is in a cache.
    NonCacheable,
}

/// Who writes to a buffer while it is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The CPU; the endpoint reads.
    ToDevice,
    /// The endpoint; the CPU reads.
    FromDevice,
    /// Both.
    Both,
}

/// A buffer to be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// How the CPU has it.
    pub cpu: Cpu,
    /// Who writes.
    pub direction: Direction,
    /// It is registers of a device, and no memory.
    pub mmio: bool,
    /// The endpoint may set No Snoop on accesses to it.
    pub no_snoop: bool,
}

/// What to do for a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Which flag the MAP request has.
    pub memory: MemoryType,
    /// Clean the caches, to the point where the endpoint looks, before the endpoint gets the buffer.
    pub clean_before: bool,
    /// Clean and invalidate the caches after the endpoint is done and before the CPU reads. Not invalidate alone: where it is not certain that an
    /// access did not look into the caches, what it left there would be lost. With [`clean_before`](Self::clean_before) nothing else is dirty.
    pub invalidate_after: bool,
}

/// The CPU has the buffer non-cacheable, the endpoint's accesses may be cached, and the device cannot map it otherwise: have it
/// cacheable at the CPU too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the CPU maps the buffer non-cacheable and the endpoint's accesses may be cached: map it cacheable")]
pub struct Mismatch;

/// Which flag a buffer is mapped with, and which maintenance it needs.
///
/// * Registers are mapped MMIO, where that is negotiated; nothing is in a cache.
/// * Memory that the CPU has cacheable is mapped as it is. If not every access of the endpoint is known to look into the caches, they are
///   cleaned before and, if the endpoint writes, invalidated after: as Linux on arm64 does (arch/arm64/mm/dma-mapping.c,
///   `arch_sync_dma_for_device` and `arch_sync_dma_for_cpu`). The clean is for a buffer that only the endpoint writes too: a dirty line
///   that is evicted later would go over what it wrote.
/// * Memory that the CPU has non-cacheable needs accesses that are not cached either: an endpoint that never snoops, else
///   VIRTIO_IOMMU_MAP_F_NON_CACHEABLE, else it cannot be. On Arm an access that is cached may leave in a cache what the CPU does not look
///   for there; x86 would bear it.
///
/// # Errors
/// [`Mismatch`].
pub fn dma_map(coherency: Coherency, buffer: Buffer) -> Result<Decision, Mismatch> {
    let as_is = |memory| Decision { memory, clean_before: false, invalidate_after: false };
    if buffer.mmio {
        return Ok(as_is(MemoryType::Mmio));
    }
    match buffer.cpu {
        Cpu::Cacheable => {
            let needed = coherency.needs_maintenance(MemoryType::Normal, buffer.no_snoop);
            let writes = buffer.direction != Direction::ToDevice;
            Ok(Decision { memory: MemoryType::Normal, clean_before: needed, invalidate_after: needed && writes })
        }
        Cpu::NonCacheable if coherency.dma == Dma::NonCoherent => Ok(as_is(MemoryType::Normal)),
        Cpu::NonCacheable if coherency.non_cacheable => Ok(as_is(MemoryType::NonCacheable)),
        Cpu::NonCacheable => Err(Mismatch),
    }
}
