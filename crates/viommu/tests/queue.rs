//! The device on virtqueues: what a driver may put there, and what a hostile one does. The driver here writes its rings byte by byte,
//! so that it can do what no library lets it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use viommu::{
    Config, Device, Effect, Endpoint, EndpointId, Host, HostError, Interval, Iova,
    coherency::Coherency,
    effect::DomainId,
    endpoint::{Reserved, ReservedKind},
    queue::{DESCRIPTORS, Error, EventQueue, Malformed, Processed, RequestQueue},
};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const TABLE: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x9_0000;
const USED: u64 = 0xb_0000;
const INDIRECT: u64 = 0x10_0000;
const BUFFERS: u64 = 0x2f_0000;
const WRITABLE: u64 = BUFFERS + 0x1000;
/// Two regions meet here.
const SEAM: u64 = 0x30_0000;
const END: u64 = 0x40_0000;
/// A region with nothing before or after it.
const ISLAND: u64 = 0x80_0000;
const ISLAND_END: u64 = 0x80_1000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const IN_TABLE: u16 = 4;

const OK: u8 = 0;
const DEVERR: u8 = 3;
const NOENT: u8 = 6;
const PROBE_SIZE: usize = 64;
/// What writable bytes are before.
const CANARY: u8 = 0xa5;

fn memory() -> GuestMemoryMmap {
    let regions = [(0, SEAM), (SEAM, END), (ISLAND, ISLAND_END)];
    GuestMemoryMmap::from_ranges(&regions.map(|(first, end)| (GuestAddress(first), (end - first) as usize))).unwrap()
}

/// All of guest memory.
fn image(mem: &GuestMemoryMmap) -> Vec<u8> {
    let mut all = vec![0; (END + ISLAND_END - ISLAND) as usize];
    let (low, island) = all.split_at_mut(END as usize);
    mem.read_slice(low, GuestAddress(0)).unwrap();
    mem.read_slice(island, GuestAddress(ISLAND)).unwrap();
    all
}

/// A host that keeps what it was told, and fails where it is to.
#[derive(Default)]
struct Recorder {
    effects: Vec<Effect>,
    fails: Option<HostError>,
}

impl Host for Recorder {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        if let Some(why) = self.fails {
            return Err(why);
        }
        self.effects.push(*effect);
        Ok(())
    }
}

fn device() -> Device {
    let mut device = Device::new(Config { probe_size: PROBE_SIZE as u32, ..Config::default() }).unwrap();
    let msi = Reserved { at: Interval::new(Iova(0x800_0000), Iova(0x80f_ffff)).unwrap(), kind: ReservedKind::Msi };
    for id in [8, 9] {
        let endpoint = Endpoint { id: EndpointId(id), reserved: vec![msi], coherency: Coherency::default() };
        device.add_endpoint(endpoint).unwrap();
    }
    let offered = device.features();
    device.accept(offered).unwrap();
    device
}

fn attach(domain: u32, endpoint: u32) -> Vec<u8> {
    [&[1, 0, 0, 0][..], &domain.to_le_bytes(), &endpoint.to_le_bytes(), &[0; 8]].concat()
}
fn map(domain: u32, first: u64, last: u64, to: u64) -> Vec<u8> {
    let addresses = [first, last, to].map(u64::to_le_bytes).concat();
    [&[3, 0, 0, 0][..], &domain.to_le_bytes(), &addresses, &3_u32.to_le_bytes()].concat()
}
fn unmap(domain: u32, first: u64, last: u64) -> Vec<u8> {
    let addresses = [first, last].map(u64::to_le_bytes).concat();
    [&[4, 0, 0, 0][..], &domain.to_le_bytes(), &addresses, &[0; 4]].concat()
}
fn probe(endpoint: u32) -> Vec<u8> {
    [&[5, 0, 0, 0][..], &endpoint.to_le_bytes(), &[0; 64]].concat()
}

/// A descriptor: address, length, flags, next.
type Descriptor = (u64, u32, u16, u16);
/// Piece of a buffer: address, length, flags.
type Piece = (u64, u32, u16);

/// The driver's side of a queue.
struct Driver {
    mem: GuestMemoryMmap,
    size: u16,
    available: u16,
    seen: u16,
}

