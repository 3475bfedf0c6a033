//! The part that VFIO and KVM play in the kernel: [VMAs](Vma), [memory slots](Slot), the [stage-2 fault](Vm::abort) that
//! maps on demand, and the [policies](Policy) that choose the stage-2 memory type.
//!
//! Pure: no I/O, no clock, no allocation. The caller gives the memory for the tables ([`mmu::Frames`]) and the array for
//! the slots, and carries the abort from the CPU (or the model of one) to [`Vm::abort`] and its [`Resolution`] back.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod abort;
mod policy;
mod vm;

pub use abort::{Abort, EFAULT, EsrEl2, Resolution, UnsupportedFsc};
pub use policy::{Cpu, Decision, Policy, S2Kind, Why};
pub use vm::{Error, IPA_BITS, Slot, Vm, Vma};
