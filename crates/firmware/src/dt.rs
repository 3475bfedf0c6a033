//! Flattened device trees: PCI host bridges, IOMMUs and devices, what says whether their DMA is coherent, who
//! translates it and who takes its MSIs.
//!
//! Nodes whose `status` is not `okay` are left out, as Linux leaves them out. `interconnects` named `dma-mem`, by
//! which a node may have another parent for its DMA, are not followed.

use std::collections::BTreeMap;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use serde::{Deserialize, Serialize};

/// A PCI host bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostBridge {
    /// Its path: `/pcie@10000000`.
    pub path: String,
    /// Its `compatible`.
    pub compatible: Vec<String>,
    /// `linux,pci-domain`.
    pub domain: Option<u32>,
    /// First and last bus.
    pub buses: Option<(u32, u32)>,
    /// Whether `dma-coherent` (true) or `dma-noncoherent` (false) is on it or a node above; nothing if neither is.
    pub coherent: Option<bool>,
    /// `iommu-map`: (first rid, the IOMMU's path, first id, how many).
    pub iommu_map: Vec<(u32, String, u32, u32)>,
    /// Windows: (prefetchable, 64-bit, PCI address, CPU address, size).
    pub windows: Vec<(bool, bool, u64, u64, u64)>,
}

/// What a tree says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// `compatible` of the root.
    pub compatible: Vec<String>,
    /// The PCI host bridges.
    pub bridges: Vec<HostBridge>,
    /// SMMUs and virtio-iommus: path, `compatible`, whether `dma-coherent`.
    pub iommus: Vec<(String, Vec<String>, bool)>,
}

/// Why a blob is not a device tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device tree: {0}")]
pub struct Error(pub String);

/// Who translates and who takes MSIs: what [`crate::lint`] asks of a tree beside [`Tree`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Wiring {
    /// A machine of Arm: it has a GIC or Arm's timer. There Linux takes DMA as not coherent where nothing is said.
    pub arm: bool,
    /// The PCI host bridges, in the order of [`Tree::bridges`].
    pub bridges: Vec<Bridge>,
    /// Every node with `#iommu-cells`, in the order of [`Tree::iommus`].
    pub iommus: Vec<Iommu>,
    /// Devices beside PCI that are known to do DMA: behind an IOMMU, virtio, VMBus, or with a word on coherency.
    pub devices: Vec<Device>,
    /// Every node with `msi-controller`.
    pub msi_controllers: Vec<String>,
    /// Properties that could not be read, with why.
    pub odd: Vec<String>,
}

/// What is said of a node's coherency.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coherence {
    /// `dma-coherent` (true) or `dma-noncoherent` (false) of the nearest node that has one, from itself up.
    pub coherent: Option<bool>,
    /// That node.
    pub from: Option<String>,
    /// That node has both.
    pub both: bool,
}

/// What a phandle refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The phandle.
    pub phandle: u32,
    /// The node that has it.
    pub path: Option<String>,
}

/// An entry of `iommu-map` or `msi-map`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// First requester id.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Where they go.
    pub to: Target,
    /// The first id there, if it takes one.
    pub id: Option<u32>,
}

impl Entry {
    /// The last requester id; nothing if there is none.
    #[must_use]
    pub const fn last(&self) -> Option<u32> {
        match self.count.checked_sub(1) {
            Some(more) => Some(self.first.saturating_add(more)),
            None => None,
        }
    }
    /// Whether a requester id is in it.
    #[must_use]
    pub fn has(&self, rid: u32) -> bool {
        self.last().is_some_and(|last| (self.first..=last).contains(&rid))
    }
}

/// A map with its mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Map {
    /// `iommu-map-mask`, `msi-map-mask`.
    pub mask: u32,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// A PCI host bridge, as far as [`HostBridge`] does not say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bridge {
    /// Its path.
    pub path: String,
    /// Its coherency.
    pub coherence: Coherence,
    /// `iommu-map`.
    pub iommu_map: Option<Map>,
    /// `msi-map`.
    pub msi_map: Option<Map>,
    /// `msi-parent`.
    pub msi_parent: Option<Target>,
}