impl Driver {
    fn new(size: u16) -> (Self, Queue) {
        let mut queue = Queue::new(size).unwrap();
        queue.try_set_desc_table_address(GuestAddress(TABLE)).unwrap();
        queue.try_set_avail_ring_address(GuestAddress(AVAILABLE)).unwrap();
        queue.try_set_used_ring_address(GuestAddress(USED)).unwrap();
        queue.set_ready(true);
        (Self { mem: memory(), size, available: 0, seen: 0 }, queue)
    }
    fn write(&self, at: u64, bytes: &[u8]) {
        self.mem.write_slice(bytes, GuestAddress(at)).unwrap();
    }
    fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.mem.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }
    fn descriptor(&self, table: u64, index: u16, (at, len, flags, next): Descriptor) {
        let bytes = [&at.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()].concat();
        self.write(table + 16 * u64::from(index), &bytes);
    }
    /// Descriptors one after another, chained, from that index on.
    fn row(&self, table: u64, from: u16, pieces: &[Piece]) {
        for (index, &(at, len, flags)) in (from..).zip(pieces) {
            let last = usize::from(index - from) + 1 == pieces.len();
            let (flags, next) = if last { (flags, 0xdead) } else { (flags | NEXT, index + 1) };
            self.descriptor(table, index, (at, len, flags, next));
        }
    }
    fn set_available(&mut self, index: u16) {
        self.available = index;
        self.write(AVAILABLE + 2, &index.to_le_bytes());
    }
    /// Puts a chain on the available ring.
    fn offer(&mut self, head: u16) {
        self.write(AVAILABLE + 4 + 2 * u64::from(self.available % self.size), &head.to_le_bytes());
        self.set_available(self.available.wrapping_add(1));
    }
    /// The used elements that came since: chain and length.
    fn used(&mut self) -> Vec<(u32, u32)> {
        let index = u16::from_le_bytes(self.read(USED + 2, 2).try_into().unwrap());
        let mut out = Vec::new();
        while self.seen != index {
            let element = self.read(USED + 4 + 8 * u64::from(self.seen % self.size), 8);
            let [id, len] = [0, 4].map(|at| u32::from_le_bytes(element[at..at + 4].try_into().unwrap()));
            out.push((id, len));
            self.seen = self.seen.wrapping_add(1);
        }
        out
    }
    /// A request in one readable descriptor and one writable, of a table of two.
    fn plain(&mut self, request: &[u8], writable: usize) {
        self.write(BUFFERS, request);
        self.write(WRITABLE, &vec![CANARY; writable]);
        self.row(INDIRECT, 0, &[(BUFFERS, request.len() as u32, 0), (WRITABLE, writable as u32, WRITE)]);
        self.descriptor(TABLE, 0, (INDIRECT, 32, IN_TABLE, 0));
        self.offer(0);
    }
}

/// A driver with a queue, a device and its host.
struct Bench {
    driver: Driver,
    queue: RequestQueue,
    device: Device,
    host: Recorder,
}

impl Bench {
    fn new(size: u16) -> Self {
        let (driver, queue) = Driver::new(size);
        Self { driver, queue: RequestQueue::new(queue), device: device(), host: Recorder::default() }
    }
    fn process(&mut self, budget: usize) -> Result<Processed, Error> {
        self.queue.process(&self.driver.mem, &mut self.device, &mut self.host, budget)
    }
    /// A plain request: its used length and its writable bytes.
    fn ask(&mut self, request: &[u8], writable: usize) -> (u32, Vec<u8>) {
        self.driver.plain(request, writable);
        assert_eq!(self.process(8).unwrap().used, 1);
        let used = self.driver.used();
        assert_eq!(used.len(), 1);
        assert_eq!(used[0].0, 0);
        (used[0].1, self.driver.read(WRITABLE, writable))
    }
    /// That a request gets through: the queue goes on.
    fn goes_on(&mut self) {
        assert_eq!(self.ask(&attach(1, 8), 4), (4, vec![OK, 0, 0, 0]));
    }
}

/// Ways to cut a length into pieces, as the offsets where each ends: in two, in single bytes, and with pieces of nothing.
fn cuts(len: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = (0..=len).map(|at| vec![at, len]).collect();
    all.push((1..=len).collect());
    all.push((0..=2 * len + 1).map(|half| half / 2).collect());
    all
}

fn pieces(base: u64, ends: &[usize], flags: u16) -> Vec<Piece> {
    let starts = [0].iter().chain(ends);
    let lengths = starts.zip(ends).map(|(from, to)| (to - from) as u32);
    // Apart from one another; the last ones across the seam of two regions.
    let stride = 0x48;
    lengths.enumerate().map(|(i, len)| (base + stride * i as u64, len, flags)).collect()
}

