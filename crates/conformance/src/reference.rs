//! A naive device: lists, searched from end to end. What is obviously right is compared with what is fast.
//!
//! Every rule stands where it is applied, with its section. Where the specification leaves something open, what is done here is said
//! to be a choice. The conditions on [`Deviation`] are for `like` only: without deviations they are all as if they were not there.

use std::collections::BTreeSet;

use crate::{Broken, Can, Device, Fresh, Reply, Setup, device::CANARY, like::Deviation};

/// What endpoints that are attached to no domain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// Nothing: neither feature is offered.
    Never,
    /// VIRTIO_IOMMU_F_BYPASS is offered.
    Legacy,
    /// VIRTIO_IOMMU_F_BYPASS_CONFIG is offered, and this is the field `bypass` after a system reset.
    Config(bool),
}

/// Addresses of an endpoint that cannot be mapped: a RESV_MEM property (5.13.6.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// VIRTIO_IOMMU_RESV_MEM_T_MSI rather than VIRTIO_IOMMU_RESV_MEM_T_RESERVED.
    pub msi: bool,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its identifier.
    pub id: u32,
    /// Its RESV_MEM.
    pub reserved: Vec<Reserved>,
    /// What a PROBE tells of its coherency: a proposal.
    pub coherency: Coherency,
}

/// `dma`, `no_snoop` and `walks` of a COHERENCY property, each 0, 1 or 2, and its flag: a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coherency {
    /// Unknown, coherent, non-coherent.
    pub dma: u8,
    /// Unknown, allowed, enforced.
    pub no_snoop: u8,
    /// Unknown, coherent, non-coherent.
    pub walks: u8,
    /// Its mappings can be non-cacheable.
    pub non_cacheable: bool,
}

/// Beyond them a request is answered VIRTIO_IOMMU_S_NOMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Domains at a time.
    pub domains: usize,
    /// Mappings of one domain.
    pub mappings_per_domain: usize,
    /// Mappings of all.
    pub mappings: usize,
    /// Faults kept for which there is no buffer.
    pub events: usize,
}

/// What the device is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `page_size_mask`; the lowest bit is the granule.
    pub page_size_mask: u64,
    /// `input_range`, both ends included; nothing is not offered.
    pub input_range: Option<(u64, u64)>,
    /// `domain_range`, both ends included; nothing is not offered.
    pub domain_range: Option<(u32, u32)>,
    /// `probe_size`; 0 is PROBE not offered.
    pub probe_size: u32,
    /// VIRTIO_IOMMU_F_MMIO is offered.
    pub mmio: bool,
    /// The two features about bypass.
    pub bypass: Bypass,
    /// VIRTIO_IOMMU_F_COHERENCY is offered, which is a proposal.
    pub coherency: bool,
    /// Endpoints whose `dma` differs can be in one domain.
    pub mixed_dma: bool,
    /// Endpoints whose `no_snoop` differs can be.
    pub mixed_no_snoop: bool,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// One that there is not.
    pub absent: u32,
    /// Limits.
    pub limits: Limits,
    /// Where guest memory is: first and last address.
    pub ram: (u64, u64),
}

impl Endpoint {
    /// One without reserved addresses, of the kind that all are.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self { id, reserved: Vec::new(), coherency: Coherency::default() }
    }
    /// With what is said of its coherency.
    #[must_use]
    pub fn coherency(self, coherency: Coherency) -> Self {
        Self { coherency, ..self }
    }
    /// With reserved addresses.
    #[must_use]
    pub fn reserving(mut self, first: u64, last: u64, msi: bool) -> Self {
        self.reserved.push(Reserved { first, last, msi });
        self
    }
}

impl Config {
    /// Nothing is offered that need not be, all addresses can be mapped, and the superseded BYPASS is.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            input_range: None,
            domain_range: None,
            probe_size: 0,
            mmio: false,
            bypass: Bypass::Legacy,
            endpoints: [0x8, 0x9, 0x10].map(Endpoint::new).to_vec(),
            ..Self::default()
        }
    }
    /// The proposal is offered, and endpoints are of different kinds.
    #[must_use]
    pub fn coherent() -> Self {
        let all = Self::default();
        let kind = |dma, no_snoop, non_cacheable| Coherency { dma, no_snoop, walks: 0, non_cacheable };
        let kinds = [kind(1, 2, true), kind(1, 2, false), kind(2, 0, true)];
        let endpoints = all.endpoints.iter().zip(kinds).map(|(it, kind)| it.clone().coherency(kind)).collect();
        Self { coherency: true, endpoints, ..all }
    }
    /// One byte is the granule.
    #[must_use]
    pub fn bytewise() -> Self {
        Self { page_size_mask: u64::MAX, bypass: Bypass::Config(true), ..Self::default() }
    }
}

