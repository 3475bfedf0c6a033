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
    let root = Place { table: root, level: config.start_level(), fresh: false };
    fill::<F, M>(root, config, memory, (ia.0, oa.0, size), leaf)
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
    /// Came zeroed for this mapping: no entry of it can be in the way.
    fresh: bool,
}

/// Fills the part of `size` bytes that lies under one table.
fn fill<F: Format, M: Frames>(
    at: Place,
    config: Config,
    memory: &mut M,
    (mut ia, mut oa, mut size): (u64, u64, u64),
    leaf: LeafBits,
) -> Result<(), MapError<M::Error>> {
    let Place { table, level, fresh } = at;
    let span = entry_size(level);
    while size != 0 {
        let slot = Oa(table.0 + 8 * config.index(level, ia));
        let leaves = level == 3 || level > 0 && span <= leaf.largest && (ia | oa) % span == 0;
        let here = if leaves && size >= span {
            // What is left of the size ends in this table, or the caller would have cut it.
            let count = size / span;
            // No carry: the output addresses end below bit 48, and attributes have no bit of an address.
            let first = descriptor::leaf(level, Oa(oa), leaf.bits);
            let written = write_run::<F, M>(memory, slot, count, (first, span), level, fresh);
            let written = written.map_err(MapError::Memory)?;
            if written != count {
                return Err(MapError::Occupied { ia: Ia(ia + written * span), level });
            }
            count * span
        } else {
            let here = size.min(span - ia % span);
            let entry = if fresh { 0 } else { memory.read(slot).map_err(MapError::Memory)? };
            let next = match decode::<F>(entry, level) {
                Entry::Leaf { .. } => return Err(MapError::Occupied { ia: Ia(ia), level }),
                Entry::Table { next, .. } => Place { table: next, level: level + 1, fresh: false },
                Entry::Invalid => {
                    let frame = memory.frame().ok_or(MapError::NoFrame)?;
                    memory.write(slot, descriptor::table(frame)).map_err(MapError::Memory)?;
                    Place { table: frame, level: level + 1, fresh: true }
                }
            };
            fill::<F, M>(next, config, memory, (ia, oa, here), leaf)?;
            here
        };
        ia += here;
        oa += here;
        size -= here;
    }
    Ok(())
}

/// Writes `first`, `first + step` and so on into the `count` entries from `slot`, up to the first that is in the way. Gives
/// how many were written.
fn write_run<F: Format, M: WordsMut>(
    memory: &mut M,
    slot: Oa,
    count: u64,
    (first, step): (u64, u64),
    level: u8,
    fresh: bool,
) -> Result<u64, M::Error> {
    let taken = |word: u64| !matches!(decode::<F>(word, level), Entry::Invalid);
    let Some(words) = memory.words_mut(slot, count as usize).filter(|words| words.len() as u64 == count) else {
        for i in 0..count {
            let at = Oa(slot.0 + 8 * i);
            if !fresh && taken(memory.read(at)?) {
                return Ok(i);
            }
            memory.write(at, first + i * step)?;
        }
        return Ok(count);
    };
    // An entry in the way has bit 0 set. Where none has, there is none, and that is found without a branch an entry.
    let any = if fresh { 0 } else { words.iter().fold(0, |any, word| any | word) };
    let free = match any & descriptor::VALID {
        0 => words.len(),
        _ => words.iter().take_while(|word| !taken(**word)).count(),
    };
    let mut next = first;
    for word in &mut words[..free] {
        *word = next;
        next += step;
    }
    Ok(free as u64)
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
    unmap_with::<F, M>(root, config, memory, ia, size, |_, _| ())
}

/// [`unmap`], and tells `each` of every entry, once it is cleared: the first input address it mapped and its level, which
/// are what a `TLBI` by address takes. They come in ascending order.
///
/// # Errors
/// The memory's own. What `each` was told of is cleared.
pub fn unmap_with<F: Format, M: WordsMut>(
    root: Oa,
    config: Config,
    memory: &mut M,
    ia: Ia,
    size: u64,
    mut each: impl FnMut(Ia, u8),
) -> Result<u64, M::Error> {
    if size == 0 || ia > config.last() {
        return Ok(0);
    }
    let last = ia.0.saturating_add(size - 1).min(config.last().0);
    clear::<F, M>((root, config.start_level()), config, memory, (ia.0, last), &mut each)
}

/// Clears the leaves of `ia..=last`, which lies under one table.
fn clear<F: Format, M: WordsMut>(
    (table, level): (Oa, u8),
    config: Config,
    memory: &mut M,
    (ia, last): (u64, u64),
    each: &mut impl FnMut(Ia, u8),
) -> Result<u64, M::Error> {
    let span = entry_size(level);
    let first = ia & !(span - 1);
    let count = (last - first) / span + 1;
    let slot = Oa(table.0 + 8 * config.index(level, ia));
    if let Some(words) = memory.words_mut(slot, count as usize).filter(|words| words.len() as u64 == count) {
        let (all, any) = words.iter().fold((u64::MAX, 0), |(all, any), word| (all & word, any | word));
        // Bits 1:0 say what an entry is. Where they are the same in every entry, one answer is the answer for all.
        if (all ^ any) & (descriptor::VALID | descriptor::TABLE_OR_PAGE) == 0 {
            match decode::<F>(all, level) {
                Entry::Invalid => return Ok(0),
                Entry::Table { .. } => {}
                Entry::Leaf { .. } => {
                    words.fill(0);
                    (0..count).for_each(|i| each(Ia(first + i * span), level));
                    return Ok(count);
                }
            }
        }
    }
    let mut cleared = 0;
    for i in 0..count {
        let (slot, start) = (Oa(slot.0 + 8 * i), first + i * span);
        match decode::<F>(memory.read(slot)?, level) {
            Entry::Invalid => {}
            Entry::Table { next, .. } => {
                let under = (start.max(ia), (start | (span - 1)).min(last));
                cleared += clear::<F, M>((next, level + 1), config, memory, under, each)?;
            }
            Entry::Leaf { .. } => {
                memory.write(slot, 0)?;
                cleared += 1;
                each(Ia(start), level);
            }
        }
    }
    Ok(cleared)
}
