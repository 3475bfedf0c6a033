//! The x86 CPU: the same lowered program by the rules of x86, under KVM with EPT.
//!
//! The guest's maps are taken straight from the layout: no x86 page tables are built. An entry of them is what Linux on x86
//! would use for the word of the scenario ([`pat`]), is not executable, and writable as the scenario says; CR0.WP is set.
//!
//! | instruction | here |
//! |---|---|
//! | STR, LDR of any size | MOV |
//! | STP, LDP | two MOVs of 8 bytes: x86 has no pair of general registers |
//! | LDADD | LOCK XADD. It works on every type, split across lines too (SDM vol. 3A 8.1.2.2: the bus is locked) |
//! | LDXR, STXR | the halves of a LOCK CMPXCHG that succeeds: the load needs a writable page too |
//! | DC ZVA | eight MOVs, of 64 bytes |
//! | DC CIVAC | CLFLUSH |
//! | DMB, DSB of stores | SFENCE or MFENCE: the write-combining buffer is drained; of loads alone LFENCE, which drains nothing |
//! | ISB | a serialising instruction, which drains as well |
//! | DGH | nothing |
//! | BR | JMP |
//! | HVC | VMCALL |
//!
//! Alignment is never checked (EFLAGS.AC clear). The CPU has self-snoop, so that only a device's DMA gets past its caches. The
//! defects of Normal-NC are Arm SoCs': WC has none. x0 is RAX.

use hyp::Policy;
use memtype::{
    arm::{Cacheability, Features, Stage1, Type as ArmType},
    x86::{self, Pat},
};
use mmu::Ia;
use scenario::{
    Outcome,
    program::{Barrier, Insn, ZVA_BYTES, scratch},
};

use crate::{
    bus::{BAR_PA, Failed, How, Keeps, ones},
    machine::{Flow, Machine, Processor},
};

/// The PAT entry a guest's word for a type is on x86: Device is UC- (Linux `ioremap`), Normal-NC is WC, Write-Through and
/// Write-Back are themselves. Where inner and outer cacheability differ, or the byte is reserved, the nearest: what the weaker
/// of the two is.
pub(crate) fn pat(mair: u8) -> Pat {
    match Stage1::decode(mair, 0b11, Features::LATEST).ty() {
        ArmType::Device(_) => Pat::UcMinus,
        ArmType::Normal { inner, outer } => match inner.policy.weaker(outer.policy) {
            Cacheability::NonCacheable => Pat::Wc,
            Cacheability::WriteThrough => Pat::Wt,
            Cacheability::WriteBack => Pat::Wb,
        },
    }
}

/// What EPT, or on the bare machine the MTRR, says of an address.
fn below(m: &Machine<'_>, ipa: u64) -> (x86::Type, bool) {
    let Some((pa, vma)) = m.host.mapping(ipa) else { return (x86::Type::Uc, false) };
    if m.host.bare {
        return (if pa >= BAR_PA { x86::Type::Uc } else { x86::Type::Wb }, false);
    }
    let scenario = m.job.scenario;
    let noncoherent = scenario.devices.iter().any(|d| !scenario.snoops(d));
    let ept = Policy::ept(&vma, noncoherent);
    (ept.ty, ept.ipat)
}

/// The type in force for a guest's map. With paging off PAT counts as WB (SDM vol. 3C 29.3.7.2).
pub(crate) fn effective(m: &Machine<'_>, mair: u8, ipa: u64) -> x86::Type {
    let (ty, ipat) = below(m, ipa);
    let guest = if m.job.scenario.mmu { pat(mair) } else { Pat::Wb };
    x86::ept::combine(ty, ipat, guest)
}

/// An access inside a page.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// `None`: no slot lets it pass.
    pa: Option<u64>,
    ipa: u64,
    bytes: u64,
    how: How,
    /// The PAT entry asked for gathering.
    asks: bool,
}

/// The CPU.
pub(crate) struct Cpu<'a> {
    m: Machine<'a>,
    notes: Vec<(usize, x86::Type)>,
}

/// Most accesses that get an explanation.
const MAX_NOTES: usize = 24;

impl<'a> Cpu<'a> {
    pub(crate) fn new(m: Machine<'a>) -> Self {
        Self { m, notes: Vec::new() }
    }
}

impl<'a> Processor<'a> for Cpu<'a> {
    fn machine(&mut self) -> &mut Machine<'a> {
        &mut self.m
    }

    fn step(&mut self, pc: usize, insn: Insn) -> Flow {
        self.execute(pc, insn).unwrap_or_else(Flow::End)
    }
}

