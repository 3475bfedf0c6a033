//! Memory types of x86: MTRRs by physical address, PAT by page, EPT or nested paging below a guest.
//!
//! A page-table entry selects one of eight entries of the page attribute table (IA32_PAT) by three of its bits. What the
//! entry says is combined with what the memory type range registers (MTRRs) say of the physical address, or in a guest with
//! what the EPT entry says of the guest-physical address. UC is what a driver of registers gets, WC is write-combining. The
//! one type that a page can make weaker is UC: an entry that says WC wins over an MTRR or an EPT entry that says UC, and this
//! is how a guest gets write-combining on a BAR from a hypervisor that asked for UC.
//!
//! ```
//! use memtype::x86::{Pat, Type, effective, ept};
//!
//! // A BAR under an MTRR of UC, mapped with ioremap() (UC-) and with ioremap_wc().
//! assert_eq!(effective(Type::Uc, Pat::UcMinus), Type::Uc);
//! assert_eq!(effective(Type::Uc, Pat::Wc), Type::Wc);
//! // In a guest: KVM says UC for a BAR and does not set IPAT.
//! assert_eq!(ept::combine(Type::Uc, false, Pat::Wc), Type::Wc);
//! assert_eq!(ept::combine(Type::Uc, true, Pat::Wc), Type::Uc);
//! ```

pub mod ept;
mod guarantee;
pub mod kvm;
pub mod mtrr;
pub mod npt;

use core::fmt;

use crate::cite::{Cite, Source};

/// A memory type in force, in the encoding that MTRRs and EPT entries have (SDM vol. 3A, memory types and their encodings).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// Uncacheable: strongly ordered, nothing is merged.
    Uc = 0,
    /// Write-combining.
    Wc = 1,
    /// Write-through.
    Wt = 4,
    /// Write-protected: reads are cached, writes go to the bus.
    Wp = 5,
    /// Write-back.
    Wb = 6,
}

impl Type {
    /// All, in the order of their encodings.
    pub const ALL: [Self; 5] = [Self::Uc, Self::Wc, Self::Wt, Self::Wp, Self::Wb];

    /// From the encoding in an MTRR or an EPT entry. `None` for 2, 3, 7 and above, which are reserved: `#GP` in an MTRR, an
    /// EPT misconfiguration in an EPT entry.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Uc,
            1 => Self::Wc,
            4 => Self::Wt,
            5 => Self::Wp,
            6 => Self::Wb,
            _ => return None,
        })
    }
    /// The name in files and on the command line: `uc`, `wc`, `wt`, `wp`, `wb`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uc => "uc",
            Self::Wc => "wc",
            Self::Wt => "wt",
            Self::Wp => "wp",
            Self::Wb => "wb",
        }
    }
    /// As Intel writes it.
    #[must_use]
    pub const fn upper(self) -> &'static str {
        match self {
            Self::Uc => "UC",
            Self::Wc => "WC",
            Self::Wt => "WT",
            Self::Wp => "WP",
            Self::Wb => "WB",
        }
    }
    /// Whether a cache may hold it.
    #[must_use]
    pub const fn is_cacheable(self) -> bool {
        matches!(self, Self::Wt | Self::Wp | Self::Wb)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.upper())
    }
}

/// What an entry of the page attribute table says (SDM vol. 3A 11.12.2, Table 11-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pat {
    /// UC, whatever the MTRR says.
    Uc = 0,
    /// WC, whatever the MTRR says.
    Wc = 1,
    /// WT.
    Wt = 4,
    /// WP.
    Wp = 5,
    /// WB: what the MTRR says.
    Wb = 6,
    /// UC-, "UC minus": UC unless the MTRR says WC (on Intel also where it says WP).
    UcMinus = 7,
}

impl Pat {
    /// All, in the order of strictness that people list them in: UC, UC-, WC, WT, WP, WB.
    pub const ALL: [Self; 6] = [Self::Uc, Self::UcMinus, Self::Wc, Self::Wt, Self::Wp, Self::Wb];

    /// From the encoding. `None` for 2, 3 and above 7, which are reserved: writing them raises `#GP`.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Uc,
            1 => Self::Wc,
            4 => Self::Wt,
            5 => Self::Wp,
            6 => Self::Wb,
            7 => Self::UcMinus,
            _ => return None,
        })
    }
    /// The name in files and on the command line: `uc`, `ucm`, `wc`, `wt`, `wp`, `wb`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UcMinus => "ucm",
            _ => self.ty().name(),
        }
    }
    /// As Intel writes it: `UC-`.
    #[must_use]
    pub const fn upper(self) -> &'static str {
        match self {
            Self::UcMinus => "UC-",
            _ => self.ty().upper(),
        }
    }
    /// The type alone, with UC- as UC.
    #[must_use]
    #[inline]
    pub const fn ty(self) -> Type {
        match self {
            Self::Uc | Self::UcMinus => Type::Uc,
            Self::Wc => Type::Wc,
            Self::Wt => Type::Wt,
            Self::Wp => Type::Wp,
            Self::Wb => Type::Wb,
        }
    }
}

impl fmt::Display for Pat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.upper())
    }
}

/// The page attribute table, IA32_PAT (MSR 0x277): eight entries of a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PatMsr(pub u64);

impl PatMsr {
    /// After reset: WB, WT, UC-, UC, twice (SDM vol. 3A, Table 11-12).
    pub const RESET: Self = Self(0x0007_0406_0007_0406);
    /// What Linux writes: WB, WC, UC-, UC, WB, WP, UC-, WT (`pat_bp_init()`).
    pub const LINUX: Self = Self(0x0407_0506_0007_0106);

