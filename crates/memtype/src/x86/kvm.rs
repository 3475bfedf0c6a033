//! What KVM writes into an EPT leaf, by kernel (`vmx_get_mt_mask()`): the three rules of thread 002, and how they changed.
//!
//! *MMIO is UC and the guest's PAT counts* has always held, so that a guest may have UC or WC on a BAR and never a cacheable
//! type. *RAM is WB and the guest's PAT is ignored* holds unless a device whose DMA may bypass the caches is assigned: then the
//! guest must be able to have its RAM uncached. What changed is what the guest's MTRRs, CR0.CD and a quirk do to that.
//!
//! ```
//! use memtype::x86::Type;
//! use memtype::x86::kvm::{Asked, Era, Says};
//!
//! let bar = Asked { mmio: true, ..Asked::RAM };
//! for era in Era::ALL {
//!     assert_eq!(era.leaf(bar).says, Says::Leaf { ty: Type::Uc, ipat: false });
//! }
//! assert_eq!(Era::V6_12.leaf(Asked::RAM).says, Says::Leaf { ty: Type::Wb, ipat: true });
//! ```

use super::Type;
use crate::cite::{Cite, Source};

/// Kernels that answer alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Era {
    /// Up to 6.6.
    V6_6,
    /// 6.7 to 6.10.
    V6_7,
    /// The release candidates of 6.11, before the revert.
    V6_11Rc,
    /// 6.11 and later, without the quirk.
    V6_12,
    /// With KVM_X86_QUIRK_IGNORE_GUEST_PAT: 6.12.78 and later of the stable series, and mainline from 6.16.
    Quirk,
}

impl Era {
    /// All, the oldest first.
    pub const ALL: [Self; 5] = [Self::V6_6, Self::V6_7, Self::V6_11Rc, Self::V6_12, Self::Quirk];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V6_6 => "6.6",
            Self::V6_7 => "6.7",
            Self::V6_11Rc => "6.11-rc",
            Self::V6_12 => "6.12",
            Self::Quirk => "quirk",
        }
    }
    /// Which kernels.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::V6_6 => "Linux up to 6.6",
            Self::V6_7 => "Linux 6.7 to 6.10",
            Self::V6_11Rc => "the release candidates of Linux 6.11",
            Self::V6_12 => "Linux 6.11 to 6.15, and 6.12.y before 6.12.78",
            Self::Quirk => "Linux from 6.16 on, and from 6.12.78 in 6.12.y (KVM_X86_QUIRK_IGNORE_GUEST_PAT)",
        }
    }
    /// The era of a release as upstream made it: `major.minor.patch`. A distribution may have ported the quirk back.
    ///
    /// ```
    /// use memtype::x86::kvm::Era;
    ///
    /// assert_eq!(Era::of_release(6, 1, 192), Era::V6_6);
    /// assert_eq!((Era::of_release(6, 12, 77), Era::of_release(6, 12, 78)), (Era::V6_12, Era::Quirk));
    /// ```
    #[must_use]
    pub const fn of_release(major: u16, minor: u16, patch: u16) -> Self {
        match (major, minor) {
            (..=5, _) | (6, ..=6) => Self::V6_6,
            (6, 7..=10) => Self::V6_7,
            (6, 12) if patch >= 78 => Self::Quirk,
            (6, 11..=15) => Self::V6_12,
            _ => Self::Quirk,
        }
    }
    /// Where its rule was read, and where the number of its release.
    #[must_use]
    pub const fn cite(self) -> Cite {
        match self {
            Self::V6_6 => Cite::read(Source::Linux, "6.1 arch/x86/kvm/vmx/vmx.c vmx_get_mt_mask()"),
            Self::V6_7 => Cite::second_hand(Source::Linux, "merge message of the KVM x86 MMU changes for 6.7"),
            Self::V6_11Rc => Cite::second_hand(
                Source::Linux,
                "377b2f359d1f, applied for 6.11 and reverted by 9d70f3fec144 in it (V. Kuznetsov on its list, 2025)",
            ),
            Self::V6_12 => Cite::second_hand(
                Source::Linux,
                "0a7b73559b39, e1548088ff54 and 9d70f3fec144, by the mails that announce and track them",
            ),
            Self::Quirk => Cite::read(
                Source::Linux,
                "6.12.107, 7.2 arch/x86/kvm/vmx/vmx.c vmx_get_mt_mask(); c9c1e20b4c7d, whose releases dosemu2 #2815 names",
            ),
        }
    }
}

