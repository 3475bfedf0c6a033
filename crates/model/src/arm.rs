//! The Arm CPU: executes the lowered program at EL1 and hands stage-2 aborts to the hypervisor.

mod translate;

use hyp::{Abort, EsrEl2, Resolution};
use memtype::{
    Arch,
    arm::{self as types, Stage2 as S2Type},
    barrier::{Effect, Fence},
};
use mmu::arm::{Access, Config, Fault, FaultKind};
use scenario::{
    Outcome,
    program::{BARRIER_OPTIONS, Barrier, Insn, Size, ZVA_BYTES, scratch},
};

use crate::{
    Choice, Finding,
    bus::{Failed, How, ones},
    machine::{FEATURES, Flow, Machine, Processor},
};

/// Aborts one instruction may cause before the hypervisor is taken to go in circles.
const MAX_ABORTS: u32 = 64;
/// Most accesses that get an explanation.
const MAX_NOTES: usize = 24;

/// What kind of access is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Load,
    Store,
    Zva,
    /// DC CIVAC: translated, and no permission needed at EL1.
    Clean,
    Atomic,
    LoadExclusive,
    StoreExclusive,
    Fetch,
}

impl Kind {
    const fn access(self) -> Access {
        match self {
            Self::Load | Self::LoadExclusive | Self::Clean => Access::Read,
            Self::Store | Self::Zva | Self::StoreExclusive => Access::Write,
            Self::Atomic => Access::ReadWrite,
            Self::Fetch => Access::Execute,
        }
    }
    /// WnR of a fault: for an access that reads and writes, 0 unless reading alone would not have faulted (`NoFault`); for
    /// cache maintenance 1 (D24.2.40).
    const fn wnr(self) -> bool {
        matches!(self, Self::Store | Self::Zva | Self::StoreExclusive | Self::Clean)
    }
    /// CM of a fault. DC ZVA is no cache maintenance by it (D24.2.40).
    const fn cm(self) -> bool {
        matches!(self, Self::Clean)
    }
    const fn is_atomic(self) -> bool {
        matches!(self, Self::Atomic | Self::LoadExclusive | Self::StoreExclusive)
    }
}

/// One access as translation sees it.
#[derive(Debug, Clone, Copy)]
struct Request {
    va: u64,
    kind: Kind,
    aligned: bool,
    /// `ESR_EL2.ISS[24:14]`: ISV and what it makes valid (`LSInstructionSyndrome`); 0 where ISV is 0.
    syndrome: u64,
}

/// What takes the CPU out of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    El1 { esr: u64, far: u64 },
    El2(Abort),
    Bus { failed: Failed, va: u64 },
}

/// An access inside a page.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    pa: u64,
    ipa: u64,
    bytes: u64,
    ty: Option<types::Type>,
    /// Stage 1 asked for gathering.
    asks: bool,
}

impl Part {
    fn how(&self) -> How {
        How::of(self.ty.map(memtype::MemoryType::Arm64))
    }
}

/// The parts of an access: one, or two where it crosses a page.
type Parts = [Part; 2];

/// What the last translation of an instruction was, while the TLB forgets nothing.
#[derive(Debug, Clone, Copy)]
struct Last {
    va: u64,
    epoch: u64,
    parts: Parts,
}

/// The CPU.
pub(crate) struct Cpu<'a> {
    m: Machine<'a>,
    /// By instruction. An instruction is of one kind and size, and nearly always of one address.
    last: Vec<Option<Last>>,
    stage1: Config,
    monitor: Option<u64>,
    departs: Vec<Finding>,
    notes: Vec<(usize, types::Type)>,
}

impl<'a> Cpu<'a> {
    /// `departs` says where the machine is not the architecture's.
    pub(crate) fn new(m: Machine<'a>, stage1: Config, departs: &[Finding]) -> Self {
        let last = vec![None; m.job.lowered.insns.len()];
        Self { m, last, stage1, monitor: None, departs: departs.to_vec(), notes: Vec::new() }
    }

    fn departs(&self, finding: Finding) -> bool {
        self.departs.contains(&finding)
    }
}

