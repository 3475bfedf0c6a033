//! `bartender barriers`: what orders and what drains, and what projects use.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anstyle::Style;
use memtype::Arch;
use memtype::barrier::{Effect, Effects, Fence, PRACTICES, Practice, Project, Relation, Role, needs};
use memtype::cite::Checked;
use memtype::guarantee::Standing;
use serde::Serialize;

use super::Result;
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mRelations:\u{1b}[0m
  exact       it suffices by the architecture, and nothing weaker does
  stronger    it suffices; what it guarantees on top of the weakest that does is named
  weaker      an instruction that does not suffice; what is missing is named
  hint        an instruction that asks for it and guarantees nothing
  nothing     no instruction where one is needed
  A `?` stands where a statement of the architecture has not been read anywhere.

",
    examples![
        "bartender barriers --arch arm64" => "DMB, DSB and DGH: what each promises, and who uses which",
        "bartender barriers --role wc-flush" => "what brings a write-combining burst out, everywhere",
        "bartender barriers --project rdma-core --arch power" => "one project on one architecture",
        "bartender barriers --differences" => "only where a project does less, or more, than the architecture asks for",
        "bartender barriers --csv" => "one row for each use",
        "bartender barriers --json" => "the fences, the roles and the uses, for programs",
    ]
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Only this architecture: arm64, x86, riscv, power, loongarch, s390
    #[arg(long)]
    arch: Option<String>,
    /// Only this project: linux, rdma-core, ucx, dpdk, gdrcopy, spdk
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Only this role: dma-to-device, device-to-dma, record-write, record-read, wc-start, wc-between, wc-flush,
    /// stop-combining
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Only where practice and architecture differ
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    differences: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// Print CSV, a row for each use of a fence by a project
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Filter {
    arch: Option<Arch>,
    project: Option<Project>,
    role: Option<Role>,
}

impl Filter {
    fn of(args: &Args) -> std::result::Result<Self, String> {
        Ok(Self {
            arch: one_of("--arch", args.arch.as_deref(), &Arch::ALL, Arch::name)?,
            project: one_of("--project", args.project.as_deref(), &Project::ALL, Project::name)?,
            role: one_of("--role", args.role.as_deref(), &Role::ALL, Role::name)?,
        })
    }

    fn arches(self) -> impl Iterator<Item = Arch> {
        Arch::ALL.into_iter().filter(move |a| self.arch.is_none_or(|it| it == *a))
    }

    fn roles(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |r| self.role.is_none_or(|it| it == *r))
    }

    fn practices(self) -> impl Iterator<Item = &'static Practice> {
        let takes = move |p: &&Practice| {
            self.project.is_none_or(|it| it == p.project)
                && self.arch.is_none_or(|it| it == p.arch)
                && self.role.is_none_or(|it| it == p.role)
        };
        self.arches().flat_map(move |arch| {
            self.roles()
                .flat_map(move |role| PRACTICES.iter().filter(move |p| (p.arch, p.role) == (arch, role)).filter(takes))
        })
    }

    /// The fences that are asked about: those that a use or a role has, and those that are easily taken for one.
    fn fences(self, arch: Arch) -> Vec<&'static Fence> {
        let used = |f: &Fence| {
            self.practices().any(|p| (p.arch, p.instruction) == (f.arch, f.name))
                || self.roles().any(|role| needs(arch, role).any(|n| n.name == f.name))
        };
        Fence::of(arch).filter(|f| used(f) || (self.project.is_none() && f.guaranteed.is_empty())).collect()
    }
}

fn one_of<T: Copy>(
    what: &str,
    text: Option<&str>,
    all: &[T],
    name: fn(T) -> &'static str,
) -> std::result::Result<Option<T>, String> {
    let Some(text) = text else { return Ok(None) };
    let lower = text.to_ascii_lowercase();
    let found = all.iter().copied().find(|it| name(*it) == lower);
    found.map(Some).ok_or_else(|| input::unknown(what, text, &all.iter().map(|it| name(*it)).collect::<Vec<_>>()))
}

