//! What can be put under the suite.

use std::ops::RangeInclusive;

/// What a device answered: the bytes at the beginning of the device-writable part, as many as the used length says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The used length.
    pub used: u32,
    /// The whole device-writable part after the request, of which the driver had filled every byte with [`CANARY`]
    /// before: what the device wrote, and what it did not.
    pub buffer: Vec<u8>,
}

/// What every device-writable byte is before a request.
pub const CANARY: u8 = 0xa5;

/// What is around a device: constant as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Endpoints that exist and that the suite may use: two at least. The first is the one whose DMA is used.
    pub endpoints: Vec<u32>,
    /// An endpoint that does not exist.
    pub absent: u32,
    /// Guest-physical memory that the suite may write and read: 1 MiB at least, aligned to 64 KiB.
    pub ram: RangeInclusive<u64>,
}

/// What can be seen of a device. A clause that needs what cannot is reported as not shown, never as passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Can {
    /// Endpoints of it do DMA: [`Device::dma_read`], [`Device::dma_write`].
    pub dma: bool,
    /// [`Device::event_buffer`], [`Device::events`].
    pub events: bool,
    /// [`Device::fresh`] is a reset of the whole system, so that what survives a mere reset of the device can be told apart.
    pub system_reset: bool,
}

/// How a device is begun with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fresh {
    /// The device's own feature bits that the driver takes, of those offered: a mask.
    pub accept: u64,
}

/// The device cannot be gone on with: it has died, or set DEVICE_NEEDS_RESET, or its transport has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// A device under the suite.
pub trait Device {
    /// What it is, for the report: name and version.
    fn name(&self) -> String;
    /// What is around it.
    fn setup(&self) -> &Setup;
    /// What can be seen of it.
    fn can(&self) -> Can;
    /// Whether this endpoint does DMA. The first one does if any can; a device that has more that do says so, which
    /// shows what two endpoints have in common and what they do not.
    fn does_dma(&self, endpoint: u32) -> bool {
        self.can().dma && self.setup().endpoints.first() == Some(&endpoint)
    }
    /// A reset of the system, then the driver's start with the features `offered() & accept`. Guest memory of [`Setup::ram`] is zeroes after it.
    ///
    /// # Errors
    /// It did not start.
    fn fresh(&mut self, how: Fresh) -> Result<(), Broken>;
    /// A reset of the device by its driver (status 0), then the driver's start as in [`fresh`](Self::fresh).
    ///
    /// # Errors
    /// It did not start.
    fn reset(&mut self, how: Fresh) -> Result<(), Broken>;
    /// The device's own feature bits that it offers (bits 0 to 23).
    fn offered(&mut self) -> u64;
    /// Reads the device's configuration.
    fn read_config(&mut self, offset: u32, data: &mut [u8]);
    /// Writes it.
    fn write_config(&mut self, offset: u32, data: &[u8]);
    /// Puts one request on the request queue and waits for it to be used.
    ///
    /// # Errors
    /// It was never used, or the device is broken.
    fn handle(&mut self, readable: &[u8], writable: usize) -> Result<Reply, Broken>;
    /// Gives the event queue a buffer of so many bytes, filled with [`CANARY`].
    ///
    /// # Errors
    /// It cannot.
    fn event_buffer(&mut self, bytes: usize) -> Result<(), Broken>;
    /// The event buffers used since: as of a request.
    ///
    /// # Errors
    /// The device is broken.
    fn events(&mut self) -> Result<Vec<Reply>, Broken>;
    /// The endpoint writes. What got through shows in memory.
    ///
    /// # Errors
    /// The device is broken; a refused access is no error.
    fn dma_write(&mut self, endpoint: u32, iova: u64, data: &[u8]) -> Result<(), Broken>;
    /// The endpoint reads; what it has after that, in a buffer that was all [`CANARY`] before. Bytes it was refused are anything but what is
    /// in memory there.
    ///
    /// # Errors
    /// The device is broken; a refused access is no error.
    fn dma_read(&mut self, endpoint: u32, iova: u64, bytes: usize) -> Result<Vec<u8>, Broken>;
    /// Writes guest memory, as a CPU.
    ///
    /// # Errors
    /// It cannot.
    fn ram_write(&mut self, at: u64, data: &[u8]) -> Result<(), Broken>;
    /// Reads guest memory, as a CPU.
    ///
    /// # Errors
    /// It cannot.
    fn ram_read(&mut self, at: u64, bytes: usize) -> Result<Vec<u8>, Broken>;
}
