//! `bartender explain --arch smmu`.

use memtype::arm::{Shareability, Stage1, Stage2};
use memtype::smmu::{self, Incoming, Outcome, Override, Platform, Stream, because, transform};

use super::answer::{Answer, Because, Layer, Terms};
use crate::input;

const KEYS: &[&str] = &[
    "in",
    "ste-type",
    "mtcfg",
    "memattr",
    "shcfg",
    "s1",
    "s1-sh",
    "s2",
    "s2-sh",
    "fwb",
    "no-snoop",
    "canwbs",
    "ovr",
    "pcie-override",
];

const SHCFG: [(&str, u8); 4] = [("nsh", 0b00), ("incoming", 0b01), ("osh", 0b10), ("ish", 0b11)];

/// A stage that does not translate.
const BYPASS: &str = "bypass";

/// Combines the layers.
pub(super) fn explain(terms: &[String]) -> Result<Answer, String> {
    let terms = Terms::new("smmu", KEYS, terms)?;
    let flag = |key, default| Ok::<_, String>(terms.flag(key)?.unwrap_or(default));

    let mut layers = Vec::new();
    let mut layer = |name, says: String, from: &str| layers.push(Layer { name, says, from: from.into() });
    let incoming = match terms.get("in").map(str::to_ascii_lowercase).as_deref() {
        None | Some("pcie") => {
            layer("incoming", "Normal-WB".into(), "PCIe: cacheable and shared, as the system has it");
            Incoming::PCIE
        }
        Some("none") => {
            layer("incoming", "Normal-WB".into(), "no attribute conveyed: Write-Back, Non-shareable");
            Incoming::NONE
        }
        Some(name) => {
            let ty = input::stage1(name, None).map_err(|e| format!("smmu: in: pcie, none, or a type\n{e}"))?.0.ty();
            layer("incoming", ty.to_string(), "a device that is not PCIe");
            Incoming { attributes: Stage1::new(ty, Shareability::Inner.effective(ty)), pcie: false }
        }
    };
    let overrides = Override { memattr: memattr(&terms)?, shcfg: terms.one_of("shcfg", &SHCFG)?.unwrap_or(0b01) };
    if let Some(bits) = overrides.memattr {
        layer("STE", smmu::override_type(bits).to_string(), &format!("MTCFG = 1, MemAttr = {bits:#06b}"));
    }
    if let Some((name, bits)) = SHCFG.iter().find(|(_, bits)| *bits == overrides.shcfg && *bits != 0b01) {
        layer("STE", name.to_uppercase(), &format!("SHCFG = {bits:#04b}"));
    }
    let stage1 = stage1(&terms)?;
    match &stage1 {
        Some((s1, byte)) => {
            layer("stage 1", format!("{} {}", s1.ty(), s1.sh.short()), &format!("CD.MAIR byte {byte:#04x}, SH"));
        }
        None => layer("stage 1", BYPASS.into(), ""),
    }
    let fwb = flag("fwb", false)?;
    let stage2 = stage2(&terms, fwb)?;
    match &stage2 {
        Some((s2, bits)) => {
            let with = if fwb { "S2FWB" } else { "no S2FWB" };
            layer("stage 2", s2.attr().to_string(), &format!("MemAttr = {bits:#06b}, {with}"));
        }
        None if fwb => return Err("smmu: fwb is about stage 2\nadd s2=normal-wb, or another type".into()),
        None => layer("stage 2", BYPASS.into(), ""),
    }
    let no_snoop = flag("no-snoop", false)?;
    let platform = Platform {
        attr_types_ovr: flag("ovr", true)?,
        override_pcie: flag("pcie-override", false)?,
        no_snoop: true,
        canwbs: flag("canwbs", false)?,
    };
    if no_snoop {
        layer("No Snoop", "set".into(), if platform.canwbs { "" } else { "no CANWBS" });
    }
    if platform.canwbs {
        layer("firmware", "CANWBS".into(), "IORT: coherent whatever the attributes");
    }
    let stream =
        Stream { incoming, overrides, stage1: stage1.map(|(s1, _)| s1), stage2: stage2.map(|(s2, _)| s2), no_snoop };
    let out = transform(&stream, platform);
    Ok(Answer {
        arch: "smmu",
        layers,
        name: out.ty.name(),
        shown: format!("{} {}", out.ty, out.sh.short()),
        ty: None,
        because: because(&stream, platform).map(|rule| Because::new(rule.says(), rule.cite())).collect(),
        notes: notes(&stream, platform, out),
    })
}

