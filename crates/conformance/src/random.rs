//! Sequences of operations at random, on a device and on the reference, made short where they differ.
//!
//! An operation comes of a few bytes, [`Operation::of`]: proptest draws them and makes them small again, a fuzzer gives them itself
//! ([`decode`]). They are few domains, few endpoints and few pages, at both ends of the addresses and at those that are reserved, so
//! that operations meet each other; and byte 0 is always the ordinary thing, so that what is made small is ordinary.

use std::fmt;

use proptest::{
    prelude::*,
    test_runner::{Config as Cases, RngAlgorithm, TestError, TestRng, TestRunner},
};

use crate::{
    Broken, Device, Fresh, Reply,
    bytes::{self, Attach, Detach, Head, Map, Probe, Request, Unmap},
    device::CANARY,
    reference::{Config, Reference},
};

/// What the operations are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Endpoints; the last does not exist.
    pub endpoints: Vec<u32>,
    /// Domains; the last two may be out of range.
    pub domains: Vec<u32>,
    /// Addresses of pages as endpoints see them.
    pub pages: Vec<u64>,
    /// Guest-physical addresses of pages.
    pub phys: Vec<u64>,
    /// How many of them are guest memory.
    pub memory: usize,
    /// The granule.
    pub granule: u64,
    /// `probe_size`.
    pub probe_size: u32,
}

