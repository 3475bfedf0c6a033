//! Page-table entries of Sv39, Sv48 and Sv57, and of their G-stage forms, which are the same bits.

use super::Pbmt;

/// A page-table entry (volume II, *Sv39*; *Svpbmt*; *Svnapot*).
///
/// ```
/// use memtype::riscv::{Kind, Pbmt, Pte};
///
/// // Valid, readable, writable, NC.
/// let pte = Pte(1 << 61 | 0x10 << 10 | 0b1100_0111);
/// assert_eq!(pte.kind(), Kind::Leaf);
/// assert_eq!(pte.pbmt(true), Ok(Pbmt::Nc));
/// assert!(pte.pbmt(false).is_err(), "without Svpbmt the bits must be zero");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pte(pub u64);

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// V = 0: no translation; the other bits are software's.
    Invalid,
    /// R = W = X = 0: points to the next level.
    Pointer,
    /// Translates.
    Leaf,
    /// W without R: reserved, a page fault (with Zicfiss W alone is a shadow stack page).
    WriteOnly,
}

/// Why an entry raises a page-fault exception because of its upper bits (a guest-page fault, if it is a G-stage entry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// PBMT = 3 in a leaf: reserved (Svpbmt).
    ReservedPbmt,
    /// PBMT is not zero and Svpbmt is not available: not implemented, or menvcfg.PBMTE or henvcfg.PBMTE is 0.
    NoSvpbmt,
    /// PBMT is not zero in an entry that is no leaf (Svpbmt).
    PbmtInPointer,
}

impl Pte {
    const PBMT: u32 = 61;

    /// V, bit 0.
    #[must_use]
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.0 & 1 != 0
    }
    /// N, bit 63 (Svnapot): one of a range of contiguous translations.
    #[must_use]
    #[inline]
    pub const fn is_napot(self) -> bool {
        self.0 >> 63 != 0
    }
    /// What it is, by V, R, W and X.
    #[must_use]
    #[inline]
    pub const fn kind(self) -> Kind {
        match (self.is_valid(), self.0 >> 1 & 0b111) {
            (false, _) => Kind::Invalid,
            (true, 0b000) => Kind::Pointer,
            (true, 0b010 | 0b110) => Kind::WriteOnly,
            (true, _) => Kind::Leaf,
        }
    }
    /// The PBMT field, bits 62:61, as it stands.
    #[must_use]
    #[inline]
    pub const fn pbmt_bits(self) -> u8 {
        (self.0 >> Self::PBMT & 3) as u8
    }
    /// The physical page number, bits 53:10.
    #[must_use]
    #[inline]
    pub const fn ppn(self) -> u64 {
        self.0 >> 10 & ((1 << 44) - 1)
    }
    /// What PBMT says, where Svpbmt is available for this stage or not. Of an invalid entry as of a leaf.
    ///
    /// # Errors
    /// Why it faults.
    #[inline]
    pub const fn pbmt(self, svpbmt: bool) -> Result<Pbmt, Fault> {
        let bits = self.pbmt_bits();
        if bits != 0 && !svpbmt {
            return Err(Fault::NoSvpbmt);
        }
        if bits != 0 && matches!(self.kind(), Kind::Pointer) {
            return Err(Fault::PbmtInPointer);
        }
        match Pbmt::from_bits(bits) {
            Some(pbmt) => Ok(pbmt),
            None => Err(Fault::ReservedPbmt),
        }
    }
    /// Whether N is set in an encoding that Svnapot has: a leaf of the last level whose PPN ends in `0b1000` (64 KiB). Of
    /// other levels no encoding is valid, which the entry alone does not show.
    #[must_use]
    #[inline]
    pub const fn is_napot_64k(self) -> bool {
        self.is_napot() && matches!(self.kind(), Kind::Leaf) && self.ppn() & 0b1111 == 0b1000
    }
    /// Bits 60:54, which are reserved: a page fault where they are not zero. With Svrsw60t59b bits 60 and 59 are software's.
    #[must_use]
    #[inline]
    pub const fn reserved(self, svrsw60t59b: bool) -> u64 {
        let mask = if svrsw60t59b { 0b001_1111 } else { 0b111_1111 };
        self.0 >> 54 & mask
    }
}

/// The memory types of T-Head's C9xx cores, from before Svpbmt: another encoding in bits 63:59, as Linux writes them
/// (arch/riscv/include/asm/pgtable-64.h). On those cores bit 63 is not N and bits 62:61 are not PBMT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thead {
    /// `0b01110`: weakly ordered, cacheable, bufferable, shareable: what Linux uses as PMA.
    Pma,
    /// `0b00110`: weakly ordered, non-cacheable, bufferable, shareable: as NC.
    Nc,
    /// `0b10010`: strongly ordered, non-cacheable, non-bufferable, shareable: as IO.
    Io,
}

/// What the upper bits of `pte` are in T-Head's encoding; `None` for one that Linux does not write.
#[must_use]
#[inline]
pub const fn thead(pte: Pte) -> Option<Thead> {
    match pte.0 >> 59 {
        0b01110 => Some(Thead::Pma),
        0b00110 => Some(Thead::Nc),
        0b10010 => Some(Thead::Io),
        _ => None,
    }
}
