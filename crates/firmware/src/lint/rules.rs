//! The rules, and what each looks for.

use super::{
    BTreeSet, Description, Entry, Iort, IortNode, Kind, Map, Part, Place, Rule, Severity, Tree, ViotNode, Wiring,
};
use crate::iort::Access;

const ACPI_CCA: &str = "ACPI 6.5, 6.2.17 (_CCA)";
const IORT_ACCESS: &str = "DEN0049E.f, Memory access properties";
const FWTS: &str = "fwts iort test, iort_memory_access_properties_check()";
const PCI_IOMMU: &str = "Devicetree binding virtio/pci-iommu.yaml";
const MAP_ID: &str = "Linux 7.2 of_map_id() (drivers/of/base.c)";
const COHERENT: &str = "Linux 7.2 of_dma_is_coherent() (drivers/of/address.c)";
const FWSPEC: &str = "Linux 7.2 iommu_fwspec_init(), driver_deferred_probe_check_state()";
const REFUSED: &str = "Linux 7.2 __vfio_register_dev() (IOMMU_CAP_CACHE_COHERENCY)";
const MAP_NODE: &str = "Linux 7.2 iort_node_map_id() (drivers/acpi/arm64/iort.c)";

/// All rules.
pub static RULES: &[Rule] = &[
    Rule {
        name: "malformed",
        severity: Severity::Error,
        finds: "a table or a property that cannot be read",
        follows: "The guest's kernel leaves out what it cannot read, or reads past it. None of the rules below was \
                  asked of it.",
        remedy: "Make the field what its format says.",
        source: &["ACPI 6.5, 5.2.6", "Devicetree Specification 0.4, chapter 5"],
        needs: &[],
        check: malformed,
    },
    Rule {
        name: "cca-missing",
        severity: Severity::Error,
        finds: "a PCI host bridge on Arm without _CCA",
        follows: "Linux gives every PCI function below it DEV_DMA_NOT_SUPPORTED: each DMA mapping fails, and no \
                  IOMMU is set up. Seen with Linux 6.12: \"Failed to enable 64-bit or 32-bit DMA\".",
        remedy: "Give the host bridge's device (PNP0A08) Name (_CCA, 1), or 0 if its DMA does not snoop the caches.",
        source: &[
            ACPI_CCA,
            "Linux 7.2 acpi_init_coherency(), acpi_dma_configure_id() (ACPI_CCA_REQUIRED, which arm64 selects)",
            "cloud-hypervisor #3151",
        ],
        needs: &[Part::Names],
        check: cca_missing,
    },
    Rule {
        name: "cca-differs",
        severity: Severity::Error,
        finds: "a host bridge's _CCA and the CCA of its IORT root complex contradict",
        follows: "Linux believes _CCA and does not read IORT's CCA; other software reads IORT (EDK2's SmmuDxe). One \
                  of them is wrong: DMA of stale data, or maintenance for nothing.",
        remedy: "Make them equal: both 1 if the device's DMA snoops the CPU's caches.",
        source: &[ACPI_CCA, IORT_ACCESS, "Linux 7.2 pci_dma_configure() (drivers/pci/pci-driver.c)"],
        needs: &[Part::Names, Part::Iort],
        check: cca_differs,
    },
    Rule {
        name: "iort-cca-without-path",
        severity: Severity::Error,
        finds: "a node of IORT says CCA = 1 and CPM = 0",
        follows: "It says that its DMA is coherent and that it has no coherent path to memory. Linux reads neither; \
                  a guest that reads CPM takes its DMA as non-coherent.",
        remedy: "Set CPM (bit 0 of the memory access flags), or clear CCA here and in _CCA.",
        source: &[IORT_ACCESS, FWTS],
        needs: &[Part::Iort],
        check: |d| access(d, |it| it.cca == 1 && !it.cpm()),
    },
    Rule {
        name: "iort-path-without-cca",
        severity: Severity::Error,
        finds: "a node of IORT says CCA = 0 with CPM and DACS set",
        follows: "A coherent path and accesses that are cacheable and Inner Shareable are a coherent device: CCA = 0 \
                  denies it.",
        remedy: "Set CCA to 1 here and in _CCA, or clear the flag that does not hold.",
        source: &[IORT_ACCESS, FWTS],
        needs: &[Part::Iort],
        check: |d| access(d, |it| it.cca == 0 && it.cpm() && it.dacs()),
    },
    Rule {
        name: "iort-cca-by-override",
        severity: Severity::Warning,
        finds: "a node of IORT says CCA = 1 with CPM, without DACS",
        follows: "Its accesses are coherent only while an SMMU overrides their attributes. EDK2 does so (STE.MTCFG); \
                  Linux leaves them as they come where the SMMU is bypassed.",
        remedy: "Set DACS (bit 1 of the memory access flags) if the device's accesses are cacheable: of a VMM's \
                  device they are.",
        source: &[IORT_ACCESS, "EDK2 SmmuDxe, SmmuV3BuildStreamTable()"],
        needs: &[Part::Iort],
        check: |d| access(d, |it| it.cca == 1 && it.cpm() && !it.dacs()),
    },
    Rule {
        name: "smmuv3-not-coherent",
        severity: Severity::Warning,
        finds: "an SMMUv3 without the COHACC override, before devices that are coherent",
        follows: "With ACPI, Linux takes the SMMU as not coherent, whatever SMMU_IDR0.COHACC says (\"IDR0.COHACC \
                  overridden by FW configuration (false)\"). It then denies IOMMU_CAP_CACHE_COHERENCY: VFIO in the \
                  guest refuses every device behind it with EINVAL.",
        remedy: "Set bit 0 of the SMMUv3 node's flags, if its table walks are coherent: an emulated SMMU's are.",
        source: &["Linux 7.2 arm_smmu_v3_dma_configure(), arm_smmu_capable()", REFUSED],
        needs: &[Part::Iort],
        check: smmu_not_coherent,
    },
    Rule {
        name: "iort-no-mapping",
        severity: Severity::Warning,
        finds: "a root complex of IORT that maps no id",
        follows: "No SMMU translates for it, and no ITS takes its MSIs: devices are left with INTx, and those that \
                  need MSIs do not probe.",
        remedy: "Map all requester ids to the SMMU, or to the ITS group where there is no SMMU.",
        source: &[MAP_NODE, "Linux 7.2 iort_get_device_domain()"],
        needs: &[Part::Iort],
        check: no_mapping,
    },
    Rule {
        name: "iort-ids-overlap",
        severity: Severity::Error,
        finds: "two id mappings of a node have input ids in common",
        follows: "Linux takes the first that fits, logs \"conflicting mapping for input ID\" where they meet at an \
                  end, and may take the second there. A device is behind another stream id, or another SMMU, than \
                  was meant.",
        remedy: "Make the ranges disjoint. The field is the number of ids minus one.",
        source: &["Linux 7.2 iort_id_map()", "DEN0049E.f, ID mappings"],
        needs: &[Part::Iort],
        check: ids_overlap,
    },
    Rule {
        name: "iort-odd-target",
        severity: Severity::Error,
        finds: "an id mapping that ends at what neither translates nor takes MSIs",
        follows: "Linux follows mappings until it meets an SMMU or an ITS group. It does not meet one: the device \
                  has no IOMMU, or no MSIs.",
        remedy: "Root complexes and named components map to an SMMU or an ITS group, SMMUs to an ITS group.",
        source: &[MAP_NODE, "DEN0049E.f, ID mappings"],
        needs: &[Part::Iort],
        check: odd_target,
    },
    Rule {
        name: "iort-no-msi",
        severity: Severity::Warning,
        finds: "a root complex behind an SMMU that leads on to no ITS group",
        follows: "Linux looks for the ITS through the SMMU's own mappings and finds none: devices behind it are left \
                  with INTx.",
        remedy: "Map the stream ids of the SMMU's node to the ITS group, as device ids.",
        source: &[MAP_NODE, "Linux 7.2 iort_dev_find_its_id()"],
        needs: &[Part::Iort],
        check: no_msi,
    },
    Rule {
        name: "iort-its-unknown",
        severity: Severity::Error,
        finds: "an ITS group names an ITS that the MADT does not have",
        follows: "Linux finds no MSI domain for it: devices that map there are left with INTx.",
        remedy: "Use the GIC ITS ID of the MADT's ITS structure (type 15).",
        source: &["Linux 7.2 iort_find_domain_token()", "ACPI 6.5, 5.2.12.18"],
        needs: &[Part::Iort, Part::Madt],
        check: its_unknown,
    },
    Rule {
        name: "segment-without-root-complex",
        severity: Severity::Error,
        finds: "a PCI segment of MCFG that IORT has no root complex for",
        follows: "Linux finds a PCI function's SMMU and ITS by its segment alone. Functions of this one are \
                  untranslated and without an ITS.",
        remedy: "Add a root complex node with this PCI segment number to IORT.",
        source: &["Linux 7.2 iort_match_node_callback(), iort_iommu_configure_id()"],
        needs: &[Part::Iort, Part::Mcfg],
        check: segment_without_root_complex,
    },
    Rule {
        name: "root-complex-without-segment",
        severity: Severity::Note,
        finds: "a root complex of IORT for a PCI segment that MCFG does not have",
        follows: "Nothing uses the node, unless a host bridge of that segment says by _CBA where its configuration \
                  space is.",
        remedy: "Add the segment to MCFG, or take the node out.",
        source: &["PCI Firmware 3.3, 4.1.2 and 4.1.3 (_CBA)"],
        needs: &[Part::Iort, Part::Mcfg],
        check: root_complex_without_segment,
    },
    Rule {
        name: "root-complex-twice",
        severity: Severity::Error,
        finds: "two root complexes of IORT for one PCI segment",
        follows: "Linux assumes one root complex per segment and takes the first node; the second is never looked at.",
        remedy: "Make one node of them, with the mappings of both.",
        source: &["Linux 7.2 iort_match_node_callback()"],
        needs: &[Part::Iort],
        check: root_complex_twice,
    },
    Rule {
        name: "translated-twice",
        severity: Severity::Error,
        finds: "IORT and VIOT each put the same requester ids behind an IOMMU",
        follows: "Linux asks IORT first, and VIOT only where IORT knows no SMMU: the virtio-iommu never sees these \
                  devices. A VMM that translates by the virtio-iommu then sees DMA addresses of the SMMU.",
        remedy: "Leave one of them out. Beside a VIOT, IORT's root complex maps to the ITS group.",
        source: &["Linux 7.2 acpi_iommu_configure_id() (drivers/acpi/scan.c)"],
        needs: &[Part::Iort, Part::Viot],
        check: translated_twice,
    },
    Rule {
        name: "viot-ranges-overlap",
        severity: Severity::Error,
        finds: "two PCI ranges of VIOT have requester ids in common",
        follows: "Which endpoint id such a device gets depends on the order in which a guest keeps the ranges: Linux \
                  prepends each, so the last wins.",
        remedy: "Make the ranges disjoint.",
        source: &["Linux 7.2 viot_parse_node() (list_add), viot_pci_dev_iommu_init()"],
        needs: &[Part::Viot],
        check: viot_overlap,
    },
    Rule {
        name: "viot-own-range",
        severity: Severity::Note,
        finds: "a virtio-iommu of VIOT is in a range that it translates itself",
        follows: "Its own DMA cannot be behind it. Linux leaves it out (\"We're not translating ourself\"); another \
                  guest may wait for it for ever.",
        remedy: "Split the range around its requester id. QEMU does not (hw/acpi/viot.c), which is why this is a note.",
        source: &["Linux 7.2 viot_dev_iommu_init()", "QEMU hw/acpi/viot.c"],
        needs: &[Part::Viot],
        check: viot_own_range,
    },
    Rule {
        name: "iommu-unused",
        severity: Severity::Note,
        finds: "an IOMMU that nothing refers to",
        follows: "It translates for nobody. Some machines mean that; more often a map has the wrong target.",
        remedy: "Refer to it from the host bridge (iommu-map, IORT id mapping, VIOT range), or leave it out.",
        source: &["follows from what is described"],
        needs: &[],
        check: unused,
    },
    Rule {
        name: "dt-coherent-and-not",
        severity: Severity::Error,
        finds: "a node with both dma-coherent and dma-noncoherent",
        follows: "Linux asks for dma-coherent first and believes it; another guest may not.",
        remedy: "Keep the one that holds.",
        source: &[COHERENT],
        needs: &[Part::Tree],
        check: coherent_and_not,
    },
    Rule {
        name: "dt-bridge-says-nothing",
        severity: Severity::Warning,
        finds: "a PCI host bridge on Arm with no word on coherency, on it or above",
        follows: "arm64 Linux takes the DMA of all functions below it as non-coherent: buffers are mapped uncached \
                  or maintained by hand, while a VMM reads and writes them through its caches. Stale data wherever \
                  stage 2 does not force write-back (no FEAT_S2FWB).",
        remedy: "Add dma-coherent. A VMM may for VFIO devices too: VFIO takes only devices whose IOMMU is coherent, \
                  and maps guest memory so.",
        source: &[COHERENT, "firecracker #5536", "Linux 7.2 __vfio_register_dev()"],
        needs: &[Part::Tree],
        check: bridge_says_nothing,
    },
    Rule {
        name: "dt-virtio-not-coherent",
        severity: Severity::Error,
        finds: "a virtio,mmio (or VMBus) node on Arm that is not dma-coherent",
        follows: "With VIRTIO_F_ACCESS_PLATFORM the guest allocates its rings uncached, and the VMM uses them \
                  cached. Without FEAT_S2FWB the first request fails: \"virtio_blk virtio0: req.0:id 0 is not a \
                  head!\". Hosts with FEAT_S2FWB hide it.",
        remedy: "Add dma-coherent to the node: what a VMM does in its own process is coherent.",
        source: &["firecracker #5536, fixed by #5538", "Linux 7.2 vring_alloc_queue()", COHERENT],
        needs: &[Part::Tree],
        check: virtio_not_coherent,
    },
    Rule {
        name: "dt-device-not-coherent",
        severity: Severity::Note,
        finds: "a device on Arm that is not dma-coherent, beside PCI that is",
        follows: "Its driver does cache maintenance and maps buffers uncached. Right for hardware that does not \
                  snoop; of a device that the VMM emulates it is the case of dt-virtio-not-coherent.",
        remedy: "Add dma-coherent if its DMA snoops.",
        source: &[COHERENT, "openvmm #46"],
        needs: &[Part::Tree],
        check: device_not_coherent,
    },
    Rule {
        name: "dt-iommu-not-coherent",
        severity: Severity::Warning,
        finds: "a coherent host bridge behind an SMMUv3 without dma-coherent",
        follows: "Linux takes the SMMU's walks as non-coherent, which costs maintenance for each table entry, and \
                  denies IOMMU_CAP_CACHE_COHERENCY: VFIO in the guest refuses every device behind it with EINVAL.",
        remedy: "Add dma-coherent to the SMMU's node, if its table walks are coherent: an emulated SMMU's are.",
        source: &["Linux 7.2 arm_smmu_capable() (arm-smmu-v3.c)", REFUSED, "Devicetree binding iommu/arm,smmu-v3.yaml"],
        needs: &[Part::Tree],
        check: iommu_not_coherent,
    },
    Rule {
        name: "dt-bridge-not-coherent",
        severity: Severity::Warning,
        finds: "a host bridge that is dma-noncoherent behind an IOMMU that is dma-coherent",
        follows: "Linux maintains caches for each DMA, though VFIO in the guest is told that DMA through this IOMMU \
                  is coherent: it asks the IOMMU, not the bridge.",
        remedy: "Make the bridge dma-coherent, or take the word from the IOMMU, whichever holds.",
        source: &[COHERENT, REFUSED],
        needs: &[Part::Tree],
        check: bridge_not_coherent,
    },
    Rule {
        name: "dt-map-nowhere",
        severity: Severity::Error,
        finds: "an iommu-map, iommus or msi-map refers to a phandle that no node has",
        follows: "iommu-map: the entry's devices come up untranslated, without a word in the log (seen with Linux \
                  6.12); in Linux 7.2 those of later entries too. msi-map: they find no MSI controller, and drivers \
                  that need MSI-X do not probe.",
        remedy: "Refer to a phandle that is there.",
        source: &[MAP_ID, "tinylabscom/mvm #3577"],
        needs: &[Part::Tree],
        check: map_nowhere,
    },
    Rule {
        name: "dt-map-to-no-iommu",
        severity: Severity::Error,
        finds: "an iommu-map or iommus refers to a node without #iommu-cells",
        follows: "No driver ever registers an IOMMU for that node. Each device waits for it until Linux gives up \
                  (\"deferred probe timeout\", after 10 s), and then runs untranslated. Seen with Linux 6.12.",
        remedy: "Refer to the IOMMU's node, or give it #iommu-cells.",
        source: &[FWSPEC, MAP_ID, "Devicetree binding iommu/iommu.txt"],
        needs: &[Part::Tree],
        check: map_to_no_iommu,
    },
    Rule {
        name: "dt-iommu-in-own-map",
        severity: Severity::Error,
        finds: "the host bridge's iommu-map covers the IOMMU's own requester id",
        follows: "The IOMMU waits for itself, and all devices behind it wait for it, until Linux gives up \
                  (\"deferred probe timeout, ignoring dependency\", after 10 s). A device that is then retried \
                  before the IOMMU runs untranslated. Both seen with Linux 6.12.",
        remedy: "Leave its requester id out: <0 &iommu 0 RID>, <RID+1 &iommu RID+1 (0xffff-RID)>.",
        source: &[PCI_IOMMU, FWSPEC],
        needs: &[Part::Tree],
        check: iommu_in_own_map,
    },
    Rule {
        name: "dt-map-overlap",
        severity: Severity::Error,
        finds: "two entries of an iommu-map or msi-map have requester ids in common",
        follows: "Linux takes the first that fits; another guest may not.",
        remedy: "Make the ranges disjoint. The last cell is a number of ids.",
        source: &[MAP_ID],
        needs: &[Part::Tree],
        check: map_overlap,
    },
    Rule {
        name: "dt-map-mask",
        severity: Severity::Error,
        finds: "an entry of an iommu-map or msi-map begins at an id that its mask takes off",
        follows: "Linux refuses the map (EFAULT, \"ignores id-base\") from that entry on: those devices have no \
                  IOMMU, or no MSIs.",
        remedy: "Clear those bits of the first id, or set them in the mask.",
        source: &[MAP_ID],
        needs: &[Part::Tree],
        check: map_mask,
    },
    Rule {
        name: "dt-no-msi",
        severity: Severity::Warning,
        finds: "a host bridge with an iommu-map and neither msi-map nor msi-parent",
        follows: "Linux finds no MSI controller for its functions: they are left with INTx, and drivers that need \
                  MSI-X do not probe.",
        remedy: "Add msi-map (an ITS: requester ids to device ids) or msi-parent.",
        source: &["Linux 7.2 of_msi_xlate() (drivers/of/irq.c)"],
        needs: &[Part::Tree],
        check: dt_no_msi,
    },
    Rule {
        name: "dt-msi-to-no-controller",
        severity: Severity::Error,
        finds: "an msi-map or msi-parent refers to a node that is no msi-controller",
        follows: "No MSI domain is found there: functions are left with INTx.",
        remedy: "Refer to the ITS's (or GICv2m frame's) node.",
        source: &["Linux 7.2 of_msi_xlate(), of_check_msi_parent()"],
        needs: &[Part::Tree],
        check: msi_to_no_controller,
    },
    Rule {
        name: "normal-nc-unsaid",
        severity: Severity::Note,
        finds: "PCI on Arm: nothing says whether its memory may be mapped Normal-NC",
        follows: "No table and no binding has a word for it, so the guest's driver decides alone. Whether it gets \
                  what it asks is decided at stage 2, by the host's kernel (vfio-pci from Linux 6.9: yes).",
        remedy: "Nothing to do here; `bartender plan` says what each BAR gets on a host.",
        source: &["thread 002 (Zyngier: \"Having a firmware description of what can be mapped with what attributes\")"],
        needs: &[],
        check: normal_nc_unsaid,
    },
];

