//! `bartender decode mtrr`.

use super::{Result, print_decoded};
use crate::decode::mtrr;
use crate::input;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode mtrr 0xc06" => "IA32_MTRR_DEF_TYPE: what holds where no range does",
    "bartender decode mtrr --base 0xc0000000 --mask 0x7fc0000800" => "a variable range: the hole for BARs",
    "bartender decode mtrr --base 0x6 --mask 0x3fff80000800 --phys-bits 46 --json" => "another, as JSON",
])]
pub(super) struct Args {
    /// IA32_MTRR_DEF_TYPE (MSR 0x2ff)
    #[arg(required_unless_present = "base", conflicts_with = "base")]
    value: Option<String>,
    /// IA32_MTRR_PHYSBASEn (MSR 0x200 + 2n)
    #[arg(long, requires = "mask")]
    base: Option<String>,
    /// IA32_MTRR_PHYSMASKn (MSR 0x201 + 2n)
    #[arg(long, requires = "base")]
    mask: Option<String>,
    /// Physical address bits of the CPU, for a range; if not given, those that the mask has
    #[arg(long, value_name = "BITS", requires = "base", value_parser = clap::value_parser!(u32).range(32..=52))]
    phys_bits: Option<u32>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result {
        let decoded = match (&self.base, &self.mask, &self.value) {
            (Some(base), Some(mask), _) => mtrr::range(input::number(base)?, input::number(mask)?, self.phys_bits),
            (_, _, Some(value)) => mtrr::default_type(input::number(value)?),
            _ => return Err("a value, or --base and --mask".to_string().into()),
        };
        print_decoded(self.json, &decoded)
    }
}