impl Default for Config {
    /// Everything that can be offered together is, so that every rule can be seen.
    fn default() -> Self {
        Self {
            page_size_mask: 0xffff_ffff_ffff_f000,
            input_range: Some((0x1000, 0xffff_ffff_ffff)),
            domain_range: Some((1, 0xffff)),
            probe_size: 256,
            mmio: true,
            bypass: Bypass::Config(false),
            coherency: false,
            mixed_dma: false,
            mixed_no_snoop: false,
            endpoints: vec![
                Endpoint::new(0x8).reserving(0xfee0_0000, 0xfeef_ffff, true),
                Endpoint::new(0x9).reserving(0xfec0_0000, 0xfec0_0fff, false).reserving(0xfee0_0000, 0xfeef_ffff, true),
                Endpoint::new(0x10).reserving(0x9000_0000, 0x9000_ffff, false),
            ],
            absent: 0x77,
            limits: Limits { domains: 1 << 16, mappings_per_domain: 1 << 20, mappings: 1 << 22, events: 64 },
            ram: (0x4000_0000, 0x401f_ffff),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Mapping {
    first: u64,
    last: u64,
    phys: u64,
    flags: u32,
    /// Seen by this endpoint only. Of the reference always by all.
    only: Option<u32>,
}

#[derive(Debug, Clone)]
struct Domain {
    id: u32,
    bypass: bool,
    /// In the order of the requests.
    mappings: Vec<Mapping>,
}

/// The device.
#[derive(Debug, Clone)]
pub struct Reference {
    name: String,
    config: Config,
    setup: Setup,
    deviations: BTreeSet<Deviation>,
    accepted: u64,
    bypass: u8,
    domains: Vec<Domain>,
    /// Endpoint and domain, in the order of the requests.
    attached: Vec<(u32, u32)>,
    /// Pages of 4 KiB that are not all zeroes, by their address.
    ram: Vec<(u64, Vec<u8>)>,
    /// The sizes of the buffers that the event queue has.
    buffers: Vec<usize>,
    /// Faults without a buffer.
    kept: Vec<[u8; 24]>,
    /// Event buffers that were used.
    used: Vec<Reply>,
    /// What the endpoint can still do though it should not: of the reference nothing.
    left: Vec<(u32, Mapping)>,
    /// The driver has written `bypass`, having taken BYPASS_CONFIG.
    written: bool,
    /// Something happened that the device does not survive.
    dead: Option<String>,
}

/// What goes back for a request.
enum Answer {
    /// Nothing is written.
    Nothing,
    /// The tail.
    Status(u8),
    /// The properties, and the tail at their end.
    Properties(Vec<u8>, u8),
    /// The device dies of it.
    Dies(&'static str),
}

/// Where an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To this guest-physical address.
    Memory(u64),
    /// To the interrupt controller: an address of an MSI region.
    Msi,
}

const OK: u8 = 0;
const UNSUPP: u8 = 2;
const INVAL: u8 = 4;
const RANGE: u8 = 5;
const NOENT: u8 = 6;
const NOMEM: u8 = 8;

const F_INPUT_RANGE: u64 = 1 << 0;
const F_DOMAIN_RANGE: u64 = 1 << 1;
const F_MAP_UNMAP: u64 = 1 << 2;
const F_BYPASS: u64 = 1 << 3;
const F_PROBE: u64 = 1 << 4;
const F_MMIO: u64 = 1 << 5;
const F_BYPASS_CONFIG: u64 = 1 << 6;
const F_COHERENCY: u64 = 1 << 16;

const ATTACH_F_BYPASS: u32 = 1 << 0;
const MAP_F_READ: u32 = 1 << 0;
const MAP_F_WRITE: u32 = 1 << 1;
const MAP_F_MMIO: u32 = 1 << 2;
const MAP_F_NON_CACHEABLE: u32 = 1 << 16;

/// `reason` of a fault report (5.13.6.9).
const R_DOMAIN: u8 = 1;
const R_MAPPING: u8 = 2;

const PAGE: u64 = 0x1000;

impl Reference {
    /// The reference after a system reset; its driver has taken all features.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::deviating("the reference".to_owned(), config, BTreeSet::new())
    }
    /// One that does not keep some of the rules.
    #[must_use]
    pub fn deviating(name: String, config: Config, deviations: BTreeSet<Deviation>) -> Self {
        let setup = Setup {
            endpoints: config.endpoints.iter().map(|endpoint| endpoint.id).collect(),
            absent: config.absent,
            ram: config.ram.0..=config.ram.1,
        };
        let mut it = Self {
            name,
            config,
            setup,
            deviations,
            accepted: 0,
            bypass: 0,
            domains: Vec::new(),
            attached: Vec::new(),
            ram: Vec::new(),
            buffers: Vec::new(),
            kept: Vec::new(),
            used: Vec::new(),
            left: Vec::new(),
            written: false,
            dead: None,
        };
        it.start(u64::MAX, true);
        it
    }
    /// What it was made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the endpoint is attached to the domain.
    #[must_use]
    pub fn is_attached(&self, endpoint: u32, domain: u32) -> bool {
        self.domain_of(endpoint) == Some(domain)
    }
    /// Whether the specification leaves open if this ATTACH is done: the domain has an endpoint already, this one or another, or the endpoint
    /// is in another (5.13.6.3.2).
    #[must_use]
    pub fn attaches_openly(&self, domain: u32, endpoint: u32) -> bool {
        !self.members(domain).is_empty() || self.domain_of(endpoint).is_some()
    }

    fn is(&self, deviation: Deviation) -> bool {
        self.deviations.contains(&deviation)
    }
    fn took(&self, feature: u64) -> bool {
        self.accepted & feature != 0
    }

    // ------------------------------------------------------------------------------------------ features, configuration, reset

    fn features(&self) -> u64 {
        // 5.13.3.2: MAP_UNMAP SHOULD be offered; BYPASS and BYPASS_CONFIG not both
        let mut bits = F_MAP_UNMAP;
        if self.config.input_range.is_some() {
            bits |= F_INPUT_RANGE;
        }
        if self.config.domain_range.is_some() {
            bits |= F_DOMAIN_RANGE;
        }
        if self.config.probe_size > 0 {
            bits |= F_PROBE;
        }
        if self.config.mmio {
            bits |= F_MMIO;
        }
        if self.config.coherency {
            bits |= F_COHERENCY;
        }
        match self.config.bypass {
            Bypass::Never => {}
            Bypass::Legacy => bits |= F_BYPASS,
            Bypass::Config(_) => bits |= F_BYPASS_CONFIG,
        }
        if self.is(Deviation::BothBypass) {
            bits |= F_BYPASS | F_BYPASS_CONFIG;
        }
        if self.is(Deviation::NoMapUnmap) {
            bits &= !F_MAP_UNMAP;
        }
        bits
    }

    /// The 40 bytes of 5.13.4.
    fn configuration(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // 5.13.4.2: at least one bit is set
        let mask = if self.is(Deviation::NoPageSize) { 0 } else { self.config.page_size_mask };
        let (first, last) = self.config.input_range.unwrap_or((0, u64::MAX));
        let (lowest, highest) = self.config.domain_range.unwrap_or((0, u32::MAX));
        bytes.extend(mask.to_le_bytes());
        bytes.extend(first.to_le_bytes());
        bytes.extend(last.to_le_bytes());
        bytes.extend(lowest.to_le_bytes());
        bytes.extend(highest.to_le_bytes());
        bytes.extend(self.config.probe_size.to_le_bytes());
        bytes.push(self.bypass);
        bytes.extend([0; 3]);
        if self.is(Deviation::BypassShowsOther) {
            bytes[36] |= 0x80;
        }
        bytes
    }

    fn start(&mut self, accept: u64, system: bool) {
        if system {
            self.domains.clear();
            self.attached.clear();
            self.left.clear();
            // 5.13.4.2: bypass SHOULD be as at first after a system reset
            if !self.is(Deviation::BypassSurvivesSystemReset) || self.accepted == 0 {
                self.bypass = u8::from(self.config.bypass == Bypass::Config(true));
            }
            self.ram.clear();
            self.written = false;
            self.dead = None;
        } else {
            // 5.13.5: after a reset no endpoint is attached to any domain
            if !self.is(Deviation::ResetKeepsAll) {
                self.domains.clear();
                self.attached.clear();
                self.left.clear();
            }
            // 5.13.4.2: bypass SHOULD NOT change
            if self.is(Deviation::BypassResets) {
                self.bypass = u8::from(self.config.bypass == Bypass::Config(true));
            }
        }
        self.buffers.clear();
        self.kept.clear();
        self.used.clear();
        self.accepted = self.features() & accept;
    }

    /// A write to the configuration by the driver.
    fn configure(&mut self, offset: u64, data: &[u8]) {
        for (i, &byte) in data.iter().enumerate() {
            // 5.13.4.1: only `bypass`, only with BYPASS_CONFIG, only 0 or 1. Choice: what the driver must not write is ignored
            if offset.checked_add(i as u64) != Some(36) {
                continue;
            }
            if !self.took(F_BYPASS_CONFIG) && byte != self.bypass {
                if self.is(Deviation::ForbiddenConfigWriteKills) {
                    self.dead = Some("it wants a reset since bypass was written, which was not negotiated".to_owned());
                }
                if !self.is(Deviation::BypassWritableAlways) {
                    continue;
                }
            }
            if byte > 1 && self.is(Deviation::ForbiddenConfigWriteKills) {
                self.dead = Some(format!("it wants a reset since {byte} was written to bypass"));
            }
            if byte > 1 && self.is(Deviation::BypassTakesLowestBit) {
                self.bypass = byte & 1;
            } else if byte <= 1 || self.is(Deviation::BypassTakesAll) {
                self.bypass = byte;
            }
            self.written |= self.took(F_BYPASS_CONFIG);
        }
    }

    // -------------------------------------------------------------------------------------------------------------- requests

    /// A request, without [`Broken`]: of a device that has died nothing is written.
    pub fn handle(&mut self, readable: &[u8], writable: usize) -> Reply {
        self.request(readable, writable).unwrap_or_else(|_| Reply { used: 0, buffer: vec![CANARY; writable] })
    }

    fn request(&mut self, readable: &[u8], writable: usize) -> Result<Reply, Broken> {
        if let Some(why) = &self.dead {
            return Err(Broken(why.clone()));
        }
        let answer = self.answer(readable, writable);
        let mut buffer = vec![CANARY; writable];
        let mut written = match answer {
            Answer::Dies(why) => {
                self.dead = Some(why.to_owned());
                return Err(Broken(why.to_owned()));
            }
            Answer::Nothing => return Ok(Reply { used: 0, buffer }),
            Answer::Status(status) => self.tail(status).to_vec(),
            Answer::Properties(mut properties, status) => {
                properties.extend(self.tail(status));
                properties
            }
        };
        written.truncate(writable);
        buffer[..written.len()].copy_from_slice(&written);
        let rejected = written.len() >= 4 && written[written.len() - 4] != OK;
        let mut used = written.len() as u32;
        // 2.7.8: the used length is what was written
        if self.is(Deviation::StatusLost) && rejected {
            used = 0;
        }
        if self.is(Deviation::UsedTooLong) {
            used += 4;
        }
        if self.is(Deviation::UsedTooShort) {
            used -= 3;
        }
        if self.is(Deviation::UsedZero) {
            used = 0;
        }
        if self.is(Deviation::ProbeUsedTailOnly) && readable.first() == Some(&5) {
            used = 4;
        }
        Ok(Reply { used, buffer })
    }

    /// 5.13.6: status, and three bytes that SHOULD be zero (5.13.6.2).
    fn tail(&self, status: u8) -> [u8; 4] {
        let status = if self.is(Deviation::AlwaysOk) { OK } else { status };
        let status = if self.is(Deviation::OkIsOne) && status == OK { 1 } else { status };
        if self.is(Deviation::TailReservedNotZero) { [status, 0, 0, 1] } else { [status, 0, 0, 0] }
    }

    fn answer(&mut self, readable: &[u8], writable: usize) -> Answer {
        if self.is(Deviation::NoHeadNoTailKills) && (readable.len() < 4 || writable < 4) {
            return Answer::Dies("it wants a reset since a request had no head or no tail");
        }
        // 5.13.6: nothing is written to a request without a head or a tail
        if readable.len() < 4 || writable < 4 {
            return Answer::Nothing;
        }
        // 5.13.6.2: `reserved` of the head MUST be ignored
        if self.is(Deviation::HeadReservedChecked) && readable[1..4] != [0, 0, 0] {
            return Answer::Status(INVAL);
        }
        let (size, needs) = match readable[0] {
            1 | 2 => (20, 0),
            3 => (36, F_MAP_UNMAP),
            4 => (28, F_MAP_UNMAP),
            5 => (72, F_PROBE),
            // 5.13.6.2: nothing is written to a request of an unknown type
            _ if self.is(Deviation::UnknownTypeUnsupp) => return Answer::Status(UNSUPP),
            _ if self.is(Deviation::UnknownTypeKills) => {
                return Answer::Dies("it does not survive a request of unknown type");
            }
            _ => return Answer::Nothing,
        };
        // 5.13.6: nothing is written to a request that is too small for its type
        if readable.len() < size {
            return if self.is(Deviation::ShortInval) { Answer::Status(INVAL) } else { Answer::Nothing };
        }
        // choice: what follows the request's last field is left alone
        if readable.len() > size && self.is(Deviation::LongRefused) {
            return Answer::Status(INVAL);
        }
        if self.is(Deviation::ProbeServedUnoffered) && self.config.probe_size == 0 && readable[0] == 5 {
            return Answer::Status(INVAL);
        }
        // 5.13.6.5, 5.13.6.6: MAP and UNMAP only if MAP_UNMAP was negotiated. 5.13.6.7.2: PROBE likewise. Choice: without, the type is unknown
        if needs != 0 && !self.took(needs) && !self.is(Deviation::FeaturesNotLookedAt) {
            return Answer::Nothing;
        }
        if needs & F_PROBE != 0 && self.config.probe_size == 0 {
            return Answer::Nothing;
        }
        match readable[0] {
            1 => Answer::Status(self.attach(readable)),
            2 => Answer::Status(self.detach(readable)),
            3 => self.map(readable),
            4 => self.unmap(readable),
            _ => self.probe(readable, writable),
        }
    }

    fn endpoint(&self, id: u32) -> Option<&Endpoint> {
        self.config.endpoints.iter().find(|endpoint| endpoint.id == id)
    }
    fn domain_of(&self, endpoint: u32) -> Option<u32> {
        self.attached.iter().find(|(id, _)| *id == endpoint).map(|(_, domain)| *domain)
    }
    fn domain(&self, id: u32) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.id == id)
    }
    fn members(&self, domain: u32) -> Vec<u32> {
        self.attached.iter().filter(|(_, of)| *of == domain).map(|(id, _)| *id).collect()
    }

