//! Faults, on their way to the event queue (5.13.6.9). They wait in the device until the caller has a buffer of the driver's, which stays
//! in the virtqueue until then.

use std::collections::VecDeque;

use crate::{EndpointId, Iova, access::Kind, translate::Reason, wire::FAULT};

/// An access that went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FaultReport {
    /// Why.
    pub reason: Reason,
    /// Whose access it was.
    pub endpoint: EndpointId,
    /// What it was, where known: VIRTIO_IOMMU_FAULT_F_READ, VIRTIO_IOMMU_FAULT_F_WRITE.
    pub access: Option<Kind>,
    /// At which address, where known: VIRTIO_IOMMU_FAULT_F_ADDRESS.
    pub address: Option<Iova>,
}

/// What became of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// It waits for a buffer: [`Device::event_buffer`](crate::Device::event_buffer).
    Waits,
    /// It is lost, and counted: as many wait as [`Limits::events`](crate::limits::Limits::events) allows (5.13.6.9: "or drop the event"),
    /// or there is no such endpoint (5.13.6.9.2).
    Dropped,
}

/// What becomes of a buffer of the event queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Posted {
    /// These bytes, of the oldest fault that waited, go into it, and it is used with their length.
    Write([u8; FAULT]),
    /// No fault waits. It is kept for the next: the caller comes again with it, or leaves it in the virtqueue so long.
    Kept,
    /// It is too small for a report. A report does not go into several buffers (5.13.6.9.2), and there is no older format: it is
    /// used with length 0, so that the driver has it back. No fault is lost by it.
    TooSmall,
}

/// The faults that wait for buffers.
#[derive(Debug, Default)]
pub(crate) struct Events {
    waiting: VecDeque<FaultReport>,
}

impl Events {
    pub(crate) fn raise(&mut self, report: FaultReport, limit: usize) -> Raised {
        if self.waiting.len() < limit {
            self.waiting.push_back(report);
            Raised::Waits
        } else {
            Raised::Dropped
        }
    }
    pub(crate) fn buffer(&mut self, bytes: usize) -> Posted {
        if bytes < FAULT {
            return Posted::TooSmall;
        }
        self.waiting.pop_front().map_or(Posted::Kept, |report| Posted::Write(report.bytes()))
    }
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FaultReport> {
        self.waiting.iter()
    }
    /// Drops what waits of an endpoint that is gone, and says how many those were.
    pub(crate) fn forget(&mut self, endpoint: EndpointId) -> u64 {
        let before = self.waiting.len();
        self.waiting.retain(|report| report.endpoint != endpoint);
        (before - self.waiting.len()) as u64
    }
}
