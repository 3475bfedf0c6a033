//! Linux's own rules beside the architecture: what KVM reports where it emulates `AT S12E1R` for a guest hypervisor
//! ([`memtype::linux::at`]), over every combination, with the ways in which it is known to differ.

use el2::Par;
use memtype::arm::{Cacheability, Features, Type};
use memtype::linux::at::{self, Kernel};

use crate::sweep::{Class, Inputs, Outcome, Part, Right, Row, ours};

/// What Linux answers to every combination, beside what the architecture says with FEAT_XS and FEAT_MTE2.
pub fn rows(kernel: Kernel) -> impl Iterator<Item = Row> {
    let bools = [false, true].into_iter();
    let stage2 = bools.flat_map(|fwb| (0..16u8).flat_map(move |memattr| (0..4u8).map(move |sh| (fwb, memattr, sh))));
    stage2.flat_map(move |(fwb, s2_memattr, s2_sh)| {
        (0..=255u8).flat_map(move |s1_attr| {
            (0..4u8).map(move |s1_sh| {
                let inputs = Inputs { fwb, s2_memattr, s2_sh, s1_attr, s1_sh };
                let (combined, ours) = ours(inputs, Features::LATEST);
                let at::Par { attr, sh } = at::par(kernel, fwb, s1_attr, s1_sh, s2_memattr, s2_sh);
                Row { inputs, combined, ours, theirs: Par { attr, sh, failed: false } }
            })
        })
    })
}

