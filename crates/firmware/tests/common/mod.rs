//! Tables, byte by byte; trees, through the model of the library that reads them.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test program uses a part of it")]

use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::standard::NodeStandard as _;

/// A table of these bytes after its header, with a length and a checksum that hold.
pub(crate) fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = signature.to_vec();
    out.extend(u32::try_from(36 + body.len()).unwrap().to_le_bytes());
    out.extend([3, 0]);
    out.extend(b"TESTOMTESTTABL\x01\0\0\0TEST\x01\0\0\0");
    assert_eq!(out.len(), 36);
    out.extend(body);
    sum(&mut out);
    out
}

/// Makes the checksum hold.
pub(crate) fn sum(table: &mut [u8]) {
    table[9] = 0;
    table[9] = table.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b)).wrapping_neg();
}

/// Little-endian bytes, one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend(value);
        self
    }
}

/// An id mapping: input, how many more, output, the node it goes to, flags.
pub(crate) type Mapping = (u32, u32, u32, u32, u32);

/// An IORT, node by node.
#[derive(Debug, Default)]
pub(crate) struct IortBuilder {
    body: Vec<u8>,
    count: u32,
}

impl IortBuilder {
    /// Adds a node and returns its offset.
    pub(crate) fn node(&mut self, kind: u8, revision: u8, data: &[u8], mappings: &[Mapping]) -> u32 {
        let at = 48 + self.body.len();
        let offset = 16 + data.len();
        let length = offset + 20 * mappings.len();
        let mut node = Bytes::default()
            .u8(kind)
            .u16(length.try_into().unwrap())
            .u8(revision)
            .u32(self.count)
            .u32(mappings.len().try_into().unwrap())
            .u32(if mappings.is_empty() { 0 } else { offset.try_into().unwrap() })
            .bytes(data);
        for (input, more, output, to, flags) in mappings {
            node = node.u32(*input).u32(*more).u32(*output).u32(*to).u32(*flags);
        }
        self.body.extend(node.0);
        self.count += 1;
        at.try_into().unwrap()
    }
    pub(crate) fn its(&mut self, ids: &[u32]) -> u32 {
        let data = ids.iter().fold(Bytes::default().u32(ids.len().try_into().unwrap()), |b, id| b.u32(*id));
        self.node(0, 1, &data.0, &[])
    }
    /// `wired` SMMUs have four interrupt lines, so that no mapping is their own.
    pub(crate) fn smmuv3(&mut self, base: u64, flags: u32, wired: bool, own: u32, mappings: &[Mapping]) -> u32 {
        let line = u32::from(wired);
        let data = Bytes::default().u64(base).u32(flags).u32(0).u64(0).u32(0);
        let data = data.u32(line).u32(line).u32(line).u32(line).u32(0).u32(own);
        self.node(4, 4, &data.0, mappings)
    }
    pub(crate) fn root_complex(&mut self, segment: u32, cca: u32, flags: u8, mappings: &[Mapping]) -> u32 {
        let data = Bytes::default().u32(cca).u8(0).u16(0).u8(flags).u32(0).u32(segment).u8(64).u8(0).u16(0);
        self.node(2, 3, &data.0, mappings)
    }
    pub(crate) fn named(&mut self, path: &str, cca: u32, flags: u8, mappings: &[Mapping]) -> u32 {
        let mut data = Bytes::default().u32(0).u32(cca).u8(0).u16(0).u8(flags).u8(64).bytes(path.as_bytes()).u8(0);
        data.0.resize(data.0.len().next_multiple_of(4), 0);
        self.node(1, 4, &data.0, mappings)
    }
    pub(crate) fn build(&self) -> Vec<u8> {
        table(b"IORT", &Bytes::default().u32(self.count).u32(48).u32(0).bytes(&self.body).0)
    }
}

/// QEMU's machine: an ITS group, an SMMUv3 that maps to it, a root complex that maps to the SMMU.
pub(crate) fn usual_iort() -> Vec<u8> {
    let mut iort = IortBuilder::default();
    let its = iort.its(&[0]);
    let smmu = iort.smmuv3(0x905_0000, 1, true, 0, &[(0, 0xffff, 0, its, 0)]);
    iort.root_complex(0, 1, 3, &[(0, 0xffff, 0, smmu, 0)]);
    iort.build()
}

/// Segments and requester ids, the last ones included.
pub(crate) type Range = ((u16, u16), (u16, u16));

