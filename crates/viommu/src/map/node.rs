//! A node of the tree: slots in order of their keys, some of them dead.
//!
//! What a reader may find at any moment, and why that is enough, is written in [`super`].

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

use crate::{Access, Gpa, Interval, Iova, Mapping, MemoryType};

/// Slots of a leaf: 3 words each, a first address, a last address and a target.
pub(super) const LEAF_SLOTS: usize = 32;
/// Slots of an inner node: a key is a word, a child half of one.
pub(super) const INNER_SLOTS: usize = 56;

/// Slots whose keys are in one line.
const GROUP: usize = 8;
const WORDS: usize = 3 * LEAF_SLOTS;
/// Words from a group of keys to the next: in a leaf, last addresses and targets are between.
const LEAF_STRIDE: usize = 3 * GROUP;
const INNER_STRIDE: usize = GROUP;
/// Where the children begin.
const CHILDREN: usize = INNER_SLOTS;
/// Where, of the words in the first line, those are that say what the mappings of a leaf allow.
const ACCESS: usize = 4;

/// Thirteen lines of 64 bytes. Whoever looks for an address reads the first, the line of keys that its heads lead to, and the
/// line in which what belongs to the key is.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Node {
    /// Advanced before a word that a reader may have taken for valid is written over.
    version: AtomicU64,
    /// Which slots hold something.
    live: AtomicU64,
    /// The first keys of all groups but the first. In a leaf there are 4 groups, and in the last two of these words is what its
    /// mappings allow, 4 bits each.
    heads: [AtomicU64; 6],
    /// In a leaf, 4 times: 8 first addresses, and 8 pairs of a last address and a target. In an inner node, 56 keys, and as many
    /// children.
    words: [AtomicU64; WORDS],
}

/// A node where there is none: a reader whom a concurrent change has led astray reads it, and then sees the change.
pub(super) static NOWHERE: Node = Node::new();

/// The slots before this one.
pub(super) const fn before(slot: usize) -> u64 {
    (1 << (slot & 63)) - 1
}

/// The highest of some slots.
pub(super) const fn highest(slots: u64) -> Option<usize> {
    if slots == 0 { None } else { Some(63 - slots.leading_zeros() as usize) }
}

/// The lowest of some slots.
pub(super) const fn lowest(slots: u64) -> Option<usize> {
    if slots == 0 { None } else { Some(slots.trailing_zeros() as usize) }
}

/// All of so many slots.
pub(super) const fn all(slots: usize) -> u64 {
    u64::MAX >> (64 - slots)
}

/// Some slots, in order.
pub(super) fn each(mut slots: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = lowest(slots)?;
        slots &= slots - 1;
        Some(slot)
    })
}

fn pack(access: Access) -> u64 {
    let memory = match access.memory {
        MemoryType::Normal => 0,
        MemoryType::NonCacheable => 1,
        MemoryType::Mmio => 2,
    };
    u64::from(access.read) | u64::from(access.write) << 1 | memory << 2
}

fn unpack(bits: u64) -> Access {
    let memory = match bits >> 2 & 3 {
        0 => MemoryType::Normal,
        1 => MemoryType::NonCacheable,
        _ => MemoryType::Mmio,
    };
    Access { read: bits & 1 != 0, write: bits & 2 != 0, memory }
}

impl Node {
    pub(super) const fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            live: AtomicU64::new(0),
            heads: [const { AtomicU64::new(0) }; 6],
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    // What readers and the writer do.

    /// The version, before anything else is read.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// Whether nothing that was read since has been written over.
    pub(super) fn still(&self, version: u64) -> bool {
        fence(Acquire);
        self.version.load(Relaxed) == version
    }

    pub(super) fn live(&self) -> u64 {
        self.live.load(Acquire)
    }

    pub(super) fn count(&self) -> usize {
        self.live.load(Relaxed).count_ones() as usize
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        self.words.get(word).unwrap_or(&self.words[0])
    }

    /// The key of a slot of an inner node.
    pub(super) fn key(&self, slot: usize) -> u64 {
        self.word(slot).load(Relaxed)
    }

    /// The first address of a slot of a leaf.
    pub(super) fn first(&self, slot: usize) -> u64 {
        self.word(LEAF_STRIDE * (slot / GROUP) + slot % GROUP).load(Relaxed)
    }

    /// Where the last address of a slot of a leaf is; its target is beside it.
    const fn pair(slot: usize) -> usize {
        LEAF_STRIDE * (slot / GROUP) + GROUP + 2 * (slot % GROUP)
    }

    /// The last address of a slot of a leaf.
    pub(super) fn last(&self, slot: usize) -> u64 {
        self.word(Self::pair(slot)).load(Relaxed)
    }

