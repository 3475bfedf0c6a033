//! The vocabulary of **memory types**: what the attribute bits of a translation mean, what several stages come to, what the
//! result promises, and which contract a driver may rely on with it. Arm, x86, RISC-V, Power, LoongArch and s390; the Arm
//! SMMU, VT-d and AMD-Vi for what devices access.
//!
//! Pure data and `const fn`: no allocation, no dependency, `no_std`. Each statement names the section it comes from, and
//! whether somebody has looked ([`cite`]).
//!
//! # What a memory type is, for who knows PCI
//!
//! A BAR is a window of physical addresses behind which a device listens. A CPU that stores to such an address does not
//! send a bus transaction at once: between the instruction and the link are store buffers, caches and an interconnect, and
//! each would like to help: keep the line for later, merge eight stores of 8 bytes into one write of 64, fetch what is next
//! to what was asked for, let a load overtake a store. For memory all of that is invisible. For a register whose read
//! clears an interrupt, it is a bug. The *memory type* of a page says how much help is allowed.
//!
//! | helps by | question | x86 | Arm |
//! |---|---|---|---|
//! | keeping a copy | [`Cached`](guarantee::Question::Cached) | WB, WT, WP | Normal-WB, Normal-WT |
//! | merging writes | [`Gather`](guarantee::Question::Gather) | WC | Normal-NC; **G** of Device-GRE |
//! | changing the order | [`ReorderSame`](guarantee::Question::ReorderSame) | WC | Normal-NC; **R** of Device-GRE, Device-nGRE |
//! | saying "done" early | [`EarlyAcknowledge`](guarantee::Question::EarlyAcknowledge) | all | all but Device-nGnRnE; the **E** |
//! | reading ahead | [`SpeculativeRead`](guarantee::Question::SpeculativeRead) | WC, WB, … | Normal |
//!
//! Arm spells a Device type by what it allows, with an `n` before what it does not. **Device-nGnRE** allows no **G**athering
//! (each store is a transaction of its own, of its own size), no **R**eordering (accesses to one device arrive in program
//! order), and **E**arly acknowledgement: a bridge may answer for the device, so the CPU need not wait for the far end. That
//! is PCI's posted write. It is what a driver of registers expects, and what Linux's `ioremap()` gives. Device-nGnRnE also
//! forbids the early answer; behind PCI that changes nothing, since memory writes are posted anyway. **Normal-NC** is ordinary
//! memory that no cache keeps: merging, reordering and reading ahead are all allowed, and unaligned accesses work. It is
//! what `ioremap_wc()` gives on Arm. [`arm`] has the rest.
//!
//! # What several layers come to
//!
//! In a virtual machine the guest says a type (*stage 1*: MAIR, PAT, PBMT) and the hypervisor says one (*stage 2*: MemAttr,
//! EPT, G-stage). Who wins differs: on Arm the stricter of the two unless FEAT_S2FWB is on, on x86 the guest may relax
//! the hypervisor's UC to WC, on RISC-V the guest wins.
//!
//! ```
//! use memtype::arm::{self, Features, Stage1, Stage2};
//!
//! // A guest maps a BAR write-combining (Normal-NC), the hypervisor says Device-nGnRE at stage 2: thread 002.
//! let s1 = Stage1::decode(0x44, 0b10, Features::LATEST);
//! let s2 = Stage2::decode(false, 0b0001, 0b11, Features::LATEST);
//! let both = arm::combine(&s1, &s2);
//! assert_eq!(both.ty.to_string(), "Device-nGnRE");
//! assert_eq!(both.unaligned(), arm::Alignment::Fault { stage: 2 });
//! # use std::string::ToString;
//! ```
//!
//! # What may be relied on
//!
//! A [`MemoryType`] answers nineteen [questions](guarantee::Question): each behaviour is guaranteed, permitted, forbidden or
//! implementation-defined, never just "yes". A [`contract`] is a list of predicates over the answers: what write-combining
//! is, what `ioremap()` promises. Whether a type satisfies a contract is computed.
//!
//! ```
//! use memtype::MemoryType;
//! use memtype::contract::{REGISTER, Verdict, WC};
//!
//! let ty = MemoryType::named("arm64:device-ngnre").unwrap();
//! assert_eq!(WC.verdict(ty), Verdict::Satisfied);
//! assert_eq!(REGISTER.verdict(ty), Verdict::Satisfied);
//! assert_eq!(REGISTER.verdict(MemoryType::named("x86:wc").unwrap()), Verdict::Broken);
//! ```
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, doc))]
extern crate std;

pub mod arm;
mod attribute;
pub mod barrier;
pub mod cite;
pub mod contract;
pub mod guarantee;
pub mod iommu;
mod kind;
pub mod linux;
pub mod loongarch;
pub mod power;
pub mod riscv;
pub mod s390;
pub mod smmu;
pub mod x86;

pub use attribute::Attribute;
pub use kind::{Arch, MemoryType};
