//! `bartender explain --arch smmu`.

use memtype::arm::{Shareability, Stage1};
use memtype::smmu::{Incoming, Override, Platform, Stream, because, transform};

use super::answer::{Answer, Because, Layer, Terms};
use crate::input;

const KEYS: &[&str] =
    &["in", "ste-type", "shcfg", "s1", "s1-sh", "s2", "s2-sh", "fwb", "no-snoop", "canwbs", "ovr", "pcie-override"];

const SHCFG: [(&str, u8); 4] = [("nsh", 0b00), ("incoming", 0b01), ("osh", 0b10), ("ish", 0b11)];

/// Combines the layers.
pub(super) fn explain(terms: &[String]) -> Result<Answer, String> {
    let terms = Terms::new("smmu", KEYS, terms)?;
    let flag = |key, default| Ok::<_, String>(terms.flag(key)?.unwrap_or(default));
    let sh = |key| terms.get(key).map_or(Ok(0b11), input::shareability);

    let mut layers = Vec::new();
    let mut layer = |name, says: String, from: &str| layers.push(Layer { name, says, from: from.into() });
    let incoming = match terms.get("in") {
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
    let memattr = terms.get("ste-type").map(|name| input::stage2(name, false, 0b11)).transpose()?.map(|(_, bits)| bits);
    let shcfg = terms.one_of("shcfg", &SHCFG)?.unwrap_or(0b01);
    if let Some(bits) = memattr {
        layer("STE", memtype::smmu::override_type(bits).to_string(), &format!("MTCFG = 1, MemAttr = {bits:#06b}"));
    }
    if let Some((name, bits)) = SHCFG.iter().find(|(_, bits)| *bits == shcfg && *bits != 0b01) {
        layer("STE", name.to_uppercase(), &format!("SHCFG = {bits:#04b}"));
    }
    let stage1: Option<Stage1> =
        terms.get("s1").map(|name| input::stage1(name, Some(sh("s1-sh")?))).transpose()?.map(|(s1, _)| s1);
    match &stage1 {
        Some(s1) => layer("stage 1", s1.ty().to_string(), "CD.MAIR and the descriptor"),
        None => layer("stage 1", "bypass".into(), ""),
    }
    let fwb = flag("fwb", false)?;
    let stage2 = terms.get("s2").map(|name| input::stage2(name, fwb, sh("s2-sh")?)).transpose()?;
    match &stage2 {
        Some((s2, bits)) => {
            let with = if fwb { "S2FWB" } else { "no S2FWB" };
            layer("stage 2", s2.attr().to_string(), &format!("MemAttr = {bits:#06b}, {with}"));
        }
        None if fwb => return Err("smmu: fwb is about stage 2\nadd s2=normal-wb, or another type".into()),
        None => layer("stage 2", "bypass".into(), ""),
    }
    let no_snoop = flag("no-snoop", false)?;
    let platform = Platform {
        attr_types_ovr: flag("ovr", true)?,
        override_pcie: flag("pcie-override", false)?,
        no_snoop: true,
        canwbs: flag("canwbs", false)?,
    };
    if no_snoop {
        layer("No Snoop", "set".into(), if platform.canwbs { "CANWBS promised by firmware" } else { "no CANWBS" });
    }
    let stream =
        Stream { incoming, overrides: Override { memattr, shcfg }, stage1, stage2: stage2.map(|(s2, _)| s2), no_snoop };
    let out = transform(&stream, platform);
    let mut notes = vec![if out.is_coherent() {
        "Coherent: the access snoops the CPUs' caches.".to_string()
    } else if out.ty.is_device() {
        "A Device access: right for an MSI or a peer's BAR, wrong for memory that CPUs cache.".to_string()
    } else {
        "Not coherent: what a CPU has in a cache the device does not see, and the other way round, without cache maintenance."
            .to_string()
    }];
    if incoming.pcie && no_snoop && !platform.canwbs {
        notes.push("No software can find out on Arm whether a device's No Snoop counts; a guest must not count on it either way (thread 004).".into());
    }
    Ok(Answer {
        arch: "smmu",
        layers,
        name: out.ty.name(),
        shown: format!("{} {}", out.ty, out.sh.short()),
        ty: None,
        because: because(&stream, platform).map(|rule| Because::new(rule.says(), rule.cite())).collect(),
        notes,
    })
}
