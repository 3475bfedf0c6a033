//! Each parser: a known table gives known values; every truncation and every change of a byte gives an answer or an error, no panic.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use acpi_tables::mcfg::MCFG;
use acpi_tables::sdt::Sdt;
use acpi_tables::viot::{MmioEndpoint, PciDevice, PciRange, VIOT, VirtIoMmioIommu, VirtIoPciIommu};
use acpi_tables::{Aml as _, aml as aml_of};
use common::*;
use firmware::aml::{self, Namespace};
use firmware::dmar::Dmar;
use firmware::dt;
use firmware::iort::{Access, Iort, Kind, Mapping};
use firmware::lint::{self, Description};
use firmware::madt::Madt;
use firmware::mcfg::{self, Ecam};
use firmware::table::Table;
use firmware::viot::{Node, Viot};
use proptest::prelude::*;

fn dmar() -> Vec<u8> {
    let body = Bytes::default().u8(45).u8(1).bytes(&[0; 10]);
    let body = body.u16(0).u16(24).u8(0).u8(0).u16(2).u64(0xfed9_0000).bytes(&[1, 8, 0, 0, 0, 0, 2, 0]);
    let body = body.u16(0).u16(16).u8(1).u8(0).u16(0).u64(0xfed9_1000).u16(2).u16(8).u8(0).u8(0).u16(2);
    table(b"DMAR", &body.0)
}

/// Every table here, each with the function that reads it.
type Reader = fn(&[u8]) -> Result<String, firmware::table::Error>;
fn known() -> Vec<(Vec<u8>, Reader)> {
    let mut out: Vec<(Vec<u8>, Reader)> = vec![
        (usual_iort(), |b| Iort::parse(b).map(|it| format!("{it:?}"))),
        (viot(8, &[((0, 0), (0, 7)), ((0, 0), (9, 0xffff))]), |b| Viot::parse(b).map(|it| format!("{it:?}"))),
        (mcfg(&[(0x40_1000_0000, 0, 0, 255), (0x50_0000_0000, 1, 0, 15)]), |b| {
            mcfg::parse(b).map(|it| format!("{it:?}"))
        }),
        (madt(&[(0, 0x808_0000)], &[(7, 0x802_0000)]), |b| Madt::parse(b).map(|it| format!("{it:?}"))),
        (dmar(), |b| Dmar::parse(b).map(|it| format!("{it:?}"))),
    ];
    let blocks = [dsdt(&name(b"_CCA", &[1])), include_bytes!("fixtures/acpi-smmuv3/DSDT").to_vec()];
    out.extend(blocks.map(|block| (block, (|b: &[u8]| aml::host_bridges(b).map(|it| format!("{it:?}"))) as Reader)));
    out
}

#[test]
fn iort() {
    let it = Iort::parse(&usual_iort()).unwrap();
    let [its, smmu, root] = it.nodes.as_slice() else { panic!("{it:?}") };
    assert_eq!((its.offset, &its.kind, its.mappings.len()), (48, &Kind::Its { ids: vec![0] }, 0));
    assert_eq!(smmu.kind, Kind::SmmuV3 { base: 0x905_0000, flags: 1, own: None });
    assert_eq!(smmu.mappings, [Mapping { input: 0, more: 0xffff, output: 0, to: 48, flags: 0 }]);
    let access = Access { cca: 1, hints: 0, flags: 3 };
    assert_eq!(root.kind, Kind::RootComplex { segment: 0, access, ats: 0 });
    assert!(access.cpm() && access.dacs() && !access.canwbs());
    assert_eq!((it.root_complex(0), it.root_complex(1)), (Some(root), None));
    assert_eq!(it.node(smmu.offset), Some(smmu));
    assert_eq!(it.node(49), None);
}

