//! Commands of this program in an emulated host: what people type, turned into a [`lab::Session`], and what came of it,
//! printed.

pub mod check;
pub mod compare;

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use lab::script::{self, Driver, Line, Ran, STEPS, Step};
use lab::{Arch, Cache, Device, Played, Plugged, Progress, Series, Session};

use crate::cmd::Result;
use crate::show::{self, BAD, FAINT, GOOD, STRONG, paint};

/// The devices of a host for which none is named: one of each kind.
pub const USUAL: [&str; 4] = ["ivshmem", "edu", "nvme", "display"];

/// An emulated host: a kernel, and how it learns of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    series: Series,
    /// An Arm server with UEFI and ACPI, not a device tree.
    acpi: bool,
}

impl FromStr for Machine {
    type Err = lab::Error;

    fn from_str(text: &str) -> std::result::Result<Self, lab::Error> {
        let (acpi, name) = text.strip_prefix("acpi-").map_or((false, text), |name| (true, name));
        let series: Series = name.parse()?;
        if acpi && series.arch() != Arch::Arm64 {
            return Err(lab::Error::BadSeries { given: text.to_owned() });
        }
        Ok(Self { series, acpi })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.acpi { "acpi-" } else { "" }, self.series)
    }
}

/// The arguments of `bartender lab host`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kernel: 6.12 is one for arm64, acpi-6.12 the same on UEFI and ACPI, x86-6.12 one for amd64
    #[arg(value_name = "KERNEL")]
    machine: Machine,
    /// A device: ivshmem, edu, nvme or display, with options after commas; `none` for a host without any; not given:
    /// one of each
    #[arg(long = "device", value_name = "KIND[,OPTION...]")]
    devices: Vec<String>,
    /// Steps, one a line, `-` for standard input; see below
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    script: Option<PathBuf>,
    /// A file that comes along: `{files}/NAME` there
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to put what commands wrote into `{out}` there
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// As a user without any right
    #[arg(long, conflicts_with = "script")]
    nobody: bool,
    /// The processor, as QEMU names it
    #[arg(long, value_name = "CPU", default_value = crate::machine::CPU)]
    cpu: String,
    /// When to give up
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// A command line of bartender, to be run there; `{nvme}` is the address of that device
    #[arg(last = true, value_name = "COMMAND", allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The help's last part.
#[must_use]
pub fn help() -> String {
    format!(
        "A device's options: `vfio` (the default) or `unbound`, to what it is bound; `port`, behind a root port of its own, from
which it can be taken away; `size=1M`, of its memory; `name=NAME`, of itself (its kind, if not given). In commands
the name in braces is its address, `{{out}}` the folder whose files are brought back, `{{files}}` the one with what
came along.

With a command its output is this command's output, and its exit code this one's. A script runs all its steps and
exits with 1 if one is not as expected:

{STEPS}

These boot an emulated server, which `bartender lab setup KERNEL` fetches:

  bartender lab host 6.12 -- inspect
      what `inspect` says in an emulated arm64 host with one device of each kind
  bartender lab host x86-6.12 --device nvme,unbound --out snapshot -- inspect --save {{out}}
      a snapshot of an emulated PC
  bartender lab host 6.12 --device edu,port --script unplug.lab
      steps, one after the other"
    )
}

