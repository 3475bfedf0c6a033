//! What a guest's access costs in the model, through both stages, and what a whole scenario costs.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hyp::Policy;
use model::MAX_STEPS;
use scenario::{Outcome, Scenario, parse};

const THREAD_002: &str = include_str!("../../../scenarios/thread-002-unaligned-copy.toml");
/// Accesses of a straight program. A program has at most 512 operations.
const ACCESSES: u64 = 400;
/// Instructions of one turn of the loop: MOV, LDR, B.
const TURN: u64 = 3;

fn scenario(program: &str) -> Scenario {
    let text = format!(
        "title = \"b\"\n[[device]]\nname = \"gpu\"\nbars = [{{ index = 2, size = \"1M\" }}]\n\
         [[map]]\nname = \"vram\"\nbar = \"gpu.2\"\ntype = \"normal-nc\"\n\
         [[map]]\nname = \"ram\"\nram = \"4K\"\ntype = \"normal-wb\"\n\
         [guest]\nprogram = \"\"\"\n{program}\n\"\"\"\n[expect]\nall = \"completed\"\n"
    );
    parse("bench", &text).expect("a scenario")
}

/// As many accesses, each of its own 8 bytes.
fn straight(access: impl Fn(u64) -> String) -> Scenario {
    scenario(&(0..ACCESSES).map(access).collect::<Vec<_>>().join("\n"))
}

fn run(scenario: &Scenario, policy: Policy) -> Outcome {
    model::run(black_box(scenario), policy).expect("a scenario that fits").observation.outcome
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("a guest's accesses, model");
    // Building guest and VM, and nothing else: to be subtracted from what follows.
    let empty = scenario("");
    assert_eq!(run(&empty, Policy::Linux6_9), Outcome::Untouched);
    group.bench_function("an empty program", |b| b.iter(|| run(&empty, Policy::Linux6_9)));

    group.throughput(Throughput::Elements(ACCESSES));
    let programs = [
        ("400 loads", straight(|i| format!("load.8 vram+{} -> x0", 8 * i))),
        ("400 stores", straight(|i| format!("store.8 vram+{}, x0", 8 * i))),
        ("400 unaligned loads", straight(|i| format!("load.8 vram+{} -> x0", 8 * i + 3))),
    ];
    for (name, scenario) in &programs {
        assert_eq!(run(scenario, Policy::Linux6_9), Outcome::Completed);
        group.bench_function(*name, |b| b.iter(|| run(scenario, Policy::Linux6_9)));
    }

    // Setup and explanations vanish in a loop that only the bound ends.
    let endless = scenario("again:\nload.8 vram -> x0\njump again");
    assert_eq!(run(&endless, Policy::Linux6_9), Outcome::Endless);
    group.throughput(Throughput::Elements(u64::from(MAX_STEPS) / TURN));
    group.bench_function("a loop of loads until the bound, 21845 times MOV, LDR, B", |b| {
        b.iter(|| run(&endless, Policy::Linux6_9));
    });
    // Accesses per second of other kinds: gathered, and through a cache.
    for (name, program) in [
        ("a loop of stores that gather, 21845 times MOV, STR, B", "again:\nstore.8 vram, x0\njump again"),
        ("a loop of loads from write-back RAM, 21845 times MOV, LDR, B", "again:\nload.8 ram -> x0\njump again"),
    ] {
        let scenario = scenario(program);
        assert_eq!(run(&scenario, Policy::Linux6_9), Outcome::Endless);
        group.bench_function(name, |b| b.iter(|| run(&scenario, Policy::Linux6_9)));
    }
    let idle = scenario("again:\ndgh\ndgh\njump again");
    group.bench_function("the same with nothing for MOV and LDR", |b| b.iter(|| run(&idle, Policy::Linux6_9)));
    group.finish();

    let mut group = c.benchmark_group("thread-002-unaligned-copy.toml");
    group.bench_function("parse", |b| b.iter(|| parse("thread-002", black_box(THREAD_002)).expect("a scenario")));
    let parsed = parse("thread-002", THREAD_002).expect("a scenario");
    for policy in Policy::ALL {
        group.bench_with_input(BenchmarkId::new("run", policy.name()), &policy, |b, policy| {
            b.iter(|| run(&parsed, *policy));
        });
    }
    group.bench_function("parse, run under every policy", |b| {
        b.iter(|| {
            let parsed = parse("thread-002", black_box(THREAD_002)).expect("a scenario");
            Policy::ALL.map(|policy| run(&parsed, policy))
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
