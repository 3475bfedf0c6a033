//! The CPU: executes the lowered program at EL1, translating every access through both stages in the architecture's order
//! (D8.15.5), and hands stage-2 aborts to the hypervisor.

use hyp::{Abort, Cpu, EsrEl2, Policy, Resolution, Slot, Vm, Vma};
use memtype::arm::{self as types, Combined, Features, Rule, Stage1 as S1Type, Stage2 as S2Type};
use mmu::{
    Arena, Ia, Oa, Words,
    arm::{self, Access, Config, Fault, FaultKind, Leaf, S1Attrs, S2Attrs, Stage1, Stage2, Step, WalkError},
};
use scenario::{
    Guest, Layout, Observation, Outcome, Scenario,
    layout::Backing,
    program::{Insn, Lowered, Size, ZVA_BYTES, scratch},
};

use crate::{Error, Finding, MAX_STEPS, guest, memory::Memory};

/// Host-physical addresses: where the model puts what is behind the slots, and the stage-2 tables.
const RAM_PA: u64 = 0x40_0000_0000;
const BAR_PA: u64 = 0x50_0000_0000;
const TABLES_PA: u64 = 0x60_0000_0000;
const TABLE_FRAMES: usize = 1024;
/// Aborts one instruction may cause before the hypervisor is taken to go in circles.
const MAX_ABORTS: u32 = 64;
/// Most accesses that get an explanation.
const MAX_NOTES: usize = 24;
const SLOTS: usize = 32;

/// A choice the architecture leaves to the implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// An atomic where nothing guarantees it (B2.2.6).
    Atomic,
    /// An exclusive where nothing guarantees it (B2.12).
    Exclusive,
    /// An exclusive or atomic that is not aligned to its size (B2.8.2.1.2).
    UnalignedAtomic,
    /// An unaligned access, or DC ZVA, where stage 1 says Device and FWB makes it Write-Back (R_RMTWN).
    ForcedWriteBack,
}

impl Choice {
    /// In words, with the place.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Atomic => {
                "Atomics on memory that is not shareable Normal Write-Back: performed, DFSC 0b110101, External abort, or no \
                 operation. An SError is allowed too, and not modelled. [DDI 0487 B2.2.6]"
            }
            Self::Exclusive => {
                "Exclusives on memory that is not shareable Normal Write-Back: performed, DFSC 0b110101, External abort, no \
                 operation, or a store that never succeeds. [DDI 0487 B2.12]"
            }
            Self::UnalignedAtomic => {
                "An exclusive or atomic that is not aligned to its size, on other than Normal Write-Back or across 16 bytes: \
                 performed, or an Alignment fault. [DDI 0487 B2.8.2.1.2, CONSTRAINED UNPREDICTABLE with FEAT_LSE2]"
            }
            Self::ForcedWriteBack => {
                "Stage 1 says Device, FWB makes it Write-Back: an unaligned access or DC ZVA is performed, or is an Alignment \
                 fault of stage 1. [DDI 0487 R_RMTWN, CONSTRAINED UNPREDICTABLE]"
            }
        }
    }
    /// How many ways it can fall.
    const fn options(self) -> u8 {
        match self {
            Self::Atomic => 4,
            Self::Exclusive => 5,
            Self::UnalignedAtomic | Self::ForcedWriteBack => 2,
        }
    }
}

/// One run's result.
pub(crate) struct Run {
    pub(crate) observation: Observation,
    pub(crate) because: Vec<String>,
    pub(crate) choices: Vec<Choice>,
    /// For each choice met: how it fell, of how many.
    pub(crate) taken: Vec<(u8, u8)>,
}

/// What kind of access is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Load,
    Store,
    Zva,
    Atomic,
    LoadExclusive,
    StoreExclusive,
    Fetch,
}