/// What the leaf is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The page is MMIO to the host: a BAR.
    pub mmio: bool,
    /// A device is assigned whose DMA the IOMMU cannot force to snoop.
    pub noncoherent_dma: bool,
    /// The CPU has self-snoop (CPUID.1:EDX.SS).
    pub self_snoop: bool,
    /// User space disabled KVM_X86_QUIRK_IGNORE_GUEST_PAT, which KVM refuses on a CPU without self-snoop.
    pub honour_guest_pat: bool,
    /// The guest has set CR0.CD. KVM on Intel keeps the bit from the CPU, so that this counts only where KVM looks at it.
    pub cd: bool,
    /// KVM_X86_QUIRK_CD_NW_CLEARED is on, as it is unless user space disables it.
    pub cd_quirk: bool,
}

impl Asked {
    /// RAM of an ordinary guest on a current CPU.
    pub const RAM: Self = Self {
        mmio: false,
        noncoherent_dma: false,
        self_snoop: true,
        honour_guest_pat: false,
        cd: false,
        cd_quirk: true,
    };
}

/// What the leaf says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Says {
    /// A type and IPAT.
    Leaf {
        /// Bits 5:3.
        ty: Type,
        /// Bit 6.
        ipat: bool,
    },
    /// The type of the guest's own MTRRs, IPAT clear.
    GuestMtrr,
}

/// A leaf, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer {
    /// What it says.
    pub says: Says,
    /// The rule.
    pub rule: &'static str,
}

impl Era {
    /// What KVM on Intel writes. On AMD there is nothing to write: see [`npt`](super::npt).
    #[must_use]
    pub const fn leaf(self, asked: Asked) -> Answer {
        const fn leaf(ty: Type, ipat: bool, rule: &'static str) -> Answer {
            Answer { says: Says::Leaf { ty, ipat }, rule }
        }
        if asked.mmio {
            return leaf(Type::Uc, false, "MMIO is UC, and the guest's PAT counts: UC or WC.");
        }
        if !asked.noncoherent_dma {
            return match self {
                Self::V6_11Rc if asked.self_snoop => {
                    leaf(Type::Wb, false, "RAM is WB, and the guest's PAT counts where the CPU has self-snoop.")
                }
                // Without self-snoop the quirk cannot be disabled.
                Self::Quirk if asked.self_snoop && asked.honour_guest_pat => {
                    leaf(Type::Wb, false, "RAM is WB, and the guest's PAT counts, since user space disabled the quirk.")
                }
                _ => leaf(Type::Wb, true, "RAM is WB, and the guest's PAT is ignored, since all DMA snoops."),
            };
        }
        match self {
            Self::V6_6 | Self::V6_7 if asked.cd && !asked.cd_quirk => leaf(
                Type::Uc,
                true,
                "CR0.CD is set and KVM_X86_QUIRK_CD_NW_CLEARED disabled: UC, the guest's PAT ignored.",
            ),
            Self::V6_6 if asked.cd => leaf(
                Type::Wb,
                true,
                "CR0.CD is set, which KVM_X86_QUIRK_CD_NW_CLEARED takes for WB: the guest's PAT is ignored.",
            ),
            Self::V6_7 if asked.cd => leaf(
                Type::Wb,
                false,
                "CR0.CD is set, which KVM_X86_QUIRK_CD_NW_CLEARED takes for WB: the guest's PAT counts.",
            ),
            Self::V6_6 | Self::V6_7 => Answer {
                says: Says::GuestMtrr,
                rule: "DMA may bypass the caches: the guest's MTRRs and its PAT count.",
            },
            Self::V6_11Rc | Self::V6_12 | Self::Quirk => leaf(
                Type::Wb,
                false,
                "DMA may bypass the caches: WB, and the guest's PAT counts. Guest MTRRs no longer do.",
            ),
        }
    }
}