impl World {
    /// That of such a device.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let granule = 1 << config.page_size_mask.trailing_zeros().min(32);
        let (lowest, highest) = config.domain_range.unwrap_or((0, u32::MAX));
        let (start, end) = config.input_range.unwrap_or((0, u64::MAX));
        let at = |n: u64| start.wrapping_add(n * granule);
        let mut pages = vec![at(0), at(1), at(2), at(3), at(4)];
        // the last two pages that can be mapped, the page before the first, and the one after the last
        let last = (end.wrapping_add(1)).wrapping_sub(granule);
        pages.extend([last, last.wrapping_sub(granule), at(0).wrapping_sub(granule), last.wrapping_add(granule)]);
        for reserved in config.endpoints.iter().flat_map(|endpoint| &endpoint.reserved) {
            let first = reserved.first - reserved.first % granule;
            pages.extend([first, first.wrapping_sub(granule)]);
        }
        pages.dedup();
        let ram = config.ram.0;
        Self {
            endpoints: config.endpoints.iter().map(|endpoint| endpoint.id).chain([config.absent]).collect(),
            domains: vec![
                lowest,
                lowest.wrapping_add(1),
                lowest.wrapping_add(2),
                highest,
                highest.wrapping_add(1),
                lowest.wrapping_sub(1),
            ],
            pages,
            phys: vec![
                ram,
                ram + granule,
                ram + 2 * granule,
                ram + 3 * granule,
                0u64.wrapping_sub(granule),
                0u64.wrapping_sub(2 * granule),
            ],
            memory: 4,
            granule,
            probe_size: config.probe_size,
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A request as it should be in its lengths.
    Request {
        /// The request.
        request: Request,
        /// How many bytes are device-writable.
        writable: usize,
    },
    /// Any bytes as a request.
    Raw {
        /// The device-readable bytes.
        readable: Vec<u8>,
        /// How many bytes are device-writable.
        writable: usize,
    },
    /// An endpoint writes.
    Write {
        /// Who.
        endpoint: u32,
        /// Where.
        iova: u64,
        /// What.
        data: Vec<u8>,
    },
    /// An endpoint reads.
    Read {
        /// Who.
        endpoint: u32,
        /// Where.
        iova: u64,
        /// How much.
        bytes: usize,
    },
    /// The driver writes the configuration.
    Config {
        /// Where.
        offset: u32,
        /// What.
        data: Vec<u8>,
    },
    /// The driver gives the event queue a buffer.
    Buffer {
        /// How large.
        bytes: usize,
    },
    /// The driver resets the device.
    Reset {
        /// The features it takes.
        accept: u64,
    },
    /// The system is reset.
    Fresh {
        /// The features its driver takes.
        accept: u64,
    },
}

/// How many bytes an operation is made of.
pub const BYTES: usize = 10;
/// How many operations [`decode`] gives at most.
pub const MOST: usize = 4096;

impl Operation {
    /// The operation that these bytes are. Any bytes are one.
    #[must_use]
    pub fn of(world: &World, from: [u8; BYTES]) -> Self {
        let [kind, domain, endpoint, first, length, phys, flags, twist, other, value] = from;
        // the ordinary domains and endpoints more often than the rest
        let domain = pick(
            &world.domains,
            if domain < 96 {
                0
            } else if domain < 224 {
                domain % 3
            } else {
                domain
            },
        );
        let endpoint = match world.endpoints.len() - 1 {
            real if endpoint < 240 && real > 0 => world.endpoints[usize::from(endpoint) % real],
            _ => pick(&world.endpoints, endpoint),
        };
        let page = pick(&world.pages, if first < 144 { first % 5 } else { first });
        let head = Head { reserved: [0, 0, if twist == 255 { value | 1 } else { 0 }] };
        // reserved bytes, which are zero unless it is about them
        let reserved = if (248..=251).contains(&twist) { value } else { 0 };
        let size = u64::from(length % 4) + 1;
        let end = page.wrapping_add(size.wrapping_mul(world.granule)).wrapping_sub(1);
        let (start, end) = match twist {
            200..=205 => (page.wrapping_add(u64::from(value)), end),
            206..=211 => (page, end.wrapping_sub(u64::from(value))),
            212..=214 => (end, page),
            215..=217 => (page, u64::MAX),
            218..=219 => (0, u64::MAX),
            220 => (page, page),
            _ => (page, end),
        };
        let whole = |request: Request| {
            let (readable, writable) = (request.readable(), request.writable(world.probe_size));
            match twist {
                224..=227 => {
                    let length = usize::from(other) % (readable.len() + 1);
                    Self::Raw { readable: readable[..length].to_vec(), writable }
                }
                228..=231 => Self::Raw { readable, writable: usize::from(other) % (writable + 1) },
                232..=235 => {
                    let mut readable = readable;
                    readable.extend(std::iter::repeat_n(value, usize::from(other % 32)));
                    Self::Raw { readable, writable: writable + usize::from(other / 32) }
                }
                236 => {
                    let mut readable = readable;
                    readable[0] = value;
                    Self::Raw { readable, writable: writable + usize::from(other) }
                }
                _ => Self::Request { request, writable },
            }
        };
        // in the order in which things are made small: the first is what a driver does first
        match kind % 40 {
            0..=7 => {
                let flags = match flags {
                    0..=199 => 0,
                    200..=247 => bytes::ATTACH_BYPASS,
                    _ => 1 << (value % 32),
                };
                whole(Request::Attach(Attach { head, domain, endpoint, flags, reserved: [0, 0, reserved, 0] }))
            }
            8..=16 => {
                let flags = match flags {
                    0..=239 => [3, 1, 2, 0][usize::from(flags % 4)],
                    240..=243 => 7,
                    // a proposal
                    244..=247 => 3 | 1 << 16,
                    _ => 3 | 1 << (value % 32),
                };
                let to = pick(&world.phys, if phys < 240 { phys % world.memory as u8 } else { phys });
                let phys_start = if twist == 222 { to.wrapping_add(u64::from(value)) } else { to };
                whole(Request::Map(Map { head, domain, virt_start: start, virt_end: end, phys_start, flags }))
            }
            17..=23 => {
                let reserved = [reserved, 0, 0, 0];
                whole(Request::Unmap(Unmap { head, domain, virt_start: start, virt_end: end, reserved }))
            }
            24..=26 => {
                let reserved = [0, 0, 0, 0, 0, 0, 0, reserved];
                whole(Request::Detach(Detach { head, domain, endpoint, reserved }))
            }
            27 => {
                let reserved = std::array::from_fn(|i| if i == 63 { reserved } else { 0 });
                whole(Request::Probe(Probe { head, endpoint, reserved }))
            }
            28..=30 => {
                Self::Write { endpoint, iova: access(page, world, other), data: vec![value; usize::from(length % 9)] }
            }
            31..=33 => Self::Read { endpoint, iova: access(page, world, other), bytes: usize::from(length % 9) },
            34 => Self::Config {
                offset: if other < 200 { bytes::Config::BYPASS } else { u32::from(other % 48) },
                data: vec![if value < 240 { value % 2 } else { value }; if other % 4 == 3 { 4 } else { 1 }],
            },
            35 => Self::Buffer { bytes: [24, 32, 24, 23, 0][usize::from(length % 5)] },
            36 | 37 => Self::Buffer { bytes: 24 },
            38 if other < 128 => Self::Read { endpoint, iova: access(page, world, other), bytes: 1 },
            38 => Self::Reset { accept: accept(value) },
            _ if other < 160 => Self::Write { endpoint, iova: access(page, world, other), data: vec![value] },
            _ => Self::Fresh { accept: accept(value) },
        }
    }
    /// What is sent, where it is a request.
    #[must_use]
    pub fn request(&self) -> Option<(Vec<u8>, usize)> {
        match self {
            Self::Request { request, writable } => Some((request.readable(), *writable)),
            Self::Raw { readable, writable } => Some((readable.clone(), *writable)),
            _ => None,
        }
    }
}

fn pick<T: Copy + Default>(of: &[T], by: u8) -> T {
    of.get(usize::from(by) % of.len().max(1)).copied().unwrap_or_default()
}

/// At the beginning of a page, at its last byte, or over its end.
fn access(page: u64, world: &World, by: u8) -> u64 {
    match by % 4 {
        0 | 1 => page,
        2 => page.wrapping_add(world.granule).wrapping_sub(1),
        _ => page.wrapping_add(world.granule).wrapping_sub(4),
    }
}

/// All features, or all but one.
fn accept(by: u8) -> u64 {
    if by < 128 { u64::MAX } else { !(1 << (by % 8)) }
}

/// The operations that any bytes are, as many as there are: for a fuzzer.
#[must_use]
pub fn decode(world: &World, bytes: &[u8]) -> Vec<Operation> {
    let one = |bytes: &[u8]| {
        let mut from = [0; BYTES];
        from[..bytes.len()].copy_from_slice(bytes);
        Operation::of(world, from)
    };
    bytes.chunks(BYTES).take(MOST).map(one).collect()
}

/// Up to so many operations at random.
pub fn operations(world: World, most: usize) -> impl Strategy<Value = Vec<Operation>> {
    let one = any::<[u8; BYTES]>().prop_map(move |from| Operation::of(&world, from));
    prop::collection::vec(one, 0..=most)
}

/// Leaves out what is not needed for the sequence to differ, one after the other, until nothing more can be. What proptest made small can
/// be made smaller so: it leaves out first, and makes ordinary what is left.
fn shorten(mut operations: Vec<Operation>, differs: impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
    let mut at = operations.len();
    while at > 0 {
        at -= 1;
        let left_out = operations.remove(at);
        if differs(&operations) {
            at = operations.len();
        } else {
            operations.insert(at, left_out);
        }
    }
    operations
}

/// The shortest sequence found on which two differ, and in what.
pub type Found = Option<(Vec<Operation>, Box<Difference>)>;

/// A search for a sequence on which a device and the reference differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Operations of a sequence, at most.
    pub most: usize,
    /// Sequences.
    pub cases: u32,
    /// Steps in which proptest makes what it found smaller, at most. Without any it is as short as leaving out makes it, and not made
    /// ordinary.
    pub shrink: u32,
    /// It begins always alike, so that it finds always the same: how short that gets goes by where the search began.
    pub alike: bool,
}

