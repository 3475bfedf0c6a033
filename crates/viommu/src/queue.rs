//! The device on split virtqueues in guest memory, by rust-vmm's `virtio-queue` and `vm-memory`: what a VMM has left to do is to bring
//! notifications in and out.
//!
//! # Into a VMM
//!
//! The transport keeps the two queues until DRIVER_OK and hands them over then; a notification of the driver is a call:
//!
//! ```
//! # use viommu::{Config, Device, Effect, Endpoint, EndpointId, Host, HostError, coherency::Coherency, event::FaultReport};
//! # use viommu::queue::{EventQueue, RequestQueue};
//! # use virtio_queue::{Queue, desc::{RawDescriptor, split::Descriptor}, mock::MockSplitQueue};
//! # use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//! /// VFIO or iommufd.
//! struct Mappings;
//! impl Host for Mappings {
//!     fn apply(&mut self, effect: &Effect) -> Result<(), HostError> {
//!         match effect {
//!             Effect::Map { .. } => Ok(()),   // IOMMU_IOAS_MAP, and what its errno is as a HostError
//!             Effect::Unmap { .. } => Ok(()), // IOMMU_IOAS_UNMAP
//!             _ => Ok(()),                    // VFIO_DEVICE_ATTACH_IOMMUFD_PT, ...
//!         }
//!     }
//! }
//!
//! struct Iommu {
//!     device: Device,
//!     host: Mappings,
//!     requests: RequestQueue,
//!     events: EventQueue,
//! }
//! /// What there is to do for the VMM.
//! enum Then { Nothing, Interrupt, InterruptAndComeAgain, NeedsReset }
//!
//! impl Iommu {
//!     /// The driver has notified queue 0, or the last time was to come again.
//!     fn requests(&mut self, mem: &GuestMemoryMmap) -> Then {
//!         match self.requests.process(mem, &mut self.device, &mut self.host, 256) {
//!             Err(_) => Then::NeedsReset,
//!             Ok(_) if self.device.needs_reset() => Then::NeedsReset,
//!             Ok(done) if done.more => Then::InterruptAndComeAgain,
//!             Ok(done) if done.notify => Then::Interrupt,
//!             Ok(_) => Then::Nothing,
//!         }
//!     }
//!     /// A translation has failed.
//!     fn fault(&mut self, mem: &GuestMemoryMmap, report: FaultReport) -> Then {
//!         let _ = self.device.fault(report);
//!         self.events(mem)
//!     }
//!     /// The driver has notified queue 1.
//!     fn events(&mut self, mem: &GuestMemoryMmap) -> Then {
//!         match self.events.report(mem, &mut self.device) {
//!             Err(_) => Then::NeedsReset,
//!             Ok(done) if done.notify => Then::Interrupt,
//!             Ok(_) => Then::Nothing,
//!         }
//!     }
//! }
//! # let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x20000)])?;
//! # let requests = MockSplitQueue::new(&mem, 16);
//! # let events = MockSplitQueue::create(&mem, GuestAddress(0x4000), 16);
//! # let (request_queue, event_queue) = (requests.create_queue::<Queue>()?, events.create_queue::<Queue>()?);
//!
//! // At the start of the VMM:
//! let mut device = Device::new(Config::default())?;
//! let mut host = Mappings;
//! for effect in device.add_endpoint(Endpoint { id: EndpointId(8), reserved: vec![], coherency: Coherency::default() })? {
//!     host.apply(&effect)?;
//! }
//! // At FEATURES_OK, with what the driver wrote:
//! # let features = device.features();
//! for effect in device.accept(features)? {
//!     host.apply(&effect)?;
//! }
//! // At DRIVER_OK, with the queues that the driver set up:
//! let mut iommu =
//!     Iommu { device, host, requests: RequestQueue::new(request_queue), events: EventQueue::new(event_queue) };
//! #
//! # // ATTACH endpoint 8 to domain 1, and four bytes for the tail.
//! # let attach: [u8; 20] = [1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
//! # mem.write_slice(&attach, GuestAddress(0x8000))?;
//! # mem.write_slice(&[0xff; 4], GuestAddress(0x9000))?;
//! # let chain = [Descriptor::new(0x8000, 20, 1, 1), Descriptor::new(0x9000, 4, 2, 0)].map(RawDescriptor::from);
//! # requests.add_desc_chains(&chain, 0)?;
//! # assert!(matches!(iommu.requests(&mem), Then::Interrupt));
//! # assert_eq!(requests.used().idx().load(), 1);
//! # assert_eq!(mem.read_obj::<u32>(GuestAddress(0x9000))?, 0);
//! # assert!(matches!(iommu.events(&mem), Then::Nothing));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The effects of [`reset`](Device::reset), of [`write_config`](Device::write_config) and of endpoints that go are done in the same way.
//!
//! # The order of things
//!
//! All effects of a request are done before its reply is written, and the reply before the used ring says so (2.7.8.2). So when an UNMAP
//! is used, the host's [`apply`](Host::apply) has returned for each of its mappings: a driver may give the pages to somebody else. A
//! host whose unmapping is deferred breaks that, and no device can mend it.
//!
//! # What a driver may do, and a hostile one does
//!
//! - Descriptors may cut a request anywhere (2.7.4.1), in the table or in an indirect one, of which `virtio-queue` takes one for a
//!   chain, after any number of direct descriptors. It is taken whether or not VIRTIO_F_INDIRECT_DESC was negotiated.
//! - Of a request, at most [`READ`] bytes are copied, once, before it is looked at: what the guest writes over it meanwhile does not count.
//!   The rest is counted and not touched, nor need it be memory. The same holds of the writable part beyond the longest reply.
//! - A chain that cannot be a request ([`Malformed`]) is given back with nothing written and a used length of 0, as a request that cannot
//!   be parsed is (5.13.6); the device has not seen it. The queue goes on.
//! - Where the rings themselves are wrong ([`Error`]), there is no chain that could be given back. The device needs a reset (2.1.2), the
//!   queue says so at every call from then on, and touches guest memory no more.
//! - The work of a call is bounded: as many chains as the caller allows, [`DESCRIPTORS`] descriptors each. What a request itself takes is
//!   the device's and the host's: an UNMAP takes its time for each mapping that it removes.

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use crate::{Device, Host, event::Posted, wire};

