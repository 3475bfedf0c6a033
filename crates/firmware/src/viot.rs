//! VIOT, the Virtual I/O Translation Table (ACPI 6.5, 5.2.31).

use serde::Serialize;

use crate::table::Error;

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

impl Viot {
    /// Reads a table with its header.
    ///
    /// # Errors
    /// Where it is not one, and what is there.
    pub fn parse(_bytes: &[u8]) -> Result<Self, Error> {
        todo!()
    }
}
