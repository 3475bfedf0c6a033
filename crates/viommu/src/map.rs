//! The mappings of a domain. A MAP request is a unit (5.13.6.6: "a mapping as a virtual region created with a single MAP request"): neighbours
//! are never joined, and no UNMAP splits one.

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

/// Why a mapping was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotInserted {
    /// Another is there already.
    #[error("{} is mapped already, overlapping {wanted}", .there.at)]
    Overlaps {
        /// One that is there.
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
    /// The mapping.
    pub mapping: Mapping,
    /// The range of the request.
    pub range: Interval,
}

/// Mappings by address. One writer; any number of [`Reader`]s, which no writer blocks.
#[derive(Debug)]
pub struct Map {}

/// Reads a [`Map`] while it is written to. Cheap to clone; keeps the memory of the map alive.
#[derive(Debug, Clone)]
pub struct Reader {}

impl Map {
    /// An empty one that will not take more than `limit` mappings.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let _ = limit;
        todo!()
    }
    /// Takes a mapping, in O(log n).
    ///
    /// # Errors
    /// [`NotInserted`]; nothing has changed then.
    pub fn insert(&mut self, mapping: Mapping) -> Result<(), NotInserted> {
        let _ = mapping;
        todo!()
    }
    /// Whether [`insert`](Self::insert) would take it; changes nothing.
    ///
    /// # Errors
    /// [`NotInserted`].
    pub fn check_insert(&self, mapping: Mapping) -> Result<(), NotInserted> {
        let _ = mapping;
        todo!()
    }
    /// Whether [`remove`](Self::remove) would remove; changes nothing. O(log n).
    ///
    /// # Errors
    /// [`WouldSplit`].
    pub fn check_remove(&self, range: Interval) -> Result<(), WouldSplit> {
        let _ = range;
        todo!()
    }
    /// Removes every mapping that the range covers, and says how many, in O(log n + k). None to remove is no error.
    ///
    /// # Errors
    /// [`WouldSplit`]: a mapping lies partly within; nothing has changed then.
    pub fn remove(&mut self, range: Interval) -> Result<usize, WouldSplit> {
        let _ = range;
        todo!()
    }
    /// The mapping at an address.
    #[must_use]
    pub fn get(&self, at: Iova) -> Option<Mapping> {
        let _ = at;
        todo!()
    }
    /// The mappings that have an address in common with the range, in order.
    pub fn overlapping(&self, range: Interval) -> impl Iterator<Item = Mapping> + '_ {
        let _ = range;
        std::iter::empty()
    }
    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = Mapping> + '_ {
        self.overlapping(Interval::ALL)
    }
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Removes all.
    pub fn clear(&mut self) {
        todo!()
    }
    /// Bytes of memory it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        todo!()
    }
    /// A reader of it.
    #[must_use]
    pub fn reader(&self) -> Reader {
        todo!()
    }
}

impl Reader {
    /// The mapping at an address, as it was at one moment during the call. Never waits for the writer.
    #[must_use]
    pub fn get(&self, at: Iova) -> Option<Mapping> {
        let _ = at;
        todo!()
    }
}