impl Kind {
    const fn access(self) -> Access {
        match self {
            Self::Load | Self::LoadExclusive => Access::Read,
            Self::Store | Self::Zva | Self::StoreExclusive => Access::Write,
            Self::Atomic => Access::ReadWrite,
            Self::Fetch => Access::Execute,
        }
    }
    /// WnR of a fault: for an access that reads and writes, 0 unless reading alone would not have faulted (`NoFault`).
    const fn wnr(self) -> bool {
        matches!(self, Self::Store | Self::Zva | Self::StoreExclusive)
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

/// An exception.
#[derive(Debug, Clone, Copy)]
enum Exception {
    El1 { esr: u64, far: u64 },
    El2(Abort),
}

/// What a translation found: for the access, and to explain it.
#[derive(Debug, Clone, Copy)]
struct Found {
    pa: u64,
    combined: Combined,
    s1: Option<Step>,
    s2: Step,
}

/// How a step of the program ended.
enum Flow {
    Next,
    To(usize),
    End(Outcome),
}

pub(crate) struct Machine<'a> {
    scenario: &'a Scenario,
    lowered: &'a Lowered,
    guest: &'a Guest,
    stage1: Config,
    memory: Memory,
    vm: Vm<Arena<Vec<u64>>, SLOTS>,
    x: [u64; 31],
    monitor: Option<u64>,
    script: Vec<u8>,
    departs: Vec<Finding>,
    choices: Vec<Choice>,
    taken: Vec<(u8, u8)>,
    because: Vec<String>,
    notes: Vec<(usize, types::Type)>,
}

const FEATURES: Features = Features::LATEST;

impl<'a> Machine<'a> {
    pub(crate) fn new(
        scenario: &'a Scenario,
        layout: &Layout,
        lowered: &'a Lowered,
        guest: &'a Guest,
        policy: Policy,
        cpu: Cpu,
    ) -> Result<Self, Error> {
        let tables = Arena::new(Oa(TABLES_PA), vec![0u64; TABLE_FRAMES * 512]);
        let mut vm = Vm::new(policy, cpu, tables)?;
        let mut memory = Memory::default();
        for slot in &layout.slots {
            // Each BAR lies where its IPA does, relative to its base: naturally aligned.
            let (pa, vma) = match slot.backing {
                Backing::Ram => (RAM_PA + slot.ipa, Vma::RAM),
                Backing::Bar { .. } => (BAR_PA + slot.ipa, Vma::VFIO_PCI_BAR),
            };
            vm.add_slot(Slot { readonly: slot.readonly, ..Slot::new(Ia(slot.ipa), slot.size, Oa(pa), vma) })?;
        }
        for piece in &guest.memory {
            memory.load(RAM_PA + piece.ipa, &piece.bytes);
        }
        Ok(Self {
            scenario,
            lowered,
            guest,
            stage1: guest::stage1_config().ok_or(Error::Tables("TCR_EL1".into()))?,
            memory,
            vm,
            x: [0; 31],
            monitor: None,
            script: Vec::new(),
            departs: Vec::new(),
            choices: Vec::new(),
            taken: Vec::new(),
            because: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// Runs to the end. `script` says how the first choices fall; the others fall as 0, performed. `departs` says where the
    /// machine is not the architecture's.
    pub(crate) fn run(mut self, script: &[u8], departs: &[Finding]) -> Run {
        self.script = script.to_vec();
        self.departs = departs.to_vec();
        let mut pc = 0;
        let mut outcome = Outcome::Endless;
        for _ in 0..MAX_STEPS {
            let Some(insn) = self.lowered.insns.get(pc).copied() else {
                outcome = if self.scenario.program.touches_memory() { Outcome::Completed } else { Outcome::Untouched };
                break;
            };
            match self.step(pc, insn) {
                Flow::Next => pc += 1,
                Flow::To(to) => pc = to,
                Flow::End(end) => {
                    outcome = end;
                    break;
                }
            }
        }
        if outcome == Outcome::Endless {
            self.because.push(format!("The program was still running after {MAX_STEPS} instructions."));
        }
        let registers = self.scenario.program.destinations().into_iter().map(|r| (r, self.x[usize::from(r)])).collect();
        Run {
            observation: Observation { outcome, registers },
            because: self.because,
            choices: self.choices,
            taken: self.taken,
        }
    }

    /// How a choice falls, 0 to `options` − 1. A machine is consistent: the same choice falls the same way every time.
    fn choose(&mut self, choice: Choice) -> u8 {
        if let Some(i) = self.choices.iter().position(|c| *c == choice) {
            return self.taken[i].0;
        }
        let fell = self.script.get(self.choices.len()).copied().unwrap_or(0);
        self.choices.push(choice);
        self.taken.push((fell, choice.options()));
        fell
    }

    fn reg(&self, r: u8) -> u64 {
        self.x[usize::from(r)]
    }

    fn set(&mut self, r: u8, value: u64) {
        self.x[usize::from(r)] = value;
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
                Exception::El2(abort) => abort,
            };
            match self.vm.abort(&abort, &mut ()) {
                Resolution::Again { decision, ipa, size } => {
                    let slot = self.vm.slot_at(ipa).map_or(0, |s| s.ipa.0);
                    let kind = decision.kind.name();
                    let said = format!("Stage 2 of the slot at IPA {slot:#x} is {kind}: {}", decision.why);
                    // RAM is the guest's own affair until something there goes wrong.
                    if !self.because.contains(&said) && decision.kind != hyp::S2Kind::Normal {
                        self.because.push(said);
                    }
                    debug_assert!(size >= 4096);
                }
                Resolution::Skip => return Flow::Next,
                Resolution::SError | Resolution::HostFault { .. } => {
                    return Flow::End(Outcome::Other { what: "an error that nothing here makes".into() });
                }
                Resolution::Inject { fetch, esr, far } => {
                    self.because.push(format!(
                        "Nothing can be {} at IPA {:#x}: KVM injects a synchronous External abort. [Linux \
                         kvm_handle_guest_abort]",
                        if fetch { "fetched" } else { "walked" },
                        abort.ipa().unwrap_or_default().0
                    ));
                    return Flow::End(Outcome::GuestAbort { esr, far });
                }
                Resolution::Mmio { ipa, len, write, srt } => {
                    let data = if write { self.reg(srt) & mask(u64::from(len)) } else { 0 };
                    self.because.push(format!(
                        "No slot lets the {} at IPA {:#x} pass: it leaves to user space. [Linux io_mem_abort]",
                        if write { "write" } else { "read" },
                        ipa.0
                    ));
                    return Flow::End(Outcome::Mmio { write, ipa: ipa.0, len, data });
                }
                Resolution::NoValidSyndrome { ipa, iss } => {
                    self.because.push(format!(
                        "No slot lets the access at IPA {:#x} pass and the syndrome does not say what it was (ISV = 0): it \
                         leaves to user space undecoded. [Linux io_mem_abort; DDI 0487 LSInstructionSyndrome]",
                        ipa.0
                    ));
                    return Flow::End(Outcome::NoValidSyndrome { iss, ipa: ipa.0 });
                }
                Resolution::Fail { errno, log } => {
                    self.because.push(match log {
                        Some(log) => format!(
                            "KVM has no handler for this fault: KVM_RUN fails with errno {errno}, the kernel logs `{log}`. \
                             [Linux kvm_handle_guest_abort]"
                        ),
                        None => format!("KVM_RUN fails with errno {errno}."),
                    });
                    return Flow::End(Outcome::RunFailed {
                        errno,
                        esr: Some(abort.esr.0),
                        far: Some(abort.far),
                        ipa: abort.ipa().map(|ipa| ipa.0),
                        log: log.map(|l| l.to_string()),
                    });
                }
            }
        }
        Flow::End(Outcome::Other { what: format!("the same instruction aborted {MAX_ABORTS} times") })
    }

    fn execute(&mut self, pc: usize, insn: Insn) -> Result<Flow, Exception> {
        let va = self.reg(scratch::ADDRESS);
        match insn {
            Insn::Mov { rt, imm } => self.set(rt, imm),
            Insn::MovReg { rt, from } => self.set(rt, self.reg(from)),
            Insn::Barrier(_) | Insn::Clean => {}
            Insn::Hvc { .. } => return Ok(Flow::End(Outcome::Other { what: "HVC is not for this machine".into() })),
            Insn::B { to } => return Ok(Flow::To(to)),
            Insn::Cbz { rs, to } if self.reg(rs) & 0xffff_ffff == 0 => return Ok(Flow::To(to)),
            Insn::Cbz { .. } => {}
            Insn::DecBne { rt, to } => {
                self.set(rt, self.reg(rt).wrapping_sub(1));
                if self.reg(rt) != 0 {
                    return Ok(Flow::To(to));
                }
            }
            Insn::Br => return self.jump_away(pc, va),
            Insn::Ldr { size, rt } => {
                let value = self.load(pc, va, size.bytes(), single(size, rt))?;
                self.set(rt, value);
            }
            Insn::Str { size, rt } => {
                self.store(pc, va, size.bytes(), self.reg(rt), single(size, rt))?;
            }
            Insn::Ldp { rt, rt2 } => {
                let first = self.load(pc, va, 8, 0)?;
                let second = self.load(pc, va.wrapping_add(8), 8, 0)?;
                self.set(rt, first);
                self.set(rt2, second);
            }
            Insn::Stp { rt, rt2 } => {
                // Both halves are checked before either is stored; the architecture allows a half-done pair to abort.
                let halves = [(va, rt), (va.wrapping_add(8), rt2)];
                for (at, _) in halves {
                    self.translate_all(pc, at, 8, Kind::Store, 0)?;
                }
                for (at, r) in halves {
                    self.store(pc, at, 8, self.reg(r), 0)?;
                }
            }
            Insn::Zva => {
                // The block is what is zeroed; FAR is the address in the register (FAR_EL1, DC instructions).
                let request = Request { va, kind: Kind::Zva, aligned: false, syndrome: 0 };
                let found = self.translate(pc, request)?;
                let block = found.pa & !(ZVA_BYTES - 1);
                for i in 0..ZVA_BYTES / 8 {
                    self.memory.write(block + 8 * i, 8, 0);
                }
            }
            Insn::Ldadd { size, rs, rt } => {
                let found = match self.atomic(pc, va, size, Kind::Atomic)? {
                    Some(found) => found,
                    None => return Ok(Flow::Next),
                };
                let old = self.read(&found);
                let sum = old.wrapping_add(self.reg(rs)) & mask(size.bytes());
                self.write(&found, sum);
                self.set(rt, old);
            }
            Insn::Ldxr { size, rt } => {
                if let Some(found) = self.atomic(pc, va, size, Kind::LoadExclusive)? {
                    let value = self.read(&found);
                    self.set(rt, value);
                    self.monitor = Some(found[0].0);
                }
            }
            Insn::Stxr { size, rs, rt } => {
                if let Some(found) = self.atomic(pc, va, size, Kind::StoreExclusive)? {
                    let held = self.monitor.take() == Some(found[0].0) && !self.never_stores();
                    if held {
                        self.write(&found, self.reg(rt) & mask(size.bytes()));
                    }
                    self.set(rs, u64::from(!held));
                }
            }
        }
        Ok(Flow::Next)
    }

    fn never_stores(&self) -> bool {
        self.choices.iter().zip(&self.taken).any(|(c, (fell, _))| *c == Choice::Exclusive && *fell == 4)
    }

    /// A branch out of the program: the fetch at `va`, and what lies there.
    fn jump_away(&mut self, pc: usize, va: u64) -> Result<Flow, Exception> {
        if !va.is_multiple_of(4) && !self.departs.contains(&Finding::QemuPcAlignment) {
            self.because.push(format!("The branch target {va:#x} is not word-aligned. [DDI 0487 B2.8.1]"));
            return Err(Exception::El1 { esr: 0x22 << 26 | 1 << 25, far: va });
        }
        let found = self.translate(pc, Request { va, kind: Kind::Fetch, aligned: true, syndrome: 0 })?;
        // Guest RAM that was never written holds zero words: UDF #0.
        let word = self.memory.read(found.pa & !3, 4);
        self.because.push(format!("The word {word:#010x} fetched at {va:#x} is no instruction of the program's."));
        Err(Exception::El1 { esr: 1 << 25, far: 0 })
    }

    fn load(&mut self, pc: usize, va: u64, bytes: u64, syndrome: u64) -> Result<u64, Exception> {
        let parts = self.translate_all(pc, va, bytes, Kind::Load, syndrome)?;
        Ok(self.read(&parts))
    }

    fn store(&mut self, pc: usize, va: u64, bytes: u64, value: u64, syndrome: u64) -> Result<(), Exception> {
        let parts = self.translate_all(pc, va, bytes, Kind::Store, syndrome)?;
        self.write(&parts, value);
        Ok(())
    }

    fn read(&self, parts: &[(u64, u64)]) -> u64 {
        let mut value = 0;
        let mut done = 0;
        for (pa, bytes) in parts {
            value |= self.memory.read(*pa, *bytes) << (8 * done);
            done += bytes;
        }
        value
    }

    fn write(&mut self, parts: &[(u64, u64)], value: u64) {
        let mut done = 0;
        for (pa, bytes) in parts {
            self.memory.write(*pa, *bytes, value >> (8 * done));
            done += bytes;
        }
    }

    /// Translates every page an access of up to 8 bytes touches, the first first: a fault on the second page reports that
    /// page's first byte (the unaligned access is made of byte accesses, `Mem[]`). Gives (PA, bytes) of each part.
    fn translate_all(
        &mut self,
        pc: usize,
        va: u64,
        bytes: u64,
        kind: Kind,
        syndrome: u64,
    ) -> Result<Vec<(u64, u64)>, Exception> {
        let aligned = va.is_multiple_of(bytes);
        let first = bytes.min(4096 - va % 4096);
        let mut parts = Vec::with_capacity(2);
        for (at, len) in [(va, first), (va.wrapping_add(first), bytes - first)] {
            if len != 0 {
                parts.push((self.translate(pc, Request { va: at, kind, aligned, syndrome })?.pa, len));
            }
        }
        Ok(parts)
    }

    /// An exclusive or atomic: its own alignment rule, and whether it works here at all. `None`: no operation.
    fn atomic(&mut self, pc: usize, va: u64, size: Size, kind: Kind) -> Result<Option<Vec<(u64, u64)>>, Exception> {
        let bytes = size.bytes();
        let aligned = va.is_multiple_of(bytes);
        let parts = self.translate_all(pc, va, bytes, kind, 0)?;
        let found = self.translate(pc, Request { va, kind, aligned, syndrome: 0 })?;
        let combined = found.combined;
        let within_16 = va % 16 + bytes <= 16;
        let performed = aligned || within_16 && combined.atomics_guaranteed();
        if !performed && self.choose(Choice::UnalignedAtomic) == 1 {
            return Err(self.el1(va, kind, FaultKind::Alignment, 0));
        }
        if combined.atomics_guaranteed() {
            return Ok(Some(parts));
        }
        let choice = if kind == Kind::Atomic { Choice::Atomic } else { Choice::Exclusive };
        match self.choose(choice) {
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

    /// A fault of stage 1, taken to EL1.
    fn el1(&self, va: u64, kind: Kind, fault: FaultKind, level: u8) -> Exception {
        let fsc = u64::from(Fault { kind: fault, level }.fsc());
        let esr = if kind == Kind::Fetch {
            0x21 << 26 | 1 << 25 | fsc
        } else {
            let write = if fault == FaultKind::Permission { kind.access().writes() } else { kind.wnr() };
            0x25 << 26 | 1 << 25 | u64::from(write) << 6 | fsc
        };
        Exception::El1 { esr, far: va }
    }

    /// Both stages for one access inside a page, each check in the order of R_XCHFJ (D8.15.5).
    fn translate(&mut self, pc: usize, request: Request) -> Result<Found, Exception> {
        let Request { va, kind, aligned, .. } = request;
        // A DC ZVA faults on Device however aligned it is, a fetch never does.
        let misaligned = if kind == Kind::Zva {
            !self.departs.contains(&Finding::QemuDcZva)
        } else {
            !aligned && kind != Kind::Fetch && !kind.is_atomic()
        };

        let (ipa, s1, s1_step) = if self.scenario.mmu {
            let leaf = self.walk1(request).inspect_err(|e| {
                if let Exception::El1 { .. } = e {
                    self.because.push(format!(
                        "{} at VA {va:#x}: the guest's own tables have no translation for it. [DDI 0487 D8.2]",
                        self.insn(pc)
                    ));
                }
            })?;
            let attrs: S1Attrs = leaf.attrs;
            let byte = (self.guest.mair >> (8 * attrs.attr_index)) as u8;
            let s1 = S1Type::decode(byte, attrs.sh, FEATURES);
            let fault = |m: &Self, f: Fault| m.el1(va, kind, f.kind, f.level);
            leaf.check_accessed().map_err(|f| fault(self, f))?;
            if s1.is_device() && misaligned && self.stage1_alignment_faults(leaf.oa) {
                return Err(self.alignment(pc, request, s1, Some(leaf.step)));
            }
            leaf.permit(kind.access()).map_err(|f| {
                self.because.push(format!(
                    "{}: the guest's own table forbids it: descriptor {:#x} at level {}. [DDI 0487 D8.4]",
                    self.insn(pc),
                    leaf.step.descriptor,
                    leaf.step.level
                ));
                fault(self, f)
            })?;
            (leaf.oa, s1, Some(leaf.step))
        } else {
            if va >> 48 != 0 {
                return Err(self.el1(va, kind, FaultKind::AddressSize, 0));
            }
            let s1 = S1Type::MMU_OFF;
            let checked = !self.departs.contains(&Finding::QemuMmuOff);
            if misaligned && checked && self.stage1_alignment_faults(Oa(va)) {
                return Err(self.alignment(pc, request, s1, None));
            }
            (Oa(va), s1, None)
        };

        let ipa = Ia(ipa.0);
        let leaf = self.walk2(ipa).map_err(|f| self.el2(request, false, f, ipa))?;
        let attrs: S2Attrs = leaf.attrs;
        let s2 = S2Type::decode(self.vm.fwb(), attrs.memattr, attrs.sh, FEATURES);
        let combined = types::combine(&s1, &s2);
        leaf.check_accessed().map_err(|f| self.el2(request, false, f, ipa))?;
        // Where stage 1 lets the access pass, stage 2 has its say: its own type without FWB, the combined one with it, which
        // are Device or not Device together.
        let device = combined.ty.is_device() && (!s1.is_device() || s2_alone_is_device(&s2));
        if misaligned && device {
            let found = Found { pa: leaf.oa.0, combined, s1: s1_step, s2: leaf.step };
            self.explain(pc, request, &found, true);
            return Err(self.el2(request, false, Fault { kind: FaultKind::Alignment, level: 0 }, ipa));
        }
        leaf.permit(kind.access()).map_err(|f| self.el2(request, false, f, ipa))?;
        let found = Found { pa: leaf.oa.0, combined, s1: s1_step, s2: leaf.step };
        self.explain(pc, request, &found, false);
        Ok(found)
    }

    /// Whether a Device stage 1 makes an unaligned access fault: always, but that FWB may make the location Write-Back.
    fn stage1_alignment_faults(&mut self, ipa: Oa) -> bool {
        let policy = self.vm.policy();
        let forced = self.vm.fwb()
            && self
                .vm
                .slot_at(Ia(ipa.0))
                .is_some_and(|s| policy.decide(&s.vma, self.vm.cpu()).is_ok_and(|d| d.kind == hyp::S2Kind::Normal));
        !forced || self.choose(Choice::ForcedWriteBack) == 1
    }

    /// The stage-1 walk. Its reads are translated by stage 2; a fault there is taken to EL2 with S1PTW set.
    fn walk1(&self, request: Request) -> Result<Leaf<S1Attrs>, Exception> {
        struct GuestMemory<'a, 'b>(&'a Machine<'b>);
        impl Words for GuestMemory<'_, '_> {
            type Error = Fault;
            fn read(&self, at: Oa) -> Result<u64, Fault> {
                let leaf = self.0.walk2(Ia(at.0))?;
                leaf.permit(Access::Read)?;
                Ok(self.0.memory.read(leaf.oa.0, 8))
            }
        }
        match arm::walk::<Stage1, _>(Oa(self.guest.ttbr0), self.stage1, &GuestMemory(self), Ia(request.va)) {
            Ok(leaf) => Ok(leaf),
            Err(WalkError::Fault(f, _)) => Err(self.el1(request.va, request.kind, f.kind, f.level)),
            Err(WalkError::Memory { at, error, .. }) => Err(self.el2(request, true, error, Ia(at.0))),
        }
    }

    fn walk2(&self, ipa: Ia) -> Result<Leaf<S2Attrs>, Fault> {
        arm::walk::<Stage2, _>(self.vm.root(), self.vm.config(), self.vm.tables(), ipa).map_err(|e| match e {
            WalkError::Fault(f, _) => f,
            // The hypervisor's own tables are always readable; were they not, nothing would be mapped.
            WalkError::Memory { level, .. } => Fault { kind: FaultKind::Translation, level },
        })
    }

    /// A fault of stage 2, taken to EL2.
    fn el2(&self, request: Request, s1ptw: bool, fault: Fault, ipa: Ia) -> Exception {
        let syndrome = if s1ptw { 0 } else { request.syndrome };
        let esr = esr_el2(request.kind, s1ptw, fault.kind, fault.level, syndrome);
        // IPAValid: a Permission fault gives the IPA only on a stage-1 walk; KVM gets it from AT S1E1R otherwise.
        let valid = !matches!(fault.kind, FaultKind::Alignment | FaultKind::UnsupportedAtomic);
        Exception::El2(Abort { esr, far: request.va, ipa_page: valid.then_some(Ia(ipa.0 & !0xfff)) })
    }

    fn insn(&self, pc: usize) -> String {
        let op = self.lowered.op.get(pc).copied().unwrap_or(0);
        let program = &self.scenario.program;
        let line = program.ops.get(op).map_or(0, |(line, _)| *line);
        format!("Line {line}, `{}`", program.text.get(op).map_or("", |t| t.trim()))
    }

    fn alignment(&mut self, pc: usize, request: Request, s1: S1Type, step: Option<Step>) -> Exception {
        let from = match step {
            Some(step) => format!("stage-1 descriptor {:#x} at level {}", step.descriptor, step.level),
            None => Rule::MmuOff.to_string(),
        };
        self.because.push(format!("{} at VA {:#x}: stage 1 is {} ({from}).", self.insn(pc), request.va, s1.ty()));
        self.because.push(Rule::UnalignedStage1.to_string());
        self.because.push(Rule::UnalignedLocation.to_string());
        self.el1(request.va, request.kind, FaultKind::Alignment, 0)
    }

    /// Says once for each operation and type what was found; `fault`: it is the stage-2 alignment fault.
    fn explain(&mut self, pc: usize, request: Request, found: &Found, fault: bool) {
        if request.kind == Kind::Fetch {
            return;
        }
        let op = self.lowered.op.get(pc).copied().unwrap_or(0);
        let note = (op, found.combined.ty);
        if !fault && (self.notes.len() >= MAX_NOTES || self.notes.contains(&note)) {
            return;
        }
        self.notes.push(note);
        let s2 = found.combined.stage2();
        let from = match found.s1 {
            Some(step) => format!("descriptor {:#x}, level {}", step.descriptor, step.level),
            None => "MMU off".into(),
        };
        self.because.push(format!(
            "{} at VA {:#x}: stage 1 {} ({from}), stage 2 {} (descriptor {:#x}, level {}), together {}.",
            self.insn(pc),
            request.va,
            found.combined.stage1().ty(),
            s2.attr(),
            found.s2.descriptor,
            found.s2.level,
            found.combined.ty,
        ));
        if fault {
            self.because
                .extend(found.combined.because().take_while(|r| *r != Rule::DeviceRestrictions).map(|r| r.to_string()));
        }
    }
}

/// Whether stage 2 says Device of itself.
const fn s2_alone_is_device(s2: &S2Type) -> bool {
    match s2.attr() {
        types::MemAttr::Combine(ty) => ty.is_device(),
        types::MemAttr::FwbDevice(_) => true,
        _ => false,
    }
}

/// ISV, SAS, SRT and SF of a single general-purpose-register load or store without writeback: `ESR_EL2.ISS[24:14]`.
fn single(size: Size, rt: u8) -> u64 {
    1 << 24 | u64::from(size.log2()) << 22 | u64::from(rt) << 16 | u64::from(size == Size::B8) << 15
}

fn esr_el2(kind: Kind, s1ptw: bool, fault: FaultKind, level: u8, syndrome: u64) -> EsrEl2 {
    let fsc = u64::from(Fault { kind: fault, level }.fsc());
    let walk = u64::from(s1ptw) << 7;
    EsrEl2(if kind == Kind::Fetch {
        0x20 << 26 | 1 << 25 | walk | fsc
    } else {
        let write = if fault == FaultKind::Permission { kind.access().writes() } else { kind.wnr() } && !s1ptw;
        0x24 << 26 | 1 << 25 | syndrome | walk | u64::from(write) << 6 | fsc
    })
}

fn mask(bytes: u64) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1 << (8 * bytes)) - 1 }
}
