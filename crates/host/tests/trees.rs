//! Facts out of hand-written trees of files, each a kind of machine; and the same again out of the snapshot that was saved of it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Copy, again, nobody_asked, resource};
use host::{Asked, Bytes, Command, Fact, Hole, Host, IommuKind, Kvm, Msix, Pa, Root, Span, Why};
use memtype::Arch;
use platform::Bdf;

fn bdf(text: &str) -> Bdf {
    text.parse().unwrap()
}

fn span(first: u64, last: u64) -> Span {
    Span::new(Pa(first), Pa(last)).unwrap()
}

/// Gathers, saves, gathers from the snapshot, and wants the same.
fn both(copy: &Copy, asked: &Asked) -> (Host, String) {
    let (host, root) = copy.gather(asked);
    assert_eq!(root.asked(), Some(asked));
    let (saved, text) = again(&root, asked, &copy.0.join("saved"));
    assert_eq!(host, saved);
    (host, text)
}

/// Configuration space: type 0, memory on, MSI-X at 0x40, a vendor's capability, PCI Express at 0x60 with `control`.
fn config(control: u16) -> Vec<u8> {
    let mut bytes = vec![0; 256];
    bytes[4] = 0x06;
    bytes[6] = 0x10;
    bytes[0x34] = 0x40;
    bytes[0x40..0x4c].copy_from_slice(&[0x11, 0x50, 0x1f, 0x80, 0x04, 0x20, 0, 0, 0x04, 0x30, 0, 0]);
    bytes[0x50..0x52].copy_from_slice(&[0x09, 0x60]);
    bytes[0x60..0x62].copy_from_slice(&[0x10, 0x00]);
    bytes[0x68..0x6a].copy_from_slice(&control.to_le_bytes());
    bytes
}

