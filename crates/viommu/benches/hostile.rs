//! A guest that does its worst, as fast as one core goes, and what it makes the device hold.
//!
//! The requests of each phase are those that cost the device the most memory or time for what they are: every mapping that the limits
//! allow, the smallest there are and none next to another; all unmapped but one here and there, so that what held them is nearly empty;
//! domains that come and go; faults that nobody takes; bytes that are no request. What the process holds (VmRSS, and the most it held
//! in the phase, VmHWM, of /proc/self/status) is put beside what the limits allow: [`bound`]. More is a failure. `maps` is what the device's
//! mappings hold in the end; what the process has more than that, the allocator keeps.
//!
//! The guest here needs no time of its own to speak of: its requests are in the caches, and the effects go to a host that does nothing. What
//! is measured is this device. Beside it: a copy of as many bytes as a request and its reply have, and the same requests through a virtqueue
//! in guest memory, of which a request of an unknown type, which the device gives back unread, is the part that is not the device.
//!
//! `cargo bench -p viommu --features virtqueue --bench hostile` takes a minute; `-- --test` is short, with small limits.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::{fs, hint::black_box, time::Instant};

use viommu::{
    Config, Device, Effect, Endpoint, EndpointId, Host, HostError, Interval, Iova, Map, Translator,
    access::Kind,
    coherency::Coherency,
    endpoint::{Reserved, ReservedKind},
    event::FaultReport,
    limits::Limits,
    queue::RequestQueue,
    translate::Reason,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// What one domain, one endpoint and one fault may cost, without mappings.
const DOMAIN: usize = 4096;
const ENDPOINT: usize = 1024;
const FAULT: usize = 64;
/// What the allocator keeps for itself, and this program: not of the guest's making.
const REST: usize = 4 << 20;

const ENDPOINTS: u32 = 64;
const PAGE: u64 = 0x1000;

/// What a guest can make the process hold, in bytes. A domain holds four times what its mappings need, or what 64 need, and while that is
/// made less, one has both (see `limits`).
fn bound(limits: Limits) -> usize {
    let domains = limits.domains.min(ENDPOINTS as usize);
    let mappings = (4 * limits.mappings).min(limits.mappings_per_domain * domains);
    let maps = <Map>::most_bytes(mappings) + <Map>::most_bytes(limits.mappings_per_domain / 4);
    let small = domains * (<Map>::most_bytes(64) + DOMAIN);
    REST + maps + small + ENDPOINTS as usize * ENDPOINT + limits.events * FAULT
}

/// Does what it is told at once.
struct Willing;
impl Host for Willing {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        black_box(effect);
        Ok(())
    }
}

/// A request: its bytes, and how many are writable.
struct Request {
    bytes: [u8; 72],
    len: usize,
    writable: usize,
}

impl Request {
    fn new(parts: &[&[u8]], writable: usize) -> Self {
        let mut it = Self { bytes: [0; 72], len: 0, writable };
        for part in parts {
            it.bytes[it.len..it.len + part.len()].copy_from_slice(part);
            it.len += part.len();
        }
        it
    }
    fn attach(domain: u32, endpoint: u32) -> Self {
        Self::new(&[&[1, 0, 0, 0], &domain.to_le_bytes(), &endpoint.to_le_bytes(), &[0; 8]], 4)
    }
    fn detach(domain: u32, endpoint: u32) -> Self {
        Self::new(&[&[2, 0, 0, 0], &domain.to_le_bytes(), &endpoint.to_le_bytes(), &[0; 8]], 4)
    }
    fn map(domain: u32, first: u64, last: u64) -> Self {
        let parts: [&[u8]; 6] = [
            &[3, 0, 0, 0],
            &domain.to_le_bytes(),
            &first.to_le_bytes(),
            &last.to_le_bytes(),
            &first.to_le_bytes(),
            &[3, 0, 0, 0],
        ];
        Self::new(&parts, 4)
    }
    fn unmap(domain: u32, first: u64, last: u64) -> Self {
        let parts: [&[u8]; 5] =
            [&[4, 0, 0, 0], &domain.to_le_bytes(), &first.to_le_bytes(), &last.to_le_bytes(), &[0; 4]];
        Self::new(&parts, 4)
    }
    fn probe(endpoint: u32) -> Self {
        Self::new(&[&[5, 0, 0, 0], &endpoint.to_le_bytes(), &[0; 64]], PROBE_SIZE as usize + 4)
    }
}

const PROBE_SIZE: u32 = 512;

