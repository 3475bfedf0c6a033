//! How Linux itself combines the two stages on Arm: where it emulates `AT S12E1R` for a guest hypervisor, it computes
//! `PAR_EL1` in software. Its rules, not ours: what differs from [`arm::combine`](crate::arm::combine) is a finding.
//!
//! ```
//! use memtype::linux::at::{Kernel, Par, par};
//!
//! // Write-Back Transient under a Write-Through stage 2 without FWB: Linux answers Write-Back (0b0111), the manual
//! // Write-Through (0b0011).
//! assert_eq!(par(Kernel::V7_2, false, 0x77, 3, 0b1010, 3), Par { attr: 0x77, sh: 3 });
//! ```

use crate::cite::{Cite, Source};

/// Kernels that answer alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kernel {
    /// 6.12.
    V6_12,
    /// 7.2.
    V7_2,
}

impl Kernel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V6_12, Self::V7_2];

    /// The number.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V6_12 => "6.12",
            Self::V7_2 => "7.2",
        }
    }
    /// Where its rules were read.
    #[must_use]
    pub const fn cite(self) -> Cite {
        match self {
            Self::V6_12 => Cite::read(Source::Linux, "6.12.107 arch/arm64/kvm/at.c compute_par_s12()"),
            Self::V7_2 => Cite::read(Source::Linux, "7.2.13 arch/arm64/kvm/at.c compute_par_s12()"),
        }
    }
}

/// The attributes `PAR_EL1` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Par {
    /// ATTR, bits 63:56.
    pub attr: u8,
    /// SH, bits 8:7.
    pub sh: u8,
}

const OUTER: u8 = 0b10;
const INNER: u8 = 0b11;
const NON: u8 = 0b00;
const NC: u8 = 0b0100;
const WT: u8 = 0b1000;
const WB: u8 = 0b1100;

const fn is_device(attr: u8) -> bool {
    attr >> 4 == 0
}

/// `compute_final_sh()`; in 6.12 `compute_sh()`.
const fn final_sh(attr: u8, sh: u8) -> u8 {
    if is_device(attr) || attr == NC << 4 | NC {
        OUTER
    } else if sh == 0b01 {
        NON
    } else {
        sh
    }
}

/// `s2_memattr_to_attr()`: a stage-2 field without FWB as a MAIR byte without hints.
const fn stage2(memattr: u8) -> u8 {
    const fn half(code: u8) -> u8 {
        match code {
            0b10 => WT,
            0b11 => WB,
            _ => NC,
        }
    }
    match (memattr >> 2 & 3, memattr & 3) {
        (0, device) => device << 2,
        // Reserved: Write-Back where the outer half is Non-cacheable, else Non-cacheable.
        (0b01, 0) => WB << 4 | WB,
        (_, 0) => NC << 4 | NC,
        (outer, inner) => half(outer) << 4 | half(inner),
    }
}

/// `combine_s1_s2_attr()`: one half of the byte, of Normal memory under Normal memory.
const fn half(s1: u8, s2: u8) -> u8 {
    let hints = s1 & 3;
    // 0 is no encoding of a half; it counts as Write-Back.
    let (policy, transient) = match s1 {
        0 => (WB, false),
        1..=3 => (WT, true),
        5..=7 => (WB, true),
        _ => (s1 & WB, false),
    };
    let weaker = if policy == NC || s2 & WB == NC {
        NC
    } else if policy == WT || s2 & WB == WT {
        WT
    } else {
        WB
    };
    match (weaker, transient) {
        (NC, _) => NC,
        // The transient form of stage 1's policy, whatever stage 2's is.
        (_, true) if policy == WT => hints,
        (_, true) => NC | hints,
        (weaker, false) => weaker | hints,
    }
}

/// `compute_par_s12()` with both stages on, without FEAT_MTE_PERM, HCR_EL2.CD and DC clear, SCTLR_EL1.C set: the attributes for
/// a MAIR byte and SH of stage 1, MemAttr\[3:0\] and SH of stage 2.
#[must_use]
pub const fn par(kernel: Kernel, fwb: bool, mair: u8, s1_sh: u8, memattr: u8, s2_sh: u8) -> Par {
    const fn least(a: u8, b: u8) -> u8 {
        if a < b { a } else { b }
    }
    let attr = if fwb {
        match (memattr & 0b111, kernel) {
            (0b101, _) if is_device(mair) => mair,
            (0b101, _) => NC << 4 | NC,
            (0b110, _) => 0xff,
            (0b111 | 0b100, _) => mair,
            // The shift binds before the AND: what is left of the two bits is nothing.
            (_, Kernel::V6_12) => memattr & 0b111 & (0b11 << 2),
            (device, Kernel::V7_2) => least(stage2(device), mair),
        }
    } else {
        let s2 = stage2(memattr);
        if is_device(mair) || is_device(s2) {
            least(mair, s2)
        } else {
            half(mair >> 4, s2 >> 4) << 4 | half(mair & 0xf, s2 & 0xf)
        }
    };
    let (one, two) = (final_sh(mair, s1_sh & 3), final_sh(attr, s2_sh & 3));
    let sh = if one == OUTER || two == OUTER {
        OUTER
    } else if one == INNER || two == INNER {
        INNER
    } else {
        NON
    };
    Par { attr, sh }
}
