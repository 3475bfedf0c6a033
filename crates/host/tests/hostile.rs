//! Snapshots that nobody saved: any bytes, good ones with entries of another kind, huge groups. And the speed of a good one.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::time::{Duration, Instant};

use host::{Host, Root, snapshot};
use proptest::prelude::*;

#[path = "../benches/synthetic/mod.rs"]
mod synthetic;

fn gather(text: &str) -> Host {
    let read = snapshot::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let asked = read.asked().clone();
    Host::gather(&Root::of_snapshot(read), &asked)
}

#[test]
fn a_thousand_functions_in_no_time() {
    let text = synthetic::snapshot(1000);
    let start = Instant::now();
    let host = gather(&text);
    let took = start.elapsed();
    assert_eq!(host.functions.len(), 1000);
    let ports = host.functions.values().filter(|f| f.class >> 8 == 0x0604).count();
    assert_eq!(ports, 1000_usize.div_ceil(33));
    for f in host.functions.values().filter(|f| f.class >> 8 != 0x0604) {
        assert_eq!((f.above.len(), f.bars.len()), (1, 2), "{}", f.bdf);
        assert!(
            f.bars.iter().all(|b| b.behind.len() == 1 && b.behind[0].prefetchable == b.prefetchable),
            "{:?}",
            f.bars
        );
        assert_eq!(f.msix.known().unwrap().vectors, 8);
        assert_eq!(f.no_snoop.known(), Some(&true));
        assert!(f.driver.known().is_some() && f.group.known().is_some() && f.iommu.known().unwrap() == "dmar0");
    }
    assert!(host.holes.is_empty(), "{:?}", &host.holes[..host.holes.len().min(10)]);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// A path and the entry that stands there.
fn lines(text: &str) -> Vec<(String, String)> {
    let parsed: serde_json::Value = serde_json::from_str(text).unwrap();
    parsed["files"].as_object().unwrap().iter().map(|(path, entry)| (path.clone(), entry.to_string())).collect()
}

fn snapshot_of(lines: &[(String, String)]) -> String {
    let files: Vec<String> = lines.iter().map(|(path, entry)| format!("{path:?}: {entry}")).collect();
    format!(
        "{{\"format\": 1, \"asked\": {{\"kvm\": \"absent\", \"ctr\": \"absent\", \"opened\": {{}}, \"page\": 4096}}, \"files\": {{{}}}}}",
        files.join(",\n")
    )
}

/// Paths that only another machine than the synthetic one has.
const ELSEWHERE: [&str; 16] = [
    "/dev/kmsg",
    "/proc/cpuinfo",
    "/proc/sys/kernel/arch",
    "/proc/iomem",
    "/proc/mtrr",
    "/sys/firmware",
    "/sys/firmware/fdt",
    "/sys/firmware/devicetree/base",
    "/sys/firmware/devicetree/base/compatible",
    "/sys/firmware/acpi/tables",
    "/sys/firmware/acpi/tables/DSDT",
    "/sys/firmware/acpi/tables/IORT",
    "/sys/firmware/acpi/tables/VIOT",
    "/sys/class/iommu",
    "/sys/kernel/debug/x86/pat_memtype_list",
    "/sys/hypervisor/type",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,80}",
        "[0-9a-fx: \n-]{0,120}",
        Just("aarch64".to_owned()),
        Just("x86_64".to_owned()),
        Just("D3cold".to_owned()),
        Just("reg00: base=0xfffffffffffff000 (1MB), size=17592186044415MB, count=1: write-back".to_owned()),
        Just("ffffffffffffffff-0 : System RAM\n0-ffffffffffffffff : System RAM".to_owned()),
        Just("0x0 0xffffffffffffffff 0x200\n0xffffffffffffffff 0x0 0x200\n0x1 0xffffffffffffffff 0x102200".to_owned()),
        Just("CPU implementer: 0xffffffff\nCPU variant: 0x10\nCPU part: -1\nCPU revision: 0x".to_owned()),
        Just(r#"{"compatible":[],"bridges":[],"iommus":[]}"#.to_owned()),
        Just(
            r#"{"\\_SB":{"ids":["PNP0A08"],"cca":true,"segment":18446744073709551615,"bus":256,"open":true}}"#
                .to_owned()
        ),
    ]
}

