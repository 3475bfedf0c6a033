//! A virtio-iommu before devices of the host: what it says of each, from which facts, and what firmware tells of it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use host::{Coherent, Fact, Function, Group, Host, Iommu, IommuKind};
use memtype::Arch;
use plan::request::request;
use plan::viommu::{EnableNoSnoop, ViommuPlan};
use plan::{HostSide, Plan, Sure, vm};
use viommu::coherency::{Coherency, Dma, NoSnoop, Spaces, Walks};

const NIC: &str = "0000:02:00.0";

fn asked(more: &str, firmware: &str) -> plan::VmRequest {
    let text = format!(
        "[vm]\niommu = \"virtio-iommu\"\nfirmware = \"{firmware}\"\n[viommu]\n{more}\n[[device]]\nbdf = \"{GPU}\"\n[[device]]\nbdf = \"{NIC}\"\n"
    );
    request("vm.toml", &text).unwrap()
}

/// A second device, behind an IOMMU of its own.
fn two(arch: Arch, release: &str) -> Host {
    let mut host = machine(arch, release);
    let iommu = host.iommus["iommu0"].clone();
    host.iommus.insert("iommu1".into(), iommu);
    let nic = Function {
        iommu: Fact::Known("iommu1".into()),
        group: Fact::Known(Group { number: 8, kind: Fact::Known("DMA".into()), members: vec![bdf(NIC)] }),
        ..function(NIC)
    };
    host.functions.insert(nic.bdf, nic);
    host
}

fn second(host: &mut Host) -> &mut Iommu {
    host.iommus.get_mut("iommu1").unwrap()
}

fn told(plan: &Plan) -> &ViommuPlan {
    plan.viommu.as_ref().unwrap()
}

fn coherency(plan: &Plan, which: usize) -> Coherency {
    told(plan).endpoints[which].coherency
}

#[test]
fn what_is_said_of_an_endpoint() {
    // An SMMU that walks coherently and cannot take No Snoop off.
    let plan = vm(&two(Arch::Arm64, "7.2.13"), &asked("", "acpi"));
    let is = coherency(&plan, 0);
    let should =
        Coherency { dma: Dma::Coherent, no_snoop: NoSnoop::Allowed, walks: Walks::Coherent, non_cacheable: false };
    assert_eq!(is, should);
    assert_eq!(told(&plan).endpoints[0].enable_no_snoop, EnableNoSnoop::KeptClear);
    assert!(told(&plan).endpoints[0].non_cacheable_why.contains("IOMMU_IOAS_MAP"));
    // VT-d with SC: taken off, and nothing to mask.
    let plan = vm(&two(Arch::X86, "7.2.13"), &asked("", "acpi"));
    assert_eq!(
        (coherency(&plan, 0).no_snoop, told(&plan).endpoints[0].enable_no_snoop),
        (NoSnoop::Enforced, EnableNoSnoop::Guest)
    );
    // Without: it counts, and on x86 the guest maintains.
    let mut host = two(Arch::X86, "7.2.13");
    host.iommus.get_mut("iommu0").unwrap().enforces = Fact::Known(false);
    let plan = vm(&host, &asked("", "acpi"));
    assert_eq!(
        (coherency(&plan, 0).no_snoop, told(&plan).endpoints[0].enable_no_snoop),
        (NoSnoop::Allowed, EnableNoSnoop::Guest)
    );
    // Firmware of the host says that its DMA does not snoop.
    let mut host = two(Arch::Arm64, "7.2.13");
    the_gpu(&mut host).coherent = Fact::Known(Coherent { coherent: false, says: "_CCA of \\_SB.PCI0".into() });
    let plan = vm(&host, &asked("", "acpi"));
    assert_eq!((coherency(&plan, 0).dma, coherency(&plan, 1).dma), (Dma::NonCoherent, Dma::Coherent));
    assert!(plan.warnings.iter().any(|w| w.contains("give the guest two")), "{:?}", plan.warnings);
    assert!(plan.warnings.iter().any(|w| w.contains("case D")), "{:?}", plan.warnings);
}

#[test]
fn what_is_not_known_is_unknown_and_names_its_hole() {
    let mut host = two(Arch::Arm64, "7.2.13");
    let iommu = host.iommus.get_mut("iommu0").unwrap();
    iommu.enforces = hole("IORT");
    iommu.coherent_walk = hole("IDR0");
    let gpu = the_gpu(&mut host);
    gpu.driver = Fact::Absent;
    gpu.coherent = hole("_CCA");
    let plan = vm(&host, &asked("", "acpi"));
    assert_eq!(coherency(&plan, 0), Coherency::default());
    // Firmware has no third value, and is told what VFIO needs.
    assert!(plan.firmware.coherent);
    let it = &told(&plan).endpoints[0];
    for (sure, at) in [(&it.dma_sure, "_CCA"), (&it.no_snoop_sure, "IORT"), (&it.walks_sure, "IDR0")] {
        let Sure::Rests(holes) = sure else { panic!("{sure:?}") };
        assert!(holes.iter().any(|h| h.at == at), "{holes:?}");
    }
    assert_eq!(it.enable_no_snoop, EnableNoSnoop::KeptClear);
    // A virtio-iommu of the host's says coherent without asking anybody.
    let mut host = two(Arch::Arm64, "7.2.13");
    host.iommus.get_mut("iommu0").unwrap().kind = IommuKind::Virtio;
    the_gpu(&mut host).coherent = hole("_CCA");
    assert_eq!(coherency(&vm(&host, &asked("", "acpi")), 0).dma, Dma::Unknown);
}