impl<'a> Processor<'a> for Cpu<'a> {
    fn machine(&mut self) -> &mut Machine<'a> {
        &mut self.m
    }

    fn step(&mut self, pc: usize, insn: Insn) -> Flow {
        // The hypervisor maps on demand: each abort it answers runs the instruction again.
        for _ in 0..MAX_ABORTS {
            let exception = match self.execute(pc, insn) {
                Ok(flow) => return flow,
                Err(exception) => exception,
            };
            let abort = match exception {
                Exception::El1 { esr, far } => return Flow::End(Outcome::GuestAbort { esr, far }),
                Exception::Bus { failed, va } => return Flow::End(self.m.failed(failed, Some(va))),
                Exception::El2(abort) => abort,
            };
            let mut events = Vec::new();
            let resolution = self.m.host.vm.abort(&abort, &mut |e| events.push(e));
            self.m.maintain(events);
            if let Some(flow) = self.resolve(insn, &abort, resolution) {
                return flow;
            }
        }
        Flow::End(Outcome::Other { what: format!("the same instruction aborted {MAX_ABORTS} times") })
    }
}

impl Cpu<'_> {
    /// What the hypervisor did about an abort; `None`: the instruction runs again.
    fn resolve(&mut self, insn: Insn, abort: &Abort, resolution: Resolution) -> Option<Flow> {
        let ipa_of = |abort: &Abort| abort.ipa().unwrap_or_default().0;
        Some(match resolution {
            Resolution::Again { decision, ipa, .. } => {
                let slot = self.m.host.vm.slot_at(ipa);
                let (at, pa) = slot.map_or((0, 0), |s| (s.ipa.0, s.pa.0));
                let mapped = self.m.host.mapped(pa).map(|mapping| mapping.why.says());
                // RAM is the guest's own affair until something there goes wrong.
                if mapped.is_some() || decision.kind != hyp::S2Kind::Normal {
                    let kind = decision.kind.name();
                    let said = format!("Stage 2 of the slot at IPA {at:#x} is {kind}: {}", decision.why);
                    if !self.m.log.because.contains(&said) {
                        self.m.log.because.extend(mapped.map(str::to_owned));
                        self.m.log.say(said);
                    }
                }
                return None;
            }
            Resolution::Skip => Flow::Next,
            Resolution::SError => Flow::End(Outcome::ContainedError { far: Some(abort.far) }),
            Resolution::HostFault { pa } => {
                let mapped = self.m.host.mapped(pa.0).map(|mapping| mapping.why.says());
                self.m.log.because.extend(mapped.map(str::to_owned));
                self.m.log.say(format!(
                    "Stage 2 becomes Normal, and without FWB or DIC KVM maintains the caches of PA {:#x} by an address of the \
                     kernel's. Device memory has none: the kernel faults, the host is lost. [Linux dcache_clean_inval_poc, \
                     icache_inval_pou; why kvm_supports_cacheable_pfnmap (6.17) refuses such a slot]",
                    pa.0
                ));
                Flow::End(Outcome::UncontainedError)
            }
            Resolution::Inject { fetch, esr, far } => {
                self.m.log.say(format!(
                    "Nothing can be {} at IPA {:#x}: KVM injects a synchronous External abort. [Linux kvm_handle_guest_abort]",
                    if fetch { "fetched" } else { "walked" },
                    ipa_of(abort)
                ));
                Flow::End(Outcome::GuestAbort { esr, far })
            }
            Resolution::Mmio { .. } | Resolution::NoValidSyndrome { .. } if self.m.host.bare => self.nothing(insn),
            Resolution::Mmio { ipa, len, write, srt } => {
                let data = if write { self.m.reg(srt) & ones(u64::from(len)) } else { 0 };
                self.m.log.say(format!(
                    "No slot lets the {} at IPA {:#x} pass: it leaves to user space. [Linux io_mem_abort]",
                    if write { "write" } else { "read" },
                    ipa.0
                ));
                Flow::End(Outcome::Mmio { write, ipa: ipa.0, len, data })
            }
            Resolution::NoValidSyndrome { ipa, iss } => {
                self.m.log.say(format!(
                    "No slot lets the access at IPA {:#x} pass and the syndrome does not say what it was (ISV = 0): it leaves \
                     to user space undecoded. [Linux io_mem_abort; DDI 0487 LSInstructionSyndrome]",
                    ipa.0
                ));
                Flow::End(Outcome::NoValidSyndrome { iss, ipa: ipa.0 })
            }
            Resolution::Fail { errno, log } => {
                self.m.log.say(match log {
                    Some(log) => format!(
                        "KVM has no handler for this fault: KVM_RUN fails with errno {errno}, the kernel logs `{log}`. [Linux \
                         kvm_handle_guest_abort]"
                    ),
                    None => format!("KVM_RUN fails with errno {errno}."),
                });
                Flow::End(Outcome::RunFailed {
                    errno,
                    esr: Some(abort.esr.0),
                    far: Some(abort.far),
                    ipa: abort.ipa().map(|ipa| ipa.0),
                    log: log.map(|l| l.to_string()),
                })
            }
        })
    }

    /// On the bare machine nobody answers where there is nothing: ones.
    fn nothing(&mut self, insn: Insn) -> Flow {
        match insn {
            Insn::Ldr { size, rt } | Insn::Ldxr { size, rt } | Insn::Ldadd { size, rt, .. } => {
                self.m.set(rt, ones(size.bytes()));
            }
            Insn::Ldp { rt, rt2 } => {
                self.m.set(rt, u64::MAX);
                self.m.set(rt2, u64::MAX);
            }
            Insn::Stxr { rs, .. } => self.m.set(rs, 0),
            _ => {}
        }
        Flow::Next
    }

    fn execute(&mut self, pc: usize, insn: Insn) -> Result<Flow, Exception> {
        if let Some(flow) = self.m.common(insn) {
            return Ok(flow);
        }
        let va = self.m.reg(scratch::ADDRESS);
        match insn {
            Insn::Barrier(barrier) if keeps_apart(barrier) => self.m.bus.flush(&mut self.m.log),
            Insn::Br => return self.jump_away(pc, va),
            Insn::Ldr { size, rt } => {
                let value = self.load(pc, va, size.bytes(), single(size, rt))?;
                self.m.set(rt, value);
            }
            Insn::Str { size, rt } => {
                let parts = self.translate_all(pc, va, size.bytes(), Kind::Store, single(size, rt))?;
                self.write(va, &parts, self.m.reg(rt))?;
            }
            Insn::Ldp { rt, rt2 } => {
                // Both halves are checked before either is read.
                let halves = [va, va.wrapping_add(8)];
                let mut parts = [Parts::default(); 2];
                for (at, parts) in halves.into_iter().zip(&mut parts) {
                    *parts = self.translate_all(pc, at, 8, Kind::Load, 0)?;
                }
                for ((at, parts), r) in halves.into_iter().zip(&parts).zip([rt, rt2]) {
                    let value = self.read(at, parts)?;
                    self.m.set(r, value);
                }
            }
            Insn::Stp { rt, rt2 } => {
                // Both halves are checked before either is stored; the architecture allows a half-done pair to abort.
                let halves = [va, va.wrapping_add(8)];
                let mut parts = [Parts::default(); 2];
                for (at, parts) in halves.into_iter().zip(&mut parts) {
                    *parts = self.translate_all(pc, at, 8, Kind::Store, 0)?;
                }
                for ((at, parts), r) in halves.into_iter().zip(&parts).zip([rt, rt2]) {
                    self.write(at, parts, self.m.reg(r))?;
                }
            }
            Insn::Zva => {
                // The block is what is zeroed; FAR is the address in the register (FAR_EL1, DC instructions).
                let request = Request { va, kind: Kind::Zva, aligned: false, syndrome: 0 };
                let part = self.part(pc, request, 8)?;
                let block = Part { pa: part.pa & !(ZVA_BYTES - 1), ..part };
                for i in 0..ZVA_BYTES / 8 {
                    let piece = Part { pa: block.pa + 8 * i, ..block };
                    self.write(va, &[piece, Part::default()], 0)?;
                }
            }
            Insn::Clean => {
                let request = Request { va, kind: Kind::Clean, aligned: true, syndrome: 0 };
                let pa = self.part(pc, request, 1)?.pa;
                self.m.bus.flush(&mut self.m.log);
                self.m.bus.clean_range(pa & !63, 64);
            }
            Insn::Ldadd { size, rs, rt } => {
                if let Some(parts) = self.atomic(pc, va, size, Kind::Atomic)? {
                    let old = self.read(va, &parts)?;
                    let sum = old.wrapping_add(self.m.reg(rs)) & ones(size.bytes());
                    self.write_apart(va, &parts, sum)?;
                    self.m.set(rt, old);
                }
            }
            Insn::Ldxr { size, rt } => {
                if let Some(parts) = self.atomic(pc, va, size, Kind::LoadExclusive)? {
                    let value = self.read(va, &parts)?;
                    self.m.set(rt, value);
                    self.monitor = Some(parts[0].pa);
                }
            }
            Insn::Stxr { size, rs, rt } => {
                if let Some(parts) = self.atomic(pc, va, size, Kind::StoreExclusive)? {
                    // Option 4 of the choice is a store that never succeeds.
                    let never = self.m.log.fell(Choice::Exclusive) == Some(4);
                    let held = self.monitor.take() == Some(parts[0].pa) && !never;
                    if held {
                        self.write_apart(va, &parts, self.m.reg(rt) & ones(size.bytes()))?;
                    }
                    self.m.set(rs, u64::from(!held));
                }
            }
            // What is left is common to every CPU.
            _ => {}
        }
        Ok(Flow::Next)
    }

    /// A branch out of the program: the fetch at `va`, and what lies there.
    fn jump_away(&mut self, pc: usize, va: u64) -> Result<Flow, Exception> {
        if !va.is_multiple_of(4) && !self.departs(Finding::QemuPcAlignment) {
            self.m.log.say(format!("The branch target {va:#x} is not word-aligned. [DDI 0487 B2.8.1]"));
            return Err(Exception::El1 { esr: 0x22 << 26 | 1 << 25, far: va });
        }
        let part = self.part(pc, Request { va, kind: Kind::Fetch, aligned: true, syndrome: 0 }, 4)?;
        // Guest RAM that was never written holds zero words: UDF #0.
        let word = self.m.bus.peek(part.pa & !3, 4);
        self.m.log.say(format!("The word {word:#010x} fetched at {va:#x} is no instruction of the program's."));
        Err(Exception::El1 { esr: 1 << 25, far: 0 })
    }

    fn load(&mut self, pc: usize, va: u64, bytes: u64, syndrome: u64) -> Result<u64, Exception> {
        let parts = self.translate_all(pc, va, bytes, Kind::Load, syndrome)?;
        self.read(va, &parts)
    }

    fn read(&mut self, va: u64, parts: &Parts) -> Result<u64, Exception> {
        let mut value = 0;
        let mut done = 0;
        for part in parts.iter().filter(|p| p.bytes != 0) {
            self.m.read_ahead(part.ipa, part.pa);
            let read = self.m.bus.load(part.pa, part.bytes, part.how(), &mut self.m.log);
            value |= read.map_err(|failed| Exception::Bus { failed, va })? << (8 * done);
            done += part.bytes;
        }
        Ok(value)
    }

    fn write(&mut self, va: u64, parts: &Parts, value: u64) -> Result<(), Exception> {
        let mut done = 0;
        for part in parts.iter().filter(|p| p.bytes != 0) {
            let how = part.how();
            self.m.read_ahead(part.ipa, part.pa);
            self.m.stored(part.ipa, part.asks, how);
            let stored = self.m.bus.store(part.pa, part.bytes, value >> (8 * done), how, &mut self.m.log);
            stored.map_err(|failed| Exception::Bus { failed, va })?;
            done += part.bytes;
        }
        Ok(())
    }

    /// The write of an atomic or exclusive: never gathered.
    fn write_apart(&mut self, va: u64, parts: &Parts, value: u64) -> Result<(), Exception> {
        self.m.bus.flush(&mut self.m.log);
        self.write(va, parts, value)?;
        self.m.bus.flush(&mut self.m.log);
        Ok(())
    }

    /// Translates every page an access of up to 8 bytes touches, the first first: a fault on the second page reports that
    /// page's first byte (the unaligned access is made of byte accesses, `Mem[]`).
    fn translate_all(&mut self, pc: usize, va: u64, bytes: u64, kind: Kind, syndrome: u64) -> Result<Parts, Exception> {
        let epoch = self.m.tlb.epoch();
        if let Some(Some(last)) = self.last.get(pc)
            && (last.va, last.epoch) == (va, epoch)
        {
            return Ok(last.parts);
        }
        let aligned = va.is_multiple_of(bytes);
        let first = bytes.min(4096 - va % 4096);
        let mut parts = Parts::default();
        parts[0] = self.part(pc, Request { va, kind, aligned, syndrome }, first)?;
        if bytes > first {
            let va = va.wrapping_add(first);
            parts[1] = self.part(pc, Request { va, kind, aligned, syndrome }, bytes - first)?;
        }
        if let Some(last) = self.last.get_mut(pc) {
            *last = Some(Last { va, epoch, parts });
        }
        Ok(parts)
    }

    fn part(&mut self, pc: usize, request: Request, bytes: u64) -> Result<Part, Exception> {
        let found = self.translate(pc, request)?;
        let asks = request.kind.access().writes() && How::arm(found.combined.stage1().ty()).gathers;
        Ok(Part { pa: found.pa, ipa: found.ipa, bytes, ty: Some(found.combined.ty), asks })
    }

    /// An exclusive or atomic: its own alignment rule, and whether it works here at all. `None`: no operation.
    fn atomic(&mut self, pc: usize, va: u64, size: Size, kind: Kind) -> Result<Option<Parts>, Exception> {
        let bytes = size.bytes();
        let aligned = va.is_multiple_of(bytes);
        let parts = self.translate_all(pc, va, bytes, kind, 0)?;
        let found = self.translate(pc, Request { va, kind, aligned, syndrome: 0 })?;
        let combined = found.combined;
        let within_16 = va % 16 + bytes <= 16;
        let performed = aligned || within_16 && combined.atomics_guaranteed();
        if !performed && self.m.log.choose(Choice::UnalignedAtomic) == 1 {
            return Err(el1(va, kind, FaultKind::Alignment, 0));
        }
        if combined.atomics_guaranteed() {
            return Ok(Some(parts));
        }
        let choice = if kind == Kind::Atomic { Choice::Atomic } else { Choice::Exclusive };
        match self.m.log.choose(choice) {
            1 => {
                // By the type of stage 1: taken to EL1. By stage 2 alone: to EL2 (B2.2.6).
                let alone = types::combine(combined.stage1(), &S2Type::decode(false, 0b1111, 0b11, FEATURES));
                if alone.atomics_guaranteed() {
                    let esr = esr_el2(kind, false, FaultKind::UnsupportedAtomic, 0, 0);
                    Err(Exception::El2(Abort { esr, far: va, ipa_page: None }))
                } else {
                    Err(Exception::El1 { esr: 0x25 << 26 | 1 << 25 | 0x35, far: va })
                }
            }
            2 => Err(Exception::El1 { esr: 0x25 << 26 | 1 << 25 | u64::from(kind.wnr()) << 6 | 0x10, far: va }),
            3 => Ok(None),
            _ => Ok(Some(parts)),
        }
    }
}