fn place(at: impl Into<String>, found: impl Into<String>) -> Place {
    Place { at: at.into(), found: found.into() }
}

fn iort(d: &Description) -> &[IortNode] {
    d.iort.as_ref().map_or(&[], |iort| &iort.nodes)
}

/// `IORT 0xa0 (root complex of segment 0)`.
fn at(node: &IortNode) -> String {
    match &node.kind {
        Kind::RootComplex { segment, .. } => format!("IORT {:#x} (root complex of segment {segment})", node.offset),
        Kind::Named { path, .. } => format!("IORT {:#x} (named component {path})", node.offset),
        Kind::SmmuV3 { base, .. } | Kind::Smmu { base, .. } => {
            format!("IORT {:#x} ({} at {base:#x})", node.offset, node.kind.name())
        }
        kind => format!("IORT {:#x} ({})", node.offset, kind.name()),
    }
}

fn ids(first: u32, last: u32) -> String {
    format!("{first:#x} to {last:#x}")
}

fn malformed(d: &Description) -> Vec<Place> {
    let odd = d.tree.iter().flat_map(|(_, wiring)| &wiring.odd);
    let odd = odd.map(|what| place("device tree", what.as_str()));
    d.malformed.iter().map(|(at, why)| place(at.as_str(), why.as_str())).chain(odd).collect()
}

