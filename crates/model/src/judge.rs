//! Whether a policy is any good for a scenario: does it work, is it fast, is it safe.

use hyp::{Cpu, Policy, Slot, Vma};
use memtype::{
    Arch,
    arm::{Stage1, Stage2, combine},
    x86,
};
use platform::{Errors, NcDefect, Platform};
use scenario::{Observation, Outcome, layout::Backing};

use crate::{
    Run,
    machine::{FEATURES, Job, reads_ahead},
};

/// A verdict in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Is {
    /// Always.
    Yes,
    /// It depends: on what the architecture leaves open, or on the guest's own choice.
    Maybe,
    /// Never, or not for any guest.
    No,
    /// The scenario does not ask.
    NotAsked,
}

impl Is {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Maybe => "maybe",
            Self::No => "no",
            Self::NotAsked => "not asked",
        }
    }
}

/// A verdict, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The verdict.
    pub is: Is,
    /// Sentences, each with its source.
    pub because: Vec<String>,
}

/// The verdict of a run, in three parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Whether every outcome allowed is that of the same program on a flawless bare machine.
    pub works: Answer,
    /// Whether a guest that asks for gathering needs no more write transactions than there.
    pub fast: Answer,
    /// Whether no guest, whatever it does with these BARs under this policy, does harm.
    pub safe: Answer,
}

impl Answer {
    const fn new(is: Is) -> Self {
        Self { is, because: Vec::new() }
    }
    /// The worse of what it was and `is`, and why.
    fn worse(&mut self, is: Is, why: String) {
        if self.is != Is::No && is != Is::Yes {
            self.is = is;
        }
        if !self.because.contains(&why) {
            self.because.push(why);
        }
    }
}

pub(crate) fn judge(
    job: Job<'_>,
    policy: Policy,
    cpu: Cpu,
    plain: &Run,
    allowed: &[Observation],
    bare: &Run,
) -> Judged {
    Judged { works: works(allowed, bare), fast: fast(plain, bare), safe: safe(job, policy, cpu, plain) }
}

fn works(allowed: &[Observation], bare: &Run) -> Answer {
    let same = allowed.iter().filter(|o| **o == bare.observation).count();
    let is = match same {
        0 => Is::No,
        n if n == allowed.len() => Is::Yes,
        _ => Is::Maybe,
    };
    let mut answer = Answer::new(is);
    if let Some(other) = allowed.iter().find(|o| **o != bare.observation) {
        answer.because.push(format!("Bare metal gives `{}`; here `{other}` can come out.", bare.observation));
    } else {
        answer.because.push(format!("What comes out is what bare metal gives: `{}`.", bare.observation));
    }
    answer
}

fn fast(plain: &Run, bare: &Run) -> Answer {
    if !plain.gather.asked && !bare.gather.asked {
        return Answer::new(Is::NotAsked);
    }
    let (writes, least) = (plain.count.writes, bare.count.writes);
    let counted = format!("Write transactions on the bus: {writes}; on bare metal: {least}.");
    let (is, why) = if plain.gather.refused {
        (
            Is::No,
            "Stage 1 asks for a type that gathers, and stage 2 makes it one that does not. [DDI 0487 D8.6.5, B2.10]",
        )
    } else if !plain.gather.asked {
        (Is::No, "The run ends before the first store by a type that gathers.")
    } else if plain.observation.outcome != bare.observation.outcome {
        (Is::Maybe, "The run ends otherwise than on bare metal.")
    } else if writes > least {
        (Is::No, "Fewer writes are gathered than on bare metal.")
    } else {
        (Is::Yes, "Writes are gathered as on bare metal. [DDI 0487 B2.10.1: permitted, never promised]")
    };
    Answer { is, because: vec![counted, why.to_owned()] }
}

/// What guests can have of a BAR.
#[derive(Debug, Default)]
struct Reach {
    /// Each by its name, and as people write it.
    types: Vec<(&'static str, String)>,
    device: bool,
    normal: bool,
    nc: bool,
    cacheable: bool,
    /// Normal where the guest said Device.
    forced: bool,
    /// Read ahead by a mapping the guest chose so.
    ahead: bool,
}

impl Reach {
    fn name(&mut self, name: &'static str, ty: impl ToString) {
        if self.types.iter().all(|(there, _)| *there != name) {
            self.types.push((name, ty.to_string()));
        }
    }

    /// By every MAIR byte (MMU off is byte 0), under stage 2 as the policy decides for this mapping.
    fn arm(vma: &Vma, policy: Policy, cpu: Cpu) -> Self {
        let mut reach = Self::default();
        let Ok(decision) = policy.decide(vma, cpu) else { return reach };
        let s2 = Stage2::decode(cpu.fwb, decision.kind.memattr(cpu.fwb), 0b11, FEATURES);
        for mair in 0..=255 {
            let s1 = Stage1::decode(mair, 0b11, FEATURES);
            if s1.reserved_mair.is_some() {
                continue;
            }
            let ty = combine(&s1, &s2).ty;
            reach.device |= ty.is_device();
            reach.normal |= !ty.is_device();
            reach.nc |= ty.is_normal_nc();
            reach.cacheable |= ty.is_cacheable();
            reach.forced |= s1.is_device() && !ty.is_device();
            reach.ahead |= !s1.is_device() && ty.may_speculate();
            reach.name(ty.name(), ty);
        }
        reach
    }