/// The most bytes of a request's device-readable part that mean anything: a PROBE's (5.13.6.7).
pub const READ: usize = 72;

/// The most descriptors of a chain: the device may have "a reasonable limit" (2.7.4.1). A PROBE with a `probe_size` of 512, each byte of
/// which has a descriptor of its own, has 588.
pub const DESCRIPTORS: usize = 1024;

/// The queue cannot be gone on with: the device sets DEVICE_NEEDS_RESET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The driver has not enabled the queue. This one is no state: once enabled, it is used.
    #[error("the queue is not enabled")]
    NotReady,
    /// The descriptor table, the available ring or the used ring is not in guest memory.
    #[error(
        "the queue is not in guest memory: descriptors at {table:#x}, available ring at {available:#x}, used ring at {used:#x}, size {size}"
    )]
    Ring {
        /// The address of the descriptor table.
        table: u64,
        /// The address of the available ring.
        available: u64,
        /// The address of the used ring.
        used: u64,
        /// The queue size.
        size: u16,
    },
    /// More chains are available than the queue has descriptors, or the index has gone back.
    #[error("the driver's index is {index}, {next} is next, of a queue of {size}")]
    Index {
        /// `idx` of the available ring.
        index: u16,
        /// The next that was to be taken.
        next: u16,
        /// The queue size.
        size: u16,
    },
    /// A chain is available whose first descriptor is not in the table.
    #[error("a chain begins with descriptor {head}, of a queue of {size}")]
    Head {
        /// The descriptor.
        head: u16,
        /// The queue size.
        size: u16,
    },
    /// A buffer that was in guest memory is there no more.
    #[error("guest memory at {at:#x} has gone while a request was done")]
    Gone {
        /// Where.
        at: u64,
    },
}

