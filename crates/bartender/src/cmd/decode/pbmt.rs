//! `bartender decode pbmt`.

use super::{Result, print_decoded};
use crate::decode::pbmt;
use crate::input;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode pbmt 0x20000000200000c7" => "a BAR's page, write-combining",
    "bartender decode pbmt 0x40000000200000c7" => "the same for registers, as ioremap() maps it",
    "bartender decode pbmt 0x6000000020000001" => "a pointer to the next level with bits it must not have",
    "bartender decode pbmt 0x20000000200000c7 --json" => "as JSON",
])]
pub(super) struct Args {
    /// A whole entry of Sv39, Sv48 or Sv57, of the guest's tables or of the G-stage's: 64 bits (0x, 0b or decimal)
    value: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result {
        print_decoded(self.json, &pbmt::decode(input::number(&self.value)?)?)
    }
}
