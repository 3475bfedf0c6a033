//! The mappings of a domain. A MAP request is a unit (5.13.6.6: "a mapping as a virtual region created with a single MAP request"): neighbours
//! are never joined, and no UNMAP splits one.

mod arena;
mod node;
mod tree;

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};

use arena::{Arena, Free, NONE, capacity};
use node::{Node, before, highest, lowest};
use tree::{EMPTY, Path, Writer};

use crate::{Access, Gpa, Interval, Iova};

/// What one MAP request made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Where the endpoints see it.
    pub at: Interval,
    /// Where its first address goes.
    pub to: Gpa,
    /// What it allows.
    pub access: Access,
}

impl Mapping {
    /// To fill arrays with.
    const NONE: Self = Self { at: Interval::ALL, to: Gpa(0), access: Access::READ_WRITE };
}

/// Why a mapping was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotInserted {
    /// Another is there already.
    #[error("{} is mapped already, overlapping {wanted}", .there.at)]
    Overlaps {
        /// The first that is there.
        there: Mapping,
        /// What was asked for.
        wanted: Interval,
    },
    /// No more are allowed.
    #[error("{limit} mappings are there, and no more are allowed")]
    Full {
        /// The limit.
        limit: usize,
    },
}

/// Why nothing was removed: the range would split this mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{range} would split the mapping {}", .mapping.at)]
pub struct WouldSplit {
    /// The first such mapping.
    pub mapping: Mapping,
    /// The range of the request.
    pub range: Interval,
}

/// How often a reader begins again before the writer has to wait for it.
const TRIES: usize = 64;

/// What the writer and the readers share.
#[derive(Debug)]
struct Shared {
    /// The node of the root and its height, or [`EMPTY`].
    root: AtomicU64,
    /// Readers for which the writer waits before it begins with anything else.
    waiting: AtomicU64,
    arena: Arena,
}

/// Mappings by address. One writer; any number of [`Reader`]s, which no writer blocks.
pub struct Map<const LEAF: usize = 32, const INNER: usize = 56> {
    shared: Arc<Shared>,
    free: Free,
    path: Path,
    len: usize,
    limit: usize,
}

/// Reads a [`Map`] while it is written to. Cheap to clone; keeps the memory of the map alive.
#[derive(Clone)]
pub struct Reader<const LEAF: usize = 32, const INNER: usize = 56> {
    shared: Arc<Shared>,
    hint: Cell<Hint>,
}

/// The leaf that was read last, in which the next is looked for first.
#[derive(Clone, Copy)]
struct Hint {
    leaf: u32,
    version: u64,
    first: u64,
    last: u64,
}

impl Hint {
    const NONE: Self = Self { leaf: NONE, version: u64::MAX, first: 1, last: 0 };
}

impl Map {
    /// An empty one that will not take more than `limit` mappings.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::with_nodes(limit)
    }
}

impl<const LEAF: usize, const INNER: usize> Map<LEAF, INNER> {
    /// [`new`](Map::new), with other sizes of nodes: small ones make high trees of few mappings.
    #[must_use]
    pub fn with_nodes(limit: usize) -> Self {
        const { assert!(Writer::<LEAF, INNER>::sizes()) };
        let shared = Shared { root: AtomicU64::new(EMPTY), waiting: AtomicU64::new(0), arena: Arena::new() };
        Self { shared: Arc::new(shared), free: Free::new(), path: Path::new(), len: 0, limit }
    }

