//! What the writer does to the tree.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{
    Mapping, Shared,
    arena::{Free, NONE},
    node::{INNER_SLOTS, LEAF_SLOTS, Node, before, each, highest, lowest},
};

/// More than any tree has: an inner node of the smallest size has 1.5 children in the mean.
const LEVELS: usize = 48;

/// The way to a leaf that was looked for last, and the addresses that it is the leaf of.
#[derive(Debug)]
pub(super) struct Path {
    /// The leaf, and above it the inner nodes with the slots that lead to it.
    steps: [(u32, u8); LEVELS],
    height: usize,
    first: u64,
    last: u64,
}

impl Path {
    pub(super) const fn new() -> Self {
        Self { steps: [(NONE, 0); LEVELS], height: 0, first: 1, last: 0 }
    }

    pub(super) fn leaf(&self) -> u32 {
        self.steps[0].0
    }

    /// The last address that the leaf is the leaf of.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    fn step(&self, level: usize) -> (u32, usize) {
        let (node, slot) = self.steps[level];
        (node, usize::from(slot))
    }

    pub(super) fn forget(&mut self) {
        (self.first, self.last) = (1, 0);
    }
}

/// Where the root is: its node, and above it how many levels there are above the leaves.
pub(super) const EMPTY: u64 = u64::MAX;

pub(super) const fn root(node: u32, height: usize) -> u64 {
    (height as u64) << 32 | node as u64
}

/// The live slots beside one.
fn beside(live: u64, slot: usize) -> (Option<usize>, Option<usize>) {
    (highest(live & before(slot)), lowest(live & !before(slot) & !(1 << slot)))
}

/// The tree as its writer sees it. A leaf has `LEAF` slots, an inner node `INNER`.
#[derive(Debug)]
pub(super) struct Writer<'a, const LEAF: usize, const INNER: usize> {
    pub(super) shared: &'a Shared,
    pub(super) free: &'a mut Free,
    pub(super) path: &'a mut Path,
}

