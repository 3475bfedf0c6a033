//! The mapping structure beside a list that is searched from end to end, and while it is written to.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use proptest::{collection::vec, prelude::*};
use viommu::{
    Access, Gpa, Interval, Iova, Map, Mapping, MemoryType,
    map::{NotInserted, Reader, WouldSplit},
};

fn to(first: u64, last: u64) -> Interval {
    Interval::new(Iova(first), Iova(last)).unwrap()
}

/// Target and access are functions of the place, so that a mapping put together from two is seen.
fn mapping(first: u64, last: u64) -> Mapping {
    let mix = (first ^ last.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let memory = [MemoryType::Normal, MemoryType::NonCacheable, MemoryType::Mmio][(mix >> 32) as usize % 3];
    let access = Access { read: mix & 1 << 50 != 0, write: mix & 1 << 51 != 0, memory };
    Mapping { at: to(first, last), to: Gpa(mix), access }
}

/// The reference: nothing but a list.
#[derive(Debug, Default)]
struct Naive {
    all: Vec<Mapping>,
    limit: usize,
}

impl Naive {
    fn overlapping(&self, range: Interval) -> Vec<Mapping> {
        let mut found: Vec<_> = self.all.iter().copied().filter(|m| m.at.overlaps(range)).collect();
        found.sort_by_key(|m| m.at.first());
        found
    }

    fn insert(&mut self, mapping: Mapping) -> Result<(), NotInserted> {
        if let Some(&there) = self.overlapping(mapping.at).first() {
            return Err(NotInserted::Overlaps { there, wanted: mapping.at });
        }
        if self.all.len() >= self.limit {
            return Err(NotInserted::Full { limit: self.limit });
        }
        self.all.push(mapping);
        Ok(())
    }

    fn remove(&mut self, range: Interval) -> Result<usize, WouldSplit> {
        if let Some(&mapping) = self.overlapping(range).iter().find(|m| !range.covers(m.at)) {
            return Err(WouldSplit { mapping, range });
        }
        let before = self.all.len();
        self.all.retain(|m| !m.at.overlaps(range));
        Ok(before - self.all.len())
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u64, u64),
    Remove(u64, u64),
    /// What a mapping that is there covers, so that removals hit.
    RemoveOne(usize),
    /// From the beginning of one to the end of another.
    RemoveFromTo(usize, usize),
    /// Right behind or before one that is there.
    InsertBeside(usize, bool, u64),
    /// So many in a row, upwards or downwards.
    Run(u64, u64, bool),
    Get(u64),
    Overlapping(u64, u64),
    Clear,
}

/// Addresses that collide: few, at both ends of the address space and in between.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..96u64,
        2 => (0..96u64).prop_map(|at| u64::MAX - at),
        2 => (0..96u64).prop_map(|at| (1 << 63) - 48 + at),
        1 => any::<u64>(),
    ]
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        8 => (address(), 0..12u64).prop_map(|(at, more)| (at, at.saturating_add(more))),
        2 => address().prop_map(|at| (at, at)),
        2 => (address(), address()).prop_map(|(a, b)| (a.min(b), a.max(b))),
        1 => Just((0, u64::MAX)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => range().prop_map(|(first, last)| Op::Insert(first, last)),
        3 => range().prop_map(|(first, last)| Op::Remove(first, last)),
        8 => any::<usize>().prop_map(Op::RemoveOne),
        2 => any::<(usize, usize)>().prop_map(|(a, b)| Op::RemoveFromTo(a, b)),
        6 => (any::<usize>(), any::<bool>(), 0..6u64).prop_map(|(which, up, more)| Op::InsertBeside(which, up, more)),
        2 => (address(), 1..40u64, any::<bool>()).prop_map(|(at, count, up)| Op::Run(at, count, up)),
        3 => address().prop_map(Op::Get),
        2 => range().prop_map(|(first, last)| Op::Overlapping(first, last)),
        1 => Just(Op::Clear),
    ]
}

/// Both at once.
struct Both<const LEAF: usize, const INNER: usize> {
    map: Map<LEAF, INNER>,
    naive: Naive,
    /// Keeps the map from giving memory back when it is cleared.
    reader: Option<Reader<LEAF, INNER>>,
    peak: usize,
}