/// Prints it.
///
/// # Errors
/// A name that is none.
pub fn run(args: &Args) -> Result {
    let filter = Filter::of(args)?;
    if args.csv {
        io::stdout().lock().write_all(csv(filter).as_bytes())?;
    } else if args.json {
        show::json(&whole(filter))?;
    } else if args.differences {
        let found = differences(filter);
        show::text(if found.is_empty() { "no difference\n" } else { found.trim_start() })?;
    } else {
        show::text(&picture(filter))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A field of CSV: in quotes where it has a comma or a quote.
fn field(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn csv(filter: Filter) -> String {
    let mut out = String::from("arch,role,project,call,instruction,relation,source\n");
    for p in filter.practices() {
        let fields = [
            p.arch.name(),
            p.role.name(),
            p.project.name(),
            p.call,
            p.instruction,
            p.relation().name(),
            &p.source().to_string(),
        ];
        out.push_str(&fields.map(field).join(","));
        out.push('\n');
    }
    out
}

#[derive(Serialize)]
struct Whole {
    fences: Vec<Instruction>,
    roles: Vec<Needed>,
    practices: Vec<Used>,
}

#[derive(Serialize)]
struct Instruction {
    arch: &'static str,
    name: &'static str,
    instruction: bool,
    effects: Vec<Does>,
    note: &'static str,
}

#[derive(Serialize)]
struct Does {
    effect: &'static str,
    standing: &'static str,
    hint: bool,
    source: String,
    checked: &'static str,
}

#[derive(Serialize)]
struct Needed {
    arch: &'static str,
    role: &'static str,
    says: &'static str,
    effects: Vec<&'static str>,
    hint_is_enough: bool,
    weakest: Vec<&'static str>,
}

#[derive(Serialize)]
struct Used {
    arch: &'static str,
    role: &'static str,
    project: &'static str,
    revision: &'static str,
    call: &'static str,
    instruction: &'static str,
    relation: &'static str,
    effects: Vec<&'static str>,
    source: String,
    checked: &'static str,
    note: &'static str,
}

fn names(effects: Effects) -> Vec<&'static str> {
    effects.iter().map(Effect::name).collect()
}

fn whole(filter: Filter) -> Whole {
    let does = |f: &Fence, effect: Effect| Does {
        effect: effect.name(),
        standing: f.standing(effect).name(),
        hint: f.hints.has(effect),
        source: f.cite(effect).to_string(),
        checked: f.cite(effect).checked.short(),
    };
    let instruction = |f: &'static Fence| Instruction {
        arch: f.arch.name(),
        name: f.name,
        instruction: f.is_instruction(),
        effects: Effect::ALL.map(|e| does(f, e)).into(),
        note: f.note,
    };
    let needed = |arch: Arch, role: Role| Needed {
        arch: arch.name(),
        role: role.name(),
        says: role.says(),
        effects: names(role.wants()),
        hint_is_enough: role.is_hint(),
        weakest: needs(arch, role).map(|f| f.name).collect(),
    };
    let used = |p: &'static Practice| Used {
        arch: p.arch.name(),
        role: p.role.name(),
        project: p.project.name(),
        revision: p.project.revision(),
        call: p.call,
        instruction: p.instruction,
        relation: p.relation().name(),
        effects: names(p.relation().effects()),
        source: p.source().to_string(),
        checked: p.checked().short(),
        note: p.note,
    };
    Whole {
        fences: filter.arches().flat_map(Fence::of).map(instruction).collect(),
        roles: filter.arches().flat_map(|a| filter.roles().map(move |r| needed(a, r))).collect(),
        practices: filter.practices().map(used).collect(),
    }
}

fn style(relation: Relation, role: Role) -> Style {
    match relation {
        Relation::Exact => GOOD,
        Relation::Nothing if role.is_hint() => FAINT,
        Relation::Stronger(_) => Style::new(),
        Relation::Weaker(_) | Relation::Nothing => BAD,
        Relation::Hint => OPEN,
    }
}

