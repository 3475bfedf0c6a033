//! What facts make of a case.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use diagnose::{Kind, Standing, Truth, When, here::judge, named};
use host::{
    Bar, Bytes, Command, Cpu, Fact, Firmware, Function, Group, Hole, Host, Iommu, IommuKind, Kernel, Opened,
    OpenedRegion, Vfio, Why,
};
use memtype::Arch;
use platform::Bdf;

fn hole<T>() -> Fact<T> {
    Fact::Hole(Hole { at: "/a/file".into(), why: Why::Denied })
}

fn host(arch: Arch, version: (u16, u16)) -> Host {
    Host {
        kernel: Kernel {
            release: Fact::Known(format!("{}.{}.0", version.0, version.1)),
            version: Some((version.0, version.1, 0)),
            arch: Some(arch),
            page: Bytes(4096),
            parameters: hole(),
            lockdown: Fact::Known("none".into()),
            hypervisor: Fact::Absent,
        },
        cpu: Cpu {
            model: hole(),
            midr: hole(),
            fwb: Fact::Known(true),
            dic: hole(),
            ls64: hole(),
            dgh: hole(),
            pat: Fact::Known(true),
            mtrr: hole(),
            self_snoop: hole(),
            movdir64b: hole(),
            vmx: hole(),
            svm: hole(),
        },
        kvm: hole(),
        vfio: Vfio { container: true, iommufd: false, driver: true, noiommu: Fact::Known(false) },
        iommus: BTreeMap::new(),
        functions: BTreeMap::new(),
        firmware: Firmware {
            kind: Some("acpi"),
            compatible: Vec::new(),
            iort: hole(),
            mcfg: hole(),
            viot: hole(),
            cca: hole(),
            bridges: hole(),
        },
        pat: hole(),
        mtrr: hole(),
        ram: hole(),
        errata: Vec::new(),
        holes: Vec::new(),
    }
}

fn function(prefetchable: bool, vm_flags: Option<&str>) -> Function {
    let bdf: Bdf = "0000:01:00.0".parse().unwrap();
    let region = OpenedRegion { size: 4096, mmap: true, sparse: None, vm_flags: vm_flags.map(String::from) };
    Function {
        bdf,
        id: "10de:1eb8".parse().unwrap(),
        name: None,
        class: 0x030000,
        bars: vec![Bar {
            index: 0,
            at: None,
            size: Bytes(1 << 20),
            io: false,
            wide: true,
            prefetchable,
            file: true,
            file_wc: prefetchable,
            behind: Vec::new(),
        }],
        windows: Vec::new(),
        above: Vec::new(),
        driver: Fact::Known("vfio-pci".into()),
        group: Fact::Known(Group { number: 7, kind: hole(), members: vec![bdf] }),
        iommu: Fact::Known("dmar0".into()),
        vfio_cdev: None,
        command: Fact::Known(Command { memory: true, master: true }),
        power: Fact::Known("D0".into()),
        no_snoop: Fact::Known(true),
        msix: Fact::Absent,
        physical: None,
        coherent: hole(),
        opened: Fact::Known(Opened {
            by: "group".into(),
            enforces_coherency: None,
            regions: BTreeMap::from([(0, region)]),
            attributes: Vec::new(),
        }),
    }
}

fn standing(case: &str, host: &Host, device: Option<&Function>) -> Standing {
    judge(named(case).unwrap(), Some(host), device).standing
}

#[test]
fn an_old_kernel_makes_it_likely_and_another_architecture_rules_it_out() {
    let case = "stage2-alignment";
    assert_eq!(standing(case, &host(Arch::Arm64, (6, 1)), None), Standing::Likely);
    assert_eq!(standing(case, &host(Arch::Arm64, (6, 12)), None), Standing::Open);
    assert_eq!(standing(case, &host(Arch::X86, (6, 1)), None), Standing::RuledOut);
    // 6.10 is newer than 6.9.
    assert_eq!(standing(case, &host(Arch::Arm64, (6, 10)), None), Standing::Open);
    assert_eq!(judge(named(case).unwrap(), None, None).notes, []);
}

