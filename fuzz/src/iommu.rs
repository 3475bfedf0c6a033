//! The virtio-iommu device beside the reference of `conformance`: both made of the same bytes, and a host that does nothing but what it is
//! told and says where that is wrong.

use std::collections::{BTreeMap, VecDeque};

use conformance::{
    Broken, Can, Fresh, Reply, Setup,
    device::CANARY,
    reference::{self, Reference},
};
use viommu::{
    Access, Config, Device, Effect, Endpoint, EndpointId, Gpa, Host, HostError, Interval, Iova, MemoryType, Translator,
    access::Kind,
    coherency::{Coherency, Dma, NoSnoop, Spaces, Walks},
    device::Bypass,
    effect::{DomainId, Unattached},
    endpoint::{Reserved, ReservedKind},
    event::{FaultReport, Posted},
    limits::Limits,
    translate::Target,
    wire::Features,
};

/// Bytes, taken one after another; zeroes when there are no more.
#[derive(Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    /// So many.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let (now, then) = self.0.split_at(N.min(self.0.len()));
        out[..now.len()].copy_from_slice(now);
        self.0 = then;
        out
    }
    /// One.
    pub fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    /// Two.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    /// Whether there are no more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }
}

/// One device, as each of the two takes it.
#[derive(Debug, Clone)]
pub struct Made {
    /// As this one does.
    pub config: Config,
    /// As this one does.
    pub endpoints: Vec<Endpoint>,
    /// As the reference does.
    pub reference: reference::Config,
}

/// A device of some bytes: any bytes give one.
pub fn made(from: &mut Bytes<'_>) -> Made {
    let granule: u64 = from.one_of(&[0x1000, 0x1000, 0x1_0000, 1, 1 << 21]);
    let page_size_mask = granule | ((u64::from(from.byte()) << 30) & granule.wrapping_neg());
    let input =
        from.one_of(&[None, Some((0, 0xffff_ffff_ffff)), Some((1 << 30, u64::MAX)), Some((1 << 21, (1 << 34) - 1))]);
    let domains = from.one_of(&[None, Some((1, 0xffff)), Some((0, 2)), Some((7, u32::MAX))]);
    let probe_size: u32 = from.one_of(&[512, 128, 96, 0]);
    let mmio = from.byte() % 4 != 0;
    let bypass = from.one_of(&[
        Bypass::Config { initially: false },
        Bypass::Config { initially: true },
        Bypass::Never,
        Bypass::Legacy,
    ]);
    let kind = from.byte();
    let coherency = probe_size > 0 && kind % 2 == 1;
    let spaces = Spaces { mixed_dma: kind & 2 != 0, mixed_no_snoop: kind & 4 != 0 };
    let limits = match from.byte() % 4 {
        0 => Limits::default(),
        _ => Limits {
            domains: 1 + usize::from(from.byte() % 4),
            mappings_per_domain: 1 + usize::from(from.byte() % 8),
            mappings: 1 + usize::from(from.byte() % 16),
            events: 1 + usize::from(from.byte() % 4),
        },
    };
    let ids: &[u32] = from.one_of(&[&[8, 9, 0x10][..], &[8, 9], &[0, u32::MAX, 0x100, 5], &[3]]);
    let endpoints: Vec<Endpoint> = ids.iter().map(|&id| endpoint(id, probe_size > 0, from)).collect();
    let reference = reference::Config {
        page_size_mask,
        input_range: input,
        domain_range: domains,
        probe_size,
        mmio,
        bypass: match bypass {
            Bypass::Never => reference::Bypass::Never,
            Bypass::Legacy => reference::Bypass::Legacy,
            Bypass::Config { initially } => reference::Bypass::Config(initially),
        },
        coherency,
        mixed_dma: spaces.mixed_dma,
        mixed_no_snoop: spaces.mixed_no_snoop,
        endpoints: endpoints.iter().map(alike).collect(),
        absent: 0x77,
        limits: reference::Limits {
            domains: limits.domains,
            mappings_per_domain: limits.mappings_per_domain,
            mappings: limits.mappings,
            events: limits.events,
        },
        ram: (RAM, RAM + (8 * granule).max(1 << 21) - 1),
    };
    let interval = |(first, last)| Interval::new(Iova(first), Iova(last)).unwrap();
    let config = Config {
        page_size_mask,
        input_range: input.map_or(Interval::ALL, interval),
        domain_range: domains.map_or((DomainId(0), DomainId(u32::MAX)), |(low, high)| (DomainId(low), DomainId(high))),
        probe_size,
        mmio,
        bypass,
        coherency,
        spaces,
        limits,
        ..Config::default()
    };
    Made { config, endpoints, reference }
}