    /// 5.13.6.3.
    fn attach(&mut self, r: &[u8]) -> u8 {
        let (domain, endpoint, flags) = (le32(r, 4), le32(r, 8), le32(r, 12));
        // 5.13.6.3.2: `reserved` not zero MUST be INVAL
        if r[16..20] != [0; 4] && !self.is(Deviation::AttachReservedIgnored) {
            return INVAL;
        }
        // 5.13.6.3.2: an unknown flag MUST be INVAL; BYPASS is known where BYPASS_CONFIG was negotiated (5.13.6.3)
        let known = if self.took(F_BYPASS_CONFIG) || self.is(Deviation::AttachBypassUnnegotiated) {
            ATTACH_F_BYPASS
        } else {
            0
        };
        if flags & !known != 0 && !self.is(Deviation::AttachFlagsIgnored) {
            return INVAL;
        }
        let bypass = flags & known & ATTACH_F_BYPASS != 0;
        // 5.13.6.3.2: an endpoint that does not exist MUST be NOENT
        if self.endpoint(endpoint).is_none()
            && !self.is(Deviation::EndpointNotLookedUp)
            && !self.is(Deviation::AttachAnyEndpoint)
        {
            return if self.is(Deviation::AttachNoEndpointInval) { INVAL } else { NOENT };
        }
        // 5.13.6: domains outside of `domain_range` are not supported. Choice: RANGE
        if let Some((first, last)) = self.config.domain_range
            && (domain < first || domain > last)
            && !self.is(Deviation::DomainRangeIgnored)
        {
            return RANGE;
        }
        let before = self.domain_of(endpoint);
        if self.is(Deviation::AttachMismatchDetaches) && before.is_some() && before != Some(domain) {
            self.leave(endpoint);
        }
        // 5.13.6.3.2: a bypass flag that is not that of the domain SHOULD be INVAL
        if let Some(there) = self.domain(domain)
            && there.bypass != bypass
            && !self.is(Deviation::AttachMismatchAccepted)
        {
            return INVAL;
        }
        if self.is(Deviation::AttachOtherRefused) && before.is_some_and(|before| before != domain) {
            return INVAL;
        }
        if before == Some(domain) {
            // choice: nothing changes
            if !self.is(Deviation::ReattachForgets) {
                return OK;
            }
            if self.members(domain).len() > 1 && self.is(Deviation::DetachSharedRefused) {
                return UNSUPP;
            }
            self.leave(endpoint);
        } else if before.is_some_and(|before| self.members(before).len() > 1) && self.is(Deviation::DetachSharedRefused)
        {
            // 5.13.6.3.2: what cannot be detached first MUST be UNSUPP
            return UNSUPP;
        }
        let others = self.members(domain);
        if !others.is_empty() && self.is(Deviation::SharingRefusedInval) {
            return INVAL;
        }
        // 5.13.6.3.2: properties that do not go together SHOULD be UNSUPP
        if !self.fits(endpoint, domain, &others) {
            return UNSUPP;
        }
        // limits. The domain that the endpoint leaves has gone by then, if it was the last in it
        if self.domain(domain).is_none() {
            let goes = before.is_some_and(|before| before != domain && self.members(before).len() == 1);
            if self.domains.len() - usize::from(goes) >= self.config.limits.domains {
                return NOMEM;
            }
        }
        // 5.13.6.3.2: as if a DETACH came first
        if !self.is(Deviation::AttachLeavesNothing) {
            self.leave(endpoint);
        }
        // 5.13.6.3: a domain that does not exist is created
        if self.domain(domain).is_none() {
            self.domains.push(Domain { id: domain, bypass, mappings: Vec::new() });
        }
        // 5.13.6.3.2: it MUST be attached then
        if !self.is(Deviation::AttachDoesNothing) {
            self.attached.push((endpoint, domain));
        }
        OK
    }

