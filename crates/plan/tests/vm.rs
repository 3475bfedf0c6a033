//! The plan for a VM: what is direct and what is trapped, who refuses what, what the guest is told.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use firmware::iort::{Access, Iort, Kind, Node};
use host::{Fact, Host, Msix};
use memtype::Arch;
use plan::request::request;
use plan::{By, How, Plan, VmRequest, Want, example, vm};

const GPU_VM: &str = include_str!("vms/gpu.toml");
const LEAST: &str = include_str!("vms/least.toml");
const REFUSED: &str = include_str!("vms/refused.toml");
const TRAPPED: &str = include_str!("vms/trapped.toml");

/// The head of a file with a virtio-iommu.
const VIRTIO: &str = "[vm]\niommu = \"virtio-iommu\"\n[viommu]\n";

fn read(text: &str) -> VmRequest {
    request("vm.toml", text).unwrap()
}

fn arm(release: &str) -> Host {
    machine(Arch::Arm64, release)
}

/// Each part: BAR, offset, size, direct or not.
fn parts(plan: &Plan) -> Vec<(u8, u64, u64, How)> {
    plan.devices
        .iter()
        .flat_map(|d| &d.bars)
        .flat_map(|b| b.parts.iter().map(|p| (b.index, p.offset, p.size, p.how)))
        .collect()
}

fn why(plan: &Plan) -> String {
    plan.refusals.iter().map(|r| format!("{}: {}\n", r.by.name(), r.why)).collect()
}

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;

#[test]
fn a_gpu_in_parts() {
    let plan = vm(&arm("6.12.107"), &read(GPU_VM));
    assert!(plan.possible, "{}", why(&plan));
    assert_eq!(
        parts(&plan),
        [(0, 0, 64 * K, How::Direct), (2, 0, 64 * K, How::Direct), (2, 64 * K, 256 * M - 64 * K, How::Direct)]
    );
    let device = &plan.devices[0];
    assert_eq!((device.group.as_deref(), device.name.as_deref()), (Some("/dev/vfio/7"), Some("gpu")));
    let bar = &device.bars[1];
    assert_eq!((bar.prefetchable, bar.window), (true, "prefetchable"));
    assert_eq!(bar.parts[0].want, Want::Registers);
    // The first 64 KiB are in no whole block; behind them are blocks of 2 MiB, and none of 1 GiB.
    assert_eq!(bar.parts[0].slot.as_ref().unwrap().align, 4096);
    let slot = bar.parts[1].slot.as_ref().unwrap();
    assert_eq!((slot.align, slot.align_offset, slot.size), (2 * M, 64 * K, 256 * M - 64 * K));
    assert!(device.no_snoop.mask);
    assert!(!plan.kvm.vfio_device);
    assert_eq!((plan.firmware.coherent, plan.firmware.cca, plan.firmware.dma_coherent), (true, Some(1), None));
    let iort = plan.firmware.iort.unwrap();
    assert_eq!((iort.cca, iort.cpm, iort.dacs, iort.canwbs), (1, true, true, false));
}

#[test]
fn kvm_refuses_in_its_order() {
    let plan = vm(&arm("6.12.107"), &read(REFUSED));
    assert!(!plan.possible);
    let all: Vec<_> = plan.refusals.iter().map(|r| (r.by, r.bars.clone())).collect();
    assert_eq!(all, [(By::Kvm, vec![0, 2]), (By::Kvm, vec![0, 2])]);
    assert!(plan.refusals[0].why.contains("MTE") && plan.refusals[1].why.contains("LOG_DIRTY"), "{}", why(&plan));
    assert!(plan.refusals.iter().all(|r| r.remedy.is_some()));
    // A third where the mapping is cacheable and the CPU cannot.
    let mut host = arm("7.2.13");
    host.cpu.dic = Fact::Known(false);
    let function = the_gpu(&mut host);
    function.driver = Fact::Known("nvgrace-gpu-vfio-pci".into());
    function.bars = vec![bar(4, 0x88_0000_0000, 1 << 30, true)];
    let plan = vm(&host, &read(REFUSED));
    let words = ["MTE", "LOG_DIRTY", "FWB or DIC"];
    assert_eq!(plan.refusals.len(), 3, "{}", why(&plan));
    assert!(plan.refusals.iter().zip(words).all(|(r, word)| r.why.contains(word)), "{}", why(&plan));
    // Nothing is a slot that is trapped.
    let plan = vm(&arm("6.12.107"), &read(TRAPPED));
    assert!(plan.possible, "{}", why(&plan));
    assert!(parts(&plan).iter().all(|p| p.3 == How::Trap));
    // x86 refuses none of it; arm64's mte is none of its.
    let plan =
        vm(&machine(Arch::X86, "6.12.107"), &read("[vm]\ndirty-log = true\n[[device]]\nbdf = \"0000:01:00.0\"\n"));
    assert!(plan.possible, "{}", why(&plan));
}