fn cca_missing(d: &Description) -> Vec<Place> {
    let bridges = d.names.iter().filter(|_| d.is_arm()).flat_map(crate::aml::Namespace::host_bridges);
    let bridges = bridges.filter(|bridge| bridge.cca.is_none() && !bridge.open);
    bridges.map(|bridge| place(bridge.path, "no _CCA, on it or above")).collect()
}

fn cca_differs(d: &Description) -> Vec<Place> {
    let bridges = d.names.iter().flat_map(crate::aml::Namespace::host_bridges);
    let said = bridges.filter_map(|bridge| {
        let node = d.iort.as_ref()?.root_complex(u32::from(bridge.segment?))?;
        let Kind::RootComplex { access, .. } = &node.kind else { return None };
        let cca = bridge.cca?;
        (u32::from(cca) != access.cca)
            .then(|| place(&*bridge.path, format!("_CCA {}, and CCA {} in {}", u8::from(cca), access.cca, at(node))))
    });
    said.collect()
}

fn access(d: &Description, is: impl Fn(&Access) -> bool) -> Vec<Place> {
    let nodes = iort(d).iter().filter_map(|node| match &node.kind {
        Kind::RootComplex { access, .. } | Kind::Named { access, .. } if is(access) => Some((node, access)),
        _ => None,
    });
    let nodes = nodes.map(|(node, it)| {
        place(at(node), format!("CCA {}, CPM {}, DACS {}", it.cca, u8::from(it.cpm()), u8::from(it.dacs())))
    });
    nodes.collect()
}