/// MemAttr of the STE, where MTCFG is 1: as `ste-type=TYPE`, or by the bits.
fn memattr(terms: &Terms<'_>) -> Result<Option<u8>, String> {
    let bits = terms.get("memattr").map(|text| input::number_of(text, 4).map_err(|e| format!("smmu: memattr: {e}")));
    let bits = bits.transpose()?;
    let mtcfg = terms.flag("mtcfg")?;
    match (terms.get("ste-type"), mtcfg, bits) {
        (Some(_), mtcfg, bits) if mtcfg.is_some() || bits.is_some() => {
            Err("smmu: ste-type says what mtcfg and memattr say\ngive ste-type=TYPE, or mtcfg=1 memattr=BITS".into())
        }
        (Some(name), _, _) => Ok(Some(input::stage2(name, false, 0b11).map_err(|e| format!("smmu: ste-type\n{e}"))?.1)),
        (None, Some(true), None) => Err("smmu: mtcfg=1 replaces the type by MemAttr\nadd memattr=0b0101".into()),
        (None, None, Some(_)) => Err("smmu: memattr counts with MTCFG alone\nadd mtcfg=1".into()),
        (None, Some(true), bits) => Ok(bits),
        (None, _, _) => Ok(None),
    }
}

/// What stage 1 says, and the MAIR byte.
fn stage1(terms: &Terms<'_>) -> Result<Option<(Stage1, u8)>, String> {
    let sh = terms.get("s1-sh").map(input::shareability).transpose()?;
    match terms.get("s1") {
        None | Some(BYPASS) if sh.is_some() => Err("smmu: s1-sh is about stage 1\nadd s1=normal-wb".into()),
        None | Some(BYPASS) => Ok(None),
        Some(name) => match input::stage1(name, None)? {
            (_, Some(byte)) => Ok(Some((smmu::stage1(byte, sh.unwrap_or(0b11)), byte))),
            (_, None) => Err("smmu: the SMMU has no stage 1 that is on with its MMU off\ns1=bypass".into()),
        },
    }
}

/// What stage 2 says, and MemAttr.
fn stage2(terms: &Terms<'_>, fwb: bool) -> Result<Option<(Stage2, u8)>, String> {
    let sh = terms.get("s2-sh").map(input::shareability).transpose()?;
    match terms.get("s2") {
        None | Some(BYPASS) if sh.is_some() => Err("smmu: s2-sh is about stage 2\nadd s2=normal-wb".into()),
        None | Some(BYPASS) => Ok(None),
        Some(name) => Ok(Some(input::stage2(name, fwb, sh.unwrap_or(0b11))?)),
    }
}

/// Whether it is coherent, why, and what would make it so.
fn notes(stream: &Stream, platform: Platform, out: Outcome) -> Vec<String> {
    let before = transform(&Stream { no_snoop: false, ..*stream }, platform);
    let mut notes = Vec::new();
    let mut note = |says: &str| notes.push(says.to_string());
    if out.attributes_are_coherent() {
        note(if stream.no_snoop && out.promised {
            "Coherent for memory, by firmware's promise: No Snoop makes no difference."
        } else {
            "Coherent: the access snoops the CPUs' caches."
        });
    } else if out.promised {
        note("Coherent for memory, by firmware's promise and in spite of the attributes.");
    } else if out.ty.is_device() {
        note("A Device access: right for an MSI or a peer's BAR, not coherent for memory that CPUs cache.");
    } else {
        note(
            "Not coherent: what a CPU has in a cache the device does not see, and the other way round, without cache \
             maintenance.",
        );
    }
    if !out.is_coherent() && !out.ty.is_device() {
        if before.attributes_are_coherent() {
            note(
                "It is No Snoop alone (thread 004, case C). The SMMU cannot stop it (13.6.2.1). To force coherency, disable \
                 No Snoop in the function's configuration space and set S2FWB (13.1.6), or have CANWBS.",
            );
        } else if stream.stage1.is_some() || stream.stage2.is_some() {
            note(
                "The mapping itself is not coherent (thread 004, case B). A hypervisor prevents that with S2FWB and \
                 MemAttr 0b0110.",
            );
        } else if out.ty.is_normal_wb() {
            note("It is Write-Back, and Non-shareable.");
        }
    }
    if stream.incoming.pcie && stream.no_snoop && !platform.canwbs {
        note(
            "Whether a system has No Snoop is system-dependent, and on Arm a guest cannot find out: it must neither use nor \
             count on it.",
        );
    }
    notes
}
