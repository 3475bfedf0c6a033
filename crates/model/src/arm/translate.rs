//! Both stages for one access, in the architecture's order (D8.15.5), and what there is to say of it.

use hyp::Abort;
use memtype::arm::{self as types, Combined, Rule, Stage1 as S1Type, Stage2 as S2Type};
use mmu::{
    Ia, Oa, Words,
    arm::{self, Access, Fault, FaultKind, Leaf, S1Attrs, S2Attrs, Stage1, Step, WalkError},
};

use super::{Cpu, Exception, Kind, MAX_NOTES, Request, el1, esr_el2};
use crate::{
    Choice, Finding,
    machine::{FEATURES, Machine},
};

/// What a translation found: for the access, and to explain it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) pa: u64,
    pub(super) ipa: u64,
    pub(super) combined: Combined,
    s1: Option<Step>,
    s2: Step,
}

impl Cpu<'_> {
    /// Both stages for one access inside a page, each check in the order of R_XCHFJ (D8.15.5).
    pub(super) fn translate(&mut self, pc: usize, request: Request) -> Result<Found, Exception> {
        let Request { va, kind, aligned, .. } = request;
        // A DC ZVA faults on Device however aligned it is, a fetch and a DC CIVAC never do.
        let misaligned = match kind {
            Kind::Zva => !self.departs(Finding::QemuDcZva),
            Kind::Fetch | Kind::Clean => false,
            _ => !aligned && !kind.is_atomic(),
        };

        let late = self.departs(Finding::QemuTlbAlignment);
        let known = late && (!self.m.job.scenario.mmu || self.m.tlb.stage1(va).is_some());
        let (ipa, s1, s1_step) = if self.m.job.scenario.mmu {
            let leaf = self.walk1(request).inspect_err(|e| {
                if let Exception::El1 { .. } = e {
                    let insn = self.m.insn(pc);
                    self.m.log.say(format!(
                        "{insn} at VA {va:#x}: the guest's own tables have no translation for it. [DDI 0487 D8.2]"
                    ));
                }
            })?;
            let attrs: S1Attrs = leaf.attrs;
            let byte = (self.m.job.guest.mair >> (8 * attrs.attr_index)) as u8;
            let s1 = S1Type::decode(byte, attrs.sh, FEATURES);
            let fault = |f: Fault| el1(va, kind, f.kind, f.level);
            leaf.check_accessed().map_err(fault)?;
            if s1.is_device() && misaligned && self.stage1_alignment_faults(leaf.oa) {
                return Err(self.alignment(pc, request, s1, Some(leaf.step)));
            }
            if kind != Kind::Clean {
                leaf.permit(kind.access()).map_err(|f| {
                    let insn = self.m.insn(pc);
                    self.m.log.say(format!(
                        "{insn}: the guest's own table forbids it: descriptor {:#x} at level {}. [DDI 0487 D8.4]",
                        leaf.step.descriptor, leaf.step.level
                    ));
                    fault(f)
                })?;
            }
            (leaf.oa, s1, Some(leaf.step))
        } else {
            if va >> 48 != 0 {
                return Err(el1(va, kind, FaultKind::AddressSize, 0));
            }
            let s1 = S1Type::MMU_OFF;
            let checked = !self.departs(Finding::QemuMmuOff);
            if misaligned && checked && self.stage1_alignment_faults(Oa(va)) {
                return Err(self.alignment(pc, request, s1, None));
            }
            (Oa(va), s1, None)
        };

        let ipa = Ia(ipa.0);
        let known = known && self.m.tlb.stage2(ipa.0).is_some();
        let leaf = self.stage2(ipa).map_err(|f| el2(request, false, f, ipa))?;
        let attrs: S2Attrs = leaf.attrs;
        let s2 = S2Type::decode(self.m.host.vm.fwb(), attrs.memattr, attrs.sh, FEATURES);
        let combined = types::combine(&s1, &s2);
        leaf.check_accessed().map_err(|f| el2(request, false, f, ipa))?;
        let found = Found { pa: leaf.oa.0, ipa: ipa.0, combined, s1: s1_step, s2: leaf.step };
        // Where stage 1 lets the access pass, stage 2 has its say: its own type without FWB, the combined one with it, which
        // are Device or not Device together.
        let device = combined.ty.is_device() && (!s1.is_device() || s2_alone_is_device(&s2));
        if misaligned && device {
            self.explain(pc, request, &found, true);
            if known {
                return Err(el1(va, kind, FaultKind::Alignment, 0));
            }
            return Err(el2(request, false, Fault { kind: FaultKind::Alignment, level: 0 }, ipa));
        }
        if kind != Kind::Clean {
            leaf.permit(kind.access()).map_err(|f| el2(request, false, f, ipa))?;
        }
        self.explain(pc, request, &found, false);
        Ok(found)
    }

    /// Whether a Device stage 1 makes an unaligned access fault: always, but that FWB may make the location Write-Back.
    fn stage1_alignment_faults(&mut self, ipa: Oa) -> bool {
        let vm = &self.m.host.vm;
        let normal = |s: &hyp::Slot| vm.policy().decide(&s.vma, vm.cpu()).is_ok_and(|d| d.kind == hyp::S2Kind::Normal);
        let forced = vm.fwb() && vm.slot_at(Ia(ipa.0)).is_some_and(normal);
        !forced || self.m.log.choose(Choice::ForcedWriteBack) == 1
    }

    /// The stage-1 walk. Its reads are translated by stage 2; a fault there is taken to EL2 with S1PTW set.
    fn walk1(&mut self, request: Request) -> Result<Leaf<S1Attrs>, Exception> {
        struct GuestMemory<'a, 'b>(&'a Machine<'b>);
        impl Words for GuestMemory<'_, '_> {
            type Error = Fault;
            fn read(&self, at: Oa) -> Result<u64, Fault> {
                let leaf = match self.0.tlb.stage2(at.0) {
                    Some(leaf) => leaf,
                    None => self.0.walk2(Ia(at.0))?,
                };
                leaf.permit(Access::Read)?;
                Ok(self.0.bus.peek(leaf.oa.0, 8))
            }
        }
        if let Some(leaf) = self.m.tlb.stage1(request.va) {
            return Ok(leaf);
        }
        let root = Oa(self.m.job.guest.ttbr0);
        match arm::walk::<Stage1, _>(root, self.stage1, &GuestMemory(&self.m), Ia(request.va)) {
            Ok(leaf) => {
                self.m.tlb.keep1(request.va, leaf);
                Ok(leaf)
            }
            Err(WalkError::Fault(f, _)) => Err(el1(request.va, request.kind, f.kind, f.level)),
            Err(WalkError::Memory { at, error, .. }) => Err(el2(request, true, error, Ia(at.0))),
        }
    }

    fn stage2(&mut self, ipa: Ia) -> Result<Leaf<S2Attrs>, Fault> {
        if let Some(leaf) = self.m.tlb.stage2(ipa.0) {
            return Ok(leaf);
        }
        let leaf = self.m.walk2(ipa)?;
        self.m.tlb.keep2(ipa.0, leaf);
        Ok(leaf)
    }

    /// The stage-1 Alignment fault, explained.
    fn alignment(&mut self, pc: usize, request: Request, s1: S1Type, step: Option<Step>) -> Exception {
        let from = match step {
            Some(step) => format!("stage-1 descriptor {:#x} at level {}", step.descriptor, step.level),
            None => Rule::MmuOff.to_string(),
        };
        let insn = self.m.insn(pc);
        let because = &mut self.m.log.because;
        because.push(format!("{insn} at VA {:#x}: stage 1 is {} ({from}).", request.va, s1.ty()));
        because.push(Rule::UnalignedStage1.to_string());
        because.push(Rule::UnalignedLocation.to_string());
        el1(request.va, request.kind, FaultKind::Alignment, 0)
    }

    /// Says once for each operation and type what was found; `fault`: it is the stage-2 alignment fault.
    fn explain(&mut self, pc: usize, request: Request, found: &Found, fault: bool) {
        if request.kind == Kind::Fetch {
            return;
        }
        let op = self.m.job.lowered.op.get(pc).copied().unwrap_or(0);
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
        let insn = self.m.insn(pc);
        let because = &mut self.m.log.because;
        because.push(format!(
            "{insn} at VA {:#x}: stage 1 {} ({from}), stage 2 {} (descriptor {:#x}, level {}), together {}.",
            request.va,
            found.combined.stage1().ty(),
            s2.attr(),
            found.s2.descriptor,
            found.s2.level,
            found.combined.ty,
        ));
        if fault {
            because
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

/// A fault of stage 2, taken to EL2.
fn el2(request: Request, s1ptw: bool, fault: Fault, ipa: Ia) -> Exception {
    let syndrome = if s1ptw { 0 } else { request.syndrome };
    let esr = esr_el2(request.kind, s1ptw, fault.kind, fault.level, syndrome);
    // IPAValid: a Permission fault gives the IPA only on a stage-1 walk; KVM gets it from AT S1E1R otherwise.
    let valid = !matches!(fault.kind, FaultKind::Alignment | FaultKind::UnsupportedAtomic);
    Exception::El2(Abort { esr, far: request.va, ipa_page: valid.then_some(Ia(ipa.0 & !0xfff)) })
}
