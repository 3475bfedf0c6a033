//! `viommu`'s device beside the naive reference of the conformance suite, under operations at random.
//!
//! The accesses of endpoints go by the translators and, beside them, by a host that knows nothing but the effects it was told: three
//! answers, of which each would show a mistake of another.
//!
//! In the second test each request is first made to fail in the host, or done and taken back by a restore of what was saved.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use conformance::{
    Broken, Can, Fresh, Reply, Setup,
    device::CANARY,
    like::Deviation,
    random::{Difference, Held, Operation, World, operations, run, shorten},
    reference::{self, Reference},
};
use proptest::{
    prelude::*,
    test_runner::{Config as Cases, TestError, TestRunner},
};
use viommu::{
    Effect, Endpoint, EndpointId, Gpa, Host, HostError, Interval, Iova, Mapping,
    access::Kind,
    coherency::{Coherency, Dma, NoSnoop, Spaces, Walks},
    device::{Bypass, Config, Device},
    effect::{DomainId, Unattached},
    endpoint::{Reserved, ReservedKind},
    event::{FaultReport, Posted},
    limits::Limits,
    translate::{Reason, Target},
    wire::Features,
};

fn interval(first: u64, last: u64) -> Interval {
    Interval::new(Iova(first), Iova(last)).unwrap()
}

fn endpoint(it: &reference::Endpoint) -> Endpoint {
    let kind = |msi| if msi { ReservedKind::Msi } else { ReservedKind::Reserved };
    let mut reserved: Vec<Reserved> =
        it.reserved.iter().map(|it| Reserved { at: interval(it.first, it.last), kind: kind(it.msi) }).collect();
    reserved.sort_by_key(|it| it.at.first());
    let coherency = Coherency {
        dma: [Dma::Unknown, Dma::Coherent, Dma::NonCoherent][usize::from(it.coherency.dma)],
        no_snoop: [NoSnoop::Unknown, NoSnoop::Allowed, NoSnoop::Enforced][usize::from(it.coherency.no_snoop)],
        walks: [Walks::Unknown, Walks::Coherent, Walks::NonCoherent][usize::from(it.coherency.walks)],
        non_cacheable: it.coherency.non_cacheable,
    };
    Endpoint { id: EndpointId(it.id), reserved, coherency }
}

