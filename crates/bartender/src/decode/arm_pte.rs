//! A descriptor of Arm's translation tables, stage 1 or stage 2: VMSAv8-64 with 4 KiB granule, 48-bit addresses and direct
//! permissions (DDI 0487 D8.3.1), which is what Linux builds.

use memtype::arm::{Alignment, Features, MemAttr, Stage1, Stage2, Type, combine, mair_of};

use super::mair::attribute;
use super::{Decoded, Field, Means, Spec, bits, fields, mask};
use crate::cmd::explain::arm64::reserved_says;
use crate::show::Hex;

/// MAIR_EL1 as Linux 6.12 sets it on a CPU with FEAT_MTE2.
pub const LINUX_MAIR: u64 = 0x0004_0044_f0ff;

/// What a descriptor cannot say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// 1 or 2.
    pub stage: u8,
    /// The lookup level, 0 to 3.
    pub level: u8,
    /// MAIR_ELx, of stage 1.
    pub mair: u64,
    /// HCR_EL2.FWB, of stage 2.
    pub fwb: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Invalid,
    /// Bit 1 says neither a table nor a block that there is.
    Reserved,
    Table,
    Block,
    Page,
}

impl At {
    const fn kind(&self, value: u64) -> Kind {
        match (value & 0b11, self.level) {
            (0b01, 1 | 2) => Kind::Block,
            (0b01, _) => Kind::Reserved,
            (0b11, 3) => Kind::Page,
            (0b11, _) => Kind::Table,
            _ => Kind::Invalid,
        }
    }
    /// The lowest bit of the output address.
    const fn low(&self) -> u8 {
        12 + 9 * (3 - self.level)
    }
}

/// The bits that say what it is, where it is something.
const LEAF: Means = Means::One(&[(1, "block"), (3, "page")]);
const TABLE: Means = Means::One(&[(3, "table")]);
const NO_YES: Means = Means::One(&[(0, "no"), (1, "yes")]);
const SOFTWARE: Means = Means::By(|_| "for software".into());
const SH: Means = Means::One(&[(0, "Non-shareable"), (2, "Outer Shareable"), (3, "Inner Shareable")]);
const AF: Means = Means::One(&[(0, "not accessed: an access faults, unless hardware sets it"), (1, "accessed")]);
const CONTIGUOUS: Means = Means::One(&[(0, "no"), (1, "one of a contiguous run: a TLB may hold the run as one")]);
const PBHA: Means = Means::By(|_| "page-based hardware attributes or overlay index, where enabled".into());
const NEXT: Means = Means::By(|at| format!("next table at {:#x}", at << 12));
const VALID: Means = Means::One(&[(0, "not valid: an access raises a Translation fault"), (1, "valid")]);
const KIND: Means = Means::One(&[(0, "block"), (1, "page, or at levels 0 to 2 a table")]);

/// Put into words by the level.
const OA: Means = Means::Number;

const fn at_level<const LEVEL: u8>(at: &At) -> bool {
    at.level == LEVEL
}
const fn is_block(at: &At) -> bool {
    at.level < 3
}