fn smmu_not_coherent(d: &Description) -> Vec<Place> {
    let coherent = iort(d).iter().filter(
        |node| matches!(&node.kind, Kind::RootComplex { access, .. } | Kind::Named { access, .. } if access.cca == 1),
    );
    let before: BTreeSet<u32> = coherent.flat_map(|node| &node.mappings).map(|mapping| mapping.to).collect();
    let nodes = iort(d).iter().filter(|node| before.contains(&node.offset));
    let nodes = nodes.filter_map(|node| match node.kind {
        Kind::SmmuV3 { flags, .. } if flags & 1 == 0 => {
            Some(place(at(node), format!("flags {flags:#x}: bit 0, COHACC override, is clear")))
        }
        _ => None,
    });
    nodes.collect()
}

fn no_mapping(d: &Description) -> Vec<Place> {
    // Without an ITS, MSIs need no mapping.
    if d.madt.as_ref().is_some_and(|madt| madt.its.is_empty()) {
        return Vec::new();
    }
    let nodes = iort(d).iter().filter(|n| matches!(n.kind, Kind::RootComplex { .. }) && n.mappings.is_empty());
    nodes.map(|node| place(at(node), "no id mappings")).collect()
}

fn ids_overlap(d: &Description) -> Vec<Place> {
    let mut out = Vec::new();
    for node in iort(d) {
        let own = own(node);
        let ranges = node.mappings.iter().enumerate().filter(|(i, m)| Some(*i) != own && !m.is_single());
        let mut ranges: Vec<_> = ranges.map(|(_, m)| (m.input, m.last())).collect();
        overlaps(&mut ranges, |first, second| {
            let found = format!("ids {} and ids {}", ids(first.0, first.1), ids(second.0, second.1));
            out.push(place(at(node), found));
        });
    }
    out
}

