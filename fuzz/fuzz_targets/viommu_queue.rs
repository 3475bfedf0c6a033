#![no_main]

use bartender_fuzz::iommu::{Bytes, made, ours, reference};
use conformance::{
    random::{BYTES, Operation, World},
    reference::Reference,
};
use libfuzzer_sys::fuzz_target;
use viommu::{
    EndpointId, Iova,
    access::Kind,
    event::FaultReport,
    queue::{EventQueue, RequestQueue},
    suite::Under,
    translate::Reason,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

// Guest memory with rings in it, and a driver that writes there what it likes. After each step all of memory is what virtio and the
// reference say: the walk of the rings is done here once more, on a copy.

/// Guest memory: two regions that touch, and one apart.
const REGIONS: [(usize, usize); 3] = [(0, 0x6000), (0x6000, 0x9000), (0xc000, 0xe000)];
const SIZE: usize = 0xe000;
const BUFFERS: u16 = 0x4000;
/// What `queue` allows; said again here.
const DESCRIPTORS: usize = 1024;
const READ: usize = 72;

thread_local! {
    static MEMORY: GuestMemoryMmap = GuestMemoryMmap::from_ranges(
        &REGIONS.map(|(first, end)| (GuestAddress(first as u64), end - first)),
    )
    .unwrap();
}

/// Guest memory as it should be. Where there is none, there are zeroes that nobody reads.
struct Image(Vec<u8>);

impl Image {
    fn is_memory(at: u64, len: usize) -> bool {
        let whole = |at: usize| REGIONS.iter().any(|(first, end)| (*first..*end).contains(&at));
        (0..len as u64).all(|i| at.checked_add(i).is_some_and(|at| at < SIZE as u64 && whole(at as usize)))
    }
    fn read(&self, at: u64, len: usize) -> Option<&[u8]> {
        Self::is_memory(at, len).then(|| if len == 0 { &[][..] } else { &self.0[at as usize..at as usize + len] })
    }
    fn write(&mut self, at: u64, bytes: &[u8]) -> bool {
        let there = Self::is_memory(at, bytes.len());
        if there && !bytes.is_empty() {
            self.0[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }
        there
    }
    fn le16(&self, at: u64) -> Option<u16> {
        Some(u16::from_le_bytes(self.read(at, 2)?.try_into().ok()?))
    }
    fn of(mem: &GuestMemoryMmap) -> Self {
        let mut all = vec![0; SIZE];
        for (first, end) in REGIONS {
            mem.read_slice(&mut all[first..end], GuestAddress(first as u64)).unwrap();
        }
        Self(all)
    }
}

/// Where a queue is, and how far the device has come.
#[derive(Clone, Copy)]
struct Rings {
    size: u16,
    table: u64,
    available: u64,
    used: u64,
    event_idx: bool,
    next: u16,
    done: u16,
}

/// What is next on a queue.
enum Next {
    Nothing,
    /// The queue is broken.
    Broken,
    /// A chain, and what is in it if it is well formed.
    Chain(u16, Option<Chain>),
}

#[derive(Default)]
struct Chain {
    readable: Vec<u8>,
    /// Where each device-writable byte is, as far as the longest reply reaches.
    writable: Vec<u64>,
    /// How many are device-writable.
    count: usize,
    /// Whether there was a device-writable descriptor, be it of nothing.
    turned: bool,
}

impl Rings {
    fn is_memory(&self) -> bool {
        let size = usize::from(self.size);
        let parts = [(self.table, 16 * size), (self.available, 6 + 2 * size), (self.used, 6 + 8 * size)];
        parts.iter().all(|(at, len)| Image::is_memory(*at, *len))
    }
    fn queue(&self) -> Queue {
        let mut queue = Queue::new(self.size).unwrap();
        queue.try_set_desc_table_address(GuestAddress(self.table)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(self.available)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(self.used)).unwrap();
        queue.set_event_idx(self.event_idx);
        queue.set_ready(true);
        queue
    }
    /// The chain is given back, with those bytes.
    fn give_back(&mut self, image: &mut Image, head: u16, chain: Option<&Chain>, bytes: &[u8]) {
        if let Some(chain) = chain {
            for (at, byte) in chain.writable.iter().zip(bytes) {
                assert!(image.write(*at, &[*byte]));
            }
        }
        let element = [u32::from(head).to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
        assert!(image.write(self.used + 4 + 8 * u64::from(self.done % self.size), &element));
        (self.next, self.done) = (self.next.wrapping_add(1), self.done.wrapping_add(1));
        assert!(image.write(self.used + 2, &self.done.to_le_bytes()));
    }
    /// The driver is told where to notify again. Whether there is more already.
    fn listen(&self, image: &mut Image) -> bool {
        if self.event_idx {
            assert!(image.write(self.used + 4 + 8 * u64::from(self.size), &self.next.to_le_bytes()));
        } else {
            assert!(image.write(self.used, &[0, 0]));
        }
        image.le16(self.available + 2) != Some(self.next)
    }
    /// Whether the driver wants to hear of what was used since `done` was that (2.7.7.2).
    fn notifies(&self, image: &Image, before: u16) -> bool {
        if self.event_idx {
            let event = image.le16(self.available + 4 + 2 * u64::from(self.size)).unwrap();
            event.wrapping_sub(before) < self.done.wrapping_sub(before)
        } else {
            self.done != before && image.le16(self.available).unwrap() & 1 == 0
        }
    }
    fn next(&self, image: &Image, longest: usize) -> Next {
        if !self.is_memory() {
            return Next::Broken;
        }
        let Some(index) = image.le16(self.available + 2) else { return Next::Broken };
        let waiting = index.wrapping_sub(self.next);
        if waiting == 0 {
            return Next::Nothing;
        }
        // virtio-queue takes 0 for an address that was not set.
        if waiting > self.size || self.available == 0 {
            return Next::Broken;
        }
        let Some(head) = image.le16(self.available + 4 + 2 * u64::from(self.next % self.size)) else {
            return Next::Broken;
        };
        if head >= self.size {
            return Next::Broken;
        }
        Next::Chain(head, self.walk(image, head, longest))
    }
    /// Nothing of a chain that is no request.
    fn walk(&self, image: &Image, head: u16, longest: usize) -> Option<Chain> {
        let mut chain = Chain::default();
        let (mut table, mut entries, mut index) = (self.table, u32::from(self.size), u32::from(head));
        let (mut direct, mut in_this, mut seen, mut bytes) = (true, 0, 0, 0_u64);
        loop {
            if index >= entries || in_this == entries {
                return None;
            }
            let raw = image.read(table.checked_add(16 * u64::from(index))?, 16)?;
            let at = u64::from_le_bytes(raw[..8].try_into().unwrap());
            let len = u32::from_le_bytes(raw[8..12].try_into().unwrap());
            let [flags, next] = [12, 14].map(|i| u16::from_le_bytes(raw[i..i + 2].try_into().unwrap()));
            if flags & 4 != 0 {
                if !direct || len % 16 != 0 || len / 16 > 0xffff {
                    return None;
                }
                (direct, table, entries, index, in_this) = (false, at, len / 16, 0, 0);
                continue;
            }
            (in_this, seen, bytes) = (in_this + 1, seen + 1, bytes + u64::from(len));
            if bytes > u64::from(u32::MAX) || seen > DESCRIPTORS {
                return None;
            }
            if flags & 2 != 0 {
                let touched = (len as usize).min(longest.saturating_sub(chain.count));
                if !Image::is_memory(at, touched) {
                    return None;
                }
                chain.writable.extend((0..touched as u64).map(|i| at + i));
                chain.count += len as usize;
            } else {
                if chain.turned {
                    return None;
                }
                let touched = (len as usize).min(READ - chain.readable.len());
                chain.readable.extend(image.read(at, touched)?);
            }
            chain.turned |= flags & 2 != 0;
            if flags & 1 == 0 {
                return Some(chain);
            }
            index = u32::from(next);
        }
    }
}

/// The driver and its machine.
struct Machine<'a> {
    mem: &'a GuestMemoryMmap,
    ours: Under,
    reference: Reference,
    world: World,
    longest: usize,
    events: usize,
    requests: (Rings, RequestQueue),
    faults: (Rings, EventQueue),
    /// Reports that wait.
    waiting: Vec<[u8; 24]>,
}

impl Machine<'_> {
    fn poke(&self, at: u64, bytes: &[u8]) {
        if Image::is_memory(at, bytes.len()) {
            self.mem.write_slice(bytes, GuestAddress(at)).unwrap();
        }
    }
    fn descriptor(&self, table: u64, index: u16, at: u64, len: u32, flags: u16, next: u16) {
        let bytes = [&at.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat();
        self.poke(table + 16 * u64::from(index), &bytes);
    }
    fn offer(&self, rings: &Rings, head: u16) {
        let index = Image::of(self.mem).le16(rings.available + 2).unwrap_or(0);
        self.poke(rings.available + 4 + 2 * u64::from(index % rings.size), &head.to_le_bytes());
        self.poke(rings.available + 2, &index.wrapping_add(1).to_le_bytes());
    }
    /// A request as a driver makes it, cut somehow.
    fn request(&self, from: &mut Bytes<'_>) {
        let rings = self.requests.0;
        let Some((readable, writable)) = Operation::of(&self.world, from.take::<BYTES>()).request() else { return };
        let [layout, place, cut] = from.take();
        let (source, target) = (u64::from(BUFFERS) + 16 * u64::from(place), 0x6000 - u64::from(cut));
        self.poke(source, &readable);
        self.poke(target, &vec![0xa5; writable.min(0x800)]);
        let mut pieces = Vec::new();
        for (at, all, flags, pieces_of) in
            [(source, readable.len(), 0, layout & 3), (target, writable, 2, layout >> 2 & 3)]
        {
            let first = (usize::from(cut) % (all + 1)).min(all);
            match pieces_of {
                0 => pieces.push((at, all, flags)),
                1 => pieces.extend([(at, first, flags), (at + first as u64, all - first, flags)]),
                2 => pieces.extend((0..all as u64).map(|i| (at + i, 1, flags))),
                _ => pieces.extend([(at, first, flags), (0, 0, flags), (at + first as u64, all - first, flags)]),
            }
        }
        let indirect = layout & 16 != 0 || pieces.len() > usize::from(rings.size);
        let head = u16::from(layout >> 5) % rings.size;
        let table = if indirect { 0xc000 } else { rings.table };
        let of = |i: usize| if indirect { i as u16 } else { (head + i as u16) % rings.size };
        for (i, &(at, len, flags)) in pieces.iter().enumerate() {
            let next = u16::from(i + 1 < pieces.len());
            self.descriptor(table, of(i), at, len as u32, flags | next, of(i + 1));
        }
        if indirect {
            self.descriptor(rings.table, head, 0xc000, 16 * pieces.len() as u32, 4, 0);
        }
        self.offer(&rings, head);
    }
    /// The device does its requests. Whether it can go on.
    fn process(&mut self, budget: usize) -> bool {
        let mut image = Image::of(self.mem);
        let (rings, queue) = &mut self.requests;
        let before = rings.done;
        let (mut used, mut malformed, mut more) = (0, 0, false);
        let broken = 'all: loop {
            let begun = used;
            while used < budget {
                match rings.next(&image, self.longest) {
                    Next::Nothing => break,
                    Next::Broken => break 'all true,
                    Next::Chain(head, None) => {
                        rings.give_back(&mut image, head, None, &[]);
                        malformed += 1;
                    }
                    Next::Chain(head, Some(chain)) => {
                        let reply = self.reference.handle(&chain.readable, chain.count.min(self.longest + 8));
                        let written = &reply.buffer[..reply.used as usize];
                        rings.give_back(&mut image, head, Some(&chain), written);
                    }
                }
                used += 1;
            }
            if !rings.is_memory() {
                break true;
            }
            more = rings.listen(&mut image);
            if !more || used >= budget || used == begun {
                break false;
            }
        };
        let done = queue.process(self.mem, &mut self.ours.device, &mut self.ours.host, budget);
        assert!(image.0 == Image::of(self.mem).0, "guest memory is not what it should be");
        assert_eq!(done.is_err(), broken, "{done:?}");
        let Ok(done) = done else { return false };
        assert_eq!((done.used, done.malformed, done.more), (used, malformed, more));
        assert_eq!(done.notify, rings.notifies(&image, before));
        true
    }
    /// An endpoint reads, which is a fault, whatever the device thinks of it.
    fn fault(&mut self, endpoint: u32, at: u64) {
        let id = EndpointId(endpoint);
        let report =
            FaultReport { reason: Reason::Mapping, endpoint: id, access: Some(Kind::Read), address: Some(Iova(at)) };
        let _ = self.ours.device.fault(report);
        if self.waiting.len() < self.events {
            let head = [2_u32, 0x101, endpoint, 0].map(u32::to_le_bytes).concat();
            self.waiting.push([head, at.to_le_bytes().to_vec()].concat().try_into().unwrap());
        }
    }
    /// The device reports its faults. Whether it can go on.
    fn report(&mut self) -> bool {
        let mut image = Image::of(self.mem);
        let (rings, queue) = &mut self.faults;
        let before = rings.done;
        let (mut events, mut unfit, mut more) = (0, 0, false);
        let mut broken = !rings.is_memory();
        while !broken && let Some(report) = self.waiting.first() {
            match rings.next(&image, 24) {
                Next::Nothing => {
                    more = rings.listen(&mut image);
                    break;
                }
                Next::Broken => broken = true,
                Next::Chain(..) if unfit >= usize::from(rings.size) => {
                    more = true;
                    break;
                }
                Next::Chain(head, Some(chain)) if chain.readable.is_empty() && chain.count >= 24 => {
                    rings.give_back(&mut image, head, Some(&chain), report);
                    self.waiting.remove(0);
                    events += 1;
                }
                Next::Chain(head, _) => {
                    rings.give_back(&mut image, head, None, &[]);
                    unfit += 1;
                }
            }
        }
        let done = queue.report(self.mem, &mut self.ours.device);
        assert!(image.0 == Image::of(self.mem).0, "guest memory is not what it should be");
        assert_eq!(done.is_err(), broken, "{done:?}");
        let Ok(done) = done else { return false };
        assert_eq!((done.events, done.unfit, done.more), (events, unfit, more));
        assert_eq!(done.notify, rings.notifies(&image, before));
        true
    }
    fn step(&mut self, from: &mut Bytes<'_>) -> bool {
        let kind = from.byte();
        let rings = if kind & 0x80 == 0 { self.requests.0 } else { self.faults.0 };
        match kind % 16 {
            0..=5 => self.request(from),
            6 => {
                // A buffer for events, or something like it.
                let [place, len, flags, index] = from.take();
                let (at, index) = (u64::from(BUFFERS) + 8 * u64::from(place), u16::from(index) % self.faults.0.size);
                let len = if len < 128 { 24 } else { u32::from(len) };
                let flags = if flags < 224 { 2 } else { u16::from(flags) };
                self.descriptor(self.faults.0.table, index, at, len, flags, index);
                self.offer(&self.faults.0, index);
            }
            7 => {
                let index = u16::from(from.byte()) % rings.size;
                let at = if from.byte() % 4 == 0 { u64::from_le_bytes(from.take()) } else { u64::from(from.word()) };
                let len = if from.byte() % 4 == 0 { u32::from_le_bytes(from.take()) } else { u32::from(from.byte()) };
                let (flags, next) = (u16::from(from.byte() % 8), u16::from(from.byte()));
                let table = if from.byte() % 2 == 0 { rings.table } else { 0xc000 };
                self.descriptor(table, index, at, len, flags, next);
            }
            8 => self.offer(&rings, u16::from(from.byte()) % (rings.size + 1)),
            9 => {
                let (at, what) = (u64::from(from.word()), from.take::<4>());
                self.poke(at, &what[..1 + usize::from(from.byte() % 4)]);
            }
            10 => {
                let endpoint = self.world.endpoints[usize::from(from.byte()) % (self.world.endpoints.len() - 1)];
                self.fault(endpoint, u64::from(from.word()) << 12);
            }
            11 => return self.report(),
            12 => {
                let index = if from.byte() % 8 == 0 { from.word() } else { u16::from(from.byte()) };
                self.poke(rings.available + if from.byte() % 2 == 0 { 0 } else { 2 }, &index.to_le_bytes());
            }
            13 => self.poke(rings.available + 4 + 2 * u64::from(rings.size), &from.take::<2>()),
            _ => return self.process(usize::from(from.byte() % 5)),
        }
        true
    }
}

/// Where the rings of a queue are; where they should be, or anywhere.
fn rings(from: &mut Bytes<'_>, base: u64, most: u8) -> Rings {
    let kind = from.byte();
    let place = |from: &mut Bytes<'_>, there: u64, align: u64| {
        if kind & 0x80 == 0 { base + there } else { (u64::from(from.word()) + 0x8) & !(align - 1) }
    };
    Rings {
        size: 1 << (kind % most),
        table: place(from, 0, 16),
        available: place(from, 0x800, 2),
        used: place(from, 0xa00, 4),
        event_idx: kind & 0x40 != 0,
        next: 0,
        done: 0,
    }
}

fuzz_target!(|data: &[u8]| {
    MEMORY.with(|mem| {
        for (first, end) in REGIONS {
            mem.write_slice(&vec![0; end - first], GuestAddress(first as u64)).unwrap();
        }
        let mut from = Bytes(data);
        let made = made(&mut from);
        let (requests, faults) = (rings(&mut from, 0x1000, 7), rings(&mut from, 0x2000, 5));
        let mut ours = ours(&made, 0);
        ours.accept(u64::MAX).unwrap();
        let mut machine = Machine {
            mem,
            ours,
            reference: reference(&made, u64::MAX),
            world: World::of(&made),
            longest: made.probe_size as usize + 4,
            events: made.limits.events,
            requests: (requests, RequestQueue::new(requests.queue())),
            faults: (faults, EventQueue::new(faults.queue())),
            waiting: Vec::new(),
        };
        while !from.is_empty() {
            if !machine.step(&mut from) {
                return;
            }
        }
        if machine.process(64) && machine.report() {
            machine.ours.agrees().unwrap();
            machine.ours.rebuilds().unwrap();
            assert_eq!(machine.ours.host.wrong, None);
        }
    });
});
