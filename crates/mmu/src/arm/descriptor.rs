//! Descriptors (D8.3): the bits as data, and functions between them and attributes.

use crate::Oa;

pub(super) const VALID: u64 = 1;
/// Bit 1: table at levels 0 to 2, page at level 3.
pub(super) const TABLE_OR_PAGE: u64 = 1 << 1;
const SH: u32 = 8;
const AF: u64 = 1 << 10;
const NG: u64 = 1 << 11;
const CONTIGUOUS: u64 = 1 << 52;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
// Stage 1.
const ATTR_INDEX: u32 = 2;
const AP_EL0: u64 = 1 << 6;
const AP_READ_ONLY: u64 = 1 << 7;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
// Stage-1 table descriptors.
const PXN_TABLE: u64 = 1 << 59;
const UXN_TABLE: u64 = 1 << 60;
const AP_TABLE_NO_EL0: u64 = 1 << 61;
const AP_TABLE_READ_ONLY: u64 = 1 << 62;
// Stage 2.
const MEM_ATTR: u32 = 2;
const S2AP_READ: u64 = 1 << 6;
const S2AP_WRITE: u64 = 1 << 7;
const FNXS: u64 = 1 << 11;
const XN: u32 = 53;

/// What an access wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// A data read.
    Read,
    /// A data write.
    Write,
    /// Both at once: an atomic.
    ReadWrite,
    /// An instruction fetch.
    Execute,
}

impl Access {
    /// Reads data.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }
    /// Writes data.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// What a translation permits at EL1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Privileges {
    /// Data reads.
    pub read: bool,
    /// Data writes.
    pub write: bool,
    /// Instruction fetches.
    pub execute: bool,
}

impl Privileges {
    /// Whether `access` is permitted.
    #[must_use]
    pub const fn permit(self, access: Access) -> bool {
        match access {
            Access::Execute => self.execute,
            _ => (self.read || !access.reads()) && (self.write || !access.writes()),
        }
    }
}

/// The attributes of a stage-1 block or page (D8.3.1.2), EL1&0 regime, direct permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct S1Attrs {
    /// AttrIndx\[2:0\], bits 4:2: which byte of MAIR_EL1. 0 to 7.
    pub attr_index: u8,
    /// SH\[1:0\], bits 9:8. 0 to 3.
    pub sh: u8,
    /// AP\[2\] = 0, bit 7: writable.
    pub writable: bool,
    /// AP\[1\], bit 6: EL0 has access.
    pub el0: bool,
    /// AF, bit 10: clear, an access raises an Access flag fault.
    pub accessed: bool,
    /// nG, bit 11: the entry is of one ASID.
    pub not_global: bool,
    /// Contiguous, bit 52: a hint, ignored by the walk.
    pub contiguous: bool,
    /// PXN, bit 53: not executable at EL1.
    pub pxn: bool,
    /// UXN, bit 54: not executable at EL0.
    pub uxn: bool,
}

/// The attributes of a stage-2 block or page (D8.3.1.2), direct permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct S2Attrs {
    /// MemAttr\[3:0\], bits 5:2. 0 to 15.
    pub memattr: u8,
    /// SH\[1:0\], bits 9:8. 0 to 3.
    pub sh: u8,
    /// S2AP\[0\], bit 6.
    pub read: bool,
    /// S2AP\[1\], bit 7.
    pub write: bool,
    /// AF, bit 10.
    pub accessed: bool,
    /// FnXS, bit 11 (FEAT_XS).
    pub fnxs: bool,
    /// Contiguous, bit 52: a hint, ignored by the walk.
    pub contiguous: bool,
    /// XN\[1:0\], bits 54:53 as FEAT_XNX reads them: 0b00 executable, 0b01 not at EL1, 0b10 not at all, 0b11 not at EL0.
    pub xn: u8,
}

/// What the table descriptors on the way forbid (D8.4.1.2.2, hierarchical permissions). Stage 1 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TableBits {
    /// APTable\[1\]: no writes below.
    pub read_only: bool,
    /// APTable\[0\]: no EL0 access below.
    pub no_el0: bool,
    /// PXNTable.
    pub pxn: bool,
    /// UXNTable.
    pub uxn: bool,
}

impl TableBits {
    pub(super) const fn of(descriptor: u64) -> Self {
        Self {
            read_only: descriptor & AP_TABLE_READ_ONLY != 0,
            no_el0: descriptor & AP_TABLE_NO_EL0 != 0,
            pxn: descriptor & PXN_TABLE != 0,
            uxn: descriptor & UXN_TABLE != 0,
        }
    }
    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            read_only: self.read_only || other.read_only,
            no_el0: self.no_el0 || other.no_el0,
            pxn: self.pxn || other.pxn,
            uxn: self.uxn || other.uxn,
        }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Stage1 {}
    impl Sealed for super::Stage2 {}
}

/// A stage's descriptor format.
pub trait Format: sealed::Sealed {
    /// The attributes of a block or page.
    type Attrs: Copy + PartialEq + core::fmt::Debug;
    /// Whether table descriptors carry permissions.
    const HIERARCHICAL: bool;
    /// Attributes as bits. Values beyond a field's width are cut to it.
    fn encode(attrs: &Self::Attrs) -> u64;
    /// Bits as attributes.
    fn attrs(descriptor: u64) -> Self::Attrs;
    /// What they permit at EL1, below tables with `tables`.
    fn privileges(attrs: &Self::Attrs, tables: TableBits) -> Privileges;
    /// The Access flag.
    fn accessed(attrs: &Self::Attrs) -> bool;
}