fn scatter(driver: &Driver, pieces: &[Piece], mut bytes: &[u8]) {
    for &(at, len, _) in pieces {
        let (now, then) = bytes.split_at(len as usize);
        driver.write(at, now);
        bytes = then;
    }
}
fn gather(driver: &Driver, pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|&(at, len, _)| driver.read(at, len as usize)).collect()
}

#[test]
fn any_layout_is_the_same_request() {
    let requests: [(Vec<u8>, usize); 5] = [
        (attach(1, 8), 4),
        (map(1, 0x1000, 0x1fff, 0xa000), 4),
        (map(1, 0x2000, 0x2fff, 0xb000), 7),
        (probe(8), PROBE_SIZE + 4),
        (unmap(1, 0, 0x2fff), 4),
    ];
    // What each comes to in two descriptors.
    let mut bench = Bench::new(16);
    let expected = requests.each_ref().map(|(request, writable)| bench.ask(request, *writable));
    assert_eq!(expected[3].0 as usize, PROBE_SIZE + 4);
    assert!(expected.iter().all(|(used, bytes)| bytes[*used as usize - 4] == OK));
    for way in ["direct", "indirect", "both"] {
        for nth in 0..=PROBE_SIZE + 10 {
            let mut bench = Bench::new(512);
            for ((request, writable), expected) in requests.iter().zip(&expected) {
                let (read_cuts, write_cuts) = (cuts(request.len()), cuts(*writable));
                // From the end, so that the last two ways come first.
                let readable = pieces(BUFFERS, &read_cuts[read_cuts.len() - 1 - nth % read_cuts.len()], 0);
                let across = &write_cuts[write_cuts.len() - 1 - nth % write_cuts.len()];
                let writable = pieces(SEAM - 3, across, WRITE);
                scatter(&bench.driver, &readable, request);
                scatter(&bench.driver, &writable, &[CANARY; 2 * PROBE_SIZE][..*across.last().unwrap()]);
                let all = [readable, writable.clone()].concat();
                let size = |descriptors: usize| 16 * descriptors as u32;
                match way {
                    "direct" => bench.driver.row(TABLE, 3, &all),
                    "indirect" => {
                        bench.driver.row(INDIRECT, 0, &all);
                        // WRITE does not count here (2.7.5.3.2).
                        bench.driver.descriptor(TABLE, 3, (INDIRECT, size(all.len()), IN_TABLE | WRITE, 0));
                    }
                    _ => {
                        bench.driver.row(INDIRECT, 0, &all[1..]);
                        let (at, len, flags) = all[0];
                        bench.driver.descriptor(TABLE, 3, (at, len, flags | NEXT, 4));
                        bench.driver.descriptor(TABLE, 4, (INDIRECT, size(all.len() - 1), IN_TABLE, 0));
                    }
                }
                bench.driver.offer(3);
                let done = bench.process(8).unwrap();
                assert_eq!((done.used, done.why), (1, None), "{way}, cut {nth}");
                assert_eq!(bench.driver.used(), [(3, expected.0)], "{way}, cut {nth}");
                assert_eq!(gather(&bench.driver, &writable), expected.1, "{way}, cut {nth}");
            }
        }
    }
}

#[test]
fn the_used_length_is_what_was_written() {
    let mut bench = Bench::new(2);
    // The tail does not fit: nothing is done, nothing written.
    for writable in 0..4 {
        assert_eq!(bench.ask(&attach(1, 8), writable), (0, vec![CANARY; writable]));
    }
    // The request is cut short, or unknown, or nothing at all.
    for request in [&attach(1, 8)[..19], &[9; 64], &[1, 0, 0], &[]] {
        assert_eq!(bench.ask(request, 4), (0, vec![CANARY; 4]), "{request:?}");
    }
    assert_eq!(bench.host.effects, []);
    let (used, buffer) = bench.ask(&attach(1, 8), 9);
    assert_eq!((used, &buffer[..4], &buffer[4..]), (4, &[OK, 0, 0, 0][..], &[CANARY; 5][..]));
    assert_eq!(bench.ask(&attach(1, 77), 4), (4, vec![NOENT, 0, 0, 0]));
    let (used, buffer) = bench.ask(&probe(8), PROBE_SIZE + 4 + 100);
    assert_eq!(used as usize, PROBE_SIZE + 4);
    // RESV_MEM, 20 bytes, MSI; then nothing.
    assert_eq!(buffer[..8], [1, 0, 20, 0, 1, 0, 0, 0]);
    assert_eq!(buffer[8..24], [0x800_0000_u64.to_le_bytes(), 0x80f_ffff_u64.to_le_bytes()].concat());
    assert!(buffer[24..PROBE_SIZE + 4].iter().all(|b| *b == 0));
    assert!(buffer[PROBE_SIZE + 4..].iter().all(|b| *b == CANARY));
    let (used, buffer) = bench.ask(&probe(77), PROBE_SIZE + 4);
    assert_eq!(used as usize, PROBE_SIZE + 4);
    assert_eq!(buffer[PROBE_SIZE..], [NOENT, 0, 0, 0]);
}