    /// Whether the endpoint can be in the domain beside the others.
    fn fits(&self, endpoint: u32, domain: u32, others: &[u32]) -> bool {
        let Some(new) = self.endpoint(endpoint) else { return true };
        let mappings = self.domain(domain).map(|domain| domain.mappings.clone()).unwrap_or_default();
        for mapping in &mappings {
            for reserved in &new.reserved {
                if mapping.first <= reserved.last
                    && reserved.first <= mapping.last
                    && !self.is(Deviation::ReservedNotChecked)
                {
                    return false;
                }
            }
            if mapping.flags & MAP_F_NON_CACHEABLE != 0 && !new.coherency.non_cacheable {
                return false;
            }
        }
        // the proposal, and a choice: what the host's side of a domain cannot hold together does not go together
        let goes = |it: Coherency| {
            (it.dma == new.coherency.dma || self.config.mixed_dma)
                && (it.no_snoop == new.coherency.no_snoop || self.config.mixed_no_snoop)
        };
        others.iter().filter_map(|other| self.endpoint(*other)).all(|other| goes(other.coherency))
    }

    /// The endpoint leaves its domain, if it is in one. 5.13.6.4: a domain without endpoints ceases to exist.
    fn leave(&mut self, endpoint: u32) {
        let Some(domain) = self.domain_of(endpoint) else { return };
        if self.is(Deviation::DetachedStillAccesses) {
            let mappings = self.domain(domain).map(|domain| domain.mappings.clone()).unwrap_or_default();
            self.left.extend(mappings.into_iter().map(|mapping| (endpoint, mapping)));
        }
        self.attached.retain(|(id, _)| *id != endpoint);
        if self.members(domain).is_empty() && !self.is(Deviation::DomainOutlives) {
            self.domains.retain(|there| there.id != domain);
        }
    }

    /// 5.13.6.4.
    fn detach(&mut self, r: &[u8]) -> u8 {
        let (domain, endpoint) = (le32(r, 4), le32(r, 8));
        // 5.13.6.4.2: `reserved` MUST be ignored
        if r[12..20] != [0; 8] && self.is(Deviation::DetachReservedChecked) {
            return INVAL;
        }
        // 5.13.6.4.2: an endpoint that does not exist MUST be NOENT
        if self.endpoint(endpoint).is_none() && !self.is(Deviation::EndpointNotLookedUp) {
            return if self.is(Deviation::DetachNoEndpointInval) { INVAL } else { NOENT };
        }
        if self.domain_of(endpoint).is_none() && self.is(Deviation::DetachUnattachedNoent) {
            return NOENT;
        }
        // 5.13.6.4.2: a domain that does not exist, or another than the endpoint's, MAY be INVAL. Choice: it is, and nothing changes
        if self.domain_of(endpoint) != Some(domain) {
            if self.is(Deviation::DetachWrongDomainForgets) {
                // its own domain stays without endpoints: the one in the request is looked at
                self.attached.retain(|(id, _)| *id != endpoint);
                if self.members(domain).is_empty() {
                    self.domains.retain(|there| there.id != domain);
                }
                return OK;
            }
            if !self.is(Deviation::DetachDomainIgnored) {
                return INVAL;
            }
        }
        if let Some(own) = self.domain_of(endpoint)
            && self.members(own).len() > 1
            && self.is(Deviation::DetachSharedRefused)
        {
            return UNSUPP;
        }
        // 5.13.6.4.2: after that it cannot access any mapping of the domain
        if !self.is(Deviation::DetachDoesNothing) {
            self.leave(endpoint);
        }
        OK
    }

