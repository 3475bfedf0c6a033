//! A host that has nothing but books: it does what it is told by writing it down, and says where that could not be. For the tests of a VMM,
//! and as a second opinion on what the [`Translator`]s say.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    Effect, Endpoint, EndpointId, Gpa, Host, HostError, Iova, Mapping, MemoryType, Translator,
    access::Kind,
    effect::{DomainId, Unattached},
    endpoint::{Reserved, ReservedKind},
    translate::Target,
};

/// What effects come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Book {
    /// Where the accesses of each endpoint go: by a domain, or, attached to none, nowhere or everywhere.
    pub endpoints: BTreeMap<EndpointId, Result<DomainId, Unattached>>,
    /// The domains.
    pub domains: BTreeMap<DomainId, Space>,
}

/// What a domain maps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Space {
    /// It is the identity, and maps nothing.
    pub bypass: bool,
    /// The mappings, by their first address.
    pub mappings: BTreeMap<Iova, Mapping>,
}

/// An effect that could not be, where it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{effect:?}: {why}")]
pub struct NotSo {
    /// The effect.
    pub effect: Effect,
    /// Why not.
    pub why: &'static str,
}

/// Where the host and the device's translator differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("endpoint {endpoint}, {kind:?} at {at}: {told:x?} by the effects, {translated:x?} by the translator")]
pub struct Differs {
    /// Whose access.
    pub endpoint: EndpointId,
    /// Where.
    pub at: Iova,
    /// Which.
    pub kind: Kind,
    /// Where the books have it go.
    pub told: Option<Reached>,
    /// Where the translator has it go.
    pub translated: Option<Reached>,
}

/// Guest-physical memory, as an access reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Where.
    pub at: Gpa,
    /// How many addresses from there on are the same mapping, less one.
    pub more: u64,
    /// Of which type.
    pub memory: MemoryType,
}

