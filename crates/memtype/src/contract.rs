//! What a driver may rely on, clause by clause, and which memory types give it.
//!
//! A [`Contract`] is what somebody who asks for a mapping means by its name: Linux by `ioremap_wc()`, rdma-core by a
//! write-combining mapping, or [`WC`], the definition that holds on every architecture. Each [`Clause`] is a predicate over one
//! [`Question`], so that whether a memory type satisfies a contract is computed, with the clause that fails and the
//! architecture's section that makes it fail.
//!
//! Clauses are of three kinds. What a driver may *rely* on, the type must give ([`Predicate::Always`],
//! [`Predicate::Never`], [`Predicate::Works`]). What a driver must *tolerate*, a type may do or not ([`Predicate::May`]):
//! such a clause never fails, and a driver that cannot live with it must not ask for this contract. What a driver may
//! *hope* for ([`Predicate::Hoped`]) is why it asks, and is never promised.
//!
//! ```
//! use memtype::MemoryType;
//! use memtype::contract::{self, Verdict};
//!
//! let nc = MemoryType::named("arm64:normal-nc").unwrap();
//! let device = MemoryType::named("arm64:device-ngnre").unwrap();
//! // A stricter type keeps the portable contract: nobody was promised that anything is combined ...
//! assert_eq!(contract::WC.verdict(device), Verdict::Satisfied);
//! // ... but a driver that uses the BAR as memory, with memcpy() to any address, was not written against that one.
//! assert_eq!(contract::WC_MEMORY.verdict(nc), Verdict::Satisfied);
//! assert_eq!(contract::WC_MEMORY.verdict(device), Verdict::Broken);
//! let broken: Vec<&str> = contract::WC_MEMORY.judge(device).filter(|j| j.is_broken()).map(|j| j.clause.id).collect();
//! assert_eq!(broken, ["WM-2"]);
//! ```

use crate::cite::{Checked, Cite, Source};
use crate::guarantee::{Guarantee, Question, Standing};
use crate::kind::MemoryType;

/// What a clause says of a behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Predicate {
    /// The driver relies on it: it must be guaranteed.
    Always(Question),
    /// The driver relies on its absence: it must be forbidden.
    Never(Question),
    /// The driver relies on it where the architecture has such an operation at all.
    Works(Question),
    /// The driver must live with it either way.
    May(Question),
    /// As [`May`](Self::May), and the driver would like it.
    Hoped(Question),
}

impl Predicate {
    /// What it is about.
    #[must_use]
    pub const fn question(self) -> Question {
        match self {
            Self::Always(q) | Self::Never(q) | Self::Works(q) | Self::May(q) | Self::Hoped(q) => q,
        }
    }
    /// `rely`, `tolerate` or `hope`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Always(_) | Self::Never(_) | Self::Works(_) => "rely",
            Self::May(_) => "tolerate",
            Self::Hoped(_) => "hope",
        }
    }
    /// `always`, `never`, `works`, `may` or `hoped`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always(_) => "always",
            Self::Never(_) => "never",
            Self::Works(_) => "works",
            Self::May(_) => "may",
            Self::Hoped(_) => "hoped",
        }
    }
    /// Whether it asks anything of a memory type.
    #[must_use]
    pub const fn is_relied_on(self) -> bool {
        matches!(self, Self::Always(_) | Self::Never(_) | Self::Works(_))
    }

    /// Whether a type with this answer keeps it.
    #[must_use]
    pub const fn verdict(self, answer: Option<Guarantee>) -> Verdict {
        let wanted = match self {
            Self::Always(_) => Standing::Guaranteed,
            Self::Works(_) if answer.is_none() => return Verdict::Satisfied,
            Self::Works(_) => Standing::Guaranteed,
            Self::Never(_) => Standing::Forbidden,
            Self::May(_) | Self::Hoped(_) => return Verdict::Satisfied,
        };
        match answer {
            Some(g) if g.standing as u8 == wanted as u8 => Verdict::Satisfied,
            Some(Guarantee { standing: Standing::ImplementationDefined, .. }) => Verdict::Depends,
            Some(_) => Verdict::Broken,
            // What does not exist does not happen.
            None if matches!(wanted, Standing::Forbidden) => Verdict::Satisfied,
            None => Verdict::Broken,
        }
    }
}