#[test]
fn iort_of_other_nodes() {
    let mut iort = IortBuilder::default();
    let its = iort.its(&[3, 4]);
    // Its interrupts are MSIs: mapping 1 is its own.
    let smmu = iort.smmuv3(0x1000, 0, false, 1, &[(0, 0xff, 0, its, 0), (0, 0, 0x100, its, 1)]);
    iort.named("\\_SB.DEV0", 0, 4, &[(0, 0, 0, smmu, 1)]);
    // SMMUv2, PMCG, RMR and something new.
    iort.node(3, 1, &Bytes::default().u64(0x2000).u64(0x1000).u32(3).u32(2).bytes(&[0; 20]).0, &[]);
    iort.node(5, 1, &[0; 24], &[]);
    iort.node(6, 1, &[0; 12], &[]);
    iort.node(200, 1, &[], &[]);
    let it = Iort::parse(&iort.build()).unwrap();
    let kinds: Vec<_> = it.nodes.iter().map(|node| node.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            Kind::Its { ids: vec![3, 4] },
            Kind::SmmuV3 { base: 0x1000, flags: 0, own: Some(1) },
            Kind::Named { path: "\\_SB.DEV0".into(), access: Access { cca: 0, hints: 0, flags: 4 } },
            Kind::Smmu { base: 0x2000, flags: 2 },
            Kind::Pmcg,
            Kind::Rmr,
            Kind::Other(200),
        ]
    );
    assert!(it.nodes[2].mappings[0].is_single());
}

/// What QEMU 10.0.2 wrote and Linux 6.12 booted with.
#[test]
fn iort_of_qemu() {
    let it = Iort::parse(include_bytes!("fixtures/acpi-smmuv3/IORT")).unwrap();
    let [its, smmu, root] = it.nodes.as_slice() else { panic!("{it:?}") };
    assert_eq!((its.offset, smmu.offset, root.offset), (0x30, 0x48, 0xa0));
    assert_eq!(smmu.kind, Kind::SmmuV3 { base: 0x905_0000, flags: 1, own: None });
    // The host bridge is bus 0, with 256 ids; the rest of the ids goes to the ITS.
    let maps: Vec<_> = root.mappings.iter().map(|m| (m.input, m.last(), m.to)).collect();
    assert_eq!(maps, [(0, 0xff, 0x48), (0x100, 0xffff, 0x30)]);
}

#[test]
fn iort_errors_say_where() {
    let right = usual_iort();
    let broken = |at: usize, bytes: &[u8]| {
        let mut table = right.clone();
        table[at..at + bytes.len()].copy_from_slice(bytes);
        sum(&mut table);
        Iort::parse(&table).unwrap_err().to_string()
    };
    assert_eq!(broken(0, b"VIOT"), "IORT at byte 0: the signature is `VIOT`");
    assert!(broken(40, &[40]).contains("begin at 40"), "{}", broken(40, &[40]));
    assert!(broken(36, &[9]).contains("are needed here"), "{}", broken(36, &[9]));
    assert!(broken(49, &[15, 0]).contains("a node of 15 bytes"));
    assert!(broken(49, &[16, 0]).contains("has at least 20"));
    // The ITS group says more ITSs than fit, the SMMU more mappings, and one of them goes nowhere.
    assert!(broken(64, &[2]).contains("2 ITSs"), "{}", broken(64, &[2]));
    let smmu = 48 + 24;
    assert!(broken(smmu + 8, &[2]).contains("2 mappings at 68"), "{}", broken(smmu + 8, &[2]));
    assert!(broken(smmu + 8, &[0xff; 4]).contains("4294967295 mappings"));
    assert!(broken(smmu + 68 + 12, &[49]).contains("to 0x31, where no node begins"));
    assert!(broken(smmu + 68, &[0xff; 4]).contains("pass 2^32"));
    let mut table = right.clone();
    table[50] ^= 0xff;
    let text = Iort::parse(&table).unwrap_err().to_string();
    assert!(text.contains("the checksum is") && text.contains("would make its bytes sum to zero"), "{text}");
    assert!(Iort::parse(&right[..35]).unwrap_err().to_string().contains("35 bytes"));
    assert!(Iort::parse(&right[..90]).unwrap_err().to_string().contains("90 are here"));
}

