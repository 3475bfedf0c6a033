//! The mapping put into a memory slot: stage 2, EPT, NPT or the G-stage, and what a guest gets through it.

use host::{Fact, Hole, Why};
use hyp::{Decision, Policy, Vma};
use memtype::arm::{self, Alignment, Features, Stage1, Stage2};
use memtype::riscv::{self, Pbmt, Pma};
use memtype::x86::{self, Pat};
use memtype::{Arch, MemoryType, loongarch};

use crate::{Gets, Layer, Sure, Way, kernel, process, seat::Seat};

/// What a memory slot of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) layer: Option<Layer>,
    pub(crate) guest: Vec<Gets>,
    /// KVM will not have it; why.
    pub(crate) refused: Option<String>,
}

impl Slot {
    const fn none() -> Self {
        Self { layer: None, guest: Vec::new(), refused: None }
    }
    fn of(layer: Layer, guest: Vec<Gets>) -> Self {
        Self { layer: Some(layer), guest, refused: None }
    }
}

/// Of the BAR mapped in this way.
pub(crate) fn slot(seat: &Seat<'_>, way: Way) -> Slot {
    if seat.bar.io {
        return Slot::none();
    }
    let Some(arch) = seat.arch() else { return Slot::none() };
    match (arch, way) {
        (_, Way::Trap) => Slot { guest: trapped(arch), ..Slot::none() },
        (Arch::Arm64, _) => arm64(seat, way),
        (Arch::X86, _) => x86(seat),
        (Arch::Riscv, _) => riscv(seat, way),
        (Arch::LoongArch, _) => loongarch(seat),
        (Arch::Power | Arch::S390, _) => Slot::of(
            Layer {
                what: "not known".into(),
                ty: None,
                why: format!("what KVM does on {arch} is not in the rules here"),
                sure: Sure::Rests(vec![Hole { at: format!("KVM on {arch}"), why: Why::Failed("not read".into()) }]),
            },
            Vec::new(),
        ),
    }
}

/// What a guest on Arm asks, by its MAIR byte.
const ARM: [u8; 5] = [0x00, 0x04, 0x0c, 0x44, 0xff];

fn arm64(seat: &Seat<'_>, way: Way) -> Slot {
    let known = kernel::arm(seat);
    let marks = if matches!(way, Way::Vfio | Way::VfioWriteCombine) { known.marks } else { None };
    let mut all: Vec<(Result<Decision, String>, bool, Vec<Gets>)> = Vec::new();
    for &policy in &known.policies {
        let Some(vma) = process::as_kvm_sees(seat, way, policy, marks) else { return Slot::none() };
        for &cpu in &known.cpus {
            let one = match policy.decide(&vma, cpu) {
                Ok(decision) => {
                    let guest = arm_guest(cpu.fwb, decision.kind.memattr(cpu.fwb));
                    (Ok(decision), cpu.fwb, guest)
                }
                Err(refused) => (Err(refused.to_string()), cpu.fwb, Vec::new()),
            };
            // What decided may be told otherwise by version; what comes out is what counts.
            let same = |(it, _, guest): &(Result<Decision, String>, bool, Vec<Gets>)| {
                it.as_ref().map(|d| d.kind).ok() == one.0.as_ref().map(|d| d.kind).ok() && *guest == one.2
            };
            if !all.iter().any(same) {
                all.push(one);
            }
        }
    }
    match all.as_slice() {
        [(Ok(decision), fwb, guest)] => {
            let attr = decision.kind.memattr(*fwb);
            let s2 = Stage2::decode(*fwb, attr, 0b11, Features::LATEST);
            let ty = match s2.attr() {
                arm::MemAttr::Combine(ty) => ty,
                arm::MemAttr::FwbDevice(device) => arm::Type::Device(device),
                arm::MemAttr::FwbNcUnlessDevice => arm::Type::NORMAL_NC,
                arm::MemAttr::FwbForceWb | arm::MemAttr::FwbAsStage1 => arm::Type::NORMAL_WB,
            };
            let why = format!("{} [{}]", decision.why.says(), decision.why.source());
            let sure = sure_of_slot(seat, way, &known);
            let what = format!("{} (MemAttr {attr:#06b})", decision.kind.name());
            Slot::of(Layer { what, ty: Some(MemoryType::Arm64(ty)), why, sure }, guest.clone())
        }
        [(Err(refused), ..)] => Slot {
            layer: Some(Layer {
                what: "refused".into(),
                ty: None,
                why: format!("{refused} [Linux 6.17, kvm_arch_prepare_memory_region]"),
                sure: sure_of_slot(seat, way, &known),
            }),
            guest: Vec::new(),
            refused: Some(refused.clone()),
        },
        many => {
            let mut holes = match &known.sure {
                Sure::Rests(holes) => holes.clone(),
                Sure::Seen(_) | Sure::Rule(_) => Vec::new(),
            };
            holes.extend(kernel::cpu_holes(seat.host));
            if holes.is_empty() {
                let why = Why::Failed("whether this kernel has the code of 6.17 is not known".into());
                holes.push(Hole { at: "KVM_CHECK_EXTENSION(243)".into(), why });
            }
            let words: Vec<_> = many.iter().map(|(it, ..)| it.as_ref().map_or("refused", |d| d.kind.name())).collect();
            let layer = Layer {
                what: words.join(" or "),
                ty: None,
                why: "it depends on what is not known: the kernel, or FWB and DIC of the CPU".into(),
                sure: Sure::Rests(holes),
            };
            Slot::of(layer, open(&ARM.map(|mair| MemoryType::Arm64(stage1(mair).ty()))))
        }
    }
}

