//! `bartender lint`: a guest's firmware description, checked for contradictions on coherency and translation.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::Style;
use firmware::aml::Namespace;
use firmware::dmar::Dmar;
use firmware::dt;
use firmware::iort::Iort;
use firmware::lint::{self, Complaint, Description, Part, RULES, Rule, Severity};
use firmware::madt::Madt;
use firmware::viot::{Node, Viot};
use firmware::{mcfg, table};
use serde::Serialize;

use super::Result;
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, OPEN, STRONG, paint};

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mWhere to get it:\u{1b}[0m
  of QEMU              qemu-system-aarch64 -M virt,...,dumpdtb=guest.dtb
  of a running guest   /sys/firmware/fdt, or /sys/firmware/acpi/tables (as root)
  of a VMM's test      the bytes it writes into guest memory
  Tables are known by their signatures, whatever the files are called.

\u{1b}[1m\u{1b}[4mExit status:\u{1b}[0m
  0 nothing of severity error, 1 an error (with --strict a warning too), 2 it cannot be read

",
    examples![
        "bartender lint crates/firmware/tests/fixtures/virt-smmuv3.dtb" => "a device tree",
        "bartender lint crates/firmware/tests/fixtures/acpi-virtio-iommu" => "a folder of ACPI tables",
        "bartender lint crates/firmware/tests/fixtures/acpi-smmuv3/IORT --json" => "one table, as JSON",
        "bartender lint --rules" => "what is looked for",
        "bartender lint --rules dt-iommu-in-own-map" => "one rule, with what follows, the remedy and the source",
    ]
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A device tree, a folder of ACPI tables, single tables: of one machine
    #[arg(required_unless_present = "rules", value_name = "DTB|ACPI-DIR|TABLE")]
    files: Vec<PathBuf>,
    /// List the rules, or say all of one
    #[arg(long, value_name = "RULE", num_args = 0..=1, conflicts_with_all = ["files", "strict"])]
    rules: Option<Option<String>>,
    /// A warning is a "no" too
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// A file that is none of these, a rule that is none.
pub fn run(args: &Args) -> Result {
    if let Some(rule) = &args.rules {
        return rules(rule.as_deref(), args.json);
    }
    let mut read = Read::default();
    for file in &args.files {
        read.path(file)?;
    }
    let description = read.description;
    let complaints = lint::check(&description);
    let worst = if args.strict { Severity::Warning } else { Severity::Error };
    let no = complaints.iter().any(|complaint| complaint.rule.severity <= worst);
    if args.json {
        show::json(&Report::of(&description, &complaints))?;
    } else {
        show::text(&text(&description, &complaints))?;
    }
    Ok(if no { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Bytes of a file that are read: more than any table or tree that a kernel takes.
const MOST: usize = dt::MOST;
/// Files of a folder that are read.
const FILES: usize = 1024;

#[derive(Default)]
struct Read {
    description: Description,
}

impl Read {
    fn path(&mut self, path: &Path) -> Result<()> {
        let failed = |e| format!("{}: {e}", path.display());
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            let what = self.file(path, &bytes(path)?)?;
            return match what {
                true => Ok(()),
                false => Err(format!(
                    "{}: neither a flattened device tree (it begins with d0 0d fe ed) nor an ACPI table that is read\n\
                     tables that are read: IORT, VIOT, MCFG, APIC, DSDT, SSDT, DMAR, GTDT; a tree in source form: dtc -O dtb",
                    path.display()
                )
                .into()),
            };
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)?.take(FILES) {
            entries.push(entry.map_err(failed)?.path());
        }
        entries.sort();
        let mut some = false;
        for file in entries.iter().filter(|file| file.is_file()) {
            some |= self.file(file, &bytes(file)?)?;
        }
        if some {
            return Ok(());
        }
        Err(format!(
            "{}: no ACPI table and no device tree in it\n\
             a folder as /sys/firmware/acpi/tables: DSDT, SSDT1, IORT, ...; of a device tree the file /sys/firmware/fdt",
            path.display()
        )
        .into())
    }

    /// Whether it is something that is read.
    fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<bool> {
        let it = &mut self.description;
        let twice = |what: &str| Err(format!("{}: a second {what}\none machine at a time", path.display()).into());
        if bytes.starts_with(&dt::MAGIC) {
            if it.tree.is_some() {
                return twice("device tree");
            }
            match dt::parse(bytes) {
                Ok(tree) => it.tree = Some(tree),
                Err(e) => it.malformed.push((path.display().to_string(), e.to_string())),
            }
            return Ok(true);
        }
        let Some(signature) = table::signature(bytes) else { return Ok(false) };
        let found = match signature {
            "IORT" => place(&mut it.iort, Iort::parse(bytes)),
            "VIOT" => place(&mut it.viot, Viot::parse(bytes)),
            "MCFG" => place(&mut it.mcfg, mcfg::parse(bytes)),
            "APIC" => place(&mut it.madt, Madt::parse(bytes)),
            "DMAR" => place(&mut it.dmar, Dmar::parse(bytes)),
            "DSDT" | "SSDT" => it.names.get_or_insert_with(Namespace::default).read(bytes).map_err(Some),
            "GTDT" => {
                it.arm = true;
                Ok(())
            }
            _ => return Ok(false),
        };
        match found {
            Ok(()) => Ok(true),
            Err(None) => twice(signature),
            Err(Some(e)) => {
                it.malformed.push((path.display().to_string(), e.to_string()));
                Ok(true)
            }
        }
    }
}

/// Keeps a table; no error: there is one already.
fn place<T>(
    to: &mut Option<T>,
    found: std::result::Result<T, table::Error>,
) -> std::result::Result<(), Option<table::Error>> {
    match (to.is_some(), found) {
        (true, _) => Err(None),
        (false, Ok(it)) => {
            *to = Some(it);
            Ok(())
        }
        (false, Err(e)) => Err(Some(e)),
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let most = u64::try_from(MOST).unwrap_or(u64::MAX);
    let file = fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut out));
    file.map_err(|e| {
        let hint = if e.kind() == std::io::ErrorKind::PermissionDenied { "\nroot may read it" } else { "" };
        format!("{}: {e}{hint}", path.display())
    })?;
    if out.len() > MOST {
        return Err(format!("{}: more than {MOST} bytes\nno table and no tree has as many", path.display()).into());
    }
    Ok(out)
}

/// What was read, in words: part and summary.
fn parts(it: &Description) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if let Some(iort) = &it.iort {
        let mut kinds: Vec<(&str, usize)> = Vec::new();
        for node in &iort.nodes {
            match kinds.iter_mut().find(|(name, _)| *name == node.kind.name()) {
                Some((_, count)) => *count += 1,
                None => kinds.push((node.kind.name(), 1)),
            }
        }
        let kinds: Vec<String> = kinds.into_iter().map(|(name, count)| counted(count, name)).collect();
        out.push(("IORT", if kinds.is_empty() { "no nodes".into() } else { kinds.join(", ") }));
    }
    if let Some(viot) = &it.viot {
        let count = |is: fn(&Node) -> bool| viot.nodes.iter().filter(|(_, node)| is(node)).count();
        let iommus = count(|n| matches!(n, Node::VirtioPci { .. } | Node::VirtioMmio { .. }));
        let ranges = counted(count(|n| matches!(n, Node::PciRange { .. })), "PCI range");
        let points = count(|n| matches!(n, Node::Mmio { .. }));
        out.push((
            "VIOT",
            format!("{}, {ranges}, {}", counted(iommus, "virtio-iommu"), counted(points, "MMIO endpoint")),
        ));
    }
    if let Some(mcfg) = &it.mcfg {
        let windows =
            mcfg.iter().take(4).map(|e| format!("segment {}, buses {:#04x} to {:#04x}", e.segment, e.first, e.last));
        let windows: Vec<String> = windows.collect();
        let more = if mcfg.len() > windows.len() { ", and more" } else { "" };
        out.push(("MCFG", format!("{}{more}", windows.join("; "))));
    }
    if let Some(madt) = &it.madt {
        let gic = if madt.gic { "a GIC" } else { "no GIC" };
        let (its, frames) = (counted(madt.its.len(), "ITS"), counted(madt.frames.len(), "GICv2m frame"));
        out.push(("APIC", format!("{gic}, {its}, {frames}")));
    }
    if let Some(dmar) = &it.dmar {
        out.push(("DMAR", format!("{} (no rule asks of it)", counted(dmar.units.len(), "remapping unit"))));
    }
    if let Some(names) = &it.names {
        let bridges = names.host_bridges();
        let said = bridges.iter().take(4).map(|bridge| {
            let cca = match (bridge.cca, bridge.open) {
                (Some(cca), _) => format!("_CCA {}", u8::from(cca)),
                (None, true) => "_CCA computed".into(),
                (None, false) => "no _CCA".into(),
            };
            let segment = bridge.segment.map_or_else(|| "segment computed".into(), |s| format!("segment {s}"));
            format!("{} ({segment}, {cca})", bridge.path)
        });
        let said: Vec<String> = said.collect();
        let count = counted(bridges.len(), "PCI host bridge");
        out.push(("DSDT, SSDT", if said.is_empty() { count } else { format!("{count}: {}", said.join(", ")) }));
    }
    if let Some((tree, wiring)) = &it.tree {
        let counts = [
            counted(tree.bridges.len(), "PCI host bridge"),
            counted(tree.iommus.len(), "IOMMU"),
            counted(wiring.devices.len(), "other DMA device"),
            counted(wiring.msi_controllers.len(), "MSI controller"),
        ];
        let of = tree.compatible.first().map_or_else(String::new, |of| format!("{of}: "));
        out.push(("device tree", format!("{of}{}", counts.join(", "))));
    }
    out
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        _ if what.ends_with("ex") => format!("{count} {what}es"),
        _ => format!("{count} {what}s"),
    }
}

/// The parts that rules would look at and that are not there.
fn missing(it: &Description) -> Vec<&'static str> {
    let all = [Part::Iort, Part::Viot, Part::Mcfg, Part::Madt, Part::Names];
    let acpi = all.iter().any(|part| it.has(*part));
    // Who has the one way of describing a machine does not miss the other.
    let missing = all.into_iter().filter(|part| acpi && !it.has(*part)).map(Part::name);
    missing.chain((!acpi && it.tree.is_none()).then_some("device tree")).collect()
}

fn text(it: &Description, complaints: &[Complaint]) -> String {
    let mut out = String::new();
    for (name, what) in parts(it) {
        let _ = write!(out, "{}", labelled(name, STRONG, &what));
    }
    let missing = missing(it);
    if !missing.is_empty() {
        let _ = write!(out, "{}", labelled("not here", FAINT, &missing.join(", ")));
    }
    for broken in complaints.chunk_by(|a, b| a.rule.name == b.rule.name) {
        let Some(rule) = broken.first().map(|complaint| complaint.rule) else { continue };
        let name = paint(colour(rule.severity), rule.severity.name());
        let _ = write!(out, "\n{name:<9}{}\n", paint(STRONG, rule.name));
        // Thirty devices with the same fault are one line.
        for same in broken.chunk_by(|a, b| a.found == b.found) {
            let mut places: Vec<&str> = same.iter().take(PLACES).map(|complaint| complaint.at.as_str()).collect();
            let more = format!("and {} more", same.len().saturating_sub(PLACES));
            if same.len() > PLACES {
                places.push(&more);
            }
            out.push_str(&field("at", &places.join(", ")));
            out.push_str(&field("", same.first().map_or("", |complaint| &complaint.found)));
        }
        rest(&mut out, rule);
    }
    let asked = RULES.iter().filter(|rule| rule.applies(it)).count();
    let of = format!("{asked} of {} rules asked", RULES.len());
    let counts: Vec<String> = Severity::ALL
        .iter()
        .filter_map(|severity| {
            let count = complaints.iter().filter(|c| c.rule.severity == *severity).count();
            (count > 0).then(|| counted(count, severity.name()))
        })
        .collect();
    let verdict =
        if counts.is_empty() { paint(GOOD, "nothing contradicts".into()) } else { paint(STRONG, counts.join(", ")) };
    let _ = writeln!(out, "\n{verdict}; {of}");
    out
}

fn rest(out: &mut String, rule: &Rule) {
    out.push_str(&field("follows", rule.follows));
    out.push_str(&field("remedy", rule.remedy));
    for (i, source) in rule.source.iter().enumerate() {
        out.push_str(&field(if i == 0 { "source" } else { "" }, source));
    }
}

/// Places with the same fault that are named.
const PLACES: usize = 4;
/// The column of what a rule says.
const FIELD: usize = 9;

fn field(label: &str, text: &str) -> String {
    let lines = show::wrapped(&" ".repeat(FIELD + 8), text);
    format!("{:FIELD$}{}{}", "", paint(FAINT, format!("{label:<8}")), lines.get(FIELD + 8..).unwrap_or_default())
}

fn labelled(label: &str, style: Style, text: &str) -> String {
    let lines = show::wrapped(&" ".repeat(13), text);
    format!("{:<13}{}", paint(style, label), lines.get(13..).unwrap_or_default())
}

const fn colour(severity: Severity) -> Style {
    match severity {
        Severity::Error => BAD,
        Severity::Warning => OPEN,
        Severity::Note => FAINT,
    }
}

fn rules(name: Option<&str>, json: bool) -> Result {
    if let Some(name) = name {
        let rule = lint::named(name).ok_or_else(|| {
            let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
            input::unknown("rules", name, &names)
        })?;
        if json {
            show::json(rule)?;
        } else {
            let mut out =
                format!("{:<9}{}\n", paint(colour(rule.severity), rule.severity.name()), paint(STRONG, rule.name));
            out.push_str(&field("finds", rule.finds));
            rest(&mut out, rule);
            show::text(&out)?;
        }
    } else if json {
        show::json(&RULES)?;
    } else {
        let mut out = String::new();
        for severity in Severity::ALL {
            for rule in RULES.iter().filter(|rule| rule.severity == severity) {
                let finds = show::wrapped(&" ".repeat(40), rule.finds);
                let name = paint(STRONG, rule.name);
                let _ = write!(out, "{:<9}{name:<31}{}", paint(colour(severity), severity.name()), finds.trim_start());
            }
        }
        show::text(&out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The JSON: what was read, which rules were asked, what is broken.
#[derive(Serialize)]
struct Report<'a> {
    read: serde_json::Map<String, serde_json::Value>,
    missing: Vec<&'static str>,
    rules: Vec<&'static str>,
    complaints: &'a [Complaint],
}

impl<'a> Report<'a> {
    fn of(it: &Description, complaints: &'a [Complaint]) -> Self {
        let read = parts(it).into_iter().map(|(name, what)| (name.to_owned(), what.into())).collect();
        let rules = RULES.iter().filter(|rule| rule.applies(it)).map(|rule| rule.name).collect();
        Self { read, missing: missing(it), rules, complaints }
    }
}