/// Why a chain is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The next descriptor is not in the table, the table not in guest memory, an indirect table is in an indirect table or of no whole number
    /// of descriptors, the chain comes back to itself, or has 2^32 bytes.
    #[error("the chain has no end after {descriptors} descriptors")]
    NoEnd {
        /// Those that were read.
        descriptors: usize,
    },
    /// More than [`DESCRIPTORS`].
    #[error("the chain has more than {DESCRIPTORS} descriptors")]
    TooLong,
    /// A device-readable descriptor comes after a device-writable one (2.7.4.2).
    #[error("a device-readable descriptor comes after a device-writable one")]
    ReadableAfterWritable,
    /// A buffer is not in guest memory.
    #[error("a buffer of {len} bytes at {at:#x} is not in guest memory")]
    NotMemory {
        /// Where.
        at: u64,
        /// As much of it as the device would have touched.
        len: usize,
    },
}

/// What a call of [`RequestQueue::process`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Processed {
    /// Chains that were used, well formed or not.
    pub used: usize,
    /// Chains that were no request.
    pub malformed: usize,
    /// Of those, why the first was none: for a log, which is better limited in rate.
    pub why: Option<Malformed>,
    /// The driver wants a notification.
    pub notify: bool,
    /// Chains are left, and the driver will not notify again for them: come again.
    pub more: bool,
}

/// What a call of [`EventQueue::report`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reported {
    /// Faults that were written.
    pub events: usize,
    /// Buffers that a report does not fit, or that are none; given back with nothing written. The report waits for the next.
    pub unfit: usize,
    /// Faults are left, and so are buffers, or so they seemed: come again.
    pub more: bool,
    /// The driver wants a notification.
    pub notify: bool,
}

/// A queue, until it breaks.
#[derive(Debug)]
struct Ring {
    queue: Queue,
    broken: Option<Error>,
    /// Device-writable buffers of the chain at hand; kept for its memory.
    writable: Vec<(GuestAddress, usize)>,
}

/// A chain's device-readable part, and how much of it is device-writable.
struct Gathered {
    bytes: [u8; READ],
    read: usize,
    writable: usize,
}

impl Ring {
    fn new(queue: Queue) -> Self {
        Self { queue, broken: None, writable: Vec::new() }
    }

    /// Does something with the queue, unless it is broken; what breaks it is kept.
    fn guarded<M: GuestMemory, T>(
        &mut self,
        mem: &M,
        then: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if let Some(why) = self.broken {
            return Err(why);
        }
        if !self.queue.ready() {
            return Err(Error::NotReady);
        }
        let done = if self.is_there(mem) { then(self) } else { Err(self.not_there()) };
        done.inspect_err(|why| self.broken = Some(*why))
    }

    /// Whether the rings are in guest memory (2.7). Before anything is done, so that nothing is done that could not be told.
    fn is_there<M: GuestMemory>(&self, mem: &M) -> bool {
        let (queue, size) = (&self.queue, usize::from(self.queue.size()));
        mem.check_range(GuestAddress(queue.desc_table()), 16 * size, Permissions::Read)
            && mem.check_range(GuestAddress(queue.avail_ring()), 6 + 2 * size, Permissions::Read)
            && mem.check_range(GuestAddress(queue.used_ring()), 6 + 8 * size, Permissions::Write)
    }

    fn not_there(&self) -> Error {
        let queue = &self.queue;
        Error::Ring {
            table: queue.desc_table(),
            available: queue.avail_ring(),
            used: queue.used_ring(),
            size: queue.size(),
        }
    }

