//! What two stages of translation combine to, and what follows from it.
//!
//! ```
//! use memtype::arm::{Alignment, Features, Stage1, Stage2, combine};
//!
//! // The guest maps Normal-NC and may access at any address; stage 2 says Device-nGnRE and wins, so that an unaligned access
//! // faults there, in the hypervisor.
//! let guest = Stage1::decode(0x44, 0b11, Features::LATEST);
//! let device = Stage2::decode(false, 0b0001, 0b11, Features::LATEST);
//! let both = combine(&guest, &device);
//! assert_eq!((both.ty.name(), both.unaligned()), ("device-ngnre", Alignment::Fault { stage: 2 }));
//! ```

use super::key::KNOWN;
use super::{Because, MemAttr, Reserved, Rule, Shareability, Stage1, Stage2, Tagging, Type};

/// Whether an access that is not aligned (or a DC ZVA, however aligned) raises an Alignment fault because of the memory
/// type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alignment {
    /// It is performed.
    Ok,
    /// It faults: at stage 1 to EL1, at stage 2 to EL2. A location that supports unaligned accesses to Device memory may let
    /// it pass (B2.8.2, IMPLEMENTATION DEFINED).
    Fault {
        /// 1 or 2.
        stage: u8,
    },
    /// It is CONSTRAINED UNPREDICTABLE whether it faults at stage 1 or is performed: stage 1 Device, overridden to Normal
    /// Write-Back by FWB (R_RMTWN).
    MayFault,
}

/// The attributes of a location under both stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Combined {
    /// The memory type.
    pub ty: Type,
    /// The effective shareability.
    pub sh: Shareability,
    /// The XS attribute.
    pub xs: bool,
    /// The tagging.
    pub tagging: Tagging,
    s1: Stage1,
    s2: Stage2,
}

/// Combines the two stages: `S2CombineS1MemAttrs` without FWB (D8.6.5), `AArch64.S2ApplyFWBMemAttrs` with it (D8.6.6).
#[inline]
#[must_use]
pub const fn combine(s1: &Stage1, s2: &Stage2) -> Combined {
    let result = &KNOWN[s2.apply(s1) as usize];
    Combined {
        ty: result.ty,
        sh: s1.sh.stronger(s2.sh).stronger(result.least),
        xs: s1.xs & s2.xs & !result.back,
        tagging: s2.tagging(s1.tagging, result.taggable),
        s1: *s1,
        s2: *s2,
    }
}

impl Combined {
    /// What stage 1 said.
    #[inline]
    #[must_use]
    pub const fn stage1(&self) -> &Stage1 {
        &self.s1
    }
    /// What stage 2 said.
    #[inline]
    #[must_use]
    pub const fn stage2(&self) -> &Stage2 {
        &self.s2
    }

    /// May an unaligned data access fault because of the memory type, and at which stage? The stage-1 check sees stage 1's
    /// type (`AArch64.S1HasAlignmentFault`) and comes first; the stage-2 check (`AArch64.S2HasAlignmentFault`) sees the
    /// stage-2 descriptor's own type without FWB, the combined one with it.
    ///
    /// The answer holds for DC ZVA at any alignment too. Exclusives and atomics have an alignment rule of their own that
    /// does not depend on Device or Normal (B2.8.2.1.2).
    #[inline]
    #[must_use]
    pub const fn unaligned(&self) -> Alignment {
        // By (stage 1 is Device, the result is). R_RMTWN leaves it open where FWB makes Normal of Device.
        const ANSWER: [Alignment; 4] =
            [Alignment::Ok, Alignment::Fault { stage: 2 }, Alignment::MayFault, Alignment::Fault { stage: 1 }];
        ANSWER[(self.s1.is_device() as usize) << 1 | self.ty.is_device() as usize]
    }

    /// Whether exclusives and atomics are architected to work: shareable Normal Inner and Outer Write-Back (B2.2.6). For
    /// every other type the system decides whether they work, abort, or do nothing.
    #[inline]
    #[must_use]
    pub const fn atomics_guaranteed(&self) -> bool {
        self.ty.is_normal_wb() && !matches!(self.sh, Shareability::Non) && !self.s1.is_device()
    }

    /// The reserved encodings among the inputs: MAIR byte, stage-1 SH, MemAttr, stage-2 SH.
    #[inline]
    #[must_use]
    pub const fn reserved(&self) -> [Option<Reserved>; 4] {
        [self.s1.reserved_mair, self.s1.reserved_sh, self.s2.reserved_attr, self.s2.reserved_sh]
    }

    /// Whether any input is a reserved encoding.
    #[inline]
    #[must_use]
    pub const fn is_reserved(&self) -> bool {
        !matches!(self.reserved(), [None, None, None, None])
    }

    /// The rules that made this result, in the order they were applied.
    #[must_use]
    pub const fn because(&self) -> Because {
        let b = self.of_access(self.of_sharing(self.of_stages(Because::new())));
        if self.atomics_guaranteed() { b.and(Rule::AtomicsGuaranteed) } else { b.and(Rule::AtomicsSystemDefined) }
    }

    /// How the two stages were combined.
    pub(super) const fn of_stages(&self, b: Because) -> Because {
        let b = match (self.s2.attr(), self.s1.is_device()) {
            (MemAttr::Combine(Type::Device(_)), true) => b.and(Rule::StricterDevice),
            (MemAttr::Combine(Type::Device(_)), _) | (MemAttr::Combine(_), true) => b.and(Rule::DeviceOverNormal),
            (MemAttr::Combine(_), _) => b.and(Rule::WeakerCacheability),
            (MemAttr::FwbDevice(_), true) => b.and(Rule::FwbStricterDevice),
            (MemAttr::FwbDevice(_), _) => b.and(Rule::FwbDevice),
            (MemAttr::FwbNcUnlessDevice, true) => b.and(Rule::FwbKeepsDevice),
            (MemAttr::FwbNcUnlessDevice, _) => b.and(Rule::FwbNonCacheable),
            (MemAttr::FwbForceWb, true) => b.and(Rule::FwbForceWb).and(Rule::FwbForceWbOverDevice),
            (MemAttr::FwbForceWb, _) => b.and(Rule::FwbForceWb),
            (MemAttr::FwbAsStage1, _) => b.and(Rule::FwbAsStage1),
        };
        b.and_if(self.is_reserved(), Rule::Reserved)
    }

    /// Whose shareability it is.
    pub(super) const fn of_sharing(&self, b: Because) -> Because {
        b.and(if self.ty.is_device() || self.ty.is_normal_nc() {
            Rule::AlwaysOuterShareable
        } else {
            Rule::StrongerShareability
        })
    }

    /// What it means for a load or a store.
    pub(super) const fn of_access(&self, b: Because) -> Because {
        let b = match self.unaligned() {
            Alignment::Ok => b.and(Rule::UnalignedNormal),
            Alignment::Fault { stage: 1 } => b.and(Rule::UnalignedStage1).and(Rule::UnalignedLocation),
            Alignment::Fault { .. } => b.and(Rule::UnalignedStage2).and(Rule::UnalignedLocation),
            Alignment::MayFault => b,
        };
        b.and(match self.ty {
            Type::Normal { .. } => Rule::NormalFreedoms,
            Type::Device(_) => Rule::DeviceRestrictions,
        })
    }

    /// The same, treated as Normal Non-cacheable after all; XS stays (`NormalNCMemAttr`).
    pub(super) const fn as_nc(self) -> Self {
        Self { ty: Type::NORMAL_NC, sh: Shareability::Outer, tagging: Tagging::Untagged, ..self }
    }
}
