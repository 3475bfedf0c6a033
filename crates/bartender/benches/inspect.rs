//! `bartender inspect` on a snapshot of 1,000 functions, the whole command: from the start of the process to its end. Beside it what
//! cannot be left out: reading the same text as JSON, in this process.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use criterion::{Criterion, criterion_group, criterion_main};

#[path = "../../host/benches/synthetic/mod.rs"]
mod synthetic;

/// What a person does not notice. Held in any run, a test of the benchmark too: the quickest of several counts, since a busy machine
/// makes a process slower, never quicker.
const MOST: Duration = Duration::from_millis(100);

fn run(folder: &Path, how: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartender"));
    let status = command.arg("inspect").arg("--root").arg(folder).args(how).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn inspect(c: &mut Criterion) {
    let folder = env::temp_dir().join(format!("bartender-inspect-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let text = synthetic::snapshot(1000);
    fs::write(folder.join("snapshot.json"), &text).unwrap();

    let mut group = c.benchmark_group("inspect_1000");
    group.sample_size(20);
    for (name, how) in
        [("text", &[][..]), ("json", &["--json"]), ("nfd", &["--nfd"]), ("prometheus", &["--prometheus"])]
    {
        group.bench_function(name, |b| b.iter(|| run(&folder, how)));
    }
    group.bench_function("serde_json alone", |b| b.iter(|| serde_json::from_str::<serde_json::Value>(&text).unwrap()));
    group.finish();

    let timed = |_| {
        let begun = Instant::now();
        run(&folder, &[]);
        begun.elapsed()
    };
    let least = (0..10).map(timed).min().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(least < MOST, "`inspect` on 1,000 functions took {least:?} at the least, more than {MOST:?}");
}

criterion_group!(benches, inspect);
criterion_main!(benches);
