//! Where the nodes are: chunks that are never moved, so that a reader needs no lock to find one.

use std::sync::OnceLock;

use super::node::{NOWHERE, Node};

/// No node.
pub(super) const NONE: u32 = u32::MAX;

const CHUNKS: usize = 64;
const OFFSET_BITS: u32 = 26;
/// Up to here, chunks double; from here on each is a quarter of what is there.
const DOUBLE_UP_TO: usize = 64;

/// Chunks of nodes. A node is the number of its chunk in 6 bits, and its place in there in 26.
#[derive(Debug)]
pub(super) struct Arena {
    chunks: [OnceLock<Box<[Node]>>; CHUNKS],
}

/// For the writer: which nodes are free.
#[derive(Debug)]
pub(super) struct Free {
    /// The last node that was given back; the others are linked.
    first: u32,
    /// Chunks there are, nodes in all of them, and nodes of the last that have not been used.
    chunks: usize,
    nodes: usize,
    fresh: usize,
}

/// How many nodes there are in all if so many are needed.
pub(super) const fn capacity(nodes: usize) -> usize {
    if nodes <= DOUBLE_UP_TO { nodes.next_power_of_two() } else { nodes + nodes / 4 }
}

impl Arena {
    pub(super) const fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    #[inline(always)]
    pub(super) fn node(&self, node: u32) -> &Node {
        let chunk = self.chunks[(node >> OFFSET_BITS) as usize].get();
        chunk.and_then(|chunk| chunk.get((node & ((1 << OFFSET_BITS) - 1)) as usize)).unwrap_or(&NOWHERE)
    }
}

impl Free {
    pub(super) const fn new() -> Self {
        Self { first: NONE, chunks: 0, nodes: 0, fresh: 0 }
    }

    /// Nodes there are, free ones among them.
    pub(super) const fn nodes(&self) -> usize {
        self.nodes
    }

    /// Nodes that are not free.
    #[cfg(test)]
    pub(super) fn used(&self, arena: &Arena) -> usize {
        let free = std::iter::successors(Some(self.first), |&node| Some(arena.node(node).link() as u32));
        self.nodes - self.fresh - free.take_while(|&node| node != NONE).count()
    }

    /// A node that nobody can reach.
    pub(super) fn take(&mut self, arena: &Arena) -> Option<u32> {
        if self.first != NONE {
            let node = self.first;
            self.first = arena.node(node).link() as u32;
            return Some(node);
        }
        if self.fresh == 0 {
            self.grow(arena)?;
        }
        let chunk = self.chunks - 1;
        self.fresh -= 1;
        let place = arena.chunks[chunk].get()?.len() - 1 - self.fresh;
        Some((chunk as u32) << OFFSET_BITS | place as u32)
    }

    #[cold]
    fn grow(&mut self, arena: &Arena) -> Option<()> {
        let more = match self.nodes {
            0 => 1,
            nodes if nodes < DOUBLE_UP_TO => nodes,
            nodes => nodes / 4,
        };
        let chunk = arena.chunks.get(self.chunks).filter(|_| more <= 1 << OFFSET_BITS)?;
        chunk.set((0..more).map(|_| Node::new()).collect()).ok()?;
        self.chunks += 1;
        self.nodes += more;
        self.fresh = more;
        Some(())
    }

    /// Gives back a node that nobody can reach any more; readers who are in it see that.
    pub(super) fn give(&mut self, arena: &Arena, node: u32) {
        let it = arena.node(node);
        it.advance();
        it.set_link(u64::from(self.first));
        self.first = node;
    }
}
