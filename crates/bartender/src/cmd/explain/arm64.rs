//! `bartender explain S1 S2`: Arm.

use std::fmt::Write as _;
use std::process::ExitCode;

use anstyle::Style;
use memtype::MemoryType;
use memtype::arm::{
    Access, Alignment, Combined, Device, InForce, MemAttr, Permission, Quirk, Regime, Reserved, Stage1, Tagging, Type,
};
use serde::Serialize;

use super::Args;
use super::answer::{Known, Terms, known};
use crate::cmd::Result;
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

#[derive(Debug, Serialize)]
struct Explained {
    arch: &'static str,
    stage1: Input1,
    stage2: Input2,
    #[serde(rename = "type")]
    ty: &'static str,
    inner: Option<&'static str>,
    outer: Option<&'static str>,
    sh: &'static str,
    xs: bool,
    tagging: &'static str,
    unaligned: &'static str,
    fault_stage: Option<u8>,
    gather: bool,
    reorder: bool,
    early_acknowledgement: bool,
    speculate: bool,
    cacheable: bool,
    atomics: &'static str,
    reserved: Vec<&'static str>,
    because: Vec<String>,
    regime: Ruled,
    guarantees: Vec<Known>,
}

/// What decides beside the descriptors, and what it comes to.
#[derive(Debug, Serialize)]
struct Ruled {
    access: &'static str,
    sctlr_m: bool,
    sctlr_c: bool,
    sctlr_i: bool,
    hcr_dc: bool,
    hcr_dct: bool,
    hcr_cd: bool,
    hcr_id: bool,
    hcr_ptw: bool,
    quirk: Option<&'static str>,
    /// The type of stage 1 that stage 2 sees.
    stage1_type: &'static str,
    permission: &'static str,
    permission_stage: Option<u8>,
}

#[derive(Debug, Serialize)]
struct Input1 {
    input: String,
    mair: Option<String>,
    #[serde(rename = "type")]
    ty: &'static str,
    sh: &'static str,
}

#[derive(Debug, Serialize)]
struct Input2 {
    input: String,
    fwb: bool,
    memattr: String,
    says: String,
    sh: &'static str,
}

/// What may be said after the two stages.
const KEYS: &[&str] =
    &["access", "sctlr.m", "sctlr.c", "sctlr.i", "hcr.dc", "hcr.dct", "hcr.cd", "hcr.id", "hcr.ptw", "quirk"];
const ACCESSES: [(&str, Access); 3] = [("data", Access::Data), ("fetch", Access::Fetch), ("walk", Access::Walk)];
const QUIRKS: [(&str, Quirk); 1] = [("nc-as-device", Quirk::NcAsDevice)];

