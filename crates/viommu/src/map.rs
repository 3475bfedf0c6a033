//! The mappings of a domain. A MAP request is a unit (5.13.6.6: "a mapping as a virtual region created with a single MAP request"): neighbours
//! are never joined, and no UNMAP splits one.
//!
//! # The tree
//!
//! A B+-tree in an arena. Nodes are 832 bytes, 13 cache lines: a leaf has 32 slots, an inner node 56. Keys are first addresses; both
//! ends of a mapping are kept, so that the whole of 2^64 is one mapping. A slot is live or dead, by a bit in the node's first
//! line; the keys of all slots are in order, those of dead ones too. So a mapping is removed by one store, and put in between two others
//! by moving what lies between there and the nearest dead slot.
//!
//! A leaf is the leaf of the addresses from one key above it to the next. No mapping goes on into another leaf's: where one
//! would, nothing else is mapped up to its end, and the key between is raised. So one leaf is all that a translation looks at.
//!
//! A full leaf is split in half; but one that is filled from below or from above is left full, and an empty one put beside it, because
//! that is how guests allocate. A removal that leaves a leaf less than half full looks at the leaves beside it, and puts two that are three
//! quarters of one together into one. A range takes whole leaves, and whole inner nodes, out at once.
//!
//! # Memory
//!
//! Of any two children beside each other under one parent, the mappings, or children, together are more than half of what one node can
//! have: 17 or more, 29 or more. So there are no more than `n / 7 + 8` nodes if there have never been more than `n` mappings, and
//! the arena has at most a quarter more: see [`Map::most_bytes`], 150 bytes a mapping. A guest that allocates in a
//! row, up or down, has 26 to 33 bytes a mapping, and at random about 40.
//!
//! Nodes that are free are used again. Memory goes back when the map and the last reader are gone, or with [`Map::clear`] if there is
//! no reader.
//!
//! # Readers
//!
//! A reader takes no lock. All words of a node are atomics, so there are no data races; what has to be shown is that what a reader puts
//! together was there at one moment. There is a version in each node, and these rules for the writer:
//!
//! 1. A word that belongs to a live slot is not written over, and a slot that dies is not used again, before the version has advanced.
//!    There are two exceptions, whose old and new values are both true while the word changes: a child that is replaced by
//!    one that has the same mappings, or by its neighbour if all of its own are to be removed; and a key that is raised over addresses at
//!    which nothing is mapped.
//! 2. After each single store, the node is one that could stand. A slot is written first and made live by one store after;
//!    a slot that moves is copied to a dead one, and one store makes the copy live and the original dead.
//! 3. A node that is taken out of the tree is left as it is until the version of its parent, and then its own, has advanced. It is used again
//!    only after that.
//!
//! A reader loads the version of a node, then which slots are live, then keys, then a child or a mapping; last it loads the version again.
//! On the way down it loads the version of the child before it looks at that of the parent again.
//!
//! *A node.* The version advances by a store (release) and a release fence after it. If a reader has loaded any word that was written
//! after the fence, then its acquire fence before the second load of the version synchronizes with that fence, and the load gives the
//! new version: it begins again. If the versions are the same, all words of the slots that it saw live are those from when it saw them
//! live: by rule 1 for what came after, and for what came before because the live slots are stored with release and loaded with acquire. Keys of dead
//! slots, and the copies of every eighth key in the first line, may have changed in between; but they always lie between those of
//! the live slots around them, so the last live slot whose key is not above the address is the same by any of them.
//!
//! *From parent to child.* That the number of a child is still that of the same node is known from the parent's version: if the
//! child was used again, the reader has loaded (acquire) a version of it that was stored after that of the parent had advanced, and sees that.
//! If the parent itself had been taken out before, its own parent's version said so; and the root is loaded again after its version for the
//! same reason.
//!
//! *The moment.* So what a reader finds is what the leaf held when it loaded the live slots, or, if the leaf was being taken out, what it held
//! then, which is within the call too. A reader that remembers the leaf it was in last, and the version, uses it only for what it
//! finds there, not for what it does not find.
//!
//! *Waiting.* The writer never leaves anything locked: a reader that meets a writer that has stopped in the middle of a change does not
//! wait. It begins again only if the writer has advanced the version of one of the three to five nodes on its way in the meantime. That can
//! happen again and again only if the writer changes that very leaf all the time; so a reader that has lost 64 times
//! says so, and the writer lets it pass before it begins with another request. That is the only case in which one
//! waits for the other, and it is the writer who does.

mod arena;
#[cfg(test)]
mod check;
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

/// Reads a [`Map`] while it is written to. Cheap to clone, one for each thread; keeps the memory of the map alive.
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
                let kept = from
                    .filter(|&slot| leaf.first(slot) < first)
                    .map_or_else(|| from.map_or(0, before), |slot| before(slot + 1));
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
        std::iter::from_fn(move || {
            loop {
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
            }
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
        let leaves = (peak as u128 * inner as u128).div_ceil((1 + (inner - 1) / 2 * leaf) as u128);
        let inners = (leaves * 2).div_ceil(inner as u128 - 2);
        // On each level there may be one more, and while one is split or merged there are two more.
        let more = if INNER >= 32 { 8 } else { 64 };
        Self::bytes_of(capacity((leaves + inners) as usize + more))
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
    #[inline]
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
            let slot = node.way::<INNER, true>(node.live(), at.0);
            (first, last) = (node.key(slot), node.key(slot + 1));
            index = node.child(slot);
            let child = arena.node(index);
            let below = child.version();
            if !node.still(version) {
                return Err(Changed);
            }
            (node, version) = (child, below);
        }
        node.touch();
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
            let slot = node.way::<INNER, false>(live, at);
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
