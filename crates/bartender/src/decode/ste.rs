//! A stream table entry of SMMUv3 (IHI 0070 5.2).

use memtype::smmu::{Config, Override, Platform, Ste, Stream, override_type, transform};

use super::{Decoded, Field};
use crate::show::Hex;

/// How a field's value is put into words.
type Words = fn(u64) -> String;

/// Name, lowest bit of the 512, width, when it counts, meaning.
type Spec = (&'static str, u32, u32, fn(&Ste) -> bool, Words);

fn always(_: &Ste) -> bool {
    true
}
fn stage1(ste: &Ste) -> bool {
    matches!(ste.config(), Config::Stage1 | Config::Both)
}
fn stage2(ste: &Ste) -> bool {
    matches!(ste.config(), Config::Stage2 | Config::Both)
}

fn of(table: &[&str], value: u64) -> String {
    usize::try_from(value).ok().and_then(|i| table.get(i)).map_or_else(|| "reserved".into(), |s| (*s).to_string())
}
const CACHES: [&str; 4] =
    ["Non-cacheable", "Write-Back, Read-Allocate", "Write-Through, Read-Allocate", "Write-Back, no Read-Allocate"];
const SHAREABILITY: [&str; 4] = ["Non-shareable", "reserved", "Outer Shareable", "Inner Shareable"];

const LAYOUT: [Spec; 30] = [
    ("V", 0, 1, always, |v| of(&["not valid: C_BAD_STE", "valid"], v)),
    ("Config", 1, 3, always, |v| match v {
        4 => "bypass".into(),
        5 => "stage 1".into(),
        6 => "stage 2".into(),
        7 => "stage 1 and stage 2".into(),
        _ => "abort, without an event".into(),
    }),
    ("S1Fmt", 4, 2, stage1, |v| of(&["linear", "two levels, 4 KiB leaf", "two levels, 64 KiB leaf"], v)),
    ("S1ContextPtr", 6, 50, stage1, |v| format!("context descriptors at {:#x}", v << 6)),
    ("S1CDMax", 59, 5, stage1, |v| format!("2^{v} context descriptors")),
    ("S1DSS", 64, 2, stage1, |v| {
        of(&["no substream: abort", "no substream: bypass stage 1", "no substream: as substream 0"], v)
    }),
    ("S1CIR", 66, 2, stage1, |v| format!("context descriptors: inner {}", of(&CACHES, v))),
    ("S1COR", 68, 2, stage1, |v| format!("context descriptors: outer {}", of(&CACHES, v))),
    ("S1CSH", 70, 2, stage1, |v| format!("context descriptors: {}", of(&SHAREABILITY, v))),
    ("DCP", 81, 1, always, |v| {
        of(&["cache hints of a client are not obeyed", "directed cache prefetch is allowed"], v)
    }),
    ("S2FWB", 89, 1, stage2, |v| of(&["stage 2 is combined", "stage 2 as with HCR_EL2.FWB = 1"], v)),
    ("S1STALLD", 91, 1, stage1, |v| of(&["a context descriptor may stall", "no stalls"], v)),
    ("EATS", 92, 2, always, |v| of(&["no ATS", "full ATS", "split-stage ATS", "full ATS with DPT checks"], v)),
    ("STRW", 94, 2, stage1, |v| of(&["EL1", "reserved", "EL2", "EL3, or reserved"], v)),
    ("MemAttr", 96, 4, |ste| ste.overrides().memattr.is_some(), |v| override_type(v as u8).to_string()),
    ("MTCFG", 100, 1, always, |v| of(&["memory type as it comes in", "memory type of MemAttr"], v)),
    ("ALLOCCFG", 101, 4, always, |v| {
        if v & 8 == 0 {
            "allocation hints as they come in".into()
        } else {
            format!("Read-Allocate {}, Write-Allocate {}, Transient {}", v >> 2 & 1, v >> 1 & 1, v & 1)
        }
    }),
    ("SHCFG", 108, 2, always, |v| {
        of(&["Non-shareable", "shareability as it comes in", "Outer Shareable", "Inner Shareable"], v)
    }),
    ("NSCFG", 110, 2, always, |v| of(&["as it comes in", "reserved", "Secure, or Realm", "Non-secure"], v)),
    ("PRIVCFG", 112, 2, always, |v| of(&["as it comes in", "reserved", "unprivileged", "privileged"], v)),
    ("INSTCFG", 114, 2, always, |v| of(&["as it comes in", "reserved", "data", "instruction (reads)"], v)),
    ("S2VMID", 128, 16, stage2, |v| v.to_string()),
    ("S2T0SZ", 160, 6, stage2, |v| format!("{} bits of input address", 64 - v)),
    ("S2SL0", 166, 2, stage2, |v| format!("starting level, encoded {v}")),
    ("S2IR0", 168, 2, stage2, |v| {
        format!(
            "walks: inner {}",
            of(&["Non-cacheable", "Write-Back, allocating", "Write-Through", "Write-Back, not allocating"], v)
        )
    }),
    ("S2OR0", 170, 2, stage2, |v| {
        format!(
            "walks: outer {}",
            of(&["Non-cacheable", "Write-Back, allocating", "Write-Through", "Write-Back, not allocating"], v)
        )
    }),
    ("S2SH0", 172, 2, stage2, |v| format!("walks: {}", of(&SHAREABILITY, v))),
    ("S2TG", 174, 2, stage2, |v| of(&["4 KiB", "64 KiB", "16 KiB"], v)),
    ("S2PTW", 182, 1, stage2, |v| {
        of(&["a stage-1 walk may land on Device", "a stage-1 walk that lands on Device faults"], v)
    }),
    ("S2TTB", 196, 52, stage2, |v| format!("tables at {:#x}", v << 4)),
];

/// Decodes an entry.
#[must_use]
pub fn decode(words: [u64; 8]) -> Decoded {
    let ste = Ste(words);
    let fields = LAYOUT
        .iter()
        .filter(|(_, _, _, counts, _)| counts(&ste))
        .map(|(name, low, width, _, means)| {
            let value = ste.field(*low, *width);
            // Two of them reach past what a byte can count; the manual counts over all 512 bits, and so does the name then.
            let (high, at) = (low + width - 1, *low);
            Field {
                name,
                high: u8::try_from(high).unwrap_or(u8::MAX),
                low: u8::try_from(at).unwrap_or(u8::MAX),
                value,
                means: means(value),
                quiet: false,
            }
        })
        .collect();
    let mut what = Vec::new();
    let mut notes = Vec::new();
    let overrides = ste.overrides();
    let mut ty = None;
    let says = match (ste.is_valid(), ste.config()) {
        (false, _) => "not valid: transactions are aborted, with C_BAD_STE",
        (true, Config::Abort) => "transactions are aborted, without an event",
        (true, Config::Bypass) => {
            let pcie = transform(&Stream { overrides, ..Stream::PCIE }, Platform::SBSA);
            ty = Some(pcie.ty.name().to_string());
            what.push(format!("A PCIe transaction goes on as {} {}.", pcie.ty, pcie.sh.short()));
            "no translation"
        }
        (true, Config::Stage1) => {
            what.push("Type and shareability are those of stage 1 (CD.MAIR and the descriptor).".into());
            "stage 1 translates"
        }
        (true, Config::Stage2) => {
            what.push(stage2_says(&ste, "what comes in"));
            "stage 2 translates"
        }
        (true, Config::Both) => {
            what.push(stage2_says(&ste, "stage 1"));
            "stage 1 and stage 2 translate: nested"
        }
    };
    let over = overrides != Override::INCOMING;
    if ste.is_valid() && over && matches!(ste.config(), Config::Bypass | Config::Stage2) {
        what.push(
            "It is IMPLEMENTATION DEFINED whether MTCFG and SHCFG count for PCIe; they need SMMU_IDR1.ATTR_TYPES_OVR."
                .into(),
        );
    }
    if ste.is_valid() && ste.config() != Config::Abort {
        what.push(
            "No Snoop, where the system has it, makes a cacheable result Normal-NC after all of this (13.6.1.1)."
                .into(),
        );
    }
    if let Some(memattr) = overrides.memattr
        && memtype::smmu::is_reserved_override(memattr)
    {
        notes.push(format!("MemAttr {memattr:#06b} is reserved, and behaves as Device-nGnRnE"));
    }
    if overrides.memattr.is_none() && ste.alloccfg() & 8 != 0 {
        notes.push("ALLOCCFG with MTCFG = 0: CONSTRAINED UNPREDICTABLE whether it has an effect".into());
    }
    Decoded { register: "STE".into(), value: words.map(Hex).into(), says: says.into(), ty, fields, what, notes }
}

fn stage2_says(ste: &Ste, first: &str) -> String {
    if ste.s2fwb() {
        format!("S2FWB: a stage-2 descriptor can force Write-Back over {first}.")
    } else {
        format!("Of {first} and stage 2 the stricter type holds.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bypass_and_nested() {
        let it = decode([0b1001, 0b01 << 44, 0, 0, 0, 0, 0, 0]);
        assert_eq!((it.says.as_str(), it.ty.as_deref()), ("no translation", Some("normal-wb")));
        let it = decode([0b1111, 1 << 25 | 0b01 << 44, 0, 0, 0, 0, 0, 0]);
        assert!(it.says.contains("nested") && it.what[0].contains("force Write-Back"));
        let field = it.fields.iter().find(|f| f.name == "S2FWB").unwrap();
        assert_eq!((field.low, field.high, field.value), (89, 89, 1));
        assert!(decode([0; 8]).says.contains("not valid"));
        assert!(decode([1, 0, 0, 0, 0, 0, 0, 0]).says.contains("without an event"));
    }

    #[test]
    fn reserved_and_unpredictable_are_named() {
        assert!(decode([0b1001, 1 << 36 | 0b0100 << 32, 0, 0, 0, 0, 0, 0]).notes[0].contains("nGnRnE"));
        assert!(decode([0b1001, 0b1000 << 37, 0, 0, 0, 0, 0, 0]).notes[0].contains("UNPREDICTABLE"));
        for word in 0..8 {
            for bit in 0..64 {
                let mut words = [u64::MAX; 8];
                words[word] = 1 << bit;
                let _ = decode(words);
            }
        }
    }
}
