//! What can keep a scenario from being run. What the guest does is never here: it is an outcome.

use std::io;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
use crate::Bdf;

/// Why the machine could not run a scenario.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not arm64, or not Linux.
    #[error(
        "the `kvm` machine needs an arm64 Linux host with /dev/kvm, and this is {arch} {os}: \
         use --on model, or --on lab:6.12"
    )]
    Elsewhere {
        /// The operating system.
        os: &'static str,
        /// The architecture.
        arch: &'static str,
    },
    /// No access to KVM.
    #[error(
        "the `kvm` machine needs an arm64 Linux host with /dev/kvm, and opening it failed ({source}): run as root or in \
         the group that owns it, on a host that booted at EL2; or use --on model, or --on lab:6.12"
    )]
    NoKvm {
        /// Why.
        source: io::Error,
    },
    /// A device could not be opened through VFIO.
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    #[error("device {bdf} could not be opened through VFIO: {why}\n{}", why.remedy())]
    Vfio {
        /// The device.
        bdf: Bdf,
        /// Why.
        why: bar::Why,
    },
    /// None of the opened devices has what a device of the scenario needs.
    #[error("the scenario needs {needed}; opened are {have}: name devices that have it, or use --on lab:6.12")]
    NoDevice {
        /// What the scenario asks for.
        needed: String,
        /// What there is.
        have: String,
    },
    /// The host's guest-physical addresses are too short for the scenario.
    #[error(
        "the scenario uses guest-physical addresses up to {end:#x} and this host gives {bits} bits: \
         use fewer or smaller BARs and maps, or --on lab:6.12"
    )]
    Addresses {
        /// One past the last.
        end: u64,
        /// Bits of an IPA.
        bits: u32,
    },
    /// A part of the guest lies outside its RAM.
    #[error(
        "the guest has {bytes} bytes at {ipa:#x} and its RAM is {size:#x} bytes at {ram:#x}: the layout is not that of the \
         scenario"
    )]
    Piece {
        /// Where the part lies.
        ipa: u64,
        /// Its bytes.
        bytes: usize,
        /// Where slot 0 begins.
        ram: u64,
        /// Its bytes.
        size: u64,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}
