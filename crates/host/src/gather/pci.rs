//! PCI functions: their BARs, what stands above them, who drives them.

use std::collections::{BTreeMap, HashMap};

use ::firmware::aml;
use ::firmware::dt::HostBridge;
use bar::text::{Resource, resources};
use memtype::Arch;
use platform::Bdf;
use platform::errata::PciId;

use super::firmware::Said;
use super::{hole, malformed};
use crate::fact::{Fact, Hole, Why};
use crate::facts::{Asked, Bar, Bytes, Coherent, Command, Firmware, Function, Group, Kernel, Msix, Pa, Span, Window};
use crate::pick::{self, Walk};
use crate::root::{Root, TEXT};

/// More functions are not looked at; a domain has 65,536.
const MOST: usize = 1 << 14;
/// A group of more is not understood.
const MEMBERS: usize = 1 << 10;
/// A function below more bridges is not either.
const DEPTH: usize = 32;

const FOLDER: &str = "/sys/bus/pci/devices";

// `IORESOURCE_*` of Linux `include/linux/ioport.h`.
const IO: u64 = 0x100;
const MEM: u64 = 0x200;
const PREFETCH: u64 = 0x2000;
const MEM_64: u64 = 0x10_0000;
const DISABLED: u64 = 0x1000_0000;
const UNSET: u64 = 0x2000_0000;

pub(super) fn functions(
    root: &Root,
    asked: &Asked,
    kernel: &Kernel,
    firmware: &Firmware,
    said: &Said,
) -> BTreeMap<Bdf, Function> {
    let names = root.list(FOLDER, |name| name.parse::<Bdf>().is_ok());
    let names = names.known().map(Vec::as_slice).unwrap_or_default();
    let mut groups = HashMap::new();
    let mut bridges = HashMap::new();
    let mut all: BTreeMap<Bdf, Function> = names
        .iter()
        .take(MOST)
        .filter_map(|name| Some((name, name.parse().ok()?)))
        .map(|(name, bdf)| {
            let seat = Seat::of(root, name, bdf);
            let coherent = bridges
                .entry((seat.bridge.clone(), bdf.domain()))
                .or_insert_with(|| coherent(root, kernel, firmware, said, &seat))
                .clone();
            (bdf, function(root, asked, &seat, coherent, &mut groups))
        })
        .collect();
    // What a virtual function has not, its physical function has for it.
    let physical: BTreeMap<Bdf, Fact<bool>> =
        all.values().filter_map(|f| f.physical).filter_map(|p| Some((p, all.get(&p)?.no_snoop.clone()))).collect();
    let windows: BTreeMap<Bdf, Vec<Window>> =
        all.iter().filter(|(_, f)| !f.windows.is_empty()).map(|(bdf, f)| (*bdf, f.windows.clone())).collect();
    for f in all.values_mut() {
        if let Some(no_snoop) = f.physical.and_then(|p| physical.get(&p)) {
            f.no_snoop = no_snoop.clone();
        }
        for bar in &mut f.bars {
            let Some(at) = bar.at else { continue };
            let over = f.above.iter().filter_map(|bridge| windows.get(bridge)).flatten();
            bar.behind = over.filter(|w| w.io == bar.io && w.span.contains(at)).copied().collect();
        }
    }
    all
}

/// Where a function is in the tree of devices.
struct Seat {
    bdf: Bdf,
    /// Its folder: `/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0`.
    folder: String,
    /// The bridges above, the root port first.
    above: Vec<Bdf>,
    /// The folder of its host bridge: `/sys/devices/pci0000:00`; nothing if the folder does not say.
    bridge: Option<String>,
}

impl Seat {
    /// The first bus of its host bridge.
    fn bus(&self) -> Option<u8> {
        self.bridge.as_deref()?.rsplit_once(':').and_then(|(_, bus)| u8::from_str_radix(bus, 16).ok())
    }
}

impl Seat {
    fn of(root: &Root, name: &str, bdf: Bdf) -> Self {
        let path = format!("{FOLDER}/{name}");
        // Where it is no link (a copy that followed them), nothing says what is above.
        let folder = root.link(&path).known().map_or_else(|| path.clone(), |to| resolve(FOLDER, to));
        let Some((over, _)) = folder.rsplit_once('/').filter(|(_, last)| *last == name) else {
            return Self { bdf, folder: path, above: Vec::new(), bridge: None };
        };
        let mut above: Vec<Bdf> = over.rsplit('/').map_while(|part| part.parse().ok()).take(DEPTH).collect();
        above.reverse();
        let bridge = over.split('/').scan(0, |end, part| {
            *end += part.len() + 1;
            Some((*end - 1, part))
        });
        let bridge = bridge
            .filter(|(_, part)| part.starts_with("pci") && part.contains(':'))
            .last()
            .map(|(end, _)| over[..end].to_owned());
        Self { bdf, folder, above, bridge }
    }
}