#[test]
fn viot_and_mcfg() {
    let it = Viot::parse(&viot(8, &[((0, 1), (0, 7))])).unwrap();
    assert_eq!(
        it.nodes,
        [
            (48, Node::VirtioPci { segment: 0, rid: 8 }),
            (64, Node::PciRange { endpoint: 0, segments: (0, 1), rids: (0, 7), to: 48 }),
        ]
    );
    let body = Bytes::default().u16(2).u16(48).u64(0);
    let body = body.u8(4).u8(0).u16(16).u32(0).u64(0xa00_0000);
    let body = body.u8(2).u8(0).u16(24).u32(5).u64(0xb00_0000).u16(48).bytes(&[0; 6]);
    let it = Viot::parse(&table(b"VIOT", &body.0)).unwrap();
    assert_eq!(it.node(48), Some(&Node::VirtioMmio { base: 0xa00_0000 }));
    assert_eq!(it.node(64), Some(&Node::Mmio { endpoint: 5, base: 0xb00_0000, to: 48 }));
    assert_eq!(
        mcfg::parse(&mcfg(&[(0x40_1000_0000, 0, 0, 255)])).unwrap(),
        [Ecam { base: 0x40_1000_0000, segment: 0, first: 0, last: 255 }]
    );
    assert!(mcfg::parse(&mcfg(&[(0, 0, 2, 1)])).unwrap_err().to_string().contains("0x02 to 0x01"));
    let text = Viot::parse(&viot(8, &[((0, 0), (7, 0))])).unwrap_err().to_string();
    assert!(text.contains("requester ids 0x7 to 0x0"), "{text}");
}

/// The same tables, written by a crate that is not ours.
#[test]
fn written_by_others() {
    let bytes = |it: &dyn acpi_tables::Aml| {
        let mut bytes = Vec::new();
        it.to_aml_bytes(&mut bytes);
        bytes
    };
    let mut theirs = MCFG::new(*b"OTHERS", *b"OTHERTBL", 1);
    theirs.add_ecam(0x40_1000_0000, 3, 1, 0x7f);
    assert_eq!(
        mcfg::parse(&bytes(&theirs)).unwrap(),
        [Ecam { base: 0x40_1000_0000, segment: 3, first: 1, last: 0x7f }]
    );

    let mut theirs = VIOT::new(*b"OTHERS", *b"OTHERTBL", 1);
    let pci = theirs.add_virtio_pci_iommu(VirtIoPciIommu::new(PciDevice::new(2, 1, 3, 1)));
    theirs.add_pci_range(PciRange::new(PciDevice::new(2, 0, 0, 0), PciDevice::new(2, 255, 31, 7), &pci));
    let mmio = theirs.add_virtio_mmio_iommu(VirtIoMmioIommu::new(0xa00_0000));
    theirs.add_mmio_endpoint(MmioEndpoint::new(9, 0xb00_0000, &mmio));
    let it = Viot::parse(&bytes(&theirs)).unwrap();
    let nodes: Vec<Node> = it.nodes.iter().map(|(_, node)| *node).collect();
    let Node::PciRange { segments, rids, to, .. } = nodes[1] else { panic!("{nodes:?}") };
    assert_eq!((segments, rids, it.node(to)), ((2, 2), (0, 0xffff), Some(&Node::VirtioPci { segment: 2, rid: 0x119 })));
    let Node::Mmio { endpoint, base, to } = nodes[3] else { panic!("{nodes:?}") };
    assert_eq!((endpoint, base, it.node(to)), (9, 0xb00_0000, Some(&Node::VirtioMmio { base: 0xa00_0000 })));
}

