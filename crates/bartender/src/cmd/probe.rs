//! `bartender probe`: what a mapping really does, beside what is predicted.

use std::process::ExitCode;
use std::time::Duration;

use bar::text::Cachemode;
use memtype::MemoryType;
use platform::Bdf;
use serde::Serialize;

use super::Result;
use crate::gather::{self, Where};
use crate::input;
use crate::show;

mod agree;
mod print;
#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
mod run;

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mWords:\u{1b}[0m
  guaranteed-by-spec       the architecture promises it; measuring says nothing
  observed-always(N)       each time, of N
  observed-sometimes(N/M)  N times of M
  never-observed           not once
  fault(KIND)              it faulted; the fault was caught
  corrupt                  what was read back is not what was written
  not-tested               why stands beside it
  An observation is of this machine and this kernel. It is no guarantee.

\u{1b}[1m\u{1b}[4mWhat is touched:\u{1b}[0m
  Without --scratch nothing is written. Without --scratch or --read-ok nothing is read either, unless the device is known to take
  it without harm. With --scratch up to 64 KiB from --offset on are written and put back. The kernel's log is watched: an
  uncorrectable error in it ends the probe.

",
    examples![
        "bartender probe --self" => "ordinary memory of this process: the method, tried on itself",
        "bartender probe --self --time 5 --json" => "the same as JSON",
    ],
    "

\u{1b}[1m\u{1b}[4mOn a device:\u{1b}[0m
  bartender probe 0000:00:04.0 2
      is it what it is predicted to be? Loads only, of a device that is known to take them
  bartender probe 0000:00:04.0 2 --scratch
      every test, in each way in which it can be mapped
  bartender probe 0000:01:00.0 2 --by sysfs-write-combine --offset 0x100000 --scratch
      the frame buffer from 1 MiB on, write-combining"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The device: 0000:01:00.0
    #[arg(value_name = "BDF", required_unless_present = "own")]
    device: Option<Bdf>,
    /// The BAR: 0 to 5
    #[arg(value_name = "BAR", required_unless_present = "own", value_parser = clap::value_parser!(u8).range(0..6))]
    bar: Option<u8>,
    /// Only mappings that give this: uncached, write-combine
    #[arg(long = "as", value_name = "TYPE")]
    ty: Option<String>,
    /// Only this way: vfio (it resets the device), sysfs, sysfs-write-combine; `bartender map --ways` has all
    #[arg(long, value_name = "WAY")]
    by: Option<String>,
    /// From here on
    #[arg(long, value_name = "N", default_value = "0", value_parser = input::number)]
    offset: u64,
    /// The bytes from the offset on are nobody's: write them (and put them back)
    #[arg(long)]
    scratch: bool,
    /// Reading the device does no harm
    #[arg(long)]
    read_ok: bool,
    /// In an arm64 guest: try an unaligned access through a write-combining mapping. Where the host says Device (Linux before 6.9)
    /// it stops the VM
    #[arg(long)]
    risk_vm: bool,
    /// How long it may take, in seconds, for each way
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    time: u64,
    /// Probe ordinary memory of this process instead of a device
    #[arg(long = "self", id = "own", conflicts_with_all = ["device", "bar", "ty", "by", "scratch", "read_ok", "risk_vm"])]
    own: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    const fn time(&self) -> Duration {
        Duration::from_secs(self.time)
    }
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
struct Answer {
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    /// Whether the method can tell, tried on ordinary memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    controls: Vec<Test>,
    mappings: Vec<Mapping>,
}

/// On what it was measured.
#[derive(Debug, Serialize)]
struct Machine {
    kernel: String,
    arch: String,
    cpu: String,
    midr: Vec<String>,
    hypervisor: Option<String>,
    page: u64,
}

/// Of what.
#[derive(Debug, Serialize)]
struct Device {
    bdf: String,
    id: String,
    class: String,
    bar: u8,
    at: Option<String>,
    size: u64,
    prefetchable: bool,
    wide: bool,
    driver: Option<String>,
    root_port: Option<String>,
    offset: show::Hex,
    /// Why reading it is taken to do no harm.
    harmless: Option<String>,
}

/// One way to map it.
#[derive(Debug, Serialize)]
struct Mapping {
    way: String,
    /// Why it was not probed; then nothing else follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_mapped: Option<String>,
    /// The type it is predicted to have.
    #[serde(serialize_with = "type_name")]
    predicted: Option<MemoryType>,
    why: String,
    /// x86: what the kernel's list says it was reserved as.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<Cachemode>,
    agreement: agree::Agreement,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Found>,
}

#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
type Found = bar::probe::Report;
#[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
type Test = bar::probe::Measured;
#[cfg(not(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64"))))]
type Found = ();
#[cfg(not(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64"))))]
type Test = ();

fn type_name<S: serde::Serializer>(ty: &Option<MemoryType>, to: S) -> std::result::Result<S::Ok, S::Error> {
    match ty {
        Some(ty) => to.collect_str(ty),
        None => to.serialize_none(),
    }
}

/// Runs it. 1: something found is not as predicted, or is corrupt; or there was no way to map it.
///
/// # Errors
/// No such device or BAR; a way or type that is none.
pub fn run(args: &Args) -> Result {
    #[cfg(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
    {
        let (host, _) = gather::gather(&Where::default(), &[])?;
        let answer = if args.own { run::own(args, &host)? } else { run::device(args, &host)? };
        if args.json {
            show::json(&answer)?;
        } else {
            show::text(&print::text(&answer))?;
        }
        let bad = answer.mappings.iter().any(|m| m.agreement.is_no() || m.report.as_ref().is_some_and(run::is_bad));
        let none = answer.mappings.iter().all(|m| m.report.is_none());
        Ok(if bad || none { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64"))))]
    {
        let _ = (args, Where::default(), gather::gather as fn(_, _) -> _);
        Err(String::from("probing is written for Linux on arm64 and x86-64").into())
    }
}