/// The columns of the first table: two lines each.
const COLUMNS: [(Effect, &str, &str); 11] = [
    (Effect::WcBeforeWc, "WC", ">WC"),
    (Effect::WcApart, "WC", "apart"),
    (Effect::WcBeforeUc, "WC", ">UC"),
    (Effect::UcBeforeWc, "UC", ">WC"),
    (Effect::RamBeforeWc, "RAM", ">WC"),
    (Effect::RamBeforeUc, "RAM", ">UC"),
    (Effect::RamBeforeRam, "RAM", ">RAM"),
    (Effect::UcReadFirst, "UC rd", ">RAM"),
    (Effect::RamReadFirst, "RAM rd", ">RAM"),
    (Effect::Drains, "WC", "drains"),
    (Effect::Waits, "", "waits"),
];

fn picture(filter: Filter) -> String {
    let mut out = String::new();
    out.push_str(&show::wrapped(
        "",
        "A >B: an earlier write (rd: read) of A is ordered before a later one of B. RAM: coherent memory that the device \
         accesses by DMA; UC: a register mapping, the doorbell; WC: a write-combining mapping. apart: no merging across it. \
         drains: WC writes leave the CPU now. waits: what follows waits for completion. yes: guaranteed; yes?: the same, not \
         verified; impl: the implementation or the platform decides; hint: asked for, not promised; -: not promised.",
    ));
    for arch in filter.arches() {
        let _ = writeln!(out, "\n{}", paint(STRONG, arch.name()));
        fences(&mut out, filter, arch);
        roles(&mut out, filter, arch);
    }
    out.push_str(&differences(filter));
    out
}

fn differences(filter: Filter) -> String {
    let apart: Vec<_> = filter.practices().filter_map(difference).collect();
    show::list("where practice and architecture differ", &apart)
}

fn fences(out: &mut String, filter: Filter, arch: Arch) {
    for line in [COLUMNS.map(|c| c.1), COLUMNS.map(|c| c.2)] {
        let mut text = format!("  {:<15}", "");
        for word in line {
            let _ = write!(text, " {word:<6}");
        }
        let _ = writeln!(out, "{}", paint(FAINT, text.trim_end()));
    }
    for f in filter.fences(arch) {
        let mut line = format!("  {:<15}", f.name);
        let mut column = line.chars().count();
        for (effect, ..) in COLUMNS {
            let cite = f.cite(effect);
            let (style, word) = match f.standing(effect) {
                Standing::Guaranteed if cite.checked == Checked::Unverified => (GOOD, "yes?"),
                Standing::Guaranteed => (GOOD, "yes"),
                Standing::ImplementationDefined => (OPEN, "impl"),
                Standing::Permitted | Standing::Forbidden if f.hints.has(effect) => (OPEN, "hint"),
                Standing::Permitted | Standing::Forbidden => (FAINT, "-"),
            };
            // The spaces before a word belong to no colour, and none follow the last.
            let at = out_column(effect);
            line.extend(std::iter::repeat_n(' ', at - column));
            let _ = write!(line, "{}", paint(style, word));
            column = at + word.len();
        }
        let _ = writeln!(out, "{line}");
    }
    for f in filter.fences(arch).iter().filter(|f| !f.note.is_empty() && f.arch != Arch::Riscv) {
        // Notes that several fences share are said once, at the first.
        if filter.fences(arch).iter().find(|o| o.note == f.note).is_some_and(|o| o.name == f.name) {
            out.push_str(&faint(&show::wrapped(&format!("  {}: ", f.name), f.note)));
        }
    }
    if arch == Arch::Riscv {
        out.push_str(&faint(&show::wrapped(
            "  ",
            "the manual promises neither that no merging crosses a FENCE nor that one makes writes leave now",
        )));
    }
}

fn faint(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", paint(FAINT, line))).collect()
}

/// Where the column of an effect begins.
fn out_column(effect: Effect) -> usize {
    18 + 7 * COLUMNS.iter().position(|c| c.0 == effect).unwrap_or(0)
}