impl Cpu<'_> {
    fn execute(&mut self, pc: usize, insn: Insn) -> Result<Flow, Outcome> {
        if let Some(flow) = self.m.common(insn) {
            return Ok(flow);
        }
        let va = self.m.reg(scratch::ADDRESS);
        match insn {
            Insn::Barrier(Barrier::Dmb(crm) | Barrier::Dsb(crm)) if crm & 0b10 == 0 => {}
            Insn::Barrier(Barrier::Dgh) => {}
            Insn::Barrier(_) => self.m.bus.flush(&mut self.m.log),
            Insn::Br => return self.jump_away(va),
            Insn::Ldr { size, rt } => {
                let value = self.load(pc, va, size.bytes(), false)?;
                self.m.set(rt, value);
            }
            Insn::Ldxr { size, rt } => {
                let value = self.load(pc, va, size.bytes(), true)?;
                self.m.set(rt, value);
            }
            Insn::Str { size, rt } => self.store(pc, va, size.bytes(), self.m.reg(rt))?,
            Insn::Stxr { size, rs, rt } => {
                self.store(pc, va, size.bytes(), self.m.reg(rt) & ones(size.bytes()))?;
                self.m.bus.flush(&mut self.m.log);
                self.m.set(rs, 0);
            }
            Insn::Ldp { rt, rt2 } => {
                for (at, r) in [(va, rt), (va.wrapping_add(8), rt2)] {
                    let value = self.load(pc, at, 8, false)?;
                    self.m.set(r, value);
                }
            }
            Insn::Stp { rt, rt2 } => {
                for (at, r) in [(va, rt), (va.wrapping_add(8), rt2)] {
                    self.store(pc, at, 8, self.m.reg(r))?;
                }
            }
            Insn::Ldadd { size, rs, rt } => {
                let old = self.load(pc, va, size.bytes(), true)?;
                self.store(pc, va, size.bytes(), old.wrapping_add(self.m.reg(rs)))?;
                // A locked instruction drains the write-combining buffer.
                self.m.bus.flush(&mut self.m.log);
                self.m.set(rt, old);
            }
            Insn::Zva => {
                let block = va & !(ZVA_BYTES - 1);
                for i in 0..ZVA_BYTES / 8 {
                    self.store(pc, block + 8 * i, 8, 0)?;
                }
            }
            Insn::Clean => {
                let [part, _] = self.parts(pc, va, 1, false)?;
                self.m.bus.flush(&mut self.m.log);
                if let Some(pa) = part.and_then(|p| p.pa) {
                    self.m.bus.clean_range(pa & !63, 64);
                }
            }
            // What is left is common to every CPU.
            _ => {}
        }
        Ok(Flow::Next)
    }

    /// A jump out of the program.
    fn jump_away(&mut self, va: u64) -> Result<Flow, Outcome> {
        if self.m.job.scenario.mmu {
            self.m
                .log
                .say(format!("No map of the guest's is executable: the fetch at {va:#x} faults. [SDM vol. 3A 4.6]"));
            return Err(Outcome::PageFault { far: va, write: false });
        }
        if self.m.host.mapping(va).is_none() {
            self.m.log.say("KVM emulates what it cannot fetch, and fails. [Linux handle_emulation_failure]".into());
            return Err(Outcome::Other { what: format!("KVM_EXIT_INTERNAL_ERROR: no instruction at {va:#x}") });
        }
        let rax = self.m.reg(0);
        self.m.log.say(format!(
            "Memory that was never written holds zeros, and 00 00 is ADD [RAX], AL: what is fetched at {va:#x} runs, on the \
             byte at RAX ({rax:#x}). [SDM vol. 2A ADD]"
        ));
        if self.m.host.mapping(rax).is_none() {
            return Err(Outcome::Mmio { write: false, ipa: rax, len: 1, data: 0 });
        }
        Err(Outcome::Other { what: format!("the zeros at {va:#x} run as ADD [RAX], AL, without end") })
    }

    /// The guest's own map of an address, and the guest-physical address.
    fn stage1(&self, va: u64) -> Option<(u64, u8, bool)> {
        let job = self.m.job;
        if !job.scenario.mmu {
            return (va >> 52 == 0).then_some((va, 0, true));
        }
        let mut maps = job.scenario.maps.iter().zip(&job.layout.maps);
        maps.find(|(_, at)| at.va <= va && va - at.va < at.size)
            .map(|(m, at)| (at.ipa + (va - at.va), m.mair, m.writable))
    }

    /// Translates each page of an access of up to 8 bytes, all of them before anything is done.
    fn parts(&mut self, pc: usize, va: u64, bytes: u64, write: bool) -> Result<[Option<Part>; 2], Outcome> {
        let first = bytes.min(4096 - va % 4096);
        let low = self.part(pc, va, first, write)?;
        let high =
            if bytes > first { Some(self.part(pc, va.wrapping_add(first), bytes - first, write)?) } else { None };
        Ok([Some(low), high])
    }

    fn part(&mut self, pc: usize, va: u64, bytes: u64, write: bool) -> Result<Part, Outcome> {
        let found = self.stage1(va).filter(|(_, _, writable)| *writable || !write);
        let Some((ipa, mair, _)) = found else {
            let insn = self.m.insn(pc);
            self.m
                .log
                .say(format!("{insn}: the guest's own table has no such translation for {va:#x}. [SDM vol. 3A 4.7]"));
            return Err(Outcome::PageFault { far: va, write });
        };
        let slot = self.m.host.vm.slot_at(Ia(ipa));
        let passes = slot.is_some_and(|s| !(write && s.readonly));
        let pa = self.m.host.mapping(ipa).map(|(pa, _)| pa).filter(|_| passes);
        let ty = effective(&self.m, mair, ipa);
        let guest = if self.m.job.scenario.mmu { pat(mair) } else { Pat::Wb };
        if pa.is_some() {
            self.explain(pc, va, guest, below(&self.m, ipa), ty);
        }
        Ok(Part { pa, ipa, bytes, how: How::x86(ty), asks: guest == Pat::Wc })
    }

    /// Says once for each operation and type what was found.
    fn explain(&mut self, pc: usize, va: u64, guest: Pat, (ty, ipat): (x86::Type, bool), all: x86::Type) {
        let op = self.m.job.lowered.op.get(pc).copied().unwrap_or(0);
        if self.notes.len() >= MAX_NOTES || self.notes.contains(&(op, all)) {
            return;
        }
        self.notes.push((op, all));
        let (insn, ipat) = (self.m.insn(pc), u8::from(ipat));
        self.m.log.say(format!(
            "{insn} at VA {va:#x}: the guest's PAT says {}, EPT {} (IPAT {ipat}), together {}. [SDM vol. 3C 29.3.7.2; Linux \
             vmx_get_mt_mask]",
            guest.upper(),
            ty.upper(),
            all.upper()
        ));
    }

    /// An access no slot lets pass: KVM emulates the instruction.
    fn mmio(&mut self, part: &Part, write: bool, value: u64) -> Outcome {
        self.m.log.say(format!(
            "No slot lets the {} at IPA {:#x} pass: KVM emulates it, and it leaves to user space. [Linux \
             emulator_read_write_onepage]",
            if write { "write" } else { "read" },
            part.ipa
        ));
        let data = if write { value & ones(part.bytes) } else { 0 };
        Outcome::Mmio { write, ipa: part.ipa, len: part.bytes as u32, data }
    }

    /// Loads; `locked`: the first half of a read-modify-write, for which the page must be writable.
    fn load(&mut self, pc: usize, va: u64, bytes: u64, locked: bool) -> Result<u64, Outcome> {
        let parts = self.parts(pc, va, bytes, locked)?;
        let (mut value, mut done) = (0, 0);
        for part in parts.into_iter().flatten() {
            let read = match part.pa {
                None if self.m.host.bare => ones(part.bytes),
                None => return Err(self.mmio(&part, false, 0)),
                Some(pa) => {
                    self.m.read_ahead(part.ipa, pa);
                    if part.how.keeps == Keeps::Nothing && !part.how.normal {
                        // An access to UC memory drains the write-combining buffer (SDM vol. 3A 11.3.1).
                        self.m.bus.flush(&mut self.m.log);
                    }
                    let loaded = self.m.bus.load(pa, part.bytes, part.how, &mut self.m.log);
                    loaded.map_err(|failed| self.failed(failed, va))?
                }
            };
            value |= read << (8 * done);
            done += part.bytes;
        }
        Ok(value)
    }

    fn store(&mut self, pc: usize, va: u64, bytes: u64, value: u64) -> Result<(), Outcome> {
        let parts = self.parts(pc, va, bytes, true)?;
        let mut done = 0;
        for part in parts.into_iter().flatten() {
            let value = value >> (8 * done);
            match part.pa {
                None if self.m.host.bare => {}
                None => return Err(self.mmio(&part, true, value)),
                Some(pa) => {
                    self.m.read_ahead(part.ipa, pa);
                    self.m.stored(part.ipa, part.asks, part.how);
                    let stored = self.m.bus.store(pa, part.bytes, value, part.how, &mut self.m.log);
                    stored.map_err(|failed| self.failed(failed, va))?;
                }
            }
            done += part.bytes;
        }
        Ok(())
    }

    fn failed(&mut self, failed: Failed, va: u64) -> Outcome {
        self.m.failed(failed, Some(va))
    }
}
