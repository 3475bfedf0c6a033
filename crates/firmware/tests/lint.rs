//! Each rule: a description that is right breaks none, one change breaks exactly that one.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use common::*;
use dtoolkit::model::DeviceTree;
use firmware::aml::Namespace;
use firmware::iort::Iort;
use firmware::lint::{self, Description, RULES, Severity};
use firmware::madt::Madt;
use firmware::viot::Viot;
use firmware::{dt, mcfg};

const PCIE: &str = "/pcie@10000000";
const SMMU: &str = "/smmuv3@9050000";
const ITS: &str = "/intc@8000000/its@8080000";

/// The rules that are broken; `normal-nc-unsaid` always is, where there is PCI on Arm.
fn broken(description: &Description) -> Vec<&'static str> {
    let mut names: Vec<_> = lint::check(description).iter().map(|complaint| complaint.rule.name).collect();
    names.retain(|name| *name != "normal-nc-unsaid");
    names.dedup();
    names
}

fn names(block: &[u8]) -> Option<Namespace> {
    let mut names = Namespace::default();
    names.read(block).unwrap();
    Some(names)
}

/// QEMU's machine with an SMMUv3, by ACPI.
fn usual() -> Description {
    Description {
        iort: Some(Iort::parse(&usual_iort()).unwrap()),
        mcfg: Some(mcfg::parse(&mcfg(&[(0x40_1000_0000, 0, 0, 255)])).unwrap()),
        madt: Some(Madt::parse(&madt(&[(0, 0x808_0000)], &[])).unwrap()),
        names: names(&dsdt(&name(b"_CCA", &[1]))),
        ..Description::default()
    }
}

fn with_iort(build: impl FnOnce(&mut IortBuilder)) -> Description {
    let mut iort = IortBuilder::default();
    build(&mut iort);
    Description { iort: Some(Iort::parse(&iort.build()).unwrap()), ..usual() }
}

fn with_tree(fixture: &[u8], change: impl FnOnce(&mut DeviceTree)) -> Description {
    let mut tree = tree(fixture);
    change(&mut tree);
    Description { tree: Some(dt::parse(&tree.to_dtb()).unwrap()), ..Description::default() }
}

/// What QEMU says of coherency at the root is taken off, so that a node has only its own.
fn bare(tree: &mut DeviceTree) {
    set(tree, "/", "dma-coherent", None);
}