    /// 5.13.6.5.
    fn map(&mut self, r: &[u8]) -> Answer {
        let (id, first, last, phys, flags) = (le32(r, 4), le64(r, 8), le64(r, 16), le64(r, 24), le32(r, 32));
        if self.is(Deviation::EndOfAddressesKills) && last == u64::MAX {
            return Answer::Dies("it does not survive virt_end 2^64 - 1");
        }
        Answer::Status(match self.mapping(id, first, last, phys, flags) {
            Ok(mapping) => {
                if let Some(domain) = self.domains.iter_mut().find(|domain| domain.id == id) {
                    domain.mappings.push(mapping);
                }
                OK
            }
            Err(NOTHING) => return Answer::Nothing,
            Err(status) => status,
        })
    }

    fn mapping(&mut self, id: u32, first: u64, last: u64, phys: u64, flags: u32) -> Result<Mapping, u8> {
        // 5.13.6.5.2: an unknown flag MUST be INVAL; MMIO is known where F_MMIO was negotiated (5.13.6.5)
        let mut known = MAP_F_READ | MAP_F_WRITE;
        if (self.took(F_MMIO) && !self.is(Deviation::MmioRefused)) || self.is(Deviation::MmioUnnegotiated) {
            known |= MAP_F_MMIO;
        }
        if self.took(F_COHERENCY) {
            known |= MAP_F_NON_CACHEABLE;
        }
        if flags & !known != 0 && !self.is(Deviation::MapFlagsIgnored) {
            return Err(INVAL);
        }
        // the proposal: not both
        if flags & MAP_F_MMIO != 0 && flags & MAP_F_NON_CACHEABLE != 0 {
            return Err(INVAL);
        }
        // 5.13.6.5.1 binds the driver; choice: INVAL. One byte is a range where the granule is one byte (5.13.6)
        if last < first && !self.is(Deviation::MapInvertedAccepted) {
            return Err(INVAL);
        }
        if last == first && self.is(Deviation::MapOneByteRefused) {
            return Err(INVAL);
        }
        if last == u64::MAX && self.is(Deviation::EndOfAddressesRefused) {
            return Err(RANGE);
        }
        // 5.13.6: outside of `input_range` a mapping fails. Choice: RANGE
        if let Some((lowest, highest)) = self.config.input_range
            && (first < lowest || last > highest)
            && !self.is(Deviation::InputRangeIgnored)
        {
            return Err(RANGE);
        }
        // 5.13.6.5.2: not aligned on the granule SHOULD be RANGE
        let granule = 1 << self.config.page_size_mask.trailing_zeros().min(63);
        let unaligned = |address: u64| !address.is_multiple_of(granule);
        if (unaligned(first) && !self.is(Deviation::MapStartUnaligned))
            || (unaligned(last.wrapping_add(1)) && !self.is(Deviation::MapEndUnaligned))
            || (unaligned(phys) && !self.is(Deviation::MapPhysUnaligned))
        {
            return Err(RANGE);
        }
        // 5.13.6.5: the physical range should be within the guest-physical address space. Choice: RANGE where it is not within 2^64
        if phys.checked_add(last.wrapping_sub(first)).is_none() && !self.is(Deviation::PhysOverflowAccepted) {
            return Err(if self.is(Deviation::PhysOverflowNothing) { NOTHING } else { RANGE });
        }
        // 5.13.6.5.2: a domain that does not exist SHOULD be NOENT
        let Some(domain) = self.domain(id) else {
            if self.is(Deviation::MapCreatesDomain) {
                self.domains.push(Domain { id, bypass: false, mappings: Vec::new() });
                return Ok(Mapping { first, last, phys, flags, only: None });
            }
            return Err(if self.is(Deviation::MapNoDomainInval) { INVAL } else { NOENT });
        };
        // 5.13.6.5.2: a bypass domain SHOULD be INVAL
        if domain.bypass && !self.is(Deviation::BypassDomainMaps) {
            return Err(INVAL);
        }
        let only = self.mapper(id);
        // 5.13.6.5.2: where there is a mapping already SHOULD be INVAL
        for there in &domain.mappings {
            let seen = there.first == first || !self.is(Deviation::MapOverlapOnlyFirst);
            if there.only == only
                && there.first <= last
                && first <= there.last
                && seen
                && !self.is(Deviation::MapOverlapAccepted)
            {
                return Err(INVAL);
            }
        }
        let members: Vec<_> = self.members(id).into_iter().filter_map(|endpoint| self.endpoint(endpoint)).collect();
        for endpoint in &members {
            // 5.13.6.8.1.2: what overlaps a RESV_MEM region SHOULD be rejected. Choice: INVAL
            for reserved in &endpoint.reserved {
                if reserved.first <= last
                    && first <= reserved.last
                    && !self.is(Deviation::ReservedNotChecked)
                    && !(self.is(Deviation::MsiNotChecked) && reserved.msi)
                {
                    return Err(INVAL);
                }
            }
        }
        // the proposal
        if flags & MAP_F_NON_CACHEABLE != 0 && members.iter().any(|endpoint| !endpoint.coherency.non_cacheable) {
            return Err(UNSUPP);
        }
        let all: usize = self.domains.iter().map(|domain| domain.mappings.len()).sum();
        if domain.mappings.len() >= self.config.limits.mappings_per_domain || all >= self.config.limits.mappings {
            return Err(NOMEM);
        }
        Ok(Mapping { first, last, phys, flags, only })
    }

    /// Which endpoint alone has what is mapped from now on: of the reference all have.
    fn mapper(&self, domain: u32) -> Option<u32> {
        if self.is(Deviation::OnlyLastAttachedMaps) { self.members(domain).last().copied() } else { None }
    }

