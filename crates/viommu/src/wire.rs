//! The bytes (5.13.3 to 5.13.6): features, configuration, requests, properties, fault reports. Where each field stands is
//! said once, and both the reading and the writing go by it.

use std::fmt;

use crate::{
    EndpointId, Gpa, Interval, Iova,
    access::Kind,
    coherency::{Coherency, Dma, NoSnoop, Walks},
    effect::DomainId,
    endpoint::{Reserved, ReservedKind},
    event::FaultReport,
    translate::Reason,
};

/// The device's identifier in virtio (5.13.1).
pub const DEVICE_ID: u16 = 23;
/// The virtqueue of requests (5.13.2).
pub const REQUEST_QUEUE: u16 = 0;
/// The virtqueue of events (5.13.2).
pub const EVENT_QUEUE: u16 = 1;

/// Feature bits of the device (5.13.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
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

/// VIRTIO_IOMMU_T_ATTACH.
pub const T_ATTACH: u8 = 1;
/// VIRTIO_IOMMU_T_DETACH.
pub const T_DETACH: u8 = 2;
/// VIRTIO_IOMMU_T_MAP.
pub const T_MAP: u8 = 3;
/// VIRTIO_IOMMU_T_UNMAP.
pub const T_UNMAP: u8 = 4;
/// VIRTIO_IOMMU_T_PROBE.
pub const T_PROBE: u8 = 5;

/// VIRTIO_IOMMU_ATTACH_F_BYPASS.
pub const ATTACH_F_BYPASS: u32 = 1 << 0;
/// VIRTIO_IOMMU_MAP_F_READ.
pub const MAP_F_READ: u32 = 1 << 0;
/// VIRTIO_IOMMU_MAP_F_WRITE.
pub const MAP_F_WRITE: u32 = 1 << 1;
/// VIRTIO_IOMMU_MAP_F_MMIO.
pub const MAP_F_MMIO: u32 = 1 << 2;

/// VIRTIO_IOMMU_PROBE_T_RESV_MEM.
pub const PROBE_T_RESV_MEM: u16 = 1;
/// VIRTIO_IOMMU_RESV_MEM_T_RESERVED.
pub const RESV_MEM_T_RESERVED: u8 = 0;
/// VIRTIO_IOMMU_RESV_MEM_T_MSI.
pub const RESV_MEM_T_MSI: u8 = 1;

/// VIRTIO_IOMMU_FAULT_R_UNKNOWN.
pub const FAULT_R_UNKNOWN: u8 = 0;
/// VIRTIO_IOMMU_FAULT_R_DOMAIN.
pub const FAULT_R_DOMAIN: u8 = 1;
/// VIRTIO_IOMMU_FAULT_R_MAPPING.
pub const FAULT_R_MAPPING: u8 = 2;
/// VIRTIO_IOMMU_FAULT_F_READ.
pub const FAULT_F_READ: u32 = 1 << 0;
/// VIRTIO_IOMMU_FAULT_F_WRITE.
pub const FAULT_F_WRITE: u32 = 1 << 1;
/// VIRTIO_IOMMU_FAULT_F_ADDRESS.
pub const FAULT_F_ADDRESS: u32 = 1 << 8;

impl Features {
    /// Whether all of these bits are there.
    #[must_use]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }
}

/// `status` of a reply (5.13.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl Status {
    /// All, in order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::IoErr,
        Self::Unsupp,
        Self::DevErr,
        Self::Inval,
        Self::Range,
        Self::NoEnt,
        Self::Fault,
        Self::NoMem,
    ];
    /// By its number; nothing if there is none.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }
    /// The name, without VIRTIO_IOMMU_S_.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::IoErr => "IOERR",
            Self::Unsupp => "UNSUPP",
            Self::DevErr => "DEVERR",
            Self::Inval => "INVAL",
            Self::Range => "RANGE",
            Self::NoEnt => "NOENT",
            Self::Fault => "FAULT",
            Self::NoMem => "NOMEM",
        }
    }
    /// The tail of a reply: the status and three bytes of zero.
    #[must_use]
    pub const fn tail(self) -> [u8; TAIL] {
        [self as u8, 0, 0, 0]
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A little-endian field of 32 bits, by its offset.
#[derive(Debug, Clone, Copy)]
struct Le32(usize);
/// Of 64 bits.
#[derive(Debug, Clone, Copy)]
struct Le64(usize);

/// Bytes from an offset on; those that are not there are zeroes.
fn take<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

/// Writes bytes at an offset, if they fit.
fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(offset..).and_then(|rest| rest.get_mut(..value.len())) {
        place.copy_from_slice(value);
    }
}

