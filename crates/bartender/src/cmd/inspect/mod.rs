//! `bartender inspect`: the machine at a glance, and a device layer by layer.
//!
//! What is gathered comes from crate `host`, what becomes of a BAR from crate `plan`; here it is only shown: as text (`text`), for
//! programs (JSON), for fleets (`nfd`, `prometheus`) and as a drawing (`drawing`).

mod dma;
mod drawing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod example;
mod nfd;
mod prometheus;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::host::{Bar, Function, Hole, Host, Root, Why};
use ::plan::{self as plan, Answer, Glance, Layers, Way};
use anstyle::Style;
use memtype::MemoryType;
use platform::Bdf;
use serde::Serialize;

use super::Result;
use crate::gather::{self, Where};
use crate::show::{self, BAD, FAINT, GOOD, OPEN};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mMarks:\u{1b}[0m
  Three glyphs for each BAR, of the best way by which a VMM can hand it to a guest: ✓ yes, ~ maybe, ✗ no, · not asked.
  works: a guest's driver that maps it write-combining works
  fast:  its bursts are combined into larger transactions
  safe:  the guest can do no harm to the host or to others through it
  Flags of a BAR: m memory, io I/O, 64 of 64 bits, p prefetchable. `?` is a hole: what would fill it is said below the table.
  Reading changes nothing, and needs no right; root sees more. docs/inspect.md has every line, every file and every name.

\u{1b}[1m\u{1b}[4mJSON:\u{1b}[0m
  an object: version, host (all that was gathered; a fact is {\"known\": …}, \"absent\" or {\"hole\": {at, why}}), glance and
  layers (both by address and BAR): the best way, what a guest gets, works, fast, safe; and every way to map it, with bus,
  vma, stage2, guest, works, fast, safe, advice

",
    examples![
        "bartender inspect" => "this machine at a glance; nothing is changed, and root is not needed",
        "bartender inspect --all" => "with bridges, and functions that have no memory BAR",
        "bartender inspect --json" => "all of it, for programs",
        "bartender inspect --nfd" => "a feature file of Node Feature Discovery, for features.d",
        "bartender inspect --prometheus" => "metrics for the textfile collector of node_exporter",
        "bartender inspect --root crates/host/tests/fixtures/x86-firecracker-guest 00:02.0" => "one device of a snapshot, layer by layer",
    ],
    "

\u{1b}[1m\u{1b}[4mOn a device:\u{1b}[0m
  bartender inspect 01:00.0
      one device, layer by layer: bus, host mapping, stage 2, guest
  bartender inspect 01:00.0 --open
      the same, after asking VFIO too: opens the device, which resets it
  bartender inspect --save machine
      a snapshot, without serial numbers; elsewhere: bartender inspect --root machine
  bartender inspect --html machine.html
      the machine as a drawing: bridges, windows, BARs by what a guest gets"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// One device, layer by layer
    #[arg(value_name = "BDF")]
    bdf: Option<Bdf>,
    #[command(flatten)]
    place: Where,
    /// Write a snapshot of what was read into this folder; no serial number is in it
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Open the device through VFIO and ask. That resets the device: whatever it does is lost
    #[arg(long, requires = "bdf", conflicts_with = "root")]
    open: bool,
    /// Bridges too, and functions without a memory BAR
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long, conflicts_with_all = ["nfd", "prometheus"])]
    json: bool,
    /// Print a feature file for the `local` source of Kubernetes Node Feature Discovery
    #[arg(long, conflicts_with_all = ["bdf", "prometheus"])]
    nfd: bool,
    /// Print metrics for the textfile collector of Prometheus' node_exporter
    #[arg(long, conflicts_with = "bdf")]
    prometheus: bool,
    /// Write the machine as a drawing to this file; - is stdout
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bdf"])]
    html: Option<PathBuf>,
}

/// Runs it.
///
/// # Errors
/// A snapshot that cannot be read or written; a device that is not there.
pub fn run(args: &Args) -> Result {
    let page_to_stdout = args.html.as_deref() == Some(Path::new("-"));
    if page_to_stdout && (args.json || args.nfd || args.prometheus) {
        return Err(
            String::from("--html - goes to stdout, and so does what else was asked: name a file for the page").into()
        );
    }
    let open: Vec<Bdf> = args.bdf.filter(|_| args.open).into_iter().collect();
    let (host, root) = gather::gather(&args.place, &open)?;
    if let Some(bdf) = args.bdf.filter(|bdf| !host.functions.contains_key(bdf)) {
        return Err(nearest(&host, bdf).into());
    }
    let for_programs = args.json || args.nfd || args.prometheus || page_to_stdout;
    let mut printed = if args.json {
        let mut json = serde_json::to_string_pretty(&Json::new(&host, args.bdf))?;
        json.push('\n');
        json
    } else if args.nfd {
        nfd::file(&host)
    } else if args.prometheus {
        prometheus::file(&host)
    } else if page_to_stdout {
        drawing::page(&host)
    } else {
        match args.bdf.and_then(|bdf| host.functions.get(&bdf)) {
            Some(function) => text::device(&host, function),
            None => text::machine(&host, args.all),
        }
    };
    if let Some(file) = args.html.as_ref().filter(|_| !page_to_stdout) {
        let page = drawing::page(&host);
        std::fs::write(file, page).map_err(|e| format!("cannot write the page to {}: {e}", file.display()))?;
    }
    if let Some(folder) = &args.save {
        let saved = save(&root, folder)?;
        // A program reads the rest.
        if !for_programs {
            printed = saved;
        }
    }
    show::text(&printed)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the snapshot; says where, and how large it is.
fn save(root: &Root, folder: &Path) -> Result<String> {
    let asked = root.asked().ok_or_else(|| String::from("nothing was gathered that could be saved"))?;
    root.save(folder, asked).map_err(|e| format!("--save {}: {e}", folder.display()))?;
    let file = folder.join("snapshot.json");
    let size = std::fs::metadata(&file).map_err(|e| format!("{}: {e}", file.display()))?.len();
    Ok(format!(
        "saved {}, {size} bytes: what was read of /sys and /proc, and what was asked; no serial number is in it\n\
         look at it anywhere: bartender inspect --root {}\n",
        file.display(),
        folder.display()
    ))
}

/// There is no such device; those that are, the nearest first.
fn nearest(host: &Host, bdf: Bdf) -> String {
    const TOLD: usize = 6;
    if host.functions.is_empty() {
        return format!("there is no {bdf}: this machine has no PCI function");
    }
    let far = |other: &Bdf| {
        let apart = |a: u32, b: u32| u64::from(a.abs_diff(b));
        let of = |b: &Bdf| (b.domain(), u32::from(b.bus()), u32::from(b.device()), u32::from(b.function()));
        let (a, b) = (of(&bdf), of(other));
        (apart(a.0, b.0), apart(a.1, b.1), apart(a.2, b.2), apart(a.3, b.3))
    };
    let mut near: Vec<&Bdf> = host.functions.keys().collect();
    near.sort_by_key(|other| far(other));
    near.truncate(TOLD);
    let names: Vec<String> = near.iter().map(ToString::to_string).collect();
    format!("there is no {bdf}\nthe nearest: {}; `bartender inspect --all` has them all", names.join(", "))
}

/// The version of the JSON object; it grows when a key goes or changes its meaning.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    host: &'a Host,
    glance: ByBar<Glance>,
    layers: ByBar<Vec<Layers>>,
}

/// Something of each memory BAR, by function and index.
type ByBar<T> = BTreeMap<Bdf, BTreeMap<u8, T>>;

impl<'a> Json<'a> {
    /// Of every function, or of one.
    fn new(host: &'a Host, only: Option<Bdf>) -> Self {
        let machine = plan::Machine::new(host);
        let (mut glance, mut layers) = (ByBar::new(), ByBar::<Vec<Layers>>::new());
        for function in host.functions.values().filter(|f| only.is_none_or(|bdf| f.bdf == bdf)) {
            for bar in memory_bars(function) {
                if let Some(it) = machine.at_a_glance(function, bar) {
                    glance.entry(function.bdf).or_default().insert(bar.index, it);
                }
                layers.entry(function.bdf).or_default().insert(bar.index, machine.layers(function, bar));
            }
        }
        Self { version: VERSION, host, glance, layers }
    }
}

/// What a guest gets of a BAR, in words.
fn gets(glance: &Glance) -> String {
    match glance.gets {
        _ if glance.way == Way::Trap => "trapped".into(),
        Some(ty) => shown(ty),
        None => "?".into(),
    }
}

const fn answers(glance: &Glance) -> [Answer; 3] {
    [glance.works, glance.fast, glance.safe]
}

/// A memory type as its architecture writes it.
fn shown(ty: MemoryType) -> String {
    match ty {
        MemoryType::Arm64(ty) => ty.to_string(),
        MemoryType::X86(ty) => ty.upper().into(),
        MemoryType::Riscv(ty) => ty.to_string(),
        MemoryType::Power(ty) => ty.to_string(),
        MemoryType::LoongArch(ty) => ty.to_string(),
        MemoryType::S390(ty) => ty.to_string(),
    }
}

fn memory_bars(function: &Function) -> impl Iterator<Item = &Bar> {
    function.bars.iter().filter(|bar| !bar.io)
}

/// A bridge: base class 06, or it has windows.
fn is_bridge(function: &Function) -> bool {
    function.class >> 16 == 0x06 || !function.windows.is_empty()
}

/// Whether it stands in the table by default.
fn is_shown(function: &Function) -> bool {
    !is_bridge(function) && memory_bars(function).next().is_some()
}

/// As `bartender matrix` has them.
const fn glyph(answer: Answer) -> char {
    match answer {
        Answer::Yes => '✓',
        Answer::Maybe => '~',
        Answer::No => '✗',
        Answer::NotAsked => '·',
    }
}

const fn style(answer: Answer) -> Style {
    match answer {
        Answer::Yes => GOOD,
        Answer::Maybe => OPEN,
        Answer::No => BAD,
        Answer::NotAsked => FAINT,
    }
}

/// Text that may come from a hostile snapshot: no control character, nothing that turns the direction of what follows.
fn tame(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if odd(c) { '\u{fffd}' } else { c }).collect()
}

/// At most so many characters.
fn short(text: &str, most: usize) -> String {
    let text = tame(text);
    if text.chars().count() <= most {
        return text;
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

/// A number of bytes as it is written of BARs: `16M`, `4K`, `128`.
fn bytes(n: u64) -> String {
    for (unit, shift) in [("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)] {
        if n >> shift != 0 && n.trailing_zeros() >= shift {
            return format!("{}{unit}", n >> shift);
        }
    }
    n.to_string()
}

/// The class in a word.
fn class_word(class: u32) -> &'static str {
    match (class >> 16, class >> 8 & 0xff) {
        (0x01, 0x08) => "nvme",
        (0x01, _) => "storage",
        (0x02, _) => "network",
        (0x03, _) => "display",
        (0x04, _) => "media",
        (0x05, 0x02) => "cxl-mem",
        (0x05, _) => "memory",
        (0x06, 0x00) => "host-br",
        (0x06, 0x04) => "bridge",
        (0x06, _) => "bridge",
        (0x07, _) => "comm",
        (0x08, _) => "system",
        (0x09, _) => "input",
        (0x0b, _) => "cpu",
        (0x0c, 0x03) => "usb",
        (0x0c, _) => "serial",
        (0x0d, _) => "wireless",
        (0x0f, _) => "satellite",
        (0x10, _) => "crypto",
        (0x11, _) => "signal",
        (0x12, _) => "accel",
        (0x40, _) => "coproc",
        _ => "other",
    }
}

/// Vendor and device, short: what stands in brackets is what people call it.
fn name(function: &Function) -> String {
    let bracket = |text: &str| {
        let inner = text.rsplit_once('[')?.1.split_once(']')?.0.trim().to_owned();
        (!inner.is_empty()).then_some(inner)
    };
    let Some((vendor, device)) = function.name else {
        return function.id.to_string();
    };
    let vendor = bracket(vendor).unwrap_or_else(|| {
        let head = vendor.split(',').next().unwrap_or(vendor);
        const NOISE: [&str; 10] =
            ["Corporation", "Corp.", "Corp", "Inc.", "Inc", "Ltd.", "Ltd", "Co.", "Limited", "Technologies"];
        let words: Vec<&str> = head.split_whitespace().filter(|w| !NOISE.contains(w)).collect();
        words.join(" ")
    });
    let device =
        device.map_or_else(|| format!("{:04x}", function.id.device), |d| bracket(d).unwrap_or_else(|| d.into()));
    format!("{vendor} {device}")
}

/// Holes by what fills them, then by what was asked, with how often. What differs only by the device, the CPU or the group is one.
fn grouped(holes: &[Hole]) -> Vec<(String, Vec<(String, usize)>)> {
    let mut groups: BTreeMap<(u8, String), BTreeMap<String, usize>> = BTreeMap::new();
    for hole in holes {
        let (rank, remedy) = match &hole.why {
            Why::Denied => (0, "run as root".to_owned()),
            Why::NotAsked(how) => (1, how.clone()),
            Why::NotSaved => (2, "not in the snapshot".to_owned()),
            Why::Failed(error) => (3, error.clone()),
            Why::Malformed(what) => (4, format!("not understood: {what}")),
            Why::TooLarge(most) => (5, format!("more than {most} bytes")),
        };
        *groups.entry((rank, starred(&remedy))).or_default().entry(starred(&hole.at)).or_default() += 1;
    }
    groups.into_iter().map(|((_, remedy), asked)| (remedy, asked.into_iter().collect())).collect()
}

/// A path or a sentence with `*` for addresses of functions, for numbers of CPUs and groups, and for what lies above a function.
fn starred(text: &str) -> String {
    let word = |part: &str| -> String {
        let digits = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        let host_bridge = part.strip_prefix("pci").and_then(|at| at.split_once(':'));
        if part.parse::<Bdf>().is_ok() || digits(part) {
            "*".into()
        } else if part.strip_prefix("cpu").is_some_and(digits) {
            "cpu*".into()
        } else if host_bridge.is_some_and(|(d, b)| d.len() >= 4 && b.len() == 2) {
            "pci*".into()
        } else {
            part.into()
        }
    };
    let path = |token: &str| {
        let mut parts: Vec<String> = token.split('/').map(word).collect();
        parts.dedup_by(|a, b| a == "*" && b == "*");
        parts.join("/")
    };
    let plain = |token: &str| if token.parse::<Bdf>().is_ok() { "*".into() } else { token.to_owned() };
    let all: Vec<String> = text.split(' ').map(|t| if t.contains('/') { path(t) } else { plain(t) }).collect();
    tame(&all.join(" "))
}
