//! A page-table entry of x86 in 4-level or 5-level paging (SDM vol. 3A 4.5, Tables 4-15 to 4-20).

use memtype::x86::{PatMsr, Type, effective};

use super::{Decoded, Means, Spec, fields};
use crate::show::Hex;

/// Whether the entry maps a page, and of which level.
struct Kind {
    leaf: bool,
    level: u8,
}

const LAYOUT: [Spec<Kind>; 14] = [
    Spec::new("XD", 63, 63, Means::One(&[(0, "may be executed"), (1, "not to be executed")])).quiet(),
    Spec::new("key", 62, 59, Means::Number).quiet().when(|k| k.leaf),
    Spec::new("address", 51, 12, Means::By(|v| format!("{:#x}", v << 12))).when(|k| !k.leaf || k.level == 1),
    Spec::new("address", 51, 13, Means::By(|v| format!("{:#x}", v << 13))).when(|k| k.leaf && k.level > 1),
    Spec::new("PAT", 12, 12, Means::Number).when(|k| k.leaf && k.level > 1),
    Spec::new("G", 8, 8, Means::One(&[(0, "not global"), (1, "global")])).quiet().when(|k| k.leaf),
    Spec::new("PAT", 7, 7, Means::Number).when(|k| k.level == 1),
    Spec::new("PS", 7, 7, Means::One(&[(0, "no: points to a table"), (1, "yes: maps a large page")]))
        .when(|k| k.level > 1),
    Spec::new("D", 6, 6, Means::One(&[(0, "clean"), (1, "dirty")])).quiet().when(|k| k.leaf),
    Spec::new("A", 5, 5, Means::One(&[(0, "not accessed"), (1, "accessed")])).quiet(),
    Spec::new("PCD", 4, 4, Means::Number),
    Spec::new("PWT", 3, 3, Means::Number),
    Spec::new(
        "U/S, R/W",
        2,
        1,
        Means::One(&[
            (0, "supervisor, read-only"),
            (1, "supervisor, writable"),
            (2, "user, read-only"),
            (3, "user, writable"),
        ]),
    ),
    Spec::new("P", 0, 0, Means::One(&[(0, "not present"), (1, "present")])),
];

/// Decodes an entry of level 1 (4 KiB pages), 2 (2 MiB), 3 (1 GiB), 4 or 5 under a page attribute table.
///
/// # Errors
/// A level that is none.
pub fn decode(value: u64, level: u8, pat: u64) -> Result<Decoded, String> {
    if !(1..=5).contains(&level) {
        return Err(format!(
            "level {level} is none\n1 maps 4 KiB, 2 maps 2 MiB, 3 maps 1 GiB; 4 and 5 point to tables"
        ));
    }
    let kind = Kind { leaf: level == 1 || (level < 4 && value & 0x80 != 0), level };
    let (all, _ignored) = fields(&LAYOUT, &kind, value);
    let bit = |n: u8| value >> n & 1 != 0;
    let mut what = Vec::new();
    let mut notes = Vec::new();
    let mut ty = None;
    let says = if !bit(0) {
        "not present: the rest is software's".to_string()
    } else if kind.leaf {
        let index = PatMsr::index(bit(if level == 1 { 7 } else { 12 }), bit(4), bit(3));
        match PatMsr(pat).entry(index) {
            Some(entry) => {
                ty = Some(entry.name().to_string());
                what.push(format!("PAT entry {index} of {pat:#018x} is {entry}."));
                what.push(format!(
                    "Where the MTRR says UC, as it does of BARs, the type is {}; where it says WB, {}.",
                    effective(Type::Uc, entry),
                    effective(Type::Wb, entry)
                ));
                format!("{entry}, PAT entry {index}")
            }
            None => {
                notes.push(format!("PAT entry {index} is {:#x}, which is reserved", PatMsr(pat).byte(index)));
                format!("PAT entry {index}")
            }
        }
    } else {
        "points to the next table; PCD and PWT are of the walk".to_string()
    };
    if level > 3 && bit(7) && bit(0) {
        notes.push("PS is reserved at this level: a page fault".into());
    }
    Ok(Decoded {
        register: format!("x86 PTE, level {level},"),
        value: vec![Hex(value)],
        says,
        ty,
        fields: all,
        what,
        notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: u64 = PatMsr::LINUX.0;

    #[test]
    fn linux_mappings() {
        // What ioremap_wc() and ioremap() write: PWT alone, PCD alone.
        let wc = decode(0x8000_0000_fe00_006b, 1, LINUX).unwrap();
        assert_eq!(wc.ty.as_deref(), Some("wc"));
        assert!(wc.what[1].contains("the type is WC;"));
        assert_eq!(decode(0xfe00_0073, 1, LINUX).unwrap().ty.as_deref(), Some("ucm"));
        assert_eq!(decode(0xfe00_0063, 1, LINUX).unwrap().ty.as_deref(), Some("wb"));
        // PAT is bit 7 of a small page, bit 12 of a large one.
        assert_eq!(decode(0x00e3, 1, LINUX).unwrap().says, "WB, PAT entry 4");
        assert_eq!(decode(0x10e3, 2, LINUX).unwrap().says, "WB, PAT entry 4");
        assert_eq!(decode(0x00e3, 2, LINUX).unwrap().says, "WB, PAT entry 0");
    }

    #[test]
    fn total() {
        assert!(decode(0, 0, 0).is_err() && decode(0, 6, 0).is_err());
        for level in 1..=5 {
            for bits in 0..64 {
                for value in [1u64 << bits, u64::MAX, u64::MAX << bits] {
                    let _ = decode(value, level, value).unwrap();
                }
            }
        }
        assert!(decode(1, 1, 0x0202_0202_0202_0202).unwrap().notes[0].contains("reserved"));
    }
}
