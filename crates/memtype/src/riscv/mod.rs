//! Memory types of RISC-V: physical memory attributes, and Svpbmt at both stages.
//!
//! RISC-V keeps memory types out of page tables: each physical region has **physical memory attributes** (PMAs), fixed by the
//! platform, and the most important of them says *main memory* or *I/O*. A PCI BAR lies in an I/O region. The **Svpbmt**
//! extension lets a leaf page-table entry override that by its PBMT field, bits 62:61: **PMA** (0) leaves it alone, **NC** (1)
//! asks for non-cacheable, idempotent, weakly ordered main memory, **IO** (2) for non-cacheable, non-idempotent, strongly
//! ordered I/O. NC is what Linux's `pgprot_writecombine()` writes, IO what `pgprot_noncached()` writes.
//!
//! With two stages of translation the hypervisor's G-stage overrides the PMA, and the guest's VS-stage overrides what comes
//! out of that. **The guest wins**, in both directions: over a G-stage that says IO it may have NC. A hypervisor that does not
//! want that must keep Svpbmt from the guest (henvcfg.PBMTE = 0).
//!
//! What an override does not change is which *set* a FENCE counts the access in: NC over an I/O region, and IO over main
//! memory, count as **both** memory and I/O ([`Combined::counts_as_memory`], [`Combined::counts_as_io`]).
//!
//! ```
//! use memtype::riscv::{Pbmt, Pma, Type, combine};
//!
//! // The hypervisor maps a BAR as IO, the guest maps it write-combining.
//! let both = combine(Pma::Io, Pbmt::Io, Pbmt::Nc);
//! assert_eq!(both.ty, Type::Nc);
//! // FENCE W,W orders its writes, and so does FENCE O,O.
//! assert!(both.counts_as_memory() && both.counts_as_io());
//! // The value 3 is reserved: a page fault.
//! assert_eq!(Pbmt::from_bits(3), None);
//! ```

mod guarantee;
mod pte;

pub use pte::{Fault, Kind, Pte, Thead, thead};

use core::fmt;

use crate::cite::{Cite, Source};

/// What the platform says of a region (volume II, *Main Memory versus I/O Regions*). There is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pma {
    /// Main memory: idempotent, all access widths, RVWMO (or RVTSO) where it is coherent.
    Main = 0,
    /// I/O: everything else. Ordering, idempotency, widths and atomics are further attributes of the region.
    Io = 1,
}

impl Pma {
    /// Both, in the order of their discriminants.
    pub const ALL: [Self; 2] = [Self::Main, Self::Io];

    /// The name in files and on the command line: `main`, `io`.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Io => "io",
        }
    }
}

/// The PBMT field of a leaf page-table entry (Svpbmt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pbmt {
    /// 0: no override. Also what a stage says whose MODE is Bare, or that has no Svpbmt.
    Pma = 0,
    /// 1: non-cacheable, idempotent, weakly ordered (RVWMO), main memory.
    Nc = 1,
    /// 2: non-cacheable, non-idempotent, strongly ordered (I/O ordering, channel 0), I/O.
    Io = 2,
}

impl Pbmt {
    /// All, in the order of their encodings.
    pub const ALL: [Self; 3] = [Self::Pma, Self::Nc, Self::Io];

    /// From the two bits; `None` for 3, which is reserved. Higher bits are ignored.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::Pma),
            1 => Some(Self::Nc),
            2 => Some(Self::Io),
            _ => None,
        }
    }
    /// The two bits.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }
    /// The name in files and on the command line: `pma`, `nc`, `io`.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pma => "pma",
            Self::Nc => "nc",
            Self::Io => "io",
        }
    }
}

/// A memory type, as it is in force after all stages. The order of strictness is [`Type::freedom`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// Main memory, as the platform says: usually cacheable.
    PmaMain = 0,
    /// An I/O region, as the platform says: ordering, idempotency and cacheability are attributes of the region.
    PmaIo = 1,
    /// Non-cacheable, idempotent, RVWMO: what write-combining is here.
    Nc = 2,
    /// Non-cacheable, non-idempotent, strongly ordered on channel 0: for registers.
    Io = 3,
}

