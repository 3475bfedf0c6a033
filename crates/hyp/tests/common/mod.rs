//! Random stories for the tests of this room, which has no dependency: a generator, and what cuts a story that fails down to
//! the shortest that still does. `PROPTEST_CASES=100000 cargo test --release -p hyp` looks further.

use std::{
    env,
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// SplitMix64: the same numbers on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A setting, and what happens in it.
#[derive(Debug, Clone)]
pub(crate) struct Story<S, E> {
    pub(crate) setting: S,
    pub(crate) events: Vec<E>,
}

/// Tells as many stories as asked for, or `usually`. The first that goes wrong is shortened and shown.
pub(crate) fn tell_all<S: Debug + Clone, E: Debug + Clone>(
    usually: u64,
    story: impl Fn(u64) -> Story<S, E>,
    tell: impl Fn(&Story<S, E>) -> Result<(), String>,
) {
    let tell = |s: &Story<S, E>| catch_unwind(AssertUnwindSafe(|| tell(s))).unwrap_or_else(|_| Err("a panic".into()));
    let stories = env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usually);
    for seed in 0..stories {
        let mut story = story(seed);
        if tell(&story).is_ok() {
            continue;
        }
        let mut i = 0;
        while i < story.events.len() {
            let mut shorter = story.clone();
            shorter.events.remove(i);
            if tell(&shorter).is_err() {
                story = shorter;
                i = 0;
            } else {
                i += 1;
            }
        }
        panic!("seed {seed}: {}\n{story:#x?}", tell(&story).unwrap_err());
    }
}
