//! What each way to map a BAR comes to: the table of Linux versions as it was read in their sources, row by row, written here
//! without the rules that compute it; what errata, holes and hostile facts do to it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use host::{Cachemode, Fact, Host, Mtrr, Reserved};
use memtype::{Arch, x86};
use plan::{Answer, Layers, Sure, Way, at_a_glance, layers};

fn of(host: &Host, index: u8, way: Way) -> Layers {
    let function = &host.functions[&bdf(GPU)];
    let bar = function.bars.iter().find(|b| b.index == index).unwrap();
    let all = layers(host, function, bar);
    assert_eq!(all.iter().map(|l| l.way).collect::<Vec<_>>(), Way::ALL);
    all.into_iter().find(|l| l.way == way).unwrap()
}

fn text<T: ToString>(it: Option<T>) -> String {
    it.map_or("-".into(), |it| it.to_string())
}

/// What a guest gets, in the order in which it asks.
fn guest(it: &Layers) -> String {
    it.guest.iter().map(|g| text(g.gets)).collect::<Vec<_>>().join(" ")
}

const DEVICE: &str = "arm64:device-ngnrne arm64:device-ngnre arm64:device-ngnre arm64:device-ngnre arm64:device-ngnre";
const NC: &str = "arm64:device-ngnrne arm64:device-ngnre arm64:device-gre arm64:normal-nc arm64:normal-nc";
const WB: &str = "arm64:normal-wb arm64:normal-wb arm64:normal-wb arm64:normal-wb arm64:normal-wb";
const X86: &str = "x86:uc x86:wc x86:uc";

/// (architecture, release, way, host VMA, stage 2, what a guest gets).
const TABLE: &[(Arch, &str, Way, &str, &str, &str)] = {
    use Arch::{Arm64, LoongArch, Riscv, X86 as Intel};
    use Way::{Sysfs, SysfsWriteCombine, Vfio};
    const IO: &str = "riscv:io riscv:io riscv:nc";
    const RIO: &str = "riscv:io";
    const NGNRE: &str = "arm64:device-ngnre";
    const NGNRNE: &str = "arm64:device-ngnrne";
    const NORMAL_NC: &str = "arm64:normal-nc";
    const SUC: &str = "loongarch:suc";
    &[
        (Arm64, "5.10.0", Vfio, NGNRNE, NGNRE, DEVICE),
        (Arm64, "6.1.192", Vfio, NGNRNE, NGNRE, DEVICE),
        (Arm64, "6.8.12", Vfio, NGNRNE, NGNRE, DEVICE),
        (Arm64, "6.9.0", Vfio, NGNRNE, NORMAL_NC, NC),
        (Arm64, "6.12.107", Vfio, NGNRNE, NORMAL_NC, NC),
        (Arm64, "6.16.0", Vfio, NGNRNE, NORMAL_NC, NC),
        (Arm64, "6.17.0", Vfio, NGNRNE, NORMAL_NC, NC),
        (Arm64, "7.2.13", Vfio, NGNRNE, NORMAL_NC, NC),
        (Arm64, "6.1.192", Sysfs, NGNRE, NGNRE, DEVICE),
        (Arm64, "6.12.107", Sysfs, NGNRE, NGNRE, DEVICE),
        (Arm64, "7.2.13", Sysfs, NGNRE, NGNRE, DEVICE),
        (Arm64, "6.1.192", SysfsWriteCombine, NORMAL_NC, NGNRE, DEVICE),
        (Arm64, "6.12.107", SysfsWriteCombine, NORMAL_NC, NGNRE, DEVICE),
        (Arm64, "7.2.13", SysfsWriteCombine, NORMAL_NC, NGNRE, DEVICE),
        (Intel, "6.1.192", Vfio, "x86:uc", "x86:uc", X86),
        (Intel, "6.12.107", Vfio, "x86:uc", "x86:uc", X86),
        (Intel, "7.2.13", Vfio, "x86:uc", "x86:uc", X86),
        (Intel, "7.2.13", Sysfs, "x86:uc", "x86:uc", X86),
        (Intel, "6.1.192", SysfsWriteCombine, "x86:wc", "x86:uc", X86),
        (Intel, "7.2.13", SysfsWriteCombine, "x86:wc", "x86:uc", X86),
        (Riscv, "6.1.192", Vfio, "-", RIO, IO),
        (Riscv, "6.12.107", Vfio, "-", "-", "- - -"),
        (Riscv, "7.2.13", Vfio, "-", "riscv:pma-io", "riscv:io riscv:pma-io riscv:nc"),
        (LoongArch, "6.12.107", Vfio, SUC, SUC, "loongarch:suc - -"),
        (LoongArch, "7.2.13", Vfio, SUC, SUC, "loongarch:suc - -"),
    ]
};

