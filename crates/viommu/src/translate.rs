//! Translation of an endpoint's accesses, on any thread, while the guest maps.
//!
//! Each endpoint has a seat: what its accesses go by, under a mutex, and a version that moves with it. A [`Translator`] keeps a
//! copy of both and takes the mutex only when the version has moved: on ATTACH, DETACH, a change of `bypass`, a reset, and where a domain
//! has shrunk so much that its mappings move to a smaller map; not on MAP and UNMAP otherwise, which it sees through the [`Reader`] that
//! no writer blocks.
//!
//! Why no translator gives an old target after the reply to a DETACH or UNMAP: the seat, and the map, are changed in
//! [`Pending::done`](crate::Pending::done), which returns before its caller can show the reply to the guest. Whoever learns of the
//! reply and then causes an access (the guest reads the used ring, writes a doorbell, and that wakes the thread of the device model)
//! does so by acquire and release all along, or neither would see the other's data at all; so the change happens before the load of
//! the version, which cannot then read the older value, and a load that reads the new one takes the mutex and finds the new seat.
//! The same goes for the map's own state, by the contract of [`Reader::get`]. What this does not cover is a call that began
//! before the reply: a device model that translates, and copies later, has to finish its copies before the reply is given, by
//! whatever it has for stopping its own threads.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    Gpa, Iova, MemoryType,
    access::Kind,
    endpoint::{Reserved, ReservedKind},
    map::Reader,
};

/// Where an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To guest-physical memory.
    Memory {
        /// Where.
        at: Gpa,
        /// How many addresses from there on are the same mapping, less one.
        more: u64,
        /// Of which type.
        memory: MemoryType,
    },
    /// To the interrupt controller: the address lies in an MSI region.
    Msi,
}

/// Why an access goes nowhere: `reason` of a fault report (5.13.6.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The device does not know what the host's side of the endpoint is (see [`Device::needs_reset`](crate::Device::needs_reset)):
    /// VIRTIO_IOMMU_FAULT_R_UNKNOWN.
    Unknown,
    /// The endpoint is attached to no domain: VIRTIO_IOMMU_FAULT_R_DOMAIN.
    Domain,
    /// Nothing is mapped there, or it does not allow this: VIRTIO_IOMMU_FAULT_R_MAPPING.
    Mapping,
}

/// What the accesses of an endpoint go by.
#[derive(Debug, Clone)]
pub(crate) enum View {
    /// It is attached to none and not in bypass mode, or it is gone.
    Blocked,
    /// It is in bypass mode.
    Identity,
    /// It is attached to a domain that is no bypass domain.
    Domain {
        reader: Reader,
        #[expect(dead_code, reason = "the device counts who has one, to know whether the memory of the map is kept")]
        held: Arc<()>,
    },
    /// Nobody knows what the host has.
    Doubtful,
}

/// What an endpoint and its translators have in common.
#[derive(Debug)]
pub(crate) struct Seat {
    version: AtomicU64,
    view: Mutex<View>,
    reserved: Box<[Reserved]>,
}

impl Seat {
    pub(crate) fn new(view: View, reserved: &[Reserved]) -> Arc<Self> {
        Arc::new(Self { version: AtomicU64::new(0), view: Mutex::new(view), reserved: reserved.into() })
    }
    fn lock(&self) -> MutexGuard<'_, View> {
        // The view is replaced whole, so it is right whoever panicked elsewhere.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Changes it. Translators see it from their next call on.
    pub(crate) fn set(&self, view: View) {
        let mut now = self.lock();
        *now = view;
        // Under the mutex, so that a version and the view it stands for are read together.
        self.version.fetch_add(1, Ordering::Release);
    }
    pub(crate) fn translator(self: &Arc<Self>) -> Translator {
        let (version, view) = self.read();
        Translator { seat: Arc::clone(self), version, view }
    }
    fn read(&self) -> (u64, View) {
        let now = self.lock();
        (self.version.load(Ordering::Relaxed), now.clone())
    }
}

/// Translates the accesses of one endpoint. One for each thread: they are cheap to clone.
///
/// It keeps the memory of what it translates by until its next call, also if the domain is gone by then. The device counts that as
/// mappings that are still there ([`Device::held`](crate::Device::held)), so that what a guest can make it hold stays bounded.
#[derive(Debug, Clone)]
pub struct Translator {
    seat: Arc<Seat>,
    version: u64,
    view: View,
}

impl Translator {
    /// Where the access goes. Hot path: no lock is taken while the endpoint stays attached as it is.
    ///
    /// An endpoint in bypass mode has all its accesses go by the identity, also those to its RESV_MEM (5.13.6: "all accesses
    /// [...] are allowed"). Attached to a domain that translates, reads and writes of a RESERVED region fault; writes to an MSI
    /// region are messages, and reads of it fault. A mapping without VIRTIO_IOMMU_MAP_F_READ is not read, which 5.13.6.5.2 leaves open.
    ///
    /// # Errors
    /// It goes nowhere; for [`Device::fault`](crate::Device::fault).
    pub fn translate(&mut self, at: Iova, kind: Kind) -> Result<Target, Reason> {
        if self.seat.version.load(Ordering::Acquire) != self.version {
            (self.version, self.view) = self.seat.read();
        }
        match &self.view {
            View::Blocked => Err(Reason::Domain),
            View::Doubtful => Err(Reason::Unknown),
            View::Identity => Ok(Target::Memory { at: Gpa(at.0), more: u64::MAX - at.0, memory: MemoryType::Normal }),
            View::Domain { reader, .. } => match reader.get(at) {
                Some(mapping) if mapping.access.allows(kind) => {
                    let offset = at.0.wrapping_sub(mapping.at.first().0);
                    Ok(Target::Memory {
                        at: Gpa(mapping.to.0.wrapping_add(offset)),
                        more: mapping.at.last().0.wrapping_sub(at.0),
                        memory: mapping.access.memory,
                    })
                }
                Some(_) => Err(Reason::Mapping),
                // No mapping lies in RESV_MEM, so it is looked for where there is none.
                None => match (kind, self.reserved_at(at)) {
                    (Kind::Write, Some(ReservedKind::Msi)) => Ok(Target::Msi),
                    _ => Err(Reason::Mapping),
                },
            },
        }
    }
    fn reserved_at(&self, at: Iova) -> Option<ReservedKind> {
        let reserved = &self.seat.reserved;
        let next = reserved.partition_point(|region| region.at.first() <= at);
        let region = reserved.get(next.checked_sub(1)?)?;
        region.at.contains(at).then_some(region.kind)
    }
}
