//! What a memory type promises, by a closed set of questions.
//!
//! A [`Question`] is a behaviour of the memory system, put so that it can be had or not: "merges several writes into one
//! transaction". Its [`Standing`] for a memory type is never a plain yes: where an architecture says *may*, no program can
//! rely on the behaviour, nor on its absence.
//!
//! ```
//! use memtype::guarantee::{Question, Standing};
//! use memtype::MemoryType;
//!
//! let nc = MemoryType::named("arm64:normal-nc").unwrap();
//! let device = MemoryType::named("arm64:device-ngnre").unwrap();
//! // Merging is allowed on Normal-NC, and never promised; on Device-nGnRE it must not happen.
//! assert_eq!(nc.guarantee(Question::Gather).unwrap().standing, Standing::Permitted);
//! assert_eq!(device.guarantee(Question::Gather).unwrap().standing, Standing::Forbidden);
//! ```

use crate::cite::Cite;

/// A behaviour of the memory system towards accesses of one memory type, or a means that software has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Data is held in a cache of the CPU.
    Cached,
    /// Several writes become one transaction, and a write that a later one to the same bytes supersedes is dropped.
    Gather,
    /// Accesses of this type to one device pass each other.
    ReorderSame,
    /// Accesses of this type and of others pass each other.
    ReorderOther,
    /// A write counts as done before the device has it.
    EarlyAcknowledge,
    /// A write stays in the CPU without bound until something drains it.
    Hold,
    /// Bytes are written that the program does not write, if only with the value they had.
    StrayWrite,
    /// Locations are read that the program does not read.
    SpeculativeRead,
    /// An access is performed more often than the program asked.
    Repeat,
    /// An access that is not aligned is performed, in however many parts.
    Unaligned,
    /// An aligned access of one general register, of at most 8 bytes, leaves the CPU as one access of that size.
    Size,
    /// Load-exclusive and store-exclusive (load-reserved and store-conditional) work.
    Exclusives,
    /// Atomic read-modify-write instructions work.
    Atomics,
    /// The instruction that zeroes a cache line works.
    ZeroLine,
    /// Instructions can be fetched, if the permissions of the page allow it.
    Execute,
    /// An instruction orders earlier writes before later ones: [`Guarantee::by`] names it.
    Orders,
    /// An instruction keeps writes apart: none before it is merged with one after it. [`Guarantee::by`] names it.
    Separates,
    /// An instruction makes earlier writes leave the CPU now, whatever follows: [`Guarantee::by`] names it.
    Drains,
    /// A store of 64 bytes leaves the CPU as one transaction: [`Guarantee::by`] names it.
    Burst64,
}

impl Question {
    /// All, in the order in which tables have them.
    pub const ALL: [Self; 19] = [
        Self::Cached,
        Self::Gather,
        Self::ReorderSame,
        Self::ReorderOther,
        Self::EarlyAcknowledge,
        Self::Hold,
        Self::StrayWrite,
        Self::SpeculativeRead,
        Self::Repeat,
        Self::Unaligned,
        Self::Size,
        Self::Exclusives,
        Self::Atomics,
        Self::ZeroLine,
        Self::Execute,
        Self::Orders,
        Self::Separates,
        Self::Drains,
        Self::Burst64,
    ];

