//! A PCI BAR in this process, with the memory type asked for, and accesses that cannot forget their barrier.
//!
//! Without feature `std` the crate is the accesses alone: views over memory that somebody else mapped.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "std")]
pub mod text;
#[cfg(feature = "std")]
pub mod vfio;
