//! `bartender run`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Instant;

use hyp::Policy;
use lab::Series;
use vmm::Bdf;

use super::Result;
use crate::el2;
use crate::machine::{self, LabRun, on_kvm, on_lab, on_model};
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};
use crate::verdict::{ASKED, Row, Verdict, answers};
use crate::{input, suite};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mMachines:\u{1b}[0m
  model       in this process, needs nothing; the verdict is met when the outcomes the architecture allows are
              those the scenario expects, no more and no less
  el2         our own hypervisor at EL2 of an emulated machine: stage-2 tables and guests on an MMU that is not ours
  lab:KERNEL  a real Linux kernel with KVM and VFIO, in an emulated server that is booted for it: lab:6.1, lab:6.12,
              lab:7.2, lab:newest; see `bartender lab --help`
  kvm         KVM and VFIO on this host, with devices given by --device; it writes to their BARs
              On a real machine the verdict is met when what came out is expected, and is what the model predicts;
              or where it departs from the architecture as a finding says (docs/findings.md), to the bit: marked ≈

\u{1b}[1m\u{1b}[4mJSON:\u{1b}[0m
  an array with one object a row: scenario, title, policy, machine, outcome, expected (the outcomes allowed), verdict
  (met, unmet or cannot, then why), stage (1 or 2), esr and far of a fault, registers, choice (where the architecture
  leaves one: every outcome it allows), departs (where the machine does, as a finding says), because; and of the policy
  for this scenario, by the model: works, fast, safe (each with is: yes, maybe, no, not asked; and because)

",
    examples![
        "bartender run scenarios" => "every scenario under every policy, on the model",
        "bartender run scenarios/thread-002-unaligned-copy.toml --explain" => "one scenario, and why it comes out so",
        "bartender run scenarios --policy linux-6.9 --json" => "one policy, for programs",
    ],
    "
  bartender run scenarios --on el2
      every policy but x86-ept, executed by the same code at EL2, and whether the MMU agrees with the model
  bartender run scenarios --on lab:6.1
      the same scenarios on a real Linux 6.1, and whether it agrees with the model"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Scenario files, or folders of them
    #[arg(required = true, value_name = "SCENARIO|FOLDER")]
    paths: Vec<PathBuf>,
    /// The machine: model, el2, lab:KERNEL or kvm
    #[arg(long, value_name = "MACHINE", default_value = "model")]
    on: String,
    /// The policy: a name, or all. On a real kernel the default is the policy of its version, on the model all, on
    /// el2 all but x86-ept
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// For --on kvm: a PCI device bound to vfio-pci whose BARs may be written to, as 0000:01:00.0; may be repeated
    #[arg(long, value_name = "BDF")]
    device: Vec<String>,
    /// For --on lab and el2: QEMU's name of the processor; neoverse-n1 has no FEAT_S2FWB
    #[arg(long, value_name = "NAME", default_value = machine::CPU)]
    cpu: String,
    /// Say of every row why it comes out so
    #[arg(long)]
    explain: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Args {
    /// The same on this kernel in the lab.
    pub(crate) fn on_lab(mut self, kernel: &str) -> Self {
        self.on = format!("lab:{kernel}");
        self
    }
}

/// A machine by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// In this process.
    Model,
    /// On this host.
    Kvm,
    /// Our own hypervisor at EL2 of an emulated machine.
    El2,
    /// In an emulated server with this kernel.
    Lab(Series),
}

impl FromStr for On {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.strip_prefix("lab:")) {
            ("model", _) => Ok(Self::Model),
            ("kvm", _) => Ok(Self::Kvm),
            ("el2", _) => Ok(Self::El2),
            (_, Some(kernel)) => kernel.parse().map(Self::Lab).map_err(|e: lab::Error| format!("--on {text}: {e}")),
            _ => Err(input::unknown(
                "--on",
                text,
                &["model", "el2", "kvm", "lab:6.1", "lab:6.12", "lab:7.2", "lab:newest"],
            )),
        }
    }
}

pub(crate) fn policy_named(name: &str) -> std::result::Result<Policy, String> {
    Policy::named(name).ok_or_else(|| {
        let names: Vec<&str> = Policy::ALL.iter().map(|p| p.name()).chain(["all"]).collect();
        input::unknown("--policy", name, &names)
    })
}

/// Runs it.
///
/// # Errors
/// Bad input: no scenario, one that does not parse, an unknown machine or policy, a machine that cannot be had.
pub fn run(args: &Args) -> Result {
    let on: On = args.on.parse()?;
    let policy = match args.policy.as_deref() {
        None | Some("all") => None,
        Some(name) => Some(policy_named(name)?),
    };
    if on != On::Kvm && !args.device.is_empty() {
        return Err(format!("--device is for --on kvm, this is --on {}", args.on).into());
    }
    let cases = suite::load(&args.paths)?;
    let begun = Instant::now();
    let mut foot = String::new();
    let mut trouble = None;
    let rows = match on {
        On::Model => {
            let policies = policy.map_or_else(|| Policy::ALL.to_vec(), |p| vec![p]);
            let rows = on_model(&cases, &policies);
            let _ = write!(foot, " in {:.0?}", begun.elapsed());
            rows
        }
        On::Kvm => {
            let devices = args
                .device
                .iter()
                .map(|d| d.parse::<Bdf>().map_err(|e| format!("{d:?} is {e}")))
                .collect::<std::result::Result<Vec<_>, _>>()?;
            let (about, rows) = on_kvm(&cases, policy, &devices)?;
            let _ =
                write!(foot, " on Linux {}, FWB {}, in {:.1?}", about.release, u8::from(about.fwb), begun.elapsed());
            rows
        }
        On::El2 => {
            let policies = policy.map_or_else(|| Policy::ARM.to_vec(), |p| vec![p]);
            let ran = el2::run(&cases, &policies, &args.cpu, lab::Progress::stderr())?;
            let starts = if ran.starts == 1 { "1 start" } else { &format!("{} starts", ran.starts) };
            let _ = write!(foot, " at EL2 under QEMU {}, {starts}, {:.1?} in all", ran.qemu, ran.wall);
            ran.rows
        }
        On::Lab(series) => {
            let LabRun { about, rows, wall, trouble: t } = on_lab(&cases, policy, series, &args.cpu)?;
            if let Some(about) = about {
                let _ = write!(foot, " on Linux {}, FWB {}", about.release, u8::from(about.fwb));
            }
            if let Some(wall) = wall {
                let _ = write!(foot, "; {wall:.1?} from QEMU's start to power-off");
            }
            trouble = t;
            rows
        }
    };
    let unmet = rows.iter().filter(|r| r.verdict == Verdict::Unmet).count();
    if args.json {
        show::json(&rows)?;
    } else {
        show::text(&listed(&rows, args.explain))?;
        let cannot = rows.iter().filter(|r| r.verdict == Verdict::Cannot).count();
        let met = rows.len() - unmet - cannot;
        let what = if on == On::Model { "expectations met" } else { "as expected, and as the model predicts" };
        let style = if unmet == 0 { GOOD } else { BAD };
        let departs = rows.iter().filter(|r| r.departs.is_some()).count();
        let what = if departs == 0 {
            what.to_owned()
        } else {
            format!("{what}; {departs} of them where the emulator departs from the architecture, as known;")
        };
        let foot = if cannot == 0 { foot } else { format!("{foot}; {cannot} more cannot be shown there (--explain)") };
        show::text(&format!("\n{} {what}{foot}\n", paint(style, format!("{met} of {}", rows.len() - cannot))))?;
    }
    if let Some(trouble) = &trouble {
        show::error(trouble);
    }
    Ok(if unmet == 0 && trouble.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A line for each scenario and outcome, with the policies under which it comes out; then what there is to say of those unmet,
/// or, asked to explain, of all.
fn listed(rows: &[Row], explain: bool) -> String {
    // Neighbours in a group are of one scenario and look alike.
    let mut groups: Vec<(&Row, String, Vec<String>)> = Vec::new();
    for row in rows {
        let (text, head) = (cell(row), head((row.policy, &row.machine)));
        let alike = |(r, t, _): &&mut (&Row, String, Vec<String>)| {
            r.scenario == row.scenario && *t == text && mark(r).0 == mark(row).0
        };
        match groups.iter_mut().find(alike) {
            Some((_, _, heads)) => heads.push(head),
            None => groups.push((row, text, vec![head])),
        }
    }
    groups.sort_by(|a, b| a.0.scenario.cmp(&b.0.scenario));
    let all: BTreeSet<String> = rows.iter().map(|row| head((row.policy, &row.machine))).collect();
    let first = groups.iter().map(|g| g.0.scenario.chars().count()).max().unwrap_or(0);
    let second = groups.iter().map(|g| g.1.chars().count()).max().unwrap_or(0);

    let mut out = String::new();
    let mut before = "";
    for (row, text, heads) in &groups {
        let name = if row.scenario == before { "" } else { &row.scenario };
        before = &row.scenario;
        let (mark, style) = mark(row);
        let fault = if row.stage.is_some() { OPEN } else { anstyle::Style::new() };
        let others: Vec<&str> = all.iter().filter(|h| !heads.contains(h)).map(String::as_str).collect();
        let heads = match others.as_slice() {
            [] if heads.len() > 1 => "all".into(),
            [_] | [_, _] if heads.len() > 3 => format!("all but {}", others.join(" ")),
            _ => heads.join(" "),
        };
        let _ = write!(out, "{name:first$}  {} {:second$}  ", paint(style, mark), paint(fault, text));
        // What follows the outcome is broken below itself.
        let indent = first + second + 6;
        let room = 100usize.saturating_sub(indent).max(30);
        let mut column = 0;
        for word in heads.split(' ') {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > room {
                let _ = write!(out, "\n{:indent$}", "");
                column = 0;
            } else if column > 0 {
                out.push(' ');
                column += 1;
            }
            let _ = write!(out, "{}", paint(FAINT, word));
            column += length;
        }
        out.push('\n');
    }
    let mut told: Vec<&str> = Vec::new();
    for d in rows.iter().filter_map(|r| r.departs.as_ref()) {
        if !told.contains(&d.finding) {
            told.push(d.finding);
            out.push('\n');
            out.push_str(&show::wrapped("≈ ", &format!("{}: {}", d.finding, d.says)));
        }
    }
    for row in rows {
        if row.verdict == Verdict::Unmet || explain {
            out.push('\n');
            out.push_str(&details(row));
        }
    }
    out
}

fn mark(row: &Row) -> (&'static str, anstyle::Style) {
    match row.verdict {
        Verdict::Met if row.departs.is_some() => ("≈", OPEN),
        Verdict::Met => ("✓", GOOD),
        Verdict::Unmet => ("✗", BAD),
        Verdict::Cannot => ("–", FAINT),
    }
}

fn head((policy, machine): (&str, &str)) -> String {
    if matches!(machine, "model" | el2::MACHINE) { policy.into() } else { format!("{machine} ({policy})") }
}

fn cell(row: &Row) -> String {
    if row.verdict == Verdict::Cannot {
        return "cannot be shown".into();
    }
    if let Some(d) = &row.departs {
        return format!("{} ({})", row.outcome, d.finding);
    }
    match row.choice.len() {
        0 | 1 => row.outcome.clone(),
        n => format!("{} (or {} other)", row.outcome, n - 1),
    }
}

fn details(row: &Row) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} {}", paint(STRONG, &row.scenario), paint(FAINT, head((row.policy, &row.machine))));
    let _ = writeln!(out, "  {}", row.title);
    let mut said = row.outcome.clone();
    for (name, value) in [("esr", row.esr), ("far", row.far), ("ipa", row.ipa)] {
        if let Some(value) = value {
            let _ = write!(said, " {name}={value}");
        }
    }
    for (name, value) in &row.registers {
        let _ = write!(said, " {name}={value}");
    }
    let _ = writeln!(out, "  {:<9}{said}", "came out");
    for (i, e) in row.expected.iter().enumerate() {
        let _ = writeln!(out, "  {:<9}{e}", if i == 0 { "expected" } else { "or" });
    }
    if let Some(why) = &row.why {
        for line in why.lines() {
            let _ = writeln!(out, "  {}", paint(BAD, line));
        }
    }
    for sentence in row.because.iter().map(String::as_str).chain(row.choices.iter().copied()) {
        out.push_str(&show::wrapped("  - ", sentence));
    }
    for (asked, answer) in row.judged.iter().flat_map(|j| ASKED.into_iter().zip(answers(j))) {
        let _ = writeln!(out, "  {asked:<9}{}", answer.is.name());
        for why in &answer.because {
            out.push_str(&show::wrapped("           ", why));
        }
    }
    out
}