impl<'a, const LEAF: usize, const INNER: usize> Writer<'a, LEAF, INNER> {
    pub(super) fn node(&self, node: u32) -> &'a Node {
        self.shared.arena.node(node)
    }

    fn take(&mut self) -> Option<u32> {
        self.free.take(&self.shared.arena)
    }

    fn root(&self) -> Option<(u32, usize)> {
        let root = self.shared.root.load(Relaxed);
        (root != EMPTY).then_some((root as u32, (root >> 32) as usize))
    }

    fn set_root(&mut self, to: u64) {
        self.path.forget();
        self.shared.root.store(to, Release);
    }

    /// The leaf of an address, if there is any leaf; the way there is kept in the path.
    pub(super) fn find(&mut self, at: u64) -> Option<&'a Node> {
        if self.path.first <= at && at <= self.path.last {
            return Some(self.node(self.path.leaf()));
        }
        let (mut node, height) = self.root()?;
        let (mut first, mut last) = (0, u64::MAX);
        for level in (1..=height).rev() {
            let it = self.node(node);
            let live = it.live();
            let slot = it.way::<INNER, false>(live, at);
            if let (_, Some(next)) = beside(live, slot) {
                last = it.key(next).wrapping_sub(1);
            }
            if slot != 0 {
                first = it.key(slot);
            }
            self.path.steps[level] = (node, slot as u8);
            node = it.child(slot);
        }
        self.path.steps[0].0 = node;
        (self.path.height, self.path.first, self.path.last) = (height, first, last);
        let leaf = self.node(node);
        leaf.touch();
        Some(leaf)
    }

    /// The leaf of an address with a dead slot, which is made where there is none. `None` if there is no memory.
    pub(super) fn find_room(&mut self, at: u64) -> Option<&'a Node> {
        loop {
            match self.find(at) {
                None => {
                    let leaf = self.take()?;
                    self.node(leaf).empty_leaf::<LEAF>(u64::MAX);
                    self.set_root(root(leaf, 0));
                }
                Some(leaf) if leaf.count() < LEAF => return Some(leaf),
                Some(_) => self.make_room(at)?,
            }
        }
    }

    /// Splits the highest of the full nodes that end in the leaf of the path, or puts a new root above if they are all full.
    #[cold]
    fn make_room(&mut self, at: u64) -> Option<()> {
        let height = self.path.height;
        let room = (1..=height).find(|&level| self.node(self.path.step(level).0).count() < INNER);
        let Some(parent) = room else {
            let node = self.take()?;
            self.node(node).fill_inner::<INNER>(&[(0, self.path.step(height).0)]);
            self.set_root(root(node, height + 1));
            return Some(());
        };
        let (node, slot) = self.path.step(parent);
        self.path.forget();
        if parent == 1 {
            self.split_leaf(self.node(node), slot, at)
        } else {
            self.split_inner(self.node(node), slot, parent)
        }
    }

    /// Whether the neighbours of a child are at least half full, if there are any, so that there can be a small one beside them.
    fn beside_half<const SLOTS: usize>(&self, parent: &Node, slot: usize) -> (bool, bool) {
        let (left, right) = beside(parent.live(), slot);
        let enough = |slot: Option<usize>| slot.is_none_or(|slot| self.node(parent.child(slot)).count() >= SLOTS / 2);
        (enough(left), enough(right))
    }

    /// Puts a new leaf beside a full one: an empty one at an end where the mapping is to go, or the upper half.
    fn split_leaf(&mut self, parent: &Node, slot: usize, at: u64) -> Option<()> {
        let child = parent.child(slot);
        let full = self.node(child);
        let (left, right) = self.beside_half::<LEAF>(parent, slot);
        if right && full.first(LEAF - 1) < at {
            let new = self.take()?;
            self.node(new).empty_leaf::<LEAF>(u64::MAX);
            parent.put_child::<INNER>(at, new);
        } else if left && at < full.first(0) {
            let new = self.take()?;
            self.node(new).empty_leaf::<LEAF>(0);
            let put = parent.put_child::<INNER>(full.first(0), child);
            if let (Some(slot), _) = beside(parent.live(), put) {
                parent.set_child(slot, new);
            }
        } else {
            let (low, high) = (self.take()?, self.take()?);
            let mut all = [Mapping::NONE; LEAF_SLOTS];
            let count = self.gather_leaf(full, &mut all);
            let (lower, upper) = all[..count].split_at(count / 2);
            self.node(low).fill_leaf::<LEAF>(lower);
            self.node(high).fill_leaf::<LEAF>(upper);
            self.replace(parent, (child, low), (upper[0].at.first().0, high));
        }
        Some(())
    }

    /// Puts the upper half of a full inner node beside it; less than half at an end of the level, where there will be more.
    fn split_inner(&mut self, parent: &Node, slot: usize, level: usize) -> Option<()> {
        let child = parent.child(slot);
        let (low, high) = (self.take()?, self.take()?);
        let mut all = [(0, NONE); INNER_SLOTS];
        let count = self.gather_inner(self.node(child), &mut all);
        let below = self.path.steps[level - 1].1.into();
        let cut = match (beside(parent.live(), slot), beside(self.node(child).live(), below)) {
            ((_, None), (_, None)) => count - count / 8 - 1,
            ((None, _), (None, _)) => count / 8 + 1,
            _ => count / 2,
        };
        let (lower, upper) = all[..count].split_at(cut);
        self.node(low).fill_inner::<INNER>(lower);
        self.node(high).fill_inner::<INNER>(upper);
        self.replace(parent, (child, low), (upper[0].0, high));
        Some(())
    }

    /// Puts two nodes where one was: first the upper, of which the old one has a part, then the lower in place of the old one.
    fn replace(&mut self, parent: &Node, (old, low): (u32, u32), (key, high): (u64, u32)) {
        let put = parent.put_child::<INNER>(key, high);
        if let (Some(slot), _) = beside(parent.live(), put) {
            parent.set_child(slot, low);
        }
        parent.advance();
        self.free.give(&self.shared.arena, old);
    }

    fn gather_leaf(&self, leaf: &Node, into: &mut [Mapping]) -> usize {
        let mappings = each(leaf.live()).filter_map(|slot| leaf.mapping(slot));
        into.iter_mut().zip(mappings).map(|(into, mapping)| *into = mapping).count()
    }

    fn gather_inner(&self, node: &Node, into: &mut [(u64, u32)]) -> usize {
        let children = each(node.live()).map(|slot| (node.key(slot), node.child(slot)));
        into.iter_mut().zip(children).map(|(into, child)| *into = child).count()
    }

    /// Makes the leaf of the path that of addresses up to this one, where nothing is mapped: the key that ends it is raised,
    /// and dead ones after it that would be below.
    #[cold]
    pub(super) fn stretch(&mut self, last: u64) {
        let mut levels = 1..=self.path.height;
        let next = levels.find_map(|level| {
            let (node, slot) = self.path.step(level);
            let node = self.node(node);
            Some((node, beside(node.live(), slot).1?))
        });
        self.path.forget();
        let Some((node, next)) = next else { return };
        let key = last.saturating_add(1);
        let rank = node.inner_rank::<INNER>(key);
        node.advance();
        (next..rank.max(next + 1)).rev().for_each(|slot| node.set_key(slot, key));
    }

    /// Whether a leaf of the path that will hold so many mappings can be left as it is.
    pub(super) fn settled(&self, count: usize) -> bool {
        if count >= LEAF / 2 || self.path.height == 0 {
            return count > 0;
        }
        let (node, slot) = self.path.step(1);
        let parent = self.node(node);
        let (left, right) = beside(parent.live(), slot);
        let apart = |slot: usize| self.node(parent.child(slot)).count() + count > LEAF * 3 / 4;
        count > 0 && left.is_none_or(apart) && right.is_none_or(apart)
    }

    /// Removes all mappings that begin in a range, none of which goes beyond it; how many.
    #[cold]
    pub(super) fn remove(&mut self, range: (u64, u64)) -> usize {
        let Some((top, height)) = self.root() else { return 0 };
        self.path.forget();
        let (removed, empty) = self.prune(top, height, (0, u64::MAX), range);
        if empty {
            self.set_root(EMPTY);
            return removed + self.give(top, height);
        }
        while let Some((top, height @ 1..)) = self.root() {
            let node = self.node(top);
            if node.count() > 1 {
                break;
            }
            self.set_root(root(node.child(0), height - 1));
            self.free.give(&self.shared.arena, top);
        }
        removed
    }

    /// Removes under a node, which is that of the addresses `own`. The number, and whether nothing is left: then the node has to go,
    /// with what it still has below it.
    fn prune(&mut self, node: u32, level: usize, own: (u64, u64), range: (u64, u64)) -> (usize, bool) {
        let it = self.node(node);
        let live = it.live();
        if level == 0 {
            let gone = each(live).filter(|&slot| (range.0..=range.1).contains(&it.first(slot)));
            let gone = gone.fold(0, |gone, slot| gone | 1 << slot);
            it.kill(gone);
            return (gone.count_ones() as usize, gone == live);
        }
        let (first, last) = (it.way::<INNER, false>(live, range.0), it.way::<INNER, false>(live, range.1));
        let (mut removed, mut gone) = (0, 0u64);
        for slot in each(live & !before(first)).take_while(|&slot| slot <= last) {
            let low = if slot == 0 { own.0 } else { it.key(slot) };
            let high = beside(live, slot).1.map_or(own.1, |next| it.key(next).wrapping_sub(1));
            let whole = range.0 <= low && high <= range.1;
            let (below, empty) =
                if whole { (0, true) } else { self.prune(it.child(slot), level - 1, (low, high), range) };
            removed += below;
            gone |= u64::from(empty) << slot;
        }
        if gone == live {
            return (removed, true);
        }
        if gone != 0 {
            let mut children = [NONE; INNER_SLOTS];
            let count = children.iter_mut().zip(each(gone)).map(|(child, slot)| *child = it.child(slot)).count();
            it.kill_children(gone);
            it.advance();
            removed += children[..count].iter().map(|&child| self.give(child, level - 1)).sum::<usize>();
        }
        self.settle(it, level, range);
        (removed, false)
    }

    /// Gives back a node that nobody can reach any more, and all below it; how many mappings were there. A reader who is in it sees
    /// that before anything below it can be something else.
    pub(super) fn give(&mut self, node: u32, level: usize) -> usize {
        let it = self.node(node);
        it.advance();
        let count = match level {
            0 => it.count(),
            _ => each(it.live()).map(|slot| self.give(it.child(slot), level - 1)).sum(),
        };
        self.free.give(&self.shared.arena, node);
        count
    }

    /// Merges neighbours among the children that a range touches and those beside them, where two are small enough together.
    fn settle(&mut self, parent: &Node, level: usize, range: (u64, u64)) {
        let first = parent.way::<INNER, false>(parent.live(), range.0);
        let mut slot = beside(parent.live(), first).0.unwrap_or(first);
        while let (_, Some(next)) = beside(parent.live(), slot) {
            if !self.merge(parent, level, slot, next) {
                if parent.key(slot) > range.1 {
                    break;
                }
                slot = next;
            }
        }
    }

    /// Puts one node where two were, if they are small enough together.
    fn merge(&mut self, parent: &Node, level: usize, slot: usize, next: usize) -> bool {
        let (left, right) = (parent.child(slot), parent.child(next));
        let (a, b) = (self.node(left), self.node(right));
        let slots = if level == 1 { LEAF } else { INNER };
        if a.count() + b.count() > slots * 3 / 4 {
            return false;
        }
        let Some(new) = self.take() else { return false };
        let (it, seam) = (self.node(new), parent.key(next));
        if level == 1 {
            let mut all = [Mapping::NONE; LEAF_SLOTS];
            let count = self.gather_leaf(a, &mut all);
            let count = count + self.gather_leaf(b, &mut all[count..]);
            it.fill_leaf::<LEAF>(&all[..count]);
        } else {
            let mut all = [(0, NONE); INNER_SLOTS];
            let count = self.gather_inner(a, &mut all);
            let both = count + self.gather_inner(b, &mut all[count..]);
            all[count].0 = seam;
            it.fill_inner::<INNER>(&all[..both]);
        }
        parent.set_child(slot, new);
        parent.kill(1 << next);
        parent.advance();
        self.free.give(&self.shared.arena, left);
        self.free.give(&self.shared.arena, right);
        if level > 1 {
            self.settle(it, level - 1, (seam, seam));
        }
        true
    }

    /// Waits while a reader that lost too often is at it.
    #[cold]
    pub(super) fn give_way(shared: &Shared) {
        while shared.waiting.load(Acquire) != 0 {
            std::thread::yield_now();
        }
    }

    /// Whether nodes can have so many slots.
    pub(super) const fn sizes() -> bool {
        let leaf = LEAF >= 4 && LEAF <= LEAF_SLOTS && (LEAF <= 8 || LEAF.is_multiple_of(8));
        let inner = INNER >= 4 && INNER <= INNER_SLOTS && (INNER <= 8 || INNER.is_multiple_of(8));
        leaf && inner
    }
}
