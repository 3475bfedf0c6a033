//! ACPI tables and the device tree.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use ::firmware::dt::Tree;
use ::firmware::iort::Iort;
use ::firmware::viot::Viot;
use ::firmware::{aml, mcfg};
use aml::Namespace;
use serde::Deserialize;

use super::hole;
use crate::fact::{Fact, Why};
use crate::facts::Firmware;
use crate::root::Root;

/// What more the firmware says, that others need.
#[derive(Debug)]
pub(super) struct Said {
    /// IOMMUs of the device tree: path, `compatible`, `dma-coherent`.
    pub(super) iommus: Fact<Vec<(String, Vec<String>, bool)>>,
    /// PCI host bridges of the definition blocks.
    pub(super) bridges: Fact<Vec<aml::HostBridge>>,
}

/// A table or a tree of more bytes is not read.
const MOST: u64 = 8 << 20;

pub(super) fn firmware(root: &Root) -> (Firmware, Said) {
    let kinds = root.list("/sys/firmware", |name| matches!(name, "acpi" | "devicetree" | "fdt"));
    let has = |kind: &str| kinds.known().is_some_and(|names| names.iter().any(|n| n == kind));
    // Where there is both, the tree is the stub that carries `/chosen` from the boot loader (Linux `arch/arm64/kernel/acpi.c`).
    let kind = if has("acpi") {
        Some("acpi")
    } else if has("devicetree") || has("fdt") {
        Some("device-tree")
    } else {
        None
    };
    let tree = if kind == Some("device-tree") { tree(root, has("fdt")) } else { Fact::Absent };
    let folder = "/sys/firmware/acpi/tables";
    let tables = if kind == Some("acpi") { root.list(folder, wanted) } else { Fact::Absent };
    let table = |name: &str| {
        let path = format!("{folder}/{name}");
        tables.clone().and_then(|names| {
            if names.iter().any(|n| n == name) {
                root.bytes(&path, MOST).map(|bytes| (path.clone(), bytes))
            } else {
                Fact::Absent
            }
        })
    };
    fn read<T>(
        table: Fact<(String, Vec<u8>)>,
        parse: impl FnOnce(&[u8]) -> Result<T, ::firmware::table::Error>,
    ) -> Fact<T> {
        table.and_then(|(path, bytes)| {
            parse(&bytes).map_or_else(|e| hole(path, Why::Malformed(e.to_string())), Fact::Known)
        })
    }
    let names = tables.clone().and_then(|names| namespace(root, folder, &names));
    let firmware = Firmware {
        kind,
        compatible: tree.known().map(|t| t.compatible.clone()).unwrap_or_default(),
        iort: read(table("IORT"), Iort::parse),
        mcfg: read(table("MCFG"), mcfg::parse),
        viot: read(table("VIOT"), Viot::parse),
        cca: names.as_ref().map(|names| names.cca()),
        bridges: tree.clone().map(|t| t.bridges),
    };
    (firmware, Said { iommus: tree.map(|t| t.iommus), bridges: names.map(|names| names.host_bridges()) })
}

/// Tables that are read.
fn wanted(name: &str) -> bool {
    matches!(name, "IORT" | "MCFG" | "VIOT") || definition(name)
}

