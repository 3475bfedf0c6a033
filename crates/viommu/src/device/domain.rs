//! A domain: which endpoints are attached, what they have in common, and what is mapped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
};

use crate::{Endpoint, EndpointId, Interval, Iova, Map, coherency::Coherency, translate::View};

/// A map that had no more mappings than this is not made anew, and whoever keeps it after the domain is gone does so uncounted: a domain
/// has so much memory for each of its endpoints anyway.
const SMALL: usize = 64;

#[derive(Debug)]
pub(super) struct Domain {
    pub(super) bypass: bool,
    pub(super) map: Map,
    /// The most mappings that `map` has had: it keeps the memory of so many.
    peak: usize,
    /// Held with each reader of `map`.
    held: Arc<()>,
    limit: usize,
    /// How many of the mappings are non-cacheable.
    pub(super) non_cacheable: usize,
    endpoints: BTreeSet<EndpointId>,
    /// What the endpoints' coherency is, and of how many: there are few kinds, whatever the number of endpoints.
    coherency: Vec<(Coherency, usize)>,
    /// The regions that endpoints reserve, and how many endpoints do.
    regions: BTreeMap<(Iova, Iova), usize>,
    /// The same, joined where they overlap, so that a MAP looks at two of them and not at all.
    reserved: Vec<Interval>,
}

impl Domain {
    pub(super) fn new(bypass: bool, limit: usize) -> Self {
        Self {
            bypass,
            map: Map::new(limit),
            peak: 0,
            held: Arc::new(()),
            limit,
            non_cacheable: 0,
            endpoints: BTreeSet::new(),
            coherency: Vec::new(),
            regions: BTreeMap::new(),
            reserved: Vec::new(),
        }
    }
    /// What the endpoints' translators go by.
    pub(super) fn view(&self) -> View {
        if self.bypass {
            View::Identity
        } else {
            View::Domain { reader: self.map.reader(), held: Arc::clone(&self.held) }
        }
    }
    /// It has a mapping more.
    pub(super) fn grown(&mut self) {
        self.peak = self.peak.max(self.map.len());
    }
    /// It has fewer mappings. Where they are less than a quarter of what they were, they move to a map of their own size: one that
    /// readers may be in cannot give back memory. That is a quarter of an insertion or less for each mapping that was removed, and the domain
    /// holds no more than four times what it needs. The endpoints have to be seated anew then.
    pub(super) fn shrunk(&mut self) -> Option<Held> {
        if self.peak <= SMALL || self.map.len() > self.peak / 4 {
            return None;
        }
        let mut map = Map::new(self.limit);
        for mapping in self.map.iter() {
            // The limit is the same, and they did not overlap before.
            map.insert(mapping).ok()?;
        }
        self.map = map;
        let was = Held { by: Arc::downgrade(&self.held), mappings: self.peak };
        self.held = Arc::new(());
        self.peak = self.map.len();
        Some(was)
    }
    /// What is left of it where a translator has not been called since.
    pub(super) fn gone(self) -> Held {
        Held { by: Arc::downgrade(&self.held), mappings: self.peak }
    }
    pub(super) fn endpoints(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.endpoints.iter().copied()
    }
    pub(super) fn count(&self) -> usize {
        self.endpoints.len()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
    /// Whether no other endpoint is attached.
    pub(super) fn is_only(&self, endpoint: EndpointId) -> bool {
        self.endpoints.len() == 1 && self.endpoints.contains(&endpoint)
    }
    /// Each kind of coherency that there is, once.
    pub(super) fn coherency(&self) -> Vec<Coherency> {
        self.coherency.iter().map(|(kind, _)| *kind).collect()
    }
    /// Whether all endpoints can have non-cacheable mappings.
    pub(super) fn serves_non_cacheable(&self) -> bool {
        self.coherency.iter().all(|(kind, _)| kind.non_cacheable)
    }
    /// Whether an endpoint reserves some of the range.
    pub(super) fn reserves(&self, range: Interval) -> bool {
        let next = self.reserved.partition_point(|region| region.last() < range.first());
        self.reserved.get(next).is_some_and(|region| region.overlaps(range))
    }
    pub(super) fn join(&mut self, endpoint: &Endpoint) {
        if !self.endpoints.insert(endpoint.id) {
            return;
        }
        match self.coherency.iter_mut().find(|(kind, _)| *kind == endpoint.coherency) {
            Some((_, count)) => *count += 1,
            None => self.coherency.push((endpoint.coherency, 1)),
        }
        let mut new = false;
        for region in &endpoint.reserved {
            let count = self.regions.entry((region.at.first(), region.at.last())).or_insert(0);
            new |= *count == 0;
            *count += 1;
        }
        if new {
            self.merge();
        }
    }
    pub(super) fn leave(&mut self, endpoint: &Endpoint) {
        if !self.endpoints.remove(&endpoint.id) {
            return;
        }
        if let Some(at) = self.coherency.iter().position(|(kind, _)| *kind == endpoint.coherency) {
            self.coherency[at].1 -= 1;
            if self.coherency[at].1 == 0 {
                self.coherency.swap_remove(at);
            }
        }
        let mut gone = false;
        for region in &endpoint.reserved {
            let key = (region.at.first(), region.at.last());
            if let Some(count) = self.regions.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.regions.remove(&key);
                    gone = true;
                }
            }
        }
        if gone {
            self.merge();
        }
    }
    /// Linear in the number of different regions; only when one comes or goes.
    fn merge(&mut self) {
        self.reserved.clear();
        for &(first, last) in self.regions.keys() {
            match self.reserved.last_mut() {
                Some(before) if first <= before.last() => {
                    if let Some(joined) = Interval::new(before.first(), before.last().max(last)) {
                        *before = joined;
                    }
                }
                _ => self.reserved.extend(Interval::new(first, last)),
            }
        }
    }
}

/// The memory of a map that is no longer any domain's, as far as translators keep it.
#[derive(Debug)]
pub(super) struct Held {
    by: Weak<()>,
    mappings: usize,
}

impl Held {
    /// How many mappings it is the memory of; none if they are few, or nobody keeps it any more.
    pub(super) fn mappings(&self) -> usize {
        if self.mappings > SMALL && self.by.strong_count() > 0 { self.mappings } else { 0 }
    }
}