impl Search {
    /// Searches, and makes short what it finds; nothing if no sequence differs.
    ///
    /// # Errors
    /// proptest gave up, or what differed once does not differ again.
    pub fn run(
        self,
        world: &World,
        differs: impl Fn(&[Operation]) -> Option<Box<Difference>>,
    ) -> Result<Found, String> {
        let Self { most, cases, shrink, alike } = self;
        let cases = Cases { cases, failure_persistence: None, max_shrink_iters: shrink, ..Cases::default() };
        let mut runner = if alike {
            TestRunner::new_with_rng(cases, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
        } else {
            TestRunner::new(cases)
        };
        let outcome = runner.run(&operations(world.clone(), most), |operations| match differs(&operations) {
            None => Ok(()),
            Some(difference) => Err(TestCaseError::fail(difference.to_string())),
        });
        match outcome {
            Ok(()) => Ok(None),
            Err(TestError::Fail(first, least)) => {
                let least = shorten(least, |operations| differs(operations).is_some());
                let difference = differs(&least).ok_or_else(|| format!("it differs no more: {first}"))?;
                Ok(Some((least, difference)))
            }
            Err(TestError::Abort(why)) => Err(why.to_string()),
        }
    }
}

/// How closely a device is held to the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// To every choice the reference makes: a device that is to make the same.
    Strictly,
    /// To what the specification says. Operations whose outcome it leaves open are left out, and of rejected requests it is compared that
    /// they are, not with which status: where two things are wrong with a request, either can be told.
    Loosely,
}