impl Le32 {
    fn get(self, bytes: &[u8]) -> u32 {
        u32::from_le_bytes(take(bytes, self.0))
    }
    fn put(self, bytes: &mut [u8], value: u32) {
        put(bytes, self.0, &value.to_le_bytes());
    }
}

impl Le64 {
    fn get(self, bytes: &[u8]) -> u64 {
        u64::from_le_bytes(take(bytes, self.0))
    }
    fn put(self, bytes: &mut [u8], value: u64) {
        put(bytes, self.0, &value.to_le_bytes());
    }
}

/// Bytes of `struct virtio_iommu_req_tail`.
pub const TAIL: usize = 4;

/// `struct virtio_iommu_req_attach`, the device-readable part.
mod attach {
    use super::Le32;
    pub(super) const DOMAIN: Le32 = Le32(4);
    pub(super) const ENDPOINT: Le32 = Le32(8);
    pub(super) const FLAGS: Le32 = Le32(12);
    pub(super) const RESERVED: Le32 = Le32(16);
    pub(super) const BYTES: usize = 20;
}

/// `struct virtio_iommu_req_detach`; eight reserved bytes follow, which the device ignores.
mod detach {
    use super::Le32;
    pub(super) const DOMAIN: Le32 = Le32(4);
    pub(super) const ENDPOINT: Le32 = Le32(8);
    pub(super) const BYTES: usize = 20;
}

/// `struct virtio_iommu_req_map`.
mod map {
    use super::{Le32, Le64};
    pub(super) const DOMAIN: Le32 = Le32(4);
    pub(super) const VIRT_START: Le64 = Le64(8);
    pub(super) const VIRT_END: Le64 = Le64(16);
    pub(super) const PHYS_START: Le64 = Le64(24);
    pub(super) const FLAGS: Le32 = Le32(32);
    pub(super) const BYTES: usize = 36;
}

/// `struct virtio_iommu_req_unmap`.
mod unmap {
    use super::{Le32, Le64};
    pub(super) const DOMAIN: Le32 = Le32(4);
    pub(super) const VIRT_START: Le64 = Le64(8);
    pub(super) const VIRT_END: Le64 = Le64(16);
    pub(super) const RESERVED: Le32 = Le32(24);
    pub(super) const BYTES: usize = 28;
}

/// `struct virtio_iommu_req_probe`; 64 reserved bytes follow, which the device ignores.
mod probe {
    use super::Le32;
    pub(super) const ENDPOINT: Le32 = Le32(4);
    pub(super) const BYTES: usize = 72;
}

/// `struct virtio_iommu_config`.
mod config {
    use super::{Le32, Le64};
    pub(super) const PAGE_SIZE_MASK: Le64 = Le64(0);
    pub(super) const INPUT_START: Le64 = Le64(8);
    pub(super) const INPUT_END: Le64 = Le64(16);
    pub(super) const DOMAIN_START: Le32 = Le32(24);
    pub(super) const DOMAIN_END: Le32 = Le32(28);
    pub(super) const PROBE_SIZE: Le32 = Le32(32);
    pub(super) const BYPASS: usize = 36;
}

/// `struct virtio_iommu_fault`.
mod fault {
    use super::{Le32, Le64};
    pub(super) const REASON: usize = 0;
    pub(super) const RESERVED: std::ops::Range<usize> = 1..4;
    pub(super) const FLAGS: Le32 = Le32(4);
    pub(super) const ENDPOINT: Le32 = Le32(8);
    pub(super) const ADDRESS: Le64 = Le64(16);
}