fn device(limits: Limits) -> Device {
    let mut device =
        Device::new(Config { probe_size: PROBE_SIZE, page_size_mask: !0 << 12, limits, ..Config::default() }).unwrap();
    for id in 0..ENDPOINTS {
        let msi =
            Reserved { at: Interval::new(Iova(0xfee0_0000), Iova(0xfeef_ffff)).unwrap(), kind: ReservedKind::Msi };
        let endpoint = Endpoint { id: EndpointId(id), reserved: vec![msi], coherency: Coherency::default() };
        let _ = device.add_endpoint(endpoint).unwrap();
    }
    let offered = device.features();
    let _ = device.accept(offered).unwrap();
    device
}

/// VmRSS and VmHWM, in bytes; nothing but on Linux.
fn memory() -> Option<(usize, usize)> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib << 10)
    };
    Some((of("VmRSS:")?, of("VmHWM:")?))
}

/// What came of a phase.
#[derive(Default)]
struct Tally {
    requests: u64,
    ok: u64,
    full: u64,
}

impl Tally {
    fn ask(&mut self, device: &mut Device, request: &Request) -> bool {
        let reply = device.handle_with(black_box(&request.bytes[..request.len]), request.writable, &mut Willing);
        self.requests += 1;
        let status = reply.written.len().checked_sub(4).map(|at| reply.written[at]);
        self.ok += u64::from(status == Some(0));
        self.full += u64::from(status == Some(8));
        status == Some(0)
    }
}

/// Every second page, so that no two mappings are neighbours.
fn apart(i: u64) -> u64 {
    (1 << 32) + 2 * PAGE * i
}

/// The same pages in an order that is none. `of` is a power of two, and the factor is odd, so that each comes once.
fn scattered(i: u64, of: u64) -> u64 {
    apart(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % of)
}

struct Guest {
    device: Device,
    limits: Limits,
    /// Of each endpoint.
    translators: Vec<Translator>,
    /// How often the cheap requests of a phase are made.
    times: u64,
    seed: u64,
}

