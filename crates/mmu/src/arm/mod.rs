//! VMSAv8-64, 4 KiB granule, 48-bit addresses (DDI 0487 M.a.a, D8.2 and D8.3): stage 1 of the EL1&0 regime and stage 2,
//! levels 0 to 3, 1 GiB and 2 MiB blocks, concatenated stage-2 roots.
//!
//! Not here: FEAT_LPA2 (level −1, level-0 blocks), the 16 KiB and 64 KiB granules, permission indirection (FEAT_S1PIE),
//! hardware management of the Access flag and dirty state.

mod build;
mod descriptor;
mod walk;

pub use build::{MapError, map, unmap, unmap_with};
pub use descriptor::{Access, Entry, Format, Privileges, S1Attrs, S2Attrs, Stage1, Stage2, TableBits, decode};
pub use walk::{Fault, FaultKind, Leaf, Step, WalkError, walk};

use crate::Ia;

/// The shape of a translation: how many input bits, from which level, how many output bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    ia_bits: u8,
    oa_bits: u8,
    start: u8,
}

impl Config {
    /// Stage 1: TCR_ELx.TxSZ = 64 − `ia_bits`, and the start level that follows from it (Table D8-16). `None` unless
    /// `ia_bits` is 25 to 48 and `oa_bits` 32 to 48.
    #[must_use]
    pub const fn stage1(ia_bits: u8, oa_bits: u8) -> Option<Self> {
        if ia_bits < 25 || ia_bits > 48 || oa_bits < 32 || oa_bits > 48 {
            return None;
        }
        Some(Self { ia_bits, oa_bits, start: 3 - (ia_bits - 13) / 9 })
    }

    /// Stage 2: VTCR_EL2.T0SZ = 64 − `ia_bits`, the start level from VTCR_EL2.SL0. Up to 16 tables may be concatenated at
    /// the start level (D8.2.2). `None` for what the architecture has no encoding for.
    #[must_use]
    pub const fn stage2(ia_bits: u8, oa_bits: u8, start: u8) -> Option<Self> {
        if ia_bits < 25 || ia_bits > 48 || oa_bits < 32 || oa_bits > 48 || start > 2 {
            return None;
        }
        // The bits the start level resolves: at least one, at most 9 and 4 of concatenation (none at level 0).
        let below = 12 + 9 * (3 - start);
        if ia_bits <= below || ia_bits - below > if start == 0 { 9 } else { 13 } {
            return None;
        }
        Some(Self { ia_bits, oa_bits, start })
    }

    /// Input address bits.
    #[must_use]
    pub const fn ia_bits(self) -> u8 {
        self.ia_bits
    }
    /// Output address bits.
    #[must_use]
    pub const fn oa_bits(self) -> u8 {
        self.oa_bits
    }
    /// The level the walk starts at.
    #[must_use]
    pub const fn start_level(self) -> u8 {
        self.start
    }
    /// How many 4 KiB frames the root takes: 1, or up to 16 concatenated. The root is aligned to its size.
    #[must_use]
    pub const fn root_frames(self) -> u64 {
        let bits = self.ia_bits - shift(self.start);
        if bits > 9 { 1 << (bits - 9) } else { 1 }
    }
    /// The last input address.
    #[must_use]
    pub const fn last(self) -> Ia {
        Ia((1 << self.ia_bits) - 1)
    }
    const fn index(self, level: u8, ia: u64) -> u64 {
        let mask = if level == self.start { (1 << (self.ia_bits - shift(level))) - 1 } else { 0x1ff };
        (ia >> shift(level)) & mask
    }
}

/// Bits of the offset inside one entry of `level`.
const fn shift(level: u8) -> u8 {
    12 + 9 * (3 - level)
}

/// Bytes one entry of `level` (0 to 3) maps.
#[must_use]
pub const fn entry_size(level: u8) -> u64 {
    1 << shift(level)
}
