//! `bartender diagnose`.

use super::Result;

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Not there yet.
pub fn run(_args: &Args) -> Result {
    Err(String::from("not there yet").into())
}
