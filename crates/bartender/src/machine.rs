//! Running a suite on a machine: the model in this process, KVM on this host, or KVM in an emulated server.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hyp::{Cpu, Policy};
use lab::{Boot, Cache, Progress, Series};
use model::Finding;
use scenario::{Guest, Layout, Observation, Scenario};
use serde::{Deserialize, Serialize};
use vmm::{Bdf, Host};

use crate::{able, kernel::policy_of, suite::Case, verdict::Row};

/// How long a guest may run on KVM before it is taken to have no end.
pub const GUEST_LIMIT: Duration = Duration::from_secs(1);
/// How long an emulated server may take, from start to power-off.
pub const SERVER_LIMIT: Duration = Duration::from_secs(120);

/// Runs every case under every policy on the model.
#[must_use]
pub fn on_model(cases: &[Case], policies: &[Policy]) -> Vec<Row> {
    cases
        .iter()
        .flat_map(|case| policies.iter().map(move |p| Row::of_model(case, *p, model::run(&case.scenario, *p))))
        .collect()
}

/// The processor of an emulated server, as QEMU names it: all there is.
pub const CPU: &str = "max";

/// What a real machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `uname -r`.
    pub release: String,
    /// FEAT_S2FWB.
    pub fwb: bool,
}

/// What a real machine says of one scenario: a line of the lab's second channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The first line.
    About(About),
    /// A scenario ran.
    Saw {
        /// Its name.
        scenario: String,
        /// What came out.
        observation: Observation,
    },
    /// A scenario could not be run.
    Cannot {
        /// Its name.
        scenario: String,
        /// Why.
        why: String,
    },
}

/// Runs one scenario on an opened host.
///
/// # Errors
/// Why it cannot be run there.
pub fn on_host(host: &mut Host, fwb: bool, scenario: &Scenario, guest: &Guest) -> Result<Observation, String> {
    if let Some(asked) = scenario.machine.fwb
        && asked != fwb
    {
        let (has, cpu) = if fwb { ("has", "neoverse-n1") } else { ("lacks", "max") };
        return Err(format!(
            "the scenario says `fwb = {asked}`, this machine's CPU {has} FEAT_S2FWB: take another machine, in the lab with \
             --cpu {cpu}, or leave `fwb` out if the outcome does not depend on it"
        ));
    }
    host.run(scenario, &Layout::of(scenario), guest, GUEST_LIMIT).map_err(|e| e.to_string())
}

fn judge(
    case: &Case,
    machine: &str,
    about: &About,
    policy: Option<Policy>,
    seen: Result<&Observation, &str>,
    known: &[Finding],
) -> Result<Row, String> {
    let policy = policy
        .or_else(|| policy_of(&about.release))
        .ok_or_else(|| format!("no policy is known for the kernel release `{}`: say --policy NAME", about.release))?;
    let cpu = Cpu { fwb: about.fwb, dic: true };
    let predict = |departs: &[Finding]| model::run_as(&case.scenario, policy, cpu, departs);
    Ok(Row::of_machine(case, policy, machine, seen, predict, known))
}

/// Runs every case on KVM on this host, with these devices.
///
/// # Errors
/// What the host lacks.
pub fn on_kvm(cases: &[Case], policy: Option<Policy>, devices: &[Bdf]) -> Result<(About, Vec<Row>), String> {
    let mut host = Host::open(devices).map_err(|e| e.to_string())?;
    let about = About { release: host.kernel_release(), fwb: host.fwb().map_err(|e| e.to_string())? };
    let rows = cases
        .iter()
        .map(|case| {
            let guest = guest(case);
            let seen = guest.and_then(|guest| on_host(&mut host, about.fwb, &case.scenario, &guest));
            judge(case, "kvm", &about, policy, seen.as_ref().map_err(String::as_str), &[])
        })
        .collect::<Result<_, _>>()?;
    Ok((about, rows))
}

/// What a run in the lab came to.
#[derive(Debug)]
pub struct LabRun {
    /// What the emulated server said of itself, if it came so far.
    pub about: Option<About>,
    /// A row for each case.
    pub rows: Vec<Row>,
    /// From QEMU's start to power-off; `None` where the server did not power itself off.
    pub wall: Option<Duration>,
    /// Why it did not, with the console's end.
    pub trouble: Option<String>,
}

