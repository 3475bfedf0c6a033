//! Combining the layers of a translation, beside tables that hold the same answers: what a lookup costs is the least an
//! answer can cost.
//!
//! Every figure is for one combination. The inputs come in an order in which no branch can be predicted.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use memtype::arm::{self, Alignment, Combined, Features, Stage1, Stage2, Type};

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
fn answer(both: &Combined) -> u8 {
    let ty = match both.ty {
        Type::Device(d) => d as u8,
        Type::Normal { inner, outer } => 4 + 3 * inner.policy as u8 + outer.policy as u8,
    };
    let alignment = match both.unaligned() {
        Alignment::Ok => 0,
        Alignment::Fault { stage: 1 } => 1,
        Alignment::Fault { .. } => 2,
        Alignment::MayFault => 3,
    };
    ty | (both.sh as u8) << 4 | alignment << 6
}

/// Every input once, in an order in which neighbours share no cache line (an odd step visits all).
fn scattered() -> Vec<u32> {
    (0..ALL).map(|i| i.wrapping_mul(0x9e37_79b1) % ALL).collect()
}

fn sum(answers: impl Iterator<Item = u8>) -> u64 {
    answers.map(u64::from).sum()
}

fn arm64(c: &mut Criterion) {
    let table: Vec<u8> = (0..ALL).map(|i| answer(&arm::combine(&stage1(i), &stage2(i)))).collect();
    let inputs = scattered();
    let decoded: Vec<(Stage1, Stage2)> = inputs.iter().map(|i| (stage1(*i), stage2(*i))).collect();
    let of_table = |i: &u32| table[(*i % ALL) as usize];
    assert_eq!(sum(inputs.iter().map(of_table)), sum(table.iter().copied()));

    let mut out = vec![(Type::NORMAL_NC, arm::Shareability::Outer, Alignment::Ok); inputs.len()];

    let mut group = c.benchmark_group("arm64, one of 131072 combinations");
    group.throughput(Throughput::Elements(u64::from(ALL)));
    group.bench_function("combine: type, sh, unaligned", |b| {
        b.iter(|| {
            for ((s1, s2), out) in black_box(&decoded).iter().zip(black_box(&mut out)) {
                let both = arm::combine(s1, s2);
                *out = (both.ty, both.sh, both.unaligned());
            }
        });
    });
    group.bench_function("combine: the whole result, stored", |b| {
        b.iter(|| {
            for (s1, s2) in black_box(&decoded) {
                black_box(arm::combine(s1, s2));
            }
        });
    });
    group.bench_function("decode stage 1", |b| {
        b.iter(|| {
            for i in black_box(&inputs) {
                black_box(stage1(*i));
            }
        });
    });
    group.bench_function("decode stage 2", |b| {
        b.iter(|| {
            for i in black_box(&inputs) {
                black_box(stage2(*i));
            }
        });
    });
    group.bench_function("decode both, combine: type, sh, unaligned", |b| {
        b.iter(|| sum(black_box(&inputs).iter().map(|i| answer(&arm::combine(&stage1(*i), &stage2(*i))))));
    });
    group.bench_function("limit: a byte from a table", |b| b.iter(|| sum(black_box(&inputs).iter().map(of_table))));
    group.finish();

    let mut group = c.benchmark_group("arm64, the whole table");
    group.bench_function("decode both, combine, in order", |b| {
        b.iter(|| sum((0..black_box(ALL)).map(|i| answer(&arm::combine(&stage1(i), &stage2(i))))));
    });
    group.finish();
}

fn riscv(c: &mut Criterion) {
    use memtype::riscv::{Pbmt, Pma, combine};

    let pma = [Pma::Main, Pma::Io];
    let pbmt = [Pbmt::Pma, Pbmt::Nc, Pbmt::Io];
    let inputs: Vec<(Pma, Pbmt, Pbmt)> =
        scattered().into_iter().map(|i| i as usize).map(|i| (pma[i % 2], pbmt[i / 2 % 3], pbmt[i / 6 % 3])).collect();
    let mut out = vec![combine(Pma::Io, Pbmt::Pma, Pbmt::Pma).ty; inputs.len()];
    let mut group = c.benchmark_group("riscv, one of 18 combinations");
    group.throughput(Throughput::Elements(inputs.len() as u64));
    group.bench_function("combine: type", |b| {
        b.iter(|| {
            for ((pma, g, vs), out) in black_box(&inputs).iter().zip(black_box(&mut out)) {
                *out = combine(*pma, *g, *vs).ty;
            }
        });
    });
    group.finish();
}

fn x86(c: &mut Criterion) {
    use memtype::x86::{Pat, Type, ept, npt};

    const TYPES: [Type; 5] = [Type::Uc, Type::Wc, Type::Wt, Type::Wp, Type::Wb];
    let of = |i: u32| i as usize;
    let inputs: Vec<(Type, bool, Pat, Pat)> = scattered()
        .into_iter()
        .map(|i| (TYPES[of(i) % 5], i & 1 != 0, Pat::ALL[of(i / 7) % 6], Pat::ALL[of(i / 11) % 6]))
        .collect();
    let mut out = vec![Type::Uc; inputs.len()];
    let mut group = c.benchmark_group("x86, one combination");
    group.throughput(Throughput::Elements(inputs.len() as u64));
    group.bench_function("EPT, IPAT, PAT: type", |b| {
        b.iter(|| {
            for ((ept, ipat, pat, _), out) in black_box(&inputs).iter().zip(black_box(&mut out)) {
                *out = ept::combine(*ept, *ipat, *pat);
            }
        });
    });
    group.bench_function("MTRR, host PAT, guest PAT (NPT): type", |b| {
        b.iter(|| {
            for ((mtrr, _, host, guest), out) in black_box(&inputs).iter().zip(black_box(&mut out)) {
                *out = npt::combine(*mtrr, *host, *guest).ty();
            }
        });
    });
    group.finish();
}

fn smmu(c: &mut Criterion) {
    use memtype::smmu::{Outcome, Override, Platform, Stream, transform};

    // By reference from few: what is timed is the combination, not the reading of large inputs.
    let streams: Vec<Stream> = scattered()
        .into_iter()
        .take(512)
        .map(|i| Stream {
            overrides: Override { memattr: (i & 1 != 0).then_some((i >> 3) as u8), shcfg: (i >> 1) as u8 },
            stage1: (i & 2 != 0).then(|| memtype::smmu::stage1((i >> 2) as u8, i as u8 & 3)),
            stage2: (i & 4 != 0).then(|| stage2(i)),
            no_snoop: i & 8 != 0,
            ..Stream::PCIE
        })
        .collect();
    let mut out: Vec<Outcome> = streams.iter().map(|s| transform(s, Platform::SBSA)).collect();
    let mut group = c.benchmark_group("smmu, one of 512 streams");
    group.throughput(Throughput::Elements(streams.len() as u64));
    group.bench_function("transform: type, sh", |b| {
        b.iter(|| {
            for (stream, out) in black_box(&streams).iter().zip(black_box(&mut out)) {
                *out = transform(stream, Platform::SBSA);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, arm64, riscv, x86, smmu);
criterion_main!(benches);
