//! Machines in code, for tests.

use std::collections::BTreeMap;

use ::host::*;
use memtype::{Arch, x86};
use platform::Bdf;
use platform::errata::PciId;

fn hole<T>(at: &str, why: Why) -> Fact<T> {
    Fact::Hole(Hole { at: at.into(), why })
}

/// A machine of which nothing is known.
pub(super) fn nothing() -> Host {
    let absent = || Fact::Absent;
    Host {
        kernel: Kernel {
            release: absent().map(|()| String::new()),
            version: None,
            arch: None,
            page: Bytes(4096),
            parameters: Fact::Absent,
            lockdown: Fact::Absent,
            hypervisor: Fact::Absent,
        },
        cpu: Cpu {
            model: Fact::Absent,
            midr: Fact::Absent,
            fwb: Fact::Absent,
            dic: Fact::Absent,
            ls64: Fact::Absent,
            dgh: Fact::Absent,
            pat: Fact::Absent,
            mtrr: Fact::Absent,
            self_snoop: Fact::Absent,
            movdir64b: Fact::Absent,
            vmx: Fact::Absent,
            svm: Fact::Absent,
        },
        kvm: Fact::Absent,
        vfio: Vfio { container: false, iommufd: false, driver: false, noiommu: Fact::Absent },
        iommus: BTreeMap::new(),
        functions: BTreeMap::new(),
        firmware: Firmware {
            kind: None,
            compatible: Vec::new(),
            iort: Fact::Absent,
            mcfg: Fact::Absent,
            viot: Fact::Absent,
            cca: Fact::Absent,
            bridges: Fact::Absent,
        },
        pat: Fact::Absent,
        mtrr: Fact::Absent,
        ram: Fact::Absent,
        errata: Vec::new(),
        holes: Vec::new(),
    }
}

pub(super) fn bdf(text: &str) -> Bdf {
    text.parse().unwrap()
}

fn span(first: u64, size: u64) -> Span {
    Span::new(Pa(first), Pa(first + size - 1)).unwrap()
}

fn function(at: &str, id: &str, class: u32, name: Option<(&'static str, Option<&'static str>)>) -> Function {
    Function {
        bdf: bdf(at),
        id: id.parse::<PciId>().unwrap(),
        name,
        class,
        bars: Vec::new(),
        windows: Vec::new(),
        above: Vec::new(),
        driver: Fact::Absent,
        group: Fact::Absent,
        iommu: Fact::Absent,
        vfio_cdev: None,
        command: hole("config", Why::Denied),
        power: Fact::Known("D0".into()),
        no_snoop: Fact::Known(true),
        msix: Fact::Absent,
        physical: None,
        coherent: Fact::Absent,
        opened: hole("VFIO_GROUP_GET_DEVICE_FD", Why::NotAsked("bartender inspect BDF --open".into())),
    }
}

fn bar(index: u8, at: u64, size: u64, prefetchable: bool) -> Bar {
    Bar {
        index,
        at: Some(span(at, size)),
        size: Bytes(size),
        io: false,
        wide: prefetchable,
        prefetchable,
        file: true,
        file_wc: prefetchable,
        behind: Vec::new(),
    }
}