#[test]
fn the_table() {
    for &(arch, release, way, vma, stage2, gets) in TABLE {
        let it = of(&machine(arch, release), 2, way);
        let row = format!("{arch} {release} {}", way.name());
        assert_eq!(text(it.vma.ty), vma, "{row}: VMA");
        assert_eq!(text(it.stage2.as_ref().unwrap().ty), stage2, "{row}: stage 2");
        assert_eq!(guest(&it), gets, "{row}: guest");
    }
}

#[test]
fn amd_comes_to_the_same_as_intel() {
    for (vmx, svm, says) in [(false, true, "NPT WB"), (true, false, "EPT UC"), (false, false, "EPT UC")] {
        let mut host = machine(Arch::X86, "6.12.107");
        // Whoever made the IOMMU.
        (host.cpu.vmx, host.cpu.svm) = (Fact::Known(vmx), Fact::Known(svm));
        let it = of(&host, 2, Way::Vfio);
        assert!(it.stage2.as_ref().unwrap().what.starts_with(says), "{says}: {:?}", it.stage2);
        assert_eq!(guest(&it), X86, "{says}");
        assert!(it.guest.iter().all(|g| g.unaligned.is_ok()));
        assert_eq!((it.works.0, it.fast.0, it.safe.0), (Answer::Yes, Answer::Yes, Answer::Yes), "{says}");
    }
}

#[test]
fn what_a_driver_sees_of_it() {
    let old = of(&machine(Arch::Arm64, "6.1.192"), 2, Way::Vfio);
    assert_eq!((old.works.0, old.fast.0, old.safe.0), (Answer::Maybe, Answer::No, Answer::Yes));
    let wc = old.guest.iter().find(|g| text(g.asks) == "arm64:normal-nc").unwrap();
    assert!(wc.unaligned.as_ref().unwrap_err().contains("EFAULT"));
    // The guest's own Device mapping faults at its own stage 1, whatever the kernel.
    assert!(old.guest[1].unaligned.as_ref().unwrap_err().contains("stage 1"));
    assert!(old.advice.iter().any(|a| a.contains("8c47ce3e1d2c") && a.contains("a39d3a966a09")));
    let new = of(&machine(Arch::Arm64, "6.12.107"), 2, Way::Vfio);
    assert_eq!((new.works.0, new.fast.0, new.safe.0), (Answer::Yes, Answer::Yes, Answer::Yes));
    assert!(new.advice.iter().all(|a| !a.contains("8c47ce3e1d2c")));
    // Registers are not written in bursts.
    assert_eq!(of(&machine(Arch::Arm64, "6.12.107"), 0, Way::Vfio).fast.0, Answer::NotAsked);
}

#[test]
fn a_version_is_a_hint_and_behaviour_is_proof() {
    let by_version = of(&machine(Arch::Arm64, "6.6.30-deepin"), 2, Way::Vfio);
    let Sure::Rule(rule) = &by_version.stage2.as_ref().unwrap().sure else { panic!("{by_version:?}") };
    assert!(rule.contains("6.6") && rule.contains("backport"), "{rule}");
    assert_eq!(guest(&by_version), DEVICE);
    // A backport shows itself.
    let mut host = machine(Arch::Arm64, "6.6.30-deepin");
    opened(&mut host, MARKED);
    let it = of(&host, 2, Way::Vfio);
    assert!(matches!(&it.stage2.as_ref().unwrap().sure, Sure::Seen(how) if how.contains("??")), "{it:?}");
    assert_eq!(guest(&it), NC);
    // So does a kernel that was told to leave it out.
    let mut host = machine(Arch::Arm64, "7.2.13");
    opened(&mut host, PLAIN);
    assert_eq!(guest(&of(&host, 2, Way::Vfio)), DEVICE);
    // KVM's capability is of 6.17, whatever the version says.
    let mut host = machine(Arch::Arm64, "6.6.30-deepin");
    host.kvm = kvm(Some(false));
    let it = of(&host, 2, Way::Vfio);
    assert!(matches!(it.stage2.as_ref().unwrap().sure, Sure::Seen(_)));
    assert_eq!(guest(&it), NC);
    // Flags of another device that vfio-pci mapped tell of the kernel too; those of a variant driver do not.
    for (driver, gets) in [("vfio-pci", NC), ("nvgrace-gpu-vfio-pci", DEVICE)] {
        let mut host = machine(Arch::Arm64, "6.6.30-deepin");
        opened(&mut host, MARKED);
        let mut other = the_gpu(&mut host).clone();
        other.bdf = bdf("0000:02:00.0");
        other.driver = Fact::Known(driver.into());
        the_gpu(&mut host).opened = hole("VFIO");
        host.functions.insert(other.bdf, other);
        assert_eq!(guest(&of(&host, 2, Way::Vfio)), gets, "{driver}");
    }
}