/// The types of request (5.13.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RequestKind {
    /// VIRTIO_IOMMU_T_ATTACH.
    Attach = T_ATTACH,
    /// VIRTIO_IOMMU_T_DETACH.
    Detach = T_DETACH,
    /// VIRTIO_IOMMU_T_MAP.
    Map = T_MAP,
    /// VIRTIO_IOMMU_T_UNMAP.
    Unmap = T_UNMAP,
    /// VIRTIO_IOMMU_T_PROBE.
    Probe = T_PROBE,
}

impl RequestKind {
    /// All, in order of their numbers.
    pub const ALL: [Self; 5] = [Self::Attach, Self::Detach, Self::Map, Self::Unmap, Self::Probe];
    /// By its number; nothing if there is none.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
    /// The name, without VIRTIO_IOMMU_T_.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attach => "ATTACH",
            Self::Detach => "DETACH",
            Self::Map => "MAP",
            Self::Unmap => "UNMAP",
            Self::Probe => "PROBE",
        }
    }
    /// Bytes of its device-readable part.
    #[must_use]
    pub const fn readable(self) -> usize {
        match self {
            Self::Attach => attach::BYTES,
            Self::Detach => detach::BYTES,
            Self::Map => map::BYTES,
            Self::Unmap => unmap::BYTES,
            Self::Probe => probe::BYTES,
        }
    }
    /// Bytes of its device-writable part, with the tail.
    #[must_use]
    pub const fn writable(self, probe_size: u32) -> usize {
        match self {
            Self::Probe => (probe_size as usize).saturating_add(TAIL),
            _ => TAIL,
        }
    }
    /// The feature bits without which there is no such request.
    #[must_use]
    pub const fn needs(self) -> u64 {
        match self {
            Self::Attach | Self::Detach => 0,
            Self::Map | Self::Unmap => F_MAP_UNMAP,
            Self::Probe => F_PROBE,
        }
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A request, as its bytes say and nothing checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// VIRTIO_IOMMU_T_ATTACH (5.13.6.3).
    Attach {
        /// `domain`.
        domain: DomainId,
        /// `endpoint`.
        endpoint: EndpointId,
        /// `flags`.
        flags: u32,
        /// `reserved`.
        reserved: u32,
    },
    /// VIRTIO_IOMMU_T_DETACH (5.13.6.4).
    Detach {
        /// `domain`.
        domain: DomainId,
        /// `endpoint`.
        endpoint: EndpointId,
    },
    /// VIRTIO_IOMMU_T_MAP (5.13.6.5).
    Map {
        /// `domain`.
        domain: DomainId,
        /// `virt_start`.
        virt_start: Iova,
        /// `virt_end`, which is included.
        virt_end: Iova,
        /// `phys_start`.
        phys_start: Gpa,
        /// `flags`.
        flags: u32,
    },
    /// VIRTIO_IOMMU_T_UNMAP (5.13.6.6).
    Unmap {
        /// `domain`.
        domain: DomainId,
        /// `virt_start`.
        virt_start: Iova,
        /// `virt_end`, which is included.
        virt_end: Iova,
        /// `reserved`.
        reserved: u32,
    },
    /// VIRTIO_IOMMU_T_PROBE (5.13.6.7).
    Probe {
        /// `endpoint`.
        endpoint: EndpointId,
    },
}

/// Why bytes are no request. The device returns the buffer unwritten (5.13.6, 5.13.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRequest {
    /// Not even a type.
    #[error("a request of no bytes")]
    Empty,
    /// A type that is none.
    #[error("no request has type {0}")]
    Unknown(u8),
    /// Fewer bytes than the type has.
    #[error("{have} readable bytes, and {kind} has {}", .kind.readable())]
    Short {
        /// The type.
        kind: RequestKind,
        /// How many bytes there are.
        have: usize,
    },
}