/// A sentence of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clause {
    /// Its name: `WC-1`. Never given to another clause.
    pub id: &'static str,
    /// What it says, to be computed with.
    pub predicate: Predicate,
    /// What it says, to be read.
    pub says: &'static str,
    /// Where it is said, or why.
    pub cite: Cite,
}

/// Whether a clause or a contract is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is.
    Satisfied,
    /// The implementation or the platform decides.
    Depends,
    /// It is not.
    Broken,
}

impl Verdict {
    /// `satisfied`, `depends` or `broken`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Satisfied => "satisfied",
            Self::Depends => "depends",
            Self::Broken => "broken",
        }
    }
}

/// A clause held against a memory type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// The clause.
    pub clause: &'static Clause,
    /// What the architecture says of its question. `None` where it has no such operation.
    pub answer: Option<Guarantee>,
    /// Whether the clause is kept.
    pub verdict: Verdict,
}

impl Judgement {
    /// The type does not keep the clause.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        matches!(self.verdict, Verdict::Broken)
    }
    /// Of what a driver must tolerate or may hope for: whether it can happen with this type.
    #[must_use]
    pub const fn can_happen(&self) -> bool {
        match self.answer {
            Some(g) => !matches!(g.standing, Standing::Forbidden),
            None => false,
        }
    }
    /// The clause asks something of the type, and nobody has looked up the answer.
    #[must_use]
    pub const fn is_unverified(&self) -> bool {
        match self.answer {
            Some(g) => self.clause.predicate.is_relied_on() && matches!(g.cite.checked, Checked::Unverified),
            None => false,
        }
    }
}

/// What somebody means by the name of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contract {
    /// The name on the command line.
    pub name: &'static str,
    /// What it is the contract of.
    pub title: &'static str,
    /// In a sentence or two.
    pub summary: &'static str,
    /// The contract whose clauses hold here too, but for those on a question that a clause of this one is on.
    pub extends: Option<&'static Contract>,
    /// Its own clauses.
    pub own: &'static [Clause],
}

impl Contract {
    /// Every contract.
    pub const ALL: &'static [&'static Self] = &[
        &WC,
        &WC_MEMORY,
        &REGISTER,
        &CACHEABLE,
        &IOREMAP,
        &IOREMAP_NP,
        &IOREMAP_WC,
        &IOREMAP_WT,
        &IOREMAP_CACHE,
        &RDMA_UC,
        &RDMA_WC,
    ];

    /// The contract of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().copied().find(|it| it.name == name)
    }

    /// Its clauses, those of the contract it extends first.
    pub fn clauses(&'static self) -> impl Iterator<Item = &'static Clause> {
        let kept =
            |clause: &&Clause| !self.own.iter().any(|own| own.predicate.question() == clause.predicate.question());
        self.extends.map_or(&[][..], |base| base.own).iter().filter(kept).chain(self.own)
    }

    /// Its clauses held against a memory type.
    pub fn judge(&'static self, ty: MemoryType) -> impl Iterator<Item = Judgement> {
        self.clauses().map(move |clause| {
            let answer = ty.guarantee(clause.predicate.question());
            Judgement { clause, answer, verdict: clause.predicate.verdict(answer) }
        })
    }

    /// Whether a memory type satisfies it: the worst of its clauses.
    #[must_use]
    pub fn verdict(&'static self, ty: MemoryType) -> Verdict {
        self.judge(ty).map(|j| j.verdict).max().unwrap_or(Verdict::Satisfied)
    }

    /// Whether the verdict rests on an answer that nobody has looked up.
    #[must_use]
    pub fn is_unverified(&'static self, ty: MemoryType) -> bool {
        let verdict = self.verdict(ty);
        // A broken contract is broken by one clause that is known to be.
        let rests_on = |j: &Judgement| j.verdict == verdict;
        match verdict {
            Verdict::Broken => !self.judge(ty).filter(rests_on).any(|j| !j.is_unverified()),
            _ => self.judge(ty).any(|j| j.is_unverified()),
        }
    }

    /// Whether a driver written against `weaker` works wherever this contract is kept: it relies on nothing that this one
    /// does not promise.
    #[must_use]
    pub fn implies(&'static self, weaker: &'static Self) -> bool {
        weaker.clauses().filter(|c| c.predicate.is_relied_on()).all(|c| {
            self.clauses().any(|mine| match (mine.predicate, c.predicate) {
                (Always(a), Works(b)) => a == b,
                (a, b) => a == b,
            })
        })
    }
}