/// Every rule, with a description that breaks it and no other.
fn cases() -> Vec<(&'static str, Description)> {
    let all = |to: u32| [(0, 0xffff, 0, to, 0)];
    let viot_of = |ranges: &[Range]| Some(Viot::parse(&viot(8, ranges)).unwrap());
    let to_its = || {
        with_iort(|iort| {
            let its = iort.its(&[0]);
            iort.root_complex(0, 1, 3, &all(its));
        })
    };
    vec![
        ("malformed", Description { malformed: vec![("IORT".into(), "short".into())], ..Description::default() }),
        ("malformed", with_tree(GICV2, |tree| set(tree, PCIE, "ranges", Some(&[0; 5])))),
        ("cca-missing", Description { names: names(&dsdt(&[])), ..usual() }),
        ("cca-differs", Description { names: names(&dsdt(&name(b"_CCA", &[0]))), ..usual() }),
        (
            "iort-cca-without-path",
            with_iort(|iort| {
                let its = iort.its(&[0]);
                iort.root_complex(0, 1, 2, &all(its));
            }),
        ),
        (
            "iort-path-without-cca",
            Description {
                names: names(&dsdt(&name(b"_CCA", &[0]))),
                ..with_iort(|iort| {
                    let its = iort.its(&[0]);
                    iort.root_complex(0, 0, 3, &all(its));
                })
            },
        ),
        (
            "iort-cca-by-override",
            with_iort(|iort| {
                let its = iort.its(&[0]);
                iort.root_complex(0, 1, 1, &all(its));
                iort.named("\\_SB.DEV0", 1, 3, &all(its));
            }),
        ),
        (
            "smmuv3-not-coherent",
            with_iort(|iort| {
                let its = iort.its(&[0]);
                let smmu = iort.smmuv3(0x905_0000, 0, true, 0, &all(its));
                iort.root_complex(0, 1, 3, &all(smmu));
            }),
        ),
        (
            "iort-no-mapping",
            with_iort(|iort| {
                iort.root_complex(0, 1, 3, &[]);
            }),
        ),
        (
            "iort-ids-overlap",
            with_iort(|iort| {
                let its = iort.its(&[0]);
                iort.root_complex(0, 1, 3, &[(0x100, 0xff, 0, its, 0), (0, 0x100, 0x1000, its, 0)]);
            }),
        ),
        (
            "iort-odd-target",
            with_iort(|iort| {
                let its = iort.its(&[0]);
                let root = iort.root_complex(0, 1, 3, &all(its));
                iort.named("\\_SB.DEV0", 1, 3, &all(root));
            }),
        ),
        (
            "iort-no-msi",
            with_iort(|iort| {
                let its = iort.its(&[0]);
                // The mapping to the ITS is for the SMMU's own MSIs.
                let smmu = iort.smmuv3(0x905_0000, 1, false, 0, &[(0, 0, 1, its, 1)]);
                iort.root_complex(0, 1, 3, &all(smmu));
            }),
        ),
        (
            "iort-its-unknown",
            Description { madt: Some(Madt::parse(&madt(&[(1, 0x808_0000)], &[])).unwrap()), ..usual() },
        ),
        (
            "segment-without-root-complex",
            Description { mcfg: Some(mcfg::parse(&mcfg(&[(0, 0, 0, 255), (1 << 40, 1, 0, 255)])).unwrap()), ..usual() },
        ),
        ("root-complex-without-segment", Description { mcfg: Some(Vec::new()), ..usual() }),
        (
            "root-complex-twice",
            with_iort(|iort| {
                let its = iort.its(&[0]);
                iort.root_complex(0, 1, 3, &all(its));
                iort.root_complex(0, 1, 3, &all(its));
            }),
        ),
        ("translated-twice", Description { viot: viot_of(&[((0, 0), (0x100, 0x1ff))]), ..usual() }),
        (
            "viot-ranges-overlap",
            Description { viot: viot_of(&[((0, 1), (0x10, 0x20)), ((1, 2), (0x20, 0x30))]), ..to_its() },
        ),
        ("viot-own-range", Description { viot: viot_of(&[((0, 0), (0, 0xff))]), ..to_its() }),
        ("iommu-unused", Description { viot: viot_of(&[]), ..to_its() }),
        ("iommu-unused", with_tree(SMMUV3, |tree| set(tree, PCIE, "iommu-map", None))),
        (
            "iommu-unused",
            with_iort(|iort| {
                let its = iort.its(&[0]);
                iort.smmuv3(0x905_0000, 0, true, 0, &all(its));
                iort.root_complex(0, 1, 3, &all(its));
            }),
        ),
        ("dt-coherent-and-not", with_tree(SMMUV3, |tree| set(tree, PCIE, "dma-noncoherent", Some(&[])))),
        (
            "dt-bridge-says-nothing",
            with_tree(GICV2, |tree| {
                bare(tree);
                set(tree, PCIE, "dma-coherent", None);
            }),
        ),
        (
            "dt-virtio-not-coherent",
            with_tree(SMMUV3, |tree| {
                bare(tree);
                set(tree, "/virtio_mmio@a000000", "dma-coherent", None);
            }),
        ),
        (
            "dt-device-not-coherent",
            with_tree(SMMUV3, |tree| {
                bare(tree);
                let smmu = phandle(tree, SMMU);
                let properties = [("compatible", b"acme,dma\0".to_vec()), ("iommus", cells(&[smmu, 1]))];
                add(tree, "/", "dma@b000000", &properties);
            }),
        ),
        (
            "dt-iommu-not-coherent",
            with_tree(SMMUV3, |tree| {
                bare(tree);
                set(tree, SMMU, "dma-coherent", None);
            }),
        ),
        (
            "dt-bridge-not-coherent",
            with_tree(SMMUV3, |tree| {
                set(tree, PCIE, "dma-coherent", None);
                set(tree, PCIE, "dma-noncoherent", Some(&[]));
            }),
        ),
        (
            "dt-map-nowhere",
            with_tree(SMMUV3, |tree| {
                let its = phandle(tree, ITS);
                set(tree, PCIE, "msi-map", Some(&cells(&[0, its, 0, 8, 8, 0x7777, 8, 0xfff8])));
            }),
        ),
        (
            "dt-map-to-no-iommu",
            with_tree(SMMUV3, |tree| {
                let (its, smmu) = (phandle(tree, ITS), phandle(tree, SMMU));
                set(tree, PCIE, "iommu-map", Some(&cells(&[0, its, 0, 8, 8, smmu, 8, 0xfff8])));
            }),
        ),
        (
            "dt-iommu-in-own-map",
            with_tree(VIRTIO, |tree| {
                let iommu = phandle(tree, "/pcie@10000000/virtio_iommu@1,0");
                set(tree, PCIE, "iommu-map", Some(&cells(&[0, iommu, 0, 0x10000])));
            }),
        ),
        (
            "dt-map-overlap",
            with_tree(SMMUV3, |tree| {
                let smmu = phandle(tree, SMMU);
                set(tree, PCIE, "iommu-map", Some(&cells(&[0, smmu, 0, 9, 8, smmu, 8, 0xfff8])));
            }),
        ),
        (
            "dt-map-mask",
            with_tree(SMMUV3, |tree| {
                let smmu = phandle(tree, SMMU);
                set(tree, PCIE, "iommu-map-mask", Some(&cells(&[0xff00])));
                set(tree, PCIE, "iommu-map", Some(&cells(&[0, smmu, 0, 8, 8, smmu, 8, 0xfff8])));
            }),
        ),
        ("dt-no-msi", with_tree(SMMUV3, |tree| set(tree, PCIE, "msi-map", None))),
        (
            "dt-msi-to-no-controller",
            with_tree(SMMUV3, |tree| {
                let smmu = phandle(tree, SMMU);
                set(tree, PCIE, "msi-map", None);
                set(tree, PCIE, "msi-parent", Some(&cells(&[smmu])));
            }),
        ),
    ]
}