#[test]
fn what_is_wanted_and_cannot_be_had() {
    // Asked for in so many words it is refused; by the prefetchable bit alone it is a warning.
    let plan = vm(&arm("6.1.192"), &read(GPU_VM));
    assert_eq!(plan.refusals.iter().map(|r| r.by).collect::<Vec<_>>(), [By::Want]);
    let refused = &plan.refusals[0];
    assert!(refused.why.contains("Device-nGnRE") && refused.why.contains("EFAULT"), "{}", refused.why);
    assert!(refused.remedy.as_ref().unwrap().contains("a39d3a966a09"));
    let plan = vm(&arm("6.1.192"), &read(LEAST));
    assert!(plan.possible && plan.warnings.iter().any(|w| w.contains("write-combining")), "{:?}", plan.warnings);
    let cached = "[[device]]\nbdf = \"0000:01:00.0\"\nbars = [ { index = 2, want = \"cached\" } ]\n";
    assert_eq!(vm(&arm("7.2.13"), &read(cached)).refusals[0].by, By::Want);
    assert_eq!(vm(&machine(Arch::X86, "7.2.13"), &read(cached)).refusals[0].by, By::Want);
    // Not known is not refused.
    let mut host = arm("6.12");
    host.kernel.version = None;
    host.kernel.release = hole("uname");
    let plan = vm(&host, &read(GPU_VM));
    assert!(plan.possible && plan.warnings.iter().any(|w| w.contains("not known")), "{:?}", plan.warnings);
    // Registers of what FWB makes cacheable.
    let mut host = arm("7.2.13");
    let function = the_gpu(&mut host);
    function.driver = Fact::Known("nvgrace-gpu-vfio-pci".into());
    function.bars = vec![bar(4, 0x88_0000_0000, 1 << 30, true)];
    let registers = "[[device]]\nbdf = \"0000:01:00.0\"\nbars = [ { index = 4, want = \"registers\" } ]\n";
    assert_eq!(parts(&vm(&host, &read(registers))), [(4, 0, 1 << 30, How::Trap)]);
    assert!(vm(&host, &read(&cached.replace("= 2", "= 4"))).possible);
}

#[test]
fn the_pages_of_the_msix_table_are_trapped() {
    let mut host = arm("6.12.107");
    the_gpu(&mut host).msix = Fact::Known(Msix { vectors: 300, table: (0, 0x2000), pba: (0, 0x4000) });
    // 300 vectors of 16 bytes are 4800: two pages.
    assert_eq!(
        parts(&vm(&host, &read(LEAST)))[..3],
        [(0, 0, 8 * K, How::Direct), (0, 8 * K, 8 * K, How::Trap), (0, 16 * K, 48 * K, How::Direct)]
    );
    // A page of 64 KiB swallows the whole BAR.
    host.kernel.page = host::Bytes(64 * K);
    assert_eq!(parts(&vm(&host, &read(LEAST)))[0], (0, 0, 64 * K, How::Trap));
}

#[test]
fn what_cannot_be_mapped_is_trapped() {
    let mut host = arm("6.12.107");
    the_gpu(&mut host).bars[0] = bar(0, 0x80_0000_0200, 512, false);
    assert_eq!(parts(&vm(&host, &read(LEAST)))[0], (0, 0, 512, How::Trap));
    // Alone in its page it is direct, and the guest's BAR is a page.
    the_gpu(&mut host).bars[0] = bar(0, 0x80_0000_0000, 512, false);
    let plan = vm(&host, &read(LEAST));
    assert_eq!(parts(&plan)[0], (0, 0, 512, How::Direct));
    assert_eq!(plan.devices[0].bars[0].guest_size, 4096);
    assert_eq!(plan.devices[0].bars[0].parts[0].slot.as_ref().unwrap().size, 4096);
    // VFIO lets a part be mapped: a variant driver's sparse region.
    opened(&mut host, MARKED);
    if let Fact::Known(opened) = &mut the_gpu(&mut host).opened {
        opened.regions.get_mut(&2).unwrap().sparse = Some(vec![(0, 192 * M)]);
    }
    assert_eq!(parts(&vm(&host, &read(LEAST)))[1..], [(2, 0, 192 * M, How::Direct), (2, 192 * M, 64 * M, How::Trap)]);
    the_gpu(&mut host).bars[1].io = true;
    assert_eq!(parts(&vm(&host, &read(LEAST))).last().unwrap().3, How::Trap);
}