    /// 5.13.6.6.
    fn unmap(&mut self, r: &[u8]) -> Answer {
        let (id, first, last) = (le32(r, 4), le64(r, 8), le64(r, 16));
        if self.is(Deviation::EndOfAddressesKills) && (last < first || (first == 0 && last == u64::MAX)) {
            return Answer::Dies("it does not survive a range of more than 2^64 - 1 bytes, or of less than one");
        }
        if self.is(Deviation::EndOfAddressesKills) && last == u64::MAX && self.domain(id).is_some() {
            return Answer::Nothing;
        }
        let mapper = self.mapper(id);
        Answer::Status(self.remove(id, first, last, &r[24..28], mapper))
    }

    fn remove(&mut self, id: u32, first: u64, last: u64, reserved: &[u8], only: Option<u32>) -> u8 {
        // 5.13.6.6.2: `reserved` not zero MAY be INVAL. Choice: it is, and nothing is removed
        if reserved != [0; 4] && !self.is(Deviation::UnmapReservedIgnored) {
            return INVAL;
        }
        // the range has no address. Choice: INVAL
        if last < first && !self.is(Deviation::UnmapInvertedAccepted) {
            return INVAL;
        }
        let (split, partial) = (self.is(Deviation::UnmapSplits), self.is(Deviation::UnmapRemovesUntilSplit));
        let (hole, nothing) = (self.is(Deviation::UnmapHoleRefused), self.is(Deviation::UnmapDoesNothing));
        let (all, one) = (self.is(Deviation::UnmapRemovesAllTouched), self.is(Deviation::UnmapRemovesOne));
        let (ok, spares) = (self.is(Deviation::UnmapSplitOk), self.is(Deviation::UnmapSparesLast));
        let (missing, bypass) = (self.is(Deviation::UnmapNoDomainOk), self.is(Deviation::BypassDomainUnmaps));
        // 5.13.6.6.2: a domain that does not exist SHOULD be NOENT
        let Some(domain) = self.domains.iter_mut().find(|domain| domain.id == id) else {
            return if missing { OK } else { NOENT };
        };
        // 5.13.6.6.2: a bypass domain SHOULD be INVAL
        if domain.bypass && !bypass {
            return INVAL;
        }
        let touched = |it: &Mapping| it.only == only && it.first <= last && first <= it.last;
        let covered = |it: &Mapping| it.only == only && first <= it.first && it.last <= last;
        // 5.13.6.6.2: what would split a mapping SHOULD be RANGE, and nothing removed
        if domain.mappings.iter().any(|it| touched(it) && !covered(it)) {
            if partial {
                let stop = domain.mappings.iter().position(|it| touched(it) && !covered(it)).unwrap_or_default();
                let mut at = 0;
                domain.mappings.retain(|it| {
                    at += 1;
                    at > stop || !covered(it)
                });
            }
            if all {
                domain.mappings.retain(|it| !touched(it));
                return OK;
            }
            if split {
                let mut rest = Vec::new();
                for it in domain.mappings.iter().filter(|it| touched(it)) {
                    if it.first < first {
                        rest.push(Mapping { last: first - 1, ..*it });
                    }
                    if it.last > last {
                        rest.push(Mapping { first: last + 1, phys: it.phys.wrapping_add(last + 1 - it.first), ..*it });
                    }
                }
                domain.mappings.retain(|it| !touched(it));
                domain.mappings.extend(rest);
                return OK;
            }
            return if ok { OK } else { RANGE };
        }
        // 5.13.6.6.2: what is covered SHOULD be removed, and be OK, whether it is all of the range or not
        let bytes = domain.mappings.iter().filter(|it| covered(it)).fold(0u128, |sum, it| sum + size(it));
        if hole && bytes != u128::from(last) - u128::from(first) + 1 {
            return RANGE;
        }
        if nothing {
            return OK;
        }
        let mut left = if one { 1 } else { usize::MAX };
        if spares {
            left = domain.mappings.iter().filter(|it| covered(it)).count().saturating_sub(1).max(1);
        }
        domain.mappings.retain(|it| {
            let goes = covered(it) && left > 0;
            left -= usize::from(goes);
            !goes
        });
        OK
    }

    /// 5.13.6.7.
    fn probe(&mut self, r: &[u8], writable: usize) -> Answer {
        let id = le32(r, 4);
        let size = self.config.probe_size as usize;
        // 5.13.6.7.2: `reserved` MUST be ignored
        if r[8..72] != [0; 64] && self.is(Deviation::ProbeReservedChecked) {
            return Answer::Properties(vec![0; size.min(writable - 4)], INVAL);
        }
        // 5.13.6.7.2: with less than `probe_size` bytes no property SHOULD be written, and the status SHOULD be INVAL. Choice: it is in the
        // last four bytes, and those before are zeroes
        if writable < size + 4 {
            if self.is(Deviation::ProbeShortKills) {
                return Answer::Dies("it does not survive a PROBE with too few bytes for the properties");
            }
            if self.is(Deviation::ProbeShortNothing) {
                return Answer::Nothing;
            }
            if self.is(Deviation::ProbeShortFills) {
                let mut bytes = self.properties(id);
                bytes.resize(writable - 4, 0);
                return Answer::Properties(bytes, OK);
            }
            return Answer::Properties(vec![0; writable - 4], INVAL);
        }
        // choice: the tail is `probe_size` bytes after the beginning
        let size = if self.is(Deviation::ProbeTailAtEnd) { writable - 4 } else { size };
        // 5.13.6.7.2: an endpoint that does not exist SHOULD be NOENT
        if self.endpoint(id).is_none()
            && !self.is(Deviation::EndpointNotLookedUp)
            && !self.is(Deviation::ProbeAnyEndpoint)
        {
            return Answer::Properties(vec![0; size], NOENT);
        }
        let mut bytes = self.properties(id);
        // 5.13.6.7.2: the rest SHOULD be zeroes
        if bytes.len() > size {
            return Answer::Properties(vec![0; size], INVAL);
        }
        let used = bytes.len();
        bytes.resize(size, 0);
        if self.is(Deviation::ProbeRestNotZeroed) {
            // after an empty property, which ends the list
            bytes[size.min(used + 4)..].fill(0xff);
        }
        Answer::Properties(bytes, OK)
    }