impl Book {
    /// Writes an effect down.
    ///
    /// # Errors
    /// It could not be, and is not written down.
    pub fn write(&mut self, effect: &Effect) -> Result<(), NotSo> {
        let not = |why| NotSo { effect: *effect, why };
        let so = |holds: bool, why| if holds { Ok(()) } else { Err(not(why)) };
        match *effect {
            Effect::Create { domain, bypass } => {
                so(!self.domains.contains_key(&domain), "the domain is there")?;
                self.domains.insert(domain, Space { bypass, ..Space::default() });
            }
            Effect::Attach { endpoint, domain } => {
                so(self.domains.contains_key(&domain), "there is no such domain")?;
                so(!self.is_attached(endpoint), "the endpoint is attached")?;
                self.endpoints.insert(endpoint, Ok(domain));
            }
            Effect::Detach { endpoint, domain, then } => {
                so(self.endpoints.get(&endpoint) == Some(&Ok(domain)), "the endpoint is not attached to it")?;
                self.endpoints.insert(endpoint, Err(then));
            }
            Effect::Destroy { domain } => {
                so(!self.endpoints.values().any(|to| *to == Ok(domain)), "endpoints are attached")?;
                self.domains.remove(&domain).ok_or_else(|| not("there is no such domain"))?;
            }
            Effect::Map { domain, mapping } => {
                let space = self.domains.get_mut(&domain).ok_or_else(|| not("there is no such domain"))?;
                so(!space.bypass, "it is a bypass domain")?;
                let below = space.mappings.range(..=mapping.at.last()).next_back();
                so(below.is_none_or(|(_, it)| !it.at.overlaps(mapping.at)), "something is mapped there")?;
                space.mappings.insert(mapping.at.first(), mapping);
            }
            Effect::Unmap { domain, range } => {
                let space = self.domains.get_mut(&domain).ok_or_else(|| not("there is no such domain"))?;
                let within: Vec<_> = space.mappings.values().map(|it| it.at).filter(|at| at.overlaps(range)).collect();
                so(!within.is_empty(), "nothing is mapped there")?;
                so(within.iter().all(|at| range.covers(*at)), "a mapping lies partly within")?;
                for at in within {
                    space.mappings.remove(&at.first());
                }
            }
            Effect::Unattached { endpoint, now } => {
                so(!self.is_attached(endpoint), "the endpoint is attached")?;
                self.endpoints.insert(endpoint, Err(now));
            }
        }
        Ok(())
    }
    /// Writes effects down, in order.
    ///
    /// # Errors
    /// The first that could not be; those after it are not written down.
    pub fn write_all(&mut self, effects: &[Effect]) -> Result<(), NotSo> {
        effects.iter().try_for_each(|effect| self.write(effect))
    }
    fn is_attached(&self, endpoint: EndpointId) -> bool {
        self.endpoints.get(&endpoint).is_some_and(Result::is_ok)
    }
    /// Where an access reaches guest-physical memory, if it does. A message to the interrupt controller does not.
    #[must_use]
    pub fn translate(&self, endpoint: EndpointId, at: Iova, kind: Kind) -> Option<Reached> {
        let identity = Some(Reached { at: Gpa(at.0), more: u64::MAX - at.0, memory: MemoryType::Normal });
        let space = match self.endpoints.get(&endpoint)? {
            Err(Unattached::Blocked) => return None,
            Err(Unattached::Identity) => return identity,
            Ok(domain) => self.domains.get(domain)?,
        };
        if space.bypass {
            return identity;
        }
        let (first, mapping) = space.mappings.range(..=at).next_back()?;
        let there = mapping.at.contains(at) && mapping.access.allows(kind);
        there.then(|| Reached {
            at: Gpa(mapping.to.0.wrapping_add(at.0 - first.0)),
            more: mapping.at.last().0 - at.0,
            memory: mapping.access.memory,
        })
    }
    /// Translates an access by the device, and holds that against the books.
    ///
    /// # Errors
    /// They differ.
    pub fn check(
        &self,
        endpoint: EndpointId,
        translator: &mut Translator,
        at: Iova,
        kind: Kind,
    ) -> Result<Result<Target, crate::translate::Reason>, Differs> {
        let target = translator.translate(at, kind);
        let translated = match target {
            Ok(Target::Memory { at, more, memory }) => Some(Reached { at, more, memory }),
            Ok(Target::Msi) | Err(_) => None,
        };
        let told = self.translate(endpoint, at, kind);
        if told == translated { Ok(target) } else { Err(Differs { endpoint, at, kind, told, translated }) }
    }
    /// The same for the accesses of endpoints at both ends of every mapping, beside them, within, and of what they reserve.
    ///
    /// # Errors
    /// The first at which they differ.
    pub fn check_all<'a>(
        &self,
        endpoints: impl IntoIterator<Item = (&'a Endpoint, &'a mut Translator)>,
    ) -> Result<(), Differs> {
        let mut places = vec![0, 1, u64::MAX];
        let mut add = |first: u64, last: u64| {
            places.extend([first.wrapping_sub(1), first, first + (last - first) / 2, last, last.wrapping_add(1)]);
        };
        let mappings = self.domains.values().flat_map(|space| space.mappings.values());
        mappings.for_each(|it| add(it.at.first().0, it.at.last().0));
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        for (endpoint, _) in &endpoints {
            endpoint.reserved.iter().for_each(|it| add(it.at.first().0, it.at.last().0));
        }
        for (endpoint, translator) in endpoints {
            for (at, kind) in places.iter().flat_map(|at| [(Iova(*at), Kind::Read), (Iova(*at), Kind::Write)]) {
                let target = self.check(endpoint.id, translator, at, kind)?;
                let message = |it: &Reserved| it.kind == ReservedKind::Msi && it.at.contains(at) && kind == Kind::Write;
                if target == Ok(Target::Msi) && !endpoint.reserved.iter().any(message) {
                    return Err(Differs { endpoint: endpoint.id, at, kind, told: None, translated: None });
                }
            }
        }
        Ok(())
    }
}

/// A host of books that fails when it is told to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bookkeeper {
    /// The books.
    pub book: Book,
    /// What the next effects come to; they are done when there is nothing more here.
    pub fails: VecDeque<Option<HostError>>,
    /// Guest memory goes so far: a MAP to above fails with [`HostError::BadAddress`]. Nothing: everywhere.
    pub last: Option<Gpa>,
    /// The first effect that could not be.
    pub wrong: Option<NotSo>,
}

impl Host for Bookkeeper {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        if let Some(Some(why)) = self.fails.pop_front() {
            return Err(why);
        }
        if let (Effect::Map { mapping, .. }, Some(last)) = (effect, self.last) {
            let end = mapping.to.0.checked_add(mapping.at.size_less_one());
            if end.is_none_or(|end| end > last.0) {
                return Err(HostError::BadAddress);
            }
        }
        self.book.write(effect).map_err(|wrong| {
            self.wrong.get_or_insert(wrong);
            HostError::Failed
        })
    }
}
