//! A snapshot of a server with as many PCI functions as one likes, written here letter by letter, by nothing of the crate.

use std::fmt::Write as _;

/// A snapshot of an x86 server with `n` functions behind one VT-d unit: root ports, each with up to 32 functions on its bus.
pub(crate) fn snapshot(n: usize) -> String {
    let mut files: Vec<(String, String)> = Vec::new();
    let mut text = |path: &str, text: &str| files.push((path.into(), format!("{{\"text\":{text:?}}}")));
    text("/proc/sys/kernel/osrelease", "6.12.107-synthetic");
    text("/proc/sys/kernel/arch", "x86_64");
    text("/proc/cpuinfo", "vendor_id: GenuineIntel\nmodel name: Synthetic\nflags: pat mtrr ss movdir64b vmx");
    text("/proc/cmdline", "intel_iommu=on");
    text("/proc/iomem", "00001000-7fffffff : System RAM\n100000000-107fffffff : System RAM");
    text("/proc/mtrr", "reg00: base=0x080000000 ( 2048MB), size= 2048MB, count=1: uncachable");
    text("/sys/kernel/security/lockdown", "[none] integrity confidentiality");
    text(
        "/sys/kernel/debug/x86/pat_memtype_list",
        "PAT memtype list:\nPAT: [mem 0x0000000090000000-0x0000000090010000] uncached-minus",
    );
    text("/sys/class/iommu/dmar0/intel-iommu/ecap", "f020df");
    text("/sys/class/iommu/dmar0/intel-iommu/cap", "8d2078c106f0466");
    for path in [
        "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        "/sys/hypervisor/type",
        "/sys/class/dmi/id/sys_vendor",
    ] {
        files.push((path.into(), "\"absent\"".into()));
    }
    files.push(("/sys/class/iommu".into(), "{\"list\":[\"dmar0\"]}".into()));
    files.push(("/sys/class/iommu/dmar0".into(), "{\"link\":\"../../devices/virtual/iommu/dmar0\"}".into()));
    files.push(("/sys/firmware".into(), "{\"list\":[]}".into()));
    files.push(("/dev".into(), "{\"list\":[\"iommu\",\"vfio\"]}".into()));
    files.push(("/dev/vfio".into(), "{\"list\":[\"vfio\"]}".into()));
    files.push(("/sys/bus/pci/drivers".into(), "{\"list\":[\"vfio-pci\"]}".into()));

    let mut names = Vec::new();
    for index in 0..n {
        // Every 33rd is a root port; the 32 after it are on its bus.
        let (port, below) = (index / 33, index % 33);
        let bus = port % 255 + 1;
        let domain = port / 255;
        let port_name = format!("{domain:04x}:00:{:02x}.{}", port % 255 / 8, port % 8);
        let root = format!("/sys/devices/pci{domain:04x}:00/{port_name}");
        let name = if below == 0 {
            port_name
        } else {
            format!("{domain:04x}:{bus:02x}:{:02x}.{}", (below - 1) / 8, (below - 1) % 8)
        };
        let folder = if below == 0 { root.clone() } else { format!("{root}/{name}") };
        let base = 0x90_0000_0000_u64 + (port as u64) * 0x1_0000_0000;
        let at = base + (below as u64) * 0x200_0000;
        let zero = "0x0 0x0 0x0\n";
        let resource = if below == 0 {
            format!(
                "{}0x0 0x0 0x0\n0x90000000 0x91ffffff 0x200\n{base:#x} {:#x} 0x102201\n0x0 0x0 0x0",
                zero.repeat(13),
                base + 0xffff_ffff
            )
        } else {
            format!(
                "{at:#x} {:#x} 0x14220c\n{zero}0x90000000 0x90003fff 0x40200\n{}0x0 0x0 0x0",
                at + 0xff_ffff,
                zero.repeat(9)
            )
        };
        // Memory and bus mastering on, a list of capabilities: power management at 0x40, MSI-X at 0x50, PCI Express at 0x70.
        let mut header = [0_u8; 64];
        header[..8].copy_from_slice(&[0xde, 0x10, index as u8, 0x20, 0x06, 0x04, 0x10, 0x00]);
        header[14] = u8::from(below == 0);
        header[0x34] = 0x40;
        let header: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
        let config = format!(
            "{{\"bytes\":{{\"0\":\"{header}\",\"64\":\"0150\",\"80\":\"1170\",\"82\":\"07800000000002100000\",\"112\":\"1000\",\"120\":\"1028\"}}}}"
        );
        let mut put = |file: &str, entry: String| files.push((format!("{folder}/{file}"), entry));
        put("vendor", "{\"text\":\"0x10de\"}".into());
        put("device", format!("{{\"text\":\"0x20{:02x}\"}}", index % 256));
        put("class", if below == 0 { "{\"text\":\"0x060400\"}".into() } else { "{\"text\":\"0x030200\"}".into() });
        put("resource", format!("{{\"text\":{resource:?}}}"));
        put("power_state", "{\"text\":\"D0\"}".into());
        put("config", config);
        put("iommu_group", format!("{{\"link\":\"../../../kernel/iommu_groups/{index}\"}}"));
        put("iommu", "{\"link\":\"../../virtual/iommu/dmar0\"}".into());
        put("driver", "{\"link\":\"../../../bus/pci/drivers/vfio-pci\"}".into());
        files.push((
            folder.clone(),
            "{\"list\":[\"class\",\"config\",\"device\",\"driver\",\"iommu\",\"iommu_group\",\"power_state\",\"resource\",\"resource0\",\"resource0_wc\",\"vendor\"]}".into(),
        ));
        files.push((format!("/sys/bus/pci/devices/{name}"), format!("{{\"link\":\"../../../{}\"}}", &folder[5..])));
        files.push((format!("/sys/kernel/iommu_groups/{index}/type"), "{\"text\":\"DMA\"}".into()));
        files.push((format!("/sys/kernel/iommu_groups/{index}/devices"), format!("{{\"list\":[{name:?}]}}")));
        names.push(format!("{name:?}"));
    }
    files.push(("/sys/bus/pci/devices".into(), format!("{{\"list\":[{}]}}", names.join(","))));

    let asked = r#"{"kvm":{"known":{"cacheable_pfnmap":null,"mmfr2":null,"ctr":null,"quirks":2047,"ipa_bits":null,"nested_paging":true,"vfio_device":true}},"ctr":"absent","opened":{},"page":4096}"#;
    let mut out = format!("{{\"format\":1,\"asked\":{asked},\"files\":{{");
    for (i, (path, entry)) in files.iter().enumerate() {
        let _ = write!(out, "{}{path:?}:{entry}", if i == 0 { "\n" } else { ",\n" });
    }
    out.push_str("\n}}\n");
    out
}
