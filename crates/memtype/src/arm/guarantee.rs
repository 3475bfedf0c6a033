//! What Arm's memory types promise (DDI 0487 M.a.a, chapters B2 and C3).
//!
//! A BAR that a CPU maps Device-nGnRE gets each write of a program by itself and in order. Mapped Normal Non-cacheable,
//! Arm's write-combining, the CPU may merge, reorder and read ahead, and a DMB between two writes keeps them apart.
//!
//! ```
//! use memtype::arm::{Device, Type};
//! use memtype::guarantee::{Question, Standing};
//!
//! let orders = Type::NORMAL_NC.guarantee(Question::Orders).unwrap();
//! assert_eq!((orders.standing, orders.by[0]), (Standing::Guaranteed, "DMB OSHST"));
//! // To one peripheral Device-nGnRE needs nothing.
//! let orders = Type::Device(Device::nGnRE).guarantee(Question::Orders).unwrap();
//! assert!(orders.standing == Standing::Guaranteed && orders.by.is_empty());
//! // An unaligned access to Device memory faults, unless the location supports it.
//! let unaligned = Type::Device(Device::GRE).guarantee(Question::Unaligned).unwrap();
//! assert_eq!(unaligned.standing, Standing::ImplementationDefined);
//! ```

use super::{Cacheability, Device, Type};
use crate::cite::{Cite, Source};
use crate::guarantee::{Guarantee, Question};

/// What the answers distinguish: of Normal memory with different inner and outer cacheability, whether any of it is
/// Write-Back.
#[derive(Clone, Copy)]
enum Class {
    Device(Device),
    /// Inner and outer Non-cacheable.
    Nc,
    /// Write-Through, inner or outer, and no Write-Back.
    Through,
    /// Write-Back for one of inner and outer.
    HalfBack,
    /// Inner and outer Write-Back.
    Back,
}

impl Class {
    const fn of(ty: Type) -> Self {
        match ty {
            Type::Device(device) => Self::Device(device),
            Type::Normal { inner, outer } => match (inner.policy, outer.policy) {
                (Cacheability::NonCacheable, Cacheability::NonCacheable) => Self::Nc,
                (Cacheability::WriteBack, Cacheability::WriteBack) => Self::Back,
                (Cacheability::WriteBack, _) | (_, Cacheability::WriteBack) => Self::HalfBack,
                _ => Self::Through,
            },
        }
    }
}

const fn arm(place: &'static str) -> Cite {
    Cite::read(Source::Arm, place)
}

/// A DMB of writes that reaches as far as Device and Non-cacheable memory are shared, and what is stronger.
const ORDERS: &[&str] = &["DMB OSHST", "DMB ST", "DSB OSHST", "DSB ST"];
const DRAINS: &[&str] = &["DSB OSHST", "DSB ST"];
const CLEANS: &[&str] = &["DC CVAC + DSB SY"];

