//! `bartender policies [NAME]`: what each policy decides, computed by [`Policy::mmap`] and [`Policy::decide`] over a closed
//! list of cases, beside what people said of it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anstyle::Style;
use hyp::region::{Area, Bar, Device, Index, MapId, Refused, Uapi};
use hyp::{Cpu, Ept, Facts, NoAttribute, Pgprot, Policy, S2Kind, Said, Vma};
use memtype::arm::{Features, NAMES, Stage1, Stage2, Type, combine};
use memtype::x86::kvm::{self, Era};
use memtype::x86::{self, Pat, ept};
use memtype::{Arch, Attribute, MemoryType};
use mmu::Oa;
use platform::{NcDefect, Platform};
use serde::Serialize;

use super::Result;
use crate::machine::on_model;
use crate::matrix::{self, Matrix};
use crate::show::{self, BAD, FAINT, GOOD, Hex, STRONG, paint};
use crate::verdict::ASKED;
use crate::{input, suite};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender policies" => "who can decide the stage-2 type: every policy with its rule and where that comes from",
    "bartender policies vga" => "one policy: what it gives each mapping, what was said of it, what it breaks",
    "bartender policies --compare" => "all of them in one table, and every uAPI that was proposed, tried out",
    "bartender policies --compare --over scenarios" => "and how many scenarios each makes work, fast and safe",
    "bartender policies linux-6.17 --json" => "the same for programs",
])]
pub struct Args {
    /// The policy: linux-6.1, prefetchable, vga, follow-vma, subregions, linux-6.9, linux-6.17, firmware, x86-ept
    name: Option<String>,
    /// All policies side by side, and the uAPIs by which user space could ask
    #[arg(long, conflicts_with = "name")]
    compare: bool,
    /// With --compare: sum up what the model says of these scenarios; may be repeated
    #[arg(long, value_name = "SCENARIO|FOLDER", requires = "compare")]
    over: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// A name that is none.
pub fn run(args: &Args) -> Result {
    match &args.name {
        Some(name) => {
            let policy = Policy::named(&name.to_ascii_lowercase())
                .ok_or_else(|| input::unknown("policy", name, &Policy::ALL.map(Policy::name)))?;
            let it = Whole::of(policy);
            if args.json { show::json(&it)? } else { show::text(&it.text(policy))? }
        }
        None if args.compare => {
            let scenarios = if args.over.is_empty() { Vec::new() } else { summed(&args.over)? };
            let (policies, uapis) = (Policy::ALL.map(Line::of).into(), Uapi::ALL.map(Tried::of).into());
            let it = Compared { policies, uapis, scenarios };
            if args.json { show::json(&it)? } else { show::text(&it.text())? }
        }
        None if args.json => show::json(&Policy::ALL.map(Brief::of))?,
        None => show::text(&list())?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Brief {
    policy: &'static str,
    rule: &'static str,
    source: &'static str,
}

impl Brief {
    fn of(policy: Policy) -> Self {
        Self { policy: policy.name(), rule: policy.rule(), source: policy.source() }
    }
}

fn list() -> String {
    let mut out = String::new();
    for policy in Policy::ALL {
        out.push_str(&labelled("", STRONG, policy.name(), 12, policy.rule()));
        for line in show::wrapped(&format!("{:14}", ""), policy.source()).lines() {
            let _ = writeln!(out, "{}", paint(FAINT, line));
        }
    }
    out + "\nOne of them whole: bartender policies NAME. All side by side: bartender policies --compare\n"
}

/// `text`, wrapped, after a label in `style` that takes `wide` columns.
fn labelled(before: &str, style: Style, label: &str, wide: usize, text: &str) -> String {
    let plain = format!("{before}{label:<wide$}  ");
    let text = show::wrapped(&plain, text);
    format!("{before}{:<wide$}  {}", paint(style, label), text.get(plain.len()..).unwrap_or_default())
}

// What is mapped: the closed list.

/// A platform that is described as fit for Normal-NC.
const DESCRIBED: Platform = Platform { described: true, ..Platform::USUAL };
const PLAIN: Facts = Facts { prefetchable: false, vga: false, cached: false, platform: Platform::USUAL };
const PREFETCHABLE: Facts = Facts { prefetchable: true, ..PLAIN };
const VGA: Facts = Facts { vga: true, ..PLAIN };
const FIT: Facts = Facts { platform: DESCRIBED, ..PLAIN };
const ERRATUM: Facts = Facts { platform: Platform { normal_nc: NcDefect::Partial, ..DESCRIBED }, ..PLAIN };
const CACHED: Facts = Facts { cached: true, ..PLAIN };

#[derive(Clone, Copy)]
enum Of {
    Bar(Facts, Attribute),
    Other(Vma),
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    of: Of,
    /// FWB and DIC, where that is a part of the case.
    fwb: Option<bool>,
    /// RAM that a device's DMA may reach past the caches: x86 alone decides by it.
    noncoherent: bool,
}

const fn case(name: &'static str, of: Of) -> Case {
    Case { name, of, fwb: None, noncoherent: false }
}

const CASES: [Case; 15] = [
    case("BAR", Of::Bar(PLAIN, Attribute::Default)),
    case("BAR, prefetchable", Of::Bar(PREFETCHABLE, Attribute::Default)),
    case("BAR of a VGA-class device", Of::Bar(VGA, Attribute::Default)),
    case("BAR, platform described as fit", Of::Bar(FIT, Attribute::Default)),
    case("BAR, described, with an erratum", Of::Bar(ERRATUM, Attribute::Default)),
    case("BAR, write-combine asked", Of::Bar(PLAIN, Attribute::WriteCombine)),
    case("BAR, uncached asked", Of::Bar(PLAIN, Attribute::Uncached)),
    case("BAR, cached asked", Of::Bar(PLAIN, Attribute::Cached)),
    Case { fwb: Some(true), ..case("memory of a coherent device", Of::Bar(CACHED, Attribute::Default)) },
    Case { fwb: Some(false), ..case("the same without FWB and DIC", Of::Bar(CACHED, Attribute::Default)) },
    Case { fwb: Some(true), ..case("coherent device, cached asked", Of::Bar(CACHED, Attribute::Cached)) },
    case("sysfs resourceN", Of::Other(Vma::OTHER_DEVICE)),
    case("sysfs resourceN_wc", Of::Other(Vma::device(Pgprot::WriteCombine))),
    case("guest RAM", Of::Other(Vma::RAM)),
    Case { noncoherent: true, ..case("guest RAM, DMA may bypass caches", Of::Other(Vma::RAM)) },
];

impl Case {
    /// Whether a policy can tell it from another case at all: firmware's description, FWB and a driver that maps cacheable are
    /// Arm's, what DMA does is x86's.
    fn is_for(&self, policy: Policy) -> bool {
        let arms = self.fwb.is_some() || matches!(self.of, Of::Bar(f, _) if f.platform.described);
        if policy.is_arm() { !self.noncoherent } else { !arms }
    }
}

/// What stage 2 says.
#[derive(Clone, Copy)]
enum Below {
    Arm(S2Kind),
    X86(Ept),
}

/// What a policy makes of a case.
struct Made {
    vma: Option<Vma>,
    below: std::result::Result<Below, No>,
    why: Vec<String>,
}

/// Why there is no mapping.
enum No {
    Call(String),
    Attribute(String),
    Slot(String),
}

impl No {
    /// In the style of its weight, as a table has it, and as a sentence.
    fn says(&self) -> (Style, &'static str, &str) {
        match self {
            Self::Call(says) => (FAINT, "no call", says),
            Self::Attribute(says) => (BAD, "refused", says),
            Self::Slot(says) => (BAD, "slot refused", says),
        }
    }
}

fn made(policy: Policy, of: Of, fwb: bool, noncoherent: bool) -> Made {
    let mut why = Vec::new();
    let vma = match of {
        Of::Other(vma) => vma,
        Of::Bar(facts, asked) => match policy.mmap(&facts, asked) {
            Ok((vma, because)) => {
                why.push(because.says().to_owned());
                vma
            }
            Err(e @ NoAttribute::NoCall { .. }) => return Made { vma: None, below: Err(No::Call(e.to_string())), why },
            Err(e) => return Made { vma: None, below: Err(No::Attribute(e.to_string())), why },
        },
    };
    let below = if policy.is_arm() {
        match policy.decide(&vma, Cpu { fwb, dic: fwb }) {
            Ok(decision) => {
                why.push(decision.why.to_string());
                Ok(Below::Arm(decision.kind))
            }
            Err(e) => Err(No::Slot(e.to_string())),
        }
    } else {
        let asked = kvm::Asked { mmio: !vma.kernel_memory, noncoherent_dma: noncoherent, ..kvm::Asked::RAM };
        why.push(format!("{} [{}]", Era::Quirk.leaf(asked).rule, Era::Quirk.cite()));
        Ok(Below::X86(Policy::ept(&vma, noncoherent)))
    };
    Made { vma: Some(vma), below, why }
}

/// The types a guest reaches, whatever it says in its own tables.
fn reach(kind: S2Kind, fwb: bool) -> Vec<Type> {
    let s2 = Stage2::decode(fwb, kind.memattr(fwb), 0b11, Features::LATEST);
    let mut all = Vec::new();
    for (_, mair) in NAMES {
        let ty = combine(&Stage1::decode(mair, 0b11, Features::LATEST), &s2).ty;
        if !all.contains(&ty) {
            all.push(ty);
        }
    }
    all
}

fn reach_x86(ept: Ept) -> Vec<x86::Type> {
    let mut all: Vec<_> = Pat::ALL.map(|pat| ept::combine(ept.ty, ept.ipat, pat)).into();
    all.sort();
    all.dedup();
    all
}

fn host_type(policy: Policy, vma: &Vma) -> Option<MemoryType> {
    vma.pgprot.memory_type(if policy.is_arm() { Arch::Arm64 } else { Arch::X86 })
}

/// As its architecture writes it.
fn written(ty: MemoryType) -> String {
    match ty {
        MemoryType::Arm64(ty) => ty.to_string(),
        MemoryType::X86(ty) => ty.to_string(),
        other => other.to_string(),
    }
}

// One policy.

#[derive(Serialize)]
struct Whole {
    policy: &'static str,
    rule: &'static str,
    source: &'static str,
    decides: &'static str,
    needs: &'static str,
    cases: Vec<Row>,
    proposed: &'static str,
    r#for: Vec<Quote>,
    against: Vec<Quote>,
    breaks: &'static [&'static str],
    became: &'static str,
}

#[derive(Serialize)]
struct Quote {
    who: &'static str,
    when: &'static str,
    r#where: &'static str,
    what: &'static str,
}

#[derive(Serialize)]
struct Row {
    case: &'static str,
    host: Option<Host>,
    /// Of Arm: the type, MemAttr without and with FWB where the case leaves that open.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage2: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memattr: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memattr_fwb: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reach: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reach_fwb: Option<Vec<&'static str>>,
    /// Of x86.
    #[serde(skip_serializing_if = "Option::is_none")]
    ept: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipat: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    why: Vec<String>,
    #[serde(skip)]
    made: Made,
}

#[derive(Serialize)]
struct Host {
    pgprot: &'static str,
    r#type: Option<&'static str>,
    allow_any_uncached: bool,
}

impl Host {
    fn of(policy: Policy, vma: &Vma) -> Self {
        let ty = host_type(policy, vma).map(MemoryType::name);
        Self { pgprot: vma.pgprot.name(), r#type: ty, allow_any_uncached: vma.allow_any_uncached }
    }
}

impl Row {
    fn of(policy: Policy, case: &Case) -> Self {
        let made = made(policy, case.of, case.fwb.unwrap_or(true), case.noncoherent);
        let arm = match made.below {
            Ok(Below::Arm(kind)) => Some(kind),
            _ => None,
        };
        let x86 = match made.below {
            Ok(Below::X86(ept)) => Some(ept),
            _ => None,
        };
        let at = |fwb: bool| arm.filter(|_| case.fwb != Some(!fwb));
        let names = |fwb| at(fwb).map(|kind| reach(kind, fwb).into_iter().map(Type::name).collect());
        Self {
            case: case.name,
            host: made.vma.as_ref().map(|vma| Host::of(policy, vma)),
            stage2: arm.map(|kind| kind.name().to_ascii_lowercase()),
            memattr: at(false).map(|kind| kind.memattr(false)),
            memattr_fwb: at(true).map(|kind| kind.memattr(true)),
            reach: x86.map_or_else(|| names(false), |e| Some(reach_x86(e).into_iter().map(x86::Type::name).collect())),
            reach_fwb: names(true),
            ept: x86.map(|e| e.ty.name()),
            ipat: x86.map(|e| e.ipat),
            refused: match &made.below {
                Err(no) => Some(no.says().2.to_owned()),
                Ok(_) => None,
            },
            why: made.why.clone(),
            made,
        }
    }
}

impl Whole {
    fn of(policy: Policy) -> Self {
        let about = policy.about();
        let quotes = |said: &[Said]| {
            said.iter().map(|s| Quote { who: s.who, when: s.when, r#where: s.place, what: s.what }).collect()
        };
        Self {
            policy: policy.name(),
            rule: about.rule,
            source: about.source,
            decides: about.decides,
            needs: about.needs,
            cases: CASES.iter().filter(|c| c.is_for(policy)).map(|c| Row::of(policy, c)).collect(),
            proposed: about.proposed,
            r#for: quotes(about.for_it),
            against: quotes(about.against),
            breaks: about.breaks,
            became: about.became,
        }
    }

    fn text(&self, policy: Policy) -> String {
        let mut out = format!("{}\n", paint(STRONG, self.policy));
        out.push_str(&show::wrapped("  ", self.rule));
        out.push_str(&show::wrapped("  ", &format!("[{}]", self.source)));
        for (label, text) in [("Who decides:", self.decides), ("User space has to do:", self.needs)] {
            out.push_str(&show::wrapped("  ", &format!("{label} {text}.")));
        }
        let _ = writeln!(out, "\n{}", paint(STRONG, "what it gives"));
        let heads = if policy.is_arm() { "stage 2       MemAttr  FWB" } else { "EPT  IPAT" };
        let _ = writeln!(out, "  {}", paint(FAINT, format!("{:<36}{:<26}{heads}", "what is mapped", "host mapping")));
        for row in &self.cases {
            out.push_str(&row.text());
        }
        out.push_str(&self.legend(policy));
        out.push_str(&self.reached());
        // That there is no call is said in the table.
        let refused = self.cases.iter().filter_map(|row| match &row.made.below {
            Err(No::Attribute(says)) => Some(format!("Refused: {says}.")),
            Err(No::Slot(says)) => Some(format!("Slot refused: {says}.")),
            _ => None,
        });
        let why = distinct(self.cases.iter().flat_map(|row| row.why.iter().cloned()).chain(refused));
        out.push_str(&show::list("why", &why));
        let _ = writeln!(out, "\n{}", paint(STRONG, "who proposed it"));
        out.push_str(&show::wrapped("  ", self.proposed));
        for (head, quotes) in [("for it", &self.r#for), ("against it", &self.against)] {
            let lines: Vec<String> =
                quotes.iter().map(|q| format!("{}, {}, {}: {}", q.who, q.when, q.r#where, q.what)).collect();
            out.push_str(&show::list(head, &lines));
        }
        out.push_str(&show::list("what it breaks", self.breaks));
        let _ = writeln!(out, "\n{}", paint(STRONG, "what became of it"));
        out.push_str(&show::wrapped("  ", self.became));
        out
    }

    /// What the words of the table stand for.
    fn legend(&self, policy: Policy) -> String {
        let vmas = || self.cases.iter().filter_map(|row| row.made.vma.as_ref());
        let mut says: Vec<String> = distinct(vmas().map(|vma| vma.pgprot))
            .into_iter()
            .filter_map(|p| Some((p, host_type(policy, &Vma::device(p))?)))
            .map(|(p, ty)| format!("{} is {}", p.name(), written(ty)))
            .collect();
        if vmas().any(|vma| vma.allow_any_uncached) {
            says.push("flag is VM_ALLOW_ANY_UNCACHED".into());
        }
        let lines = show::wrapped("  ", &format!("In the host {}.", says.join(", ")));
        lines.lines().fold(String::new(), |out, line| format!("{out}{}\n", paint(FAINT, line)))
    }

    /// What a guest reaches under each stage-2 type there is in the table.
    fn reached(&self) -> String {
        let mut out = format!("\n{}\n", paint(STRONG, "what a guest can reach"));
        let below: Vec<Below> = self.cases.iter().filter_map(|row| row.made.below.as_ref().ok().copied()).collect();
        for kind in S2Kind::ALL {
            if !below.iter().any(|b| matches!(b, Below::Arm(k) if *k == kind)) {
                continue;
            }
            let (plain, fwb) = (reach(kind, false), reach(kind, true));
            if plain == fwb {
                out.push_str(&reached("  under", kind.name(), &plain));
            } else {
                out.push_str(&reached("  under", kind.name(), &plain));
                out.push_str(&reached("  under", &format!("{}, FWB", kind.name()), &fwb));
            }
        }
        for ept in distinct(below.iter().filter_map(|b| if let Below::X86(e) = b { Some(*e) } else { None })) {
            let label = format!("{} IPAT {}", ept.ty, u8::from(ept.ipat));
            let types: Vec<String> = reach_x86(ept).into_iter().map(|ty| ty.to_string()).collect();
            out.push_str(&labelled("  under ", STRONG, &label, 14, &types.join(", ")));
        }
        out
    }
}

fn reached(before: &str, label: &str, types: &[Type]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    labelled(&format!("{before} "), STRONG, label, 14, &types.join(", "))
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for item in items {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

impl Row {
    fn text(&self) -> String {
        let host = self
            .host
            .as_ref()
            .map_or_else(String::new, |h| format!("{}{}", h.pgprot, if h.allow_any_uncached { " + flag" } else { "" }));
        let start = format!("  {:<36}{host:<26}", self.case);
        match &self.made.below {
            Ok(Below::Arm(kind)) => {
                let bits =
                    |value: Option<u8>, wide: usize| value.map_or_else(|| "-".into(), |v| format!("{v:0wide$b}"));
                let (plain, fwb) = (bits(self.memattr, 4), bits(self.memattr_fwb, 3));
                format!("{start}{:<14}{plain:<9}{fwb}\n", paint(colour(*kind), kind.name()))
            }
            Ok(Below::X86(ept)) => {
                format!("{start}{:<5}{}\n", paint(show::colour_of(MemoryType::X86(ept.ty)), ept.ty), u8::from(ept.ipat))
            }
            Err(no) => {
                let (style, what, _) = no.says();
                format!("{start}{}\n", paint(style, what))
            }
        }
    }
}

/// The type that stands for a stage-2 type, for its colour.
const fn arm_type(kind: S2Kind) -> Type {
    match kind {
        S2Kind::Normal => Type::NORMAL_WB,
        S2Kind::NormalNc => Type::NORMAL_NC,
        S2Kind::DeviceNgnre => Type::Device(memtype::arm::Device::nGnRE),
    }
}

fn colour(kind: S2Kind) -> Style {
    show::colour(arm_type(kind))
}

// All policies.

struct Column {
    head: &'static str,
    key: &'static str,
    facts: Facts,
    asked: Attribute,
    fwb: bool,
}

const fn column(head: &'static str, key: &'static str, facts: Facts) -> Column {
    Column { head, key, facts, asked: Attribute::Default, fwb: true }
}

const COLUMNS: [Column; 7] = [
    column("BAR", "bar", PLAIN),
    column("prefetch", "prefetchable", PREFETCHABLE),
    column("VGA", "vga", VGA),
    column("described", "described", FIT),
    Column { asked: Attribute::WriteCombine, ..column("WC asked", "write-combine-asked", PLAIN) },
    column("coherent", "coherent-fwb", CACHED),
    Column { fwb: false, ..column("same, no FWB", "coherent-no-fwb", CACHED) },
];

#[derive(Serialize)]
struct Compared {
    policies: Vec<Line>,
    uapis: Vec<Tried>,
    /// The columns of the matrix over the scenarios asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scenarios: Vec<matrix::Column>,
}

/// What `bartender matrix` counts.
fn summed(paths: &[PathBuf]) -> Result<Vec<matrix::Column>> {
    let cases = suite::load(paths)?;
    let rows = on_model(&cases, &Policy::ALL);
    Ok(Matrix::new(&cases, &Policy::ALL, Vec::new(), rows).policies)
}

#[derive(Serialize)]
struct Line {
    policy: &'static str,
    decides: &'static str,
    needs: &'static str,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    column: &'static str,
    host: Option<Host>,
    stage2: Option<String>,
    refused: Option<String>,
    #[serde(skip)]
    stage2_short: (Style, &'static str),
    #[serde(skip)]
    host_short: (Style, String),
}

impl Line {
    fn of(policy: Policy) -> Self {
        let about = policy.about();
        let cells = COLUMNS.iter().map(|column| Cell::of(policy, column)).collect();
        Self { policy: policy.name(), decides: about.decides, needs: about.needs, cells }
    }
}

impl Cell {
    fn of(policy: Policy, column: &Column) -> Self {
        let made = made(policy, Of::Bar(column.facts, column.asked), column.fwb, false);
        let host_short = made.vma.as_ref().map_or((FAINT, "-".into()), |vma| {
            let ty = host_type(policy, vma);
            let short = ty.map_or_else(|| "?".into(), written);
            let short = short.trim_start_matches("Device-").trim_start_matches("Normal-");
            let flag = if vma.allow_any_uncached { "+" } else { "" };
            (ty.map_or(FAINT, show::colour_of), format!("{short}{flag}"))
        });
        let (stage2, refused, stage2_short) = match &made.below {
            Ok(Below::Arm(kind)) => {
                let short = match kind {
                    S2Kind::Normal => "Normal",
                    S2Kind::NormalNc => "NC",
                    S2Kind::DeviceNgnre => "nGnRE",
                };
                (Some(kind.name().to_ascii_lowercase()), None, (colour(*kind), short))
            }
            Ok(Below::X86(e)) => {
                let name = e.ty.name();
                let style = show::colour_of(MemoryType::X86(e.ty));
                (Some(format!("{name}, ipat {}", u8::from(e.ipat))), None, (style, e.ty.upper()))
            }
            Err(no) => {
                let (style, what, says) = no.says();
                (None, Some(says.to_owned()), (style, what))
            }
        };
        let host = made.vma.as_ref().map(|vma| Host::of(policy, vma));
        Self { column: column.key, host, stage2, refused, stage2_short, host_short }
    }
}

impl Compared {
    fn text(&self) -> String {
        let mut out = String::new();
        let heads: String = COLUMNS.iter().map(|c| format!("{:<12}", c.head)).collect::<String>().trim_end().into();
        let mut table = |head: &str, cell: &dyn Fn(&Cell) -> String| {
            let _ = writeln!(out, "{}\n{:14}{}", paint(STRONG, head), "", paint(FAINT, &heads));
            for line in &self.policies {
                let cells: String = line.cells.iter().map(cell).collect();
                let _ = writeln!(out, "{:<14}{}", line.policy, cells.trim_end());
            }
            out.push('\n');
        };
        table("stage 2, by what KVM is given", &|c| format!("{:<12}", paint(c.stage2_short.0, c.stage2_short.1)));
        table("the host's own mapping", &|c| format!("{:<12}", paint(c.host_short.0, &c.host_short.1)));
        out.push_str(&faint(
            "prefetch: a prefetchable BAR. described: the platform's firmware says that Normal-NC works. WC asked: user space asks for \
             write-combine. coherent: memory that a driver of the device's own wants cacheable, on a CPU with FWB and DIC, or \
             with neither. no call: there is nothing to ask by. slot refused: KVM takes no such memory slot. +: \
             VM_ALLOW_ANY_UNCACHED. x86-ept: the EPT type, with IPAT 0, so the guest has UC or WC.",
        ));
        let _ = writeln!(out, "\n{}", paint(STRONG, "who decides, and what user space has to do"));
        for line in &self.policies {
            out.push_str(&labelled("", STRONG, line.policy, 12, line.decides));
            for text in show::wrapped(&format!("{:14}", ""), &format!("user space: {}", line.needs)).lines() {
                let _ = writeln!(out, "{}", paint(FAINT, text));
            }
        }
        let _ = writeln!(out, "\n{}", paint(STRONG, "the ways that were proposed for user space to ask, tried out"));
        let _ = write!(out, "{:14}", "");
        for question in Question::ALL {
            let _ = write!(out, "{:<20}", paint(FAINT, question.head()));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        for tried in &self.uapis {
            let cells: String = tried
                .tried
                .iter()
                .map(|t| format!("{:<20}", if t.works { paint(GOOD, "yes") } else { paint(BAD, "no") }))
                .collect();
            let _ = writeln!(out, "{:<14}{}", tried.uapi, cells.trim_end());
        }
        for tried in &self.uapis {
            let _ = writeln!(out, "\n{}  {}", paint(STRONG, tried.uapi), paint(FAINT, tried.source));
            for t in &tried.tried {
                out.push_str(&labelled("  ", Style::new(), t.head, 19, &t.says));
            }
        }
        if let Some(any) = self.scenarios.first() {
            let all = any.works.asked() + any.works.not_asked;
            let _ = writeln!(
                out,
                "\n{}",
                paint(
                    STRONG,
                    format!("over {all} scenario{}, on the model: yes, maybe, no", if all == 1 { "" } else { "s" })
                )
            );
            let heads: String = ASKED.map(|asked| format!("{asked:<16}")).concat();
            let _ = writeln!(out, "{:14}{}", "", paint(FAINT, heads.trim_end()));
            for column in &self.scenarios {
                let count = |c: matrix::Count| format!("{:<16}", format!("{:>2} {:>2} {:>2}", c.yes, c.maybe, c.no));
                let _ = writeln!(out, "{:<14}{}", column.policy, column.counts().map(count).concat().trim_end());
            }
        }
        out
    }
}

fn faint(text: &str) -> String {
    show::wrapped("", text).lines().fold(String::new(), |out, line| format!("{out}{}\n", paint(FAINT, line)))
}

// The uAPIs: each question is put to a device, by the calls the proposal has.

#[derive(Serialize)]
struct Tried {
    uapi: &'static str,
    source: &'static str,
    tried: Vec<Trial>,
}

#[derive(Serialize)]
struct Trial {
    question: &'static str,
    works: bool,
    says: String,
    #[serde(skip)]
    head: &'static str,
}

#[derive(Clone, Copy)]
enum Question {
    Doorbell,
    Half,
    Change,
    Twice,
}

impl Question {
    const ALL: [Self; 4] = [Self::Doorbell, Self::Half, Self::Change, Self::Twice];

    const fn head(self) -> &'static str {
        match self {
            Self::Doorbell => "doorbell + buffer",
            Self::Half => "index of a part",
            Self::Change => "change while mapped",
            Self::Twice => "a page twice",
        }
    }
    const fn says(self) -> &'static str {
        match self {
            Self::Doorbell => "a doorbell page uncached and a buffer write-combining in one BAR",
            Self::Half => "a region index for the write-combining half of a BAR",
            Self::Change => "the buffer is mapped write-combining and becomes uncached",
            Self::Twice => "a page mapped write-combining is mapped uncached as well",
        }
    }
    /// # Errors
    /// What the device refuses.
    fn put(self, device: &mut Dev) -> std::result::Result<String, Refused> {
        match self {
            Self::Doorbell => {
                let (wc, _) = device.write_combining(BUFFER)?;
                let uncached = device.uncached(DOORBELL)?;
                Ok(format!("{}, {}", device.shows(wc), device.shows(uncached)))
            }
            Self::Half => {
                let half = Area { offset: 0, size: BAR_SIZE / 2 };
                let index = device.0.create(BAR, half.offset, half.size, Attribute::WriteCombine)?;
                Ok(format!("region {} is {} of the BAR, write-combine", index.0, half))
            }
            Self::Change => {
                let (_, region) = device.write_combining(BUFFER)?;
                let zap = device.0.set(region, Attribute::Uncached)?;
                Ok(zap.map_or_else(
                    || "nothing was mapped".into(),
                    |z| {
                        format!(
                            "{} bytes at {} are zapped and come back {}; KVM is told",
                            Hex(z.size),
                            Hex(z.pa.0),
                            z.vma.pgprot.name()
                        )
                    },
                ))
            }
            Self::Twice => {
                let (wc, _) = device.write_combining(BUFFER)?;
                let uncached = device.uncached(Area { size: mmu::PAGE, ..BUFFER })?;
                Ok(format!("{}, {}", device.shows(wc), device.shows(uncached)))
            }
        }
    }
}

const BAR: Index = Index(2);
const BAR_SIZE: u64 = 1 << 20;
const DOORBELL: Area = Area { offset: 0, size: mmu::PAGE };
const BUFFER: Area = Area { offset: 0x1_0000, size: 0x1_0000 };

struct Dev(Device<8, 8>, Uapi);

impl Dev {
    /// Maps an area write-combining, by what the proposal has for that. Also gives the region whose attribute it is.
    fn write_combining(&mut self, area: Area) -> std::result::Result<(MapId, Index), Refused> {
        let (dev, wc) = (&mut self.0, Attribute::WriteCombine);
        let (region, offset) = match self.1 {
            Uapi::NextMmap => {
                dev.set_next(wc)?;
                (BAR, area.offset)
            }
            Uapi::WholeIndex => {
                dev.set(BAR, wc)?;
                (BAR, area.offset)
            }
            Uapi::Alias => (dev.create(BAR, 0, BAR_SIZE, wc)?, area.offset),
            Uapi::Subregions | Uapi::DmaBuf => (dev.create(BAR, area.offset, area.size, wc)?, 0),
        };
        Ok((dev.mmap(region, offset, area.size)?, region))
    }
    /// Maps an area uncached.
    fn uncached(&mut self, area: Area) -> std::result::Result<MapId, Refused> {
        if self.1 == Uapi::WholeIndex {
            self.0.set(BAR, Attribute::Uncached)?;
        }
        self.0.mmap(BAR, area.offset, area.size)
    }
    fn shows(&self, id: MapId) -> String {
        self.0.mapping(id).map_or_else(String::new, |m| format!("{} {}", m.area, m.vma.pgprot.name()))
    }
}

impl Tried {
    fn of(uapi: Uapi) -> Self {
        let bar = Bar::new(2, Oa(0x50_0000_0000), BAR_SIZE);
        let tried = Question::ALL.map(|question| {
            let made = Device::new(Policy::Subregions, uapi, &[bar]);
            let got = made.and_then(|device| question.put(&mut Dev(device, uapi)));
            let (works, says) = match got {
                Ok(says) => (true, says),
                Err(e) => (false, format!("{}: {e}", errno(e.errno()))),
            };
            Trial { question: question.says(), works, says, head: question.head() }
        });
        Self { uapi: uapi.name(), source: uapi.source(), tried: tried.into() }
    }
}

const fn errno(number: i32) -> &'static str {
    match number {
        2 => "ENOENT",
        16 => "EBUSY",
        17 => "EEXIST",
        22 => "EINVAL",
        25 => "ENOTTY",
        28 => "ENOSPC",
        _ => "refused",
    }
}
