//! **Page tables as bits**: build, walk and decode them over any memory that can read and write words. No allocation, no
//! pointer, no `unsafe`: the caller's [`Words`] are the memory, its [`Frames`] the allocator, so the same code works on a
//! model's memory, on a guest's, on a dump, and at EL2.
//!
//! Arm's VMSAv8-64 with the 4 KiB granule is in [`arm`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, doc))]
extern crate std;

use core::fmt;

pub mod arm;

/// An input address: a VA of stage 1, an IPA of stage 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ia(pub u64);

/// An output address: an IPA of stage 1, a PA of stage 2. Tables lie at output addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Oa(pub u64);

impl fmt::Debug for Ia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ia({:#x})", self.0)
    }
}

impl fmt::Debug for Oa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oa({:#x})", self.0)
    }
}

/// Memory that holds tables, as 64-bit little-endian words at addresses that are multiples of 8.
pub trait Words {
    /// What goes wrong: a bus error, a fault of another stage of translation.
    type Error;
    /// Reads the word at `at`.
    ///
    /// # Errors
    /// Whatever reading there gives.
    fn read(&self, at: Oa) -> Result<u64, Self::Error>;
}

/// Memory whose words can be written.
pub trait WordsMut: Words {
    /// Writes the word at `at`.
    ///
    /// # Errors
    /// Whatever writing there gives.
    fn write(&mut self, at: Oa, word: u64) -> Result<(), Self::Error>;
    /// The `count` words from `at` as one slice, in the machine's byte order, where this memory has them so. Runs of entries
    /// are filled and cleared there, several times faster than word by word. `None`, the default, where it has not: then
    /// [`read`](Words::read) and [`write`](Self::write) do the same.
    ///
    /// The words of a slice are written in any order and width; clearing may become `DC ZVA`, which is atomic by bytes only
    /// (DDI 0487 B2.2.1). So a memory whose tables an MMU may walk at the same time leaves the default, and its `write` is
    /// one store of 64 bits.
    fn words_mut(&mut self, at: Oa, count: usize) -> Option<&mut [u64]> {
        let _ = (at, count);
        None
    }
}

/// Memory that has zeroed frames of 4 KiB to give for new tables.
pub trait Frames: WordsMut {
    /// A zeroed frame, aligned to its size, that nothing else uses; `None` when there is no more. That it is zeroed is not
    /// checked.
    fn frame(&mut self) -> Option<Oa>;
}

/// Tables in a slice of words at some address, with a frame allocator that goes once through it: enough for a model, a
/// guest's boot tables, a test.
#[derive(Debug, Clone)]
pub struct Arena<S> {
    base: u64,
    words: S,
    used: usize,
}

/// Bytes of a frame, and of the smallest page.
pub const PAGE: u64 = 4096;
const PAGE_WORDS: usize = 512;

/// An access outside an [`Arena`], or off a word boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideArena(pub Oa);

impl<S: AsRef<[u64]>> Arena<S> {
    /// An arena of zeroed `words` whose first word is at `base`, a multiple of 4 KiB.
    #[must_use]
    pub const fn new(base: Oa, words: S) -> Self {
        Self { base: base.0, words, used: 0 }
    }
    /// How many frames were given out.
    #[must_use]
    pub const fn frames_used(&self) -> usize {
        self.used
    }
    /// The words of the frames given out.
    #[must_use]
    pub fn used(&self) -> &[u64] {
        &self.words.as_ref()[..self.used * PAGE_WORDS]
    }
    fn index(&self, at: Oa) -> Result<usize, OutsideArena> {
        let offset = at.0.checked_sub(self.base).filter(|o| o % 8 == 0).ok_or(OutsideArena(at))?;
        usize::try_from(offset / 8).ok().filter(|i| *i < self.words.as_ref().len()).ok_or(OutsideArena(at))
    }
}

impl<S: AsRef<[u64]>> Words for Arena<S> {
    type Error = OutsideArena;
    fn read(&self, at: Oa) -> Result<u64, OutsideArena> {
        self.index(at).map(|i| self.words.as_ref()[i])
    }
}

impl<S: AsRef<[u64]> + AsMut<[u64]>> WordsMut for Arena<S> {
    fn write(&mut self, at: Oa, word: u64) -> Result<(), OutsideArena> {
        let i = self.index(at)?;
        self.words.as_mut()[i] = word;
        Ok(())
    }
    fn words_mut(&mut self, at: Oa, count: usize) -> Option<&mut [u64]> {
        let i = self.index(at).ok()?;
        self.words.as_mut().get_mut(i..i.checked_add(count)?)
    }
}

impl<S: AsRef<[u64]> + AsMut<[u64]>> Frames for Arena<S> {
    fn frame(&mut self) -> Option<Oa> {
        if (self.used + 1) * PAGE_WORDS > self.words.as_ref().len() {
            return None;
        }
        let at = self.base + self.used as u64 * PAGE;
        self.used += 1;
        Some(Oa(at))
    }
}
