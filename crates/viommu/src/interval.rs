//! Addresses and inclusive intervals of them.

use std::fmt;

/// An address as an endpoint uses it: `virt_start` and `virt_end` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Iova(pub u64);

/// A guest-physical address: `phys_start` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Gpa(pub u64);

/// Addresses from one to another, both included, so that the whole of 2^64 is one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval {
    first: Iova,
    last: Iova,
}

impl Interval {
    /// The whole of the address space.
    pub const ALL: Self = Self { first: Iova(0), last: Iova(u64::MAX) };

    /// From one to another; nothing if the last is below the first.
    #[must_use]
    pub const fn new(first: Iova, last: Iova) -> Option<Self> {
        if last.0 < first.0 { None } else { Some(Self { first, last }) }
    }
    /// The first address.
    #[must_use]
    pub const fn first(self) -> Iova {
        self.first
    }
    /// The last address; not below the first.
    #[must_use]
    pub const fn last(self) -> Iova {
        self.last
    }
    /// Whether they have an address in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.first.0 <= other.last.0 && other.first.0 <= self.last.0
    }
    /// Whether the other lies wholly within.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first.0 <= other.first.0 && other.last.0 <= self.last.0
    }
    /// Whether the address lies within.
    #[must_use]
    pub const fn contains(self, at: Iova) -> bool {
        self.first.0 <= at.0 && at.0 <= self.last.0
    }
    /// The number of addresses, less one: the whole of 2^64 has no number of 64 bits.
    #[must_use]
    pub const fn size_less_one(self) -> u64 {
        self.last.0 - self.first.0
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Gpa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
