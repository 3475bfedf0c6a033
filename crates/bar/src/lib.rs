//! A PCI BAR in this process, with the memory type asked for, and accesses that cannot forget their barrier.
//!
//! Without feature `std` the crate is the accesses alone: views over memory that somebody else mapped.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod access;
mod arch;
pub mod cpu;
#[cfg(all(feature = "std", target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub mod fault;
pub mod harmless;
#[cfg(all(feature = "std", target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub mod mapping;
#[cfg(feature = "std")]
pub mod measure;
#[cfg(all(feature = "std", target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub mod open;
#[cfg(all(feature = "std", target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub mod probe;
#[cfg(all(feature = "std", target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub mod registry;
#[cfg(all(feature = "std", target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
mod sys;
#[cfg(feature = "std")]
pub mod text;
#[cfg(feature = "std")]
pub mod vfio;
#[cfg(all(feature = "std", target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
mod why;

pub use arch::{EMITTED, Emitted};
#[cfg(all(feature = "std", target_os = "linux", any(target_arch = "aarch64", target_arch = "x86_64")))]
pub use {
    mapping::Mapping,
    open::{Attributes, Bar, Device, Error, Way},
    why::Why,
};