    /// To write with, once no reader waits.
    fn writer(&mut self) -> Writer<'_, LEAF, INNER> {
        if self.shared.waiting.load(Relaxed) != 0 {
            Writer::<LEAF, INNER>::give_way(&self.shared);
        }
        Writer { shared: &self.shared, free: &mut self.free, path: &mut self.path }
    }

    /// Takes a mapping, in O(log n).
    ///
    /// # Errors
    /// [`NotInserted`]; nothing has changed then.
    pub fn insert(&mut self, mapping: Mapping) -> Result<(), NotInserted> {
        let (first, last) = (mapping.at.first().0, mapping.at.last().0);
        let (len, limit) = (self.len, self.limit);
        let overlaps = |there: Option<Mapping>| match there {
            Some(there) => Err(NotInserted::Overlaps { there, wanted: mapping.at }),
            None => Ok(()),
        };
        let mut tree = self.writer();
        if let Some(leaf) = tree.find(first) {
            let (live, rank) = (leaf.live(), leaf.leaf_rank::<LEAF>(first));
            if let Some(slot) = highest(live & before(rank)).filter(|&slot| leaf.last(slot) >= first) {
                return overlaps(leaf.mapping(slot));
            }
            match lowest(live & !before(rank)) {
                Some(slot) if leaf.first(slot) <= last => return overlaps(leaf.mapping(slot)),
                Some(_) => {}
                None if last > tree.path.last() => {
                    let beyond = tree.path.last() + 1;
                    let there = Interval::new(Iova(beyond), mapping.at.last()).and_then(|r| self.overlapping(r).next());
                    overlaps(there)?;
                    tree = self.writer();
                    if len < limit {
                        tree.stretch(last);
                    }
                }
                None => {}
            }
        }
        if len >= limit {
            return Err(NotInserted::Full { limit });
        }
        let leaf = tree.find_room(first).ok_or(NotInserted::Full { limit: len })?;
        leaf.put_mapping::<LEAF>(mapping, leaf.leaf_rank::<LEAF>(first));
        self.len += 1;
        Ok(())
    }

    /// Whether [`insert`](Self::insert) would take it; changes nothing.
    ///
    /// # Errors
    /// [`NotInserted`].
    pub fn check_insert(&self, mapping: Mapping) -> Result<(), NotInserted> {
        if let Some(there) = self.overlapping(mapping.at).next() {
            return Err(NotInserted::Overlaps { there, wanted: mapping.at });
        }
        if self.len < self.limit { Ok(()) } else { Err(NotInserted::Full { limit: self.limit }) }
    }

    /// Whether [`remove`](Self::remove) would remove; changes nothing. O(log n).
    ///
    /// # Errors
    /// [`WouldSplit`].
    pub fn check_remove(&self, range: Interval) -> Result<(), WouldSplit> {
        let split = |at| self.get(at).filter(|there| !range.covers(there.at));
        match split(range.first()).or_else(|| split(range.last())) {
            Some(mapping) => Err(WouldSplit { mapping, range }),
            None => Ok(()),
        }
    }

    /// Removes every mapping that the range covers, and says how many, in O(log n + k). None to remove is no error.
    ///
    /// # Errors
    /// [`WouldSplit`]: a mapping lies partly within; nothing has changed then.
    pub fn remove(&mut self, range: Interval) -> Result<usize, WouldSplit> {
        let (first, last) = (range.first().0, range.last().0);
        let tree = &mut self.writer();
        let Some(leaf) = tree.find(first) else { return Ok(0) };
        let live = leaf.live();
        let from = highest(live & before(leaf.leaf_rank::<LEAF>(first)));
        // The usual request is for one mapping, just so.
        let one = from.filter(|&slot| leaf.first(slot) == first && leaf.last(slot) == last);
        let gone = match one {
            Some(slot) => 1 << slot,
            None if last <= tree.path.last() => {
                let splits = |slot: &usize| {
                    let (start, end) = (leaf.first(*slot), leaf.last(*slot));
                    (start < first && end >= first) || (start <= last && end > last)
                };
                let to = highest(live & before(leaf.leaf_rank::<LEAF>(last)));
                if let Some(mapping) = from.filter(splits).or(to.filter(splits)).and_then(|slot| leaf.mapping(slot)) {
                    return Err(WouldSplit { mapping, range });
                }
                let kept = from.filter(|&slot| leaf.first(slot) < first).map_or_else(|| from.map_or(0, before), |slot| before(slot + 1));
                to.map_or(0, |slot| live & before(slot + 1) & !kept)
            }
            None => {
                self.check_remove(range)?;
                let removed = self.writer().remove((first, last));
                self.len -= removed;
                return Ok(removed);
            }
        };
        if gone == 0 {
            return Ok(0);
        }
        let removed = gone.count_ones() as usize;
        if tree.settled((live & !gone).count_ones() as usize) {
            leaf.kill(gone);
        } else {
            tree.remove((first, last));
        }
        self.len -= removed;
        Ok(removed)
    }

    /// The mapping at an address.
    #[must_use]
    pub fn get(&self, at: Iova) -> Option<Mapping> {
        let (leaf, _) = self.shared.leaf::<INNER>(at.0)?;
        leaf.find::<LEAF>(at)
    }

    /// The mappings that have an address in common with the range, in order. Each is looked for when it is asked for.
    pub fn overlapping(&self, range: Interval) -> impl Iterator<Item = Mapping> + '_ {
        let (first, last) = (range.first().0, range.last().0);
        let mut from = Some(first);
        let mut here: Option<(&Node, u64)> = None;
        std::iter::from_fn(move || loop {
            if let Some((leaf, slots)) = &mut here {
                while let Some(slot) = lowest(*slots) {
                    *slots &= *slots - 1;
                    if leaf.first(slot) > last {
                        (here, from) = (None, None);
                        return None;
                    }
                    if leaf.last(slot) >= first {
                        return leaf.mapping(slot);
                    }
                }
            }
            let at = from?;
            let (leaf, end) = self.shared.leaf::<INNER>(at)?;
            let rank = leaf.leaf_rank::<LEAF>(at);
            let live = leaf.live();
            let skip = highest(live & before(rank)).map_or(0, before);
            here = Some((leaf, live & !skip));
            from = end.checked_add(1).filter(|&next| next <= last);
        })
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Mapping> + '_ {
        self.overlapping(Interval::ALL)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all. The memory is free for the next mappings; it is given back if there is no reader.
    pub fn clear(&mut self) {
        let Writer { shared, free, path } = &mut self.writer();
        let root = shared.root.swap(EMPTY, AcqRel);
        path.forget();
        if root != EMPTY {
            Writer::<LEAF, INNER> { shared, free, path }.give(root as u32, (root >> 32) as usize);
        }
        self.len = 0;
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.arena = Arena::new();
            self.free = Free::new();
        }
    }

    /// Bytes of memory it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        Self::bytes_of(self.free.nodes())
    }

    /// What [`bytes`](Self::bytes) is at most, whatever is inserted and removed, if there are never more mappings than `peak`.
    #[must_use]
    pub const fn most_bytes(peak: usize) -> usize {
        // Children beside each other hold `leaf` mappings, or `inner` children, together or more; one alone under its parent
        // may hold 1. So there are the most where of two inner nodes the one has 1 child and the other `inner - 1`.
        let (leaf, inner) = (LEAF / 2 + 1, INNER / 2 + 1);
        let (nodes, mappings) = (inner * inner, (inner - 2) * (1 + (inner - 1) / 2 * leaf));
        // On each level there may be one more, and while one is split or merged there are two more.
        let more = if INNER >= 32 { 8 } else { 64 };
        let nodes = (peak as u128 * nodes as u128).div_ceil(mappings as u128) as usize;
        Self::bytes_of(capacity(nodes.saturating_add(more)))
    }

    const fn bytes_of(nodes: usize) -> usize {
        nodes * size_of::<Node>() + size_of::<Self>() + size_of::<Shared>() + 2 * size_of::<usize>()
    }

    /// A reader of it.
    #[must_use]
    pub fn reader(&self) -> Reader<LEAF, INNER> {
        Reader { shared: Arc::clone(&self.shared), hint: Cell::new(Hint::NONE) }
    }
}

