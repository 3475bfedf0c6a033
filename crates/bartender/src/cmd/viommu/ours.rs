//! `viommu`'s device under the conformance suite.
//!
//! Accesses of endpoints go two ways at once: by the device's translators, and by a host that knows nothing but the effects
//! it was told. Where the two differ the device counts as broken, and so it does where an effect does not fit those before it.

use std::collections::{BTreeMap, VecDeque};

use conformance::{Broken, Can, Device, Fresh, Reply, Setup, device::CANARY};
use viommu::{
    Config, Effect, Endpoint, EndpointId, Host, HostError, Interval, Iova, Mapping, Translator,
    access::Kind,
    coherency::{Coherency, Dma},
    device::Bypass,
    effect::{DomainId, Unattached},
    endpoint::{Reserved, ReservedKind},
    event::{FaultReport, Posted},
    translate::{Reason, Target},
    wire::Features,
};

/// Guest memory: 1 MiB.
const RAM: u64 = 0x4000_0000;
const RAM_SIZE: usize = 1 << 20;
/// Guest-physical addresses have this many bits; the host maps none beyond.
const PHYSICAL: u32 = 52;

/// What a device is to be.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Its name, after `viommu:`.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Whether it is one that the specification would have of a new device.
    pub conforming: bool,
    config: Config,
    endpoints: Vec<Endpoint>,
}

/// The whole of 2^64 but for what is said.
fn range(first: u64, last: u64) -> Interval {
    Interval::new(Iova(first), Iova(last)).unwrap_or(Interval::ALL)
}

fn endpoint(id: u32, reserved: &[Reserved], dma: Dma) -> Endpoint {
    let coherency = Coherency { dma, ..Coherency::default() };
    Endpoint { reserved: reserved.to_vec(), coherency, ..Endpoint::new(EndpointId(id)) }
}

/// The configurations that the suite is run on: no single one has everything that there is a clause about.
#[must_use]
pub fn configurations() -> Vec<Configuration> {
    // In the second half of guest memory, where an access that goes by the identity would show.
    let held = Reserved { at: range(RAM + 0x8_0000, RAM + 0x8_ffff), kind: ReservedKind::Reserved };
    let msi = Reserved { at: range(0xfee0_0000, 0xfeef_ffff), kind: ReservedKind::Msi };
    let both = |reserved: &[Reserved]| [0x8, 0x9].map(|id| endpoint(id, reserved, Dma::Coherent)).to_vec();
    let full = Config {
        input_range: range(0x1000, 0xffff_ffff_ffff),
        domain_range: (DomainId(1), DomainId(0xffff)),
        ..Config::default()
    };
    let minimal = Config {
        page_size_mask: 0x1000,
        input_range: Interval::ALL,
        probe_size: 0,
        mmio: false,
        bypass: Bypass::Never,
        ..Config::default()
    };
    vec![
        Configuration {
            name: "full",
            what: "everything is offered, but for BYPASS and for coherency, which is a proposal",
            conforming: true,
            config: full.clone(),
            endpoints: both(&[held, msi]),
        },
        Configuration {
            name: "minimal",
            what: "MAP_UNMAP alone, all addresses, one page size",
            conforming: true,
            config: minimal.clone(),
            endpoints: both(&[]),
        },
        Configuration {
            name: "narrow",
            what: "16 MiB of addresses, five domains, a granule of 64 KiB",
            conforming: true,
            config: Config {
                page_size_mask: 0x1_0000,
                input_range: range(0x1_0000, 0x100_ffff),
                domain_range: (DomainId(5), DomainId(9)),
                ..full.clone()
            },
            endpoints: both(&[Reserved { at: range(0x10_0000, 0x10_0fff), kind: ReservedKind::Reserved }]),
        },
        Configuration {
            name: "bytes",
            what: "a granule of one byte, and bypass 1 at first",
            conforming: true,
            config: Config {
                page_size_mask: u64::MAX,
                bypass: Bypass::Config { initially: true },
                ..Config::default()
            },
            endpoints: both(&[held, msi]),
        },
        Configuration {
            name: "mixed",
            what: "an endpoint that is coherent and one that is not, which the host has no table for both of",
            conforming: true,
            config: full,
            endpoints: vec![endpoint(0x8, &[held, msi], Dma::Coherent), endpoint(0x9, &[msi], Dma::NonCoherent)],
        },
        Configuration {
            name: "legacy",
            what: "BYPASS, which BYPASS_CONFIG supersedes: a new device should not offer it",
            conforming: false,
            config: Config { bypass: Bypass::Legacy, ..minimal },
            endpoints: both(&[]),
        },
    ]
}

