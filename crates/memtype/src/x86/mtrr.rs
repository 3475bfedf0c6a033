//! Memory type range registers (MTRRs): the type by physical address, as firmware sets it up.
//!
//! A variable range is two registers: PHYSBASE with the address and the type, PHYSMASK with which bits of an address must be
//! equal to the base's, and whether the range is valid. The default type holds where no range does; firmware commonly leaves
//! the hole that BARs live in UC.
//!
//! ```
//! use memtype::x86::Type;
//! use memtype::x86::mtrr::{Range, overlap};
//!
//! // 1 GiB at 3 GiB, UC, on a CPU with 39 address bits.
//! let range = Range { base: 0xc000_0000, mask: 0x7f_c000_0800 };
//! assert!(range.is_valid() && range.matches(0xfee0_0000) && !range.matches(0x1_0000_0000));
//! assert_eq!(range.ty(), Some(Type::Uc));
//! assert_eq!(overlap(Type::Wb, Type::Wt), Some(Type::Wt));
//! ```

use super::Type;
use crate::cite::{Cite, Source};

/// The sections that this module is.
pub const MTRRS: Cite = Cite::read(Source::Sdm, "vol. 3A 11.11, memory type range registers");

/// IA32_MTRR_DEF_TYPE (MSR 0x2ff).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DefType(pub u64);

impl DefType {
    /// The type where no range holds, bits 7:0. `None` where it is reserved.
    #[must_use]
    pub const fn ty(self) -> Option<Type> {
        Type::from_bits(self.0 as u8)
    }
    /// Bit 11, E: MTRRs are on. Off, all of memory is UC.
    #[must_use]
    pub const fn is_enabled(self) -> bool {
        self.0 & 1 << 11 != 0
    }
    /// Bit 10, FE: the fixed ranges are on; they win over the variable ones below 1 MiB.
    #[must_use]
    pub const fn is_fixed_enabled(self) -> bool {
        self.0 & 1 << 10 != 0
    }
}

/// A variable range: IA32_MTRR_PHYSBASEn and IA32_MTRR_PHYSMASKn (MSRs 0x200 and 0x201, and so on).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    /// PHYSBASE.
    pub base: u64,
    /// PHYSMASK.
    pub mask: u64,
}

impl Range {
    const ADDRESS: u64 = !0xfff;

    /// Bit 11 of PHYSMASK, V.
    #[must_use]
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.mask & 1 << 11 != 0
    }
    /// The type, bits 7:0 of PHYSBASE. `None` where it is reserved.
    #[must_use]
    #[inline]
    pub const fn ty(self) -> Option<Type> {
        Type::from_bits(self.base as u8)
    }
    /// Whether the range holds for a physical address: `address & mask == base & mask`.
    #[must_use]
    #[inline]
    pub const fn matches(self, address: u64) -> bool {
        let mask = self.mask & Self::ADDRESS;
        self.is_valid() && address & mask == self.base & mask
    }
    /// The first and the last address of a range whose mask is contiguous, for a CPU with `bits` physical address bits (at
    /// most 52). `None` where the mask has holes, so that the range is several.
    #[must_use]
    pub const fn bounds(self, bits: u32) -> Option<(u64, u64)> {
        let width = if bits > 52 { 52 } else { bits };
        let all = (1u64 << width) - 1;
        let mask = self.mask & Self::ADDRESS & all;
        let low = all & !mask;
        // Contiguous: what the mask leaves free is 2^n - 1.
        if low & low.wrapping_add(1) != 0 {
            return None;
        }
        let first = self.base & mask;
        Some((first, first | low))
    }
}

/// The type where two variable ranges of these types overlap: UC wins, WT wins over WB, and equal ones are one. `None` for any
/// other two: undefined (SDM vol. 3A 11.11.4.1).
#[must_use]
#[inline]
pub const fn overlap(a: Type, b: Type) -> Option<Type> {
    match (a, b) {
        (Type::Uc, _) | (_, Type::Uc) => Some(Type::Uc),
        (Type::Wt, Type::Wb) | (Type::Wb, Type::Wt) => Some(Type::Wt),
        _ if a as u8 == b as u8 => Some(a),
        _ => None,
    }
}

/// The type of a physical address, above 1 MiB or with the fixed ranges off: the ranges that hold, or the default. `None` where
/// a type is reserved or an overlap undefined.
#[must_use]
pub fn of_address(default: DefType, ranges: &[Range], address: u64) -> Option<Type> {
    if !default.is_enabled() {
        return Some(Type::Uc);
    }
    let mut found: Option<Type> = None;
    for range in ranges.iter().filter(|range| range.matches(address)) {
        let ty = range.ty()?;
        found = Some(match found {
            None => ty,
            Some(other) => overlap(other, ty)?,
        });
    }
    found.map_or_else(|| default.ty(), Some)
}