    /// The next chain.
    fn next<'m, M: GuestMemory>(&mut self, mem: &'m M) -> Result<Option<DescriptorChain<&'m M>>, Error> {
        let (next, size) = (self.queue.next_avail(), self.queue.size());
        let index = self.queue.avail_idx(mem, std::sync::atomic::Ordering::Acquire).map_err(|_| self.not_there())?.0;
        if index == next {
            return Ok(None);
        }
        let wrong = Error::Index { index, next, size };
        let not_there = self.not_there();
        let chain = match self.queue.iter(mem) {
            Ok(mut chains) => chains.next().ok_or(not_there)?,
            Err(virtio_queue::Error::InvalidAvailRingIndex) => return Err(wrong),
            Err(_) => return Err(not_there),
        };
        if chain.head_index() >= size {
            return Err(Error::Head { head: chain.head_index(), size });
        }
        Ok(Some(chain))
    }

    /// Reads a chain, of which at most `longest` bytes will be written.
    fn gather<M: GuestMemory>(
        &mut self,
        mem: &M,
        chain: DescriptorChain<&M>,
        longest: usize,
    ) -> Result<Gathered, Malformed> {
        self.writable.clear();
        let mut it = Gathered { bytes: [0; READ], read: 0, writable: 0 };
        let mut descriptors = 0;
        // The iterator ends alike where a chain ends and where it breaks off; in the second case another was to come.
        let mut ends = false;
        for descriptor in chain {
            descriptors += 1;
            if descriptors > DESCRIPTORS {
                return Err(Malformed::TooLong);
            }
            ends = !descriptor.has_next();
            let (at, len) = (descriptor.addr(), descriptor.len() as usize);
            if descriptor.is_write_only() {
                let touched = len.min(longest.saturating_sub(it.writable));
                if touched > 0 && !mem.check_range(at, touched, Permissions::Write) {
                    return Err(Malformed::NotMemory { at: at.0, len: touched });
                }
                it.writable = it.writable.saturating_add(len);
                self.writable.push((at, touched));
            } else if self.writable.is_empty() {
                let touched = len.min(READ - it.read);
                mem.read_slice(&mut it.bytes[it.read..it.read + touched], at)
                    .map_err(|_| Malformed::NotMemory { at: at.0, len: touched })?;
                it.read += touched;
            } else {
                return Err(Malformed::ReadableAfterWritable);
            }
        }
        if ends { Ok(it) } else { Err(Malformed::NoEnd { descriptors }) }
    }

    /// Writes the beginning of the chain's device-writable part, and gives the chain back.
    fn give_back<M: GuestMemory>(&mut self, mem: &M, head: u16, bytes: &[u8]) -> Result<(), Error> {
        let mut left = bytes;
        for &(at, len) in &self.writable {
            let (now, then) = left.split_at(len.min(left.len()));
            if !now.is_empty() {
                mem.write_slice(now, at).map_err(|_| Error::Gone { at: at.0 })?;
            }
            left = then;
        }
        let written = bytes.len() - left.len();
        self.queue.add_used(mem, head, u32::try_from(written).unwrap_or(u32::MAX)).map_err(|_| self.not_there())
    }

    /// Whether the driver wants to hear of what was used since it was asked the last time (2.7.7.2).
    fn notify<M: GuestMemory>(&mut self, mem: &M) -> Result<bool, Error> {
        let wanted = self.queue.needs_notification(mem).map_err(|_| self.not_there())?;
        if self.queue.event_idx_enabled() {
            return Ok(wanted);
        }
        // VIRTQ_AVAIL_F_NO_INTERRUPT, which virtio-queue 0.18 does not look at. It was read after the used index was written.
        let flags: u16 = mem
            .load(GuestAddress(self.queue.avail_ring()), std::sync::atomic::Ordering::Relaxed)
            .map_err(|_| self.not_there())?;
        Ok(wanted && u16::from_le(flags) & 1 == 0)
    }
}

/// The request queue, which is queue 0.
#[derive(Debug)]
pub struct RequestQueue(Ring);

