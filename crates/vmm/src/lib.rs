//! The machine `kvm`: one vCPU on real KVM, on arm64 Linux, with the BARs of devices passed through by VFIO. It runs the
//! guest of a scenario and brings back what it saw, as the model does.
//!
//! [`Host`] is the way in. Everything that needs the kernel is behind it; on another architecture or operating system the
//! crate compiles all the same, and [`Host::open`] says what is missing. What can be decided without a kernel (which
//! device serves which scenario, what its program may store to, what the kernel's log or trace says, what a store to the
//! report page means) is
//! pure and stands in modules of its own: [`fit`], [`reach`], [`log`], [`trace`], [`report`], [`regs`].

mod ask;
pub mod error;
pub mod fit;
pub mod log;
pub mod reach;
pub mod regs;
pub mod report;
pub mod trace;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod host;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
#[path = "elsewhere.rs"]
mod host;

pub use ask::ask_kvm;
pub use error::Error;
pub use host::Host;
pub use platform::Bdf;
