//! Does it work, is it fast, is it safe; as a run's verdict has these words: *maybe* is what the architecture or the guest's own
//! choice decides, *safe* is of all guests and of everybody but the guest.

use host::Fact;
use memtype::{Arch, MemoryType};
use platform::{Errors, NcDefect};

use crate::slot::{Slot, passes_through, rests};
use crate::{Answer, Gets, Way, cacheable, gathers, is_wc, process, reads_ahead, seat::Seat};

/// The three answers, and what to do.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) works: (Answer, String),
    pub(crate) fast: (Answer, String),
    pub(crate) safe: (Answer, String),
    pub(crate) advice: Vec<String>,
}

pub(crate) fn verdict(seat: &Seat<'_>, way: Way, slot: &Slot) -> Verdict {
    let wc = slot.guest.iter().find(|g| g.asks.is_some_and(is_wc));
    Verdict {
        works: works(seat, way, slot, wc),
        fast: fast(seat, way, slot, wc),
        safe: safe(seat, way, slot),
        advice: advice(seat, way, wc),
    }
}

const NOTHING_KNOWN: &str = "What the guest gets is not known";

fn works(seat: &Seat<'_>, way: Way, slot: &Slot, wc: Option<&Gets>) -> (Answer, String) {
    let says = |answer, text: &str| (answer, text.to_owned());
    if seat.bar.io {
        return says(Answer::Maybe, "An I/O BAR is the VMM's to trap; it has no memory type.");
    }
    if let Some(why) = &slot.refused {
        return (Answer::No, format!("No slot: {why}."));
    }
    if way == Way::Trap {
        let arm = "Every access is the VMM's. One without a syndrome (a pair, SIMD, a wide store) cannot be done so: KVM exits \
                   with KVM_EXIT_ARM_NISV, or fails. [DDI 0487 ESR_EL2.ISV; Linux io_mem_abort]";
        let other = "Every access is emulated: as well as KVM knows the instruction.";
        return says(Answer::Maybe, if seat.arch() == Some(Arch::Arm64) { arm } else { other });
    }
    let Some(Gets { gets: Some(gets), unaligned, .. }) = wc else {
        return (Answer::Maybe, format!("{NOTHING_KNOWN}: {}.", open_because(seat, slot)));
    };
    if seat.arch() == Some(Arch::Riscv) {
        return says(
            Answer::Maybe,
            "A guest with Svpbmt gets NC; without it the platform's I/O, and an unaligned access is the platform's to answer.",
        );
    }
    if let (MemoryType::Arm64(ty), defect) = (*gets, seat.platform.normal_nc)
        && ty.is_normal_nc()
        && defect != NcDefect::None
    {
        let answer = if defect == NcDefect::Fails { Answer::No } else { Answer::Maybe };
        return (answer, format!("{} [{}]", defect.says(), named(seat)));
    }
    match unaligned {
        Ok(()) => {
            (Answer::Yes, format!("A driver that maps it write-combining gets {}, as on bare metal.", shown(*gets)))
        }
        Err(why) => (
            Answer::Maybe,
            format!(
                "A driver that maps it write-combining gets {}: aligned accesses work; an unaligned one (memcpy) or DC ZVA \
                 (memset) is {why}. [DDI 0487 B2.8.2; thread 002]",
                shown(*gets)
            ),
        ),
    }
}

fn open_because(seat: &Seat<'_>, slot: &Slot) -> String {
    match &slot.layer {
        Some(layer) => layer.why.clone(),
        None if seat.arch().is_none() => "the architecture is not known".into(),
        None => "there is no memory slot".into(),
    }
}

fn fast(seat: &Seat<'_>, way: Way, slot: &Slot, wc: Option<&Gets>) -> (Answer, String) {
    let says = |answer, text: &str| (answer, text.to_owned());
    if seat.bar.io {
        return says(Answer::NotAsked, "An I/O BAR is not written in bursts.");
    }
    if !seat.bar.prefetchable {
        return says(
            Answer::NotAsked,
            "The BAR is not prefetchable: by what the device says of it, it is not for bursts.",
        );
    }
    if way == Way::Trap {
        return says(Answer::No, "Every access of the guest's leaves it, and is a system call of the VMM's.");
    }
    if slot.refused.is_some() {
        return says(Answer::No, "There is no slot.");
    }
    let Some(Gets { gets: Some(gets), .. }) = wc else {
        return (Answer::Maybe, format!("{NOTHING_KNOWN}: {}.", open_because(seat, slot)));
    };
    if seat.arch() == Some(Arch::Riscv) {
        return says(
            Answer::Maybe,
            "With Svpbmt in the guest writes may be gathered; without it the platform decides.",
        );
    }
    if !gathers(*gets) {
        return (
            Answer::No,
            format!("A guest that asks for write-combining gets {}, whose writes are never merged.", shown(*gets)),
        );
    }
    if let Some(erratum) = seat.errata.iter().find(|e| e.name == "thunderx2-nc-combine") {
        return (Answer::Maybe, format!("{}. [bartender errata {}]", erratum.title, erratum.name));
    }
    (
        Answer::Yes,
        format!("Writes to {} may be merged, as on bare metal. No architecture promises that they are.", shown(*gets)),
    )
}

