//! The measuring.

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use viommu::{Access, Gpa, Interval, Iova, Map, Mapping};

use crate::structures::{Ours, Ranges, Scan, Structure, Tlb, Walk};

const PAGE: u64 = 4096;
/// Building a structure that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured of one structure.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) operation: String,
    /// Nanoseconds an operation: the least and the middle of the rounds. Or why there are none.
    pub(crate) ns: Result<(f64, f64), String>,
    pub(crate) bytes: Option<f64>,
}

/// One measurement: its structure, how many mappings are there, and whether in random order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) structure: &'static str,
    pub(crate) n: usize,
    pub(crate) random: bool,
    pub(crate) rounds: usize,
}

pub(crate) const OURS: &str = "viommu::Map";
pub(crate) const SCAN: &str = "BTreeMap, scanned";
pub(crate) const WALK: &str = "BTreeMap, walked";
pub(crate) const RANGES: &str = "rangemap";
pub(crate) const TLB: &str = "vm-memory Iotlb";
pub(crate) const STRUCTURES: [&str; 5] = [OURS, SCAN, WALK, RANGES, TLB];

/// Numbers without a pattern.
fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// The page that is mapped as the i-th, where it goes: pages lie side by side, their targets do not.
fn page(i: u32) -> (u64, u64, u64) {
    let first = u64::from(i) * PAGE;
    (first, first + PAGE - 1, mix(u64::from(i)) & 0xffff_ffff_f000)
}

fn order(n: usize, random: bool) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    if random {
        (1..n).rev().for_each(|i| order.swap(i, (mix(i as u64) % (i as u64 + 1)) as usize));
    }
    order
}

fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0) * 4096.0
}

fn middle(mut ns: Vec<f64>) -> (f64, f64) {
    ns.sort_by(f64::total_cmp);
    (ns[0], ns[ns.len() / 2])
}

fn timed(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}

impl Case {
    pub(crate) fn run(self) -> Vec<Row> {
        match self.structure {
            OURS => self.of::<Ours>(),
            SCAN => self.of::<Scan>(),
            WALK => self.of::<Walk>(),
            RANGES => self.of::<Ranges>(),
            _ => self.of::<Tlb>(),
        }
    }

    /// Mappings are made in the order, until all are there. Then rounds of a batch of translations; then of a batch of UNMAPs, and of MAPs
    /// of what was unmapped some batches ago: so many are always missing, and what is mapped is not what the caches still have.
    fn of<S: Structure>(self) -> Vec<Row> {
        let Self { n, random, rounds, .. } = self;
        let scans = self.structure == SCAN;
        let order = order(n, random);
        let before = resident();
        let (start, mut it) = (Instant::now(), S::new());
        for (count, &i) in order.iter().enumerate() {
            let (first, last, to) = page(i);
            it.map(first, last, to);
            if count % 65536 == 0 && start.elapsed() > PATIENCE {
                let why = format!("left out: {count} mappings took over a minute to make");
                return vec![Row { operation: "all".into(), ns: Err(why), bytes: None }];
            }
        }
        let bytes = Some((resident() - before) / n as f64);
        let row = |operation: &str, ns: Vec<f64>| Row { operation: operation.into(), ns: Ok(middle(ns)), bytes };
        let batch = (n / 16).min(4096);
        let part = |round: usize, batch: usize| &order[round * batch % (n - n % batch)..][..batch];
        let (mut free, mut chained) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // At random, no two rounds are of the same pages, or a small structure's branches would be known by heart.
            let pages = |round: usize| {
                let count = (round * 2048) as u64..((round + 1) * 2048) as u64;
                let pages = count.map(|i| page(((if random { mix(i) } else { i }) % n as u64) as u32));
                pages.map(|(first, _, to)| (first + 123, to + 123)).unzip::<u64, u64, Vec<_>, Vec<_>>()
            };
            let (addresses, targets) = pages(round);
            let mut sum = 0;
            free.push(timed(addresses.len(), || addresses.iter().for_each(|&at| sum ^= it.translate(at).unwrap_or(0))));
            assert_eq!(sum, targets.iter().fold(0, |sum, to| sum ^ to), "{self:?}: where pages are");
            // The next address is not known before this one is translated: what one takes by itself. The top bits are 0.
            let (addresses, _) = pages(rounds + round);
            let mut to = 0;
            chained.push(timed(addresses.len(), || {
                for &at in &addresses {
                    to = it.translate(at + (to >> 60)).unwrap_or(0);
                }
            }));
            black_box(to);
        }
        let mut rows = vec![row("translate", free), row("translate, one after the other", chained)];
        // A scan takes as long as there are mappings, so there are few.
        let (batch, rounds, ago) = match (400_000_000 / rounds / (n * 40)).clamp(1, batch) {
            few if scans => (few, rounds.min(11), 0),
            _ => (batch, rounds, (n / 2 / batch).min(16)),
        };
        let pages = |round: usize| part(round, batch).iter().map(|&i| page(i)).collect::<Vec<_>>();
        for (first, last, _) in (0..ago).flat_map(&pages) {
            it.unmap(first, last);
        }
        let (mut unmaps, mut maps) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let (unmap, map) = (pages(round + ago), pages(round));
            unmaps.push(timed(batch, || unmap.iter().for_each(|&(first, last, _)| it.unmap(first, last))));
            maps.push(timed(batch, || map.iter().for_each(|&(first, last, to)| it.map(first, last, to))));
        }
        let mut map = row("map", maps);
        if scans {
            map.ns = Err("left out: it is that of the BTreeMap, walked, but for the caches that a scan leaves".into());
        }
        rows.extend([row("unmap", unmaps), map]);
        rows
    }
}

