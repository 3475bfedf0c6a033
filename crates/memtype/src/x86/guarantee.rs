//! What x86's memory types promise, by Intel's manual and AMD's; where they differ, what both allow.
//!
//! A BAR that is mapped UC gets each access of a program by itself and in order. Mapped WC, the CPU collects writes in buffers
//! of a line and sends them when it likes; SFENCE orders them and sends them off. Sections of Intel's manual are those of the
//! editions from 2006 to 2021, in mirrors of which they were read; in newer ones chapter 11 is chapter 12.
//!
//! ```
//! use memtype::guarantee::{Question, Standing};
//! use memtype::x86::Type;
//!
//! // Write-combining needs a fence between two writes that must arrive in order; registers (UC) need nothing.
//! assert_eq!(Type::Wc.guarantee(Question::Orders).unwrap().by, ["SFENCE", "MFENCE"]);
//! assert!(Type::Uc.guarantee(Question::Orders).unwrap().by.is_empty());
//! // Reading ahead: never on UC, perhaps on WC.
//! assert_eq!(Type::Uc.guarantee(Question::SpeculativeRead).unwrap().standing, Standing::Forbidden);
//! assert_eq!(Type::Wc.guarantee(Question::SpeculativeRead).unwrap().standing, Standing::Permitted);
//! ```

use super::Type;
use crate::cite::{Cite, Source};
use crate::guarantee::{Guarantee, Question};

const fn sdm(place: &'static str) -> Cite {
    Cite::read(Source::Sdm, place)
}
const fn apm(place: &'static str) -> Cite {
    Cite::read(Source::Apm, place)
}
const fn unverified(place: &'static str) -> Cite {
    Cite::unverified(Source::Sdm, place)
}

const TYPES: Cite = sdm("vol. 3A 11.3 (now 12.3)");
const BUFFERS: Cite = sdm("vol. 3A 11.3.1 (now 12.3.1)");
const ALIGN: Cite = sdm("vol. 3A 8.1.1");
const LOCKED: Cite = sdm("vol. 3A 8.1.2.2");
const PROCESSOR_ORDER: Cite = Cite::second_hand(Source::Sdm, "vol. 3A 8.2.2, as APM vol. 2 7.2 has it too");
const SFENCE: Cite = sdm("vol. 2B SFENCE");
const MOVDIR: Cite = sdm("vol. 2B MOVDIR64B");
const CLWB: Cite = unverified("vol. 2A CLWB, CLFLUSHOPT");
const AMD_TYPES: Cite = apm("7.4, Table 7-2");
const AMD_ORDER: Cite = apm("7.4.2, Table 7-4");
const AMD_WRITES: Cite = apm("7.5.1");
const CLZERO: Cite = Cite::second_hand(Source::Said, "LLVM clzerointrin.h, after APM vol. 3 CLZERO");
const POSTED: Cite = Cite::unverified(Source::Pcie, "2.4.1: memory writes are posted");

const FENCES: &[&str] = &["SFENCE", "MFENCE"];
const CLEANS: &[&str] = &["CLWB + SFENCE", "CLFLUSHOPT + SFENCE"];

