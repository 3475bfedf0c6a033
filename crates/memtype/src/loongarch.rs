//! Memory types of LoongArch.
//!
//! A page-table entry's MAT field, and a direct-mapping window's, names one of three: **SUC** (strongly ordered, uncached), for
//! registers; **CC** (coherent, cached); **WUC** (weakly ordered, uncached), which is write-combining. On systems with LS7A
//! bridges WUC accesses are outside of PCIe's coherency and good for write-only regions alone, so Linux uses SUC instead unless
//! it is built with `CONFIG_ARCH_WRITECOMBINE` or started with `writecombine=on`.
//!
//! In a virtual machine KVM maps RAM as CC and everything else as SUC at the second level. How the second level's MAT and the
//! guest's combine is defined in the volume on virtualization, which is not public: [`COMBINES`].
//!
//! ```
//! use memtype::loongarch::{Type, kvm, writecombine};
//!
//! assert_eq!(Type::from_mat(2), Some(Type::Wuc));
//! assert_eq!(writecombine(false), Type::Suc, "asked for WUC, without a word");
//! assert_eq!(kvm(false), Type::Suc, "a BAR at the second level");
//! ```

use core::fmt;

use crate::cite::{Cite, Source};
use crate::guarantee::{Guarantee, Question};

/// A memory type, by its MAT encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// Strongly ordered, uncached.
    Suc = 0,
    /// Coherent, cached.
    Cc = 1,
    /// Weakly ordered, uncached.
    Wuc = 2,
}

impl Type {
    /// All, by their encoding.
    pub const ALL: [Self; 3] = [Self::Suc, Self::Cc, Self::Wuc];

    /// From the two bits of a MAT field; `None` for 3, which is reserved. Higher bits are ignored.
    #[must_use]
    #[inline]
    pub const fn from_mat(bits: u8) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::Suc),
            1 => Some(Self::Cc),
            2 => Some(Self::Wuc),
            _ => None,
        }
    }

    /// The name in files and on the command line.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Suc => "suc",
            Self::Wuc => "wuc",
            Self::Cc => "cc",
        }
    }

    /// How `question` stands for this type; `None` where the architecture has no such operation.
    #[must_use]
    #[inline]
    pub const fn guarantee(self, question: Question) -> Option<Guarantee> {
        use Guarantee as G;
        use Question as Q;
        use Type::{Cc, Suc, Wuc};
        Some(match (question, self) {
            (Q::Cached, Suc | Wuc) => G::forbidden(TYPES),
            (Q::Cached, Cc) => G::permitted(TYPES),

            (Q::Gather, Suc) => G::forbidden(TYPES).note("the next access starts when this one is complete"),
            (Q::Gather, Wuc) => G::permitted(TYPES).note("up to a cache line, and later data replaces earlier"),
            (Q::Gather, Cc) => G::permitted(CONSISTENCY),

            (Q::ReorderSame, Suc) => G::forbidden(TYPES),
            (Q::ReorderSame, Wuc | Cc) => G::permitted(CONSISTENCY),
            (Q::ReorderOther, Suc) => G::permitted(unverified("Memory Access Types"))
                .note("the manual speaks of program order, and not clearly of other types"),
            (Q::ReorderOther, Wuc | Cc) => G::permitted(CONSISTENCY),

            (Q::EarlyAcknowledge, Suc) => G::implementation_defined(TYPES)
                .note("`completely completed` is not defined; PCIe acknowledges no memory write"),
            (Q::EarlyAcknowledge, Wuc | Cc) => G::permitted(unverified("Memory Access Types")),

            (Q::Hold, Suc) => G::forbidden(unverified("Memory Access Types")),
            (Q::Hold, Wuc | Cc) => G::permitted(unverified("Memory Access Types")).note("no bound is stated"),

            (Q::StrayWrite, Suc | Wuc) => G::forbidden(TYPES).note("follows: the final object is accessed directly"),
            (Q::StrayWrite, Cc) => {
                G::permitted(unverified("Memory Access Types")).note("a cache writes lines back whole")
            }

            (Q::SpeculativeRead, Suc) => G::forbidden(TYPES).note("data; instructions may be fetched ahead from SUC"),
            (Q::SpeculativeRead, Wuc) => G::permitted(TYPES),
            (Q::SpeculativeRead, Cc) => G::permitted(TYPES).note("of the three only SUC must not"),
            (Q::Repeat, Suc) => G::forbidden(unverified("Memory Access Types")),
            (Q::Repeat, Wuc | Cc) => G::permitted(unverified("Memory Access Types")),

            (Q::Unaligned, _) => {
                G::implementation_defined(UNALIGNED).note("and software may turn on a check; else exception ALE")
            }
            (Q::Size, Suc) => G::guaranteed(unverified("Memory Access Types")),
            (Q::Size, Wuc) => G::permitted(TYPES).note("may be merged"),
            (Q::Size, Cc) => G::permitted(unverified("Memory Access Types")),

            (Q::Exclusives, Suc | Wuc) => G::permitted(ATOMICS).note("LL and SC: the result is uncertain"),
            (Q::Exclusives, Cc) => G::guaranteed(ATOMICS),
            (Q::Atomics, Suc | Wuc) => {
                G::implementation_defined(unverified("Atomic Memory Access Instructions")).note("AM*: not said")
            }
            (Q::Atomics, Cc) => G::guaranteed(ATOMICS),
            (Q::ZeroLine, _) => return None,

            (Q::Execute, Suc) => G::guaranteed(TYPES).note("even ahead of a branch"),
            (Q::Execute, Wuc | Cc) => G::guaranteed(unverified("Memory Access Types")),

            (Q::Orders, Suc) => G::guaranteed(TYPES),
            (Q::Orders, Wuc | Cc) => G::guaranteed(DBAR)
                .by(&["dbar 0"])
                .note("the manual defines hint 0 alone; Linux uses the weaker 0b01010"),
            (Q::Separates, Suc) => G::guaranteed(TYPES).note("nothing is merged"),
            (Q::Separates, Wuc) => G::guaranteed(DBAR)
                .by(&["dbar 0"])
                .note("what is before it is completely executed before what is after"),
            (Q::Separates, Cc) => G::permitted(unverified("Memory Access Types")).note("in a cache they share a line"),
            (Q::Drains, Suc) => G::guaranteed(TYPES).note("each is complete before the next access"),
            (Q::Drains, Wuc | Cc) => {
                G::guaranteed(DBAR).by(&["dbar 0"]).note("executed when all earlier accesses are complete")
            }

            (Q::Burst64, Suc) => {
                G::forbidden(unverified("Memory Access Types")).note("the widest store has 32 bytes (LASX)")
            }
            (Q::Burst64, Wuc) => G::permitted(TYPES).note("merged data may be written as a burst; nothing promises it"),
            (Q::Burst64, Cc) => G::permitted(unverified("Memory Access Types")),
        })
    }
}

