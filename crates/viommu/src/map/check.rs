//! What holds of every tree, after anything that is done to it.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{node::each, *};

impl<const LEAF: usize, const INNER: usize> Map<LEAF, INNER> {
    /// Looks at a node and what is below, and says how many mappings and nodes there are.
    fn check(&self, node: u32, level: u64, own: (u64, u64)) -> (usize, usize) {
        let it = self.shared.arena.node(node);
        let live: Vec<usize> = each(it.live()).collect();
        assert!(!live.is_empty() && live.len() == it.count());
        if level == 0 {
            assert!((1..LEAF).all(|slot| it.first(slot - 1) <= it.first(slot)));
            let mut from = own.0;
            for (i, &slot) in live.iter().enumerate() {
                assert!(from <= it.first(slot) && it.first(slot) <= it.last(slot) && it.last(slot) <= own.1);
                assert!(it.leaf_rank::<LEAF>(it.first(slot)) > slot);
                from = it.last(slot).wrapping_add(1);
                assert!(from != 0 || i + 1 == live.len());
            }
            return (live.len(), 1);
        }
        assert!((1..INNER).all(|slot| it.key(slot - 1) <= it.key(slot)));
        assert_eq!((live[0], it.key(0)), (0, 0));
        let (mut mappings, mut nodes, mut beside) = (0, 1, None);
        for (i, &slot) in live.iter().enumerate() {
            let first = if slot == 0 { own.0 } else { it.key(slot) };
            let last = live.get(i + 1).map_or(own.1, |&next| it.key(next) - 1);
            assert!(own.0 <= first && first <= last && last <= own.1);
            assert_eq!([first, last].map(|at| it.way::<INNER, false>(it.live(), at)), [slot; 2]);
            let below = self.check(it.child(slot), level - 1, (first, last));
            let count = self.shared.arena.node(it.child(slot)).count();
            let half = if level == 1 { LEAF / 2 } else { INNER / 2 };
            assert!(
                beside.is_none_or(|beside: usize| beside + count > half),
                "{beside:?} beside {count}, level {level}"
            );
            (mappings, nodes, beside) = (mappings + below.0, nodes + below.1, Some(count));
        }
        (mappings, nodes)
    }

    fn check_all(&self, peak: usize) {
        let root = self.shared.root.load(Relaxed);
        let (mappings, nodes) = if root == EMPTY { (0, 0) } else { self.check(root as u32, root >> 32, (0, u64::MAX)) };
        assert_eq!(mappings, self.len);
        assert_eq!(nodes, self.free.used(&self.shared.arena), "nodes are in the tree or free");
        assert!(self.bytes() <= Self::most_bytes(peak));
    }
}

/// Runs up and down, single mappings and ranges, on a few thousand pages: what is usual in [`Map`]'s life, and what is not.
fn life<const LEAF: usize, const INNER: usize>(seed: u64, steps: usize) {
    let mut map = Map::<LEAF, INNER>::with_nodes(3000);
    let reader = map.reader();
    let (mut x, mut peak) = (seed, 0);
    let mut random = |below: u64| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) % below
    };
    for step in 0..steps {
        let (place, count, gap) = (random(4000), 1 + random(200), 1 + random(3));
        let what = random(9);
        for i in 0..count {
            let page = match what {
                0 | 1 => place + gap * i,
                2 | 3 => place + gap * (count - i),
                _ => random(4000),
            };
            let pages = if what == 4 { 1 + random(5) } else { 1 };
            let at = Interval::new(Iova(page << 12), Iova(((page + pages) << 12) - 1)).unwrap();
            match what {
                0 | 2 | 4 | 5 => _ = map.insert(Mapping { at, to: Gpa(page), access: Access::READ_WRITE }),
                8 if i > 3 => {}
                8 => {
                    let last = map.get(Iova((page + 300) << 12)).map_or((page + 300) << 12, |there| there.at.last().0);
                    let first = map.get(at.first()).map_or(at.first(), |there| there.at.first());
                    map.remove(Interval::new(first, Iova(last)).unwrap()).unwrap();
                }
                _ => _ = map.remove(at),
            }
            peak = peak.max(map.len());
        }
        map.check_all(peak);
        if step % 50 == 49 {
            map.remove(Interval::ALL).unwrap();
            map.check_all(peak);
        }
    }
    drop(reader);
}

#[test]
fn every_tree_is_in_order_and_bounded() {
    for seed in 0..4 {
        life::<4, 4>(seed, 300);
        life::<8, 16>(seed, 300);
        life::<16, 8>(seed, 300);
        life::<32, 56>(seed, 300);
    }
}
