//! What can be seen of a device.

use std::fmt;

use crate::{
    Device, Endpoint, EndpointId,
    effect::{DomainId, Unattached},
    wire::{self, RequestKind, Status},
};

/// What a device has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    requests: [[u64; Status::ALL.len()]; RequestKind::ALL.len()],
    /// Requests that were returned unwritten.
    pub not_understood: u64,
    /// Faults that were written into buffers.
    pub faults_written: u64,
    /// Faults that were lost.
    pub faults_dropped: u64,
    /// Buffers of the event queue that were too small for a fault.
    pub buffers_too_small: u64,
}

impl Counts {
    /// How many requests of a type were answered so.
    #[must_use]
    pub fn requests(&self, kind: RequestKind, status: Status) -> u64 {
        let of = &self.requests[kind as usize - 1];
        of[status as usize]
    }
    pub(super) fn count(&mut self, kind: Option<RequestKind>, status: Option<Status>) {
        match (kind, status) {
            (Some(kind), Some(status)) => self.requests[kind as usize - 1][status as usize] += 1,
            _ => self.not_understood += 1,
        }
    }
}

/// What can be seen of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DomainView {
    /// Which.
    pub id: DomainId,
    /// Whether it is a bypass domain.
    pub bypass: bool,
    /// How many endpoints are attached.
    pub endpoints: usize,
    /// How many mappings it has.
    pub mappings: usize,
    /// How many of them are non-cacheable.
    pub non_cacheable: usize,
}

/// What can be seen of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointView<'a> {
    /// It.
    pub endpoint: &'a Endpoint,
    /// What it is attached to.
    pub domain: Option<DomainId>,
    /// Nobody knows what the host has for it (see [`Device`]).
    pub doubtful: bool,
}

impl Device {
    /// The domains, in order of their numbers.
    pub fn domains(&self) -> impl Iterator<Item = DomainView> + '_ {
        self.domains.iter().map(|(&id, domain)| DomainView {
            id,
            bypass: domain.bypass,
            endpoints: domain.count(),
            mappings: domain.map.len(),
            non_cacheable: domain.non_cacheable,
        })
    }
    /// The endpoints, in order of their numbers.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointView<'_>> + '_ {
        self.endpoints.values().map(|is| EndpointView {
            endpoint: &is.endpoint,
            domain: is.domain,
            doubtful: is.doubtful,
        })
    }
    /// An endpoint; nothing if it does not exist.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> Option<EndpointView<'_>> {
        let is = self.endpoints.get(&id)?;
        Some(EndpointView { endpoint: &is.endpoint, domain: is.domain, doubtful: is.doubtful })
    }
    /// What it has done.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
    /// How many faults wait for a buffer.
    #[must_use]
    pub fn faults_waiting(&self) -> usize {
        self.events.len()
    }
}

/// The state, for people.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (wire::F_INPUT_RANGE, "INPUT_RANGE"),
            (wire::F_DOMAIN_RANGE, "DOMAIN_RANGE"),
            (wire::F_MAP_UNMAP, "MAP_UNMAP"),
            (wire::F_BYPASS, "BYPASS"),
            (wire::F_PROBE, "PROBE"),
            (wire::F_MMIO, "MMIO"),
            (wire::F_BYPASS_CONFIG, "BYPASS_CONFIG"),
            (wire::F_COHERENCY, "COHERENCY"),
        ];
        let mut row =
            |name: fmt::Arguments<'_>, value: fmt::Arguments<'_>| writeln!(f, "{:<18}  {value}", name.to_string());
        let list = |wanted: bool| {
            let listed = names.iter().filter(|(bit, _)| self.features().has(*bit) && self.accepted.has(*bit) == wanted);
            listed.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
        };
        for (name, list) in [("features", list(true)), ("features not taken", list(false))] {
            if !list.is_empty() {
                row(format_args!("{name}"), format_args!("{list}"))?;
            }
        }
        let mode = match self.unattached() {
            Unattached::Blocked => "blocked",
            Unattached::Identity => "in bypass mode",
        };
        row(format_args!("unattached"), format_args!("{mode}"))?;
        if self.needs_reset {
            row(
                format_args!("needs a reset"),
                format_args!("the host failed, and could not take back what it had done"),
            )?;
        }
        for is in self.endpoints() {
            let name = format_args!("endpoint {}", is.endpoint.id);
            let doubt = if is.doubtful { ", in doubt" } else { "" };
            match is.domain {
                Some(domain) => row(name, format_args!("domain {domain}{doubt}"))?,
                None => row(name, format_args!("unattached{doubt}"))?,
            }
        }
        for domain in self.domains() {
            let name = format_args!("domain {}", domain.id);
            if domain.bypass {
                row(name, format_args!("endpoints {}, bypass", domain.endpoints))?;
            } else {
                row(name, format_args!("endpoints {}, mappings {}", domain.endpoints, domain.mappings))?;
            }
        }
        let Counts { faults_written, faults_dropped, .. } = self.counts;
        let waiting = self.faults_waiting();
        write!(f, "{:<18}  written {faults_written}, waiting {waiting}, dropped {faults_dropped}", "faults")
    }
}