/// Stage 1 of the EL1&0 regime.
#[derive(Debug, Clone, Copy)]
pub struct Stage1;

/// Stage 2.
#[derive(Debug, Clone, Copy)]
pub struct Stage2;

const fn flag(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

impl Format for Stage1 {
    type Attrs = S1Attrs;
    const HIERARCHICAL: bool = true;

    fn encode(a: &S1Attrs) -> u64 {
        u64::from(a.attr_index & 7) << ATTR_INDEX
            | u64::from(a.sh & 3) << SH
            | flag(a.el0, AP_EL0)
            | flag(!a.writable, AP_READ_ONLY)
            | flag(a.accessed, AF)
            | flag(a.not_global, NG)
            | flag(a.contiguous, CONTIGUOUS)
            | flag(a.pxn, PXN)
            | flag(a.uxn, UXN)
    }

    fn attrs(d: u64) -> S1Attrs {
        S1Attrs {
            attr_index: (d >> ATTR_INDEX & 7) as u8,
            sh: (d >> SH & 3) as u8,
            writable: d & AP_READ_ONLY == 0,
            el0: d & AP_EL0 != 0,
            accessed: d & AF != 0,
            not_global: d & NG != 0,
            contiguous: d & CONTIGUOUS != 0,
            pxn: d & PXN != 0,
            uxn: d & UXN != 0,
        }
    }

    fn privileges(a: &S1Attrs, tables: TableBits) -> Privileges {
        let write = a.writable && !tables.read_only;
        // Memory that EL0 may write is not executable at EL1 (R_VWLLR).
        let el0_writes = write && a.el0 && !tables.no_el0;
        Privileges { read: true, write, execute: !a.pxn && !tables.pxn && !el0_writes }
    }

    fn accessed(a: &S1Attrs) -> bool {
        a.accessed
    }
}

impl Format for Stage2 {
    type Attrs = S2Attrs;
    const HIERARCHICAL: bool = false;

    fn encode(a: &S2Attrs) -> u64 {
        u64::from(a.memattr & 0xf) << MEM_ATTR
            | u64::from(a.sh & 3) << SH
            | flag(a.read, S2AP_READ)
            | flag(a.write, S2AP_WRITE)
            | flag(a.accessed, AF)
            | flag(a.fnxs, FNXS)
            | flag(a.contiguous, CONTIGUOUS)
            | u64::from(a.xn & 3) << XN
    }

    fn attrs(d: u64) -> S2Attrs {
        S2Attrs {
            memattr: (d >> MEM_ATTR & 0xf) as u8,
            sh: (d >> SH & 3) as u8,
            read: d & S2AP_READ != 0,
            write: d & S2AP_WRITE != 0,
            accessed: d & AF != 0,
            fnxs: d & FNXS != 0,
            contiguous: d & CONTIGUOUS != 0,
            xn: (d >> XN & 3) as u8,
        }
    }

    fn privileges(a: &S2Attrs, _: TableBits) -> Privileges {
        Privileges { read: a.read, write: a.write, execute: a.read && matches!(a.xn, 0b00 | 0b11) }
    }

    fn accessed(a: &S2Attrs) -> bool {
        a.accessed
    }
}

/// What one descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry<A> {
    /// Bit 0 clear, or an encoding its level does not have (a block at level 0 or 3): a Translation fault.
    Invalid,
    /// A table.
    Table {
        /// Its address.
        next: Oa,
        /// What it forbids below.
        bits: TableBits,
    },
    /// A block or page.
    Leaf {
        /// Its output address; low bits are clear.
        oa: Oa,
        /// Its attributes.
        attrs: A,
    },
}

/// Decodes a descriptor read at `level` (0 to 3; anything above is taken as 3).
#[must_use]
pub fn decode<F: Format>(descriptor: u64, level: u8) -> Entry<F::Attrs> {
    let level = if level > 3 { 3 } else { level };
    match (descriptor & VALID != 0, descriptor & TABLE_OR_PAGE != 0, level) {
        (true, true, 0..=2) => Entry::Table {
            next: Oa(descriptor & ADDRESS),
            bits: if F::HIERARCHICAL { TableBits::of(descriptor) } else { TableBits::default() },
        },
        (true, true, _) | (true, false, 1 | 2) => {
            Entry::Leaf { oa: Oa(descriptor & ADDRESS & !(super::entry_size(level) - 1)), attrs: F::attrs(descriptor) }
        }
        _ => Entry::Invalid,
    }
}

/// The descriptor of a table at `next`.
pub(super) const fn table(next: Oa) -> u64 {
    next.0 & ADDRESS | TABLE_OR_PAGE | VALID
}

/// The descriptor of a block (levels 1 and 2) or page (level 3) whose attributes are `bits`.
pub(super) const fn leaf(level: u8, oa: Oa, bits: u64) -> u64 {
    oa.0 & ADDRESS | bits | flag(level == 3, TABLE_OR_PAGE) | VALID
}
