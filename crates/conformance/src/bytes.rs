//! Requests and replies as bytes, by offset (virtio 1.4, 5.13.3 to 5.13.6): the suite's own copy of the layout.
//!
//! Requests have all their fields open, the reserved ones too, so that a wrong one can be written down.

use crate::Reply;

/// VIRTIO_IOMMU_F_INPUT_RANGE (5.13.3).
pub const F_INPUT_RANGE: u64 = 1 << 0;
/// VIRTIO_IOMMU_F_DOMAIN_RANGE.
pub const F_DOMAIN_RANGE: u64 = 1 << 1;
/// VIRTIO_IOMMU_F_MAP_UNMAP.
pub const F_MAP_UNMAP: u64 = 1 << 2;
/// VIRTIO_IOMMU_F_BYPASS.
pub const F_BYPASS: u64 = 1 << 3;
/// VIRTIO_IOMMU_F_PROBE.
pub const F_PROBE: u64 = 1 << 4;
/// VIRTIO_IOMMU_F_MMIO.
pub const F_MMIO: u64 = 1 << 5;
/// VIRTIO_IOMMU_F_BYPASS_CONFIG.
pub const F_BYPASS_CONFIG: u64 = 1 << 6;
/// Every feature that the specification has.
pub const F_ALL: u64 = 0x7f;

/// The features of the mask by their names, those without one by their number.
#[must_use]
pub fn feature_names(mask: u64) -> Vec<String> {
    const NAMES: [&str; 7] = ["INPUT_RANGE", "DOMAIN_RANGE", "MAP_UNMAP", "BYPASS", "PROBE", "MMIO", "BYPASS_CONFIG"];
    let name = |bit: u32| NAMES.get(bit as usize).map_or_else(|| format!("bit {bit}"), |&name| name.to_owned());
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

/// `type` of a request (5.13.6).
pub const T_ATTACH: u8 = 1;
/// DETACH.
pub const T_DETACH: u8 = 2;
/// MAP.
pub const T_MAP: u8 = 3;
/// UNMAP.
pub const T_UNMAP: u8 = 4;
/// PROBE.
pub const T_PROBE: u8 = 5;

/// `status` of a reply (5.13.6): VIRTIO_IOMMU_S_OK.
pub const S_OK: u8 = 0;
/// VIRTIO_IOMMU_S_IOERR.
pub const S_IOERR: u8 = 1;
/// VIRTIO_IOMMU_S_UNSUPP.
pub const S_UNSUPP: u8 = 2;
/// VIRTIO_IOMMU_S_DEVERR.
pub const S_DEVERR: u8 = 3;
/// VIRTIO_IOMMU_S_INVAL.
pub const S_INVAL: u8 = 4;
/// VIRTIO_IOMMU_S_RANGE.
pub const S_RANGE: u8 = 5;
/// VIRTIO_IOMMU_S_NOENT.
pub const S_NOENT: u8 = 6;
/// VIRTIO_IOMMU_S_FAULT.
pub const S_FAULT: u8 = 7;
/// VIRTIO_IOMMU_S_NOMEM.
pub const S_NOMEM: u8 = 8;

/// The name of a status, without its prefix.
#[must_use]
pub fn status_name(status: u8) -> String {
    const NAMES: [&str; 9] = ["OK", "IOERR", "UNSUPP", "DEVERR", "INVAL", "RANGE", "NOENT", "FAULT", "NOMEM"];
    NAMES.get(usize::from(status)).map_or_else(|| format!("status {status}"), |&name| name.to_owned())
}

/// VIRTIO_IOMMU_ATTACH_F_BYPASS (5.13.6.3).
pub const ATTACH_BYPASS: u32 = 1 << 0;
/// VIRTIO_IOMMU_MAP_F_READ (5.13.6.5).
pub const MAP_READ: u32 = 1 << 0;
/// VIRTIO_IOMMU_MAP_F_WRITE.
pub const MAP_WRITE: u32 = 1 << 1;
/// VIRTIO_IOMMU_MAP_F_MMIO.
pub const MAP_MMIO: u32 = 1 << 2;

/// The size of `struct virtio_iommu_req_tail`, the device-writable part of every request but PROBE.
pub const TAIL: usize = 4;

/// VIRTIO_IOMMU_PROBE_T_RESV_MEM (5.13.6.8).
pub const PROBE_RESV_MEM: u16 = 1;
/// VIRTIO_IOMMU_RESV_MEM_T_RESERVED (5.13.6.8.1).
pub const RESV_RESERVED: u8 = 0;
/// VIRTIO_IOMMU_RESV_MEM_T_MSI.
pub const RESV_MSI: u8 = 1;

/// VIRTIO_IOMMU_FAULT_R_UNKNOWN (5.13.6.9).
pub const FAULT_UNKNOWN: u8 = 0;
/// VIRTIO_IOMMU_FAULT_R_DOMAIN.
pub const FAULT_DOMAIN: u8 = 1;
/// VIRTIO_IOMMU_FAULT_R_MAPPING.
pub const FAULT_MAPPING: u8 = 2;
/// VIRTIO_IOMMU_FAULT_F_READ.
pub const FAULT_READ: u32 = 1 << 0;
/// VIRTIO_IOMMU_FAULT_F_WRITE.
pub const FAULT_WRITE: u32 = 1 << 1;
/// VIRTIO_IOMMU_FAULT_F_ADDRESS.
pub const FAULT_ADDRESS: u32 = 1 << 8;
/// The size of `struct virtio_iommu_fault`.
pub const FAULT: usize = 24;

/// `struct virtio_iommu_req_head` (5.13.6), without the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// `reserved`.
    pub reserved: [u8; 3],
}

