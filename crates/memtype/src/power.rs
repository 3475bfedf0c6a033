//! Memory types of Power (64-bit server), and what KVM lets a guest choose.
//!
//! Power's page tables have four bits, **WIMG**: Write-through, caching **I**nhibited, **M**emory coherence, **G**uarded.
//! Three combinations matter here: cacheable memory (M); I and G, for registers, which the radix page tables call
//! *non-idempotent I/O*; and I without G, *tolerant I/O*, which Linux's `pgprot_writecombine()` gives.
//!
//! Guarded means that nothing is read ahead. It does **not** mean that stores stay apart: the architecture lets non-overlapping
//! stores to any caching-inhibited storage be combined, unless `sync` stands between them, or `eieio` if the storage is also
//! guarded. And loads may pass stores to guarded storage, though loads among themselves and stores among themselves keep their
//! order. Linux puts a `sync` before the access in each `writel()` and `readl()`; the answers here are of the bare accesses.
//!
//! A guest of KVM-HV with hashed page tables asks the hypervisor to enter each of its translations (`H_ENTER`); it chooses G
//! within I, so write-combining of a passed-through BAR is always available:
//!
//! ```
//! use memtype::power::{Host, Outcome, Type, Wimg, guest};
//!
//! assert_eq!(guest(Host::Inhibited, Wimg(Wimg::I)), Outcome::Granted(Type::Inhibited));
//! assert_eq!(guest(Host::Inhibited, Wimg(Wimg::I | Wimg::G)), Outcome::Granted(Type::InhibitedGuarded));
//! // Cacheable is refused over a BAR ...
//! assert_eq!(guest(Host::Inhibited, Wimg(Wimg::M)), Outcome::Refused);
//! // ... and over memory everything else becomes cacheable without a word.
//! assert_eq!(guest(Host::Cacheable, Wimg(Wimg::I | Wimg::G)), Outcome::MadeCacheable);
//! ```

use core::fmt;

use crate::cite::{Cite, Source};
use crate::guarantee::{Guarantee, Question};

/// A memory type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// I and G: caching inhibited and guarded; non-idempotent I/O.
    InhibitedGuarded = 0,
    /// I without G: caching inhibited; tolerant I/O.
    Inhibited = 1,
    /// Neither: cacheable, with memory coherence (M).
    Cacheable = 2,
}

impl Type {
    /// All, the strictest first.
    pub const ALL: [Self; 3] = [Self::InhibitedGuarded, Self::Inhibited, Self::Cacheable];

