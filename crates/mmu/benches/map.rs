//! Mapping and unmapping guest memory at stage 2, beside `aarch64-paging` doing the same, and beside a memset of as many
//! table bytes, below which no mapping can go; and one walk.
//!
//! 64 GiB in 4 KiB pages is 32,833 tables, 128 MiB, more than caches hold; 64 GiB in 2 MiB blocks is 65 tables, 260 KiB;
//! 1 GiB in pages is 514 tables, 2 MiB. Three comparisons of each, because what a table costs to get is not what it costs to
//! fill:
//!
//! * **new tables**: getting zeroed memory and filling it are in the timed part, on all sides: here one `vec![0; ..]` for all
//!   tables, there one aligned, zeroed allocation a table, which lies where it lies (`IdTranslation`: the list of tables that
//!   `TargetAllocator` searches for each new one is not in it); the memset is of a new `vec![0; ..]` too. Freeing is in none.
//!   Of 128 MiB, most is the page faults of new memory: the memset shows how much.
//! * **tables there**: all have been through it once, so that only descriptors are written. Ours is unmapped in between,
//!   outside of the timed part, because it never replaces a mapping (break-before-make); the other's is written over, which
//!   is what it does with a mapping that is there.
//! * **unmap**: every block and page is cleared and counted, the tables stay. The other clears each with `modify_range`,
//!   without counting. Its `map_range` without `VALID` is less work: it takes whole tables out of the level above and frees
//!   them unread. Where it has to make them again before the next time, that is outside of the timed part.
#![allow(missing_docs)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aarch64_paging::{
    Mapping,
    descriptor::{PhysicalAddress, Stage2Attributes, UpdatableDescriptor},
    idmap::IdTranslation,
    paging::{Constraints, MemoryRegion, RootTable, Stage2 as PeerStage2},
    target::TargetAllocator,
};
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use mmu::{
    Arena, Frames, Ia, Oa,
    arm::{self, Config, S2Attrs, Stage2},
};

const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;
const BLOCK: u64 = 2 << 20;
/// Where the output begins: off 1 GiB's alignment, so that the largest blocks are of 2 MiB.
const TO: u64 = 64 * GIB + BLOCK;
const TABLES: u64 = 0x1000_0000;

type Ours = Arena<Vec<u64>>;
type Peer = Mapping<IdTranslation<Stage2Attributes>, PeerStage2>;

/// What is mapped: `size` bytes from input address 0 to output address `TO`, in leaves of `leaf` bytes.
#[derive(Clone, Copy)]
struct Form {
    name: &'static str,
    size: u64,
    leaf: u64,
}

const FORMS: [Form; 3] = [
    Form { name: "64 GiB in 4 KiB pages", size: 64 * GIB, leaf: PAGE },
    Form { name: "64 GiB in 2 MiB blocks", size: 64 * GIB, leaf: BLOCK },
    Form { name: "1 GiB in 4 KiB pages", size: GIB, leaf: PAGE },
];

fn attrs() -> S2Attrs {
    S2Attrs { memattr: 1, sh: 3, read: true, write: true, accessed: true, xn: 2, ..S2Attrs::default() }
}

fn peer_attrs() -> Stage2Attributes {
    Stage2Attributes::VALID
        | Stage2Attributes::MEMATTR_DEVICE_nGnRE
        | Stage2Attributes::ACCESS_FLAG
        | Stage2Attributes::S2AP_ACCESS_RW
        | Stage2Attributes::SH_INNER
        | Stage2Attributes::XN
}

fn config() -> Config {
    Config::stage2(39, 40, 1).expect("39 bits start at level 1")
}

impl Form {
    /// Root, a level-2 table for each GiB, and a level-3 table for each 2 MiB where there are pages.
    fn words(self) -> usize {
        let level3 = if self.leaf == PAGE { self.size / BLOCK } else { 0 };
        512 * (1 + self.size / GIB + level3) as usize
    }

    /// `vec![0; ..]` of as many words, without the optimiser knowing what becomes of them.
    fn zeroed(self) -> Vec<u64> {
        vec![0; black_box(self.words())]
    }

    fn ours_map(self, root: Oa, memory: &mut Ours) {
        let range = (Ia(0), Oa(TO), self.size);
        arm::map::<Stage2, _>(root, config(), memory, range, &attrs(), self.leaf).expect("mapped");
    }

    fn ours_unmap(self, root: Oa, memory: &mut Ours) {
        let cleared = arm::unmap::<Stage2, _>(root, config(), memory, Ia(0), self.size).expect("unmapped");
        assert_eq!(cleared, self.size / self.leaf);
    }

    fn ours(self) -> (Oa, Ours) {
        let mut memory = Arena::new(Oa(TABLES), self.zeroed());
        let root = memory.frame().expect("a frame");
        self.ours_map(root, &mut memory);
        (root, memory)
    }

    fn region(self) -> MemoryRegion {
        MemoryRegion::new(0, self.size as usize)
    }

