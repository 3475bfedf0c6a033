//! `bartender viommu`: any virtio-iommu against the specification.

pub mod ours;
pub mod qemu;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conformance::clause::{self, Binds, CLAUSES, Clause, Level};
use conformance::like::{Like, Project};
use conformance::reference::{self, Reference};
use conformance::report::{Column, Report, SPECIFICATION, Style, select};
use conformance::suite::{SILENT, Silent};
use serde::Serialize;

use super::Result;
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender viommu conformance" => "the device of the crate `viommu`, clause by clause",
    "bartender viommu clauses" => "every clause there is",
])]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Devices against the specification, clause by clause: a test for each
    #[command(after_help = CONFORMANCE)]
    Conformance(Conformance),
    /// The clauses of virtio 5.13 and where they stand
    #[command(after_help = CLAUSES_HELP)]
    Clauses {
        /// One of them; none: all
        #[arg(value_name = "CLAUSE")]
        id: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

const CONFORMANCE: &str = concat!(
    "Devices:
  viommu             the crate's device, in all the configurations that conform; each alone is
                     viommu:full, minimal, narrow, bytes, mixed; and viommu:legacy, which does not
  reference          the suite's own device, slow and plain
  like:PROJECT       the reference, behaving as one was read to: qemu, cloud-hypervisor, crosvm
  qemu, qemu:OPTIONS QEMU's virtio-iommu-pci, over its qtest socket

Exits with 1 if a clause fails that could be shown, whatever its level; a MAY has no failure.

",
    examples![
        "bartender viommu conformance" => "what the crate's device does, and where the specification is silent",
        "bartender viommu conformance --level must" => "what a device MUST and MUST NOT alone",
        "bartender viommu conformance --device viommu --device reference" => "two side by side",
        "bartender viommu conformance --clause unmap-split-removes-nothing --json" => "one clause, for programs",
        "bartender viommu conformance --device viommu --device reference --html -" => "the same as a page, to stdout",
    ],
    "

With QEMU, which `bartender lab setup x86-6.12` fetches:
  bartender viommu conformance --device qemu
      a device that nobody here wrote
  bartender viommu conformance --device viommu --device qemu --device qemu:boot-bypass=off --html viommu.html
      it beside the crate's, in two configurations, as a page"
);

const CLAUSES_HELP: &str = examples![
    "bartender viommu clauses" => "all, in the order of the specification",
    "bartender viommu clauses attach-moves" => "one: what it says, where, and how it is shown",
    "bartender viommu clauses --json" => "all, for programs",
];

#[derive(Debug, clap::Args)]
struct Conformance {
    /// A device (see below); may be repeated: each is a column
    #[arg(long = "device", value_name = "DEVICE", default_value = "viommu")]
    devices: Vec<String>,
    /// This clause alone; may be repeated
    #[arg(long = "clause", value_name = "CLAUSE")]
    clauses: Vec<String>,
    /// Clauses of this level alone; may be repeated
    #[arg(long = "level", value_name = "LEVEL")]
    levels: Vec<Strength>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// Write a page that needs no other file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Strength {
    /// MUST and MUST NOT
    Must,
    /// SHOULD and SHOULD NOT
    Should,
    /// MAY
    May,
    /// What is said outside of the requirements, and definite
    Text,
}

impl Strength {
    fn has(self, level: Level) -> bool {
        match self {
            Self::Must => level.is_must(),
            Self::Should => level.is_should(),
            Self::May => level == Level::May,
            Self::Text => level == Level::Text,
        }
    }
}

/// Runs it.
///
/// # Errors
/// A name that is none; QEMU is wanted and is not there.
pub fn run(args: &Args) -> Result {
    match &args.what {
        What::Conformance(args) => conformance(args),
        What::Clauses { id, json } => clauses(id.as_deref(), *json),
    }
}

fn style(style: Style, text: &str) -> String {
    let colour = match style {
        Style::Strong => STRONG,
        Style::Faint => FAINT,
        Style::Good => GOOD,
        Style::Bad => BAD,
        Style::Open => OPEN,
    };
    // Line by line: a style that is open at the end of one is lost in some pagers.
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => format!("{}\n", paint(colour, line)),
            None => paint(colour, line).to_string(),
        })
        .collect()
}

