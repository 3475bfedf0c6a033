//! `bartender findings`.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::Result;
use crate::findings::{self, Area, Finding};
use crate::input;
use crate::show::{self, FAINT, STRONG, paint};

const HELP: &str = concat!(
    "Where the architecture, an emulator, Linux, manuals and other people's code disagree: what differs, the smallest example, who
is right, where that is said, and one command that shows it. docs/findings.md is printed from the same data.

",
    examples![
        "bartender findings" => "all of them, a line each",
        "bartender findings linux-transient-write-back" => "one, as a text that can be sent to those whom it concerns",
        "bartender findings --area linux --md" => "those of one area as a table in Markdown",
        "bartender findings --json" => "for programs",
    ],
);

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// The name of one
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Of one area: emulator, viommu, linux, model, manual, code
    #[arg(long, value_name = "AREA", conflicts_with = "name")]
    area: Option<String>,
    /// Print a table in Markdown
    #[arg(long, conflicts_with_all = ["json", "name"], requires = "area")]
    md: bool,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// An unknown name or area.
pub fn run(args: &Args) -> Result {
    let area = args.area.as_deref().map(area).transpose()?;
    let mut chosen = findings::all();
    if let Some(name) = &args.name {
        let names: Vec<&str> = chosen.iter().map(|f| f.name).collect();
        let i = names.iter().position(|n| n == name).ok_or_else(|| input::unknown("finding", name, &names))?;
        chosen = vec![chosen.swap_remove(i)];
    }
    chosen.retain(|f| area.is_none_or(|a| f.area == a));
    if args.json {
        show::json(&chosen)?;
    } else if let (true, Some(area)) = (args.md, area) {
        show::text(&findings::markdown(area))?;
    } else if let (Some(_), Some(one)) = (&args.name, chosen.first()) {
        show::text(&findings::letter(one))?;
    } else {
        show::text(&list(&chosen))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn area(name: &str) -> std::result::Result<Area, String> {
    let names = Area::ALL.map(Area::name);
    Area::ALL.into_iter().find(|a| a.name() == name).ok_or_else(|| input::unknown("--area", name, &names))
}

fn list(all: &[Finding]) -> String {
    let mut out = String::new();
    let width = all.iter().map(|f| f.name.len()).max().unwrap_or(0) + 2;
    for area in Area::ALL {
        let mut of = all.iter().filter(|f| f.area == area).peekable();
        if of.peek().is_none() {
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = writeln!(out, "{}", paint(STRONG, area.says()));
        for f in of {
            out.push_str(&show::wrapped(&format!("  {:<width$}", f.name), &f.says));
        }
    }
    let _ =
        writeln!(out, "\n{}", paint(FAINT, format!("{} findings; bartender findings NAME says all of one", all.len())));
    out
}
