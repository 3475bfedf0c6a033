//! The machine `el2`: our own hypervisor at EL2 of an emulated Arm machine.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use el2::{About, JOBS_AT, JOBS_SIZE, Job, Order, RAM_SIZE, Said};
use hyp::{Cpu, Policy};
use lab::bare::{Bare, Device};
use lab::{Cache, Progress};
use model::Finding;
use platform::{Errors, NcDefect, NoSnoop, Platform};
use scenario::observation::FaultKind;
use scenario::program::{JumpTo, Op, Place, ZVA_BYTES};
use scenario::{Observation, Outcome, Reads, Scenario, Target};
use vmm::report::{Report, vector_name};

use crate::machine;
use crate::suite::Case;
use crate::verdict::Row;

/// How long one start of the machine may take.
pub const LIMIT: Duration = Duration::from_secs(120);

/// What is needed to start the machine: found once, used for any number of starts.
#[derive(Debug)]
pub struct El2 {
    cache: Cache,
    program: PathBuf,
    /// QEMU's version.
    pub qemu: String,
    /// QEMU's name of the processor.
    pub cpu: String,
}

/// What came of one start.
#[derive(Debug)]
pub struct Started {
    /// What the machine says of itself.
    pub about: About,
    /// Everything else it said, but [`Said::Done`], which was the last.
    pub said: Vec<Said>,
    /// From QEMU's start to its end.
    pub wall: Duration,
}

impl El2 {
    /// Finds QEMU, and builds the program where it is not up to date.
    ///
    /// # Errors
    /// What is missing, with the remedy.
    pub fn find(cpu: &str, progress: Progress) -> Result<Self, String> {
        let text = |e: lab::Error| e.to_string();
        let cache = Cache::user().map_err(text)?;
        let qemu = lab::Qemu::find(&cache).map_err(text)?.version();
        let program = lab::build_bare(&cache, progress).map_err(text)?;
        Ok(Self { cache, program, qemu, cpu: cpu.into() })
    }

    /// Starts the machine with these devices, has it carry out the orders, and hears what it says.
    ///
    /// # Errors
    /// Where it did not come to its end.
    pub fn start(&self, orders: &[Order], devices: Vec<Device>, aborts: bool) -> Result<Started, String> {
        let mut text = Vec::new();
        for order in orders {
            serde_json::to_writer(&mut text, order).map_err(|e| e.to_string())?;
            text.push(b'\n');
        }
        text.push(0);
        if text.len() as u64 > JOBS_SIZE {
            return Err(format!("{} bytes of scenarios are too many for one run: at most {JOBS_SIZE}", text.len()));
        }
        let bare = Bare {
            program: &self.program,
            orders: (JOBS_AT, &text),
            ram: RAM_SIZE,
            cpu: self.cpu.clone(),
            devices,
            aborts,
            limit: LIMIT,
        };
        let mut heard: Vec<Result<Said, String>> = Vec::new();
        let ran = bare.run(&self.cache, &mut |line| {
            heard.push(serde_json::from_str(line).map_err(|e| format!("the machine said `{line}`: {e}")));
        });
        let ran = ran.map_err(|e| e.to_string())?;
        let mut heard = heard.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter();
        let Some(Said::About(about)) = heard.next() else {
            return Err("the machine said nothing of itself".into());
        };
        let mut said: Vec<Said> = heard.collect();
        match said.pop() {
            Some(Said::Done {}) => Ok(Started { about, said, wall: ran.wall }),
            Some(Said::Lost { what }) => Err(format!("the machine could not go on: {what}")),
            last => Err(format!("the machine stopped before it was done; the last it said was {last:?}")),
        }
    }
}

/// What a run on this machine came to.
#[derive(Debug)]
pub struct Ran {
    /// A row for each case and policy.
    pub rows: Vec<Row>,
    /// How often the machine was started.
    pub starts: usize,
    /// All starts together.
    pub wall: Duration,
    /// QEMU's version.
    pub qemu: String,
}

