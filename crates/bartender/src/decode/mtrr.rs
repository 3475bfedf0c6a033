//! MTRRs (SDM vol. 3A 11.11).

use memtype::x86::Type;
use memtype::x86::mtrr::{DefType, Range};

use super::{Decoded, Means, Spec, fields};
use crate::show::Hex;

const TYPE: Means = Means::One(&[(0, "UC"), (1, "WC"), (4, "WT"), (5, "WP"), (6, "WB")]);

const DEF_TYPE: [Spec<()>; 3] = [
    Spec::new("E", 11, 11, Means::One(&[(0, "MTRRs are off: all of memory is UC"), (1, "MTRRs are on")])),
    Spec::new(
        "FE",
        10,
        10,
        Means::One(&[(0, "fixed ranges are off"), (1, "fixed ranges are on, and win below 1 MiB")]),
    ),
    Spec::new("type", 7, 0, TYPE),
];

const RANGE: [Spec<()>; 4] = [
    Spec::new("PhysMask", 63, 12, Means::By(|v| format!("{:#x}", v << 12))),
    Spec::new("V", 11, 11, Means::One(&[(0, "not in use"), (1, "in use")])),
    Spec::new("PhysBase", 63, 12, Means::By(|v| format!("{:#x}", v << 12))),
    Spec::new("type", 7, 0, TYPE),
];

fn name(ty: Option<Type>) -> Option<String> {
    ty.map(|ty| ty.name().to_string())
}

/// Decodes IA32_MTRR_DEF_TYPE (MSR 0x2ff).
#[must_use]
pub fn default_type(value: u64) -> Decoded {
    let (all, strange) = fields(&DEF_TYPE, &(), value);
    let register = DefType(value);
    let mut notes = Vec::new();
    if strange != 0 {
        notes.push(format!("bits {strange:#x} are reserved: writing them raises #GP"));
    }
    let says = match (register.is_enabled(), register.ty()) {
        (false, _) => "MTRRs are off: all of memory is UC".to_string(),
        (true, Some(ty)) => format!("{ty} where no range holds"),
        (true, None) => {
            notes.push("the type is reserved: writing it raises #GP".into());
            "a reserved type".to_string()
        }
    };
    let ty = if register.is_enabled() { name(register.ty()) } else { Some("uc".into()) };
    Decoded {
        register: "IA32_MTRR_DEF_TYPE".into(),
        value: vec![Hex(value)],
        says,
        ty,
        fields: all,
        what: Vec::new(),
        notes,
    }
}

/// Decodes a variable range, of a CPU with `bits` physical address bits (32 to 52). If they are not given, the highest bit of
/// the mask tells, since firmware sets all that there are.
#[must_use]
pub fn range(base: u64, mask: u64, bits: Option<u32>) -> Decoded {
    let range = Range { base, mask };
    let bits = bits.unwrap_or_else(|| match mask & !0xfff {
        0 => 52,
        mask => mask.ilog2().clamp(31, 51) + 1,
    });
    let [phys_mask, valid, phys_base, ty] = &RANGE;
    let (mut all, _) = fields(std::slice::from_ref(phys_base), &(), base);
    all.extend(fields(std::slice::from_ref(ty), &(), base).0);
    all.extend(fields(std::slice::from_ref(phys_mask), &(), mask).0);
    all.extend(fields(std::slice::from_ref(valid), &(), mask).0);
    let mut notes = Vec::new();
    let mut what = Vec::new();
    if range.ty().is_none() {
        notes.push(format!("type {:#x} is reserved: writing it raises #GP", base as u8));
    }
    let too_high = (base | mask) >> bits.min(63);
    if too_high != 0 {
        notes
            .push(format!("an address bit above {} is set, of a CPU with {bits} address bits (--phys-bits)", bits - 1));
    }
    let ty = range.ty().map_or_else(|| "a reserved type".into(), |ty| ty.to_string());
    let says = if !range.is_valid() {
        "not in use".to_string()
    } else if let Some((first, last)) = range.bounds(bits) {
        let size = last - first + 1;
        what.push(format!("{first:#x} to {last:#x}, {}", human(size)));
        format!("{ty} from {first:#x} to {last:#x}")
    } else {
        notes.push("the mask has holes: several ranges".into());
        format!("{ty} where address & {:#x} = {:#x}", mask & !0xfff, base & mask & !0xfff)
    };
    Decoded {
        register: "IA32_MTRR_PHYSBASE, PHYSMASK".into(),
        value: vec![Hex(base), Hex(mask)],
        says,
        ty: if range.is_valid() { name(range.ty()) } else { None },
        fields: all,
        what,
        notes,
    }
}

fn human(size: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    units
        .iter()
        .find(|(_, shift)| size >> shift != 0)
        .map_or_else(|| format!("{size} B"), |(unit, shift)| format!("{} {unit}", size >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default() {
        let it = default_type(0xc06);
        assert_eq!((it.ty.as_deref(), it.says.as_str()), (Some("wb"), "WB where no range holds"));
        assert_eq!(default_type(0x006).ty.as_deref(), Some("uc"));
        assert_eq!(default_type(0x1802).notes.len(), 2);
    }

    #[test]
    fn ranges() {
        let it = range(0xc000_0000, 0x7f_c000_0800, Some(39));
        assert_eq!(range(0xc000_0000, 0x7f_c000_0800, None), it);
        assert_eq!(range(0xc000_0000, 0x3fff_c000_0800, None).what, it.what);
        assert_eq!(range(6, 0x800, None).what, ["0x0 to 0xfffffffffffff, 4096 TiB"]);
        assert_eq!(it.says, "UC from 0xc0000000 to 0xffffffff");
        assert_eq!(it.what, ["0xc0000000 to 0xffffffff, 1 GiB"]);
        assert!(range(0xc000_0000, 0x7f_c000_0800, Some(36)).notes[0].contains("--phys-bits"));
        assert_eq!(range(6, 0, Some(46)).says, "not in use");
        assert!(range(6, 0x5000_0800, Some(46)).notes[0].contains("holes"));
        assert!(range(u64::MAX, u64::MAX, None).notes[0].contains("reserved"));
    }
}