impl<const LEAF: usize, const INNER: usize> Both<LEAF, INNER> {
    fn insert(&mut self, first: u64, last: u64) {
        let mapping = mapping(first, last);
        let check = self.map.check_insert(mapping);
        let ours = self.map.insert(mapping);
        assert_eq!(ours, self.naive.insert(mapping), "insert {}", mapping.at);
        assert_eq!(ours, check);
    }

    fn remove(&mut self, first: u64, last: u64) {
        let range = to(first, last);
        let check = self.map.check_remove(range);
        let ours = self.map.remove(range);
        assert_eq!(ours, self.naive.remove(range), "remove {range}");
        assert_eq!(ours.map(|_| ()), check);
    }

    fn get(&self, at: u64) {
        let expected = self.naive.all.iter().copied().find(|m| m.at.contains(Iova(at)));
        assert_eq!(self.map.get(Iova(at)), expected, "get {at:#x}");
        if let Some(reader) = &self.reader {
            assert_eq!(reader.get(Iova(at)), expected);
        }
    }

    fn there(&self, which: usize) -> Option<Interval> {
        let all = &self.naive.all;
        (!all.is_empty()).then(|| all[which % all.len()].at)
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Insert(first, last) => self.insert(first, last),
            Op::Remove(first, last) => self.remove(first, last),
            Op::RemoveOne(which) => {
                if let Some(at) = self.there(which) {
                    self.remove(at.first().0, at.last().0);
                }
            }
            Op::RemoveFromTo(a, b) => {
                if let (Some(a), Some(b)) = (self.there(a), self.there(b)) {
                    self.remove(a.first().min(b.first()).0, a.last().max(b.last()).0);
                }
            }
            Op::InsertBeside(which, up, more) => {
                if let Some(at) = self.there(which) {
                    let (last, first) = (at.last().0.saturating_add(1), at.first().0.saturating_sub(1));
                    let (first, last) =
                        if up { (last, last.saturating_add(more)) } else { (first.saturating_sub(more), first) };
                    self.insert(first, last);
                }
            }
            Op::Run(at, count, up) => {
                for i in 0..count {
                    let at = if up { at.saturating_add(2 * i) } else { at.saturating_sub(2 * i) };
                    self.insert(at, at.saturating_add(u64::from(up)));
                }
            }
            Op::Get(at) => self.get(at),
            Op::Overlapping(first, last) => {
                let range = to(first, last);
                assert_eq!(self.map.overlapping(range).collect::<Vec<_>>(), self.naive.overlapping(range));
            }
            Op::Clear => {
                self.map.clear();
                self.naive.all.clear();
            }
        }
        self.peak = self.peak.max(self.naive.all.len());
        assert_eq!(self.map.len(), self.naive.all.len());
    }

    fn all_the_same(&self) {
        assert_eq!(self.map.iter().collect::<Vec<_>>(), self.naive.overlapping(Interval::ALL));
        for m in &self.naive.all {
            let (first, last) = (m.at.first().0, m.at.last().0);
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].into_iter().for_each(|at| self.get(at));
        }
        let (bytes, most) = (self.map.bytes(), Map::<LEAF, INNER>::most_bytes(self.peak));
        assert!(bytes <= most, "{bytes} bytes, {most} for {}", self.peak);
    }

    fn run(ops: &[Op], limit: usize, read: bool) {
        let map = Map::with_nodes(limit);
        let reader = read.then(|| map.reader());
        let mut both = Self { map, naive: Naive { all: Vec::new(), limit }, reader, peak: 0 };
        for op in ops {
            both.apply(op);
        }
        both.all_the_same();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn does_what_a_list_does(ops in vec(op(), 0..200), limit in prop_oneof![Just(usize::MAX), 0..200usize], read: bool) {
        Both::<32, 56>::run(&ops, limit, read);
    }

    #[test]
    fn high_trees_do_what_a_list_does(ops in vec(op(), 0..300), limit in prop_oneof![Just(usize::MAX), 0..200usize], read: bool) {
        Both::<4, 4>::run(&ops, limit, read);
        Both::<8, 16>::run(&ops, limit, read);
        Both::<16, 8>::run(&ops, limit, read);
    }
}

/// A device has a map, and its translators are moved to other threads.
#[test]
fn goes_to_other_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Map>();
    sync::<Map>();
    send::<Reader>();
}

