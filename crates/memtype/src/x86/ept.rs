//! Intel's extended page tables (EPT): the memory type below a guest.
//!
//! An EPT leaf has a memory type in bits 5:3, encoded as in an MTRR, and "ignore PAT" (IPAT) in bit 6. MTRRs have no effect
//! on accesses by guest-physical address.
//!
//! ```
//! use memtype::x86::{Pat, Type, ept};
//!
//! // What KVM writes for a BAR: UC, IPAT clear.
//! let leaf = ept::Leaf::decode(0x7);
//! assert_eq!((leaf.ty, leaf.ipat), (Ok(Type::Uc), false));
//! assert_eq!(ept::combine(Type::Uc, false, Pat::Wb), Type::Uc);
//! ```

use super::{Pat, Type, effective};
use crate::cite::{Cite, Source};

/// The section that [`combine`] is.
pub const COMBINE: Cite = Cite::read(
    Source::Sdm,
    "vol. 3C 29.3.7.2, memory type used for translated guest-physical addresses (24.2.5.2 in older ones)",
);

/// A memory type of an EPT leaf that is reserved: the access is an EPT misconfiguration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Misconfigured(
    /// Bits 5:3: 2, 3 or 7.
    pub u8,
);

/// What an EPT leaf says of memory types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// Bits 5:3.
    pub ty: Result<Type, Misconfigured>,
    /// Bit 6.
    pub ipat: bool,
}

impl Leaf {
    /// From a leaf entry: a PTE, or a PDE or PDPTE with bit 7 set. Total.
    #[must_use]
    #[inline]
    pub const fn decode(entry: u64) -> Self {
        let bits = (entry >> 3 & 7) as u8;
        let ty = match Type::from_bits(bits) {
            Some(ty) => Ok(ty),
            None => Err(Misconfigured(bits)),
        };
        Self { ty, ipat: entry & 1 << 6 != 0 }
    }
}

/// The type in force for an access of a guest with CR0.CD clear: the EPT type with IPAT, else as an MTRR of that type would
/// come to with the guest's PAT entry ([`COMBINE`]).
#[must_use]
#[inline]
pub const fn combine(ept: Type, ipat: bool, guest: Pat) -> Type {
    if ipat { ept } else { effective(ept, guest) }
}

/// The same for any CR0.CD: with CD set it is UC, whatever the tables say ([`COMBINE`]).
#[must_use]
#[inline]
pub const fn combine_cd(ept: Type, ipat: bool, guest: Pat, cd: bool) -> Type {
    if cd { Type::Uc } else { combine(ept, ipat, guest) }
}