    fn properties(&self, id: u32) -> Vec<u8> {
        let mut list = Vec::new();
        let Some(endpoint) = self.endpoint(id) else { return list };
        let mut reserved = endpoint.reserved.clone();
        // 5.13.6.8.1.2: one MSI region at most, and no two that overlap, SHOULD be presented
        if self.is(Deviation::ProbeTwoMsi) {
            reserved.push(Reserved { first: 0xfd00_0000, last: 0xfd00_0fff, msi: true });
            reserved.push(Reserved { first: 0xfd10_0000, last: 0xfd10_0fff, msi: true });
        }
        if self.is(Deviation::ProbeOverlapping) {
            reserved.push(Reserved { first: 0xfd00_0000, last: 0xfd00_1fff, msi: false });
            reserved.push(Reserved { first: 0xfd00_1000, last: 0xfd00_2fff, msi: false });
        }
        for region in reserved {
            let mut value = vec![u8::from(region.msi), 0, 0, 0];
            if self.is(Deviation::ResvMemReservedNotZero) {
                value[3] = 1;
            }
            let (first, last) = if self.is(Deviation::ResvMemReversed) {
                (region.last, region.first)
            } else {
                (region.first, region.last)
            };
            value.extend(first.to_le_bytes());
            value.extend(last.to_le_bytes());
            // 5.13.6.7.2: `reserved`, the four upper bits, SHOULD be zero; `length` MUST be the value's
            let head: u16 = if self.is(Deviation::PropertyReservedNotZero) { 0x1001 } else { 1 };
            let length = value.len() + if self.is(Deviation::PropertyLengthWithHead) { 4 } else { 0 };
            list.extend(head.to_le_bytes());
            list.extend((length as u16).to_le_bytes());
            list.extend(value);
            // 5.13.6.7.2: the next MUST be `length` + 4 bytes on
            if self.is(Deviation::PropertiesPadded) {
                list.extend([0xff; 8]);
            }
        }
        // the proposal
        if self.took(F_COHERENCY) {
            let Coherency { dma, no_snoop, walks, non_cacheable } = endpoint.coherency;
            list.extend([16, 0, 8, 0, dma, no_snoop, walks, u8::from(non_cacheable), 0, 0, 0, 0]);
        }
        list
    }

    // -------------------------------------------------------------------------------------------------------------- accesses

    /// Where an endpoint's access to one address goes.
    ///
    /// # Errors
    /// `reason` of the fault report (5.13.6.9).
    pub fn translate(&self, endpoint: u32, iova: u64, write: bool) -> Result<Target, u8> {
        self.look_up(endpoint, iova, write, false)
    }

    fn look_up(&self, endpoint: u32, iova: u64, write: bool, begins: bool) -> Result<Target, u8> {
        let target = |it: &Mapping| Target::Memory(iova.wrapping_sub(it.first).wrapping_add(it.phys));
        let within = |it: &Mapping| it.first <= iova && iova <= it.last;
        if let Some((_, it)) = self.left.iter().find(|(of, it)| *of == endpoint && within(it)) {
            return Ok(target(it));
        }
        let Some(domain) = self.domain_of(endpoint) else {
            // 5.13.6: in bypass mode it is the identity. 5.13.6.2: else it SHOULD NOT get through
            let mode = match self.config.bypass {
                Bypass::Never => false,
                Bypass::Legacy => self.took(F_BYPASS),
                Bypass::Config(_) => self.bypass & 1 == 1,
            };
            let mode = mode && !self.is(Deviation::BypassNotHonoured);
            let hidden = self.is(Deviation::BypassOnUntilWritten) && !self.written;
            return if mode || hidden || self.is(Deviation::UnattachedAccesses) {
                Ok(Target::Memory(iova))
            } else {
                Err(R_DOMAIN)
            };
        };
        let Some(domain) = self.domain(domain) else { return Err(R_DOMAIN) };
        // 5.13.6.3: endpoints of a bypass domain are in bypass mode
        if domain.bypass && !self.is(Deviation::BypassDomainBlocks) {
            return Ok(Target::Memory(iova));
        }
        // 5.13.6.8.1: what an endpoint writes to its MSI region is a message. Choice: reading there is a fault
        let msi = |it: &&Reserved| it.msi && it.first <= iova && iova <= it.last;
        if write && self.endpoint(endpoint).is_some_and(|endpoint| endpoint.reserved.iter().any(|it| msi(&it))) {
            return Ok(Target::Msi);
        }
        let seen = |it: &&Mapping| it.only.is_none_or(|only| only == endpoint);
        let others = self.domains.iter().filter(|other| other.id != domain.id).flat_map(|other| &other.mappings);
        let none: &[Mapping] = &[];
        let (own, foreign) = if self.is(Deviation::DomainsNotIsolated) {
            (domain.mappings.iter(), others.copied().collect())
        } else {
            (domain.mappings.iter(), none.to_vec())
        };
        let next = begins && self.is(Deviation::TranslateLooksTwoBytes) && iova % PAGE == PAGE - 1;
        let found =
            own.chain(&foreign).filter(seen).find(|it| within(it) || (next && it.first == iova.wrapping_add(1)));
        let Some(found) = found else { return Err(R_MAPPING) };
        // 5.13.6.5.2: no writes without WRITE. 5.13.6.5.1: READ for reads
        let allowed = if write {
            found.flags & MAP_F_WRITE != 0 || self.is(Deviation::WritePermissionIgnored)
        } else {
            found.flags & MAP_F_READ != 0 || self.is(Deviation::ReadPermissionIgnored)
        };
        if !allowed {
            return Err(R_MAPPING);
        }
        // 5.13.6.5: PA = VA - virt_start + phys_start
        if self.is(Deviation::TranslateForgetsOffset) {
            return Ok(Target::Memory(found.phys.wrapping_add(iova % PAGE)));
        }
        Ok(target(found))
    }