/// The ways known. A difference is of the first class it fits.
pub const CLASSES: [Class; 11] = [
    Class {
        name: "linux-reserved-mair",
        part: Part::Attr,
        says: "The MAIR byte is a reserved encoding. We take it as Device; Linux computes on with it as it is.",
        right: Right::Open,
        source: "DDI 0487 D24.2.127 MAIR_EL1, K1.2; Linux arch/arm64/kvm/at.c: compute_par_s1, compute_par_s12",
        holds: |row| row.combined.stage1().reserved_mair.is_some(),
    },
    Class {
        name: "linux-reserved-memattr",
        part: Part::Attr,
        says: "MemAttr is a reserved encoding: without FWB MemAttr[1:0] = 0b00 under Normal, with FWB 0b100. We take the first \
               as Non-cacheable inside and the second as 0b101; Linux takes 0b0100 as Write-Back, 0b1000 and 0b1100 as \
               Non-cacheable, and with FWB what stage 1 says.",
        right: Right::Open,
        source: "DDI 0487 Table D8-96, D8.6.6, K1.2; Linux arch/arm64/kvm/at.c: s2_memattr_to_attr, compute_par_s12",
        holds: |row| row.combined.stage2().reserved_attr.is_some(),
    },
    Class {
        name: "linux-fwb-device-zero",
        part: Part::Attr,
        says: "Linux 6.12, with FWB and a Device stage 2: `s2_memattr & GENMASK(1,0) << 2` shifts before it masks, so that every \
               Device type becomes nGnRnE. Mended by 7.2, which takes the stricter of both stages.",
        right: Right::Architecture,
        source: "DDI 0487 R_GSDKZ; Linux 6.12.107 arch/arm64/kvm/at.c: compute_par_s12",
        holds: |row| {
            row.inputs.fwb && row.inputs.s2_memattr & 4 == 0 && row.theirs.attr == 0 && row.ours.attr >> 2 != 0
        },
    },
    Class {
        name: "linux-xs-mair",
        part: Part::Attr,
        says: "MAIR bytes 0x40 and 0xA0 (Normal-NC and Write-Through with XS = 0) and 0b0000dd01 (Device with XS = 0) need \
               FEAT_XS. Linux does not know them: it takes the lower half, 0, as one that limits nothing, or compares the byte \
               as a number.",
        right: Right::Architecture,
        source: "DDI 0487 D24.2.127 MAIR_EL1; Linux arch/arm64/kvm/at.c: combine_s1_s2_attr, compute_par_s12",
        holds: |row| matches!(row.inputs.s1_attr, 0x40 | 0xa0) || row.inputs.s1_attr & 0xf3 == 1,
    },
    Class {
        name: "linux-xs-not-reported",
        part: Part::Attr,
        says: "The result has XS = 0, which PAR_EL1.ATTR can say of Normal-NC and Device; Linux reports the same type without \
               it. To take XS as 1 is always permitted.",
        right: Right::Open,
        source: "DDI 0487 D24.2.142 PAR_EL1.ATTR, EncodePARAttrs; Linux arch/arm64/kvm/at.c: compute_par_s12",
        holds: |row| !row.combined.xs && row.their_type() == row.combined.ty,
    },
    Class {
        name: "linux-tagged-mair",
        part: Part::Attr,
        says: "MAIR byte 0xF0 is Tagged Write-Back (FEAT_MTE2). Linux takes its lower half, 0, as the inner cacheability: the \
               combination with a Normal stage 2 loses Tagged.",
        right: Right::Architecture,
        source: "DDI 0487 D24.2.127 MAIR_EL1; Linux arch/arm64/kvm/at.c: combine_s1_s2_attr",
        holds: |row| row.inputs.s1_attr == 0xf0,
    },
    Class {
        name: "linux-transient-write-back",
        part: Part::Attr,
        says: "Stage 1 says Write-Back Transient, stage 2 Write-Through: the result is Write-Through Transient. Linux encodes \
               the Transient form of stage 1's policy, and reports Write-Back.",
        right: Right::Architecture,
        source: "DDI 0487 D8.6.5.2, S2CombineS1AttrHints; Linux 6.12.107 and 7.2.13 arch/arm64/kvm/at.c: combine_s1_s2_attr, the \
                 switch over `s1` where `final` is meant",
        holds: |row| match (row.combined.stage1().ty(), row.combined.ty, row.their_type()) {
            (
                Type::Normal { inner: i1, outer: o1 },
                Type::Normal { inner, outer },
                Type::Normal { inner: i, outer: o },
            ) => {
                let kept = |s1: memtype::arm::Cache, ours: memtype::arm::Cache, theirs: memtype::arm::Cache| {
                    ours == theirs
                        || s1.policy == Cacheability::WriteBack
                            && s1.hints.transient()
                            && ours.policy == Cacheability::WriteThrough
                            && theirs == s1
                };
                !row.inputs.fwb && kept(i1, inner, i) && kept(o1, outer, o)
            }
            _ => false,
        },
    },
    Class {
        name: "linux-fwb-hints",
        part: Part::Attr,
        says: "With FWB, MemAttr[2:0] = 0b110 makes everything Write-Back. The pseudocode keeps the allocation hints of a \
               Write-Back stage 1; Linux reports Read- and Write-Allocate. They are hints.",
        right: Right::Open,
        source: "DDI 0487 AArch64.S2ApplyFWBMemAttrs; Linux arch/arm64/kvm/at.c: compute_par_s12",
        holds: |row| row.inputs.fwb && row.inputs.s2_memattr & 7 == 6 && row.theirs.attr == 0xff,
    },
    Class {
        name: "linux-reserved-sh",
        part: Part::Sh,
        says: "SH 0b01 is reserved in either stage. We take it as Outer Shareable; Linux as Non-shareable.",
        right: Right::Open,
        source: "DDI 0487 DecodeShareability, K1.2; Linux arch/arm64/kvm/at.c: compute_final_sh",
        holds: |row| row.inputs.s1_sh == 1 || row.inputs.s2_sh == 1,
    },
    Class {
        name: "linux-sh-of-unknown-mair",
        part: Part::Sh,
        says: "The MAIR byte is one that Linux does not know to be Device or Non-cacheable, and it reports the byte as it is: so \
               it does not report it Outer Shareable either.",
        right: Right::Architecture,
        source: "DDI 0487 EffectiveShareability; Linux arch/arm64/kvm/at.c: compute_final_sh",
        holds: |row| {
            row.theirs.attr == row.inputs.s1_attr && row.inputs.s1_attr >= 0x10 && row.inputs.s1_attr & 0xf == 0
        },
    },
    Class {
        name: "linux-sh-applied-at-stage-1",
        part: Part::Sh,
        says: "Stage 1 says Device or Normal-NC and stage 2, by FWB, Write-Back. Whether the effective shareability (Outer) counts \
               at stage 1 already is IMPLEMENTATION DEFINED; we take the descriptor's, Linux the effective one.",
        right: Right::Open,
        source: "DDI 0487 AArch64.S1Translate, \"Apply effective shareability at stage 1\"; Linux arch/arm64/kvm/at.c: compute_s1_sh",
        holds: |row| {
            let s1 = row.combined.stage1().ty();
            row.inputs.fwb
                && (s1.is_device() || s1.is_normal_nc())
                && row.combined.ty.is_normal_wb()
                && row.theirs.sh == 0b10
        },
    },
];

/// Every combination, sorted by what it is.
#[must_use]
pub fn sweep(kernel: Kernel) -> Outcome {
    Outcome::of(rows(kernel), &CLASSES)
}
