//! `bartender contract [NAME]`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anstyle::Style;
use memtype::contract::{Contract, Judgement, Predicate, Verdict};
use memtype::guarantee::{Question, Standing};
use memtype::{Arch, MemoryType};
use serde::Serialize;

use super::Result;
use super::explain::answer::{Known, guarantees, known};
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mVerdicts:\u{1b}[0m
  satisfied   the type gives all that the contract relies on
  depends     the implementation or the platform decides one of them
  broken      the type does not give it
  A ? follows a verdict that rests on something nobody has looked up; in JSON `unverified` is true.

",
    examples![
        "bartender contract" => "every memory type against every contract",
        "bartender contract wc" => "what write-combining is, who gives it, and what fails",
        "bartender contract wc-memory --type arm64:device-ngnre" => "clause by clause: thread 002 in a table",
        "bartender contract --type riscv:nc" => "all that is promised of one memory type, and what it is good for",
        "bartender contract ioremap --json" => "one contract, for programs",
        "bartender contract --csv" => "one row for each contract and type",
    ]
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The contract: wc, wc-memory, register, cacheable, ioremap, ioremap-np, ioremap-wc, ioremap-wt, ioremap-cache,
    /// rdma-uc, rdma-wc
    name: Option<String>,
    /// Only this memory type, with its architecture: arm64:normal-nc, x86:wc
    #[arg(long = "type", value_name = "ARCH:TYPE")]
    ty: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["csv", "markdown"])]
    json: bool,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "markdown")]
    csv: bool,
    /// Print tables for a document
    #[arg(long)]
    markdown: bool,
}

