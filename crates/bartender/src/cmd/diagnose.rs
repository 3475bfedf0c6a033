//! `bartender diagnose`: a symptom in, its cause and remedy out; and the lines of a log that matter.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::diagnose::{self as diagnose, Captured, Case, How, Judged, Kind, Standing, Syndrome, Truth, When, filled, log};
use ::host::{Function, Host};
use ::plan::Answer;
use anstyle::Style;
use platform::Bdf;
use platform::errata::Checked;
use serde::Serialize;

use super::Result;
use crate::decode::esr;
use crate::gather::{self, Where};
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mMarks:\u{1b}[0m
  read         by whoever found it, or in the code that does it
  second-hand  somebody else reports it, or only the report was read
  unverified   said or inferred, with nothing to check it against
  The facts of this machine order what is found: likely first, what cannot be last. A version is a hint, never proof.

\u{1b}[1m\u{1b}[4mExit codes:\u{1b}[0m
  0  a case was found; or a log was read, whether it has one or not
  1  the symptom is not known
  2  bad input

",
    examples![
        "bartender diagnose --no-host 'kvm [1234]: Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061'" => "a line of the kernel's log",
        "bartender diagnose --no-host esr 0x92000061" => "an exception syndrome",
        "bartender diagnose --no-host EINVAL KVM_SET_USER_MEMORY_REGION" => "a call that fails",
        "bartender diagnose slow" => "words; with the facts of this machine",
        "bartender diagnose --list" => "every case, each with how far it was checked",
        "bartender diagnose --case stage2-alignment" => "everything of one case",
        "bartender diagnose --log crates/diagnose/tests/arm64-host.log --no-host" => "the lines of a log that matter, repeats folded",
    ],
    "

\u{1b}[1m\u{1b}[4mOn the machine that has the trouble, and elsewhere:\u{1b}[0m
  dmesg | bartender diagnose
      the log of this machine
  bartender diagnose slow --device 0000:01:00.0
      with the facts of a device, and what becomes of its BARs
  bartender diagnose --log host.log --root machine
      the log of another machine, with its snapshot (bartender inspect --save)"
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A line of a log, `esr VALUE`, an errno and the call that gave it, or words. None: a log on standard input
    #[arg(value_name = "SYMPTOM")]
    symptom: Vec<String>,
    /// Find the lines of a log that matter; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "symptom")]
    log: Option<PathBuf>,
    /// Use the facts of this device, and say what becomes of its BARs
    #[arg(long, value_name = "BDF")]
    device: Option<Bdf>,
    #[command(flatten)]
    place: Where,
    /// Leave out the facts of the machine
    #[arg(long, conflicts_with_all = ["root", "device"])]
    no_host: bool,
    /// Everything of every case that was found, ruled out or not
    #[arg(long)]
    all: bool,
    /// List all cases
    #[arg(long, conflicts_with_all = ["symptom", "log", "case", "device"])]
    list: bool,
    /// Everything of one case
    #[arg(long, value_name = "NAME", conflicts_with_all = ["symptom", "log"])]
    case: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// A name that is none, a file that cannot be read, a device that is not there.
pub fn run(args: &Args) -> Result {
    if args.list {
        return list(args.json);
    }
    let host = if args.no_host { None } else { Some(gather::gather(&args.place, &[])?.0) };
    let facts = Facts::new(host.as_ref(), args.device)?;
    if let Some(name) = &args.case {
        return one(name, &facts, args.json);
    }
    let text = args.symptom.join(" ");
    match &args.log {
        Some(path) => whole_log(args, Some(path), &facts),
        None if args.symptom.is_empty() && args.device.is_some() => symptom("slow", args, &facts),
        None if args.symptom.is_empty() => whole_log(args, None, &facts),
        None if text.trim().is_empty() => {
            Err(String::from("the symptom is empty\ngive a line of a log, `esr VALUE`, or words").into())
        }
        None => symptom(&text, args, &facts),
    }
}

/// What the machine has to say.
struct Facts<'a> {
    host: Option<&'a Host>,
    device: Option<&'a Function>,
}

impl<'a> Facts<'a> {
    fn new(host: Option<&'a Host>, device: Option<Bdf>) -> Result<Self> {
        let device = match (host, device) {
            (Some(host), Some(bdf)) => Some(host.functions.get(&bdf).ok_or_else(|| match host.functions.len() {
                0 => "--device: there is no PCI function here\nleave it out, or give a snapshot with --root".to_owned(),
                n => format!(
                    "--device: there is no {bdf} among the {n} PCI functions here\n`bartender inspect` lists them"
                ),
            })?),
            _ => None,
        };
        Ok(Self { host, device })
    }
    fn judge(&self, case: &Case) -> Judged {
        diagnose::here::judge(case, self.host, self.device)
    }
}

/// A case that was found, with what the machine says of it.
struct Hit {
    case: &'static Case,
    how: How,
    specific: usize,
    captured: Vec<Captured>,
    judged: Judged,
    /// Of a log.
    seen: Option<log::Match>,
}

/// As JSON has it.
#[derive(Serialize)]
struct Shown<'a> {
    case: &'a str,
    title: &'a str,
    how: How,
    captured: Vec<Named<'a>>,
    cause: String,
    remedy: Vec<String>,
    standing: Standing,
    host: &'a [diagnose::Here],
    source: &'a [String],
    checked: Checked,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<&'a [log::Line]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    value: &'a str,
}

impl Hit {
    fn shown(&self) -> Shown<'_> {
        let text = |text: &String| filled(text, &self.captured);
        Shown {
            case: &self.case.name,
            title: &self.case.title,
            how: self.how,
            captured: self.captured.iter().map(|(name, value)| Named { name, value }).collect(),
            cause: text(&self.case.cause),
            remedy: self.case.remedy.iter().map(text).collect(),
            standing: self.judged.standing,
            host: &self.judged.notes,
            source: &self.case.source,
            checked: self.case.checked,
            lines: self.seen.as_ref().map(|seen| seen.lines.as_slice()),
            count: self.seen.as_ref().map(|seen| seen.count),
            last: self.seen.as_ref().map(|seen| seen.last),
        }
    }
}

/// One symptom.
fn symptom(text: &str, args: &Args, facts: &Facts<'_>) -> Result {
    let decoded = syndrome(text)?;
    let found = match &decoded {
        Some(esr) => diagnose::esr(Syndrome {
            value: esr.value.0,
            el: (!esr.register_assumed).then(|| if esr.register == "ESR_EL1" { 1 } else { 2 }),
        }),
        None => diagnose::ask(text),
    };
    let mut hits: Vec<Hit> = found
        .into_iter()
        .map(|it| Hit {
            case: it.case,
            how: it.how,
            specific: it.specific,
            captured: it.captured,
            judged: facts.judge(it.case),
            seen: None,
        })
        .collect();
    hits.sort_by_key(|hit| {
        (
            hit.judged.standing == Standing::RuledOut,
            hit.how,
            std::cmp::Reverse(hit.specific / closeness(hit.how)),
            hit.judged.standing,
        )
    });
    let code = if hits.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS };
    if args.json {
        #[derive(Serialize)]
        struct Answer<'a> {
            symptom: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            esr: Option<&'a esr::Esr>,
            found: Vec<Shown<'a>>,
            nearest: Vec<&'a str>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            device: Vec<Bar>,
        }
        let nearest = if hits.is_empty() { diagnose::nearest(text) } else { Vec::new() };
        show::json(&Answer {
            symptom: text,
            esr: decoded.as_ref(),
            found: hits.iter().map(Hit::shown).collect(),
            nearest: nearest.iter().map(|case| case.name.as_str()).collect(),
            device: bars(facts),
        })?;
        return Ok(code);
    }
    let mut out = String::new();
    if let Some(esr) = &decoded {
        let _ = writeln!(
            out,
            "{}  {}",
            paint(STRONG, format!("{} {}", esr.register, esr.value)),
            esr.fault.as_deref().unwrap_or(&esr.ec_name)
        );
        for line in &esr.what {
            out.push_str(&show::wrapped("  ", line));
        }
        out.push('\n');
    }
    if hits.is_empty() {
        unknown(&mut out, text, decoded.is_some());
    }
    let (out_of, rest): (Vec<_>, Vec<_>) =
        hits.iter().partition(|hit| hit.judged.standing == Standing::RuledOut && !args.all);
    let most = if args.all { usize::MAX } else { 3 };
    for (i, hit) in rest.iter().take(most).enumerate() {
        if i > 0 {
            out.push('\n');
        }
        case_text(&mut out, hit, i == 0 || args.all);
    }
    also(
        &mut out,
        "it may also be",
        rest.get(most..).unwrap_or_default().iter().map(|hit| (hit.case, hit.case.title.clone())),
    );
    ruled_out(&mut out, &out_of, rest.is_empty(), args.place.root.is_some());
    device_text(&mut out, facts);
    show::text(&out)?;
    Ok(code)
}

/// Differences below this do not put one before the other; the facts of the machine do.
const fn closeness(how: How) -> usize {
    match how {
        How::Words => 100,
        How::Call | How::HalfCall => 1000,
        How::Line | How::Esr => 1,
    }
}

/// The syndrome, where the symptom is one: `esr 0x…`, or a number alone that is as long.
fn syndrome(text: &str) -> Result<Option<esr::Esr>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (label, value) = match words.as_slice() {
        [label, value] if matches!(label.to_ascii_lowercase().as_str(), "esr" | "esr_el1" | "esr_el2" | "hsr") => {
            (Some(*label), *value)
        }
        [value] if value.len() >= 10 && value.starts_with("0x") => (None, *value),
        _ => return Ok(None),
    };
    let mut given = esr::find(value).map_err(|e| format!("esr: {e}"))?;
    given.el = match label.and_then(|label| label.chars().last()) {
        Some('1') => Some(1),
        Some('2') => Some(2),
        _ => given.el,
    };
    Ok(Some(esr::decode(given, None)))
}

/// A log, from a file or standard input.
fn whole_log(args: &Args, path: Option<&PathBuf>, facts: &Facts<'_>) -> Result {
    let name = path.map_or_else(|| String::from("-"), |path| path.display().to_string());
    let (found, lines) = if name == "-" {
        let stdin = io::stdin();
        if path.is_none() && stdin.is_terminal() {
            return Err(String::from(
                "no symptom\ngive a line of a log, `esr VALUE`, an errno and a call, or words; or a log: dmesg | bartender diagnose",
            )
            .into());
        }
        scan(stdin.lock(), None).map_err(|e| format!("standard input: {e}"))?
    } else {
        let file = File::open(&name).map_err(|e| format!("--log {name}: {e}"))?;
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
        scan(file, size).map_err(|e| format!("--log {name}: {e}"))?
    };
    let mut hits: Vec<Hit> = found
        .into_iter()
        .map(|seen| Hit {
            case: seen.case,
            how: seen.how,
            specific: seen.specific,
            captured: seen.captured.clone(),
            judged: facts.judge(seen.case),
            seen: Some(seen),
        })
        .collect();
    hits.sort_by_key(|hit| hit.judged.standing == Standing::RuledOut);
    if args.json {
        #[derive(Serialize)]
        struct Answer<'a> {
            log: &'a str,
            lines: u64,
            found: Vec<Shown<'a>>,
        }
        show::json(&Answer { log: &name, lines, found: hits.iter().map(Hit::shown).collect() })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    let cases = if hits.len() == 1 { "1 case".into() } else { format!("{} cases", hits.len()) };
    let what = if hits.is_empty() { "none of them is a symptom that is known here".into() } else { cases };
    let _ = writeln!(out, "{lines} lines: {what}");
    if hits.is_empty() && lines > 0 {
        out.push_str("That says nothing about the machine: most symptoms are silent (`bartender diagnose slow`).\n");
    }
    // A line was printed by the machine that printed it: what cannot be here is said, with why, and not left out.
    for hit in &hits {
        out.push('\n');
        if let Some(seen) = &hit.seen {
            seen_text(&mut out, seen);
        }
        case_text(&mut out, hit, true);
    }
    if hits.iter().any(|hit| hit.judged.standing == Standing::RuledOut) {
        out.push('\n');
        out.push_str(&show::wrapped(
            "note: ",
            "what is ruled out here was printed by another machine: give its snapshot with --root, or --no-host",
        ));
    }
    show::text(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a log; what takes longer than two seconds says so on standard error.
fn scan(from: impl Read, size: Option<u64>) -> io::Result<(Vec<log::Match>, u64)> {
    const WORTH_A_LINE: Duration = Duration::from_secs(2);
    let begun = Instant::now();
    let terminal = io::stderr().is_terminal();
    let mut next = WORTH_A_LINE;
    let result = log::read(from, |read| {
        if begun.elapsed() < next {
            return;
        }
        let of =
            size.filter(|size| *size >= read).map_or_else(String::new, |size| format!(" of {} MB", size / 1_000_000));
        let (start, end) = if terminal { ("\r", "") } else { ("", " ...\n") };
        let _ = write!(io::stderr(), "{start}diagnose: {} MB{of} read{end}", read / 1_000_000);
        next = begun.elapsed() + if terminal { Duration::from_millis(200) } else { 5 * WORTH_A_LINE };
    });
    if terminal && next > WORTH_A_LINE {
        let _ = write!(io::stderr(), "\r{:60}\r", "");
    }
    result
}

/// Where in the log, and what it says there.
fn seen_text(out: &mut String, seen: &log::Match) {
    let first = seen.lines.first().map_or(0, |line| line.number);
    let more = match seen.count {
        0 | 1 => String::new(),
        2 => format!(", and line {}", seen.last),
        n => format!(", and {} more to line {}", n - 1, seen.last),
    };
    let _ = writeln!(out, "{}", paint(FAINT, format!("line {first}{more}")));
    if let Some(line) = seen.lines.first() {
        let _ = writeln!(out, "  {}", line.text);
    }
}

const LABEL: usize = 11;

fn field(out: &mut String, label: &str, text: &str) {
    let lines = show::wrapped(&" ".repeat(2 + LABEL), text);
    let _ = write!(out, "  {:<LABEL$}{}", paint(FAINT, label), lines.get(2 + LABEL..).unwrap_or_default());
}

fn headline(out: &mut String, case: &Case) {
    let title = show::wrapped(&format!("{}  ", case.name), &case.title);
    let _ = write!(out, "{}{}", paint(STRONG, &case.name), title.get(case.name.len()..).unwrap_or_default());
}

/// A case in words; its sources too, if it is asked about alone.
fn case_text(out: &mut String, hit: &Hit, sources: bool) {
    headline(out, hit.case);
    field(out, "cause", &filled(&hit.case.cause, &hit.captured));
    here_text(out, &hit.judged, "here");
    for (i, remedy) in hit.case.remedy.iter().enumerate() {
        field(out, if i == 0 { "remedy" } else { "" }, &format!("{}. {}", i + 1, filled(remedy, &hit.captured)));
    }
    for (i, source) in hit.case.source.iter().enumerate().take(if sources { usize::MAX } else { 0 }) {
        field(out, if i == 0 { "source" } else { "" }, source);
    }
    let _ = writeln!(
        out,
        "  {:<LABEL$}{}",
        paint(FAINT, "checked"),
        paint(colour(hit.case.checked), hit.case.checked.name())
    );
}

/// What the facts say of a case: what holds, and what would have to be known. What merely does not hold is left out.
fn here_text(out: &mut String, judged: &Judged, label: &str) {
    let mut label = label;
    let mut unknown: Vec<&str> = Vec::new();
    for note in &judged.notes {
        let (style, word, text) = match (note.kind, &note.truth) {
            (Kind::Needs, Truth::No(what)) => (BAD, "ruled out", format!("{what}; {}", note.says)),
            (Kind::Likely, Truth::Yes(what)) => (GOOD, "likely", format!("{what}: {}", note.says)),
            (Kind::Unlikely, Truth::Yes(what)) => (OPEN, "unlikely", format!("{what}: {}", note.says)),
            // What is not known changes nothing where it is ruled out, and one thing is said once.
            (_, Truth::Unknown(what)) if judged.standing != Standing::RuledOut && !unknown.contains(&what.as_str()) => {
                unknown.push(what);
                (FAINT, "not known", what.clone())
            }
            _ => continue,
        };
        let lines = show::wrapped(&" ".repeat(2 + LABEL), &format!("{word}: {text}"));
        let text = lines.trim_start().strip_prefix(word).unwrap_or_default();
        let _ = write!(out, "  {:<LABEL$}{}{text}", paint(FAINT, label), paint(style, word));
        label = "";
    }
}

/// Cases by name and a text, in a list.
fn also(out: &mut String, head: &str, cases: impl Iterator<Item = (&'static Case, String)>) {
    let mut head = Some(head);
    for (case, text) in cases {
        if let Some(head) = head.take() {
            let _ = writeln!(out, "\n{}", paint(STRONG, head));
        }
        let column = 2 + NAME;
        let lines = show::wrapped(&" ".repeat(column), &text);
        let _ = write!(out, "  {:<NAME$}{}", case.name, lines.get(column..).unwrap_or_default());
    }
}

/// The column after a name.
const NAME: usize = 28;

fn ruled_out(out: &mut String, hits: &[&Hit], alone: bool, elsewhere: bool) {
    let why = |hit: &Hit| {
        hit.judged.notes.iter().find_map(|note| match (&note.kind, &note.truth) {
            (Kind::Needs, Truth::No(what)) => Some(format!("because {what}; {}", note.says)),
            _ => None,
        })
    };
    // If nothing else is left, the symptom is of another machine: its case is shown after all.
    if alone {
        for (i, hit) in hits.iter().take(3).enumerate() {
            if i > 0 {
                out.push('\n');
            }
            case_text(out, hit, i == 0);
        }
        if !hits.is_empty() {
            let machine = if elsewhere { "the machine of the snapshot" } else { "this machine" };
            out.push('\n');
            out.push_str(&show::wrapped(
                "note: ",
                &format!("{machine} cannot have it; for the one that has, give its snapshot with --root, or --no-host"),
            ));
        }
        return;
    }
    also(out, "ruled out here", hits.iter().map(|hit| (hit.case, why(hit).unwrap_or_default())));
}

/// An honest "I do not know", with what to send to whom.
fn unknown(out: &mut String, text: &str, is_esr: bool) {
    let _ = writeln!(out, "{}", paint(BAD, "This symptom is not known here."));
    let near = diagnose::nearest(text);
    if is_esr {
        out.push_str("`bartender decode esr` has every field of the syndrome.\n");
    } else {
        also(out, "nearest", near.into_iter().map(|case| (case, case.title.clone())));
    }
    let mut items = vec![
        "the facts: `bartender inspect --save machine` writes them into a folder; it has no serial numbers".to_owned(),
        "the whole log of the host from its boot (dmesg), and of the guest; what came right before matters most"
            .to_owned(),
        "the VMM with its version and arguments, /proc/PID/smaps of it, and what the guest's driver maps how"
            .to_owned(),
    ];
    out.push_str(&show::list("collect", &items));
    items.clear();
    for (what, whom) in [
        ("KVM on arm64", "kvmarm@lists.linux.dev"),
        ("KVM on x86, VFIO", "kvm@vger.kernel.org"),
        ("IOMMUs", "iommu@lists.linux.dev"),
        ("BARs, windows, PCIe errors", "linux-pci@vger.kernel.org"),
        ("a VMM", "its tracker"),
    ] {
        items.push(format!("{what}: {whom}"));
    }
    out.push_str(&show::list("send it to", &items));
    out.push_str(
        "\nIf its cause is found, crates/diagnose/symptoms.toml takes it as a new case, with where that can be read.\n",
    );
}

/// A BAR of the device that is asked about, and what becomes of it.
#[derive(Serialize)]
struct Bar {
    bar: u8,
    ways: Vec<Way>,
}

#[derive(Serialize)]
struct Way {
    way: ::plan::Way,
    says: String,
    /// Why it cannot be had now, if it cannot.
    not_now: Option<String>,
    vma: String,
    stage2: Option<String>,
    fast: Answer,
    why: String,
}

/// What becomes of each memory BAR of the device, by each way to map it that some kernel has.
fn bars(facts: &Facts<'_>) -> Vec<Bar> {
    let (Some(host), Some(device)) = (facts.host, facts.device) else { return Vec::new() };
    let memory = device.bars.iter().filter(|bar| !bar.io);
    memory
        .map(|bar| Bar {
            bar: bar.index,
            ways: ::plan::layers(host, device, bar)
                .into_iter()
                .filter(|it| matches!(it.way, ::plan::Way::Vfio | ::plan::Way::Sysfs | ::plan::Way::SysfsWriteCombine))
                .map(|it| Way {
                    way: it.way,
                    says: it.way.says(bar.index),
                    not_now: it.available.err(),
                    vma: it.vma.what,
                    stage2: it.stage2.map(|layer| layer.what),
                    fast: it.fast.0,
                    why: it.fast.1,
                })
                .collect(),
        })
        .collect()
}

fn device_text(out: &mut String, facts: &Facts<'_>) {
    let Some(device) = facts.device else { return };
    let _ = writeln!(out, "\n{}", paint(STRONG, format!("{} {}: what becomes of its BARs", device.bdf, device.id)));
    for way in bars(facts).into_iter().flat_map(|bar| bar.ways) {
        let style = match way.fast {
            Answer::Yes => GOOD,
            Answer::No => BAD,
            Answer::Maybe => OPEN,
            Answer::NotAsked => FAINT,
        };
        const AT: usize = 26;
        let mut line = |label: &str, style: Style, word: &str, text: &str| {
            let lines = show::wrapped(&" ".repeat(AT), &format!("{word}{text}"));
            let text = lines.get(AT + word.len()..).unwrap_or_default();
            let _ = write!(out, "  {label:<24}{}{text}", paint(style, word));
        };
        let stage2 = way.stage2.map_or_else(String::new, |what| format!("; stage 2: {what}"));
        line(&way.says, Style::new(), "", &format!("{}{stage2}", way.vma));
        if let Some(why) = way.not_now {
            line("", OPEN, "not now: ", &why);
        }
        line("", style, &format!("fast {}: ", way.fast.name()), &way.why);
    }
    out.push_str("  `bartender inspect` has every way and layer of it\n");
}

/// All cases, by area.
fn list(json: bool) -> Result {
    let all = diagnose::all();
    if json {
        show::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    const TITLE: usize = 2 + NAME + 13;
    let mut out = String::new();
    let mut areas: Vec<&str> = Vec::new();
    for case in all {
        if !areas.contains(&case.area.as_str()) {
            areas.push(&case.area);
        }
    }
    for (i, area) in areas.into_iter().enumerate() {
        let _ = writeln!(out, "{}{}", if i > 0 { "\n" } else { "" }, paint(STRONG, area));
        for case in all.iter().filter(|case| case.area == area) {
            let title = show::wrapped(&" ".repeat(TITLE), &case.title);
            let mark = paint(colour(case.checked), case.checked.name());
            let _ = write!(out, "  {:<NAME$}{mark:<13}{}", case.name, title.get(TITLE..).unwrap_or_default());
        }
    }
    show::text(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// Everything of one.
fn one(name: &str, facts: &Facts<'_>, json: bool) -> Result {
    let case = diagnose::named(name).ok_or_else(|| {
        let names: Vec<&str> = diagnose::all().iter().map(|case| case.name.as_str()).collect();
        let error = input::unknown("--case", name, &names);
        let (error, _) = error.split_once("one of:").unwrap_or((&error, ""));
        format!("{error}`bartender diagnose --list` has all")
    })?;
    if json {
        #[derive(Serialize)]
        struct Answer<'a> {
            #[serde(flatten)]
            case: &'a Case,
            here: Judged,
        }
        show::json(&Answer { case, here: facts.judge(case) })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    headline(&mut out, case);
    field(&mut out, "area", &case.area);
    for (i, pattern) in case.lines.iter().enumerate() {
        field(&mut out, if i == 0 { "line" } else { "" }, &pattern.text);
    }
    for (i, esr) in case.esr.iter().enumerate() {
        field(&mut out, if i == 0 { "syndrome" } else { "" }, &esr_words(esr));
    }
    for (i, call) in case.calls.iter().enumerate() {
        field(&mut out, if i == 0 { "call" } else { "" }, &format!("{} from {}", call.errno, call.call));
    }
    if !case.words.is_empty() {
        field(&mut out, "words", &case.words.join(", "));
    }
    field(&mut out, "cause", &filled(&case.cause, &[]));
    let mut label = "host";
    for note in &case.host {
        for (kind, when) in [("needs", &note.needs), ("likely", &note.likely), ("unlikely", &note.unlikely)] {
            if let Some(when) = when {
                field(&mut out, label, &format!("{kind}: {}: {}", when_words(when), note.says));
                label = "";
            }
        }
    }
    here_text(&mut out, &facts.judge(case), "here");
    for (i, remedy) in case.remedy.iter().enumerate() {
        field(&mut out, if i == 0 { "remedy" } else { "" }, &format!("{}. {}", i + 1, filled(remedy, &[])));
    }
    for (i, source) in case.source.iter().enumerate() {
        field(&mut out, if i == 0 { "source" } else { "" }, source);
    }
    let _ = writeln!(out, "  {:<LABEL$}{}", paint(FAINT, "checked"), paint(colour(case.checked), case.checked.name()));
    for (i, example) in case.examples.iter().enumerate() {
        field(&mut out, if i == 0 { "example" } else { "" }, example);
    }
    show::text(&out)?;
    Ok(ExitCode::SUCCESS)
}

fn esr_words(esr: &diagnose::EsrIs) -> String {
    let codes = |codes: &[u8]| codes.iter().map(|code| format!("{code:#04x}")).collect::<Vec<_>>().join(" or ");
    let mut out = vec![format!("EC {}", codes(&esr.ec))];
    if !esr.fsc.is_empty() {
        out.push(format!("FSC {}", codes(&esr.fsc)));
    }
    out.extend(esr.wnr.map(|wnr| format!("WnR {}", u8::from(wnr))));
    out.extend(esr.isv.map(|isv| format!("ISV {}", u8::from(isv))));
    out.extend(esr.el.map(|el| format!("taken to EL{el}")));
    out.join(", ")
}

/// A condition as the file has it: `arch arm64, kernel-below 6.9`.
fn when_words(when: &When) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(when) else { return String::new() };
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let field = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::Bool(true) => name.clone(),
        serde_json::Value::Bool(false) => format!("not {name}"),
        serde_json::Value::Array(all) => format!("{name} {}", all.iter().map(word).collect::<Vec<_>>().join(" or ")),
        other => format!("{name} {}", word(other)),
    };
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

fn colour(checked: Checked) -> Style {
    match checked {
        Checked::Read => GOOD,
        Checked::SecondHand => OPEN,
        Checked::Unverified => BAD,
    }
}
