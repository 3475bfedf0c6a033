//! Every combination of stage-1 and stage-2 attributes, as an MMU that is not ours reports it in PAR_EL1, beside what the
//! architecture says ([`memtype::arm`]); and the ways in which the two are known to differ, as data.

use el2::{About, Par, STAGE1, Swept, unpack};
use memtype::arm::{
    Cache, Cacheability, Combined, Features, Hints, Shareability, Stage1, Stage2, Tagging, Type, combine,
};
use serde::Serialize;

/// One combination: what the two descriptors and MAIR_EL1 say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Inputs {
    /// HCR_EL2.FWB.
    pub fwb: bool,
    /// Stage-2 MemAttr\[3:0\].
    pub s2_memattr: u8,
    /// Stage-2 SH\[1:0\].
    pub s2_sh: u8,
    /// The MAIR_EL1 byte.
    pub s1_attr: u8,
    /// Stage-1 SH\[1:0\].
    pub s1_sh: u8,
}

/// A combination, what we say of it, and what the machine said.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What was combined.
    pub inputs: Inputs,
    /// What the architecture makes of it, as we read it.
    pub combined: Combined,
    /// What PAR_EL1 would say of that.
    pub ours: Par,
    /// What it said.
    pub theirs: Par,
}

impl Row {
    /// Whether the two say the same.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.ours == self.theirs
    }
    /// The parts that differ. Where the types do, shareability is what is right for the machine's type.
    #[must_use]
    pub fn differs(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.ours.attr != self.theirs.attr {
            parts.push(Part::Attr);
        }
        let asked = self.combined.stage1().sh.stronger(self.combined.stage2().sh);
        if sh_bits(asked.effective(self.their_type())) != self.theirs.sh {
            parts.push(Part::Sh);
        }
        parts
    }
    /// The type the machine reports.
    #[must_use]
    pub fn their_type(&self) -> Type {
        Stage1::decode(self.theirs.attr, 0, Features::LATEST).ty()
    }
}

/// PAR_EL1.ATTR of a combination (`EncodePARAttrs`).
#[must_use]
pub fn par_attr(both: &Combined) -> u8 {
    const fn half(cache: Cache) -> u8 {
        let hints = (cache.hints.read() as u8) << 1 | cache.hints.write() as u8;
        let lasting = if cache.hints.transient() { 0 } else { 0b1000 };
        match cache.policy {
            Cacheability::NonCacheable => 0b0100,
            Cacheability::WriteThrough => lasting | hints,
            Cacheability::WriteBack => lasting | 0b0100 | hints,
        }
    }
    match (both.tagging, both.ty) {
        (Tagging::Tagged, _) => 0xf0,
        (Tagging::NoTagAccess, _) => 0xe0,
        (_, Type::Device(device)) => (device as u8) << 2 | u8::from(!both.xs),
        (_, ty) if !both.xs && ty.is_normal_nc() => 0x40,
        (_, Type::Normal { inner, outer }) => {
            let through = [inner, outer].map(|c| c.policy) == [Cacheability::WriteThrough; 2];
            let read = outer.hints.read() && !outer.hints.write() && !outer.hints.transient();
            if !both.xs && through && read { 0xa0 } else { half(outer) << 4 | half(inner) }
        }
    }
}

/// What PAR_EL1 says of a combination on a machine with these features.
#[must_use]
pub fn ours(inputs: Inputs, features: Features) -> (Combined, Par) {
    let s1 = Stage1::decode(inputs.s1_attr, inputs.s1_sh, features);
    let s2 = Stage2::decode(inputs.fwb, inputs.s2_memattr, inputs.s2_sh, features);
    let both = combine(&s1, &s2);
    (both, Par { attr: par_attr(&both), sh: sh_bits(both.sh), failed: false })
}

/// Who is right where the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// The architecture says one thing, and the machine does another.
    Architecture,
    /// The architecture leaves it open, and the two chose differently.
    Open,
}

