//! What RISC-V's memory types promise. Most of it the manual leaves to the attributes of the region.
//!
//! ```
//! use memtype::guarantee::{Question, Standing};
//! use memtype::riscv::Type;
//!
//! // FENCE orders write-combining writes; that none is merged across it, the manual does not say.
//! assert_eq!(Type::Nc.guarantee(Question::Orders).unwrap().standing, Standing::Guaranteed);
//! assert_eq!(Type::Nc.guarantee(Question::Separates).unwrap().standing, Standing::ImplementationDefined);
//! ```

use super::Type;
use crate::cite::{Cite, Source};
use crate::guarantee::{Guarantee, Question};

const PBMT: Cite = read("vol. II Svpbmt, encodings of PBMT");
const PBMT_WHY: Cite = read("vol. II Svpbmt, note: write combining and speculative accesses");
const CACHEABILITY: Cite = read("vol. II Coherence and Cacheability PMAs");
const IDEMPOTENCY: Cite = read("vol. II Idempotency PMAs");
const ORDERING: Cite = read("vol. II Memory-Ordering PMAs");
const ACCESS: Cite = read("vol. II Supported Access Type PMAs");
const ATOMICITY: Cite = read("vol. II Atomicity PMAs");
const RVWMO: Cite = read("vol. I RVWMO, memory model primitives");
const PROGRESS: Cite = read("vol. I RVWMO, progress axiom");
const MERGE: Cite = read("vol. I memory model explanation: writes may be merged or subsumed");
const IO_ORDER: Cite = read("vol. I memory model explanation, I/O Ordering");
const LOAD_STORE: Cite = read("vol. I RV32I, Load and Store Instructions");
const ZICBOZ: Cite = read("vol. I CMO, Zicboz");
const SERVER_SOC: Cite = Cite::second_hand(Source::Riscv, "Server SoC MMS_030, in its issue 24");
const FENCE: Cite = read("vol. I RV32I, Memory Ordering Instructions");

const fn read(place: &'static str) -> Cite {
    Cite::read(Source::Riscv, place)
}
const fn unverified(place: &'static str) -> Cite {
    Cite::unverified(Source::Riscv, place)
}