/// That nothing has changed but those bytes.
fn unchanged_but(before: &[u8], mut after: Vec<u8>, but: &[(u64, usize)]) {
    for &(first, len) in but {
        let may = first as usize..first as usize + len;
        after[may.clone()].copy_from_slice(&before[may]);
    }
    assert!(before == after, "at {:#x}", before.iter().zip(&after).take_while(|(was, is)| was == is).count());
}

#[test]
fn nothing_is_written_but_buffers_and_the_used_ring() {
    let mut bench = Bench::new(4);
    bench.driver.plain(&probe(8), PROBE_SIZE + 4);
    let before = image(&bench.driver.mem);
    bench.process(8).unwrap();
    unchanged_but(&before, image(&bench.driver.mem), &[(USED, 6 + 8 * 4), (WRITABLE, PROBE_SIZE + 4)]);
}

/// A chain that is no request: what it is, its descriptors in the table, those of the indirect table, and why it is none.
type Bad = (&'static str, Vec<Descriptor>, Vec<Descriptor>, Malformed);

/// For a queue of 8; descriptor 0 is the first.
fn bad_chains() -> Vec<Bad> {
    let head = (BUFFERS, 20, NEXT, 1);
    let tail = (WRITABLE, 4, WRITE, 0);
    let no_end = |descriptors| Malformed::NoEnd { descriptors };
    let not_memory = |at, len| Malformed::NotMemory { at, len };
    let after = Malformed::ReadableAfterWritable;
    let readable = |at| vec![(at, 20, NEXT, 1), tail];
    let writable = |at| vec![head, (at, 4, WRITE, 0)];
    let table = |at, len| vec![(at, len, IN_TABLE, 0)];
    let long = |len: u16| (1..len).map(|next| (BUFFERS, 0, NEXT, next)).chain([tail]).collect::<Vec<_>>();
    vec![
        ("it comes back to itself", vec![(BUFFERS, 20, NEXT, 0)], vec![], no_end(8)),
        ("two in a circle", vec![head, (WRITABLE, 4, WRITE | NEXT, 0)], vec![], after),
        (
            "two writable in a circle",
            vec![(WRITABLE, 4, WRITE | NEXT, 1), (WRITABLE, 4, WRITE | NEXT, 0)],
            vec![],
            no_end(8),
        ),
        ("the next is not in the table", vec![(BUFFERS, 20, NEXT, 8)], vec![], no_end(1)),
        ("the next is far off", vec![head, (WRITABLE, 4, WRITE | NEXT, 0xffff)], vec![], no_end(2)),
        ("readable after writable", vec![(WRITABLE, 4, WRITE | NEXT, 1), (BUFFERS, 20, 0, 0)], vec![], after),
        (
            "nothing, but readable, after writable",
            vec![head, (WRITABLE, 4, WRITE | NEXT, 2), (BUFFERS, 0, 0, 0)],
            vec![],
            after,
        ),
        ("readable, not in memory", readable(END), vec![], not_memory(END, 20)),
        ("readable, at the end of memory", readable(END - 19), vec![], not_memory(END - 19, 20)),
        ("readable, at the end of addresses", readable(u64::MAX - 3), vec![], not_memory(u64::MAX - 3, 20)),
        ("writable, not in memory", writable(END), vec![], not_memory(END, 4)),
        ("writable, at the end of memory", writable(END - 3), vec![], not_memory(END - 3, 4)),
        ("writable, at the end of addresses", writable(u64::MAX - 2), vec![], not_memory(u64::MAX - 2, 4)),
        (
            "the last byte of the reply",
            vec![head, (WRITABLE, 3, WRITE | NEXT, 2), (ISLAND - 1, 1, WRITE, 0)],
            vec![],
            not_memory(ISLAND - 1, 1),
        ),
        ("2^32 bytes", vec![head, (SEAM, u32::MAX, WRITE | NEXT, 2), tail], vec![], no_end(1)),
        ("2^32 bytes, readable", vec![(BUFFERS, u32::MAX, NEXT, 1), tail], vec![], no_end(1)),
        ("an indirect table of nothing", table(INDIRECT, 0), vec![], no_end(0)),
        ("... of a descriptor and a byte", table(INDIRECT, 17), vec![tail], no_end(0)),
        ("... of more than 16 bits count", table(INDIRECT, 0xffff_fff0), vec![tail], no_end(0)),
        ("... not in memory", table(END, 32), vec![], no_end(0)),
        ("... half in memory", table(ISLAND_END - 16, 32), vec![], no_end(1)),
        ("... in an indirect table", table(INDIRECT, 32), vec![head, (INDIRECT, 16, IN_TABLE, 0)], no_end(1)),
        ("... in itself", table(INDIRECT, 16), vec![(INDIRECT, 16, IN_TABLE, 0)], no_end(0)),
        ("... that the chain leaves", table(INDIRECT, 32), vec![head, (WRITABLE, 4, WRITE | NEXT, 2), tail], no_end(2)),
        ("... with a circle", table(INDIRECT, 48), vec![head, (BUFFERS, 4, NEXT, 0)], no_end(3)),
        ("... of one too many", table(INDIRECT, 16 * 1025), long(1025), Malformed::TooLong),
        ("... of all that are possible", table(INDIRECT, 16 * 65535), long(65535), Malformed::TooLong),
    ]
}

#[test]
fn a_chain_that_is_no_request_is_given_back_and_the_queue_goes_on() {
    for (what, direct, indirect, why) in bad_chains() {
        let mut bench = Bench::new(8);
        bench.driver.write(BUFFERS, &attach(1, 8));
        for (table, descriptors) in [(TABLE, direct), (INDIRECT, indirect)] {
            for (index, descriptor) in (0..=u16::MAX).zip(descriptors) {
                bench.driver.descriptor(table, index, descriptor);
            }
        }
        bench.driver.descriptor(ISLAND_END - 16, 0, (BUFFERS, 20, NEXT, 1));
        bench.driver.offer(0);
        let before = image(&bench.driver.mem);
        let done = bench.process(8).unwrap();
        assert_eq!(done, Processed { used: 1, malformed: 1, why: Some(why), notify: true, more: false }, "{what}");
        assert_eq!(bench.driver.used(), [(0, 0)], "{what}");
        assert_eq!(bench.host.effects, [], "{what}");
        unchanged_but(&before, image(&bench.driver.mem), &[(USED, 6 + 8 * 8)]);
        bench.goes_on();
    }
}

#[test]
fn a_chain_of_as_many_descriptors_as_are_allowed() {
    let mut bench = Bench::new(1);
    bench.driver.write(BUFFERS, &attach(1, 8));
    let mut pieces = vec![(0, 0, 0); DESCRIPTORS];
    pieces[0] = (BUFFERS, 20, 0);
    pieces[DESCRIPTORS - 1] = (WRITABLE, 4, WRITE);
    bench.driver.row(INDIRECT, 0, &pieces);
    bench.driver.descriptor(TABLE, 0, (INDIRECT, 16 * DESCRIPTORS as u32, IN_TABLE, 0));
    bench.driver.offer(0);
    assert_eq!(bench.process(8).unwrap().why, None);
    assert_eq!(bench.driver.used(), [(0, 4)]);
    assert_eq!(bench.host.effects.len(), 2);
}

#[test]
fn bytes_that_mean_nothing_need_not_be_memory() {
    let mut bench = Bench::new(8);
    // 72 bytes in memory, and nearly 2 GiB after them that are not.
    bench.driver.write(ISLAND_END - 72, &[&attach(1, 8)[..], &[0; 52]].concat());
    let nowhere = 0xdead_beef_0000;
    bench.driver.row(
        TABLE,
        0,
        &[
            (ISLAND_END - 72, 1 << 30, 0),
            (nowhere, 1 << 29, 0),
            (WRITABLE, PROBE_SIZE as u32 + 4, WRITE),
            (nowhere, 1 << 30, WRITE),
        ],
    );
    bench.driver.offer(0);
    assert_eq!(bench.process(8).unwrap().why, None);
    assert_eq!(bench.driver.used(), [(0, 4)]);
    assert_eq!(bench.driver.read(WRITABLE, 4), [OK, 0, 0, 0]);
}

#[test]
fn rings_that_are_wrong_break_the_queue_until_it_is_reset() {
    let mut bench = Bench::new(8);
    bench.goes_on();
    // One more than there can be.
    bench.driver.set_available(10);
    let wrong = Error::Index { index: 10, next: 1, size: 8 };
    assert_eq!(bench.process(8), Err(wrong));
    // It is too late to take it back.
    bench.driver.set_available(2);
    let before = image(&bench.driver.mem);
    assert_eq!(bench.process(8), Err(wrong));
    assert!(before == image(&bench.driver.mem));
    bench.queue.reset();
    assert_eq!(bench.process(8), Err(Error::NotReady));
    (bench.driver, *bench.queue.queue()) = Driver::new(8);
    bench.goes_on();
    // It goes back.
    bench.driver.set_available(0);
    assert_eq!(bench.process(8), Err(Error::Index { index: 0, next: 1, size: 8 }));

    let mut bench = Bench::new(8);
    bench.driver.offer(8);
    assert_eq!(bench.process(8), Err(Error::Head { head: 8, size: 8 }));

    for (available, used) in [(END, USED), (AVAILABLE, END), (u64::MAX - 1, USED), (AVAILABLE, u64::MAX - 3)] {
        let mut bench = Bench::new(8);
        bench.driver.plain(&attach(1, 8), 4);
        bench.queue.queue().try_set_avail_ring_address(GuestAddress(available)).unwrap();
        bench.queue.queue().try_set_used_ring_address(GuestAddress(used)).unwrap();
        assert_eq!(bench.process(8), Err(Error::Ring { table: TABLE, available, used, size: 8 }));
        assert_eq!(bench.host.effects, []);
    }
    // The index is in memory, and its entry is not.
    let mut bench = Bench::new(8);
    let available = ISLAND_END - 4;
    bench.driver.write(available, &[0, 0, 1, 0]);
    bench.queue.queue().try_set_avail_ring_address(GuestAddress(available)).unwrap();
    assert_eq!(bench.process(8), Err(Error::Ring { table: TABLE, available, used: USED, size: 8 }));
}

#[test]
fn a_queue_that_is_not_enabled_is_not_broken() {
    let mut bench = Bench::new(8);
    bench.queue.queue().set_ready(false);
    assert_eq!(bench.process(8), Err(Error::NotReady));
    bench.queue.queue().set_ready(true);
    bench.goes_on();
}

#[test]
fn every_queue_size_and_indices_that_wrap() {
    for size in [1, 2, 4, 1024, 32768] {
        let mut bench = Bench::new(size);
        bench.driver.write(BUFFERS, &attach(1, 8));
        bench.driver.row(INDIRECT, 0, &[(BUFFERS, 20, 0), (WRITABLE, 4, WRITE)]);
        let times = if size == 1 { 70_000 } else { 2 * u32::from(size) + 3 };
        for i in 0..times {
            let head = (i % u32::from(size)) as u16;
            bench.driver.descriptor(TABLE, head, (INDIRECT, 32, IN_TABLE, 0));
            bench.driver.offer(head);
            assert_eq!(bench.process(8).unwrap().used, 1);
            assert_eq!(bench.driver.used(), [(u32::from(head), 4)]);
        }
        assert_eq!(bench.host.effects.len(), 2);
    }
}

#[test]
fn requests_are_done_in_order_and_no_more_of_them_than_the_budget() {
    let mut bench = Bench::new(16);
    let requests =
        [attach(1, 8), map(1, 0, 0xfff, 0x4000), map(1, 0x1000, 0x1fff, 0x5000), unmap(1, 0, 0xffff), attach(2, 8)];
    for (i, request) in (0..).zip(&requests) {
        let at = BUFFERS + 0x100 * u64::from(i);
        bench.driver.write(at, request);
        bench.driver.row(TABLE, 2 * i, &[(at, request.len() as u32, 0), (at + 0x80, 4, WRITE)]);
        bench.driver.offer(2 * i);
    }
    let done = |used, more| Ok(Processed { used, more, notify: used > 0, malformed: 0, why: None });
    assert_eq!(bench.process(0), done(0, true));
    assert_eq!(bench.process(2), done(2, true));
    assert_eq!(bench.driver.used(), [(0, 4), (2, 4)]);
    assert_eq!(bench.process(2), done(2, true));
    assert_eq!(bench.process(2), done(1, false));
    assert_eq!(bench.driver.used(), [(4, 4), (6, 4), (8, 4)]);
    assert_eq!(bench.process(2), done(0, false));
    let kinds = bench.host.effects.iter().map(|effect| match effect {
        Effect::Create { .. } => 'c',
        Effect::Attach { .. } => 'a',
        Effect::Map { .. } => 'm',
        Effect::Unmap { .. } => 'u',
        _ => 'x',
    });
    assert!(kinds.collect::<String>().starts_with("cammu"), "{:?}", bench.host.effects);
}

/// Looks, while it unmaps, at what the driver sees.
struct Watching<'a> {
    mem: &'a GuestMemoryMmap,
    unmapped: usize,
}