/// An IOMMU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Iommu {
    /// Its path.
    pub path: String,
    /// Its `compatible`.
    pub compatible: Vec<String>,
    /// Its coherency: of a PCI function's node, that of its host bridge.
    pub coherence: Coherence,
    /// Of one that is a PCI function: its host bridge and its requester id.
    pub function: Option<(String, u16)>,
}

/// A device that is not PCI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its path.
    pub path: String,
    /// Its `compatible`.
    pub compatible: Vec<String>,
    /// Its coherency.
    pub coherence: Coherence,
    /// Its first `iommus`.
    pub iommu: Option<Target>,
}

impl Tree {
    /// Reads a flattened tree (`/sys/firmware/fdt`, a `.dtb`).
    ///
    /// # Errors
    /// It is none.
    pub fn parse(blob: &[u8]) -> Result<Self, Error> {
        parse(blob).map(|(tree, _)| tree)
    }
}

/// The magic number a flattened tree begins with.
pub const MAGIC: [u8; 4] = 0xd00d_feed_u32.to_be_bytes();
/// Bytes of the largest tree that is read. Linux takes 2 MiB on arm64.
pub const MOST: usize = 16 << 20;
/// Levels of nodes that are followed; Linux follows as many.
const DEPTH: usize = 64;
/// Bytes of the longest path.
const PATH: usize = 1024;
/// Bytes of the longest name of a property that is read. The specification has 31.
const NAME: usize = 255;

/// Reads a flattened tree: what is in it, and how it is wired.
///
/// # Errors
/// It is none.
pub fn parse(blob: &[u8]) -> Result<(Tree, Wiring), Error> {
    let blob = whole(blob)?;
    let fdt = Fdt::new(blob).map_err(|e| Error(e.to_string()))?;
    let mut seen = Seen::default();
    let root = fdt.root();
    let up = Up { bus: Cells { address: 2, size: 1 }, coherence: Coherence::default(), bridge: None };
    seen.node(root, "/", &up, 0)?;
    Ok(seen.done(strings(Props::of(&root).compatible)))
}

/// The blob as long as its header says, if it can be one and if no name in it takes long to read.
fn whole(blob: &[u8]) -> Result<&[u8], Error> {
    let wrong = |what| Err(Error(what));
    if blob.len() > MOST {
        return wrong(format!("{} bytes; {MOST} are read at most", blob.len()));
    }
    let word = |i: usize| blob.get(4 * i..4 * i + 4).map(|b| b.iter().fold(0_usize, |v, b| v << 8 | usize::from(*b)));
    let header = (blob.get(..4), word(1), word(3), word(8));
    let (Some(magic), Some(total), Some(strings), Some(length)) = header else {
        return wrong(format!("{} bytes; its header alone has 40", blob.len()));
    };
    if magic != MAGIC {
        return wrong(format!("it begins with {:#010x}, not with 0xd00dfeed", word(0).unwrap_or(0)));
    }
    let Some(blob) = blob.get(..total) else {
        return wrong(format!("it says to have {total} bytes; {} are here", blob.len()));
    };
    let Some(strings) = strings.checked_add(length).and_then(|end| blob.get(strings..end)) else {
        return wrong(format!("its {length} bytes of names at {strings} do not lie in its {total} bytes"));
    };
    if let Some(long) = strings.split(|b| *b == 0).find(|name| name.len() > NAME) {
        return wrong(format!("a property whose name has {} bytes; {NAME} are read at most", long.len()));
    }
    Ok(blob)
}

/// The properties of a node that are looked at.
#[derive(Default)]
struct Props<'a> {
    compatible: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
    phandle: Option<&'a [u8]>,
    device_type: Option<&'a [u8]>,
    reg: Option<&'a [u8]>,
    ranges: Option<&'a [u8]>,
    address_cells: Option<&'a [u8]>,
    size_cells: Option<&'a [u8]>,
    domain: Option<&'a [u8]>,
    buses: Option<&'a [u8]>,
    coherent: bool,
    noncoherent: bool,
    iommu_cells: Option<&'a [u8]>,
    iommu_map: Option<&'a [u8]>,
    iommu_mask: Option<&'a [u8]>,
    iommus: Option<&'a [u8]>,
    msi_controller: bool,
    msi_cells: Option<&'a [u8]>,
    msi_map: Option<&'a [u8]>,
    msi_mask: Option<&'a [u8]>,
    msi_parent: Option<&'a [u8]>,
}

