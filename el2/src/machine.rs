//! One scenario after the other: a VM by `hyp`, its guest at EL1, and what comes of it.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use el2::Job;
use hyp::{
    Abort, Cpu, EsrEl2, Event, Facts, Policy, Resolution, Slot, Vm, Vma,
    region::{self, Index, Mapping, Refused, Uapi},
};
use memtype::{Arch, Attribute, MemoryType, arm::mair_of};
use mmu::{Ia, Oa, PAGE};
use scenario::{
    Layout, Observation, Outcome, Reads, Scenario, Target,
    layout::Backing,
    program::{Op, Place, Value},
};

use crate::{
    board::Window,
    cpu::{self, El1},
    entry::{self, Context, Left},
    memory::{Live, Own, Pool, Region},
    pci::{Memory, Pci},
    sweep::vtcr,
};

/// Milliseconds a guest may run.
const LIMIT: u64 = 1000;
/// Milliseconds it may run with all that is done outside of it.
const LIMIT_OUTSIDE: u64 = 20_000;
/// Exceptions to EL2 that one guest may cause.
const MOST_EXITS: u32 = 1 << 16;
/// PSTATE at the start: EL1h, with D, A, I and F masked.
const START_PSTATE: u64 = 0x3c5;
/// Bytes for stage-2 tables.
const TABLES: u64 = 4 << 20;
/// Bytes zeroed behind a map: an access that begins in it may end there.
const MARGIN: u64 = 2 * PAGE;
/// BARs up to this size are zeroed whole.
const WHOLE: u64 = 4 << 20;
/// And in such pieces.
const CHUNK: u64 = 2 << 20;
/// Slots of a VM, regions and mappings of a device.
const SLOTS: usize = 96;
const REGIONS: usize = 32;
const MAPPINGS: usize = 64;

type Guest<'a> = Vm<Live<'a>, SLOTS>;
type Device = region::Device<REGIONS, MAPPINGS>;

/// The machine, ready to run scenarios.
#[derive(Debug)]
pub(crate) struct Machine {
    own: Own,
    pci: Option<Pci>,
    tables: &'static mut [u64],
    ram: Region,
    /// A page that no guest has.
    scratch: Region,
}

/// Why a VM was not made: user space's own outcome.
struct Refusal {
    errno: i32,
    why: String,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self { errno: refused.errno(), why: refused.to_string() }
    }
}

impl From<hyp::Error> for Refusal {
    fn from(error: hyp::Error) -> Self {
        Self { errno: error.errno(), why: error.to_string() }
    }
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Ran {
    /// As the hypervisor saw it.
    pub(crate) observation: Observation,
    /// ESR_EL1, FAR_EL1 and ELR_EL1.
    pub(crate) el1: [u64; 3],
    /// They are of an exception that the hypervisor injected.
    pub(crate) injected: bool,
}

impl Machine {
    /// Of what the pool has left.
    ///
    /// # Errors
    /// Where that is too little.
    pub(crate) fn new(own: Own, pci: Option<Pci>, pool: &mut Pool) -> Result<Self, String> {
        let tables = pool.take(TABLES, TABLES).ok_or("no room for stage-2 tables")?;
        let rest = pool.rest(2 << 20);
        let guests = rest.size().checked_sub(PAGE).ok_or("no room for guests")?;
        let ram = rest.part(0, guests).ok_or("no room for guests")?;
        let scratch = rest.part(guests, PAGE).ok_or("no room for guests")?;
        Ok(Self { own, pci, tables, ram, scratch })
    }

