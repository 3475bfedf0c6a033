//! `bartender decode KIND VALUE`.

mod ept;
mod mtrr;
mod pat;
mod pbmt;
mod pte;
mod ste;

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::Result;
use crate::decode::mair::Attribute;
use crate::decode::{Decoded, esr, lines, mair, notes, par};
use crate::input;
use crate::show::{self, BAD, FAINT, GOOD, STRONG, paint};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = examples![
        "bartender decode esr 0x92000061" => "a fault, in words, and what to do about it",
        "bartender decode mair 0x40044f0ff" => "the attributes Linux puts into MAIR_EL1",
        "bartender decode par 0x4400000010000b00" => "what an AT instruction found",
    ]
)]
pub struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// An exception syndrome (ESR_EL1, ESR_EL2), or a line of a log that has one
    Esr(EsrArgs),
    /// Memory attributes (MAIR_EL1, MAIR_EL2), or one byte of them
    Mair(MairArgs),
    /// The result of an address translation instruction (PAR_EL1, 64-bit format)
    Par(ParArgs),
    /// The page attribute table of x86 (IA32_PAT)
    Pat(pat::Args),
    /// Memory type range registers of x86
    Mtrr(mtrr::Args),
    /// An entry of Intel's extended page tables
    Ept(ept::Args),
    /// A page-table entry: of x86, Arm or RISC-V
    Pte(pte::Args),
    /// A stream table entry of the Arm SMMU
    Ste(ste::Args),
    /// A page-table entry of RISC-V with Svpbmt
    Pbmt(pbmt::Args),
}