/// A VIOT with a virtio-iommu on PCI and ranges to it, as (segments, requester ids).
pub(crate) fn viot(rid: u16, ranges: &[Range]) -> Vec<u8> {
    let count = u16::try_from(ranges.len() + 1).unwrap();
    let mut body = Bytes::default().u16(count).u16(48).u64(0);
    body = body.u8(3).u8(0).u16(16).u16(0).u16(rid).u64(0);
    for (segments, rids) in ranges {
        body = body.u8(1).u8(0).u16(24).u32(u32::from(segments.0) << 16 | u32::from(rids.0));
        body = body.u16(segments.0).u16(segments.1).u16(rids.0).u16(rids.1).u16(48).bytes(&[0; 6]);
    }
    table(b"VIOT", &body.0)
}

/// An MCFG: (base, segment, first bus, last bus).
pub(crate) fn mcfg(windows: &[(u64, u16, u8, u8)]) -> Vec<u8> {
    let body = windows.iter().fold(Bytes::default().u64(0), |b, w| b.u64(w.0).u16(w.1).u8(w.2).u8(w.3).u32(0));
    table(b"MCFG", &body.0)
}

/// A MADT of an Arm machine with ITSs and GICv2m frames.
pub(crate) fn madt(its: &[(u32, u64)], frames: &[(u32, u64)]) -> Vec<u8> {
    let mut body = Bytes::default().u64(0).u8(11).u8(80).bytes(&[0; 78]);
    for (id, base) in its {
        body = body.u8(15).u8(20).u16(0).u32(*id).u64(*base).u32(0);
    }
    for (id, base) in frames {
        body = body.u8(13).u8(24).u16(0).u32(*id).u64(*base).u64(0);
    }
    table(b"APIC", &body.0)
}

/// AML: a package with its length.
pub(crate) fn package(op: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = op.to_vec();
    let length = body.len() + 1;
    if length < 0x40 {
        out.push(u8::try_from(length).unwrap());
    } else {
        let length = length + 1;
        assert!(length < 0x1000);
        out.push(0x40 | u8::try_from(length & 0xf).unwrap());
        out.push(u8::try_from(length >> 4).unwrap());
    }
    out.extend(body);
    out
}

/// AML: Device (name) { body }.
pub(crate) fn device(name: &[u8], body: &[u8]) -> Vec<u8> {
    package(&[0x5b, 0x82], &[name, body].concat())
}

/// AML: Scope (name) { body }.
pub(crate) fn scope(name: &[u8], body: &[u8]) -> Vec<u8> {
    package(&[0x10], &[name, body].concat())
}

/// AML: Name (name, value).
pub(crate) fn name(name: &[u8; 4], value: &[u8]) -> Vec<u8> {
    [&[0x08], name.as_slice(), value].concat()
}

/// AML: EisaId ("PNP0A08").
pub(crate) const PNP0A08: [u8; 5] = [0x0c, 0x41, 0xd0, 0x0a, 0x08];

/// A DSDT with one host bridge, `\_SB.PCI0`, with these names in it.
pub(crate) fn dsdt(names: &[u8]) -> Vec<u8> {
    let bridge = device(b"PCI0", &[name(b"_HID", &PNP0A08), names.to_vec()].concat());
    table(b"DSDT", &scope(b"_SB_", &bridge))
}

/// Properties of a node of a tree.
pub(crate) fn cells(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// Sets a property of the node at a path, or takes it off.
pub(crate) fn set(tree: &mut DeviceTree, path: &str, property: &str, value: Option<&[u8]>) {
    let node = tree.find_node_mut(path).unwrap_or_else(|| panic!("{path}"));
    node.remove_property(property);
    if let Some(value) = value {
        node.add_property(DeviceTreeProperty::new(property, value).unwrap());
    }
}

/// The phandle of the node at a path.
pub(crate) fn phandle(tree: &DeviceTree, path: &str) -> u32 {
    tree.find_node(path).unwrap().phandle().unwrap().unwrap()
}

/// Adds a node below a path.
pub(crate) fn add(tree: &mut DeviceTree, path: &str, name: &str, properties: &[(&str, Vec<u8>)]) {
    let mut node = DeviceTreeNode::new(name).unwrap();
    for (name, value) in properties {
        node.add_property(DeviceTreeProperty::new(*name, value.as_slice()).unwrap());
    }
    tree.find_node_mut(path).unwrap().add_child(node);
}

/// The tree of a fixture, to be changed.
pub(crate) fn tree(fixture: &[u8]) -> DeviceTree {
    DeviceTree::from_fdt(&dtoolkit::fdt::Fdt::new(fixture).unwrap())
}

pub(crate) const SMMUV3: &[u8] = include_bytes!("../fixtures/virt-smmuv3.dtb");
pub(crate) const VIRTIO: &[u8] = include_bytes!("../fixtures/virt-virtio-iommu.dtb");
pub(crate) const GICV2: &[u8] = include_bytes!("../fixtures/virt-gicv2.dtb");