fn entry() -> impl Strategy<Value = String> {
    let json = |value: serde_json::Value| value.to_string();
    prop_oneof![
        4 => text().prop_map(move |t| json(serde_json::json!({"text": t}))),
        2 => "(\\.\\./){0,5}[a-z0-9:./]{0,40}".prop_map(move |t| json(serde_json::json!({"link": t}))),
        2 => prop::collection::vec("0000:0[0-3]:[01][0-9a-f]\\.[0-7]|resource[0-9](_wc)?|config|DSDT|SSDT1|IORT|acpi|fdt|devicetree|smmu3\\.0x[0-9]{1,20}|ivhd0|[a-z.]{0,9}", 0..12)
            .prop_map(move |names| json(serde_json::json!({"list": names}))),
        2 => prop::collection::btree_map(0..160_u32, prop::collection::vec(any::<u8>(), 0..80), 0..6).prop_map(move |pieces| {
            let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
            let pieces: serde_json::Map<_, _> = pieces.into_iter().map(|(at, bytes)| (at.to_string(), hex(bytes).into())).collect();
            json(serde_json::json!({"bytes": pieces}))
        }),
        1 => Just("\"absent\"".to_owned()),
        1 => Just("{\"why\":\"denied\"}".to_owned()),
        1 => Just("{\"why\":{\"too-large\":18446744073709551615}}".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = snapshot::parse(&bytes);
    }

    /// A good snapshot that is cut, or in which one byte is another.
    #[test]
    fn a_good_one_with_a_wrong_byte(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = synthetic::snapshot(3).into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(read) = snapshot::parse(&bytes) {
            let asked = read.asked().clone();
            let _ = Host::gather(&Root::of_snapshot(read), &asked);
        }
    }

    /// Entries of any kind and content at any path that is looked at. What is gathered can be written as JSON, and gathers the same
    /// again out of what is saved of it.
    #[test]
    fn entries_of_another_kind(
        changes in prop::collection::vec((any::<prop::sample::Index>(), entry()), 1..12),
        more in prop::collection::vec((prop::sample::select(&ELSEWHERE[..]), entry()), 0..8),
    ) {
        let mut files = lines(&synthetic::snapshot(4));
        for (at, entry) in changes {
            let at = at.index(files.len());
            files[at].1 = entry;
        }
        files.retain(|(path, _)| more.iter().all(|(other, _)| other != path));
        files.extend(more.into_iter().map(|(path, entry)| (path.to_owned(), entry)));
        let host = gather(&snapshot_of(&files));
        prop_assert!(serde_json::to_string(&host).is_ok());
        for f in host.functions.values() {
            for bar in &f.bars {
                prop_assert!(bar.behind.iter().all(|w| w.io == bar.io && w.span.contains(bar.at.unwrap()) && f.above.contains(&w.bridge)));
            }
        }
    }
}

/// Every function in one group of all: memory does not grow with their square.
#[test]
fn one_huge_group() {
    let n = 8000;
    let names: Vec<String> =
        (0..n).map(|i| format!("{:04x}:{:02x}:{:02x}.{}", i / 65536, i / 256 % 256, i / 8 % 32, i % 8)).collect();
    let list = format!("{{\"list\": {}}}", serde_json::to_string(&names).unwrap());
    let mut files = vec![
        ("/sys/bus/pci/devices".to_owned(), list.clone()),
        ("/sys/kernel/iommu_groups/1/devices".to_owned(), list),
    ];
    for name in &names {
        files.push((
            format!("/sys/bus/pci/devices/{name}"),
            format!("{{\"link\": \"../../../devices/pci0000:00/{name}\"}}"),
        ));
        files.push((format!("/sys/devices/pci0000:00/{name}"), "{\"list\": [\"iommu_group\"]}".into()));
        files.push((format!("/sys/devices/pci0000:00/{name}/iommu_group"), "{\"link\": \"../1\"}".into()));
    }
    let start = Instant::now();
    let host = gather(&snapshot_of(&files));
    assert_eq!(host.functions.len(), n);
    assert!(host.functions.values().all(|f| f.group.hole().is_some()));
    assert!(start.elapsed() < Duration::from_secs(10));
}