/// 5.13.6.6, by their numbers there: what is mapped, what is unmapped, and how many mappings that removes; `None` where it fails.
#[test]
fn the_examples_of_the_specification() {
    type Example = (&'static [(u64, u64)], (u64, u64), Option<usize>);
    const EXAMPLES: [Example; 7] = [
        (&[], (0, 4), Some(0)),
        (&[(0, 9)], (0, 9), Some(1)),
        (&[(0, 4), (5, 9)], (0, 9), Some(2)),
        (&[(0, 9)], (0, 4), None),
        (&[(0, 4), (5, 9)], (0, 4), Some(1)),
        (&[(0, 4)], (0, 9), Some(1)),
        (&[(0, 4), (10, 14)], (0, 14), Some(2)),
    ];
    for (number, (there, (first, last), removed)) in (1..).zip(EXAMPLES) {
        let mut map = Map::new(16);
        for &(first, last) in there {
            map.insert(mapping(first, last)).unwrap();
        }
        let ours = map.remove(to(first, last));
        let split = || WouldSplit { mapping: mapping(0, 9), range: to(first, last) };
        assert_eq!(ours, removed.ok_or_else(split), "example {number}");
        assert_eq!(map.len(), there.len() - removed.unwrap_or(0), "example {number}");
    }
}

/// What is left is left as it was: neighbours that go on into each other, with targets that do too, stay two.
#[test]
fn neighbours_are_not_joined() {
    let mut map = Map::new(16);
    let at = |first, last| Mapping { at: to(first, last), to: Gpa(0x1000 + first), access: Access::READ_WRITE };
    map.insert(at(0, 4)).unwrap();
    map.insert(at(5, 9)).unwrap();
    assert_eq!(map.iter().collect::<Vec<_>>(), [at(0, 4), at(5, 9)]);
    assert_eq!(map.get(Iova(4)), Some(at(0, 4)));
    assert_eq!(map.get(Iova(5)), Some(at(5, 9)));
    let cut = WouldSplit { mapping: at(0, 4), range: to(2, 9) };
    assert_eq!(map.remove(to(2, 9)), Err(cut));
    let cut = WouldSplit { mapping: at(5, 9), range: to(0, 7) };
    assert_eq!(map.remove(to(0, 7)), Err(cut));
    assert_eq!(map.remove(to(5, 9)), Ok(1));
    assert_eq!(map.get(Iova(5)), None);
    assert_eq!(map.get(Iova(4)), Some(at(0, 4)));
}

#[test]
fn the_whole_of_the_address_space_is_one_mapping() {
    let mut map = Map::new(16);
    map.insert(mapping(0, u64::MAX)).unwrap();
    for at in [0, 1, 1 << 63, u64::MAX] {
        assert_eq!(map.get(Iova(at)), Some(mapping(0, u64::MAX)));
    }
    let (there, wanted) = (mapping(0, u64::MAX), to(u64::MAX, u64::MAX));
    assert_eq!(map.insert(mapping(u64::MAX, u64::MAX)), Err(NotInserted::Overlaps { there, wanted }));
    let range = to(1, u64::MAX);
    assert_eq!(map.remove(range), Err(WouldSplit { mapping: there, range }));
    assert_eq!(map.remove(Interval::ALL), Ok(1));
    map.insert(mapping(u64::MAX, u64::MAX)).unwrap();
    map.insert(mapping(0, 0)).unwrap();
    assert_eq!(map.remove(to(0, u64::MAX - 1)), Ok(1));
    assert_eq!(map.remove(to(u64::MAX, u64::MAX)), Ok(1));
    assert!(map.is_empty());
}

/// What overlaps is said before what is full: the one is the guest's mistake, the other the device's limit.
#[test]
fn limits() {
    let mut none = Map::new(0);
    assert_eq!(none.insert(mapping(0, 0)), Err(NotInserted::Full { limit: 0 }));
    let mut map = Map::new(2);
    map.insert(mapping(0, 9)).unwrap();
    map.insert(mapping(10, 19)).unwrap();
    assert_eq!(map.insert(mapping(20, 29)), Err(NotInserted::Full { limit: 2 }));
    assert_eq!(map.check_insert(mapping(20, 29)), Err(NotInserted::Full { limit: 2 }));
    let (there, wanted) = (mapping(0, 9), to(5, 29));
    assert_eq!(map.insert(mapping(5, 29)), Err(NotInserted::Overlaps { there, wanted }));
    map.remove(to(0, 9)).unwrap();
    map.insert(mapping(20, 29)).unwrap();
    assert_eq!(map.len(), 2);
    let said = NotInserted::Overlaps { there, wanted }.to_string();
    assert_eq!(said, "0x0..=0x9 is mapped already, overlapping 0x5..=0x1d");
}

/// Without a reader, memory goes back when all is removed at once.
#[test]
fn clear_gives_back() {
    let mut map = Map::new(usize::MAX);
    let empty = map.bytes();
    let fill = |map: &mut Map| (0..10_000).for_each(|i| map.insert(mapping(i * 16, i * 16 + 15)).unwrap());
    fill(&mut map);
    let full = map.bytes();
    assert!(full > empty + 240_000);
    map.clear();
    assert_eq!((map.len(), map.bytes(), map.get(Iova(5))), (0, empty, None));
    // With one, it is used again.
    let reader = map.reader();
    fill(&mut map);
    assert_eq!(reader.get(Iova(5)), Some(mapping(0, 15)));
    map.clear();
    assert_eq!((map.bytes(), reader.get(Iova(5)), map.iter().count()), (full, None, 0));
    fill(&mut map);
    assert_eq!((map.bytes(), reader.get(Iova(5))), (full, Some(mapping(0, 15))));
}

/// What a guest can do to have much memory held by few mappings, up to a limit: leaves as empty as they may be, again and again.
#[test]
fn memory_is_bounded() {
    const LIMIT: u64 = 20_000;
    const MOST: usize = Map::<32, 56>::most_bytes(LIMIT as usize);
    // The documentation's figures: a node of 832 bytes for each 7 mappings, and a quarter more.
    assert!(MOST < 150 * LIMIT as usize + 16_384, "{MOST}");
    let at = |i: u64| mapping(i << 20, (i << 20) + 0xf_ffff);
    let mut map = Map::new(LIMIT as usize);
    let _reader = map.reader();
    let mut next = 0;
    // Leaves are filled. Then every other is thinned out down to 1 mapping, while those beside it are full; then those down to 16,
    // at which a leaf does not look for neighbours yet. What that makes free of the limit fills leaves again.
    while map.len() < LIMIT as usize - 64 {
        let from = next;
        while map.insert(at(next)).is_ok() {
            next += 1;
        }
        for (parity, left) in [(0, 1), (1, 16)] {
            for i in (from..next).filter(|i| i / 32 % 2 == parity && i % 32 >= left) {
                map.remove(at(i).at).unwrap();
            }
        }
        next = next.next_multiple_of(64);
        assert!(map.bytes() <= MOST, "{} of {MOST}", map.bytes());
    }
    assert!(map.bytes() > MOST / 2, "{} of {MOST}: the bound could be lower", map.bytes());
    // The same at random, and with ranges.
    let mut x = 1u64;
    for _ in 0..200_000 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let i = (x >> 33) % next;
        if map.insert(at(i)).is_err() {
            let many = if x >> 60 == 0 { 1 + (x >> 20) % 500 } else { 0 };
            map.remove(to(i << 20, ((i + many) << 20) + 0xf_ffff)).unwrap();
        }
    }
    assert!(map.bytes() <= MOST, "{} of {MOST}", map.bytes());
    assert_eq!(map.iter().count(), map.len());
}