/// Where two devices differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which operation, from 0; as many as there are if it showed in the end, when every page was looked at.
    pub number: usize,
    /// The operations up to it, as text.
    pub story: Vec<String>,
    /// What differs.
    pub what: String,
    /// The request, in words of 32 bits; empty if it is none.
    pub request: String,
    /// What the device does.
    pub device: String,
    /// What the reference does.
    pub reference: String,
}

impl std::error::Error for Difference {}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, line) in self.story.iter().enumerate() {
            writeln!(f, "{number:>4}  {line}")?;
        }
        writeln!(f, "{} differs", self.what)?;
        if !self.request.is_empty() {
            writeln!(f, "  request    {}", self.request)?;
        }
        writeln!(f, "  device     {}", self.device)?;
        write!(f, "  reference  {}", self.reference)
    }
}

/// Does the operations on both, from a reset of the system on, and compares what can be seen after each.
///
/// # Errors
/// The first difference.
pub fn run(
    device: &mut dyn Device,
    reference: &mut Reference,
    world: &World,
    operations: &[Operation],
    held: Held,
) -> Result<(), Box<Difference>> {
    let offered = reference.offered();
    let mut both = Both { device, reference, world, held, accept: u64::MAX, offered };
    let differs = |number: usize, seen: Seen| {
        let story = operations.iter().take(number + 1).map(ToString::to_string).collect();
        let request = operations.get(number).and_then(Operation::request);
        let request = request.map(|(readable, writable)| format!("{} + {writable} writable", words(&readable)));
        let Seen { what, device, reference } = seen;
        Box::new(Difference { number, story, what, request: request.unwrap_or_default(), device, reference })
    };
    both.begin().map_err(|seen| differs(0, seen))?;
    for (number, operation) in operations.iter().enumerate() {
        if held == Held::Loosely && both.open(operation) {
            continue;
        }
        both.one(operation).and_then(|()| both.around()).map_err(|seen| differs(number, seen))?;
    }
    both.pages().map_err(|seen| differs(operations.len(), seen))
}

struct Seen {
    what: String,
    device: String,
    reference: String,
}

struct Both<'a> {
    device: &'a mut dyn Device,
    reference: &'a mut Reference,
    world: &'a World,
    held: Held,
    accept: u64,
    offered: u64,
}

fn same<T: PartialEq>(what: impl ToString, device: T, reference: T, text: impl Fn(&T) -> String) -> Result<(), Seen> {
    if device == reference {
        return Ok(());
    }
    Err(Seen { what: what.to_string(), device: text(&device), reference: text(&reference) })
}

fn broken(what: &str, device: Option<&Broken>, reference: Option<&Broken>) -> Result<(), Seen> {
    same(what, device.is_some(), reference.is_some(), |_| String::new()).map_err(|_| {
        let text = |it: Option<&Broken>| it.map_or_else(|| "goes on".to_owned(), ToString::to_string);
        Seen { what: what.to_owned(), device: text(device), reference: text(reference) }
    })
}

/// How many bytes at either end of a page have something in them.
const EDGE: usize = 16;