    /// The name in files and on the command line: `gather`, `reorder-same`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Gather => "gather",
            Self::ReorderSame => "reorder-same",
            Self::ReorderOther => "reorder-other",
            Self::EarlyAcknowledge => "early-acknowledge",
            Self::Hold => "hold",
            Self::StrayWrite => "stray-write",
            Self::SpeculativeRead => "speculative-read",
            Self::Repeat => "repeat",
            Self::Unaligned => "unaligned",
            Self::Size => "size",
            Self::Exclusives => "exclusives",
            Self::Atomics => "atomics",
            Self::ZeroLine => "zero-line",
            Self::Execute => "execute",
            Self::Orders => "orders",
            Self::Separates => "separates",
            Self::Drains => "drains",
            Self::Burst64 => "burst64",
        }
    }

    /// The behaviour, as a sentence without its end.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Cached => "data is held in a cache of the CPU",
            Self::Gather => {
                "several writes become one transaction, or a later one to the same bytes replaces an earlier"
            }
            Self::ReorderSame => "accesses of this type to one device pass each other",
            Self::ReorderOther => "accesses of this type and of others pass each other",
            Self::EarlyAcknowledge => "a write counts as done before the device has it",
            Self::Hold => "a write stays in the CPU without bound until something drains it",
            Self::StrayWrite => "bytes are written that the program does not write, if only with the value they had",
            Self::SpeculativeRead => "locations are read that the program does not read",
            Self::Repeat => "an access is performed more often than the program asked",
            Self::Unaligned => "an unaligned access is performed, in however many parts",
            Self::Size => {
                "an aligned access of one register, of at most 8 bytes, leaves the CPU as one access of that size"
            }
            Self::Exclusives => "load- and store-exclusive work",
            Self::Atomics => "atomic read-modify-write instructions work",
            Self::ZeroLine => "the instruction that zeroes a cache line works",
            Self::Execute => "instructions can be fetched, if the page's permissions allow it",
            Self::Orders => "an instruction orders earlier writes before later ones",
            Self::Separates => "an instruction keeps writes apart: none before it is merged with one after it",
            Self::Drains => "an instruction makes earlier writes leave the CPU now",
            Self::Burst64 => "a store of 64 bytes leaves the CPU as one transaction",
        }
    }

    /// Whether the answer names instructions rather than a behaviour.
    #[must_use]
    pub const fn is_means(self) -> bool {
        matches!(self, Self::Orders | Self::Separates | Self::Drains | Self::Burst64)
    }
}

/// How a behaviour stands for a memory type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Every implementation does so, always: rely on it.
    Guaranteed,
    /// It may happen or not, each time anew: rely on neither.
    Permitted,
    /// It never happens.
    Forbidden,
    /// The implementation or the platform decides, once: find out.
    ImplementationDefined,
}

impl Standing {
    /// `guaranteed`, `permitted`, `forbidden`, `implementation-defined`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "guaranteed",
            Self::Permitted => "permitted",
            Self::Forbidden => "forbidden",
            Self::ImplementationDefined => "implementation-defined",
        }
    }
}

/// An answer to a [`Question`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guarantee {
    /// How it stands.
    pub standing: Standing,
    /// The instructions, where the question asks for a means; the weakest that does it comes first. Empty with
    /// [`Standing::Guaranteed`] where nothing is needed.
    pub by: &'static [&'static str],
    /// What the standing alone does not say: conditions, exceptions. May be empty.
    pub note: &'static str,
    /// Where it comes from.
    pub cite: Cite,
}

impl Guarantee {
    /// Every implementation does so.
    #[must_use]
    pub const fn guaranteed(cite: Cite) -> Self {
        Self { standing: Standing::Guaranteed, by: &[], note: "", cite }
    }
    /// It may happen.
    #[must_use]
    pub const fn permitted(cite: Cite) -> Self {
        Self { standing: Standing::Permitted, by: &[], note: "", cite }
    }
    /// It never happens.
    #[must_use]
    pub const fn forbidden(cite: Cite) -> Self {
        Self { standing: Standing::Forbidden, by: &[], note: "", cite }
    }
    /// The implementation or the platform decides.
    #[must_use]
    pub const fn implementation_defined(cite: Cite) -> Self {
        Self { standing: Standing::ImplementationDefined, by: &[], note: "", cite }
    }
    /// With what else is to be said.
    #[must_use]
    pub const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }
    /// By these instructions.
    #[must_use]
    pub const fn by(self, by: &'static [&'static str]) -> Self {
        Self { by, ..self }
    }
}
