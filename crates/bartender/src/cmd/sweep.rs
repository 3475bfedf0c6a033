//! `bartender sweep`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::el2::{Order, Said};
use lab::Progress;
use memtype::linux::at::Kernel;
use serde::Serialize;

use super::Result;
use crate::el2::El2;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};
use crate::sweep::{self, Outcome, Row};
use crate::{input, linux_at, machine};

const HELP: &str = concat!(
    "A program of our own at EL2 of an emulated machine puts every combination of attributes into a stage-1 and a stage-2
descriptor, translates by AT S12E1R, and reads PAR_EL1: FWB 0 and 1, stage-2 MemAttr and SH, the MAIR byte, stage-1 SH:
131,072 in all. Each is compared with what the architecture says (bartender table arm64 has the same rows). Where the two
differ the reason is known by name; a difference without one makes the exit code 1.

",
    examples![
        "bartender sweep --of linux-7.2" => "what Linux answers a guest hypervisor's AT S12E1R, by its own rules; boots nothing",
    ],
    "
  bartender sweep
      what QEMU's MMU does with each combination, and where the architecture says otherwise; starts QEMU
  bartender sweep --json
      the same for programs
  bartender sweep --cpu neoverse-n1
      a processor without FEAT_S2FWB: 65,536 combinations"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Whose answers: qemu, linux-6.12 or linux-7.2
    #[arg(long, value_name = "WHO", default_value = "qemu")]
    of: String,
    /// For --of qemu: QEMU's name of the processor
    #[arg(long, value_name = "NAME", default_value = machine::CPU)]
    cpu: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// One combination.
#[derive(Serialize)]
struct Example {
    #[serde(flatten)]
    inputs: sweep::Inputs,
    ours: Reported,
    machine: Reported,
}

/// PAR_EL1, in parts.
#[derive(Serialize)]
struct Reported {
    attr: u8,
    sh: u8,
    failed: bool,
    #[serde(rename = "type")]
    ty: &'static str,
}

impl From<&Row> for Example {
    fn from(row: &Row) -> Self {
        let part = |par: ::el2::Par, ty: memtype::arm::Type| Reported {
            attr: par.attr,
            sh: par.sh,
            failed: par.failed,
            ty: ty.name(),
        };
        Self { inputs: row.inputs, ours: part(row.ours, row.combined.ty), machine: part(row.theirs, row.their_type()) }
    }
}

#[derive(Serialize)]
struct Difference {
    class: &'static str,
    part: sweep::Part,
    says: &'static str,
    right: sweep::Right,
    source: &'static str,
    count: usize,
    smallest: Option<Example>,
}

#[derive(Serialize)]
struct Answer {
    machine: String,
    combinations: usize,
    agree: usize,
    known: usize,
    differences: Vec<Difference>,
    unexplained: Vec<Example>,
    seconds: f64,
}

/// Examples shown of what is unexplained.
const SHOWN: usize = 20;

/// Runs it.
///
/// # Errors
/// What is missing to start the machine; a machine that does not come to its end.
pub fn run(args: &Args) -> Result {
    let begun = Instant::now();
    let (outcome, machine, wall) = match args.of.strip_prefix("linux-") {
        None if args.of == "qemu" => on_qemu(args)?,
        release => {
            let kernel = Kernel::ALL.into_iter().find(|k| Some(k.name()) == release);
            let kernel =
                kernel.ok_or_else(|| input::unknown("--of", &args.of, &["qemu", "linux-6.12", "linux-7.2"]))?;
            (linux_at::sweep(kernel), format!("Linux {} (emulated AT S12E1R)", kernel.name()), begun.elapsed())
        }
    };
    if args.json {
        let answer = Answer {
            machine,
            combinations: outcome.combinations,
            agree: outcome.agree,
            known: outcome.known,
            differences: outcome
                .classes
                .iter()
                .map(|(class, count, smallest)| Difference {
                    class: class.name,
                    part: class.part,
                    says: class.says,
                    right: class.right,
                    source: class.source,
                    count: *count,
                    smallest: smallest.as_ref().map(Example::from),
                })
                .collect(),
            unexplained: outcome.unexplained.iter().map(Example::from).collect(),
            seconds: wall.as_secs_f64(),
        };
        show::json(&answer)?;
    } else {
        show::text(&text(&machine, &outcome, wall))?;
    }
    Ok(if outcome.unexplained.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn on_qemu(args: &Args) -> Result<(Outcome, String, Duration)> {
    let progress = if args.json { Progress::silent() } else { Progress::stderr() };
    let el2 = El2::find(&args.cpu, progress)?;
    let started = el2.start(&[Order::Sweep {}], Vec::new(), false)?;
    let swept = |said| match said {
        Said::Swept(swept) => Some(swept),
        _ => None,
    };
    let said: Vec<_> = started.said.into_iter().filter_map(swept).collect();
    let outcome = sweep::judge(&started.about, &said)?;
    Ok((outcome, format!("QEMU {}, processor {}", el2.qemu, el2.cpu), started.wall))
}

fn text(machine: &str, outcome: &Outcome, wall: Duration) -> String {
    let Outcome { combinations, agree, known, classes, unexplained } = outcome;
    let mut out = format!(
        "{} combinations on {machine}, in {wall:.1?}\n  {} as the architecture says\n  {} otherwise, as known\n",
        paint(STRONG, combinations),
        paint(GOOD, format!("{agree:>6}")),
        paint(OPEN, format!("{known:>6}")),
    );
    if !unexplained.is_empty() {
        let _ = writeln!(out, "  {} otherwise, and nobody knows why", paint(BAD, format!("{:>6}", unexplained.len())));
    }
    for (class, count, smallest) in classes.iter().filter(|(_, count, _)| *count > 0) {
        let _ = writeln!(out, "\n{} {}", paint(STRONG, class.name), paint(FAINT, format!("({count})")));
        out.push_str(&show::wrapped("  ", class.says));
        let _ = writeln!(out, "  {:<10}{}", "right:", class.right.says());
        out.push_str(&show::wrapped("  source:   ", class.source));
        if let Some(row) = smallest {
            out.push_str(&example(row));
        }
    }
    for row in unexplained.iter().take(SHOWN) {
        out.push_str(&example(row));
    }
    out
}

/// One combination, as a command that explains it and what either side says.
fn example(row: &Row) -> String {
    let Row { inputs, ours, theirs, .. } = row;
    let fwb = if inputs.fwb { " --fwb" } else { "" };
    let sh = |bits| ["nsh", "0b01", "osh", "ish"][usize::from(bits & 3)];
    let said = |par: &::el2::Par, ty: memtype::arm::Type| {
        if par.failed { "failed".into() } else { format!("ATTR {:#04x} SH {} {ty}", par.attr, sh(par.sh)) }
    };
    format!(
        "  smallest: bartender explain mair={:#04x} memattr={:#06b}{fwb} --s1-sh {} --s2-sh {}\n            \
         architecture {}, machine {}\n",
        inputs.s1_attr,
        inputs.s2_memattr,
        sh(inputs.s1_sh),
        sh(inputs.s2_sh),
        said(ours, row.combined.ty),
        said(theirs, row.their_type()),
    )
}
