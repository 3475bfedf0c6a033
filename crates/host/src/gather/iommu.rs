//! The IOMMUs: what each is, and whether it makes DMA coherent.

use std::collections::BTreeMap;

use ::firmware::iort::{Iort, Kind};

use super::firmware::Said;
use super::{hole, malformed};
use crate::fact::{Fact, Why};
use crate::facts::{Firmware, Iommu, IommuKind, Kernel};
use crate::root::Root;

pub(super) fn iommus(root: &Root, kernel: &Kernel, firmware: &Firmware, said: &Said) -> BTreeMap<String, Iommu> {
    let folder = "/sys/class/iommu";
    let names = root.list(folder, |_| true);
    let names = names.known().map(Vec::as_slice).unwrap_or_default();
    names
        .iter()
        .take(1024)
        .map(|name| (name.clone(), iommu(root, &format!("{folder}/{name}"), name, kernel, firmware, said)))
        .collect()
}

fn iommu(root: &Root, path: &str, name: &str, kernel: &Kernel, firmware: &Firmware, said: &Said) -> Iommu {
    let register = |file: &str| {
        let file = format!("{path}/{file}");
        // AMD's is two registers where Linux reads a second, EFR2; which stands first has changed (`amd_iommu_show_features`).
        root.text(&file)
            .and_then(|text| u64::from_str_radix(&text, 16).map_or_else(|_| malformed(file, &text), Fact::Known))
    };
    // The names are given by the drivers: `dmar%d`, `ivhd%d`, `smmu3.%pa`, `smmu.%pa`, `riscv-iommu@…`; virtio's is that of its transport.
    let kind = if name.starts_with("dmar") {
        IommuKind::IntelVtd
    } else if name.starts_with("ivhd") {
        IommuKind::Amd
    } else if name.starts_with("smmu3.") {
        IommuKind::SmmuV3
    } else if name.starts_with("smmu.") {
        IommuKind::Smmu
    } else if name.starts_with("riscv-iommu") {
        IommuKind::Riscv
    } else if root.link(path).known().is_some_and(|to| to.contains("/virtio")) {
        IommuKind::Virtio
    } else {
        IommuKind::Other
    };
    let base = name.split_once('.').and_then(|(_, at)| u64::from_str_radix(at.trim_start_matches("0x"), 16).ok());
    let not_said = || hole(path, Why::Failed(String::from("no file says it")));
    let (enforces, coherent_walk, register) = match kind {
        // ECAP: bit 0 C, page-walk coherency; bit 7 SC, snoop control (VT-d 4.1, 11.4.3).
        // `intel_iommu_capable`: IOMMU_CAP_ENFORCE_CACHE_COHERENCY is `ecap_sc_support`.
        IommuKind::IntelVtd => {
            let ecap = register("intel-iommu/ecap");
            (ecap.clone().map(|e| e >> 7 & 1 == 1), ecap.clone().map(|e| e & 1 == 1), ecap)
        }
        // `amd_iommu_capable` says true to both, for every one: FC is in every entry. `iommu_init_flags`
        // of Linux `drivers/iommu/amd/init.c` always sets CONTROL_COHERENT_EN.
        IommuKind::Amd => (Fact::Known(true), Fact::Known(true), register("amd-iommu/features")),
        IommuKind::SmmuV3 => (canwbs(kernel, firmware, base), walks(firmware, said, base), Fact::Absent),
        IommuKind::Smmu => (Fact::Known(false), walks(firmware, said, base), Fact::Absent),
        // `viommu_capable` has IOMMU_CAP_CACHE_COHERENCY, and not the other.
        IommuKind::Virtio => (Fact::Known(false), Fact::Absent, Fact::Absent),
        // No `.capable` in the driver up to Linux 7.3.
        IommuKind::Riscv => (Fact::Known(false), not_said(), Fact::Absent),
        IommuKind::Other => (not_said(), not_said(), Fact::Absent),
    };
    let s2fwb = match kind {
        IommuKind::SmmuV3 => hole(
            format!("IOMMU_GET_HW_INFO of {name}"),
            Why::NotAsked(String::from("iommufd says it of a device that is bound to it (IDR3.FWB)")),
        ),
        _ => Fact::Absent,
    };
    Iommu { kind, enforces, coherent_walk, s2fwb, register: register.known().copied() }
}

/// `arm_smmu_capable`: IOMMU_CAP_ENFORCE_CACHE_COHERENCY is CANWBS of the root complex, out of IORT. Linux 6.12 has it not, 7.2 has;
/// which release began it was not found out.
fn canwbs(kernel: &Kernel, firmware: &Firmware, base: Option<u64>) -> Fact<bool> {
    if firmware.kind != Some("acpi") {
        // A device tree has no word for it.
        return Fact::Known(false);
    }
    firmware.iort.clone().and_then(|iort| {
        let says = behind(&iort, base);
        if says.is_empty() || says.iter().any(|canwbs| !canwbs) {
            return Fact::Known(false);
        }
        match kernel.version {
            Some((major, minor, _)) if (major, minor) <= (6, 12) => Fact::Known(false),
            Some((major, minor, _)) if (major, minor) >= (7, 2) => Fact::Known(true),
            _ => hole(
                "IORT, CANWBS",
                Why::Failed(String::from("Linux 6.12 does not use it, 7.2 does; not known which between began")),
            ),
        }
    })
}

/// CANWBS of each root complex that goes to the SMMUv3 at an address.
fn behind(iort: &Iort, base: Option<u64>) -> Vec<bool> {
    let smmu = iort.nodes.iter().find(|n| matches!(n.kind, Kind::SmmuV3 { base: b, .. } if Some(b) == base));
    let Some(smmu) = smmu else { return Vec::new() };
    iort.nodes
        .iter()
        .filter(|n| n.mappings.iter().any(|m| m.to == smmu.offset))
        .filter_map(|n| match n.kind {
            Kind::RootComplex { access, .. } => Some(access.canwbs()),
            _ => None,
        })
        .collect()
}

/// Whether an SMMU's own walks are coherent: by IORT (SMMUv3 flag 0, COHACC override; SMMU flag 1), or `dma-coherent` on its node. Firmware wins
/// over IDR0.COHACC (`arm_smmu_device_hw_probe`: "IDR0.COHACC overridden by FW configuration").
fn walks(firmware: &Firmware, said: &Said, base: Option<u64>) -> Fact<bool> {
    if firmware.kind == Some("acpi") {
        return firmware.iort.clone().and_then(|iort| {
            let found = iort.nodes.iter().find_map(|n| match n.kind {
                Kind::SmmuV3 { base: b, flags, .. } if Some(b) == base => Some(flags & 1 == 1),
                Kind::Smmu { base: b, flags, .. } if Some(b) == base => Some(flags >> 1 & 1 == 1),
                _ => None,
            });
            found.map_or_else(|| malformed("/sys/firmware/acpi/tables/IORT", "no SMMU of this address"), Fact::Known)
        });
    }
    said.iommus.clone().and_then(|nodes| {
        let here = |path: &str| path.rsplit_once('@').and_then(|(_, at)| u64::from_str_radix(at, 16).ok()) == base;
        let found = nodes.iter().find(|(path, ..)| base.is_some() && here(path)).map(|(_, _, coherent)| *coherent);
        found.map_or_else(|| malformed("device tree", "no SMMU of this address"), Fact::Known)
    })
}