/// What a single load takes at random, out of as much memory as ours takes for so many mappings, where the next address is not known
/// before: no translation of any structure takes less, and most take two or more.
pub(crate) fn load(n: usize, rounds: usize) -> Vec<Row> {
    let memory: Vec<u64> = (0..n as u64 * 5).map(|i| i >> 60).collect();
    let loads = |round: usize| {
        let at: Vec<usize> = (0..2048).map(|i| mix((round * 2048 + i) as u64) as usize % memory.len()).collect();
        let mut found = 0;
        let ns = timed(at.len(), || at.iter().for_each(|&at| found = memory[at + found as usize]));
        black_box(found);
        ns
    };
    let ns = middle((0..rounds).map(loads).collect());
    vec![Row { operation: "load, one after the other".into(), ns: Ok(ns), bytes: Some(40.0) }]
}

/// One reader, at random, without and with a writer that never stops: of ours, and of a `BTreeMap` behind a lock.
pub(crate) fn concurrent(structure: &str, n: usize, rounds: usize, time: Duration) -> Vec<Row> {
    let mapping = |i: u32| {
        let (first, last, to) = page(i);
        Mapping {
            at: Interval::new(Iova(first), Iova(last)).expect("in order"),
            to: Gpa(to),
            access: Access::READ_WRITE,
        }
    };
    let order = order(n, true);
    let mut ours = Map::new(usize::MAX);
    let locked = RwLock::new(BTreeMap::new());
    for &i in &order {
        if structure == OURS {
            ours.insert(mapping(i)).expect("free");
        } else {
            locked.write().expect("no panic").insert(page(i).0, mapping(i));
        }
    }
    let reader = ours.reader();
    let mut rows = Vec::new();
    for busy in [false, true] {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let reader = reader.clone();
            let (stop, written) = (&AtomicBool::new(false), &AtomicU64::new(0));
            let locked = &locked;
            let read = move || {
                let (start, mut count) = (Instant::now(), 0u64);
                while start.elapsed() < time {
                    for _ in 0..256 {
                        count += 1;
                        let at = mix(count) % n as u64 * PAGE;
                        let found = if structure == OURS {
                            reader.get(Iova(at))
                        } else {
                            let tree = locked.read().expect("no panic");
                            tree.range(..=at)
                                .next_back()
                                .map(|(_, there)| *there)
                                .filter(|there| there.at.contains(Iova(at)))
                        };
                        assert!(found.is_none_or(|found| found == mapping((at / PAGE) as u32)));
                    }
                }
                stop.store(true, Relaxed);
                start.elapsed().as_nanos() as f64 / count as f64
            };
            let start = Instant::now();
            reads.push(std::thread::scope(|scope| {
                let reading = scope.spawn(read);
                for &i in order.iter().cycle() {
                    if !busy || stop.load(Relaxed) {
                        break;
                    }
                    if structure == OURS {
                        ours.remove(mapping(i).at).expect("whole");
                        ours.insert(mapping(i)).expect("free");
                    } else {
                        locked.write().expect("no panic").remove(&page(i).0);
                        locked.write().expect("no panic").insert(page(i).0, mapping(i));
                    }
                    written.fetch_add(2, Relaxed);
                }
                reading.join().expect("no panic")
            }));
            writes.push(start.elapsed().as_nanos() as f64 / written.load(Relaxed).max(1) as f64);
        }
        let row = |operation: &str, ns| Row { operation: operation.into(), ns: Ok(middle(ns)), bytes: None };
        if busy {
            rows.push(row("translate beside a writer", reads));
            rows.push(row("map or unmap beside a reader", writes));
        } else {
            rows.push(row("translate beside no writer", reads));
        }
    }
    rows
}