/// A path with a relative link followed from a folder.
fn resolve(folder: &str, to: &str) -> String {
    let mut parts: Vec<&str> =
        if to.starts_with('/') { Vec::new() } else { folder.split('/').filter(|p| !p.is_empty()).collect() };
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The last part of where a link points.
fn name_of(link: &str) -> &str {
    link.rsplit('/').next().unwrap_or(link)
}

/// Files of a function's folder that are looked at.
fn wanted(name: &str) -> bool {
    matches!(
        name,
        "class"
            | "config"
            | "device"
            | "driver"
            | "iommu"
            | "iommu_group"
            | "physfn"
            | "power_state"
            | "resource"
            | "vendor"
            | "vfio-dev"
    ) || bar_file(name).is_some()
}

/// `resource0` to `resource5`, and the same with `_wc`.
fn bar_file(name: &str) -> Option<(u8, bool)> {
    let rest = name.strip_prefix("resource")?;
    let (digit, wc) = rest.strip_suffix("_wc").map_or((rest, false), |digit| (digit, true));
    digit.parse().ok().filter(|n| *n < 6 && digit.len() == 1).map(|n| (n, wc))
}

fn function(
    root: &Root,
    asked: &Asked,
    seat: &Seat,
    coherent: Fact<Coherent>,
    groups: &mut HashMap<String, Fact<Group>>,
) -> Function {
    let Seat { bdf, folder, above, .. } = seat;
    let listed = root.list(folder, wanted);
    let names = listed.known().map(Vec::as_slice).unwrap_or_default();
    let has = |name: &str| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
    let at = |name: &str| format!("{folder}/{name}");
    let link = |name: &str| if has(name) { root.link(&at(name)) } else { absent(&listed) };
    let number = |name: &str| {
        let text = root.text(&at(name));
        text.known().and_then(|text| u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok())
    };
    let id = PciId { vendor: low(number("vendor")), device: low(number("device")) };
    let power = if has("power_state") { root.text(&at("power_state")) } else { absent(&listed) };
    let lines = root
        .picked(&at("resource"), TEXT, |text| Ok(pick::resource(text)))
        .known()
        .map(|text| resources(text))
        .unwrap_or_default();
    let class = number("class").unwrap_or(0);
    let physical = link("physfn").known().and_then(|to| name_of(to).parse().ok());
    let group = match link("iommu_group") {
        Fact::Known(to) => groups.entry(name_of(&to).to_owned()).or_insert_with(|| group(root, name_of(&to))).clone(),
        Fact::Absent => Fact::Absent,
        Fact::Hole(hole) => Fact::Hole(hole),
    };
    let (command, no_snoop, msix) = config(root, at("config"), &power, physical.is_some());
    Function {
        bdf: *bdf,
        id,
        name: named(id),
        class,
        bars: bars(&lines, &has),
        windows: if class >> 8 == 0x0604 { windows(*bdf, &lines) } else { Vec::new() },
        above: above.clone(),
        driver: link("driver").map(|to| name_of(&to).to_owned()),
        group,
        iommu: link("iommu").map(|to| name_of(&to).to_owned()),
        vfio_cdev: if has("vfio-dev") {
            root.list(&at("vfio-dev"), |name| name.starts_with("vfio")).known().and_then(|names| names.first().cloned())
        } else {
            None
        },
        command,
        power,
        no_snoop,
        msix,
        physical,
        coherent,
        opened: asked.opened.get(bdf).cloned().unwrap_or_else(|| {
            hole(format!("VFIO of {bdf}"), Why::NotAsked(String::from("`--open` asks it; that resets the device")))
        }),
    }
}

/// What is not in a listing is absent, if there is a listing.
fn absent<T>(listed: &Fact<Vec<String>>) -> Fact<T> {
    listed.hole().map_or(Fact::Absent, |hole| Fact::Hole(hole.clone()))
}

fn low(number: Option<u32>) -> u16 {
    number.map_or(0, |n| n as u16)
}

fn named(id: PciId) -> Option<(&'static str, Option<&'static str>)> {
    use pci_ids::{Device, FromId as _, Vendor};
    let vendor = Vendor::from_id(id.vendor)?;
    Some((vendor.name(), Device::from_vid_pid(id.vendor, id.device).map(Device::name)))
}

fn bars(lines: &[Option<Resource>], has: &impl Fn(&str) -> bool) -> Vec<Bar> {
    let bar = |(index, line): (u8, &Option<Resource>)| {
        let Resource { first, last, flags } = (*line)?;
        let size = last.checked_sub(first)?.saturating_add(1);
        if flags & (IO | MEM) == 0 {
            return None;
        }
        let unset = first == 0 || flags & (UNSET | DISABLED) != 0;
        Some(Bar {
            index,
            at: if unset { None } else { Span::new(Pa(first), Pa(last)) },
            size: Bytes(size),
            io: flags & IO != 0,
            wide: flags & MEM_64 != 0,
            prefetchable: flags & PREFETCH != 0,
            file: has(&format!("resource{index}")),
            file_wc: has(&format!("resource{index}_wc")),
            behind: Vec::new(),
        })
    };
    (0..6).zip(lines).filter_map(bar).collect()
}

/// A bridge's windows are the last four lines of its `resource`: 7 to 10, or 13 to 16 where the kernel has SR-IOV, whose BARs are 7 to 12 then
/// (`PCI_IOV_RESOURCES`, `PCI_BRIDGE_RESOURCES` of Linux `include/linux/pci.h`). A bridge without a bus below shows none of them.
fn windows(bridge: Bdf, lines: &[Option<Resource>]) -> Vec<Window> {
    let first = match lines.len() {
        11 => 7,
        17 => 13,
        _ => return Vec::new(),
    };
    let window = |line: &Option<Resource>| {
        let Resource { first, last, flags } = (*line)?;
        let span =
            Span::new(Pa(first), Pa(last)).filter(|_| flags & (IO | MEM) != 0 && flags & (UNSET | DISABLED) == 0)?;
        Some(Window { bridge, span, prefetchable: flags & PREFETCH != 0, io: flags & IO != 0 })
    };
    lines[first..].iter().filter_map(window).collect()
}

fn group(root: &Root, name: &str) -> Fact<Group> {
    let folder = format!("/sys/kernel/iommu_groups/{name}");
    let Ok(number) = name.parse() else { return malformed(folder, name) };
    let devices = format!("{folder}/devices");
    root.list(&devices, |name| name.parse::<Bdf>().is_ok()).and_then(|names| {
        if names.len() > MEMBERS {
            return hole(devices, Why::TooLarge(MEMBERS as u64));
        }
        let members = names.iter().filter_map(|name| name.parse().ok()).collect();
        Fact::Known(Group { number, kind: root.text(&format!("{folder}/type")), members })
    })
}

fn config(
    root: &Root,
    path: String,
    power: &Fact<String>,
    is_virtual: bool,
) -> (Fact<Command>, Fact<bool>, Fact<Msix>) {
    // `pci_config_pm_runtime_get` resumes a device in D3cold before its configuration space is read.
    if power.known().is_some_and(|state| state == "D3cold") {
        let why = || Why::NotAsked(String::from("the device sleeps in D3cold, reading it would wake it"));
        return (hole(&path, why()), hole(&path, why()), hole(&path, why()));
    }
    let mut pieces = root.pieces(path.clone());
    let read = pick::config(|at, size| match pieces.read(at, size) {
        Fact::Known(bytes) => Ok(bytes),
        Fact::Absent => Err(None),
        Fact::Hole(hole) => Err(Some(hole)),
    });
    fn every<T>(hole: Option<Hole>) -> Fact<T> {
        hole.map_or(Fact::Absent, Fact::Hole)
    }
    let (found, walk) = match read {
        Ok(read) => read,
        Err(hole) => return (every(hole.clone()), every(hole.clone()), every(hole)),
    };
    let Some(found) = found else {
        let why = if walk == Walk::Whole {
            Why::Failed(String::from("all ones: the device does not answer"))
        } else {
            Why::Malformed(String::from("no header"))
        };
        return (hole(&path, why.clone()), hole(&path, why.clone()), hole(&path, why));
    };
    let missing = || Hole { at: path.clone(), why: Why::Denied };
    let rest = |fact: Option<()>| if fact.is_none() && walk == Walk::Cut { Some(missing()) } else { None };
    // A virtual function's Memory Space Enable reads as zero; `sriov_enable` sets VF MSE with VF Enable, so that one that is there decodes.
    let command = Command { memory: found.command & 2 != 0 || is_virtual, master: found.command & 4 != 0 };
    let no_snoop = match found.device_control {
        Some(control) => Fact::Known(control >> 11 & 1 == 1),
        None => every(rest(None)),
    };
    let msix = match found.msix {
        Some((control, table, pending)) => Fact::Known(Msix {
            vectors: (control & 0x7FF) + 1,
            table: ((table & 7) as u8, table & !7),
            pba: ((pending & 7) as u8, pending & !7),
        }),
        None => every(rest(None)),
    };
    (Fact::Known(command), no_snoop, msix)
}

/// What the firmware says of DMA below a host bridge. PCI devices have it from there (`pci_dma_configure`).
fn coherent(root: &Root, kernel: &Kernel, firmware: &Firmware, said: &Said, seat: &Seat) -> Fact<Coherent> {
    let says = |coherent: bool, says: String| Fact::Known(Coherent { coherent, says });
    match (kernel.arch, firmware.kind) {
        (Some(Arch::X86), _) => says(true, String::from("the architecture: x86 DMA snoops, unless it has No Snoop")),
        (arch, Some("device-tree")) => firmware.bridges.as_ref().and_then(|bridges| by_tree(root, arch, bridges, seat)),
        (Some(Arch::Arm64), Some("acpi")) => said.bridges.as_ref().and_then(|bridges| by_cca(root, bridges, seat)),
        // Only arm64 selects ACPI_CCA_REQUIRED: elsewhere `acpi_init_coherency` takes coherent where there is no `_CCA`.
        (Some(_), Some("acpi")) => says(true, String::from("the architecture's default")),
        _ => hole("/sys/firmware", Why::Failed(String::from("neither ACPI nor a device tree"))),
    }
}

/// `dma-coherent` or `dma-noncoherent` of the host bridge's node or one above; else the architecture's default
/// (`of_dma_is_coherent`). riscv and mips select ARCH_DMA_DEFAULT_COHERENT, powerpc where its caches are coherent; arm64 does not.
fn by_tree(root: &Root, arch: Option<Arch>, bridges: &[HostBridge], seat: &Seat) -> Fact<Coherent> {
    let found = match seat.bridge.as_deref().and_then(|bridge| of_node(root, bridge)) {
        Some(node) => bridges.iter().find(|b| b.path == node),
        None => bridges
            .iter()
            .find(|b| b.domain == Some(seat.bdf.domain()))
            .or_else(|| bridges.first().filter(|_| bridges.len() == 1)),
    };
    let Some(HostBridge { path, coherent, .. }) = found else {
        return malformed("device tree", &format!("no host bridge of domain {:04x}", seat.bdf.domain()));
    };
    let (coherent, says) = match (coherent, arch) {
        (Some(true), _) => (true, format!("dma-coherent of {path}")),
        (Some(false), _) => (false, format!("dma-noncoherent of {path}")),
        (None, Some(Arch::Arm64)) => (false, format!("no dma-coherent of {path}: arm64's default")),
        (None, Some(Arch::Riscv)) => (true, format!("no dma-noncoherent of {path}: riscv's default")),
        (None, _) => {
            return hole(
                "device tree",
                Why::Failed(format!("neither dma-coherent nor dma-noncoherent of {path}, and no known default")),
            );
        }
    };
    Fact::Known(Coherent { coherent, says })
}

/// `_CCA` of the host bridge or of what is above it. arm64 has to have one (ACPI_CCA_REQUIRED): `acpi_dma_supported` says no without.
fn by_cca(root: &Root, bridges: &[aml::HostBridge], seat: &Seat) -> Fact<Coherent> {
    // As the kernel names it, with segments of four: `\_SB_.PCI0`.
    let short = |path: &str| path.split('.').map(|s| s.trim_end_matches('_')).collect::<Vec<_>>().join(".");
    let path =
        seat.bridge.as_deref().and_then(|bridge| root.text(&format!("{bridge}/firmware_node/path")).known().cloned());
    let here = |b: &&aml::HostBridge| b.segment.map(u32::from) == Some(seat.bdf.domain());
    let found = match path {
        Some(path) => bridges.iter().find(|b| short(&b.path) == short(&path)),
        None => bridges
            .iter()
            .find(|b| here(b) && b.bus.is_some() && b.bus == seat.bus())
            .or_else(|| bridges.iter().find(here).filter(|_| bridges.iter().filter(here).count() == 1)),
    };
    let Some(aml::HostBridge { path, cca, open, .. }) = found else {
        return malformed("DSDT", &format!("no host bridge of segment {:04x}", seat.bdf.domain()));
    };
    match (cca, open) {
        (Some(coherent), _) => Fact::Known(Coherent { coherent: *coherent, says: format!("_CCA of {path}") }),
        (None, true) => hole("DSDT", Why::Failed(format!("_CCA of {path} is no constant"))),
        (None, false) => Fact::Known(Coherent {
            coherent: false,
            says: format!("no _CCA of {path} or above: arm64 Linux takes that for no DMA at all"),
        }),
    }
}

/// The node of the device tree that a host bridge was made of, by the link of its own folder or of the one above.
fn of_node(root: &Root, bridge: &str) -> Option<String> {
    let above = bridge.rsplit_once('/').map_or(bridge, |(above, _)| above);
    [bridge, above].iter().find_map(|folder| {
        let to = root.link(&format!("{folder}/of_node"));
        let to = resolve(folder, to.known()?);
        to.split_once("/devicetree/base").map(|(_, node)| node.to_owned())
    })
}