impl Both<'_> {
    fn begin(&mut self) -> Result<(), Seen> {
        let how = Fresh { accept: self.accept };
        let (one, two) = (self.device.fresh(how), self.reference.fresh(how));
        broken("what a reset of the system does", one.as_ref().err(), two.as_ref().err())?;
        same("what is offered", self.device.offered(), self.reference.offered(), |it| {
            bytes::feature_names(*it).join(" ")
        })?;
        for (n, at) in self.edges().enumerate() {
            let fill: Vec<u8> = (0..EDGE).map(|i| (n * EDGE + i) as u8 % 0x80 + 1).collect();
            let (one, two) = (self.device.ram_write(at, &fill), self.reference.ram_write(at, &fill));
            broken("guest memory", one.as_ref().err(), two.as_ref().err())?;
        }
        Ok(())
    }
    /// The first and the last bytes of the pages of guest memory.
    fn edges(&self) -> impl Iterator<Item = u64> + use<> {
        let (granule, world) = (self.world.granule.max(EDGE as u64), self.world);
        let pages: Vec<u64> = world.phys.iter().take(world.memory).copied().collect();
        pages.into_iter().flat_map(move |page| [page, page + granule - EDGE as u64])
    }

    fn one(&mut self, operation: &Operation) -> Result<(), Seen> {
        if let Some((readable, writable)) = operation.request() {
            let one = self.device.handle(&readable, writable);
            let two = Device::handle(self.reference, &readable, writable);
            broken("what becomes of the device", one.as_ref().err(), two.as_ref().err())?;
            let (Ok(one), Ok(two)) = (one, two) else { return Ok(()) };
            if self.held == Held::Loosely && !done(&one) && !done(&two) {
                return Ok(());
            }
            return same("the reply", written(one), written(two), reply);
        }
        match operation {
            Operation::Write { endpoint, iova, data } if self.device.does_dma(*endpoint) => {
                let one = self.device.dma_write(*endpoint, *iova, data);
                let two = self.reference.dma_write(*endpoint, *iova, data);
                broken("a write by DMA", one.as_ref().err(), two.as_ref().err())
            }
            Operation::Read { endpoint, iova, bytes } => self.read(*endpoint, *iova, *bytes),
            Operation::Config { offset, data } => {
                self.device.write_config(*offset, data);
                self.reference.write_config(*offset, data);
                Ok(())
            }
            Operation::Buffer { bytes } if self.device.can().events => {
                let (one, two) = (self.device.event_buffer(*bytes), self.reference.event_buffer(*bytes));
                broken("an event buffer", one.as_ref().err(), two.as_ref().err())
            }
            Operation::Reset { accept } => {
                self.accept = *accept;
                let how = Fresh { accept: *accept };
                let (one, two) = (self.device.reset(how), self.reference.reset(how));
                broken("what a reset of the device does", one.as_ref().err(), two.as_ref().err())
            }
            Operation::Fresh { accept } => {
                self.accept = *accept;
                self.begin()
            }
            _ => Ok(()),
        }
    }
    fn read(&mut self, endpoint: u32, iova: u64, bytes: usize) -> Result<(), Seen> {
        if !self.device.does_dma(endpoint) {
            return Ok(());
        }
        let (one, two) = (self.device.dma_read(endpoint, iova, bytes), self.reference.dma_read(endpoint, iova, bytes));
        broken("a read by DMA", one.as_ref().err(), two.as_ref().err())?;
        let (Ok(mut one), Ok(two)) = (one, two) else { return Ok(()) };
        for (one, two) in one.iter_mut().zip(&two) {
            // where the reference reads nothing, the device may have anything but what is in memory: of which no byte is this large
            if *two == CANARY && (*one == 0 || *one > 0x80) {
                *one = CANARY;
            }
        }
        same(format_args!("what endpoint {endpoint:#x} reads at {iova:#x}"), one, two, |it| words(it))
    }

    /// What can be seen at any time: the configuration, the events, guest memory.
    fn around(&mut self) -> Result<(), Seen> {
        let offered = self.offered;
        let config = |device: &mut dyn Device| {
            let mut all = [0; bytes::Config::SIZE];
            device.read_config(0, &mut all);
            let mut it = bytes::Config::parse(&all);
            // what is not offered holds whatever it holds
            if offered & bytes::F_INPUT_RANGE == 0 {
                it.input_range = (0, 0);
            }
            if offered & bytes::F_DOMAIN_RANGE == 0 {
                it.domain_range = (0, 0);
            }
            if offered & bytes::F_PROBE == 0 {
                it.probe_size = 0;
            }
            if offered & bytes::F_BYPASS_CONFIG == 0 {
                it.bypass = 0;
            }
            it
        };
        let (one, two) = (config(self.device), config(self.reference));
        same("the configuration", one, two, |it| format!("{it:x?}"))?;
        if self.device.can().events {
            let (one, two) = (self.device.events(), self.reference.events());
            broken("the event queue", one.as_ref().err(), two.as_ref().err())?;
            let told = |list: Vec<Reply>| list.into_iter().map(written).collect::<Vec<_>>();
            if let (Ok(one), Ok(two), Held::Strictly) = (one, two, self.held) {
                same("the event queue", told(one), told(two), |list| {
                    if list.is_empty() {
                        "nothing".to_owned()
                    } else {
                        list.iter().map(event).collect::<Vec<_>>().join(", ")
                    }
                })?;
            }
        }
        for at in self.edges() {
            let (one, two) = (self.device.ram_read(at, EDGE), self.reference.ram_read(at, EDGE));
            broken("guest memory", one.as_ref().err(), two.as_ref().err())?;
            same(format_args!("guest memory at {at:#x}"), one.ok(), two.ok(), |it| {
                it.as_ref().map_or_else(String::new, |it| words(it))
            })?;
        }
        Ok(())
    }

    /// What every endpoint reads of every page, at both its ends.
    fn pages(&mut self) -> Result<(), Seen> {
        for &endpoint in self.world.endpoints.iter().rev().skip(1) {
            for &page in &self.world.pages {
                self.read(endpoint, page, 1)?;
                self.read(endpoint, page.wrapping_add(self.world.granule).wrapping_sub(1), 1)?;
            }
            self.around()?;
        }
        Ok(())
    }

    /// Whether the specification leaves open what the operation does, now.
    fn open(&self, operation: &Operation) -> bool {
        match operation {
            Operation::Request { request, .. } => match request {
                // again to the same domain; beside another endpoint (5.13.6.3.2 MAY); a flag that was not negotiated
                Request::Attach(it) => self.reference.attaches_openly(it.domain, it.endpoint),
                // 5.13.6.4.2 MAY
                Request::Detach(it) => !self.reference.is_attached(it.endpoint, it.domain) && self.exists(it.endpoint),
                Request::Map(it) => {
                    // 5.13.6.5 has no status for these; memory that is not there is the host's affair
                    let memory = &self.world.phys[..self.world.memory.min(self.world.phys.len())];
                    let room = self.world.granule * 4;
                    it.virt_end <= it.virt_start
                        || it.virt_end - it.virt_start >= room
                        || !memory.iter().any(|page| it.phys_start & !(self.world.granule - 1) == *page)
                        || it.flags & (bytes::MAP_READ | bytes::MAP_WRITE) == 0
                }
                // 5.13.6.6.2 MAY
                Request::Unmap(it) => it.reserved != [0; 4] || it.virt_end < it.virt_start,
                Request::Probe(_) => false,
            },
            Operation::Raw { .. } => true,
            // 5.13.4.1: what a driver must not do
            Operation::Config { offset, data } => {
                self.accept & self.offered & bytes::F_BYPASS_CONFIG == 0
                    || *offset != bytes::Config::BYPASS
                    || !matches!(data[..], [0 | 1])
            }
            Operation::Buffer { bytes } => *bytes < bytes::FAULT,
            _ => false,
        }
    }
    fn exists(&self, endpoint: u32) -> bool {
        self.reference.config().endpoints.iter().any(|it| it.id == endpoint)
    }
}

