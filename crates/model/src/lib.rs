//! The machine in this process. It runs a scenario's guest on a CPU's view of both stages: the guest's own stage-1 tables
//! in guest memory, stage-2 tables that [`hyp`] fills on demand, the combination of the two, the alignment rule of each
//! type, and a RAM-backed BAR. Deterministic; it follows the architecture (DDI 0487 M.a.a and its pseudocode), not QEMU and
//! not Linux; what the hypervisor does about an abort is `hyp`'s.
//!
//! Where the architecture leaves a choice (exclusives and atomics on anything but shareable Normal Write-Back, unaligned
//! access where FWB overrides Device, what caches hold, what is read ahead, what is gathered) a run is one of several: [`run`]
//! gives them all, the plain one first. Under the policy `x86-ept` the CPU is an x86 one.
//!
//! Every run is also measured by the same program on a flawless bare machine: what it gives there, and in how many bus
//! transactions, is what [`Judged`] compares with.
#![forbid(unsafe_code)]

mod arm;
mod bus;
mod choice;
mod finding;
pub mod guest;
mod host;
mod judge;
mod machine;
mod memory;
#[cfg(test)]
mod tests;
mod tlb;
mod x86;

use std::collections::BTreeMap;

use hyp::{Cpu, Event, Policy, Slot};
use memtype::Arch;
use platform::{Containment, NcDefect, Platform};
use scenario::{Layout, Observation, Outcome, Scenario, program::Lowered};

pub use choice::Choice;
pub use finding::Finding;
pub use judge::{Answer, Is, Judged};

use choice::Log;
use host::{Host, NotBuilt};
use machine::{Gather, Job, Machine, Processor};

/// Most instructions a run executes before it is [`Endless`](scenario::Outcome::Endless).
pub const MAX_STEPS: u32 = 1 << 16;
/// Most runs the choices of the architecture are followed into.
const MAX_RUNS: usize = 256;
/// Most instructions all these runs execute together, before no further one is begun.
const MAX_ALL_STEPS: u64 = 1 << 21;

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

/// Bus transactions of the CPU with BARs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Writes: a store that is not gathered, a run of contiguous bytes that was, a cache line written back.
    pub writes: u64,
    /// Reads: a load that no cache answers, a cache line filled.
    pub reads: u64,
}

/// What the model says of a scenario under a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What comes out when every choice of the architecture falls as if the location supported the access, and as on a
    /// machine without caches, gathering and speculation.
    pub observation: Observation,
    /// Every outcome the architecture allows, [`observation`](Self::observation) first. More than one: there is a choice.
    pub allowed: Vec<Observation>,
    /// The choices met, in words.
    pub choices: Vec<&'static str>,
    /// Why it came out so: which access, which descriptors, which rule, what was decided. In order.
    pub because: Vec<String>,
    /// The maintenance the hypervisor asked for in that run, in order; of more than 4096 events the first.
    pub events: Vec<Event>,
    /// The transactions of that run, as few as gathering into one line of 64 bytes can make them.
    pub transactions: Count,
    /// The same of the bare machine.
    pub bare: Count,
    /// Whether the policy is any good here.
    pub judged: Judged,
}