/// `struct virtio_iommu_req_attach` (5.13.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attach {
    /// `head`.
    pub head: Head,
    /// `domain`.
    pub domain: u32,
    /// `endpoint`.
    pub endpoint: u32,
    /// `flags`.
    pub flags: u32,
    /// `reserved`.
    pub reserved: [u8; 4],
}

/// `struct virtio_iommu_req_detach` (5.13.6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detach {
    /// `head`.
    pub head: Head,
    /// `domain`.
    pub domain: u32,
    /// `endpoint`.
    pub endpoint: u32,
    /// `reserved`.
    pub reserved: [u8; 8],
}

/// `struct virtio_iommu_req_map` (5.13.6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Map {
    /// `head`.
    pub head: Head,
    /// `domain`.
    pub domain: u32,
    /// `virt_start`.
    pub virt_start: u64,
    /// `virt_end`, included.
    pub virt_end: u64,
    /// `phys_start`.
    pub phys_start: u64,
    /// `flags`.
    pub flags: u32,
}

/// `struct virtio_iommu_req_unmap` (5.13.6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unmap {
    /// `head`.
    pub head: Head,
    /// `domain`.
    pub domain: u32,
    /// `virt_start`.
    pub virt_start: u64,
    /// `virt_end`, included.
    pub virt_end: u64,
    /// `reserved`.
    pub reserved: [u8; 4],
}

/// The device-readable part of `struct virtio_iommu_req_probe` (5.13.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// `head`.
    pub head: Head,
    /// `endpoint`.
    pub endpoint: u32,
    /// `reserved`.
    pub reserved: [u8; 64],
}

impl Attach {
    /// An ordinary one.
    #[must_use]
    pub fn new(domain: u32, endpoint: u32) -> Self {
        Self { domain, endpoint, ..Self::default() }
    }
    /// The device-readable part: 20 bytes.
    #[must_use]
    pub fn readable(&self) -> Vec<u8> {
        start(T_ATTACH, self.head).le32(self.domain).le32(self.endpoint).le32(self.flags).bytes(&self.reserved).0
    }
}

impl Detach {
    /// An ordinary one.
    #[must_use]
    pub fn new(domain: u32, endpoint: u32) -> Self {
        Self { domain, endpoint, ..Self::default() }
    }
    /// The device-readable part: 20 bytes.
    #[must_use]
    pub fn readable(&self) -> Vec<u8> {
        start(T_DETACH, self.head).le32(self.domain).le32(self.endpoint).bytes(&self.reserved).0
    }
}

impl Map {
    /// An ordinary one: from, to (included), where, and what is allowed.
    #[must_use]
    pub fn new(domain: u32, virt_start: u64, virt_end: u64, phys_start: u64, flags: u32) -> Self {
        Self { head: Head::default(), domain, virt_start, virt_end, phys_start, flags }
    }
    /// The device-readable part: 36 bytes.
    #[must_use]
    pub fn readable(&self) -> Vec<u8> {
        let head = start(T_MAP, self.head).le32(self.domain);
        head.le64(self.virt_start).le64(self.virt_end).le64(self.phys_start).le32(self.flags).0
    }
}

impl Unmap {
    /// An ordinary one: from, to (included).
    #[must_use]
    pub fn new(domain: u32, virt_start: u64, virt_end: u64) -> Self {
        Self { domain, virt_start, virt_end, ..Self::default() }
    }
    /// The device-readable part: 28 bytes.
    #[must_use]
    pub fn readable(&self) -> Vec<u8> {
        let head = start(T_UNMAP, self.head).le32(self.domain);
        head.le64(self.virt_start).le64(self.virt_end).bytes(&self.reserved).0
    }
}

