//! A host that believes nothing: it does the effects on its own books and panics where one contradicts what [`Effect`] promises.
#![allow(dead_code)]

use viommu::{
    Config, Device, Effect, Endpoint, EndpointId, Gpa, Host, HostError, Interval, Iova, Reply,
    effect::DomainId,
    wire::{Request, Status},
};

pub(crate) use viommu::book::Book as Books;

/// Books that are written to by effects that must be possible.
pub(crate) trait All {
    fn all(&mut self, effects: &[Effect]);
}

impl All for Books {
    fn all(&mut self, effects: &[Effect]) {
        self.write_all(effects).unwrap();
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Mock {
    pub(crate) books: Books,
    /// Which calls fail, counted from 0, and how.
    pub(crate) fails: Vec<(usize, HostError)>,
    pub(crate) calls: usize,
}

impl Host for Mock {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        let call = self.calls;
        self.calls += 1;
        if let Some((_, why)) = self.fails.iter().find(|(at, _)| *at == call) {
            return Err(*why);
        }
        self.books.all(std::slice::from_ref(effect));
        Ok(())
    }
}

pub(crate) fn iv(first: u64, last: u64) -> Interval {
    Interval::new(Iova(first), Iova(last)).unwrap()
}

/// A device and its host.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) device: Device,
    pub(crate) host: Mock,
}

impl Bench {
    pub(crate) fn new(config: Config, endpoints: &[Endpoint]) -> Self {
        let mut it = Self { device: Device::new(config).unwrap(), host: Mock::default() };
        for endpoint in endpoints {
            let effects = it.device.add_endpoint(endpoint.clone()).unwrap();
            it.host.books.all(&effects);
        }
        it
    }
    /// With all features that are offered.
    pub(crate) fn started(config: Config, endpoints: &[Endpoint]) -> Self {
        let mut it = Self::new(config, endpoints);
        it.accept_all();
        it
    }
    pub(crate) fn accept_all(&mut self) {
        let effects = self.device.accept(self.device.features()).unwrap();
        self.host.books.all(&effects);
    }
    pub(crate) fn reply(&mut self, request: &[u8], writable: usize) -> Reply {
        self.device.handle_with(request, writable, &mut self.host)
    }
    pub(crate) fn send(&mut self, request: Request) -> Status {
        let size = request.kind().writable(self.device.config().probe_size);
        let reply = self.reply(&request.bytes(), size);
        assert_eq!(reply.written.len(), size);
        assert_eq!(reply.written[size - 3..], [0; 3]);
        reply.status().unwrap()
    }
    pub(crate) fn attach(&mut self, endpoint: u32, domain: u32) -> Status {
        self.send(attach(endpoint, domain, 0))
    }
    pub(crate) fn bypass(&mut self, endpoint: u32, domain: u32) -> Status {
        self.send(attach(endpoint, domain, 1))
    }
    pub(crate) fn detach(&mut self, endpoint: u32, domain: u32) -> Status {
        self.send(Request::Detach { domain: DomainId(domain), endpoint: EndpointId(endpoint) })
    }
    pub(crate) fn map(&mut self, domain: u32, first: u64, last: u64, to: u64, flags: u32) -> Status {
        self.send(map(domain, first, last, to, flags))
    }
    pub(crate) fn unmap(&mut self, domain: u32, first: u64, last: u64) -> Status {
        self.send(unmap(domain, first, last))
    }
    pub(crate) fn mapped(&self, domain: u32) -> Vec<(u64, u64)> {
        self.device.mappings(DomainId(domain)).map(|is| (is.at.first().0, is.at.last().0)).collect()
    }
    /// The device's books are the host's.
    pub(crate) fn agree(&self) {
        let mut replayed = Books::default();
        replayed.all(&self.device.replay());
        assert_eq!(replayed, self.host.books);
        for endpoint in self.device.endpoints() {
            assert_eq!(endpoint.domain.ok_or(()), self.host.books.endpoints[&endpoint.endpoint.id].map_err(|_| ()));
        }
        for domain in self.device.domains() {
            assert!(domain.endpoints > 0, "domain {} without an endpoint", domain.id);
            assert_eq!(domain.mappings, self.device.mappings(domain.id).count());
        }
    }
}

pub(crate) fn attach(endpoint: u32, domain: u32, flags: u32) -> Request {
    Request::Attach { domain: DomainId(domain), endpoint: EndpointId(endpoint), flags, reserved: 0 }
}

pub(crate) fn map(domain: u32, first: u64, last: u64, to: u64, flags: u32) -> Request {
    let (virt_start, virt_end) = (Iova(first), Iova(last));
    Request::Map { domain: DomainId(domain), virt_start, virt_end, phys_start: Gpa(to), flags }
}

pub(crate) fn unmap(domain: u32, first: u64, last: u64) -> Request {
    Request::Unmap { domain: DomainId(domain), virt_start: Iova(first), virt_end: Iova(last), reserved: 0 }
}

pub(crate) fn endpoints<const N: usize>(ids: [u32; N]) -> [Endpoint; N] {
    ids.map(|id| Endpoint::new(EndpointId(id)))
}