impl Type {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::PmaMain, Self::PmaIo, Self::Nc, Self::Io];

    /// The name in files and on the command line.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PmaMain => "pma-main",
            Self::PmaIo => "pma-io",
            Self::Nc => "nc",
            Self::Io => "io",
        }
    }

    /// The order of strictness: 0 is the strictest, IO, then the platform's I/O, NC, and the platform's main memory.
    #[must_use]
    #[inline]
    pub const fn freedom(self) -> u8 {
        match self {
            Self::Io => 0,
            Self::PmaIo => 1,
            Self::Nc => 2,
            Self::PmaMain => 3,
        }
    }
}

/// As the manual writes it, with what lies beneath: `PMA (main memory)`, `PMA (I/O)`, `NC`, `IO`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PmaMain => "PMA (main memory)",
            Self::PmaIo => "PMA (I/O)",
            Self::Nc => "NC",
            Self::Io => "IO",
        })
    }
}

/// The layer that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The platform.
    Pma,
    /// The hypervisor's page tables, under hgatp.
    GStage,
    /// The guest's page tables, under vsatp.
    VsStage,
}

/// A combination in which the result is weaker than a layer beneath it asks for. Everywhere else it is as strict as each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exception {
    /// PBMT = NC over an I/O region. The manual discourages it for drivers that rely on strong ordering, and names write
    /// combining as the reason why it is useful.
    NcOverIoRegion,
    /// VS-stage NC over G-stage IO: the guest undoes what the hypervisor asked for.
    GuestNcOverGStageIo,
}

/// A rule that made a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Neither stage says anything.
    PmaStands,
    /// The G-stage overrides the PMA.
    GStageOverrides,
    /// The VS-stage overrides the intermediate attributes.
    VsStageOverrides,
    /// NC over an I/O region obeys RVWMO.
    NcOverIo,
    /// NC over an I/O region counts as both.
    NcOverIoBoth,
    /// IO over main memory is strongly ordered.
    IoOverMain,
    /// IO over main memory counts as both.
    IoOverMainBoth,
    /// What the guest's own table walks get.
    Walks,
}

impl Rule {
    /// The rule in a sentence.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::PmaStands => "No stage overrides: the physical memory attributes of the region are the final ones.",
            Self::GStageOverrides => "A nonzero G-stage PBMT overrides the PMA and gives the intermediate attributes.",
            Self::VsStageOverrides => {
                "A nonzero VS-stage PBMT overrides the intermediate attributes, whatever they are: the guest wins."
            }
            Self::NcOverIo => "NC over an I/O region obeys RVWMO: what relies on strong ordering does not work there.",
            Self::NcOverIoBoth => "NC over an I/O region counts as both memory and I/O for FENCE, aq and rl.",
            Self::IoOverMain => "IO over main memory obeys the strong ordering of I/O channel 0.",
            Self::IoOverMainBoth => "IO over main memory counts as both memory and I/O for FENCE, aq and rl.",
            Self::Walks => {
                "The guest's own page-table walks are not subject to its VS-stage: they use the intermediate attributes."
            }
        }
    }
    /// Where the manual has it; in brackets the name of the rule in the manual's source.
    #[must_use]
    pub const fn cite(self) -> Cite {
        let place = match self {
            Self::PmaStands => "vol. II Svpbmt, PMA: no override",
            Self::GStageOverrides => "vol. II Svpbmt (hgatp_stage_override_rule)",
            Self::VsStageOverrides => "vol. II Svpbmt (vsatp_stage_override_rule)",
            Self::NcOverIo => "vol. II Svpbmt (io_pma_nc_pbmt_obey_rvwmo)",
            Self::NcOverIoBoth => "vol. II Svpbmt (io_pma_nc_pbmt_treated_as_io_and_memory)",
            Self::IoOverMain => "vol. II Svpbmt (memory_pma_io_pbmt_strong_io_ordering)",
            Self::IoOverMainBoth => "vol. II Svpbmt (memory_pma_io_pbmt_treated_as_io_and_memory)",
            Self::Walks => "vol. II Svpbmt, note on implicit accesses",
        };
        Cite::read(Source::Riscv, place)
    }
}