/// Ascending and descending, as guests allocate: leaves are left full.
#[test]
fn runs_leave_leaves_full() {
    for down in [false, true] {
        let mut map = Map::new(usize::MAX);
        for i in 0..100_000u64 {
            let i = if down { 100_000 - i } else { i };
            map.insert(mapping(i << 12, (i << 12) + 0xfff)).unwrap();
        }
        assert!(map.bytes() < 100_000 * 35, "{} bytes", map.bytes());
    }
}

/// How often a second a reader gets an answer while the writer does what it is given, over and over; each answer is looked at.
/// Even pages are always there, and odd ones come and go, by themselves and in ranges: so nodes are split and merged all the time.
fn reads<const LEAF: usize, const INNER: usize>(pages: u64, time: Duration, busy: bool) -> (f64, f64) {
    let page = |i: u64| mapping(i << 12, (i << 12) + 0xfff);
    let mut map = Map::<LEAF, INNER>::with_nodes(usize::MAX);
    for i in (0..pages).step_by(64) {
        map.insert(page(i)).unwrap();
    }
    let (reader, mut written) = (map.reader(), 0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            // What is owned moves in; a reader is one thread's.
            let (reader, start) = (reader, Instant::now());
            let (mut reads, mut found) = (0u64, 0u64);
            while start.elapsed() < time {
                for i in 0..1000 {
                    let i = (reads + i).wrapping_mul(0x9e37_79b9) % pages;
                    let got = reader.get(Iova((i << 12) + i % 4096));
                    // All of it is of one mapping, and what is always there is always found.
                    assert!(got.is_none_or(|got| got == page(i)), "{got:x?}");
                    assert!(got.is_some() || !i.is_multiple_of(64), "page {i:#x} is mapped");
                    found += u64::from(got.is_some());
                }
                reads += 1000;
            }
            assert!(!busy || (found > 0 && found < reads));
            reads as f64 / start.elapsed().as_secs_f64()
        });
        let start = Instant::now();
        let mut x = 1u64;
        while busy && !reading.is_finished() {
            for _ in 0..64 {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let i = (x >> 33) % pages;
                if !i.is_multiple_of(64) && map.insert(page(i)).is_err() && x >> 62 == 0 {
                    // To the next that stays, or just this one.
                    let last = if x >> 59 & 1 == 0 { i | 63 } else { i };
                    map.remove(to(i << 12, (last << 12) + 0xfff)).unwrap();
                }
            }
            written += 64;
        }
        let rate = reading.join().unwrap();
        (rate, f64::from(written) / start.elapsed().as_secs_f64())
    })
}

