//! `bartender decode pat`.

use super::{Result, print_decoded};
use crate::decode::pat;
use crate::input;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode pat 0x0407050600070106" => "the table that Linux writes",
    "bartender decode pat 0x0007040600070406 --json" => "the table after reset: no entry is write-combining",
])]
pub(super) struct Args {
    /// IA32_PAT (MSR 0x277)
    value: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result {
        print_decoded(self.json, &pat::decode(input::number(&self.value)?))
    }
}