/// The attributes of a location under all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Combined {
    /// The memory type.
    pub ty: Type,
    /// After the PMA and the G-stage: what the guest's page-table walks use.
    pub intermediate: Type,
    /// What lies beneath.
    pub pma: Pma,
    /// What the G-stage says.
    pub g: Pbmt,
    /// What the VS-stage says.
    pub vs: Pbmt,
}

/// Combines the layers (volume II, *Svpbmt*). A stage whose MODE is Bare, or for which Svpbmt is off (menvcfg.PBMTE for the
/// G-stage, henvcfg.PBMTE for the VS-stage), says [`Pbmt::Pma`]. Without a hypervisor the only stage is `vs`.
#[must_use]
#[inline]
pub const fn combine(pma: Pma, g: Pbmt, vs: Pbmt) -> Combined {
    let beneath = match pma {
        Pma::Main => Type::PmaMain,
        Pma::Io => Type::PmaIo,
    };
    let intermediate = over(beneath, g);
    Combined { ty: over(intermediate, vs), intermediate, pma, g, vs }
}

#[inline]
const fn over(beneath: Type, pbmt: Pbmt) -> Type {
    match pbmt {
        Pbmt::Pma => beneath,
        Pbmt::Nc => Type::Nc,
        Pbmt::Io => Type::Io,
    }
}

impl Combined {
    /// The layer that decided.
    #[must_use]
    #[inline]
    pub const fn by(&self) -> Layer {
        match (self.g, self.vs) {
            (_, Pbmt::Nc | Pbmt::Io) => Layer::VsStage,
            (Pbmt::Nc | Pbmt::Io, Pbmt::Pma) => Layer::GStage,
            (Pbmt::Pma, Pbmt::Pma) => Layer::Pma,
        }
    }
    /// Whether the R and W bits of a FENCE, and aq and rl, order it as an access to main memory. NC over main memory is
    /// main memory; NC over an I/O region and IO over main memory are both.
    #[must_use]
    #[inline]
    pub const fn counts_as_memory(&self) -> bool {
        match self.ty {
            Type::PmaMain | Type::Nc => true,
            Type::PmaIo => false,
            Type::Io => matches!(self.pma, Pma::Main),
        }
    }
    /// Whether the I and O bits of a FENCE order it.
    #[must_use]
    #[inline]
    pub const fn counts_as_io(&self) -> bool {
        match self.ty {
            Type::PmaIo | Type::Io => true,
            Type::PmaMain => false,
            Type::Nc => matches!(self.pma, Pma::Io),
        }
    }
    /// In which ways the result is weaker than what a layer beneath asks for.
    #[must_use]
    #[inline]
    pub const fn exceptions(&self) -> [Option<Exception>; 2] {
        let nc = matches!(self.ty, Type::Nc);
        [
            if nc && matches!(self.pma, Pma::Io) { Some(Exception::NcOverIoRegion) } else { None },
            if nc && matches!(self.g, Pbmt::Io) { Some(Exception::GuestNcOverGStageIo) } else { None },
        ]
    }
    /// The rules that made this result, in the order they apply; `None` fills up.
    #[must_use]
    pub const fn because(&self) -> [Option<Rule>; 5] {
        let g = matches!(self.g, Pbmt::Nc | Pbmt::Io);
        let vs = matches!(self.vs, Pbmt::Nc | Pbmt::Io);
        let (order, both) = match (self.ty, self.pma) {
            (Type::Nc, Pma::Io) => (Some(Rule::NcOverIo), Some(Rule::NcOverIoBoth)),
            (Type::Io, Pma::Main) => (Some(Rule::IoOverMain), Some(Rule::IoOverMainBoth)),
            _ => (None, None),
        };
        let first = if g {
            Some(Rule::GStageOverrides)
        } else if vs {
            None
        } else {
            Some(Rule::PmaStands)
        };
        let differs = vs && self.ty as u8 != self.intermediate as u8;
        [
            first,
            if vs { Some(Rule::VsStageOverrides) } else { None },
            order,
            both,
            if differs { Some(Rule::Walks) } else { None },
        ]
    }
}
