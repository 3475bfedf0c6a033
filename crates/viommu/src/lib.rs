//! A virtio-iommu device (virtio 1.4, 5.13) as a pure state machine: requests in as bytes, replies out as bytes, and what the host has
//! to do in between as a list of [`effect`]s, taken back where the host cannot.
#![forbid(unsafe_code)]

pub mod access;
pub mod coherency;
pub mod config_space;
pub mod device;
pub mod driver;
pub mod effect;
pub mod endpoint;
pub mod event;
pub mod interval;
pub mod limits;
pub mod map;
#[cfg(feature = "virtqueue")]
pub mod queue;
pub mod save;
pub mod translate;
pub mod wire;

pub use access::{Access, MemoryType};
pub use device::{Config, Device, Pending, Reply};
pub use effect::{Effect, Host, HostError};
pub use endpoint::{Endpoint, EndpointId};
pub use interval::{Gpa, Interval, Iova};
pub use map::{Map, Mapping};
pub use translate::Translator;