    /// Runs a scenario under a policy.
    ///
    /// # Errors
    /// Where this machine cannot. Whatever the guest does is an outcome.
    pub(crate) fn run(&mut self, job: &Job, policy: &str) -> Result<Ran, String> {
        let policy = Policy::named(policy).ok_or_else(|| format!("there is no policy `{policy}`"))?;
        let scenario = &job.scenario;
        let fwb = scenario.machine.fwb.unwrap_or_else(cpu::has_fwb);
        if fwb && !cpu::has_fwb() {
            return Err("the scenario says `fwb = true`, and this processor lacks FEAT_S2FWB".into());
        }
        let layout = Layout::of(scenario);
        let devices = self.choose(scenario)?;
        let ram = layout.slots.first().map_or(0, |slot| slot.size);
        let ram = self.ram.part(0, ram).ok_or_else(|| format!("{ram:#x} bytes of guest RAM are more than there is"))?;
        ram.zero();
        for piece in &job.guest.memory {
            let base = layout.slots.first().map_or(0, |slot| slot.ipa);
            let placed = piece.ipa.checked_sub(base).and_then(|offset| ram.copy(offset, &piece.bytes));
            placed.ok_or_else(|| format!("a piece of the guest at {:#x} is outside of its RAM", piece.ipa))?;
        }
        cpu::forget_instructions();
        for (chosen, bar) in devices.iter().flatten() {
            chosen.with_register(bar.reads == Reads::Clear);
        }
        self.wipe(scenario, &devices)?;

        let cpu = Cpu { fwb, dic: cpu::has_dic() };
        self.tables.fill(0);
        let tables = Live::new(&mut *self.tables);
        let mut vm: Guest<'_> = Vm::new(policy, cpu, tables).map_err(|error| error.to_string())?;
        let mut vfio = match self::devices(scenario, policy, &devices) {
            Ok(vfio) => vfio,
            Err(refusal) => return Ok(refused(refusal)),
        };
        if let Err(refusal) = slots(&mut vm, &mut vfio, scenario, &layout, ram) {
            return Ok(refused(refusal));
        }

        for (chosen, bar) in devices.iter().flatten() {
            chosen.decode(!bar.dead);
        }
        let mut run = Run {
            scenario,
            layout: &layout,
            vm,
            vfio,
            own: &mut self.own,
            dma: self.pci.as_ref().and_then(|pci| pci.dma),
            ram,
            scratch: self.scratch,
            context: Context { x: [0; 31], pc: job.guest.entry, pstate: START_PSTATE },
            injected: false,
        };
        cpu::set_el1(&El1 {
            sctlr: job.guest.sctlr,
            tcr: job.guest.tcr,
            mair: job.guest.mair,
            ttbr0: job.guest.ttbr0,
            vbar: job.guest.vbar,
        });
        cpu::set_stage2(run.vm.root().0, vtcr());
        cpu::forget_guest();
        cpu::set_hcr(cpu::HCR_GUEST | if fwb { cpu::HCR_FWB } else { 0 });
        cpu::alarm(LIMIT);
        let outcome = run.all(job.guest.vbar);
        let el1 = cpu::el1_exception();
        cpu::no_alarm();
        cpu::set_hcr(cpu::HCR_NONE);
        let (x, injected) = (run.context.x, run.injected);
        let registers = scenario.program.destinations().into_iter();
        let registers = registers.map(|r| (r, x.get(usize::from(r)).copied().unwrap_or(0))).collect();
        Ok(Ran { observation: Observation { outcome: outcome?, registers }, el1, injected })
    }

    /// For every BAR of the scenario, by device, a device of this machine.
    fn choose(&self, scenario: &Scenario) -> Result<Vec<Vec<(Memory, scenario::Bar)>>, String> {
        let mut free: Vec<Memory> = self.pci.iter().flat_map(|pci| &pci.memory).copied().collect();
        let mut chosen = Vec::new();
        for device in &scenario.devices {
            let mut bars = Vec::new();
            for bar in &device.bars {
                // BAR 0 has room for so much, whatever BAR 2 has.
                let fits = |memory: &Memory| {
                    memory.bar.size == bar.size && (bar.reads == Reads::Plain || memory.clears.size >= bar.size)
                };
                let at = free.iter().position(fits).ok_or_else(|| {
                    format!("there is no device for {}.{} of {:#x} bytes", device.name, bar.index, bar.size)
                })?;
                bars.push((free.swap_remove(at), *bar));
            }
            chosen.push(bars);
        }
        Ok(chosen)
    }

