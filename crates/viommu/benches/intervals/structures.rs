//! The structures, under one trait.

use std::{collections::BTreeMap, hint::black_box};

use rangemap::RangeInclusiveMap;
use viommu::{Access, Gpa, Interval, Iova, Map, Mapping, map::Reader};
use vm_memory::{GuestAddress, Permissions, iommu::Iotlb};

/// What is measured. All are told of 4 KiB at a time, and none refuses anything here.
pub(crate) trait Structure: Sized {
    fn new() -> Self;
    fn map(&mut self, first: u64, last: u64, to: u64);
    fn unmap(&mut self, first: u64, last: u64);
    /// Where an address goes, if that may be read.
    fn translate(&self, at: u64) -> Option<u64>;
}

fn interval(first: u64, last: u64) -> Interval {
    Interval::new(Iova(first), Iova(last)).expect("in order")
}

/// Ours.
pub(crate) struct Ours(Map, Reader);

impl Structure for Ours {
    fn new() -> Self {
        {
            let map = Map::new(usize::MAX);
            let reader = map.reader();
            Self(map, reader)
        }
    }
    fn map(&mut self, first: u64, last: u64, to: u64) {
        let mapping = Mapping { at: interval(first, last), to: Gpa(to), access: Access::READ_WRITE };
        self.0.insert(mapping).expect("free");
    }
    fn unmap(&mut self, first: u64, last: u64) {
        assert_eq!(self.0.remove(interval(first, last)), Ok(1));
    }
    fn translate(&self, at: u64) -> Option<u64> {
        translated(self.1.get(Iova(at))?, at)
    }
}

fn translated(there: Mapping, at: u64) -> Option<u64> {
    there.access.read.then(|| there.to.0.wrapping_add(at - there.at.first().0))
}

/// What the trees of the standard library hold.
#[derive(Clone, Copy)]
pub(crate) struct Value {
    last: u64,
    to: u64,
    access: Access,
}

/// A `BTreeMap` by first address, from which UNMAP takes what it covers by looking at every mapping, twice: whether one would
/// be split, and which ones go.
pub(crate) struct Scan(BTreeMap<u64, Value>);

/// The same, where UNMAP walks from the last mapping of the range back to the first.
pub(crate) struct Walk(BTreeMap<u64, Value>);

fn tree_map(tree: &mut BTreeMap<u64, Value>, first: u64, last: u64, to: u64) {
    let below = tree.range(..=last).next_back();
    assert!(below.is_none_or(|(_, there)| there.last < first));
    tree.insert(first, Value { last, to, access: Access::READ_WRITE });
}

fn tree_translate(tree: &BTreeMap<u64, Value>, at: u64) -> Option<u64> {
    let (first, there) = tree.range(..=at).next_back()?;
    (at <= there.last && there.access.read).then(|| there.to.wrapping_add(at - first))
}

impl Structure for Scan {
    fn new() -> Self {
        Self(BTreeMap::new())
    }
    fn map(&mut self, first: u64, last: u64, to: u64) {
        tree_map(&mut self.0, first, last, to);
    }
    fn unmap(&mut self, first: u64, last: u64) {
        let splits = |(&start, there): (&u64, &Value)| {
            let overlaps = start <= last && first <= there.last;
            overlaps && (start < first || last < there.last)
        };
        assert!(!self.0.iter().any(splits));
        self.0.retain(|&start, there| start < first || last < there.last);
    }
    fn translate(&self, at: u64) -> Option<u64> {
        tree_translate(&self.0, at)
    }
}

impl Structure for Walk {
    fn new() -> Self {
        Self(BTreeMap::new())
    }
    fn map(&mut self, first: u64, last: u64, to: u64) {
        tree_map(&mut self.0, first, last, to);
    }
    fn unmap(&mut self, first: u64, last: u64) {
        let mut walk = self.0.range(..=last).rev().take_while(|(_, there)| first <= there.last);
        let splits = |start: u64, there: &Value| start < first || last < there.last;
        let Some((&start, there)) = walk.next() else { return };
        assert!(!splits(start, there));
        let more: Vec<u64> =
            walk.map(|(&start, there)| (!splits(start, there)).then_some(start).expect("whole")).collect();
        self.0.remove(&start);
        for start in more {
            self.0.remove(&start);
        }
    }
    fn translate(&self, at: u64) -> Option<u64> {
        tree_translate(&self.0, at)
    }
}

/// `rangemap`, with a value that differs from mapping to mapping, so that neighbours are not joined. It would split on UNMAP.
pub(crate) struct Ranges(RangeInclusiveMap<u64, (u64, Access)>);

impl Structure for Ranges {
    fn new() -> Self {
        Self(RangeInclusiveMap::new())
    }
    fn map(&mut self, first: u64, last: u64, to: u64) {
        assert!(!self.0.overlaps(&(first..=last)));
        self.0.insert(first..=last, (to, Access::READ_WRITE));
    }
    fn unmap(&mut self, first: u64, last: u64) {
        self.0.remove(first..=last);
    }
    fn translate(&self, at: u64) -> Option<u64> {
        let (range, (to, access)) = self.0.get_key_value(&at)?;
        access.read.then(|| to.wrapping_add(at - range.start()))
    }
}

/// `vm-memory`'s. It does not look whether something is mapped already, nor whether UNMAP splits.
pub(crate) struct Tlb(Iotlb);

impl Structure for Tlb {
    fn new() -> Self {
        Self(Iotlb::new())
    }
    fn map(&mut self, first: u64, last: u64, to: u64) {
        let len = (last - first + 1) as usize;
        self.0.set_mapping(GuestAddress(first), GuestAddress(to), len, Permissions::ReadWrite).expect("mapped");
    }
    fn unmap(&mut self, first: u64, last: u64) {
        self.0.invalidate_mapping(GuestAddress(first), (last - first + 1) as usize);
    }
    fn translate(&self, at: u64) -> Option<u64> {
        let mut found = Iotlb::lookup(&self.0, GuestAddress(at), 1, Permissions::Read).ok()?;
        black_box(found.next()).map(|range| range.base.0)
    }
}