    /// The name in files and on the command line.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InhibitedGuarded => "ig",
            Self::Inhibited => "i",
            Self::Cacheable => "m",
        }
    }

    /// How `question` stands for this type; `None` where the architecture has no such operation. Book II is read in
    /// version 2.03; later versions are cited where they were seen.
    #[must_use]
    #[inline]
    pub const fn guarantee(self, question: Question) -> Option<Guarantee> {
        use Guarantee as G;
        use Question as Q;
        use Type::{Cacheable as M, Inhibited as I, InhibitedGuarded as IG};
        Some(match (question, self) {
            (Q::Cached, IG | I) => G::forbidden(INHIBITED),
            (Q::Cached, M) => G::permitted(unverified("Book II 1.6")),

            (Q::Gather, IG) => G::permitted(INHIBITED)
                .note("stores that do not overlap; never across eieio or sync. Some cores never do"),
            (Q::Gather, I) => G::permitted(INHIBITED).note("stores that do not overlap; never across sync"),
            (Q::Gather, M) => G::permitted(COHERENCE).note("a location need not assume each value written to it"),

            (Q::ReorderSame, IG) => G::permitted(EIEIO)
                .note("stores keep their order, and loads theirs; a load and a store pass without eieio"),
            (Q::ReorderSame, I | M) => G::permitted(unverified("Book II 1.7.1, weakly consistent storage")),
            (Q::ReorderOther, _) => G::permitted(BARRIER).note("only sync orders all kinds of access"),

            (Q::EarlyAcknowledge, _) => G::permitted(unverified("Book II")),
            (Q::Hold, _) => G::permitted(unverified("Book II")).note("no bound is known to be stated"),

            (Q::StrayWrite, IG | I) => G::forbidden(INHIBITED).note("follows: nothing of it is in a cache"),
            (Q::StrayWrite, M) => G::permitted(unverified("Book II 1.6")).note("a cache writes lines back whole"),

            (Q::SpeculativeRead, IG) => G::forbidden(unverified("Book III, guarded storage"))
                .note("no locations beside the ones asked for (2.03 1.6.2)"),
            (Q::SpeculativeRead, I) => G::permitted(INHIBITED).note("a load may access additional locations"),
            (Q::SpeculativeRead, M) => G::permitted(unverified("Book II")),
            (Q::Repeat, IG) => G::forbidden(Cite::second_hand(Source::Power, "Book III (IBM A2 manual 7.4.1)"))
                .note("aligned loads and stores of one register; others may be restarted"),
            (Q::Repeat, I | M) => G::permitted(Cite::second_hand(Source::Power, "Book III (IBM A2 manual 7.4.1)"))
                .note("an access may be interrupted and restarted"),

            (Q::Unaligned, _) => G::implementation_defined(unverified("Book III, Alignment interrupt")),
            (Q::Size, IG) => G::permitted(INHIBITED).note("kept where eieio or sync stands between stores"),
            (Q::Size, I | M) => G::permitted(INHIBITED),

            (Q::Exclusives, IG | I) => {
                G::forbidden(Cite::second_hand(Source::Power, "Book III (IBM A2 manual 6.5.2; Linux DSISR_BADACCESS)"))
                    .note("lwarx and stwcx. cause a Data Storage interrupt")
            }
            (Q::Atomics, IG | I) => G::forbidden(unverified("Book II, lwat and stwat")),
            (Q::Exclusives | Q::Atomics, M) => G::guaranteed(unverified("Book II 1.7.3")),
            (Q::ZeroLine, IG | I) => G::forbidden(Cite::second_hand(Source::Power, "Book III (IBM A2 manual 6.5.2)"))
                .note("dcbz causes an Alignment interrupt, which software may emulate"),
            (Q::ZeroLine, M) => G::guaranteed(unverified("Book II, dcbz")),

            (Q::Execute, IG) => G::forbidden(unverified("Book III, guarded storage")),
            (Q::Execute, I) => G::guaranteed(INHIBITED).note("a fetch may access additional words"),
            (Q::Execute, M) => G::guaranteed(unverified("Book III")),

            (Q::Orders, IG) => {
                G::guaranteed(EIEIO).note("stores among themselves; eieio against loads, sync against memory")
            }
            (Q::Orders, I) => G::guaranteed(BARRIER).by(&["sync"]),
            (Q::Orders, M) => G::guaranteed(BARRIER).by(&["lwsync", "sync"]),
            (Q::Separates, IG) => G::guaranteed(INHIBITED).by(&["eieio", "sync"]),
            (Q::Separates, I) => G::guaranteed(INHIBITED).by(&["sync"]).note("eieio does not, without G"),
            (Q::Separates, M) => G::permitted(unverified("Book II 1.6")).note("in a cache they share a line"),
            (Q::Drains, _) => {
                G::guaranteed(BARRIER).by(&["sync"]).note("performed with respect to all that access memory")
            }
            (Q::Burst64, _) => {
                G::permitted(unverified("Book II")).note("no store of 64 bytes; combining may make one of several")
            }
        })
    }
}

const INHIBITED: Cite = Cite::read(Source::Power, "2.03 Book II 1.6.2");
const COHERENCE: Cite = Cite::read(Source::Power, "2.03 Book II 1.6.3");
const EIEIO: Cite = Cite::second_hand(Source::Power, "3.1 Book II 1.7.1 (quoted in its note on eieio)");
const BARRIER: Cite = Cite::second_hand(Source::Power, "Book II, sync (Linux asm/barrier.h)");