/// What the host has, by the effects alone.
#[derive(Debug, Default)]
struct Told {
    /// Whether it is one of bypass, and its mappings by their first address.
    domains: BTreeMap<u32, (bool, BTreeMap<u64, Mapping>)>,
    attached: BTreeMap<u32, u32>,
    unattached: BTreeMap<u32, Unattached>,
    /// The first effect that did not fit.
    wrong: Option<String>,
}

impl Told {
    fn translate(&self, endpoint: u32, at: u64, kind: Kind) -> Option<u64> {
        let Some(domain) = self.attached.get(&endpoint) else {
            return (self.unattached.get(&endpoint) == Some(&Unattached::Identity)).then_some(at);
        };
        let (bypass, mappings) = self.domains.get(domain)?;
        if *bypass {
            return Some(at);
        }
        let (&first, mapping) = mappings.range(..=at).next_back()?;
        let there = mapping.at.contains(Iova(at)) && mapping.access.allows(kind);
        there.then(|| mapping.to.0.wrapping_add(at - first))
    }
    fn attached_to(&self, domain: u32) -> bool {
        self.attached.values().any(|&to| to == domain)
    }
    /// Does an effect; what does not fit is the name of what is wrong with it.
    fn take(&mut self, effect: &Effect) -> Result<(), &'static str> {
        let check = |holds: bool, wrong| if holds { Ok(()) } else { Err(wrong) };
        match *effect {
            Effect::Create { domain, bypass } => {
                check(self.domains.insert(domain.0, (bypass, BTreeMap::new())).is_none(), "it is there")
            }
            Effect::Attach { endpoint, domain } => {
                check(self.domains.contains_key(&domain.0), "there is no such domain")?;
                self.unattached.remove(&endpoint.0);
                check(self.attached.insert(endpoint.0, domain.0).is_none(), "the endpoint is attached")
            }
            Effect::Detach { endpoint, domain, then } => {
                check(self.attached.remove(&endpoint.0) == Some(domain.0), "it is not attached to it")?;
                self.unattached.insert(endpoint.0, then);
                Ok(())
            }
            Effect::Destroy { domain } => {
                check(!self.attached_to(domain.0), "endpoints are attached")?;
                check(self.domains.remove(&domain.0).is_some(), "there is no such domain")
            }
            Effect::Map { domain, mapping } => {
                let (bypass, mappings) = self.domains.get_mut(&domain.0).ok_or("there is no such domain")?;
                check(!*bypass, "it is a bypass domain")?;
                let last = mapping.at.last().0;
                let below = mappings.range(..=last).next_back();
                check(below.is_none_or(|(_, it)| !it.at.overlaps(mapping.at)), "something is mapped there")?;
                mappings.insert(mapping.at.first().0, mapping);
                Ok(())
            }
            Effect::Unmap { domain, range } => {
                let (_, mappings) = self.domains.get_mut(&domain.0).ok_or("there is no such domain")?;
                let within: Vec<_> = mappings.values().filter(|it| it.at.overlaps(range)).map(|it| it.at).collect();
                check(within.iter().all(|&at| range.covers(at)), "a mapping lies partly within")?;
                for at in within {
                    mappings.remove(&at.first().0);
                }
                Ok(())
            }
            Effect::Unattached { endpoint, now } => {
                check(!self.attached.contains_key(&endpoint.0), "the endpoint is attached")?;
                self.unattached.insert(endpoint.0, now);
                Ok(())
            }
        }
    }
    fn take_all(&mut self, effects: &[Effect]) {
        for effect in effects {
            // The ones that are not of a request; see `apply` for those.
            let _ = self.apply(effect);
        }
    }
}

impl Host for Told {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        if let Effect::Map { mapping, .. } = effect {
            let end = mapping.to.0.checked_add(mapping.at.size_less_one());
            if end.is_none_or(|end| end >> PHYSICAL != 0) {
                return Err(HostError::BadAddress);
            }
        }
        self.take(effect).map_err(|wrong| {
            self.wrong.get_or_insert_with(|| format!("{effect:?}: {wrong}"));
            HostError::Failed
        })
    }
}

