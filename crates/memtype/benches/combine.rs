//! Combining two stages, beside a table that holds the same answers: what a lookup costs is the least an answer can cost.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memtype::arm::{self, Alignment, Cacheability, Features, Shareability, Stage1, Stage2, Type};

/// Every input: FWB, MemAttr and SH of stage 2, the MAIR byte and SH of stage 1.
const ALL: u32 = 1 << 17;

fn stage1(input: u32) -> Stage1 {
    Stage1::decode((input >> 2) as u8, input as u8 & 3, Features::LATEST)
}

fn stage2(input: u32) -> Stage2 {
    let fields = input >> 10;
    Stage2::decode(fields >> 6 & 1 != 0, (fields >> 2) as u8 & 0xf, fields as u8 & 3, Features::LATEST)
}

/// The type, the shareability and the alignment rule in a byte, so that a table of all answers is one of bytes.
fn answer(s1: &Stage1, s2: &Stage2) -> u8 {
    let weight = |c: Cacheability| c as u8;
    let both = arm::combine(s1, s2);
    let ty = match both.ty {
        Type::Device(d) => d as u8,
        Type::Normal { inner, outer } => 4 + 3 * weight(inner.policy) + weight(outer.policy),
    };
    let sh = match both.sh {
        Shareability::Non => 0,
        Shareability::Inner => 1,
        Shareability::Outer => 2,
    };
    let alignment = match both.unaligned() {
        Alignment::Ok => 0,
        Alignment::Fault { stage: 1 } => 1,
        Alignment::Fault { .. } => 2,
        Alignment::MayFault => 3,
    };
    ty | sh << 4 | alignment << 6
}

/// Every input once, in an order in which neighbours share no cache line (an odd step visits all).
fn scattered() -> impl Iterator<Item = u32> {
    (0..ALL).map(|i| i.wrapping_mul(0x9e37_79b1) % ALL)
}

fn sum(answers: impl Iterator<Item = u8>) -> u64 {
    answers.map(u64::from).sum()
}

fn bench(c: &mut Criterion) {
    let table: Vec<u8> = (0..ALL).map(|i| answer(&stage1(i), &stage2(i))).collect();
    let lookup = |i: u32| table[(i % ALL) as usize];
    assert_eq!(sum(scattered().map(lookup)), sum(table.iter().copied()));

    // Normal-NC under Device-nGnRE without FWB: thread 002.
    let input = 1 << 12 | 0b11 << 10 | 0x44 << 2 | 0b10;
    let mut group = c.benchmark_group("one combination");
    group.bench_function("decode both, combine, unaligned()", |b| {
        b.iter(|| {
            let i = black_box(input);
            let both = arm::combine(&stage1(i), &stage2(i));
            (both.ty, both.unaligned())
        });
    });
    group.bench_function("the same as a byte", |b| {
        b.iter(|| {
            let i = black_box(input);
            answer(&stage1(i), &stage2(i))
        });
    });
    group.bench_function("limit: the byte from a table", |b| b.iter(|| lookup(black_box(input))));
    group.finish();

    let mut group = c.benchmark_group("all 131072 combinations");
    group.throughput(Throughput::Elements(u64::from(ALL)));
    group.bench_function("each decoded and combined", |b| {
        b.iter(|| sum((0..black_box(ALL)).map(|i| answer(&stage1(i), &stage2(i)))));
    });
    group.bench_function("each decoded and combined, scattered", |b| {
        b.iter(|| sum(black_box(scattered()).map(|i| answer(&stage1(i), &stage2(i)))));
    });
    group.bench_function("limit: from a table, scattered", |b| b.iter(|| sum(black_box(scattered()).map(lookup))));
    group.bench_function("limit: from a table, in order", |b| b.iter(|| sum(black_box(&table).iter().copied())));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