/// The worst of several.
struct Worst {
    answer: Answer,
    because: Vec<String>,
}

impl Worst {
    fn add(&mut self, answer: Answer, why: impl Into<String>) {
        self.answer = self.answer.max(answer);
        self.because.push(why.into());
    }
}

fn safe(seat: &Seat<'_>, way: Way, slot: &Slot) -> (Answer, String) {
    let mut worst = Worst { answer: Answer::Yes, because: Vec::new() };
    if slot.refused.is_some() && seat.arch() != Some(Arch::Riscv) {
        return (Answer::Yes, "There is no slot.".into());
    }
    if slot.refused.is_some() {
        worst.add(Answer::No, "The guest is given a physical address that is not the BAR's.");
    }
    let gets: Vec<MemoryType> = slot.guest.iter().filter_map(|g| g.gets).collect();
    if way != Way::Trap && !seat.bar.io {
        reach(seat, slot, &gets, &mut worst);
    }
    if way == Way::Trap && !seat.bar.io && seat.platform.containment.device == Errors::Uncontained {
        worst.add(
            Answer::No,
            format!(
                "The kernel's own access for the guest fails as the guest's would: it is not contained on this machine. [{}]",
                named(seat)
            ),
        );
    }
    dma(seat, way, &mut worst);
    let defect = seat.platform.normal_nc;
    let nc = way == Way::SysfsWriteCombine && seat.arch() == Some(Arch::Arm64);
    if nc && !matches!(defect, NcDefect::None | NcDefect::Fails) {
        worst.add(Answer::No, format!("{} The process's own mapping is Normal-NC. [{}]", defect.says(), named(seat)));
    }
    if way == Way::SysfsWriteCombine {
        worst.add(
            Answer::Yes,
            "The process has it Normal-NC or WC while the guest may have another type: mismatched attributes of one BAR, \
             harmless as long as the process does not access it.",
        );
    }
    if worst.answer == Answer::Yes {
        worst.because.insert(
            0,
            "A failing access gives ones, as PCIe integrations usually do; that is declared, no software can find it out. \
             [thread 003, Gunthorpe]"
                .into(),
        );
    }
    (worst.answer, worst.because.join(" "))
}

/// What a guest can do to others by the types it can have.
fn reach(seat: &Seat<'_>, slot: &Slot, gets: &[MemoryType], worst: &mut Worst) {
    if rests(slot.layer.as_ref()) || gets.is_empty() {
        worst.add(Answer::Maybe, format!("{NOTHING_KNOWN}."));
    }
    let arm = |ty: &MemoryType| match ty {
        MemoryType::Arm64(ty) => Some(*ty),
        _ => None,
    };
    let device = gets.iter().filter_map(arm).any(memtype::arm::Type::is_device);
    let normal = gets.iter().filter_map(arm).any(|ty| !ty.is_device());
    let nc = gets.iter().filter_map(arm).any(memtype::arm::Type::is_normal_nc);
    let fails = seat.platform.containment;
    for (class, can, errors) in [("Device", device, fails.device), ("Normal", normal, fails.normal)] {
        if can && errors == Errors::Uncontained {
            worst.add(
                Answer::No,
                format!(
                    "A failing access of a {class} type is not contained on this machine: a device that is gone takes the host \
                     with it. [{}; threads 002, Zyngier, and 003, Gunthorpe]",
                    named(seat)
                ),
            );
        }
    }
    let defect = seat.platform.normal_nc;
    match defect {
        NcDefect::None => {}
        _ if !nc => {}
        NcDefect::Fails => worst.add(
            Answer::Maybe,
            format!("{} A guest that maps Normal-NC loses its own accesses. [{}]", defect.says(), named(seat)),
        ),
        _ => worst.add(Answer::No, format!("{} A guest can have Normal-NC. [{}]", defect.says(), named(seat))),
    }
    if gets.iter().any(|ty| cacheable(*ty)) && seat.incoherent() {
        worst.add(
            Answer::No,
            "A guest can have it in the CPU's caches, and the device's DMA does not snoop them. [DDI 0487 B2.11]",
        );
    }
    if !seat.bar.prefetchable && gets.iter().any(|ty| reads_ahead(*ty)) {
        worst.add(
            Answer::Yes,
            "A guest that maps it with a type that is read ahead can lose its own device's data, where reads have side effects, \
             as on bare metal.",
        );
    }
}

