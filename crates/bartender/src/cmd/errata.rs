//! `bartender errata`: what is known of machines on which a memory type does not do what the architecture says.

use std::fmt::Write as _;
use std::process::ExitCode;

use anstyle::Style;
use platform::NoSnoop;
use platform::errata::{self, Checked, Effect, Erratum, Midr, PciId};

use super::Result;
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mMarks:\u{1b}[0m
  read         in the words of whoever found it or made the machine
  second-hand  reported by somebody else
  unverified   said, with nothing to check it against
  That nothing is known of a machine says nothing about the machine.

",
    examples![
        "bartender errata" => "all that are known",
        "bartender errata altra-pcie65" => "one of them, with its sources",
        "bartender errata --cpu 0x411fd0d0" => "those of a CPU, by its MIDR_EL1",
        "bartender errata --root-port 1def:e100 --root-port 1def:e110" => "those of a machine with these root ports",
        "bartender errata --soc brcm,bcm2711 --json" => "those of a SoC, by the device tree, as JSON",
    ]
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Only this one, and all that is known of it
    name: Option<String>,
    /// Those of the CPU with this MIDR_EL1 (/sys/devices/system/cpu/cpu0/regs/identification/midr_el1)
    #[arg(long, value_name = "MIDR", conflicts_with = "name")]
    cpu: Option<String>,
    /// Those of a machine with this root port, root complex or host bridge (lspci -n); may be repeated
    #[arg(long, value_name = "VVVV:DDDD", conflicts_with = "name")]
    root_port: Vec<String>,
    /// Those of a machine whose device tree has this at its root (/proc/device-tree/compatible); may be repeated
    #[arg(long, value_name = "COMPATIBLE", conflicts_with = "name")]
    soc: Vec<String>,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// A name that is none, an id that is none.
pub fn run(args: &Args) -> Result {
    let asked = args.cpu.is_some() || !args.root_port.is_empty() || !args.soc.is_empty();
    let midr = args.cpu.as_deref().map(midr).transpose()?;
    let ports = args.root_port.iter().map(|id| id.parse::<PciId>()).collect::<std::result::Result<Vec<_>, _>>();
    let ports = ports.map_err(|e| format!("--root-port: {e}"))?;
    let socs: Vec<&str> = args.soc.iter().map(String::as_str).collect();
    let found: Vec<&Erratum> = match &args.name {
        Some(name) => vec![errata::named(name).ok_or_else(|| {
            let names: Vec<_> = errata::all().iter().map(|e| e.name.as_str()).collect();
            input::unknown("errata", name, &names)
        })?],
        None if asked => errata::matching(midr, &ports, &socs),
        None => errata::all().iter().collect(),
    };
    if args.json {
        show::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    if let Some(midr) = midr {
        let _ = writeln!(out, "{:#010x} is {}\n", midr.0, paint(STRONG, midr));
    }
    match (&args.name, found.as_slice()) {
        (Some(_), [it]) => out.push_str(&whole(it)),
        (_, []) => out.push_str("Nothing is known of it here, which says nothing about it.\n"),
        (_, found) => found.iter().for_each(|it| line(&mut out, it)),
    }
    show::text(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn midr(text: &str) -> Result<Midr> {
    let value = input::number(text).map_err(|e| format!("--cpu: {e}"))?;
    let value = u32::try_from(value).map_err(|_| format!("--cpu: {text}: bits 63 to 32 of MIDR_EL1 are zero"))?;
    Ok(Midr(value))
}

/// The column after the name.
const TEXT: usize = 22;

/// In the list: name and title, then what marks, sets and matches it.
fn line(out: &mut String, it: &Erratum) {
    let title = show::wrapped(&" ".repeat(TEXT), &it.title);
    let _ = write!(out, "{:<TEXT$}{}", paint(STRONG, &it.name), title.trim_start());
    let mark = it.checked.name();
    let mut facts = sets(it.effect);
    facts.extend(machines(it).into_iter().map(|(what, mut which)| {
        let more = which.len().saturating_sub(3);
        if more > 1 {
            which.truncate(3);
            which.push(format!("{more} more"));
        }
        format!("{what} {}", which.join(", "))
    }));
    let rest: String = facts.iter().map(|fact| format!("; {fact}")).collect();
    let text = show::wrapped(&" ".repeat(TEXT), &format!("{mark}{rest}"));
    let text = text.trim_start().strip_prefix(mark).unwrap_or_default();
    let _ = write!(out, "{:TEXT$}{}{}", "", paint(colour(it.checked), mark), paint(FAINT, text));
}

/// Everything that is known of one.
fn whole(it: &Erratum) -> String {
    const LABEL: usize = 14;
    let title = show::wrapped(&format!("{}  ", it.name), &it.title);
    let mut out = format!("{}{}", paint(STRONG, &it.name), title.get(it.name.len()..).unwrap_or_default());
    let mut field = |label: &str, text: &str| {
        let lines = show::wrapped(&" ".repeat(LABEL), text);
        let _ = write!(out, "  {:<12}{}", paint(FAINT, label), lines.get(LABEL..).unwrap_or_default());
    };
    field("breaks", &it.breaks);
    field("workaround", &it.workaround);
    match sets(it.effect).as_slice() {
        [] => field("sets", "nothing in [platform]"),
        sets => field("sets", &sets.join(", ")),
    }
    if let Some(text) = &it.note {
        field("note", text);
    }
    for (what, which) in machines(it) {
        field(what, &which.join(", "));
    }
    if let Some(why) = &it.no_id {
        field("no id", why);
    }
    for (i, source) in it.source.iter().enumerate() {
        field(if i == 0 { "source" } else { "" }, source);
    }
    field("checked", it.checked.name());
    out
}

/// The fields of `[platform]` it sets, as a scenario writes them.
fn sets(it: Effect) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(defect) = it.normal_nc {
        out.push(format!("normal-nc = \"{}\"", defect.name()));
    }
    let failing = it.containment.unwrap_or_default();
    match (failing.device, failing.normal) {
        (None, None) => {}
        (Some(device), Some(normal)) if device == normal => out.push(format!("errors = \"{}\"", device.name())),
        (device, normal) => {
            let fields = [("device", device), ("normal", normal)].into_iter();
            let fields = fields.filter_map(|(class, e)| Some(format!("{class} = \"{}\"", e?.name())));
            out.push(format!("errors = {{ {} }}", fields.collect::<Vec<_>>().join(", ")));
        }
    }
    if let Some(coherent) = it.coherent {
        out.push(format!("coherent = {coherent}"));
    }
    if it.no_snoop == Some(NoSnoop::Possible) {
        out.push("no-snoop = \"possible\"".into());
    }
    out
}

/// What tells a machine that has it: kinds of id, each with those that match.
fn machines(it: &Erratum) -> Vec<(&'static str, Vec<String>)> {
    let m = &it.matches;
    [
        ("CPU", m.cpu.iter().map(ToString::to_string).collect::<Vec<_>>()),
        ("root port", m.root_port.iter().map(ToString::to_string).collect()),
        ("SoC", m.soc.clone()),
    ]
    .into_iter()
    .filter(|(_, which)| !which.is_empty())
    .collect()
}

fn colour(checked: Checked) -> Style {
    match checked {
        Checked::Read => GOOD,
        Checked::SecondHand => OPEN,
        Checked::Unverified => BAD,
    }
}