#[test]
fn requests_that_contradict_the_machine() {
    let refused = |text: &str, host: &Host| why(&vm(host, &read(text)));
    let arm = arm("6.12.107");
    let x86 = machine(Arch::X86, "6.12.107");
    for (text, host, says) in [
        (GPU_VM, &x86, "the host is x86"),
        ("[vm]\nmte = true\n", &x86, "mte is of arm64"),
        ("[vm]\niommu = \"smmuv3\"\n", &x86, "SMMUv3"),
        ("[vm]\niommu = \"smmuv3\"\n", &arm, "/dev/iommu"),
        ("[[device]]\nbdf = \"0000:99:00.0\"\n", &arm, "no 0000:99:00.0"),
        ("[[device]]\nbdf = \"0000:00:01.0\"\n", &arm, "bridge"),
        ("[[device]]\nbdf = \"0000:01:00.0\"\nbars = [ { index = 5 } ]\n", &arm, "no BAR 5"),
        (
            "[[device]]\nbdf = \"0000:01:00.0\"\nbars = [ { index = 0, parts = [ { offset = \"60K\", size = \"8K\", want = \"trap\" } ] } ]\n",
            &arm,
            "not within BAR 0",
        ),
    ] {
        let all = refused(text, host);
        assert!(all.contains(says), "{says}: {all}");
    }
    let mut host = arm;
    the_gpu(&mut host).driver = Fact::Known("nouveau".into());
    let plan = vm(&host, &read(GPU_VM));
    assert_eq!(plan.refusals[0].by, By::Vfio);
    assert!(plan.refusals[0].remedy.as_ref().unwrap().contains("driverctl"));
}

#[test]
fn no_snoop() {
    let plan = |host: &Host| vm(host, &read(LEAST)).devices[0].no_snoop.clone();
    // Arm: nothing takes it off, so it is masked, unless firmware promises that nothing is needed.
    let mut host = arm("6.12.107");
    assert!(plan(&host).mask);
    host.iommus.get_mut("iommu0").unwrap().enforces = Fact::Known(true);
    assert!(!plan(&host).mask);
    host.iommus.get_mut("iommu0").unwrap().enforces = hole("ecap");
    assert!(plan(&host).mask);
    the_gpu(&mut host).no_snoop = Fact::Absent;
    assert!(!plan(&host).mask);
    // x86: taken off, or KVM is told.
    let mut host = machine(Arch::X86, "6.12.107");
    let it = vm(&host, &read(LEAST));
    assert!(!it.devices[0].no_snoop.mask && !it.kvm.vfio_device);
    assert_eq!(it.kvm.ram.as_deref().map(|r| &r[..10]), Some("WB, IPAT 1"));
    host.iommus.get_mut("iommu0").unwrap().enforces = Fact::Known(false);
    let it = vm(&host, &read(LEAST));
    assert!(!it.devices[0].no_snoop.mask && it.kvm.vfio_device);
    assert_eq!(it.kvm.ram.as_deref().map(|r| &r[..10]), Some("WB, IPAT 0"));
    let allow = format!("{LEAST}no-snoop = \"allow\"\n");
    let it = vm(&arm("6.12.107"), &read(&allow));
    assert!(!it.devices[0].no_snoop.mask && it.warnings.iter().any(|w| w.contains("past the caches")));
}

