//! `bartender policies`.

use std::fmt::Write as _;
use std::process::ExitCode;

use hyp::{Cpu, Decision, Policy, S2Kind, Vma, Why};
use serde::Serialize;

use super::Result;
use crate::show::{self, FAINT, STRONG, paint};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender policies" => "who can decide the stage-2 type, and what each decides",
    "bartender policies --json" => "the same for programs",
])]
pub struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The mappings a decision is shown for.
const MAPPINGS: [(&str, Vma); 3] = [
    ("BAR mapped by vfio-pci", Vma::VFIO_PCI_BAR),
    ("device memory mapped otherwise (sysfs, vfio-platform)", Vma::OTHER_DEVICE),
    ("guest RAM", Vma::RAM),
];

#[derive(Debug, Serialize)]
struct Shown {
    policy: &'static str,
    rule: &'static str,
    source: &'static str,
    decides: Vec<Decided>,
}

#[derive(Debug, Serialize)]
struct Decided {
    mapping: &'static str,
    stage2: &'static str,
    memattr: u8,
    memattr_fwb: u8,
    why: String,
}

fn shown(policy: Policy) -> Shown {
    let decides = MAPPINGS.map(|(mapping, vma)| {
        let cpu = Cpu { fwb: true, dic: true };
        let Decision { kind, why } =
            policy.decide(&vma, cpu).unwrap_or(Decision { kind: S2Kind::Normal, why: Why::KernelMemory });
        let memattr = |fwb| kind.memattr(fwb);
        Decided {
            mapping,
            stage2: kind.name(),
            memattr: memattr(false),
            memattr_fwb: memattr(true),
            why: why.to_string(),
        }
    });
    Shown { policy: policy.name(), rule: policy.rule(), source: policy.source(), decides: decides.into() }
}

/// Runs it.
///
/// # Errors
/// When stdout does not take it.
pub fn run(args: &Args) -> Result {
    let all: Vec<Shown> = Policy::ALL.into_iter().map(shown).collect();
    if args.json {
        show::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    for (i, p) in all.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let _ = writeln!(out, "{}", paint(STRONG, p.policy));
        out.push_str(&show::wrapped("  ", p.rule));
        for d in &p.decides {
            let _ = writeln!(
                out,
                "  {:<54} {:<13} MemAttr {:04b}, with FWB {:03b}",
                d.mapping, d.stage2, d.memattr, d.memattr_fwb
            );
        }
        let _ = writeln!(out, "  {}", paint(FAINT, p.source));
    }
    show::text(&out)?;
    Ok(ExitCode::SUCCESS)
}