/// One run's result.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) observation: Observation,
    pub(crate) because: Vec<String>,
    pub(crate) choices: Vec<Choice>,
    /// For each choice met: how it fell, of how many.
    pub(crate) taken: Vec<(u8, u8)>,
    pub(crate) events: Vec<Event>,
    pub(crate) count: Count,
    pub(crate) gather: Gather,
    /// Instructions executed.
    pub(crate) steps: u64,
    /// The slots of BARs, as they were at the start.
    pub(crate) bars: Vec<Slot>,
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
    let job = Job { scenario, layout: &layout, lowered: &lowered, guest: &guest };
    let arch = if policy.is_arm() { Arch::Arm64 } else { Arch::X86 };
    let platform = departed(scenario.platform, departs);
    let once = |script: &[u8]| run_once(job, arch, policy, cpu, platform, script, departs);
    let bare = bare(job, arch)?;

    let mut plain = once(&[])?;
    let mut allowed = vec![plain.observation.clone()];
    let mut choices: Vec<&'static str> = plain.choices.iter().map(|c| c.what()).collect();
    // Depth-first over the choice points: count the last one up, drop it when it is through.
    let mut taken = plain.taken.clone();
    let mut all = false;
    let mut steps = plain.steps;
    for _ in 0..MAX_RUNS {
        while let Some((choice, options)) = taken.pop() {
            if choice + 1 < options {
                taken.push((choice + 1, options));
                break;
            }
        }
        all = taken.is_empty();
        if all || steps > MAX_ALL_STEPS {
            break;
        }
        let script: Vec<u8> = taken.iter().map(|(choice, _)| *choice).collect();
        let other = once(&script)?;
        if !allowed.contains(&other.observation) {
            allowed.push(other.observation);
        }
        choices.extend(other.choices.iter().map(|c| c.what()).filter(|w| !choices.contains(w)).collect::<Vec<_>>());
        taken = other.taken;
        steps += other.steps;
    }
    choices.dedup();
    if allowed.len() > 1 {
        plain.because.push(format!("The architecture allows {} outcomes here: this is one of them.", allowed.len()));
    }
    if !all {
        plain.because.push("The choices fall in more ways than can be followed: more outcomes may be allowed.".into());
    }
    let judged = judge::judge(job, policy, cpu, &plain, &allowed, &bare);
    Ok(Report {
        observation: plain.observation,
        allowed,
        choices,
        because: plain.because,
        events: plain.events,
        transactions: plain.count,
        bare: bare.count,
        judged,
    })
}

/// The platform of a machine with these departures.
fn departed(platform: Platform, departs: &[Finding]) -> Platform {
    let mut p = platform;
    if departs.contains(&Finding::QemuNoUncontained) {
        p.containment = Containment::default();
    }
    if departs.contains(&Finding::QemuNcWorks) {
        p.normal_nc = NcDefect::None;
    }
    p
}

fn run_once(
    job: Job<'_>,
    arch: Arch,
    policy: Policy,
    cpu: Cpu,
    platform: Platform,
    script: &[u8],
    departs: &[Finding],
) -> Result<Run, Error> {
    let mut log = Log::new(script);
    if !job.scenario.attributes.is_empty() && !policy.takes_attributes() {
        log.say(format!(
            "User space's wishes for attributes count for nothing: under {} there is no call to ask by. [thread 001]",
            policy.name()
        ));
    }
    let host = match Host::new(job.scenario, job.layout, policy, cpu) {
        Ok(host) => host,
        Err(NotBuilt::Error(error)) => return Err(error),
        Err(NotBuilt::Refused(outcome)) => return Ok(refused(outcome, log)),
    };
    let bars = host.bars();
    Ok(Run { bars, ..start(Machine::new(job, arch, host, platform, log), departs)? })
}

/// The run of no guest.
fn refused(outcome: Outcome, mut log: Log) -> Run {
    if let Outcome::SlotRefused { errno, why } = &outcome {
        log.say(format!(
            "{why}: errno {errno}, no guest runs. [Linux vfio_pci_core_mmap, kvm_arch_prepare_memory_region; thread 001]"
        ));
    }
    Run {
        observation: Observation { outcome, registers: BTreeMap::new() },
        because: log.because,
        choices: log.choices,
        taken: log.taken,
        events: Vec::new(),
        count: Count::default(),
        gather: Gather::default(),
        steps: 0,
        bars: Vec::new(),
    }
}

/// The same program on a machine without a hypervisor and without faults: failing accesses give ones, Normal-NC works, DMA
/// is coherent, every choice falls plain.
fn bare(job: Job<'_>, arch: Arch) -> Result<Run, Error> {
    match Host::bare(job.layout) {
        Ok(host) => start(Machine::new(job, arch, host, Platform::USUAL, Log::default()), &[]),
        Err(NotBuilt::Error(error)) => Err(error),
        Err(NotBuilt::Refused(outcome)) => Ok(refused(outcome, Log::default())),
    }
}

fn start(machine: Machine<'_>, departs: &[Finding]) -> Result<Run, Error> {
    if machine.arch == Arch::X86 {
        return Ok(x86::Cpu::new(machine).run());
    }
    let stage1 = guest::stage1_config().ok_or(Error::Tables("TCR_EL1".into()))?;
    Ok(arm::Cpu::new(machine, stage1, departs).run())
}
