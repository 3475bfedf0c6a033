//! The walk (D8.2): pure, one read of memory a level.

use super::{Access, Config, Entry, Format, Privileges, TableBits, decode, entry_size};
use crate::{Ia, Oa, Words};

/// An MMU fault as the syndrome reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// The level of the lookup; meaningless, and 0, for [`FaultKind::Alignment`] and [`FaultKind::UnsupportedAtomic`].
    pub level: u8,
}

/// The faults a translation can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An address has bits beyond the size configured.
    AddressSize,
    /// No valid descriptor.
    Translation,
    /// The Access flag is clear.
    AccessFlag,
    /// The permissions forbid it.
    Permission,
    /// The memory type forbids the alignment.
    Alignment,
    /// The memory type does not support an Exclusive or Atomic access.
    UnsupportedAtomic,
}

impl Fault {
    /// `ESR_ELx.ISS.{DFSC,IFSC}` (D24.2.40; `EncodeLDFSC`).
    #[must_use]
    pub const fn fsc(self) -> u8 {
        match self.kind {
            FaultKind::AddressSize => self.level & 3,
            FaultKind::Translation => 0b00_0100 | self.level & 3,
            FaultKind::AccessFlag => 0b00_1000 | self.level & 3,
            FaultKind::Permission => 0b00_1100 | self.level & 3,
            FaultKind::Alignment => 0b10_0001,
            FaultKind::UnsupportedAtomic => 0b11_0101,
        }
    }
}

/// One lookup of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The level.
    pub level: u8,
    /// Where the descriptor was read.
    pub at: Oa,
    /// The descriptor.
    pub descriptor: u64,
}

/// Where a walk ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf<A> {
    /// The lookup that found the block or page.
    pub step: Step,
    /// The output address of the input address asked for.
    pub oa: Oa,
    /// The attributes.
    pub attrs: A,
    /// What the tables on the way forbid.
    pub tables: TableBits,
    /// What is permitted at EL1.
    pub privileges: Privileges,
    accessed: bool,
}

impl<A> Leaf<A> {
    /// Bytes the block or page maps.
    #[must_use]
    pub const fn size(&self) -> u64 {
        entry_size(self.step.level)
    }
    /// The Access flag check. It comes before the alignment check by memory type, which comes before
    /// [`permit`](Self::permit) (R_XCHFJ, D8.15.5).
    ///
    /// # Errors
    /// An Access flag fault.
    pub const fn check_accessed(&self) -> Result<(), Fault> {
        if self.accessed { Ok(()) } else { Err(Fault { kind: FaultKind::AccessFlag, level: self.step.level }) }
    }
    /// The permission check.
    ///
    /// # Errors
    /// A Permission fault.
    pub const fn permit(&self, access: Access) -> Result<(), Fault> {
        if self.privileges.permit(access) {
            Ok(())
        } else {
            Err(Fault { kind: FaultKind::Permission, level: self.step.level })
        }
    }
}

/// Why a walk ended without a translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalkError<E> {
    /// A fault of this stage, and the last lookup made.
    Fault(Fault, Option<Step>),
    /// The memory that holds the tables could not be read: for stage 1 under stage 2, a stage-2 fault on a stage-1 walk.
    Memory {
        /// The level of the lookup.
        level: u8,
        /// Where the descriptor lies.
        at: Oa,
        /// The memory's own error.
        error: E,
    },
}

/// Walks the tables at `root` for `ia`: the Access flag and permissions are for the caller to check, in the
/// architecture's order.
///
/// # Errors
/// Translation and Address size faults with their level; whatever `memory` gives.
pub fn walk<F: Format, M: Words>(
    root: Oa,
    config: Config,
    memory: &M,
    ia: Ia,
) -> Result<Leaf<F::Attrs>, WalkError<M::Error>> {
    let fault = |kind, level, step| Err(WalkError::Fault(Fault { kind, level }, step));
    // D8.15.5 items 2 and 3: both are reported at level 0.
    if ia > config.last() {
        return fault(FaultKind::Translation, 0, None);
    }
    let too_big = |oa: Oa| oa.0 >> config.oa_bits() != 0;
    if too_big(root) {
        return fault(FaultKind::AddressSize, 0, None);
    }
    let mut table = root;
    let mut tables = TableBits::default();
    for level in config.start_level()..=3 {
        let at = Oa(table.0 + 8 * config.index(level, ia.0));
        let descriptor = memory.read(at).map_err(|error| WalkError::Memory { level, at, error })?;
        let step = Step { level, at, descriptor };
        match decode::<F>(descriptor, level) {
            Entry::Invalid => return fault(FaultKind::Translation, level, Some(step)),
            Entry::Table { next, .. } if too_big(next) => return fault(FaultKind::AddressSize, level, Some(step)),
            Entry::Table { next, bits } => {
                table = next;
                tables = tables.and(bits);
            }
            Entry::Leaf { oa, .. } if too_big(oa) => return fault(FaultKind::AddressSize, level, Some(step)),
            Entry::Leaf { oa, attrs } => {
                return Ok(Leaf {
                    step,
                    oa: Oa(oa.0 | ia.0 & (entry_size(level) - 1)),
                    attrs,
                    tables,
                    privileges: F::privileges(&attrs, tables),
                    accessed: F::accessed(&attrs),
                });
            }
        }
    }
    // Level 3 decodes to a page or to nothing, so the loop has returned; a Translation fault is what is left to say.
    fault(FaultKind::Translation, 3, None)
}