/// A device, and what is around it.
#[derive(Debug)]
pub struct Ours {
    name: String,
    configuration: Configuration,
    setup: Setup,
    device: viommu::Device,
    translators: BTreeMap<u32, Translator>,
    host: Told,
    ram: Vec<u8>,
    /// Event buffers that the device has not used.
    buffers: VecDeque<usize>,
    /// Those that it has, since they were asked for.
    used: Vec<Reply>,
}

impl Ours {
    /// The device of a configuration.
    ///
    /// # Errors
    /// The configuration is none.
    pub fn new(configuration: &Configuration) -> Result<Self, Broken> {
        let setup = Setup {
            endpoints: configuration.endpoints.iter().map(|it| it.id.0).collect(),
            absent: 0x77,
            ram: RAM..=RAM + (RAM_SIZE as u64 - 1),
        };
        let name = format!("viommu:{}", configuration.name);
        let (device, host, translators) = made(configuration)?;
        Ok(Self {
            name,
            configuration: configuration.clone(),
            setup,
            device,
            translators,
            host,
            ram: vec![0; RAM_SIZE],
            buffers: VecDeque::new(),
            used: Vec::new(),
        })
    }
    fn begin(&mut self, how: Fresh) -> Result<(), Broken> {
        self.buffers.clear();
        self.used.clear();
        let features = Features(self.device.features().0 & how.accept);
        let effects = self.device.accept(features).map_err(|e| Broken(e.to_string()))?;
        self.host.take_all(&effects);
        self.check()
    }
    fn check(&self) -> Result<(), Broken> {
        if let Some(wrong) = &self.host.wrong {
            return Err(Broken(format!("an effect that does not fit: {wrong}")));
        }
        if self.device.needs_reset() {
            return Err(Broken("the device needs a reset".to_owned()));
        }
        Ok(())
    }
    /// Where one byte of an access goes in memory.
    fn translate(&mut self, endpoint: u32, at: u64, kind: Kind) -> Result<Result<Option<u64>, Reason>, Broken> {
        let by_effects = self.host.translate(endpoint, at, kind);
        let translator = self.translators.get_mut(&endpoint);
        let translator = translator.ok_or_else(|| Broken(format!("there is no endpoint {endpoint:#x}")))?;
        let target = translator.translate(Iova(at), kind);
        let memory = match target {
            Ok(Target::Memory { at, .. }) => Some(at.0),
            Ok(Target::Msi) | Err(_) => None,
        };
        if memory != by_effects {
            let (one, other) = (shown(memory), shown(by_effects));
            return Err(Broken(format!(
                "endpoint {endpoint:#x}, {at:#x}: {one} by the translator, {other} by the effects"
            )));
        }
        Ok(target.map(|_| memory))
    }
    fn fault(&mut self, reason: Reason, endpoint: u32, at: u64, kind: Kind) {
        let report =
            FaultReport { reason, endpoint: EndpointId(endpoint), access: Some(kind), address: Some(Iova(at)) };
        let _ = self.device.fault(report);
        self.deliver();
    }
    /// Hands the driver's buffers over, the oldest first.
    fn deliver(&mut self) {
        while let Some(&size) = self.buffers.front() {
            let mut buffer = vec![CANARY; size];
            let used = match self.device.event_buffer(size) {
                Posted::Kept => return,
                Posted::TooSmall => 0,
                Posted::Write(bytes) => {
                    for (to, from) in buffer.iter_mut().zip(bytes) {
                        *to = from;
                    }
                    bytes.len() as u32
                }
            };
            self.buffers.pop_front();
            self.used.push(Reply { used, buffer });
        }
    }
    /// A byte of memory; nothing where there is none.
    fn byte(&mut self, at: u64) -> Option<&mut u8> {
        let at = usize::try_from(at.checked_sub(RAM)?).ok()?;
        self.ram.get_mut(at)
    }
    /// An access, byte by byte, up to the first that goes nowhere; that one is reported.
    fn access(
        &mut self,
        endpoint: u32,
        iova: u64,
        bytes: usize,
        kind: Kind,
        mut each: impl FnMut(usize, &mut u8),
    ) -> Result<(), Broken> {
        for index in 0..bytes {
            let at = iova.wrapping_add(index as u64);
            match self.translate(endpoint, at, kind)? {
                Ok(memory) => {
                    if let Some(byte) = memory.and_then(|at| self.byte(at)) {
                        each(index, byte);
                    }
                }
                Err(reason) => {
                    self.fault(reason, endpoint, at, kind);
                    break;
                }
            }
        }
        Ok(())
    }
}

