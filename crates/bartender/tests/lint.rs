//! `bartender lint` on what QEMU describes, and on the same with one thing changed.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{json, refused, run, stdout};
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../firmware/tests/fixtures");

fn fixture(name: &str) -> String {
    format!("{FIXTURES}/{name}")
}

/// A fixture with one run of bytes changed for another of the same length, wherever it is. The checksum of a table is made to hold.
fn changed(name: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = fs::read(fixture(name)).unwrap();
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> =
        bytes.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{name} has no such bytes");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    if !name.ends_with(".dtb") {
        bytes[9] = 0;
        bytes[9] = bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)).wrapping_neg();
    }
    bytes
}

/// A file of these bytes in a folder of this test.
fn file(test: &str, name: &str, bytes: &[u8]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("lint-{test}"));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A copy of a folder of tables, one of them changed.
fn folder(test: &str, of: &str, name: &str, from: &[u8], to: &[u8]) -> String {
    for entry in fs::read_dir(fixture(of)).unwrap() {
        let path = entry.unwrap().path();
        file(test, path.file_name().unwrap().to_str().unwrap(), &fs::read(&path).unwrap());
    }
    let path = file(test, name, &changed(&format!("{of}/{name}"), from, to));
    path.parent().unwrap().to_str().unwrap().to_owned()
}

/// The rules that are broken, each with where, and the exit code.
fn complaints(args: &[&str]) -> (Vec<(String, String)>, Option<i32>) {
    let out = run(&[&["lint", "--json"], args].concat());
    assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    let json: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let all = json["complaints"].as_array().unwrap().iter().map(|it| (text(&it["name"]), text(&it["at"])));
    (all.filter(|(name, _)| name != "normal-nc-unsaid").collect(), out.status.code())
}

fn one(path: &str) -> (String, String, Option<i32>) {
    let (found, code) = complaints(&[path]);
    let [(name, at)] = found.as_slice() else { panic!("{found:?}") };
    (name.clone(), at.clone(), code)
}

#[test]
fn what_qemu_describes_is_right() {
    for name in ["virt-smmuv3.dtb", "virt-virtio-iommu.dtb", "virt-gicv2.dtb", "acpi-smmuv3"] {
        assert_eq!(complaints(&[&fixture(name)]), (vec![], Some(0)), "{name}");
        // A note is no "no", however strict one is.
        assert_eq!(complaints(&[&fixture(name), "--strict"]).1, Some(0));
    }
    // QEMU's VIOT has the IOMMU in the range it translates, which Linux leaves out itself: a note.
    let (name, at, code) = one(&fixture("acpi-virtio-iommu"));
    assert_eq!((name.as_str(), at.as_str(), code), ("viot-own-range", "VIOT 0x40 (PCI range)", Some(0)));
}