const RAM: u64 = 0x4000_0000;

fn endpoint(id: u32, reserves: bool, from: &mut Bytes<'_>) -> Endpoint {
    let region = |first, last, kind| Reserved { at: Interval::new(Iova(first), Iova(last)).unwrap(), kind };
    let msi = region(0xfee0_0000, 0xfeef_ffff, ReservedKind::Msi);
    let all: [&[Reserved]; 5] = [
        &[msi],
        &[],
        &[region(0xfec0_0000, 0xfec0_0fff, ReservedKind::Reserved), msi],
        &[region(0x4000_2000, 0x4000_2fff, ReservedKind::Msi), region(u64::MAX - 1, u64::MAX, ReservedKind::Reserved)],
        &[region(0, 0x10, ReservedKind::Reserved), region(0x8000_0010, 0x8000_0010, ReservedKind::Reserved), msi],
    ];
    let reserved = from.one_of(&all);
    let kind = from.byte();
    let coherency = Coherency {
        dma: [Dma::Coherent, Dma::NonCoherent, Dma::Unknown, Dma::Coherent][usize::from(kind % 4)],
        non_cacheable: kind & 4 != 0,
        no_snoop: if kind & 0x30 == 0x30 { NoSnoop::Enforced } else { NoSnoop::Unknown },
        walks: if kind & 8 != 0 { Walks::NonCoherent } else { Walks::Coherent },
    };
    Endpoint { id: EndpointId(id), reserved: if reserves { reserved.to_vec() } else { Vec::new() }, coherency }
}

/// The same endpoint for the reference.
fn alike(endpoint: &Endpoint) -> reference::Endpoint {
    let it = endpoint.coherency;
    let coherency = reference::Coherency {
        dma: match it.dma {
            Dma::Unknown => 0,
            Dma::Coherent => 1,
            Dma::NonCoherent => 2,
        },
        no_snoop: match it.no_snoop {
            NoSnoop::Unknown => 0,
            NoSnoop::Allowed => 1,
            NoSnoop::Enforced => 2,
        },
        walks: match it.walks {
            Walks::Unknown => 0,
            Walks::Coherent => 1,
            Walks::NonCoherent => 2,
        },
        non_cacheable: it.non_cacheable,
    };
    let alike = reference::Endpoint::new(endpoint.id.0).coherency(coherency);
    endpoint.reserved.iter().fold(alike, |alike, region| {
        alike.reserving(region.at.first().0, region.at.last().0, region.kind == ReservedKind::Msi)
    })
}

/// Where the host lets the accesses of an endpoint go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    Nowhere,
    Everywhere,
    By(DomainId),
}

impl From<Unattached> for Goes {
    fn from(mode: Unattached) -> Self {
        match mode {
            Unattached::Blocked => Self::Nowhere,
            Unattached::Identity => Self::Everywhere,
        }
    }
}

/// An address space: by its first address, the last of each mapping, where it goes, and what it allows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Space {
    bypass: bool,
    mappings: BTreeMap<u64, (u64, u64, Access)>,
}

/// A host of nothing but effects. Each must be possible where it comes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mock {
    endpoints: BTreeMap<EndpointId, Goes>,
    spaces: BTreeMap<DomainId, Space>,
    /// What the next effects come to; they are done when there is nothing more here.
    pub fails: VecDeque<Option<HostError>>,
}

impl Host for Mock {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        if let Some(Some(why)) = self.fails.pop_front() {
            return Err(why);
        }
        match *effect {
            Effect::Create { domain, bypass } => {
                let before = self.spaces.insert(domain, Space { bypass, mappings: BTreeMap::new() });
                assert_eq!(before, None, "{effect:?}");
            }
            Effect::Destroy { domain } => {
                assert!(self.spaces.remove(&domain).is_some(), "{effect:?}");
                assert!(!self.endpoints.values().any(|goes| *goes == Goes::By(domain)), "{effect:?}");
            }
            Effect::Attach { endpoint, domain } => {
                assert!(self.spaces.contains_key(&domain), "{effect:?}");
                let before = self.endpoints.insert(endpoint, Goes::By(domain));
                assert!(!matches!(before, Some(Goes::By(_))), "{effect:?}");
            }
            Effect::Detach { endpoint, domain, then } => {
                let before = self.endpoints.insert(endpoint, then.into());
                assert_eq!(before, Some(Goes::By(domain)), "{effect:?}");
            }
            Effect::Unattached { endpoint, now } => {
                let before = self.endpoints.insert(endpoint, now.into());
                assert!(!matches!(before, Some(Goes::By(_))), "{effect:?}");
            }
            Effect::Map { domain, mapping } => {
                let space = self.spaces.get_mut(&domain).unwrap();
                let (first, last) = (mapping.at.first().0, mapping.at.last().0);
                assert!(!space.bypass, "{effect:?}");
                assert!(!space.mappings.iter().any(|(there, (end, ..))| *there <= last && first <= *end), "{effect:?}");
                space.mappings.insert(first, (last, mapping.to.0, mapping.access));
            }
            Effect::Unmap { domain, range } => {
                let space = self.spaces.get_mut(&domain).unwrap();
                let (from, to) = (range.first().0, range.last().0);
                space.mappings.retain(|first, (last, ..)| {
                    let covered = from <= *first && *last <= to;
                    assert!(covered || *last < from || to < *first, "{effect:?}");
                    !covered
                });
            }
        }
        Ok(())
    }
}

