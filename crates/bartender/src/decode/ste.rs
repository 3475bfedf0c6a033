//! A stream table entry of SMMUv3 (IHI 0070 5.2).

use memtype::smmu::{Bits, Config, Override, Platform, Ste, Stream, is_reserved_override, override_type, transform};

use super::{Decoded, Field};
use crate::show::Hex;

const CACHES: [&str; 4] =
    ["Non-cacheable", "Write-Back, Read-Allocate", "Write-Through, Read-Allocate", "Write-Back, no Read-Allocate"];
const WALKS: [&str; 4] = ["Non-cacheable", "Write-Back, allocating", "Write-Through", "Write-Back, no Write-Allocate"];
const SHAREABILITY: [&str; 4] = ["NSH", "reserved: NSH", "OSH", "ISH"];
const SIZES: [&str; 8] =
    ["32 bits", "36 bits", "40 bits", "42 bits", "44 bits", "48 bits", "52 bits", "56 bits, reserved before SMMUv3.4"];

fn of(table: &[&str], value: u64) -> String {
    usize::try_from(value).ok().and_then(|i| table.get(i)).map_or_else(|| "reserved".into(), |s| (*s).to_string())
}

/// Whether a field counts in an entry: those of a stage that does not translate are ignored.
fn counts(ste: &Ste, bits: Bits) -> bool {
    let config = ste.config();
    let substreams = config.stage1() && ste.get(Bits::S1CDMax) != 0;
    match bits {
        Bits::S1Fmt | Bits::S1DSS => substreams,
        Bits::EATS => config.stage1() || config.stage2(),
        Bits::STRW => config == Config::Stage1,
        Bits::MemAttr => ste.overrides().memattr.is_some(),
        // The one that tags stage 1 too.
        Bits::S2VMID => config.stage1() || config.stage2(),
        Bits::S2PTW => config == Config::Both,
        Bits::DPT_VMATCH => ste.eats() == 0b11,
        _ if bits.name.starts_with("S1") => config.stage1(),
        _ if bits.name.starts_with("S2") => config.stage2(),
        _ => true,
    }
}

/// Of use to few: silent when zero.
fn is_quiet(bits: Bits) -> bool {
    matches!(
        bits,
        Bits::S2HWU59
            | Bits::S2HWU60
            | Bits::S2HWU61
            | Bits::S2HWU62
            | Bits::DRE
            | Bits::CONT
            | Bits::DCP
            | Bits::PPAR
            | Bits::MEV
            | Bits::SW_RESERVED
            | Bits::S1PIE
            | Bits::S1MPAM
            | Bits::S1STALLD
            | Bits::NSCFG
            | Bits::PRIVCFG
            | Bits::INSTCFG
            | Bits::S2ENDI
            | Bits::S2AFFD
            | Bits::S2HD
            | Bits::S2HA
            | Bits::S2S
            | Bits::S2R
            | Bits::S2HAFT
            | Bits::S2PIE
            | Bits::S2POE
            | Bits::DPT_VMATCH
            | Bits::S2NSW
            | Bits::S2NSA
            | Bits::S2SL0_2
            | Bits::S2DS
            | Bits::S2SKL
    )
}