impl Host for Watching<'_> {
    fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
        if let Effect::Unmap { .. } = effect {
            self.unmapped += 1;
            assert_eq!(self.mem.read_obj::<u16>(GuestAddress(USED + 2)).unwrap(), 2);
            assert_eq!(self.mem.read_obj::<u8>(GuestAddress(WRITABLE)).unwrap(), CANARY);
        }
        Ok(())
    }
}

#[test]
fn an_unmap_is_done_before_the_driver_can_see_that_it_is() {
    let mut bench = Bench::new(4);
    bench.goes_on();
    bench.ask(&map(1, 0x1000, 0x1fff, 0x4000), 4);
    bench.driver.plain(&unmap(1, 0, 0xffff), 4);
    let mut host = Watching { mem: &bench.driver.mem, unmapped: 0 };
    bench.queue.process(&bench.driver.mem, &mut bench.device, &mut host, 8).unwrap();
    assert_eq!(host.unmapped, 1);
    assert_eq!(bench.driver.used(), [(0, 4)]);
}

#[test]
fn a_host_that_fails_is_answered_and_the_queue_goes_on() {
    let mut bench = Bench::new(4);
    bench.host.fails = Some(HostError::Failed);
    assert_eq!(bench.ask(&attach(1, 8), 4), (4, vec![DEVERR, 0, 0, 0]));
    bench.host.fails = None;
    bench.goes_on();
    let (domain, endpoint) = (DomainId(1), EndpointId(8));
    assert_eq!(bench.host.effects, [Effect::Create { domain, bypass: false }, Effect::Attach { endpoint, domain }]);
}