impl<'a> Props<'a> {
    fn of(node: &FdtNode<'a>) -> Self {
        let mut it = Self::default();
        for property in node.properties() {
            let value = property.value_as::<&'a [u8]>().unwrap_or_default();
            let field = match property.name() {
                "compatible" => &mut it.compatible,
                "status" => &mut it.status,
                "phandle" | "linux,phandle" => &mut it.phandle,
                "device_type" => &mut it.device_type,
                "reg" => &mut it.reg,
                "ranges" => &mut it.ranges,
                "#address-cells" => &mut it.address_cells,
                "#size-cells" => &mut it.size_cells,
                "linux,pci-domain" => &mut it.domain,
                "bus-range" => &mut it.buses,
                "#iommu-cells" => &mut it.iommu_cells,
                "iommu-map" => &mut it.iommu_map,
                "iommu-map-mask" => &mut it.iommu_mask,
                "iommus" => &mut it.iommus,
                "#msi-cells" => &mut it.msi_cells,
                "msi-map" => &mut it.msi_map,
                "msi-map-mask" => &mut it.msi_mask,
                "msi-parent" => &mut it.msi_parent,
                "dma-coherent" => {
                    it.coherent = true;
                    continue;
                }
                "dma-noncoherent" => {
                    it.noncoherent = true;
                    continue;
                }
                "msi-controller" => {
                    it.msi_controller = true;
                    continue;
                }
                _ => continue,
            };
            *field = Some(value);
        }
        it
    }
    fn is_okay(&self) -> bool {
        // Linux `__of_device_is_available`: absent, "okay" and "ok".
        self.status.is_none_or(|status| matches!(status, b"okay\0" | b"ok\0"))
    }
    fn is_pci(&self) -> bool {
        self.device_type.is_some_and(|kind| kind == b"pci\0" || kind == b"pciex\0")
    }
}

/// Cells of 32 bits.
fn cells(value: &[u8]) -> impl ExactSizeIterator<Item = u32> + Clone {
    value.as_chunks::<4>().0.iter().map(|cell| u32::from_be_bytes(*cell))
}

fn cell(value: Option<&[u8]>) -> Option<u32> {
    value.filter(|value| value.len() == 4).and_then(|value| cells(value).next())
}

fn strings(value: Option<&[u8]>) -> Vec<String> {
    let all = value.unwrap_or_default().split(|b| *b == 0).filter(|text| !text.is_empty());
    all.take(STRINGS).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// Texts of a `compatible` that are kept.
const STRINGS: usize = 16;

/// How many cells an address and a size have.
#[derive(Clone, Copy)]
struct Cells {
    address: u32,
    size: u32,
}

/// What a node has from above.
struct Up {
    bus: Cells,
    coherence: Coherence,
    /// The PCI host bridge it is under.
    bridge: Option<String>,
}

/// A node that is the target of a phandle.
struct Named {
    path: String,
    iommu_cells: Option<u32>,
    msi_cells: Option<u32>,
}

struct RawBridge<'a> {
    domain: Option<u32>,
    buses: Option<(u32, u32)>,
    windows: Vec<Window>,
    iommu_map: Option<&'a [u8]>,
    iommu_mask: Option<u32>,
    msi_map: Option<&'a [u8]>,
    msi_mask: Option<u32>,
    msi_parent: Option<u32>,
    compatible: Vec<String>,
    coherence: Coherence,
    path: String,
}

/// What a walk has found; phandles are resolved when it has ended.
#[derive(Default)]
struct Seen<'a> {
    phandles: BTreeMap<u32, Named>,
    bridges: Vec<RawBridge<'a>>,
    devices: Vec<(Device, Option<u32>)>,
    wiring: Wiring,
}