impl Guest {
    fn random(&mut self) -> u64 {
        // xorshift64
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
    /// All endpoints, each to a domain of its own as far as there are.
    fn spread(&mut self, tally: &mut Tally) {
        for id in 0..ENDPOINTS {
            tally.ask(&mut self.device, &Request::attach(id, id));
        }
    }
    /// Domains that there can be.
    fn domains(&self) -> u32 {
        (self.limits.domains as u32).min(ENDPOINTS)
    }
    /// MAP in a domain until it is refused.
    fn fill(&mut self, tally: &mut Tally, domain: u32, at: impl Fn(u64) -> u64) {
        let page = |i| (at(i), at(i) + PAGE - 1);
        let mut pages = (0..).map(page);
        while let Some((first, last)) = pages.next()
            && tally.ask(&mut self.device, &Request::map(domain, first, last))
        {}
    }
    /// UNMAP in a domain, one by one.
    fn thin(&mut self, tally: &mut Tally, domain: u32, goes: impl Fn(u64) -> bool) {
        for i in (0..self.limits.mappings_per_domain as u64).filter(|i| goes(*i)) {
            tally.ask(&mut self.device, &Request::unmap(domain, apart(i), apart(i) + PAGE - 1));
        }
    }
    /// UNMAP of all.
    fn empty(&mut self, tally: &mut Tally) {
        for domain in 0..self.domains() {
            tally.ask(&mut self.device, &Request::unmap(domain, 0, u64::MAX));
        }
    }
}

type Phase = (&'static str, fn(&mut Guest, &mut Tally));

const PHASES: [Phase; 14] = [
    ("MAP in order until NOMEM, all domains", |guest, tally| {
        guest.spread(tally);
        (0..guest.domains()).for_each(|domain| guest.fill(tally, domain, apart));
    }),
    ("... UNMAP every second", |guest, tally| {
        (0..guest.domains()).for_each(|domain| guest.thin(tally, domain, |i| i % 2 == 1));
    }),
    ("... MAP between what is left until NOMEM", |guest, tally| {
        (0..guest.domains()).for_each(|domain| guest.fill(tally, domain, |i| apart(2 * i + 1)));
    }),
    ("... UNMAP all but one in 64", |guest, tally| {
        (0..guest.domains()).for_each(|domain| guest.thin(tally, domain, |i| i % 64 != 0));
    }),
    ("... MAP elsewhere until NOMEM", |guest, tally| {
        (0..guest.domains()).for_each(|domain| guest.fill(tally, domain, |i| (1 << 48) + apart(i)));
    }),
    ("... UNMAP all of a domain in one", |guest, tally| guest.empty(tally)),
    ("MAP until NOMEM, UNMAP 3 of 4, in turn", |guest, tally| {
        for domain in 0..guest.domains() {
            guest.fill(tally, domain, apart);
            // One less than lets the domain give memory back.
            guest.thin(tally, domain, |i| i % 4 != 0 && i != 1);
        }
    }),
    ("MAP, access, UNMAP all, in turn", |guest, tally| {
        guest.empty(tally);
        for domain in 0..guest.domains() {
            guest.fill(tally, domain, apart);
            // Its endpoint is idle from then on: what it has seen last is kept.
            let _ = black_box(guest.translators[domain as usize].translate(Iova(apart(0)), Kind::Read));
            tally.ask(&mut guest.device, &Request::unmap(domain, 0, u64::MAX));
        }
        for translator in &mut guest.translators {
            let _ = black_box(translator.translate(Iova(apart(0)), Kind::Read));
        }
    }),
    ("MAP in no order until NOMEM", |guest, tally| {
        let of = (4 * guest.limits.mappings_per_domain as u64).next_power_of_two();
        (0..guest.domains()).for_each(|domain| guest.fill(tally, domain, |i| scattered(i, of)));
    }),
    ("MAP where there is no room any more", |guest, tally| {
        for i in 0..guest.times {
            let (domain, first) = ((i % u64::from(guest.domains())) as u32, (1 << 52) + PAGE * i);
            tally.ask(&mut guest.device, &Request::map(domain, first, first));
            tally.ask(&mut guest.device, &Request::map(domain, first, first + PAGE - 1));
        }
    }),
    ("ATTACH to new domains, of full ones", |guest, tally| {
        for i in 0..guest.times {
            let endpoint = (i % u64::from(ENDPOINTS)) as u32;
            tally.ask(&mut guest.device, &Request::attach(1000 + i as u32, endpoint));
            tally.ask(&mut guest.device, &Request::map(1000 + i as u32, 0, PAGE - 1));
            if i % 2 == 0 {
                tally.ask(&mut guest.device, &Request::detach(1000 + i as u32, endpoint));
            }
        }
    }),
    ("PROBE", |guest, tally| {
        for i in 0..guest.times {
            tally.ask(&mut guest.device, &Request::probe((i % u64::from(ENDPOINTS + 1)) as u32));
        }
    }),
    ("faults, and no buffers for them", |guest, tally| {
        for i in 0..guest.times {
            let _ = black_box(guest.device.fault(FaultReport {
                reason: Reason::Mapping,
                endpoint: EndpointId((i % u64::from(ENDPOINTS)) as u32),
                access: Some(Kind::Write),
                address: Some(Iova(PAGE * i)),
            }));
            tally.requests += 1;
        }
    }),
    ("garbage", |guest, tally| {
        for _ in 0..guest.times {
            let mut request = Request { bytes: [0; 72], len: (guest.random() % 73) as usize, writable: 0 };
            request.writable = (guest.random() % 600) as usize;
            for chunk in request.bytes.as_chunks_mut().0 {
                // Small numbers are likelier to mean something.
                let value = guest.random();
                *chunk = (value & (u64::MAX >> (guest.random() % 64))).to_le_bytes();
            }
            request.bytes[0] %= 8;
            tally.ask(&mut guest.device, &request);
        }
    }),
];

/// Bytes as people read them.
fn mib(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

fn run(title: &str, limits: Limits, times: u64) {
    println!(
        "{title}: {} mappings, {} of a domain, {} domains, {} events; {ENDPOINTS} endpoints",
        limits.mappings, limits.mappings_per_domain, limits.domains, limits.events
    );
    println!(
        "  {:<40}{:>9}{:>7}{:>9}{:>7}{:>7}{:>7}{:>7}  MiB",
        "", "requests", "M/s", "NOMEM", "ns", "maps", "then", "most"
    );
    // The whole of it, so that what one phase leaves behind is held against the bound together with what the next needs.
    let device = device(limits);
    let translators = (0..ENDPOINTS).map(|id| device.translator(EndpointId(id)).unwrap()).collect();
    let mut guest = Guest { device, limits, translators, times, seed: 0x5eed_5eed };
    let before = memory();
    let allowed = bound(limits);
    let mut most = 0;
    for (name, phase) in PHASES {
        // VmHWM begins anew.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let mut tally = Tally::default();
        let begun = Instant::now();
        phase(&mut guest, &mut tally);
        let took = begun.elapsed();
        let each = took.as_nanos() as f64 / tally.requests as f64;
        let (then, peak) = match (before, memory()) {
            (Some((before, _)), Some((rss, peak))) => {
                most = most.max(peak.saturating_sub(before));
                (mib(rss.saturating_sub(before)), mib(peak.saturating_sub(before)))
            }
            _ => ("?".to_owned(), "?".to_owned()),
        };
        println!(
            "  {name:<40}{:>9}{:>7.2}{:>9}{each:>7.0}{:>7}{then:>7}{peak:>7}",
            tally.requests,
            1e3 / each,
            tally.full,
            mib(guest.device.mapping_bytes()),
        );
    }
    println!("  {:<40}{:>53}", "bound, from the limits", mib(allowed));
    println!();
    assert!(most <= allowed, "{} MiB, and the limits allow {}", mib(most), mib(allowed));
}

/// What a request costs beside what it cannot do without: nanoseconds each.
fn beside(times: u64) {
    let each = |what: &mut dyn FnMut(u64)| {
        (0..times.min(1000)).for_each(&mut *what);
        let begun = Instant::now();
        (0..times).for_each(&mut *what);
        begun.elapsed().as_nanos() as f64 / times as f64
    };
    let limits = Limits::default();
    println!("one request, in ns");

    let (from, mut to) = ([7_u8; 40], [0_u8; 40]);
    let copy = each(&mut |_| black_box(&mut to).copy_from_slice(black_box(&from)));
    println!("  {:<40}{copy:>7.0}", "a copy of its 36 + 4 bytes");

    let place = |i: u64| (1 << 32) + 2 * PAGE * (i % 1024);
    let pair = |i: u64, first: u64| {
        if i.is_multiple_of(2) {
            Request::map(1, first, first + PAGE - 1)
        } else {
            Request::unmap(1, first, first + PAGE - 1)
        }
    };
    let mut direct = device(limits);
    let mut tally = Tally::default();
    assert!(tally.ask(&mut direct, &Request::attach(1, 1)));
    let calls = each(&mut |i| assert!(tally.ask(&mut direct, &pair(i, place(i / 2)))));
    println!("  {:<40}{calls:>7.0}", "MAP or UNMAP, as a call");

    let mem = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x10000)]).unwrap();
    let (table, available, used, buffer) = (0x1000_u64, 0x2000_u64, 0x3000_u64, 0x4000_u64);
    let mut queue = Queue::new(1).unwrap();
    queue.try_set_desc_table_address(GuestAddress(table)).unwrap();
    queue.try_set_avail_ring_address(GuestAddress(available)).unwrap();
    queue.try_set_used_ring_address(GuestAddress(used)).unwrap();
    queue.set_ready(true);
    let mut queue = RequestQueue::new(queue);
    let mut through = device(limits);
    let mut index = 0_u16;
    let tail = buffer + 0x100;
    // A table of two, so that a queue of one descriptor does. What follows a request's last byte is not looked at.
    let descriptors = [
        (table, table + 0x100, 32_u32, 4_u16, 0_u16),
        (table + 0x100, buffer, 72, 1, 1),
        (table + 0x110, tail, 4, 2, 0),
    ];
    for (at, to, len, flags, next) in descriptors {
        let bytes = [&to.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat();
        mem.write_slice(&bytes, GuestAddress(at)).unwrap();
    }
    let mut ask = |request: &Request| {
        mem.write_slice(&request.bytes, GuestAddress(buffer)).unwrap();
        index = index.wrapping_add(1);
        mem.write_obj(index, GuestAddress(available + 2)).unwrap();
        let done = queue.process(&mem, &mut through, &mut Willing, 1).unwrap();
        assert_eq!((done.used, done.malformed), (1, 0));
        mem.read_obj::<u8>(GuestAddress(tail)).unwrap()
    };
    assert_eq!(ask(&Request::attach(1, 1)), 0);
    let queued = each(&mut |i| assert_eq!(ask(&pair(i, place(i / 2))), 0));
    println!("  {:<40}{queued:>7.0}", "the same through a virtqueue");
    let mut unknown = Request::map(1, 0, 0);
    unknown.bytes[0] = 99;
    let empty = each(&mut |_| assert_eq!(ask(&unknown), 0));
    println!("  {:<40}{empty:>7.0}", "an unknown request through a virtqueue");
    println!();
}

fn main() {
    let test = std::env::args().any(|arg| arg == "--test");
    let small = Limits { domains: 16, mappings_per_domain: 4096, mappings: 32768, events: 8 };
    if test {
        beside(2000);
        run("small limits", small, 5000);
    } else {
        beside(2_000_000);
        run("small limits", small, 1_000_000);
        run("the limits by default", Limits::default(), 1_000_000);
    }
}
