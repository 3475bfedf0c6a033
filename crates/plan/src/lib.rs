//! What a BAR becomes on this machine: for each way to map it, layer by layer ([`layers`]); and the plan for a whole VM.
//!
//! Pure functions over the facts of crate `host` and the rules of `hyp` and `memtype`. Where a fact is a hole, the answer says that it
//! rests on it.
#![forbid(unsafe_code)]

mod layers;

pub use layers::*;