#[test]
fn notifications_are_as_the_driver_wants_them() {
    let notified = |bench: &mut Bench| {
        bench.driver.plain(&attach(1, 8), 4);
        bench.process(8).unwrap().notify
    };
    let mut bench = Bench::new(8);
    assert!(notified(&mut bench));
    // VIRTQ_AVAIL_F_NO_INTERRUPT.
    bench.driver.write(AVAILABLE, &[1, 0]);
    assert!(!notified(&mut bench));

    let mut bench = Bench::new(8);
    bench.queue.queue().set_event_idx(true);
    let used_event = AVAILABLE + 4 + 2 * 8;
    // The flag does not count then (2.7.7.2); used_event does: after the third.
    bench.driver.write(AVAILABLE, &[1, 0]);
    bench.driver.write(used_event, &[2, 0]);
    assert_eq!([(); 4].map(|()| notified(&mut bench)), [false, false, true, false]);
    // Where the device wants to hear again: avail_event, after the used ring.
    assert_eq!(bench.driver.read(USED + 4 + 8 * 8, 2), [4, 0]);
    // Nothing used, nothing to notify of.
    bench.driver.write(used_event, &[3, 0]);
    assert!(!bench.process(8).unwrap().notify);
}

mod events {
    use viommu::{access::Kind, event::FaultReport, translate::Reason};