const TYPES: Cite = Cite::read(Source::LoongArch, "Memory Access Types");
const CONSISTENCY: Cite = Cite::read(Source::LoongArch, "Overview of Memory Consistency");
const UNALIGNED: Cite = Cite::read(Source::LoongArch, "Unaligned Memory Access");
const ATOMICS: Cite = Cite::read(Source::LoongArch, "Atomic Memory Access Instructions");
const DBAR: Cite = Cite::read(Source::LoongArch, "Barrier Instructions, DBAR");

const fn unverified(place: &'static str) -> Cite {
    Cite::unverified(Source::LoongArch, place)
}

/// As the manual writes it: `SUC`, `CC`, `WUC`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Suc => "SUC",
            Self::Cc => "CC",
            Self::Wuc => "WUC",
        })
    }
}

/// What Linux's `pgprot_writecombine()` and `ioremap_wc()` give, where `wc_enabled` is on or off.
#[must_use]
#[inline]
pub const fn writecombine(wc_enabled: bool) -> Type {
    if wc_enabled { Type::Wuc } else { Type::Suc }
}

/// What KVM maps at the second level (`kvm_map_page()`, the same in 6.12 and 7.2): CC where the page is memory of the host
/// (`pfn_valid()`), SUC everywhere else. The host's own mapping is not asked, and WUC never given.
#[must_use]
#[inline]
pub const fn kvm(pfn_valid: bool) -> Type {
    if pfn_valid { Type::Cc } else { Type::Suc }
}

/// How the second level's MAT and the guest's own combine: nobody knows who has not read the volume on virtualization.
pub const COMBINES: Cite = Cite::unverified(Source::LoongArch, "volume on virtualization, not public");
/// Where [`kvm`] is.
pub const KVM: Cite = Cite::read(Source::Linux, "arch/loongarch/kvm/mmu.c kvm_map_page()");