/// The mapping of an SMMUv3 that is for its own MSIs.
fn own(node: &IortNode) -> Option<usize> {
    match node.kind {
        Kind::SmmuV3 { own, .. } => own.and_then(|own| usize::try_from(own).ok()),
        _ => None,
    }
}

/// Calls for each range that begins before the end of those before it, with the one of these that reaches furthest.
fn overlaps(ranges: &mut [(u32, u32)], mut found: impl FnMut((u32, u32), (u32, u32))) {
    ranges.sort_unstable();
    let mut furthest: Option<(u32, u32)> = None;
    for range in ranges {
        match furthest {
            Some(before) if range.0 <= before.1 => {
                found(before, *range);
                if range.1 > before.1 {
                    furthest = Some(*range);
                }
            }
            _ => furthest = Some(*range),
        }
    }
}

fn odd_target(d: &Description) -> Vec<Place> {
    let Some(table) = &d.iort else { return Vec::new() };
    let mut out = Vec::new();
    for node in &table.nodes {
        for mapping in &node.mappings {
            let Some(to) = table.node(mapping.to) else { continue };
            let fits = match (&node.kind, &to.kind) {
                (_, Kind::Its { .. } | Kind::Other(_)) | (Kind::Other(_), _) => true,
                (Kind::RootComplex { .. } | Kind::Named { .. } | Kind::Rmr, to) => to.is_smmu(),
                _ => false,
            };
            if !fits {
                let found = format!("ids {} to {}", ids(mapping.input, mapping.last()), at(to));
                out.push(place(at(node), found));
            }
        }
    }
    out
}

/// The SMMUs whose stream ids lead on to an ITS group.
fn leads_on(table: &Iort) -> BTreeSet<u32> {
    let smmus = table.nodes.iter().filter(|node| node.kind.is_smmu());
    let smmus = smmus.filter(|node| {
        let mut mappings = node.mappings.iter().enumerate().filter(|(i, _)| Some(*i) != own(node));
        mappings.any(|(_, m)| table.node(m.to).is_some_and(|to| matches!(to.kind, Kind::Its { .. })))
    });
    smmus.map(|node| node.offset).collect()
}

fn no_msi(d: &Description) -> Vec<Place> {
    let Some(table) = &d.iort else { return Vec::new() };
    // GICv2m frames take MSIs without a word in IORT.
    if d.madt.as_ref().is_some_and(|madt| madt.its.is_empty() && !madt.frames.is_empty()) {
        return Vec::new();
    }
    let on = leads_on(table);
    let mut out = Vec::new();
    for node in table.nodes.iter().filter(|node| matches!(node.kind, Kind::RootComplex { .. })) {
        let smmu = node.mappings.iter().filter_map(|m| table.node(m.to));
        if let Some(smmu) = smmu.filter(|to| to.kind.is_smmu()).find(|to| !on.contains(&to.offset)) {
            out.push(place(at(node), format!("maps to {}, which maps to no ITS group", at(smmu))));
        }
    }
    out
}