/// Combines, and says what follows.
///
/// # Errors
/// A name or number that is none.
pub(super) fn run(args: &Args) -> Result {
    let [stage1, stage2, rest @ ..] = args.terms.as_slice() else {
        return Err("arm64 has two stages: the type the guest maps, then the type the hypervisor maps\n\
                    as in: bartender explain normal-nc device-ngnre"
            .to_string()
            .into());
    };
    let s1_sh = args.s1_sh.as_deref().map(input::shareability).transpose()?;
    let s2_sh = args.s2_sh.as_deref().map_or(Ok(0b11), input::shareability)?;
    let (s1, mair) = input::stage1(stage1, s1_sh)?;
    let (s2, memattr) = input::stage2(stage2, args.fwb, s2_sh)?;
    let (regime, access) = controls(rest, mair)?;
    if access == Access::Walk && s1.is_device() {
        return Err("the attributes of stage-1 tables are in TCR_EL1, and they are Normal always\n\
                    as in: bartender explain normal-wb device-ngnre access=walk"
            .to_string()
            .into());
    }
    let asked = Asked { s1, mair, memattr, it: regime.combine(access, &s1, &s2) };
    if args.json {
        show::json(&explained(args, &asked))?;
    } else {
        show::text(&picture(&asked))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The question and the answer.
struct Asked {
    /// What the descriptor says.
    s1: Stage1,
    mair: Option<u8>,
    memattr: u8,
    it: InForce,
}

fn controls(terms: &[String], mair: Option<u8>) -> Result<(Regime, Access)> {
    let terms = Terms::new("arm64", KEYS, terms)?;
    let on = Regime { sctlr_m: mair.is_some(), ..Regime::RUNNING };
    let flag = |key, default| terms.flag(key).map(|given| given.unwrap_or(default));
    let regime = Regime {
        sctlr_m: flag("sctlr.m", on.sctlr_m)?,
        sctlr_c: flag("sctlr.c", on.sctlr_c)?,
        sctlr_i: flag("sctlr.i", on.sctlr_i)?,
        hcr_dc: flag("hcr.dc", on.hcr_dc)?,
        hcr_dct: flag("hcr.dct", on.hcr_dct)?,
        hcr_cd: flag("hcr.cd", on.hcr_cd)?,
        hcr_id: flag("hcr.id", on.hcr_id)?,
        hcr_ptw: flag("hcr.ptw", on.hcr_ptw)?,
        quirk: terms.one_of("quirk", &QUIRKS)?,
    };
    if regime.sctlr_m && mair.is_none() {
        return Err("mmu-off and sctlr.m=1 contradict each other".to_string().into());
    }
    Ok((regime, terms.one_of("access", &ACCESSES)?.unwrap_or(Access::Data)))
}

/// The name in a table of names.
fn name_of<T: PartialEq>(names: &[(&'static str, T)], it: &T) -> &'static str {
    names.iter().find(|(_, of)| of == it).map_or("", |(name, _)| *name)
}

fn explained(args: &Args, asked: &Asked) -> Explained {
    let (it, both, s1) = (&asked.it, asked.it.combined(), &asked.s1);
    let (inner, outer) = match both.ty {
        Type::Device(_) => (None, None),
        Type::Normal { inner, outer } => (Some(inner.policy.short()), Some(outer.policy.short())),
    };
    let (unaligned, fault_stage) = match it.unaligned() {
        Alignment::Ok => ("ok", None),
        Alignment::Fault { stage } => ("fault", Some(stage)),
        Alignment::MayFault => ("may-fault", Some(1)),
    };
    let s2 = both.stage2();
    Explained {
        arch: "arm64",
        stage1: Input1 {
            input: args.terms.first().cloned().unwrap_or_default(),
            mair: asked.mair.map(|byte| format!("{byte:#04x}")),
            ty: s1.ty().name(),
            sh: s1.sh.short(),
        },
        stage2: Input2 {
            input: args.terms.get(1).cloned().unwrap_or_default(),
            fwb: s2.is_fwb(),
            memattr: format!("{:#06b}", asked.memattr),
            says: stage2_says(s2.attr()),
            sh: s2.sh.short(),
        },
        ty: both.ty.name(),
        inner,
        outer,
        sh: both.sh.short(),
        xs: both.xs,
        tagging: match both.tagging {
            Tagging::Untagged => "untagged",
            Tagging::Tagged => "tagged",
            Tagging::NoTagAccess => "no-tag-access",
        },
        unaligned,
        fault_stage,
        gather: both.ty.may_gather(),
        reorder: both.ty.may_reorder(),
        early_acknowledgement: both.ty.may_acknowledge_early(),
        speculate: both.ty.may_speculate(),
        cacheable: both.ty.is_cacheable(),
        atomics: if both.atomics_guaranteed() { "guaranteed" } else { "system-defined" },
        reserved: reserved(both),
        because: it.because().map(|rule| rule.to_string()).collect(),
        regime: ruled(it),
        guarantees: known(MemoryType::Arm64(both.ty)),
    }
}

fn ruled(it: &InForce) -> Ruled {
    let regime = it.regime();
    let (permission, permission_stage) = match it.permission() {
        Permission::Ok => ("ok", None),
        Permission::MayFault { stage } => ("may-fault", Some(stage)),
        Permission::Fault { stage } => ("fault", Some(stage)),
    };
    Ruled {
        access: name_of(&ACCESSES, &it.access()),
        sctlr_m: regime.sctlr_m,
        sctlr_c: regime.sctlr_c,
        sctlr_i: regime.sctlr_i,
        hcr_dc: regime.hcr_dc,
        hcr_dct: regime.hcr_dct,
        hcr_cd: regime.hcr_cd,
        hcr_id: regime.hcr_id,
        hcr_ptw: regime.hcr_ptw,
        quirk: regime.quirk.map(|quirk| name_of(&QUIRKS, &quirk)),
        stage1_type: it.combined().stage1().ty().name(),
        permission,
        permission_stage,
    }
}

fn reserved(both: &Combined) -> Vec<&'static str> {
    both.reserved().into_iter().flatten().map(reserved_says).collect()
}

/// A reserved encoding in words.
#[must_use]
pub(crate) const fn reserved_says(which: Reserved) -> &'static str {
    match which {
        Reserved::MairDevice => "MAIR 0b0000xx1x is reserved; taken as the Device type of bits 3:2",
        Reserved::MairNormal => "MAIR 0bxxxx0000 is reserved here; taken as Device-nGnRnE",
        Reserved::MairFeature => "this MAIR byte needs FEAT_XS or FEAT_MTE2; taken as if the feature were there",
        Reserved::Stage1Sh => "stage-1 SH 0b01 is reserved; taken as Outer Shareable",
        Reserved::Stage2Sh => "stage-2 SH 0b01 is reserved; taken as Outer Shareable",
        Reserved::MemAttr => "MemAttr[1:0] = 0b00 is reserved for Normal memory; taken as Non-cacheable",
        Reserved::MemAttrFwb => "MemAttr[2:0] = 0b100 is reserved with FWB; taken as 0b101",
    }
}

/// What stage 2 says, on its own.
fn stage2_says(attr: MemAttr) -> String {
    match attr {
        MemAttr::Combine(ty) => ty.to_string(),
        MemAttr::FwbDevice(device) => Type::Device(device).to_string(),
        MemAttr::FwbNcUnlessDevice => "Normal-NC unless Device".into(),
        MemAttr::FwbForceWb => "Normal-WB always".into(),
        MemAttr::FwbAsStage1 => "as stage 1".into(),
    }
}

const fn stage2_type(attr: MemAttr, s1: &Stage1) -> Type {
    match attr {
        MemAttr::Combine(ty) => ty,
        MemAttr::FwbDevice(device) => Type::Device(device),
        MemAttr::FwbNcUnlessDevice => Type::NORMAL_NC,
        MemAttr::FwbForceWb => Type::NORMAL_WB,
        MemAttr::FwbAsStage1 => s1.ty(),
    }
}

/// A line of the picture: who says it, the type for its colour, what is said, the shareability, from where.
type Row = (&'static str, Type, String, &'static str, String);

fn picture(asked: &Asked) -> String {
    let (it, both, s1) = (&asked.it, asked.it.combined(), &asked.s1);
    let s2 = both.stage2();
    let mut from = format!("XS {}", u8::from(both.xs));
    if !matches!(both.tagging, Tagging::Untagged) {
        from.push_str(", Tagged");
    }
    let of_stage1 = match asked.mair {
        None => "MMU off".into(),
        Some(_) if it.access() == Access::Walk => "TCR_EL1".into(),
        Some(byte) => format!("MAIR byte {byte:#04x}"),
    };
    let fwb = if s2.is_fwb() { "FWB" } else { "no FWB" };
    let of_stage2 = format!("MemAttr {:#06b}, {fwb}", asked.memattr);
    let seen = both.stage1();
    let row = |name, s1: &Stage1, from| (name, s1.ty(), s1.ty().to_string(), s1.sh.short(), from);
    let mut rows: Vec<Row> = Vec::new();
    let controls = of_controls(it, s1);
    if asked.mair.is_none() && !it.regime().hcr_dc {
        // There is no descriptor that would have said something else.
        rows.push(row("stage 1", seen, of_stage1));
    } else {
        rows.push(row("stage 1", s1, of_stage1));
        if (seen.ty(), seen.sh) != (s1.ty(), s1.sh) || controls.starts_with("quirk") {
            rows.push(row("", seen, controls));
        }
    }
    rows.push(("stage 2", stage2_type(s2.attr(), seen), stage2_says(s2.attr()), s2.sh.short(), of_stage2));
    if let Some(from) = of_overrides(it) {
        rows.push(("", Type::NORMAL_NC, "Normal-NC".into(), "", from.into()));
    }
    rows.push(("result", both.ty, both.ty.to_string(), both.sh.short(), from));
    let wide = rows.iter().map(|row| row.2.chars().count()).max().unwrap_or(0);
    let last = rows.len() - 1;
    let mut out = String::new();
    for (i, (name, ty, says, sh, from)) in rows.into_iter().enumerate() {
        if i == last {
            let _ = writeln!(out, "           {}", "─".repeat(wide));
        }
        let style = if i == last { show::colour(ty).bold() } else { show::colour(ty) };
        let _ = writeln!(out, "  {name:<7}  {:<wide$}  {sh:<3}  {}", paint(style, says), paint(FAINT, from));
    }

    out.push('\n');
    let followed: Vec<_> =
        if it.access() == Access::Data { follows(both).into() } else { vec![access(it), cacheable(both)] };
    for (what, style, says) in followed {
        let _ = writeln!(out, "  {what:<22}  {}", paint(style, says));
    }
    out.push_str(&show::list("reserved", &reserved(both)));
    let _ = writeln!(out, "\n{}", paint(STRONG, "because"));
    for rule in it.because() {
        out.push_str(&show::wrapped("  - ", &rule.to_string()));
    }
    out
}

/// Which controls made another stage 1 of what the descriptor says.
fn of_controls(it: &InForce, s1: &Stage1) -> String {
    let regime = it.regime();
    let fetch = it.access() == Access::Fetch;
    let mut of = Vec::new();
    if it.access() != Access::Walk && regime.hcr_dc {
        of.push("HCR_EL2.DC = 1");
    } else if it.access() != Access::Walk && !regime.sctlr_m {
        of.push("SCTLR_EL1.M = 0");
        if fetch {
            of.push(if regime.sctlr_i { "SCTLR_EL1.I = 1" } else { "SCTLR_EL1.I = 0" });
        }
    } else {
        let quirk = regime.quirk.is_some() && s1.ty().is_normal_nc() && it.access() != Access::Walk;
        if quirk {
            of.push("quirk nc-as-device");
        }
        if fetch && (s1.is_device() || quirk) {
            of.push("an instruction fetch");
        } else if fetch && !regime.sctlr_i {
            of.push("SCTLR_EL1.I = 0");
        } else if !fetch && !quirk && !regime.sctlr_c {
            of.push("SCTLR_EL1.C = 0");
        }
    }
    of.join(", ")
}

/// Which override of stage 2 made the result Non-cacheable.
fn of_overrides(it: &InForce) -> Option<&'static str> {
    let both = it.combined();
    let before = memtype::arm::combine(both.stage1(), both.stage2());
    if before.ty == both.ty {
        return None;
    }
    Some(match it.access() {
        Access::Data => "HCR_EL2.CD = 1",
        Access::Walk if before.ty.is_device() => "HCR_EL2.PTW = 0",
        Access::Walk => "HCR_EL2.CD = 1",
        Access::Fetch if before.ty.is_device() => "an instruction fetch",
        Access::Fetch => "HCR_EL2.ID = 1",
    })
}

fn access(it: &InForce) -> (&'static str, Style, &'static str) {
    let what = if it.access() == Access::Fetch { "instruction fetch" } else { "walk of stage 1" };
    let (style, says) = match it.permission() {
        Permission::Ok => (GOOD, "ok"),
        Permission::MayFault { stage: 1 } => (OPEN, "ok, or a Permission fault at stage 1, taken to EL1"),
        Permission::MayFault { .. } => (OPEN, "ok, or a Permission fault at stage 2, taken to EL2"),
        Permission::Fault { .. } => (BAD, "Permission fault at stage 2, taken to EL2"),
    };
    (what, style, says)
}

fn cacheable(both: &Combined) -> (&'static str, Style, &'static str) {
    ("cacheable", Style::new(), if both.ty.is_cacheable() { "yes" } else { "no" })
}

fn follows(both: &Combined) -> [(&'static str, Style, &'static str); 7] {
    let may = |it: bool, yes, no| if it { (Style::new(), yes) } else { (Style::new(), no) };
    let (unaligned, says) = match both.unaligned() {
        Alignment::Ok => (GOOD, "ok"),
        Alignment::Fault { stage: 1 } => (BAD, "Alignment fault at stage 1, taken to EL1; DC ZVA at any alignment too"),
        Alignment::Fault { .. } => (BAD, "Alignment fault at stage 2, taken to EL2; DC ZVA at any alignment too"),
        Alignment::MayFault => (OPEN, "may fault at stage 1, or be performed: CONSTRAINED UNPREDICTABLE"),
    };
    let (gather, gathers) = may(both.ty.may_gather(), "yes: accesses may be merged (write-combined)", "no");
    let (reorder, reorders) = may(both.ty.may_reorder(), "yes, between barriers", "no, within one peripheral");
    let (early, earlys) = match both.ty {
        Type::Device(Device::nGnRnE) => (Style::new(), "no (yet PCIe memory writes are posted)"),
        _ => (Style::new(), "yes"),
    };
    let (speculate, speculates) = may(both.ty.may_speculate(), "yes", "no");
    let (atomics, atomic) = if both.atomics_guaranteed() {
        (GOOD, "guaranteed")
    } else {
        (OPEN, "system-defined: may work, abort or do nothing")
    };
    [
        ("unaligned access", unaligned, says),
        ("gathering", gather, gathers),
        ("reordering", reorder, reorders),
        ("early acknowledgement", early, earlys),
        ("speculative reads", speculate, speculates),
        cacheable(both),
        ("exclusives and atomics", atomics, atomic),
    ]
}