fn sure_of_slot(seat: &Seat<'_>, way: Way, known: &kernel::Arm) -> Sure {
    match way {
        Way::VfioWriteCombine => Sure::Rests(vec![Hole {
            at: "VmFlags of such a mapping".into(),
            why: Why::NotAsked("whether it carries VM_ALLOW_ANY_UNCACHED is for the call's authors to decide".into()),
        }]),
        // Whatever the version: the flag is vfio-pci's, and without it device memory is Device.
        Way::Sysfs | Way::SysfsWriteCombine if !seat.in_ram() => Sure::Rule(
            "sysfs never sets VM_ALLOW_ANY_UNCACHED, and without it every Linux makes device memory Device".into(),
        ),
        // What was seen of a mapping says nothing of cacheable ones.
        _ => match (&known.sure, seat.host.kernel.version) {
            (Sure::Seen(_), Some(version)) if process::is_cached(seat, way) && !known.asked_kvm => {
                Sure::Rule(kernel::by(version))
            }
            (Sure::Rests(_), _) => Sure::Rule("every version of Linux there is comes to the same".into()),
            (sure, _) => sure.clone(),
        },
    }
}

fn stage1(mair: u8) -> Stage1 {
    Stage1::decode(mair, 0b11, Features::LATEST)
}

fn arm_guest(fwb: bool, memattr: u8) -> Vec<Gets> {
    let s2 = Stage2::decode(fwb, memattr, 0b11, Features::LATEST);
    ARM.into_iter()
        .map(|mair| {
            let s1 = stage1(mair);
            let both = arm::combine(&s1, &s2);
            let unaligned = match both.unaligned() {
                Alignment::Ok => Ok(()),
                Alignment::Fault { stage: 1 } => Err("an Alignment fault at stage 1: the guest's own".to_owned()),
                Alignment::Fault { .. } => {
                    Err("an Alignment fault at stage 2: KVM does not handle it, and KVM_RUN fails with EFAULT"
                        .to_owned())
                }
                Alignment::MayFault => Err("it may fault at stage 1, or be performed".to_owned()),
            };
            Gets { asks: Some(MemoryType::Arm64(s1.ty())), gets: Some(MemoryType::Arm64(both.ty)), unaligned }
        })
        .collect()
}

/// What a guest asks, where nobody knows what it gets.
fn open(asks: &[MemoryType]) -> Vec<Gets> {
    let unaligned = Err("not known".to_owned());
    asks.iter().map(|ty| Gets { asks: Some(*ty), gets: None, unaligned: unaligned.clone() }).collect()
}

/// What a guest on x86 asks by its PAT.
const X86: [Pat; 3] = [Pat::Uc, Pat::Wc, Pat::Wb];

/// Whose nested tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    Intel,
    Amd,
}

/// By which extension KVM runs guests here: the CPU has one of the two, whoever made its IOMMU.
pub(crate) fn maker(host: &host::Host) -> Option<Maker> {
    match (host.cpu.vmx.known(), host.cpu.svm.known()) {
        (Some(true), _) => Some(Maker::Intel),
        (_, Some(true)) => Some(Maker::Amd),
        _ => None,
    }
}

