//! Mapping 1 GiB at stage 2 in 4 KiB pages, beside `aarch64-paging` doing the same, and beside the bare writing of as many
//! descriptors, below which no mapping can go; and one walk.
//!
//! Two comparisons, because what a table costs to get is not what it costs to fill:
//!
//! * **new tables**: everything is in the timed part on both sides: getting zeroed memory for 514 tables (here one
//!   `vec![0; ..]` of 2 MiB, there one aligned, zeroed allocation a table), the list of tables its `TargetAllocator` keeps,
//!   and the descriptors. Freeing is in neither.
//! * **tables there**: both have been through it once, so that only descriptors are written, into memory already in the
//!   caches. Ours is unmapped in between, outside of the timed part, because it never replaces a mapping (break-before-make);
//!   the other's is written over, which is what it does with a mapping that is there.
#![allow(missing_docs)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aarch64_paging::{
    descriptor::{PhysicalAddress, Stage2Attributes},
    paging::{Constraints, MemoryRegion, RootTable, Stage2 as PeerStage2},
    target::TargetAllocator,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mmu::{
    Arena, Frames, Ia, Oa, Words,
    arm::{self, Config, S2Attrs, Stage2},
};

const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;
/// Root, one level-2 table, 512 level-3 tables.
const FRAMES: usize = 514;
const PAGES: u64 = GIB / PAGE;
const TABLES: u64 = 0x1000_0000;

type Ours = Arena<Vec<u64>>;
type Peer = RootTable<PeerStage2, TargetAllocator<Stage2Attributes>>;

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

fn ours_map(root: Oa, memory: &mut Ours) {
    arm::map::<Stage2, _>(root, config(), memory, (Ia(0), Oa(GIB), GIB), &attrs(), PAGE).expect("mapped");
}

fn ours() -> (Oa, Ours) {
    let mut memory = Arena::new(Oa(TABLES), vec![0u64; FRAMES * 512]);
    let root = memory.frame().expect("a frame");
    ours_map(root, &mut memory);
    (root, memory)
}

fn peer_map(table: &mut Peer) {
    let region = MemoryRegion::new(0, GIB as usize);
    let to = PhysicalAddress(GIB as usize);
    table.map_range(&region, to, peer_attrs(), Constraints::NO_BLOCK_MAPPINGS).expect("mapped");
}

fn peer() -> Peer {
    let mut table = RootTable::new(TargetAllocator::new(TABLES), 1, PeerStage2);
    peer_map(&mut table);
    table
}

/// The descriptors of 1 GiB, computed and written one after the other: no table, no check.
fn descriptors(words: &mut [u64], first: u64) {
    for (word, i) in words.iter_mut().zip(0..) {
        *word = first + i * PAGE;
    }
}

/// The descriptor of the first page, as `mmu` writes it.
fn first_descriptor() -> u64 {
    let (root, memory) = ours();
    arm::walk::<Stage2, _>(root, config(), &memory, Ia(0)).expect("mapped").step.descriptor
}

fn timed(iterations: u64, mut one: impl FnMut() -> Duration) -> Duration {
    (0..iterations).map(|_| one()).sum()
}

fn bench(c: &mut Criterion) {
    // Both write the same tables, word for word; their tables lie in the same order.
    let (root, memory) = ours();
    let theirs = peer().translation().as_bytes();
    let same = memory.used().iter().flat_map(|w| w.to_le_bytes()).eq(theirs);
    assert!(same, "the two crates do not do the same work");
    assert_eq!(memory.frames_used(), FRAMES);
    let first = first_descriptor();
    let last = arm::walk::<Stage2, _>(root, config(), &memory, Ia(GIB - PAGE)).expect("mapped");
    assert_eq!(memory.read(last.step.at), Ok(first + (PAGES - 1) * PAGE));

    let mut group = c.benchmark_group("stage 2, 1 GiB in 4 KiB pages, new tables");
    group.throughput(Throughput::Elements(PAGES)).sample_size(50);
    group.bench_function("mmu", |b| b.iter_batched(|| (), |()| ours(), BatchSize::PerIteration));
    group.bench_function("aarch64-paging", |b| b.iter_batched(|| (), |()| peer(), BatchSize::PerIteration));
    group.bench_function("limit: 262144 words written into a new vec", |b| {
        b.iter_batched(
            || (),
            |()| {
                let mut words = vec![0u64; PAGES as usize];
                descriptors(black_box(&mut words), black_box(first));
                words
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let mut group = c.benchmark_group("stage 2, 1 GiB in 4 KiB pages, tables there");
    group.throughput(Throughput::Elements(PAGES)).sample_size(50);
    group.bench_function("mmu", |b| {
        let (root, mut memory) = ours();
        b.iter_custom(|iterations| {
            timed(iterations, || {
                arm::unmap::<Stage2, _>(root, config(), &mut memory, Ia(0), GIB).expect("unmapped");
                let start = Instant::now();
                ours_map(root, black_box(&mut memory));
                start.elapsed()
            })
        });
    });
    group.bench_function("aarch64-paging", |b| {
        let mut table = peer();
        b.iter_custom(|iterations| {
            timed(iterations, || {
                let start = Instant::now();
                peer_map(black_box(&mut table));
                start.elapsed()
            })
        });
    });
    group.bench_function("limit: 262144 words written", |b| {
        let mut words = vec![0u64; PAGES as usize];
        b.iter_custom(|iterations| {
            timed(iterations, || {
                let start = Instant::now();
                descriptors(black_box(&mut words), black_box(first));
                start.elapsed()
            })
        });
    });
    group.finish();

    c.bench_function("stage 2, one walk of three levels", |b| {
        b.iter(|| arm::walk::<Stage2, _>(root, config(), &memory, black_box(Ia(0x5123))));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