impl Request {
    /// Reads one from its device-readable bytes; bytes beyond its end are not looked at.
    ///
    /// # Errors
    /// Why the bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoRequest> {
        let first = *bytes.first().ok_or(NoRequest::Empty)?;
        let kind = RequestKind::from_byte(first).ok_or(NoRequest::Unknown(first))?;
        if bytes.len() < kind.readable() {
            return Err(NoRequest::Short { kind, have: bytes.len() });
        }
        Ok(match kind {
            RequestKind::Attach => Self::Attach {
                domain: DomainId(attach::DOMAIN.get(bytes)),
                endpoint: EndpointId(attach::ENDPOINT.get(bytes)),
                flags: attach::FLAGS.get(bytes),
                reserved: attach::RESERVED.get(bytes),
            },
            RequestKind::Detach => Self::Detach {
                domain: DomainId(detach::DOMAIN.get(bytes)),
                endpoint: EndpointId(detach::ENDPOINT.get(bytes)),
            },
            RequestKind::Map => Self::Map {
                domain: DomainId(map::DOMAIN.get(bytes)),
                virt_start: Iova(map::VIRT_START.get(bytes)),
                virt_end: Iova(map::VIRT_END.get(bytes)),
                phys_start: Gpa(map::PHYS_START.get(bytes)),
                flags: map::FLAGS.get(bytes),
            },
            RequestKind::Unmap => Self::Unmap {
                domain: DomainId(unmap::DOMAIN.get(bytes)),
                virt_start: Iova(unmap::VIRT_START.get(bytes)),
                virt_end: Iova(unmap::VIRT_END.get(bytes)),
                reserved: unmap::RESERVED.get(bytes),
            },
            RequestKind::Probe => Self::Probe { endpoint: EndpointId(probe::ENDPOINT.get(bytes)) },
        })
    }
    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> RequestKind {
        match self {
            Self::Attach { .. } => RequestKind::Attach,
            Self::Detach { .. } => RequestKind::Detach,
            Self::Map { .. } => RequestKind::Map,
            Self::Unmap { .. } => RequestKind::Unmap,
            Self::Probe { .. } => RequestKind::Probe,
        }
    }
    /// Its device-readable bytes; those that have no field here are zeroes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.kind().readable()];
        put(&mut bytes, 0, &[self.kind() as u8]);
        match *self {
            Self::Attach { domain, endpoint, flags, reserved } => {
                attach::DOMAIN.put(&mut bytes, domain.0);
                attach::ENDPOINT.put(&mut bytes, endpoint.0);
                attach::FLAGS.put(&mut bytes, flags);
                attach::RESERVED.put(&mut bytes, reserved);
            }
            Self::Detach { domain, endpoint } => {
                detach::DOMAIN.put(&mut bytes, domain.0);
                detach::ENDPOINT.put(&mut bytes, endpoint.0);
            }
            Self::Map { domain, virt_start, virt_end, phys_start, flags } => {
                map::DOMAIN.put(&mut bytes, domain.0);
                map::VIRT_START.put(&mut bytes, virt_start.0);
                map::VIRT_END.put(&mut bytes, virt_end.0);
                map::PHYS_START.put(&mut bytes, phys_start.0);
                map::FLAGS.put(&mut bytes, flags);
            }
            Self::Unmap { domain, virt_start, virt_end, reserved } => {
                unmap::DOMAIN.put(&mut bytes, domain.0);
                unmap::VIRT_START.put(&mut bytes, virt_start.0);
                unmap::VIRT_END.put(&mut bytes, virt_end.0);
                unmap::RESERVED.put(&mut bytes, reserved);
            }
            Self::Probe { endpoint } => probe::ENDPOINT.put(&mut bytes, endpoint.0),
        }
        bytes
    }
}

/// Bytes of `struct virtio_iommu_config`.
pub const CONFIG: usize = 40;
/// Where `bypass` stands in it, the one field that a driver may write.
pub const CONFIG_BYPASS: usize = config::BYPASS;

/// The configuration (5.13.4), as a driver reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConfigSpace {
    /// `page_size_mask`.
    pub page_size_mask: u64,
    /// `input_range.start` and `input_range.end`, both included.
    pub input_range: (Iova, Iova),
    /// `domain_range.start` and `domain_range.end`, both included.
    pub domain_range: (DomainId, DomainId),
    /// `probe_size`.
    pub probe_size: u32,
    /// `bypass`.
    pub bypass: u8,
}