fn config(it: &reference::Config) -> Config {
    let (first, last) = it.input_range.unwrap_or((0, u64::MAX));
    let (lowest, highest) = it.domain_range.unwrap_or((0, u32::MAX));
    Config {
        page_size_mask: it.page_size_mask,
        input_range: interval(first, last),
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

/// A host that does as it is told, and notes what it should not have been told. It fails when it is asked to.
#[derive(Debug, Default)]
struct Told {
    domains: Vec<(DomainId, bool, Vec<Mapping>)>,
    attached: Vec<(EndpointId, DomainId)>,
    unattached: Vec<(EndpointId, Unattached)>,
    wrong: Option<String>,
    /// So many effects from now on the next one fails, if it is of a kind that can.
    fails: Option<usize>,
}

impl Told {
    fn mappings(&mut self, id: DomainId) -> Option<&mut Vec<Mapping>> {
        self.domains.iter_mut().find(|(it, bypass, _)| *it == id && !bypass).map(|(_, _, mappings)| mappings)
    }
    fn has(&self, id: DomainId) -> bool {
        self.domains.iter().any(|(it, _, _)| *it == id)
    }
    fn is_attached(&self, endpoint: EndpointId) -> Option<DomainId> {
        self.attached.iter().find(|(it, _)| *it == endpoint).map(|(_, domain)| *domain)
    }
    fn is(&mut self, right: bool, effect: &Effect) {
        if !right && self.wrong.is_none() {
            self.wrong = Some(format!("{effect:?} was told, with {:?}, {:?}", self.domains, self.attached));
        }
    }
    fn told(&mut self, effect: &Effect) {
        match *effect {
            Effect::Create { domain, bypass } => {
                self.is(!self.has(domain), effect);
                self.domains.push((domain, bypass, Vec::new()));
            }
            Effect::Destroy { domain } => {
                self.is(self.has(domain) && self.attached.iter().all(|(_, it)| *it != domain), effect);
                self.domains.retain(|(it, _, _)| *it != domain);
            }
            Effect::Attach { endpoint, domain } => {
                self.is(self.has(domain) && self.is_attached(endpoint).is_none(), effect);
                self.attached.push((endpoint, domain));
            }
            Effect::Detach { endpoint, domain, then } => {
                self.is(self.is_attached(endpoint) == Some(domain), effect);
                self.attached.retain(|(it, _)| *it != endpoint);
                self.unattached(endpoint, then);
            }
            Effect::Unattached { endpoint, now } => {
                self.is(self.is_attached(endpoint).is_none(), effect);
                self.unattached(endpoint, now);
            }
            Effect::Map { domain, mapping } => {
                let there = self.mappings(domain);
                let right = there.as_ref().is_some_and(|there| there.iter().all(|it| !it.at.overlaps(mapping.at)));
                if let Some(there) = there {
                    there.push(mapping);
                }
                self.is(right, effect);
            }
            Effect::Unmap { domain, range } => {
                let there = self.mappings(domain);
                let whole = |it: &Mapping| !it.at.overlaps(range) || range.covers(it.at);
                let right = there.as_ref().is_some_and(|there| there.iter().all(whole));
                if let Some(there) = there {
                    there.retain(|it| !it.at.overlaps(range));
                }
                self.is(right, effect);
            }
        }
    }
    fn unattached(&mut self, endpoint: EndpointId, now: Unattached) {
        self.unattached.retain(|(it, _)| *it != endpoint);
        self.unattached.push((endpoint, now));
    }
    /// Where an access goes, by what was told.
    fn translate(&self, endpoint: EndpointId, at: u64, kind: Kind) -> Option<u64> {
        let Some(domain) = self.is_attached(endpoint) else {
            let now = self.unattached.iter().find(|(it, _)| *it == endpoint);
            return now.is_some_and(|(_, now)| *now == Unattached::Identity).then_some(at);
        };
        let (_, bypass, mappings) = self.domains.iter().find(|(it, _, _)| *it == domain)?;
        if *bypass {
            return Some(at);
        }
        let found = mappings.iter().find(|it| it.at.contains(Iova(at)) && it.access.allows(kind))?;
        Some(found.to.0.wrapping_add(at - found.at.first().0))
    }
}

impl Host for Told {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        if let Some(left) = &mut self.fails {
            if *left == 0 {
                self.fails = None;
                return Err(HostError::NoMemory);
            }
            *left -= 1;
        }
        self.told(effect);
        Ok(())
    }
}

struct Ours {
    from: reference::Config,
    setup: Setup,
    device: Device,
    host: Told,
    memory: Vec<u8>,
    buffers: Vec<usize>,
    used: Vec<Reply>,
    /// Before every so many requests the same request is made to fail in the host, which must leave everything as it is.
    fails: Option<usize>,
    requests: usize,
}

impl Ours {
    fn new(from: &reference::Config, fails: Option<usize>) -> Self {
        let mut it = Self {
            from: from.clone(),
            setup: Setup {
                endpoints: from.endpoints.iter().map(|it| it.id).collect(),
                absent: from.absent,
                ram: from.ram.0..=from.ram.1,
            },
            device: Device::new(config(from)).unwrap(),
            host: Told::default(),
            memory: Vec::new(),
            buffers: Vec::new(),
            used: Vec::new(),
            fails,
            requests: 0,
        };
        for each in &from.endpoints {
            let effects = it.device.add_endpoint(endpoint(each)).unwrap();
            it.told(&effects);
        }
        it
    }
    fn told(&mut self, effects: &[Effect]) {
        for effect in effects {
            self.host.told(effect);
        }
    }
    fn right(&self) -> Result<(), Broken> {
        self.host.wrong.clone().map_or(Ok(()), |why| Err(Broken(why)))
    }
    fn start(&mut self, how: Fresh) -> Result<(), Broken> {
        self.buffers.clear();
        self.used.clear();
        let taken = Features(self.device.features().0 & how.accept);
        let effects = self.device.accept(taken).map_err(|why| Broken(why.to_string()))?;
        self.told(&effects);
        self.right()
    }
    fn written(&mut self, size: usize, bytes: &[u8]) {
        let mut buffer = vec![CANARY; size];
        buffer[..bytes.len()].copy_from_slice(bytes);
        self.used.push(Reply { used: bytes.len() as u32, buffer });
    }
    /// The buffers there are, oldest first, as long as the device has a use for them.
    fn deliver(&mut self) {
        while let Some(&size) = self.buffers.first() {
            match self.device.event_buffer(size) {
                Posted::Write(report) => self.written(size, &report),
                Posted::TooSmall => self.written(size, &[]),
                Posted::Kept => break,
            }
            self.buffers.remove(0);
        }
    }
    fn place(&self, at: u64) -> Option<usize> {
        self.setup.ram.contains(&at).then(|| (at - self.setup.ram.start()) as usize)
    }
    /// Where one byte goes; nothing if nowhere, which is a fault if it is none of the interrupt controller's.
    fn reach(&mut self, endpoint: u32, at: u64, kind: Kind) -> Result<Option<Target>, Broken> {
        let id = EndpointId(endpoint);
        let Some(mut translator) = self.device.translator(id) else { return Ok(None) };
        let target = translator.translate(Iova(at), kind);
        let by_effects = self.host.translate(id, at, kind);
        let by_translator = match target {
            Ok(Target::Memory { at, .. }) => Some(at.0),
            _ => None,
        };
        if by_effects != by_translator {
            let text = format!("{endpoint:#x} at {at:#x}: {by_translator:x?} is translated, {by_effects:x?} was told");
            return Err(Broken(text));
        }
        let reason = match target {
            Ok(target) => return Ok(Some(target)),
            Err(reason) => reason,
        };
        assert_ne!(reason, Reason::Unknown);
        let report = FaultReport { reason, endpoint: id, access: Some(kind), address: Some(Iova(at)) };
        self.device.fault(report);
        self.deliver();
        Ok(None)
    }
    /// A request that the host fails at changes nothing.
    fn fail(&mut self, readable: &[u8], writable: usize, at: usize) -> Result<(), Broken> {
        let saved = self.device.save();
        self.host.fails = Some(at);
        let (domains, attached) = (sorted(&self.host.domains), self.host.attached.clone());
        self.device.handle_with(readable, writable, &mut self.host);
        if self.host.fails.take().is_some() {
            // it has not come so far: the request is done
            let endpoints = self.from.endpoints.iter().map(endpoint);
            let restored = Device::restore(config(&self.from), endpoints, &saved);
            let (device, effects) = restored.map_err(|why| Broken(why.to_string()))?;
            self.device = device;
            self.host = Told::default();
            self.told(&effects);
        }
        let attached_now = self.host.attached.clone();
        let same = |mut it: Vec<(EndpointId, DomainId)>| {
            it.sort();
            it
        };
        if sorted(&self.host.domains) != domains || same(attached_now) != same(attached) || self.device.save() != saved
        {
            return Err(Broken(format!("a request that failed at effect {at} changed something")));
        }
        self.right()
    }
}

fn sorted(domains: &[(DomainId, bool, Vec<Mapping>)]) -> Vec<(DomainId, bool, Vec<Mapping>)> {
    let mut all = domains.to_vec();
    all.sort_by_key(|(id, _, _)| *id);
    for (_, _, mappings) in &mut all {
        mappings.sort_by_key(|it| it.at.first());
    }
    all
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
        self.memory = vec![0; (self.setup.ram.end() - self.setup.ram.start() + 1) as usize];
        let effects = self.device.system_reset();
        self.told(&effects);
        self.start(how)
    }
    fn reset(&mut self, how: Fresh) -> Result<(), Broken> {
        let effects = self.device.reset();
        self.told(&effects);
        self.start(how)
    }
    fn offered(&mut self) -> u64 {
        self.device.features().0
    }
    fn read_config(&mut self, offset: u32, data: &mut [u8]) {
        self.device.read_config(u64::from(offset), data);
    }
    fn write_config(&mut self, offset: u32, data: &[u8]) {
        let effects = self.device.write_config(u64::from(offset), data);
        self.told(&effects);
    }
    fn handle(&mut self, readable: &[u8], writable: usize) -> Result<Reply, Broken> {
        self.requests += 1;
        if let Some(every) = self.fails {
            self.fail(readable, writable, self.requests % every)?;
        }
        let written = self.device.handle_with(readable, writable, &mut self.host).written;
        self.right()?;
        let mut buffer = vec![CANARY; writable];
        buffer[..written.len()].copy_from_slice(&written);
        Ok(Reply { used: written.len() as u32, buffer })
    }
    fn event_buffer(&mut self, bytes: usize) -> Result<(), Broken> {
        // where others are kept, no fault waits
        match self.device.event_buffer(bytes) {
            Posted::Write(report) => self.written(bytes, &report),
            Posted::Kept => self.buffers.push(bytes),
            Posted::TooSmall => self.written(bytes, &[]),
        }
        Ok(())
    }
    fn events(&mut self) -> Result<Vec<Reply>, Broken> {
        Ok(std::mem::take(&mut self.used))
    }
    fn dma_write(&mut self, endpoint: u32, iova: u64, data: &[u8]) -> Result<(), Broken> {
        for (i, &byte) in data.iter().enumerate() {
            let Some(at) = iova.checked_add(i as u64) else { break };
            match self.reach(endpoint, at, Kind::Write)? {
                Some(Target::Memory { at: Gpa(at), .. }) => {
                    if let Some(place) = self.place(at) {
                        self.memory[place] = byte;
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
        for (i, byte) in data.iter_mut().enumerate() {
            let Some(at) = iova.checked_add(i as u64) else { break };
            match self.reach(endpoint, at, Kind::Read)? {
                Some(Target::Memory { at: Gpa(at), .. }) => {
                    if let Some(place) = self.place(at) {
                        *byte = self.memory[place];
                    }
                }
                Some(Target::Msi) => {}
                None => break,
            }
        }
        Ok(data)
    }
    fn ram_write(&mut self, at: u64, data: &[u8]) -> Result<(), Broken> {
        let place = self.place(at).ok_or_else(|| Broken(format!("no memory at {at:#x}")))?;
        self.memory[place..place + data.len()].copy_from_slice(data);
        Ok(())
    }
    fn ram_read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, Broken> {
        let place = self.place(at).ok_or_else(|| Broken(format!("no memory at {at:#x}")))?;
        Ok(self.memory[place..place + bytes].to_vec())
    }
}

/// Small enough that the limits are met.
fn limited(from: reference::Config) -> reference::Config {
    let limits = reference::Limits { domains: 2, mappings_per_domain: 3, mappings: 4, events: 2 };
    reference::Config { limits, ..from }
}

type Found = Option<(Vec<Operation>, Box<Difference>)>;

/// What the device and a reference, which may deviate, differ in.
fn search(from: &reference::Config, deviation: Option<Deviation>, cases: u32, fails: Option<usize>) -> Found {
    let from = reference::Config { ram: (0x4000_0000, 0x4000_3fff), ..from.clone() };
    let world = World::of(&from);
    let differs = |operations: &[Operation]| {
        let deviations = deviation.into_iter().collect();
        let mut reference = Reference::deviating("the reference".to_owned(), from.clone(), deviations);
        run(&mut Ours::new(&from, fails), &mut reference, &world, operations, Held::Strictly).err()
    };
    let cases = Cases { cases, failure_persistence: None, max_shrink_iters: 10_000, ..Cases::default() };
    let outcome = TestRunner::new(cases).run(&operations(world.clone(), 60), |operations| match differs(&operations) {
        None => Ok(()),
        Some(difference) => Err(TestCaseError::fail(difference.to_string())),
    });
    match outcome {
        Ok(()) => None,
        Err(TestError::Fail(_, least)) => {
            let least = shorten(least, |operations| differs(operations).is_some());
            let difference = differs(&least).unwrap();
            Some((least, difference))
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

fn compare(from: &reference::Config, cases: u32, fails: Option<usize>) {
    if let Some((_, difference)) = search(from, None, cases, fails) {
        panic!("{from:#x?}\n{difference}");
    }
}

#[test]
fn as_the_reference() {
    use reference::Config;
    for from in [Config::default(), Config::plain(), Config::bytewise(), Config::coherent()] {
        compare(&from, 256, None);
        compare(&limited(from), 100, None);
    }
    let mixed = Config { mixed_dma: true, mixed_no_snoop: true, ..Config::coherent() };
    compare(&mixed, 50, None);
    compare(&Config { bypass: reference::Bypass::Config(true), ..Config::default() }, 50, None);
    compare(&Config { bypass: reference::Bypass::Never, ..Config::default() }, 50, None);
}

/// The same with a host that fails at one effect of every request before it does them all: nothing has changed by that.
#[test]
fn as_the_reference_with_a_host_that_fails() {
    use reference::Config;
    for from in [Config::default(), Config::plain(), limited(Config::coherent())] {
        compare(&from, 50, Some(3));
    }
}

/// The comparison sees what it should: a reference without one of its rules differs from the device, and in how few operations.
#[test]
fn a_difference_is_seen() {
    let least = [
        (Deviation::TailReservedNotZero, 1),
        (Deviation::BypassResets, 2),
        (Deviation::ReservedNotChecked, 2),
        (Deviation::UnmapSplits, 3),
        (Deviation::DetachedStillAccesses, 3),
        (Deviation::WritePermissionIgnored, 3),
    ];
    for (deviation, number) in least {
        let (operations, difference) = search(&reference::Config::default(), Some(deviation), 3000, None).unwrap();
        assert_eq!(operations.len(), number, "{deviation}:\n{difference}");
    }
}
