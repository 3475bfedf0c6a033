//! Requests: looked at, then done or not.

use crate::{
    Access, Device, Effect, EndpointId, Gpa, Host, HostError, Interval, Iova, Mapping, MemoryType, Reply, coherency,
    effect::{DomainId, Unattached},
    endpoint::Reserved,
    map::NotInserted,
    wire::{self, Property, Request, RequestKind, Status},
};

/// The effects of one request: four at most, kept without an allocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effects {
    all: [Effect; 4],
    len: usize,
}

impl Effects {
    const fn none() -> Self {
        Self { all: [Effect::Destroy { domain: DomainId(0) }; 4], len: 0 }
    }
    fn one(effect: Effect) -> Self {
        let mut effects = Self::none();
        effects.push(effect);
        effects
    }
    fn push(&mut self, effect: Effect) {
        if let Some(place) = self.all.get_mut(self.len) {
            *place = effect;
            self.len += 1;
        }
    }
    fn get(&self) -> &[Effect] {
        &self.all[..self.len]
    }
}

/// What becomes of the device when the effects are done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    Nothing,
    Attach { endpoint: EndpointId, domain: DomainId, bypass: bool },
    Detach { endpoint: EndpointId },
    Map { domain: DomainId, mapping: Mapping },
    Unmap { domain: DomainId, range: Interval },
}

/// What a request comes to: effects and a change, or a status that says why not.
pub(super) struct Decided {
    effects: Effects,
    pub(super) change: Change,
}

impl Decided {
    const NOTHING: Self = Self { effects: Effects::none(), change: Change::Nothing };
}

/// A request that has been looked at and not been done: the host does the effects, then [`done`](Self::done) or
/// [`failed`](Self::failed). Dropped, nothing has happened.
#[derive(Debug)]
#[must_use]
pub struct Pending<'a> {
    device: &'a mut Device,
    kind: Option<RequestKind>,
    effects: Effects,
    change: Change,
    reply: Reply,
}

/// What follows from an effect that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// For the driver.
    pub reply: Reply,
    /// What takes back the effects that were done, in the order to be done. Where one of these fails too, the rest is left, and
    /// [`Device::broke`] is told.
    pub undo: Vec<Effect>,
}

impl Pending<'_> {
    /// What the host has to do, in order. What a request takes away for good ([`Effect::Destroy`]) comes last, so that what is done
    /// can be undone without anything being built anew.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        self.effects.get()
    }
    /// What it will be answered if they are done; nothing if nothing will be written.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.reply.status()
    }
    /// The device as it is before them. A host with an address space for each endpoint finds there the
    /// [mappings](Device::mappings) of a domain that an endpoint is to be attached to.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.device
    }
    /// They are done.
    #[must_use]
    pub fn done(self) -> Reply {
        self.device.commit(self.change);
        self.device.counts.count(self.kind, self.reply.status());
        self.reply
    }
    /// The first `applied` are done, and the next failed. The device has not changed.
    #[must_use]
    pub fn failed(self, applied: usize, why: HostError) -> Failed {
        let reply = Reply::tail(why.status());
        self.device.counts.count(self.kind, reply.status());
        let mut undo = Vec::new();
        for effect in self.effects.get().iter().take(applied).rev() {
            self.device.inverse(effect, &mut undo);
        }
        Failed { reply, undo }
    }
}

