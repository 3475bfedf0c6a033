//! An EPT paging-structure entry (SDM vol. 3C 29.3.2, Tables 29-1 to 29-7).

use memtype::x86::Pat;
use memtype::x86::ept::{Leaf, combine};

use super::{Decoded, Means, Spec, fields};
use crate::show::Hex;

/// Whether the entry is a leaf, and of which level.
struct Kind {
    leaf: bool,
    level: u8,
}

const YES: Means = Means::One(&[(0, "no"), (1, "yes")]);

const LAYOUT: [Spec<Kind>; 14] = [
    Spec::new("suppress #VE", 63, 63, YES).quiet(),
    Spec::new("SSS", 60, 60, YES).quiet().when(|k| k.leaf),
    Spec::new("PW", 58, 58, YES).quiet().when(|k| k.leaf),
    Spec::new("VGP", 57, 57, YES).quiet().when(|k| k.leaf),
    Spec::new("address", 51, 12, Means::By(|v| format!("{:#x}", v << 12))),
    Spec::new("XU", 10, 10, Means::One(&[(0, "no"), (1, "user-mode fetches, with mode-based execute control")]))
        .quiet(),
    Spec::new("D", 9, 9, Means::One(&[(0, "clean"), (1, "dirty")])).quiet().when(|k| k.leaf),
    Spec::new("A", 8, 8, Means::One(&[(0, "not accessed"), (1, "accessed")])).quiet(),
    Spec::new("leaf", 7, 7, Means::One(&[(0, "no: points to a table"), (1, "yes: maps a large page")]))
        .when(|k| k.level > 1),
    Spec::new("IPAT", 6, 6, Means::One(&[(0, "the guest's PAT counts"), (1, "the guest's PAT is ignored")]))
        .when(|k| k.leaf),
    Spec::new("type", 5, 3, Means::One(&[(0, "UC"), (1, "WC"), (4, "WT"), (5, "WP"), (6, "WB")])).when(|k| k.leaf),
    Spec::new("X", 2, 2, YES),
    Spec::new("W", 1, 1, YES),
    Spec::new("R", 0, 0, YES),
];

/// Decodes an entry of level 1 (4 KiB pages), 2 (2 MiB), 3 (1 GiB) or 4.
#[must_use]
pub fn decode(value: u64, level: u8) -> Decoded {
    let kind = Kind { leaf: level == 1 || (level < 4 && value & 0x80 != 0), level };
    let (all, _ignored) = fields(&LAYOUT, &kind, value);
    let leaf = Leaf::decode(value);
    let mut what = Vec::new();
    let mut notes = Vec::new();
    let present = value & 7 != 0;
    let mut ty = None;
    let says = if !present {
        "not present: an EPT violation".to_string()
    } else if !kind.leaf {
        "points to the next table".to_string()
    } else {
        match leaf.ty {
            Err(bad) => {
                notes.push(format!("memory type {} is reserved: an EPT misconfiguration", bad.0));
                "an EPT misconfiguration".to_string()
            }
            Ok(below) => {
                ty = Some(below.name().to_string());
                let mut reached: Vec<String> = Vec::new();
                for pat in Pat::ALL {
                    let name = combine(below, leaf.ipat, pat).to_string();
                    if !reached.contains(&name) {
                        reached.push(name);
                    }
                }
                what.push(match (leaf.ipat, reached.as_slice()) {
                    (true, _) | (_, [_]) => format!("The guest gets {below}, whatever its PAT says."),
                    (false, many) => format!("The guest reaches {}, by its PAT.", many.join(", ")),
                });
                if below.name() == "uc" && !leaf.ipat {
                    what.push("This is what KVM writes for a BAR: UC, or WC where the guest asks for it.".into());
                }
                format!("{below}{}", if leaf.ipat { ", IPAT" } else { "" })
            }
        }
    };
    if value & 2 != 0 && value & 1 == 0 {
        notes.push("writable and not readable: an EPT misconfiguration".into());
    }
    Decoded {
        register: format!("EPT entry, level {level},"),
        value: vec![Hex(value)],
        says,
        ty,
        fields: all,
        what,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves() {
        let bar = decode(0xfe00_0007, 1);
        assert_eq!(bar.ty.as_deref(), Some("uc"));
        assert_eq!(bar.what[0], "The guest reaches UC, WC, by its PAT.");
        let ram = decode(0x1_0000_0077, 1);
        assert_eq!((ram.ty.as_deref(), ram.says.as_str()), (Some("wb"), "WB, IPAT"));
        assert_eq!(ram.what, ["The guest gets WB, whatever its PAT says."]);
        assert_eq!(decode(0xf7, 2).ty.as_deref(), Some("wb"));
    }

    #[test]
    fn what_is_no_leaf_or_not_right() {
        assert_eq!(decode(0x1007, 2).ty, None);
        assert_eq!(decode(0x1087, 4).ty, None);
        assert!(decode(0x8, 1).says.contains("violation"));
        assert!(decode(0x17, 1).notes[0].contains("misconfiguration"));
        assert!(decode(0x32, 1).notes[0].contains("not readable"));
        for level in 1..=4 {
            for bit in 0..64 {
                let _ = decode(1 << bit, level);
            }
            let _ = decode(u64::MAX, level);
        }
    }
}
