//! Mapping 1 GiB at stage 2 in 4 KiB pages, beside `aarch64-paging` doing the same; and one walk.
#![allow(missing_docs)]

use std::hint::black_box;

use aarch64_paging::{
    descriptor::{PhysicalAddress, Stage2Attributes},
    paging::{Constraints, MemoryRegion, RootTable},
    target::TargetAllocator,
};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mmu::{
    Arena, Frames, Ia, Oa,
    arm::{self, Config, S2Attrs, Stage2},
};

const GIB: u64 = 1 << 30;
const PAGE: u64 = 4096;
/// Root, one level-2 table, 512 level-3 tables.
const FRAMES: usize = 514;

fn attrs() -> S2Attrs {
    S2Attrs { memattr: 1, sh: 3, read: true, write: true, accessed: true, xn: 2, ..S2Attrs::default() }
}

fn bench(c: &mut Criterion) {
    let config = Config::stage2(39, 40, 1).expect("39 bits start at level 1");
    let mut group = c.benchmark_group("stage 2, 1 GiB in 4 KiB pages");
    group.throughput(Throughput::Elements(GIB / PAGE)).sample_size(20);
    group.bench_function("mmu", |b| {
        b.iter_batched(
            || Arena::new(Oa(0x1000_0000), vec![0u64; FRAMES * 512]),
            |mut memory| {
                let root = memory.frame().expect("a frame");
                arm::map::<Stage2, _>(root, config, &mut memory, (Ia(0), Oa(GIB), GIB), &attrs(), PAGE)
                    .expect("mapped");
                memory
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("aarch64-paging", |b| {
        let attrs = Stage2Attributes::VALID
            | Stage2Attributes::MEMATTR_DEVICE_nGnRE
            | Stage2Attributes::ACCESS_FLAG
            | Stage2Attributes::S2AP_ACCESS_RW
            | Stage2Attributes::SH_INNER
            | Stage2Attributes::XN;
        b.iter_batched(
            || RootTable::new(TargetAllocator::new(0x1000_0000), 1, aarch64_paging::paging::Stage2),
            |mut table| {
                let region = MemoryRegion::new(0, GIB as usize);
                let to = PhysicalAddress(GIB as usize);
                table.map_range(&region, to, attrs, Constraints::NO_BLOCK_MAPPINGS).expect("mapped");
                table
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();

    let mut memory = Arena::new(Oa(0), vec![0u64; 8 * 512]);
    let root = memory.frame().expect("a frame");
    arm::map::<Stage2, _>(root, config, &mut memory, (Ia(0), Oa(GIB), 16 * PAGE), &attrs(), PAGE).expect("mapped");
    c.bench_function("stage 2, one walk of three levels", |b| {
        b.iter(|| arm::walk::<Stage2, _>(root, config, &memory, black_box(Ia(0x5123))));
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