use Predicate::{Always, Hoped, May, Never, Works};
use Question::{
    Atomics, Burst64, Cached, Drains, EarlyAcknowledge, Exclusives, Execute, Gather, Hold, Orders, ReorderOther,
    ReorderSame, Repeat, Separates, Size, SpeculativeRead, StrayWrite, Unaligned, ZeroLine,
};

const OURS: Source = Source::Said;
const IO_DOC: &str = "Documentation/driver-api/device-io.rst, ioremap()";
const IO_WC_DOC: &str = "Documentation/driver-api/device-io.rst, ioremap_wc()";
const BARRIERS_DOC: &str = "Documentation/memory-barriers.txt, KERNEL I/O BARRIER EFFECTS";
const FLUSH: &str = "util/udma_barrier.h, mmio_flush_writes()";

/// Write-combining, as it holds on every architecture: what a driver may expect of `ioremap_wc()` wherever it runs.
pub static WC: Contract = Contract {
    name: "wc",
    title: "write-combining, on every architecture",
    summary: "Uncached, and in return for nothing but an order that the driver asks for, the CPU may delay, merge, \
              reorder and read ahead. That anything is combined is never promised.",
    extends: None,
    own: &[
        Clause {
            id: "WC-1",
            predicate: Never(Cached),
            says: "No byte is held in a CPU cache: another CPU and the device see the same bytes without cache maintenance.",
            cite: Cite::read(
                Source::Linux,
                "Documentation/driver-api/device-io.rst, ioremap_wt(): it adds caching to this",
            ),
        },
        Clause {
            id: "WC-2",
            predicate: Never(StrayWrite),
            says: "Only bytes that were written are written, holes between them are left alone.",
            cite: Cite::read(Source::Pcie, "2.2.5.1, byte enables"),
        },
        Clause {
            id: "WC-3",
            predicate: Always(Orders),
            says: "There is an instruction that orders: writes before it arrive before writes after it.",
            cite: Cite::read(Source::RdmaCore, FLUSH),
        },
        Clause {
            id: "WC-4",
            predicate: Always(Separates),
            says: "There is an instruction that separates: no write before it is merged with one after it, nor replaced by it.",
            cite: Cite::read(Source::RdmaCore, FLUSH),
        },
        Clause {
            id: "WC-5",
            predicate: Always(Drains),
            says: "There is an instruction that drains: every byte written before it leaves the CPU, with its last value, \
                   without anything further being done. That it has reached the device, only a read from the device shows.",
            cite: Cite::read(Source::RdmaCore, FLUSH),
        },
        Clause {
            id: "WC-6",
            predicate: Hoped(Gather),
            says: "Writes may be merged, in any grouping; of several to the same bytes only the last may arrive, which is more \
                   than the prefetchable bit of a BAR allows. The device must accept any split of what was written.",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "WC-7",
            predicate: Hoped(Burst64),
            says: "64 bytes may arrive as one transaction. Who needs it, as a doorbell that carries its work request does, \
                   needs an instruction that promises it, or must find out and have another way.",
            cite: Cite::read(Source::Linux, "drivers/net/ethernet/mellanox/mlx5/core/wc.c"),
        },
        Clause {
            id: "WC-8",
            predicate: May(ReorderSame),
            says: "Accesses may arrive in another order than the program's, unless ordered (WC-3).",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "WC-9",
            predicate: May(ReorderOther),
            says: "They may pass accesses to registers and to memory: a doorbell in another mapping needs WC-3 before it.",
            cite: Cite::read(Source::Linux, BARRIERS_DOC),
        },
        Clause {
            id: "WC-10",
            predicate: May(EarlyAcknowledge),
            says: "A write is done for the CPU before the device has it, so no error of a write comes back to it.",
            cite: Cite::unverified(Source::Pcie, "chapter 2, posted requests"),
        },
        Clause {
            id: "WC-11",
            predicate: May(Hold),
            says: "A write may stay in the CPU until it is drained (WC-5); it need not leave by itself.",
            cite: Cite::read(Source::RdmaCore, FLUSH),
        },
        Clause {
            id: "WC-12",
            predicate: May(SpeculativeRead),
            says: "Locations may be read that the program does not read: only what can be read without effect may be mapped \
                   so, which is what the prefetchable bit of a BAR says.",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "WC-13",
            predicate: May(Repeat),
            says: "An access may be performed again: writing the same value twice must do no harm.",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "WC-14",
            predicate: May(Size),
            says: "Sizes need not survive: an access may arrive in parts, or as part of a larger one.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rule 1 does not hold"),
        },
        Clause {
            id: "WC-15",
            predicate: May(Unaligned),
            says: "The driver aligns its accesses, with memcpy_toio() and its like: an unaligned one may fault. Who needs \
                   more asks for wc-memory.",
            cite: Cite::unverified(OURS, "thread 000, the question whether aligned accesses are a requirement"),
        },
        Clause {
            id: "WC-16",
            predicate: May(Exclusives),
            says: "Load- and store-exclusive may not work: no locks there.",
            cite: Cite::read(Source::Arm, "B2.2.6"),
        },
        Clause {
            id: "WC-17",
            predicate: May(Atomics),
            says: "Atomic read-modify-write instructions may not work.",
            cite: Cite::read(Source::Arm, "B2.2.6"),
        },
        Clause {
            id: "WC-18",
            predicate: May(ZeroLine),
            says: "The instruction that zeroes a cache line may fault: no memset() of the C library, which uses it.",
            cite: Cite::read(Source::Arm, "C5.3, DC ZVA"),
        },
        Clause {
            id: "WC-19",
            predicate: May(Execute),
            says: "Nothing is to be executed there; the mapping is made execute-never.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
    ],
};

