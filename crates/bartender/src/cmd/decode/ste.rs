//! `bartender decode ste`.

use super::{Result, print_decoded};
use crate::decode::ste;
use crate::input;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = examples![
    "bartender decode ste 0x9 0x100000000000" => "a stream that bypasses the SMMU, as Linux sets one up",
    "bartender decode ste 0x4000100f 0x1000020000d4 0x44d359000000001 0x80000000" => "a guest's stage 1 on a stage 2 with S2FWB",
    "bartender decode ste 0xd --json" => "the first doubleword alone, as JSON",
])]
pub(super) struct Args {
    /// The doublewords of 64 bits, the lowest first; those left out are zero
    #[arg(required = true, num_args = 1..=8)]
    words: Vec<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result {
        let mut words = [0; 8];
        for (to, text) in words.iter_mut().zip(&self.words) {
            *to = input::number(text)?;
        }
        let mut decoded = ste::decode(words);
        if self.words.len() < 8 {
            decoded.notes.push(format!("{} of 8 doublewords given, the others are taken as zero", self.words.len()));
        }
        print_decoded(self.json, &decoded)
    }
}