/// Runs every case under every policy, in as few starts as there are kinds of machine needed.
///
/// # Errors
/// What is missing to start it; a machine that did not come to its end.
pub fn run(cases: &[Case], policies: &[Policy], cpu: &str, progress: Progress) -> Result<Ran, String> {
    let el2 = El2::find(cpu, progress)?;
    let mut ran = Ran { rows: Vec::new(), starts: 0, wall: Duration::ZERO, qemu: el2.qemu.clone() };
    let mut seen: HashMap<(String, String), Result<Observation, String>> = HashMap::new();
    let mut about = None;
    for aborts in [false, true] {
        let here: Vec<&Case> =
            cases.iter().filter(|c| cannot(&c.scenario).is_none() && needs_aborts(&c.scenario) == aborts).collect();
        if here.is_empty() {
            continue;
        }
        let names: Vec<String> = policies.iter().filter(|p| p.is_arm()).map(|p| p.name().into()).collect();
        let mut orders = Vec::new();
        for case in &here {
            orders.push(Order::Run(Box::new(Job {
                name: case.name.clone(),
                policies: names.clone(),
                scenario: case.scenario.clone(),
                guest: machine::guest(case)?,
            })));
        }
        let mut devices: Vec<Device> = machine::bars(&here).into_iter().map(|size| Device::Memory { size }).collect();
        if here.iter().any(|c| c.scenario.program.ops.iter().any(|(_, op)| is_dma(op))) {
            devices.push(Device::Dma);
        }
        let watch = progress.watch(format!("{} scenarios under {} policies at EL2", here.len(), names.len()));
        let started = el2.start(&orders, devices, aborts)?;
        drop(watch);
        ran.starts += 1;
        ran.wall += started.wall;
        for said in started.said {
            match said {
                Said::Saw { scenario, policy, observation, el1, injected } => {
                    let case = here.iter().find(|c| c.name == scenario);
                    let case = case.ok_or_else(|| format!("the machine ran `{scenario}`, which nobody asked for"))?;
                    seen.insert((scenario, policy), Ok(told(&case.scenario, observation, el1, injected)));
                }
                Said::Cannot { scenario, policy, why } => drop(seen.insert((scenario, policy), Err(why))),
                _ => {}
            }
        }
        about = Some(started.about);
    }
    let silent = Err("the machine said nothing about this scenario".to_owned());
    for case in cases {
        for policy in policies {
            let why = if policy.is_arm() {
                cannot(&case.scenario)
            } else {
                Some(format!("{} is no policy of an Arm hypervisor", policy.name()))
            };
            if let Some(why) = why {
                ran.rows.push(Row::cannot(case, *policy, MACHINE, why));
                continue;
            }
            let seen = seen.get(&(case.name.clone(), policy.name().to_owned())).unwrap_or(&silent);
            let has = about.as_ref().map_or((model::DEFAULT_FWB, true), |about| (about.fwb, about.dic));
            let cpu = Cpu { fwb: case.scenario.machine.fwb.unwrap_or(has.0), dic: has.1 };
            let predict = |departs: &[Finding]| model::run_as(&case.scenario, *policy, cpu, departs);
            let seen = seen.as_ref().map_err(String::as_str);
            ran.rows.push(Row::of_machine(case, *policy, MACHINE, seen, predict, &Finding::ALL));
        }
    }
    Ok(ran)
}

/// The machine's name.
pub const MACHINE: &str = "el2";

const fn is_dma(op: &Op) -> bool {
    matches!(op, Op::DmaStore { .. } | Op::DmaLoad { .. })
}

/// Whether failing accesses must be External aborts: a dead BAR on a platform that says so.
fn needs_aborts(scenario: &Scenario) -> bool {
    scenario.platform.containment.device == Errors::Contained && is_dead(scenario)
}

fn is_dead(scenario: &Scenario) -> bool {
    scenario.devices.iter().flat_map(|d| &d.bars).any(|bar| bar.dead)
}