/// A prefetchable BAR used as memory: video memory, a controller memory buffer. What drivers do with a write-combining mapping
/// and the portable contract does not give them.
pub static WC_MEMORY: Contract = Contract {
    name: "wc-memory",
    title: "write-combining, used as memory",
    summary: "As wc, and the C library works on it: memcpy() and memset() to any address, of any size. Drivers of graphics \
              cards are written against this one; thread 002 is what happens to them where it is not kept.",
    extends: Some(&WC),
    own: &[
        Clause {
            id: "WM-1",
            predicate: Always(Unaligned),
            says: "Unaligned accesses are performed, in however many parts.",
            cite: Cite::second_hand(
                Source::Said,
                "Arm BSA, DEN0094C PCI_MM_03, of PCIe memory mapped Normal, as a page quotes it",
            ),
        },
        Clause {
            id: "WM-2",
            predicate: Works(ZeroLine),
            says: "Where the CPU has an instruction that zeroes a cache line, it works: memset() uses it.",
            cite: Cite::read(Source::Arm, "C5.3, DC ZVA"),
        },
    ],
};

/// Registers: what every driver expects of a BAR that is not write-combining.
pub static REGISTER: Contract = Contract {
    name: "register",
    title: "registers of a device",
    summary: "Each access happens once, as it was written, in the order of the program.",
    extends: None,
    own: &[
        Clause {
            id: "REG-1",
            predicate: Never(Cached),
            says: "Every access goes to the device.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "REG-2",
            predicate: Never(SpeculativeRead),
            says: "What the program does not read is not read: a read may have an effect.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "REG-3",
            predicate: Never(StrayWrite),
            says: "What the program does not write is not written.",
            cite: Cite::read(Source::Pcie, "2.2.5.1, byte enables"),
        },
        Clause {
            id: "REG-4",
            predicate: Never(Gather),
            says: "Each write arrives by itself; two writes of a value are two writes.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rule 1"),
        },
        Clause {
            id: "REG-5",
            predicate: Never(Repeat),
            says: "Each access happens once.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "REG-6",
            predicate: Never(ReorderSame),
            says: "Accesses to one device arrive in the order of the program.",
            cite: Cite::read(Source::Linux, BARRIERS_DOC),
        },
        Clause {
            id: "REG-7",
            predicate: Always(Size),
            says: "An aligned access of 1, 2, 4 or 8 bytes leaves the CPU with that size.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rule 1"),
        },
        Clause {
            id: "REG-8",
            predicate: Never(Hold),
            says: "A write leaves by itself.",
            cite: Cite::unverified(OURS, "every driver that rings a doorbell and waits"),
        },
        Clause {
            id: "REG-9",
            predicate: May(EarlyAcknowledge),
            says: "A write may be done for the CPU before the device has it; a read of the device waits for it.",
            cite: Cite::read(Source::Linux, "Documentation/driver-api/device-io.rst, posted writes"),
        },
        Clause {
            id: "REG-10",
            predicate: May(ReorderOther),
            says: "Accesses to memory and to other devices may pass; barriers order them.",
            cite: Cite::read(Source::Linux, BARRIERS_DOC),
        },
        Clause {
            id: "REG-11",
            predicate: May(Unaligned),
            says: "The driver aligns its accesses: an unaligned one may fault.",
            cite: Cite::read(Source::Arm, "B2.8.2"),
        },
        Clause {
            id: "REG-12",
            predicate: Always(Orders),
            says: "Barriers order it against memory that the device reads.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rule 3"),
        },
        Clause {
            id: "REG-13",
            predicate: Always(Separates),
            says: "What is written apart stays apart, as REG-4 says.",
            cite: Cite::unverified(OURS, "follows from REG-4"),
        },
        Clause {
            id: "REG-14",
            predicate: Always(Drains),
            says: "There is a way to make a write leave now, if only that it does so anyway.",
            cite: Cite::unverified(OURS, "follows from REG-8"),
        },
        Clause {
            id: "REG-15",
            predicate: May(Atomics),
            says: "Atomic instructions may not work.",
            cite: Cite::read(Source::Arm, "B2.2.6"),
        },
    ],
};

