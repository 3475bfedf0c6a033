//! The rules, each with the place it comes from.

use core::fmt;

/// A rule of the architecture that decided something. [`says`](Self::says) is a sentence of ours; [`section`](Self::section)
/// is where DDI 0487 M.a.a has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Table D8-97.
    DeviceOverNormal,
    /// Table D8-97.
    StricterDevice,
    /// Table D8-98.
    WeakerCacheability,
    /// Table D8-100.
    FwbDevice,
    /// R_GSDKZ.
    FwbStricterDevice,
    /// Table D8-101.
    FwbKeepsDevice,
    /// Table D8-101.
    FwbNonCacheable,
    /// Table D8-101.
    FwbForceWb,
    /// R_RMTWN.
    FwbForceWbOverDevice,
    /// Table D8-101.
    FwbAsStage1,
    /// Reserved encodings.
    Reserved,
    /// D8.6.7.1.
    AlwaysOuterShareable,
    /// Table D8-103.
    StrongerShareability,
    /// B2.8.2.1.
    UnalignedNormal,
    /// B2.8.2, stage 1.
    UnalignedStage1,
    /// B2.8.2, stage 2.
    UnalignedStage2,
    /// B2.8.2.
    UnalignedLocation,
    /// B2.10.1.
    NormalFreedoms,
    /// B2.10.2.
    DeviceRestrictions,
    /// B2.2.6.
    AtomicsGuaranteed,
    /// B2.2.6.
    AtomicsSystemDefined,
    /// MMU off.
    MmuOff,
}

impl Rule {
    /// The rule in a sentence.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::DeviceOverNormal => "One stage says Device and the other Normal: Device wins.",
            Self::StricterDevice => "Both stages say Device: the stricter wins, nG over G, nR over R, nE over E.",
            Self::WeakerCacheability => {
                "Both stages say Normal: inner and outer cacheability are each the weaker of the two, NC below WT below WB."
            }
            Self::FwbDevice => "FWB, MemAttr[2] = 0: stage 2 makes Normal memory Device.",
            Self::FwbStricterDevice => "FWB, MemAttr[2] = 0 over a Device stage 1: the stricter Device type wins.",
            Self::FwbKeepsDevice => "FWB, MemAttr 0b101: a Device stage 1 is left as it is.",
            Self::FwbNonCacheable => "FWB, MemAttr 0b101: Normal memory becomes Non-cacheable.",
            Self::FwbForceWb => "FWB, MemAttr 0b110: Normal Write-Back, whatever stage 1 says.",
            Self::FwbForceWbOverDevice => {
                "Stage 1 said Device and FWB overrides it: whether an unaligned access or DC ZVA still faults at stage 1 is \
                 CONSTRAINED UNPREDICTABLE, whether exclusives and atomics work as on Device is IMPLEMENTATION DEFINED."
            }
            Self::FwbAsStage1 => "FWB, MemAttr 0b111: what stage 1 says.",
            Self::Reserved => {
                "An input is a reserved encoding: the result is one of those CONSTRAINED UNPREDICTABLE behaviour allows."
            }
            Self::AlwaysOuterShareable => "Device and Normal iNC-oNC are Outer Shareable, whatever SH says.",
            Self::StrongerShareability => "The stronger shareability of the two stages wins, OSH over ISH over NSH.",
            Self::UnalignedNormal => "Unaligned accesses to Normal memory are performed (SCTLR_ELx.A = 0).",
            Self::UnalignedStage1 => {
                "Stage 1 says Device: an unaligned access, and DC ZVA always, is an Alignment fault of stage 1, taken to EL1."
            }
            Self::UnalignedStage2 => {
                "Stage 1 says Normal and lets an unaligned access pass; at stage 2 the location is Device: an Alignment \
                 fault of stage 2, taken to EL2."
            }
            Self::UnalignedLocation => {
                "A Device location that supports unaligned accesses may let them pass instead: IMPLEMENTATION DEFINED."
            }
            Self::NormalFreedoms => "Normal memory may be read speculatively, gathered and reordered between barriers.",
            Self::DeviceRestrictions => {
                "Device memory is not read speculatively nor cached; gathering needs G, reordering R, early acknowledgement E."
            }
            Self::AtomicsGuaranteed => "Exclusives and atomics work on shareable Normal Write-Back memory.",
            Self::AtomicsSystemDefined => {
                "Exclusives and atomics here are as the system defines: they may work, abort with DFSC 0b110101 or as an \
                 External abort, or do nothing."
            }
            Self::MmuOff => "The stage-1 MMU is off: data accesses are Device-nGnRnE.",
        }
    }

    /// Where DDI 0487 M.a.a has it: section, rule or table, and the pseudocode function where one encodes it.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Self::DeviceOverNormal | Self::StricterDevice => "D8.6.5.1, Table D8-97; S2CombineS1MemAttrs",
            Self::WeakerCacheability => "D8.6.5.2, Table D8-98; S2CombineS1AttrHints",
            Self::FwbDevice => "D8.6.6, Table D8-100; AArch64.S2ApplyFWBMemAttrs",
            Self::FwbStricterDevice => "D8.6.6, R_GSDKZ; AArch64.S2ApplyFWBMemAttrs",
            Self::FwbKeepsDevice | Self::FwbNonCacheable | Self::FwbForceWb | Self::FwbAsStage1 => {
                "D8.6.6, Table D8-101; AArch64.S2ApplyFWBMemAttrs"
            }
            Self::FwbForceWbOverDevice => "D8.6.6, R_RMTWN",
            Self::Reserved => "D8.6, K1.2; ConstrainUnpredictable",
            Self::AlwaysOuterShareable => "D8.6.7.1; EffectiveShareability",
            Self::StrongerShareability => "D8.6.7.1, Table D8-103; S2CombineS1Shareability",
            Self::UnalignedNormal => "B2.8.2.1",
            Self::UnalignedStage1 => "B2.8.2, C5.3 DC ZVA; AArch64.S1HasAlignmentFault",
            Self::UnalignedStage2 => "B2.8.2, D8.15.5; AArch64.S2HasAlignmentFault",
            Self::UnalignedLocation => "B2.8.2",
            Self::NormalFreedoms => "B2.10.1",
            Self::DeviceRestrictions => "B2.10.2",
            Self::AtomicsGuaranteed | Self::AtomicsSystemDefined => "B2.2.6",
            Self::MmuOff => "D8.2; AArch64.S1DisabledOutput",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [DDI 0487 {}]", self.says(), self.section())
    }
}

const MOST: usize = 10;

/// A few rules in order: an iterator that needs no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Because {
    rules: [Option<Rule>; MOST],
    len: usize,
    at: usize,
}

impl Because {
    pub(super) const fn new() -> Self {
        Self { rules: [None; MOST], len: 0, at: 0 }
    }
    pub(super) const fn and(mut self, rule: Rule) -> Self {
        self.rules[self.len] = Some(rule);
        self.len += 1;
        self
    }
}

impl Iterator for Because {
    type Item = Rule;
    fn next(&mut self) -> Option<Rule> {
        let rule = self.rules.get(self.at).copied().flatten();
        self.at += usize::from(rule.is_some());
        rule
    }
}
