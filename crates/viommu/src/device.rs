//! The device.

use crate::{
    Effect, Endpoint, EndpointId, Host, HostError, Interval, Translator,
    coherency::Spaces,
    effect::DomainId,
    limits::Limits,
    wire::Features,
};

/// How a device treats endpoints that are attached to no domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bypass {
    /// They are blocked: neither VIRTIO_IOMMU_F_BYPASS nor VIRTIO_IOMMU_F_BYPASS_CONFIG is offered.
    #[default]
    Never,
    /// VIRTIO_IOMMU_F_BYPASS, which is superseded: in bypass mode if the driver takes the feature.
    Legacy,
    /// VIRTIO_IOMMU_F_BYPASS_CONFIG.
    Config {
        /// The field `bypass` of the configuration after a system reset.
        initially: bool,
    },
}

/// What a device is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `page_size_mask`; at least one bit, the lowest is the granule.
    pub page_size_mask: u64,
    /// `input_range`; the whole of 2^64 is VIRTIO_IOMMU_F_INPUT_RANGE not offered.
    pub input_range: Interval,
    /// `domain_range`, both ends included; all of 32 bits is VIRTIO_IOMMU_F_DOMAIN_RANGE not offered.
    pub domain_range: (DomainId, DomainId),
    /// VIRTIO_IOMMU_F_PROBE and `probe_size`; 0 is not offered.
    pub probe_size: u32,
    /// VIRTIO_IOMMU_F_MMIO.
    pub mmio: bool,
    /// VIRTIO_IOMMU_F_BYPASS and VIRTIO_IOMMU_F_BYPASS_CONFIG.
    pub bypass: Bypass,
    /// VIRTIO_IOMMU_F_COHERENCY, which is a proposal (docs/virtio-iommu-coherency.md) and off by default.
    pub coherency: bool,
    /// What the host's side of a domain can hold together.
    pub spaces: Spaces,
    /// Whether the virtqueues are coherent memory, as the transport's description tells the guest. Others are refused (thread 004, case D).
    pub coherent_virtqueues: bool,
    /// Limits.
    pub limits: Limits,
}

/// Why there is no such device, or no such endpoint of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// `page_size_mask` has no bit (5.13.4.2).
    #[error("page_size_mask is 0; one bit at least says the granule")]
    NoGranule,
}

/// What goes back to the driver: what is written into the device-writable part from its beginning, whose length is the used length.
/// Nothing written, used length 0: the request was not understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The bytes.
    pub written: Vec<u8>,
}

/// The device. Changes nothing but itself; see [`Effect`].
#[derive(Debug)]
pub struct Device {}

/// A request that has been looked at and not been done: the host does the effects, then [`done`](Self::done) or
/// [`failed`](Self::failed). Dropped, nothing has happened.
#[derive(Debug)]
#[must_use]
pub struct Pending<'a> {
    device: &'a mut Device,
}

/// What follows from an effect that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// For the driver.
    pub reply: Reply,
    /// What takes back the effects that were done, in the order to be done.
    pub undo: Vec<Effect>,
}

impl Pending<'_> {
    /// What the host has to do, in order.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        let _ = &self.device;
        todo!()
    }
    /// They are done.
    #[must_use]
    pub fn done(self) -> Reply {
        todo!()
    }
    /// The first `applied` are done, and the next failed.
    #[must_use]
    pub fn failed(self, applied: usize, why: HostError) -> Failed {
        let _ = (applied, why);
        todo!()
    }
}

impl Device {
    /// A device after a system reset, without endpoints.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: Config) -> Result<Self, Wrong> {
        let _ = config;
        todo!()
    }
    /// An endpoint more: plugged in. The effect says where its accesses go.
    ///
    /// # Errors
    /// It is there already, or its properties do not fit.
    pub fn add_endpoint(&mut self, endpoint: Endpoint) -> Result<Vec<Effect>, Wrong> {
        let _ = endpoint;
        todo!()
    }
    /// An endpoint less: unplugged.
    pub fn remove_endpoint(&mut self, endpoint: EndpointId) -> Vec<Effect> {
        let _ = endpoint;
        todo!()
    }
    /// What it offers (5.13.3).
    #[must_use]
    pub fn features(&self) -> Features {
        todo!()
    }
    /// What the driver took, when it set FEATURES_OK.
    ///
    /// # Errors
    /// Some of it was not offered.
    pub fn accept(&mut self, features: Features) -> Result<Vec<Effect>, Wrong> {
        let _ = features;
        todo!()
    }
    /// Reads of the configuration (5.13.4); beyond its end there are zeroes.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) {
        let _ = (offset, data);
        todo!()
    }
    /// A write to the configuration; what may not be written is not.
    pub fn write_config(&mut self, offset: u64, data: &[u8]) -> Vec<Effect> {
        let _ = (offset, data);
        todo!()
    }
    /// A request: its device-readable bytes, and how many are device-writable. Nothing has changed until [`Pending::done`].
    pub fn handle(&mut self, readable: &[u8], writable: usize) -> Pending<'_> {
        let _ = (readable, writable);
        todo!()
    }
    /// [`handle`](Self::handle), with a host that does the effects and takes them back where one fails.
    pub fn handle_with(&mut self, readable: &[u8], writable: usize, host: &mut impl Host) -> Reply {
        let _ = (readable, writable, host);
        todo!()
    }
    /// A reset of the device, by the driver (5.13.5): no endpoint is attached; `bypass` stays.
    pub fn reset(&mut self) -> Vec<Effect> {
        todo!()
    }
    /// A reset of the system: as above, and `bypass` is as at first.
    pub fn system_reset(&mut self) -> Vec<Effect> {
        todo!()
    }
    /// What translates the accesses of an endpoint, on any thread.
    #[must_use]
    pub fn translator(&self, endpoint: EndpointId) -> Option<Translator> {
        let _ = endpoint;
        todo!()
    }
}