/// Memory that happens to sit on a device and is coherent with the CPUs: mapped and used like any other.
pub static CACHEABLE: Contract = Contract {
    name: "cacheable",
    title: "device memory that is coherent, used like RAM",
    summary: "Whatever a program does to RAM it may do here. It is right only where the platform keeps device and caches \
              coherent, which no memory type can promise; and Arm requires exclusives and atomics to work of Conventional \
              memory only.",
    extends: None,
    own: &[
        Clause {
            id: "CA-1",
            predicate: Hoped(Cached),
            says: "It is cached.",
            cite: Cite::read(Source::Linux, "6.17, arch/arm64/kvm/mmu.c, kvm_supports_cacheable_pfnmap()"),
        },
        Clause {
            id: "CA-2",
            predicate: Always(Unaligned),
            says: "Unaligned accesses are performed.",
            cite: Cite::read(Source::Arm, "B2.8.2"),
        },
        Clause {
            id: "CA-3",
            predicate: Always(Atomics),
            says: "Atomic read-modify-write instructions work.",
            cite: Cite::read(Source::Arm, "B2.2.6"),
        },
        Clause {
            id: "CA-4",
            predicate: Works(Exclusives),
            says: "Load- and store-exclusive work, where the CPU has them.",
            cite: Cite::read(Source::Arm, "B2.2.6"),
        },
        Clause {
            id: "CA-5",
            predicate: Works(ZeroLine),
            says: "The instruction that zeroes a cache line works, where the CPU has one.",
            cite: Cite::read(Source::Arm, "C5.3, DC ZVA"),
        },
        Clause {
            id: "CA-6",
            predicate: Always(Execute),
            says: "Code can be run from it.",
            cite: Cite::read(Source::Linux, "6.17, arch/arm64/kvm/mmu.c, kvm_supports_cacheable_pfnmap()"),
        },
        Clause {
            id: "CA-7",
            predicate: May(StrayWrite),
            says: "A cache writes whole lines: bytes next to those written are written too.",
            cite: Cite::read(Source::Arm, "B2.11"),
        },
        Clause {
            id: "CA-8",
            predicate: May(SpeculativeRead),
            says: "It may be read ahead.",
            cite: Cite::read(Source::Arm, "B2.10.1"),
        },
        Clause {
            id: "CA-9",
            predicate: May(Hold),
            says: "A write may stay in a cache for ever: who has no coherency with the caches does not see it.",
            cite: Cite::read(Source::Arm, "B2.10.1"),
        },
    ],
};