fn its_unknown(d: &Description) -> Vec<Place> {
    let known: BTreeSet<u32> = d.madt.iter().flat_map(|madt| &madt.its).map(|(id, _)| *id).collect();
    let mut out = Vec::new();
    for node in iort(d) {
        let Kind::Its { ids } = &node.kind else { continue };
        if let Some(id) = ids.iter().find(|id| !known.contains(id)) {
            let all: Vec<String> = known.iter().take(8).map(ToString::to_string).collect();
            let all = if all.is_empty() { "none".into() } else { all.join(", ") };
            out.push(place(at(node), format!("ITS {id}; the MADT has {all}")));
        }
    }
    out
}

fn segments(d: &Description) -> BTreeSet<u32> {
    d.mcfg.iter().flatten().map(|ecam| u32::from(ecam.segment)).collect()
}

fn root_complexes(d: &Description) -> impl Iterator<Item = (&IortNode, u32)> {
    iort(d).iter().filter_map(|node| match node.kind {
        Kind::RootComplex { segment, .. } => Some((node, segment)),
        _ => None,
    })
}

fn segment_without_root_complex(d: &Description) -> Vec<Place> {
    let known: BTreeSet<u32> = root_complexes(d).map(|(_, segment)| segment).collect();
    let missing = segments(d).into_iter().filter(|segment| !known.contains(segment));
    missing
        .map(|segment| place(format!("MCFG (segment {segment})"), "no root complex in IORT has this segment"))
        .collect()
}

fn root_complex_without_segment(d: &Description) -> Vec<Place> {
    let known = segments(d);
    let spare = root_complexes(d).filter(|(_, segment)| !known.contains(segment));
    spare.map(|(node, _)| place(at(node), "not in MCFG")).collect()
}

fn root_complex_twice(d: &Description) -> Vec<Place> {
    let mut seen = BTreeSet::new();
    let again = root_complexes(d).filter(|(_, segment)| !seen.insert(*segment));
    again.map(|(node, segment)| place(at(node), format!("segment {segment} has one before"))).collect()
}

fn translated_twice(d: &Description) -> Vec<Place> {
    let (Some(table), Some(viot)) = (&d.iort, &d.viot) else { return Vec::new() };
    let behind: Vec<_> = root_complexes(d)
        .flat_map(|(node, segment)| node.mappings.iter().map(move |m| (node, segment, m)))
        .filter(|(_, _, m)| table.node(m.to).is_some_and(|to| to.kind.is_smmu()))
        .collect();
    let mut out = Vec::new();
    for (offset, range) in &viot.nodes {
        let ViotNode::PciRange { segments, rids, .. } = range else { continue };
        let both = behind.iter().find(|(_, segment, m)| {
            let here = u32::from(segments.0) <= *segment && *segment <= u32::from(segments.1);
            here && (m.is_single() || m.input <= u32::from(rids.1) && u32::from(rids.0) <= m.last())
        });
        if let Some((node, segment, m)) = both {
            let found = format!(
                "requester ids {} of segment {segment}, and {} in {}",
                ids(rids.0.into(), rids.1.into()),
                if m.is_single() { "all".into() } else { ids(m.input, m.last()) },
                at(node)
            );
            out.push(place(format!("VIOT {offset:#x} (PCI range)"), found));
        }
    }
    out
}

fn viot_ranges(d: &Description) -> impl Iterator<Item = (u16, (u16, u16), (u16, u16), u16)> {
    let nodes = d.viot.iter().flat_map(|viot| &viot.nodes);
    nodes.filter_map(|(offset, node)| match node {
        ViotNode::PciRange { segments, rids, to, .. } => Some((*offset, *segments, *rids, *to)),
        _ => None,
    })
}

fn viot_overlap(d: &Description) -> Vec<Place> {
    // A range is a rectangle of segments and requester ids: with at most 2,700 of them each is held against each.
    let all: Vec<_> = viot_ranges(d).collect();
    let meet = |a: (u16, u16), b: (u16, u16)| a.0 <= b.1 && b.0 <= a.1;
    let mut out = Vec::new();
    for (i, (offset, segments, rids, _)) in all.iter().enumerate() {
        let earlier = all.iter().take(i).find(|(_, s, r, _)| meet(*segments, *s) && meet(*rids, *r));
        if let Some((other, ..)) = earlier {
            let found = format!("requester ids {} are in VIOT {other:#x}, too", ids(rids.0.into(), rids.1.into()));
            out.push(place(format!("VIOT {offset:#x} (PCI range)"), found));
        }
    }
    out
}

fn viot_own_range(d: &Description) -> Vec<Place> {
    let Some(viot) = &d.viot else { return Vec::new() };
    let own = viot_ranges(d).filter_map(|(offset, segments, rids, to)| match viot.node(to) {
        Some(ViotNode::VirtioPci { segment, rid })
            if (segments.0..=segments.1).contains(segment) && (rids.0..=rids.1).contains(rid) =>
        {
            let found = format!("the virtio-iommu is {}, in {}", rid_of(*rid), ids(rids.0.into(), rids.1.into()));
            Some(place(format!("VIOT {offset:#x} (PCI range)"), found))
        }
        _ => None,
    });
    own.collect()
}

/// A requester id as people read it: `0x28 (00:05.0)`.
fn rid_of(rid: u16) -> String {
    format!("{rid:#x} ({:02x}:{:02x}.{})", rid >> 8, rid >> 3 & 0x1f, rid & 7)
}