const STAGE1: [Spec<At>; 19] = [
    Spec::new("ignored", 63, 63, SOFTWARE).quiet(),
    Spec::new("PBHA", 62, 59, PBHA).quiet(),
    Spec::new("software", 58, 55, SOFTWARE).quiet(),
    Spec::new("UXN", 54, 54, Means::One(&[(0, "executable at EL0"), (1, "execute-never at EL0")])),
    Spec::new("PXN", 53, 53, Means::One(&[(0, "executable at EL1"), (1, "execute-never at EL1")])),
    Spec::new("Contiguous", 52, 52, CONTIGUOUS).quiet(),
    Spec::new("DBM", 51, 51, Means::One(&[(0, "no"), (1, "counts as writable: a write may clear AP[2] (TCR_ELx.HD)")]))
        .quiet(),
    Spec::new("GP", 50, 50, Means::One(&[(0, "no"), (1, "guarded page (FEAT_BTI)")])).quiet(),
    Spec::new("OA", 47, 30, OA).when(at_level::<1>),
    Spec::new("OA", 47, 21, OA).when(at_level::<2>),
    Spec::new("OA", 47, 12, OA).when(at_level::<3>),
    Spec::new("nT", 16, 16, NO_YES).quiet().when(is_block),
    Spec::new("nG", 11, 11, Means::One(&[(0, "global"), (1, "of one address space")])),
    Spec::new("AF", 10, 10, AF),
    Spec::new("SH", 9, 8, SH),
    Spec::new(
        "AP[2:1]",
        7,
        6,
        Means::One(&[
            (0, "read-write at EL1, no access at EL0"),
            (1, "read-write at EL1 and EL0"),
            (2, "read-only at EL1, no access at EL0"),
            (3, "read-only at EL1 and EL0"),
        ]),
    ),
    Spec::new(
        "NS",
        5,
        5,
        Means::One(&[(0, "Secure (RES0 in Non-secure state)"), (1, "Non-secure (RES0 in that state)")]),
    )
    .quiet(),
    Spec::new("AttrIndx", 4, 2, Means::Number),
    Spec::new("type", 1, 0, LEAF),
];

const STAGE2: [Spec<At>; 15] = [
    Spec::new("PBHA", 62, 59, PBHA).quiet(),
    Spec::new("software", 58, 55, SOFTWARE).quiet(),
    Spec::new(
        "XN[1:0]",
        54,
        53,
        Means::One(&[
            (0, "executable at EL1 and EL0"),
            (1, "executable at EL0 only (FEAT_XNX)"),
            (2, "execute-never"),
            (3, "executable at EL1 only (FEAT_XNX)"),
        ]),
    ),
    Spec::new("Contiguous", 52, 52, CONTIGUOUS).quiet(),
    Spec::new(
        "DBM",
        51,
        51,
        Means::One(&[(0, "no"), (1, "counts as writable: a write may set S2AP[1] (VTCR_EL2.HD)")]),
    )
    .quiet(),
    Spec::new("OA", 47, 30, OA).when(at_level::<1>),
    Spec::new("OA", 47, 21, OA).when(at_level::<2>),
    Spec::new("OA", 47, 12, OA).when(at_level::<3>),
    Spec::new("nT", 16, 16, NO_YES).quiet().when(is_block),
    Spec::new("FnXS", 11, 11, Means::One(&[(0, "XS as stage 1 says"), (1, "XS = 0 (FEAT_XS)")])).quiet(),
    Spec::new("AF", 10, 10, AF),
    Spec::new("SH", 9, 8, SH),
    Spec::new(
        "S2AP",
        7,
        6,
        Means::One(&[(0, "no data access"), (1, "read-only"), (2, "write-only"), (3, "read-write")]),
    ),
    Spec::new("MemAttr", 5, 2, Means::Number),
    Spec::new("type", 1, 0, LEAF),
];

const TABLE1: [Spec<At>; 10] = [
    Spec::new("NSTable", 63, 63, NO_YES).quiet(),
    Spec::new(
        "APTable",
        62,
        61,
        Means::One(&[
            (0, "no effect"),
            (1, "no access at EL0 below"),
            (2, "no writes below"),
            (3, "no writes, and no access at EL0, below"),
        ]),
    )
    .quiet(),
    Spec::new("UXNTable", 60, 60, Means::One(&[(0, "no effect"), (1, "execute-never at EL0 below")])).quiet(),
    Spec::new("PXNTable", 59, 59, Means::One(&[(0, "no effect"), (1, "execute-never at EL1 below")])).quiet(),
    Spec::new("ignored[58:51]", 58, 51, SOFTWARE).quiet(),
    Spec::new("NLTA", 47, 12, NEXT),
    Spec::new("ignored[11]", 11, 11, SOFTWARE).quiet(),
    Spec::new("AF", 10, 10, Means::One(&[(0, "no"), (1, "accessed, where hardware manages it")])).quiet(),
    Spec::new("ignored[9:2]", 9, 2, SOFTWARE).quiet(),
    Spec::new("type", 1, 0, TABLE),
];

