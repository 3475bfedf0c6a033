//! The rules, each with the place it comes from.
//!
//! ```
//! use memtype::arm::Rule;
//!
//! assert_eq!(
//!     Rule::FwbAsStage1.to_string(),
//!     "FWB, MemAttr 0b111: what stage 1 says. [DDI 0487 D8.6.6, Table D8-101; AArch64.S2ApplyFWBMemAttrs]"
//! );
//! ```

use core::fmt;

use crate::cite::{Cite, Source};

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
    /// MMU off, instruction fetch.
    MmuOffFetch,
    /// HCR_EL2.DC.
    DefaultCacheable,
    /// SCTLR_EL1.C.
    Stage1Uncached,
    /// SCTLR_EL1.C, of Tagged memory.
    Stage1UncachedTagged,
    /// SCTLR_EL1.I.
    Stage1UncachedFetch,
    /// HCR_EL2.CD.
    Stage2Uncached,
    /// HCR_EL2.ID.
    Stage2UncachedFetch,
    /// B2.10.2.
    FetchFromDevice,
    /// HCR_EL2.PTW = 0.
    WalkOnDevice,
    /// HCR_EL2.PTW = 1.
    WalkFaults,
    /// [`Quirk::NcAsDevice`](super::Quirk::NcAsDevice).
    NcAsDevice,
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
            Self::MmuOffFetch => {
                "The stage-1 MMU is off: instructions are fetched as from Normal memory, Write-Through if SCTLR_EL1.I = 1, \
                 else Non-cacheable."
            }
            Self::DefaultCacheable => {
                "HCR_EL2.DC = 1: stage 1 counts as off and gives Normal Write-Back, Non-shareable."
            }
            Self::Stage1Uncached => {
                "SCTLR_EL1.C = 0: stage 1 makes data accesses to Normal memory, and to its tables, Non-cacheable."
            }
            Self::Stage1UncachedTagged => {
                "SCTLR_EL1.C = 0: whether Tagged memory stays so is CONSTRAINED UNPREDICTABLE; taken as not."
            }
            Self::Stage1UncachedFetch => {
                "SCTLR_EL1.I = 0: stage 1 makes instruction fetches from Normal memory Non-cacheable."
            }
            Self::Stage2Uncached => {
                "HCR_EL2.CD = 1: stage 2 makes Normal memory Non-cacheable for data accesses and table walks."
            }
            Self::Stage2UncachedFetch => "HCR_EL2.ID = 1: stage 2 makes instruction fetches Non-cacheable.",
            Self::FetchFromDevice => {
                "An instruction fetch from Device memory that is not execute-never is one from Normal Non-cacheable memory, \
                 or takes a Permission fault."
            }
            Self::WalkOnDevice => {
                "Stage 2 has the stage-1 table in Device memory, and HCR_EL2.PTW = 0: the walk is as one of Normal \
                 Non-cacheable memory."
            }
            Self::WalkFaults => {
                "Stage 2 has the stage-1 table in Device memory, and HCR_EL2.PTW = 1: a Permission fault of stage 2, taken to \
                 EL2."
            }
            Self::NcAsDevice => {
                "Normal Non-cacheable does not work on this machine's PCIe, and the kernel that owns stage 1 puts \
                 Device-nGnRE into MAIR in its place: what was write-combining no longer combines, and an unaligned access \
                 to it faults."
            }
        }
    }

    /// Where DDI 0487 M.a.a has it: section, rule or table, and the pseudocode function where one encodes it. Of a quirk of
    /// machines, who said it.
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
            Self::MmuOff | Self::MmuOffFetch => "D8.2.12.1, R_WFZPW; AArch64.S1DisabledOutput",
            Self::DefaultCacheable => "D8.2.12.1, R_WFZPW, R_LBPTY; AArch64.S1DisabledOutput",
            Self::Stage1Uncached | Self::Stage1UncachedFetch => "D7.5.5; AArch64.S1TreatAsNormalNC",
            Self::Stage1UncachedTagged => "D10.3, R_YSLYC; AArch64.S1Translate",
            Self::Stage2Uncached | Self::Stage2UncachedFetch => "D7.5.5; AArch64.S2TreatAsNormalNC",
            Self::FetchFromDevice => "B2.10.2; AArch64.S1CheckPermissions, AArch64.S2CheckPermissions",
            Self::WalkOnDevice => "D8.6.3, D24.2.62 HCR_EL2.PTW; AArch64.S2TreatAsNormalNC",
            Self::WalkFaults => "D8.6.3, D24.2.62 HCR_EL2.PTW; AArch64.S2CheckPermissions",
            Self::NcAsDevice => "NVIDIA/NV-Kernels, pull request 289: ARM64_WORKAROUND_NC_TO_NGNRE",
        }
    }

    /// Where it comes from: DDI 0487, but for the quirks of machines.
    #[must_use]
    pub const fn cite(self) -> Cite {
        let source = match self {
            Self::NcAsDevice => Source::Said,
            _ => Source::Arm,
        };
        Cite::read(source, self.section())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.says(), self.cite())
    }
}

/// More than any answer has.
const MOST: usize = 16;

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
        if self.len < MOST {
            self.rules[self.len] = Some(rule);
            self.len += 1;
        }
        self
    }
    pub(super) const fn and_if(self, when: bool, rule: Rule) -> Self {
        if when { self.and(rule) } else { self }
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