impl Right {
    /// In words.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Architecture => "the architecture; the machine departs from it",
            Self::Open => "both: the architecture leaves it open",
        }
    }
}

/// A part of PAR_EL1 that can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// ATTR: the memory type.
    Attr,
    /// SH: the shareability.
    Sh,
}

/// A way to differ.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// Its name.
    pub name: &'static str,
    /// In which part.
    pub part: Part,
    /// What differs, in a sentence or two.
    pub says: &'static str,
    /// Who is right.
    pub right: Right,
    /// Where either side says so.
    pub source: &'static str,
    /// Whether a difference is of this kind: the inputs must fit, and what the machine said must be what follows from it. Of
    /// an encoding that is reserved anything may follow.
    pub holds: fn(&Row) -> bool,
}

/// The ways known, all of QEMU (TCG), seen with 10.0.2. A difference is of the first class it fits.
pub const CLASSES: [Class; 12] = [
    Class {
        name: "reserved-mair",
        part: Part::Attr,
        says: "The MAIR byte is a reserved encoding, or one that needs FEAT_MTE2, which this machine has not. We take it as \
               Device; QEMU computes on with its four-bit halves as if each was an encoding.",
        right: Right::Open,
        source: "DDI 0487 D24.2.127 MAIR_EL1, K1.2; QEMU target/arm/ptw.c: combined_attrs_nofwb, combined_attrs_fwb",
        holds: |row| row.combined.stage1().reserved_mair.is_some(),
    },
    Class {
        name: "reserved-memattr",
        part: Part::Attr,
        says: "Without FWB, MemAttr[3:2] is not 0b00 and MemAttr[1:0] is: reserved. We take the inner half as Non-cacheable; \
               in QEMU it bounds nothing, and what stage 1 says stands.",
        right: Right::Open,
        source: "DDI 0487 D8.6.5, Table D8-96, K1.2; QEMU target/arm/ptw.c: convert_stage2_attrs, combine_cacheattr_nibble",
        holds: |row| !row.inputs.fwb && row.combined.stage2().reserved_attr.is_some(),
    },
    Class {
        name: "reserved-memattr-fwb",
        part: Part::Attr,
        says: "With FWB, MemAttr[2:0] = 0b100 is reserved. The pseudocode and we take it as 0b101, Normal-NC unless stage 1 \
               says Device; QEMU as Device-nGnRnE.",
        right: Right::Open,
        source: "DDI 0487 D8.6.6, AArch64.S2ApplyFWBMemAttrs; QEMU target/arm/ptw.c: combined_attrs_fwb, \
                 \"arbitrarily force Device\"",
        holds: |row| row.inputs.fwb && row.combined.stage2().reserved_attr.is_some() && row.theirs.attr == 0,
    },
    Class {
        name: "fwb-memattr-bit-3",
        part: Part::Attr,
        says: "With FWB and without FEAT_MTE_PERM, MemAttr[3] is RES0 and the type is that of MemAttr[2:0]; QEMU makes \
               Device-nGnRnE of every encoding in which it is set.",
        right: Right::Architecture,
        source: "DDI 0487 R_JXGKQ, AArch64.S2ApplyFWBMemAttrs, which reads MemAttr[2:0] alone; QEMU target/arm/ptw.c: \
                 combined_attrs_fwb, \"RESERVED values (including RES0 descriptor bit [5] being nonzero)\"",
        holds: |row| row.inputs.fwb && row.inputs.s2_memattr & 0b1000 != 0 && row.theirs.attr == 0,
    },
    Class {
        name: "fwb-device-over-device",
        part: Part::Attr,
        says: "With FWB, both stages say Device and stage 1's type is the stricter: the result is the stricter; QEMU gives \
               stage 2's. A guest that asked for nGnRnE gets a weaker type.",
        right: Right::Architecture,
        source: "DDI 0487 R_GSDKZ; AArch64.S2ApplyFWBMemAttrs; QEMU target/arm/ptw.c: combined_attrs_fwb, \"Force Device, of \
                 subtype specified by S2\"",
        holds: |row| {
            let memattr = row.inputs.s2_memattr;
            let s1 = row.combined.stage1();
            row.inputs.fwb
                && memattr < 4
                && s1.is_device()
                && row.theirs.attr == memattr << 2
                && row.their_type() != row.combined.ty
        },
    },
    Class {
        name: "xs-not-reported",
        part: Part::Attr,
        says: "The result has the XS attribute 0, which PAR_EL1.ATTR can say of Device, Normal-NC and Write-Through with \
               Read-Allocate. QEMU has FEAT_XS and reports the same type with XS = 1. What is reported may be what an \
               implementation makes of the attributes.",
        right: Right::Open,
        source: "DDI 0487 D24.2.142 PAR_EL1.ATTR; EncodePARAttrs, ReportedPARAttrs",
        holds: |row| {
            let mut with = row.combined;
            with.xs = true;
            !row.combined.xs && row.theirs.attr == par_attr(&with)
        },
    },
    Class {
        name: "xs-device-mair",
        part: Part::Attr,
        says: "MAIR byte 0b0000dd01 is Device dd with XS = 0 (FEAT_XS, which the machine has). QEMU does not know the byte: \
               with a Device or Non-cacheable stage 2 the type is stage 2's, where stage 1's may be the stricter.",
        right: Right::Architecture,
        source: "DDI 0487 D24.2.127 MAIR_EL1; QEMU target/arm/ptw.c: combined_attrs_nofwb compares the four bits with 0, 4 \
                 and 8",
        holds: |row| !row.inputs.fwb && row.inputs.s1_attr & 0xf3 == 1 && row.theirs.attr == qemu_device(&row.inputs),
    },
    Class {
        name: "xs-normal-mair",
        part: Part::Attr,
        says: "MAIR bytes 0x40 and 0xA0 are Normal-NC and Write-Through with XS = 0 (FEAT_XS, which the machine has). QEMU \
               does not know them: it takes their lower half, 0, as the inner cacheability, or as Device-nGnRnE.",
        right: Right::Architecture,
        source: "DDI 0487 D24.2.127 MAIR_EL1; QEMU target/arm/ptw.c: combined_attrs_nofwb, force_cacheattr_nibble_wb",
        holds: |row| {
            matches!(row.inputs.s1_attr, 0x40 | 0xa0)
                && match row.combined.ty {
                    Type::Device(_) => row.theirs.attr == qemu_device(&row.inputs),
                    Type::Normal { .. } => {
                        let inner = if row.inputs.fwb { 0xf } else { 0 };
                        row.theirs.attr == row.ours.attr & 0xf0 | inner
                    }
                }
        },
    },
    Class {
        name: "cacheability-as-device",
        part: Part::Attr,
        says: "One stage says Device, the other Normal: the result is the Device type of the one. QEMU looks at the lower four \
               bits of both, where those of the Normal stage are its inner cacheability: Non-cacheable, 0b0100, counts as \
               nGnRE, Write-Through without allocation, 0b1000, as nGRE. A guest's Device-GRE over Normal-NC becomes nGnRE.",
        right: Right::Architecture,
        source: "DDI 0487 Table D8-97, S2CombineS1MemAttrs; QEMU target/arm/ptw.c: combined_attrs_nofwb",
        holds: |row| {
            !row.inputs.fwb
                && row.combined.ty.is_device()
                && (row.inputs.s1_attr < 0x10) != (row.inputs.s2_memattr < 4)
                && row.theirs.attr == qemu_device(&row.inputs)
        },
    },
    Class {
        name: "transient-lost",
        part: Part::Attr,
        says: "Stage 1 says Write-Back Transient, stage 2 Write-Through: the result is Write-Through with stage 1's hints, \
               Transient too; QEMU drops that one. It is a hint.",
        right: Right::Architecture,
        source: "DDI 0487 D8.6.5.2, S2CombineS1AttrHints; QEMU target/arm/ptw.c: combine_cacheattr_nibble",
        holds: |row| {
            let lasting =
                |cache: Cache| Cache { hints: Hints::new(cache.hints.read(), cache.hints.write(), false), ..cache };
            match (row.combined.ty, row.their_type(), row.combined.stage1().ty()) {
                (
                    Type::Normal { inner, outer },
                    Type::Normal { inner: i, outer: o },
                    Type::Normal { inner: i1, outer: o1 },
                ) => {
                    let dropped = |ours: Cache, theirs: Cache, s1: Cache| {
                        ours == theirs || s1.policy == Cacheability::WriteBack && lasting(ours) == theirs
                    };
                    dropped(inner, i, i1) && dropped(outer, o, o1)
                }
                _ => false,
            }
        },
    },
    Class {
        name: "reserved-sh",
        part: Part::Sh,
        says: "SH 0b01 is reserved in either stage. We take it as Outer Shareable; QEMU as Non-shareable.",
        right: Right::Open,
        source: "DDI 0487 DecodeShareability, K1.2; QEMU target/arm/ptw.c: combine_cacheattrs",
        holds: |row| {
            (row.inputs.s1_sh == 1 || row.inputs.s2_sh == 1)
                && row.theirs.sh == sh_bits(qemu_sh(&row.inputs).effective(row.their_type()))
        },
    },
    Class {
        name: "reserved-mair-sh",
        part: Part::Sh,
        says: "The MAIR byte is reserved and QEMU reports it as it is, or with one half of it exchanged. We take it as Device, \
               which is Outer Shareable; QEMU does not, and reports what SH says.",
        right: Right::Open,
        source: "DDI 0487 D24.2.127 MAIR_EL1, K1.2; QEMU target/arm/ptw.c: combine_cacheattrs",
        holds: |row| {
            row.combined.stage1().reserved_mair.is_some()
                && Stage1::decode(row.theirs.attr, 0, Features::LATEST).reserved_mair.is_some()
                && row.theirs.sh == sh_bits(qemu_sh(&row.inputs))
        },
    },
];