/// A device as it is written: `nvme,port,unbound,size=16M,name=disk`.
///
/// # Errors
/// What would be right.
pub fn device(text: &str) -> std::result::Result<(Plugged, Driver), String> {
    let mut words = text.split(',');
    let kind = words.next().unwrap_or_default();
    let mut size = None;
    let mut plugged = Plugged { id: kind.to_owned(), device: Device::Dma, port: false };
    let mut driver = Driver::Vfio;
    for word in words {
        match (word, word.split_once('=')) {
            ("vfio", _) => driver = Driver::Vfio,
            ("unbound", _) => driver = Driver::Unbound,
            ("port", _) => plugged.port = true,
            (_, Some(("name", name))) => name.clone_into(&mut plugged.id),
            (_, Some(("size", bytes))) => size = Some(bytes_of(bytes)?),
            _ => {
                return Err(format!(
                    "--device {text}: `{word}` is no option; these are: vfio, unbound, port, size=1M, name=NAME"
                ));
            }
        }
    }
    const MIB: u64 = 1 << 20;
    plugged.device = match kind {
        "ivshmem" => Device::Memory { size: size.unwrap_or(MIB) },
        "edu" if size.is_some() => return Err(format!("--device {text}: the memory of `edu` has no other size")),
        "edu" => Device::Dma,
        "nvme" => Device::Nvme { size: size.unwrap_or(16 * MIB) },
        "display" => Device::Display { size: size.unwrap_or(16 * MIB) },
        _ => return Err(format!("--device {text}: `{kind}` is no device; these are: {}", USUAL.join(", "))),
    };
    Ok((plugged, driver))
}

/// A number of bytes, as `16M`.
fn bytes_of(text: &str) -> std::result::Result<u64, String> {
    let (digits, shift) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((digits, "K")) => (digits, 10),
        Some((digits, "M")) => (digits, 20),
        Some((digits, "G")) => (digits, 30),
        _ => (text, 0),
    };
    let number = crate::input::number(digits)?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is more than 64 bits hold"))
}

/// Several of them.
///
/// # Errors
/// What would be right.
pub fn devices(texts: &[impl AsRef<str>]) -> std::result::Result<Vec<(Plugged, Driver)>, String> {
    texts.iter().map(|text| device(text.as_ref())).collect()
}

/// What is needed to boot a host, and its program.
pub(crate) struct Ready {
    pub(crate) cache: Cache,
    kernel: lab::Kernel,
    firmware: Option<PathBuf>,
    program: Vec<u8>,
}

impl Ready {
    pub(crate) fn of(machine: Machine, progress: Progress) -> std::result::Result<Self, String> {
        let text = |e: lab::Error| e.to_string();
        let cache = Cache::user().map_err(text)?;
        let setup = lab::setup(&cache, &[machine.series], false, progress).map_err(text)?;
        let kernel = setup.kernels.into_iter().next().ok_or("no kernel")?;
        let program = lab::build_guest(&cache, kernel.arch(), progress).map_err(text)?;
        let program = fs::read(&program).map_err(|e| format!("cannot read {}: {e}", program.display()))?;
        let firmware = machine.acpi.then(|| lab::uefi(&cache, progress)).transpose().map_err(text)?;
        Ok(Self { cache, kernel, firmware, program })
    }

    pub(crate) fn session(&self, devices: Vec<(Plugged, Driver)>, lines: Vec<Line>) -> Session<'_> {
        Session {
            kernel: &self.kernel,
            program: &self.program,
            cpu: crate::machine::CPU.to_owned(),
            devices,
            firmware: self.firmware.clone(),
            files: Vec::new(),
            lines,
            limit: crate::machine::SERVER_LIMIT,
        }
    }
}

fn read(path: &Path) -> std::result::Result<Vec<u8>, String> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    bytes.map_err(|e| format!("cannot read {}: {e}", path.display()))
}

