//! Building: mapping a range with the largest blocks its alignment allows, and unmapping it.

use core::fmt;

use super::{Config, Entry, Format, decode, descriptor, entry_size};
use crate::{Frames, Ia, Oa, PAGE, WordsMut};

/// Why a range was not mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError<E> {
    /// An address or the size is no multiple of 4 KiB, or the size is zero.
    Unaligned {
        /// The input address.
        ia: Ia,
        /// The output address.
        oa: Oa,
        /// Bytes.
        size: u64,
    },
    /// The range ends beyond the input or output addresses configured.
    OutOfRange {
        /// The input address.
        ia: Ia,
        /// The output address.
        oa: Oa,
        /// Bytes.
        size: u64,
    },
    /// There is a mapping already. Replacing one takes break-before-make: unmap it, invalidate the TLBs, map.
    /// What was mapped before this address stays mapped.
    Occupied {
        /// The first input address in the way.
        ia: Ia,
        /// The level of the entry in the way.
        level: u8,
    },
    /// No frame for another table. What was mapped stays mapped.
    NoFrame,
    /// The memory's own error.
    Memory(E),
}

impl<E: fmt::Debug> fmt::Display for MapError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unaligned { ia, oa, size } => {
                write!(f, "{ia:?} -> {oa:?}, {size:#x} bytes: all three must be multiples of 4 KiB, the size not zero")
            }
            Self::OutOfRange { ia, oa, size } => {
                write!(f, "{ia:?} -> {oa:?}, {size:#x} bytes: beyond the address sizes configured")
            }
            Self::Occupied { ia, level } => {
                write!(f, "{ia:?} is mapped already (level {level}): unmap it first (break-before-make)")
            }
            Self::NoFrame => f.write_str("no frame left for a table"),
            Self::Memory(e) => write!(f, "table memory: {e:?}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for MapError<E> {}

/// Maps `size` bytes from `ia` to `oa`, with blocks of up to `largest` bytes (4 KiB, 2 MiB or 1 GiB) where both addresses
/// and what is left of the size allow. Adds to the tables at `root`; never replaces anything.
///
/// # Errors
/// [`MapError`]. Checks that need no table come first and change nothing.
pub fn map<F: Format, M: Frames>(
    root: Oa,
    config: Config,
    memory: &mut M,
    (ia, oa, size): (Ia, Oa, u64),
    attrs: &F::Attrs,
    largest: u64,
) -> Result<(), MapError<M::Error>> {
    if (ia.0 | oa.0 | size) % PAGE != 0 || size == 0 {
        return Err(MapError::Unaligned { ia, oa, size });
    }
    let last = |start: u64| start.checked_add(size - 1);
    let inside = |end: Option<u64>, bits: u8| end.is_some_and(|e| e >> bits == 0);
    if !inside(last(ia.0), config.ia_bits()) || !inside(last(oa.0), config.oa_bits()) {
        return Err(MapError::OutOfRange { ia, oa, size });
    }
    let leaf = LeafBits { bits: F::encode(attrs), largest };
    fill::<F, M>(Place { table: root, level: config.start_level() }, config, memory, (ia.0, oa.0, size), leaf)
}

/// The blocks and pages of one mapping: their attributes as bits, and the largest.
#[derive(Clone, Copy)]
struct LeafBits {
    bits: u64,
    largest: u64,
}

#[derive(Clone, Copy)]
struct Place {
    table: Oa,
    level: u8,
}

/// Fills the part of `size` bytes that lies under one table.
fn fill<F: Format, M: Frames>(
    at: Place,
    config: Config,
    memory: &mut M,
    (mut ia, mut oa, mut size): (u64, u64, u64),
    leaf: LeafBits,
) -> Result<(), MapError<M::Error>> {
    let span = entry_size(at.level);
    if at.level == 3 {
        // What most of the time is spent in: a word a page.
        let first = at.table.0 + 8 * config.index(3, ia);
        for i in 0..size / span {
            let slot = Oa(first + 8 * i);
            if !matches!(decode::<F>(memory.read(slot).map_err(MapError::Memory)?, 3), Entry::Invalid) {
                return Err(MapError::Occupied { ia: Ia(ia + i * span), level: 3 });
            }
            let page = descriptor::leaf(3, Oa(oa + i * span), leaf.bits);
            memory.write(slot, page).map_err(MapError::Memory)?;
        }
        return Ok(());
    }
    while size != 0 {
        let slot = Oa(at.table.0 + 8 * config.index(at.level, ia));
        let here = size.min(span - ia % span);
        let entry = memory.read(slot).map_err(MapError::Memory)?;
        let block = at.level > 0 && span <= leaf.largest && here == span && oa % span == 0;
        match decode::<F>(entry, at.level) {
            Entry::Invalid if block => {
                memory.write(slot, descriptor::leaf(at.level, Oa(oa), leaf.bits)).map_err(MapError::Memory)?;
            }
            Entry::Leaf { .. } => return Err(MapError::Occupied { ia: Ia(ia), level: at.level }),
            Entry::Table { .. } if block => return Err(MapError::Occupied { ia: Ia(ia), level: at.level }),
            below => {
                let next = match below {
                    Entry::Table { next, .. } => next,
                    _ => {
                        let frame = memory.frame().ok_or(MapError::NoFrame)?;
                        memory.write(slot, descriptor::table(frame)).map_err(MapError::Memory)?;
                        frame
                    }
                };
                let under = Place { table: next, level: at.level + 1 };
                fill::<F, M>(under, config, memory, (ia, oa, here), leaf)?;
            }
        }
        ia += here;
        oa += here;
        size -= here;
    }
    Ok(())
}

/// Unmaps every block and page that overlaps the `size` bytes from `ia`, whole; empty tables stay. Gives how many entries
/// were cleared. Invalidating TLBs is the caller's.
///
/// # Errors
/// The memory's own.
pub fn unmap<F: Format, M: WordsMut>(
    root: Oa,
    config: Config,
    memory: &mut M,
    ia: Ia,
    size: u64,
) -> Result<u64, M::Error> {
    if size == 0 || ia > config.last() {
        return Ok(0);
    }
    let last = ia.0.saturating_add(size - 1).min(config.last().0);
    clear::<F, M>(Place { table: root, level: config.start_level() }, config, memory, ia.0, last)
}

fn clear<F: Format, M: WordsMut>(
    at: Place,
    config: Config,
    memory: &mut M,
    mut ia: u64,
    last: u64,
) -> Result<u64, M::Error> {
    let span = entry_size(at.level);
    let mut cleared = 0;
    loop {
        let slot = Oa(at.table.0 + 8 * config.index(at.level, ia));
        let end = ia | (span - 1);
        match decode::<F>(memory.read(slot)?, at.level) {
            Entry::Invalid => {}
            Entry::Table { next, .. } => {
                let under = Place { table: next, level: at.level + 1 };
                cleared += clear::<F, M>(under, config, memory, ia, end.min(last))?;
            }
            Entry::Leaf { .. } => {
                memory.write(slot, 0)?;
                cleared += 1;
            }
        }
        if end >= last {
            return Ok(cleared);
        }
        ia = end + 1;
    }
}
