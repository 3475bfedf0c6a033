//! A virtio-iommu device (virtio 1.4, 5.13) as a pure state machine: requests in as bytes, replies out as bytes, and what the host has
//! to do in between as a list of [`effect`]s, taken back where the host cannot.
//!
//! ```text
//!   guest            VMM                        this crate                       VMM's host side
//!  driver --bytes--> virtqueue --bytes--> Device::handle ==> Pending
//!                                                            | effects() ------> VFIO, iommufd,
//!                                                            | <-- done, or why   page tables: Host
//!         <--reply-- virtqueue <--bytes-- done() / failed() -+ (undo: effects)
//!                                            |
//!                                            v seats and maps
//!  endpoint --access--> device model --> Translator::translate --> Target, or a fault
//!         <--report---- event queue <-- Device::event_buffer <-- Device::fault
//! ```
//!
//! * [`Device`] has no thread, no clock, no memory of the guest and no system call. One thread at a time sends it requests;
//!   [`Translator`]s are on any.
//! * Nothing changes until the host has done what a request needs: see [`Pending`]. A rejected request changes nothing at all.
//! * What a driver can make it hold is bounded: see [`limits`]. No bytes make it panic.
//! * [`coherency`] is what virtio does not say: which endpoints are coherent, and a proposal for how a driver is told
//!   (docs/virtio-iommu-coherency.md), off by default.
//!
//! A driver attaches an endpoint, maps a page, and takes it away again:
//!
//! ```
//! use viommu::access::Kind;
//! use viommu::effect::{DomainId, Effect, Host, HostError};
//! use viommu::translate::{Reason, Target};
//! use viommu::wire::{MAP_F_READ, Request, Status, TAIL};
//! use viommu::{Config, Device, Endpoint, EndpointId, Gpa, Iova};
//!
//! /// What a VMM would do with VFIO or iommufd.
//! struct Print;
//! impl Host for Print {
//!     fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
//!         println!("{effect:?}");
//!         Ok(())
//!     }
//! }
//!
//! let mut device = Device::new(Config::default())?;
//! let endpoint = EndpointId(8);
//! for effect in device.add_endpoint(Endpoint::new(endpoint))? {
//!     Print.apply(&effect)?;
//! }
//! for effect in device.accept(device.features())? {
//!     Print.apply(&effect)?;
//! }
//! let mut send = |device: &mut Device, request: Request| device.handle_with(&request.bytes(), TAIL, &mut Print).status();
//! let mut translator = device.translator(endpoint).expect("it was added");
//!
//! let domain = DomainId(1);
//! assert_eq!(send(&mut device, Request::Attach { domain, endpoint, flags: 0, reserved: 0 }), Some(Status::Ok));
//! let (virt_start, virt_end) = (Iova(0x1000), Iova(0x1fff));
//! let map = Request::Map { domain, virt_start, virt_end, phys_start: Gpa(0xa000), flags: MAP_F_READ };
//! assert_eq!(send(&mut device, map), Some(Status::Ok));
//! let Ok(Target::Memory { at, more, .. }) = translator.translate(Iova(0x1234), Kind::Read) else { panic!() };
//! assert_eq!((at, more), (Gpa(0xa234), 0xdcb));
//! assert_eq!(translator.translate(Iova(0x1234), Kind::Write), Err(Reason::Mapping));
//!
//! let unmap = Request::Unmap { domain, virt_start, virt_end, reserved: 0 };
//! assert_eq!(send(&mut device, unmap), Some(Status::Ok));
//! assert_eq!(translator.translate(Iova(0x1234), Kind::Read), Err(Reason::Mapping));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod access;
pub mod book;
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
#[cfg(feature = "conformance")]
pub mod suite;
pub mod translate;
pub mod wire;

pub use access::{Access, MemoryType};
pub use device::{Bypass, Config, Device, Pending, Reply, Wrong};
pub use effect::{DomainId, Effect, Host, HostError};
pub use endpoint::{Endpoint, EndpointId};
pub use interval::{Gpa, Interval, Iova};
pub use map::{Map, Mapping};
pub use translate::Translator;