fn shown(memory: Option<u64>) -> String {
    memory.map_or_else(|| "nowhere".to_owned(), |at| format!("{at:#x}"))
}

type Made = (viommu::Device, Told, BTreeMap<u32, Translator>);

fn made(configuration: &Configuration) -> Result<Made, Broken> {
    let wrong = |e: viommu::device::Wrong| Broken(e.to_string());
    let mut device = viommu::Device::new(configuration.config.clone()).map_err(wrong)?;
    let mut host = Told::default();
    let mut translators = BTreeMap::new();
    for endpoint in &configuration.endpoints {
        host.take_all(&device.add_endpoint(endpoint.clone()).map_err(wrong)?);
        translators.extend(device.translator(endpoint.id).map(|it| (endpoint.id.0, it)));
    }
    Ok((device, host, translators))
}

impl Device for Ours {
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
        self.setup.endpoints.contains(&endpoint)
    }
    fn fresh(&mut self, how: Fresh) -> Result<(), Broken> {
        // A device that broke is made anew; the others show that a reset is enough.
        if self.check().is_err() {
            (self.device, self.host, self.translators) = made(&self.configuration)?;
        }
        self.ram.fill(0);
        let effects = self.device.system_reset();
        self.host.take_all(&effects);
        self.begin(how)
    }
    fn reset(&mut self, how: Fresh) -> Result<(), Broken> {
        let effects = self.device.reset();
        self.host.take_all(&effects);
        self.begin(how)
    }
    fn offered(&mut self) -> u64 {
        self.device.features().0
    }
    fn read_config(&mut self, offset: u32, data: &mut [u8]) {
        self.device.read_config(offset.into(), data);
    }
    fn write_config(&mut self, offset: u32, data: &[u8]) {
        let effects = self.device.write_config(offset.into(), data);
        self.host.take_all(&effects);
    }
    fn handle(&mut self, readable: &[u8], writable: usize) -> Result<Reply, Broken> {
        let written = self.device.handle_with(readable, writable, &mut self.host).written;
        self.check()?;
        let mut buffer = vec![CANARY; writable];
        let Some(start) = buffer.get_mut(..written.len()) else {
            return Err(Broken(format!("{} bytes are written to {writable}", written.len())));
        };
        start.copy_from_slice(&written);
        Ok(Reply { used: written.len() as u32, buffer })
    }
    fn event_buffer(&mut self, bytes: usize) -> Result<(), Broken> {
        self.buffers.push_back(bytes);
        self.deliver();
        Ok(())
    }
    fn events(&mut self) -> Result<Vec<Reply>, Broken> {
        Ok(std::mem::take(&mut self.used))
    }
    fn dma_write(&mut self, endpoint: u32, iova: u64, data: &[u8]) -> Result<(), Broken> {
        self.access(endpoint, iova, data.len(), Kind::Write, |index, byte| *byte = data[index])
    }
    fn dma_read(&mut self, endpoint: u32, iova: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        let mut data = vec![CANARY; bytes];
        self.access(endpoint, iova, bytes, Kind::Read, |index, byte| data[index] = *byte)?;
        Ok(data)
    }
    fn ram_write(&mut self, at: u64, data: &[u8]) -> Result<(), Broken> {
        for (index, &value) in data.iter().enumerate() {
            let byte = self.byte(at.wrapping_add(index as u64));
            *byte.ok_or_else(|| Broken(format!("there is no memory at {at:#x}")))? = value;
        }
        Ok(())
    }
    fn ram_read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        let byte = |index| self.byte(at.wrapping_add(index as u64)).copied();
        let data: Option<Vec<u8>> = (0..bytes).map(byte).collect();
        data.ok_or_else(|| Broken(format!("there is no memory at {at:#x}")))
    }
}
