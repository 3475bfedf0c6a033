//! The device under the crate `conformance`: its tests, its random sequences, and its reference's configuration as one of this device.
//!
//! Accesses of endpoints go two ways at once, by the device's translators and by a host that knows nothing but the effects it was told
//! ([`crate::book`]). Where the two differ the device counts as broken, and so it does where an effect could not be.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use conformance::{Broken, Can, Fresh, Reply, Setup, device::CANARY, reference};

use crate::{
    Config, Device, Effect, Endpoint, EndpointId, HostError, Interval, Iova, Translator,
    access::Kind,
    book::{Book, Bookkeeper},
    coherency::{Coherency, Dma, NoSnoop, Spaces, Walks},
    device::{Bypass, Wrong},
    effect::DomainId,
    endpoint::{Reserved, ReservedKind},
    event::{FaultReport, Posted},
    limits::Limits,
    translate::Target,
    wire::Features,
};

/// Bytes of guest memory that are kept together.
const PAGE: u64 = 0x1000;

/// What is done before each request that the suite sends.
pub type Before = Box<dyn FnMut(&mut Under, &[u8], usize) -> Result<(), Broken>>;

/// A device, its host and its guest's memory.
pub struct Under {
    /// The device.
    pub device: Device,
    /// Its host.
    pub host: Bookkeeper,
    name: String,
    config: Config,
    endpoints: Vec<Endpoint>,
    setup: Setup,
    translators: BTreeMap<EndpointId, Translator>,
    memory: BTreeMap<u64, Vec<u8>>,
    /// Event buffers that the device has not used.
    buffers: VecDeque<usize>,
    /// Those that it has, since they were asked for.
    used: Vec<Reply>,
    before: Option<Before>,
}

impl fmt::Debug for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("Under");
        it.field("name", &self.name).field("device", &self.device).field("host", &self.host).finish_non_exhaustive()
    }
}

fn wrong(why: Wrong) -> Broken {
    Broken(why.to_string())
}