impl Mock {
    /// Does effects that cannot fail.
    pub fn all(&mut self, effects: &[Effect]) {
        for effect in effects {
            assert_eq!(self.apply(effect), Ok(()));
        }
    }
    fn reach(&self, endpoint: EndpointId, at: u64, kind: Kind) -> Option<(u64, u64, MemoryType)> {
        let everywhere = Some((at, u64::MAX - at, MemoryType::Normal));
        match self.endpoints[&endpoint] {
            Goes::Nowhere => None,
            Goes::Everywhere => everywhere,
            Goes::By(domain) if self.spaces[&domain].bypass => everywhere,
            Goes::By(domain) => {
                let (first, (last, to, access)) = self.spaces[&domain].mappings.range(..=at).next_back()?;
                (*last >= at && access.allows(kind)).then(|| (to + (at - first), last - at, access.memory))
            }
        }
    }
    /// That the translators send every access where the host does.
    pub fn agrees(&self, endpoints: &[Endpoint], translators: &mut [Translator]) {
        let mut places = vec![0, 1, 0xfee0_0000, 0xfeef_ffff, u64::MAX];
        for (first, (last, ..)) in self.spaces.values().flat_map(|space| &space.mappings) {
            places.extend([*first, *last, first.wrapping_sub(1), last.wrapping_add(1), first + (last - first) / 2]);
        }
        for (endpoint, translator) in endpoints.iter().zip(translators) {
            for (at, kind) in places.iter().flat_map(|at| [(*at, Kind::Read), (*at, Kind::Write)]) {
                let host = self.reach(endpoint.id, at, kind);
                match translator.translate(Iova(at), kind) {
                    Ok(Target::Memory { at: Gpa(to), more, memory }) => {
                        assert_eq!(Some((to, more, memory)), host, "{} at {at:#x}", endpoint.id);
                    }
                    Ok(Target::Msi) => {
                        let within = |it: &Reserved| it.kind == ReservedKind::Msi && it.at.contains(Iova(at));
                        assert!(kind == Kind::Write && endpoint.reserved.iter().any(within));
                        assert_eq!(host, None, "{} at {at:#x}", endpoint.id);
                    }
                    Err(_) => assert_eq!(host, None, "{} at {at:#x}", endpoint.id),
                }
            }
        }
    }
}

/// Numbers that follow from one.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, of: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % of
    }
}

/// The device, its host and its guest's memory, for the suite.
#[derive(Debug)]
pub struct Ours {
    /// It.
    pub device: Device,
    /// Its host.
    pub host: Mock,
    made: Made,
    setup: Setup,
    translators: Vec<Translator>,
    dice: Option<Dice>,
    requests: usize,
    memory: BTreeMap<u64, Vec<u8>>,
    buffers: VecDeque<usize>,
    used: Vec<Reply>,
}

