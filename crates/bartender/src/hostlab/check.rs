//! `bartender lab check`: emulated hosts with a device of each kind, what `inspect` predicts of them beside what `probe`
//! finds, and what happens to mappings when processes are killed and devices are taken away.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use lab::script::{self, Line, Step};
use lab::{Arch, Played, Progress, Series};
use serde::Serialize;

use super::compare::{self, Row, Same};
use super::{Machine, Ready, devices};
use crate::cmd::Result;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

/// The hosts that are checked if none is named.
pub const USUAL: [&str; 5] = ["6.1", "6.12", "7.2", "acpi-6.12", "x86-6.12"];

/// Each kind twice: bound to vfio-pci, and to nothing. Some are behind a port of their own: they can be taken away, and what
/// is behind a bridge has windows.
const DEVICES: [&str; 8] = [
    "ivshmem",
    "edu",
    "nvme,port",
    "display",
    "ivshmem,unbound,port,name=ivshmem-off",
    "edu,unbound,name=edu-off",
    "nvme,unbound,port,name=nvme-off",
    "display,unbound,port,name=display-off",
];

const PREDICTED: &str = include_str!("../../tests/hosts/predicted.lab");
const FLOWS: &str = include_str!("../../tests/hosts/flows.lab");
const ARM64: &str = include_str!("../../tests/hosts/arm64.lab");
const X86: &str = include_str!("../../tests/hosts/x86.lab");
const UNPLUG: &str = include_str!("../../tests/hosts/unplug.lab");
const DEAF: &str = include_str!("../../tests/hosts/deaf.lab");
/// A VM that is planned for: of devices at the addresses that they have in every host.
const VM: (&str, &str) = ("vm.toml", include_str!("../../../plan/tests/vms/emulated.toml"));
/// A scenario that a host runs on its own KVM: what a guest gets, beside what is predicted of stage 2.
const SCENARIO: (&str, &str) = ("unaligned.toml", include_str!("../../../../scenarios/unaligned-normal-nc.toml"));

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Hosts: 6.12, acpi-6.12, x86-6.12; none: 6.1, 6.12, 7.2, acpi-6.12 and x86-6.12
    #[arg(value_name = "KERNEL")]
    machines: Vec<Machine>,
    /// Show what every command printed
    #[arg(long)]
    all: bool,
    /// Keep what `inspect --save` wrote in each host: FOLDER/arm64-6.12/snapshot.json
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The help's last part.
pub const HELP: &str = "\
Each host has an ivshmem, an edu, an NVMe controller with a controller memory buffer, and a display with a prefetchable
frame buffer, bound to vfio-pci, and the same again bound to nothing. What `inspect` says of every way to map each BAR is
compared with what `probe` finds: on arm64 by an unaligned load, on x86 by the kernel's PAT memtype list. Then processes
share a BAR and are killed, and devices are taken away while they are mapped. The steps are in
crates/bartender/tests/hosts. The exit code is 1 if anything differs.

  bartender lab check 6.12
      one host
  bartender lab check --save crates/host/tests/fixtures
      five: device tree and ACPI, Linux 6.1 to 7.2, and an emulated PC; their snapshots are kept";

/// A host that was checked.
#[derive(Debug, Serialize)]
struct Checked {
    host: String,
    rows: Vec<Row>,
    #[serde(flatten)]
    played: Played,
}

impl Checked {
    fn holds(&self) -> bool {
        self.played.holds() && !self.rows.is_empty() && !self.rows.iter().any(|row| matches!(row.same, Same::No(_)))
    }
}

/// What is done there.
fn lines(machine: Machine, names: &[&str]) -> std::result::Result<Vec<Line>, String> {
    let more = match machine.series.arch() {
        Arch::Arm64 => ("arm64.lab", ARM64),
        Arch::Amd64 => ("x86.lab", X86),
    };
    let mut all = Vec::new();
    // A finding: see the file.
    let shares = machine.series.arch() == Arch::Arm64 && !machine.acpi;
    let deaf = shares && [Series::new(6, 1), Series::new(6, 12)].contains(&machine.series);
    let unplug = if deaf { ("deaf.lab", DEAF) } else { ("unplug.lab", UNPLUG) };
    // What `plan` says of a VM there; that a guest then gets it is shown by the scenario that runs on the host's own KVM.
    let (exit, stage2) = match machine.series.arch() {
        Arch::Arm64 if machine.series == Series::new(6, 1) => (1, "Device-nGnRE (MemAttr 0b0001)"),
        Arch::Arm64 => (0, "Normal-NC (MemAttr 0b0101)"),
        Arch::Amd64 => (0, "NPT WB under an MTRR of UC"),
    };
    let plan = format!(
        "@title a VM with two of the devices\nplan {{files}}/{}\n@expect-exit {exit}\n@expect {stage2}\n",
        VM.0
    );
    for (file, text) in [("predicted.lab", PREDICTED), ("plan", &plan), more, ("flows.lab", FLOWS), unplug] {
        all.extend(script::parse(text, names).map_err(|why| format!("{file}: {why}"))?);
    }
    Ok(all)
}

