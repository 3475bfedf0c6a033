//! The machine `el2`: our own hypervisor at EL2 of an emulated Arm machine.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use el2::{About, JOBS_AT, JOBS_SIZE, Job, Order, RAM_SIZE, Said};
use hyp::{Cpu, Policy};
use lab::bare::{Bare, Device};
use lab::{Cache, Progress};
use model::Finding;
use platform::{Containment, Errors};
use scenario::observation::FaultKind;
use scenario::program::{JumpTo, Op, Place, ZVA_BYTES};
use scenario::{Observation, Outcome, Scenario, Target};
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
        let mut here: Vec<&Case> = Vec::new();
        let mut orders = Vec::new();
        for case in cases.iter().filter(|c| needs_aborts(&c.scenario) == aborts) {
            let able = policies.iter().filter(|policy| cannot(&case.scenario, **policy).is_none());
            let able: Vec<String> = able.map(|policy| policy.name().into()).collect();
            if able.is_empty() {
                continue;
            }
            here.push(case);
            orders.push(Order::Run(Box::new(Job {
                name: case.name.clone(),
                policies: able,
                scenario: case.scenario.clone(),
                guest: machine::guest(case)?,
            })));
        }
        if here.is_empty() {
            continue;
        }
        let mut devices: Vec<Device> = machine::bars(&here).into_iter().map(|size| Device::Memory { size }).collect();
        if here.iter().any(|c| c.scenario.program.ops.iter().any(|(_, op)| is_dma(op))) {
            devices.push(Device::Dma);
        }
        let watch = progress.watch(format!("{} scenarios at EL2", here.len()));
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
            if let Some(why) = cannot(&case.scenario, *policy) {
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
    let Containment { device, normal } = scenario.platform.containment;
    device == Errors::Contained && normal == Errors::Contained && is_dead(scenario)
}

fn is_dead(scenario: &Scenario) -> bool {
    scenario.devices.iter().flat_map(|d| &d.bars).any(|bar| bar.dead)
}

/// The offset of the register of an emulated device that is cleared by a read, and the bytes of an access to it.
const REGISTER: (u64, u64) = (4, 4);
/// Bytes of all its registers; memory is behind them.
const REGISTERS: u64 = 0x100;

/// Why this machine cannot show a scenario under a policy; `None` where it can.
#[must_use]
pub fn cannot(scenario: &Scenario, policy: Policy) -> Option<String> {
    if !policy.is_arm() {
        return Some(format!("{} is no policy of an Arm hypervisor", policy.name()));
    }
    for (line, op) in &scenario.program.ops {
        if let Op::DmaStore { via: Some(_), .. } | Op::DmaLoad { via: Some(_), .. } = op {
            return Some(format!("line {line}: the device that makes DMA there has no IOMMU before it"));
        }
        for (at, bytes, reads) in places(op) {
            let map = scenario.maps.get(at.map)?;
            let Target::Bar { device, bar } = map.of else { continue };
            let first = map.offset.saturating_add(at.offset);
            if first >= scenario.devices.get(device)?.bars.get(bar)?.clear {
                continue;
            }
            let memory = first >= REGISTERS && !reads;
            if (first, bytes) != REGISTER && !memory {
                let (offset, size) = REGISTER;
                return Some(format!(
                    "line {line}: of an emulated device one register is cleared by a read, {size} bytes at offset {offset}; the \
                     rest, from {REGISTERS:#x} on, is memory"
                ));
            }
        }
    }
    None
}

