//! What both CPUs share: registers, the host, the bus, the record; and what happens outside the guest.

use hyp::{Event, Pgprot};
use memtype::{
    Arch, Attribute,
    arm::{Features, Stage1, Stage2, combine},
    guarantee::{Question, Standing},
    iommu::{Ecap, Unit},
    smmu::{self, Stream},
};
use mmu::{
    Ia,
    arm::{self, Leaf, S2Attrs},
};
use platform::{NoSnoop, Platform};
use scenario::{
    Device, Guest, Iova, Layout, Observation, Outcome, Scenario,
    layout::Backing,
    program::{Insn, Lowered, Op, Place, Size, Value},
};

use crate::{
    Choice, MAX_STEPS, Run,
    bus::{Bus, Failed, How, RAM_PA, ones},
    choice::{Log, Topic},
    host::{self, Host},
    tlb::Tlb,
    x86,
};

pub(crate) const FEATURES: Features = Features::LATEST;
/// Most events of maintenance that a run records.
const MAX_EVENTS: usize = 4096;

/// How a step of the program ended.
#[derive(Debug)]
pub(crate) enum Flow {
    Next,
    To(usize),
    End(Outcome),
}

/// A scenario, ready to be run again and again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) layout: &'a Layout,
    pub(crate) lowered: &'a Lowered,
    pub(crate) guest: &'a Guest,
}

/// The state of a run.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) job: Job<'a>,
    pub(crate) arch: Arch,
    pub(crate) host: Host,
    pub(crate) bus: Bus,
    pub(crate) tlb: Tlb,
    pub(crate) log: Log,
    pub(crate) x: [u64; 31],
    pub(crate) events: Vec<Event>,
    pub(crate) gather: Gather,
}

/// Whether the guest asked for gathering on a BAR that it stores to, and got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Gather {
    /// A type of stage 1 that gathers and that no cache keeps.
    pub(crate) asked: bool,
    /// One such store was of a type that, after stage 2, neither gathers nor is kept by a cache.
    pub(crate) refused: bool,
}

/// A CPU that executes the lowered program.
pub(crate) trait Processor<'a> {
    fn machine(&mut self) -> &mut Machine<'a>;
    /// Does one instruction.
    fn step(&mut self, pc: usize, insn: Insn) -> Flow;

    /// Runs to the end.
    fn run(mut self) -> Run
    where
        Self: Sized,
    {
        let job = self.machine().job;
        let mut pc = 0;
        let mut outcome = Outcome::Endless;
        let mut steps = 0;
        for _ in 0..MAX_STEPS {
            let Some(insn) = job.lowered.insns.get(pc).copied() else {
                let touched = job.scenario.program.touches_memory();
                outcome = if touched { Outcome::Completed } else { Outcome::Untouched };
                break;
            };
            steps += 1;
            match self.step(pc, insn) {
                Flow::Next => pc += 1,
                Flow::To(to) => pc = to,
                Flow::End(end) => {
                    outcome = end;
                    break;
                }
            }
        }
        Run { steps, ..self.machine().end(outcome) }
    }
}

impl<'a> Machine<'a> {
    pub(crate) fn new(job: Job<'a>, arch: Arch, host: Host, platform: Platform, log: Log) -> Self {
        let windows = host::windows(job.scenario, job.layout);
        let mut bus = Bus::new(platform, windows, arch == Arch::X86);
        for piece in &job.guest.memory {
            bus.place(RAM_PA + piece.ipa, &piece.bytes);
        }
        Self {
            job,
            arch,
            host,
            bus,
            tlb: Tlb::default(),
            log,
            x: [0; 31],
            events: Vec::new(),
            gather: Gather::default(),
        }
    }

    fn end(&mut self, outcome: Outcome) -> Run {
        self.bus.flush(&mut self.log);
        if outcome == Outcome::Endless {
            self.log.say(format!("The program was still running after {MAX_STEPS} instructions."));
        }
        let destinations = self.job.scenario.program.destinations();
        let registers = destinations.into_iter().map(|r| (r, self.x[usize::from(r)])).collect();
        let log = std::mem::take(&mut self.log);
        Run {
            observation: Observation { outcome, registers },
            because: log.because,
            choices: log.choices,
            taken: log.taken,
            events: std::mem::take(&mut self.events),
            count: self.bus.count,
            gather: self.gather,
            steps: 0,
            bars: Vec::new(),
        }
    }

    pub(crate) fn reg(&self, r: u8) -> u64 {
        self.x[usize::from(r)]
    }

    pub(crate) fn set(&mut self, r: u8, value: u64) {
        self.x[usize::from(r)] = value;
    }