impl ConfigSpace {
    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; CONFIG] {
        let mut bytes = [0; CONFIG];
        config::PAGE_SIZE_MASK.put(&mut bytes, self.page_size_mask);
        config::INPUT_START.put(&mut bytes, self.input_range.0.0);
        config::INPUT_END.put(&mut bytes, self.input_range.1.0);
        config::DOMAIN_START.put(&mut bytes, self.domain_range.0.0);
        config::DOMAIN_END.put(&mut bytes, self.domain_range.1.0);
        config::PROBE_SIZE.put(&mut bytes, self.probe_size);
        put(&mut bytes, config::BYPASS, &[self.bypass]);
        bytes
    }
    /// From bytes.
    #[must_use]
    pub fn parse(bytes: &[u8; CONFIG]) -> Self {
        Self {
            page_size_mask: config::PAGE_SIZE_MASK.get(bytes),
            input_range: (Iova(config::INPUT_START.get(bytes)), Iova(config::INPUT_END.get(bytes))),
            domain_range: (DomainId(config::DOMAIN_START.get(bytes)), DomainId(config::DOMAIN_END.get(bytes))),
            probe_size: config::PROBE_SIZE.get(bytes),
            bypass: take::<1>(bytes, config::BYPASS)[0],
        }
    }
}

/// A property of an endpoint (5.13.6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Property {
    /// VIRTIO_IOMMU_PROBE_T_RESV_MEM.
    ResvMem(Reserved),
    /// VIRTIO_IOMMU_PROBE_T_COHERENCY, of the proposal.
    Coherency(Coherency),
}

/// Bytes of `struct virtio_iommu_probe_property`, the header.
const PROPERTY_HEAD: usize = 4;
/// Bytes of a RESV_MEM property after the header.
const RESV_MEM: usize = 20;
/// Bytes of a COHERENCY property after the header.
const COHERENCY: usize = 8;
/// `flags` of a COHERENCY property: VIRTIO_IOMMU_MAP_F_NON_CACHEABLE is available for the endpoint.
pub const COHERENCY_F_NON_CACHEABLE: u8 = 1 << 0;

impl Property {
    /// How many bytes it takes, with its header.
    #[must_use]
    pub const fn size(&self) -> usize {
        PROPERTY_HEAD
            + match self {
                Self::ResvMem(_) => RESV_MEM,
                Self::Coherency(_) => COHERENCY,
            }
    }
    /// Appends its bytes.
    pub fn write(&self, to: &mut Vec<u8>) {
        let (kind, length) = match self {
            Self::ResvMem(_) => (PROBE_T_RESV_MEM, RESV_MEM as u16),
            Self::Coherency(_) => (PROBE_T_COHERENCY, COHERENCY as u16),
        };
        to.extend_from_slice(&kind.to_le_bytes());
        to.extend_from_slice(&length.to_le_bytes());
        match self {
            Self::ResvMem(Reserved { at, kind }) => {
                let subtype = match kind {
                    ReservedKind::Reserved => RESV_MEM_T_RESERVED,
                    ReservedKind::Msi => RESV_MEM_T_MSI,
                };
                to.extend_from_slice(&[subtype, 0, 0, 0]);
                to.extend_from_slice(&at.first().0.to_le_bytes());
                to.extend_from_slice(&at.last().0.to_le_bytes());
            }
            Self::Coherency(coherency) => {
                let dma = match coherency.dma {
                    Dma::Unknown => 0,
                    Dma::Coherent => 1,
                    Dma::NonCoherent => 2,
                };
                let no_snoop = match coherency.no_snoop {
                    NoSnoop::Unknown => 0,
                    NoSnoop::Allowed => 1,
                    NoSnoop::Enforced => 2,
                };
                let walks = match coherency.walks {
                    Walks::Unknown => 0,
                    Walks::Coherent => 1,
                    Walks::NonCoherent => 2,
                };
                let flags = if coherency.non_cacheable { COHERENCY_F_NON_CACHEABLE } else { 0 };
                to.extend_from_slice(&[dma, no_snoop, walks, flags, 0, 0, 0, 0]);
            }
        }
    }
    /// What a driver makes of one (5.13.6.7.1, 5.13.6.8.1.1): nothing of one whose type it does not know, whose reserved bits are
    /// not zero, or which is too short. An unknown subtype of RESV_MEM is taken for RESERVED; unknown values of coherency for Unknown.
    fn parse(head: u16, body: &[u8]) -> Option<Self> {
        match head {
            PROBE_T_RESV_MEM if body.len() >= RESV_MEM => {
                let kind = if body[0] == RESV_MEM_T_MSI { ReservedKind::Msi } else { ReservedKind::Reserved };
                let at = Interval::new(Iova(Le64(4).get(body)), Iova(Le64(12).get(body)))?;
                Some(Self::ResvMem(Reserved { at, kind }))
            }
            PROBE_T_COHERENCY if body.len() >= COHERENCY => Some(Self::Coherency(Coherency {
                dma: match body[0] {
                    1 => Dma::Coherent,
                    2 => Dma::NonCoherent,
                    _ => Dma::Unknown,
                },
                no_snoop: match body[1] {
                    1 => NoSnoop::Allowed,
                    2 => NoSnoop::Enforced,
                    _ => NoSnoop::Unknown,
                },
                walks: match body[2] {
                    1 => Walks::Coherent,
                    2 => Walks::NonCoherent,
                    _ => Walks::Unknown,
                },
                non_cacheable: body[3] & COHERENCY_F_NON_CACHEABLE != 0,
            })),
            _ => None,
        }
    }
}