impl Under {
    /// A device, after a system reset; no feature is taken yet. Guest memory is at `setup.ram`.
    ///
    /// # Errors
    /// There is no such device.
    pub fn new(name: String, config: Config, endpoints: Vec<Endpoint>, setup: Setup) -> Result<Self, Broken> {
        let mut it = Self {
            device: Device::new(config.clone()).map_err(wrong)?,
            host: Bookkeeper::default(),
            name,
            config,
            endpoints,
            setup,
            translators: BTreeMap::new(),
            memory: BTreeMap::new(),
            buffers: VecDeque::new(),
            used: Vec::new(),
            before: None,
        };
        it.make()?;
        Ok(it)
    }
    /// The device that a configuration of the reference is.
    ///
    /// # Errors
    /// There is none.
    pub fn like(from: &reference::Config) -> Result<Self, Broken> {
        let setup = Setup {
            endpoints: from.endpoints.iter().map(|it| it.id).collect(),
            absent: from.absent,
            ram: from.ram.0..=from.ram.1,
        };
        Self::new("viommu".to_owned(), config(from), from.endpoints.iter().map(endpoint).collect(), setup)
    }
    /// With something to be done before each request.
    #[must_use]
    pub fn before(self, before: Before) -> Self {
        Self { before: Some(before), ..self }
    }
    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Its endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
    fn make(&mut self) -> Result<(), Broken> {
        self.device = Device::new(self.config.clone()).map_err(wrong)?;
        self.host = Bookkeeper { last: self.host.last, ..Bookkeeper::default() };
        for endpoint in self.endpoints.clone() {
            let effects = self.device.add_endpoint(endpoint).map_err(wrong)?;
            self.told(&effects)?;
        }
        self.seat();
        Ok(())
    }
    fn seat(&mut self) {
        let translator = |it: &Endpoint| Some((it.id, self.device.translator(it.id)?));
        self.translators = self.endpoints.iter().filter_map(translator).collect();
    }
    fn told(&mut self, effects: &[Effect]) -> Result<(), Broken> {
        self.host.book.write_all(effects).map_err(|why| Broken(why.to_string()))
    }
    fn check(&self) -> Result<(), Broken> {
        if let Some(wrong) = &self.host.wrong {
            return Err(Broken(format!("an effect that could not be: {wrong}")));
        }
        if self.device.needs_reset() {
            return Err(Broken("the device needs a reset".to_owned()));
        }
        Ok(())
    }
    fn begin(&mut self, how: Fresh) -> Result<(), Broken> {
        self.buffers.clear();
        self.used.clear();
        self.accept(how.accept)
    }
    /// The driver takes features, of those that are offered.
    ///
    /// # Errors
    /// It cannot now.
    pub fn accept(&mut self, features: u64) -> Result<(), Broken> {
        let effects = self.device.accept(Features(self.device.features().0 & features)).map_err(wrong)?;
        self.told(&effects)?;
        self.check()
    }
    /// That the translators and the host agree on every mapping.
    ///
    /// # Errors
    /// Where they do not.
    pub fn agrees(&mut self) -> Result<(), Broken> {
        let Self { translators, endpoints, host, .. } = self;
        let seated = translators.iter_mut().filter_map(|(id, it)| Some((endpoints.iter().find(|e| e.id == *id)?, it)));
        host.book.check_all(seated).map_err(|why| Broken(why.to_string()))
    }
    /// That a host made anew from the device's state, and a device restored from what it saves, are as these are.
    ///
    /// # Errors
    /// They are not.
    pub fn rebuilds(&self) -> Result<(), Broken> {
        let mut anew = Book::default();
        anew.write_all(&self.device.replay()).map_err(|why| Broken(why.to_string()))?;
        let (restored, book) = self.copy()?;
        if anew != self.host.book || book != self.host.book || restored.save() != self.device.save() {
            return Err(Broken("made anew it is another".to_owned()));
        }
        Ok(())
    }
    /// A device restored from what this one saves, and the books of its host.
    ///
    /// # Errors
    /// It cannot be restored.
    pub fn copy(&self) -> Result<(Device, Book), Broken> {
        let (device, effects) =
            Device::restore(self.config.clone(), self.endpoints.clone(), &self.device.save()).map_err(wrong)?;
        let mut book = Book::default();
        book.write_all(&effects).map_err(|why| Broken(why.to_string()))?;
        Ok((device, book))
    }
    /// A request of which the host does so many effects and fails at the next: nothing has changed after it. A request of fewer effects is done, and
    /// then taken back by a restore. Whether it failed.
    ///
    /// # Errors
    /// Something has changed.
    pub fn fails(
        &mut self,
        readable: &[u8],
        writable: usize,
        done: usize,
        why: HostError,
    ) -> Result<Option<crate::Reply>, Broken> {
        let (saved, book) = (self.device.save(), self.host.book.clone());
        self.host.fails = std::iter::repeat_n(None, done).chain([Some(why)]).collect();
        let reply = self.device.handle_with(readable, writable, &mut self.host);
        let failed = self.host.fails.is_empty();
        self.host.fails.clear();
        if !failed {
            let restored = Device::restore(self.config.clone(), self.endpoints.clone(), &saved).map_err(wrong)?;
            self.device = restored.0;
            self.host.book = Book::default();
            self.told(&restored.1)?;
            self.seat();
        }
        self.check()?;
        if self.device.save() != saved || self.host.book != book {
            return Err(Broken(format!("a request that failed after {done} effects changed something")));
        }
        self.agrees()?;
        Ok(failed.then_some(reply))
    }
    /// The buffers there are, oldest first, as long as the device has a use for them.
    fn deliver(&mut self) {
        while let Some(&size) = self.buffers.front() {
            if !self.offer(size) {
                break;
            }
            self.buffers.pop_front();
        }
    }
    /// Whether the device has used a buffer.
    fn offer(&mut self, size: usize) -> bool {
        let mut buffer = vec![CANARY; size];
        let used = match self.device.event_buffer(size) {
            Posted::Kept => return false,
            Posted::TooSmall => 0,
            Posted::Write(report) => {
                buffer.iter_mut().zip(report).for_each(|(to, from)| *to = from);
                report.len() as u32
            }
        };
        self.used.push(Reply { used, buffer });
        true
    }
    fn byte(&mut self, at: u64) -> Option<&mut u8> {
        if !self.setup.ram.contains(&at) {
            return None;
        }
        let page = self.memory.entry(at / PAGE).or_insert_with(|| vec![0; PAGE as usize]);
        page.get_mut((at % PAGE) as usize)
    }
    /// An access, byte by byte, up to the first that goes nowhere; that one is reported.
    fn access(
        &mut self,
        id: u32,
        iova: u64,
        bytes: usize,
        kind: Kind,
        mut each: impl FnMut(usize, &mut u8),
    ) -> Result<(), Broken> {
        let endpoint = EndpointId(id);
        for index in 0..bytes {
            let Some(at) = iova.checked_add(index as u64).map(Iova) else { break };
            let Some(translator) = self.translators.get_mut(&endpoint) else { break };
            let target = self.host.book.check(endpoint, translator, at, kind).map_err(|why| Broken(why.to_string()))?;
            match target {
                Ok(Target::Memory { at, .. }) => {
                    if let Some(byte) = self.byte(at.0) {
                        each(index, byte);
                    }
                }
                Ok(Target::Msi) => {}
                Err(reason) => {
                    let report = FaultReport { reason, endpoint, access: Some(kind), address: Some(at) };
                    let _ = self.device.fault(report);
                    self.deliver();
                    break;
                }
            }
        }
        Ok(())
    }
}

