//! Emulated servers: real distribution kernels under QEMU, with a program of ours as their first process.
//!
//! On the host: [`setup`] fetches what is needed into a [`Cache`], [`list`] says what there is, [`build_guest`] builds
//! the program, [`Boot`] runs it, [`Session`] runs commands of it on devices that come and go. [`Bare`] runs a program without an operating system at all. Inside the emulated server: [`guest`].
//!
//! Nothing outside the cache is changed, no right is needed that an ordinary user does not have, and no run outlives its
//! time limit.
#![forbid(unsafe_code)]

mod arch;
mod archive;
pub mod bare;
mod boot;
mod cache;
mod command;
mod console;
mod debian;
mod device;
mod error;
#[cfg(target_os = "linux")]
pub mod guest;
mod image;
mod kernel;
mod monitor;
#[cfg(target_os = "linux")]
mod play;
mod progress;
mod qemu;
pub mod script;
mod series;
mod session;
mod setup;
mod toolchain;

pub use arch::Arch;
pub use bare::Bare;
pub use boot::{Boot, Booted, Timing, bench};
pub use cache::Cache;
pub use device::{Device, Plugged};
pub use error::Error;
pub use image::poweroff_init;
pub use kernel::{Available, Kernel, Listing, list};
pub use progress::{Progress, Watch};
pub use qemu::{Qemu, uefi};
pub use series::Series;
pub use session::{Found, Played, Session};
pub use setup::{Setup, setup};
pub use toolchain::{build_bare, build_guest};