    /// The instructions that are the same on every CPU: constants, branches, the call to what is outside.
    pub(crate) fn common(&mut self, insn: Insn) -> Option<Flow> {
        match insn {
            Insn::Mov { rt, imm } => self.set(rt, imm),
            Insn::MovReg { rt, from } => self.set(rt, self.reg(from)),
            Insn::B { to } => return Some(Flow::To(to)),
            Insn::Cbz { rs, to } if self.reg(rs) & 0xffff_ffff == 0 => return Some(Flow::To(to)),
            Insn::Cbz { .. } => {}
            Insn::DecBne { rt, to } => {
                self.set(rt, self.reg(rt).wrapping_sub(1));
                if self.reg(rt) != 0 {
                    return Some(Flow::To(to));
                }
            }
            Insn::Hvc { op } => return Some(self.outside(op)),
            _ => return None,
        }
        Some(Flow::Next)
    }

    /// An instruction for those who read: its line and text.
    pub(crate) fn insn(&self, pc: usize) -> String {
        let op = self.job.lowered.op.get(pc).copied().unwrap_or(0);
        let program = &self.job.scenario.program;
        let line = program.ops.get(op).map_or(0, |(line, _)| *line);
        format!("Line {line}, `{}`", program.text.get(op).map_or("", |t| t.trim()))
    }

    /// Does the maintenance the hypervisor asks for.
    pub(crate) fn maintain(&mut self, events: Vec<Event>) {
        for event in events {
            self.tlb.event(event);
            if let Event::CleanDcache { pa, size } = event {
                self.bus.clean_range(pa.0, size);
            }
            if self.events.len() < MAX_EVENTS {
                self.events.push(event);
            }
        }
    }

    pub(crate) fn walk2(&self, ipa: Ia) -> Result<Leaf<S2Attrs>, arm::Fault> {
        let vm = &self.host.vm;
        arm::walk::<arm::Stage2, _>(vm.root(), vm.config(), vm.tables(), ipa).map_err(|e| match e {
            arm::WalkError::Fault(f, _) => f,
            // The hypervisor's own tables are always readable; were they not, nothing would be mapped.
            arm::WalkError::Memory { level, .. } => arm::Fault { kind: arm::FaultKind::Translation, level },
        })
    }

    /// What stands between an access and reads ahead: before a BAR whose reads have side effects is accessed, the CPU may have
    /// read its page through any live mapping of a type that allows that. The guest's: those stage 2 maps. User space's:
    /// KVM made it live when it looked the page up (`hva_to_pfn`, `fixup_user_fault`).
    pub(crate) fn read_ahead(&mut self, ipa: u64, pa: u64) {
        if !self.bus.is_clear(pa) {
            return;
        }
        let guest = self.guest_reads_ahead(ipa);
        let user = self.host.mapping(ipa).map(|(_, vma)| vma.pgprot).filter(|p| reads_ahead(*p, self.arch));
        if guest.is_none() && user.is_none() {
            return;
        }
        let page = ipa & !0xfff;
        self.log.once(Topic::Ahead, page, || match (&guest, user) {
            (Some(ty), _) => format!(
                "Reads of IPA {page:#x} have side effects, and the guest's mapping is {ty} after both stages: the CPU may read \
                 the page when no program does. [DDI 0487 B2.10.1; thread 000, Zyngier]"
            ),
            (None, user) => format!(
                "Reads of IPA {page:#x} have side effects. The guest maps the page as a type that is never read ahead, but user \
                 space's own mapping of it is {}: through that one the CPU may read the page when no program does. [DDI \
                 0487 B2.10.1; thread 000, Zyngier: speculation on arbitrary devices]",
                user.map_or("", Pgprot::name)
            ),
        });
        if self.log.choose(Choice::Speculate) == 1 {
            self.log.once(Topic::Stray, page, || {
                format!(
                    "A stray read of the page at IPA {page:#x} came just before the access, and cleared what was there."
                )
            });
            self.bus.stray_read(pa, &mut self.log);
        }
    }

    /// The type of a live mapping of the guest's that lets the CPU read the page ahead.
    fn guest_reads_ahead(&self, ipa: u64) -> Option<String> {
        let Job { scenario, layout, .. } = self.job;
        let maps = scenario.maps.iter().zip(&layout.maps);
        let there = maps.filter(|(_, at)| at.ipa <= ipa && ipa - at.ipa < at.size).map(|(m, _)| m.mair);
        if self.arch == Arch::X86 {
            return there
                .map(|mair| x86::effective(self, mair, ipa))
                .find(|ty| ty.guarantee(Question::SpeculativeRead).is_some_and(|g| g.standing != Standing::Forbidden))
                .map(|ty| ty.to_string());
        }
        let leaf = self.walk2(Ia(ipa)).ok()?;
        let s2 = Stage2::decode(self.host.vm.fwb(), leaf.attrs.memattr, leaf.attrs.sh, FEATURES);
        let s1 = |mair| if scenario.mmu { Stage1::decode(mair, 0b11, FEATURES) } else { Stage1::MMU_OFF };
        there.map(|mair| combine(&s1(mair), &s2).ty).find(|ty| ty.may_speculate()).map(|ty| ty.to_string())
    }