#[test]
fn a_hole_is_named_and_nothing_rests_on_a_guess() {
    let mut host = machine(Arch::Arm64, "6.1");
    host.kernel.release = hole("/proc/sys/kernel/osrelease");
    host.kernel.version = None;
    let it = of(&host, 2, Way::Vfio);
    let Sure::Rests(holes) = &it.stage2.as_ref().unwrap().sure else { panic!("{it:?}") };
    assert_eq!(holes[0].at, "/proc/sys/kernel/osrelease");
    assert!(it.guest.iter().all(|g| g.gets.is_none()));
    assert_eq!((it.works.0, it.fast.0, it.safe.0), (Answer::Maybe, Answer::Maybe, Answer::Maybe));
    // What does not depend on the version is said all the same.
    assert_eq!(guest(&of(&host, 2, Way::Sysfs)), DEVICE);
    // And what behaviour shows does not need it.
    opened(&mut host, MARKED);
    assert_eq!(guest(&of(&host, 2, Way::Vfio)), NC);
    let mut host = machine(Arch::Arm64, "6.12");
    host.kernel.arch = None;
    let it = of(&host, 2, Way::Vfio);
    assert!(matches!(it.vma.sure, Sure::Rests(_)));
    assert_eq!((it.works.0, it.fast.0), (Answer::Maybe, Answer::Maybe));
}

#[test]
fn cacheable_memory_needs_fwb_and_dic_since_6_17() {
    let nvgrace = |release: &str, fwb: Fact<bool>, cap: Option<bool>| {
        let mut host = machine(Arch::Arm64, release);
        host.cpu.fwb = fwb;
        if cap.is_some() {
            host.kvm = kvm(cap);
        }
        let function = the_gpu(&mut host);
        function.driver = Fact::Known("nvgrace-gpu-vfio-pci".into());
        function.bars.push(bar(4, 0x88_0000_0000, 1 << 30, true));
        of(&host, 4, Way::Vfio)
    };
    assert_eq!(guest(&nvgrace("7.2.13", Fact::Known(true), None)), WB);
    assert_eq!(guest(&nvgrace("7.2.13", hole("log"), Some(true))), WB);
    assert_eq!(guest(&nvgrace("6.12.107", Fact::Known(true), None)), DEVICE);
    for it in [nvgrace("7.2.13", Fact::Known(false), None), nvgrace("7.2.13", hole("log"), Some(false))] {
        assert_eq!((it.works.0, it.fast.0), (Answer::No, Answer::No));
        assert_eq!(it.stage2.unwrap().what, "refused");
    }
    let open = nvgrace("7.2.13", hole("kernel log"), None);
    let Sure::Rests(holes) = open.stage2.unwrap().sure else { panic!() };
    assert_eq!(holes[0].at, "kernel log");
}

#[test]
fn errata_count() {
    for (name, works, fast, safe) in [
        ("altra-pcie65", Answer::Maybe, Answer::Yes, Answer::No),
        ("apple-pcie-nc", Answer::No, Answer::Yes, Answer::Maybe),
        ("brcmstb-pcie-abort", Answer::Yes, Answer::Yes, Answer::No),
        ("thunderx2-nc-combine", Answer::Yes, Answer::Maybe, Answer::Yes),
    ] {
        let mut host = machine(Arch::Arm64, "6.12.107");
        host.errata.push(name);
        let it = of(&host, 2, Way::Vfio);
        assert_eq!((it.works.0, it.fast.0, it.safe.0), (works, fast, safe), "{name}: {it:?}");
        let all = format!("{} {} {}", it.works.1, it.fast.1, it.safe.1);
        assert!(all.contains(name), "{name}: {all}");
    }
    // Trapped it fails in the kernel; and a process has Normal-NC whatever the kernel gives a guest.
    let mut host = machine(Arch::Arm64, "6.1.192");
    host.errata.push("brcmstb-pcie-abort");
    assert_eq!(of(&host, 2, Way::Trap).safe.0, Answer::No);
    host.errata = vec!["altra-pcie65"];
    assert_eq!(of(&host, 2, Way::Trap).safe.0, Answer::Yes);
    assert_eq!(of(&host, 2, Way::SysfsWriteCombine).safe.0, Answer::No);
    assert_eq!(of(&host, 2, Way::Sysfs).safe.0, Answer::Yes);
    // A kernel that gives no guest Normal-NC keeps such a machine safe.
    let mut host = machine(Arch::Arm64, "6.1.192");
    host.errata.push("altra-pcie65");
    assert_eq!(of(&host, 2, Way::Vfio).safe.0, Answer::Yes);
}

