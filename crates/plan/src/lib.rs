//! What a BAR becomes on this machine: for each way to map it, layer by layer ([`layers`]); and the plan for a whole VM.
//!
//! Pure functions over the facts of crate `host` and the rules of `hyp` and `memtype`. Where a fact is a hole, the answer says that it
//! rests on it.
#![forbid(unsafe_code)]

mod bus;
mod kernel;
mod layers;
mod process;
pub mod request;
mod seat;
mod slot;
mod verdict;
pub mod viommu;
mod vm;

pub use layers::*;
pub use request::{
    BarRequest, DeviceRequest, GuestFirmware, GuestIommu, HostSide, PartRequest, RequestError, SnoopWish,
    ViommuRequest, VmRequest, Want,
};
pub use vm::*;