    /// What the guest asks for by HVC: something done by user space or a device. What the guest stored has left the CPU by
    /// then: an exit takes longer than any buffer holds a write (B2.10.1: finite time).
    fn outside(&mut self, op: u16) -> Flow {
        self.bus.flush(&mut self.log);
        let Some((_, op)) = self.job.scenario.program.ops.get(usize::from(op)) else { return Flow::Next };
        match *op {
            Op::UserStore { size, at, value } => self.user(at, size, Some(value), None),
            Op::UserLoad { size, at, to } => self.user(at, size, None, Some(to.number())),
            Op::DmaStore { device, size, at, via, value } => self.dma((device, at, via), size, Some(value), None),
            Op::DmaLoad { device, size, at, via, to } => self.dma((device, at, via), size, None, Some(to.number())),
            Op::SetAttribute { at, ask } => {
                self.attribute(at, ask);
                Flow::Next
            }
            _ => Flow::Next,
        }
    }

    fn value(&self, value: Value) -> u64 {
        match value {
            Value::Imm(imm) => imm,
            Value::Reg(r) => self.reg(r.number()),
        }
    }

    /// User space's access through its own mapping of the page.
    fn user(&mut self, at: Place, size: Size, value: Option<Value>, to: Option<u8>) -> Flow {
        let ipa = self.job.layout.ipa(at);
        let Some((pa, vma)) = self.host.mapping(ipa) else { return Flow::Next };
        let ty = vma.pgprot.memory_type(self.arch);
        let how = How::of(ty);
        self.read_ahead(ipa, pa);
        let done = match value {
            Some(value) => self.bus.store(pa, size.bytes(), self.value(value), how, &mut self.log),
            None => self.bus.load(pa, size.bytes(), how, &mut self.log).map(|v| {
                if let Some(r) = to {
                    self.x[usize::from(r)] = v;
                }
            }),
        };
        self.bus.flush(&mut self.log);
        match done {
            Ok(()) => Flow::Next,
            Err(failed) => Flow::End(self.failed(failed, None)),
        }
    }

    /// What becomes of an access that failed on the bus.
    pub(crate) fn failed(&mut self, failed: Failed, va: Option<u64>) -> Outcome {
        match failed {
            Failed::Contained => {
                if va.is_none() {
                    self.log.say("It was user space's access: its process gets SIGBUS. [Linux do_sea]".into());
                }
                Outcome::ContainedError { far: va }
            }
            Failed::Uncontained => Outcome::UncontainedError,
        }
    }

    /// A device reads or writes memory: which, where, and through which mapping of the IOMMU's.
    fn dma(
        &mut self,
        (by, at, via): (usize, Place, Option<usize>),
        size: Size,
        value: Option<Value>,
        to: Option<u8>,
    ) -> Flow {
        let job = self.job;
        let Some(device) = job.scenario.devices.get(by) else { return Flow::Next };
        let via = via.and_then(|i| Some((i, job.scenario.iovas.get(i)?)));
        let ipa = match via {
            Some(via) => self.translate_for_device(via, at),
            None => Some(job.layout.ipa(at)),
        };
        let Some((pa, _)) = ipa.and_then(|ipa| self.host.mapping(ipa)) else {
            self.log.once(Topic::Untranslated, 0, || {
                "There is no translation for the device's access: a read gives ones, a write is dropped. [declared]"
                    .into()
            });
            if let Some(r) = to {
                self.set(r, ones(size.bytes()));
            }
            return Flow::Next;
        };
        let snoops = self.device_snoops((by, device), via.map(|(_, iova)| iova));
        match value {
            Some(value) => {
                let value = self.value(value);
                self.bus.dma_store(pa, size.bytes(), value, snoops, &mut self.log);
            }
            None => {
                let value = self.bus.dma_load(pa, size.bytes(), snoops, &mut self.log);
                if let Some(r) = to {
                    self.set(r, value & ones(size.bytes()));
                }
            }
        }
        Flow::Next
    }