/// The BARs the emulated server needs so that every case finds its own: for each size, as many as one case has.
#[must_use]
pub fn bars(cases: &[&Case]) -> Vec<u64> {
    let mut most: BTreeMap<u64, usize> = BTreeMap::new();
    for case in cases {
        let mut here: BTreeMap<u64, usize> = BTreeMap::new();
        for bar in case.scenario.devices.iter().flat_map(|d| &d.bars) {
            *here.entry(bar.size).or_default() += 1;
        }
        for (size, count) in here {
            let m = most.entry(size).or_default();
            *m = (*m).max(count);
        }
    }
    most.into_iter().flat_map(|(size, count)| std::iter::repeat_n(size, count)).collect()
}

/// What the emulated server is to run: a line of the file [`JOBS`]. It is made here, where no time is lost by it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// The scenario's name.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
    /// Its guest.
    pub guest: Guest,
}

/// The file of the boot that holds the jobs, in order.
pub const JOBS: &str = "jobs";

/// A case's guest.
pub(crate) fn guest(case: &Case) -> Result<Guest, String> {
    model::guest::guest(&case.scenario, &Layout::of(&case.scenario)).map_err(|e| e.to_string())
}

/// The boot that runs these cases.
///
/// # Errors
/// A case whose guest cannot be built.
pub fn boot<'a>(kernel: &'a lab::Kernel, init: &'a [u8], cpu: &str, cases: &[&Case]) -> Result<Boot<'a>, String> {
    let mut boot = Boot::new(kernel, init);
    boot.cpu = cpu.into();
    boot.bars = bars(cases);
    boot.limit = SERVER_LIMIT;
    let mut jobs = Vec::new();
    for case in cases {
        let job = Job { name: case.name.clone(), scenario: case.scenario.clone(), guest: guest(case)? };
        serde_json::to_writer(&mut jobs, &job).map_err(|e| e.to_string())?;
        jobs.push(b'\n');
    }
    boot.files.push((JOBS.into(), jobs));
    Ok(boot)
}

/// Runs every case on KVM in an emulated server with this kernel: one boot.
///
/// # Errors
/// What is missing to boot at all. What goes wrong after that is in the [`LabRun`].
pub fn on_lab(cases: &[Case], policy: Option<Policy>, series: Series, cpu: &str) -> Result<LabRun, String> {
    if series.arch() != lab::Arch::Arm64 {
        return Err(format!(
            "scenarios run on arm64; in an emulated PC commands do: `bartender lab host {series} -- inspect`"
        ));
    }
    let text = |e: lab::Error| e.to_string();
    let progress = Progress::stderr();
    let cache = Cache::user().map_err(text)?;
    let setup = lab::setup(&cache, &[series], false, progress).map_err(text)?;
    let kernel = setup.kernels.first().ok_or("no kernel")?;
    let program = lab::build_guest(&cache, series.arch(), progress).map_err(text)?;
    let init = std::fs::read(&program).map_err(|e| format!("cannot read {}: {e}", program.display()))?;
    let can: Vec<&Case> = cases.iter().filter(|c| able::on_linux(&c.scenario).is_ok()).collect();
    let boot = boot(kernel, &init, cpu, &can)?;

    let mut about = None;
    let mut seen: HashMap<String, Result<Observation, String>> = HashMap::new();
    let watch = progress.watch(format!("Linux {} in QEMU, {} scenarios", kernel.release(), cases.len()));
    let booted = boot.run(&cache, &mut |line| match serde_json::from_str(line) {
        Ok(Said::About(a)) => about = Some(a),
        Ok(Said::Saw { scenario, observation }) => drop(seen.insert(scenario, Ok(observation))),
        Ok(Said::Cannot { scenario, why }) => drop(seen.insert(scenario, Err(why))),
        // Not ours: the lab reports its own lines as errors of the boot.
        Err(_) => {}
    });
    drop(watch);
    let (wall, trouble) = match booted {
        Ok(booted) => (Some(booted.wall), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let machine = format!("lab:{series}");
    let assumed = About { release: kernel.release().into(), fwb: model::DEFAULT_FWB };
    let known = about.as_ref().unwrap_or(&assumed);
    let silent = Err("the emulated server ended before it said anything about this scenario".to_owned());
    let rows = cases
        .iter()
        .map(|case| {
            if let Err(why) = able::on_linux(&case.scenario) {
                let policy = policy.or_else(|| policy_of(&known.release)).unwrap_or(Policy::Linux6_1);
                return Ok(Row::cannot(case, policy, &machine, why));
            }
            let seen = seen.get(&case.name).unwrap_or(&silent);
            judge(case, &machine, known, policy, seen.as_ref().map_err(String::as_str), &Finding::ALL)
        })
        .collect::<Result<_, _>>()?;
    Ok(LabRun { about, rows, wall, trouble })
}