/// The places an operation accesses, with the bytes of an access there, and whether it reads.
fn places(op: &Op) -> Vec<(Place, u64, bool)> {
    match *op {
        Op::Store { size, at, .. } | Op::UserStore { size, at, .. } | Op::DmaStore { size, at, .. } => {
            vec![(at, size.bytes(), false)]
        }
        Op::Load { size, at, .. }
        | Op::AtomicAdd { size, at, .. }
        | Op::Exclusive { size, at, .. }
        | Op::UserLoad { size, at, .. }
        | Op::DmaLoad { size, at, .. } => vec![(at, size.bytes(), true)],
        Op::StorePair { at, .. } => vec![(at, 16, false)],
        Op::LoadPair { at, .. } => vec![(at, 16, true)],
        Op::Copy { to, from, bytes } => vec![(to, bytes, false), (from, bytes, true)],
        Op::Zero { at } => vec![(at, ZVA_BYTES, false)],
        Op::Jump(JumpTo::Place(at)) => vec![(at, 4, true)],
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use scenario::a64::{DONE, vector_report};
    use scenario::layout::REPORT_IPA;

    fn scenario(platform: &str, bar: &str, program: &str) -> Scenario {
        let text = format!(
            "title = \"t\"\n[platform]\n{platform}\n[[device]]\nname = \"gpu\"\nbars = [{{ index = 2, size = \"1M\"{bar} }}]\n\
             [[map]]\nname = \"vram\"\nbar = \"gpu.2\"\ntype = \"normal-nc\"\n\
             [guest]\nprogram = \"{program}\"\n[expect]\nall = \"completed\"\n"
        );
        scenario::parse("test", &text).unwrap()
    }

    #[test]
    fn what_the_machine_cannot_show_has_a_reason() {
        let load = "load.4 vram+4 -> x0";
        for (platform, bar, program, policy, says) in [
            ("", "", load, Policy::X86Ept, Some("no policy of an Arm")),
            ("", "", load, Policy::Linux6_9, None),
            // Shown otherwise than declared: a finding of the model's predicts how.
            ("normal-nc = \"holes\"", "", load, Policy::Linux6_9, None),
            ("errors = \"uncontained\"", ", dead = true", load, Policy::Linux6_9, None),
            ("coherent = false", "", "dma.load.4 vram -> x0", Policy::Linux6_9, None),
            ("", ", reads = \"clear\"", load, Policy::Linux6_9, None),
            ("", ", reads = \"clear\"", "load.8 vram -> x0", Policy::Linux6_9, Some("bytes at offset 4")),
            ("", ", reads = \"clear\"", "store.8 vram+0x1003, 1", Policy::Linux6_9, None),
            ("", ", reads = \"clear\"", "load.8 vram+0x1003 -> x0", Policy::Linux6_9, Some("is memory")),
            ("", ", reads = \"clear\", clear = \"4K\"", "load.8 vram+0x1003 -> x0", Policy::Linux6_9, None),
        ] {
            let why = cannot(&scenario(platform, bar, program), policy);
            let fits = match (&why, says) {
                (Some(why), Some(says)) => why.contains(says),
                (why, says) => why.is_none() && says.is_none(),
            };
            assert!(fits, "{platform} {bar} {program} {}: {why:?}", policy.name());
        }
    }

    #[test]
    fn no_iommu_stands_before_the_device_that_makes_dma() {
        let text = |operation: &str| {
            format!(
                "title = \"t\"\n[[device]]\nname = \"d\"\nbars = [{{ index = 2, size = \"4K\" }}]\n\
                 [[map]]\nname = \"ram\"\nram = \"4K\"\ntype = \"normal-wb\"\n[[iova]]\nname = \"w\"\nto = \"ram\"\n\
                 [guest]\nprogram = \"{operation}\"\n[expect]\nall = \"completed\"\n"
            )
        };
        let why = |operation| cannot(&scenario::parse("test", &text(operation)).unwrap(), Policy::Linux6_9);
        for through in ["dma.load.8 w -> x0", "dma.store.8 d, w, 1"] {
            assert!(why(through).is_some_and(|why| why.contains("line 13") && why.contains("no IOMMU")), "{through}");
        }
        assert_eq!((why("dma.load.8 ram -> x0"), why("dma.load.8 d, ram -> x0")), (None, None));
    }

    #[test]
    fn aborts_are_for_dead_bars_alone() {
        let needs = |platform, bar| needs_aborts(&scenario(platform, bar, "load.4 vram -> x0"));
        assert!(needs("errors = \"contained\"", ", dead = true"));
        assert!(!needs("errors = \"contained\"", "") && !needs("", ", dead = true"));
        // One bus for both: where they differ, it gives ones.
        assert!(!needs("errors = { device = \"contained\", normal = \"all-ones\" }", ", dead = true"));
    }

    #[test]
    fn the_report_page_is_read_and_nothing_else() {
        let scenario = scenario("", "", "load.4 vram -> x0");
        let store = |ipa| Observation {
            outcome: Outcome::Mmio { write: true, ipa, len: 8, data: 0 },
            registers: [(0, 7)].into(),
        };
        let told = |ipa, esr, injected| told(&scenario, store(ipa), [esr, 0x123, 0], injected);
        assert_eq!(told(REPORT_IPA + DONE, 0, false).outcome, Outcome::Completed);
        assert_eq!(told(REPORT_IPA + DONE, 0, false).registers, [(0, 7)].into());
        let vector = REPORT_IPA + vector_report(4);
        let (alignment, external) = (0x9600_0021, 0x9600_0010);
        assert_eq!(told(vector, alignment, false).outcome, Outcome::GuestAbort { esr: alignment, far: 0x123 });
        assert_eq!(told(vector, external, true).outcome, Outcome::GuestAbort { esr: external, far: 0x123 });
        assert_eq!(told(vector, external, false).outcome, Outcome::ContainedError { far: Some(0x123) });
        assert!(matches!(told(REPORT_IPA + vector_report(5), 0, false).outcome, Outcome::Other { .. }));
        assert_eq!(told(0x1000, 0, false), store(0x1000));
    }
}