/// What QEMU makes of two stages one of which is Device, without FWB: of the lower four bits of both, the first of nGnRnE,
/// nGnRE and nGRE that either is, else GRE.
const fn qemu_device(inputs: &Inputs) -> u8 {
    let first = inputs.s1_attr & 0xf;
    let second = match (inputs.s2_memattr >> 2, inputs.s2_memattr & 3) {
        (0, device) => device << 2,
        (_, 1) => 4,
        // Write-Through and Write-Back, with both allocation hints; the reserved 0b00 as a value of its own.
        (_, inner) => inner << 2 | 3,
    };
    let mut strict = 0;
    while strict < 0xc {
        if first == strict || second == strict {
            return strict;
        }
        strict += 4;
    }
    0xc
}

/// What QEMU makes of the two SH fields, where 0b01 is as 0b00.
const fn qemu_sh(inputs: &Inputs) -> Shareability {
    const fn of(bits: u8) -> Shareability {
        if bits == 1 { Shareability::Non } else { Shareability::from_bits(bits).0 }
    }
    of(inputs.s1_sh).stronger(of(inputs.s2_sh))
}

/// PAR_EL1.SH, which is coded as a descriptor's.
const fn sh_bits(sh: Shareability) -> u8 {
    match sh {
        Shareability::Non => 0b00,
        Shareability::Inner => 0b11,
        Shareability::Outer => 0b10,
    }
}