impl conformance::Device for Under {
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
            self.make()?;
        }
        self.memory.clear();
        let effects = self.device.system_reset();
        self.told(&effects)?;
        self.begin(how)
    }
    fn reset(&mut self, how: Fresh) -> Result<(), Broken> {
        let effects = self.device.reset();
        self.told(&effects)?;
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
        // What could not be is seen at the next request.
        if let Err(wrong) = self.host.book.write_all(&effects) {
            self.host.wrong.get_or_insert(wrong);
        }
    }
    fn handle(&mut self, readable: &[u8], writable: usize) -> Result<Reply, Broken> {
        if let Some(mut before) = self.before.take() {
            let done = before(self, readable, writable);
            self.before = Some(before);
            done?;
        }
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
        // Where older ones are kept, no fault waits.
        if !self.offer(bytes) {
            self.buffers.push_back(bytes);
        }
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

fn interval((first, last): (u64, u64)) -> Interval {
    Interval::new(Iova(first), Iova(last)).unwrap_or(Interval::ALL)
}

/// The configuration that one of the reference is.
#[must_use]
pub fn config(it: &reference::Config) -> Config {
    let (lowest, highest) = it.domain_range.unwrap_or((0, u32::MAX));
    Config {
        page_size_mask: it.page_size_mask,
        input_range: it.input_range.map_or(Interval::ALL, interval),
        domain_range: (DomainId(lowest), DomainId(highest)),
        probe_size: it.probe_size,
        mmio: it.mmio,
        bypass: match it.bypass {
            reference::Bypass::Never => Bypass::Never,
            reference::Bypass::Legacy => Bypass::Legacy,
            reference::Bypass::Config(initially) => Bypass::Config { initially },
        },
        coherency: it.coherency,
        spaces: Spaces { mixed_dma: it.mixed_dma, mixed_no_snoop: it.mixed_no_snoop },
        coherent_virtqueues: true,
        limits: Limits {
            domains: it.limits.domains,
            mappings_per_domain: it.limits.mappings_per_domain,
            mappings: it.limits.mappings,
            events: it.limits.events,
        },
    }
}

/// The endpoint that one of the reference is.
#[must_use]
pub fn endpoint(it: &reference::Endpoint) -> Endpoint {
    let kind = |msi| if msi { ReservedKind::Msi } else { ReservedKind::Reserved };
    let region = |it: &reference::Reserved| Reserved { at: interval((it.first, it.last)), kind: kind(it.msi) };
    let mut reserved: Vec<Reserved> = it.reserved.iter().map(region).collect();
    reserved.sort_by_key(|it| it.at.first());
    let coherency = Coherency {
        dma: match it.coherency.dma {
            1 => Dma::Coherent,
            2 => Dma::NonCoherent,
            _ => Dma::Unknown,
        },
        no_snoop: match it.coherency.no_snoop {
            1 => NoSnoop::Allowed,
            2 => NoSnoop::Enforced,
            _ => NoSnoop::Unknown,
        },
        walks: match it.coherency.walks {
            1 => Walks::Coherent,
            2 => Walks::NonCoherent,
            _ => Walks::Unknown,
        },
        non_cacheable: it.coherency.non_cacheable,
    };
    Endpoint { id: EndpointId(it.id), reserved, coherency }
}