    /// Zeroes what the scenario's maps have of the BARs, whatever ran before.
    fn wipe(&mut self, scenario: &Scenario, devices: &[Vec<(Memory, scenario::Bar)>]) -> Result<(), String> {
        for map in &scenario.maps {
            let Target::Bar { device, bar } = map.of else { continue };
            let found = devices.get(device).and_then(|bars| bars.get(bar));
            let (memory, bar) = found.ok_or("a map of no BAR")?;
            let at = pa_of(memory, bar);
            let (offset, size) = if bar.size <= WHOLE {
                (0, bar.size)
            } else {
                (map.offset, (map.size + MARGIN).min(bar.size - map.offset))
            };
            // Not Device, for it is zeroed by any access there is; nothing holds it in a cache, for it is mapped nowhere else.
            let mut done = 0;
            while done < size {
                let part = Window { base: at + offset + done, size: (size - done).min(CHUNK) };
                self.own.window(part, 0x44, Region::zero)?;
                done += part.size;
            }
            if bar.reads == Reads::Clear {
                // Reading it does.
                self.own.window(Window { base: at, size: PAGE }, 0x04, |registers| registers.read(4))?;
            }
        }
        Ok(())
    }
}

/// Where the memory of a scenario's BAR is.
fn pa_of(memory: &Memory, bar: &scenario::Bar) -> u64 {
    match bar.reads {
        Reads::Plain => memory.bar.base,
        Reads::Clear => memory.clears.base,
    }
}

fn refused(refusal: Refusal) -> Ran {
    let outcome = Outcome::SlotRefused { errno: refusal.errno, why: refusal.why };
    Ran { observation: Observation { outcome, registers: BTreeMap::new() }, el1: [0; 3], injected: false }
}

/// The scenario's devices as VFIO has them, with what user space asked for before the guest starts.
fn devices(
    scenario: &Scenario,
    policy: Policy,
    chosen: &[Vec<(Memory, scenario::Bar)>],
) -> Result<Vec<Device>, Refusal> {
    let mut all = Vec::new();
    for (d, (device, bars)) in scenario.devices.iter().zip(chosen).enumerate() {
        let of = |(memory, bar): &(Memory, scenario::Bar)| {
            let of = Facts::of_device(device.class, scenario.platform);
            let facts = Facts { prefetchable: bar.prefetchable, cached: bar.cached, ..of };
            region::Bar::new(bar.index, Oa(pa_of(memory, bar)), bar.size).with(facts)
        };
        let bars: Vec<region::Bar> = bars.iter().map(of).collect();
        let mut vfio = Device::new(policy, Uapi::Subregions, &bars)?;
        // Where there is no call to ask by, nobody asks.
        if policy.takes_attributes() {
            for asked in scenario.attributes.iter().filter(|asked| asked.device == d) {
                let index = bars.get(asked.bar).map_or(u32::MAX, |bar| u32::from(bar.index));
                vfio.create(Index(index), asked.offset, asked.size, asked.ask)?;
            }
        }
        all.push(vfio);
    }
    Ok(all)
}

/// Registers the slots: RAM, then every BAR, by the mappings user space made of it.
fn slots(
    vm: &mut Guest<'_>,
    vfio: &mut [Device],
    scenario: &Scenario,
    layout: &Layout,
    ram: Region,
) -> Result<(), Refusal> {
    for slot in &layout.slots {
        match slot.backing {
            Backing::Ram => vm.add_slot(Slot::new(Ia(slot.ipa), slot.size, Oa(ram.base()), Vma::RAM))?,
            Backing::Bar { device, bar } => {
                let number = scenario.devices.get(device).and_then(|d| d.bars.get(bar)).map_or(u8::MAX, |b| b.index);
                let Some(vfio) = vfio.get_mut(device) else { continue };
                vfio.mmap_bar(number, |mapping: &Mapping, pa: Oa| -> Result<(), Refusal> {
                    let ipa = Ia(slot.ipa + mapping.area.offset);
                    let part = Slot::new(ipa, mapping.area.size, pa, mapping.vma);
                    Ok(vm.add_slot(Slot { readonly: slot.readonly, ..part })?)
                })?;
            }
        }
    }
    Ok(())
}

/// Executes what `hyp` asks for.
fn maintain(ram: Region) -> impl FnMut(Event) {
    move |event| match event {
        Event::Broke { .. } | Event::Made { .. } => cpu::publish(),
        // Of the whole VM, which is more than what was asked.
        Event::Invalidate { .. } => cpu::forget_guest(),
        Event::CleanDcache { pa, size } => {
            let part = pa.0.checked_sub(ram.base()).and_then(|offset| ram.part(offset, size));
            part.into_iter().for_each(cpu::clean);
        }
        Event::InvalidateIcache { .. } => cpu::forget_instructions(),
    }
}

/// A guest under way.
struct Run<'a> {
    scenario: &'a Scenario,
    layout: &'a Layout,
    vm: Guest<'a>,
    vfio: Vec<Device>,
    own: &'a mut Own,
    dma: Option<crate::pci::Dma>,
    ram: Region,
    scratch: Region,
    context: Context,
    injected: bool,
}