/// Whether the status, which stands at the end of what was written, is OK.
fn done(reply: &Reply) -> bool {
    let used = reply.used as usize;
    used >= bytes::TAIL && reply.buffer.get(used - bytes::TAIL) == Some(&bytes::S_OK)
}

/// The used length, and what it counts: what else may have been written no driver looks at.
fn written(reply: Reply) -> (u32, Vec<u8>) {
    let mut buffer = reply.buffer;
    buffer.truncate(reply.used as usize);
    (reply.used, buffer)
}

fn reply((used, buffer): &(u32, Vec<u8>)) -> String {
    let status = (*used as usize).checked_sub(bytes::TAIL).and_then(|at| buffer.get(at));
    let status = status.map_or_else(|| "no status".to_owned(), |status| bytes::status_name(*status));
    format!("used {used}, {status}: {}", words(buffer))
}

fn event((used, buffer): &(u32, Vec<u8>)) -> String {
    bytes::Fault::parse(buffer).map_or_else(|| format!("used {used}"), |fault| format!("{fault:x?}"))
}

fn words(bytes: &[u8]) -> String {
    let word = |bytes: &[u8]| match bytes.try_into() {
        Ok(whole) => format!("{:08x}", u32::from_le_bytes(whole)),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join("."),
    };
    bytes.chunks(4).map(word).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { request, .. } => story(request, f),
            Self::Raw { readable, writable } => match Request::parse(readable) {
                Some(request) => {
                    story(&request, f)?;
                    write!(f, " of {} readable and {writable} writable bytes", readable.len())
                }
                None => write!(f, "request({}; {writable} writable bytes)", words(readable)),
            },
            Self::Write { endpoint, iova, data } => {
                write!(f, "write(endpoint={endpoint:#x}, {iova:#x}, {} bytes of {:#x})", data.len(), pick(data, 0))
            }
            Self::Read { endpoint, iova, bytes } => write!(f, "read(endpoint={endpoint:#x}, {iova:#x}, {bytes} bytes)"),
            Self::Config { offset: bytes::Config::BYPASS, data } if data.len() == 1 => {
                write!(f, "bypass = {}", pick(data, 0))
            }
            Self::Config { offset, data } => write!(f, "config[{offset}] = {}", words(data)),
            Self::Buffer { bytes } => write!(f, "event buffer({bytes} bytes)"),
            Self::Reset { accept } => write!(f, "reset{}", Taking(*accept)),
            Self::Fresh { accept } => write!(f, "reset of the system{}", Taking(*accept)),
        }
    }
}

