//! PCI accesses of s390 (z/Architecture).
//!
//! There are no memory types for PCI on s390, because loads and stores do not reach a PCI function at all: there are
//! instructions for it. **PCISTG** stores up to 8 bytes, **PCISTB** a block of 16 bytes and more, **PCILG** loads, and they
//! name the function by a handle. From z15 on the **MIO** forms (PCISTGI, PCISTBI, PCILGI) take a virtual address instead, so
//! that user space can use them on a mapping. Firmware gives each BAR two addresses for that: Linux calls them `mio_wt`
//! (write-through) and `mio_wb` (write-back), and they differ in one bit. `ioremap_wc()` and `pgprot_writecombine()` set that
//! bit; what was stored to such an address, **PCIWB** pushes out.
//!
//! No public description of these instructions was found: what is said of them here is known from Linux, QEMU and rdma-core,
//! and most of it is an inference, marked as such.
//!
//! ```
//! use memtype::guarantee::Question;
//! use memtype::s390::Type;
//!
//! let drain = Type::MioWc.guarantee(Question::Drains).unwrap();
//! assert_eq!(drain.by, ["PCIWB"]);
//! // No load-exclusive, no atomic, no fetch can name a PCI function.
//! assert!(Type::MioWc.guarantee(Question::Atomics).is_none());
//! ```

use core::fmt;

use crate::cite::{Cite, Source};
use crate::guarantee::{Guarantee, Question};

/// How an instruction reaches a PCI function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// By the write-through address, or by a function handle.
    Mio = 0,
    /// By the write-back address.
    MioWc = 1,
}

impl Type {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Mio, Self::MioWc];

    /// The name in files and on the command line.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mio => "mio",
            Self::MioWc => "mio-wc",
        }
    }

    /// How `question` stands for this type; `None` where the architecture has no such operation.
    #[must_use]
    #[inline]
    pub const fn guarantee(self, question: Question) -> Option<Guarantee> {
        use Guarantee as G;
        use Question as Q;
        use Type::{Mio, MioWc};
        Some(match (question, self) {
            (Q::Cached, _) => {
                G::forbidden(unverified("PCI instructions")).note("a load is an instruction to the function")
            }
            (Q::Gather | Q::Hold, Mio) => G::forbidden(unverified("PCI instructions")),
            (Q::Gather | Q::Hold, MioWc) => {
                G::permitted(unverified("PCI instructions")).note("inferred from `write-back` and PCIWB")
            }
            (Q::ReorderSame, Mio) => G::forbidden(unverified("PCI instructions")),
            (Q::ReorderSame, MioWc) | (Q::ReorderOther, _) => G::permitted(unverified("PCI instructions")),
            (Q::EarlyAcknowledge, _) => G::permitted(unverified("PCI instructions"))
                .note("the condition code tells of errors of the instruction, not of the device"),
            (Q::StrayWrite | Q::SpeculativeRead | Q::Repeat, _) => G::forbidden(unverified("PCI instructions")),
            (Q::Unaligned, _) => G::implementation_defined(SINGLE)
                .note("within 8 bytes by PCISTG; Linux splits others, a block must be aligned to 8 bytes"),
            (Q::Size, Mio) => G::guaranteed(unverified("PCI instructions")).note("1, 2, 4 or 8 bytes"),
            (Q::Size, MioWc) => G::permitted(unverified("PCI instructions")),
            (Q::Exclusives | Q::Atomics | Q::ZeroLine | Q::Execute, _) => return None,
            (Q::Orders | Q::Separates | Q::Drains, Mio) => G::guaranteed(unverified("PCI instructions")),
            (Q::Separates, MioWc) => {
                G::guaranteed(unverified("PCI instructions")).by(&["PCIWB"]).note("inferred: it writes back")
            }
            (Q::Orders | Q::Drains, MioWc) => {
                G::guaranteed(PCIWB).by(&["PCIWB"]).note("where MIO is in use; z15 and later")
            }
            (Q::Burst64, _) => G::implementation_defined(BLOCK)
                .by(&["PCISTB", "PCISTBI"])
                .note("16 to 128 bytes, aligned to 8, within 4 KiB; that it is one PCIe write is not published"),
        })
    }
}

const SINGLE: Cite = Cite::second_hand(Source::S390, "PCISTG (QEMU s390-pci-inst.c; Linux zpci_get_max_io_size())");
const PCIWB: Cite = Cite::second_hand(Source::S390, "PCIWB (rdma-core udma_barrier.h; Linux zpci_barrier())");
const BLOCK: Cite = Cite::second_hand(Source::S390, "PCISTB (QEMU s390-pci-inst.c pcistb_service_call())");

const fn unverified(place: &'static str) -> Cite {
    Cite::unverified(Source::S390, place)
}

/// `MIO`, `MIO (write-back)`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mio => "MIO",
            Self::MioWc => "MIO (write-back)",
        })
    }
}
