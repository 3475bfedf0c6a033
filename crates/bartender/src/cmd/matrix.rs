//! `bartender matrix`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::Style;
use hyp::Policy;
use model::Is;

use super::Result;
use super::run::{On, policy_named};
use crate::machine::{self, LabRun, on_lab, on_model};
use crate::matrix::{ANSWERS, Agreement, Cell, Matrix, Ran, THREADS, glyph, thread_name};
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};
use crate::verdict::ASKED;
use crate::{el2, page, suite};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mCells:\u{1b}[0m
  Three glyphs, the model's verdict: ✓ yes, ~ maybe, ✗ no, · not asked.
  works: every outcome the architecture allows is that of the same program on a flawless machine without a hypervisor
  fast:  a guest that asks for gathering needs no more write transactions than there
  safe:  no guest, whatever it does with these BARs under this policy, does harm
  With more machines a fourth: = they agree, ≈ they do as a finding says (docs/findings.md), ≠ they differ, – they
  cannot show it. ! is an expectation that is not met.
  A real kernel has one policy, and a mark in its column alone. The exit code is 1 where there is ≠ or !.

\u{1b}[1m\u{1b}[4mJSON:\u{1b}[0m
  an object: version, machines, policies (each with rule and the counts of works, fast and safe), scenarios (each with
  its cells: works, fast, safe, each with is and because; mapped, what VFIO and KVM make of each BAR and why; model and
  machines, rows as `bartender run` has them)

",
    examples![
        "bartender matrix" => "every scenario of the folder scenarios under every policy, on the model",
        "bartender matrix scenarios --policy linux-6.1 --policy linux-6.9" => "two policies",
        "bartender matrix scenarios --json" => "all of it, for programs",
        "bartender matrix --html -" => "all of it as one page, to stdout",
    ],
    "
  bartender matrix --on el2 --on lab:6.1 --on lab:7.2 --html matrix.html
      the page, with what the machines saw"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Scenario files, or folders of them; the folder `scenarios` where none is named
    #[arg(value_name = "SCENARIO|FOLDER")]
    paths: Vec<PathBuf>,
    /// A policy; may be repeated. All of them where none is named
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    /// A machine beside the model: el2 or lab:KERNEL, as `bartender run` has them; may be repeated
    #[arg(long, value_name = "MACHINE")]
    on: Vec<String>,
    /// For --on el2 and lab: QEMU's name of the processor; neoverse-n1 has no FEAT_S2FWB
    #[arg(long, value_name = "NAME", default_value = machine::CPU)]
    cpu: String,
    /// Write the page to this file; - is stdout
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where scenarios are looked for when none is named.
const FOLDER: &str = "scenarios";

/// Runs it.
///
/// # Errors
/// Bad input: no scenario, one that does not parse, an unknown machine or policy, a machine that cannot be had, a page that
/// cannot be written.
pub fn run(args: &Args) -> Result {
    let page_to_stdout = args.html.as_deref() == Some(Path::new("-"));
    if page_to_stdout && args.json {
        return Err("--html - and --json both go to stdout: name a file for one of them".to_owned().into());
    }
    let policies = policies(&args.policy)?;
    let mut on: Vec<On> = Vec::new();
    for name in &args.on {
        let machine = name.parse()?;
        if machine == On::Kvm {
            return Err("--on kvm: this host is no part of a matrix; use `bartender run --on kvm`".to_owned().into());
        }
        if !on.contains(&machine) {
            on.push(machine);
        }
    }
    let paths = if args.paths.is_empty() { vec![default_folder()?] } else { args.paths.clone() };
    let cases = suite::load(&paths)?;

    let mut rows = on_model(&cases, &policies);
    let mut machines = vec![Ran { machine: "model".into(), about: "DDI 0487 M.a.a, in this program".into() }];
    let mut troubles = Vec::new();
    for on in on {
        match on {
            On::Model | On::Kvm => {}
            On::El2 => {
                let arm: Vec<Policy> = policies.iter().copied().filter(|p| p.is_arm()).collect();
                let ran = el2::run(&cases, &arm, &args.cpu, lab::Progress::stderr())?;
                let about = format!("this program's hypervisor at EL2, in QEMU {}, processor {}", ran.qemu, args.cpu);
                machines.push(Ran { machine: el2::MACHINE.into(), about });
                rows.extend(ran.rows);
            }
            On::Lab(series) => {
                let LabRun { about, rows: seen, trouble, .. } = on_lab(&cases, None, series, &args.cpu)?;
                let about = about.map_or_else(
                    || "said nothing of itself".into(),
                    |a| format!("Linux {}, KVM in QEMU, processor {}, FWB {}", a.release, args.cpu, u8::from(a.fwb)),
                );
                machines.push(Ran { machine: format!("lab:{series}"), about });
                troubles.extend(trouble);
                rows.extend(seen);
            }
        }
    }
    // The row of a machine under a policy that was not asked for has no cell.
    let matrix = Matrix::new(&cases, &policies, machines, rows);

    match &args.html {
        Some(_) if page_to_stdout => show::text(&page::page(&matrix))?,
        Some(file) => std::fs::write(file, page::page(&matrix))
            .map_err(|e| format!("cannot write the page to {}: {e}", file.display()))?,
        None => {}
    }
    if args.json {
        show::json(&matrix)?;
    } else if !page_to_stdout {
        show::text(&text(&matrix))?;
    }
    for trouble in &troubles {
        show::error(trouble);
    }
    Ok(if matrix.holds() && troubles.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn policies(names: &[String]) -> std::result::Result<Vec<Policy>, String> {
    let mut asked = Vec::new();
    for name in names {
        if name == "all" {
            return Ok(Policy::ALL.to_vec());
        }
        asked.push(policy_named(name)?);
    }
    // In the order of their proposal, however they were named.
    Ok(Policy::ALL.into_iter().filter(|p| asked.is_empty() || asked.contains(p)).collect())
}

fn default_folder() -> std::result::Result<PathBuf, String> {
    let folder = PathBuf::from(FOLDER);
    if folder.is_dir() {
        return Ok(folder);
    }
    Err(format!(
        "there is no folder `{FOLDER}` here\nname scenario files, or folders of them: bartender matrix PATH..."
    ))
}

/// A policy's name on two short lines.
const fn head(policy: Policy) -> [&'static str; 2] {
    match policy {
        Policy::Linux6_1 => ["linux", "6.1"],
        Policy::Prefetchable => ["prefetch-", "able"],
        Policy::Vga => ["", "vga"],
        Policy::FollowVma => ["follow-", "vma"],
        Policy::Subregions => ["sub-", "regions"],
        Policy::Linux6_9 => ["linux", "6.9"],
        Policy::Linux6_17 => ["linux", "6.17"],
        Policy::Firmware => ["firm-", "ware"],
        Policy::X86Ept => ["x86-", "ept"],
    }
}

/// Columns of the table, at most.
const COLUMNS: usize = 120;
/// How many of those that do not hold are told of, at most.
const TOLD: usize = 12;
/// Between two columns.
const GAP: &str = "  ";

const fn style(is: Is) -> Style {
    match is {
        Is::Yes => GOOD,
        Is::Maybe => OPEN,
        Is::No => BAD,
        Is::NotAsked => FAINT,
    }
}

/// Four glyphs, coloured; as wide as four characters.
fn glyphs(cell: &Cell) -> String {
    let mut out = String::new();
    for is in cell.answers() {
        let _ = write!(out, "{}", paint(style(is), glyph(is)));
    }
    let mark = cell.mark();
    let style = match (cell.is_met(), cell.agreement()) {
        (true, Agreement::Agree) => GOOD,
        (true, Agreement::Finding) => OPEN,
        (true, Agreement::NotAsked | Agreement::Cannot) => FAINT,
        (false, _) | (_, Agreement::Differ) => BAD,
    };
    if mark == ' ' {
        out.push(mark);
    } else {
        let _ = write!(out, "{}", paint(style, mark));
    }
    out
}

/// A name that may come from a hostile file, in at most so many columns.
fn tame(name: &str, most: usize) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().count() <= most {
        return name;
    }
    let mut short: String = name.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn text(matrix: &Matrix) -> String {
    let widths: Vec<usize> = matrix
        .policies
        .iter()
        .map(|c| {
            let counts = c.counts().map(|n| format!("{}/{}", n.yes, n.asked()).len());
            let heads = head(c.is).map(str::len);
            heads.into_iter().chain(counts).fold(4, usize::max)
        })
        .collect();
    let all: usize = widths.iter().map(|w| w + GAP.len()).sum();
    let longest = matrix.scenarios.iter().map(|l| l.scenario.chars().count() + 2).max().unwrap_or(0);
    let first = longest.clamp("architecture".len(), COLUMNS.saturating_sub(all).max("architecture".len()));

    let mut out = String::new();
    for line in 0..2 {
        let name = if line == 1 { "scenario" } else { "" };
        let mut text = format!("{:first$}", paint(FAINT, name));
        for (c, width) in matrix.policies.iter().zip(&widths) {
            let _ = write!(text, "{GAP}{:width$}", paint(FAINT, head(c.is)[line]));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    for (thread, lines) in matrix.groups() {
        let _ = writeln!(out, "{}", paint(STRONG, thread_name(thread)));
        for line in lines {
            let mut text = format!("  {:<1$}", tame(&line.scenario, first - 2), first - 2);
            for (cell, width) in line.cells.iter().zip(&widths) {
                let _ = write!(text, "{GAP}{}{:2$}", glyphs(cell), "", width - 4);
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
    }
    let _ = writeln!(out, "{}", paint(STRONG, "yes, of those that ask"));
    for (i, asked) in ASKED.into_iter().enumerate() {
        let mut text = format!("  {asked:<0$}", first - 2);
        for (c, width) in matrix.policies.iter().zip(&widths) {
            let count = c.counts()[i];
            let _ = write!(text, "{GAP}{:<width$}", format!("{}/{}", count.yes, count.asked()));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out.push('\n');
    out.push_str(&legend(matrix));
    out
}

fn legend(matrix: &Matrix) -> String {
    let mut out = String::from("Each cell: works, fast, safe.");
    for is in ANSWERS {
        let _ = write!(out, "  {} {}", paint(style(is), glyph(is)), is.name());
    }
    out.push('\n');
    if matrix.machines.len() > 1 {
        let _ = write!(out, "The fourth: the machines");
        for (style, a, says) in [
            (GOOD, Agreement::Agree, "agree"),
            (OPEN, Agreement::Finding, "do as a finding says"),
            (BAD, Agreement::Differ, "differ"),
            (FAINT, Agreement::Cannot, "cannot show it"),
        ] {
            let _ = write!(out, "  {} {says}", paint(style, a.glyph()));
        }
        out.push('\n');
        for ran in matrix.machines.iter().skip(1) {
            let _ = writeln!(out, "  {}: {}", ran.machine, ran.about);
        }
    }
    let mut told: Vec<&str> = Vec::new();
    for departs in matrix.cells().flat_map(|c| &c.machines).filter_map(|r| r.departs.as_ref()) {
        if !told.contains(&departs.finding) {
            told.push(departs.finding);
            out.push_str(&show::wrapped("≈ ", &format!("{}: {}", departs.finding, departs.says)));
        }
    }
    for (number, name) in THREADS {
        if matrix.scenarios.iter().any(|l| l.threads.first() == Some(&number)) {
            let _ = writeln!(out, "{}: {name}", thread_name(Some(number)));
        }
    }
    let wrong: Vec<&Cell> = matrix.cells().filter(|c| !c.is_met() || c.agreement() == Agreement::Differ).collect();
    for cell in wrong.iter().take(TOLD) {
        let row = cell.machines.iter().find(|r| Agreement::of(r) == Agreement::Differ);
        let row = if cell.is_met() { row.unwrap_or(&cell.model) } else { &cell.model };
        let name = tame(&row.scenario, COLUMNS);
        let _ = writeln!(out, "\n{} {} {}", paint(BAD, if cell.is_met() { "≠" } else { "!" }), paint(STRONG, name), {
            paint(FAINT, format!("{} on {}", row.policy, row.machine))
        });
        for line in row.why.as_deref().unwrap_or("no reason given").lines() {
            let _ = writeln!(out, "  {}", paint(BAD, tame(line, usize::MAX)));
        }
    }
    if wrong.len() > TOLD {
        let _ = writeln!(out, "\nand {} more: --json has them all", wrong.len() - TOLD);
    }
    if !wrong.is_empty() {
        let _ = writeln!(
            out,
            "\n{}",
            paint(BAD, format!("{} of {} cells do not hold", wrong.len(), matrix.cells().count()))
        );
    }
    out
}