    fn constraints(self) -> Constraints {
        if self.leaf == PAGE { Constraints::NO_BLOCK_MAPPINGS } else { Constraints::empty() }
    }

    fn peer_map(self, peer: &mut Peer) {
        peer.map_range(&self.region(), PhysicalAddress(TO as usize), peer_attrs(), self.constraints()).expect("mapped");
    }

    fn peer(self) -> Peer {
        let mut peer = Mapping::new(IdTranslation::new(), 1, PeerStage2);
        self.peer_map(&mut peer);
        peer
    }

    /// Both write the same tables, word for word, which lie in the same order if the other's allocator numbers them.
    fn compare(self) {
        let mut peer = RootTable::new(TargetAllocator::new(TABLES), 1, PeerStage2);
        peer.map_range(&self.region(), PhysicalAddress(TO as usize), peer_attrs(), self.constraints()).expect("mapped");
        let (_, ours) = self.ours();
        assert_eq!(ours.used().len(), self.words());
        let same = ours.used().iter().flat_map(|w| w.to_le_bytes()).eq(peer.translation().as_bytes());
        assert!(same, "the two crates do not do the same work");
    }
}

/// The time of `work` alone, `iterations` times, each after `before`.
fn timed<T>(iterations: u64, it: &mut T, before: impl Fn(&mut T), work: impl Fn(&mut T)) -> Duration {
    let one = |_| {
        before(it);
        let start = Instant::now();
        work(black_box(it));
        start.elapsed()
    };
    (0..iterations).map(one).sum()
}

fn bench(c: &mut Criterion) {
    for form in FORMS {
        form.compare();
        new_tables(c, form);
        tables_there(c, form);
        unmap(c, form);
    }
    let (root, memory) = FORMS[2].ours();
    c.bench_function("stage 2, one walk of three levels", |b| {
        b.iter(|| arm::walk::<Stage2, _>(root, config(), &memory, black_box(Ia(0x5123))));
    });
}

fn group<'a>(c: &'a mut Criterion, form: Form, what: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(format!("stage 2, {}, {what}", form.name));
    group.throughput(Throughput::Elements(form.size / form.leaf)).sample_size(20);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group
}

fn new_tables(c: &mut Criterion, form: Form) {
    let mut group = group(c, form, "new tables");
    group.bench_function("mmu", |b| b.iter_batched(|| (), |()| form.ours(), BatchSize::PerIteration));
    group.bench_function("aarch64-paging", |b| b.iter_batched(|| (), |()| form.peer(), BatchSize::PerIteration));
    group.bench_function("memset", |b| {
        b.iter_batched(
            || (),
            |()| {
                let mut words = form.zeroed();
                black_box(&mut words).fill(0);
                words
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn tables_there(c: &mut Criterion, form: Form) {
    let mut group = group(c, form, "tables there");
    group.bench_function("mmu", |b| {
        let (root, mut memory) = form.ours();
        let before = |memory: &mut Ours| form.ours_unmap(root, memory);
        b.iter_custom(|n| timed(n, &mut memory, before, |memory| form.ours_map(root, memory)));
    });
    group.bench_function("aarch64-paging", |b| {
        let mut peer = form.peer();
        b.iter_custom(|n| timed(n, &mut peer, |_| (), |peer| form.peer_map(peer)));
    });
    memset(&mut group, form);
    group.finish();
}

fn unmap(c: &mut Criterion, form: Form) {
    let mut group = group(c, form, "unmap");
    group.bench_function("mmu", |b| {
        let (root, mut memory) = form.ours();
        form.ours_unmap(root, &mut memory);
        let before = |memory: &mut Ours| form.ours_map(root, memory);
        b.iter_custom(|n| timed(n, &mut memory, before, |memory| form.ours_unmap(root, memory)));
    });
    group.bench_function("aarch64-paging, modify_range", |b| {
        let mut peer = form.peer();
        let clear = |peer: &mut Peer| {
            let empty = |_: &MemoryRegion, entry: &mut UpdatableDescriptor<'_, _>| {
                entry.set(PhysicalAddress(0), Stage2Attributes::empty())
            };
            peer.modify_range(&form.region(), &empty).expect("unmapped");
        };
        b.iter_custom(|n| timed(n, &mut peer, |peer| form.peer_map(peer), clear));
    });
    group.bench_function("aarch64-paging, map_range that frees the tables", |b| {
        let mut peer = form.peer();
        let free = |peer: &mut Peer| {
            let (to, attrs) = (PhysicalAddress(0), Stage2Attributes::empty());
            peer.map_range(&form.region(), to, attrs, form.constraints()).expect("unmapped");
        };
        b.iter_custom(|n| timed(n, &mut peer, |peer| form.peer_map(peer), free));
    });
    memset(&mut group, form);
    group.finish();
}

fn memset(group: &mut BenchmarkGroup<'_, WallTime>, form: Form) {
    group.bench_function("memset", |b| {
        let mut words = form.zeroed();
        b.iter_custom(|n| timed(n, &mut words, |_| (), |words| words.fill(0)));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