/// Whether a barrier keeps the writes before it from being gathered with those after it
/// ([`Effect::WcApart`]), guaranteed. In the inner shareable domain that is the platform's to say; here it does not.
fn keeps_apart(barrier: Barrier) -> bool {
    let (name, crm) = match barrier {
        Barrier::Dmb(crm) => ("DMB", crm),
        Barrier::Dsb(crm) => ("DSB", crm),
        Barrier::Isb | Barrier::Dgh => return false,
    };
    let option = BARRIER_OPTIONS.iter().find(|(_, c)| *c == crm).map_or("sy", |(option, _)| *option);
    let asked = |fence: &&Fence| {
        fence.arch == Arch::Arm64
            && fence.name.split_once(' ').is_some_and(|(n, o)| n == name && o.eq_ignore_ascii_case(option))
    };
    let fence = Fence::of(Arch::Arm64).find(asked);
    fence.is_some_and(|f| f.guaranteed.has(Effect::WcApart))
}

/// ISV, SAS, SRT and SF of a single general-purpose-register load or store without writeback: `ESR_EL2.ISS[24:14]`.
fn single(size: Size, rt: u8) -> u64 {
    1 << 24 | u64::from(size.log2()) << 22 | u64::from(rt) << 16 | u64::from(size == Size::B8) << 15
}