#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode esr 0x92000061" => "the report of thread 002",
    "bartender decode esr 'Unsupported FSC: EC=0x24 xFSC=0x21 ESR_EL2=0x92000061'" => "the line as the kernel prints it",
    "bartender decode esr 0x96000061" => "a guest's own unaligned access",
    "bartender decode esr --el 1 0x92000061" => "a process that had a bus error",
    "bartender decode esr 0x93c38047 --json" => "an access that the hypervisor can emulate, as JSON",
])]
struct EsrArgs {
    /// The value (0x, 0b or decimal, underscores allowed), or text in which it is labelled: ESR_EL2=0x..., ESR = 0x...
    #[arg(required = true)]
    value: Vec<String>,
    /// The Exception level it was taken to: 1 for ESR_EL1 (or a process under a VHE host), 2 for ESR_EL2
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2))]
    el: Option<u8>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode mair 0x40044f0ff" => "the attributes of Linux",
    "bartender decode mair 0x44" => "one byte: two hexadecimal digits or fewer",
    "bartender decode mair 0x0000000000000044" => "a register, because all digits are there",
    "bartender decode mair --byte 187 --json" => "one byte, as JSON",
])]
struct MairArgs {
    /// The register (64 bits, Attr7 to Attr0), or a single byte: at most two hexadecimal or eight binary digits, or a
    /// decimal number up to 255
    value: String,
    /// It is a single byte
    #[arg(long, conflicts_with = "register")]
    byte: bool,
    /// It is the register, however short
    #[arg(long)]
    register: bool,
    /// Print a JSON array of attributes
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode par 0x4400000010000b00" => "a page of write-combining memory",
    "bartender decode par 0xa0b" => "a translation that failed at stage 2",
    "bartender decode par 0x0400_0000_1000_0b00 --json" => "a Device page, as JSON",
])]
struct ParArgs {
    /// The low 64 bits of PAR_EL1
    value: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Decodes.
///
/// # Errors
/// A value that is no number, or text without one.
pub fn run(args: &Args) -> Result {
    match &args.kind {
        Kind::Esr(args) => {
            let decoded = esr::decode(esr::find(&args.value.join(" "))?, args.el);
            print(args.json, &decoded, esr_text)
        }
        Kind::Mair(args) => print(args.json, &mair(args)?, |all| mair_text(all)),
        Kind::Par(args) => print(args.json, &par::decode(input::number(&args.value)?), par_text),
        Kind::Pat(args) => args.run(),
        Kind::Mtrr(args) => args.run(),
        Kind::Ept(args) => args.run(),
        Kind::Pte(args) => args.run(),
        Kind::Ste(args) => args.run(),
        Kind::Pbmt(args) => args.run(),
    }
}

fn print<T: Serialize>(json: bool, value: &T, text: impl Fn(&T) -> String) -> Result {
    if json {
        show::json(value)?;
    } else {
        show::text(&text(value))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what was decoded.
fn print_decoded(json: bool, it: &Decoded) -> Result {
    print(json, it, |it| {
        let value: Vec<String> = it.value.iter().map(ToString::to_string).collect();
        let name = format!("{} {}", it.register, value.join(" "));
        let text = show::wrapped(&format!("{name}  "), &it.says);
        format!(
            "{}{}{}{}{}",
            paint(STRONG, &name),
            text.get(name.len()..).unwrap_or_default(),
            lines(&it.fields),
            show::list("what it says", &it.what),
            notes(&it.notes),
        )
    })
}

/// The register and its value stand out.
fn title(register: &str, value: show::Hex, says: &str) -> String {
    let name = format!("{register} {value}");
    let text = show::wrapped(&format!("{name}  "), says);
    format!("{}{}", paint(STRONG, &name), text.get(name.len()..).unwrap_or_default())
}

fn esr_text(esr: &esr::Esr) -> String {
    let fault = esr.fault.as_ref().map_or_else(String::new, |fault| format!(": {fault}"));
    format!(
        "{}\n{}{}{}{}{}",
        title(esr.register, esr.value, &format!("{}{fault}", esr.ec_name)),
        lines(&esr.fields),
        show::list("what happened", &esr.what),
        show::list("why", &esr.why),
        show::list("what to do", &esr.advice),
        notes(&esr.notes),
    )
}

fn mair(args: &MairArgs) -> Result<Vec<Attribute>> {
    let value = input::number(&args.value)?;
    let digits = args.value.trim().replace('_', "").len();
    let short = match args.value.trim().get(..2) {
        Some("0x" | "0X") => digits <= 4,
        Some("0b" | "0B") => digits <= 10,
        _ => true,
    };
    match u8::try_from(value) {
        Ok(byte) if args.byte || (short && !args.register) => Ok(vec![mair::attribute(None, byte)]),
        Err(_) if args.byte => {
            Err(format!("{} is more than a byte: 0 to 255\nleave out --byte for the whole register", args.value).into())
        }
        _ => Ok(mair::attributes(value)),
    }
}

fn mair_text(all: &[Attribute]) -> String {
    let mut out = String::new();
    for it in all {
        let index = it.index.map_or_else(String::new, |i| format!("Attr{i}  "));
        let style = show::colour(it.ty);
        let _ = write!(out, "{}{:#04x}  {:<15}", paint(FAINT, index), it.byte, paint(style, it.ty));
        let (unaligned, says) = if it.unaligned == "ok" { (GOOD, "unaligned ok") } else { (BAD, "unaligned faults") };
        let _ = write!(out, "  {:<16}  XS {}", paint(unaligned, says), u8::from(it.xs));
        if let (Some(inner), Some(outer)) = (&it.inner, &it.outer) {
            let hints = if inner == outer { inner.clone() } else { format!("inner {inner}, outer {outer}") };
            let _ = write!(out, "  {hints}");
        }
        if it.tagged {
            out.push_str(", Tagged");
        }
        if let Some(reserved) = it.reserved {
            let _ = write!(out, "  {}", paint(BAD, reserved));
        }
        out.push('\n');
    }
    out
}

fn par_text(par: &par::Par) -> String {
    let says = match (&par.fault, par.pa) {
        (None, Some(pa)) => format!("translated to {pa}"),
        (Some(fault), _) => format!("failed: {fault}"),
        _ => String::new(),
    };
    format!(
        "{}\n{}{}{}",
        title("PAR_EL1", par.value, &says),
        lines(&par.fields),
        show::list("what it says", &par.what),
        notes(&par.notes),
    )
}