/// What the device's DMA can do to others.
fn dma(seat: &Seat<'_>, way: Way, worst: &mut Worst) {
    if matches!(way, Way::Vfio | Way::VfioWriteCombine | Way::Trap) {
        if seat.no_iommu() {
            worst.add(
                Answer::No,
                "VFIO without an IOMMU: a guest can have the device write anywhere in the host's memory.",
            );
        }
        return;
    }
    let master = seat.function.command.known().map(|c| c.master);
    match (master, passes_through(seat)) {
        (Some(false), _) => {}
        (Some(true), Some(true)) => worst.add(
            Answer::No,
            "The device may master the bus and no IOMMU translates for it: whoever can write its registers can have it write \
             anywhere in the host's memory. VFIO would confine it.",
        ),
        (_, Some(false)) => worst.add(
            Answer::Maybe,
            "The device's DMA is in the host's own IOMMU domain, with whatever a driver mapped there. VFIO would confine it.",
        ),
        _ => worst.add(Answer::Maybe, "Whether the device's DMA is confined is not known. VFIO would confine it."),
    }
}

/// The errata that match, by name; else that firmware says it.
fn named(seat: &Seat<'_>) -> String {
    let names: Vec<_> = seat.errata.iter().filter(|e| !e.effect.is_empty()).map(|e| e.name.as_str()).collect();
    if names.is_empty() { "declared".into() } else { format!("bartender errata {}", names.join(", ")) }
}

/// As the architecture writes it.
pub(crate) fn shown(ty: MemoryType) -> String {
    match ty {
        MemoryType::Arm64(ty) => ty.to_string(),
        MemoryType::X86(ty) => ty.to_string(),
        MemoryType::Riscv(ty) => ty.to_string(),
        MemoryType::LoongArch(ty) => ty.to_string(),
        MemoryType::Power(_) | MemoryType::S390(_) => ty.to_string(),
    }
}

fn advice(seat: &Seat<'_>, way: Way, wc: Option<&Gets>) -> Vec<String> {
    let mut out = Vec::new();
    if seat.bar.io {
        return out;
    }
    let gets = wc.and_then(|g| g.gets);
    let slow = gets.is_some_and(|ty| !gathers(ty)) && seat.bar.prefetchable;
    let own = process::says_version(seat);
    match (seat.arch(), way) {
        (Some(Arch::Arm64), Way::Vfio) if gets.is_some_and(|ty| !gathers(ty)) => out.push(format!(
            "for Normal-NC in a guest: Linux 6.9 or later, or {own} with 8c47ce3e1d2c (KVM) and a39d3a966a09 (VFIO), which \
             belong together"
        )),
        (Some(Arch::Arm64), Way::Sysfs | Way::SysfsWriteCombine) if slow => out.push(
            "for a guest, map it through vfio-pci: KVM gives Normal-NC to no other mapping, write-combining or not".into(),
        ),
        _ => {}
    }
    match way {
        Way::Vfio if seat.bar.file_wc => out.push(format!(
            "for write-combining in a process, a driver in user space: resource{}_wc; VFIO's own mapping is {}",
            seat.bar.index,
            process::vma(seat, Way::Vfio).ty.map_or_else(|| "uncached".into(), shown)
        )),
        Way::SysfsWriteCombine if seat.bar.file_wc && seat.on_vfio() => out.push(
            "map it before the device is opened through VFIO: opening claims the BAR, and mmap then gives EINVAL on a kernel \
             with CONFIG_IO_STRICT_DEVMEM"
                .into(),
        ),
        _ => {}
    }
    if matches!(way, Way::Vfio | Way::Trap) && process::has_table(seat, seat.bar) {
        out.push("trap the page of the MSI-X table, and map what is around it".into());
    }
    if way == Way::Vfio && seat.function.opened.known().is_none() && seat.on_vfio() {
        out.push(format!(
            "to have it seen instead of derived: `bartender inspect {} --open`, which resets the device",
            seat.function.bdf
        ));
    }
    if seat.platform.normal_nc != NcDefect::None && gets == Some(MemoryType::Arm64(memtype::arm::Type::NORMAL_NC)) {
        out.push(format!(
            "this machine has a defect with Normal-NC: `bartender errata {}`",
            named(seat).replace("bartender errata ", "")
        ));
    }
    if seat.host.kvm == Fact::Absent && matches!(way, Way::Vfio) {
        out.push("there is no KVM here: what a guest gets is by rule alone".into());
    }
    out
}