/// What Linux says of `ioremap()`.
pub static IOREMAP: Contract = Contract {
    name: "ioremap",
    title: "Linux, ioremap()",
    summary: "The default mapping of registers, to be used with readl(), writel() and their like.",
    extends: None,
    own: &[
        Clause {
            id: "IO-1",
            predicate: Never(Cached),
            says: "Uncached: the device itself handles each access.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "IO-2",
            predicate: Never(SpeculativeRead),
            says: "No speculation: no access whose instruction is not reached.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "IO-3",
            predicate: Never(ReorderSame),
            says: "No reordering among accesses to the mapping; some architectures need the barrier in the accessor for it.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "IO-4",
            predicate: Never(Repeat),
            says: "No repetition: one instruction is one access.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "IO-5",
            predicate: Never(Gather),
            says: "No combining; enforced for the accessors, perhaps not for plain pointers.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "IO-6",
            predicate: Always(Size),
            says: "Each operation is one discrete read or write.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "IO-7",
            predicate: Always(Orders),
            says: "Barriers order it against memory and against other devices.",
            cite: Cite::read(Source::Linux, BARRIERS_DOC),
        },
        Clause {
            id: "IO-8",
            predicate: May(EarlyAcknowledge),
            says: "Writes may be posted.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "IO-9",
            predicate: May(Unaligned),
            says: "Accesses must be aligned: on many platforms an unaligned one faults, or does something else.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
        Clause {
            id: "IO-10",
            predicate: May(Execute),
            says: "Not executable, nor fetched from: that is for the permissions of the page, whatever the type.",
            cite: Cite::read(Source::Linux, IO_DOC),
        },
    ],
};

/// What Linux says of `ioremap_np()`.
pub static IOREMAP_NP: Contract = Contract {
    name: "ioremap-np",
    title: "Linux, ioremap_np()",
    summary: "Writes that are not posted, for fabrics that need them. Not for PCI, whose memory writes always are.",
    extends: Some(&IOREMAP),
    own: &[Clause {
        id: "NP-1",
        predicate: Never(EarlyAcknowledge),
        says: "A write is not done before the device has received it.",
        cite: Cite::read(Source::Linux, "Documentation/driver-api/device-io.rst, ioremap_np()"),
    }],
};

/// What Linux says of `ioremap_wc()`, and no more.
pub static IOREMAP_WC: Contract = Contract {
    name: "ioremap-wc",
    title: "Linux, ioremap_wc()",
    summary: "What the document says, which leaves open what a driver must do to be sure: size, alignment, memset() and when a \
              write leaves. `wc` closes that.",
    extends: None,
    own: &[
        Clause {
            id: "LW-1",
            predicate: Never(Cached),
            says: "Not cached; caching is what ioremap_wt() adds.",
            cite: Cite::read(Source::Linux, "Documentation/driver-api/device-io.rst, ioremap_wt()"),
        },
        Clause {
            id: "LW-2",
            predicate: Always(Orders),
            says: "Explicit barriers order it against registers mapped with ioremap().",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "LW-3",
            predicate: Hoped(Gather),
            says: "Several writes may become one.",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "LW-4",
            predicate: May(SpeculativeRead),
            says: "Anything may be read.",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "LW-5",
            predicate: May(ReorderSame),
            says: "Operations may be reordered, as long as the program itself sees no difference.",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "LW-6",
            predicate: May(ReorderOther),
            says: "Without a barrier there is no order with accesses to registers.",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
        Clause {
            id: "LW-7",
            predicate: May(Repeat),
            says: "A location may be written several times for one write.",
            cite: Cite::read(Source::Linux, IO_WC_DOC),
        },
    ],
};

/// What Linux says of `ioremap_wt()`.
pub static IOREMAP_WT: Contract = Contract {
    name: "ioremap-wt",
    title: "Linux, ioremap_wt()",
    summary: "As ioremap_wc(), and reads may come from a cache; writes still reach the device in good time.",
    extends: Some(&IOREMAP_WC),
    own: &[
        Clause {
            id: "WT-1",
            predicate: Hoped(Cached),
            says: "Reads may be served from a cache.",
            cite: Cite::read(Source::Linux, "Documentation/driver-api/device-io.rst, ioremap_wt()"),
        },
        Clause {
            id: "WT-2",
            predicate: Never(StrayWrite),
            says: "A write goes through to the device as it was written, not with its line.",
            cite: Cite::unverified(Source::Linux, "inferred from device-io.rst, ioremap_wt()"),
        },
    ],
};

/// What Linux says of `ioremap_cache()`.
pub static IOREMAP_CACHE: Contract = Contract {
    name: "ioremap-cache",
    title: "Linux, ioremap_cache()",
    summary: "The location is treated as RAM: only for what reads back what was written, and has no side effects.",
    extends: None,
    own: &[
        Clause {
            id: "LC-1",
            predicate: Hoped(Cached),
            says: "Write-back caches may be used.",
            cite: Cite::read(Source::Linux, "Documentation/driver-api/device-io.rst, ioremap_cache()"),
        },
        Clause {
            id: "LC-2",
            predicate: Always(Unaligned),
            says: "As RAM: unaligned accesses are performed.",
            cite: Cite::unverified(Source::Linux, "inferred from device-io.rst, ioremap_cache()"),
        },
        Clause {
            id: "LC-3",
            predicate: Always(Atomics),
            says: "As RAM: atomic instructions work.",
            cite: Cite::unverified(Source::Linux, "inferred from device-io.rst, ioremap_cache()"),
        },
        Clause {
            id: "LC-4",
            predicate: May(StrayWrite),
            says: "Whole lines are written back.",
            cite: Cite::unverified(Source::Linux, "inferred from device-io.rst, ioremap_cache()"),
        },
        Clause {
            id: "LC-5",
            predicate: May(SpeculativeRead),
            says: "Anything may be read.",
            cite: Cite::read(Source::Linux, "Documentation/driver-api/device-io.rst, ioremap_cache()"),
        },
        Clause {
            id: "LC-6",
            predicate: May(Hold),
            says: "A write may stay in the cache.",
            cite: Cite::read(Source::Linux, "Documentation/driver-api/device-io.rst, ioremap_cache()"),
        },
    ],
};

/// What rdma-core's `util/mmio.h` expects of an uncached mapping.
pub static RDMA_UC: Contract = Contract {
    name: "rdma-uc",
    title: "rdma-core, util/mmio.h on an uncached mapping",
    summary: "A write of 1, 2, 4 or 8 bytes is one MemWr TLP with exactly those bytes, in order, and nothing else.",
    extends: None,
    own: &[
        Clause {
            id: "RU-1",
            predicate: Always(Size),
            says: "A write becomes one TLP with its bytes.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h"),
        },
        Clause {
            id: "RU-2",
            predicate: Never(Gather),
            says: "No combining: three writes are three TLPs, two to one address included.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rule 1"),
        },
        Clause {
            id: "RU-3",
            predicate: Never(ReorderSame),
            says: "In order, to one BAR.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rule 1"),
        },
        Clause {
            id: "RU-4",
            predicate: Always(Orders),
            says: "udma_to_device_barrier() orders it after writes to memory that the device reads.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rule 3"),
        },
        Clause {
            id: "RU-5",
            predicate: Never(SpeculativeRead),
            says: "No speculation.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rule 4"),
        },
        Clause {
            id: "RU-6",
            predicate: May(ReorderOther),
            says: "Locks and DMA memory are not ordered with it.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h, rules 2 and 3"),
        },
    ],
};