/// What a sweep came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How many combinations were tried.
    pub combinations: usize,
    /// How many agree.
    pub agree: usize,
    /// How many differ in ways that are all known.
    pub known: usize,
    /// For each class how many there are, and the smallest. A combination can be of two: one for each part.
    pub classes: Vec<(Class, usize, Option<Row>)>,
    /// Those that differ in a way of no class.
    pub unexplained: Vec<Row>,
}

/// The features the machine has, as far as attributes depend on them.
#[must_use]
pub const fn features(about: &About) -> Features {
    Features { xs: about.xs, mte2: about.mte2, mte_perm: false }
}

impl Outcome {
    /// Sorts the combinations by what they are.
    pub fn of(rows: impl Iterator<Item = Row>, classes: &[Class]) -> Self {
        let mut outcome = Self {
            combinations: 0,
            agree: 0,
            known: 0,
            classes: classes.iter().map(|class| (*class, 0, None)).collect(),
            unexplained: Vec::new(),
        };
        for row in rows {
            outcome.combinations += 1;
            if row.agrees() {
                outcome.agree += 1;
                continue;
            }
            let parts = row.differs();
            let class = |part: &Part| classes.iter().position(|class| class.part == *part && (class.holds)(&row));
            let found: Vec<usize> = parts.iter().filter_map(class).collect();
            if row.theirs.failed || found.len() < parts.len() || parts.is_empty() {
                outcome.unexplained.push(row);
                continue;
            }
            outcome.known += 1;
            for i in found {
                let (_, count, smallest) = &mut outcome.classes[i];
                *count += 1;
                if smallest.is_none_or(|s: Row| row.inputs < s.inputs) {
                    *smallest = Some(row);
                }
            }
        }
        outcome
    }
}

