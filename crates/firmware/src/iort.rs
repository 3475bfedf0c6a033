//! IORT, the I/O Remapping Table (DEN0049E.f).

use serde::Serialize;

use crate::table::{Error, HEADER, Table, index};

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
    Its {
        /// The GIC ITS ids in it, as the MADT numbers them.
        ids: Vec<u32>,
    },
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
        /// Which of its mappings is for its own interrupts, if they are MSIs; no device's id goes through that one.
        own: Option<u32>,
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

impl Kind {
    /// What it is, in words.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Its { .. } => "ITS group",
            Self::Named { .. } => "named component",
            Self::RootComplex { .. } => "root complex",
            Self::Smmu { .. } => "SMMU",
            Self::SmmuV3 { .. } => "SMMUv3",
            Self::Pmcg => "PMCG",
            Self::Rmr => "RMR",
            Self::Other(_) => "node of another type",
        }
    }
    /// Whether it translates.
    #[must_use]
    pub const fn is_smmu(&self) -> bool {
        matches!(self, Self::Smmu { .. } | Self::SmmuV3 { .. })
    }
}

impl Mapping {
    /// A single mapping: whatever the input id, one output id.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.flags & 1 != 0
    }
    /// The last input id.
    #[must_use]
    pub const fn last(&self) -> u32 {
        self.input.saturating_add(self.more)
    }
}

/// After the header: a count, an offset, four reserved bytes.
const NODES: usize = HEADER + 12;
/// Bytes of a node before what its type has.
const NODE: usize = 16;
/// Bytes of an id mapping.
const MAPPING: usize = 20;

impl Iort {
    /// Reads a table with its header.
    ///
    /// # Errors
    /// Where it is not one, and what is there.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let table = Table::open("IORT", bytes)?;
        table.bytes(HEADER, NODES - HEADER)?;
        let count = table.u32(HEADER)?;
        let mut at = index(table.u32(HEADER + 4)?);
        if count > 0 && at < NODES {
            let what = format!("the nodes begin at {at}, within the table's header of {NODES} bytes");
            return Err(table.error(HEADER + 4, what));
        }
        // A node has at least its 16 bytes: however many the table says there are, no more can be read than fit.
        let mut nodes = Vec::new();
        for _ in 0..count {
            let length = usize::from(table.u16(at.saturating_add(1))?);
            let node = node(table, at, length)?;
            nodes.push(node);
            at += length;
        }
        let iort = Self { nodes };
        for (from, mapping) in iort.nodes.iter().flat_map(|n| n.mappings.iter().map(move |m| (n, m))) {
            if iort.node(mapping.to).is_none() {
                let what = format!(
                    "the {} maps ids {:#x} to {:#x} to {:#x}, where no node begins",
                    from.kind.name(),
                    mapping.input,
                    mapping.last(),
                    mapping.to
                );
                return Err(table.error(index(from.offset), what));
            }
        }
        Ok(iort)
    }
    /// The node that begins at an offset.
    #[must_use]
    pub fn node(&self, offset: u32) -> Option<&Node> {
        let at = self.nodes.binary_search_by_key(&offset, |node| node.offset).ok()?;
        self.nodes.get(at)
    }
    /// The root complex of a segment.
    #[must_use]
    pub fn root_complex(&self, segment: u32) -> Option<&Node> {
        self.nodes.iter().find(|n| matches!(n.kind, Kind::RootComplex { segment: s, .. } if s == segment))
    }
}

