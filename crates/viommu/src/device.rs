//! The device.

mod config;
mod domain;
mod request;
mod show;
mod state;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Effect, Endpoint, EndpointId, Interval, Mapping, Translator,
    effect::{DomainId, Unattached},
    endpoint::{Reserved, ReservedKind},
    event::{Events, FaultReport, Posted, Raised},
    translate::{Seat, View},
    wire::{self, ConfigSpace, Features, Status},
};

use config::ALL_DOMAINS;
use domain::{Domain, Held};

pub use config::{Bypass, Config, MAX_PROBE_SIZE, Wrong};
pub use request::{Failed, Pending};
pub use show::{Counts, DomainView, EndpointView};

/// The feature bits that are the device's own: 0 to 23, 41, 42, and 50 on (virtio 2.2). The others are the queues' and the negotiation's.
const OWN_FEATURES: u64 = 0x00ff_ffff | 1 << 41 | 1 << 42 | 0xfffc_0000_0000_0000;

/// What goes back to the driver: what is written into the device-writable part from its beginning, whose length is the used length.
/// Nothing written, used length 0: the request was not understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The bytes.
    pub written: Vec<u8>,
}

impl Reply {
    /// The tail alone.
    pub(crate) fn tail(status: Status) -> Self {
        Self { written: status.tail().to_vec() }
    }
    /// `status`; nothing if nothing was written.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let tail = self.written.len().checked_sub(wire::TAIL)?;
        Status::from_byte(*self.written.get(tail)?)
    }
}

/// The device. Changes nothing but itself; see [`Effect`].
///
/// What the host cannot take back: if an effect fails, and then one of those that undo the ones before it, nobody knows
/// any more what the host has. The device then [needs a reset](Self::needs_reset) (5.13.6.9 recommends DEVICE_NEEDS_RESET for errors
/// that no endpoint caused), answers every request that it understands with DEVERR and does nothing, and the [`Translator`]s of the
/// endpoints concerned refuse every access, until [`reset`](Self::reset). Other endpoints go on as they are.
#[derive(Debug)]
pub struct Device {
    config: Config,
    /// Nothing until FEATURES_OK.
    accepted: Features,
    /// The field of the configuration.
    bypass: bool,
    endpoints: BTreeMap<EndpointId, Attached>,
    domains: BTreeMap<DomainId, Domain>,
    /// Of all domains.
    mappings: usize,
    /// What translators keep of maps that are gone: no more of them than translators.
    held: Vec<Held>,
    /// How many mappings that was when one came to it; it can only have become less.
    held_at_most: usize,
    events: Events,
    counts: Counts,
    needs_reset: bool,
}

/// An endpoint, and to what it is attached.
#[derive(Debug)]
struct Attached {
    endpoint: Endpoint,
    domain: Option<DomainId>,
    seat: Arc<Seat>,
    /// Nobody knows what the host has for it.
    doubtful: bool,
}