/// Prints it.
///
/// # Errors
/// A name that is none.
pub fn run(args: &Args) -> Result {
    let contracts = match &args.name {
        None => Contract::ALL.to_vec(),
        Some(name) => vec![Contract::named(&name.to_ascii_lowercase()).ok_or_else(|| {
            let names: Vec<_> = Contract::ALL.iter().map(|c| c.name).collect();
            input::unknown("contract", name, &names)
        })?],
    };
    let only = args.ty.as_deref().map(named).transpose()?;
    let types = only.map_or_else(|| MemoryType::ALL.to_vec(), |ty| vec![ty]);
    if args.csv {
        io::stdout().lock().write_all(csv(&contracts, &types).as_bytes())?;
    } else if args.json {
        match (&args.name, only) {
            (None, Some(ty)) => show::json(&OneType::of(ty, &contracts))?,
            (None, None) => show::json(&contracts.iter().map(|c| Shown::of(c, &types)).collect::<Vec<_>>())?,
            (Some(_), _) => {
                for contract in contracts {
                    show::json(&Shown::of(contract, &types))?;
                }
            }
        }
    } else {
        let one = contracts.first().filter(|_| args.name.is_some());
        show::text(&match (one, only, args.markdown) {
            (Some(contract), None, false) => whole(contract),
            (Some(contract), Some(ty), false) => clause_by_clause(contract, ty),
            (Some(contract), _, true) => markdown_clauses(contract),
            (None, Some(ty), false) => one_type(ty),
            (None, Some(ty), true) => markdown_guarantees(ty.arch()),
            (None, None, false) => matrix(),
            (None, None, true) => markdown_matrix(),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn named(name: &str) -> std::result::Result<MemoryType, String> {
    MemoryType::named(&name.to_ascii_lowercase()).ok_or_else(|| {
        let names: Vec<String> = MemoryType::ALL.iter().map(ToString::to_string).collect();
        input::unknown("memory type", name, &names.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

#[derive(Serialize)]
struct Shown {
    name: &'static str,
    title: &'static str,
    summary: &'static str,
    extends: Option<&'static str>,
    clauses: Vec<ShownClause>,
    types: Vec<ShownType>,
}

#[derive(Serialize)]
struct ShownClause {
    id: &'static str,
    kind: &'static str,
    predicate: &'static str,
    question: &'static str,
    says: &'static str,
    source: String,
    checked: &'static str,
}

#[derive(Serialize)]
struct ShownType {
    arch: &'static str,
    #[serde(rename = "type")]
    ty: &'static str,
    verdict: &'static str,
    unverified: bool,
    clauses: Vec<ShownJudgement>,
}

#[derive(Serialize)]
struct ShownJudgement {
    id: &'static str,
    verdict: &'static str,
    standing: Option<&'static str>,
    by: &'static [&'static str],
    note: &'static str,
    source: Option<String>,
    checked: Option<&'static str>,
}

#[derive(Serialize)]
struct OneType {
    arch: &'static str,
    #[serde(rename = "type")]
    ty: &'static str,
    guarantees: Vec<Known>,
    contracts: Vec<OneVerdict>,
}

#[derive(Serialize)]
struct OneVerdict {
    name: &'static str,
    verdict: &'static str,
    unverified: bool,
    unmet: Vec<&'static str>,
}

impl OneType {
    fn of(ty: MemoryType, contracts: &[&'static Contract]) -> Self {
        let contracts = contracts
            .iter()
            .map(|c| OneVerdict {
                name: c.name,
                verdict: c.verdict(ty).name(),
                unverified: c.is_unverified(ty),
                unmet: unmet(c, ty).map(|j| j.clause.id).collect(),
            })
            .collect();
        Self { arch: ty.arch().name(), ty: ty.name(), guarantees: known(ty), contracts }
    }
}

impl Shown {
    fn of(contract: &'static Contract, types: &[MemoryType]) -> Self {
        let clauses = contract
            .clauses()
            .map(|c| ShownClause {
                id: c.id,
                kind: c.predicate.kind(),
                predicate: c.predicate.name(),
                question: c.predicate.question().name(),
                says: c.says,
                source: c.cite.to_string(),
                checked: c.cite.checked.short(),
            })
            .collect();
        let judged = |j: Judgement| ShownJudgement {
            id: j.clause.id,
            verdict: j.verdict.name(),
            standing: j.answer.map(|g| g.standing.name()),
            by: j.answer.map_or(&[], |g| g.by),
            note: j.answer.map_or("", |g| g.note),
            source: j.answer.map(|g| g.cite.to_string()),
            checked: j.answer.map(|g| g.cite.checked.short()),
        };
        let types = types
            .iter()
            .map(|ty| ShownType {
                arch: ty.arch().name(),
                ty: ty.name(),
                verdict: contract.verdict(*ty).name(),
                unverified: contract.is_unverified(*ty),
                clauses: contract.judge(*ty).map(judged).collect(),
            })
            .collect();
        Self {
            name: contract.name,
            title: contract.title,
            summary: contract.summary,
            extends: contract.extends.map(|base| base.name),
            clauses,
            types,
        }
    }
}

fn csv(contracts: &[&'static Contract], types: &[MemoryType]) -> String {
    let mut out = String::from("contract,arch,type,verdict,unverified,unmet\n");
    for contract in contracts {
        for ty in types {
            let ids: Vec<_> = unmet(contract, *ty).map(|j| j.clause.id).collect();
            let _ = writeln!(
                out,
                "{},{},{},{},{},{}",
                contract.name,
                ty.arch(),
                ty.name(),
                contract.verdict(*ty).name(),
                u8::from(contract.is_unverified(*ty)),
                ids.join(" ")
            );
        }
    }
    out
}

fn unmet(contract: &'static Contract, ty: MemoryType) -> impl Iterator<Item = Judgement> {
    contract.judge(ty).filter(|j| j.verdict != Verdict::Satisfied)
}

const fn words(p: Predicate) -> &'static str {
    match p {
        Predicate::May(_) => "either way",
        Predicate::Works(_) => "works if there",
        _ => p.name(),
    }
}

const fn mark(verdict: Verdict) -> (Style, &'static str) {
    match verdict {
        Verdict::Satisfied => (GOOD, "✓"),
        Verdict::Depends => (OPEN, "~"),
        Verdict::Broken => (BAD, "✗"),
    }
}

const LEGEND: &str =
    "✓ satisfied   ~ the implementation or the platform decides   ✗ broken   ? rests on something unverified\n";

fn types_of(arch: Arch) -> impl Iterator<Item = MemoryType> {
    MemoryType::ALL.iter().copied().filter(move |ty| ty.arch() == arch)
}

/// `ioremap-wc` as `-wc`, under the column of `ioremap`.
fn column(name: &str) -> &str {
    name.strip_prefix("ioremap").filter(|rest| !rest.is_empty()).unwrap_or(name)
}

fn matrix() -> String {
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text.trim_end());
        out.push('\n');
    };
    let header: String = Contract::ALL.iter().map(|c| format!("  {}", paint(STRONG, column(c.name)))).collect();
    line(&format!("{:15}{header}", ""));
    for arch in Arch::ALL {
        line(&paint(STRONG, arch.name()).to_string());
        for ty in types_of(arch) {
            let mut cells = String::new();
            for c in Contract::ALL {
                let (style, mark) = mark(c.verdict(ty));
                let doubt = if c.is_unverified(ty) { "?" } else { " " };
                let wide = column(c.name).len().max(2);
                let cell = format!("  {}{doubt}", paint(style, mark));
                let _ = write!(cells, "{cell}{:1$}", "", wide - 2);
            }
            line(&format!("  {:<13}{cells}", paint(show::colour_of(ty), ty.name())));
        }
    }
    format!("{out}\n{}A contract's clauses, and what fails: bartender contract NAME\n", paint(FAINT, LEGEND))
}

fn whole(contract: &'static Contract) -> String {
    let mut out = format!("{}  {}\n", paint(STRONG, contract.name), contract.title);
    out.push_str(&show::wrapped("  ", contract.summary));
    if let Some(base) = contract.extends {
        let _ = writeln!(out, "  It holds what {} says, and:", base.name);
    }
    for (kind, says) in
        [("rely", "what a driver may rely on"), ("tolerate", "what it must tolerate"), ("hope", "what it may hope for")]
    {
        let clauses: Vec<_> = contract.own.iter().filter(|c| c.predicate.kind() == kind).collect();
        if clauses.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n{}", paint(STRONG, says));
        for clause in clauses {
            let text = show::wrapped(&format!("  {:<7} ", clause.id), clause.says);
            let _ =
                write!(out, "  {}{}", paint(STRONG, format!("{:<7}", clause.id)), text.get(9..).unwrap_or_default());
            let p = clause.predicate;
            let _ = writeln!(
                out,
                "          {}",
                paint(FAINT, format!("{}: {}  [{}]", words(p), p.question().name(), clause.cite))
            );
        }
    }
    let _ = writeln!(out, "\n{}", paint(STRONG, "which memory types give it"));
    for arch in Arch::ALL {
        for ty in types_of(arch) {
            out.push_str(&given(contract, ty));
        }
    }
    let _ = write!(out, "\n{}", paint(FAINT, LEGEND));
    out
}

/// A line for a type, and a line for each clause it does not keep.
fn given(contract: &'static Contract, ty: MemoryType) -> String {
    let (style, mark) = mark(contract.verdict(ty));
    let doubt = if contract.is_unverified(ty) { "?" } else { " " };
    let hopes: Vec<_> = contract
        .judge(ty)
        .filter(|j| j.clause.predicate.kind() == "hope")
        .map(|j| {
            let (_, stands) = super::explain::answer::standing(j.answer);
            format!("{} {stands}", j.clause.predicate.question().name())
        })
        .collect();
    let hopes = paint(FAINT, hopes.join(", ")).to_string();
    let name = format!("{:<24}", ty.to_string());
    let mut out = format!("  {}{doubt} {}{hopes}\n", paint(style, mark), paint(show::colour_of(ty), name));
    for j in unmet(contract, ty) {
        out.push_str(&show::wrapped("       ", &format!("{}: {}", j.clause.id, reason(&j))));
    }
    out
}

fn reason(j: &Judgement) -> String {
    let question = j.clause.predicate.question().name();
    match j.answer {
        None => format!("{question}: the architecture has no such operation"),
        Some(g) => {
            let note = if g.note.is_empty() { String::new() } else { format!(" ({})", g.note) };
            format!("{question} is {}{note} [{}]", g.standing.name(), g.cite)
        }
    }
}

fn clause_by_clause(contract: &'static Contract, ty: MemoryType) -> String {
    let (style, word) = match contract.verdict(ty) {
        Verdict::Satisfied => (GOOD, "satisfies"),
        Verdict::Depends => (OPEN, "satisfies, where the implementation says so,"),
        Verdict::Broken => (BAD, "does not satisfy"),
    };
    let mut out =
        format!("{} {} {}\n\n", paint(STRONG, ty.to_string()), paint(style, word), paint(STRONG, contract.name));
    for j in contract.judge(ty) {
        let (style, mark) = if j.clause.predicate.is_relied_on() {
            mark(j.verdict)
        } else {
            (FAINT, if j.can_happen() { "may" } else { "not" })
        };
        let by = j.answer.map_or_else(String::new, |g| {
            if g.by.is_empty() { String::new() } else { format!("; by {}", g.by.join(", ")) }
        });
        let first = format!("  {mark:<3}  {:<7} ", j.clause.id);
        let p = j.clause.predicate;
        let text = show::wrapped(&first, &format!("{}: {}{by}", words(p), reason(&j)));
        let head = format!("  {:<3}  {} ", paint(style, mark), paint(STRONG, format!("{:<7}", j.clause.id)));
        out.push_str(&head);
        out.push_str(text.get(first.len()..).unwrap_or_default());
    }
    out
}

fn one_type(ty: MemoryType) -> String {
    let mut out = format!("{}\n\n{}\n", paint(STRONG, ty.to_string()), paint(STRONG, "contracts"));
    for c in Contract::ALL {
        let (style, mark) = mark(c.verdict(ty));
        let doubt = if c.is_unverified(ty) { "?" } else { " " };
        let ids: Vec<_> = unmet(c, ty).map(|j| j.clause.id).collect();
        let _ = write!(out, "  {}{doubt} ", paint(style, mark));
        let _ = if ids.is_empty() {
            writeln!(out, "{}", c.name)
        } else {
            writeln!(out, "{:<14} {}", c.name, paint(FAINT, ids.join(", ")))
        };
    }
    let _ = writeln!(out, "\n{}", paint(STRONG, "what is promised of it"));
    out.push_str(&guarantees(ty));
    out
}

fn markdown_clauses(contract: &'static Contract) -> String {
    let mut out = String::from("| clause | kind | predicate | what it says | source |\n|---|---|---|---|---|\n");
    for c in contract.own {
        let p = c.predicate;
        let _ = writeln!(
            out,
            "| **{}** | {} | {}: `{}` | {} | {} |",
            c.id,
            p.kind(),
            words(p),
            p.question().name(),
            c.says,
            c.cite
        );
    }
    out
}

fn markdown_matrix() -> String {
    let names: Vec<_> = Contract::ALL.iter().map(|c| format!("`{}`", c.name)).collect();
    let mut out = format!("| memory type | {} |\n|---|{}\n", names.join(" | "), ":-:|".repeat(names.len()));
    for ty in MemoryType::ALL {
        let _ = write!(out, "| `{ty}` |");
        for c in Contract::ALL {
            let ids: Vec<_> = unmet(c, *ty).map(|j| j.clause.id).collect();
            let doubt = if c.is_unverified(*ty) { "?" } else { "" };
            let ids = if ids.is_empty() { String::new() } else { format!(" {}", ids.join(" ")) };
            let _ = write!(out, " {}{doubt}{ids} |", mark(c.verdict(*ty)).1);
        }
        out.push('\n');
    }
    out
}

/// All that is known of an architecture's types: a row a question, a column a type.
fn markdown_guarantees(arch: Arch) -> String {
    let types: Vec<_> = types_of(arch).collect();
    let names: Vec<_> = types.iter().map(|ty| format!("`{}`", ty.name())).collect();
    let mut out = format!("| {} | {} |\n|---|{}\n", arch.name(), names.join(" | "), "---|".repeat(names.len()));
    for q in Question::ALL {
        let _ = write!(out, "| `{}` |", q.name());
        for ty in &types {
            let Some(g) = ty.guarantee(q) else {
                out.push_str(" – |");
                continue;
            };
            let stands = match g.standing {
                Standing::ImplementationDefined => "impl. defined",
                _ => g.standing.name(),
            };
            let by = if g.by.is_empty() { String::new() } else { format!(": {}", g.by.join(", ")) };
            let doubt = if g.cite.checked == memtype::cite::Checked::Unverified { "?" } else { "" };
            let _ = write!(out, " {stands}{doubt}{by} |");
        }
        out.push('\n');
    }
    out
}