/// ESR_ELx.EC.
const EC_HVC: u64 = 0x16;
const EC_FETCH: u64 = 0x20;
const EC_DATA: u64 = 0x24;

impl Run<'_> {
    /// Runs it until there is an outcome.
    fn all(&mut self, vbar: u64) -> Result<Outcome, String> {
        let begun = cpu::Clock::now();
        for _ in 0..MOST_EXITS {
            match entry::enter(&mut self.context) {
                Left::Interrupt => {
                    let rang = cpu::rang();
                    let number = cpu::acknowledge();
                    if rang {
                        return Ok(Outcome::Endless);
                    }
                    return Ok(Outcome::Other { what: format!("interrupt {number}, which nobody asked for") });
                }
                // An SError: nobody can say whose it is.
                Left::Other(3) => return Ok(Outcome::UncontainedError),
                Left::Other(kind) => {
                    return Ok(Outcome::Other { what: format!("exception of kind {kind} from the guest") });
                }
                Left::Synchronous => {}
            }
            let now = cpu::syndrome();
            match now.esr >> 26 & 0x3f {
                EC_HVC => {
                    // What is done outside of the guest is not of its time.
                    let left = cpu::left();
                    self.operation((now.esr & 0xffff) as usize)?;
                    if begun.elapsed() > LIMIT_OUTSIDE {
                        return Ok(Outcome::Endless);
                    }
                    cpu::alarm_in(left);
                }
                EC_FETCH | EC_DATA => {
                    if let Some(outcome) = self.abort(&now, vbar) {
                        return Ok(outcome);
                    }
                }
                _ => {
                    let what = format!("ESR_EL2={:#x} at {:#x}", now.esr, now.elr);
                    return Ok(Outcome::Other { what });
                }
            }
        }
        Ok(Outcome::Endless)
    }

    /// An abort: what `hyp` says of it, done. An outcome ends the run.
    fn abort(&mut self, now: &cpu::Syndrome, vbar: u64) -> Option<Outcome> {
        let esr = EsrEl2(now.esr);
        let page = (now.hpfar & 0x0fff_ffff_fff0) << 8;
        // What the architecture gives, and KVM where it does not: a Permission fault that is not on a walk leaves HPFAR_EL2
        // UNKNOWN (IPAValid; Linux `__populate_fault_info`).
        let ipa = match esr.fsc() >> 2 {
            0b0000..=0b0010 => Some(page),
            0b0011 if esr.s1ptw() => Some(page),
            0b0011 => cpu::translate_stage1(now.far),
            _ => None,
        };
        let abort = Abort { esr, far: now.far, ipa_page: ipa.map(Ia) };
        match self.vm.abort(&abort, &mut maintain(self.ram)) {
            Resolution::Again { .. } => None,
            Resolution::Skip => {
                self.context.pc += 4;
                None
            }
            Resolution::Inject { esr, far, .. } => {
                cpu::set_el1_exception(esr, far, self.context.pc, self.context.pstate);
                self.injected = true;
                self.context.pc = vbar + 0x200;
                self.context.pstate = START_PSTATE;
                None
            }
            // The guest runs with SErrors masked, so that it would not take one: that it was told is the outcome.
            Resolution::SError => Some(Outcome::ContainedError { far: Some(now.far) }),
            Resolution::HostFault { .. } => Some(Outcome::UncontainedError),
            Resolution::Mmio { ipa, len, write, srt } => {
                let value = self.register(srt) & mask(u64::from(len));
                Some(Outcome::Mmio { write, ipa: ipa.0, len, data: if write { value } else { 0 } })
            }
            Resolution::NoValidSyndrome { ipa, iss } => Some(Outcome::NoValidSyndrome { iss, ipa: ipa.0 }),
            Resolution::Fail { errno, log } => Some(Outcome::RunFailed {
                errno,
                esr: Some(now.esr),
                far: Some(now.far),
                ipa: abort.ipa().map(|ipa| ipa.0),
                log: log.map(|log| log.to_string()),
            }),
        }
    }

    /// A register of the guest; 31 is XZR.
    fn register(&self, number: u8) -> u64 {
        self.context.x.get(usize::from(number)).copied().unwrap_or(0)
    }

    fn value(&self, value: Value) -> u64 {
        match value {
            Value::Imm(imm) => imm,
            Value::Reg(reg) => self.register(reg.number()),
        }
    }

    /// What is behind a place of the program: the IPA.
    fn ipa(&self, at: Place) -> Result<u64, String> {
        let map = self.layout.maps.get(at.map).ok_or("a place in no map")?;
        Ok(map.ipa + at.offset)
    }

    /// An operation outside of the guest.
    fn operation(&mut self, index: usize) -> Result<(), String> {
        let (line, op) = self.scenario.program.ops.get(index).copied().ok_or("an operation the program has not")?;
        let said = |why: String| format!("line {line}: {why}");
        match op {
            Op::UserStore { size, at, value } => {
                let value = self.value(value);
                self.user(at, |region, offset| region.store(offset, size.log2(), value).map(|()| 0)).map_err(said)?;
            }
            Op::UserLoad { size, at, to } => {
                let value = self.user(at, |region, offset| region.load(offset, size.log2())).map_err(said)?;
                self.context.x[usize::from(to.number())] = value;
            }
            Op::DmaStore { size, at, value, .. } => {
                let own = self.scratch;
                let put = own.store(0, 3, self.value(value));
                put.map_err(|esr| said(format!("ESR_EL2={esr:#x}")))?;
                let pa = self.pa(at).map_err(said)?;
                self.dma(own.base(), pa, size.bytes()).map_err(said)?;
            }
            Op::DmaLoad { size, at, to, .. } => {
                let own = self.scratch;
                own.zero();
                let pa = self.pa(at).map_err(said)?;
                self.dma(pa, own.base(), size.bytes()).map_err(said)?;
                let got = own.load(0, 3).map_err(|esr| said(format!("ESR_EL2={esr:#x}")))?;
                self.context.x[usize::from(to.number())] = got;
            }
            Op::SetAttribute { at, ask } => self.ask(at, ask),
            _ => return Err(said("this is no operation outside of the guest".into())),
        }
        Ok(())
    }

    /// An access of user space's own, through a mapping of EL2's that has the memory type of user space's.
    fn user(&mut self, at: Place, access: impl FnOnce(Region, u64) -> Result<u64, u64>) -> Result<u64, String> {
        let ipa = self.ipa(at)?;
        let slot = *self.vm.slot_at(Ia(ipa)).ok_or_else(|| format!("user space has mapped nothing at {ipa:#x}"))?;
        let offset = ipa - slot.ipa.0;
        let fault = |esr: u64| format!("user space's access faults: ESR_EL2={esr:#x}, SIGBUS");
        if slot.vma.kernel_memory {
            return access(self.ram, offset).map_err(fault);
        }
        let mair = match slot.vma.pgprot.memory_type(Arch::Arm64) {
            Some(MemoryType::Arm64(ty)) => mair_of(ty.name()),
            _ => None,
        };
        let mair = mair.ok_or_else(|| format!("no memory type for `{}`", slot.vma.pgprot.name()))?;
        let page = offset & !(PAGE - 1);
        // A page more, for what crosses into it, where the slot has one.
        let size = (slot.size - page).min(2 * PAGE);
        let window = Window { base: slot.pa.0 + page, size };
        self.own.window(window, mair, |region| access(region, offset - page))?.map_err(fault)
    }

    /// The physical address of a place.
    fn pa(&self, at: Place) -> Result<u64, String> {
        let ipa = self.ipa(at)?;
        let slot = self.vm.slot_at(Ia(ipa)).ok_or_else(|| format!("there is no memory at {ipa:#x}"))?;
        Ok(slot.pa.0 + (ipa - slot.ipa.0))
    }

    fn dma(&self, from: u64, to: u64, bytes: u64) -> Result<(), String> {
        cpu::complete();
        self.dma.as_ref().ok_or("this machine has no device that makes DMA")?.copy(from, to, bytes)
    }

    /// User space asks for another attribute of what it asked for before. Where it cannot have it, nothing changes.
    fn ask(&mut self, at: Place, ask: Attribute) {
        let Some(asked) = self.scenario.asked_at(at) else { return };
        let bar = self.scenario.devices.get(asked.device).and_then(|device| device.bars.get(asked.bar));
        let map = self.scenario.maps.get(at.map);
        let (Some(bar), Some(map), Some(device)) = (bar, map, self.vfio.get_mut(asked.device)) else { return };
        if let Ok(Some(zap)) = device.set_at(bar.index, map.offset + at.offset, ask) {
            self.vm.remapped(zap.pa, zap.size, zap.vma, &mut maintain(self.ram));
        }
    }
}

const fn mask(bytes: u64) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 }
}
