//! The machine in this process. It runs a scenario's guest on a CPU's view of both stages: the guest's own stage-1 tables
//! in guest memory, stage-2 tables that [`hyp`] fills on demand, the combination of the two, the alignment rule of each
//! type, and a RAM-backed BAR. Deterministic; it follows the architecture (DDI 0487 M.a.a and its pseudocode), not QEMU and
//! not Linux; what the hypervisor does about an abort is `hyp`'s.
//!
//! Where the architecture leaves a choice (exclusives and atomics on anything but shareable Normal Write-Back, unaligned
//! access where FWB overrides Device) a run is one of several: [`run`] gives them all, the plain one first.
#![forbid(unsafe_code)]

mod cpu;
mod finding;
pub mod guest;
mod memory;

use hyp::{Cpu, Policy};
use scenario::{Layout, Observation, Scenario, program::Lowered};

pub use cpu::Choice;
pub use finding::Finding;

/// Most instructions a run executes before it is [`Endless`](scenario::Outcome::Endless).
pub const MAX_STEPS: u32 = 1 << 16;
/// Most runs the choices of the architecture are followed into.
const MAX_RUNS: usize = 256;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// MAIR_EL1 has eight attributes, two of which are the guest's own.
    #[error(
        "{types} different memory types in the maps: MAIR_EL1 has room for 6 beside the guest's own; split the scenario"
    )]
    TooManyTypes {
        /// How many the maps use.
        types: usize,
    },
    /// The stage-1 tables could not be built.
    #[error("the guest's stage-1 tables: {0}; use fewer or smaller maps")]
    Tables(String),
    /// The program could not be assembled.
    #[error("the guest's program: {0}")]
    Program(#[from] scenario::a64::Error),
    /// The hypervisor refused a slot.
    #[error("the hypervisor: {0}")]
    Hyp(#[from] hyp::Error),
}

/// What the model says of a scenario under a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What comes out when every choice of the architecture falls as if the location supported the access.
    pub observation: Observation,
    /// Every outcome the architecture allows, [`observation`](Self::observation) first. More than one: there is a choice.
    pub allowed: Vec<Observation>,
    /// The choices met, in words.
    pub choices: Vec<&'static str>,
    /// Why it came out so: which access, which descriptors, which rule, what was decided. In order.
    pub because: Vec<String>,
}

/// The FWB the model gives a scenario that does not ask for one.
pub const DEFAULT_FWB: bool = true;

/// Runs `scenario` under `policy`.
///
/// # Errors
/// [`Error`]: the scenario does not fit the guest. What the guest does is never an error, it is an outcome.
pub fn run(scenario: &Scenario, policy: Policy) -> Result<Report, Error> {
    run_with(scenario, policy, Cpu { fwb: scenario.machine.fwb.unwrap_or(DEFAULT_FWB), dic: true })
}

/// Runs `scenario` under `policy` on a CPU with these features, whatever the scenario asks for.
///
/// # Errors
/// As [`run`].
pub fn run_with(scenario: &Scenario, policy: Policy, cpu: Cpu) -> Result<Report, Error> {
    run_as(scenario, policy, cpu, &[])
}

/// Runs `scenario` as a machine would that departs from the architecture in these ways.
///
/// # Errors
/// As [`run`].
pub fn run_as(scenario: &Scenario, policy: Policy, cpu: Cpu, departs: &[Finding]) -> Result<Report, Error> {
    let layout = Layout::of(scenario);
    let lowered: Lowered = scenario.program.lower(&layout);
    let guest = guest::guest_of(scenario, &layout, &lowered)?;
    let once = |script: &[u8]| {
        cpu::Machine::new(scenario, &layout, &lowered, &guest, policy, cpu).map(|m| m.run(script, departs))
    };

    let mut plain = once(&[])?;
    let mut allowed = vec![plain.observation.clone()];
    let mut choices: Vec<&'static str> = plain.choices.iter().map(|c| c.what()).collect();
    // Depth-first over the choice points: count the last one up, drop it when it is through.
    let mut taken = plain.taken.clone();
    for _ in 0..MAX_RUNS {
        while let Some((choice, options)) = taken.pop() {
            if choice + 1 < options {
                taken.push((choice + 1, options));
                break;
            }
        }
        if taken.is_empty() {
            break;
        }
        let script: Vec<u8> = taken.iter().map(|(choice, _)| *choice).collect();
        let other = once(&script)?;
        if !allowed.contains(&other.observation) {
            allowed.push(other.observation);
        }
        choices.extend(other.choices.iter().map(|c| c.what()).filter(|w| !choices.contains(w)).collect::<Vec<_>>());
        taken = other.taken;
    }
    choices.dedup();
    if allowed.len() > 1 {
        plain.because.push(format!("The architecture allows {} outcomes here: this is one of them.", allowed.len()));
    }
    Ok(Report { observation: plain.observation, allowed, choices, because: plain.because })
}