#[test]
fn the_whole_answer() {
    assert_eq!(
        stdout(&["lint", &fixture("acpi-virtio-iommu")]),
        "\
IORT         1 ITS group, 1 root complex
VIOT         1 virtio-iommu, 1 PCI range, no MMIO endpoint
MCFG         segment 0, buses 0x00 to 0xff
APIC         a GIC, 1 ITS, no GICv2m frame
DSDT, SSDT   1 PCI host bridge: \\_SB.PCI0 (segment 0, _CCA 1)

note     viot-own-range
         at      VIOT 0x40 (PCI range)
                 the virtio-iommu is 0x28 (00:05.0), in 0x0 to 0xff
         follows Its own DMA cannot be behind it. Linux leaves it out (\"We're not translating
                 ourself\"); another guest may wait for it for ever.
         remedy  Split the range around its requester id. QEMU does not (hw/acpi/viot.c), which is
                 why this is a note.
         source  Linux 7.2 viot_dev_iommu_init()
                 QEMU hw/acpi/viot.c

note     normal-nc-unsaid
         at      \\_SB.PCI0
                 no word on Normal-NC
         follows No table and no binding has a word for it, so the guest's driver decides alone.
                 Whether it gets what it asks is decided at stage 2, by the host's kernel (vfio-pci
                 from Linux 6.9: yes).
         remedy  Nothing to do here; `bartender plan` says what each BAR gets on a host.
         source  thread 002 (Zyngier: \"Having a firmware description of what can be mapped with what
                 attributes\")

2 notes; 20 of 33 rules asked
"
    );
}

#[test]
fn tables_that_contradict() {
    // `_CCA` of the host bridge alone, with the bytes before it: the table has 34 of them.
    let dsdt = fs::read(fixture("acpi-smmuv3/DSDT")).unwrap();
    let bridge = dsdt.windows(4).position(|w| w == b"PCI0").unwrap();
    let cca = bridge + dsdt[bridge..].windows(5).position(|w| w == b"_CCA\x01").unwrap();
    let context = &dsdt[cca - 8..cca + 5];
    let mut zero = context.to_vec();
    *zero.last_mut().unwrap() = 0;
    let path = folder("cca", "acpi-smmuv3", "DSDT", context, &zero);
    assert_eq!(one(&path), ("cca-differs".into(), "\\_SB.PCI0".into(), Some(1)));
    let mut gone = context.to_vec();
    gone[8..12].copy_from_slice(b"_CCB");
    let path = folder("no-cca", "acpi-smmuv3", "DSDT", context, &gone);
    assert_eq!(one(&path), ("cca-missing".into(), "\\_SB.PCI0".into(), Some(1)));

    // Flags of the SMMUv3: base, flags.
    let (from, to) = ([0, 0, 5, 9, 0, 0, 0, 0, 1], [0, 0, 5, 9, 0, 0, 0, 0, 0]);
    let path = folder("cohacc", "acpi-smmuv3", "IORT", &from, &to);
    let at = String::from("IORT 0x48 (SMMUv3 at 0x9050000)");
    assert_eq!(one(&path), ("smmuv3-not-coherent".into(), at, Some(0)));
    assert_eq!(complaints(&[&path, "--strict"]).1, Some(1));

    // The requester ids of the host bridge go to the SMMU beside a VIOT.
    let viot = fixture("acpi-virtio-iommu/VIOT");
    let (found, code) = complaints(&[&fixture("acpi-smmuv3"), &viot]);
    assert_eq!(found[0], ("translated-twice".into(), "VIOT 0x40 (PCI range)".into()));
    assert_eq!(code, Some(1));
}

#[test]
fn trees_that_contradict() {
    // A property by another name is none: in the strings, each name is once.
    let path = file("virtio", "tree.dtb", &changed("virt-smmuv3.dtb", b"dma-coherent\0", b"dma-c0herent\0"));
    let (found, code) = complaints(&[path.to_str().unwrap()]);
    let count = |name: &str| found.iter().filter(|(rule, _)| rule == name).count();
    assert_eq!(
        (count("dt-virtio-not-coherent"), count("dt-bridge-says-nothing"), found.len()),
        (32, 1, 33),
        "{found:?}"
    );
    assert_eq!(code, Some(1));
    // Of thirty-two with one fault, four are named.
    let text = String::from_utf8(run(&["lint", path.to_str().unwrap()]).stdout).unwrap();
    assert!(text.contains("/virtio_mmio@a000000, ") && text.contains("and 28 more"), "{text}");
    assert!(text.contains("32 errors, 1 warning, 1 note; "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");

    let path = file("msi", "tree.dtb", &changed("virt-smmuv3.dtb", b"msi-map\0", b"msi-m4p\0"));
    assert_eq!(one(path.to_str().unwrap()), ("dt-no-msi".into(), "/pcie@10000000".into(), Some(0)));

    // <0 &iommu 0 8> becomes <0 &iommu 0 9>: the IOMMU is 00:01.0.
    let tree = fs::read(fixture("virt-virtio-iommu.dtb")).unwrap();
    let cells = |cells: &[u32]| cells.iter().flat_map(|cell| cell.to_be_bytes()).collect::<Vec<u8>>();
    let second = cells(&[8, 9]);
    let at = tree.windows(8).position(|w| w == second).unwrap();
    let phandle = &tree[at + 8..at + 12];
    let from = [&cells(&[0]), phandle, &cells(&[0, 8])].concat();
    let to = [&cells(&[0]), phandle, &cells(&[0, 9])].concat();
    let path = file("own", "tree.dtb", &changed("virt-virtio-iommu.dtb", &from, &to));
    assert_eq!(one(path.to_str().unwrap()), ("dt-iommu-in-own-map".into(), "/pcie@10000000".into(), Some(1)));
}

#[test]
fn what_cannot_be_read() {
    // Of a table or tree that is broken, that is the answer.
    let mut bytes = fs::read(fixture("acpi-smmuv3/IORT")).unwrap();
    bytes[60] ^= 1;
    let path = file("sum", "IORT", &bytes);
    let (name, _, code) = one(path.to_str().unwrap());
    assert_eq!((name.as_str(), code), ("malformed", Some(1)));
    let text = String::from_utf8(run(&["lint", path.to_str().unwrap()]).stdout).unwrap();
    assert!(text.contains("IORT at byte 9: the checksum is 0x57; 0x56"), "{text}");
    let short = file("short", "tree.dtb", &fs::read(fixture("virt-gicv2.dtb")).unwrap()[..1000]);
    assert_eq!(one(short.to_str().unwrap()).0, "malformed");

    // What is neither is a wrong argument.
    let (text, empty) = (file("text", "a", b"hello"), file("none", "a", b""));
    for (args, says) in [
        (vec![text.to_str().unwrap()], "neither a flattened device tree"),
        (vec![empty.parent().unwrap().to_str().unwrap()], "no ACPI table and no device tree in it"),
        (vec!["/no/such/file"], "No such file"),
        (vec![&fixture("virt-gicv2.dtb"), &fixture("virt-smmuv3.dtb")], "a second device tree"),
        (vec![&fixture("acpi-smmuv3"), &fixture("acpi-virtio-iommu")], "a second "),
        (vec!["--rules", "cca-mising"], "did you mean cca-missing?"),
        (vec![], "required arguments"),
    ] {
        let message = refused(&[&["lint"], args.as_slice()].concat());
        assert!(message.contains(says), "{args:?}: {message}");
    }
}

#[test]
fn the_rules_as_a_list_and_as_json() {
    let all = json(&["lint", "--rules", "--json"]);
    let all = all.as_array().unwrap();
    let list = stdout(&["lint", "--rules"]);
    for rule in all {
        let name = rule["name"].as_str().unwrap();
        assert!(list.contains(name), "{name}");
        let one = stdout(&["lint", "--rules", name]);
        for part in ["finds", "follows", "remedy", "source"] {
            assert!(one.contains(part), "{name}: {one}");
        }
        assert_eq!(json(&["lint", "--rules", name, "--json"]), *rule);
    }
    assert!(list.lines().all(|line| line.chars().count() <= 100));
}