fn unused(d: &Description) -> Vec<Place> {
    let mut out = Vec::new();
    let named: BTreeSet<u32> = iort(d).iter().flat_map(|node| &node.mappings).map(|m| m.to).collect();
    let smmus = iort(d).iter().filter(|node| node.kind.is_smmu() && !named.contains(&node.offset));
    out.extend(smmus.map(|node| place(at(node), "no node maps ids to it")));
    if let Some(viot) = &d.viot {
        let named: BTreeSet<u16> = viot
            .nodes
            .iter()
            .filter_map(|(_, node)| match node {
                ViotNode::PciRange { to, .. } | ViotNode::Mmio { to, .. } => Some(*to),
                _ => None,
            })
            .collect();
        let iommus = viot.nodes.iter().filter(|(offset, node)| {
            matches!(node, ViotNode::VirtioPci { .. } | ViotNode::VirtioMmio { .. }) && !named.contains(offset)
        });
        out.extend(
            iommus.map(|(offset, _)| place(format!("VIOT {offset:#x} (virtio-iommu)"), "no range refers to it")),
        );
    }
    if let Some((_, wiring)) = &d.tree {
        let maps = wiring.bridges.iter().filter_map(|bridge| bridge.iommu_map.as_ref());
        let named = maps.flat_map(|map| &map.entries).filter_map(|entry| entry.to.path.as_deref());
        let devices = wiring.devices.iter().filter_map(|device| device.iommu.as_ref()?.path.as_deref());
        let named: BTreeSet<&str> = named.chain(devices).collect();
        let iommus = wiring.iommus.iter().filter(|iommu| !named.contains(iommu.path.as_str()));
        out.extend(iommus.map(|iommu| place(&*iommu.path, "no iommu-map and no iommus refers to it")));
    }
    out
}

fn wiring(d: &Description) -> &Wiring {
    static NONE: Wiring = Wiring {
        arm: false,
        bridges: Vec::new(),
        iommus: Vec::new(),
        devices: Vec::new(),
        msi_controllers: Vec::new(),
        odd: Vec::new(),
    };
    d.tree.as_ref().map_or(&NONE, |(_, wiring)| wiring)
}

/// The IOMMUs that a host bridge is behind.
fn behind<'a>(wiring: &'a Wiring, map: &'a Option<Map>) -> Vec<&'a crate::dt::Iommu> {
    let paths = map.iter().flat_map(|map| &map.entries).filter_map(|entry| entry.to.path.as_deref());
    let paths: BTreeSet<&str> = paths.collect();
    wiring.iommus.iter().filter(|iommu| paths.contains(iommu.path.as_str())).collect()
}

fn coherent_and_not(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let all = w.bridges.iter().map(|b| &b.coherence).chain(w.iommus.iter().map(|i| &i.coherence));
    let all = all.chain(w.devices.iter().map(|device| &device.coherence)).filter(|it| it.both);
    let paths: BTreeSet<&str> = all.filter_map(|it| it.from.as_deref()).collect();
    paths.into_iter().map(|path| place(path, "dma-coherent and dma-noncoherent")).collect()
}

fn bridge_says_nothing(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let silent = w.bridges.iter().filter(|bridge| w.arm && bridge.coherence.coherent.is_none());
    silent.map(|bridge| place(&*bridge.path, "neither dma-coherent nor dma-noncoherent, on it or above")).collect()
}

/// Devices of a VMM's own process.
fn is_virtio(compatible: &[String]) -> bool {
    compatible.iter().any(|c| c == "virtio,mmio" || c == "microsoft,vmbus")
}

fn not_coherent(coherence: &crate::dt::Coherence) -> String {
    match &coherence.from {
        Some(path) => format!("dma-noncoherent of {path}"),
        None => "neither dma-coherent nor dma-noncoherent, on it or above".into(),
    }
}

fn virtio_not_coherent(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let devices = w.devices.iter().filter(|device| w.arm && is_virtio(&device.compatible));
    let iommus = w.iommus.iter().filter(|iommu| w.arm && is_virtio(&iommu.compatible));
    let all = devices.map(|it| (&it.path, &it.coherence)).chain(iommus.map(|it| (&it.path, &it.coherence)));
    let all = all.filter(|(_, coherence)| coherence.coherent != Some(true));
    all.map(|(path, coherence)| place(path.as_str(), not_coherent(coherence))).collect()
}

fn device_not_coherent(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    if !w.arm || !w.bridges.iter().any(|bridge| bridge.coherence.coherent == Some(true)) {
        return Vec::new();
    }
    let devices = w.devices.iter().filter(|it| it.coherence.coherent != Some(true) && !is_virtio(&it.compatible));
    devices.map(|it| place(&*it.path, not_coherent(&it.coherence))).collect()
}

fn iommu_not_coherent(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let mut out = Vec::new();
    for bridge in w.bridges.iter().filter(|bridge| bridge.coherence.coherent == Some(true)) {
        for iommu in behind(w, &bridge.iommu_map) {
            let smmu = iommu.compatible.iter().any(|c| c == "arm,smmu-v3");
            if smmu && iommu.coherence.coherent != Some(true) {
                let found = format!("{}; {} behind it is dma-coherent", not_coherent(&iommu.coherence), bridge.path);
                out.push(place(&*iommu.path, found));
            }
        }
    }
    out
}

fn bridge_not_coherent(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let mut out = Vec::new();
    for bridge in w.bridges.iter().filter(|bridge| bridge.coherence.coherent == Some(false)) {
        let coherent = behind(w, &bridge.iommu_map).into_iter().find(|iommu| iommu.coherence.coherent == Some(true));
        if let Some(iommu) = coherent {
            let found = format!("{}; its IOMMU {} is dma-coherent", not_coherent(&bridge.coherence), iommu.path);
            out.push(place(&*bridge.path, found));
        }
    }
    out
}