#[test]
fn x86_what_is_reserved_counts() {
    let mut host = machine(Arch::X86, "6.12.107");
    let reserved = |kind| Fact::Known(vec![Reserved { first: 0x80_1000_0000, last: 0x80_1fff_ffff, kind }]);
    host.pat = reserved(Cachemode::UncachedMinus);
    let wc = of(&host, 2, Way::SysfsWriteCombine);
    assert_eq!(text(wc.vma.ty), "x86:uc");
    assert!(matches!(wc.vma.sure, Sure::Seen(_)) && wc.vma.what.contains("uncached-minus"), "{wc:?}");
    // Not what a guest gets: EPT does not look at it.
    assert_eq!(guest(&wc), X86);
    host.pat = reserved(Cachemode::WriteCombining);
    assert_eq!(text(of(&host, 2, Way::Vfio).vma.ty), "x86:wc");
    // An MTRR that says WC makes WC of UC-.
    host.pat = reserved(Cachemode::UncachedMinus);
    host.mtrr = Fact::Known(vec![Mtrr { register: 1, span: span(0x80_1000_0000, 256 << 20), kind: x86::Type::Wc }]);
    assert_eq!(text(of(&host, 2, Way::Vfio).vma.ty), "x86:wc");
    host.pat = Fact::Known(Vec::new());
    assert_eq!(text(of(&host, 2, Way::Vfio).vma.ty), "x86:wc");
    assert_eq!(text(of(&host, 0, Way::Vfio).vma.ty), "x86:uc");
    // Without PAT there is no WC to ask for.
    host.mtrr = Fact::Known(Vec::new());
    host.cpu.pat = Fact::Known(false);
    assert_eq!(text(of(&host, 2, Way::SysfsWriteCombine).vma.ty), "x86:uc");
    host.cpu.pat = hole("/proc/cpuinfo");
    let it = of(&host, 2, Way::SysfsWriteCombine);
    assert!(it.vma.ty.is_none() && matches!(it.vma.sure, Sure::Rests(_)));
}