#[test]
fn behaviour_counts_against_the_version() {
    let case = "stage2-alignment";
    let marked = function(true, Some("rd wr sh mr mw me ms pf io de dd ??"));
    let plain = function(true, Some("rd wr sh mr mw me ms pf io de dd"));
    let new = host(Arch::Arm64, (6, 12));
    assert_eq!(standing(case, &new, Some(&marked)), Standing::Unlikely);
    assert_eq!(standing(case, &new, Some(&plain)), Standing::Likely);
    // The version speaks for it, the mark against it: neither.
    assert_eq!(standing(case, &host(Arch::Arm64, (6, 1)), Some(&marked)), Standing::Open);
    assert_eq!(standing(case, &new, Some(&function(true, None))), Standing::Open);
}

#[test]
fn a_hole_says_neither_and_names_what_would_say_it() {
    let mut it = host(Arch::Arm64, (6, 1));
    it.kernel.version = None;
    it.kernel.arch = None;
    let judged = judge(named("stage2-alignment").unwrap(), Some(&it), None);
    assert_eq!(judged.standing, Standing::Open);
    assert!(judged.notes.iter().all(|note| matches!(note.truth, Truth::Unknown(_))), "{judged:?}");
    let needs = judged.notes.iter().find(|note| note.kind == Kind::Needs).unwrap();
    assert_eq!(needs.truth, Truth::Unknown("the architecture".into()));
    it.cpu.fwb = hole();
    let truth = When { fwb: Some(true), ..When::default() }.holds(&it, None);
    assert_eq!(truth, Truth::Unknown("/a/file: not permitted; run as root".into()));
    // A no is a no, whatever else is not known.
    it.kernel.arch = Some(Arch::X86);
    let both = When { fwb: Some(true), arch: vec!["arm64".into()], ..When::default() };
    assert!(matches!(both.holds(&it, None), Truth::No(_)));
}

#[test]
fn of_the_device_and_its_iommu() {
    let mut it = host(Arch::X86, (7, 2));
    let iommu = |enforces| Iommu {
        kind: IommuKind::IntelVtd,
        enforces: Fact::Known(enforces),
        coherent_walk: hole(),
        s2fwb: hole(),
        register: None,
    };
    it.iommus = BTreeMap::from([("dmar0".into(), iommu(false)), ("dmar1".into(), iommu(true))]);
    let device = function(true, None);
    let truth = |when: &When, device| match when.holds(&it, device) {
        Truth::Yes(_) => Some(true),
        Truth::No(_) => Some(false),
        Truth::Unknown(_) => None,
    };
    let enforces = When { enforces: Some(true), ..When::default() };
    // Without a device the two differ.
    assert_eq!(truth(&enforces, None), None);
    assert_eq!(truth(&enforces, Some(&device)), Some(false));
    assert_eq!(truth(&When { iommu: Some(true), ..When::default() }, Some(&device)), Some(true));
    assert_eq!(truth(&When { iommu_kind: vec!["intel-vtd".into()], ..When::default() }, None), Some(true));
    assert_eq!(truth(&When { iommu_kind: vec!["amd".into()], ..When::default() }, None), Some(false));
    for (when, expected) in [
        (When { prefetchable: Some(true), ..When::default() }, true),
        (When { resource_wc: Some(false), ..When::default() }, false),
        (When { small_bar: Some(true), ..When::default() }, false),
        (When { decode: Some(false), ..When::default() }, false),
        (When { awake: Some(true), ..When::default() }, true),
        (When { shares_group: Some(true), ..When::default() }, false),
        (When { driver: vec!["vfio-pci".into()], ..When::default() }, true),
        (When { no_snoop: Some(true), ..When::default() }, true),
        (When { window_hides: Some(true), ..When::default() }, false),
    ] {
        assert_eq!(truth(&when, Some(&device)), Some(expected), "{when:?}");
        assert_eq!(truth(&when, None), None, "{when:?}");
    }
    assert_eq!(standing("no-snoop-not-told", &it, Some(&device)), Standing::Likely);
    assert_eq!(standing("no-snoop-arm", &it, Some(&device)), Standing::RuledOut);
}