/// Every map of every bridge, with its name.
fn maps(wiring: &Wiring) -> impl Iterator<Item = (&str, &'static str, &Map)> {
    wiring.bridges.iter().flat_map(|bridge| {
        let both = [("iommu-map", &bridge.iommu_map), ("msi-map", &bridge.msi_map)];
        both.into_iter().filter_map(|(name, map)| Some((bridge.path.as_str(), name, map.as_ref()?)))
    })
}

/// Ids of an entry: `ids 0x0 to 0xffff`.
fn entry(it: &Entry) -> String {
    it.last().map_or_else(|| format!("no ids at {:#x}", it.first), |last| format!("ids {}", ids(it.first, last)))
}

fn map_nowhere(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let mut out = Vec::new();
    for (path, name, map) in maps(w) {
        for it in map.entries.iter().filter(|it| it.to.path.is_none()) {
            out.push(place(path, format!("{name}: {} to phandle {:#x}", entry(it), it.to.phandle)));
        }
    }
    let iommus = w.devices.iter().filter_map(|it| Some((it.path.as_str(), "iommus", it.iommu.as_ref()?)));
    let parents = w.bridges.iter().filter_map(|it| Some((it.path.as_str(), "msi-parent", it.msi_parent.as_ref()?)));
    for (path, name, to) in iommus.chain(parents).filter(|(.., to)| to.path.is_none()) {
        out.push(place(path, format!("{name}: phandle {:#x}", to.phandle)));
    }
    out
}

fn map_to_no_iommu(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let iommus: BTreeSet<&str> = w.iommus.iter().map(|iommu| iommu.path.as_str()).collect();
    let mut out = Vec::new();
    for (path, _, map) in maps(w).filter(|(_, name, _)| *name == "iommu-map") {
        for it in &map.entries {
            if let Some(to) = it.to.path.as_deref().filter(|to| !iommus.contains(to)) {
                out.push(place(path, format!("iommu-map: {} to {to}", entry(it))));
            }
        }
    }
    for device in &w.devices {
        let to = device.iommu.as_ref().and_then(|to| to.path.as_deref());
        if let Some(to) = to.filter(|to| !iommus.contains(to)) {
            out.push(place(&*device.path, format!("iommus: {to}")));
        }
    }
    out
}

fn iommu_in_own_map(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let own = w.iommus.iter().filter_map(|iommu| {
        let (bridge, rid) = iommu.function.as_ref()?;
        let map = w.bridges.iter().find(|it| it.path == *bridge)?.iommu_map.as_ref()?;
        let it = map.entries.iter().find(|it| it.has(u32::from(*rid) & map.mask))?;
        let itself = it.to.path.as_deref() == Some(&*iommu.path);
        itself.then(|| {
            place(&**bridge, format!("iommu-map: {} have {}, its own {}", entry(it), iommu.path, rid_of(*rid)))
        })
    });
    own.collect()
}

fn map_overlap(d: &Description) -> Vec<Place> {
    let mut out = Vec::new();
    for (path, name, map) in maps(wiring(d)) {
        let mut ranges: Vec<_> = map.entries.iter().filter_map(|it| Some((it.first, it.last()?))).collect();
        overlaps(&mut ranges, |first, second| {
            let found = format!("{name}: ids {} and ids {}", ids(first.0, first.1), ids(second.0, second.1));
            out.push(place(path, found));
        });
    }
    out
}

fn map_mask(d: &Description) -> Vec<Place> {
    let mut out = Vec::new();
    for (path, name, map) in maps(wiring(d)) {
        for it in map.entries.iter().filter(|it| it.first & !map.mask != 0) {
            out.push(place(path, format!("{name}: first id {:#x}, mask {:#x}", it.first, map.mask)));
        }
    }
    out
}

fn dt_no_msi(d: &Description) -> Vec<Place> {
    let bridges = wiring(d).bridges.iter();
    let bridges = bridges.filter(|it| it.iommu_map.is_some() && it.msi_map.is_none() && it.msi_parent.is_none());
    bridges.map(|bridge| place(&*bridge.path, "an iommu-map; no msi-map, no msi-parent")).collect()
}

fn msi_to_no_controller(d: &Description) -> Vec<Place> {
    let w = wiring(d);
    let known: BTreeSet<&str> = w.msi_controllers.iter().map(String::as_str).collect();
    let mut out = Vec::new();
    for bridge in &w.bridges {
        let map = bridge.msi_map.iter().flat_map(|map| &map.entries).map(|it| ("msi-map", &it.to));
        let all = map.chain(bridge.msi_parent.iter().map(|to| ("msi-parent", to)));
        let paths = all.filter_map(|(name, to)| Some((name, to.path.as_deref()?)));
        let wrong: BTreeSet<_> = paths.filter(|(_, to)| !known.contains(to)).collect();
        out.extend(wrong.into_iter().map(|(name, to)| place(&*bridge.path, format!("{name}: {to}"))));
    }
    out
}

fn normal_nc_unsaid(d: &Description) -> Vec<Place> {
    if !d.is_arm() {
        return Vec::new();
    }
    let bridges = d.names.iter().flat_map(crate::aml::Namespace::host_bridges).map(|bridge| bridge.path);
    let trees = d.tree.iter().flat_map(|(Tree { bridges, .. }, _)| bridges).map(|bridge| bridge.path.clone());
    let all: Vec<String> = bridges.chain(trees).take(4).collect();
    if all.is_empty() { Vec::new() } else { vec![place(all.join(", "), "no word on Normal-NC")] }
}
