//! Reading a snapshot of 1,000 functions and gathering from it.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};

mod synthetic;

fn gather(c: &mut Criterion) {
    let text = synthetic::snapshot(1000);
    c.bench_function("gather_1000", |b| {
        b.iter(|| {
            let read = host::snapshot::parse(text.as_bytes()).unwrap();
            let asked = read.asked().clone();
            let root = host::Root::of_snapshot(read);
            host::Host::gather(&root, &asked).functions.len()
        });
    });
}

criterion_group!(benches, gather);
criterion_main!(benches);
