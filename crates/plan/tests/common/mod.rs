//! Machines built in code.
#![allow(dead_code)] // each test file uses a part of it

use std::collections::BTreeMap;

use host::*;
use memtype::Arch;
use platform::Bdf;

pub(crate) const PORT: &str = "0000:00:01.0";
pub(crate) const GPU: &str = "0000:01:00.0";

pub(crate) fn bdf(text: &str) -> Bdf {
    text.parse().unwrap()
}

pub(crate) fn hole<T>(at: &str) -> Fact<T> {
    Fact::Hole(Hole { at: at.into(), why: Why::Denied })
}

pub(crate) fn span(first: u64, size: u64) -> Span {
    Span::new(Pa(first), Pa(first + (size - 1))).unwrap()
}

pub(crate) fn release(text: &str) -> (Fact<String>, Option<(u16, u16, u16)>) {
    let mut numbers = text.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (Fact::Known(text.into()), Some(version))
}

/// A machine of this architecture and release with one endpoint behind a root port, bound to vfio-pci, alone in its group.
pub(crate) fn machine(arch: Arch, version: &str) -> Host {
    let (text, version) = release(version);
    let x86 = arch == Arch::X86;
    let of_x86 = |it: bool| if x86 { Fact::Known(it) } else { Fact::Absent };
    let of_arm = |it: bool| if arch == Arch::Arm64 { Fact::Known(it) } else { Fact::Absent };
    let kind = match arch {
        Arch::X86 => IommuKind::IntelVtd,
        Arch::Riscv => IommuKind::Riscv,
        _ => IommuKind::SmmuV3,
    };
    let iommu = Iommu {
        kind,
        enforces: Fact::Known(x86),
        coherent_walk: Fact::Known(true),
        s2fwb: hole("iommufd"),
        register: None,
    };
    let functions = [port(), gpu()].into_iter().map(|f| (f.bdf, f)).collect();
    Host {
        kernel: Kernel {
            release: text,
            version,
            arch: Some(arch),
            page: Bytes(4096),
            parameters: Fact::Known(Vec::new()),
            lockdown: Fact::Known("none".into()),
            hypervisor: Fact::Absent,
        },
        cpu: Cpu {
            model: if x86 { Fact::Known("Intel(R) Xeon(R)".into()) } else { Fact::Absent },
            midr: Fact::Absent,
            fwb: of_arm(true),
            dic: of_arm(true),
            ls64: of_arm(false),
            dgh: of_arm(false),
            pat: of_x86(true),
            mtrr: of_x86(true),
            self_snoop: of_x86(true),
            movdir64b: of_x86(false),
            vmx: of_x86(true),
            svm: of_x86(false),
        },
        kvm: hole("/dev/kvm"),
        vfio: Vfio { container: true, iommufd: false, driver: true, noiommu: Fact::Known(false) },
        iommus: BTreeMap::from([("iommu0".to_owned(), iommu)]),
        functions,
        firmware: Firmware {
            kind: Some("acpi"),
            compatible: Vec::new(),
            iort: Fact::Absent,
            mcfg: Fact::Absent,
            viot: Fact::Absent,
            cca: Fact::Absent,
            bridges: Fact::Absent,
        },
        pat: if x86 { hole("/sys/kernel/debug/x86/pat_memtype_list") } else { Fact::Absent },
        mtrr: if x86 { Fact::Known(Vec::new()) } else { Fact::Absent },
        ram: Fact::Known(vec![span(0x1_0000_0000, 1 << 32)]),
        errata: Vec::new(),
        holes: Vec::new(),
    }
}

pub(crate) fn window(prefetchable: bool) -> Window {
    Window { bridge: bdf(PORT), span: span(0x80_0000_0000, 1 << 36), prefetchable, io: false }
}

pub(crate) fn bar(index: u8, first: u64, size: u64, prefetchable: bool) -> Bar {
    Bar {
        index,
        at: Some(span(first, size)),
        size: Bytes(size),
        io: false,
        wide: prefetchable,
        prefetchable,
        file: true,
        file_wc: prefetchable,
        behind: vec![window(prefetchable)],
    }
}

pub(crate) fn function(at: &str) -> Function {
    Function {
        bdf: bdf(at),
        id: "10de:2342".parse().unwrap(),
        name: None,
        class: 0x03_0200,
        bars: Vec::new(),
        windows: Vec::new(),
        above: Vec::new(),
        driver: Fact::Known("vfio-pci".into()),
        group: Fact::Known(Group { number: 7, kind: Fact::Known("DMA".into()), members: vec![bdf(at)] }),
        iommu: Fact::Known("iommu0".into()),
        vfio_cdev: None,
        command: Fact::Known(Command { memory: true, master: false }),
        power: Fact::Known("D0".into()),
        no_snoop: Fact::Known(true),
        msix: Fact::Absent,
        physical: None,
        coherent: Fact::Known(Coherent { coherent: true, says: "_CCA of \\_SB.PCI0".into() }),
        opened: Fact::Hole(Hole { at: "VFIO".into(), why: Why::NotAsked("--open asks".into()) }),
    }
}

fn port() -> Function {
    Function {
        class: 0x06_0400,
        driver: Fact::Known("pcieport".into()),
        windows: vec![window(true), window(false)],
        ..function(PORT)
    }
}

/// BAR 0 registers, 64 KiB; BAR 2 memory, 256 MiB, prefetchable.
fn gpu() -> Function {
    Function {
        bars: vec![bar(0, 0x80_0000_0000, 64 << 10, false), bar(2, 0x80_1000_0000, 256 << 20, true)],
        above: vec![bdf(PORT)],
        ..function(GPU)
    }
}

pub(crate) fn the_gpu(host: &mut Host) -> &mut Function {
    host.functions.get_mut(&bdf(GPU)).unwrap()
}

/// VFIO was asked of the GPU: each BAR's VmFlags are these.
pub(crate) fn opened(host: &mut Host, flags: &str) {
    let function = the_gpu(host);
    let region = |b: &Bar| OpenedRegion { size: b.size.0, mmap: true, sparse: None, vm_flags: Some(flags.into()) };
    function.opened = Fact::Known(Opened {
        by: "group".into(),
        enforces_coherency: Some(false),
        regions: function.bars.iter().map(|b| (u32::from(b.index), region(b))).collect(),
        attributes: Vec::new(),
    });
}

pub(crate) fn kvm(cacheable_pfnmap: Option<bool>) -> Fact<Kvm> {
    Fact::Known(Kvm {
        cacheable_pfnmap,
        mmfr2: None,
        ctr: None,
        quirks: None,
        ipa_bits: None,
        nested_paging: None,
        vfio_device: Some(true),
    })
}

/// Flags of a mapping that vfio-pci made since 6.9, and before.
pub(crate) const MARKED: &str = "rd wr sh mr mw me ms pf io de dd ??";
pub(crate) const PLAIN: &str = "rd wr sh mr mw me ms pf io de dd";