    /// By every PAT entry.
    fn x86(vma: &Vma, noncoherent: bool) -> Self {
        let mut reach = Self::default();
        let ept = Policy::ept(vma, noncoherent);
        for pat in x86::Pat::ALL {
            let ty = x86::ept::combine(ept.ty, ept.ipat, pat);
            reach.device |= ty == x86::Type::Uc;
            reach.normal |= ty != x86::Type::Uc;
            reach.cacheable |= ty.is_cacheable();
            reach.ahead |= ty != x86::Type::Uc;
            reach.name(ty.name(), ty);
        }
        reach
    }
}

fn safe(job: Job<'_>, policy: Policy, cpu: Cpu, plain: &Run) -> Answer {
    let mut answer = Answer::new(Is::Yes);
    if matches!(plain.observation.outcome, Outcome::SlotRefused { .. }) {
        answer.because.push("No guest runs.".into());
        return answer;
    }
    let arch = if policy.is_arm() { Arch::Arm64 } else { Arch::X86 };
    let platform = job.scenario.platform;
    let noncoherent = job.scenario.devices.iter().any(|d| !platform.snoops(d.no_snoop));
    for slot in &plain.bars {
        let reach = match arch {
            Arch::X86 => Reach::x86(&slot.vma, noncoherent),
            _ => Reach::arm(&slot.vma, policy, cpu),
        };
        let at = slot.ipa.0;
        let whole = job.layout.slots.iter().find(|s| s.ipa <= at && at - s.ipa < s.size);
        let Some((Backing::Bar { device, bar }, offset)) = whole.map(|s| (s.backing, at - s.ipa)) else { continue };
        let device = &job.scenario.devices[device];
        let bar = &device.bars[bar];
        let mut name = format!("{}.{}", device.name, bar.index);
        if slot.size < bar.size {
            name.push_str(&format!("+{offset:#x}"));
        }
        let clear = offset < bar.clear;
        one(&mut answer, &reach, slot, (&name, clear, job.scenario.snoops(device)), platform, cpu, arch);
    }
    answer
}

/// What is to be said of one mapping of a BAR.
fn one(
    answer: &mut Answer,
    reach: &Reach,
    slot: &Slot,
    (name, clear, snooped): (&str, bool, bool),
    platform: Platform,
    cpu: Cpu,
    arch: Arch,
) {
    let all: Vec<&str> = reach.types.iter().map(|(_, ty)| ty.as_str()).collect();
    let all = all.join(", ");
    answer.worse(Is::Yes, format!("A guest can have of {name}: {all}."));
    let classes =
        [("Device", reach.device, platform.containment.device), ("Normal", reach.normal, platform.containment.normal)];
    for (class, _, _) in classes.iter().filter(|(_, can, errors)| *can && *errors == Errors::Uncontained) {
        answer.worse(
            Is::No,
            format!(
                "A failing access of a {class} type is not contained on this platform, and a guest can have one: a device that is gone takes the host with it. [declared; threads 002, Zyngier, and 003, Gunthorpe]"
            ),
        );
    }
    if arch == Arch::Arm64 && slot.vma.pfnmap && !slot.vma.kernel_memory && reach.cacheable && !(cpu.fwb && cpu.dic) {
        answer.worse(
            Is::No,
            format!(
                "{name} becomes cacheable and the CPU lacks FWB or DIC: KVM maintains the caches by an address that it has not, and the host is lost. [Linux kvm_supports_cacheable_pfnmap, 6.17]"
            ),
        );
    }
    if reach.nc {
        let says = platform.normal_nc.says();
        match platform.normal_nc {
            NcDefect::None => {}
            NcDefect::Fails => answer.worse(
                Is::Maybe,
                format!("{says} A guest that maps Normal-NC loses its own accesses. [declared; thread 002, Gunthorpe]"),
            ),
            _ => answer.worse(Is::No, format!("{says} A guest can have Normal-NC. [declared; thread 002, Gunthorpe]")),
        }
    }
    if reach.cacheable && !snooped {
        answer.worse(
            Is::No,
            format!("A guest can have {name} in the CPU's caches, and the device's DMA does not snoop them. [DDI 0487 B2.11]"),
        );
    }
    if clear {
        if reads_ahead(slot.vma.pgprot, arch) {
            answer.worse(
                Is::No,
                format!(
                    "Reads of {name} have side effects, and user space's own mapping ({}) lets the CPU read it ahead, whatever the guest does. [DDI 0487 B2.10.1; thread 000, Zyngier]",
                    slot.vma.pgprot.name()
                ),
            );
        }
        if reach.forced {
            answer.worse(
                Is::No,
                format!(
                    "Reads of {name} have side effects, and FWB makes Normal memory of a guest's Device mapping: the CPU may read it ahead though the guest forbade it. [DDI 0487 D8.6.6, R_RMTWN]"
                ),
            );
        }
        if reach.ahead {
            answer.worse(
                Is::Maybe,
                format!(
                    "Reads of {name} have side effects: a guest that chooses a type that is read ahead loses its own device's data, as on bare metal. [DDI 0487 B2.10.1]"
                ),
            );
        }
    }
}
