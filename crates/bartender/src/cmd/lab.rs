//! `bartender lab`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use ::lab::{Arch, Cache, Progress, Series};
use serde::Serialize;

use super::Result;
use crate::show::{self, FAINT, GOOD, STRONG, paint};
use crate::{able, hostlab, machine, suite};

const HELP: &str = concat!(
    "An emulated server is QEMU (9.1 or newer, with EL2, SMMUv3 and PCIe), a Debian arm64 kernel, and this program as its
first process. All of it is fetched into one folder, $BARTENDER_CACHE, or bartender/ in the user's cache folder;
nothing is installed, and no right is needed but to write there. A kernel is named by its series, 6.12, or newest;
x86-6.12 is one for amd64, on a PC with VT-d: commands run there, scenarios do not.

",
    examples![
        "bartender lab list" => "the kernels there are to fetch, and those that are here",
    ],
    "
  bartender lab setup 6.1 6.12
      fetch what these two need; without a name: 6.1, 6.12 and the newest
  bartender lab run 6.1 scenarios
      as `bartender run scenarios --on lab:6.1`
  bartender lab bench 6.1 scenarios
      the time that takes, beside a boot of the same kernel that powers off at once
  bartender lab host 6.12 -- inspect
      what `inspect` says there, with an ivshmem, an edu, an NVMe controller and a display on the bus"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Fetch QEMU, kernels and what builds the guest program
    Setup {
        /// Kernels by series; none: 6.1, 6.12 and the newest
        #[arg(value_name = "KERNEL")]
        kernels: Vec<String>,
        /// Fetch the newest version of each, even if one is here
        #[arg(long)]
        refresh: bool,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// List the kernels that the archive has and those that are here
    List {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Run scenarios there: `bartender run ... --on lab:KERNEL`
    Run {
        /// The kernel's series
        #[arg(value_name = "KERNEL")]
        kernel: String,
        #[command(flatten)]
        run: super::run::Args,
    },
    /// Run commands of bartender there, on devices that come and go
    #[command(after_help = hostlab::help())]
    Host(hostlab::Args),
    /// Check there that what `inspect` predicts is what `probe` finds, and what becomes of mappings
    #[command(after_help = hostlab::check::HELP)]
    Check(hostlab::check::Args),
    /// Measure a run beside a boot that powers off at once, in pairs
    Bench {
        /// The kernel's series
        #[arg(value_name = "KERNEL")]
        kernel: String,
        /// Scenario files, or folders of them
        #[arg(required = true, value_name = "SCENARIO|FOLDER")]
        paths: Vec<std::path::PathBuf>,
        /// How many pairs
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
        runs: u32,
        /// Exit with 1 if the quickest run takes more than this times the quickest baseline
        #[arg(long, value_name = "RATIO")]
        at_most: Option<f64>,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
}

fn text(e: ::lab::Error) -> super::Error {
    e.to_string().into()
}

fn series(names: &[String]) -> Result<Vec<Series>> {
    names.iter().map(|n| n.parse().map_err(text)).collect()
}

/// Runs it.
///
/// # Errors
/// What is missing, with the remedy.
pub fn run(args: Args) -> Result {
    match args.what {
        What::Setup { kernels, refresh, json } => setup(&kernels, refresh, json),
        What::List { json } => list(json),
        What::Run { kernel, run } => super::run::run(&run.on_lab(&kernel)),
        What::Host(args) => hostlab::run(&args),
        What::Check(args) => hostlab::check::run(&args),
        What::Bench { kernel, paths, runs, at_most, json } => bench(&kernel, &paths, runs, at_most, json),
    }
}

#[derive(Serialize)]
struct SetUp {
    cache: String,
    machines: Vec<Machine>,
    kernels: Vec<Fetched>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Machine {
    arch: &'static str,
    qemu: String,
    toolchain: String,
    guest: String,
}

#[derive(Serialize)]
struct Fetched {
    series: String,
    version: String,
    release: String,
}

fn setup(kernels: &[String], refresh: bool, json: bool) -> Result {
    let series = series(kernels)?;
    let cache = Cache::user().map_err(text)?;
    let progress = Progress::stderr();
    let setup = ::lab::setup(&cache, &series, refresh, progress).map_err(text)?;
    let mut machines = Vec::new();
    for (arch, qemu, toolchain) in setup.machines {
        let guest = ::lab::build_guest(&cache, arch, progress).map_err(text)?;
        machines.push(Machine {
            arch: arch.debian(),
            qemu: format!("{} {}", qemu.version(), qemu.program().display()),
            toolchain,
            guest: guest.display().to_string(),
        });
    }
    let done = SetUp {
        cache: cache.folder().display().to_string(),
        machines,
        kernels: setup
            .kernels
            .iter()
            .map(|k| Fetched {
                series: k.series().to_string(),
                version: k.version().into(),
                release: k.release().into(),
            })
            .collect(),
        notes: setup.notes,
    };
    if json {
        show::json(&done)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    let _ = writeln!(out, "{:<14}{}", paint(FAINT, "cache"), done.cache);
    for Machine { arch, qemu, toolchain, guest } in &done.machines {
        for (what, value) in [("qemu", qemu), ("builds with", toolchain), ("guest program", guest)] {
            let _ = writeln!(out, "{:<14}{arch:<10}{value}", paint(FAINT, what));
        }
    }
    for k in &done.kernels {
        let _ = writeln!(out, "{:<14}{:<10}{} ({})", paint(FAINT, "kernel"), k.series, k.release, k.version);
    }
    for note in &done.notes {
        out.push_str(&show::wrapped("note: ", note));
    }
    let _ = writeln!(out, "{}", paint(GOOD, "ready"));
    show::text(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> Result {
    let cache = Cache::user().map_err(text)?;
    let listing = ::lab::list(&cache, Progress::stderr()).map_err(text)?;
    if json {
        show::json(&listing)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    let _ = writeln!(out, "{}", paint(FAINT, format!("{:<10}{:<26}{:<24}here", "series", "version", "from")));
    for k in &listing.kernels {
        let here = if k.fetched { "yes" } else { "-" };
        let _ = writeln!(out, "{:<10}{:<26}{:<24}{here}", paint(STRONG, k.series), k.version, k.suite);
    }
    if let Some(why) = &listing.offline {
        out.push_str(&show::wrapped("note: ", &format!("only what is here: {why}")));
    }
    show::text(&out)?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Measured {
    kernel: String,
    scenarios: usize,
    /// Seconds, in pairs: ours, the baseline.
    pairs: Vec<(f64, f64)>,
    /// The least of ours to the least of the baseline.
    ratio: f64,
}

fn bench(kernel: &str, paths: &[std::path::PathBuf], runs: u32, at_most: Option<f64>, json: bool) -> Result {
    let series: Series = kernel.parse().map_err(text)?;
    let cases = suite::load(paths)?;
    let cache = Cache::user().map_err(text)?;
    let progress = Progress::stderr();
    let setup = ::lab::setup(&cache, &[series], false, progress).map_err(text)?;
    let kernel = setup.kernels.first().ok_or_else(|| String::from("no kernel"))?;
    let program = ::lab::build_guest(&cache, Arch::Arm64, progress).map_err(text)?;
    let init = std::fs::read(&program).map_err(|e| format!("cannot read {}: {e}", program.display()))?;
    let can: Vec<&suite::Case> = cases.iter().filter(|c| able::on_linux(&c.scenario).is_ok()).collect();
    let boot = machine::boot(kernel, &init, machine::CPU, &can)?;
    let watch = progress.watch(format!("Linux {}: {runs} pairs of boots", kernel.release()));
    let timing = ::lab::bench(&cache, &boot, runs as usize).map_err(text)?;
    drop(watch);
    let seconds = |d: &Duration| d.as_secs_f64();
    let measured = Measured {
        kernel: kernel.release().into(),
        scenarios: can.len(),
        pairs: timing.pairs.iter().map(|(a, b)| (seconds(a), seconds(b))).collect(),
        ratio: timing.ratio(),
    };
    let holds = at_most.is_none_or(|most| measured.ratio <= most);
    if json {
        show::json(&measured)?;
    } else {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "Linux {}, {} scenarios, from QEMU's start to power-off",
            measured.kernel, measured.scenarios
        );
        let _ = writeln!(out, "{}", paint(FAINT, format!("{:>10} {:>10} {:>7}", "run", "baseline", "ratio")));
        for (ours, base) in &measured.pairs {
            let _ = writeln!(out, "{ours:>9.2}s {base:>9.2}s {:>7.2}", ours / base);
        }
        let _ = writeln!(out, "{:>29}", paint(STRONG, format!("least to least {:.2}", measured.ratio)));
        show::text(&out)?;
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