const fn unverified(place: &'static str) -> Cite {
    Cite::unverified(Source::Power, place)
}

/// By its bits: `I+G`, `I`, `M`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::InhibitedGuarded => "I+G",
            Self::Inhibited => "I",
            Self::Cacheable => "M",
        })
    }
}

/// The WIMG bits of a hashed page-table entry, W the highest of four. Higher bits are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wimg(pub u8);

impl Wimg {
    /// Write-through.
    pub const W: u8 = 8;
    /// Caching inhibited.
    pub const I: u8 = 4;
    /// Memory coherence required.
    pub const M: u8 = 2;
    /// Guarded.
    pub const G: u8 = 1;
    /// Strong access order: a combination of its own, from Power ISA 2.06.
    pub const SAO: u8 = Self::W | Self::I | Self::M;

    /// The attributes that Linux writes for a type of its own mappings.
    #[must_use]
    #[inline]
    pub const fn of(ty: Type) -> Self {
        match ty {
            Type::InhibitedGuarded => Self(Self::I | Self::G),
            Type::Inhibited => Self(Self::I),
            Type::Cacheable => Self(Self::M),
        }
    }
    /// Whether any of `bits` is set.
    #[must_use]
    #[inline]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// How the host maps the page, as KVM asks of it (`pte_ci()`): I+G and I are the same to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// Caching inhibited: a BAR.
    Inhibited,
    /// Not.
    Cacheable,
}

impl Host {
    /// By the type of the host's mapping.
    #[must_use]
    #[inline]
    pub const fn of(ty: Type) -> Self {
        match ty {
            Type::InhibitedGuarded | Type::Inhibited => Self::Inhibited,
            Type::Cacheable => Self::Cacheable,
        }
    }
}

/// What KVM-HV does with a guest's hashed page-table entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Entered as the guest asked.
    Granted(Type),
    /// Entered as the guest asked: cacheable with strong access order.
    StrongAccessOrder,
    /// W, I and G are cleared and M is set: cacheable, whatever the guest asked. Meant for emulated devices.
    MadeCacheable,
    /// `H_ENTER` fails with `H_PARAMETER`. If the host's page appears only later, the guest's access ends its run with -EFAULT.
    Refused,
}

/// Where the rule is.
pub const GUEST_RULE: Cite =
    Cite::read(Source::Linux, "arch/powerpc/include/asm/kvm_book3s_64.h hpte_cache_flags_ok()");
/// Where a refusal is answered.
pub const GUEST_REFUSED: Cite = Cite::read(Source::Linux, "arch/powerpc/kvm/book3s_hv_rm_mmu.c kvmppc_do_h_enter()");
/// Where a refusal is answered when the host's page was not there yet.
pub const GUEST_FAULTS: Cite =
    Cite::read(Source::Linux, "arch/powerpc/kvm/book3s_64_mmu_hv.c kvmppc_book3s_hv_page_fault()");

/// What a guest with hashed page tables gets under KVM-HV ([`GUEST_RULE`]). A guest with radix tables does not ask: there the
/// CPU combines both, and POWER9 faults where they conflict.
#[must_use]
#[inline]
pub const fn guest(host: Host, asked: Wimg) -> Outcome {
    let bits = asked.0 & 0xf;
    match host {
        Host::Cacheable if bits == Wimg::M => Outcome::Granted(Type::Cacheable),
        Host::Cacheable if bits == Wimg::SAO => Outcome::StrongAccessOrder,
        Host::Cacheable => Outcome::MadeCacheable,
        Host::Inhibited if bits & (Wimg::W | Wimg::I) != Wimg::I => Outcome::Refused,
        Host::Inhibited if bits & Wimg::G != 0 => Outcome::Granted(Type::InhibitedGuarded),
        Host::Inhibited => Outcome::Granted(Type::Inhibited),
    }
}