impl Probe {
    /// An ordinary one.
    #[must_use]
    pub fn new(endpoint: u32) -> Self {
        Self { head: Head::default(), endpoint, reserved: [0; 64] }
    }
    /// The device-readable part: 72 bytes.
    #[must_use]
    pub fn readable(&self) -> Vec<u8> {
        start(T_PROBE, self.head).le32(self.endpoint).bytes(&self.reserved).0
    }
}

/// A request, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// ATTACH.
    Attach(Attach),
    /// DETACH.
    Detach(Detach),
    /// MAP.
    Map(Map),
    /// UNMAP.
    Unmap(Unmap),
    /// PROBE.
    Probe(Probe),
}

impl Request {
    /// A request from its device-readable bytes; nothing if there are too few, or the type is none of the five. More
    /// bytes than the request has are left alone.
    #[must_use]
    pub fn parse(readable: &[u8]) -> Option<Self> {
        let head = Head { reserved: array(readable, 1)? };
        Some(match *readable.first()? {
            T_ATTACH => Self::Attach(Attach {
                head,
                domain: le32(readable, 4)?,
                endpoint: le32(readable, 8)?,
                flags: le32(readable, 12)?,
                reserved: array(readable, 16)?,
            }),
            T_DETACH => Self::Detach(Detach {
                head,
                domain: le32(readable, 4)?,
                endpoint: le32(readable, 8)?,
                reserved: array(readable, 12)?,
            }),
            T_MAP => Self::Map(Map {
                head,
                domain: le32(readable, 4)?,
                virt_start: le64(readable, 8)?,
                virt_end: le64(readable, 16)?,
                phys_start: le64(readable, 24)?,
                flags: le32(readable, 32)?,
            }),
            T_UNMAP => Self::Unmap(Unmap {
                head,
                domain: le32(readable, 4)?,
                virt_start: le64(readable, 8)?,
                virt_end: le64(readable, 16)?,
                reserved: array(readable, 24)?,
            }),
            T_PROBE => Self::Probe(Probe { head, endpoint: le32(readable, 4)?, reserved: array(readable, 8)? }),
            _ => return None,
        })
    }
    /// The device-readable part.
    #[must_use]
    pub fn readable(&self) -> Vec<u8> {
        match self {
            Self::Attach(it) => it.readable(),
            Self::Detach(it) => it.readable(),
            Self::Map(it) => it.readable(),
            Self::Unmap(it) => it.readable(),
            Self::Probe(it) => it.readable(),
        }
    }
    /// How many bytes are device-writable.
    #[must_use]
    pub fn writable(&self, probe_size: u32) -> usize {
        match self {
            Self::Probe(_) => probe_size as usize + TAIL,
            _ => TAIL,
        }
    }
}

/// `struct virtio_iommu_req_tail` (5.13.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// `status`.
    pub status: u8,
    /// `reserved`.
    pub reserved: [u8; 3],
}

impl Tail {
    /// The tail at an offset of the device-writable part; nothing if the device did not write that far.
    #[must_use]
    pub fn of(reply: &Reply, at: usize) -> Option<Self> {
        if (reply.used as usize) < at + TAIL {
            return None;
        }
        Some(Self { status: *reply.buffer.get(at)?, reserved: array(&reply.buffer, at + 1)? })
    }
    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; TAIL] {
        let [a, b, c] = self.reserved;
        [self.status, a, b, c]
    }
}

/// `struct virtio_iommu_config` (5.13.4). What no feature offers holds whatever the device gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Config {
    /// `page_size_mask`.
    pub page_size_mask: u64,
    /// `input_range`, both ends included.
    pub input_range: (u64, u64),
    /// `domain_range`, both ends included.
    pub domain_range: (u32, u32),
    /// `probe_size`.
    pub probe_size: u32,
    /// `bypass`.
    pub bypass: u8,
    /// `reserved`.
    pub reserved: [u8; 3],
}

impl Config {
    /// Its size.
    pub const SIZE: usize = 40;
    /// The offset of `page_size_mask`.
    pub const PAGE_SIZE_MASK: u32 = 0;
    /// The offset of `input_range`.
    pub const INPUT_RANGE: u32 = 8;
    /// The offset of `domain_range`.
    pub const DOMAIN_RANGE: u32 = 24;
    /// The offset of `probe_size`.
    pub const PROBE_SIZE: u32 = 32;
    /// The offset of `bypass`.
    pub const BYPASS: u32 = 36;

