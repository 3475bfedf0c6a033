//! The TLB: what a walk found, by page, until the hypervisor says that it is no longer so.
//!
//! It forgets nothing by itself, so that an invalidation that is missing shows: the stale entry is used.

use std::collections::BTreeMap;

use hyp::Event;
use mmu::{
    Oa, PAGE,
    arm::{Leaf, S1Attrs, S2Attrs},
};

/// Of stage 1 by VA page, of stage 2 by IPA page. Faults are not kept (D8.16.1).
#[derive(Debug, Default)]
pub(crate) struct Tlb {
    stage1: BTreeMap<u64, Leaf<S1Attrs>>,
    stage2: BTreeMap<u64, Leaf<S2Attrs>>,
    /// How often it forgot something.
    epoch: u64,
}

/// The translation of `address`, from that of another address of its page.
fn at<A>(mut leaf: Leaf<A>, address: u64) -> Leaf<A> {
    leaf.oa = Oa(leaf.oa.0 & !(PAGE - 1) | address & (PAGE - 1));
    leaf
}

impl Tlb {
    pub(crate) fn stage1(&self, va: u64) -> Option<Leaf<S1Attrs>> {
        self.stage1.get(&(va / PAGE)).map(|leaf| at(*leaf, va))
    }

    pub(crate) fn stage2(&self, ipa: u64) -> Option<Leaf<S2Attrs>> {
        self.stage2.get(&(ipa / PAGE)).map(|leaf| at(*leaf, ipa))
    }

    /// Changes when something is forgotten.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn keep1(&mut self, va: u64, leaf: Leaf<S1Attrs>) {
        self.stage1.insert(va / PAGE, leaf);
    }

    pub(crate) fn keep2(&mut self, ipa: u64, leaf: Leaf<S2Attrs>) {
        self.stage2.insert(ipa / PAGE, leaf);
    }

    /// Stage 2 by IPA, and all of stage 1: what [`Event::Invalidate`] is made of.
    pub(crate) fn event(&mut self, event: Event) {
        if let Event::Invalidate { ipa, size } = event {
            let last = ipa.0.saturating_add(size.saturating_sub(1)) / PAGE;
            self.stage2.retain(|page, _| !(ipa.0 / PAGE..=last).contains(page));
            self.stage1.clear();
            self.epoch += 1;
        }
    }
}