impl Type {
    /// How `question` stands for this type. Every question has an answer on Arm; where the answer depends on the
    /// shareability or on what kind of memory is there, the note says so.
    #[must_use]
    pub const fn guarantee(self, question: Question) -> Option<Guarantee> {
        use Class::{Back, HalfBack, Nc, Through};
        use Device::{GRE, nGRE, nGnRE, nGnRnE};
        const NON_GATHERING: &str = "but SVE accesses, CPY* and SET*, and SIMD ones in Streaming SVE mode may be merged \
                                     (R_QBLMZ, R_XHFBX)";
        const ACROSS: &str = "never across a barrier that orders the two (B2.4.1.1)";
        const FINITE: &str = "it reaches the endpoint in finite time; no bound is given";
        const EXCEPT: &str = "but a SIMD load may read within its aligned 16 bytes, an SVE load within 64, CPY* within 64; \
                              instructions are fetched ahead unless the location is execute-never at every EL";
        const EXCEPT_GRE: &str = "but a SIMD load may read within its aligned 16 bytes, an SVE load within 64, LDNP within \
                                  128, CPY* within 64; instructions are fetched ahead unless the location is \
                                  execute-never at every EL";
        const SYSTEM: &str =
            "the system decides: they may work, abort (External abort, or DFSC 0b110101), or do nothing";
        const CONVENTIONAL: &str = "if Shareable; the architecture requires it of Conventional memory only, not of a \
                                    device's";
        const DOMAIN: &str =
            "to one peripheral; one outside the Outer Shareable domain needs DMB ST. DGH orders nothing";
        const HINT: &str = "DGH is only a hint that merging is of no use (C6.2.149)";
        const OBSERVED: &str = "DMB ISHST orders what CPUs see; the order in which a device gets it is defined for Device \
                                and Normal-NC only (B2.4.1.1)";
        const COMPLETE: &str = "it waits until every observer would see the writes, which can be before the device has \
                                them (B2.10.2.3)";
        const LS64: &str = "FEAT_LS64, aligned to 64 bytes, where the location supports it; elsewhere a fault (DFSC \
                            0b110101), or ST64B is atomic by byte only and ST64BV returns all ones";

        let class = Class::of(self);
        Some(match question {
            Question::Cached => match class {
                Class::Device(_) => Guarantee::forbidden(arm("B2.10.2")),
                Nc => Guarantee::forbidden(arm("B2.11"))
                    .note("an instruction cache may hold what was fetched from it (D7.5.7)"),
                Back => Guarantee::permitted(arm("B2.10.1.3")),
                Through | HalfBack => Guarantee::permitted(arm("B2.10.1.3"))
                    .note("at the levels, inner or outer, for which it is cacheable"),
            },
            Question::Gather => match class {
                Class::Device(nGnRnE | nGnRE | nGRE) => {
                    Guarantee::forbidden(arm("B2.10.2.1")).note(NON_GATHERING)
                }
                Class::Device(GRE) => Guarantee::permitted(arm("B2.10.2.1")).note(ACROSS),
                Nc => Guarantee::permitted(arm("B2.10.1")).note(ACROSS),
                Through | HalfBack | Back => Guarantee::permitted(arm("B2.10.1")),
            },
            Question::ReorderSame => match class {
                Class::Device(nGnRnE | nGnRE) => Guarantee::forbidden(arm("B2.10.2.2, B2.4.1.1")).note(
                    "within one peripheral, of IMPLEMENTATION DEFINED size, and one XS attribute; not for SVE, CPY* and SET*; \
                     a fabric such as PCIe may reorder a little of its own",
                ),
                Class::Device(nGRE | GRE) => Guarantee::permitted(arm("B2.10.2.2")),
                Nc | Through | HalfBack | Back => Guarantee::permitted(arm("B2.10.1")),
            },
            Question::ReorderOther => match class {
                Class::Device(nGnRnE | nGnRE) => Guarantee::permitted(arm("B2.10.2.2"))
                    .note("Device-nGnRnE and Device-nGnRE to one peripheral keep their order with each other"),
                Class::Device(nGRE | GRE) => Guarantee::permitted(arm("B2.10.2.2")),
                Nc | Through | HalfBack | Back => Guarantee::permitted(arm("B2.10.1")),
            },
            Question::EarlyAcknowledge => match class {
                Class::Device(nGnRnE) => Guarantee::forbidden(arm("B2.10.2.3")).note(
                    "where the system has the endpoint acknowledge; of PCIe memory writes, which are posted, Arm expects \
                     no acknowledgement by the endpoint",
                ),
                Class::Device(_) => Guarantee::permitted(arm("B2.10.2.3")),
                Nc | Through | HalfBack | Back => Guarantee::permitted(arm("B2.4.1"))
                    .note("a write is complete when every observer would see it, wherever it is"),
            },
            Question::Hold => match class {
                Class::Device(_) => Guarantee::forbidden(arm("B2.10.2")).note(FINITE),
                Nc | Through => Guarantee::forbidden(arm("B2.10.1")).note(FINITE),
                HalfBack | Back => Guarantee::permitted(arm("B2.10.1"))
                    .note("only writes that are Non-cacheable or Write-Through must reach the endpoint in finite time"),
            },
            Question::StrayWrite => match class {
                Class::Device(nGnRnE | nGnRE | nGRE) => Guarantee::forbidden(arm("B2.10.2.1"))
                    .note("the accesses are those of a sequential execution, at their sizes"),
                Class::Device(GRE) => Guarantee::forbidden(arm("B2.10.2, B2.11"))
                    .note("no memory type has write speculation that others can see"),
                Nc => Guarantee::forbidden(arm("B2.10.1, B2.11"))
                    .note("no memory type has write speculation that others can see"),
                Through => Guarantee::permitted(Cite::unverified(Source::Arm, "B2.11"))
                    .note("B2.11 has bytes reverted by Write-Back alone, and does not speak of Write-Through"),
                HalfBack | Back => Guarantee::permitted(arm("B2.11")).note("a cache writes back whole granules"),
            },
            Question::SpeculativeRead => match class {
                Class::Device(GRE) => Guarantee::forbidden(arm("B2.10.2")).note(EXCEPT_GRE),
                Class::Device(_) => Guarantee::forbidden(arm("B2.10.2")).note(EXCEPT),
                Nc | Through | HalfBack | Back => Guarantee::permitted(arm("B2.10.1")),
            },
            Question::Repeat => match class {
                Class::Device(_) => Guarantee::forbidden(arm("B2.10.2")).note(
                    "but an instruction that makes several accesses (LDP, SIMD) may be taken up again and repeat some \
                     (B2.10.2.4)",
                ),
                Nc | Through | HalfBack | Back => Guarantee::permitted(arm("B2.10.1")),
            },
            Question::Unaligned => match class {
                Class::Device(_) => Guarantee::implementation_defined(arm("B2.8.2"))
                    .note("an Alignment fault, unless the location supports it and the implementation lets it pass"),
                Nc | Through | HalfBack | Back => Guarantee::guaranteed(arm("B2.8.2.1.1")).note(
                    "with SCTLR_ELx.A = 0; exclusives, atomics, load-acquire and store-release have rules of their own \
                     (B2.8.2.1.2, B2.8.2.1.3)",
                ),
            },
            Question::Size => match class {
                Class::Device(nGnRnE | nGnRE | nGRE) => Guarantee::guaranteed(arm("B2.10.2.1, B2.2.1"))
                    .note("not of a pair of registers, nor of an SVE register (B2.10.2.4, R_QBLMZ)"),
                Class::Device(GRE) => Guarantee::permitted(arm("B2.10.2.1")),
                Nc | Through | HalfBack | Back => Guarantee::permitted(arm("B2.10.1")),
            },
            Question::Exclusives => match class {
                Back => Guarantee::guaranteed(arm("B2.12.2")).note(CONVENTIONAL),
                Class::Device(_) | Nc | Through | HalfBack => {
                    Guarantee::implementation_defined(arm("B2.12.2")).note(SYSTEM)
                }
            },
            Question::Atomics => match class {
                Back => Guarantee::guaranteed(arm("B2.2.6")).note(CONVENTIONAL),
                Class::Device(_) | Nc | Through | HalfBack => {
                    Guarantee::implementation_defined(arm("B2.2.6")).note(SYSTEM)
                }
            },
            Question::ZeroLine => match class {
                Class::Device(_) => Guarantee::forbidden(arm("C5.3.38")).note("DC ZVA is an Alignment fault at any alignment"),
                Nc | Through | HalfBack | Back => Guarantee::guaranteed(arm("C5.3.38"))
                    .note("DC ZVA, if DCZID_EL0.DZP = 0: a write of each byte"),
            },
            Question::Execute => match class {
                Class::Device(_) => Guarantee::implementation_defined(arm("B2.10.2"))
                    .note("fetched as from Normal-NC, or a Permission fault"),
                Nc => Guarantee::guaranteed(arm("D7.5.7")),
                Through | HalfBack | Back => Guarantee::guaranteed(arm("D7.5.5")),
            },
            Question::Orders => match class {
                Class::Device(nGnRnE | nGnRE) => Guarantee::guaranteed(arm("B2.4.1.1"))
                    .note("to one peripheral; against other memory types and other devices DMB OSHST"),
                Class::Device(nGRE | GRE) | Nc => {
                    Guarantee::guaranteed(arm("B2.4.1.1, B2.6.10")).by(ORDERS).note(DOMAIN)
                }
                Through => Guarantee::guaranteed(arm("B2.10.1.3, B2.6.9")).by(&["DSB ST"]).note(OBSERVED),
                HalfBack | Back => Guarantee::guaranteed(arm("D7.5.9.15, B2.6.9")).by(CLEANS).note(OBSERVED),
            },
            Question::Separates => match class {
                Class::Device(nGnRnE | nGnRE | nGRE) => Guarantee::guaranteed(arm("B2.10.2.1")),
                Class::Device(GRE) => Guarantee::guaranteed(arm("B2.10.2.1, B2.4.1.1")).by(ORDERS).note(HINT),
                Nc => Guarantee::guaranteed(arm("B2.4.1.1")).by(ORDERS).note(HINT),
                Through => Guarantee::guaranteed(arm("B2.10.1.3, B2.6.9"))
                    .by(&["DSB ST"])
                    .note("a write that is complete is visible outside the cache"),
                HalfBack | Back => Guarantee::guaranteed(arm("D7.5.9.15, B2.6.9"))
                    .by(CLEANS)
                    .note("a barrier alone does not keep a cache from writing back both at once"),
            },
            Question::Drains => match class {
                Class::Device(nGnRnE) => Guarantee::guaranteed(arm("B2.6.9, B2.4.1")).by(DRAINS).note(
                    "it waits until the write can affect the device; not so for posted PCIe memory writes (B2.10.2.3)",
                ),
                Class::Device(_) | Nc => Guarantee::guaranteed(arm("B2.6.9, B2.4.1")).by(DRAINS).note(COMPLETE),
                Through => Guarantee::guaranteed(arm("B2.10.1.3, B2.6.9")).by(&["DSB ST"]).note(COMPLETE),
                HalfBack | Back => Guarantee::guaranteed(arm("D7.5.9.15, B2.6.9"))
                    .by(CLEANS)
                    .note("to the Point of Coherency; DSB ST does not wait for the maintenance of caches"),
            },
            Question::Burst64 => match class {
                Class::Device(_) | Nc => {
                    Guarantee::implementation_defined(arm("C3.2.8")).by(&["ST64B", "ST64BV"]).note(LS64)
                }
                Through | HalfBack | Back => Guarantee::implementation_defined(arm("C3.2.8")).by(&["ST64B"]).note(
                    "with FEAT_LS64WB, and then into a cache; without it a fault (DFSC 0b110101)",
                ),
            },
        })
    }
}