const TABLE2: [Spec<At>; 6] = [
    Spec::new("ignored[58:51]", 58, 51, SOFTWARE).quiet(),
    Spec::new("NLTA", 47, 12, NEXT),
    Spec::new("ignored[11]", 11, 11, SOFTWARE).quiet(),
    Spec::new("AF", 10, 10, Means::One(&[(0, "no"), (1, "accessed, where hardware manages it")])).quiet(),
    Spec::new("ignored[9:2]", 9, 2, SOFTWARE).quiet(),
    Spec::new("type", 1, 0, TABLE),
];

const NOT_VALID: [Spec<At>; 3] = [
    Spec::new("ignored", 63, 2, SOFTWARE).quiet(),
    Spec::new("type", 1, 1, KIND).quiet(),
    Spec::new("valid", 0, 0, VALID),
];

/// Decodes.
#[must_use]
pub fn decode(value: u64, at: At) -> Decoded {
    let kind = at.kind(value);
    let stage1 = at.stage == 1;
    let (mut fields, strange) = match kind {
        Kind::Invalid | Kind::Reserved => fields(&NOT_VALID, &at, value),
        Kind::Table if stage1 => fields(&TABLE1, &at, value),
        Kind::Table => fields(&TABLE2, &at, value),
        Kind::Block | Kind::Page if stage1 => fields(&STAGE1, &at, value),
        Kind::Block | Kind::Page => fields(&STAGE2, &at, value),
    };
    let mut it = Decoded {
        register: format!("stage-{} descriptor", at.stage),
        value: vec![Hex(value)],
        says: String::new(),
        ty: None,
        fields: Vec::new(),
        what: Vec::new(),
        notes: Vec::new(),
    };
    match kind {
        Kind::Invalid => it.says = "not valid".into(),
        Kind::Reserved => {
            it.says = "reserved, treated as not valid".into();
            it.notes.push(match at.level {
                3 => "bits 1:0 are 0b01: at level 3 there are pages only, 0b11".into(),
                _ => "a block at level 0 needs 52-bit addresses (TCR_ELx.DS or VTCR_EL2.DS = 1), which are not decoded here"
                    .into(),
            });
        }
        Kind::Table => it.says = format!("table of level {}", at.level + 1),
        Kind::Block | Kind::Page => {
            let size = ["512 GiB", "1 GiB", "2 MiB", "4 KiB"][usize::from(at.level & 3)];
            let what = if kind == Kind::Block { "block" } else { "page" };
            if let Some(oa) = fields.iter_mut().find(|f| f.name == "OA") {
                let address = if stage1 { "output address" } else { "physical address" };
                oa.means = format!("{address} {:#x}, {size}", oa.value << at.low());
            }
            let said = if stage1 {
                of_stage1(value, at, &mut fields, &mut it)
            } else {
                of_stage2(value, at, &mut fields, &mut it)
            };
            it.says = format!("{size} {what}, {said}");
            if bits(value, 10, 10) == 0 {
                it.notes
                    .push("the Access flag is clear: the first access faults, unless hardware sets it (HA = 1)".into());
            }
        }
    }
    it.fields = fields;
    if strange != 0 {
        let wide =
            if strange & mask(49, 48) != 0 { "; with 52-bit addresses 49:48 and 9:8 are address bits" } else { "" };
        it.notes.push(format!("bits {strange:#x} should be zero{wide}"));
    }
    it
}

fn means<'a>(fields: &'a mut [Field], name: &str) -> Option<&'a mut String> {
    fields.iter_mut().find(|f| f.name == name).map(|f| &mut f.means)
}