    /// The guest-physical address that a mapping of the IOMMU's translates to now. No translation is kept from one access to
    /// the next: the guest is taken to invalidate what the IOMMU keeps after each change.
    fn translate_for_device(&mut self, (number, iova): (usize, &Iova), at: Place) -> Option<u64> {
        let job = self.job;
        if iova.non_cacheable && self.arch == Arch::X86 && !self.host.bare {
            self.log.once(Topic::Untranslated, 1, || {
                format!(
                    "`{}` is non-cacheable, and no IOMMU of x86 can have that: a leaf of its second stage forces snooping, or \
                     leaves it to the device. The mapping is refused. [VT-d SNP, AMD-Vi FC; docs/virtio-iommu-coherency.md]",
                    iova.name
                )
            });
            return None;
        }
        let Some(entry) = iova.entry else { return Some(job.layout.ipa(at)) };
        let (pa, _) = self.host.mapping(job.layout.ipa(entry))?;
        let snoops = self.host.bare || job.scenario.iommu.coherent_walks;
        if !snoops {
            self.log.once(Topic::Walk, number as u64, || {
                format!(
                    "The IOMMU's walk for `{}` does not see the CPU's caches: it reads the entry that memory holds. [declared; \
                     thread 004, Brucker; VT-d ECAP_REG.C, IHI 0070 SMMU_IDR0.COHACC]",
                    iova.name
                )
            });
        }
        let page = Iova::page(self.bus.dma_load(pa, 8, snoops, &mut self.log))?;
        Some(page + at.offset % Iova::PAGE)
    }

    /// Whether a device's access sees the caches: what the IOMMU makes of it, where the device is coherent at all.
    fn device_snoops(&mut self, (by, device): (usize, &Device), via: Option<&Iova>) -> bool {
        if self.host.bare {
            return true;
        }
        let scenario = self.job.scenario;
        let no_snoop = scenario.platform.no_snoop == NoSnoop::Possible;
        let non_cacheable = via.is_some_and(|iova| iova.non_cacheable);
        let snoops = if self.arch == Arch::X86 {
            Unit::VtD(if no_snoop { Ecap(0) } else { Ecap(1 << 7) }).snoops(device.no_snoop)
        } else {
            // As Linux maps without IOMMU_CACHE, and with it (7.2 io-pgtable-arm.c arm_lpae_prot_to_pte).
            let stage1 = via.map(|_| if non_cacheable { smmu::stage1(0x44, 0b10) } else { smmu::stage1(0xff, 0b11) });
            let stream = Stream { stage1, no_snoop: device.no_snoop, ..Stream::PCIE };
            smmu::transform(&stream, smmu::Platform { no_snoop, ..smmu::Platform::SBSA }).is_coherent()
        };
        let coherent = device.coherent.unwrap_or(scenario.platform.coherent);
        if !(coherent && snoops) {
            self.log.once(Topic::Snoop, (by as u64) << 1 | u64::from(non_cacheable), || {
                let why = match via {
                    _ if !coherent => "is not coherent here".to_owned(),
                    Some(iova) if non_cacheable => format!("goes through `{}`, which is non-cacheable", iova.name),
                    _ => "sets No Snoop, and here that counts".to_owned(),
                };
                format!("The DMA of `{}` {why}: it does not see the CPU's caches. [declared]", device.name)
            });
        }
        coherent && snoops
    }

    /// User space changes what it asked for.
    fn attribute(&mut self, at: Place, ask: Attribute) {
        let Some(asked) = self.job.scenario.asked_at(at) else { return };
        let number = self.job.scenario.devices[asked.device].bars[asked.bar].index;
        let offset = self.job.scenario.maps[at.map].offset + at.offset;
        let mut events = Vec::new();
        let set = self.host.set((asked.device, number, offset), ask, &mut |e| events.push(e));
        self.log.once(Topic::Asked, self.job.layout.ipa(at) << 2 | ask as u64, || match &set {
            Ok(()) => format!(
                "User space asks for `{ask}`: its mapping is zapped, stage 2 loses the pages, and the next access maps them \
                 anew. [thread 001, Herrenschmidt; Linux kvm_unmap_gfn_range]"
            ),
            Err(why) => format!("User space's wish `{ask}` changes nothing: {why}."),
        });
        self.maintain(events);
    }

    /// Notes a store to a BAR: what stage 1 asked for, and what the type came to.
    pub(crate) fn stored(&mut self, ipa: u64, asks: bool, how: How) {
        let bar = |m: &Self| {
            m.job.layout.slots.iter().any(|s| s.backing != Backing::Ram && s.ipa <= ipa && ipa - s.ipa < s.size)
        };
        if asks && (!self.gather.asked || !self.gather.refused) && bar(self) {
            self.gather.asked = true;
            self.gather.refused |= !how.gathers && how.keeps == crate::bus::Keeps::Nothing;
        }
    }
}

/// Whether a mapping of user space's lets the CPU read ahead.
pub(crate) fn reads_ahead(pgprot: Pgprot, arch: Arch) -> bool {
    let guarantee = pgprot.memory_type(arch).and_then(|ty| ty.guarantee(Question::SpeculativeRead));
    guarantee.is_some_and(|g| g.standing != Standing::Forbidden)
}