    /// From its bytes.
    #[must_use]
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Self {
        let eight = |at| le64(bytes, at).unwrap_or_default();
        let four = |at| le32(bytes, at).unwrap_or_default();
        Self {
            page_size_mask: eight(0),
            input_range: (eight(8), eight(16)),
            domain_range: (four(24), four(28)),
            probe_size: four(32),
            bypass: bytes[36],
            reserved: [bytes[37], bytes[38], bytes[39]],
        }
    }
    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; Self::SIZE] {
        let fields = Bytes::default().le64(self.page_size_mask).le64(self.input_range.0).le64(self.input_range.1);
        let fields = fields.le32(self.domain_range.0).le32(self.domain_range.1).le32(self.probe_size);
        array(&fields.bytes(&[self.bypass]).bytes(&self.reserved).0, 0).unwrap_or([0; Self::SIZE])
    }
}

/// One property of a PROBE (5.13.6.7), as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Where its header is within `properties`.
    pub at: usize,
    /// `type`: the lower 12 bits.
    pub kind: u16,
    /// `reserved`: the upper 4.
    pub reserved: u8,
    /// `length` bytes after the header; fewer if `properties` ends before.
    pub value: Vec<u8>,
    /// `length`.
    pub length: u16,
}

impl Property {
    /// The RESV_MEM that it is.
    #[must_use]
    pub fn resv_mem(&self) -> Option<ResvMem> {
        (self.kind == PROBE_RESV_MEM && self.reserved == 0).then_some(())?;
        Some(ResvMem {
            subtype: *self.value.first()?,
            reserved: array(&self.value, 1)?,
            start: le64(&self.value, 4)?,
            end: le64(&self.value, 12)?,
        })
    }
    /// As bytes: the header, and the value.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let head = self.kind & 0xfff | u16::from(self.reserved) << 12;
        Bytes::default().bytes(&head.to_le_bytes()).bytes(&self.length.to_le_bytes()).bytes(&self.value).0
    }
}

/// `struct virtio_iommu_probe_resv_mem` (5.13.6.8.1), without the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResvMem {
    /// `subtype`.
    pub subtype: u8,
    /// `reserved`.
    pub reserved: [u8; 3],
    /// `start`.
    pub start: u64,
    /// `end`, included.
    pub end: u64,
}

impl ResvMem {
    /// `length` of its property.
    pub const LENGTH: u16 = 20;

    /// Its property, at an offset.
    #[must_use]
    pub fn property(&self, at: usize) -> Property {
        let value = Bytes::default().bytes(&[self.subtype]).bytes(&self.reserved).le64(self.start).le64(self.end).0;
        Property { at, kind: PROBE_RESV_MEM, reserved: 0, value, length: Self::LENGTH }
    }
}

/// The properties, as a driver walks them (5.13.6.7): to an empty one or the end. The second is where the walk ended;
/// beyond the end if the last property is cut off.
#[must_use]
pub fn properties(bytes: &[u8]) -> (Vec<Property>, usize) {
    let (mut list, mut at) = (Vec::new(), 0);
    while let (Some(head), Some(length)) = (le16(bytes, at), le16(bytes, at + 2)) {
        if head & 0xfff == 0 {
            break;
        }
        let end = at + 4 + usize::from(length);
        let value = bytes.get(at + 4..end.min(bytes.len())).unwrap_or_default().to_vec();
        list.push(Property { at, kind: head & 0xfff, reserved: (head >> 12) as u8, value, length });
        at = end;
    }
    (list, at)
}

/// `struct virtio_iommu_fault` (5.13.6.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fault {
    /// `reason`.
    pub reason: u8,
    /// `reserved`.
    pub reserved: [u8; 3],
    /// `flags`.
    pub flags: u32,
    /// `endpoint`.
    pub endpoint: u32,
    /// `reserved1`.
    pub reserved1: u32,
    /// `address`.
    pub address: u64,
}

impl Fault {
    /// From the bytes of an event buffer; nothing if there are too few.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            reason: *bytes.first()?,
            reserved: array(bytes, 1)?,
            flags: le32(bytes, 4)?,
            endpoint: le32(bytes, 8)?,
            reserved1: le32(bytes, 12)?,
            address: le64(bytes, 16)?,
        })
    }
    /// As bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; FAULT] {
        let fields = Bytes::default().bytes(&[self.reason]).bytes(&self.reserved).le32(self.flags);
        let fields = fields.le32(self.endpoint).le32(self.reserved1).le64(self.address);
        array(&fields.0, 0).unwrap_or([0; FAULT])
    }
}

#[derive(Debug, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn le32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }
    fn le64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }
}

fn start(kind: u8, head: Head) -> Bytes {
    Bytes::default().bytes(&[kind]).bytes(&head.reserved)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}