fn means(bits: Bits, v: u64) -> String {
    let set = |says: &str| if v != 0 { says.to_string() } else { format!("not: {says}") };
    match bits {
        Bits::V => of(&["not valid", "valid"], v),
        Bits::Config => match v {
            4 => "no translation: bypass".into(),
            5 => "stage 1".into(),
            6 => "stage 2".into(),
            7 => "stage 1 and stage 2".into(),
            0 => "abort".into(),
            _ => "reserved: abort".into(),
        },
        Bits::S1Fmt => of(&["linear", "two levels, 4 KiB leaf", "two levels, 64 KiB leaf", "reserved: linear"], v),
        Bits::S1ContextPtr => format!("context descriptors at {:#x}", v << 6),
        Bits::S1CDMax if v == 0 => "one context descriptor, no substreams (PASIDs)".into(),
        Bits::S1CDMax => format!("2^{v} context descriptors: substreams (PASIDs)"),
        Bits::S1DSS => of(
            &["no substream: abort", "no substream: skips stage 1", "no substream: as substream 0", "reserved: abort"],
            v,
        ),
        Bits::S1CIR => format!("fetch of context descriptors: inner {}", of(&CACHES, v)),
        Bits::S1COR => format!("fetch of context descriptors: outer {}", of(&CACHES, v)),
        Bits::S1CSH => format!("fetch of context descriptors: {}", of(&SHAREABILITY, v)),
        Bits::DCP => set("directed cache prefetch allowed"),
        Bits::DRE => set("destructive reads allowed"),
        Bits::CONT => format!("2^{v} neighbours are the same"),
        Bits::S2FWB => of(&["stage 2 is combined", "stage 2 as with HCR_EL2.FWB = 1"], v),
        Bits::S1STALLD => set("stage 1 may not stall"),
        Bits::EATS => of(&["no ATS", "full ATS", "split-stage ATS", "full ATS with DPT checks, or no ATS"], v),
        Bits::STRW => of(&["EL1", "reserved", "EL2", "reserved"], v),
        Bits::MemAttr => override_type(u8::try_from(v).unwrap_or(0)).to_string(),
        Bits::MTCFG => of(&["memory type as it comes in", "memory type of MemAttr"], v),
        Bits::ALLOCCFG if v & 8 == 0 => "allocation hints as they come in".into(),
        Bits::ALLOCCFG => format!("Read-Allocate {}, Write-Allocate {}, Transient {}", v >> 2 & 1, v >> 1 & 1, v & 1),
        Bits::SHCFG => of(&["NSH", "shareability as it comes in", "OSH", "ISH"], v),
        Bits::NSCFG => {
            of(&["as it comes in", "reserved", "Secure, or Realm", "Non-secure"], v) + "; Non-secure: ignored"
        }
        Bits::PRIVCFG => of(&["as it comes in", "reserved: as it comes in", "unprivileged", "privileged"], v),
        Bits::INSTCFG => of(&["as it comes in", "reserved: as it comes in", "data", "reads: instruction"], v),
        Bits::S2T0SZ => format!("{} bits of input address", 64 - v),
        Bits::S2SL0 => format!("starting level, encoded {v}"),
        Bits::S2IR0 => format!("walks: inner {}", of(&WALKS, v)),
        Bits::S2OR0 => format!("walks: outer {}", of(&WALKS, v)),
        Bits::S2SH0 => format!("walks: {}", of(&SHAREABILITY, v)),
        Bits::S2TG => of(&["4 KiB", "64 KiB", "16 KiB"], v),
        Bits::S2PS => of(&SIZES, v),
        Bits::S2AA64 => of(&["VMSAv8-32 LPAE, or VMSAv9-128", "VMSAv8-64"], v),
        Bits::S2PTW => {
            of(&["a fetch for stage 1 may land on Device", "a fetch for stage 1 that lands on Device faults"], v)
        }
        Bits::S2S => set("faults stall"),
        Bits::S2R => set("faults are recorded"),
        Bits::S2TTB => format!("tables at {:#x}", v << 4),
        _ => v.to_string(),
    }
}

/// Decodes an entry.
#[must_use]
pub fn decode(words: [u64; 8]) -> Decoded {
    let ste = Ste(words);
    let fields = Bits::ALL
        .into_iter()
        .filter(|bits| counts(&ste, *bits))
        .map(|bits| {
            let value = ste.get(bits);
            // All are below 256.
            let at = |bit| u8::try_from(bit).unwrap_or(u8::MAX);
            let (high, low) = (at(bits.high), at(bits.low));
            Field { name: bits.name, high, low, value, means: means(bits, value), quiet: is_quiet(bits) }
        })
        .collect();

    let mut what = Vec::new();
    let mut ty = None;
    let config = ste.config();
    let says = match (ste.is_valid(), config) {
        (false, _) => "not valid: transactions are aborted, with C_BAD_STE",
        (true, Config::Abort) => "transactions are aborted, without an event",
        (true, Config::Bypass) => {
            ty = Some(bypass(&ste).ty.name().to_string());
            "no translation"
        }
        (true, Config::Stage1) => "stage 1 translates",
        (true, Config::Stage2) => "stage 2 translates",
        (true, Config::Both) => "stage 1 and stage 2 translate: nested",
    };
    if ste.is_valid() && config != Config::Abort {
        what.push(result(&ste, config));
        let without = ste.config_without_substream();
        if without == Config::Abort {
            what.push("A transaction without a PASID is aborted (S1DSS).".into());
        } else if without != config {
            what.push(format!("Without a PASID it skips stage 1 (S1DSS). {}", result(&ste, without)));
        }
        what.push(
            "No Snoop, where the system has it, makes a cacheable result Normal-NC after all of this (13.6.1.1)."
                .into(),
        );
        if ste.eats() & 1 != 0 {
            what.push(
                "IMPLEMENTATION DEFINED: whether a transaction that ATS has translated gets the same, or is cached and \
                 shared (13.6.2)."
                    .into(),
            );
        }
    }
    Decoded {
        register: "STE".into(),
        value: words.map(Hex).into(),
        says: says.into(),
        ty,
        fields,
        what,
        notes: notes(&ste),
    }
}

