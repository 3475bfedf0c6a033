//! Save and restore. A saved state is believed as far as requests would have led to it: the same checks decide.

use std::collections::BTreeSet;

use crate::{
    Access, Config, Device, Effect, Endpoint, Gpa, Iova, MemoryType,
    effect::DomainId,
    event::FaultReport,
    save::{Saved, SavedDomain, SavedMapping, VERSION},
    wire::{self, Features},
};

use super::Wrong;

/// The flags of the MAP request that gives this.
fn flags(access: Access) -> u32 {
    let read = if access.read { wire::MAP_F_READ } else { 0 };
    let write = if access.write { wire::MAP_F_WRITE } else { 0 };
    let memory = match access.memory {
        MemoryType::Normal => 0,
        MemoryType::NonCacheable => wire::MAP_F_NON_CACHEABLE,
        MemoryType::Mmio => wire::MAP_F_MMIO,
    };
    read | write | memory
}

impl Device {
    /// The state, to be written down.
    #[must_use]
    pub fn save(&self) -> Saved {
        let config = &self.config;
        Saved {
            version: VERSION,
            offered: self.features().0,
            accepted: self.accepted.0,
            page_size_mask: config.page_size_mask,
            input_range: (config.input_range.first().0, config.input_range.last().0),
            domain_range: (config.domain_range.0.0, config.domain_range.1.0),
            probe_size: config.probe_size,
            bypass: self.bypass,
            domains: self
                .domains
                .iter()
                .map(|(id, domain)| SavedDomain {
                    id: id.0,
                    bypass: domain.bypass,
                    endpoints: domain.endpoints().collect(),
                    mappings: domain
                        .map
                        .iter()
                        .map(|mapping| SavedMapping {
                            virt_start: mapping.at.first().0,
                            virt_end: mapping.at.last().0,
                            phys_start: mapping.to.0,
                            flags: flags(mapping.access),
                        })
                        .collect(),
                })
                .collect(),
            faults: self.events.iter().map(|fault| fault.bytes().to_vec()).collect(),
            needs_reset: self.needs_reset,
            doubtful: self.endpoints.values().filter(|is| is.doubtful).map(|is| is.endpoint.id).collect(),
        }
    }
    /// A device in a saved state, and the effects that lead a host that has nothing to it. Endpoints that were not there when it was
    /// saved are unattached.
    ///
    /// # Errors
    /// What is wrong with the configuration, an endpoint, or the state: a driver would find another device than it left, or no
    /// requests could have led there.
    pub fn restore(
        config: Config,
        endpoints: impl IntoIterator<Item = Endpoint>,
        saved: &Saved,
    ) -> Result<(Self, Vec<Effect>), Wrong> {
        if saved.version != VERSION {
            return Err(Wrong::SavedVersion { found: saved.version, known: VERSION });
        }
        let mut device = Self::new(config)?;
        for endpoint in endpoints {
            let _ = device.add_endpoint(endpoint)?;
        }
        device.check_same(saved)?;
        let offered = device.features();
        let refused = Features(saved.accepted & !offered.0);
        if refused.0 != 0 {
            return Err(Wrong::NotOffered { refused, offered });
        }
        let _ = device.accept(Features(saved.accepted))?;
        if saved.bypass && !device.features().has(wire::F_BYPASS_CONFIG) {
            return Err(Wrong::SavedBypass);
        }
        let _ = device.change(|device| device.bypass = saved.bypass);
        let mut seen = BTreeSet::new();
        for domain in &saved.domains {
            if !seen.insert(domain.id) {
                return Err(Wrong::SavedDomainTwice(DomainId(domain.id)));
            }
            device.restore_domain(domain)?;
        }
        device.restore_faults(saved)?;
        device.needs_reset = saved.needs_reset;
        for &endpoint in &saved.doubtful {
            if !saved.needs_reset || !device.endpoints.contains_key(&endpoint) {
                return Err(Wrong::SavedDoubt(endpoint));
            }
            device.doubt(endpoint);
        }
        let effects = device.replay();
        Ok((device, effects))
    }
    fn check_same(&self, saved: &Saved) -> Result<(), Wrong> {
        let config = &self.config;
        let fields = [
            ("features", saved.offered, self.features().0),
            ("page_size_mask", saved.page_size_mask, config.page_size_mask),
            ("input_range.start", saved.input_range.0, config.input_range.first().0),
            ("input_range.end", saved.input_range.1, config.input_range.last().0),
            ("domain_range.start", u64::from(saved.domain_range.0), u64::from(config.domain_range.0.0)),
            ("domain_range.end", u64::from(saved.domain_range.1), u64::from(config.domain_range.1.0)),
            ("probe_size", u64::from(saved.probe_size), u64::from(config.probe_size)),
        ];
        match fields.into_iter().find(|(_, saved, here)| saved != here) {
            None => Ok(()),
            Some((field, saved, here)) => Err(Wrong::SavedConfig { field, saved, here }),
        }
    }
    fn restore_domain(&mut self, saved: &SavedDomain) -> Result<(), Wrong> {
        let id = DomainId(saved.id);
        if saved.endpoints.is_empty() {
            return Err(Wrong::SavedDomainEmpty(id));
        }
        if !saved.mappings.is_empty() && !self.accepted.has(wire::F_MAP_UNMAP) {
            return Err(Wrong::SavedUnnegotiated(id));
        }
        for &endpoint in &saved.endpoints {
            if let Some(first) = self.endpoints.get(&endpoint).and_then(|is| is.domain) {
                return Err(Wrong::SavedTwice { endpoint, first, second: id });
            }
            let flags = if saved.bypass { wire::ATTACH_F_BYPASS } else { 0 };
            let attach = self.attach(id, endpoint, flags, 0);
            let attach = attach.map_err(|status| Wrong::SavedAttach { endpoint, domain: id, status })?;
            self.commit(attach.change);
        }
        for mapping in &saved.mappings {
            let (first, last) = (Iova(mapping.virt_start), Iova(mapping.virt_end));
            let map = self.map(id, first, last, Gpa(mapping.phys_start), mapping.flags);
            let map = map.map_err(|status| Wrong::SavedMap { domain: id, first, last, status })?;
            self.commit(map.change);
        }
        Ok(())
    }
    fn restore_faults(&mut self, saved: &Saved) -> Result<(), Wrong> {
        let limit = self.config.limits.events;
        if saved.faults.len() > limit {
            return Err(Wrong::SavedFaults { waiting: saved.faults.len(), limit });
        }
        for bytes in &saved.faults {
            let fault = bytes.as_slice().try_into().ok().and_then(FaultReport::parse);
            let fault = fault.filter(|fault| fault.bytes() == bytes[..]).ok_or(Wrong::SavedFaultBytes)?;
            if !self.endpoints.contains_key(&fault.endpoint) {
                return Err(Wrong::SavedFault(fault.endpoint));
            }
            let _ = self.events.raise(fault, limit);
        }
        Ok(())
    }
}
