//! `bartender explain S1 S2`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anstyle::Style;
use memtype::arm::{self, Alignment, Combined, Device, MemAttr, Reserved, Rule, Stage1, Tagging, Type};
use serde::Serialize;

use super::Result;
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mJSON:\u{1b}[0m
  type, inner, outer  the result; inner and outer are null for Device
  unaligned           ok, fault, or may-fault where the architecture leaves it open (stage 1 says Device
                      and FWB forces Write-Back over it, R_RMTWN)
  fault_stage         where it faults or may: 1 (taken to EL1), 2 (taken to EL2), or null
  gather, reorder, early_acknowledgement, speculate, cacheable
                      whether the memory system may do it, not whether this one does
  atomics             guaranteed, or system-defined: they may work, abort, or do nothing
  reserved            the reserved encodings among the inputs; the result is then one of those allowed
  because             the rules in the order they apply, each with its place in DDI 0487

",
    examples![
        "bartender explain normal-nc device-ngnre" => "a write-combining guest mapping on Linux before 6.9 (thread 002)",
        "bartender explain normal-nc normal-nc --fwb" => "the same from Linux 6.9 on, where the CPU has FEAT_S2FWB",
        "bartender explain device-ngnre normal-wb --fwb" => "stage 2 forces Write-Back over the guest's Device",
        "bartender explain mmu-off normal-nc --json" => "before the guest turns its MMU on, as JSON",
        "bartender explain mair=0x4f memattr=0b1010 --s2-sh osh" => "any attributes by their bits",
    ]
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// What the guest maps: device-ngnrne, device-ngnre, device-ngre, device-gre, normal-nc, normal-wt, normal-wb,
    /// normal-wb-tagged; mmu-off; or the MAIR byte as mair=0x44
    s1: String,
    /// What the hypervisor maps: a type as above, as-s1, or the bits as memattr=0b0101
    s2: String,
    /// HCR_EL2.FWB is on (FEAT_S2FWB), which changes what MemAttr means
    #[arg(long)]
    fwb: bool,
    /// Shareability in the stage-1 descriptor: nsh, ish (the default), osh
    #[arg(long, value_name = "SH")]
    s1_sh: Option<String>,
    /// Shareability in the stage-2 descriptor: nsh, ish (the default), osh
    #[arg(long, value_name = "SH")]
    s2_sh: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

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

/// Combines, and says what follows.
///
/// # Errors
/// A name or number that is none.
pub fn run(args: &Args) -> Result {
    let s1_sh = args.s1_sh.as_deref().map(input::shareability).transpose()?;
    let s2_sh = args.s2_sh.as_deref().map_or(Ok(0b11), input::shareability)?;
    let (s1, mair) = input::stage1(&args.s1, s1_sh)?;
    let (s2, memattr) = input::stage2(&args.s2, args.fwb, s2_sh)?;
    let both = arm::combine(&s1, &s2);
    if args.json {
        show::json(&explained(args, &both, mair, memattr))?;
    } else {
        show::text(&picture(&both, mair, memattr))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn explained(args: &Args, both: &Combined, mair: Option<u8>, memattr: u8) -> Explained {
    let (inner, outer) = match both.ty {
        Type::Device(_) => (None, None),
        Type::Normal { inner, outer } => (Some(inner.policy.short()), Some(outer.policy.short())),
    };
    let (unaligned, fault_stage) = match both.unaligned() {
        Alignment::Ok => ("ok", None),
        Alignment::Fault { stage } => ("fault", Some(stage)),
        Alignment::MayFault => ("may-fault", Some(1)),
    };
    let (s1, s2) = (both.stage1(), both.stage2());
    Explained {
        arch: "arm64",
        stage1: Input1 {
            input: args.s1.clone(),
            mair: mair.map(|byte| format!("{byte:#04x}")),
            ty: s1.ty.name(),
            sh: s1.sh.short(),
        },
        stage2: Input2 {
            input: args.s2.clone(),
            fwb: s2.is_fwb(),
            memattr: format!("{memattr:#06b}"),
            says: stage2_says(s2.attr),
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
        because: because(both, mair).map(|rule| rule.to_string()).collect(),
    }
}

fn because(both: &Combined, mair: Option<u8>) -> impl Iterator<Item = Rule> {
    mair.is_none().then_some(Rule::MmuOff).into_iter().chain(both.because())
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
        MemAttr::FwbAsStage1 => s1.ty,
    }
}

fn picture(both: &Combined, mair: Option<u8>, memattr: u8) -> String {
    let (s1, s2) = (both.stage1(), both.stage2());
    let from1 = mair.map_or_else(|| "MMU off".into(), |byte| format!("MAIR byte {byte:#04x}"));
    let from2 = format!("MemAttr {memattr:#06b}, {}", if s2.is_fwb() { "FWB" } else { "no FWB" });
    let mut from = format!("XS {}", u8::from(both.xs));
    if !matches!(both.tagging, Tagging::Untagged) {
        from.push_str(", Tagged");
    }
    let rows = [
        ("stage 1", s1.ty, s1.ty.to_string(), s1.sh, from1),
        ("stage 2", stage2_type(s2.attr, s1), stage2_says(s2.attr), s2.sh, from2),
        ("result", both.ty, both.ty.to_string(), both.sh, from),
    ];
    let wide = rows.iter().map(|row| row.2.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (i, (name, ty, says, sh, from)) in rows.into_iter().enumerate() {
        if i == 2 {
            let _ = writeln!(out, "           {}", "─".repeat(wide));
        }
        let style = if i == 2 { show::colour(ty).bold() } else { show::colour(ty) };
        let _ = writeln!(out, "  {name:<7}  {:<wide$}  {}  {}", paint(style, says), sh.short(), paint(FAINT, from));
    }

    out.push('\n');
    for (what, style, says) in follows(both) {
        let _ = writeln!(out, "  {what:<22}  {}", paint(style, says));
    }
    out.push_str(&show::list("reserved", &reserved(both)));
    let _ = writeln!(out, "\n{}", paint(STRONG, "because"));
    for rule in because(both, mair) {
        out.push_str(&show::wrapped("  - ", &rule.to_string()));
    }
    out
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
    let (cache, caches) = may(both.ty.is_cacheable(), "yes", "no");
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
        ("cacheable", cache, caches),
        ("exclusives and atomics", atomics, atomic),
    ]
}