/// A fault of stage 1, taken to EL1.
fn el1(va: u64, kind: Kind, fault: FaultKind, level: u8) -> Exception {
    let fsc = u64::from(Fault { kind: fault, level }.fsc());
    let esr = if kind == Kind::Fetch {
        0x21 << 26 | 1 << 25 | fsc
    } else {
        let write = if fault == FaultKind::Permission { kind.access().writes() } else { kind.wnr() };
        0x25 << 26 | 1 << 25 | u64::from(kind.cm()) << 8 | u64::from(write) << 6 | fsc
    };
    Exception::El1 { esr, far: va }
}

fn esr_el2(kind: Kind, s1ptw: bool, fault: FaultKind, level: u8, syndrome: u64) -> EsrEl2 {
    let fsc = u64::from(Fault { kind: fault, level }.fsc());
    let walk = u64::from(s1ptw) << 7;
    EsrEl2(if kind == Kind::Fetch {
        0x20 << 26 | 1 << 25 | walk | fsc
    } else {
        let write = if fault == FaultKind::Permission { kind.access().writes() } else { kind.wnr() } && !s1ptw;
        0x24 << 26 | 1 << 25 | syndrome | u64::from(kind.cm()) << 8 | walk | u64::from(write) << 6 | fsc
    })
}