fn x86(seat: &Seat<'_>) -> Slot {
    let vma = Vma { kernel_memory: seat.in_ram(), ..Vma::VFIO_PCI_BAR };
    let asks = |pat: Pat| if pat == Pat::UcMinus { x86::Type::Uc } else { pat.ty() };
    let gets = |one: &dyn Fn(Pat) -> x86::Type| -> Vec<Gets> {
        let of = |pat| Gets {
            asks: Some(MemoryType::X86(asks(pat))),
            gets: Some(MemoryType::X86(one(pat))),
            unaligned: Ok(()),
        };
        X86.into_iter().map(of).collect()
    };
    if seat.host.kvm.known().and_then(|k| k.nested_paging) == Some(false) {
        // Shadow entries have no PAT bits, so that they select entry 0, WB, which the MTRR makes UC.
        let ty = x86::effective(process::mtrr(seat), Pat::Wb);
        let layer = Layer {
            what: format!("{ty} (shadow paging)"),
            ty: Some(MemoryType::X86(ty)),
            why: "a shadow entry has no PAT bits of the guest's; unverified [Linux make_spte, shadow_memtype_mask]"
                .into(),
            sure: Sure::Rule("ept or npt of the KVM module is off".into()),
        };
        return Slot::of(layer, gets(&|_| ty));
    }
    let ept = Policy::ept(&vma, false);
    let with_ept = gets(&|pat| x86::ept::combine(ept.ty, ept.ipat, pat));
    let mtrr = if seat.in_ram() { x86::Type::Wb } else { process::mtrr(seat) };
    let with_npt = gets(&|pat| x86::npt::combine(mtrr, Pat::Wb, pat).ty());
    let by_ept = (
        format!("EPT {}, IPAT {}", ept.ty, u8::from(ept.ipat)),
        ept.ty,
        "MMIO is UC and the guest's PAT counts, so that the guest chooses UC or WC [Linux vmx_get_mt_mask; thread 002, Tian]",
    );
    let by_npt = (
        format!("NPT WB under an MTRR of {mtrr}"),
        x86::effective(mtrr, Pat::Wb),
        "a nested entry has no type of its own; the guest's PAT and the host's MTRR decide [APM 15.25.8]",
    );
    let rule = |text: &str| Sure::Rule(text.to_owned());
    let ((what, ty, why), guest, sure) = match maker(seat.host) {
        Some(Maker::Intel) => (by_ept, with_ept, rule("the same in every Linux")),
        Some(Maker::Amd) => {
            (by_npt, with_npt, rule("svm has no rule of its own; the combination is the manual's, not run"))
        }
        None if with_ept == with_npt => (by_ept, with_ept, rule("EPT and NPT come to the same")),
        None => {
            let neither =
                || Hole { at: "flags of /proc/cpuinfo".into(), why: Why::Failed("neither vmx nor svm".into()) };
            let hole = seat.host.cpu.vmx.hole().cloned().unwrap_or_else(neither);
            let layer = Layer {
                what: format!("{} or {}", by_ept.0, by_npt.0),
                ty: None,
                why: "Intel's and AMD's nested tables differ here".into(),
                sure: Sure::Rests(vec![hole]),
            };
            let asks: Vec<_> = X86.into_iter().map(|p| MemoryType::X86(asks(p))).collect();
            return Slot::of(layer, open(&asks));
        }
    };
    Slot::of(Layer { what, ty: Some(MemoryType::X86(ty)), why: why.into(), sure }, guest)
}

