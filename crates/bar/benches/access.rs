//! The views, beside what one would write without them, over ordinary memory in the same run: what they cost is what is not the bus.
#![allow(missing_docs, clippy::unwrap_used)]
#![expect(unsafe_code, reason = "the loops that the views are compared with")]

use std::hint::black_box;
use std::time::Duration;

use bar::access::Window;
use bar::cpu::Features;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[repr(align(4096))]
struct Memory([u8; 8192]);

fn window(memory: &mut Memory) -> Window<'_> {
    // SAFETY: borrowed for as long.
    unsafe { Window::new(memory.0.as_mut_ptr(), memory.0.len()) }
}

fn registers(c: &mut Criterion) {
    let mut memory = Memory([0; 8192]);
    let base = memory.0.as_mut_ptr().cast::<u32>();
    let registers = window(&mut memory).registers();
    let register = registers.register::<u32>(64).unwrap();
    let mut group = c.benchmark_group("registers");
    group.bench_function("read", |b| b.iter(|| register.read()));
    group.bench_function("read_relaxed", |b| b.iter(|| register.read_relaxed()));
    group.bench_function("read, offset checked each time", |b| b.iter(|| registers.read::<u32>(black_box(64))));
    // SAFETY: within the memory.
    group.bench_function("ptr::read_volatile", |b| b.iter(|| unsafe { base.add(16).read_volatile() }));
    group.bench_function("write", |b| b.iter(|| register.write(black_box(1))));
    group.bench_function("write_relaxed", |b| b.iter(|| register.write_relaxed(black_box(1))));
    // SAFETY: within the memory.
    group.bench_function("ptr::write_volatile", |b| b.iter(|| unsafe { base.add(16).write_volatile(black_box(1)) }));
    group.finish();
}

fn bursts(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..4096).map(|i| i as u8).collect();
    for len in [64, 256, 1024, 4096] {
        let mut memory = Memory([0; 8192]);
        let base = memory.0.as_mut_ptr();
        let mut wc = window(&mut memory).write_combining(Features::detect());
        let mut group = c.benchmark_group(format!("burst/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        let from = &bytes[..len];
        group.bench_function("write_burst, flush", |b| {
            b.iter(|| {
                let mut burst = wc.begin();
                burst.write(0, black_box(from)).unwrap();
                drop(burst.flush());
            });
        });
        let mut burst = wc.begin();
        group.bench_function("write_burst", |b| b.iter(|| burst.write(0, black_box(from)).unwrap()));
        group.bench_function("write_burst, at an odd offset", |b| b.iter(|| burst.write(3, black_box(from)).unwrap()));
        if Features::detect().store64() && cfg!(target_arch = "x86_64") {
            group.bench_function("store64", |b| {
                b.iter(|| {
                    for (i, line) in black_box(from).as_chunks::<64>().0.iter().enumerate() {
                        burst.store64(64 * i, line).unwrap();
                    }
                });
            });
        }
        drop(burst.order());
        group.bench_function("memcpy", |b| {
            // SAFETY: within the memory.
            b.iter(|| unsafe { black_box(base).copy_from_nonoverlapping(black_box(from).as_ptr(), len) });
        });
        group.bench_function("loop of ptr::write_volatile, u64", |b| {
            b.iter(|| {
                for (i, word) in black_box(from).as_chunks::<8>().0.iter().enumerate() {
                    // SAFETY: within the memory.
                    unsafe { base.cast::<u64>().add(i).write_volatile(u64::from_le_bytes(*word)) };
                }
            });
        });
        group.bench_function("loop of ptr::write_volatile, u8", |b| {
            b.iter(|| {
                for (i, byte) in black_box(from).iter().enumerate() {
                    // SAFETY: within the memory.
                    unsafe { base.add(i).write_volatile(*byte) };
                }
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500)).without_plots();
    targets = registers, bursts
}
criterion_main!(benches);