/// What an ordinary PCIe transaction becomes where nothing translates and the overrides leave PCIe alone.
fn bypass(ste: &Ste) -> memtype::smmu::Outcome {
    transform(&Stream { overrides: ste.overrides(), ..Stream::PCIE }, Platform::SBSA)
}

/// What attributes a transaction gets.
fn result(ste: &Ste, config: Config) -> String {
    let first = if config.stage1() {
        "stage 1 (CD.MAIR and the descriptor)".to_string()
    } else {
        let as_is = bypass(ste);
        let stream = Stream { overrides: ste.overrides(), ..Stream::PCIE };
        let over = transform(&stream, Platform { override_pcie: true, ..Platform::SBSA });
        let mut says = format!("what comes in (PCIe: {} {}", as_is.ty, as_is.sh.short());
        if over != as_is {
            says += &format!(", or {} {} where the overrides count", over.ty, over.sh.short());
        }
        says + ")"
    };
    match (config.stage2(), ste.s2fwb()) {
        (false, _) => format!("Type and shareability are those of {first}."),
        (true, true) => {
            format!("A stage-2 descriptor can force Write-Back (S2FWB), take what {first} says, or be stricter.")
        }
        (true, false) => format!("The stricter type holds of stage 2 and of {first}."),
    }
}

