//! AMD: the memory type below a guest with nested paging, and without one.
//!
//! A nested page-table entry is an ordinary one and has no memory type of its own: its PAT, PCD and PWT bits select an entry
//! of the *host's* PAT. The guest's PAT entry and the host's are combined first ([`pats`]), and what comes out with the MTRRs
//! of the host-physical address ([`with_mtrr`]). Two types appear that no register can name: **WC+** is WC that looks into
//! the caches, for memory that the guest has write-combining and the host cacheable; **CD** is UC that looks into the
//! caches. A device sees no difference.
//!
//! ```
//! use memtype::x86::{Pat, Type, npt};
//!
//! // KVM leaves the nested entry at the host's PAT entry 0, WB. The MTRR of a BAR says UC and the guest asks for WC.
//! assert_eq!(npt::pats(Pat::Wc, Pat::Wb), npt::Combined::WcPlus);
//! let bar = npt::combine(Type::Uc, Pat::Wb, Pat::Wc);
//! assert_eq!((bar, bar.ty()), (npt::InForce::Wc, Type::Wc));
//! // The same for RAM: write-combining, and what the host left in a cache is seen.
//! assert_eq!(npt::combine(Type::Wb, Pat::Wb, Pat::Wc), npt::InForce::WcPlus);
//! ```

use core::fmt;

use super::{Pat, Type};
use crate::cite::{Cite, Source};

/// The section that [`pats`] is.
pub const PATS: Cite =
    Cite::second_hand(Source::Apm, "15.25.8, Table 15-19, combining guest and host PAT types, in a translation");
/// The section that [`with_mtrr`] is.
pub const WITH_MTRR: Cite =
    Cite::second_hand(Source::Apm, "15.25.8, Table 15-20, combining PAT and MTRR types, in a translation");
/// The section that [`native`] is.
pub const NATIVE: Cite = Cite::read(Source::Apm, "7.8.5, Table 7-11, combined effect of MTRR and PAT memory types");
/// The section that says what CD and WC+ are.
pub const TYPES: Cite = Cite::read(Source::Apm, "7.4, memory types");

/// What a guest's and a host's PAT entry come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Combined {
    /// What a PAT entry can say as well.
    Pat(Pat),
    /// WC of the guest over a cacheable type of the host.
    WcPlus,
}

/// A memory type in force on AMD: those of [`Type`], and two that only combining makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InForce {
    /// Uncacheable.
    Uc,
    /// Cache disable: uncacheable, and lines that caches hold are written back and dropped first.
    Cd,
    /// Write-combining.
    Wc,
    /// Write-combining plus: WC that probes the caches of all CPUs.
    WcPlus,
    /// Write-protect.
    Wp,
    /// Write-through.
    Wt,
    /// Write-back.
    Wb,
}

impl InForce {
    /// All.
    pub const ALL: [Self; 7] = [Self::Uc, Self::Cd, Self::Wc, Self::WcPlus, Self::Wp, Self::Wt, Self::Wb];

    /// As AMD writes it.
    #[must_use]
    pub const fn upper(self) -> &'static str {
        match self {
            Self::Uc => "UC",
            Self::Cd => "CD",
            Self::Wc => "WC",
            Self::WcPlus => "WC+",
            Self::Wp => "WP",
            Self::Wt => "WT",
            Self::Wb => "WB",
        }
    }
    /// The type as a device sees it: CD as UC, WC+ as WC.
    #[must_use]
    #[inline]
    pub const fn ty(self) -> Type {
        match self {
            Self::Uc | Self::Cd => Type::Uc,
            Self::Wc | Self::WcPlus => Type::Wc,
            Self::Wp => Type::Wp,
            Self::Wt => Type::Wt,
            Self::Wb => Type::Wb,
        }
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.upper())
    }
}

impl fmt::Display for Combined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pat(pat) => pat.fmt(f),
            Self::WcPlus => f.pad("WC+"),
        }
    }
}

/// What the guest's PAT entry and the host's come to ([`PATS`]).
#[must_use]
#[inline]
pub const fn pats(guest: Pat, host: Pat) -> Combined {
    Combined::Pat(match (guest, host) {
        (Pat::Uc, _) => Pat::Uc,
        (Pat::Wc, Pat::Uc | Pat::UcMinus | Pat::Wc) => Pat::Wc,
        (Pat::Wc, Pat::Wp | Pat::Wt | Pat::Wb) => return Combined::WcPlus,
        (Pat::UcMinus, Pat::UcMinus) => Pat::UcMinus,
        (Pat::UcMinus | Pat::Wb, Pat::Wc) => Pat::Wc,
        (Pat::Wp, Pat::Wp | Pat::Wb) | (Pat::Wb, Pat::Wp) => Pat::Wp,
        (Pat::Wt, Pat::Wt | Pat::Wb) | (Pat::Wb, Pat::Wt) => Pat::Wt,
        (Pat::Wb, Pat::Wb) => Pat::Wb,
        (Pat::UcMinus | Pat::Wp | Pat::Wt | Pat::Wb, _) => Pat::Uc,
    })
}

/// What combined PAT types and the MTRR's type of the host-physical address come to, with CR0.CD clear in guest and host
/// ([`WITH_MTRR`]).
#[must_use]
#[inline]
pub const fn with_mtrr(mtrr: Type, pat: Combined) -> InForce {
    match (pat, mtrr) {
        (Combined::WcPlus, Type::Uc | Type::Wc) => InForce::Wc,
        (Combined::WcPlus, Type::Wp | Type::Wt | Type::Wb) => InForce::WcPlus,
        (Combined::Pat(pat), mtrr) => native(mtrr, pat),
    }
}

/// What a PAT entry and the MTRR's type come to without nested paging ([`NATIVE`]).
#[must_use]
#[inline]
pub const fn native(mtrr: Type, pat: Pat) -> InForce {
    match (pat, mtrr) {
        (Pat::Wc, _) | (Pat::UcMinus | Pat::Wb, Type::Wc) => InForce::Wc,
        (_, Type::Uc) => InForce::Uc,
        (Pat::Wp, Type::Wp | Type::Wb) | (Pat::Wb, Type::Wp) => InForce::Wp,
        (Pat::Wt, Type::Wt | Type::Wb) | (Pat::Wb, Type::Wt) => InForce::Wt,
        (Pat::Wb, Type::Wb) => InForce::Wb,
        (Pat::Uc | Pat::UcMinus | Pat::Wp | Pat::Wt, _) => InForce::Cd,
    }
}

/// [`with_mtrr`] of [`pats`] for every input, by the encodings of the MTRR's type, the host's entry and the guest's.
static TABLE: [[[InForce; 8]; 8]; 8] = {
    let mut table = [[[InForce::Uc; 8]; 8]; 8];
    let mut i = 0;
    while i < Type::ALL.len() * Pat::ALL.len() * Pat::ALL.len() {
        let (mtrr, host, guest) = (Type::ALL[i / 36], Pat::ALL[i / 6 % 6], Pat::ALL[i % 6]);
        table[mtrr as usize][host as usize][guest as usize] = with_mtrr(mtrr, pats(guest, host));
        i += 1;
    }
    table
};

/// The type in force for the MTRR's type of the host-physical address, the host's PAT entry that the nested entry selects, and
/// the guest's PAT entry, with CR0.CD clear in guest and host.
#[must_use]
#[inline]
pub const fn combine(mtrr: Type, host: Pat, guest: Pat) -> InForce {
    TABLE[mtrr as usize][host as usize][guest as usize]
}