#[test]
fn what_the_guest_is_told() {
    let tree = format!("[vm]\nfirmware = \"device-tree\"\n{LEAST}");
    let plan = vm(&arm("6.12.107"), &read(&tree));
    assert_eq!((plan.firmware.cca, plan.firmware.dma_coherent, plan.firmware.iort), (None, Some(true), None));
    // A host whose firmware says otherwise.
    let mut host = arm("6.12.107");
    the_gpu(&mut host).coherent =
        Fact::Known(host::Coherent { coherent: false, says: "dma-noncoherent of /pcie@0".into() });
    let plan = vm(&host, &read(LEAST));
    assert_eq!((plan.firmware.coherent, plan.firmware.cca), (false, Some(0)));
    assert!(plan.warnings.iter().any(|w| w.contains("dma-noncoherent") && w.contains("FWB")), "{:?}", plan.warnings);
    let behind = format!("[vm]\niommu = \"virtio-iommu\"\n{LEAST}");
    let plan = vm(&host, &read(&behind));
    assert!(plan.firmware.because.iter().any(|b| b.contains("thread 004")));
    assert!(plan.warnings.iter().any(|w| w.contains("virtio-iommu")));
    // CANWBS and DACS are the host's to promise.
    let mut host = arm("7.2.13");
    let rc = |flags| {
        let access = Access { cca: 1, hints: 0, flags };
        let kind = Kind::RootComplex { segment: 0, access, ats: 0 };
        Fact::Known(Iort { nodes: vec![Node { offset: 48, kind, mappings: Vec::new() }] })
    };
    host.vfio.iommufd = true;
    host.firmware.iort = rc(0b111);
    let nested = format!("[vm]\niommu = \"smmuv3\"\n{LEAST}");
    let plan = vm(&host, &read(&nested));
    assert!(plan.possible, "{}", why(&plan));
    let iort = plan.firmware.iort.unwrap();
    assert!(iort.canwbs && iort.dacs && plan.firmware.smmu_cohacc == Some(true));
    host.firmware.iort = rc(0b001);
    host.iommus.get_mut("iommu0").unwrap().s2fwb = Fact::Known(false);
    let plan = vm(&host, &read(&nested));
    assert!(why(&plan).contains("S2FWB"), "{}", why(&plan));
    assert!(!plan.firmware.iort.unwrap().dacs);
    host.iommus.get_mut("iommu0").unwrap().s2fwb = hole("iommufd");
    let plan = vm(&host, &read(&nested));
    assert!(plan.possible && plan.warnings.iter().any(|w| w.contains("S2FWB")), "{:?}", plan.warnings);
}

#[test]
fn the_file_is_read_strictly() {
    let fault = |text: &str| request("vm.toml", text).unwrap_err().to_string();
    let device = "[[device]]\nbdf = \"0000:01:00.0\"\n";
    let part = |p: &str| format!("{device}bars = [\n  {{ index = 2, parts = [\n    {p}\n  ] }} ]\n");
    for (text, line, says) in [
        ("[vm]\nmtee = true\n".to_owned(), 2, "mte"),
        ("[vm]\narch = \"sparc\"\n".into(), 2, "arm64"),
        ("[vm]\nvmm = \"xen\"\n".into(), 2, "kvm"),
        ("[vm]\niommu = \"smmu\"\n".into(), 2, "virtio-iommu"),
        ("[vm]\npage = \"8K\"\n".into(), 2, "16K"),
        ("[viommu]\ncoherency = true\n".into(), 1, "iommu = \"virtio-iommu\""),
        (format!("{VIRTIO}at = \"x\"\n"), 4, "0000:00:01.0"),
        (format!("{VIRTIO}at = \"10000:00:01.0\"\n"), 4, "0000:00:01.0"),
        (format!("{VIRTIO}host = \"vfio\"\n"), 4, "container"),
        (format!("{VIRTIO}snoop = true\n"), 4, "coherency"),
        ("[vm]\nmte = 1\n".into(), 2, "boolean"),
        ("\n[[device]]\nbdf = \"1:0\"\n".into(), 3, "0000:01:00.0"),
        ("[[device]]\nname = \"x\"\n".into(), 1, "bdf"),
        (format!("{device}{device}"), 4, "twice"),
        (format!("{device}name = \"a b\"\n"), 3, "a-z"),
        (format!("{device}bars = [ {{ index = 6 }} ]\n"), 3, "0 to 5"),
        (format!("{device}bars = [ {{ index = 1 }},\n {{ index = 1 }} ]\n"), 4, "twice"),
        (format!("{device}no-snoop = \"maybe\"\n"), 3, "allow"),
        (part("{ offset = 0, size = \"64Q\", want = \"trap\" }"), 5, "64K"),
        (part("{ offset = 0, size = -1, want = \"trap\" }"), 5, "64K"),
        (part("{ offset = 0, size = 0, want = \"trap\" }"), 5, "4K or more"),
        (part("{ offset = 100, size = \"4K\", want = \"trap\" }"), 5, "multiples of 4K"),
        (part("{ offset = 0, size = \"4K\", want = \"wc\" }"), 5, "write-combine"),
        (
            part("{ offset = 0, size = \"8K\", want = \"trap\" }, { offset = \"4K\", size = \"4K\", want = \"trap\" }"),
            5,
            "overlaps",
        ),
        ("[vm\n".into(), 1, "]"),
    ] {
        let fault = fault(&text);
        assert!(fault.starts_with(&format!("vm.toml:{line}: ")) && fault.contains(says), "{text}\n{fault}");
    }
    assert_eq!(read(""), VmRequest::default());
    assert_eq!(request("vm.toml", &"#".repeat(300 << 10)).unwrap_err().line, 1);
}