/// Code of a crate that is not ours, with names and methods around what is looked for.
#[test]
fn aml_written_by_others() {
    let hid = aml_of::EISAName::new("PNP0A08");
    let hid = aml_of::Name::new("_HID".into(), &hid);
    let segment = aml_of::Name::new("_SEG".into(), &5_u16);
    let cca = aml_of::Name::new("_CCA".into(), &1_u8);
    let text = aml_of::Name::new("_STR".into(), &"a host bridge of _CCA");
    let one = 1_u8;
    let returns = aml_of::Return::new(&one);
    let method = aml_of::Method::new("_STA".into(), 0, false, vec![&returns]);
    let buffer = aml_of::BufferData::new(vec![0x5b; 300]);
    let buffer = aml_of::Name::new("BUFF".into(), &buffer);
    let bridge = aml_of::Device::new("PC05".into(), vec![&text, &method, &buffer, &hid, &segment, &cca]);
    let scope = aml_of::Scope::new("\\_SB_".into(), vec![&bridge]);
    let mut code = Vec::new();
    scope.to_aml_bytes(&mut code);
    let mut block = Sdt::new(*b"DSDT", 36, 2, *b"OTHERS", *b"OTHERTBL", 1);
    block.append_slice(&code);
    assert_eq!(bridges(block.as_slice()), [("\\_SB.PC05".into(), Some(5), Some(true), false)]);
}

#[test]
fn viot_of_qemu() {
    let it = Viot::parse(include_bytes!("fixtures/acpi-virtio-iommu/VIOT")).unwrap();
    assert_eq!(
        it.nodes,
        [
            (0x30, Node::VirtioPci { segment: 0, rid: 0x28 }),
            (0x40, Node::PciRange { endpoint: 0, segments: (0, 0), rids: (0, 0xff), to: 0x30 }),
        ]
    );
}

#[test]
fn madt_and_dmar() {
    let it = Madt::parse(&madt(&[(0, 0x808_0000)], &[(7, 0x802_0000)])).unwrap();
    assert_eq!((it.gic, it.its, it.frames), (true, vec![(0, 0x808_0000)], vec![(7, 0x802_0000)]));
    let it = Madt::parse(include_bytes!("fixtures/acpi-smmuv3/APIC")).unwrap();
    assert_eq!((it.gic, it.its.as_slice(), it.frames.len()), (true, [(0, 0x808_0000)].as_slice(), 0));
    let it = Dmar::parse(&dmar()).unwrap();
    assert_eq!((it.flags, it.address_bits, it.ats.as_slice()), (1, 46, [2].as_slice()));
    let units: Vec<_> = it.units.iter().map(|unit| (unit.segment, unit.base, unit.all)).collect();
    assert_eq!(units, [(2, 0xfed9_0000, false), (0, 0xfed9_1000, true)]);
}

fn bridges(block: &[u8]) -> Vec<(String, Option<u16>, Option<bool>, bool)> {
    let all = aml::host_bridges(block).unwrap().into_iter();
    all.map(|it| (it.path, it.segment, it.cca, it.open)).collect()
}

#[test]
fn cca_of_a_host_bridge() {
    let path = || String::from("\\_SB.PCI0");
    for (names, segment, cca, open) in [
        (name(b"_CCA", &[1]), Some(0), Some(true), false),
        (name(b"_CCA", &[0]), Some(0), Some(false), false),
        (name(b"_CCA", &[0x0a, 1]), Some(0), Some(true), false),
        (name(b"_CCA", &[0xff]), Some(0), Some(true), false),
        (vec![], Some(0), None, false),
        ([name(b"_SEG", &[0x0b, 2, 1]), name(b"_CCA", &[1])].concat(), Some(0x102), Some(true), false),
        // A method.
        (package(&[0x14], b"_CCA\0\xa4\x01"), None, None, true),
        // A name that refers to another, and one in a condition.
        (name(b"_CCA", b"FOOO"), None, None, true),
        (package(&[0xa0], &[&[0x01], name(b"_CCA", &[1]).as_slice()].concat()), None, None, true),
        // After an operation that is not understood.
        ([b"\x5b\x99".as_slice(), &name(b"_CCA", &[1])].concat(), None, None, true),
        // A string that names it is no name of it.
        (name(b"_STR", b"\x0d_CCA\0"), Some(0), None, false),
    ] {
        assert_eq!(bridges(&dsdt(&names)), [(path(), segment, cca, open)], "{names:02x?}");
    }
}