impl Type {
    /// How `question` stands for this type; `None` where the architecture has no such operation.
    #[must_use]
    #[inline]
    pub const fn guarantee(self, question: Question) -> Option<Guarantee> {
        use Guarantee as G;
        use Question as Q;
        use Type::{Io, Nc, PmaIo, PmaMain};
        Some(match (question, self) {
            (Q::Cached, PmaMain | PmaIo) => {
                G::implementation_defined(CACHEABILITY).note("the cacheability PMA of the region decides")
            }
            (Q::Cached, Nc | Io) => G::forbidden(PBMT),

            (Q::Gather, PmaMain) => G::permitted(MERGE),
            (Q::Gather, PmaIo) => {
                G::implementation_defined(ORDERING).note("relaxed and idempotent regions may, as RVWMO memory may")
            }
            (Q::Gather, Nc) => G::permitted(PBMT_WHY),
            (Q::Gather, Io) => G::forbidden(unverified("vol. II Idempotency PMAs: no redundant accesses"))
                .note("follows from non-idempotent and strongly ordered; no sentence is about merging"),

            (Q::ReorderSame, PmaMain) => {
                G::permitted(RVWMO).note("writes to the same bytes stay in order, and so do loads after them")
            }
            (Q::ReorderSame, PmaIo) => {
                G::implementation_defined(ORDERING).note("relaxed or strong; Linux counts on strong, channel 0")
            }
            (Q::ReorderSame, Nc) => G::permitted(read("vol. II Svpbmt (io_pma_nc_pbmt_obey_rvwmo)")),
            (Q::ReorderSame, Io) => G::forbidden(PBMT).note("channel 0: by one hart, to one I/O region"),

            (Q::ReorderOther, PmaMain | Nc) => G::permitted(RVWMO),
            (Q::ReorderOther, PmaIo) => {
                G::permitted(ORDERING).note("with memory; a channel other than 0 also orders it against other I/O regions")
            }
            (Q::ReorderOther, Io) => {
                G::permitted(IO_ORDER).note("channel 0 is for one region; a FENCE must name both sides, as fence w,o does")
            }

            (Q::EarlyAcknowledge, _) => {
                G::permitted(IO_ORDER).note("the manual knows order and no completion of a write, and no fence for it")
            }

            (Q::Hold, PmaMain | Nc) => G::forbidden(PROGRESS).note("a finite time, without a bound; coherent regions"),
            (Q::Hold, PmaIo | Io) => {
                G::forbidden(unverified("vol. I RVWMO, progress axiom")).note("the axiom is written for main memory")
            }

            (Q::StrayWrite, PmaMain) => {
                G::permitted(unverified("vol. II Coherence and Cacheability PMAs")).note("a cache writes lines back whole")
            }
            (Q::StrayWrite, PmaIo) => {
                G::implementation_defined(CACHEABILITY).note("a region that is not cacheable has no line to write back")
            }
            (Q::StrayWrite, Nc | Io) => {
                G::forbidden(PBMT).note("follows: non-cacheable, and only store instructions give rise to writes")
            }

            (Q::SpeculativeRead | Q::Repeat, PmaMain) => G::permitted(IDEMPOTENCY).note("main memory is idempotent"),
            (Q::SpeculativeRead | Q::Repeat, PmaIo) => {
                G::implementation_defined(IDEMPOTENCY).note("the idempotency PMA, for reads and writes apart")
            }
            (Q::SpeculativeRead, Nc) => G::permitted(PBMT_WHY),
            (Q::Repeat, Nc) => G::permitted(PBMT).note("idempotent"),
            (Q::SpeculativeRead, Io) => G::forbidden(IDEMPOTENCY)
                .note("fetches and table walks may also read neighbouring bytes, up to a page"),
            (Q::Repeat, Io) => G::forbidden(IDEMPOTENCY),

            (Q::Unaligned, PmaMain | Nc) => {
                G::implementation_defined(LOAD_STORE).note("performed, emulated by a trap, or a fault: the environment says")
            }
            (Q::Unaligned, PmaIo) => G::implementation_defined(IDEMPOTENCY)
                .note("non-idempotent regions should raise an access fault, so that nobody emulates it"),
            (Q::Unaligned, Io) => {
                G::implementation_defined(PBMT).note("may raise an exception even over memory that would allow it")
            }

            (Q::Size, PmaMain | Nc) => {
                G::permitted(RVWMO).note("one memory operation of at most XLEN bits, which may then be merged")
            }
            (Q::Size, PmaIo) => G::implementation_defined(ACCESS)
                .note("the region says which widths it takes; the server SoC specification requires one PCIe request"),
            (Q::Size, Io) => {
                G::guaranteed(SERVER_SOC).note("a platform rule; the manual says one operation, and that of main memory")
            }

            (Q::Exclusives, PmaMain) => G::implementation_defined(ATOMICITY)
                .note("RsrvNone, RsrvNonEventual or RsrvEventual; Ziccrse: RsrvEventual, if cacheable and coherent"),
            (Q::Exclusives, PmaIo) => G::implementation_defined(ATOMICITY).note("most I/O regions are RsrvNone"),
            (Q::Atomics, PmaMain) => G::implementation_defined(ATOMICITY)
                .note("AMONone to AMOArithmetic; Ziccamoa: AMOArithmetic, if cacheable and coherent"),
            (Q::Atomics, PmaIo) => {
                G::implementation_defined(ATOMICITY).note("AMONone to AMOArithmetic; at least AMOLogical is recommended")
            }
            (Q::Exclusives | Q::Atomics, Nc | Io) => G::implementation_defined(ATOMICITY)
                .note("PBMT leaves atomicity to the region, and an implementation may override more"),

            (Q::ZeroLine, PmaMain) => G::guaranteed(ZICBOZ).note("cbo.zero, where Zicboz is implemented"),
            (Q::ZeroLine, PmaIo | Io) => G::implementation_defined(ZICBOZ).note("cbo.zero: an I/O region may refuse it"),
            (Q::ZeroLine, Nc) => G::implementation_defined(ZICBOZ)
                .note("cbo.zero does not ask for cacheability; over an I/O region the region may refuse it"),

            (Q::Execute, _) => G::implementation_defined(ACCESS).note("the region says; PBMT does not change that"),

            (Q::Orders, PmaMain) => G::guaranteed(FENCE).by(&["fence w,w"]),
            (Q::Orders, Nc) => G::guaranteed(FENCE)
                .by(&["fence w,w"])
                .note("over an I/O region it is in the set O as well: fence ow,ow is for both"),
            (Q::Orders, PmaIo) => G::guaranteed(FENCE)
                .by(&["fence o,o"])
                .note("not needed in a strongly ordered region; fence w,o after writes to memory"),
            (Q::Orders, Io) => {
                G::guaranteed(ORDERING).note("within one region nothing is needed; fence w,o after writes to memory")
            }
            (Q::Separates, PmaMain | PmaIo | Nc) => G::implementation_defined(FENCE)
                .by(&["fence ow,ow"])
                .note("a FENCE orders what is observed, and merged writes are observed at once: it promises no more"),
            (Q::Separates, Io) => {
                G::guaranteed(unverified("vol. II Idempotency PMAs")).note("nothing is needed, if nothing is merged (gather)")
            }

            (Q::Drains, Io) => G::guaranteed(unverified("vol. II Memory-Ordering PMAs"))
                .note("nothing collects it; only a load from the region shows that it has arrived"),
            (Q::Drains, PmaMain | PmaIo | Nc) => G::implementation_defined(IO_ORDER).by(&["fence ow,ow"]).note(
                "FENCE orders and need not wait: there is no completion fence; a load from the device behind it shows arrival",
            ),

            // A vector store of 64 bytes may give rise to several operations: no instruction is one for this.
            (Q::Burst64, _) => return None,
        })
    }
}