/// What is odd.
fn notes(ste: &Ste) -> Vec<String> {
    let mut notes = Vec::new();
    if !ste.is_valid() {
        if ste.0 != [0; 8] {
            notes.push("V is 0: all else is ignored".into());
        }
        return notes;
    }
    if ste.config() == Config::Abort {
        return notes;
    }
    notes.extend(ste.illegal().iter().map(|reason| reason.says().to_string()));
    let overrides = ste.overrides();
    if let Some(memattr) = overrides.memattr
        && is_reserved_override(memattr)
    {
        notes.push(format!("MemAttr {memattr:#06b} is reserved, and behaves as Device-nGnRnE"));
    }
    if overrides != Override::INCOMING && ste.config_without_substream().stage1() {
        notes.push("MTCFG and SHCFG: stage 1 replaces what they say".into());
    } else if overrides != Override::INCOMING {
        notes.push(
            "MTCFG and SHCFG need SMMU_IDR1.ATTR_TYPES_OVR, and whether they count for PCIe is IMPLEMENTATION DEFINED"
                .into(),
        );
    }
    if overrides.memattr.is_none() && ste.alloccfg() & 8 != 0 {
        notes.push("ALLOCCFG with MTCFG = 0: CONSTRAINED UNPREDICTABLE whether it has an effect".into());
    }
    let known = |word: u16| {
        let here = Bits::ALL.iter().filter(|b| b.low / 64 == word);
        here.fold(0u64, |all, b| all | (u64::MAX >> (63 - b.high % 64)) & (u64::MAX << (b.low % 64)))
    };
    // IMPLEMENTATION DEFINED are 127:116 and 159:144.
    let implementation = [0, 0xfff << 52, 0xffff << 16, 0];
    for (word, (value, implementation)) in (0u16..).zip(ste.0.iter().zip(implementation)) {
        let rest = value & !known(word);
        if rest & implementation != 0 {
            notes.push(format!("doubleword {word}: IMPLEMENTATION DEFINED bits {:#x}", rest & implementation));
        }
        if rest & !implementation != 0 {
            notes.push(format!("doubleword {word}: reserved bits are set: {:#x}", rest & !implementation));
        }
    }
    if ste.0[4..] != [0; 4] {
        notes.push("doublewords 4 to 7 (MPAM, the Secure stage 2, Realms) are not decoded".into());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    const AA64: u64 = 1 << 51;

    #[test]
    fn bypass_and_nested() {
        let it = decode([0b1001, 0b01 << 44, 0, 0, 0, 0, 0, 0]);
        assert_eq!((it.says.as_str(), it.ty.as_deref()), ("no translation", Some("normal-wb")));
        assert!(it.what[0].contains("what comes in (PCIe: Normal-WB ish).") && it.notes.is_empty(), "{it:?}");
        // Not ignored are only the fields for bypass.
        assert!(it.fields.iter().all(|f| !f.name.starts_with("S1") && !f.name.starts_with("S2") && f.name != "EATS"));
        let it = decode([0b1111, 1 << 25 | 0b01 << 44, AA64, 0, 0, 0, 0, 0]);
        assert!(it.says.contains("nested") && it.what[0].contains("force Write-Back") && it.notes.is_empty(), "{it:?}");
        let field = it.fields.iter().find(|f| f.name == "S2FWB").unwrap();
        assert_eq!((field.low, field.high, field.value), (89, 89, 1));
        assert!(decode([0; 8]).says.contains("not valid") && decode([0; 8]).notes.is_empty());
        assert!(decode([1, 0, 0, 0, 0, 0, 0, 0]).says.contains("without an event"));
    }

    #[test]
    fn overrides_say_what_they_may_come_to() {
        let it = decode([0b1001, 1 << 36 | 0b0001 << 32 | 0b01 << 44, 0, 0, 0, 0, 0, 0]);
        assert_eq!(it.ty.as_deref(), Some("normal-wb"));
        assert!(it.what[0].contains("or Device-nGnRE osh where the overrides count"), "{it:?}");
        assert!(it.notes[0].contains("IMPLEMENTATION DEFINED"));
        let it = decode([0b1011, 0, 0, 0, 0, 0, 0, 0]);
        assert!(it.notes[0].contains("stage 1 replaces"), "{it:?}");
    }

    #[test]
    fn substreams() {
        // Two stages, 2^4 context descriptors; S1DSS 0b01, 0b00, 0b10.
        let ste = |dss: u64| decode([0b1111 | 4 << 59, dss | 0b01 << 44, AA64, 0, 0, 0, 0, 0]);
        assert!(ste(0b01).what[1].starts_with("Without a PASID it skips stage 1 (S1DSS). The stricter type holds"));
        assert!(ste(0b00).what[1].contains("is aborted"));
        assert!(ste(0b11).what[1].contains("is aborted"));
        assert!(ste(0b10).what[1].starts_with("No Snoop"));
        assert!(ste(0b10).fields.iter().any(|f| f.name == "S1DSS"));
        // One context descriptor: S1DSS is ignored.
        let it = decode([0b1111, 0b01 << 44, AA64, 0, 0, 0, 0, 0]);
        assert!(it.fields.iter().all(|f| f.name != "S1DSS") && it.what[1].starts_with("No Snoop"), "{it:?}");
    }

    #[test]
    fn reserved_illegal_and_unpredictable_are_named() {
        let note = |words| decode(words).notes.join("\n");
        assert!(note([0b1001, 1 << 36 | 0b0100 << 32, 0, 0, 0, 0, 0, 0]).contains("nGnRnE"));
        assert!(note([0b1001, 0b1000 << 37, 0, 0, 0, 0, 0, 0]).contains("UNPREDICTABLE"));
        assert!(note([0b1101, 1 << 25 | 0b01 << 44, 0, 0, 0, 0, 0, 0]).contains("S2FWB with S2AA64 = 0 is ILLEGAL"));
        let it = note([0b1001 | 1 << 57, 0b01 << 44 | 1 << 43 | 1 << 60, 0xffff << 16, 1 << 60, 0, 0, 0, 1]);
        assert!(it.contains("doubleword 0: reserved bits are set: 0x200000000000000"), "{it}");
        assert!(it.contains("doubleword 1: IMPLEMENTATION DEFINED bits 0x1000000000000000"), "{it}");
        assert!(it.contains("doubleword 1: reserved bits are set: 0x80000000000"), "{it}");
        assert!(it.contains("doubleword 2: IMPLEMENTATION DEFINED bits 0xffff0000"), "{it}");
        assert!(it.contains("doubleword 3: reserved bits are set: 0x1000000000000000"), "{it}");
        assert!(it.contains("doublewords 4 to 7"), "{it}");
        assert_eq!(note([0b1100, 5, 0, 0, 0, 0, 0, 0]), "V is 0: all else is ignored");
        for word in 0..8 {
            for bit in 0..64 {
                let mut words = [u64::MAX; 8];
                words[word] = 1 << bit;
                assert!(!decode(words).fields.is_empty());
            }
        }
    }

    #[test]
    fn ats() {
        let it = decode([0b1111, 0b01 << 28 | 0b01 << 44, AA64, 0, 0, 0, 0, 0]);
        assert!(it.what[2].starts_with("IMPLEMENTATION DEFINED: whether a transaction that ATS"), "{it:?}");
        // Where nothing translates EATS is ignored.
        assert_eq!(decode([0b1001, 0b01 << 28 | 0b01 << 44, 0, 0, 0, 0, 0, 0]).what.len(), 2);
    }
}