impl Device {
    /// A device after a system reset, without endpoints.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: Config) -> Result<Self, Wrong> {
        config.check()?;
        let bypass = config.initially();
        Ok(Self {
            config,
            accepted: Features(0),
            bypass,
            endpoints: BTreeMap::new(),
            domains: BTreeMap::new(),
            mappings: 0,
            held: Vec::new(),
            held_at_most: 0,
            events: Events::default(),
            counts: Counts::default(),
            needs_reset: false,
        })
    }
    /// An endpoint more: plugged in. The effect says where its accesses go.
    ///
    /// # Errors
    /// It is there already, or its properties do not fit.
    pub fn add_endpoint(&mut self, endpoint: Endpoint) -> Result<Vec<Effect>, Wrong> {
        let id = endpoint.id;
        if self.endpoints.contains_key(&id) {
            return Err(Wrong::EndpointExists(id));
        }
        self.check_properties(&endpoint)?;
        let now = self.unattached();
        let seat = Seat::new(now.into(), &endpoint.reserved);
        self.endpoints.insert(id, Attached { endpoint, domain: None, seat, doubtful: false });
        Ok(vec![Effect::Unattached { endpoint: id, now }])
    }
    fn check_properties(&self, endpoint: &Endpoint) -> Result<(), Wrong> {
        let id = endpoint.id;
        let mut msi: Option<Interval> = None;
        let mut before: Option<Interval> = None;
        let mut bytes = 0;
        for region in &endpoint.reserved {
            if let Some(before) = before
                && region.at.first() <= before.last()
            {
                return Err(Wrong::ReservedOrder { endpoint: id, before, next: region.at });
            }
            before = Some(region.at);
            if region.kind == ReservedKind::Msi
                && let Some(first) = msi.replace(region.at)
            {
                return Err(Wrong::SecondMsi { endpoint: id, first, second: region.at });
            }
            bytes += wire::Property::ResvMem(*region).size();
        }
        if self.config.coherency {
            bytes += wire::Property::Coherency(endpoint.coherency).size();
        }
        if bytes > self.config.probe_size as usize {
            return Err(Wrong::Properties { endpoint: id, bytes, probe_size: self.config.probe_size });
        }
        Ok(())
    }
    /// An endpoint less: unplugged. Its [`Translator`]s refuse everything from now on, and its faults that wait are dropped.
    pub fn remove_endpoint(&mut self, endpoint: EndpointId) -> Vec<Effect> {
        let Some(was) = self.endpoints.get(&endpoint) else { return Vec::new() };
        let effects = match was.domain {
            Some(domain) => {
                let mut effects = vec![Effect::Detach { endpoint, domain, then: Unattached::Blocked }];
                if self.domains.get(&domain).is_some_and(|domain| domain.is_only(endpoint)) {
                    effects.push(Effect::Destroy { domain });
                }
                self.leave(endpoint);
                effects
            }
            None if self.unattached() == Unattached::Blocked => Vec::new(),
            None => vec![Effect::Unattached { endpoint, now: Unattached::Blocked }],
        };
        if let Some(gone) = self.endpoints.remove(&endpoint) {
            gone.seat.set(View::Blocked);
        }
        self.counts.faults_dropped += self.events.forget(endpoint);
        effects
    }
    /// What it offers (5.13.3).
    #[must_use]
    pub fn features(&self) -> Features {
        let config = &self.config;
        let offer = |bits, offered| if offered { bits } else { 0 };
        Features(
            wire::F_MAP_UNMAP
                | offer(wire::F_INPUT_RANGE, config.input_range != Interval::ALL)
                | offer(wire::F_DOMAIN_RANGE, config.domain_range != ALL_DOMAINS)
                | offer(wire::F_PROBE, config.probe_size != 0)
                | offer(wire::F_MMIO, config.mmio)
                | offer(wire::F_BYPASS, config.bypass == Bypass::Legacy)
                | offer(wire::F_BYPASS_CONFIG, matches!(config.bypass, Bypass::Config { .. }))
                | offer(wire::F_COHERENCY, config.coherency),
        )
    }
    /// What the driver took; none before it set FEATURES_OK.
    #[must_use]
    pub fn accepted(&self) -> Features {
        self.accepted
    }
    /// What it is to be.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// What the driver took, when it set FEATURES_OK. Bits that are not the device's own but the
    /// transport's (VIRTIO_F_VERSION_1 and the like) are not looked at.
    ///
    /// # Errors
    /// Some of it was not offered, or others were taken since the last reset, which is the only way to renegotiate (virtio 2.2): the
    /// transport leaves FEATURES_OK clear.
    pub fn accept(&mut self, features: Features) -> Result<Vec<Effect>, Wrong> {
        let offered = self.features();
        let own = Features(features.0 & OWN_FEATURES);
        let refused = Features(own.0 & !offered.0);
        if refused.0 != 0 {
            return Err(Wrong::NotOffered { refused, offered });
        }
        if self.accepted != Features(0) && self.accepted != own {
            return Err(Wrong::Renegotiated { before: self.accepted, now: own });
        }
        Ok(self.change(|device| device.accepted = own))
    }
    /// Changes what the mode of unattached endpoints follows from.
    fn change(&mut self, what: impl FnOnce(&mut Self)) -> Vec<Effect> {
        let before = self.unattached();
        what(self);
        let now = self.unattached();
        if before == now {
            return Vec::new();
        }
        let unattached = self.endpoints.values().filter(|is| is.domain.is_none() && !is.doubtful);
        unattached
            .map(|is| {
                is.seat.set(now.into());
                Effect::Unattached { endpoint: is.endpoint.id, now }
            })
            .collect()
    }
    /// Where the accesses go of an endpoint that is attached to none (5.13.6): with VIRTIO_IOMMU_F_BYPASS_CONFIG offered, and
    /// accepted or not, as `bypass` says; with VIRTIO_IOMMU_F_BYPASS if it is negotiated.
    fn unattached(&self) -> Unattached {
        let bypass = match self.config.bypass {
            Bypass::Never => false,
            Bypass::Legacy => self.accepted.has(wire::F_BYPASS),
            Bypass::Config { .. } => self.bypass,
        };
        if bypass { Unattached::Identity } else { Unattached::Blocked }
    }
    /// The configuration as the driver reads it now. Fields whose feature is not offered say what holds without it.
    #[must_use]
    pub fn config_space(&self) -> ConfigSpace {
        ConfigSpace {
            page_size_mask: self.config.page_size_mask,
            input_range: (self.config.input_range.first(), self.config.input_range.last()),
            domain_range: self.config.domain_range,
            probe_size: self.config.probe_size,
            bypass: u8::from(self.bypass),
        }
    }
    /// Reads of the configuration (5.13.4); beyond its end there are zeroes.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let bytes = self.config_space().bytes();
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or(&[]);
        for (to, from) in data.iter_mut().zip(rest) {
            *to = *from;
        }
    }
    /// A write to the configuration; what may not be written is not. That leaves `bypass`, if VIRTIO_IOMMU_F_BYPASS_CONFIG is
    /// negotiated, and 0 or 1 (5.13.4.1).
    pub fn write_config(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        let byte = (wire::CONFIG_BYPASS as u64)
            .checked_sub(offset)
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| data.get(at).copied());
        match byte {
            Some(value @ (0 | 1)) if self.accepted.has(wire::F_BYPASS_CONFIG) => {
                self.change(|device| device.bypass = value == 1)
            }
            _ => Vec::new(),
        }
    }
    /// A reset of the device, by the driver (5.13.5): no endpoint is attached; `bypass` stays. The features are forgotten, and the
    /// faults that wait.
    pub fn reset(&mut self) -> Vec<Effect> {
        self.reset_to(self.bypass)
    }
    /// A reset of the system: as above, and `bypass` is as at first.
    pub fn system_reset(&mut self) -> Vec<Effect> {
        self.reset_to(self.config.initially())
    }
    fn reset_to(&mut self, bypass: bool) -> Vec<Effect> {
        let before = self.unattached();
        self.accepted = Features(0);
        self.bypass = bypass;
        let now = self.unattached();
        let mut effects = Vec::new();
        for (&endpoint, is) in &mut self.endpoints {
            // What the host has for an endpoint in doubt is told it again, whatever it was.
            let doubtful = std::mem::take(&mut is.doubtful);
            match is.domain.take() {
                Some(domain) => effects.push(Effect::Detach { endpoint, domain, then: now }),
                None if before != now || doubtful => effects.push(Effect::Unattached { endpoint, now }),
                None => continue,
            }
            is.seat.set(now.into());
        }
        effects.extend(self.domains.keys().map(|&domain| Effect::Destroy { domain }));
        let gone = std::mem::take(&mut self.domains).into_values().map(Domain::gone);
        self.hold(gone);
        self.mappings = 0;
        self.events = Events::default();
        self.needs_reset = false;
        effects
    }
    /// What translates the accesses of an endpoint, on any thread.
    #[must_use]
    pub fn translator(&self, endpoint: EndpointId) -> Option<Translator> {
        self.endpoints.get(&endpoint).map(|is| is.seat.translator())
    }
    /// An access went nowhere. Every fault counts for itself: none is taken for a repetition of another.
    pub fn fault(&mut self, report: FaultReport) -> Raised {
        let raised = if self.endpoints.contains_key(&report.endpoint) {
            self.events.raise(report, self.config.limits.events)
        } else {
            Raised::Dropped
        };
        self.counts.faults_dropped += u64::from(raised == Raised::Dropped);
        raised
    }
    /// The caller has a buffer of the event queue, the oldest that it has not used, with so many device-writable bytes.
    pub fn event_buffer(&mut self, bytes: usize) -> Posted {
        let posted = self.events.buffer(bytes);
        match posted {
            Posted::Write(_) => self.counts.faults_written += 1,
            Posted::TooSmall => self.counts.buffers_too_small += 1,
            Posted::Kept => {}
        }
        posted
    }
    /// Whether the transport has to set DEVICE_NEEDS_RESET: something could not be taken back. See [`Device`].
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.needs_reset
    }
    /// The host could not do effects that were to be done whatever happens: those that undo others ([`Failed::undo`]), and those of
    /// a reset, of a write to the configuration, of an endpoint that comes or goes. `left` are the ones that have not been done, with the
    /// one that failed. The endpoints that they concern are in doubt from now on, and the device [needs a reset](Self::needs_reset).
    pub fn broke(&mut self, left: &[Effect]) {
        self.needs_reset = true;
        for effect in left {
            match *effect {
                Effect::Attach { endpoint, .. }
                | Effect::Detach { endpoint, .. }
                | Effect::Unattached { endpoint, .. } => {
                    self.doubt(endpoint);
                }
                Effect::Create { domain, .. }
                | Effect::Destroy { domain }
                | Effect::Map { domain, .. }
                | Effect::Unmap { domain, .. } => {
                    let concerned = self.domains.get(&domain).map(|domain| domain.endpoints().collect::<Vec<_>>());
                    for endpoint in concerned.unwrap_or_default() {
                        self.doubt(endpoint);
                    }
                }
            }
        }
    }
    fn doubt(&mut self, endpoint: EndpointId) {
        if let Some(is) = self.endpoints.get_mut(&endpoint) {
            is.doubtful = true;
            is.seat.set(View::Doubtful);
        }
    }
    /// The mappings of a domain, in order; none if there is no such domain. For hosts with an address space for each
    /// endpoint, which have to make them for one that is [attached](Effect::Attach) later than they were.
    pub fn mappings(&self, domain: DomainId) -> impl Iterator<Item = Mapping> + '_ {
        self.domains.get(&domain).into_iter().flat_map(|domain| domain.map.iter())
    }
    /// The effects that lead a host that has nothing to where this device is: after [`restore`](Self::restore), or for a host that
    /// is made anew because it failed. Endpoints in doubt are blocked; those that will be attached are first.
    #[must_use]
    pub fn replay(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (&endpoint, is) in &self.endpoints {
            let blocked = is.doubtful || is.domain.is_some();
            let now = if blocked { Unattached::Blocked } else { self.unattached() };
            effects.push(Effect::Unattached { endpoint, now });
        }
        for (&id, domain) in &self.domains {
            effects.push(Effect::Create { domain: id, bypass: domain.bypass });
            let attached =
                domain.endpoints().filter(|endpoint| !self.endpoints.get(endpoint).is_some_and(|is| is.doubtful));
            effects.extend(attached.map(|endpoint| Effect::Attach { endpoint, domain: id }));
            effects.extend(domain.map.iter().map(|mapping| Effect::Map { domain: id, mapping }));
        }
        effects
    }
    /// Tells the translators of an endpoint what they go by. It is not in doubt: with one that is, no request is done.
    fn seat(&self, endpoint: EndpointId) {
        let Some(is) = self.endpoints.get(&endpoint) else { return };
        let view = match is.domain.and_then(|domain| self.domains.get(&domain)) {
            Some(domain) => domain.view(),
            None => self.unattached().into(),
        };
        is.seat.set(view);
    }
    /// [`seat`](Self::seat), of all endpoints of a domain.
    fn seat_all(&self, domain: DomainId) {
        let attached = self.domains.get(&domain).into_iter().flat_map(Domain::endpoints);
        attached.for_each(|endpoint| self.seat(endpoint));
    }
    /// Attaches. The endpoint is there and attached to none; the domain comes into being if it is not there.
    fn join(&mut self, endpoint: EndpointId, domain: DomainId, bypass: bool) {
        let limit = self.config.limits.mappings_per_domain;
        if let Some(is) = self.endpoints.get_mut(&endpoint) {
            is.domain = Some(domain);
            self.domains.entry(domain).or_insert_with(|| Domain::new(bypass, limit)).join(&is.endpoint);
        }
        self.seat(endpoint);
    }
    /// Detaches, from whichever it is attached to, and without seating it anew. The domain goes with its last endpoint.
    fn leave(&mut self, endpoint: EndpointId) {
        let Some(is) = self.endpoints.get_mut(&endpoint) else { return };
        let Some(id) = is.domain.take() else { return };
        if let Some(domain) = self.domains.get_mut(&id) {
            domain.leave(&is.endpoint);
            if domain.is_empty() {
                self.mappings = self.mappings.saturating_sub(domain.map.len());
                if let Some(gone) = self.domains.remove(&id).map(Domain::gone) {
                    self.hold([gone]);
                }
            }
        }
    }
    /// Remembers maps that are gone, as long as somebody keeps them.
    fn hold(&mut self, gone: impl IntoIterator<Item = Held>) {
        self.held.extend(gone);
        self.held.retain(|held| held.mappings() > 0);
        self.held_at_most = self.held();
    }
    /// Mappings that are gone, and whose memory a [`Translator`] keeps that has not been called since, where they are more than 64
    /// together. They count towards [`Limits::mappings`](crate::limits::Limits::mappings).
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.iter().map(Held::mappings).fold(0, usize::saturating_add)
    }
    /// Bytes that the mappings of all domains take, without what is [held](Self::held).
    #[must_use]
    pub fn mapping_bytes(&self) -> usize {
        self.domains.values().map(|domain| domain.map.bytes()).fold(0, usize::saturating_add)
    }
    fn reserved(&self, endpoint: EndpointId) -> &[Reserved] {
        self.endpoints.get(&endpoint).map_or(&[], |is| &is.endpoint.reserved)
    }
}

impl From<Unattached> for View {
    fn from(mode: Unattached) -> Self {
        match mode {
            Unattached::Blocked => Self::Blocked,
            Unattached::Identity => Self::Identity,
        }
    }
}