fn node(table: Table<'_>, at: usize, length: usize) -> Result<Node, Error> {
    if length < NODE {
        return Err(table.error(at + 1, format!("a node of {length} bytes; it has at least {NODE}")));
    }
    table.bytes(at, length)?;
    let (number, revision) = (table.u8(at)?, table.u8(at + 3)?);
    // What the first revision of each has; later ones are longer.
    let least = NODE
        + match number {
            0 => 4,
            1 => 14,
            2 => 16,
            3 => 44,
            4 => 44,
            _ => 0,
        };
    if length < least {
        return Err(table.error(at + 1, format!("a node of type {number} of {length} bytes; it has at least {least}")));
    }
    let kind = match number {
        0 => Kind::Its { ids: its(table, at, length)? },
        1 => Kind::Named { path: path(table, at, length)?, access: access(table, at + 20)? },
        2 => Kind::RootComplex {
            access: access(table, at + 16)?,
            ats: table.u32(at + 24)?,
            segment: table.u32(at + 28)?,
        },
        3 => Kind::Smmu { base: table.u64(at + 16)?, flags: table.u32(at + 36)? },
        4 => Kind::SmmuV3 {
            base: table.u64(at + 16)?,
            flags: table.u32(at + 24)?,
            own: own(table, at, length, revision)?,
        },
        5 => Kind::Pmcg,
        6 => Kind::Rmr,
        other => Kind::Other(other),
    };
    let offset = u32::try_from(at).map_err(|_| table.error(at, "a node past what a reference can reach"))?;
    Ok(Node { offset, kind, mappings: mappings(table, at, length)? })
}

fn mappings(table: Table<'_>, at: usize, length: usize) -> Result<Vec<Mapping>, Error> {
    let (count, offset) = (table.u32(at + 8)?, index(table.u32(at + 12)?));
    if count == 0 {
        return Ok(Vec::new());
    }
    let end = index(count).checked_mul(MAPPING).and_then(|bytes| bytes.checked_add(offset));
    if offset < NODE || end.is_none_or(|end| end > length) {
        let what = format!("{count} mappings at {offset} of the node do not lie in its {length} bytes");
        return Err(table.error(at + 8, what));
    }
    (0..index(count))
        .map(|i| {
            let at = at + offset + i * MAPPING;
            let mapping = Mapping {
                input: table.u32(at)?,
                more: table.u32(at + 4)?,
                output: table.u32(at + 8)?,
                to: table.u32(at + 12)?,
                flags: table.u32(at + 16)?,
            };
            if mapping.input.checked_add(mapping.more).is_none() {
                let what = format!("ids {:#x} and {:#x} more pass 2^32", mapping.input, mapping.more);
                return Err(table.error(at, what));
            }
            Ok(mapping)
        })
        .collect()
}

fn access(table: Table<'_>, at: usize) -> Result<Access, Error> {
    Ok(Access { cca: table.u32(at)?, hints: table.u8(at + 4)?, flags: table.u8(at + 7)? })
}

fn its(table: Table<'_>, at: usize, length: usize) -> Result<Vec<u32>, Error> {
    let count = table.u32(at + NODE)?;
    if index(count) > (length - NODE - 4) / 4 {
        return Err(table.error(at + NODE, format!("{count} ITSs do not lie in the node's {length} bytes")));
    }
    (0..index(count)).map(|i| table.u32(at + NODE + 4 + 4 * i)).collect()
}

/// The name of a named component: it ends with a zero.
fn path(table: Table<'_>, at: usize, length: usize) -> Result<String, Error> {
    let name = table.bytes(at + 29, length - 29)?;
    let end = name.iter().position(|b| *b == 0);
    let text = end.and_then(|end| name.get(..end)).filter(|name| name.is_ascii());
    let text = text.and_then(|name| std::str::from_utf8(name).ok());
    text.map(Into::into).ok_or_else(|| table.error(at + 29, "the name is no text that ends with a zero"))
}

/// Of an SMMUv3: the mapping for its own MSIs. There is one unless all its interrupts are wired.
fn own(table: Table<'_>, at: usize, length: usize, revision: u8) -> Result<Option<u32>, Error> {
    let mut wired = true;
    for at in [at + 44, at + 48, at + 52, at + 56] {
        wired &= table.u32(at)? != 0;
    }
    // From revision 5 on a flag says whether the index is valid.
    let said = if revision >= 5 { table.u32(at + 24)? & 1 << 4 != 0 } else { revision >= 1 && !wired };
    if !said || length < 68 {
        return Ok(None);
    }
    table.u32(at + 64).map(Some)
}