impl Type {
    /// How `question` stands for this type; `None` where the architecture has no such operation: load-exclusive.
    #[must_use]
    #[inline]
    pub const fn guarantee(self, question: Question) -> Option<Guarantee> {
        use Guarantee as G;
        use Question as Q;
        use Type::{Uc, Wb, Wc, Wp, Wt};
        const REGISTERS_ONLY: &str =
            "of general-purpose registers; x87 and SIMD accesses may be performed more than once (APM vol. 2 7.4.3)";
        const SPLIT: &str = "in several parts, each a transaction of its own; across two pages of different types it may \
                             be written twice (11.5.2.3); MOVDIR64B and aligned SIMD forms fault";
        const DRAINS: &str = "so do a locked or serialising instruction, an access to UC memory and an interrupt; on AMD \
                              also VMRUN and #VMEXIT (15.25.8)";
        const BEHIND_A_CACHE: &str = "without it only what CPUs and snooping devices see is in order: a cache writes lines \
                                      back in any";
        Some(match (question, self) {
            (Q::Cached, Uc | Wc) => G::forbidden(TYPES),
            (Q::Cached, Wt | Wb) => G::permitted(TYPES),
            (Q::Cached, Wp) => G::permitted(TYPES).note("for reads; a write goes to the bus and drops the line"),

            (Q::Gather, Uc) => {
                G::forbidden(AMD_TYPES).note("Intel: all reads and writes appear on the bus, in program order (11.3)")
            }
            (Q::Gather, Wc) => {
                G::permitted(BUFFERS).note("in buffers of a line each; of writes to the same bytes the last remains")
            }
            (Q::Gather, Wt | Wb) => G::permitted(TYPES),
            (Q::Gather, Wp) => {
                G::permitted(TYPES).note("AMD forbids it; Intel names it for WT and WB, and is silent on WP")
            }

            (Q::ReorderSame, Uc) => G::forbidden(TYPES),
            (Q::ReorderSame, Wc) => {
                G::permitted(BUFFERS).note("a buffer that is not full may leave in several parts, in any order")
            }
            (Q::ReorderSame, Wt | Wp | Wb) => G::permitted(PROCESSOR_ORDER)
                .note("a load may pass an earlier store to another location; stores keep their order"),

            (Q::ReorderOther, Uc) => G::permitted(AMD_ORDER).note(
                "a later WC write or cacheable read may pass a UC write; on AMD no UC access passes what is before it",
            ),
            (Q::ReorderOther, Wc | Wt | Wp | Wb) => G::permitted(AMD_ORDER),

            (Q::EarlyAcknowledge, _) => G::permitted(POSTED),

            (Q::Hold, Uc) => {
                G::forbidden(AMD_TYPES).note("not buffered; Intel: every access appears on the bus (11.3)")
            }
            (Q::Hold, Wc) => {
                G::permitted(TYPES).note("a buffer that is not full may wait for the next event that drains it")
            }
            (Q::Hold, Wt | Wp) => G::forbidden(unverified("vol. 3A 11.3 (now 12.3)"))
                .note("writes go through to memory; no bound is stated for the write buffer"),
            (Q::Hold, Wb) => G::permitted(TYPES),

            (Q::StrayWrite, Uc) => {
                G::forbidden(TYPES).note("follows: the accesses on the bus are those of the program")
            }
            (Q::StrayWrite, Wc) => {
                G::forbidden(BUFFERS).note("a buffer that is not full leaves as partial writes of its valid bytes")
            }
            (Q::StrayWrite, Wt | Wp) => G::forbidden(unverified("vol. 3A 11.3 (now 12.3)"))
                .note("lines are never dirty, so that nothing is written back"),
            (Q::StrayWrite, Wb) => G::permitted(TYPES).note("a line is written back whole"),

            (Q::SpeculativeRead, Uc) => G::forbidden(TYPES)
                .note("but code that runs from UC is fetched by lines, perhaps repeatedly (APM vol. 2 7.4.1)"),
            (Q::SpeculativeRead, Wc | Wt | Wp | Wb) => G::permitted(TYPES),

            (Q::Repeat, Uc) => G::forbidden(TYPES).note(REGISTERS_ONLY),
            (Q::Repeat, Wc | Wt | Wp | Wb) => G::permitted(TYPES).note("reads, since they may be speculative"),

            (Q::Unaligned, Uc | Wc) => G::guaranteed(ALIGN).note(SPLIT),
            (Q::Unaligned, Wt | Wp | Wb) => G::guaranteed(ALIGN),

            (Q::Size, Uc) => G::guaranteed(ALIGN).note(
                "that it is one PCIe request is what rdma-core relies on (util/mmio.h); Intel says one bus access",
            ),
            (Q::Size, Wc) => G::permitted(BUFFERS).note("the 8 aligned bytes of a chunk leave at once"),
            (Q::Size, Wt | Wp | Wb) => G::permitted(TYPES).note("a cache fills and writes back lines"),

            (Q::Exclusives, _) => return None,

            (Q::Atomics, Uc) => G::implementation_defined(LOCKED).note(
                "the CPU locks the bus, which newer ones can be told to refuse; whether a device behind PCIe takes a \
                 locked access is up to the platform",
            ),
            (Q::Atomics, Wc) => {
                G::implementation_defined(LOCKED).note("Intel says not to use semaphores on WC; else as on UC")
            }
            (Q::Atomics, Wt | Wp) => G::guaranteed(LOCKED).note("by locking the bus"),
            (Q::Atomics, Wb) => G::guaranteed(LOCKED),

            (Q::ZeroLine, _) => G::guaranteed(CLZERO)
                .note("where there is one: CLZERO, of AMD (CPUID 8000_0008h EBX[0]); it writes as WC does"),
            (Q::Execute, Uc | Wc) => G::guaranteed(apm("7.4.1")),
            (Q::Execute, Wt | Wp | Wb) => G::guaranteed(TYPES),

            (Q::Orders, Uc) => G::guaranteed(TYPES).note(
                "among themselves; on AMD also after earlier WC writes (Table 7-4, m), of which Intel says nothing",
            ),
            (Q::Orders | Q::Separates, Wc) => G::guaranteed(SFENCE).by(FENCES),
            (Q::Orders, Wt | Wp) => G::guaranteed(PROCESSOR_ORDER),
            (Q::Separates, Uc) => G::guaranteed(AMD_TYPES),
            (Q::Separates, Wt | Wp) => G::guaranteed(AMD_WRITES).by(FENCES),
            (Q::Orders | Q::Separates, Wb) => G::guaranteed(CLWB).by(CLEANS).note(BEHIND_A_CACHE),

            (Q::Drains, Uc) => G::guaranteed(AMD_TYPES)
                .note("the access itself; that a posted write has arrived only a read from the device shows"),
            (Q::Drains, Wc) => G::guaranteed(TYPES).by(FENCES).note(DRAINS),
            (Q::Drains, Wt | Wp) => G::guaranteed(AMD_WRITES).by(FENCES),
            (Q::Drains, Wb) => G::guaranteed(CLWB).by(CLEANS),

            (Q::Burst64, Uc | Wc) => G::implementation_defined(MOVDIR)
                .by(&["MOVDIR64B"])
                .note("where the CPU has it, to 64 aligned bytes of any memory type; it is ordered as a WC write"),
            (Q::Burst64, Wt | Wp | Wb) => G::implementation_defined(MOVDIR)
                .by(&["MOVDIR64B"])
                .note("where the CPU has it; a line that a cache holds is written back and dropped first"),
        })
    }
}
