//! Any virtio-iommu device, held against the specification (virtio 1.4, 5.13) clause by clause.
//!
//! The suite writes and reads the bytes itself and knows no implementation, so that a mistake in one is not a mistake in both.
#![forbid(unsafe_code)]

pub mod bytes;
pub mod clause;
pub mod device;
pub mod like;
pub mod qtest;
pub mod random;
pub mod reference;
pub mod report;
pub mod suite;

pub use device::{Broken, Can, Device, Fresh, Reply, Setup};
