//! What orders and what drains: the fences of each architecture, what a driver needs of them, and what projects use.
//!
//! A driver that writes to a device through a write-combining (WC) mapping meets two problems that a register mapping does
//! not have. Its writes may leave the CPU in another order than the program's, and several may leave as one; and they may
//! wait in the CPU for more to come. A **fence** is the instruction against that. Which one is needed depends on what has to
//! stay in order with what, so the effects of a fence are a set of single statements, each an [`Effect`], and a [`Role`] is
//! what a program needs: a set of effects. Everything else is computed: the weakest fence that suffices ([`needs`]), and how
//! the fence that a project uses compares with it ([`judge`]).
//!
//! Four kinds of access matter: **RAM** is coherent memory that the device reads and writes by DMA, **UC** is a register
//! mapping (Device-nGnRE, UC, PBMT=IO), **WC** is a write-combining mapping (Normal-NC, WC, PBMT=NC over an I/O region), and
//! the **doorbell** is the UC write that tells the device to look.
//!
//! ```
//! use memtype::Arch;
//! use memtype::barrier::{Effect, Fence, Relation, Role, judge, needs};
//!
//! // Two WC writes that must stay two, in order. Arm needs no more than this:
//! let weakest: Vec<_> = needs(Arch::Arm64, Role::WcBetween).map(|f| f.name).collect();
//! assert_eq!(weakest, ["DMB OSHST"]);
//! // rdma-core waits for completion as well; the data gathering hint promises nothing at all.
//! let dsb = Fence::named(Arch::Arm64, "DSB ST").unwrap();
//! assert!(matches!(judge(dsb, Role::WcBetween), Relation::Stronger(more) if more.has(Effect::Waits)));
//! let dgh = Fence::named(Arch::Arm64, "DGH").unwrap();
//! assert_eq!(judge(dgh, Role::WcBetween), Relation::Hint);
//! // On x86 a write to RAM stays before a later register write without any instruction.
//! assert!(needs(Arch::X86, Role::DmaToDevice).all(|f| !f.is_instruction()));
//! ```

use core::fmt;

use crate::cite::{Checked, Cite, Source};
use crate::guarantee::Standing;
use crate::kind::Arch;

/// One thing that a fence can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Effect {
    /// Earlier WC writes arrive at the device before later WC writes.
    WcBeforeWc,
    /// No earlier WC write becomes one transaction with a later one, and none is dropped for a later one to the same bytes.
    WcApart,
    /// Earlier WC writes arrive before later UC writes to the same device: the burst before the doorbell.
    WcBeforeUc,
    /// Earlier UC writes arrive before later WC writes to the same device.
    UcBeforeWc,
    /// A device that sees a later WC write sees earlier writes to RAM.
    RamBeforeWc,
    /// A device that sees a later UC write sees earlier writes to RAM: the descriptor before the doorbell.
    RamBeforeUc,
    /// A device that sees a later write to RAM sees earlier ones: the descriptor before its valid bit.
    RamBeforeRam,
    /// An earlier read of a UC register is done before later reads of RAM: the status before the data.
    UcReadFirst,
    /// An earlier read of RAM is done before later reads of RAM: the valid bit before the data.
    RamReadFirst,
    /// Earlier WC writes leave the CPU because of it, whatever follows.
    Drains,
    /// What follows waits until the earlier accesses are complete. No role needs it; it makes a fence dearer.
    Waits,
    /// It also counts for observers outside the outer shareable domain (Arm). No role needs it.
    FullSystem,
    /// Earlier writes are ordered before later reads. No role needs it.
    WriteBeforeRead,
    /// Earlier reads are ordered before later writes. No role needs it.
    ReadBeforeWrite,
}

impl Effect {
    /// All, in the order in which tables have them.
    pub const ALL: [Self; 14] = [
        Self::WcBeforeWc,
        Self::WcApart,
        Self::WcBeforeUc,
        Self::UcBeforeWc,
        Self::RamBeforeWc,
        Self::RamBeforeUc,
        Self::RamBeforeRam,
        Self::UcReadFirst,
        Self::RamReadFirst,
        Self::Drains,
        Self::Waits,
        Self::FullSystem,
        Self::WriteBeforeRead,
        Self::ReadBeforeWrite,
    ];

    /// The name in files and on the command line: `wc-before-wc`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WcBeforeWc => "wc-before-wc",
            Self::WcApart => "wc-apart",
            Self::WcBeforeUc => "wc-before-uc",
            Self::UcBeforeWc => "uc-before-wc",
            Self::RamBeforeWc => "ram-before-wc",
            Self::RamBeforeUc => "ram-before-uc",
            Self::RamBeforeRam => "ram-before-ram",
            Self::UcReadFirst => "uc-read-first",
            Self::RamReadFirst => "ram-read-first",
            Self::Drains => "drains",
            Self::Waits => "waits",
            Self::FullSystem => "full-system",
            Self::WriteBeforeRead => "write-before-read",
            Self::ReadBeforeWrite => "read-before-write",
        }
    }

    /// What it says, as a phrase that follows "it promises that" or "nothing promises that".
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::WcBeforeWc => "WC writes stay in order",
            Self::WcApart => "WC writes are not merged across it",
            Self::WcBeforeUc => "WC writes arrive before a later doorbell",
            Self::UcBeforeWc => "register writes arrive before later WC writes",
            Self::RamBeforeWc => "writes to RAM are visible before later WC writes",
            Self::RamBeforeUc => "writes to RAM are visible before a later doorbell",
            Self::RamBeforeRam => "writes to RAM are seen in order by the device",
            Self::UcReadFirst => "a register is read before later reads of RAM",
            Self::RamReadFirst => "reads of RAM stay in order",
            Self::Drains => "WC writes leave the CPU now",
            Self::Waits => "what follows waits for completion",
            Self::FullSystem => "it counts outside the outer shareable domain",
            Self::WriteBeforeRead => "writes stay before later reads",
            Self::ReadBeforeWrite => "reads stay before later writes",
        }
    }
}

/// A set of [`Effect`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Effects(u16);

impl Effects {
    /// None.
    pub const NONE: Self = Self(0);

    /// These.
    #[must_use]
    pub const fn of(effects: &[Effect]) -> Self {
        let mut set = 0;
        let mut i = 0;
        while i < effects.len() {
            set |= 1 << effects[i] as u16;
            i += 1;
        }
        Self(set)
    }

    /// Whether `effect` is among them.
    #[inline]
    #[must_use]
    pub const fn has(self, effect: Effect) -> bool {
        self.0 & (1 << effect as u16) != 0
    }