/// An arm64 server: a root port, a GPU bound to vfio-pci, an NVMe disk that is not.
pub(super) fn arm() -> Host {
    let mut host = nothing();
    host.kernel.release = Fact::Known("6.12.107-arm64".into());
    host.kernel.version = Some((6, 12, 107));
    host.kernel.arch = Some(Arch::Arm64);
    host.cpu.midr = Fact::Known(vec![platform::errata::Midr(0x411f_d0d0)]);
    host.cpu.fwb = Fact::Known(true);
    host.cpu.dic = Fact::Known(true);
    host.cpu.ls64 = Fact::Known(false);
    host.cpu.dgh = Fact::Known(true);
    host.kvm = Fact::Known(Kvm {
        cacheable_pfnmap: None,
        mmfr2: Some(1 << 40),
        ctr: None,
        quirks: None,
        ipa_bits: Some(48),
        nested_paging: None,
        vfio_device: Some(true),
    });
    host.vfio = Vfio { container: true, iommufd: false, driver: true, noiommu: Fact::Known(false) };
    host.iommus.insert(
        "smmu3.0x0000000009050000".into(),
        Iommu {
            kind: IommuKind::SmmuV3,
            enforces: Fact::Known(false),
            coherent_walk: Fact::Known(true),
            s2fwb: hole("IOMMU_GET_HW_INFO", Why::NotAsked("--open".into())),
            register: None,
        },
    );
    host.firmware.kind = Some("acpi");
    host.firmware.iort = Fact::Known(firmware::iort::Iort {
        nodes: vec![firmware::iort::Node {
            offset: 48,
            kind: firmware::iort::Kind::RootComplex {
                segment: 0,
                access: firmware::iort::Access { cca: 1, hints: 0, flags: 3 },
                ats: 0,
            },
            mappings: Vec::new(),
        }],
    });
    host.firmware.cca = Fact::Known([(r"\_SB.PCI0".to_owned(), true)].into());
    host.errata = vec!["altra-pcie65"];
    let port = bdf("0000:00:01.0");
    let window = Window { bridge: port, span: span(0x80_0000_0000, 0x2_0000_0000), prefetchable: true, io: false };
    let small = Window { bridge: port, span: span(0x1000_0000, 0x200_0000), prefetchable: false, io: false };
    let mut bridge = function("0000:00:01.0", "1def:e100", 0x06_0400, Some(("Ampere Computing, LLC", None)));
    bridge.windows = vec![small, window];
    bridge.driver = Fact::Known("pcieport".into());
    let mut gpu =
        function("0000:01:00.0", "10de:2331", 0x03_0200, Some(("NVIDIA Corporation", Some("GH100 [H100 PCIe]"))));
    gpu.bars = vec![bar(0, 0x1000_0000, 0x100_0000, false), bar(2, 0x80_0000_0000, 0x1_0000_0000, true)];
    gpu.bars[0].behind = vec![small];
    gpu.bars[1].behind = vec![window];
    gpu.above = vec![port];
    gpu.driver = Fact::Known("vfio-pci".into());
    gpu.iommu = Fact::Known("smmu3.0x0000000009050000".into());
    gpu.group = Fact::Known(Group { number: 12, kind: Fact::Known("DMA".into()), members: vec![gpu.bdf] });
    gpu.msix = Fact::Known(Msix { vectors: 6, table: (0, 0xb9_0000), pba: (0, 0xba_0000) });
    gpu.coherent = Fact::Known(Coherent { coherent: true, says: r"_CCA of \_SB.PCI0".into() });
    let mut disk = function("0000:02:00.0", "1d0f:8061", 0x01_0802, None);
    disk.bars = vec![bar(0, 0x1180_0000, 0x4_0000, false), Bar { io: true, ..bar(4, 0x1000, 0x20, false) }];
    disk.bars[0].behind = vec![small];
    disk.above = vec![port];
    disk.driver = Fact::Known("nvme".into());
    disk.group = Fact::Known(Group { number: 13, kind: hole("type", Why::Denied), members: vec![disk.bdf] });
    host.functions = [bridge, gpu, disk].into_iter().map(|f| (f.bdf, f)).collect();
    for bdf in host.functions.keys().copied().collect::<Vec<_>>() {
        host.holes.push(Hole { at: format!("/sys/bus/pci/devices/{bdf}/config"), why: Why::Denied });
    }
    host.holes.push(Hole {
        at: "VFIO_GROUP_GET_DEVICE_FD".into(),
        why: Why::NotAsked("`bartender inspect 0000:01:00.0 --open`, which resets the device".into()),
    });
    host
}

/// An x86 server with VT-d that has no snoop control.
pub(super) fn intel() -> Host {
    let mut host = arm();
    host.kernel.release = Fact::Known("7.2.13-amd64".into());
    host.kernel.version = Some((7, 2, 13));
    host.kernel.arch = Some(Arch::X86);
    host.kernel.hypervisor = Fact::Known("KVM".into());
    host.cpu = Cpu {
        model: Fact::Known("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz".into()),
        pat: Fact::Known(true),
        mtrr: Fact::Known(true),
        self_snoop: Fact::Known(true),
        movdir64b: Fact::Known(false),
        vmx: Fact::Known(true),
        svm: Fact::Known(false),
        ..nothing().cpu
    };
    host.kvm = Fact::Known(Kvm {
        cacheable_pfnmap: None,
        mmfr2: None,
        ctr: None,
        quirks: Some(0x3ff),
        ipa_bits: None,
        nested_paging: Some(true),
        vfio_device: Some(true),
    });
    host.iommus = [(
        "dmar0".to_owned(),
        Iommu {
            kind: IommuKind::IntelVtd,
            enforces: Fact::Known(false),
            coherent_walk: Fact::Known(true),
            s2fwb: Fact::Absent,
            register: Some(0xf0_1017),
        },
    )]
    .into();
    for f in host.functions.values_mut() {
        if f.iommu.known().is_some() {
            f.iommu = Fact::Known("dmar0".into());
        }
        f.coherent = Fact::Known(Coherent { coherent: true, says: "the architecture's default".into() });
    }
    host.firmware.iort = Fact::Absent;
    host.firmware.cca = hole("/sys/firmware/acpi/tables/DSDT", Why::Denied);
    host.pat =
        Fact::Known(vec![Reserved { first: 0x80_0000_0000, last: 0x80_ffff_ffff, kind: Cachemode::WriteCombining }]);
    host.mtrr = Fact::Known(vec![Mtrr { register: 0, span: span(0x8000_0000, 0x8000_0000), kind: x86::Type::Uc }]);
    host.errata = Vec::new();
    host
}
