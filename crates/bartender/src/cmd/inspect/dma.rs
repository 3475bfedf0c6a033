//! Does a device's DMA see what the CPUs have in their caches: what firmware, the IOMMU, VFIO and the device say of it, and what
//! follows.
//!
//! That DMA *can* be coherent (IOMMU_CAP_CACHE_COHERENCY) and that No Snoop is taken off (IOMMU_CAP_ENFORCE_CACHE_COHERENCY) are two
//! questions (J. Gunthorpe, "Make the iommu driver no-snoop block feature consistent", April 2022).

use ::firmware::iort::Kind;
use ::host::{Fact, Function, Host, Iommu, IommuKind};
use memtype::Arch;

use super::tame;

/// The IOMMU before a function.
fn iommu<'a>(host: &'a Host, function: &'a Function) -> Option<(&'a str, &'a Iommu)> {
    let name = function.iommu.known()?;
    Some((name, host.iommus.get(name)?))
}

/// Whether No Snoop is taken off: as VFIO answered for this device, else as the IOMMU says of itself. Nothing where nobody says.
fn enforced(host: &Host, function: &Function) -> Option<bool> {
    let opened = function.opened.known().and_then(|o| o.enforces_coherency);
    opened.or_else(|| iommu(host, function)?.1.enforces.known().copied())
}

/// IORT says that accesses that are not to be cached need no maintenance either.
fn canwbs(host: &Host, function: &Function) -> Option<bool> {
    match host.firmware.iort.known()?.root_complex(function.bdf.domain())?.kind {
        Kind::RootComplex { access, .. } => Some(access.canwbs()),
        _ => None,
    }
}

/// Who says what: a label and a sentence.
pub(super) fn says(host: &Host, function: &Function) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    all.push((
        "firmware",
        match &function.coherent {
            Fact::Known(c) => format!("{}: {}", if c.coherent { "coherent" } else { "not coherent" }, tame(&c.says)),
            Fact::Absent => "says nothing".into(),
            Fact::Hole(hole) => format!("? ({})", tame(&hole.to_string())),
        },
    ));
    all.push((
        "IOMMU",
        match (&function.iommu, iommu(host, function)) {
            (_, Some((name, it))) => {
                let off = match it.enforces {
                    Fact::Known(true) => "can take No Snoop off",
                    Fact::Known(false) => "cannot take No Snoop off",
                    Fact::Absent | Fact::Hole(_) => "whether it takes No Snoop off is not known",
                };
                let mut text = format!("{}: {off}", tame(name));
                if it.kind == IommuKind::Virtio {
                    text.push_str(
                        "; a virtio-iommu says coherent without asking anybody (viommu_capable(); thread 004)",
                    );
                }
                text
            }
            (Fact::Known(name), None) => format!("{}, of which nothing is known", tame(name)),
            (Fact::Absent, None) => "none".into(),
            (Fact::Hole(hole), None) => format!("? ({})", tame(&hole.to_string())),
        },
    ));
    if let Some(opened) = function.opened.known().and_then(|o| o.enforces_coherency) {
        let says = if opened { "1: No Snoop is taken off" } else { "0: No Snoop is not taken off" };
        all.push(("VFIO", format!("VFIO_DMA_CC_IOMMU of its container {says}")));
    }
    if let Some(cdev) = &function.vfio_cdev {
        let text =
            "it is registered with VFIO, which refuses a device whose IOMMU does not say IOMMU_CAP_CACHE_COHERENCY";
        all.push(("", format!("{}: {text} (__vfio_register_dev())", tame(cdev))));
    }
    all.push((
        "No Snoop",
        match &function.no_snoop {
            Fact::Known(true) => "enabled in Device Control: the device may set it".into(),
            Fact::Known(false) => "not enabled in Device Control: the device may not set it".into(),
            Fact::Absent => "no Device Control: the function has no PCI Express capability".into(),
            Fact::Hole(hole) => format!("? ({})", tame(&hole.to_string())),
        },
    ));
    if let Some(canwbs) = canwbs(host, function) {
        let text = if canwbs {
            "CANWBS: even accesses that are not to be cached need no maintenance"
        } else {
            "no CANWBS: firmware does not promise that No Snoop does no harm"
        };
        all.push(("IORT", text.into()));
    }
    all
}

/// What follows.
pub(super) fn follows(host: &Host, function: &Function) -> Vec<String> {
    let mut all = Vec::new();
    let alone = matches!(function.iommu, Fact::Absent);
    if alone {
        all.push(
            "No IOMMU stands before it: VFIO takes it in no-IOMMU mode alone, and nothing confines its DMA.".to_owned(),
        );
    }
    match function.coherent.known().map(|c| c.coherent) {
        Some(true) if alone => all.push("Its DMA is coherent, and a guest may be told so (_CCA 1, dma-coherent).".to_owned()),
        Some(true) => all.push(
            "Tell the guest that its DMA is coherent (_CCA 1, dma-coherent): VFIO maps guest memory IOMMU_CACHE.".to_owned(),
        ),
        Some(false) => all.push(
            "A guest must not be told that it is coherent. VFIO does not look at what firmware says of a device \
             (_CCA, dma-coherent), only at IOMMU_CAP_CACHE_COHERENCY, and nothing in VFIO maintains caches."
                .to_owned(),
        ),
        None => all.push(
            "What firmware says is not known here. If VFIO takes the device, its IOMMU says IOMMU_CAP_CACHE_COHERENCY; guest memory \
             is then mapped IOMMU_CACHE."
                .to_owned(),
        ),
    }
    let x86 = host.kernel.arch == Some(Arch::X86);
    let possible = !matches!(function.no_snoop, Fact::Absent);
    match enforced(host, function) {
        _ if !possible => {}
        Some(true) => all.push(
            "No Snoop does nothing: the IOMMU takes it off where VFIO or iommufd set up the domain. A guest's memory can be \
             write-back alone."
                .to_owned(),
        ),
        Some(false) | None => {
            let may = match enforced(host, function) {
                Some(_) => "Its DMA may bypass the caches",
                None => "Unless the IOMMU takes No Snoop off, its DMA may bypass the caches",
            };
            let now = match function.no_snoop {
                Fact::Known(false) => " (not now: Enable No Snoop is clear, but a guest may set it)",
                _ => "",
            };
            all.push(if x86 {
                format!(
                    "{may}{now}. A VMM has to register the device with KVM's VFIO device (KVM_DEV_VFIO_FILE), so that KVM lets the \
                     guest's PAT and WBINVD count; without that, KVM does not know."
                )
            } else if canwbs(host, function) == Some(true) {
                "No Snoop needs no maintenance here, says IORT (CANWBS).".to_owned()
            } else {
                format!(
                    "{may}{now}, and on {} neither VFIO nor KVM does anything about it. Keep Enable No Snoop clear: vfio-pci passes \
                     a guest's writes of it through, a VMM need not.",
                    host.kernel.arch.map_or("this architecture", Arch::name)
                )
            });
        }
    }
    if let Some((_, it)) = iommu(host, function).filter(|(_, it)| it.kind == IommuKind::SmmuV3) {
        match it.s2fwb {
            Fact::Known(true) => all.push("A guest with a vSMMU cannot make DMA non-coherent by its own stage 1 (STE.S2FWB).".to_owned()),
            Fact::Known(false) => all.push(
                "A guest gets no vSMMU by iommufd unless IORT says CANWBS: without S2FWB its stage 1 could make DMA non-coherent."
                    .to_owned(),
            ),
            Fact::Absent | Fact::Hole(_) => {}
        }
    }
    all
}
