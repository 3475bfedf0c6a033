//! [`Host`]: an arm64 Linux host with KVM, and the devices it passes through.

mod alarm;
mod kernel;
mod mapping;
mod perf;
mod vfio;
mod vm;

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use kvm_ioctls::Kvm;
use scenario::{Guest, Layout, Observation, Outcome, Scenario, Target, layout::Backing};

use crate::{
    Bdf, Error, fit,
    log::syndrome,
    reach::Reach,
    regs,
    report::{Report, vector_name},
};
use alarm::Alarm;
use kernel::Log;
use perf::Trace;
use vfio::Vfio;
use vm::{Exit, Memory, Vm};

/// An arm64 Linux host: KVM, the devices opened through VFIO, and the kernel's own account of what happens. Opened once,
/// it runs any number of scenarios, one after the other.
#[derive(Debug)]
pub struct Host {
    kvm: Kvm,
    vfio: Vfio,
    log: Option<Log>,
    trace: Option<Trace>,
    /// VMs that are through. To take one down costs nearly as much as to make it, and in an emulated server the end of the
    /// machine does it for nothing.
    done: VecDeque<Vm>,
}

/// How many VMs are kept until they are dropped.
const KEPT: usize = 64;

/// Gives a failed system call its name.
fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |source| Error::System { what, source }
}

/// The same for the error type of `kvm-ioctls`.
fn kvm_error(what: impl Into<String>) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    let named = system(what);
    move |e| named(e.into())
}

/// The failed system call just made.
fn last_error(what: impl Into<String>) -> Error {
    system(what)(io::Error::last_os_error())
}

impl Host {
    /// Opens `/dev/kvm` and every one of `devices`, which must be bound to vfio-pci.
    ///
    /// Where `/dev/kmsg` and the tracing file system can be opened too, an observation of a failed KVM_RUN says more.
    ///
    /// # Errors
    /// [`Error::NoKvm`], or what is wrong with a device.
    pub fn open(devices: &[Bdf]) -> Result<Self, Error> {
        let kvm = Kvm::new().map_err(|e| Error::NoKvm { source: e.into() })?;
        Ok(Self { kvm, vfio: Vfio::open(devices)?, log: Log::open().ok(), trace: None, done: VecDeque::new() })
    }

    /// Whether the CPU has FEAT_S2FWB, as a vCPU's ID_AA64MMFR2_EL1 tells.
    ///
    /// # Errors
    /// [`Error::System`] if no VM can be made.
    pub fn fwb(&self) -> Result<bool, Error> {
        Ok(regs::has_fwb(Vm::new(&self.kvm)?.get(regs::ID_AA64MMFR2_EL1)?))
    }

    /// The running kernel's release, `6.12.117+deb13-arm64`; empty where /proc is not mounted.
    #[must_use]
    pub fn kernel_release(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim_end().into()
    }