/// Runs it.
///
/// # Errors
/// What is missing, or what would be right.
pub fn run(args: &Args) -> Result {
    let devices = match &args.devices[..] {
        [] => devices(&USUAL)?,
        [none] if none == "none" => Vec::new(),
        texts => devices(texts)?,
    };
    let names: Vec<&str> = devices.iter().map(|(plugged, _)| plugged.id.as_str()).collect();
    let lines = match &args.script {
        Some(path) => {
            let text = String::from_utf8(read(path)?).map_err(|e| format!("{}: {e}", path.display()))?;
            script::parse(&text, &names).map_err(|why| format!("{}: {why}", path.display()))?
        }
        None if args.command.is_empty() => {
            return Err(String::from("nothing to run there: add `-- inspect`, or --script FILE").into());
        }
        None => script::single(&args.command, args.nobody, &names)?,
    };
    let mut files = Vec::new();
    for path in &args.files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, read(path)?));
    }
    let progress = Progress::stderr();
    let ready = Ready::of(args.machine, progress)?;
    let session = Session {
        cpu: args.cpu.clone(),
        files,
        limit: Duration::from_secs(args.limit),
        ..ready.session(devices, lines)
    };
    let watch = progress.watch(format!("Linux {} in QEMU", ready.kernel.release()));
    let played = session.run(&ready.cache, &mut |_, _| {}).map_err(|e| e.to_string())?;
    drop(watch);
    if let Some(folder) = &args.out {
        bring_back(&played, folder)?;
    }
    if args.json {
        show::json(&played)?;
    } else if args.script.is_none() {
        return single(&played);
    } else {
        show::text(&text(&played))?;
    }
    Ok(if played.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Writes the files that came back into a folder.
///
/// # Errors
/// One cannot be written.
pub fn bring_back(played: &Played, folder: &Path) -> std::result::Result<(), String> {
    for (name, bytes) in &played.files {
        let path = folder.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, bytes)).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(())
}

/// What one command said is what this one says.
fn single(played: &Played) -> Result {
    let Some(Ran { out, err, exit, failed, .. }) = played.lines.first().and_then(|line| line.ran.as_ref()) else {
        let why = played.trouble.clone().unwrap_or_else(|| "the emulated host said nothing".to_owned());
        return Err(why.into());
    };
    show::text(out)?;
    if !err.is_empty() {
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), err.as_bytes());
    }
    if let Some(why) = failed.as_ref().or(played.trouble.as_ref()) {
        return Err(why.clone().into());
    }
    Ok(exit.and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into())
}

/// All of it for people.
#[must_use]
pub fn text(played: &Played) -> String {
    let mut out = String::new();
    let seconds = played.seconds.map_or_else(String::new, |s| format!(", {s:.1} s"));
    let _ = writeln!(out, "{}", paint(STRONG, format!("Linux {}{seconds}", played.release)));
    for found in &played.devices {
        let driver = found.driver.as_deref().unwrap_or("no driver");
        let group = found.group.as_ref().map_or_else(|| "no group".to_owned(), |group| format!("group {group}"));
        let _ = writeln!(out, "  {:<12} {}  {driver:<10} {group}", found.id, found.bdf);
    }
    for judged in &played.lines {
        if let Step::Title { text } = &judged.line.step {
            let _ = writeln!(out, "\n{}", paint(STRONG, text));
            continue;
        }
        let verdict = match &judged.wrong {
            Some(why) => format!("  {}", paint(BAD, why)),
            None if judged.ran.is_none() => format!("  {}", paint(GOOD, "yes")),
            None => String::new(),
        };
        let _ = writeln!(out, "{} {}{verdict}", paint(FAINT, ">"), judged.line.text);
        for line in judged.ran.iter().flat_map(|ran| ran.out.lines().chain(ran.err.lines())) {
            let _ = writeln!(out, "    {line}");
        }
    }
    if let Some(trouble) = &played.trouble {
        let _ = writeln!(out, "{} {trouble}", paint(BAD, "the host:"));
    }
    let wrong = played.lines.iter().filter(|line| line.wrong.is_some()).count();
    let verdict = if played.holds() {
        paint(GOOD, "as expected".to_owned())
    } else {
        paint(BAD, format!("{wrong} not as expected"))
    };
    let _ = writeln!(out, "{verdict}");
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn devices_as_they_are_written() {
        let (plugged, driver) = device("nvme,port,unbound,size=32M,name=disk").unwrap();
        assert_eq!((plugged.id.as_str(), plugged.port, driver), ("disk", true, Driver::Unbound));
        assert_eq!(plugged.device, Device::Nvme { size: 32 << 20 });
        assert_eq!(devices(&USUAL).unwrap().len(), 4);
        for (bad, says) in
            [("gpu", "these are: ivshmem"), ("edu,x", "no option"), ("edu,size=1M", "no other"), ("nvme,size=x", "x")]
        {
            let message = device(bad).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }
}