/// A node's properties, by their names.
type Properties = Vec<(&'static str, Vec<u8>)>;

/// A flattened device tree, written here: nodes by their names. The root is first, all others are in it; one that follows another begins with `<`.
fn fdt(nodes: &[(&str, Properties)]) -> Vec<u8> {
    let (mut structure, mut strings) = (Vec::new(), Vec::new());
    for (name, properties) in nodes {
        let (ends, name) = name.split_at(name.find(|c| c != '<').unwrap_or(name.len()));
        ends.bytes().for_each(|_| structure.extend(2_u32.to_be_bytes()));
        structure.extend(1_u32.to_be_bytes());
        structure.extend(name.trim_start_matches('/').bytes().chain([0]));
        structure.resize(structure.len().next_multiple_of(4), 0);
        for (property, value) in properties {
            structure.extend(3_u32.to_be_bytes());
            structure.extend((value.len() as u32).to_be_bytes());
            structure.extend((strings.len() as u32).to_be_bytes());
            structure.extend(value);
            structure.resize(structure.len().next_multiple_of(4), 0);
            strings.extend(property.bytes().chain([0]));
        }
    }
    // The last node, the root, the tree.
    [2, 2, 9_u32].iter().for_each(|word| structure.extend(word.to_be_bytes()));
    let total = 56 + structure.len() + strings.len();
    let header = [0xd00d_feed, total, 56, 56 + structure.len(), 40, 17, 16, 0, strings.len(), structure.len()];
    let mut out: Vec<u8> = header.iter().flat_map(|w| (*w as u32).to_be_bytes()).collect();
    out.extend([0; 16]);
    out.extend(structure);
    out.extend(strings);
    out
}

fn cells(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// QEMU's `virt` with an SMMUv3, as a device tree says it.
fn virt(coherent: bool) -> Vec<(&'static str, Properties)> {
    let mut pcie = vec![
        ("compatible", b"pci-host-ecam-generic\0".to_vec()),
        ("device_type", b"pci\0".to_vec()),
        ("#address-cells", cells(&[3])),
        ("#size-cells", cells(&[2])),
        ("reg", cells(&[0x40, 0x1000_0000, 0, 0x1000_0000])),
        ("bus-range", cells(&[0, 0xff])),
        ("linux,pci-domain", cells(&[0])),
        ("iommu-map", cells(&[0, 1, 0, 0x1_0000])),
        ("ranges", cells(&[0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2eff_0000])),
    ];
    if coherent {
        pcie.push(("dma-coherent", Vec::new()));
    }
    vec![
        (
            "",
            vec![
                ("compatible", b"linux,dummy-virt\0".to_vec()),
                ("#address-cells", cells(&[2])),
                ("#size-cells", cells(&[2])),
                ("serial-number", b"SERIAL-DT\0".to_vec()),
            ],
        ),
        (
            "/smmuv3@9050000",
            vec![
                ("compatible", b"arm,smmu-v3\0".to_vec()),
                ("reg", cells(&[0, 0x905_0000, 0, 0x2_0000])),
                ("phandle", cells(&[1])),
                ("#iommu-cells", cells(&[1])),
                ("dma-coherent", Vec::new()),
            ],
        ),
        ("</pcie@4010000000", pcie),
    ]
}

fn arm64(copy: &Copy) {
    copy.file("/proc/sys/kernel/osrelease", "6.12.107+deb13-arm64\n")
        .file("/proc/sys/kernel/arch", "aarch64\n")
        .file(
            "/proc/cpuinfo",
            "processor\t: 0\nBogoMIPS\t: 125.00\nFeatures\t: fp asimd atomics dgh\nCPU implementer\t: 0x41\nCPU architecture: 8\n\
             CPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n\nprocessor\t: 1\nBogoMIPS\t: 125.00\n\
             Features\t: fp asimd atomics dgh\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n\
             CPU revision\t: 1\n\nHardware\t: x\nRevision\t: x\nSerial\t\t: SERIAL-CPU\n",
        )
        .file("/proc/cmdline", "root=UUID=SERIAL-ROOT console=ttyAMA0 iommu.passthrough=0 pci=noats -- iommu=off\n")
        .file(
            "/proc/iomem",
            "09050000-0906ffff : 9050000.smmuv3 smmuv3@9050000\n10000000-3efeffff : PCI Bus 0000:00\n40000000-bfffffff : System RAM\n\
             \x20 40210000-41ffffff : Kernel code\n",
        )
        .file("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        .link("/sys/class/iommu/smmu3.0x0000000009050000", "../../devices/platform/9050000.smmuv3/iommu/smmu3.0x0000000009050000")
        .file("/sys/devices/platform/9050000.smmuv3/iommu/smmu3.0x0000000009050000/uevent", "");
}

/// An SMMUv3 in front of a device below a root port.
fn pci(copy: &Copy, above: &str) {
    let mut bridge = vec![(0, 0, 0); 17];
    bridge[7] = (0x1234_0000, 0x1234_ffff, 0x200);
    bridge[13] = (0x1000, 0x1fff, 0x101);
    bridge[14] = (0x1000_0000, 0x101f_ffff, 0x200);
    bridge[15] = (0x80_0000_0000, 0x80_1fff_ffff, 0x10_2201);
    let port = format!("{above}/0000:00:01.0");
    let gpu = format!("{port}/0000:01:00.0");
    let lines = [
        (0x1000_0000, 0x1000_0fff, 0x4_0200),
        (0, 0, 0),
        (0x80_0000_0000, 0x80_0fff_ffff, 0x14_220c),
        (0, 0, 0),
        (0x0, 0xffff, 0x2004_0200),
        (0x1000, 0x107f, 0x4_0101),
    ];
    let at = |file: &str| format!("/sys/devices/{gpu}/{file}");
    copy.function(&port, (0x1b36, 0x000c), 0x06_0400, &resource(&bridge))
        .function(&gpu, (0x10de, 0x2330), 0x03_0200, &resource(&lines))
        .file(&at("config"), config(0x2810))
        .file(&at("power_state"), "D0\n")
        .file(&at("resource0"), "")
        .file(&at("resource2"), "")
        .file(&at("resource2_wc"), "")
        .file(&at("vfio-dev/vfio0/dev"), "")
        .link(&at("driver"), "../../../../../bus/pci/drivers/vfio-pci")
        .link(&at("iommu_group"), "../../../../../kernel/iommu_groups/7")
        .link(&at("iommu"), "../../../../platform/9050000.smmuv3/iommu/smmu3.0x0000000009050000")
        .file("/sys/kernel/iommu_groups/7/type", "DMA\n")
        .file("/sys/kernel/iommu_groups/7/devices/0000:01:00.0", "")
        .file("/sys/kernel/iommu_groups/7/devices/0000:00:01.0", "")
        .file("/sys/bus/pci/drivers/vfio-pci/bind", "")
        .file("/dev/vfio/vfio", "");
}

#[test]
fn arm64_with_a_device_tree() {
    let copy = Copy::new();
    arm64(&copy);
    pci(&copy, "platform/4010000000.pcie/pci0000:00");
    copy.link("/sys/devices/platform/4010000000.pcie/of_node", "../../../firmware/devicetree/base/pcie@4010000000");
    copy.file("/sys/firmware/fdt", fdt(&virt(true)));
    let mmfr2 = 1 << 40;
    let kvm = Kvm {
        cacheable_pfnmap: Some(false),
        mmfr2: Some(mmfr2),
        ctr: Some(1 << 29),
        quirks: None,
        ipa_bits: Some(48),
        nested_paging: None,
        vfio_device: Some(true),
    };
    let asked = Asked { kvm: Fact::Known(kvm), page: Bytes(65536), ..nobody_asked() };
    let (host, text) = both(&copy, &asked);

    assert_eq!(host.kernel.arch, Some(Arch::Arm64));
    assert_eq!(host.kernel.version, Some((6, 12, 107)));
    assert_eq!(host.kernel.page, Bytes(65536));
    assert_eq!(host.kernel.parameters, Fact::Known(vec!["iommu.passthrough=0".into(), "pci=noats".into()]));
    assert_eq!(host.kernel.lockdown, Fact::Known("integrity".into()));
    assert_eq!(host.cpu.midr.known().unwrap().iter().map(|m| m.0).collect::<Vec<_>>(), [0x413f_d0c1]);
    assert_eq!(host.cpu.model, Fact::Known("Arm Neoverse N1 r3p1".into()));
    assert_eq!((&host.cpu.fwb, &host.cpu.dic), (&Fact::Known(true), &Fact::Known(true)));
    assert_eq!((&host.cpu.dgh, &host.cpu.ls64), (&Fact::Known(true), &Fact::Known(false)));
    assert_eq!((&host.cpu.pat, &host.pat, &host.mtrr), (&Fact::Absent, &Fact::Absent, &Fact::Absent));
    assert_eq!(host.ram, Fact::Known(vec![span(0x4000_0000, 0xbfff_ffff)]));
    assert_eq!((host.vfio.container, host.vfio.iommufd, host.vfio.driver), (true, false, true));
    assert_eq!(
        (host.firmware.kind, host.firmware.compatible.as_slice()),
        (Some("device-tree"), &["linux,dummy-virt".to_owned()][..])
    );

    let smmu = &host.iommus["smmu3.0x0000000009050000"];
    assert_eq!(
        (smmu.kind, &smmu.enforces, &smmu.coherent_walk),
        (IommuKind::SmmuV3, &Fact::Known(false), &Fact::Known(true))
    );
    assert!(matches!(smmu.s2fwb.hole(), Some(Hole { why: Why::NotAsked(_), .. })));

    let port = &host.functions[&bdf("00:01.0")];
    assert_eq!(
        port.windows.iter().map(|w| (w.span, w.prefetchable, w.io)).collect::<Vec<_>>(),
        [
            (span(0x1000, 0x1fff), false, true),
            (span(0x1000_0000, 0x101f_ffff), false, false),
            (span(0x80_0000_0000, 0x80_1fff_ffff), true, false),
        ]
    );
    let gpu = &host.functions[&bdf("01:00.0")];
    assert_eq!(gpu.above, [bdf("00:01.0")]);
    assert_eq!((gpu.id.to_string(), gpu.class), ("10de:2330".into(), 0x03_0200));
    assert_eq!(gpu.name.unwrap().0, "NVIDIA Corporation");
    let bars: Vec<_> =
        gpu.bars.iter().map(|b| (b.index, b.at, b.size.0, b.io, b.wide, b.prefetchable, b.file, b.file_wc)).collect();
    assert_eq!(
        bars,
        [
            (0, Some(span(0x1000_0000, 0x1000_0fff)), 0x1000, false, false, false, true, false),
            (2, Some(span(0x80_0000_0000, 0x80_0fff_ffff)), 0x1000_0000, false, true, true, true, true),
            (4, None, 0x1_0000, false, false, false, false, false),
            (5, Some(span(0x1000, 0x107f)), 0x80, true, false, false, false, false),
        ]
    );
    assert_eq!(
        gpu.bars.iter().map(|b| b.behind.as_slice()).collect::<Vec<_>>(),
        [&port.windows[1..2], &port.windows[2..3], &[], &port.windows[..1]]
    );
    assert_eq!((gpu.driver.known().unwrap().as_str(), gpu.vfio_cdev.as_deref()), ("vfio-pci", Some("vfio0")));
    let group = gpu.group.known().unwrap();
    assert_eq!(
        (group.number, &group.kind, group.members.as_slice()),
        (7, &Fact::Known("DMA".into()), &[bdf("00:01.0"), bdf("01:00.0")][..])
    );
    assert_eq!(gpu.iommu, Fact::Known("smmu3.0x0000000009050000".into()));
    assert!(host.iommus.contains_key(gpu.iommu.known().unwrap()));
    assert_eq!(gpu.command, Fact::Known(Command { memory: true, master: true }));
    assert_eq!((&gpu.no_snoop, &gpu.power), (&Fact::Known(true), &Fact::Known("D0".into())));
    assert_eq!(gpu.msix, Fact::Known(Msix { vectors: 32, table: (4, 0x2000), pba: (4, 0x3000) }));
    let coherent = gpu.coherent.known().unwrap();
    assert_eq!((coherent.coherent, coherent.says.as_str()), (true, "dma-coherent of /pcie@4010000000"));
    assert_eq!(port.command, Fact::Absent);

    assert!(!text.contains("SERIAL"), "{text}");
}

/// Who may not read `/sys/firmware/fdt` finds the same in the files of the tree; without `dma-coherent` it is arm64's default.
#[test]
fn a_device_tree_out_of_its_files() {
    for coherent in [true, false] {
        let [flattened, files] = [Copy::new(), Copy::new()];
        for copy in [&flattened, &files] {
            arm64(copy);
            pci(copy, "platform/4010000000.pcie/pci0000:00");
        }
        let tree = virt(coherent);
        flattened.file("/sys/firmware/fdt", fdt(&tree));
        for (name, properties) in &tree {
            for (property, value) in properties {
                files.file(&format!("/sys/firmware/devicetree/base{}/{property}", name.trim_start_matches('<')), value);
            }
        }
        let [(a, _), (b, text)] = [both(&flattened, &nobody_asked()), both(&files, &nobody_asked())];
        assert_eq!(a.firmware, b.firmware);
        assert_eq!(a.iommus, b.iommus);
        assert_eq!(a.functions, b.functions);
        let says = a.functions[&bdf("01:00.0")].coherent.known().unwrap();
        assert_eq!(says.coherent, coherent, "{says:?}");
        assert!(!text.contains("SERIAL"), "{text}");
    }
}

/// An ACPI table of a body.
fn table(name: &str, body: &[u8]) -> Vec<u8> {
    let mut out = name.as_bytes().to_vec();
    out.extend((36 + body.len() as u32).to_le_bytes());
    out.extend([2, 0]);
    out.extend(b"OEMIDXOEMTABLE");
    out.resize(36, 0);
    out.extend(body);
    out[9] = out.iter().fold(0_u8, |sum, b| sum.wrapping_sub(*b));
    out
}

/// IORT: a root complex of segment 0 that goes to an SMMUv3 at 0x9050000.
fn iort(canwbs: bool, cohacc: bool) -> Vec<u8> {
    let node = |kind: u8, mappings: &[[u32; 5]], data: &[u8]| {
        let offset = 16 + data.len();
        let mut out = vec![kind];
        out.extend(((offset + mappings.len() * 20) as u16).to_le_bytes());
        out.push(4);
        out.extend([0; 4]);
        out.extend((mappings.len() as u32).to_le_bytes());
        out.extend(if mappings.is_empty() { 0 } else { offset as u32 }.to_le_bytes());
        out.extend(data);
        mappings.iter().flatten().for_each(|word| out.extend(word.to_le_bytes()));
        out
    };
    let mut smmu = vec![0; 52];
    smmu[..8].copy_from_slice(&0x905_0000_u64.to_le_bytes());
    smmu[8] = u8::from(cohacc);
    let smmu = node(4, &[], &smmu);
    let mut root = vec![0; 20];
    root[0] = 1;
    root[7] = 3 | u8::from(canwbs) << 2;
    root[16] = 64;
    let root = node(2, &[[0, 0xffff, 0, 48, 0]], &root);
    let mut body = Vec::new();
    body.extend(2_u32.to_le_bytes());
    body.extend(48_u32.to_le_bytes());
    body.extend([0; 4]);
    body.extend(smmu);
    body.extend(root);
    table("IORT", &body)
}

/// A DSDT: `Scope (\_SB) { Device (PCI0) { Name (_HID, EisaId ("PNP0A08")) … } }`.
fn dsdt(cca: Option<bool>) -> Vec<u8> {
    let mut device = b"PCI0".to_vec();
    device.extend([0x08, b'_', b'H', b'I', b'D', 0x0c, 0x41, 0xd0, 0x0a, 0x08]);
    device.extend([0x08, b'_', b'S', b'E', b'G', 0x00]);
    if let Some(cca) = cca {
        device.extend([0x08, b'_', b'C', b'C', b'A', u8::from(cca)]);
    }
    let mut scope = b"\\_SB_".to_vec();
    scope.extend([0x5b, 0x82, device.len() as u8 + 1]);
    scope.extend(device);
    let mut body = vec![0x10, scope.len() as u8 + 1];
    body.extend(scope);
    table("DSDT", &body)
}

#[test]
fn arm64_with_acpi() {
    let gathered = |cca, canwbs, cohacc, release: &str| {
        let copy = Copy::new();
        arm64(&copy);
        pci(&copy, "pci0000:00");
        copy.file("/sys/firmware/acpi/tables/IORT", iort(canwbs, cohacc))
            .file("/sys/firmware/acpi/tables/DSDT", dsdt(cca))
            .file("/sys/firmware/fdt", "the boot loader's stub")
            .file("/proc/sys/kernel/osrelease", release)
            .file("/sys/devices/pci0000:00/firmware_node/path", "\\_SB_.PCI0\n");
        both(&copy, &nobody_asked()).0
    };
    let host = gathered(Some(true), true, true, "7.2.13");
    assert_eq!(host.firmware.kind, Some("acpi"));
    assert_eq!(host.firmware.cca.known().unwrap().get("\\_SB.PCI0"), Some(&true));
    assert_eq!(host.firmware.iort.known().unwrap().nodes.len(), 2);
    let smmu = &host.iommus["smmu3.0x0000000009050000"];
    assert_eq!((&smmu.enforces, &smmu.coherent_walk), (&Fact::Known(true), &Fact::Known(true)));
    let coherent = host.functions[&bdf("01:00.0")].coherent.known().unwrap();
    assert_eq!((coherent.coherent, coherent.says.as_str()), (true, "_CCA of \\_SB.PCI0"));
    // Nobody asked KVM, and there is no log.
    assert!(host.cpu.fwb.hole().is_some());

    // Linux 6.12 does not use CANWBS; between is not known; without it there is nothing to use.
    let enforces = |canwbs, release| {
        gathered(Some(true), canwbs, true, release).iommus["smmu3.0x0000000009050000"].enforces.clone()
    };
    assert_eq!(enforces(true, "6.12.1"), Fact::Known(false));
    assert!(enforces(true, "6.15.0").hole().is_some());
    assert_eq!(enforces(false, "7.2.0"), Fact::Known(false));
    // Without the override flag the walks are not coherent, whatever IDR0 says.
    assert_eq!(
        gathered(Some(true), true, false, "7.2.0").iommus["smmu3.0x0000000009050000"].coherent_walk,
        Fact::Known(false)
    );
    // No _CCA, on arm64: no DMA.
    let none = gathered(None, true, true, "7.2.0");
    let coherent = none.functions[&bdf("01:00.0")].coherent.known().unwrap();
    assert!(!coherent.coherent && coherent.says.contains("no DMA"), "{coherent:?}");
    let not = gathered(Some(false), true, true, "7.2.0");
    assert!(!not.functions[&bdf("01:00.0")].coherent.known().unwrap().coherent);
}

/// The kernel's log says FWB, where KVM was not asked: its absence says no only if the log begins at boot.
#[test]
fn fwb_out_of_the_log() {
    let boot =
        "6,0,0,-;Booting Linux on physical CPU 0x0000000000 [0x413fd0c1]\n5,1,0,-;Linux version 6.12 (SERIAL@host)\n";
    let fwb = "6,90,100,-;CPU features: detected: Stage-2 Force Write-Back\n";
    let other = "6,91,100,-;CPU features: detected: CRC32 instructions\n SUBSYSTEM=cpu\n";
    let gathered = |log: String| {
        let copy = Copy::new();
        arm64(&copy);
        copy.file("/dev/kmsg", log);
        let (host, text) = both(&copy, &nobody_asked());
        assert!(!text.contains("SERIAL"), "{text}");
        host.cpu.fwb
    };
    assert_eq!(gathered(format!("{boot}{fwb}{other}")), Fact::Known(true));
    assert_eq!(gathered(format!("{boot}{other}")), Fact::Known(false));
    assert_eq!(gathered(format!("{other}{fwb}")), Fact::Known(true));
    assert!(gathered(other.to_string()).hole().is_some());
    // As dmesg prints it.
    assert_eq!(
        gathered("[    0.000000] Booting Linux on physical CPU 0x0\n[    0.000000] x\n".into()),
        Fact::Known(false)
    );
}

fn x86(copy: &Copy, flags: &str) {
    copy.file("/proc/sys/kernel/osrelease", "6.12.85-amd64\n")
        .file("/proc/sys/kernel/arch", "x86_64\n")
        .file(
            "/proc/cpuinfo",
            format!("processor\t: 0\nvendor_id\t: X\nmodel name\t: A CPU\nflags\t\t: fpu {flags}\n\n"),
        )
        .file("/proc/cmdline", "quiet\n");
}

#[test]
fn x86_with_vt_d() {
    let copy = Copy::new();
    x86(&copy, "pat mtrr ss movdir64b");
    pci(&copy, "pci0000:00");
    copy.link("/sys/class/iommu/dmar0", "../../devices/virtual/iommu/dmar0")
        .link("/sys/class/iommu/dmar1", "../../devices/virtual/iommu/dmar1")
        .file("/sys/devices/virtual/iommu/dmar0/intel-iommu/ecap", "f020df\n")
        .file("/sys/devices/virtual/iommu/dmar1/intel-iommu/ecap", "f0205e\n")
        .file("/sys/firmware/acpi/tables/DSDT", dsdt(None))
        .file(
            "/sys/kernel/debug/x86/pat_memtype_list",
            "PAT memtype list:\nPAT: [mem 0x0000000010000000-0x0000000010001000] uncached-minus\n",
        )
        .file("/proc/mtrr", "reg00: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable\n")
        .file("/sys/module/kvm_intel/parameters/ept", "Y\n");
    let kvm = Kvm {
        cacheable_pfnmap: None,
        mmfr2: None,
        ctr: None,
        quirks: Some(0x7ff),
        ipa_bits: None,
        nested_paging: None,
        vfio_device: Some(true),
    };
    let (host, _) = both(&copy, &Asked { kvm: Fact::Known(kvm), ..nobody_asked() });
    assert_eq!(host.kernel.arch, Some(Arch::X86));
    assert_eq!(host.kernel.hypervisor, Fact::Absent);
    assert_eq!(
        (&host.cpu.pat, &host.cpu.self_snoop, &host.cpu.movdir64b),
        (&Fact::Known(true), &Fact::Known(true), &Fact::Known(true))
    );
    assert_eq!(host.kvm.known().unwrap().nested_paging, Some(true));
    let [zero, one] = [&host.iommus["dmar0"], &host.iommus["dmar1"]];
    assert_eq!((zero.kind, zero.register), (IommuKind::IntelVtd, Some(0xf0_20df)));
    assert_eq!((&zero.enforces, &zero.coherent_walk), (&Fact::Known(true), &Fact::Known(true)));
    assert_eq!((&one.enforces, &one.coherent_walk), (&Fact::Known(false), &Fact::Known(false)));
    let reserved = &host.pat.known().unwrap()[0];
    assert_eq!(
        (reserved.first, reserved.last, reserved.kind),
        (0x1000_0000, 0x1000_0fff, host::Cachemode::UncachedMinus)
    );
    let mtrr = &host.mtrr.known().unwrap()[0];
    assert_eq!((mtrr.register, mtrr.span, mtrr.kind), (0, span(0xc000_0000, 0xffff_ffff), memtype::x86::Type::Uc));
    assert!(host.functions[&bdf("01:00.0")].coherent.known().unwrap().coherent);
    assert!(host.ram.hole().is_some());
}

#[test]
fn x86_with_amd_vi_in_a_guest_without_pat() {
    let copy = Copy::new();
    x86(&copy, "pat mtrr hypervisor");
    copy.file("/proc/cmdline", "nopat amd_iommu=on\n")
        .link("/sys/class/iommu/ivhd0", "../../devices/pci0000:00/0000:00:00.2/iommu/ivhd0")
        .file("/sys/devices/pci0000:00/0000:00:00.2/iommu/ivhd0/amd-iommu/features", "25bf732fa2295afe:1d\n")
        .file("/sys/class/dmi/id/sys_vendor", "QEMU\n")
        .file("/sys/kernel/debug/x86/cpa_stats", "")
        .file("/sys/kernel/security/lsm", "capability\n");
    let (host, _) = both(&copy, &nobody_asked());
    let iommu = &host.iommus["ivhd0"];
    assert_eq!(
        (iommu.kind, &iommu.enforces, &iommu.coherent_walk),
        (IommuKind::Amd, &Fact::Known(true), &Fact::Known(true))
    );
    // Which of the two is EFR is not told.
    assert_eq!(iommu.register, None);
    assert_eq!(host.kernel.hypervisor, Fact::Known("QEMU".into()));
    assert_eq!(host.cpu.pat, Fact::Known(false));
    // debugfs is there and the list is not: PAT is off. securityfs is there and lockdown is not: there is none.
    assert_eq!((&host.pat, &host.kernel.lockdown), (&Fact::Absent, &Fact::Absent));
}

#[test]
fn a_virtio_iommu_is_told_by_its_parent() {
    let copy = Copy::new();
    x86(&copy, "pat");
    copy.link("/sys/class/iommu/0000:00:04.0", "../../devices/pci0000:00/0000:00:04.0/virtio1/iommu/0000:00:04.0")
        .file("/sys/devices/pci0000:00/0000:00:04.0/virtio1/iommu/0000:00:04.0/uevent", "");
    assert_eq!(both(&copy, &nobody_asked()).0.iommus["0000:00:04.0"].kind, IommuKind::Virtio);
}

/// Nothing there is no error, and the only holes are of what every machine has.
#[test]
fn a_machine_without_anything() {
    let copy = Copy::new();
    let (host, text) = both(&copy, &nobody_asked());
    assert!(host.functions.is_empty() && host.iommus.is_empty() && host.errata.is_empty());
    assert_eq!((&host.kvm, &host.firmware.iort, &host.firmware.mcfg), (&Fact::Absent, &Fact::Absent, &Fact::Absent));
    assert_eq!(
        (&host.firmware.cca, &host.firmware.bridges, &host.vfio.noiommu),
        (&Fact::Absent, &Fact::Absent, &Fact::Absent)
    );
    assert!(!host.vfio.container && !host.vfio.driver && !host.vfio.iommufd);
    let holes: Vec<&str> = host.holes.iter().map(|h| h.at.as_str()).collect();
    assert_eq!(holes, ["/proc/sys/kernel/osrelease", "/proc/cmdline", "hypervisor", "/proc/cpuinfo", "/proc/iomem"]);
    assert!(text.lines().count() < 60, "{text}");
}

/// Without root: 64 bytes of configuration space, no addresses in iomem.
#[test]
fn what_is_cut_or_hidden_is_a_hole() {
    let copy = Copy::new();
    arm64(&copy);
    pci(&copy, "pci0000:00");
    copy.file("/proc/iomem", "00000000-00000000 : PCI Bus 0000:00\n00000000-00000000 : System RAM\n");
    let config = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/config";
    copy.file(config, &self::config(0)[..64]);
    let (host, _) = both(&copy, &nobody_asked());
    let denied = |at: &str| Hole { at: at.into(), why: Why::Denied };
    assert_eq!(host.ram.hole(), Some(&denied("/proc/iomem")));
    let gpu = &host.functions[&bdf("01:00.0")];
    assert_eq!(gpu.command, Fact::Known(Command { memory: true, master: true }));
    assert_eq!((gpu.no_snoop.hole(), gpu.msix.hole()), (Some(&denied(config)), Some(&denied(config))));
    assert_eq!(host.holes.iter().filter(|h| h.at == config).count(), 1);
}

/// A device that sleeps in D3cold is not woken; one that is gone says nothing.
#[test]
fn asleep_and_gone() {
    let copy = Copy::new();
    arm64(&copy);
    pci(&copy, "pci0000:00");
    let folder = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    copy.file(&format!("{folder}/power_state"), "D3cold\n");
    let (host, text) = both(&copy, &nobody_asked());
    assert!(matches!(host.functions[&bdf("01:00.0")].command.hole(), Some(Hole { why: Why::NotAsked(_), .. })));
    assert!(!text.contains(&format!("{folder}/config\": {{\"bytes")), "{text}");
    copy.file(&format!("{folder}/power_state"), "D3hot\n").file(&format!("{folder}/config"), [0xFF; 256]);
    let (host, _) = both(&copy, &nobody_asked());
    assert!(matches!(host.functions[&bdf("01:00.0")].command.hole(), Some(Hole { why: Why::Failed(_), .. })));
}

/// A virtual function has its Enable No Snoop and its memory decode from the physical one.
#[test]
fn a_virtual_function() {
    let copy = Copy::new();
    arm64(&copy);
    pci(&copy, "pci0000:00");
    let folder = "pci0000:00/0000:00:01.0/0000:01:00.1";
    let mut config = config(0);
    config[4] = 0x04;
    copy.function(folder, (0x10de, 0x2331), 0x03_0200, &resource(&[(0x80_1000_0000, 0x80_1000_ffff, 0x14_220c)]))
        .file(&format!("/sys/devices/{folder}/config"), config)
        .link(&format!("/sys/devices/{folder}/physfn"), "../0000:01:00.0");
    let (host, _) = both(&copy, &nobody_asked());
    let vf = &host.functions[&bdf("01:00.1")];
    assert_eq!(vf.physical, Some(bdf("01:00.0")));
    assert_eq!(vf.command, Fact::Known(Command { memory: true, master: true }));
    assert_eq!(vf.no_snoop, Fact::Known(true));
}

/// Ampere's root port has an erratum by its id; a Neoverse N1 none by its MIDR.
#[test]
fn errata_by_root_port() {
    let copy = Copy::new();
    arm64(&copy);
    copy.function("pci0000:00/0000:00:01.0", (0x1def, 0xe100), 0x06_0400, &resource(&[(0, 0, 0); 17]));
    assert_eq!(both(&copy, &nobody_asked()).0.errata, ["altra-pcie65"]);
}

/// Serial numbers wherever a machine has them, and what names it.
#[test]
fn no_serial_number_gets_into_a_snapshot() {
    let copy = Copy::new();
    arm64(&copy);
    pci(&copy, "pci0000:00");
    let device = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0";
    let mut space = config(0);
    // VPD at 0x80, with text behind it; extended capability 3, Device Serial Number, at 0x100.
    space[0x60 + 1] = 0x80;
    space[0x80..0x82].copy_from_slice(&[0x03, 0x00]);
    space[0x84..0x8c].copy_from_slice(b"SERIALV1");
    space.extend([0x03, 0x00, 0x01, 0x00]);
    space.extend(b"SERIALD2");
    space.resize(4096, 0);
    copy.file(&format!("{device}/config"), space)
        .file(&format!("{device}/vpd"), "SERIAL")
        .file(&format!("{device}/serial_number"), "SERIAL")
        .file(&format!("{device}/net/eth0/address"), "SERIAL")
        .file(&format!("{device}/label"), "SERIAL")
        .file("/sys/class/dmi/id/product_serial", "SERIAL")
        .file("/sys/class/dmi/id/product_uuid", "SERIAL")
        .file("/sys/class/dmi/id/board_serial", "SERIAL")
        .file("/proc/sys/kernel/hostname", "SERIAL")
        .file("/etc/machine-id", "SERIAL")
        .file("/proc/cmdline", "systemd.machine_id=SERIAL ip=::::SERIAL iommu=pt\n");
    let tree = virt(true);
    for (name, properties) in &tree {
        for (property, value) in properties {
            copy.file(&format!("/sys/firmware/devicetree/base{}/{property}", name.trim_start_matches('<')), value);
        }
    }
    copy.file("/sys/firmware/devicetree/base/chosen/bootargs", "SERIAL")
        .file("/sys/firmware/devicetree/base/ethernet@0/local-mac-address", "SERIAL");
    let (host, text) = both(&copy, &nobody_asked());
    assert!(host.functions.len() == 2 && host.firmware.kind == Some("device-tree"));
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    for secret in ["SERIAL".to_owned(), hex("SERIAL"), hex("SERIALV1"), hex("SERIALD2")] {
        assert!(!text.contains(&secret), "{secret} in {text}");
    }
}

/// This machine, whatever it is.
#[test]
fn this_machine() {
    let folder = Copy::new();
    let root = Root::live();
    let host = Host::gather(&root, &nobody_asked());
    let (saved, _) = again(&root, &nobody_asked(), &folder.0.join("saved"));
    assert_eq!(host, saved);
    assert!(host.kernel.arch.is_some());
    assert!(serde_json::to_string(&host).unwrap().len() > 100);
}

/// A folder that holds neither.
#[test]
fn a_folder_of_something_else() {
    let copy = Copy::new();
    let error = Root::at(&copy.0.join("elsewhere")).unwrap_err().to_string();
    assert!(error.contains("snapshot.json") && error.contains("--save"), "{error}");
    copy.file("snapshot.json", "{\"format\": 99}");
    let error = Root::at(&copy.0).unwrap_err().to_string();
    assert!(error.contains("format 99"), "{error}");
    copy.file("snapshot.json", "{\"format\": 1, \"asked\": 3, \"files\": {}}");
    assert!(Root::at(&copy.0).unwrap_err().to_string().contains("line 1"));
}
