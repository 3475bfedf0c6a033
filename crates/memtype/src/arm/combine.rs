//! What two stages combine to, and what follows from it.

use super::{
    Because, Cache, Cacheability, Hints, MemAttr, Reserved, Rule, Shareability, Stage1, Stage2, Tagging, Type,
};

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
#[must_use]
pub const fn combine(s1: &Stage1, s2: &Stage2) -> Combined {
    let (ty, mut xs) = match s2.attr {
        MemAttr::Combine(s2_ty) => {
            let ty = match (s1.ty, s2_ty) {
                (Type::Device(a), Type::Device(b)) => Type::Device(a.stricter(b)),
                (Type::Device(_), Type::Normal { .. }) => s1.ty,
                (Type::Normal { .. }, Type::Device(_)) => s2_ty,
                (Type::Normal { inner: i1, outer: o1 }, Type::Normal { inner: i2, outer: o2 }) => {
                    Type::Normal { inner: weaker(i1, i2.policy), outer: weaker(o1, o2.policy) }
                }
            };
            (ty, if ty.is_normal_wb() { false } else { s1.xs && s2.xs })
        }
        MemAttr::FwbDevice(d2) => match s1.ty {
            Type::Device(d1) => (Type::Device(d1.stricter(d2)), s1.xs),
            Type::Normal { .. } => (Type::Device(d2), s1.xs),
        },
        MemAttr::FwbNcUnlessDevice => match s1.ty {
            Type::Device(_) => (s1.ty, s1.xs),
            Type::Normal { .. } => (Type::NORMAL_NC, s1.xs),
        },
        MemAttr::FwbForceWb => (
            match s1.ty {
                Type::Device(_) => Type::NORMAL_WB,
                Type::Normal { inner, outer } => Type::Normal { inner: force_wb(inner), outer: force_wb(outer) },
            },
            false,
        ),
        MemAttr::FwbAsStage1 => (s1.ty, s1.xs),
    };
    xs = xs && s2.xs;
    Combined { ty, sh: s1.sh.stronger(s2.sh).effective(ty), xs, tagging: s2.tagging(s1.tagging, ty), s1: *s1, s2: *s2 }
}

/// The weaker cacheability, with stage 1's hints (`S2CombineS1AttrHints`).
const fn weaker(s1: Cache, s2: Cacheability) -> Cache {
    match s1.policy.weaker(s2) {
        Cacheability::NonCacheable => Cache::NC,
        policy => Cache { policy, hints: s1.hints },
    }
}

/// Write-Back with stage 1's hints where it is cacheable, else with both (R_THYXB, R_TBQKG).
const fn force_wb(s1: Cache) -> Cache {
    let hints = match s1.policy {
        Cacheability::NonCacheable => Hints::ALLOCATE,
        _ => s1.hints,
    };
    Cache { policy: Cacheability::WriteBack, hints }
}

impl Combined {
    /// What stage 1 said.
    #[must_use]
    pub const fn stage1(&self) -> &Stage1 {
        &self.s1
    }
    /// What stage 2 said.
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
    #[must_use]
    pub const fn unaligned(&self) -> Alignment {
        if self.s1.ty.is_device() {
            // R_RMTWN leaves it open where FWB makes the result Normal; everywhere else the result stays Device.
            if self.ty.is_device() { Alignment::Fault { stage: 1 } } else { Alignment::MayFault }
        } else if self.ty.is_device() {
            Alignment::Fault { stage: 2 }
        } else {
            Alignment::Ok
        }
    }

    /// Whether exclusives and atomics are architected to work: shareable Normal Inner and Outer Write-Back (B2.2.6). For
    /// every other type the system decides whether they work, abort, or do nothing.
    #[must_use]
    pub const fn atomics_guaranteed(&self) -> bool {
        self.ty.is_normal_wb() && !matches!(self.sh, Shareability::Non) && !self.s1.ty.is_device()
    }

    /// The reserved encodings among the inputs: MAIR byte, stage-1 SH, MemAttr, stage-2 SH.
    #[must_use]
    pub const fn reserved(&self) -> [Option<Reserved>; 4] {
        [self.s1.reserved_mair, self.s1.reserved_sh, self.s2.reserved_attr, self.s2.reserved_sh]
    }

    /// Whether any input is a reserved encoding.
    #[must_use]
    pub const fn is_reserved(&self) -> bool {
        !matches!(self.reserved(), [None, None, None, None])
    }

    /// The rules that made this result, in the order they were applied.
    #[must_use]
    pub const fn because(&self) -> Because {
        let mut b = Because::new();
        match (self.s2.attr, self.s1.ty) {
            (MemAttr::Combine(Type::Device(_)), Type::Device(_)) => b = b.and(Rule::StricterDevice),
            (MemAttr::Combine(Type::Device(_)), _) | (MemAttr::Combine(_), Type::Device(_)) => {
                b = b.and(Rule::DeviceOverNormal);
            }
            (MemAttr::Combine(_), _) => b = b.and(Rule::WeakerCacheability),
            (MemAttr::FwbDevice(_), Type::Device(_)) => b = b.and(Rule::FwbStricterDevice),
            (MemAttr::FwbDevice(_), _) => b = b.and(Rule::FwbDevice),
            (MemAttr::FwbNcUnlessDevice, Type::Device(_)) => b = b.and(Rule::FwbKeepsDevice),
            (MemAttr::FwbNcUnlessDevice, _) => b = b.and(Rule::FwbNonCacheable),
            (MemAttr::FwbForceWb, Type::Device(_)) => b = b.and(Rule::FwbForceWb).and(Rule::FwbForceWbOverDevice),
            (MemAttr::FwbForceWb, _) => b = b.and(Rule::FwbForceWb),
            (MemAttr::FwbAsStage1, _) => b = b.and(Rule::FwbAsStage1),
        }
        if self.is_reserved() {
            b = b.and(Rule::Reserved);
        }
        b = b.and(if self.ty.is_device() || self.ty.is_normal_nc() {
            Rule::AlwaysOuterShareable
        } else {
            Rule::StrongerShareability
        });
        b = match self.unaligned() {
            Alignment::Ok => b.and(Rule::UnalignedNormal),
            Alignment::Fault { stage: 1 } => b.and(Rule::UnalignedStage1).and(Rule::UnalignedLocation),
            Alignment::Fault { .. } => b.and(Rule::UnalignedStage2).and(Rule::UnalignedLocation),
            Alignment::MayFault => b,
        };
        b = b.and(match self.ty {
            Type::Normal { .. } => Rule::NormalFreedoms,
            Type::Device(_) => Rule::DeviceRestrictions,
        });
        if self.atomics_guaranteed() { b.and(Rule::AtomicsGuaranteed) } else { b.and(Rule::AtomicsSystemDefined) }
    }
}