fn of_stage1(value: u64, at: At, fields: &mut [Field], it: &mut Decoded) -> String {
    let index = bits(value, 4, 2);
    let byte = at.mair.to_le_bytes()[index as usize & 7];
    let s1 = Stage1::decode(byte, bits(value, 9, 8) as u8, Features::LATEST);
    let it_is = attribute(None, byte);
    let tagged = if it_is.tagged { ", Tagged" } else { "" };
    if let Some(means) = means(fields, "AttrIndx") {
        *means = format!("Attr{index} of MAIR_ELx {:#x} is {byte:#04x}: {}{tagged}", at.mair, s1.ty());
    }
    it.ty = Some(s1.ty().name().into());
    it.what.push(format!(
        "{}{tagged}: an unaligned access {}.",
        s1.ty(),
        if it_is.unaligned == "ok" { "is performed" } else { "raises an Alignment fault" }
    ));
    if !outer(s1.ty()) {
        it.what.push(format!("{} by SH.", shareable(s1.sh.short())));
    } else if bits(value, 9, 8) != 0b10 {
        it.what.push("Outer Shareable whatever SH says.".into());
    }
    it.what.push("A guest's stage 1 does not decide alone: bartender explain S1 S2 combines it with stage 2.".into());
    it.notes.extend([s1.reserved_mair, s1.reserved_sh].into_iter().flatten().map(|r| reserved_says(r).to_string()));
    if s1.is_device() && bits(value, 54, 53) != 0b11 {
        it.notes.push(
            "Device memory that is not execute-never at every EL: instructions may be fetched from it speculatively (B2.10.2)"
                .into(),
        );
    }
    s1.ty().to_string()
}

fn of_stage2(value: u64, at: At, fields: &mut [Field], it: &mut Decoded) -> String {
    let memattr = bits(value, 5, 2) as u8;
    let s2 = Stage2::decode(at.fwb, memattr, bits(value, 9, 8) as u8, Features::LATEST);
    let s2 = if bits(value, 11, 11) == 1 { s2.with_fnxs() } else { s2 };
    let said = s2.attr().to_string();
    if let Some(means) = means(fields, "MemAttr") {
        *means = format!("{said} ({})", if at.fwb { "with FWB" } else { "without FWB" });
    }
    it.ty = match s2.attr() {
        MemAttr::Combine(ty) => Some(ty.name().into()),
        MemAttr::FwbDevice(device) => Some(Type::Device(device).name().into()),
        MemAttr::FwbForceWb => Some(Type::NORMAL_WB.name().into()),
        MemAttr::FwbNcUnlessDevice | MemAttr::FwbAsStage1 => None,
    };
    for guest in ["device-ngnrne", "device-ngnre", "normal-nc", "normal-wb"] {
        let Some(byte) = mair_of(guest) else { continue };
        let both = combine(&Stage1::decode(byte, 0b11, Features::LATEST), &s2);
        let fault = match both.unaligned() {
            Alignment::Fault { stage: 2 } => ", and an unaligned access faults at stage 2, taken to EL2",
            Alignment::MayFault => ", and an unaligned access may still fault at stage 1",
            Alignment::Ok | Alignment::Fault { .. } => "",
        };
        it.what.push(format!("What the guest maps {} is {}{fault}.", both.stage1().ty(), both.ty));
    }
    it.notes.extend([s2.reserved_attr, s2.reserved_sh].into_iter().flatten().map(|r| reserved_says(r).to_string()));
    if at.fwb && memattr & 0b1000 != 0 {
        it.notes.push("with FWB bit 5 (MemAttr[3]) should be zero, unless FEAT_MTE_PERM is implemented".into());
    }
    said
}

/// Outer Shareable by type.
const fn outer(ty: Type) -> bool {
    ty.is_device() || ty.is_normal_nc()
}