#[test]
fn what_is_in_the_way_is_said_with_the_remedy() {
    let why = |change: &dyn Fn(&mut Host), way: Way| {
        let mut host = machine(Arch::Arm64, "6.12.107");
        change(&mut host);
        let it = of(&host, 2, way);
        (it.available.err().unwrap_or_default(), it.advice.join("\n"))
    };
    let nothing = |_: &mut Host| {};
    assert_eq!(why(&nothing, Way::Vfio).0, "");
    assert_eq!(why(&nothing, Way::Sysfs).0, "");
    assert_eq!(why(&nothing, Way::SysfsWriteCombine).0, "");
    assert_eq!(why(&nothing, Way::Trap).0, "");
    assert!(why(&nothing, Way::VfioWriteCombine).0.contains("no Linux up to 7.3"));
    type Case = (&'static dyn Fn(&mut Host), Way, &'static str, &'static str);
    let cases: &[Case] = &[
        (
            &|h| the_gpu(h).driver = Fact::Known("nouveau".into()),
            Way::Vfio,
            "bound to nouveau",
            "driverctl set-override",
        ),
        (&|h| the_gpu(h).driver = Fact::Absent, Way::Vfio, "no driver", "drivers_probe"),
        (&|h| the_gpu(h).driver = hole("driver"), Way::Vfio, "not known", ""),
        (&|h| the_gpu(h).group = Fact::Absent, Way::Vfio, "no IOMMU group", "turn the IOMMU on"),
        (&|h| h.vfio.container = false, Way::Vfio, "/dev/iommu", "modprobe"),
        (&|h| the_gpu(h).bars[1].at = None, Way::Vfio, "no address", "realloc"),
        (&|h| h.kernel.lockdown = Fact::Known("integrity".into()), Way::Sysfs, "locked down", "VFIO"),
        (&|h| the_gpu(h).driver = Fact::Known("nouveau".into()), Way::Sysfs, "EINVAL", "iomem=relaxed"),
        (
            &|h| the_gpu(h).command = Fact::Known(host::Command { memory: false, master: false }),
            Way::Sysfs,
            "decode",
            "enable",
        ),
        (&|h| the_gpu(h).power = Fact::Known("D3hot".into()), Way::Sysfs, "D3hot", "power/control"),
        (&|h| the_gpu(h).bars[1].file_wc = false, Way::SysfsWriteCombine, "no resource2_wc", ""),
        (
            &|h| {
                let nvme = host::Function { driver: Fact::Known("nvme".into()), ..function("0000:01:00.1") };
                h.functions.insert(nvme.bdf, nvme);
                if let Fact::Known(group) = &mut the_gpu(h).group {
                    group.members = vec![bdf(GPU), bdf("0000:01:00.1"), bdf(PORT)];
                }
            },
            Way::Vfio,
            "0000:01:00.1 (nvme)",
            "unbind 0000:01:00.1 (nvme)",
        ),
        (
            &|h| {
                the_gpu(h).driver = Fact::Absent;
                h.iommus.get_mut("iommu0").unwrap().coherent_walk = Fact::Known(false);
            },
            Way::Vfio,
            "IOMMU_CAP_CACHE_COHERENCY",
            "COHACC",
        ),
        (
            &|h| {
                let b = &mut the_gpu(h).bars[1];
                (b.size, b.at) = (host::Bytes(512), Some(span(0x80_1000_0200, 512)));
            },
            Way::Vfio,
            "smaller than a page",
            "resource_alignment=12@",
        ),
    ];
    for (change, way, blocked, remedy) in cases {
        let (available, advice) = why(change, *way);
        assert!(available.contains(blocked), "{blocked}: {available}");
        assert!(advice.contains(remedy), "{remedy}: {advice}");
    }
    // The bridge above is no reason.
    let (available, _) = why(
        &|h| {
            if let Fact::Known(group) = &mut the_gpu(h).group {
                group.members = vec![bdf(GPU), bdf(PORT)];
            }
        },
        Way::Vfio,
    );
    assert_eq!(available, "");
}

#[test]
fn a_small_bar_alone_in_its_page_can_be_mapped() {
    let mut host = machine(Arch::Arm64, "6.12.107");
    the_gpu(&mut host).bars[1] = bar(2, 0x80_1000_0000, 512, true);
    assert!(of(&host, 2, Way::Vfio).available.is_ok());
    the_gpu(&mut host).bars.push(bar(3, 0x80_1000_0800, 512, true));
    assert!(of(&host, 2, Way::Vfio).available.unwrap_err().contains("same page"));
    // VFIO's own answer counts more.
    opened(&mut host, MARKED);
    assert!(of(&host, 2, Way::Vfio).available.is_ok());
    // With pages of 64 KiB the page is a larger one.
    let mut host = machine(Arch::Arm64, "6.12.107");
    host.kernel.page = host::Bytes(64 << 10);
    the_gpu(&mut host).bars[1] = bar(2, 0x80_1000_0000, 16 << 10, true);
    assert!(of(&host, 2, Way::Vfio).available.is_ok());
    the_gpu(&mut host).bars.push(bar(3, 0x80_1000_8000, 16 << 10, true));
    assert!(of(&host, 2, Way::Vfio).available.is_err());
}

#[test]
fn the_bus_is_described() {
    let mut host = machine(Arch::Arm64, "6.12.107");
    the_gpu(&mut host).bars[1].behind = vec![window(false)];
    let bus = of(&host, 2, Way::Vfio).bus;
    assert_eq!(bus.what, "64-bit prefetchable BAR of 256 MiB in a non-prefetchable window of 0000:00:01.0");
    assert!(bus.why.contains("may lie in a non-prefetchable window"), "{}", bus.why);
    the_gpu(&mut host).msix = Fact::Known(host::Msix { vectors: 8, table: (0, 0x2000), pba: (2, 0) });
    assert!(of(&host, 0, Way::Vfio).bus.why.contains("MSI-X table is in it at 0x2000"));
    assert!(of(&host, 2, Way::Vfio).bus.why.contains("pending bits"));
    the_gpu(&mut host).bars[1].io = true;
    for it in Way::ALL.map(|way| of(&host, 2, way)) {
        assert!(it.available.is_err() && it.stage2.is_none() && it.guest.is_empty());
    }
}

#[test]
fn outside_of_vfio_the_devices_dma_counts() {
    let safe = |master: bool, kind: &str| {
        let mut host = machine(Arch::Arm64, "6.12.107");
        let function = the_gpu(&mut host);
        function.command = Fact::Known(host::Command { memory: true, master });
        if let Fact::Known(group) = &mut function.group {
            group.kind = Fact::Known(kind.into());
        }
        of(&host, 2, Way::Sysfs).safe.0
    };
    assert_eq!(safe(false, "identity"), Answer::Yes);
    assert_eq!(safe(true, "identity"), Answer::No);
    assert_eq!(safe(true, "DMA"), Answer::Maybe);
    let mut host = machine(Arch::Arm64, "6.12.107");
    host.vfio.noiommu = Fact::Known(true);
    the_gpu(&mut host).iommu = Fact::Absent;
    the_gpu(&mut host).group = Fact::Absent;
    let it = of(&host, 2, Way::Vfio);
    assert!(it.available.is_ok());
    assert_eq!(it.safe.0, Answer::No);
}

/// Linux 7.2 exports a dma-buf of a BAR and takes no attribute for it: as `inspect --open` finds it.
#[test]
fn an_export_is_no_call_for_an_attribute() {
    let mut host = machine(Arch::Arm64, "7.2.13");
    opened(&mut host, MARKED);
    let with = |calls: &[&str]| {
        let mut host = host.clone();
        let Fact::Known(opened) = &mut the_gpu(&mut host).opened else { panic!("it was opened") };
        opened.attributes = calls.iter().map(|call| (*call).to_owned()).collect();
        of(&host, 2, Way::VfioWriteCombine).available
    };
    for none in [&[][..], &["dma-buf-export"], &["dma-buf-export", "dma-buf-mmap"]] {
        assert!(with(none).unwrap_err().contains("no call here by which to ask for an attribute"), "{none:?}");
    }
    assert_eq!(with(&["dma-buf-export", "alias"]), Ok(()));
}

#[test]
fn at_a_glance_is_the_best_of_vfio() {
    let mut host = machine(Arch::Arm64, "6.12.107");
    let glance = |host: &Host, i: usize| {
        let function = &host.functions[&bdf(GPU)];
        at_a_glance(host, function, &function.bars[i])
    };
    let it = glance(&host, 1).unwrap();
    assert_eq!((it.way, text(it.gets).as_str(), it.works), (Way::Vfio, "arm64:normal-nc", Answer::Yes));
    // Bound elsewhere: what it would be, and that it is not.
    the_gpu(&mut host).driver = Fact::Known("nouveau".into());
    let it = glance(&host, 1).unwrap();
    assert!(it.available.is_err());
    assert_eq!((it.way, it.fast), (Way::Vfio, Answer::Yes));
    the_gpu(&mut host).bars[1].at = Some(span(0x80_1000_0200, 512));
    the_gpu(&mut host).bars[1].size = host::Bytes(512);
    assert_eq!(glance(&host, 1).unwrap().way, Way::Trap);
    the_gpu(&mut host).bars[1].io = true;
    assert_eq!(glance(&host, 1), None);
}

/// A machine of 1,000 functions is looked at in well under the time of a blink: nothing is quadratic in them.
#[test]
fn many_functions() {
    let mut host = machine(Arch::Arm64, "6.12.107");
    let one = host.functions.remove(&bdf(GPU)).unwrap();
    for n in 0..1000_u32 {
        let mut function = one.clone();
        function.bdf = bdf(&format!("{:04x}:{:02x}:00.0", n >> 8, n & 0xff));
        for bar in &mut function.bars {
            bar.at = Some(span(0x100_0000_0000 + (u64::from(n) << 32) + (u64::from(bar.index) << 28), bar.size.0));
        }
        host.functions.insert(function.bdf, function);
    }
    let started = std::time::Instant::now();
    let machine = plan::Machine::new(&host);
    let bars = host.functions.values().flat_map(|f| f.bars.iter().map(move |b| (f, b)));
    let all: Vec<_> = bars.map(|(f, b)| machine.at_a_glance(f, b).unwrap().works).collect();
    let took = started.elapsed();
    assert_eq!(all.len(), 2000);
    assert!(took.as_millis() < 1500, "{took:?} without optimization");
}