    use super::*;

    const FAULT: u32 = 24;

    fn bench() -> (Driver, EventQueue, Device) {
        let (driver, queue) = Driver::new(4);
        (driver, EventQueue::new(queue), device())
    }

    /// Endpoint 8, attached to nothing, reads there.
    fn fault(device: &mut Device, at: u64) {
        let it = FaultReport {
            reason: Reason::Domain,
            endpoint: EndpointId(8),
            access: Some(Kind::Read),
            address: Some(Iova(at)),
        };
        let _ = device.fault(it);
    }

    /// `struct virtio_iommu_fault`: R_DOMAIN, of a read, with its address.
    fn report(at: u64) -> Vec<u8> {
        [&[1, 0, 0, 0][..], &0x101_u32.to_le_bytes(), &8_u32.to_le_bytes(), &[0; 4], &at.to_le_bytes()].concat()
    }

    #[test]
    fn a_fault_waits_for_a_buffer_and_a_buffer_for_a_fault() {
        let (mut driver, mut queue, mut device) = bench();
        assert_eq!(queue.report(&driver.mem, &mut device).unwrap(), Default::default());
        fault(&mut device, 0x1234);
        fault(&mut device, 0x5678);
        assert_eq!(queue.report(&driver.mem, &mut device).unwrap(), Default::default());
        driver.row(TABLE, 1, &[(BUFFERS, 5, WRITE), (BUFFERS + 0x100, 40, WRITE)]);
        for at in [0x1234, 0x5678] {
            driver.write(BUFFERS + 0x100, &[CANARY; 40]);
            driver.offer(1);
            let done = queue.report(&driver.mem, &mut device).unwrap();
            assert_eq!((done.events, done.unfit, done.notify, done.more), (1, 0, true, false));
            assert_eq!(driver.used(), [(1, FAULT)]);
            assert_eq!([driver.read(BUFFERS, 5), driver.read(BUFFERS + 0x100, 19)].concat(), report(at));
            assert_eq!(driver.read(BUFFERS + 0x100 + 19, 21), [CANARY; 21]);
        }
        // A buffer stays with the driver until there is a fault: it can be taken to another machine as it lies there.
        driver.offer(1);
        assert_eq!(queue.report(&driver.mem, &mut device).unwrap(), Default::default());
        assert_eq!(driver.used(), []);
        assert_eq!(queue.queue().next_avail(), 2);
        fault(&mut device, 0x9abc);
        assert_eq!(queue.report(&driver.mem, &mut device).unwrap().events, 1);
        assert_eq!(driver.used(), [(1, FAULT)]);
    }