fn roles(out: &mut String, filter: Filter, arch: Arch) {
    for role in filter.roles() {
        let weakest: Vec<_> = needs(arch, role).map(|f| f.name).collect();
        let needed = if weakest.is_empty() { "no instruction promises it".to_owned() } else { weakest.join(" or ") };
        let _ = writeln!(
            out,
            "\n  {}  {}\n  {:<14}  {} {}",
            paint(STRONG, format!("{:<14}", role.name())),
            role.says(),
            "",
            paint(FAINT, if role.is_hint() { "does it:" } else { "needs:" }),
            paint(if weakest.is_empty() { OPEN } else { GOOD }, needed),
        );
        for p in filter.practices().filter(|p| (p.arch, p.role) == (arch, role)) {
            use_of(out, p);
        }
    }
}

/// What a fence does on top, in few words.
fn brief(more: Effects) -> String {
    use Effect::*;
    let kinds: [(&str, &[Effect]); 7] = [
        ("WC", &[WcBeforeWc, WcApart, WcBeforeUc, UcBeforeWc, RamBeforeWc]),
        ("RAM", &[RamBeforeUc, RamBeforeRam]),
        ("reads", &[UcReadFirst, RamReadFirst, ReadBeforeWrite]),
        ("write-read", &[WriteBeforeRead]),
        ("drains", &[Drains]),
        ("waits", &[Waits]),
        ("full system", &[FullSystem]),
    ];
    let some = kinds.iter().filter(|(_, effects)| !more.common(Effects::of(effects)).is_empty());
    some.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// A line for a use; what is missing or on top follows the relation.
fn use_of(out: &mut String, p: &Practice) {
    let relation = p.relation();
    let doubt = if p.checked() == Checked::Unverified { "?" } else { "" };
    let word = format!("{}{doubt}", relation.name());
    let start = format!("    {:<9}  {:<35}  {:<13}  ", p.project.name(), p.call, p.instruction);
    let effects = match relation {
        Relation::Weaker(missing) => format!("no {missing}"),
        Relation::Stronger(more) => format!("+ {}", brief(more)),
        Relation::Exact | Relation::Hint | Relation::Nothing => String::new(),
    };
    let first = format!("{start}{word:<9} ");
    let text = show::wrapped(&first, &effects);
    // The padding of `wrapped` counts characters, so the colour comes after.
    let rest = text.get(first.len()..).unwrap_or("\n");
    if effects.is_empty() {
        let _ = writeln!(out, "{start}{}", paint(style(relation, p.role), word));
    } else {
        let _ = write!(out, "{start}{:<9} {rest}", paint(style(relation, p.role), word));
    }
}

/// The sentence on a use that is not what the architecture asks for. An empty hint is no difference.
fn difference(p: &'static Practice) -> Option<String> {
    let doubt = if p.checked() == Checked::Unverified { "unverified: " } else { "" };
    let who = format!("{doubt}{}, {}, {}: {}", p.arch.name(), p.role.name(), p.project.name(), p.call);
    let none = needs(p.arch, p.role).next().is_none();
    let says = |effects: Effects| effects.iter().map(Effect::says).collect::<Vec<_>>().join(", nor that ");
    let weakest = || needs(p.arch, p.role).map(|f| f.name).collect::<Vec<_>>().join(" or ");
    let what = match p.relation() {
        Relation::Weaker(missing) => {
            let more = if none { format!("; nor does any instruction of {}", p.arch.name()) } else { String::new() };
            format!("is `{}`, which does not promise that {}{more}", p.instruction, says(missing))
        }
        Relation::Hint => {
            let all = if p.role.is_hint() { "" } else { ", nor any order" };
            format!(
                "is `{}`, a hint: it does not promise that {}{all}",
                p.instruction,
                says(Effects::of(&[Effect::Drains]))
            )
        }
        Relation::Nothing if p.role.is_hint() => return None,
        Relation::Nothing => format!("is no instruction, where the architecture needs `{}`", weakest()),
        Relation::Stronger(_) if !p.note.is_empty() => format!("is `{}`, more than `{}`", p.instruction, weakest()),
        Relation::Stronger(_) | Relation::Exact => return None,
    };
    let note = if p.note.is_empty() { String::new() } else { format!(" ({})", p.note) };
    Some(format!("{who} {what}{note}"))
}