#[test]
fn each_rule_finds_its_fault_and_no_other() {
    let mut seen = BTreeSet::new();
    for (rule, description) in cases() {
        assert_eq!(broken(&description), [rule], "{:#?}", lint::check(&description));
        seen.insert(rule);
    }
    seen.insert("normal-nc-unsaid");
    let all: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(seen, all);
    assert_eq!(all.len(), RULES.len(), "two rules have one name");
}

#[test]
fn what_is_right_breaks_none() {
    assert_eq!(broken(&usual()), [""; 0]);
    assert_eq!(broken(&Description::default()), [""; 0]);
    for fixture in [SMMUV3, VIRTIO, GICV2] {
        assert_eq!(broken(&with_tree(fixture, |_| ())), [""; 0]);
    }
    // A virtio-iommu whose range leaves it out, beside an IORT that maps to the ITS.
    let mut viommu = with_iort(|iort| {
        let its = iort.its(&[0]);
        iort.root_complex(0, 1, 3, &[(0, 0xffff, 0, its, 0)]);
    });
    viommu.viot = Some(Viot::parse(&viot(8, &[((0, 0), (0, 7)), ((0, 0), (9, 0xffff))])).unwrap());
    assert_eq!(broken(&viommu), [""; 0]);
}

/// What Linux 6.12 booted with under QEMU 10.0.2. The VIOT has the IOMMU in its own range, which QEMU's sources say, too.
#[test]
fn qemu_by_acpi() {
    let read = |folder: &[(&str, &[u8])]| {
        let mut it = Description::default();
        for (name, bytes) in folder {
            match *name {
                "IORT" => it.iort = Some(Iort::parse(bytes).unwrap()),
                "MCFG" => it.mcfg = Some(mcfg::parse(bytes).unwrap()),
                "VIOT" => it.viot = Some(Viot::parse(bytes).unwrap()),
                "APIC" => it.madt = Some(Madt::parse(bytes).unwrap()),
                _ => it.names = names(bytes),
            }
        }
        it
    };
    macro_rules! folder {
        ($folder:literal, $($name:literal)+) => {
            read(&[$(($name, include_bytes!(concat!("fixtures/", $folder, "/", $name)).as_slice())),+])
        };
    }
    assert_eq!(broken(&folder!("acpi-smmuv3", "IORT" "MCFG" "APIC" "DSDT")), [""; 0]);
    assert_eq!(broken(&folder!("acpi-virtio-iommu", "IORT" "MCFG" "APIC" "DSDT" "VIOT")), ["viot-own-range"]);
}

#[test]
fn what_decides_whether_a_rule_is_asked() {
    // On x86 `_CCA` may be missing; only where something says Arm it may not.
    let block = dsdt(&[]);
    assert_eq!(broken(&Description { names: names(&block), ..Description::default() }), [""; 0]);
    assert_eq!(broken(&Description { names: names(&block), arm: true, ..Description::default() }), ["cca-missing"]);
    // A `_CCA` that is computed is not missing.
    let method = dsdt(&package(&[0x14], b"_CCA\0\xa4\x01"));
    assert_eq!(broken(&Description { names: names(&method), arm: true, ..Description::default() }), [""; 0]);
    // GICv2m needs no word in IORT.
    let frames = Some(Madt::parse(&madt(&[], &[(0, 0x802_0000)])).unwrap());
    let silent = with_iort(|iort| {
        iort.root_complex(0, 1, 3, &[]);
    });
    assert_eq!(broken(&Description { madt: frames, ..silent }), [""; 0]);
}

#[test]
fn a_complaint_has_its_place_and_values() {
    let description = Description { names: names(&dsdt(&name(b"_CCA", &[0]))), ..usual() };
    let all = lint::check(&description);
    let it = &all[0];
    assert_eq!((it.at.as_str(), it.rule.severity), ("\\_SB.PCI0", Severity::Error));
    assert_eq!(it.found, "_CCA 0, and CCA 1 in IORT 0xa0 (root complex of segment 0)");
    // The worst first.
    assert!(all.is_sorted_by_key(|complaint| complaint.rule.severity));
    let json = serde_json::to_value(it).unwrap();
    assert_eq!(
        (&json["name"], &json["severity"], &json["at"]),
        (&"cca-differs".into(), &"error".into(), &"\\_SB.PCI0".into())
    );
}

#[test]
fn every_rule_says_all_there_is_to_say() {
    for rule in RULES {
        assert!(rule.name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'), "{}", rule.name);
        for text in [rule.follows, rule.remedy] {
            assert!(text.ends_with(['.', '>']), "{text}");
        }
        assert!(!rule.source.is_empty() && !rule.finds.is_empty());
        assert_eq!(lint::named(rule.name).map(|it| it.name), Some(rule.name));
    }
}
