//! PAR_EL1 in its 64-bit format (D24.2.142): what an AT instruction found.

use memtype::arm::Type;
use serde::Serialize;

use super::fsc::Side;
use super::{Field, Means, Spec, bits, fields, mask};
use crate::decode::mair::{Attribute, attribute};
use crate::show::Hex;

/// MAIR reserves it; PAR_EL1 reports Tagged NoTagAccess by it, where FEAT_MTE_PERM is implemented.
const NO_TAG_ACCESS: u8 = 0xe0;

const SUCCESS: [Spec<u64>; 7] = [
    Spec::new("ATTR", 63, 56, Means::By(attr_means)),
    Spec::new("PA", 51, 12, Means::By(|pa| format!("physical address {:#x}", pa << 12))),
    Spec::new("NSE", 11, 11, Means::One(&[(0, "with FEAT_RME"), (1, "RES1, or with FEAT_RME: Root or Realm")])),
    Spec::new("IMPDEF", 10, 10, Means::One(&[(0, "IMPLEMENTATION DEFINED"), (1, "IMPLEMENTATION DEFINED")])).quiet(),
    Spec::new(
        "NS",
        9,
        9,
        Means::One(&[
            (0, "Secure (UNKNOWN in a Non-secure regime)"),
            (1, "Non-secure (UNKNOWN in a Non-secure regime)"),
        ]),
    ),
    Spec::new("SH", 8, 7, Means::One(&[(0, "Non-shareable"), (2, "Outer Shareable"), (3, "Inner Shareable")])),
    Spec::new("F", 0, 0, Means::One(&[(0, "translated"), (1, "failed")])),
];

const FAILURE: [Spec<u64>; 10] = [
    Spec::new("IMPDEF", 63, 48, Means::Number).quiet(),
    Spec::new("DirtyBit", 15, 15, Means::One(&[(0, "no"), (1, "the dirty state forbids it")])).quiet(),
    Spec::new("Overlay", 14, 14, Means::One(&[(0, "no"), (1, "the permission overlay forbids it")])).quiet(),
    Spec::new("TopLevel", 13, 13, Means::One(&[(0, "no"), (1, "yes")])).quiet(),
    Spec::new("AssuredOnly", 12, 12, Means::One(&[(0, "no"), (1, "yes")])).quiet(),
    Spec::new("RES1", 11, 11, Means::One(&[(0, "should be 1"), (1, "as it should be")])).quiet(),
    Spec::new("S", 9, 9, Means::One(&[(0, "stage 1"), (1, "stage 2")])),
    Spec::new("PTW", 8, 8, Means::One(&[(0, "no"), (1, "a stage-2 fault on the walk of a stage-1 table")])).quiet(),
    Spec::new("FST", 6, 1, Means::By(fst_means)),
    Spec::new("F", 0, 0, Means::One(&[(0, "translated"), (1, "failed")])),
];

fn attr_means(attr: u64) -> String {
    let byte = attr as u8;
    if byte == NO_TAG_ACCESS {
        return "Normal-WB, Tagged NoTagAccess (FEAT_MTE_PERM)".into();
    }
    let it = attribute(None, byte);
    match it.reserved {
        Some(_) => "reserved".into(),
        None if it.tagged => format!("{}, Tagged", it.ty),
        None => it.ty.to_string(),
    }
}

fn fst_means(code: u64) -> String {
    Side::Par.decode(code as u8).map_or_else(|| "reserved".into(), |fsc| fsc.to_string())
}

/// A decoded PAR_EL1.
#[derive(Debug, Clone, Serialize)]
pub struct Par {
    /// The value.
    pub value: Hex,
    /// Whether the translation succeeded.
    pub translated: bool,
    /// The physical address of the page.
    pub pa: Option<Hex>,
    /// The attribute byte.
    pub attr: Option<Attribute>,
    /// Shareability.
    pub sh: Option<&'static str>,
    /// What failed.
    pub fault: Option<String>,
    /// At which stage.
    pub stage: Option<u8>,
    /// At which level.
    pub level: Option<i8>,
    /// All fields.
    pub fields: Vec<Field>,
    /// What it says.
    pub what: Vec<String>,
    /// What is odd about the value.
    pub notes: Vec<String>,
}

/// Decodes.
#[must_use]
pub fn decode(par: u64) -> Par {
    if par & 1 == 0 { success(par) } else { failure(par) }
}

