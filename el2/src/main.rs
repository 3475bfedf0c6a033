//! The machine `el2`: a bare-metal hypervisor. It boots at EL2, finds the devices, and runs scenarios with the code of `hyp`
//! and `mmu`: it has no policy and no table code of its own. See [`el2`] for what it is told and what it says.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod board;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod gic;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod pci;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod sweep;

#[cfg(target_os = "none")]
use start::say;

/// On a machine with an operating system there is nothing to do.
#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "el2 runs on bare metal, at EL2 of an Arm machine. `bartender run SCENARIO --on el2` builds it and runs it under QEMU;\n\
         by hand: cargo build -p el2 --target aarch64-unknown-none --profile guest"
    );
    std::process::ExitCode::from(2)
}