/// What rdma-core's `util/mmio.h` expects of a write-combining mapping.
pub static RDMA_WC: Contract = Contract {
    name: "rdma-wc",
    title: "rdma-core, util/mmio.h on a write-combining mapping",
    summary: "Writes between mmio_wc_start() and mmio_flush_writes() may be combined; the flush ends that, and sends them.",
    extends: None,
    own: &[
        Clause {
            id: "RW-1",
            predicate: Never(Cached),
            says: "Writes go to the device.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h"),
        },
        Clause {
            id: "RW-2",
            predicate: Never(StrayWrite),
            says: "The bytes written are those of the program.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h"),
        },
        Clause {
            id: "RW-3",
            predicate: Always(Orders),
            says: "What is before mmio_flush_writes() comes first.",
            cite: Cite::read(Source::RdmaCore, FLUSH),
        },
        Clause {
            id: "RW-4",
            predicate: Always(Separates),
            says: "Nothing is combined across it: *wc = 1, flush, *wc = 2 is two TLPs.",
            cite: Cite::read(Source::RdmaCore, FLUSH),
        },
        Clause {
            id: "RW-5",
            predicate: Always(Drains),
            says: "mmio_flush_writes() sends what was written.",
            cite: Cite::read(Source::RdmaCore, FLUSH),
        },
        Clause {
            id: "RW-6",
            predicate: Hoped(Gather),
            says: "Writes between the brackets may be combined.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h"),
        },
        Clause {
            id: "RW-7",
            predicate: May(ReorderSame),
            says: "Between the brackets there is no order.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h"),
        },
        Clause {
            id: "RW-8",
            predicate: May(SpeculativeRead),
            says: "Reads may be speculative.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h"),
        },
        Clause {
            id: "RW-9",
            predicate: May(Size),
            says: "A write need not be a TLP of its own.",
            cite: Cite::read(Source::RdmaCore, "util/mmio.h"),
        },
    ],
};