#[test]
fn cca_from_above_and_from_another_block() {
    // ACPI 6.5, 6.2.17: where an ancestor has one, those below are not asked.
    let bridge = device(b"PCI0", &[name(b"_HID", &PNP0A08), name(b"_CCA", &[0])].concat());
    let above = device(b"SOC_", &[name(b"_CCA", &[1]), bridge].concat());
    let block = table(b"DSDT", &scope(b"\\_SB_", &above));
    assert_eq!(bridges(&block), [("\\_SB.SOC.PCI0".into(), Some(0), Some(true), false)]);
    let cca = aml::cca(&block).unwrap();
    assert_eq!(cca.into_iter().collect::<Vec<_>>(), [("\\_SB.SOC".into(), true), ("\\_SB.SOC.PCI0".into(), false)]);

    let mut names = Namespace::default();
    names.read(&dsdt(&[])).unwrap();
    names.read(&table(b"SSDT", &scope(b"\\\x2e_SB_PCI0", &name(b"_CCA", &[1])))).unwrap();
    let it = names.host_bridges();
    assert_eq!(it.iter().map(|it| (it.path.as_str(), it.cca)).collect::<Vec<_>>(), [("\\_SB.PCI0", Some(true))]);
    assert!(names.read(&usual_iort()).unwrap_err().to_string().contains("the signature is `IORT`"));
}

#[test]
fn ids_of_a_host_bridge() {
    let is = |names: &[u8]| !bridges(&table(b"DSDT", &device(b"RP00", names))).is_empty();
    assert!(is(&name(b"_HID", b"\x0dPNP0A03\0")));
    assert!(is(&name(b"_CID", &PNP0A08)));
    // A package of two, the second is it.
    let package = package(&[0x12], &[&[2, 0x0d], b"LNRO0005\0".as_slice(), &PNP0A08].concat());
    assert!(is(&name(b"_CID", &package)));
    assert!(!is(&name(b"_HID", b"\x0dPNP0A05\0")));
    assert!(!is(&name(b"_UID", &PNP0A08)));
}

#[test]
fn dsdt_of_qemu() {
    let block = include_bytes!("fixtures/acpi-smmuv3/DSDT");
    assert_eq!(bridges(block), [("\\_SB.PCI0".into(), Some(0), Some(true), false)]);
    // Each of the 32 virtio-mmio slots, fw_cfg and the host bridge.
    let cca = aml::cca(block).unwrap();
    assert_eq!((cca.len(), cca.values().all(|cca| *cca)), (34, true), "{cca:?}");
}