/// What the device says and what is masked never contradict: an access that may go past the caches is masked or maintained for.
#[test]
fn the_mask_follows_from_what_is_said() {
    use viommu::config_space::{Guest, mask};
    for arch in Arch::ALL {
        for enforces in [Fact::Known(true), Fact::Known(false), hole("it")] {
            let mut host = two(arch, "7.2.13");
            host.iommus.get_mut("iommu0").unwrap().enforces = enforces;
            let plan = vm(&host, &asked("", "acpi"));
            let guest = if arch == Arch::X86 { Guest::Maintains } else { Guest::Unaware };
            let endpoint = &told(&plan).endpoints[0];
            let masked = endpoint.enable_no_snoop == EnableNoSnoop::KeptClear;
            assert_eq!(masked, mask(endpoint.coherency.no_snoop, guest), "{arch}");
            assert_eq!(masked, plan.devices[0].no_snoop.mask);
            the_gpu(&mut host).no_snoop = Fact::Absent;
            let plan = vm(&host, &asked("", "acpi"));
            assert_eq!(told(&plan).endpoints[0].enable_no_snoop, EnableNoSnoop::None);
        }
    }
}

#[test]
fn the_bit_of_a_virtual_function_is_its_physical_functions() {
    let mut host = two(Arch::Arm64, "7.2.13");
    the_gpu(&mut host).physical = Some(bdf(PORT));
    let plan = vm(&host, &asked("", "acpi"));
    assert!(plan.warnings.iter().any(|w| w.contains(PORT) && w.contains("not verified")), "{:?}", plan.warnings);
}

#[test]
fn which_endpoints_share_a_domain() {
    let mut host = two(Arch::Arm64, "7.2.13");
    second(&mut host).enforces = Fact::Known(true);
    let apart = |host: &Host, more: &str| {
        let plan = vm(host, &asked(more, "acpi"));
        let it = told(&plan).clone();
        (it.host, it.spaces, it.apart.len())
    };
    assert_eq!(apart(&host, ""), (Some(HostSide::Container), Spaces::TABLE_EACH, 0));
    assert_eq!(apart(&host, "host = \"hwpt\""), (Some(HostSide::Hwpt), Spaces::IOMMUFD, 1));
    assert_eq!(apart(&host, "host = \"ioas\""), (Some(HostSide::Ioas), Spaces::IOMMUFD, 1));
    host.vfio.container = false;
    assert_eq!(apart(&host, ""), (None, Spaces::ONE_TABLE, 1));
    host.vfio.iommufd = true;
    assert_eq!(apart(&host, "").0, Some(HostSide::Ioas));
    let plan = vm(&host, &asked("host = \"hwpt\"", "acpi"));
    let it = &told(&plan).apart[0];
    assert_eq!(it.endpoints, (bdf(GPU), bdf(NIC)));
    assert!(it.why.contains("No Snoop enforced beside No Snoop allowed"), "{}", it.why);
    // All of a kind.
    second(&mut host).enforces = Fact::Known(false);
    assert_eq!(apart(&host, "host = \"hwpt\"").2, 0);
}

/// The example of Linux' bindings/virtio/pci-iommu.yaml: an IOMMU at 00:01.0 and all else behind it.
#[test]
fn firmware_as_in_the_bindings_example() {
    let host = two(Arch::Arm64, "7.2.13");
    let plan = vm(&host, &asked("at = \"0000:00:01.0\"", "device-tree"));
    let it = plan.firmware.viommu.unwrap();
    assert_eq!((it.reg, it.compatible.unwrap()[1]), (Some(0x800), "pci1af4,1057"));
    let ranges: Vec<_> = it.ranges.iter().map(|r| (r.first, r.endpoint, r.count)).collect();
    assert_eq!(ranges, [(0, 0, 8), (9, 9, 0xfff7)]);
    assert_eq!(plan.firmware.dma_coherent, Some(true));
    // VIOT has no node of a device tree.
    let it = vm(&host, &asked("at = \"0000:00:01.0\"", "acpi")).firmware.viommu.unwrap();
    assert_eq!((it.reg, it.compatible, it.ranges.len()), (None, None, 2));
    assert!(vm(&host, &asked("", "acpi")).firmware.viommu.unwrap().ranges.is_empty());
    let none = request("vm.toml", &format!("[[device]]\nbdf = \"{GPU}\"\n")).unwrap();
    let plan = vm(&host, &none);
    assert_eq!((plan.firmware.viommu, plan.viommu), (None, None));
}

/// Every requester id but its own is in one range, and none in two.
#[test]
fn the_ranges_leave_out_the_iommu_alone() {
    let host = two(Arch::Arm64, "7.2.13");
    for at in ["0000:00:00.0", "0000:00:00.1", "0000:00:01.0", "0000:80:1f.7", "0000:ff:1f.6", "0000:ff:1f.7"] {
        let plan = vm(&host, &asked(&format!("at = \"{at}\""), "device-tree"));
        let ranges = plan.firmware.viommu.unwrap().ranges;
        for rid in 0..=0xffff {
            let within = ranges.iter().filter(|r| (r.first..r.first + r.count).contains(&rid)).count();
            assert_eq!(within, usize::from(rid != u64::from(bdf(at).rid())), "{at} {rid:#x}");
        }
        assert!(ranges.iter().all(|r| r.first == r.endpoint && r.count > 0));
    }
}