/// The properties that a driver understands of what a PROBE was answered with, until the empty one, the end, or one that reaches
/// beyond the end.
pub fn properties(mut bytes: &[u8]) -> impl Iterator<Item = Property> {
    std::iter::from_fn(move || {
        loop {
            let (head, rest) = bytes.split_first_chunk::<PROPERTY_HEAD>()?;
            let kind = u16::from_le_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
            if kind & 0xfff == 0 || rest.len() < length {
                return None;
            }
            let (body, after) = rest.split_at(length);
            bytes = after;
            if let Some(property) = Property::parse(kind, body) {
                return Some(property);
            }
        }
    })
}

/// Bytes of `struct virtio_iommu_fault`.
pub const FAULT: usize = 24;

impl FaultReport {
    /// As bytes (5.13.6.9).
    #[must_use]
    pub fn bytes(&self) -> [u8; FAULT] {
        let mut bytes = [0; FAULT];
        put(&mut bytes, fault::REASON, &[self.reason.number()]);
        let access = match self.access {
            None => 0,
            Some(Kind::Read) => FAULT_F_READ,
            Some(Kind::Write) => FAULT_F_WRITE,
        };
        let address = if self.address.is_some() { FAULT_F_ADDRESS } else { 0 };
        fault::FLAGS.put(&mut bytes, access | address);
        fault::ENDPOINT.put(&mut bytes, self.endpoint.0);
        fault::ADDRESS.put(&mut bytes, self.address.unwrap_or(Iova(0)).0);
        bytes
    }
    /// What a driver makes of one (5.13.6.9.1): nothing if `reserved` is not zero; an unknown reason is taken for Unknown, and
    /// undefined flags are ignored.
    #[must_use]
    pub fn parse(bytes: &[u8; FAULT]) -> Option<Self> {
        if bytes[fault::RESERVED] != [0; 3] {
            return None;
        }
        let flags = fault::FLAGS.get(bytes);
        Some(Self {
            reason: match bytes[fault::REASON] {
                FAULT_R_DOMAIN => Reason::Domain,
                FAULT_R_MAPPING => Reason::Mapping,
                _ => Reason::Unknown,
            },
            endpoint: EndpointId(fault::ENDPOINT.get(bytes)),
            access: match (flags & FAULT_F_READ != 0, flags & FAULT_F_WRITE != 0) {
                (true, false) => Some(Kind::Read),
                (false, true) => Some(Kind::Write),
                _ => None,
            },
            address: (flags & FAULT_F_ADDRESS != 0).then(|| Iova(fault::ADDRESS.get(bytes))),
        })
    }
}

impl Reason {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unknown => FAULT_R_UNKNOWN,
            Self::Domain => FAULT_R_DOMAIN,
            Self::Mapping => FAULT_R_MAPPING,
        }
    }
}