    /// Runs the `guest` of `scenario` in a new VM, for at most about `limit`.
    ///
    /// # Errors
    /// Where the host or its devices cannot run it. Whatever the guest does is an [`Outcome`].
    pub fn run(
        &mut self,
        scenario: &Scenario,
        layout: &Layout,
        guest: &Guest,
        limit: Duration,
    ) -> Result<Observation, Error> {
        let chosen = fit::assign(&scenario.devices, &self.vfio.opened())?;
        let bar_of = |device: usize, bar: usize| (chosen[device], scenario.devices[device].bars[bar].index);
        let mut mapped = Vec::new();
        for (i, map) in scenario.maps.iter().enumerate() {
            if let Target::Bar { device, bar } = map.of {
                let (device, bar) = bar_of(device, bar);
                mapped.push((i, map, self.vfio.bar(device, bar)?));
            }
        }
        mapped.iter().for_each(|(_, map, bar)| bar.zero(map.offset, map.size));
        // Only then: maps may share pages, and what one has zeroed a store through the other may change.
        let reach = Reach::of(&scenario.program);
        for (i, map, bar) in &mapped {
            match &reach {
                Reach::Everything => bar.soil(0, u64::MAX),
                // A store that begins in the map may end beyond it, in the rest of the BAR.
                Reach::Ranges(ranges) => ranges
                    .iter()
                    .filter(|(map, _)| map == i)
                    .for_each(|(_, r)| bar.soil(map.offset.saturating_add(r.start), r.end - r.start)),
            }
        }

        let mut vm = Vm::new(&self.kvm)?;
        let ends = layout.slots.iter().map(|s| s.ipa + s.size).chain(layout.maps.iter().map(|m| m.ipa + m.size));
        vm.can_address(ends.max().unwrap_or(0))?;
        for slot in &layout.slots {
            let memory = match slot.backing {
                Backing::Ram => Memory::ram(slot.ipa, slot.size, &guest.memory)?,
                Backing::Bar { device, bar } => {
                    let (device, bar) = bar_of(device, bar);
                    Memory::Bar(self.vfio.bar(device, bar)?)
                }
            };
            vm.add(slot, memory)?;
        }
        vm.start(guest)?;

        if let Some(log) = &mut self.log {
            log.skip();
        }
        // perf counts for one thread, and this may be another than the last time.
        if self.trace.as_ref().is_none_or(|trace| !trace.is_mine()) {
            self.trace = Trace::open().ok();
        }
        if let Some(trace) = &mut self.trace {
            trace.skip();
        }
        let outcome = self.outcome(&mut vm, scenario, limit)?;
        let registers = scenario.program.destinations().into_iter();
        let registers = registers.map(|r| Ok((r, vm.get(regs::x(r))?))).collect::<Result<_, Error>>()?;
        if self.done.len() == KEPT {
            self.done.pop_front();
        }
        self.done.push_back(vm);
        Ok(Observation { outcome, registers })
    }

    /// Runs until there is an outcome.
    fn outcome(&mut self, vm: &mut Vm, scenario: &Scenario, limit: Duration) -> Result<Outcome, Error> {
        let until = Instant::now() + limit;
        let _alarm = Alarm::after(limit)?;
        loop {
            return Ok(match vm.run() {
                Exit::Interrupted if Instant::now() < until => continue,
                Exit::Interrupted => Outcome::Endless,
                Exit::Mmio { write, ipa, len, data } => match Report::of(write, ipa, len) {
                    Some(Report::Done) if scenario.program.touches_memory() => Outcome::Completed,
                    Some(Report::Done) => Outcome::Untouched,
                    Some(Report::Vector(vector)) => Self::exception(vm, vector)?,
                    None => Outcome::Mmio { write, ipa, len, data },
                },
                Exit::NoValidSyndrome { iss, ipa } => Outcome::NoValidSyndrome { iss, ipa },
                Exit::Failed { errno } => self.failure(errno),
                Exit::Other(what) => Outcome::Other { what },
            });
        }
    }

    /// An exception the guest took to its own EL1.
    fn exception(vm: &Vm, vector: u64) -> Result<Outcome, Error> {
        let (esr, far) = (vm.get(regs::ESR_EL1)?, vm.get(regs::FAR_EL1)?);
        if vector == scenario::a64::VECTOR_SYNC_SPX {
            return Ok(Outcome::GuestAbort { esr, far });
        }
        let (name, elr) = (vector_name(vector), vm.get(regs::ELR_EL1)?);
        let what = format!("exception vector {vector} ({name}): ESR_EL1={esr:#x} FAR_EL1={far:#x} ELR_EL1={elr:#x}");
        Ok(Outcome::Other { what })
    }

    /// A KVM_RUN that failed, with what the kernel says about it.
    fn failure(&mut self, errno: i32) -> Outcome {
        let log = self.log.as_mut().and_then(Log::about_this_thread);
        let logged = log.as_deref().and_then(syndrome);
        // The last abort is the one that made KVM_RUN fail; where the log names another, the trace is not about it.
        let fault = self.trace.as_mut().and_then(Trace::last);
        let fault = fault.filter(|f| logged.is_none_or(|esr| esr == f.esr));
        Outcome::RunFailed {
            errno,
            esr: logged.or_else(|| fault.map(|f| f.esr)),
            far: fault.map(|f| f.far),
            ipa: fault.and_then(|f| f.ipa),
            log,
        }
    }
}