/// The offset of the register of an emulated device that is cleared by a read, and the bytes of an access to it.
const CLEARED: (u64, u64) = (4, 4);

/// Why this machine cannot show a scenario; `None` where it can.
#[must_use]
pub fn cannot(scenario: &Scenario) -> Option<String> {
    let Platform { containment, normal_nc, no_snoop, coherent, .. } = scenario.platform;
    if normal_nc != NcDefect::None {
        return Some(format!("the emulator's Normal-NC has no defect such as `{}`", normal_nc.name()));
    }
    if is_dead(scenario) {
        if containment.device != containment.normal {
            return Some("the emulator's bus does not tell Device from Normal accesses".into());
        }
        if containment.device == Errors::Uncontained {
            return Some("the emulator has no uncontained errors".into());
        }
    }
    let dma = scenario.program.ops.iter().any(|(_, op)| is_dma(op));
    let no_snoop = no_snoop == NoSnoop::Possible && scenario.devices.first().is_some_and(|d| d.no_snoop);
    if dma && (!coherent || no_snoop) {
        return Some("the emulator has no caches that DMA could pass by".into());
    }
    for (line, op) in &scenario.program.ops {
        for (at, bytes) in places(op) {
            let map = scenario.maps.get(at.map)?;
            let Target::Bar { device, bar } = map.of else { continue };
            let bar = scenario.devices.get(device)?.bars.get(bar)?;
            let (offset, size) = CLEARED;
            if bar.reads == Reads::Clear && (map.offset + at.offset, bytes) != (offset, size) {
                return Some(format!(
                    "line {line}: the emulated device's register that is cleared by a read has {size} bytes at offset {offset}"
                ));
            }
        }
    }
    None
}

/// The places an operation accesses, with the bytes of an access there.
fn places(op: &Op) -> Vec<(Place, u64)> {
    match *op {
        Op::Store { size, at, .. }
        | Op::Load { size, at, .. }
        | Op::AtomicAdd { size, at, .. }
        | Op::Exclusive { size, at, .. }
        | Op::UserStore { size, at, .. }
        | Op::UserLoad { size, at, .. }
        | Op::DmaStore { size, at, .. }
        | Op::DmaLoad { size, at, .. } => vec![(at, size.bytes())],
        Op::StorePair { at, .. } | Op::LoadPair { at, .. } => vec![(at, 16)],
        Op::Copy { to, from, bytes } => vec![(to, bytes), (from, bytes)],
        Op::Zero { at } => vec![(at, ZVA_BYTES)],
        Op::Jump(JumpTo::Place(at)) => vec![(at, 0)],
        Op::Jump(JumpTo::Op(_)) | Op::Barrier(_) | Op::Clean { .. } | Op::SetAttribute { .. } => Vec::new(),
    }
}

/// What the guest told by a store to its report page.
fn told(scenario: &Scenario, seen: Observation, [esr, far, elr]: [u64; 3], injected: bool) -> Observation {
    let Outcome::Mmio { write, ipa, len, .. } = seen.outcome else { return seen };
    let outcome = match Report::of(write, ipa, len) {
        Some(Report::Done) if scenario.program.touches_memory() => Outcome::Completed,
        Some(Report::Done) => Outcome::Untouched,
        // An External abort that nobody injected is of the bus.
        Some(Report::Vector(scenario::a64::VECTOR_SYNC_SPX))
            if !injected && FaultKind::of_esr(esr) == FaultKind::ExternalAbort =>
        {
            Outcome::ContainedError { far: Some(far) }
        }
        Some(Report::Vector(scenario::a64::VECTOR_SYNC_SPX)) => Outcome::GuestAbort { esr, far },
        Some(Report::Vector(vector)) => {
            let name = vector_name(vector);
            let what =
                format!("exception vector {vector} ({name}): ESR_EL1={esr:#x} FAR_EL1={far:#x} ELR_EL1={elr:#x}");
            Outcome::Other { what }
        }
        None => return seen,
    };
    Observation { outcome, ..seen }
}
