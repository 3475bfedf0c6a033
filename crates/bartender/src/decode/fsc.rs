//! Fault status codes: DFSC and IFSC of ESR_ELx, FST of PAR_EL1 (D24.2.46, D24.2.142; `EncodeLDFSC`).

use std::fmt;

use serde::Serialize;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// An address beyond what the descriptor or the CPU can have.
    AddressSize,
    /// No valid descriptor.
    Translation,
    /// The access flag is clear.
    AccessFlag,
    /// Not allowed.
    Permission,
    /// The bus answered with an error, synchronously.
    SyncExternal,
    /// The same on a table walk.
    SyncExternalOnWalk,
    /// MTE.
    TagCheck,
    /// Parity or ECC, without FEAT_RAS.
    Parity,
    /// The same on a table walk.
    ParityOnWalk,
    /// Alignment.
    Alignment,
    /// Granule protection, FEAT_RME.
    GranuleProtection,
    /// The same on a table walk.
    GranuleProtectionOnWalk,
    /// Two TLB entries for one address.
    TlbConflict,
    /// The hardware could not update a descriptor where the tables are.
    AtomicUpdate,
    /// IMPLEMENTATION DEFINED: lockdown.
    Lockdown,
    /// IMPLEMENTATION DEFINED: an exclusive or atomic access to memory that supports none.
    UnsupportedAtomic,
    /// AArch32 domains.
    SectionDomain,
    /// AArch32 domains.
    PageDomain,
}

impl Cause {
    const fn name(self) -> &'static str {
        match self {
            Self::AddressSize => "Address size fault",
            Self::Translation => "Translation fault",
            Self::AccessFlag => "Access flag fault",
            Self::Permission => "Permission fault",
            Self::SyncExternal => "synchronous External abort, not on a table walk",
            Self::SyncExternalOnWalk => "synchronous External abort on a table walk",
            Self::TagCheck => "synchronous Tag Check fault",
            Self::Parity => "synchronous parity or ECC error, not on a table walk",
            Self::ParityOnWalk => "synchronous parity or ECC error on a table walk",
            Self::Alignment => "Alignment fault",
            Self::GranuleProtection => "Granule Protection fault, not on a table walk",
            Self::GranuleProtectionOnWalk => "Granule Protection fault on a table walk",
            Self::TlbConflict => "TLB conflict abort",
            Self::AtomicUpdate => "unsupported atomic hardware update of a table",
            Self::Lockdown => "IMPLEMENTATION DEFINED fault (lockdown)",
            Self::UnsupportedAtomic => "unsupported exclusive or atomic access",
            Self::SectionDomain => "Section Domain fault (AArch32)",
            Self::PageDomain => "Page Domain fault (AArch32)",
        }
    }
}

/// A fault status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fsc {
    /// The six bits.
    pub code: u8,
    /// What went wrong.
    pub cause: Cause,
    /// The level of lookup, where the code has one.
    pub level: Option<i8>,
    side: u8,
}

impl fmt::Display for Fsc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.name())?;
        match self.level {
            Some(level) => write!(f, ", level {level}"),
            None => Ok(()),
        }
    }
}

/// Where a code is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// DFSC.
    Data,
    /// IFSC.
    Instruction,
    /// PAR_EL1.FST.
    Par,
}

const D: u8 = 1;
const I: u8 = 2;
const P: u8 = 4;

impl Side {
    const fn bit(self) -> u8 {
        match self {
            Self::Data => D,
            Self::Instruction => I,
            Self::Par => P,
        }
    }
    /// What the architecture says of `code` here; `None` for a reserved one.
    #[must_use]
    pub fn decode(self, code: u8) -> Option<Fsc> {
        TABLE.iter().find(|row| row.code == code && row.side & self.bit() != 0).copied()
    }
}

const fn row(code: u8, cause: Cause, level: Option<i8>, side: u8) -> Fsc {
    Fsc { code, cause, level, side }
}

const TABLE: [Fsc; 48] = {
    use Cause::*;
    [
        row(0x00, AddressSize, Some(0), D | I | P),
        row(0x01, AddressSize, Some(1), D | I | P),
        row(0x02, AddressSize, Some(2), D | I | P),
        row(0x03, AddressSize, Some(3), D | I | P),
        row(0x04, Translation, Some(0), D | I | P),
        row(0x05, Translation, Some(1), D | I | P),
        row(0x06, Translation, Some(2), D | I | P),
        row(0x07, Translation, Some(3), D | I | P),
        row(0x08, AccessFlag, Some(0), D | I | P),
        row(0x09, AccessFlag, Some(1), D | I | P),
        row(0x0a, AccessFlag, Some(2), D | I | P),
        row(0x0b, AccessFlag, Some(3), D | I | P),
        row(0x0c, Permission, Some(0), D | I | P),
        row(0x0d, Permission, Some(1), D | I | P),
        row(0x0e, Permission, Some(2), D | I | P),
        row(0x0f, Permission, Some(3), D | I | P),
        row(0x10, SyncExternal, None, D | I),
        row(0x11, TagCheck, None, D),
        row(0x12, SyncExternalOnWalk, Some(-2), D | I),
        row(0x13, SyncExternalOnWalk, Some(-1), D | I),
        row(0x14, SyncExternalOnWalk, Some(0), D | I),
        row(0x15, SyncExternalOnWalk, Some(1), D | I),
        row(0x16, SyncExternalOnWalk, Some(2), D | I),
        row(0x17, SyncExternalOnWalk, Some(3), D | I),
        row(0x18, Parity, None, D | I),
        row(0x1b, ParityOnWalk, Some(-1), D | I | P),
        row(0x1c, ParityOnWalk, Some(0), D | I | P),
        row(0x1d, ParityOnWalk, Some(1), D | I | P),
        row(0x1e, ParityOnWalk, Some(2), D | I | P),
        row(0x1f, ParityOnWalk, Some(3), D | I | P),
        row(0x21, Alignment, None, D),
        row(0x22, GranuleProtectionOnWalk, Some(-2), D | I | P),
        row(0x23, GranuleProtectionOnWalk, Some(-1), D | I | P),
        row(0x24, GranuleProtectionOnWalk, Some(0), D | I | P),
        row(0x25, GranuleProtectionOnWalk, Some(1), D | I | P),
        row(0x26, GranuleProtectionOnWalk, Some(2), D | I | P),
        row(0x27, GranuleProtectionOnWalk, Some(3), D | I | P),
        row(0x28, GranuleProtection, None, D | I | P),
        row(0x29, AddressSize, Some(-1), D | I | P),
        row(0x2a, Translation, Some(-2), D | I | P),
        row(0x2b, Translation, Some(-1), D | I | P),
        row(0x2c, AddressSize, Some(-2), D | I | P),
        row(0x30, TlbConflict, None, D | I | P),
        row(0x31, AtomicUpdate, None, D | I | P),
        row(0x34, Lockdown, None, D),
        row(0x35, UnsupportedAtomic, None, D),
        row(0x3d, SectionDomain, None, P),
        row(0x3e, PageDomain, None, P),
    ]
};