impl<const LEAF: usize, const INNER: usize> Reader<LEAF, INNER> {
    /// The mapping at an address, as it was at one moment during the call. Never waits for the writer.
    #[must_use]
    pub fn get(&self, at: Iova) -> Option<Mapping> {
        let hint = self.hint.get();
        if hint.first <= at.0 && at.0 <= hint.last {
            let leaf = self.shared.arena.node(hint.leaf);
            if leaf.version() == hint.version {
                let found = leaf.find::<LEAF>(at);
                if found.is_some() && leaf.still(hint.version) {
                    return found;
                }
            }
        }
        self.search(at).unwrap_or_else(|Changed| self.search_again(at))
    }

    #[cold]
    fn search_again(&self, at: Iova) -> Option<Mapping> {
        if let Some(Ok(found)) = (1..TRIES).map(|_| self.search(at)).find(Result::is_ok) {
            return found;
        }
        self.shared.waiting.fetch_add(1, Relaxed);
        let found = loop {
            if let Ok(found) = self.search(at) {
                break found;
            }
            std::hint::spin_loop();
        };
        self.shared.waiting.fetch_sub(1, Release);
        found
    }

    #[inline(always)]
    fn search(&self, at: Iova) -> Result<Option<Mapping>, Changed> {
        let Shared { root: top, arena, .. } = &*self.shared;
        let root = top.load(Acquire);
        if root == EMPTY {
            return Ok(None);
        }
        let mut index = root as u32;
        let mut node = arena.node(index);
        let mut version = node.version();
        if top.load(Acquire) != root {
            return Err(Changed);
        }
        let (mut first, mut last) = (0, u64::MAX);
        for _ in 0..root >> 32 {
            let slot = node.way::<INNER>(node.live(), at.0);
            (first, last) = (node.key(slot), node.key(slot + 1));
            index = node.child(slot);
            let child = arena.node(index);
            let below = child.version();
            if !node.still(version) {
                return Err(Changed);
            }
            (node, version) = (child, below);
        }
        let found = node.find::<LEAF>(at);
        if !node.still(version) {
            return Err(Changed);
        }
        self.hint.set(Hint { leaf: index, version, first, last });
        Ok(found)
    }
}

/// The writer has changed what was read.
struct Changed;

impl Shared {
    /// For the writer, whom nothing can change under: the leaf of an address, and the last address that it is the leaf of.
    fn leaf<const INNER: usize>(&self, at: u64) -> Option<(&Node, u64)> {
        let root = self.root.load(Relaxed);
        if root == EMPTY {
            return None;
        }
        let (mut node, mut end) = (self.arena.node(root as u32), u64::MAX);
        for _ in 0..root >> 32 {
            let live = node.live();
            let slot = node.way::<INNER>(live, at);
            if let Some(next) = lowest(live & !before(slot) & !(1 << slot)) {
                end = node.key(next).wrapping_sub(1);
            }
            node = self.arena.node(node.child(slot));
        }
        Some((node, end))
    }
}

impl<const LEAF: usize, const INNER: usize> fmt::Debug for Map<LEAF, INNER> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<const LEAF: usize, const INNER: usize> fmt::Debug for Reader<LEAF, INNER> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