fn shareable(short: &str) -> &'static str {
    match short {
        "nsh" => "Non-shareable",
        "ish" => "Inner Shareable",
        _ => "Outer Shareable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S1: At = At { stage: 1, level: 3, mair: LINUX_MAIR, fwb: false };
    const S2: At = At { stage: 2, level: 3, mair: 0, fwb: false };

    fn field<'a>(it: &'a Decoded, name: &str) -> &'a Field {
        it.fields.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name}: {it:#?}"))
    }

    #[test]
    fn linux_maps_a_bar_write_combining() {
        // pgprot_writecombine: PXN, UXN, nG clear, AF, ISH, AttrIndx 2.
        let it = decode(0x0068_0000_1000_070b, S1);
        assert_eq!(it.ty.as_deref(), Some("normal-nc"));
        assert_eq!(it.says, "4 KiB page, Normal-NC");
        assert_eq!(field(&it, "OA").means, "output address 0x10000000, 4 KiB");
        assert!(field(&it, "AttrIndx").means.contains("is 0x44: Normal-NC"), "{it:#?}");
        assert_eq!(field(&it, "DBM").value, 1);
        assert!(it.what[0].contains("is performed") && it.notes.is_empty(), "{it:#?}");
        // The same index under another MAIR.
        let it = decode(0x0068_0000_1000_070b, At { mair: 0x04_0000, ..S1 });
        assert_eq!(it.ty.as_deref(), Some("device-ngnre"));
        assert!(it.what[0].contains("Alignment fault"));
    }

    #[test]
    fn every_level_has_its_address() {
        for (level, value, address) in [
            (3, 0x0060_0080_1234_5713, "0x8012345000, 4 KiB"),
            (2, 0x0060_0080_1220_0711, "0x8012200000, 2 MiB"),
            (1, 0x0060_0080_4000_0711, "0x8040000000, 1 GiB"),
        ] {
            for stage in [1, 2] {
                let it = decode(value, At { level, stage, ..S1 });
                assert!(field(&it, "OA").means.ends_with(address), "{it:#?}");
            }
        }
        let it = decode(0x0000_0080_0000_1003, At { level: 2, ..S1 });
        assert_eq!((it.says.as_str(), it.ty), ("table of level 3", None));
    }

    #[test]
    fn kvm_maps_a_bar() {
        // Before 6.9 and without FWB: Device-nGnRE, read-write, execute-never.
        let it = decode(0x0040_0000_1000_07c7, S2);
        assert_eq!(it.ty.as_deref(), Some("device-ngnre"));
        assert!(
            it.what.iter().any(|w| w.contains("Normal-NC is Device-nGnRE, and an unaligned access faults at stage 2"))
        );
        assert_eq!(field(&it, "S2AP").means, "read-write");
        assert_eq!(field(&it, "XN[1:0]").means, "execute-never");
        assert!(it.notes.is_empty(), "{it:#?}");
        // From 6.9 on: Normal-NC, whose bits are the same with FWB.
        for fwb in [false, true] {
            let it = decode(0x0040_0000_1000_07d7, At { fwb, ..S2 });
            assert_eq!(it.ty.is_none(), fwb);
            assert!(it.what.iter().any(|w| w == "What the guest maps Normal-WB is Normal-NC."), "{it:#?}");
        }
    }

    #[test]
    fn what_is_odd_is_said() {
        let odd = |value, at: At| decode(value, at).notes.join("; ");
        assert!(odd(0x0000_0000_1000_0701, S1).contains("pages only"));
        assert!(odd(0x0000_0000_0000_0701, At { level: 0, ..S1 }).contains("52-bit"));
        assert!(odd(0x0060_0000_1000_0303, S1).contains("Access flag"));
        assert!(odd(0x0060_0000_1000_0503, S1).contains("SH 0b01"));
        assert!(odd(0x0000_0000_1000_070f, S1).contains("speculatively"), "a Device page");
        assert!(odd(0x0061_0000_1000_0703, S1).contains("0x1000000000000 should be zero; with 52-bit"));
        assert!(odd(0x0000_0000_1000_0721, At { level: 2, ..S2 }).contains("MemAttr[1:0] = 0b00"));
        assert!(odd(0x0000_0000_1020_1701, At { level: 2, ..S1 }).contains("0x1000 should be zero"));
        assert!(odd(0x0000_0000_1000_07fb, At { fwb: true, ..S2 }).contains("bit 5"));
        assert!(odd(0, S1).is_empty() && decode(0, S1).says == "not valid");
    }

    /// Hostile values: nothing panics, and a type is named only for a block or a page.
    #[test]
    fn every_value_is_decoded() {
        let mut value = 1u64;
        for i in 0..20_000u64 {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i);
            for stage in [1, 2] {
                for level in 0..4 {
                    let at = At { stage, level, mair: value.rotate_left(17), fwb: i & 1 == 0 };
                    let it = decode(value, at);
                    let leaf = matches!(at.kind(value), Kind::Block | Kind::Page);
                    assert!(leaf || it.ty.is_none());
                    assert!(!it.says.is_empty() && !it.fields.is_empty());
                }
            }
        }
    }
}