struct Taking(u64);

impl fmt::Display for Taking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = bytes::feature_names(!self.0 & bytes::F_ALL);
        if refused.is_empty() { Ok(()) } else { write!(f, ", without {}", refused.join(" ")) }
    }
}

fn story(request: &Request, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (name, head) = match request {
        Request::Attach(it) => ("attach", it.head),
        Request::Detach(it) => ("detach", it.head),
        Request::Map(it) => ("map", it.head),
        Request::Unmap(it) => ("unmap", it.head),
        Request::Probe(it) => ("probe", it.head),
    };
    write!(f, "{name}(")?;
    let reserved = match request {
        Request::Attach(it) => {
            write!(f, "endpoint={:#x}, domain={}", it.endpoint, it.domain)?;
            if it.flags & bytes::ATTACH_BYPASS != 0 {
                write!(f, ", bypass")?;
            }
            if it.flags & !bytes::ATTACH_BYPASS != 0 {
                write!(f, ", flags={:#x}", it.flags)?;
            }
            it.reserved.to_vec()
        }
        Request::Detach(it) => {
            write!(f, "endpoint={:#x}, domain={}", it.endpoint, it.domain)?;
            it.reserved.to_vec()
        }
        Request::Map(it) => {
            write!(f, "domain={}, {:#x}..={:#x} -> {:#x}, ", it.domain, it.virt_start, it.virt_end, it.phys_start)?;
            f.write_str(if it.flags & bytes::MAP_READ == 0 { "-" } else { "r" })?;
            f.write_str(if it.flags & bytes::MAP_WRITE == 0 { "-" } else { "w" })?;
            if it.flags & bytes::MAP_MMIO != 0 {
                write!(f, ", mmio")?;
            }
            if it.flags & !7 != 0 {
                write!(f, ", flags={:#x}", it.flags)?;
            }
            Vec::new()
        }
        Request::Unmap(it) => {
            write!(f, "domain={}, {:#x}..={:#x}", it.domain, it.virt_start, it.virt_end)?;
            it.reserved.to_vec()
        }
        Request::Probe(it) => {
            write!(f, "endpoint={:#x}", it.endpoint)?;
            it.reserved.to_vec()
        }
    };
    if reserved.iter().any(|byte| *byte != 0) {
        write!(f, ", reserved={}", words(&reserved))?;
    }
    if head.reserved != [0; 3] {
        write!(f, ", head.reserved={}", words(&head.reserved))?;
    }
    f.write_str(")")
}