#[test]
fn trees_of_qemu() {
    let (tree, wiring) = dt::parse(SMMUV3).unwrap();
    assert_eq!(tree.compatible, ["linux,dummy-virt"]);
    let [bridge] = tree.bridges.as_slice() else { panic!("{:?}", tree.bridges) };
    assert_eq!((bridge.path.as_str(), bridge.domain, bridge.buses), ("/pcie@10000000", Some(0), Some((0, 255))));
    assert_eq!(
        (bridge.coherent, bridge.compatible.as_slice()),
        (Some(true), ["pci-host-ecam-generic".into()].as_slice())
    );
    assert_eq!(bridge.iommu_map, [(0, "/smmuv3@9050000".into(), 0, 0x10000)]);
    assert_eq!(
        bridge.windows,
        [
            (false, false, 0x1000_0000, 0x1000_0000, 0x2eff_0000),
            (false, true, 0x80_0000_0000, 0x80_0000_0000, 0x80_0000_0000)
        ]
    );
    assert_eq!(tree.iommus, [("/smmuv3@9050000".into(), vec!["arm,smmu-v3".into()], true)]);
    assert!(wiring.arm && wiring.odd.is_empty());
    assert_eq!(
        wiring.bridges[0].msi_map.as_ref().unwrap().entries[0].to.path.as_deref(),
        Some("/intc@8000000/its@8080000")
    );
    // 32 virtio-mmio slots and fw_cfg.
    assert_eq!(wiring.devices.len(), 33);
    assert!(wiring.devices.iter().all(|it| it.coherence.coherent == Some(true)));

    let (tree, wiring) = dt::parse(VIRTIO).unwrap();
    let [iommu] = wiring.iommus.as_slice() else { panic!("{:?}", wiring.iommus) };
    assert_eq!(iommu.function, Some(("/pcie@10000000".into(), 8)));
    // It leaves itself out, and has the host bridge's coherency.
    assert_eq!(iommu.coherence.from.as_deref(), Some("/pcie@10000000"));
    let map = &tree.bridges[0].iommu_map;
    assert_eq!(map.iter().map(|it| (it.0, it.2, it.3)).collect::<Vec<_>>(), [(0, 0, 8), (9, 9, 0xfff7)]);

    let (_, wiring) = dt::parse(GICV2).unwrap();
    assert_eq!(wiring.msi_controllers.len(), 1);
    assert!(wiring.iommus.is_empty());
}

/// `status`, a map to two cells, words from above, windows of a bridge below one-cell addresses.
#[test]
fn trees_of_other_forms() {
    let mut it = tree(SMMUV3);
    set(&mut it, "/pcie@10000000", "dma-coherent", None);
    set(&mut it, "/", "dma-coherent", None);
    set(&mut it, "/", "dma-noncoherent", Some(&[]));
    set(&mut it, "/smmuv3@9050000", "#iommu-cells", Some(&cells(&[2])));
    let phandle = phandle(&it, "/smmuv3@9050000");
    set(&mut it, "/pcie@10000000", "iommu-map", Some(&cells(&[0, phandle, 7, 8, 16, 16, phandle, 9, 9, 1])));
    set(&mut it, "/pcie@10000000", "ranges", Some(&cells(&[0x4200_0000, 1, 2, 3, 4, 5])));
    set(&mut it, "/virtio_mmio@a000000", "status", Some(b"disabled\0"));
    let (tree, wiring) = dt::parse(&it.to_dtb()).unwrap();
    let bridge = &wiring.bridges[0];
    assert_eq!((bridge.coherence.coherent, bridge.coherence.from.as_deref()), (Some(false), Some("/")));
    let entries: Vec<_> =
        bridge.iommu_map.iter().flat_map(|map| &map.entries).map(|e| (e.first, e.id, e.count)).collect();
    assert_eq!(entries, [(0, Some(7), 16), (16, Some(9), 1)]);
    // Six cells are no entry of seven.
    assert!(tree.bridges[0].windows.is_empty());
    assert!(wiring.odd[0].contains("/pcie@10000000: ranges: 24 bytes"), "{:?}", wiring.odd);
    assert_eq!(wiring.devices.len(), 32);
}

#[test]
fn trees_that_are_none() {
    let says = |blob: &[u8]| dt::parse(blob).unwrap_err().to_string();
    assert!(says(&[]).contains("0 bytes"));
    assert!(says(&[0; 64]).contains("begins with 0x00000000"));
    assert!(says(&SMMUV3[..500]).contains("500 are here"), "{}", says(&SMMUV3[..500]));
    // More bytes than its header says are no part of it.
    assert!(dt::parse(&[SMMUV3, &[0; 100]].concat()).is_ok());
    let mut deep = dtoolkit::model::DeviceTreeNode::new("last").unwrap();
    for _ in 0..70 {
        let mut above = dtoolkit::model::DeviceTreeNode::new("n").unwrap();
        above.add_child(deep);
        deep = above;
    }
    let mut tree = dtoolkit::model::DeviceTree::new();
    tree.root.add_child(deep);
    assert!(says(&tree.to_dtb()).contains("more than 64 levels"));
}