impl Device {
    /// A request: its device-readable bytes, and how many are device-writable. Nothing has changed until [`Pending::done`].
    ///
    /// A MAP or an UNMAP allocates its reply, four bytes, and what the mappings themselves need.
    pub fn handle(&mut self, readable: &[u8], writable: usize) -> Pending<'_> {
        let (kind, decided, reply) = self.look(readable, writable);
        Pending { device: self, kind, effects: decided.effects, change: decided.change, reply }
    }
    /// [`handle`](Self::handle), with a host that does the effects and takes them back where one fails. If it cannot take them back
    /// either, the request is answered DEVERR and the device [needs a reset](Self::needs_reset).
    pub fn handle_with(&mut self, readable: &[u8], writable: usize, host: &mut impl Host) -> Reply {
        let pending = self.handle(readable, writable);
        let failure = pending
            .effects()
            .iter()
            .enumerate()
            .find_map(|(done, effect)| host.apply(effect).err().map(|why| (done, why)));
        let Some((done, why)) = failure else { return pending.done() };
        let Failed { reply, undo } = pending.failed(done, why);
        for (undone, effect) in undo.iter().enumerate() {
            if host.apply(effect).is_err() {
                self.broke(&undo[undone..]);
                return Reply::tail(Status::DevErr);
            }
        }
        reply
    }
    fn look(&self, readable: &[u8], writable: usize) -> (Option<RequestKind>, Decided, Reply) {
        let nothing = || (None, Decided::NOTHING, Reply::default());
        // No type, a type that is none, or too short for its type: there is no telling where the tail is (5.13.6).
        let Ok(request) = Request::parse(readable) else { return nothing() };
        let kind = request.kind();
        // A request whose feature was not negotiated is not recognized (5.13.6.2); nor is there a tail without room for it.
        if writable < wire::TAIL || !self.accepted.has(kind.needs()) {
            return nothing();
        }
        let decided = match request {
            Request::Probe { endpoint } => return (Some(kind), Decided::NOTHING, self.probe(endpoint, writable)),
            _ if self.needs_reset => Err(Status::DevErr),
            Request::Attach { domain, endpoint, flags, reserved } => self.attach(domain, endpoint, flags, reserved),
            Request::Detach { domain, endpoint } => self.detach(domain, endpoint),
            Request::Map { domain, virt_start, virt_end, phys_start, flags } => {
                self.map(domain, virt_start, virt_end, phys_start, flags)
            }
            Request::Unmap { domain, virt_start, virt_end, reserved } => {
                self.unmap(domain, virt_start, virt_end, reserved)
            }
        };
        match decided {
            Ok(decided) => (Some(kind), decided, Reply::tail(Status::Ok)),
            Err(status) => (Some(kind), Decided::NOTHING, Reply::tail(status)),
        }
    }

    /// ATTACH (5.13.6.3).
    pub(super) fn attach(
        &self,
        id: DomainId,
        endpoint: EndpointId,
        flags: u32,
        reserved: u32,
    ) -> Result<Decided, Status> {
        if reserved != 0 {
            return Err(Status::Inval);
        }
        let known = if self.accepted.has(wire::F_BYPASS_CONFIG) { wire::ATTACH_F_BYPASS } else { 0 };
        if flags & !known != 0 {
            return Err(Status::Inval);
        }
        let bypass = flags & wire::ATTACH_F_BYPASS != 0;
        let is = self.endpoints.get(&endpoint).ok_or(Status::NoEnt)?;
        let (first, last) = self.config.domain_range;
        if id < first || id > last {
            return Err(Status::Range);
        }
        let domain = self.domains.get(&id);
        if domain.is_some_and(|domain| domain.bypass != bypass) {
            return Err(Status::Inval);
        }
        if is.domain == Some(id) {
            return Ok(Decided::NOTHING);
        }
        let from = is.domain;
        // Its last endpoint leaves the domain that it is attached to, which goes.
        let goes = from.filter(|from| self.domains.get(from).is_some_and(|domain| domain.is_only(endpoint)));
        if let Some(domain) = domain {
            coherency::serves(self.config.spaces, &domain.coherency(), is.endpoint.coherency, domain.non_cacheable > 0)
                .map_err(|_| Status::Unsupp)?;
            let mapped = |region: &Reserved| domain.map.overlapping(region.at).next().is_some();
            if self.reserved(endpoint).iter().any(mapped) {
                return Err(Status::Unsupp);
            }
        } else if self.domains.len() - usize::from(goes.is_some()) >= self.config.limits.domains {
            return Err(Status::NoMem);
        }
        // What can fail comes first, what cannot be undone without the mappings last. In between the endpoint is blocked, also where
        // `bypass` is 1: a driver that moves it from one domain to another did not mean to let it reach all of memory.
        let mut effects = Effects::none();
        if domain.is_none() {
            effects.push(Effect::Create { domain: id, bypass });
        }
        if let Some(from) = from {
            effects.push(Effect::Detach { endpoint, domain: from, then: Unattached::Blocked });
        }
        effects.push(Effect::Attach { endpoint, domain: id });
        if let Some(domain) = goes {
            effects.push(Effect::Destroy { domain });
        }
        Ok(Decided { effects, change: Change::Attach { endpoint, domain: id, bypass } })
    }

    /// DETACH (5.13.6.4).
    fn detach(&self, id: DomainId, endpoint: EndpointId) -> Result<Decided, Status> {
        let is = self.endpoints.get(&endpoint).ok_or(Status::NoEnt)?;
        if is.domain != Some(id) {
            return Err(Status::Inval);
        }
        let mut effects = Effects::one(Effect::Detach { endpoint, domain: id, then: self.unattached() });
        if self.domains.get(&id).is_some_and(|domain| domain.is_only(endpoint)) {
            effects.push(Effect::Destroy { domain: id });
        }
        Ok(Decided { effects, change: Change::Detach { endpoint } })
    }

    /// MAP (5.13.6.5).
    pub(super) fn map(
        &self,
        id: DomainId,
        virt_start: Iova,
        virt_end: Iova,
        phys_start: Gpa,
        flags: u32,
    ) -> Result<Decided, Status> {
        let access = self.access(flags).ok_or(Status::Inval)?;
        let at = Interval::new(virt_start, virt_end).ok_or(Status::Inval)?;
        if !self.config.input_range.covers(at) {
            return Err(Status::Range);
        }
        let within = self.config.granule().wrapping_sub(1);
        if (virt_start.0 | virt_end.0.wrapping_add(1) | phys_start.0) & within != 0 {
            return Err(Status::Range);
        }
        phys_start.0.checked_add(at.size_less_one()).ok_or(Status::Range)?;
        let domain = self.domains.get(&id).ok_or(Status::NoEnt)?;
        if domain.bypass {
            return Err(Status::Inval);
        }
        let mapping = Mapping { at, to: phys_start, access };
        let full = match domain.map.check_insert(mapping) {
            Ok(()) => self.is_full(),
            Err(NotInserted::Overlaps { .. }) => return Err(Status::Inval),
            Err(NotInserted::Full { .. }) => true,
        };
        if domain.reserves(at) {
            return Err(Status::Inval);
        }
        if access.memory == MemoryType::NonCacheable && !domain.serves_non_cacheable() {
            return Err(Status::Unsupp);
        }
        if full {
            return Err(Status::NoMem);
        }
        Ok(Decided {
            effects: Effects::one(Effect::Map { domain: id, mapping }),
            change: Change::Map { domain: id, mapping },
        })
    }
    fn is_full(&self) -> bool {
        let with = |held| self.mappings.saturating_add(held) >= self.config.limits.mappings;
        with(self.held_at_most) && with(self.held())
    }
    /// What `flags` of a MAP allow; nothing if one is unknown, or two that exclude each other are set.
    fn access(&self, flags: u32) -> Option<Access> {
        let mut known = wire::MAP_F_READ | wire::MAP_F_WRITE;
        if self.accepted.has(wire::F_MMIO) {
            known |= wire::MAP_F_MMIO;
        }
        if self.accepted.has(wire::F_COHERENCY) {
            known |= wire::MAP_F_NON_CACHEABLE;
        }
        if flags & !known != 0 {
            return None;
        }
        let memory = match (flags & wire::MAP_F_MMIO != 0, flags & wire::MAP_F_NON_CACHEABLE != 0) {
            (false, false) => MemoryType::Normal,
            (false, true) => MemoryType::NonCacheable,
            (true, false) => MemoryType::Mmio,
            (true, true) => return None,
        };
        Some(Access { read: flags & wire::MAP_F_READ != 0, write: flags & wire::MAP_F_WRITE != 0, memory })
    }

    /// UNMAP (5.13.6.6).
    fn unmap(&self, id: DomainId, virt_start: Iova, virt_end: Iova, reserved: u32) -> Result<Decided, Status> {
        if reserved != 0 {
            return Err(Status::Inval);
        }
        let range = Interval::new(virt_start, virt_end).ok_or(Status::Inval)?;
        let domain = self.domains.get(&id).ok_or(Status::NoEnt)?;
        if domain.bypass {
            return Err(Status::Inval);
        }
        domain.map.check_remove(range).map_err(|_| Status::Range)?;
        if domain.map.overlapping(range).next().is_none() {
            return Ok(Decided::NOTHING);
        }
        Ok(Decided {
            effects: Effects::one(Effect::Unmap { domain: id, range }),
            change: Change::Unmap { domain: id, range },
        })
    }

    /// PROBE (5.13.6.7): the properties, zeroes after them as far as `probe_size`, and the tail. Rejected, there are zeroes only; with
    /// too little room, as many as there is room for.
    fn probe(&self, endpoint: EndpointId, writable: usize) -> Reply {
        let size = self.config.probe_size as usize;
        let room = writable.saturating_sub(wire::TAIL).min(size);
        let mut written = Vec::with_capacity(room + wire::TAIL);
        let status = match self.endpoints.get(&endpoint) {
            _ if room < size => Status::Inval,
            _ if self.needs_reset => Status::DevErr,
            None => Status::NoEnt,
            Some(is) => {
                for region in &is.endpoint.reserved {
                    Property::ResvMem(*region).write(&mut written);
                }
                if self.accepted.has(wire::F_COHERENCY) {
                    Property::Coherency(is.endpoint.coherency).write(&mut written);
                }
                Status::Ok
            }
        };
        written.resize(room, 0);
        written.extend_from_slice(&status.tail());
        Reply { written }
    }

    pub(super) fn commit(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Attach { endpoint, domain, bypass } => {
                self.leave(endpoint);
                self.join(endpoint, domain, bypass);
            }
            Change::Detach { endpoint } => {
                self.leave(endpoint);
                self.seat(endpoint);
            }
            Change::Map { domain, mapping } => {
                let Some(domain) = self.domains.get_mut(&domain) else { return };
                // It was asked before, and nothing has changed since: it is taken.
                if domain.map.insert(mapping).is_ok() {
                    self.mappings += 1;
                    domain.grown();
                    domain.non_cacheable += usize::from(mapping.access.memory == MemoryType::NonCacheable);
                }
            }
            Change::Unmap { domain: id, range } => {
                let Some(domain) = self.domains.get_mut(&id) else { return };
                let non_cacheable = if domain.non_cacheable == 0 {
                    0
                } else {
                    let gone = domain.map.overlapping(range);
                    gone.filter(|mapping| mapping.access.memory == MemoryType::NonCacheable).count()
                };
                if let Ok(removed) = domain.map.remove(range) {
                    self.mappings = self.mappings.saturating_sub(removed);
                    domain.non_cacheable -= non_cacheable;
                    if let Some(gone) = domain.shrunk() {
                        self.seat_all(id);
                        self.hold([gone]);
                    }
                }
            }
        }
    }

    /// What takes back an effect of a request whose change has not been made.
    fn inverse(&self, effect: &Effect, undo: &mut Vec<Effect>) {
        match *effect {
            Effect::Create { domain, .. } => undo.push(Effect::Destroy { domain }),
            Effect::Attach { endpoint, domain } => {
                // Where it goes on to is the next that is undone, if it came from a domain.
                let from = self.endpoints.get(&endpoint).and_then(|is| is.domain);
                let then = if from.is_some() { Unattached::Blocked } else { self.unattached() };
                undo.push(Effect::Detach { endpoint, domain, then });
            }
            Effect::Detach { endpoint, domain, .. } => undo.push(Effect::Attach { endpoint, domain }),
            // The last of its request, so it is never asked for by who counts right; but it can be answered.
            Effect::Destroy { domain } => {
                if let Some(was) = self.domains.get(&domain) {
                    undo.push(Effect::Create { domain, bypass: was.bypass });
                    undo.extend(was.map.iter().map(|mapping| Effect::Map { domain, mapping }));
                }
            }
            Effect::Map { domain, mapping } => undo.push(Effect::Unmap { domain, range: mapping.at }),
            Effect::Unmap { domain, range } => {
                if let Some(was) = self.domains.get(&domain) {
                    undo.extend(was.map.overlapping(range).map(|mapping| Effect::Map { domain, mapping }));
                }
            }
            Effect::Unattached { endpoint, .. } => {
                undo.push(Effect::Unattached { endpoint, now: self.unattached() });
            }
        }
    }
}