fn conformance(args: &Conformance) -> Result {
    for id in &args.clauses {
        found(id)?;
    }
    let to_stdout = args.html.as_deref() == Some(Path::new("-"));
    if to_stdout && args.json {
        return Err("--html - and --json both go to stdout: name a file for one of them".to_owned().into());
    }
    let every = args.clauses.is_empty() && args.levels.is_empty();
    let wanted = |level| args.levels.is_empty() || args.levels.iter().any(|it| it.has(level));
    let clauses = select(&args.clauses, wanted);
    if clauses.is_empty() {
        return Err("no clause is of that name and of that level\nsee: bartender viommu clauses".to_owned().into());
    }
    let mut columns = Vec::new();
    for name in &args.devices {
        columns.push(column(name, &clauses, every)?);
    }
    let report = Report { clauses, columns };
    if let Some(file) = args.html.as_ref().filter(|_| !to_stdout) {
        std::fs::write(file, report.page()).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    if to_stdout {
        show::text(&report.page())?;
    } else if args.json {
        show::json(&report.value())?;
    } else {
        show::text(&report.text(style))?;
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The projects by the names that a command line has for them.
const PROJECTS: [(&str, Project); 3] = [
    ("like:qemu", Project::Qemu),
    ("like:cloud-hypervisor", Project::CloudHypervisor),
    ("like:crosvm", Project::Crosvm),
];

/// A device by its name, under the tests of those clauses.
fn column(name: &str, clauses: &[&'static Clause], silent: bool) -> Result<Column> {
    let one = |device: &mut dyn conformance::Device| Column {
        device: name.to_owned(),
        ..Column::of(device, clauses, silent)
    };
    match name {
        "viommu" => {
            let conforming = ours::configurations().into_iter().filter(|it| it.conforming);
            let parts: Vec<_> = conforming.map(|it| ours_of(&it, clauses, silent)).collect::<Result<_>>()?;
            Ok(Column::merged(name.to_owned(), &parts))
        }
        "reference" => {
            let plain = reference::Config { bypass: reference::Bypass::Never, ..reference::Config::plain() };
            let configs = [
                ("reference:default", reference::Config::default()),
                ("reference:bytewise", reference::Config::bytewise()),
                ("reference:plain", plain),
            ];
            let parts: Vec<_> = configs
                .into_iter()
                .map(|(part, it)| Column::of(&mut Reference::new(it), clauses, silent).named(part))
                .collect();
            Ok(Column::merged(name.to_owned(), &parts))
        }
        "qemu" => Ok(one(&mut *qemu::device("")?)),
        _ => {
            if let Some(options) = name.strip_prefix("qemu:") {
                return Ok(one(&mut *qemu::device(options)?));
            }
            if let Some((_, project)) = PROJECTS.iter().find(|(it, _)| *it == name) {
                return Ok(one(&mut Like::of(*project).device()));
            }
            let configuration = ours::configurations();
            let found = configuration.iter().find(|it| name.strip_prefix("viommu:") == Some(it.name));
            let found = found.ok_or_else(|| unknown_device(name))?;
            ours_of(found, clauses, silent)
        }
    }
}

fn unknown_device(name: &str) -> String {
    let ours: Vec<_> = ours::configurations().iter().map(|it| format!("viommu:{}", it.name)).collect();
    let mut names = vec!["viommu", "reference", "qemu"];
    names.extend(PROJECTS.iter().map(|(name, _)| *name));
    names.extend(ours.iter().map(String::as_str));
    input::unknown("device", name, &names)
}

fn ours_of(configuration: &ours::Configuration, clauses: &[&'static Clause], silent: bool) -> Result<Column> {
    let mut device = configuration.device().map_err(|e| e.to_string())?;
    let what = configuration.what.to_owned();
    Ok(Column { what, ..Column::of(&mut device, clauses, silent) })
}

/// A clause by its name.
fn found(id: &str) -> Result<&'static Clause> {
    let names: Vec<_> = CLAUSES.iter().map(|c| c.id).collect();
    Ok(clause::by_id(id).ok_or_else(|| unknown_clause(id, &names))?)
}

/// There are too many to list.
fn unknown_clause(id: &str, names: &[&str]) -> String {
    let all = input::unknown("clause", id, names);
    let hint: Vec<_> = all.lines().take_while(|line| !line.starts_with("one of:")).collect();
    format!("{}\nsee: bartender viommu clauses", hint.join("\n"))
}

#[derive(Serialize)]
struct All {
    specification: &'static str,
    clauses: &'static [Clause],
    silent: &'static [Silent],
}

fn clauses(id: Option<&str>, json: bool) -> Result {
    let Some(id) = id else {
        if json {
            show::json(&All { specification: SPECIFICATION, clauses: CLAUSES, silent: SILENT })?;
        } else {
            show::text(&list())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(point) = SILENT.iter().find(|it| it.id == id) {
        if json {
            show::json(point)?;
        } else {
            show::text(&silent(point))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let clause = found(id)?;
    if json {
        show::json(clause)?;
    } else {
        show::text(&clause.text(style))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn silent(point: &Silent) -> String {
    let Silent { id, section, asks, because, .. } = point;
    let asks = show::wrapped("  ", asks);
    format!("{}\n  {section}; silent\n{asks}{}", paint(STRONG, id), show::wrapped("  ", because))
}

fn list() -> String {
    let mut out = format!("Of {SPECIFICATION}, in our words\n");
    let mut section = "";
    for clause in CLAUSES {
        if clause.section != section {
            section = clause.section;
            let whose =
                if clause.level == Level::Text || clause.binds == Binds::Device { "" } else { "  binds the driver" };
            let _ = write!(out, "\n{}{}\n", paint(STRONG, section), paint(FAINT, whose));
        }
        let _ = writeln!(out, "  {} {}", paint(level_style(clause.level), format!("{:<10}", clause.level)), clause.id);
        out.push_str(&style(Style::Faint, &show::wrapped(&" ".repeat(13), clause.says)));
    }
    let _ = write!(out, "\n{}\n", paint(STRONG, "Where the specification is silent"));
    for point in SILENT {
        let _ = writeln!(out, "  {:<12} {}", point.section, point.id);
        out.push_str(&style(Style::Faint, &show::wrapped(&" ".repeat(15), point.asks)));
    }
    out
}

fn level_style(level: Level) -> anstyle::Style {
    if level.is_must() { STRONG } else { anstyle::Style::new() }
}