fn one(machine: Machine, ready: &Ready) -> std::result::Result<Checked, String> {
    let devices = devices(&DEVICES)?;
    let names: Vec<&str> = devices.iter().map(|(plugged, _)| plugged.id.as_str()).collect();
    let lines = lines(machine, &names)?;
    let mut session = ready.session(devices, lines);
    // Much of it is waiting for buttons; a machine that is busy may take its time.
    session.limit = Duration::from_secs(300);
    session.files = [SCENARIO, VM].map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).to_vec();
    let mut played = session.run(&ready.cache, &mut |_, _| {}).map_err(|e| e.to_string())?;
    let places: Vec<_> = played.devices.iter().map(|found| (found.id.clone(), found.bdf.clone())).collect();
    let rows = compare::rows(&places, &played.lines);
    // What a probe came to is judged by its row: where nothing can be mapped it ends with 1, and that may be predicted.
    for judged in &mut played.lines {
        let probe =
            matches!(&judged.line.step, Step::Run { words, .. } if words.first().is_some_and(|word| word == "probe"));
        if probe && judged.ran.as_ref().is_some_and(|ran| ran.failed.is_none() && matches!(ran.exit, Some(0 | 1))) {
            judged.wrong = None;
        }
    }
    Ok(Checked { host: machine.to_string(), rows, played })
}

/// Runs it.
///
/// # Errors
/// What is missing to boot.
pub fn run(args: &Args) -> Result {
    let mut machines = args.machines.clone();
    if machines.is_empty() {
        machines = USUAL
            .iter()
            .map(|name| name.parse())
            .collect::<std::result::Result<_, _>>()
            .map_err(|e: lab::Error| e.to_string())?;
    }
    let progress = Progress::stderr();
    let ready: Vec<_> =
        machines.iter().map(|machine| Ok((*machine, Ready::of(*machine, progress)?))).collect::<Result<_>>()?;
    let watch = progress.watch(format!("{} emulated hosts", ready.len()));
    let checked = at_once(&ready, |(machine, ready)| one(*machine, ready));
    drop(watch);
    let checked: Vec<Checked> = checked.into_iter().collect::<std::result::Result<_, _>>()?;
    if let Some(folder) = &args.save {
        for ((machine, _), one) in ready.iter().zip(&checked) {
            let arch = if machine.series.arch() == Arch::Arm64 { "arm64-" } else { "" };
            super::bring_back(&one.played, &folder.join(format!("{arch}{machine}")))?;
        }
    }
    if args.json {
        show::json(&checked)?;
    } else {
        show::text(&checked.iter().map(|one| text(one, args.all)).collect::<String>())?;
    }
    Ok(if checked.iter().all(Checked::holds) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Does something with each, as many at once as there are processors; much of it is waiting.
fn at_once<T: Sync, U: Send>(all: &[T], of: impl Fn(&T) -> U + Sync) -> Vec<U> {
    let next = Mutex::new(all.iter().enumerate());
    let done = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from).min(all.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().ok().and_then(|mut next| next.next());
                    let Some((index, one)) = taken else { break };
                    let came = of(one);
                    if let Ok(mut done) = done.lock() {
                        done.push((index, came));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, came)| came).collect()
}

fn text(checked: &Checked, all: bool) -> String {
    let mut out = String::new();
    let Checked { host, rows, played } = checked;
    let seconds = played.seconds.map_or_else(String::new, |s| format!(", {s:.1} s"));
    let _ = writeln!(out, "{}", paint(STRONG, format!("{host}: Linux {}{seconds}", played.release)));
    let _ = writeln!(
        out,
        "{}",
        paint(FAINT, format!("  {:<12} {:<4}{:<20} {:<14} found", "device", "BAR", "way", "predicted"))
    );
    for row in rows {
        let ty = row.predicted.as_deref().unwrap_or("cannot be had");
        let ty = ty.split_once(':').map_or(ty, |(_, ty)| ty);
        let (mark, why) = match &row.same {
            Same::Yes => (paint(GOOD, "same"), String::new()),
            Same::Open(why) => (paint(OPEN, "open"), why.clone()),
            Same::No(why) => (paint(BAD, "differs"), why.clone()),
        };
        let _ = writeln!(out, "  {:<12} {:<4}{:<20} {ty:<14} {:<24} {mark}", row.device, row.bar, row.way, row.found);
        if !why.is_empty() {
            out.push_str(&show::wrapped("      ", &why));
        }
    }
    if all {
        out.push_str(&super::text(played));
    } else {
        for judged in &played.lines {
            if let Some(why) = &judged.wrong {
                let _ = writeln!(out, "{} {}  {}", paint(FAINT, ">"), judged.line.text, paint(BAD, why));
                for line in judged.ran.iter().flat_map(|ran| ran.out.lines().chain(ran.err.lines())).take(20) {
                    let _ = writeln!(out, "    {line}");
                }
            }
        }
        if let Some(trouble) = &played.trouble {
            let _ = writeln!(out, "{} {trouble}", paint(BAD, "the host:"));
        }
    }
    let count = |test: fn(&Same) -> bool| rows.iter().filter(|row| test(&row.same)).count();
    let wrong = played.lines.iter().filter(|line| line.wrong.is_some()).count();
    let _ = writeln!(
        out,
        "  {} mappings: {} as predicted, {} open, {} differ; {} steps, {wrong} not as expected\n",
        rows.len(),
        count(|same| *same == Same::Yes),
        count(|same| matches!(same, Same::Open(_))),
        count(|same| matches!(same, Same::No(_))),
        played.lines.len()
    );
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_can_be_read() {
        let devices = devices(&DEVICES).unwrap();
        let names: Vec<&str> = devices.iter().map(|(plugged, _)| plugged.id.as_str()).collect();
        for name in USUAL {
            assert!(lines(name.parse().unwrap(), &names).unwrap().len() > 30);
        }
    }

    #[test]
    fn all_are_done_once_and_in_order() {
        let all: Vec<u32> = (0..50).collect();
        assert_eq!(at_once(&all, |n| n * 2), all.iter().map(|n| n * 2).collect::<Vec<_>>());
        assert!(at_once(&[] as &[u32], |n| *n).is_empty());
    }
}