    /// How many keys, dead or not, are not above: without branches, and with two loads that wait for each other.
    #[inline(always)]
    fn rank<const SLOTS: usize, const STRIDE: usize, const AHEAD: bool>(&self, at: u64) -> usize {
        let not_above = |key: &AtomicU64| usize::from(key.load(Relaxed) <= at);
        if SLOTS <= GROUP {
            return self.words[..SLOTS].iter().map(not_above).sum();
        }
        let group: usize = self.heads[..SLOTS / GROUP - 1].iter().map(not_above).sum();
        if AHEAD {
            _ = self.word(CHILDREN + GROUP / 2 * group).load(Relaxed);
        }
        let (lines, _) = self.words.as_chunks::<GROUP>();
        let keys = lines.get(group * (STRIDE / GROUP)).unwrap_or(&lines[0]);
        GROUP * group + keys.iter().map(not_above).sum::<usize>()
    }

    /// How many first addresses of a leaf, of dead slots too, are not above.
    #[inline(always)]
    pub(super) fn leaf_rank<const SLOTS: usize>(&self, at: u64) -> usize {
        self.rank::<SLOTS, LEAF_STRIDE, false>(at)
    }

    /// How many keys of an inner node, of dead slots too, are not above.
    #[inline(always)]
    pub(super) fn inner_rank<const SLOTS: usize>(&self, at: u64) -> usize {
        self.rank::<SLOTS, INNER_STRIDE, false>(at)
    }

    /// The slot of an inner node whose child holds an address; if `AHEAD`, the line of its child is read together with that of the key.
    #[inline(always)]
    pub(super) fn way<const SLOTS: usize, const AHEAD: bool>(&self, live: u64, at: u64) -> usize {
        // The first key is 0, so that the rank is 1 at least; a reader finds 0 only where something is being written over.
        let up_to =
            2u64.wrapping_shl((self.rank::<SLOTS, INNER_STRIDE, AHEAD>(at) as u32).wrapping_sub(1)).wrapping_sub(1);
        63 - ((live & up_to) | 1).leading_zeros() as usize
    }

    pub(super) fn child(&self, slot: usize) -> u32 {
        (self.word(CHILDREN + slot / 2).load(Acquire) >> (32 * (slot % 2))) as u32
    }

    /// What a slot of a leaf holds. `None` if that is none, which a reader sees only in a node that is being written over.
    pub(super) fn mapping(&self, slot: usize) -> Option<Mapping> {
        let at = Interval::new(Iova(self.first(slot)), Iova(self.last(slot)))?;
        let to = Gpa(self.word(Self::pair(slot) + 1).load(Relaxed));
        let access = unpack(self.heads[ACCESS + slot / 16 % 2].load(Relaxed) >> (4 * (slot % 16)));
        Some(Mapping { at, to, access })
    }

    /// The mapping of a leaf that holds an address.
    #[inline(always)]
    pub(super) fn find<const SLOTS: usize>(&self, at: Iova) -> Option<Mapping> {
        let live = self.live();
        let slot = highest(live & before(self.leaf_rank::<SLOTS>(at.0)))?;
        self.mapping(slot).filter(|mapping| mapping.at.contains(at))
    }

    /// Reads a word of each line, so that the cache misses of a leaf are waited for together.
    #[inline(always)]
    pub(super) fn touch(&self) {
        self.words.as_chunks::<GROUP>().0.iter().for_each(|line| _ = line[0].load(Relaxed));
    }

    // What only the writer does.

    /// Advances the version: what is written from here on, a reader who does not see the new version does not see.
    pub(super) fn advance(&self) {
        self.version.store(self.version.load(Relaxed) + 1, Release);
        fence(Release);
    }

    fn publish(&self, live: u64) {
        self.live.store(live, Release);
    }

    /// Takes out slots, which stay readable until the version advances.
    pub(super) fn kill(&self, slots: u64) {
        self.publish(self.live.load(Relaxed) & !slots);
    }

    fn set_head(&self, slot: usize, key: u64) {
        if slot.is_multiple_of(GROUP) && slot > 0 {
            self.heads[(slot / GROUP - 1) % 6].store(key, Relaxed);
        }
    }

    pub(super) fn set_key(&self, slot: usize, key: u64) {
        self.word(slot).store(key, Relaxed);
        self.set_head(slot, key);
    }

    fn set_first(&self, slot: usize, first: u64) {
        self.word(LEAF_STRIDE * (slot / GROUP) + slot % GROUP).store(first, Relaxed);
        self.set_head(slot, first);
    }

    pub(super) fn set_child(&self, slot: usize, child: u32) {
        let (word, shift) = (self.word(CHILDREN + slot / 2), 32 * (slot % 2));
        let other = word.load(Relaxed) & !(0xffff_ffff << shift);
        word.store(other | u64::from(child) << shift, Release);
    }