impl RequestQueue {
    /// A queue as the transport has set it up.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self(Ring::new(queue))
    }

    /// The queue, for the transport.
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.0.queue
    }

    /// A reset of the device, or of the queue.
    pub fn reset(&mut self) {
        self.0.queue.reset();
        self.0.broken = None;
    }

    /// Does what the driver has asked for, at most `budget` requests of it, and sees to it that the driver notifies when there is more.
    ///
    /// # Errors
    /// The queue is broken, and stays so until [`reset`](Self::reset).
    pub fn process<M: GuestMemory>(
        &mut self,
        mem: &M,
        device: &mut Device,
        host: &mut impl Host,
        budget: usize,
    ) -> Result<Processed, Error> {
        self.0.guarded(mem, |ring| {
            let longest = device.config().probe_size as usize + wire::TAIL;
            let mut done = Processed::default();
            loop {
                let before = done.used;
                while done.used < budget
                    && let Some(chain) = ring.next(mem)?
                {
                    let head = chain.head_index();
                    let reply = match ring.gather(mem, chain, longest) {
                        Ok(request) => {
                            device.handle_with(&request.bytes[..request.read], request.writable, host).written
                        }
                        Err(why) => {
                            done.malformed += 1;
                            done.why = done.why.or(Some(why));
                            Vec::new()
                        }
                    };
                    ring.give_back(mem, head, &reply)?;
                    done.used += 1;
                }
                done.more = ring.queue.enable_notification(mem).map_err(|_| ring.not_there())?;
                // Chains that come meanwhile are done now. One that is there and then not, as the driver's index goes to and fro, ends it too.
                if !done.more || done.used >= budget || done.used == before {
                    break;
                }
            }
            done.notify = done.used > 0 && ring.notify(mem)?;
            Ok(done)
        })
    }
}

/// The event queue, which is queue 1. Its buffers stay in the driver's ring until there is a fault to write, so that
/// the indices of the queue are all of it that there is to save.
#[derive(Debug)]
pub struct EventQueue(Ring);

impl EventQueue {
    /// A queue as the transport has set it up.
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        Self(Ring::new(queue))
    }

    /// The queue, for the transport.
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.0.queue
    }

    /// A reset of the device, or of the queue.
    pub fn reset(&mut self) {
        self.0.queue.reset();
        self.0.broken = None;
    }

    /// Writes the faults that wait in the device into the driver's buffers, one each, oldest first, as far as there are buffers. Where there
    /// are none, the driver is asked to notify of the next. To be called after [`Device::fault`], and when the driver notifies.
    ///
    /// # Errors
    /// The queue is broken, and stays so until [`reset`](Self::reset).
    pub fn report<M: GuestMemory>(&mut self, mem: &M, device: &mut Device) -> Result<Reported, Error> {
        self.0.guarded(mem, |ring| {
            let mut done = Reported::default();
            while device.faults_waiting() > 0 {
                let Some(chain) = ring.next(mem)? else {
                    done.more = ring.queue.enable_notification(mem).map_err(|_| ring.not_there())?;
                    break;
                };
                if done.unfit >= usize::from(ring.queue.size()) {
                    // Not taken: the chain is the next again.
                    ring.queue.go_to_previous_position();
                    done.more = true;
                    break;
                }
                let head = chain.head_index();
                let posted = match ring.gather(mem, chain, wire::FAULT) {
                    Ok(buffer) if buffer.read == 0 => device.event_buffer(buffer.writable),
                    _ => Posted::TooSmall,
                };
                match posted {
                    Posted::Write(report) => {
                        ring.give_back(mem, head, &report)?;
                        done.events += 1;
                    }
                    // Kept it cannot be: a fault waits.
                    Posted::TooSmall | Posted::Kept => {
                        ring.give_back(mem, head, &[])?;
                        done.unfit += 1;
                    }
                }
            }
            done.notify = done.events + done.unfit > 0 && ring.notify(mem)?;
            Ok(done)
        })
    }
}