fn riscv(seat: &Seat<'_>, way: Way) -> Slot {
    const ASKS: [Pbmt; 3] = [Pbmt::Io, Pbmt::Pma, Pbmt::Nc];
    let asks = ASKS.map(|vs| MemoryType::Riscv(riscv::combine(Pma::Io, Pbmt::Pma, vs).ty));
    let pma = if seat.in_ram() { Pma::Main } else { Pma::Io };
    let Some(version) = seat.host.kernel.version else {
        let layer = Layer {
            what: "not known".into(),
            ty: None,
            why: "G-stage IO, PMA, or a wrong address, by version".into(),
            sure: Sure::Rests(vec![seat.version_hole()]),
        };
        return Slot::of(layer, open(&asks));
    };
    let vfio = matches!(way, Way::Vfio | Way::VfioWriteCombine);
    let g = match (version.0, version.1) {
        (..=5, _) | (6, ..=9) => Pbmt::Io,
        (6, 10..=17) if vfio => {
            return Slot {
                layer: Some(Layer {
                    what: "a wrong address".into(),
                    ty: None,
                    why: "KVM takes the physical address from vm_pgoff, where VFIO has had its own offset since 6.10; read off \
                          both sources, not run [Linux 6.12, arch/riscv/kvm/mmu.c: kvm_arch_prepare_memory_region]"
                        .into(),
                    sure: Sure::Rule(kernel::by(version)),
                }),
                guest: open(&asks),
                refused: Some("KVM on RISC-V maps VFIO's BARs at a wrong address in this version".into()),
            };
        }
        (6, 10..=17) => Pbmt::Io,
        _ => Pbmt::Pma,
    };
    let guest = ASKS
        .into_iter()
        .zip(asks)
        .map(|(vs, asks)| Gets {
            asks: Some(asks),
            gets: Some(MemoryType::Riscv(riscv::combine(pma, g, vs).ty)),
            unaligned: Err("the platform decides: an access may be performed, emulated or faulted".into()),
        })
        .collect();
    let ty = riscv::combine(pma, g, Pbmt::Pma).ty;
    let layer = Layer {
        what: format!("G-stage PBMT {}", g.name()),
        ty: Some(MemoryType::Riscv(ty)),
        why: "the guest's own PBMT wins where its CPU has Svpbmt; without it every access has this type \
              [Privileged ISA, Svpbmt; Linux arch/riscv/kvm/mmu.c]"
            .into(),
        sure: Sure::Rests(vec![Hole {
            at: "isa of /proc/cpuinfo".into(),
            why: Why::NotAsked("whether the CPU has Svpbmt is not among what is gathered; by version otherwise".into()),
        }]),
    };
    Slot::of(layer, guest)
}

fn loongarch(seat: &Seat<'_>) -> Slot {
    let ty = loongarch::kvm(seat.in_ram());
    let guest = [loongarch::Type::Suc, loongarch::Type::Wuc, loongarch::Type::Cc]
        .into_iter()
        .map(|asks| Gets {
            asks: Some(MemoryType::LoongArch(asks)),
            gets: (asks == ty).then_some(MemoryType::LoongArch(ty)),
            unaligned: Err("the implementation decides".into()),
        })
        .collect();
    let layer = Layer {
        what: format!("second-level MAT {ty}"),
        ty: Some(MemoryType::LoongArch(ty)),
        why: "what is no page of the host's is SUC; how a guest's own MAT combines with it is in a manual that is not public \
              [Linux arch/loongarch/kvm/mmu.c: kvm_map_page]"
            .into(),
        sure: Sure::Rule("Linux 6.12 and 7.2".into()),
    };
    Slot::of(layer, guest)
}

/// What a guest gets where every access exits: the VMM's own access, by the kernel's mapping.
fn trapped(arch: Arch) -> Vec<Gets> {
    let gets = memtype::linux::of(arch, memtype::linux::Helper::Ioremap).and_then(|e| e.ty);
    let asks: Vec<MemoryType> = match arch {
        Arch::Arm64 => ARM.iter().map(|mair| MemoryType::Arm64(stage1(*mair).ty())).collect(),
        Arch::X86 => X86.iter().map(|p| MemoryType::X86(p.ty())).collect(),
        Arch::Riscv | Arch::Power | Arch::LoongArch | Arch::S390 => Vec::new(),
    };
    let unaligned = |asks: MemoryType| match asks {
        MemoryType::Arm64(ty) if ty.is_device() => Err("an Alignment fault at stage 1: the guest's own".to_owned()),
        _ => Ok(()),
    };
    asks.into_iter().map(|asks| Gets { asks: Some(asks), gets, unaligned: unaligned(asks) }).collect()
}

/// Whether a hole is what keeps the answer open.
pub(crate) fn rests(layer: Option<&Layer>) -> bool {
    layer.is_some_and(|l| matches!(l.sure, Sure::Rests(_)) && l.ty.is_none())
}

/// The IOMMU group's kind, where it says that nothing is translated.
pub(crate) fn passes_through(seat: &Seat<'_>) -> Option<bool> {
    match &seat.function.group {
        Fact::Known(group) => group.kind.known().map(|kind| kind == "identity"),
        Fact::Absent => Some(true),
        Fact::Hole(_) => None,
    }
}
