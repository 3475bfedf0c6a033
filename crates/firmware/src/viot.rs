//! VIOT, the Virtual I/O Translation Table (ACPI 6.5, 5.2.31).

use serde::Serialize;

use crate::table::{Error, HEADER, Table};

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Viot {
    /// Its nodes, in its order, each with its offset.
    pub nodes: Vec<(u16, Node)>,
}

/// A node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Node {
    /// Type 1: PCI endpoints behind an IOMMU.
    PciRange {
        /// Endpoint id of the first.
        endpoint: u32,
        /// Segments, both included.
        segments: (u16, u16),
        /// Requester ids, both included.
        rids: (u16, u16),
        /// The IOMMU's node.
        to: u16,
    },
    /// Type 2: an endpoint that is not PCI.
    Mmio {
        /// Endpoint id.
        endpoint: u32,
        /// Base address.
        base: u64,
        /// The IOMMU's node.
        to: u16,
    },
    /// Type 3: a virtio-iommu on PCI.
    VirtioPci {
        /// Segment.
        segment: u16,
        /// Requester id.
        rid: u16,
    },
    /// Type 4: a virtio-iommu on MMIO.
    VirtioMmio {
        /// Base address.
        base: u64,
    },
    /// Another type.
    Other(u8),
}

/// After the header: a count, an offset, eight reserved bytes.
const NODES: usize = HEADER + 12;

impl Viot {
    /// Reads a table with its header.
    ///
    /// # Errors
    /// Where it is not one, and what is there.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let table = Table::open("VIOT", bytes)?;
        let count = table.u16(HEADER)?;
        let first = table.u16(HEADER + 2)?;
        table.bytes(HEADER + 4, NODES - HEADER - 4)?;
        let mut at = usize::from(first);
        if count > 0 && at < NODES {
            return Err(
                table.error(HEADER + 2, format!("the nodes begin at {at}, within the table's header of {NODES} bytes"))
            );
        }
        let mut nodes = Vec::new();
        for _ in 0..count {
            let kind = table.u8(at)?;
            let length = usize::from(table.u16(at + 2)?);
            // The format of each type is fixed; a longer node is of a later revision.
            let least = match kind {
                1 | 2 => 24,
                3 | 4 => 16,
                _ => 4,
            };
            if length < least {
                return Err(
                    table.error(at + 2, format!("a node of type {kind} of {length} bytes; it has at least {least}"))
                );
            }
            table.bytes(at, length)?;
            let node = match kind {
                1 => {
                    let endpoint = table.u32(at + 4)?;
                    let segments = (table.u16(at + 8)?, table.u16(at + 10)?);
                    let rids = (table.u16(at + 12)?, table.u16(at + 14)?);
                    if segments.1 < segments.0 || rids.1 < rids.0 {
                        let what = format!(
                            "segments {:#x} to {:#x}, requester ids {:#x} to {:#x}: the last is below the first",
                            segments.0, segments.1, rids.0, rids.1
                        );
                        return Err(table.error(at + 8, what));
                    }
                    Node::PciRange { endpoint, segments, rids, to: table.u16(at + 16)? }
                }
                2 => Node::Mmio { endpoint: table.u32(at + 4)?, base: table.u64(at + 8)?, to: table.u16(at + 16)? },
                3 => Node::VirtioPci { segment: table.u16(at + 4)?, rid: table.u16(at + 6)? },
                4 => Node::VirtioMmio { base: table.u64(at + 8)? },
                other => Node::Other(other),
            };
            let Ok(offset) = u16::try_from(at) else {
                return Err(table.error(at, "a node past the 65,536 bytes that a reference can reach"));
            };
            nodes.push((offset, node));
            at += length;
        }
        let viot = Self { nodes };
        for (at, node) in &viot.nodes {
            let (Node::PciRange { to, .. } | Node::Mmio { to, .. }) = node else { continue };
            if viot.node(*to).is_none() {
                return Err(table.error(usize::from(*at) + 16, format!("it refers to {to:#x}, where no node begins")));
            }
        }
        Ok(viot)
    }
    /// The node that begins at an offset.
    #[must_use]
    pub fn node(&self, offset: u16) -> Option<&Node> {
        let at = self.nodes.binary_search_by_key(&offset, |(at, _)| *at).ok()?;
        self.nodes.get(at).map(|(_, node)| node)
    }
}