impl<'a> Seen<'a> {
    fn node(&mut self, node: FdtNode<'a>, path: &str, up: &Up, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(Error(format!("more than {DEPTH} levels of nodes")));
        }
        if path.len() > PATH {
            return Err(Error(format!("a path of {} bytes; {PATH} are read at most", path.len())));
        }
        let props = Props::of(&node);
        if let Some(phandle) = cell(props.phandle) {
            let named =
                Named { path: path.into(), iommu_cells: cell(props.iommu_cells), msi_cells: cell(props.msi_cells) };
            // Two nodes with one phandle: Linux takes the first it finds, too.
            self.phandles.entry(phandle).or_insert(named);
        }
        let okay = props.is_okay();
        let mut coherence = up.coherence.clone();
        if props.coherent || props.noncoherent {
            // Where both are, `of_dma_is_coherent` asks for `dma-coherent` first.
            coherence = Coherence {
                coherent: Some(props.coherent),
                from: Some(path.into()),
                both: props.coherent && props.noncoherent,
            };
        }
        let mut bridge = up.bridge.clone();
        if okay {
            let compatible = strings(props.compatible);
            self.wiring.arm |= compatible.iter().any(|c| {
                c.starts_with("arm,gic-") || c.ends_with("-gic") || c == "arm,armv8-timer" || c.starts_with("arm,gicv")
            });
            if props.msi_controller {
                self.wiring.msi_controllers.push(path.into());
            }
            if props.iommu_cells.is_some() {
                let rid =
                    props.reg.and_then(|reg| cells(reg).next()).and_then(|hi| u16::try_from(hi >> 8 & 0xffff).ok());
                let function = bridge.clone().zip(rid);
                let (compatible, coherence) = (compatible.clone(), coherence.clone());
                self.wiring.iommus.push(Iommu { path: path.into(), compatible, coherence, function });
            }
            if props.is_pci() && bridge.is_none() {
                self.bridge(path, &props, up.bus, &coherence, compatible);
                bridge = Some(path.into());
            } else if bridge.is_none() && props.iommu_cells.is_none() && depth > 0 {
                let own = props.coherent || props.noncoherent || props.iommus.is_some();
                if own || compatible.iter().any(|c| c == "virtio,mmio" || c == "microsoft,vmbus") {
                    let iommu = props.iommus.and_then(|list| cells(list).next());
                    let device = Device { path: path.into(), compatible, coherence: coherence.clone(), iommu: None };
                    self.devices.push((device, iommu));
                }
            }
        }
        let bus = Cells { address: cell(props.address_cells).unwrap_or(2), size: cell(props.size_cells).unwrap_or(1) };
        let below = Up { bus, coherence, bridge };
        let slash = if path == "/" { "" } else { "/" };
        for child in node.children() {
            self.node(child, &format!("{path}{slash}{}", child.name()), &below, depth + 1)?;
        }
        Ok(())
    }

    fn bridge(&mut self, path: &str, props: &Props<'a>, outer: Cells, coherence: &Coherence, compatible: Vec<String>) {
        let own = Cells { address: cell(props.address_cells).unwrap_or(2), size: cell(props.size_cells).unwrap_or(1) };
        let windows = props.ranges.map_or_else(|| Ok(Vec::new()), |ranges| windows(ranges, own, outer));
        let windows = windows.unwrap_or_else(|why| {
            self.wiring.odd.push(format!("{path}: ranges: {why}"));
            Vec::new()
        });
        let buses = props.buses.and_then(|value| {
            let mut both = cells(value);
            both.next().zip(both.next())
        });
        self.bridges.push(RawBridge {
            domain: cell(props.domain),
            buses,
            windows,
            iommu_map: props.iommu_map,
            iommu_mask: cell(props.iommu_mask),
            msi_map: props.msi_map,
            msi_mask: cell(props.msi_mask),
            msi_parent: props.msi_parent.and_then(|value| cells(value).next()),
            compatible,
            coherence: coherence.clone(),
            path: path.into(),
        });
    }

    fn target(&self, phandle: u32) -> Target {
        Target { phandle, path: self.phandles.get(&phandle).map(|named| named.path.clone()) }
    }

    /// The entries of a map (Linux `of_map_id`): an id, a phandle, as many cells as the target says, a count.
    fn map(&self, value: &[u8], count: impl Fn(&Named) -> Option<u32>) -> Result<Vec<Entry>, String> {
        if !value.len().is_multiple_of(4) {
            return Err(format!("{} bytes are no cells of four", value.len()));
        }
        let mut left = cells(value);
        let mut out = Vec::new();
        while let Some(first) = left.next() {
            let entry = (|| {
                let phandle = left.next()?;
                let named = self.phandles.get(&phandle);
                // Where it is not said, one: controllers older than the property.
                let outputs = named.and_then(&count).unwrap_or(1);
                let id = if outputs == 0 { None } else { Some(left.next()?) };
                for _ in 1..outputs {
                    left.next()?;
                }
                Some(Entry { first, count: left.next()?, to: self.target(phandle), id })
            })();
            out.push(entry.ok_or_else(|| format!("its {} cells end within an entry", value.len() / 4))?);
        }
        Ok(out)
    }

    fn done(mut self, compatible: Vec<String>) -> (Tree, Wiring) {
        let mut bridges = Vec::new();
        let mut odd = Vec::new();
        for raw in std::mem::take(&mut self.bridges) {
            let mut map = |name: &str, value: Option<&[u8]>, mask: Option<u32>, count: fn(&Named) -> Option<u32>| {
                let entries = self.map(value?, count).unwrap_or_else(|why| {
                    odd.push(format!("{}: {name}: {why}", raw.path));
                    Vec::new()
                });
                Some(Map { mask: mask.unwrap_or(u32::MAX), entries })
            };
            let iommu_map = map("iommu-map", raw.iommu_map, raw.iommu_mask, |named| named.iommu_cells);
            let msi_map = map("msi-map", raw.msi_map, raw.msi_mask, |named| named.msi_cells);
            let said = |to: &Target| to.path.clone().unwrap_or_else(|| format!("<{:#x}>", to.phandle));
            let entries = iommu_map.iter().flat_map(|map| &map.entries);
            bridges.push(HostBridge {
                path: raw.path.clone(),
                compatible: raw.compatible,
                domain: raw.domain,
                buses: raw.buses,
                coherent: raw.coherence.coherent,
                iommu_map: entries.map(|e| (e.first, said(&e.to), e.id.unwrap_or(0), e.count)).collect(),
                windows: raw.windows,
            });
            let msi_parent = raw.msi_parent.map(|phandle| self.target(phandle));
            self.wiring.bridges.push(Bridge {
                path: raw.path,
                coherence: raw.coherence,
                iommu_map,
                msi_map,
                msi_parent,
            });
        }
        self.wiring.odd.append(&mut odd);
        for (mut device, phandle) in std::mem::take(&mut self.devices) {
            device.iommu = phandle.map(|phandle| self.target(phandle));
            self.wiring.devices.push(device);
        }
        let iommus = self.wiring.iommus.iter();
        let iommus =
            iommus.map(|i| (i.path.clone(), i.compatible.clone(), i.coherence.coherent == Some(true))).collect();
        (Tree { compatible, bridges, iommus }, self.wiring)
    }
}