    /// The byte of entry `index`, of which three bits count.
    #[must_use]
    #[inline]
    pub const fn byte(self, index: u8) -> u8 {
        (self.0 >> ((index & 7) * 8)) as u8
    }
    /// Entry `index`. `None` where the byte is reserved.
    #[must_use]
    #[inline]
    pub const fn entry(self, index: u8) -> Option<Pat> {
        Pat::from_bits(self.byte(index))
    }
    /// The index that the bits of a page-table entry select: 4·PAT + 2·PCD + PWT (SDM vol. 3A 4.9.2).
    #[must_use]
    #[inline]
    pub const fn index(pat: bool, pcd: bool, pwt: bool) -> u8 {
        (pat as u8) << 2 | (pcd as u8) << 1 | pwt as u8
    }
}

/// The section that [`effective`] is.
pub const EFFECTIVE: Cite = Cite::read(
    Source::Sdm,
    "vol. 3A 11.5.2.2, Table 11-7, effective page-level memory types (12.5.2.2, Table 12-7 in newer ones)",
);

const fn row(mtrr: Type) -> [Type; 8] {
    use Type::{Uc, Wb, Wc, Wp, Wt};
    // By the encoding of the PAT entry: UC, WC, -, -, WT, WP, WB, UC-. The two reserved ones are never looked up.
    match mtrr {
        Uc => [Uc, Wc, Uc, Uc, Uc, Uc, Uc, Uc],
        Wc => [Uc, Wc, Uc, Uc, Uc, Uc, Wc, Wc],
        Wt => [Uc, Wc, Uc, Uc, Wt, Wp, Wt, Uc],
        Wp => [Uc, Wc, Uc, Uc, Wt, Wp, Wp, Wc],
        Wb => [Uc, Wc, Uc, Uc, Wt, Wp, Wb, Uc],
    }
}

/// By the encoding of the MTRR's type.
static TABLE: [[Type; 8]; 8] = [
    row(Type::Uc),
    row(Type::Wc),
    row(Type::Uc),
    row(Type::Uc),
    row(Type::Wt),
    row(Type::Wp),
    row(Type::Wb),
    row(Type::Uc),
];

/// The type in force on Intel for an MTRR's type and a PAT entry, with CR0.CD clear ([`EFFECTIVE`]). Below a guest the EPT
/// entry's type stands in the MTRR's place. AMD's table is [`npt::native`]; a device sees a difference in three cells.
#[must_use]
#[inline]
pub const fn effective(mtrr: Type, pat: Pat) -> Type {
    TABLE[mtrr as usize][pat as usize]
}

/// Whether the SDM's older editions called the combination undefined; note 3 of Table 11-7 says that all processors with PAT and
/// MTRRs do as the table says. AMD's manual has three of them otherwise ([`DISAGREEMENTS`]).
#[must_use]
pub const fn was_undefined(mtrr: Type, pat: Pat) -> bool {
    matches!((mtrr, pat), (Type::Wc, Pat::Wt | Pat::Wp) | (Type::Wt, Pat::Wp) | (Type::Wp, Pat::UcMinus | Pat::Wt))
}

/// A combination of an MTRR's type and a PAT entry that somebody answers differently from Intel's manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disagreement {
    /// Its name.
    pub name: &'static str,
    /// The MTRR's type.
    pub mtrr: Type,
    /// The PAT entry.
    pub pat: Pat,
    /// What the other says.
    pub other: Type,
    /// Who.
    pub who: Cite,
    /// Who is right, and why.
    pub says: &'static str,
}

const AMD: Cite = Cite::read(Source::Apm, "7.8.5, Table 7-11");
const BOCHS: Cite = Cite::read(Source::Said, "Bochs cpu/paging.cc resolve_memtype()");

/// The disagreements known. [`effective`] answers as Intel's manual does in each.
pub const DISAGREEMENTS: &[Disagreement] = &[
    Disagreement {
        name: "amd-wt-wp",
        mtrr: Type::Wt,
        pat: Pat::Wp,
        other: Type::Uc,
        who: AMD,
        says: "Each is right of its own CPUs: on AMD it is CD, uncacheable, on Intel WP. Avoid it.",
    },
    Disagreement {
        name: "amd-wp-wt",
        mtrr: Type::Wp,
        pat: Pat::Wt,
        other: Type::Uc,
        who: AMD,
        says: "Each is right of its own CPUs: on AMD it is CD, uncacheable, on Intel WT. Avoid it.",
    },
    Disagreement {
        name: "amd-wp-ucm",
        mtrr: Type::Wp,
        pat: Pat::UcMinus,
        other: Type::Uc,
        who: AMD,
        says: "Each is right of its own CPUs: on AMD it is CD, uncacheable, on Intel WC. Avoid it.",
    },
    Disagreement {
        name: "bochs-wt-wp",
        mtrr: Type::Wt,
        pat: Pat::Wp,
        other: Type::Wt,
        who: BOCHS,
        says: "Bochs takes the smaller encoding, WT; neither Intel (WP) nor AMD (CD) has it so.",
    },
    Disagreement {
        name: "bochs-wp-ucm",
        mtrr: Type::Wp,
        pat: Pat::UcMinus,
        other: Type::Uc,
        who: BOCHS,
        says: "Bochs, as AMD, lets only an MTRR of WC override UC-; Intel's table has WC over WP too.",
    },
    Disagreement {
        name: "linux-wc-ucm",
        mtrr: Type::Wc,
        pat: Pat::UcMinus,
        other: Type::Uc,
        who: Cite::second_hand(
            Source::Linux,
            "Documentation/arch/x86/pat.rst, MTRR effects, as Y. Zhao's patch of November 2023 found it",
        ),
        says: "The document is wrong: Intel and AMD both have WC. It is what UC- is for.",
    },
];