/// `DSDT`, `SSDT`, `SSDT1`, …
fn definition(name: &str) -> bool {
    name == "DSDT" || name.strip_prefix("SSDT").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

/// The devices of the definition blocks. A snapshot has what was found in a block, and not the block: host bridges, `_CCA`, and what may
/// hold a `_CCA` above them.
fn namespace(root: &Root, folder: &str, names: &[String]) -> Fact<Namespace> {
    let mut all = Namespace::default();
    for name in names.iter().filter(|n| definition(n)) {
        let path = format!("{folder}/{name}");
        let found = root.digest(&path, MOST, |bytes| {
            let mut found = Namespace::default();
            found.read(bytes).map_err(|e| e.to_string())?;
            let bridge = |id: &String| id == "PNP0A03" || id == "PNP0A08";
            let found: BTreeMap<_, _> = found
                .devices
                .into_iter()
                .filter(|(path, d)| {
                    d.cca.is_some() || d.ids.iter().any(bridge) || d.open && path.matches('.').count() < 3
                })
                .map(|(path, mut device)| {
                    device.ids.retain(bridge);
                    (path, device)
                })
                .collect();
            serde_json::to_string(&found).map_err(|e| e.to_string())
        });
        match found.and_then(|text| again::<BTreeMap<String, aml::Device>>(&path, &text)) {
            Fact::Known(found) => {
                for (path, aml::Device { ids, cca, segment, bus, open }) in found {
                    let device = all.devices.entry(path).or_default();
                    device.ids.extend(ids);
                    device.cca = cca.or(device.cca);
                    device.segment = segment.or(device.segment);
                    device.bus = bus.or(device.bus);
                    device.open |= open;
                }
            }
            Fact::Absent => {}
            Fact::Hole(hole) => return Fact::Hole(hole),
        }
    }
    Fact::Known(all)
}

/// Reads what a digest wrote.
fn again<'a, T: Deserialize<'a>>(path: &str, text: &'a str) -> Fact<T> {
    serde_json::from_str(text).map_or_else(|e| hole(path, Why::Malformed(e.to_string())), Fact::Known)
}

/// The device tree: flattened, which only root may read; else from its files, which all may.
fn tree(root: &Root, flattened: bool) -> Fact<Tree> {
    let path = "/sys/firmware/fdt";
    let whole =
        if flattened { root.digest(path, MOST, keep).and_then(|text| again(path, &text)) } else { Fact::Absent };
    if whole.known().is_some() {
        return whole;
    }
    let path = "/sys/firmware/devicetree/base";
    match root
        .digest_folder(path, |folder| flatten(folder).and_then(|blob| keep(&blob)))
        .and_then(|text| again(path, &text))
    {
        Fact::Absent => whole,
        other => other,
    }
}

/// What a snapshot keeps of a device tree: what was found in it.
fn keep(blob: &[u8]) -> Result<String, String> {
    serde_json::to_string(&Tree::parse(blob).map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

/// Properties that are flattened: those that say what is where, and how coherent it is. No `serial-number`, no MAC address.
const PROPERTIES: [&str; 18] = [
    "#address-cells",
    "#iommu-cells",
    "#size-cells",
    "bus-range",
    "compatible",
    "device_type",
    "dma-coherent",
    "dma-noncoherent",
    "dma-ranges",
    "iommu-map",
    "iommu-map-mask",
    "iommus",
    "linux,pci-domain",
    "linux,phandle",
    "phandle",
    "ranges",
    "reg",
    "status",
];

/// A flattened tree (Devicetree Specification 0.4, chapter 5) of a folder of nodes and properties.
fn flatten(folder: &Path) -> Result<Vec<u8>, String> {
    struct Blob {
        structure: Vec<u8>,
        strings: Vec<u8>,
        nodes: usize,
    }
    fn pad(bytes: &mut Vec<u8>) {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    fn node(blob: &mut Blob, folder: &Path, name: &str, depth: usize) -> Result<(), String> {
        blob.nodes += 1;
        if depth > 16 || blob.nodes > 1 << 16 {
            return Err(String::from("more than 65536 nodes, or 16 levels"));
        }
        blob.structure.extend([0, 0, 0, 1]);
        blob.structure.extend(name.as_bytes());
        blob.structure.push(0);
        pad(&mut blob.structure);
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        let mut nodes = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                nodes.push(name);
            } else if kind.is_file()
                && let Some(offset) = PROPERTIES.iter().position(|p| *p == name)
            {
                // Each name stands at a known place in the strings.
                let at: usize = PROPERTIES[..offset].iter().map(|p| p.len() + 1).sum();
                let mut value = Vec::new();
                fs::File::open(entry.path())
                    .and_then(|file| file.take(1 << 20).read_to_end(&mut value))
                    .map_err(failed)?;
                let length = u32::try_from(value.len()).map_err(|e| e.to_string())?;
                blob.structure.extend([0, 0, 0, 3]);
                blob.structure.extend(length.to_be_bytes());
                blob.structure.extend((at as u32).to_be_bytes());
                blob.structure.extend(value);
                pad(&mut blob.structure);
            }
        }
        nodes.sort_unstable();
        for name in nodes {
            node(blob, &folder.join(&name), &name, depth + 1)?;
        }
        blob.structure.extend([0, 0, 0, 2]);
        Ok(())
    }
    let mut blob = Blob { structure: Vec::new(), strings: Vec::new(), nodes: 0 };
    blob.strings.extend(PROPERTIES.iter().flat_map(|p| p.bytes().chain([0])));
    node(&mut blob, folder, "", 0)?;
    blob.structure.extend([0, 0, 0, 9]);
    // The header, an empty list of reserved memory, the structure, the strings.
    let (structure, strings) = (56, 56 + blob.structure.len());
    let total = strings + blob.strings.len();
    let mut out = Vec::with_capacity(total);
    let words = [0xd00d_feed, total, structure, strings, 40, 17, 16, 0, blob.strings.len(), blob.structure.len()];
    for word in words {
        out.extend(u32::try_from(word).map_err(|e| e.to_string())?.to_be_bytes());
    }
    out.extend([0; 16]);
    out.extend(blob.structure);
    out.extend(blob.strings);
    Ok(out)
}
