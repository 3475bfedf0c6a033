//! The subcommands: one file each, with the arguments (`Args`) and `pub fn run(args) -> Result`.

use std::process::ExitCode;
use std::{fmt, io};

pub mod barriers;
pub mod contract;
pub mod decode;
pub mod diagnose;
pub mod errata;
pub mod explain;
pub mod findings;
pub mod inspect;
pub mod lab;
pub mod lint;
pub mod map;
pub mod matrix;
pub mod plan;
pub mod policies;
pub mod probe;
pub mod run;
pub mod sweep;
pub mod table;
pub mod viommu;

/// What a subcommand ends with: an exit code (0, or 1 for a verdict that is "no"), or why there is none.
pub type Result<T = ExitCode> = std::result::Result<T, Error>;

/// The subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// What this machine does with a device's BARs, layer by layer, and what to do about it
    Inspect(inspect::Args),
    /// A symptom in; its cause and remedy out
    Diagnose(diagnose::Args),
    /// For a VM: what is direct, what is trapped, of which type, and what to tell the guest
    Plan(plan::Args),
    /// A guest's firmware description, checked for contradictions on coherency and translation
    Lint(lint::Args),
    /// A BAR in this process, with the type asked for: look, read, write
    Map(map::Args),
    /// What a mapping of a BAR really does, measured
    Probe(probe::Args),
    /// Run scenarios on the model or on a real kernel, and say whether the expectations are met
    Run(run::Args),
    /// Scenarios, policies and machines at a glance, and as a page
    Matrix(matrix::Args),
    /// Who can decide the stage-2 type, and what each decides
    Policies(policies::Args),
    /// What two stages of translation combine to, and what follows from it
    Explain(explain::Args),
    /// What a driver may rely on from a mapping, and which memory types give it
    Contract(contract::Args),
    /// What orders and what drains a write-combining mapping, and what each project uses
    Barriers(barriers::Args),
    /// Numbers into words: registers and table entries
    Decode(decode::Args),
    /// The whole combination table of an architecture
    Table(table::Args),
    /// Machines on which a memory type does not do what the architecture says
    Errata(errata::Args),
    /// Every combination of attributes on an emulated MMU, beside what the architecture says
    Sweep(sweep::Args),
    /// Where sources disagree: what differs, who is right, and a command that shows it
    Findings(findings::Args),
    /// Any virtio-iommu device against the specification, clause by clause
    Viommu(viommu::Args),
    /// Emulated Arm servers: fetch, list, run, measure
    Lab(lab::Args),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    /// As the subcommand.
    pub fn run(self) -> Result {
        match self {
            Self::Inspect(args) => inspect::run(&args),
            Self::Diagnose(args) => diagnose::run(&args),
            Self::Plan(args) => plan::run(&args),
            Self::Lint(args) => lint::run(&args),
            Self::Map(args) => map::run(&args),
            Self::Probe(args) => probe::run(&args),
            Self::Run(args) => run::run(&args),
            Self::Matrix(args) => matrix::run(&args),
            Self::Policies(args) => policies::run(&args),
            Self::Lab(args) => lab::run(args),
            Self::Explain(args) => explain::run(&args),
            Self::Decode(args) => decode::run(&args),
            Self::Contract(args) => contract::run(&args),
            Self::Barriers(args) => barriers::run(&args),
            Self::Findings(args) => findings::run(&args),
            Self::Table(args) => table::run(&args),
            Self::Errata(args) => errata::run(&args),
            Self::Sweep(args) => sweep::run(&args),
            Self::Viommu(args) => viommu::run(&args),
        }
    }
}

/// Why a subcommand could not do what was asked: exit code 2.
#[derive(Debug)]
pub enum Error {
    /// The input is bad. The text says what would be right; `\n` starts a hint.
    Input(String),
    /// The answer could not be written.
    Output(io::Error),
}

impl Error {
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(what) => f.write_str(what),
            Self::Output(e) => write!(f, "cannot write the answer: {e}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(what: String) -> Self {
        Self::Input(what)
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Self::Output(e)
    }
}

impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Self::Output(e.into())
    }
}
