//! The command: the arguments, what is printed, and the exit code. What it says comes from the crates below.
//!
//! * [`cmd`]: one file for each subcommand;
//! * [`decode`]: registers into words, as pure functions;
//! * [`input`]: what people type: numbers and the names of memory types;
//! * [`show`]: how it is printed;
//! * [`suite`], [`machine`], [`verdict`]: scenarios read, run, judged;
//! * [`el2`], [`sweep`]: the bare-metal machine: scenarios, and every combination of attributes;
//! * [`hostlab`]: commands of this program in an emulated host;
//! * `init`: the program as the first process of an emulated server.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

/// The "Examples" section of a `--help`: command lines that work, each with what it shows. `tests/cli.rs` runs them all.
macro_rules! examples {
    ($($line:literal => $shows:literal),+ $(,)?) => {
        concat!("\u{1b}[1m\u{1b}[4mExamples:\u{1b}[0m", $("\n  ", $line, "\n      ", $shows),+)
    };
}

pub mod able;
pub mod cmd;
pub mod decode;
pub mod el2;
pub mod findings;
pub mod gather;
pub mod hostlab;
#[cfg(target_os = "linux")]
mod init;
pub mod input;
pub mod kernel;
pub mod linux_at;
pub mod machine;
pub mod matrix;
pub mod page;
pub mod show;
pub mod suite;
pub mod sweep;
pub mod verdict;

use std::process::ExitCode;

use clap::Parser;

/// Exit code of bad input.
pub const BAD_INPUT: u8 = 2;

/// The arguments.
#[derive(Debug, Parser)]
#[command(
    name = "bartender",
    version,
    about = "The memory type of device memory in virtual machines: decided, explained, decoded",
    after_help = examples![
        "bartender explain normal-nc device-ngnre" => "a write-combining guest mapping over a Device stage 2",
        "bartender decode esr 0x92000061" => "what a fault was, and what to do about it",
        "bartender table arm64" => "how stage 1 and stage 2 combine, at a glance",
    ],
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: cmd::Command,
}

/// Runs the command with this process's arguments, streams and exit code: 0 when what was asked holds, 1 when a verdict
/// is "no", 2 when the input is bad.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if lab::guest::is_init() {
        init::run();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are such "errors" too: to stdout, with exit code 0. A closed pipe is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { BAD_INPUT.into() } else { ExitCode::SUCCESS };
        }
    };
    match cli.command.run() {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            show::error(&error);
            BAD_INPUT.into()
        }
    }
}