impl Ours {
    /// Before its first reset. With dice, its host fails now and then.
    pub fn new(made: &Made, seed: u64) -> Self {
        let mut device = Device::new(made.config.clone()).unwrap();
        let mut host = Mock::default();
        for endpoint in &made.endpoints {
            host.all(&device.add_endpoint(endpoint.clone()).unwrap());
        }
        let translators = made.endpoints.iter().map(|endpoint| device.translator(endpoint.id).unwrap()).collect();
        Self {
            device,
            host,
            made: made.clone(),
            setup: Setup {
                endpoints: made.endpoints.iter().map(|endpoint| endpoint.id.0).collect(),
                absent: made.reference.absent,
                ram: made.reference.ram.0..=made.reference.ram.1,
            },
            translators,
            dice: (seed % 4 != 0).then_some(Dice(seed)),
            requests: 0,
            memory: BTreeMap::new(),
            buffers: VecDeque::new(),
            used: Vec::new(),
        }
    }
    /// The driver takes features.
    pub fn accept(&mut self, features: u64) {
        let effects = self.device.accept(Features(self.device.features().0 & features)).unwrap();
        self.host.all(&effects);
    }
    /// That the host, the translators and what is saved agree.
    pub fn agrees(&mut self) {
        self.host.agrees(&self.made.endpoints, &mut self.translators);
        assert!(!self.device.needs_reset());
        let mut anew = Mock::default();
        anew.all(&self.device.replay());
        assert_eq!(anew, self.host);
        let saved = self.device.save();
        let (restored, effects) =
            Device::restore(self.made.config.clone(), self.made.endpoints.clone(), &saved).unwrap();
        let mut elsewhere = Mock::default();
        elsewhere.all(&effects);
        assert_eq!(elsewhere, self.host);
        assert_eq!(restored.save(), saved);
    }
    /// A request whose effects fail somewhere: nothing has changed after it.
    fn failing(&mut self, readable: &[u8], writable: usize) {
        let Some(dice) = &mut self.dice else { return };
        if dice.roll(4) != 0 {
            return;
        }
        let (saved, was) = (self.device.save(), self.host.clone());
        let effects = self.device.handle(readable, writable).effects().to_vec();
        // Dropped, nothing has happened.
        assert_eq!(self.device.save(), saved);
        let Some(number) = (effects.len() as u64).checked_sub(1) else { return };
        let done = dice.roll(number + 1) as usize;
        let (why, status) =
            [(HostError::NoMemory, 8), (HostError::BadAddress, 7), (HostError::Unsupported, 2), (HostError::Failed, 3)]
                [dice.roll(4) as usize];
        let fails: VecDeque<_> = std::iter::repeat_n(None, done).chain([Some(why)]).collect();
        self.host.fails.clone_from(&fails);
        let reply = self.device.handle_with(readable, writable, &mut self.host);
        assert_eq!(reply.written, [status, 0, 0, 0]);
        assert_eq!(self.device.save(), saved, "{effects:?}, {done} done");
        assert_eq!(self.host, was, "{effects:?}, {done} done");
        self.host.agrees(&self.made.endpoints, &mut self.translators);
        if done > 0 && dice.roll(4) == 0 {
            self.breaking(readable, writable, fails);
        }
    }
    /// One whose effects cannot even be undone: on a copy, which the reference does not follow.
    fn breaking(&mut self, readable: &[u8], writable: usize, mut fails: VecDeque<Option<HostError>>) {
        let (config, endpoints) = (self.made.config.clone(), self.made.endpoints.clone());
        let (mut device, effects) = Device::restore(config, endpoints, &self.device.save()).unwrap();
        let mut host = Mock::default();
        host.all(&effects);
        fails.push_back(Some(HostError::Failed));
        host.fails = fails;
        let reply = device.handle_with(readable, writable, &mut host);
        assert_eq!(reply.written, [3, 0, 0, 0]);
        assert!(device.needs_reset());
        // The host's side of who is in doubt is not known, and nobody gets through there.
        for view in device.endpoints() {
            let mut translator = device.translator(view.endpoint.id).unwrap();
            for at in [0, RAM, u64::MAX] {
                assert!(!view.doubtful || translator.translate(Iova(at), Kind::Read).is_err());
            }
        }
        let saved = device.save();
        assert_eq!(device.handle_with(readable, writable, &mut host).written, [3, 0, 0, 0]);
        assert_eq!(device.save(), saved);
        let _ = device.reset();
        assert!(!device.needs_reset());
        let mut anew = Mock::default();
        anew.all(&device.replay());
        let ids: Vec<_> = self.made.endpoints.iter().map(|endpoint| device.translator(endpoint.id)).collect();
        anew.agrees(&self.made.endpoints, &mut ids.into_iter().flatten().collect::<Vec<_>>());
    }
    fn deliver(&mut self) {
        while self.device.faults_waiting() > 0
            && let Some(size) = self.buffers.pop_front()
        {
            let mut buffer = vec![CANARY; size];
            let Posted::Write(report) = self.device.event_buffer(size) else {
                panic!("{size} bytes, and a fault waits")
            };
            buffer[..report.len()].copy_from_slice(&report);
            self.used.push(Reply { used: report.len() as u32, buffer });
        }
    }
    fn reach(&mut self, endpoint: u32, at: Option<u64>, kind: Kind) -> Option<Target> {
        let place = self.made.endpoints.iter().position(|it| it.id.0 == endpoint)?;
        let address = Iova(at?);
        match self.translators[place].translate(address, kind) {
            Ok(target) => Some(target),
            Err(reason) => {
                let id = EndpointId(endpoint);
                let _ =
                    self.device.fault(FaultReport { reason, endpoint: id, access: Some(kind), address: Some(address) });
                self.deliver();
                None
            }
        }
    }
    fn cell(&mut self, at: u64) -> Option<&mut u8> {
        if !self.setup.ram.contains(&at) {
            return None;
        }
        let page = self.memory.entry(at >> 12).or_insert_with(|| vec![0; 1 << 12]);
        Some(&mut page[(at & 0xfff) as usize])
    }
    fn begin(&mut self, accept: u64) {
        self.buffers.clear();
        self.used.clear();
        self.accept(accept);
    }
}

