//! `bartender decode ept`.

use super::{Result, print_decoded};
use crate::decode::ept;
use crate::input;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode ept 0xfe000007" => "a page of a BAR, as KVM maps it",
    "bartender decode ept 0x1000000f7 --level 2" => "2 MiB of RAM, the guest's PAT ignored",
    "bartender decode ept 0x1017 --json" => "a reserved memory type, as JSON",
])]
pub(super) struct Args {
    /// The entry
    value: String,
    /// The level: 1 maps 4 KiB, 2 maps 2 MiB, 3 maps 1 GiB, 4 points to a table
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u8).range(1..=4))]
    level: u8,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result {
        print_decoded(self.json, &ept::decode(input::number(&self.value)?, self.level))
    }
}