fn success(par: u64) -> Par {
    let (all, strange) = fields(&SUCCESS, &par, par);
    let pa = par & mask(51, 12);
    let attr = attribute(None, bits(par, 63, 56) as u8);
    let no_tag_access = attr.byte == NO_TAG_ACCESS;
    let (sh, bad_sh) = memtype::arm::Shareability::from_bits(bits(par, 8, 7) as u8);
    let ty = if no_tag_access { Type::NORMAL_WB } else { attr.ty };
    let mut what = vec![format!("The address translates to {pa:#x}, {ty}.")];
    what.push(
        "After AT S1* that is stage 1 alone, after AT S12* both stages combined; a CPU may report what it makes of the \
         attributes instead of what the descriptors say."
            .into(),
    );
    what.push(if ty.is_device() {
        "Device: an unaligned access faults; at which stage depends on which of the two said so. Compare AT S1* with AT \
         S12*: bartender explain S1 S2."
            .into()
    } else if ty.is_normal_nc() {
        "Normal-NC: unaligned accesses work, writes may be combined, reads may be speculative.".into()
    } else {
        "Cacheable, as memory is; for a BAR only where the device takes part in coherency.".to_string()
    });
    let mut notes = Vec::new();
    if let Some(reserved) = attr.reserved.filter(|_| !no_tag_access) {
        notes.push(reserved.replace("MAIR", "attribute"));
    }
    if bad_sh {
        notes.push("SH 0b01 is reserved".into());
    }
    if !bad_sh && sh.effective(ty) != sh {
        notes.push("an Arm CPU reports Outer Shareable for Device and Normal-NC memory".into());
    }
    strange_bits(strange, &mut notes);
    Par {
        value: Hex(par),
        translated: true,
        pa: Some(Hex(pa)),
        sh: (!bad_sh).then(|| sh.short()),
        attr: (!no_tag_access).then_some(attr),
        fault: None,
        stage: None,
        level: None,
        fields: all,
        what,
        notes,
    }
}

fn failure(par: u64) -> Par {
    let (all, strange) = fields(&FAILURE, &par, par);
    let fsc = Side::Par.decode(bits(par, 6, 1) as u8);
    let stage = if par >> 9 & 1 == 1 { 2 } else { 1 };
    let fault = fsc.map_or_else(|| "fault of a reserved status code".into(), |fsc| fsc.to_string());
    let walk = if par >> 8 & 1 == 1 { ", on the walk of a stage-1 table" } else { "" };
    let mut notes = Vec::new();
    if par >> 11 & 1 == 0 {
        notes.push("bit 11 is zero and should be one: is this a PAR_EL1?".into());
    }
    strange_bits(strange, &mut notes);
    Par {
        value: Hex(par),
        translated: false,
        pa: None,
        attr: None,
        sh: None,
        what: vec![
            format!("The translation failed at stage {stage}{walk}: {fault}."),
            "AT checks no alignment: an address that translates can still raise an Alignment fault.".into(),
        ],
        fault: Some(fault),
        stage: Some(stage),
        level: fsc.and_then(|fsc| fsc.level),
        fields: all,
        notes,
    }
}

fn strange_bits(strange: u64, notes: &mut Vec<String>) {
    if strange != 0 {
        notes.push(format!("bits {strange:#x} should be zero: is this a PAR_EL1?"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translated() {
        let par = decode(0x4400_0000_1000_0b00);
        assert!(par.translated);
        assert_eq!(par.pa, Some(Hex(0x1000_0000)));
        assert_eq!(par.attr.as_ref().unwrap().name, "normal-nc");
        assert_eq!(par.sh, Some("osh"));
        assert!(par.notes.is_empty(), "{:?}", par.notes);
        assert!(decode(0xe000_0000_1000_0b80).what[0].contains("Normal-WB"));
        assert!(decode(0x0400_0000_1000_0b80).notes[0].contains("Outer Shareable"));
    }

    #[test]
    fn failed() {
        let par = decode(0x80b | 0x200);
        assert!(!par.translated);
        assert_eq!((par.stage, par.level), (Some(2), Some(1)));
        assert_eq!(par.fault.as_deref(), Some("Translation fault, level 1"));
        assert!(decode(1).notes[0].contains("bit 11"));
        assert!(par.notes.is_empty());
    }
}