#[test]
fn readers_read_while_the_writer_writes() {
    let time = Duration::from_millis(400);
    let (alone, _) = reads::<32, 56>(1 << 14, time, false);
    let (beside, written) = reads::<32, 56>(1 << 14, time, true);
    println!("{alone:.0} reads a second; {beside:.0} beside {written:.0} changes a second");
    // They share the processor with whatever else runs here: this is about starving, not about speed.
    assert!(beside > alone / 50.0, "{alone:.0} reads a second alone, {beside:.0} beside the writer");
}

/// The same where each change is in the way of each read: a tree of small nodes, and one of a single leaf.
#[test]
fn readers_do_not_starve() {
    let time = Duration::from_millis(200);
    for pages in [64 * 4, 1 << 12] {
        let (beside, written) = reads::<4, 4>(pages, time, true);
        println!("{beside:.0} reads a second beside {written:.0} changes a second");
        assert!(beside > 1000.0);
    }
}

/// The same place, again and again another mapping: what is read is all of one of them.
#[test]
fn no_reader_sees_half_of_a_mapping() {
    let mut map = Map::new(16);
    let reader = map.reader();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let (start, mut found) = (Instant::now(), 0u64);
            while start.elapsed() < Duration::from_millis(300) {
                for i in 0..1000 {
                    // With what it remembers, and without.
                    let got = if i % 2 == 0 { reader.get(Iova(0x1008)) } else { reader.clone().get(Iova(0x1000)) };
                    if let Some(got) = got {
                        assert_eq!(got, mapping(got.at.first().0, got.at.last().0));
                        found += 1;
                    }
                }
            }
            assert!(found > 0);
        });
        let mut i = 0u64;
        while !reading.is_finished() {
            i += 1;
            let at = mapping(0x1000 - i % 8, 0x1010 + i * 0x9e37 % 0x1_0000);
            map.insert(at).unwrap();
            map.remove(at.at).unwrap();
        }
        reading.join().unwrap();
    });
}

/// A map that is gone leaves its readers what they read.
#[test]
fn readers_outlive_the_map() {
    let mut map = Map::new(4);
    map.insert(mapping(0, 9)).unwrap();
    let reader = map.reader();
    drop(map);
    assert_eq!(reader.get(Iova(9)), Some(mapping(0, 9)));
    assert_eq!(reader.clone().get(Iova(10)), None);
}
