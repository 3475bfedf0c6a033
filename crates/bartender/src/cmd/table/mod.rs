//! `bartender table ARCH`.

mod arm64;
mod grid;
mod linux;
mod riscv;
mod smmu;
mod x86;

use super::Result;

const HELP: &str = concat!(
    "\u{1b}[1m\u{1b}[4mColumns of arm64:\u{1b}[0m
  fwb, s2_memattr, s2_sh, s1_attr, s1_sh   the inputs, in decimal; s1_attr is the MAIR byte
  type                                     device-ngnrne, device-ngnre, device-ngre, device-gre or normal
  inner, outer                             nc, wt or wb; for Device `-` in CSV and null in JSON
  sh                                       nsh, ish or osh
  reserved                                 whether any input is a reserved encoding: 0 or 1, in JSON a boolean
  FEAT_XS and FEAT_MTE2 are present, FEAT_MTE_PERM is not.

",
    examples![
        "bartender table arm64" => "the types that have a name, side by side",
        "bartender table arm64 --fwb 1" => "only where HCR_EL2.FWB is on",
        "bartender table arm64 --csv --s1-attr 0x44 --s1-sh 0b11" => "all that can become of an inner shareable Normal-NC",
        "bartender table arm64 --csv | tail -n 3" => "one row for each of the 131072 combinations",
        "bartender table arm64 --json --s2-memattr 0b0101" => "an array of objects, one a line",
        "bartender table x86 --csv" => "EPT type, IPAT and guest PAT entry: what the guest gets",
        "bartender table riscv" => "PMA, G-stage and VS-stage",
        "bartender table smmu" => "what a PCIe transaction becomes, and what No Snoop does to it",
        "bartender table linux" => "what pgprot_* and ioremap_* are on each architecture",
    ]
);

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// Arm, A-profile: stage 1 and stage 2
    Arm64,
    /// x86: EPT and the guest's PAT
    X86,
    /// RISC-V: PMA, G-stage and VS-stage PBMT
    Riscv,
    /// The Arm SMMU: what a device's transaction becomes
    Smmu,
    /// Linux: what pgprot_* and ioremap_* are on each architecture
    Linux,
}

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Which table
    which: Which,
    /// Print every combination as comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub(super) csv: bool,
    /// Print every combination as a JSON array
    #[arg(long)]
    pub(super) json: bool,
    /// arm64: only with HCR_EL2.FWB off (0) or on (1)
    #[arg(long, value_name = "0|1")]
    pub(super) fwb: Option<String>,
    /// arm64: only this stage-2 MemAttr, 0 to 15
    #[arg(long, value_name = "BITS")]
    pub(super) s2_memattr: Option<String>,
    /// arm64: only this stage-2 SH, 0 to 3
    #[arg(long, value_name = "BITS")]
    pub(super) s2_sh: Option<String>,
    /// arm64: only this MAIR byte
    #[arg(long, value_name = "BYTE")]
    pub(super) s1_attr: Option<String>,
    /// arm64: only this stage-1 SH, 0 to 3
    #[arg(long, value_name = "BITS")]
    pub(super) s1_sh: Option<String>,
}

/// Prints the table.
///
/// # Errors
/// A filter that no row can pass, or that is of another table.
pub fn run(args: &Args) -> Result {
    if args.which == Which::Arm64 {
        return arm64::run(args);
    }
    if [&args.fwb, &args.s2_memattr, &args.s2_sh, &args.s1_attr, &args.s1_sh].iter().any(|filter| filter.is_some()) {
        return Err("the filters are of arm64\nother tables are small: filter the CSV".to_string().into());
    }
    match args.which {
        Which::Arm64 | Which::X86 => x86::grid(),
        Which::Riscv => riscv::grid(),
        Which::Smmu => smmu::grid(),
        Which::Linux => linux::grid(),
    }
    .print(args)
}