    /// 5.13.6.9. Choice: the address and the kind of access are told; without a buffer the report waits, up to a limit.
    fn fault(&mut self, reason: u8, endpoint: u32, address: u64, write: bool) {
        if self.is(Deviation::NoEvents) {
            return;
        }
        let mut report = [0; 24];
        report[0] = reason;
        let write = write != self.is(Deviation::FaultDirectionSwapped);
        let mut flags: u32 = if write { 1 << 1 } else { 1 << 0 } | 1 << 8;
        if self.is(Deviation::FaultAddressOnly) {
            flags = 1 << 8;
        }
        if self.is(Deviation::FaultFlagsUndefined) {
            flags |= 1 << 31;
        }
        let told = if self.is(Deviation::FaultEndpointWrong) { self.config.absent } else { endpoint };
        report[4..8].copy_from_slice(&flags.to_le_bytes());
        report[8..12].copy_from_slice(&told.to_le_bytes());
        report[16..24].copy_from_slice(&address.to_le_bytes());
        if self.is(Deviation::FaultReasonSwapped) {
            report[0] = 3 - reason;
        }
        if self.is(Deviation::FaultReservedNotZero) {
            report[1] = 1;
        }
        if self.is(Deviation::FaultReserved1NotZero) {
            report[12] = 1;
        }
        if self.is(Deviation::FaultAddressWrong) {
            report[16] ^= 0x80;
        }
        if self.kept.len() < self.config.limits.events || !self.buffers.is_empty() {
            self.kept.push(report);
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        while !self.kept.is_empty() && !self.buffers.is_empty() {
            let (report, size) = (self.kept.remove(0), self.buffers.remove(0));
            let mut buffer = vec![CANARY; size];
            if size >= 24 {
                buffer[..24].copy_from_slice(&report);
                self.used.push(Reply { used: 24, buffer });
            } else if self.is(Deviation::FaultBufferSmallKills) {
                self.dead = Some("it wants a reset since an event buffer was too small".to_owned());
            } else if self.is(Deviation::FaultInSeveralBuffers) {
                buffer.copy_from_slice(&report[..size]);
                self.used.push(Reply { used: size as u32, buffer });
                if !self.buffers.is_empty() {
                    let second = self.buffers.remove(0);
                    let rest = (24 - size).min(second);
                    let mut buffer = vec![CANARY; second];
                    buffer[..rest].copy_from_slice(&report[size..size + rest]);
                    self.used.push(Reply { used: rest as u32, buffer });
                }
            }
        }
    }

    fn buffer(&mut self, size: usize) {
        let kept = self.is(Deviation::FaultBufferSmallKills) || self.is(Deviation::FaultInSeveralBuffers);
        // 5.13.6.9.2: several buffers SHOULD NOT be used for one report. Choice: one that is too small comes back empty, at once
        if size < 24 && !kept {
            self.used.push(Reply { used: 0, buffer: vec![CANARY; size] });
            return;
        }
        self.buffers.push(size);
        self.deliver();
    }

    fn reach(&mut self, endpoint: u32, iova: u64, at: usize, write: bool) -> Option<Target> {
        let address = iova.checked_add(at as u64)?;
        match self.look_up(endpoint, address, write, at == 0) {
            Ok(target) => Some(target),
            Err(reason) => {
                self.fault(reason, endpoint, address, write);
                None
            }
        }
    }

    fn in_ram(&self, at: u64) -> bool {
        self.setup.ram.contains(&at)
    }
    fn put(&mut self, at: u64, byte: u8) {
        if !self.in_ram(at) {
            return;
        }
        let page = at - at % PAGE;
        let place = self.ram.iter().position(|(start, _)| *start == page).unwrap_or(self.ram.len());
        if place == self.ram.len() {
            self.ram.push((page, vec![0; PAGE as usize]));
        }
        self.ram[place].1[(at % PAGE) as usize] = byte;
    }
    /// What is in guest memory, all of it zeroes at first; nothing where there is none.
    fn get(&self, at: u64) -> Option<u8> {
        if !self.in_ram(at) {
            return None;
        }
        let page = self.ram.iter().find(|(start, _)| *start == at - at % PAGE);
        Some(page.map_or(0, |(_, bytes)| bytes[(at % PAGE) as usize]))
    }
    fn alive(&self) -> Result<(), Broken> {
        self.dead.as_ref().map_or(Ok(()), |why| Err(Broken(why.clone())))
    }
}

/// Instead of a status: nothing is written.
const NOTHING: u8 = 0xff;

fn size(it: &Mapping) -> u128 {
    u128::from(it.last) - u128::from(it.first) + 1
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    (0..4).fold(0, |value, i| value | u32::from(bytes[at + i]) << (8 * i))
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    (0..8).fold(0, |value, i| value | u64::from(bytes[at + i]) << (8 * i))
}

impl Device for Reference {
    fn name(&self) -> String {
        self.name.clone()
    }
    fn setup(&self) -> &Setup {
        &self.setup
    }
    fn can(&self) -> Can {
        Can { dma: true, events: true, system_reset: true }
    }
    fn does_dma(&self, endpoint: u32) -> bool {
        self.endpoint(endpoint).is_some()
    }
    fn fresh(&mut self, how: Fresh) -> Result<(), Broken> {
        self.start(how.accept, true);
        Ok(())
    }
    fn reset(&mut self, how: Fresh) -> Result<(), Broken> {
        if self.is(Deviation::ResetFails) {
            self.dead = Some("it cannot be reset".to_owned());
        }
        self.alive()?;
        self.start(how.accept, false);
        Ok(())
    }
    fn offered(&mut self) -> u64 {
        self.features()
    }
    fn read_config(&mut self, offset: u32, data: &mut [u8]) {
        let bytes = self.configuration();
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = bytes.get(offset as usize + i).copied().unwrap_or(0);
        }
    }
    fn write_config(&mut self, offset: u32, data: &[u8]) {
        self.configure(u64::from(offset), data);
    }
    fn handle(&mut self, readable: &[u8], writable: usize) -> Result<Reply, Broken> {
        self.request(readable, writable)
    }
    fn event_buffer(&mut self, bytes: usize) -> Result<(), Broken> {
        self.alive()?;
        self.buffer(bytes);
        self.alive()
    }
    fn events(&mut self) -> Result<Vec<Reply>, Broken> {
        self.alive()?;
        Ok(std::mem::take(&mut self.used))
    }
    fn dma_write(&mut self, endpoint: u32, iova: u64, data: &[u8]) -> Result<(), Broken> {
        self.alive()?;
        for (i, &byte) in data.iter().enumerate() {
            match self.reach(endpoint, iova, i, true) {
                Some(Target::Memory(at)) => self.put(at, byte),
                Some(Target::Msi) => {}
                None => break,
            }
        }
        self.alive()
    }
    fn dma_read(&mut self, endpoint: u32, iova: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        self.alive()?;
        let mut data = vec![CANARY; bytes];
        for (i, byte) in data.iter_mut().enumerate() {
            match self.reach(endpoint, iova, i, false) {
                Some(Target::Memory(at)) => *byte = self.get(at).unwrap_or(CANARY),
                Some(Target::Msi) => {}
                None => break,
            }
        }
        self.alive()?;
        Ok(data)
    }
    fn ram_write(&mut self, at: u64, data: &[u8]) -> Result<(), Broken> {
        for (i, &byte) in data.iter().enumerate() {
            match at.checked_add(i as u64) {
                Some(address) if self.in_ram(address) => self.put(address, byte),
                _ => return Err(Broken(format!("no guest memory at {at:#x}"))),
            }
        }
        Ok(())
    }
    fn ram_read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        let address = |i: usize| at.checked_add(i as u64);
        let read = (0..bytes).map(|i| address(i).and_then(|address| self.get(address))).collect::<Option<_>>();
        read.ok_or_else(|| Broken(format!("no guest memory at {at:#x}")))
    }
}
