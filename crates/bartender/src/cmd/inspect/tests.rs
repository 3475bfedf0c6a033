#![allow(clippy::unwrap_used, clippy::panic)]

use proptest::prelude::*;

use super::example::{arm, bdf, intel, nothing};
use super::*;

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn device(host: &Host, at: &str) -> String {
    plain(&text::device(host, host.functions.get(&bdf(at)).unwrap()))
}

/// The one line that has these words.
fn line<'a>(text: &'a str, words: &[&str]) -> &'a str {
    let found: Vec<&str> = text.lines().filter(|l| words.iter().all(|w| l.contains(w))).collect();
    assert_eq!(found.len(), 1, "{words:?} in\n{text}");
    found[0]
}

#[test]
fn no_line_is_wider_than_the_widest_that_is_allowed() {
    for host in [arm(), intel(), nothing()] {
        let mut all = plain(&text::machine(&host, true));
        for function in host.functions.values() {
            all.push_str(&plain(&text::device(&host, function)));
        }
        for line in all.lines() {
            assert!(line.chars().count() <= 110, "{line}");
            assert_eq!(line, line.trim_end(), "{line:?}");
        }
    }
}

#[test]
fn a_machine_with_nothing_says_so() {
    let text = plain(&text::machine(&nothing(), false));
    for words in
        ["KVM        none: no /dev/kvm", "VFIO       none", "IOMMU      none", "no PCI function here", "neither ACPI"]
    {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    assert!(nfd::file(&nothing()).contains("bartender.vfio=false\n"));
    assert!(drawing::page(&nothing()).contains("There is no PCI function here"));
}

#[test]
fn the_table_has_what_can_be_given_to_a_guest() {
    let text = plain(&text::machine(&arm(), false));
    assert!(!text.contains("0000:00:01.0 "), "a bridge");
    assert!(line(&text, &["0000:01:00.0"]).contains("NVIDIA H100 PCIe"));
    // The second line of the same device: what is the same is not said again.
    assert!(line(&text, &["4G m64p"]).trim_start().starts_with("2 "), "{text}");
    // It is bound to nvme: what it would get is in brackets. Its I/O BAR has no line.
    let disk = line(&text, &["0000:02:00.0"]);
    assert!(disk.contains("1d0f:8061") && disk.contains('('), "{disk}");
    assert!(!text.contains(" io "));
    let all = plain(&text::machine(&arm(), true));
    assert!(line(&all, &["0000:00:01.0"]).contains("pcieport"));
    assert!(line(&text, &["1 function without"]).contains("--all"));
}

#[test]
fn holes_are_told_of_once_for_all_devices() {
    let text = plain(&text::machine(&arm(), false));
    assert!(text.contains("\n  run as root\n    /sys/bus/pci/devices/*/config (×3)\n"), "{text}");
    let many: Vec<Hole> = (0..200u32)
        .map(|i| Hole {
            at: format!("/sys/devices/pci0000:{:02x}/0000:{:02x}:00.0/0000:{:02x}:01.0/config", i, i, i + 1),
            why: Why::Denied,
        })
        .collect();
    assert_eq!(grouped(&many), [("run as root".to_owned(), vec![("/sys/devices/pci*/*/config".to_owned(), 200)])]);
    assert_eq!(starred("/sys/devices/system/cpu/cpu17/regs"), "/sys/devices/system/cpu/cpu*/regs");
    assert_eq!(starred("/sys/kernel/iommu_groups/12/type"), "/sys/kernel/iommu_groups/*/type");
    assert_eq!(starred("KVM_CHECK_EXTENSION(243)"), "KVM_CHECK_EXTENSION(243)");
}

#[test]
fn no_snoop_by_who_takes_it_off() {
    let says = |host: &Host| device(host, "0000:01:00.0").split_whitespace().collect::<Vec<_>>().join(" ");
    // SMMUv3 cannot; nothing on arm64 does.
    let text = says(&arm());
    assert!(text.contains("may bypass the caches, and on arm64 neither VFIO nor KVM does anything"), "{text}");
    // VT-d without snoop control: KVM has to be told.
    let mut host = intel();
    assert!(says(&host).contains("KVM's VFIO device"));
    host.iommus.get_mut("dmar0").unwrap().enforces = ::host::Fact::Known(true);
    assert!(says(&host).contains("No Snoop does nothing"));
    // What VFIO answered for the device counts more than what the IOMMU says of itself.
    let opened = ::host::Opened {
        by: "group".into(),
        enforces_coherency: Some(false),
        regions: BTreeMap::new(),
        attributes: Vec::new(),
    };
    host.functions.get_mut(&bdf("0000:01:00.0")).unwrap().opened = ::host::Fact::Known(opened);
    assert!(says(&host).contains("KVM's VFIO device") && !says(&host).contains("No Snoop does nothing"));
    // A function that cannot set it.
    let mut host = arm();
    host.functions.get_mut(&bdf("0000:01:00.0")).unwrap().no_snoop = ::host::Fact::Absent;
    assert!(!says(&host).contains("bypass"));
    // Firmware says that it does no harm.
    let mut host = arm();
    if let ::host::Fact::Known(iort) = &mut host.firmware.iort {
        let firmware::iort::Kind::RootComplex { access, .. } = &mut iort.nodes[0].kind else { panic!() };
        access.flags |= 4;
    }
    assert!(says(&host).contains("needs no maintenance here") && !says(&host).contains("bypass"));
}

#[test]
fn the_nearest_devices_are_named() {
    let says = nearest(&arm(), bdf("0000:01:00.1"));
    assert!(says.contains("the nearest: 0000:01:00.0, "), "{says}");
    assert!(nearest(&nothing(), bdf("0000:01:00.1")).contains("no PCI function"));
}

#[test]
fn sizes_as_lspci_writes_them() {
    for (n, says) in
        [(0, "0"), (128, "128"), (4096, "4K"), (16 << 20, "16M"), (1 << 37, "128G"), ((1 << 20) + 1, "1048577")]
    {
        assert_eq!(bytes(n), says);
    }
    assert_eq!(bytes(u64::MAX), u64::MAX.to_string());
    assert_eq!(bytes(3 << 10), "3K");
}

#[test]
fn of_several_devices_of_a_kind_a_fleet_is_told_the_least() {
    let mut host = arm();
    let mut other = host.functions[&bdf("0000:01:00.0")].clone();
    other.bdf = bdf("0000:03:00.0");
    other.bars.retain(|b| b.index == 2);
    host.functions.insert(other.bdf, other);
    let text = nfd::file(&host);
    // Once, though there are two; not by address.
    line(&text, &["pci-10de-2331.bar2.works="]);
    assert!(!text.contains("0000"), "{text}");
    // A BAR that is not prefetchable is a feature, no label.
    let lines: Vec<&str> = text.lines().collect();
    for (before, line) in lines.iter().zip(&lines[1..]) {
        assert_eq!(line.contains(".bar0."), *before == "# +no-label", "{before}\n{line}");
    }
}

#[test]
fn a_feature_file_is_no_larger_than_nfd_reads() {
    let mut host = arm();
    let gpu = host.functions[&bdf("0000:01:00.0")].clone();
    for n in 0..2000u16 {
        let mut other = gpu.clone();
        other.bdf = Bdf::new(u32::from(n) + 1, 0, 0, 0).unwrap();
        other.id.device = n;
        host.functions.insert(other.bdf, other);
    }
    let text = nfd::file(&host);
    assert!(text.len() <= 65_536 && text.len() > 60_000, "{}", text.len());
    assert!(text.contains("bartender.truncated=true\n"));
}

#[test]
fn bridges_that_lie_behind_each_other_are_drawn_once() {
    let mut host = arm();
    let (a, b) = (bdf("0000:00:01.0"), bdf("0000:01:00.0"));
    host.functions.get_mut(&a).unwrap().above = vec![b];
    let page = drawing::page(&host);
    for bdf in host.functions.keys() {
        assert_eq!(page.matches(&format!("<b>{bdf}</b>")).count(), 1, "{bdf}");
    }
    // Behind itself.
    host.functions.get_mut(&a).unwrap().above = vec![a];
    assert_eq!(drawing::page(&host).matches("<b>0000:00:01.0</b>").count(), 1);
}

/// Where files hold text, this text.
fn named(name: &str) -> Host {
    use ::host::Fact;
    let mut host = arm();
    let gpu = host.functions.get_mut(&bdf("0000:01:00.0")).unwrap();
    gpu.driver = Fact::Known(name.into());
    gpu.power = Fact::Known(name.into());
    gpu.vfio_cdev = Some(name.into());
    gpu.opened = Fact::Hole(Hole { at: name.into(), why: Why::Failed(name.into()) });
    host.kernel.release = Fact::Known(name.into());
    host.holes.push(Hole { at: name.into(), why: Why::Failed(name.into()) });
    let smmu = host.iommus.values().next().unwrap().clone();
    host.iommus.insert(name.into(), smmu);
    host
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn hostile_names_stay_text(name in "(\\PC|[\\x00-\\x1f\u{202e}<>&\"'`=,{}])*") {
        let host = named(&name);
        for text in [plain(&text::machine(&host, true)), device(&host, "0000:01:00.0")] {
            prop_assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
        }
        // As many tags of each kind as with a harmless one.
        let (page, honest) = (drawing::page(&host), drawing::page(&named("x")));
        for tag in ["<script", "<b>", "<span", "<svg", "<title", "<li"] {
            prop_assert_eq!(page.matches(tag).count(), honest.matches(tag).count(), "{}", tag);
        }
    }
}