    fn set_mapping(&self, slot: usize, mapping: Mapping) {
        self.set_first(slot, mapping.at.first().0);
        self.word(Self::pair(slot)).store(mapping.at.last().0, Relaxed);
        self.word(Self::pair(slot) + 1).store(mapping.to.0, Relaxed);
        let (word, shift) = (&self.heads[ACCESS + slot / 16 % 2], 4 * (slot % 16));
        word.store(word.load(Relaxed) & !(0xf << shift) | pack(mapping.access) << shift, Relaxed);
    }

    fn copy_mapping(&self, from: usize, to: usize) {
        if let Some(mapping) = self.mapping(from) {
            self.set_mapping(to, mapping);
        }
    }

    fn copy_child(&self, from: usize, to: usize) {
        self.set_key(to, self.key(from));
        self.set_child(to, self.child(from));
    }

    /// Makes room for a slot at a rank, by moving what lies between there and the nearest dead slot, one slot at a time:
    /// first the copy, then one store that makes it live and what it was copied from dead. Which slot, if there is a dead one.
    fn open<const SLOTS: usize>(&self, rank: usize, copy: impl Fn(&Self, usize, usize)) -> Option<usize> {
        let dead = !self.live.load(Relaxed) & all(SLOTS);
        let up_to = if rank < 64 { before(rank) } else { u64::MAX };
        let (left, right) = (highest(dead & up_to), lowest(dead & !up_to));
        let shift = |from: usize, to: usize| {
            self.advance();
            copy(self, from, to);
            self.publish(self.live.load(Relaxed) ^ (1 << from | 1 << to));
        };
        let slot = match (left, right) {
            (Some(left), right) if right.is_none_or(|right| rank - 1 - left <= right - rank) => {
                (left + 1..rank).for_each(|from| shift(from, from - 1));
                rank - 1
            }
            (_, Some(right)) => {
                (rank..right).rev().for_each(|from| shift(from, from + 1));
                rank
            }
            _ => return None,
        };
        self.advance();
        Some(slot)
    }

    /// Puts a mapping into a leaf that has a dead slot.
    pub(super) fn put_mapping<const SLOTS: usize>(&self, mapping: Mapping, rank: usize) {
        if let Some(slot) = self.open::<SLOTS>(rank, Self::copy_mapping) {
            self.set_mapping(slot, mapping);
            self.publish(self.live.load(Relaxed) | 1 << slot);
        }
    }

    /// Puts a child into an inner node that has a dead slot, and says where. Not as the first.
    pub(super) fn put_child<const SLOTS: usize>(&self, key: u64, child: u32) -> usize {
        let Some(slot) = self.open::<SLOTS>(self.inner_rank::<SLOTS>(key), Self::copy_child) else { return 0 };
        self.set_key(slot, key);
        self.set_child(slot, child);
        self.publish(self.live.load(Relaxed) | 1 << slot);
        slot
    }

    /// Fills a leaf that nobody can reach, with as many dead slots between any two; a dead one has the key of the one behind it.
    pub(super) fn fill_leaf<const SLOTS: usize>(&self, mappings: &[Mapping]) {
        let (mut live, mut next) = (0, 0);
        for (i, mapping) in mappings.iter().enumerate() {
            let end = (i + 1) * SLOTS / mappings.len();
            live |= 1 << next;
            self.set_mapping(next, *mapping);
            let beyond = mappings.get(i + 1).map_or(u64::MAX, |next| next.at.first().0);
            (next + 1..end).for_each(|slot| self.set_first(slot, beyond));
            next = end;
        }
        self.publish(live);
    }

    /// Makes a leaf that nobody can reach empty: all keys are this one.
    pub(super) fn empty_leaf<const SLOTS: usize>(&self, key: u64) {
        (0..SLOTS).for_each(|slot| self.set_first(slot, key));
        self.publish(0);
    }

    /// Fills an inner node that nobody can reach. The first child is that of all below the second: its key is 0.
    pub(super) fn fill_inner<const SLOTS: usize>(&self, children: &[(u64, u32)]) {
        let (mut live, mut next) = (0, 0);
        for (i, &(key, child)) in children.iter().enumerate() {
            let end = (i + 1) * SLOTS / children.len();
            let beyond = children.get(i + 1).map_or(u64::MAX, |(key, _)| *key);
            live |= 1 << next;
            self.set_child(next, child);
            self.set_key(next, if i == 0 { 0 } else { key });
            (next + 1..end).for_each(|slot| self.set_key(slot, beyond));
            next = end;
        }
        self.publish(live);
    }

    /// Takes out children, so that another is the first if the first is among them. Not all.
    pub(super) fn kill_children(&self, slots: u64) {
        let keep = self.live.load(Relaxed) & !slots;
        match lowest(keep) {
            Some(first) if first != 0 => {
                self.set_child(0, self.child(first));
                self.kill(slots & !1 | 1 << first);
            }
            _ => self.kill(slots),
        }
    }

    pub(super) fn link(&self) -> u64 {
        self.words[0].load(Relaxed)
    }

    pub(super) fn set_link(&self, to: u64) {
        self.words[0].store(to, Relaxed);
    }
}