/// Compares and sorts what the machine said.
///
/// # Errors
/// Where it did not say all of it, or something that is no answer.
pub fn judge(about: &About, said: &[Swept]) -> Result<Outcome, String> {
    let features = features(about);
    let mut seen = std::collections::BTreeSet::new();
    let mut rows = Vec::new();
    for swept in said {
        let pars = unpack(&swept.par).filter(|pars| pars.len() == STAGE1);
        let pars = pars.ok_or_else(|| format!("no {STAGE1} answers: {swept:?}"))?;
        if swept.memattr > 15 || swept.sh > 3 || !seen.insert((swept.fwb, swept.memattr, swept.sh)) {
            return Err(format!("said twice, or of no stage 2 there is: {swept:?}"));
        }
        rows.extend(pars.into_iter().enumerate().map(|(i, theirs)| {
            let inputs = Inputs {
                fwb: swept.fwb,
                s2_memattr: swept.memattr,
                s2_sh: swept.sh,
                s1_attr: (i / 4) as u8,
                s1_sh: (i % 4) as u8,
            };
            let (combined, ours) = ours(inputs, features);
            Row { inputs, combined, ours, theirs }
        }));
    }
    let stages2 = if about.fwb { 128 } else { 64 };
    if seen.len() != stages2 {
        return Err(format!("{} of {stages2} stage-2 encodings were tried", seen.len()));
    }
    Ok(Outcome::of(rows.into_iter(), &CLASSES))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ABOUT: About = About { midr: 0, fwb: true, dic: true, xs: true, mte2: true, bars: Vec::new() };

    /// What a machine says that is as `of` has it.
    fn said(of: impl Fn(Inputs) -> Par) -> Vec<Swept> {
        let mut all = Vec::new();
        for (fwb, s2_memattr, s2_sh) in (0..128u8).map(|i| (i & 64 != 0, i >> 2 & 15, i & 3)) {
            let inputs = |i: usize| Inputs { fwb, s2_memattr, s2_sh, s1_attr: (i / 4) as u8, s1_sh: (i % 4) as u8 };
            let mut par = String::new();
            el2::pack((0..STAGE1).map(|i| of(inputs(i))), |byte| par.push(char::from(byte)));
            all.push(Swept { fwb, memattr: s2_memattr, sh: s2_sh, par });
        }
        all
    }

    fn right(inputs: Inputs) -> Par {
        ours(inputs, features(&ABOUT)).1
    }

    #[test]
    fn a_machine_that_follows_the_architecture_agrees_in_all() {
        let outcome = judge(&ABOUT, &said(right)).unwrap();
        assert_eq!((outcome.combinations, outcome.agree, outcome.known), (131_072, 131_072, 0));
        assert!(outcome.unexplained.is_empty() && outcome.classes.iter().all(|(_, count, _)| *count == 0));
    }

    #[test]
    fn one_wrong_answer_is_seen() {
        let at = Inputs { fwb: true, s2_memattr: 0b0101, s2_sh: 3, s1_attr: 0xff, s1_sh: 3 };
        for wrong in [
            Par { attr: 0xff, sh: 3, failed: false },
            Par { attr: 0x44, sh: 3, failed: false },
            Par { attr: 0x44, sh: 2, failed: true },
        ] {
            let outcome = judge(&ABOUT, &said(|inputs| if inputs == at { wrong } else { right(inputs) })).unwrap();
            assert_eq!((outcome.agree, outcome.known, outcome.unexplained.len()), (131_071, 0, 1), "{wrong:?}");
            assert_eq!(outcome.unexplained[0].inputs, at);
        }
    }

    #[test]
    fn a_known_difference_is_of_its_class_and_the_smallest_is_kept() {
        // R_GSDKZ not followed.
        let departs = |inputs: Inputs| match right(inputs) {
            par if inputs.fwb && inputs.s2_memattr < 4 && inputs.s1_attr < 4 => {
                Par { attr: inputs.s2_memattr << 2, ..par }
            }
            par => par,
        };
        let outcome = judge(&ABOUT, &said(departs)).unwrap();
        assert!(outcome.unexplained.is_empty());
        let counted: Vec<_> = outcome.classes.iter().filter(|(_, count, _)| *count > 0).collect();
        let names: Vec<_> = counted.iter().map(|(class, ..)| class.name).collect();
        assert_eq!(names, ["reserved-mair", "fwb-device-over-device", "xs-not-reported"]);
        let (_, count, smallest) = counted[1];
        // MAIR bytes 0 and 1, three stricter pairs, four SH each.
        assert_eq!(*count, 2 * 3 * 16);
        let least = Inputs { fwb: true, s2_memattr: 1, s2_sh: 0, s1_attr: 0, s1_sh: 0 };
        assert_eq!(smallest.unwrap().inputs, least);
    }

    #[test]
    fn what_is_missing_twice_or_garbage_is_refused() {
        let whole = said(right);
        assert!(judge(&ABOUT, &whole[1..]).unwrap_err().contains("127 of 128"));
        let twice: Vec<Swept> = whole.iter().chain(&whole[..1]).cloned().collect();
        assert!(judge(&ABOUT, &twice).unwrap_err().contains("said twice"));
        let mut cut = whole.clone();
        cut[5].par.pop();
        assert!(judge(&ABOUT, &cut).is_err());
        let half: Vec<Swept> = whole.into_iter().filter(|swept| !swept.fwb).collect();
        assert_eq!(judge(&About { fwb: false, ..ABOUT }, &half).unwrap().combinations, 65_536);
    }

    #[test]
    fn par_says_what_the_pseudocode_encodes() {
        let attr = |fwb, s2_memattr, s1_attr| right(Inputs { fwb, s2_memattr, s2_sh: 3, s1_attr, s1_sh: 3 }).attr;
        assert_eq!(attr(false, 0b1111, 0xff), 0xff);
        assert_eq!(attr(false, 0b1111, 0xf0), 0xf0, "Tagged");
        assert_eq!(attr(false, 0b0101, 0x44), 0x44);
        assert_eq!(attr(false, 0b0101, 0xff), 0x40, "Write-Back has XS = 0, and Normal-NC can say so");
        assert_eq!(attr(false, 0b1111, 0x05), 0x05, "Device-nGnRE with XS = 0");
        assert_eq!(attr(true, 0b0110, 0x00), 0xff);
        assert_eq!(attr(false, 0b1111, 0xa0), 0xa0);
    }
}
