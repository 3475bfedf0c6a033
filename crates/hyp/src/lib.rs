//! The part that VFIO and KVM play in the kernel: a device's [regions](region) with what user space asks of them,
//! [VMAs](Vma), [memory slots](Slot), the [stage-2 fault](Vm::abort) that maps on demand, [invalidation](Vm::invalidate), and the
//! [policies](Policy) that choose the stage-2 memory type.
//!
//! Pure: no I/O, no clock, no allocation. The caller gives the memory for the tables ([`mmu::Frames`]) and the array for
//! the slots, and carries the abort from the CPU (or the model of one) to [`Vm::abort`] and its [`Resolution`] back.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod abort;
mod about;
mod maintenance;
mod policy;
pub mod region;
mod vm;
mod vma;

pub use abort::{Abort, EFAULT, EINVAL, EsrEl2, Resolution, UnsupportedFsc};
pub use about::{About, Said};
pub use maintenance::{Event, Maintenance};
pub use policy::{CacheableRefused, Cpu, Decision, Ept, Facts, NoAttribute, Policy, S2Kind, Why, WhyMapped};
pub use vm::{Error, IPA_BITS, Refusal, Slot, Vm};
pub use vma::{BLOCK_1G, BLOCK_2M, Pgprot, Vma};
