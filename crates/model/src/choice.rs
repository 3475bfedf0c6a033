//! The choices the architecture leaves to an implementation, and the record of a run: how they fell, and why it came out so.

use std::collections::BTreeSet;

/// A choice the architecture leaves to the implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// An atomic where nothing guarantees it (B2.2.6).
    Atomic,
    /// An exclusive where nothing guarantees it (B2.12).
    Exclusive,
    /// An exclusive or atomic that is not aligned to its size (B2.8.2.1.2).
    UnalignedAtomic,
    /// An unaligned access, or DC ZVA, where stage 1 says Device and FWB makes it Write-Back (R_RMTWN).
    ForcedWriteBack,
    /// Whether a cache line was written back, or dropped, by itself before somebody looks behind the cache's back (B2.11).
    Evict,
    /// Whether the CPU read what no program reads, where a live mapping lets it (B2.10.1).
    Speculate,
    /// Whether writes were gathered, where a defect of the platform makes that visible (B2.10.1).
    Merge,
}

impl Choice {
    /// In words, with the place.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Atomic => {
                "Atomics on memory that is not shareable Normal Write-Back: performed, DFSC 0b110101, External abort, or no \
                 operation. An SError is allowed too, and not modelled. [DDI 0487 B2.2.6]"
            }
            Self::Exclusive => {
                "Exclusives on memory that is not shareable Normal Write-Back: performed, DFSC 0b110101, External abort, no \
                 operation, or a store that never succeeds. [DDI 0487 B2.12]"
            }
            Self::UnalignedAtomic => {
                "An exclusive or atomic that is not aligned to its size, on other than Normal Write-Back or across 16 bytes: \
                 performed, or an Alignment fault. [DDI 0487 B2.8.2.1.2, CONSTRAINED UNPREDICTABLE with FEAT_LSE2]"
            }
            Self::ForcedWriteBack => {
                "Stage 1 says Device, FWB makes it Write-Back: an unaligned access or DC ZVA is performed, or is an Alignment \
                 fault of stage 1. [DDI 0487 R_RMTWN, CONSTRAINED UNPREDICTABLE]"
            }
            Self::Evict => {
                "A cache holds a line that is not what memory holds, and one of the two is accessed past the other: the line \
                 was written back or dropped before, by itself, or it was not. [DDI 0487 B2.11]"
            }
            Self::Speculate => {
                "A page with a live mapping that lets the CPU read ahead, and reads that have side effects: no stray read \
                 happens, or one of the page just before the access, whose value is dropped. [DDI 0487 B2.10.1]"
            }
            Self::Merge => {
                "Normal-NC writes to a platform that does some of them wrong: each left alone, or gathered. [DDI 0487 B2.10.1]"
            }
        }
    }
    /// How many ways it can fall. The first is that of a machine without caches, gathering and speculation.
    const fn options(self) -> u8 {
        match self {
            Self::Atomic => 4,
            Self::Exclusive => 5,
            Self::UnalignedAtomic | Self::ForcedWriteBack | Self::Evict | Self::Speculate | Self::Merge => 2,
        }
    }
}

/// What a sentence of a hot path is about, so that it is made once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Stale,
    StaleLine,
    Lost,
    Ahead,
    Stray,
    Failed,
    Defect,
    Snoop,
    Untranslated,
    Walk,
    Asked,
}

/// Most sentences made by [`Log::once`].
const MAX_TOPICS: usize = 64;

/// The record of a run.
#[derive(Debug, Default)]
pub(crate) struct Log {
    script: Vec<u8>,
    pub(crate) choices: Vec<Choice>,
    /// For each choice met: how it fell, of how many.
    pub(crate) taken: Vec<(u8, u8)>,
    pub(crate) because: Vec<String>,
    topics: BTreeSet<(Topic, u64)>,
}

impl Log {
    /// `script` says how the first choices fall; the others fall as 0.
    pub(crate) fn new(script: &[u8]) -> Self {
        Self { script: script.to_vec(), ..Self::default() }
    }

    /// How a choice falls, 0 to `options` − 1. A machine is consistent: the same choice falls the same way every time.
    pub(crate) fn choose(&mut self, choice: Choice) -> u8 {
        if let Some(i) = self.choices.iter().position(|c| *c == choice) {
            return self.taken[i].0;
        }
        let fell = self.script.get(self.choices.len()).copied().unwrap_or(0);
        self.choices.push(choice);
        self.taken.push((fell, choice.options()));
        fell
    }

    /// How a choice that was met fell.
    pub(crate) fn fell(&self, choice: Choice) -> Option<u8> {
        self.choices.iter().position(|c| *c == choice).map(|i| self.taken[i].0)
    }

    pub(crate) fn say(&mut self, sentence: String) {
        self.because.push(sentence);
    }

    /// Says it once for each topic and address.
    pub(crate) fn once(&mut self, topic: Topic, at: u64, sentence: impl FnOnce() -> String) {
        // What ends a run is always said.
        let room = self.topics.len() < MAX_TOPICS || topic == Topic::Failed;
        if room && self.topics.insert((topic, at)) {
            let sentence = sentence();
            if !self.because.contains(&sentence) {
                self.because.push(sentence);
            }
        }
    }
}