    /// Whether all of `other` are among them.
    #[inline]
    #[must_use]
    pub const fn has_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[inline]
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// With `effect` where `yes`.
    const fn when(self, yes: bool, effect: Effect) -> Self {
        if yes { Self(self.0 | 1 << effect as u16) } else { self }
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are also in `other`.
    #[inline]
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Each, in the order of [`Effect::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Effect> {
        Effect::ALL.into_iter().filter(move |e| self.has(*e))
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The names, with commas between.
impl fmt::Display for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, effect) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(effect.name())?;
        }
        Ok(())
    }
}

/// An instruction, or none: what the architecture says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fence {
    /// As the architecture's assembly has it: `DMB OSHST`, `fence w,o`. [`Fence::PLAIN`] where there is no instruction.
    pub name: &'static str,
    /// The architecture.
    pub arch: Arch,
    /// What it always does.
    pub guaranteed: Effects,
    /// What the implementation or the platform decides.
    pub open: Effects,
    /// What it asks for, without any promise.
    pub hints: Effects,
    /// Where the order comes from.
    pub order: Cite,
    /// Where [`Effect::WcApart`] comes from, or that it is not said.
    pub apart: Cite,
    /// Where [`Effect::Drains`] comes from, or that it is not said.
    pub drain: Cite,
    /// What the sets do not say. May be empty.
    pub note: &'static str,
}

use Effect::{
    Drains, FullSystem, RamBeforeRam, RamBeforeUc, RamBeforeWc, RamReadFirst, ReadBeforeWrite, UcBeforeWc, UcReadFirst,
    Waits, WcApart, WcBeforeUc, WcBeforeWc, WriteBeforeRead,
};

/// All that is about the order of writes.
const WRITES: Effects =
    Effects::of(&[WcBeforeWc, WcApart, WcBeforeUc, UcBeforeWc, RamBeforeWc, RamBeforeUc, RamBeforeRam]);
/// All that is about reads.
const READS: Effects = Effects::of(&[UcReadFirst, RamReadFirst]);

impl Fence {
    /// The name where there is no instruction: the compiler keeps the order, the CPU does what it always does.
    pub const PLAIN: &'static str = "compiler only";

    /// Whether there is an instruction.
    #[must_use]
    pub fn is_instruction(&self) -> bool {
        self.name != Self::PLAIN
    }

    /// The fence of a name, in any case.
    #[must_use]
    pub fn named(arch: Arch, name: &str) -> Option<&'static Self> {
        FENCES.iter().find(|f| f.arch == arch && f.name.eq_ignore_ascii_case(name))
    }

    /// The fences of an architecture, beginning with what holds without an instruction.
    pub fn of(arch: Arch) -> impl Iterator<Item = &'static Self> {
        FENCES.iter().filter(move |f| f.arch == arch)
    }

    /// How `effect` stands. [`Standing::Permitted`]: it may come about, and cannot be relied on.
    #[must_use]
    pub const fn standing(&self, effect: Effect) -> Standing {
        if self.guaranteed.has(effect) {
            Standing::Guaranteed
        } else if self.open.has(effect) {
            Standing::ImplementationDefined
        } else {
            Standing::Permitted
        }
    }

    /// Where the standing of `effect` comes from: what holds without an instruction comes from elsewhere than what the
    /// instruction adds.
    #[must_use]
    pub fn cite(&self, effect: Effect) -> Cite {
        match Self::named(self.arch, Self::PLAIN) {
            Some(plain) if plain.guaranteed.has(effect) => plain.order,
            _ => match effect {
                WcApart => self.apart,
                Drains => self.drain,
                _ => self.order,
            },
        }
    }

    /// Whether it does what `role` needs, by the architecture.
    #[must_use]
    pub const fn suffices(&self, role: Role) -> bool {
        let does = if role.is_hint() { self.guaranteed.with(self.hints) } else { self.guaranteed };
        does.has_all(role.wants())
    }

    /// Whether it guarantees less than `other`, and nothing that `other` does not.
    #[must_use]
    pub fn is_weaker_than(&self, other: &Self) -> bool {
        self.guaranteed != other.guaranteed && other.guaranteed.has_all(self.guaranteed)
    }
}

const ARM_ORDER: Cite = Cite::read(Source::Arm, "B2.3 Barrier-ordered-before, B2.4.1.1, B2.6.10");
const ARM_APART: Cite = Cite::read(Source::Arm, "B2.4.1.1 Peripheral arrival order");
const ARM_DMB: Cite = Cite::read(Source::Arm, "B2.6.2: a DMB does not ensure completion");
const ARM_DSB: Cite = Cite::read(Source::Arm, "B2.6.9, B2.4.1");

#[derive(Clone, Copy, PartialEq, Eq)]
enum Domain {
    Ish,
    Osh,
    Full,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Types {
    St,
    Ld,
    All,
}

/// A DMB or DSB, from its options: Table B2-1.
const fn arm(name: &'static str, dsb: bool, domain: Domain, types: Types) -> Fence {
    let writes = !matches!(types, Types::Ld);
    let reads = !matches!(types, Types::St);
    let mut does = Effects::NONE;
    if writes {
        does = does.with(WRITES);
    }
    if reads {
        does = does.with(READS);
    }
    // A DSB holds back everything that follows, so its order reaches further than Table B2-1 says.
    does = does
        .when(reads, ReadBeforeWrite)
        .when(writes && (reads || dsb), WriteBeforeRead)
        .when(dsb, Waits)
        .when(dsb && writes, Drains);
    let (guaranteed, open) = match domain {
        Domain::Ish => (Effects::NONE, does),
        Domain::Osh => (does, Effects::NONE),
        Domain::Full => (does.when(true, FullSystem), Effects::NONE),
    };
    let note = match (dsb, domain) {
        (_, Domain::Ish) => "a device may be an observer outside the inner shareable domain: the platform says",
        (true, _) => "completion is that every observer sees the write, not that a posted write has reached the device",
        (false, _) => "",
    };
    let drain = if dsb { ARM_DSB } else { ARM_DMB };
    Fence {
        name,
        arch: Arch::Arm64,
        guaranteed,
        open,
        hints: Effects::NONE,
        order: ARM_ORDER,
        apart: ARM_APART,
        drain,
        note,
    }
}

const RISCV_FENCE: Cite = Cite::read(Source::Riscv, "vol. I FENCE; mm-explanatory, I/O Ordering; vol. II Svpbmt");
const RISCV_APART: Cite = Cite::read(Source::Riscv, "vol. I mm-explanatory: writes may be merged or subsumed");
const RISCV_DRAIN: Cite =
    Cite::read(Source::Riscv, "vol. I mm-explanatory, I/O Ordering: no distinction of ordering and completion fences");

const I: u8 = 8;
const O: u8 = 4;
const R: u8 = 2;
const W: u8 = 1;

/// A FENCE, from its predecessor and successor sets. An access of PBMT=NC over an I/O region counts as both I/O and memory, so
/// either bit covers a WC access; a UC access counts as I/O only, RAM as memory only.
const fn riscv(name: &'static str, before: u8, after: u8) -> Fence {
    const fn any(set: u8, bits: u8) -> bool {
        set & bits != 0
    }
    let (wc0, uc0, ram0) = (any(before, O | W), any(before, O), any(before, W));
    let (wc1, uc1, ram1) = (any(after, O | W), any(after, O), any(after, W));
    let guaranteed = Effects::NONE
        .when(wc0 && wc1, WcBeforeWc)
        .when(wc0 && uc1, WcBeforeUc)
        .when(uc0 && wc1, UcBeforeWc)
        .when(ram0 && wc1, RamBeforeWc)
        .when(ram0 && uc1, RamBeforeUc)
        .when(ram0 && ram1, RamBeforeRam)
        .when(any(before, I) && any(after, R), UcReadFirst)
        .when(any(before, R) && any(after, R), RamReadFirst)
        .when(wc0 && any(after, I | R), WriteBeforeRead)
        .when(any(before, I | R) && wc1, ReadBeforeWrite);
    Fence {
        name,
        arch: Arch::Riscv,
        guaranteed,
        open: Effects::NONE.when(wc0 && wc1, WcApart).when(wc0, Drains),
        hints: Effects::NONE,
        order: RISCV_FENCE,
        apart: RISCV_APART,
        drain: RISCV_DRAIN,
        note: "beyond the hart, over PCIe, the order is the platform's",
    }
}

const DBAR: Cite = Cite::second_hand(Source::LoongArch, "DBAR, in Linux asm/barrier.h and GCC 4a70bfbf686c");

/// A DBAR, from its hint: bit 4 clear asks for completion, bits 3 to 0 clear take part: earlier reads, earlier writes, later
/// reads, later writes. CPUs without the finer hints (before LA664) take each as 0. The ordering hints, bit 4 set, are for
/// memory shared between CPUs and not for devices.
const fn dbar(name: &'static str, hint: u8) -> Fence {
    let completion = hint & 0b10000 == 0;
    let (r0, w0) = (hint & 0b01000 == 0, hint & 0b00100 == 0);
    let (r1, w1) = (hint & 0b00010 == 0, hint & 0b00001 == 0);
    let does = if w0 && w1 { WRITES } else { Effects::NONE }
        .when(r0 && r1, UcReadFirst)
        .when(r0 && r1, RamReadFirst)
        .when(w0 && r1, WriteBeforeRead)
        .when(r0 && w1, ReadBeforeWrite);
    let (guaranteed, open) =
        if completion { (does.when(w0, Drains).when(true, Waits), Effects::NONE) } else { (Effects::NONE, does) };
    Fence {
        name,
        arch: Arch::LoongArch,
        guaranteed,
        open,
        hints: Effects::NONE,
        order: DBAR,
        apart: DBAR,
        drain: DBAR,
        note: if completion { "" } else { "for memory shared between CPUs; whether it holds for a device is not said" },
    }
}

const SFENCE: Cite = Cite::second_hand(Source::Sdm, "vol. 2 SFENCE, in a mirror");
const MFENCE: Cite = Cite::second_hand(Source::Sdm, "vol. 2 MFENCE, in a mirror");
const X86_DRAIN: Cite = Cite::second_hand(
    Source::Sdm,
    "vol. 3 Methods of Caching Available, WC, quoted in mails to linux-arm-kernel and kvm",
);
const X86_PLAIN: Cite =
    Cite::second_hand(Source::Sdm, "vol. 3 Memory Ordering, as Linux writel() and readl() rely on it");
const X86_LFENCE: Cite = Cite::second_hand(Source::Sdm, "vol. 2 LFENCE, in a mirror");
const X86_LOCK: Cite = Cite::second_hand(
    Source::Sdm,
    "vol. 3 8.2.2, and Methods of Caching Available, WC, in quotations: locked instructions",
);
/// What TSO gives without an instruction, register reads and writes included.
const X86_TSO: Effects = Effects::of(&[RamBeforeUc, RamBeforeRam, UcReadFirst, RamReadFirst, ReadBeforeWrite]);

const fn x86(name: &'static str, more: Effects, order: Cite, drain: Cite, note: &'static str) -> Fence {
    Fence {
        name,
        arch: Arch::X86,
        guaranteed: X86_TSO.with(more),
        open: Effects::NONE,
        hints: Effects::NONE,
        order,
        apart: order,
        drain,
        note,
    }
}

const POWER_SYNC: Cite = Cite::second_hand(Source::Power, "Book II sync, in Linux asm/barrier.h");
const POWER_APART: Cite = Cite::second_hand(
    Source::Power,
    "2.03 Book II 1.6.2, in a mirror: sync keeps stores apart, eieio those to Guarded storage only",
);
const POWER_EIEIO: Cite = Cite::second_hand(Source::Power, "Book II eieio, in Linux asm/barrier.h");
const POWER_LWSYNC: Cite =
    Cite::second_hand(Source::Power, "Book II lwsync, in Linux asm/barrier.h: cacheable storage only");
const POWER_PLAIN: Cite = Cite::second_hand(Source::Power, "Book II storage ordering, in Linux asm/barrier.h");

const fn power(name: &'static str, guaranteed: Effects, order: Cite, apart: Cite, note: &'static str) -> Fence {
    Fence {
        name,
        arch: Arch::Power,
        guaranteed,
        open: Effects::NONE,
        hints: Effects::NONE,
        order,
        apart,
        drain: order,
        note,
    }
}

const S390_PLAIN: Cite = Cite::unverified(Source::S390, "Linux wmb() and rmb(), compiler barriers, rely on it");
const S390_BCR: Cite = Cite::unverified(Source::S390, "BCR 14,0: serialization");
const S390_PCIWB: Cite =
    Cite::second_hand(Source::S390, "PCIWB, as rdma-core mmio_flush_writes and Linux zpci_barrier use it");
/// What Linux takes to hold without an instruction.
const S390_STRONG: Effects = Effects::of(&[RamBeforeUc, RamBeforeRam, UcReadFirst, RamReadFirst, ReadBeforeWrite]);

const fn s390(name: &'static str, more: Effects, cite: Cite, note: &'static str) -> Fence {
    Fence {
        name,
        arch: Arch::S390,
        guaranteed: S390_STRONG.with(more),
        open: Effects::NONE,
        hints: Effects::NONE,
        order: cite,
        apart: cite,
        drain: cite,
        note,
    }
}

const fn plain(arch: Arch, cite: Cite, note: &'static str) -> Fence {
    Fence {
        name: Fence::PLAIN,
        arch,
        guaranteed: Effects::NONE,
        open: Effects::NONE,
        hints: Effects::NONE,
        order: cite,
        apart: cite,
        drain: cite,
        note,
    }
}

/// Every fence that a project uses or that a role needs, and those that are easily taken for one.
pub static FENCES: &[Fence] = &[
    plain(Arch::Arm64, ARM_ORDER, ""),
    Fence {
        hints: Effects::of(&[WcApart, Drains]),
        name: "DGH",
        ..plain(
            Arch::Arm64,
            Cite::read(Source::Arm, "C6.2.149 DGH"),
            "a hint that merging across it is not expected to pay; orders nothing; a NOP without FEAT_DGH",
        )
    },
    arm("DMB ISHLD", false, Domain::Ish, Types::Ld),
    arm("DMB ISHST", false, Domain::Ish, Types::St),
    arm("DMB OSHLD", false, Domain::Osh, Types::Ld),
    arm("DMB OSHST", false, Domain::Osh, Types::St),
    arm("DMB OSH", false, Domain::Osh, Types::All),
    arm("DMB LD", false, Domain::Full, Types::Ld),
    arm("DMB ST", false, Domain::Full, Types::St),
    arm("DMB SY", false, Domain::Full, Types::All),
    arm("DSB OSHLD", true, Domain::Osh, Types::Ld),
    arm("DSB OSHST", true, Domain::Osh, Types::St),
    arm("DSB OSH", true, Domain::Osh, Types::All),
    arm("DSB LD", true, Domain::Full, Types::Ld),
    arm("DSB ST", true, Domain::Full, Types::St),
    arm("DSB SY", true, Domain::Full, Types::All),
    Fence {
        open: Effects::of(&[WcBeforeUc, Drains]),
        ..x86(
            Fence::PLAIN,
            Effects::NONE,
            X86_PLAIN,
            X86_DRAIN,
            "a UC access is among the events that a filled WC buffer may wait for; that it comes first is not said",
        )
    },
    x86("LFENCE", Effects::of(&[Waits]), X86_LFENCE, X86_LFENCE, "orders reads, which TSO orders already"),
    x86("SFENCE", WRITES.when(true, Drains), SFENCE, X86_DRAIN, ""),
    x86("MFENCE", WRITES.with(Effects::of(&[Drains, WriteBeforeRead])), MFENCE, X86_DRAIN, ""),
    x86(
        "LOCK",
        WRITES.with(Effects::of(&[Drains, WriteBeforeRead])),
        X86_LOCK,
        X86_DRAIN,
        "any locked instruction, as in taking a lock",
    ),
    plain(Arch::Riscv, RISCV_FENCE, ""),
    riscv("fence w,o", W, O),
    riscv("fence w,w", W, W),
    riscv("fence o,o", O, O),
    riscv("fence o,w", O, W),
    riscv("fence ow,o", O | W, O),
    riscv("fence ow,w", O | W, W),
    riscv("fence ow,ow", O | W, O | W),
    riscv("fence orw,ow", O | R | W, O | W),
    riscv("fence rw,w", R | W, W),
    riscv("fence rw,rw", R | W, R | W),
    riscv("fence i,r", I, R),
    riscv("fence r,r", R, R),
    riscv("fence i,ir", I, I | R),
    riscv("fence ir,ir", I | R, I | R),
    riscv("fence iorw,iorw", I | O | R | W, I | O | R | W),
    plain(Arch::Power, POWER_PLAIN, ""),
    power(
        "eieio",
        Effects::of(&[RamBeforeRam]),
        POWER_EIEIO,
        POWER_APART,
        "orders cacheable stores, and separately storage that is Caching Inhibited and Guarded; a WC mapping is not \
         Guarded, and stores to it may combine across eieio",
    ),
    power(
        "lwsync",
        Effects::of(&[RamBeforeRam, RamReadFirst, ReadBeforeWrite]),
        POWER_LWSYNC,
        POWER_LWSYNC,
        "for cacheable storage only: neither a register nor a WC mapping",
    ),
    power(
        "twi; isync",
        READS.with(Effects::of(&[ReadBeforeWrite, Waits])),
        Cite::second_hand(Source::Power, "Book II isync, in a mirror; the twi makes it wait for the read"),
        POWER_PLAIN,
        "after a read: waits for that one",
    ),
    power(
        "sync",
        WRITES.with(READS).with(Effects::of(&[Drains, Waits, WriteBeforeRead, ReadBeforeWrite])),
        POWER_SYNC,
        POWER_APART,
        "",
    ),
    plain(Arch::LoongArch, DBAR, ""),
    dbar("dbar 0b11010", 0b11010),
    dbar("dbar 0b10101", 0b10101),
    dbar("dbar 0b01010", 0b01010),
    dbar("dbar 0b00101", 0b00101),
    dbar("dbar 0", 0),
    s390(Fence::PLAIN, Effects::NONE, S390_PLAIN, "Linux itself is of two minds: wmb() is this, dma_wmb() is BCR 14,0"),
    s390("BCR 14,0", Effects::of(&[Waits, WriteBeforeRead]), S390_BCR, "says nothing of PCI stores"),
    s390("PCIWB", WRITES.when(true, Drains), S390_PCIWB, "where the machine has PCI memory I/O (MIO)"),
];

/// What a program needs of a fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A descriptor in RAM before the doorbell, a register write.
    DmaToDevice,
    /// A status register before the data in RAM that it announces.
    DeviceToDma,
    /// A descriptor in RAM before its valid bit in RAM.
    RecordWrite,
    /// A valid bit in RAM before the data in RAM.
    RecordRead,
    /// RAM and registers before the first WC write of a burst.
    WcStart,
    /// Two WC writes, in order and as two.
    WcBetween,
    /// A WC burst before the doorbell, and out of the CPU now.
    WcFlush,
    /// A WC burst out of the CPU soon, for latency; nothing is wrong where it is not.
    StopCombining,
}

impl Role {
    /// All.
    pub const ALL: [Self; 8] = [
        Self::DmaToDevice,
        Self::DeviceToDma,
        Self::RecordWrite,
        Self::RecordRead,
        Self::WcStart,
        Self::WcBetween,
        Self::WcFlush,
        Self::StopCombining,
    ];

    /// The name in files and on the command line: `wc-flush`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DmaToDevice => "dma-to-device",
            Self::DeviceToDma => "device-to-dma",
            Self::RecordWrite => "record-write",
            Self::RecordRead => "record-read",
            Self::WcStart => "wc-start",
            Self::WcBetween => "wc-between",
            Self::WcFlush => "wc-flush",
            Self::StopCombining => "stop-combining",
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::DmaToDevice => "writes to RAM before a later register write (the doorbell)",
            Self::DeviceToDma => "a register read before later reads of RAM",
            Self::RecordWrite => "a record in RAM before its valid bit",
            Self::RecordRead => "a valid bit in RAM before the record",
            Self::WcStart => "RAM and registers before the first WC write of a burst",
            Self::WcBetween => "two WC writes in order, and as two",
            Self::WcFlush => "a WC burst before the doorbell, and out of the CPU now",
            Self::StopCombining => "a WC burst out of the CPU soon; a hint is enough",
        }
    }

    /// The effects it needs, all of them guaranteed (or asked for, where a hint is enough).
    #[must_use]
    pub const fn wants(self) -> Effects {
        match self {
            Self::DmaToDevice => Effects::of(&[RamBeforeUc]),
            Self::DeviceToDma => Effects::of(&[UcReadFirst]),
            Self::RecordWrite => Effects::of(&[RamBeforeRam]),
            Self::RecordRead => Effects::of(&[RamReadFirst]),
            Self::WcStart => Effects::of(&[UcBeforeWc, RamBeforeWc]),
            Self::WcBetween => Effects::of(&[WcBeforeWc, WcApart]),
            Self::WcFlush => Effects::of(&[WcBeforeWc, WcApart, WcBeforeUc, Drains]),
            Self::StopCombining => Effects::of(&[Drains]),
        }
    }

    /// Whether a hint is enough.
    #[must_use]
    pub const fn is_hint(self) -> bool {
        matches!(self, Self::StopCombining)
    }
}

/// The weakest fences that suffice: those that do, without those that guarantee more than another that does. Empty where the
/// architecture has none.
pub fn needs(arch: Arch, role: Role) -> impl Iterator<Item = &'static Fence> + Clone {
    let enough = move || FENCES.iter().filter(move |f| f.arch == arch && f.suffices(role));
    enough().filter(move |f| !enough().any(|other| other.is_weaker_than(f)))
}

/// How a fence compares with what a role needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// It suffices, and nothing weaker does.
    Exact,
    /// It suffices, and guarantees these on top of the weakest that does.
    Stronger(Effects),
    /// An instruction that does not suffice: these are not guaranteed.
    Weaker(Effects),
    /// An instruction that asks for some of what is needed, and guarantees none of it.
    Hint,
    /// There is no instruction, and one is needed.
    Nothing,
}

impl Relation {
    /// `exact`, `stronger`, `weaker`, `hint`, `nothing`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Stronger(_) => "stronger",
            Self::Weaker(_) => "weaker",
            Self::Hint => "hint",
            Self::Nothing => "nothing",
        }
    }

    /// What is on top, or what is missing.
    #[must_use]
    pub const fn effects(self) -> Effects {
        match self {
            Self::Stronger(effects) | Self::Weaker(effects) => effects,
            Self::Exact | Self::Hint | Self::Nothing => Effects::NONE,
        }
    }

    /// Whether it gives, by the architecture, what was needed.
    #[must_use]
    pub const fn is_enough(self) -> bool {
        matches!(self, Self::Exact | Self::Stronger(_))
    }
}

/// Compares a fence with what `role` needs on its architecture.
#[must_use]
pub fn judge(fence: &Fence, role: Role) -> Relation {
    let missing = role.wants().without(fence.guaranteed);
    if missing.is_empty() {
        let weaker = needs(fence.arch, role).filter(|f| f.is_weaker_than(fence));
        // Of several, the one that is closest: the fewest effects on top.
        match weaker.map(|f| fence.guaranteed.without(f.guaranteed)).min_by_key(|more| more.0.count_ones()) {
            None => Relation::Exact,
            Some(more) => Relation::Stronger(more),
        }
    } else if !fence.is_instruction() {
        Relation::Nothing
    } else if !fence.hints.common(missing).is_empty() {
        Relation::Hint
    } else {
        Relation::Weaker(missing)
    }
}

/// A project whose barriers are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Project {
    /// The kernel.
    Linux,
    /// The user space of RDMA.
    RdmaCore,
    /// Unified Communication X.
    Ucx,
    /// The Data Plane Development Kit.
    Dpdk,
    /// Copies to and from GPU memory by the CPU.
    Gdrcopy,
    /// The Storage Performance Development Kit.
    Spdk,
}

impl Project {
    /// All.
    pub const ALL: [Self; 6] = [Self::Linux, Self::RdmaCore, Self::Ucx, Self::Dpdk, Self::Gdrcopy, Self::Spdk];

    /// The name in files and on the command line: `rdma-core`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::RdmaCore => "rdma-core",
            Self::Ucx => "ucx",
            Self::Dpdk => "dpdk",
            Self::Gdrcopy => "gdrcopy",
            Self::Spdk => "spdk",
        }
    }

    /// The revision that was read.
    #[must_use]
    pub const fn revision(self) -> &'static str {
        match self {
            Self::Linux => "6.12, compared with 6.1.172",
            Self::RdmaCore => "691953d8d502",
            Self::Ucx => "9466d104a317",
            Self::Dpdk => "38f72e500b3b",
            Self::Gdrcopy => "fcec3ce0bb40",
            Self::Spdk => "3230130e6a41",
        }
    }

    const fn source(self) -> Source {
        match self {
            Self::Linux => Source::Linux,
            Self::RdmaCore => Source::RdmaCore,
            Self::Ucx => Source::Ucx,
            Self::Dpdk => Source::Dpdk,
            Self::Gdrcopy => Source::Gdrcopy,
            Self::Spdk => Source::Spdk,
        }
    }
}

/// What a project uses for a role on an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Practice {
    /// Who.
    pub project: Project,
    /// Where.
    pub arch: Arch,
    /// What for.
    pub role: Role,
    /// The function or macro.
    pub call: &'static str,
    /// The name of the fence it becomes: one of [`FENCES`].
    pub instruction: &'static str,
    /// The file, and the function that uses it so where that is not plain.
    pub place: &'static str,
    /// What is worth knowing. May be empty.
    pub note: &'static str,
}

impl Practice {
    /// The fence; the tests check that there is one.
    #[must_use]
    pub fn fence(&self) -> Option<&'static Fence> {
        Fence::named(self.arch, self.instruction)
    }

    /// Where the project says so.
    #[must_use]
    pub const fn source(&self) -> Cite {
        Cite::read(self.project.source(), self.place)
    }

    /// How it compares with what the role needs.
    #[must_use]
    pub fn relation(&self) -> Relation {
        self.fence().map_or(Relation::Nothing, |f| judge(f, self.role))
    }

    /// How far the statements have been followed on which [`Practice::relation`] rests.
    #[must_use]
    pub fn checked(&self) -> Checked {
        let of = |f: &Fence| self.role.wants().iter().map(|e| f.cite(e).checked).max();
        self.fence().into_iter().chain(needs(self.arch, self.role)).filter_map(of).max().unwrap_or(Checked::Unverified)
    }
}

/// Rows of one call for one role: the instruction on each architecture, and where it is written.
macro_rules! practices {
    ($($project:ident $role:ident $call:literal { $($arch:ident $instruction:expr, $place:literal $(, $note:literal)?;)+ })+) => {
        /// What the projects use.
        pub static PRACTICES: &[Practice] = &[$($(Practice {
            project: Project::$project,
            arch: Arch::$arch,
            role: Role::$role,
            call: $call,
            instruction: $instruction,
            place: $place,
            note: concat!($($note)?),
        },)+)+];
    };
}

const PLAIN: &str = Fence::PLAIN;

practices! {
    Linux DmaToDevice "writel()" {
        Arm64 "DMB OSHST", "arch/arm64/include/asm/io.h __io_bw";
        X86 PLAIN, "arch/x86/include/asm/io.h writel";
        Riscv "fence w,o", "arch/riscv/include/asm/mmio.h __io_bw";
        Power "sync", "arch/powerpc/include/asm/io.h DEF_MMIO_OUT_D";
        LoongArch "dbar 0b01010", "include/asm-generic/io.h __io_bw, asm/barrier.h wmb";
        S390 PLAIN, "include/asm-generic/io.h __io_bw, asm/barrier.h wmb";
    }
    Linux DmaToDevice "wmb()" {
        Arm64 "DSB ST", "arch/arm64/include/asm/barrier.h __wmb";
        X86 "SFENCE", "arch/x86/include/asm/barrier.h __wmb";
        Riscv "fence ow,ow", "arch/riscv/include/asm/barrier.h __wmb";
        Power "sync", "arch/powerpc/include/asm/barrier.h wmb";
        LoongArch "dbar 0b01010", "arch/loongarch/include/asm/barrier.h wmb";
        S390 PLAIN, "arch/s390/include/asm/barrier.h __wmb";
    }
    RdmaCore DmaToDevice "udma_to_device_barrier()" {
        Arm64 "DMB OSHST", "util/udma_barrier.h udma_to_device_barrier";
        X86 PLAIN, "util/udma_barrier.h udma_to_device_barrier",
            "its comment leaves non-temporal stores and WC memory to the caller's own SFENCE";
        Riscv "fence ow,ow", "util/udma_barrier.h udma_to_device_barrier";
        Power "sync", "util/udma_barrier.h udma_to_device_barrier";
        LoongArch "dbar 0", "util/udma_barrier.h udma_to_device_barrier";
        S390 PLAIN, "util/udma_barrier.h udma_to_device_barrier";
    }
    Ucx DmaToDevice "ucs_memory_bus_store_fence()" {
        Arm64 "DMB OSHST", "src/ucs/arch/aarch64/cpu.h";
        X86 "SFENCE", "src/ucs/arch/x86_64/cpu.h";
        Riscv "fence ow,ow", "src/ucs/arch/rv64/cpu.h";
        Power "sync", "src/ucs/arch/ppc64/cpu.h";
    }
    Dpdk DmaToDevice "rte_io_wmb()" {
        Arm64 "DMB OSHST", "lib/eal/arm/include/rte_atomic_64.h";
        X86 PLAIN, "lib/eal/x86/include/rte_atomic.h";
        Riscv "fence orw,ow", "lib/eal/riscv/include/rte_atomic.h";
        Power "sync", "lib/eal/ppc/include/rte_atomic.h";
        LoongArch "dbar 0", "lib/eal/loongarch/include/rte_atomic.h";
    }
    Dpdk DmaToDevice "rte_wmb()" {
        Arm64 "DMB OSHST", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        X86 "SFENCE", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        Riscv "fence w,w", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring",
            "stands between the doorbell record in RAM and the doorbell; w,w leaves out the I/O bit, so it holds only where the doorbell page is mapped PBMT=NC";
        Power "sync", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        LoongArch "dbar 0", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
    }
    Spdk DmaToDevice "spdk_wmb()" {
        Arm64 "DSB ST", "include/spdk/barrier.h; lib/nvme/nvme_pcie_internal.h";
        X86 "SFENCE", "include/spdk/barrier.h; lib/nvme/nvme_pcie_internal.h";
        Riscv "fence ow,ow", "include/spdk/barrier.h; lib/nvme/nvme_pcie_internal.h";
        Power "sync", "include/spdk/barrier.h; lib/nvme/nvme_pcie_internal.h";
        LoongArch "dbar 0", "include/spdk/barrier.h; lib/nvme/nvme_pcie_internal.h";
    }

    Linux DeviceToDma "readl()" {
        Arm64 "DMB OSHLD", "arch/arm64/include/asm/io.h __io_ar", "followed by a control dependency, for delay loops";
        X86 PLAIN, "arch/x86/include/asm/io.h readl";
        Riscv "fence i,ir", "arch/riscv/include/asm/mmio.h __io_ar";
        Power "twi; isync", "arch/powerpc/include/asm/io.h DEF_MMIO_IN_D", "with a sync before the read";
        LoongArch "dbar 0b00101", "include/asm-generic/io.h __io_ar, asm/barrier.h rmb";
        S390 PLAIN, "include/asm-generic/io.h __io_ar, asm/barrier.h rmb";
    }
    RdmaCore DeviceToDma "udma_from_device_barrier()" {
        Arm64 "DMB OSHLD", "util/udma_barrier.h udma_from_device_barrier";
        X86 "LFENCE", "util/udma_barrier.h udma_from_device_barrier";
        Riscv "fence ir,ir", "util/udma_barrier.h udma_from_device_barrier";
        Power "lwsync", "util/udma_barrier.h udma_from_device_barrier",
            "its comment names the read of a register first; lwsync orders cacheable storage only (a valid bit in RAM is fine)";
        LoongArch "dbar 0", "util/udma_barrier.h udma_from_device_barrier";
        S390 PLAIN, "util/udma_barrier.h udma_from_device_barrier";
    }
    Ucx DeviceToDma "ucs_memory_bus_load_fence()" {
        Arm64 "DMB OSHLD", "src/ucs/arch/aarch64/cpu.h";
        X86 "LFENCE", "src/ucs/arch/x86_64/cpu.h";
        Riscv "fence ir,ir", "src/ucs/arch/rv64/cpu.h";
        Power "sync", "src/ucs/arch/ppc64/cpu.h";
    }
    Dpdk DeviceToDma "rte_io_rmb()" {
        Arm64 "DMB OSHLD", "lib/eal/arm/include/rte_atomic_64.h";
        X86 PLAIN, "lib/eal/x86/include/rte_atomic.h";
        Riscv "fence ir,ir", "lib/eal/riscv/include/rte_atomic.h";
        Power "sync", "lib/eal/ppc/include/rte_atomic.h";
        LoongArch "dbar 0", "lib/eal/loongarch/include/rte_atomic.h";
    }
    Spdk DeviceToDma "spdk_rmb()" {
        Arm64 "DSB LD", "include/spdk/barrier.h";
        X86 "LFENCE", "include/spdk/barrier.h";
        Riscv "fence ir,ir", "include/spdk/barrier.h";
        Power "sync", "include/spdk/barrier.h";
        LoongArch "dbar 0", "include/spdk/barrier.h";
    }

    Linux RecordWrite "dma_wmb()" {
        Arm64 "DMB OSHST", "arch/arm64/include/asm/barrier.h __dma_wmb";
        X86 PLAIN, "arch/x86/include/asm/barrier.h __dma_wmb";
        Riscv "fence ow,ow", "include/asm-generic/barrier.h dma_wmb";
        Power "lwsync", "arch/powerpc/include/asm/barrier.h dma_wmb";
        LoongArch "dbar 0b01010", "include/asm-generic/barrier.h dma_wmb";
        S390 "BCR 14,0", "arch/s390/include/asm/barrier.h __dma_wmb";
    }
    RdmaCore RecordWrite "udma_ordering_write_barrier()" {
        Arm64 "DMB OSHST", "util/udma_barrier.h udma_ordering_write_barrier";
        X86 PLAIN, "util/udma_barrier.h udma_ordering_write_barrier";
        Riscv "fence ow,ow", "util/udma_barrier.h udma_ordering_write_barrier";
        Power "sync", "util/udma_barrier.h udma_ordering_write_barrier";
        LoongArch "dbar 0", "util/udma_barrier.h udma_ordering_write_barrier";
        S390 PLAIN, "util/udma_barrier.h udma_ordering_write_barrier";
    }
    Ucx RecordWrite "ucs_memory_cpu_store_fence()" {
        Arm64 "DMB ISHST", "src/uct/ib/mlx5/ib_mlx5.inl uct_ib_mlx5_txwq_ring_doorbell",
            "stands between the work queue entry and the doorbell record, both read by DMA; Linux and rdma-core use the outer shareable domain there";
        X86 PLAIN, "src/uct/ib/mlx5/ib_mlx5.inl uct_ib_mlx5_txwq_ring_doorbell";
        Riscv "fence rw,w", "src/uct/ib/mlx5/ib_mlx5.inl uct_ib_mlx5_txwq_ring_doorbell";
        Power "lwsync", "src/uct/ib/mlx5/ib_mlx5.inl uct_ib_mlx5_txwq_ring_doorbell";
    }
    Dpdk RecordWrite "rte_io_wmb()" {
        Arm64 "DMB OSHST", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        X86 PLAIN, "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        Riscv "fence orw,ow", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        Power "sync", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        LoongArch "dbar 0", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
    }

    Linux RecordRead "dma_rmb()" {
        Arm64 "DMB OSHLD", "arch/arm64/include/asm/barrier.h __dma_rmb";
        X86 PLAIN, "arch/x86/include/asm/barrier.h __dma_rmb";
        Riscv "fence ir,ir", "include/asm-generic/barrier.h dma_rmb";
        Power "lwsync", "arch/powerpc/include/asm/barrier.h dma_rmb";
        LoongArch "dbar 0b00101", "include/asm-generic/barrier.h dma_rmb";
        S390 "BCR 14,0", "arch/s390/include/asm/barrier.h __dma_rmb";
    }
    RdmaCore RecordRead "udma_from_device_barrier()" {
        Arm64 "DMB OSHLD", "util/udma_barrier.h udma_from_device_barrier";
        X86 "LFENCE", "util/udma_barrier.h udma_from_device_barrier";
        Riscv "fence ir,ir", "util/udma_barrier.h udma_from_device_barrier";
        Power "lwsync", "util/udma_barrier.h udma_from_device_barrier";
        LoongArch "dbar 0", "util/udma_barrier.h udma_from_device_barrier";
        S390 PLAIN, "util/udma_barrier.h udma_from_device_barrier";
    }

    Linux WcStart "wmb()" {
        Arm64 "DSB ST", "6.1.172 drivers/infiniband/hw/mlx5/mem.c before __iowrite64_copy";
        X86 "SFENCE", "6.1.172 drivers/infiniband/hw/mlx5/mem.c before __iowrite64_copy";
        Riscv "fence ow,ow", "6.1.172 drivers/infiniband/hw/mlx5/mem.c before __iowrite64_copy";
        Power "sync", "6.1.172 drivers/infiniband/hw/mlx5/mem.c before __iowrite64_copy";
        LoongArch "dbar 0b01010", "6.1.172 drivers/infiniband/hw/mlx5/mem.c before __iowrite64_copy";
        S390 PLAIN, "6.1.172 drivers/infiniband/hw/mlx5/mem.c before __iowrite64_copy";
    }
    RdmaCore WcStart "mmio_wc_start()" {
        Arm64 "DSB ST", "util/udma_barrier.h mmio_wc_start";
        X86 "SFENCE", "util/udma_barrier.h mmio_wc_start";
        Riscv "fence ow,ow", "util/udma_barrier.h mmio_wc_start";
        Power "sync", "util/udma_barrier.h mmio_wc_start";
        LoongArch "dbar 0", "util/udma_barrier.h mmio_wc_start";
        S390 "PCIWB", "util/udma_barrier.h mmio_wc_start", "a compiler barrier where the machine has no MIO";
    }
    RdmaCore WcStart "mmio_wc_spinlock()" {
        X86 "LOCK", "util/udma_barrier.h mmio_wc_spinlock", "the atomic operation of the lock stands for the fence";
    }
    Ucx WcStart "ucs_memory_bus_store_fence()" {
        Arm64 "DMB OSHST", "src/uct/ib/mlx5/ib_mlx5.inl uct_ib_mlx5_txwq_ring_doorbell";
        X86 "SFENCE", "src/uct/ib/mlx5/ib_mlx5.inl uct_ib_mlx5_txwq_ring_doorbell";
        Riscv "fence ow,ow", "src/uct/ib/mlx5/ib_mlx5.inl uct_ib_mlx5_txwq_ring_doorbell";
        Power "sync", "src/uct/ib/mlx5/ib_mlx5.inl uct_ib_mlx5_txwq_ring_doorbell";
    }
    Dpdk WcStart "rte_write32_wc()" {
        Arm64 "DMB OSHST", "lib/eal/arm/include/rte_io_64.h rte_write32_wc";
        X86 "SFENCE", "lib/eal/x86/include/rte_io.h rte_write32_wc", "only where experimental interfaces are enabled; otherwise rte_write32";
        Riscv "fence orw,ow", "lib/eal/include/generic/rte_io.h rte_write32_wc";
        Power "sync", "lib/eal/include/generic/rte_io.h rte_write32_wc";
        LoongArch "dbar 0", "lib/eal/include/generic/rte_io.h rte_write32_wc";
    }
    Spdk WcStart "spdk_wmb()" {
        X86 "SFENCE", "lib/idxd/idxd.c _submit_to_hw", "before MOVDIR64B, which has the rules of WC whatever the mapping";
    }

    Linux WcBetween "wmb()" {
        Arm64 "DSB ST", "arch/arm64/include/asm/barrier.h __wmb";
        X86 "SFENCE", "arch/x86/include/asm/barrier.h __wmb";
        Riscv "fence ow,ow", "arch/riscv/include/asm/barrier.h __wmb";
        Power "sync", "arch/powerpc/include/asm/barrier.h wmb";
        LoongArch "dbar 0b01010", "arch/loongarch/include/asm/barrier.h wmb";
        S390 PLAIN, "arch/s390/include/asm/barrier.h __wmb";
    }
    RdmaCore WcBetween "mmio_flush_writes()" {
        Arm64 "DSB ST", "util/udma_barrier.h mmio_flush_writes";
        X86 "SFENCE", "util/udma_barrier.h mmio_flush_writes";
        Riscv "fence ow,ow", "util/udma_barrier.h mmio_flush_writes",
            "its comment promises two TLPs; the manual lets writes be merged as long as no order is violated";
        Power "sync", "util/udma_barrier.h mmio_flush_writes";
        LoongArch "dbar 0", "util/udma_barrier.h mmio_flush_writes";
        S390 "PCIWB", "util/udma_barrier.h mmio_flush_writes", "a compiler barrier where the machine has no MIO";
    }
    Ucx WcBetween "ucs_memory_cpu_wc_fence()" {
        Arm64 "DMB OSHST", "src/ucs/arch/aarch64/cpu.h";
        X86 "SFENCE", "src/ucs/arch/x86_64/cpu.h";
        Riscv "fence rw,rw", "src/ucs/arch/rv64/cpu.h",
            "leaves out the I/O bits: it orders WC writes because PBMT=NC over I/O counts as memory too; over PBMT=IO or an I/O region without PBMT it would order nothing";
        Power "sync", "src/ucs/arch/ppc64/cpu.h";
    }
    Gdrcopy WcBetween "wc_store_fence()" {
        Arm64 "DMB ST", "src/gdrapi.c wc_store_fence", "the full system where the outer shareable domain is enough";
        X86 "SFENCE", "src/gdrapi.c wc_store_fence";
        Power "sync", "src/gdrapi.c wc_store_fence";
    }
    Dpdk WcBetween "rte_io_wmb()" {
        X86 PLAIN, "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring, 32 bit",
            "stands between the two halves of a doorbell on 32-bit builds; right where that page is UC, not where it is WC";
    }

    Linux WcFlush "wmb()" {
        Arm64 "DSB ST", "arch/arm64/include/asm/barrier.h __wmb";
        X86 "SFENCE", "arch/x86/include/asm/barrier.h __wmb";
        Riscv "fence ow,ow", "arch/riscv/include/asm/barrier.h __wmb";
        Power "sync", "arch/powerpc/include/asm/barrier.h wmb";
        LoongArch "dbar 0b01010", "arch/loongarch/include/asm/barrier.h wmb";
        S390 PLAIN, "arch/s390/include/asm/barrier.h __wmb", "PCI memory I/O has PCIWB for it, which Linux has in mmiowb()";
    }
    RdmaCore WcFlush "mmio_flush_writes()" {
        Arm64 "DSB ST", "util/udma_barrier.h mmio_flush_writes";
        X86 "SFENCE", "util/udma_barrier.h mmio_flush_writes";
        Riscv "fence ow,ow", "util/udma_barrier.h mmio_flush_writes";
        Power "sync", "util/udma_barrier.h mmio_flush_writes";
        LoongArch "dbar 0", "util/udma_barrier.h mmio_flush_writes";
        S390 "PCIWB", "util/udma_barrier.h mmio_flush_writes", "a compiler barrier where the machine has no MIO";
    }
    Ucx WcFlush "ucs_memory_bus_cacheline_wc_flush()" {
        Arm64 "DGH", "src/ucs/arch/aarch64/cpu.h",
            "its comment calls DGH a formal way to flush the gather buffer; the architecture calls it a hint about merging";
        X86 PLAIN, "src/ucs/arch/x86_64/cpu.h", "a burst that fills a line leaves soon on known CPUs; no manual promises it";
        Riscv "fence rw,rw", "src/ucs/arch/rv64/cpu.h";
        Power PLAIN, "src/ucs/arch/ppc64/cpu.h";
    }
    Dpdk WcFlush "rte_wmb()" {
        Arm64 "DMB OSHST", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring",
            "orders the burst and keeps it apart, but nothing makes it leave before \"finite time\"";
        X86 "SFENCE", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        Riscv "fence w,w", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        Power "sync", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
        LoongArch "dbar 0", "drivers/common/mlx5/mlx5_common.h mlx5_doorbell_ring";
    }
    Gdrcopy WcFlush "wc_store_fence()" {
        Arm64 "DMB ST", "src/gdrapi.c gdr_copy_to_mapping_internal",
            "used because a delayed flush costs time; a DMB does not ensure that anything leaves";
        X86 "SFENCE", "src/gdrapi.c gdr_copy_to_mapping_internal";
        Power "sync", "src/gdrapi.c gdr_copy_to_mapping_internal";
    }

    Linux StopCombining "io_stop_wc()" {
        Arm64 "DGH", "arch/arm64/include/asm/barrier.h io_stop_wc",
            "the comment at dgh() says that it prevents merging; the architecture calls it a hint";
        X86 PLAIN, "include/asm-generic/barrier.h io_stop_wc", "empty but on arm64";
        Riscv PLAIN, "include/asm-generic/barrier.h io_stop_wc", "empty but on arm64";
        Power PLAIN, "include/asm-generic/barrier.h io_stop_wc", "empty but on arm64";
        LoongArch PLAIN, "include/asm-generic/barrier.h io_stop_wc", "empty but on arm64";
        S390 PLAIN, "include/asm-generic/barrier.h io_stop_wc", "empty but on arm64";
    }
    Linux StopCombining "__iowrite64_copy()" {
        Arm64 "DGH", "arch/arm64/include/asm/io.h __iowrite64_copy";
        X86 PLAIN, "lib/iomap_copy.c __iowrite64_copy", "its comment says so: no barrier afterwards";
    }
}