impl conformance::Device for Ours {
    fn name(&self) -> String {
        "viommu".to_owned()
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
        let effects = self.device.system_reset();
        self.host.all(&effects);
        self.memory.clear();
        self.begin(how.accept);
        Ok(())
    }
    fn reset(&mut self, how: Fresh) -> Result<(), Broken> {
        let effects = self.device.reset();
        self.host.all(&effects);
        self.begin(how.accept);
        Ok(())
    }
    fn offered(&mut self) -> u64 {
        self.device.features().0
    }
    fn read_config(&mut self, offset: u32, data: &mut [u8]) {
        self.device.read_config(offset.into(), data);
    }
    fn write_config(&mut self, offset: u32, data: &[u8]) {
        let effects = self.device.write_config(offset.into(), data);
        self.host.all(&effects);
    }
    fn handle(&mut self, readable: &[u8], writable: usize) -> Result<Reply, Broken> {
        self.failing(readable, writable);
        let reply = self.device.handle_with(readable, writable, &mut self.host);
        let mut buffer = vec![CANARY; writable];
        buffer[..reply.written.len()].copy_from_slice(&reply.written);
        self.requests += 1;
        if self.requests % 16 == 0 {
            self.host.agrees(&self.made.endpoints, &mut self.translators);
        }
        Ok(Reply { used: reply.written.len() as u32, buffer })
    }
    fn event_buffer(&mut self, bytes: usize) -> Result<(), Broken> {
        if bytes < 24 {
            // The reference gives it back at once.
            self.used.push(Reply { used: 0, buffer: vec![CANARY; bytes] });
            assert_eq!(self.device.event_buffer(bytes), Posted::TooSmall);
        } else {
            self.buffers.push_back(bytes);
            self.deliver();
        }
        Ok(())
    }
    fn events(&mut self) -> Result<Vec<Reply>, Broken> {
        Ok(std::mem::take(&mut self.used))
    }
    fn dma_write(&mut self, endpoint: u32, iova: u64, data: &[u8]) -> Result<(), Broken> {
        for (i, &byte) in (0..).zip(data) {
            match self.reach(endpoint, iova.checked_add(i), Kind::Write) {
                Some(Target::Memory { at, .. }) => {
                    if let Some(cell) = self.cell(at.0) {
                        *cell = byte;
                    }
                }
                Some(Target::Msi) => {}
                None => break,
            }
        }
        Ok(())
    }
    fn dma_read(&mut self, endpoint: u32, iova: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        let mut data = vec![CANARY; bytes];
        for (i, byte) in (0..).zip(&mut data) {
            match self.reach(endpoint, iova.checked_add(i), Kind::Read) {
                Some(Target::Memory { at, .. }) => *byte = self.cell(at.0).map_or(CANARY, |cell| *cell),
                Some(Target::Msi) => {}
                None => break,
            }
        }
        Ok(data)
    }
    fn ram_write(&mut self, at: u64, data: &[u8]) -> Result<(), Broken> {
        for (i, &byte) in (0..).zip(data) {
            *self.cell(at.wrapping_add(i)).ok_or_else(|| Broken(format!("no memory at {at:#x}")))? = byte;
        }
        Ok(())
    }
    fn ram_read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        let read = |i| self.cell(at.wrapping_add(i)).map(|cell| *cell);
        (0..bytes as u64).map(read).collect::<Option<_>>().ok_or_else(|| Broken(format!("no memory at {at:#x}")))
    }
}

/// The reference of a device, after a system reset; its driver has taken those features.
pub fn reference(made: &Made, accept: u64) -> Reference {
    let mut it = Reference::new(made.reference.clone());
    let _ = conformance::Device::fresh(&mut it, Fresh { accept });
    it
}