#[test]
fn the_example_is_a_file_of_this_machine() {
    let mut host = arm("6.12.107");
    let text = example(&host);
    let asked = read(&text);
    assert_eq!(asked.devices.iter().map(|d| d.bdf).collect::<Vec<_>>(), [bdf(GPU)]);
    assert!(vm(&host, &asked).possible);
    the_gpu(&mut host).driver = Fact::Known("nouveau".into());
    let text = example(&host);
    assert!(text.contains("# bdf = \"0000:01:00.0\"") && read(&text).devices.is_empty(), "{text}");
    host.functions.clear();
    assert!(read(&example(&host)).devices.is_empty());
    for arch in Arch::ALL {
        read(&example(&machine(arch, "7.2")));
    }
}

/// The shape that a VMM reads: it changes with [`plan::VERSION`] alone.
#[test]
fn the_json_is_as_documented() {
    let json = serde_json::to_value(vm(&arm("6.12.107"), &read(GPU_VM))).unwrap();
    let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(json["version"], 1);
    assert_eq!(keys(&json), "arch devices firmware kernel kvm possible refusals version viommu warnings");
    let device = &json["devices"][0];
    assert_eq!(keys(device), "bars bdf cdev coherent coherent-sure group name no-snoop");
    let bar = &device["bars"][1];
    assert_eq!(keys(bar), "guest guest-size index io parts prefetchable size stage2 vma wide window");
    assert_eq!(keys(&bar["parts"][1]), "how offset size slot want why");
    assert_eq!(bar["parts"][1]["offset"], "0x10000");
    assert_eq!(
        bar["guest"][3],
        serde_json::json!({"asks": "arm64:normal-nc", "gets": "arm64:normal-nc", "unaligned": {"ok": true}})
    );
    assert_eq!(keys(&json["kvm"]), "dirty-log guest-pat-quirk mte ram vfio-device vfio-device-why");
    assert_eq!(keys(&json["firmware"]), "because cca coherent dma-coherent iommu iort kind smmu-cohacc viommu");
    assert_eq!(keys(&bar["stage2"]), "sure ty what why");
    // Each key is in the document, and its example is a file.
    let document = include_str!("../../../docs/plan.md");
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(read(example), read(GPU_VM));
    fn each(value: &serde_json::Value, document: &str) {
        if let Some(all) = value.as_object() {
            for (key, value) in all {
                assert!(document.contains(&format!("`{key}`")), "docs/plan.md has no `{key}`");
                each(value, document);
            }
        }
        value.as_array().into_iter().flatten().for_each(|v| each(v, document));
    }
    each(&json, document);
    let json = serde_json::to_value(vm(&arm("6.12.107"), &read(&format!("{VIRTIO}{LEAST}")))).unwrap();
    assert_eq!(keys(&json["viommu"]), "apart endpoints host offers-coherency spaces spaces-why");
    let endpoint = &json["viommu"]["endpoints"][0];
    assert_eq!(keys(endpoint), "bdf coherency dma-sure enable-no-snoop no-snoop-sure non-cacheable-why walks-sure");
    let coherency = serde_json::json!(
        {"dma": "coherent", "non-cacheable": false, "no-snoop": "allowed", "walks": "coherent"}
    );
    assert_eq!(endpoint["coherency"], coherency);
    assert_eq!(keys(&json["firmware"]["viommu"]), "at compatible ranges reg");
    each(&json, document);
}