    #[test]
    fn a_buffer_that_does_not_fit_is_given_back_empty_and_the_fault_waits() {
        let (mut driver, mut queue, mut device) = bench();
        fault(&mut device, 0x1234);
        driver.write(BUFFERS, &[CANARY; 64]);
        driver.descriptor(TABLE, 0, (BUFFERS, FAULT - 1, WRITE, 0));
        driver.descriptor(TABLE, 1, (BUFFERS, FAULT, 0, 0));
        driver.descriptor(TABLE, 2, (END, FAULT, WRITE, 0));
        driver.descriptor(TABLE, 3, (BUFFERS, FAULT, WRITE, 0));
        (0..4).for_each(|head| driver.offer(head));
        let done = queue.report(&driver.mem, &mut device).unwrap();
        assert_eq!((done.events, done.unfit, done.notify, done.more), (1, 3, true, false));
        assert_eq!(driver.used(), [(0, 0), (1, 0), (2, 0), (3, FAULT)]);
        assert_eq!(driver.read(BUFFERS, FAULT as usize), report(0x1234));
        assert_eq!(driver.read(BUFFERS + u64::from(FAULT), 40), [CANARY; 40]);
    }

    #[test]
    fn faults_without_buffers_are_dropped_and_counted() {
        let (mut driver, mut queue, mut device) = bench();
        for i in 0..1000 {
            fault(&mut device, 0x1000 * i);
        }
        driver.descriptor(TABLE, 0, (BUFFERS, FAULT, WRITE, 0));
        let mut got = Vec::new();
        loop {
            driver.offer(0);
            if queue.report(&driver.mem, &mut device).unwrap().events == 0 {
                break;
            }
            got.push(driver.read(BUFFERS, FAULT as usize));
        }
        assert_eq!(got, (0..64).map(|i| report(0x1000 * i)).collect::<Vec<_>>());
    }

    #[test]
    fn a_broken_event_queue_says_so() {
        let (mut driver, mut queue, mut device) = bench();
        fault(&mut device, 0x1234);
        driver.set_available(5);
        let wrong = Error::Index { index: 5, next: 0, size: 4 };
        assert_eq!(queue.report(&driver.mem, &mut device), Err(wrong));
        assert_eq!(queue.report(&driver.mem, &mut device), Err(wrong));
    }
}