/// As in [`HostBridge::windows`].
type Window = (bool, bool, u64, u64, u64);

/// The memory windows of `ranges`: three cells of the PCI bus, the parent's address, a size (IEEE 1275 PCI, 2.2.1.1).
fn windows(value: &[u8], own: Cells, outer: Cells) -> Result<Vec<Window>, String> {
    let (Cells { address: 3, size: 1..=2 }, Cells { address: 1..=2, .. }) = (own, outer) else {
        return Err(format!(
            "an address of {} cells and a size of {} below one of {}; PCI has 3, and 2 or 1, below 2 or 1",
            own.address, own.size, outer.address
        ));
    };
    let bytes = 4 * (own.address as usize + outer.address as usize + own.size as usize);
    if !value.len().is_multiple_of(bytes) {
        return Err(format!("{} bytes are no entries of {bytes}", value.len()));
    }
    let mut out = Vec::new();
    for entry in value.chunks_exact(bytes) {
        let mut cells = cells(entry);
        let hi = cells.next().unwrap_or(0);
        let mut number = |count| (0..count).fold(0_u64, |value, _| value << 32 | u64::from(cells.next().unwrap_or(0)));
        let (pci, cpu, size) = (number(2), number(outer.address), number(own.size));
        // Bits 25:24: 2 and 3 are memory with 32 and 64 bits. Bit 30: prefetchable.
        let space = hi >> 24 & 3;
        if space >= 2 {
            out.push((hi & 1 << 30 != 0, space == 3, pci, cpu, size));
        }
    }
    Ok(out)
}
