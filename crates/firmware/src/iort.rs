//! IORT, the I/O Remapping Table (DEN0049E.f).

use serde::Serialize;

use crate::table::Error;

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Iort {
    /// Its nodes, in its order.
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Where it begins in the table: what others refer to it by.
    pub offset: u32,
    /// What it is.
    pub kind: Kind,
    /// How its input ids become another node's.
    pub mappings: Vec<Mapping>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Type 0: an ITS group.
    Its,
    /// Type 1: a device that is not PCI.
    Named {
        /// Its ACPI path.
        path: String,
        /// What its accesses are.
        access: Access,
    },
    /// Type 2: a PCI root complex.
    RootComplex {
        /// The PCI segment.
        segment: u32,
        /// What its accesses are.
        access: Access,
        /// ATS attribute.
        ats: u32,
    },
    /// Type 3: SMMUv1 or v2.
    Smmu {
        /// Base address.
        base: u64,
        /// Flags; bit 1: coherent walks.
        flags: u32,
    },
    /// Type 4.
    SmmuV3 {
        /// Base address.
        base: u64,
        /// Flags; bit 0: COHACC override.
        flags: u32,
    },
    /// Type 5: a performance counter group.
    Pmcg,
    /// Type 6: reserved memory ranges.
    Rmr,
    /// Another type.
    Other(u8),
}

/// Memory access properties (DEN0049E.f, table 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Access {
    /// Cache Coherent Attribute: 1 is fully coherent.
    pub cca: u32,
    /// Allocation hints.
    pub hints: u8,
    /// Memory access flags.
    pub flags: u8,
}

impl Access {
    /// CPM: a coherent path to memory.
    #[must_use]
    pub const fn cpm(self) -> bool {
        self.flags & 1 != 0
    }
    /// DACS: the device's attributes are cacheable and Inner Shareable.
    #[must_use]
    pub const fn dacs(self) -> bool {
        self.flags & 2 != 0
    }
    /// CANWBS: even accesses that are not to be cached need no maintenance.
    #[must_use]
    pub const fn canwbs(self) -> bool {
        self.flags & 4 != 0
    }
}

/// How a range of input ids becomes output ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// First input id.
    pub input: u32,
    /// How many more than one (the table's "number of ids").
    pub more: u32,
    /// First output id.
    pub output: u32,
    /// The node it goes to, by its offset.
    pub to: u32,
    /// Flags; bit 0: single mapping.
    pub flags: u32,
}

impl Iort {
    /// Reads a table with its header.
    ///
    /// # Errors
    /// Where it is not one, and what is there.
    pub fn parse(_bytes: &[u8]) -> Result<Self, Error> {
        todo!()
    }
    /// The root complex of a segment.
    #[must_use]
    pub fn root_complex(&self, segment: u32) -> Option<&Node> {
        self.nodes.iter().find(|n| matches!(n.kind, Kind::RootComplex { segment: s, .. } if s == segment))
    }
}