#[test]
fn every_truncation_is_an_error() {
    for (table, read) in known() {
        read(&table).unwrap();
        for end in 0..table.len() {
            read(&table[..end]).unwrap_err();
            // With a header that fits what is left, it may be a shorter table; it does not read past its end.
            if end >= 36 {
                let mut short = table[..end].to_vec();
                short[4..8].copy_from_slice(&u32::try_from(end).unwrap().to_le_bytes());
                sum(&mut short);
                let _ = read(&short);
            }
        }
    }
    for end in (0..SMMUV3.len()).step_by(7) {
        dt::parse(&SMMUV3[..end]).unwrap_err();
    }
}

#[test]
fn every_byte_may_be_any() {
    for (table, read) in known() {
        // All of a short one; of QEMU's DSDT, which repeats itself, as much.
        for at in 10..table.len().min(700) {
            for value in [0, 1, 0x7f, 0x80, 0xff, table[at].wrapping_add(1), table[at] ^ 0x40] {
                let mut other = table.clone();
                other[at] = value;
                sum(&mut other);
                let _ = read(&other);
            }
        }
    }
    let mut blob = SMMUV3.to_vec();
    for at in 0..blob.len() {
        let right = blob[at];
        blob[at] = [0, 1, 0xff, right.wrapping_add(1)][at % 4];
        if let Ok(tree) = dt::parse(&blob) {
            let _ = lint::check(&Description { tree: Some(tree), ..Description::default() });
        }
        blob[at] = right;
    }
}

fn readers() -> [(&'static [u8; 4], Reader); 5] {
    [
        (b"IORT", |b| Iort::parse(b).map(|it| format!("{it:?}"))),
        (b"VIOT", |b| Viot::parse(b).map(|it| format!("{it:?}"))),
        (b"MCFG", |b| mcfg::parse(b).map(|it| format!("{it:?}"))),
        (b"APIC", |b| Madt::parse(b).map(|it| format!("{it:?}"))),
        (b"DMAR", |b| Dmar::parse(b).map(|it| format!("{it:?}"))),
    ]
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (signature, read) in readers() {
            let _ = read(&bytes);
            let _ = read(&table(signature, &bytes));
        }
        let _ = aml::host_bridges(&table(b"DSDT", &bytes));
        let _ = dt::parse(&bytes);
        let _ = Table::open("IORT", &bytes);
    }

    #[test]
    fn any_aml_of_known_words(words in proptest::collection::vec(0_usize..16, 0..60)) {
        let all: [&[u8]; 16] = [
            b"\x10", b"\x5b\x82", b"\x08", b"\x14", b"\xa0", b"_CCA", b"_SB_", b"\\", b"^", b"\x2e", b"\x01", b"\x0c\x41\xd0\x0a\x08",
            b"\x08_HID", b"\x0a\x0b", b"\x12\x08\x02", b"\x46\x01",
        ];
        let code: Vec<u8> = words.iter().flat_map(|word| all[*word]).copied().collect();
        let mut names = Namespace::default();
        names.read(&table(b"DSDT", &code)).unwrap();
        // A name that is kept has at least eight bytes of code, a device that is only open four.
        prop_assert!(names.devices.len() <= code.len() / 4);
        let _ = names.host_bridges();
    }

    #[test]
    fn some_bytes_of_a_tree_are_others(changes in proptest::collection::vec((0_usize..SMMUV3.len(), any::<u8>()), 1..8)) {
        let mut blob = VIRTIO.to_vec();
        for (at, value) in changes {
            if let Some(byte) = blob.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(tree) = dt::parse(&blob) {
            let _ = lint::check(&Description { tree: Some(tree), ..Description::default() });
        }
    }
}
