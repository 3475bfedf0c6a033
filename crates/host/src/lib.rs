//! What this machine offers, gathered without changing it: the kernel, the CPU, every PCI function with its BARs, VFIO, IOMMUs,
//! firmware; live, or from a snapshot of another machine.
//!
//! What cannot be found out is a marked hole ([`Fact::Hole`]) with the file or call that would say it, never a guess. Nothing here decides: crate `plan` does.
#![forbid(unsafe_code)]

mod fact;
mod facts;
mod gather;
mod pick;
mod root;
pub mod snapshot;

pub use fact::{Fact, Hole, Why};
pub use facts::*;
pub use root::{Error, Root};
