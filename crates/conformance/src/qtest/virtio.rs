//! virtio over PCI (virtio 1.4, 4.1) and split virtqueues (2.7), from the driver's side.

use std::thread;
use std::time::{Duration, Instant};

use super::pci::Function;
use super::wire::{Wire, write};
use crate::device::{Broken, CANARY};

/// Capability types (4.1.4).
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

/// Offsets in the common configuration (4.1.4.3).
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const STATUS: u64 = 0x14;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
}

/// Device status (2.1).
const ACKNOWLEDGE: u64 = 1;
const DRIVER: u64 = 2;
const DRIVER_OK: u64 = 4;
const FEATURES_OK: u64 = 8;
const NEEDS_RESET: u64 = 64;

/// Feature bits of the device's own.
pub(super) const OWN: u64 = 0x00ff_ffff;
const VERSION_1: u64 = 1 << 32;
const ACCESS_PLATFORM: u64 = 1 << 33;

/// Descriptor flags (2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// When a request that was never used is given up.
const LIMIT: Duration = Duration::from_secs(5);

/// Where the parts of a device are in memory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Virtio {
    common: u64,
    notify: u64,
    multiplier: u32,
    config: u64,
}

impl Virtio {
    /// From its capabilities.
    pub(super) fn find(wire: &mut Wire, function: Function, bars: &[Option<u64>; 6]) -> Result<Self, Broken> {
        let mut found = Self::default();
        for at in function.vendor_capabilities(wire)? {
            let kind = (function.read(wire, at + 3, 1)? & 0xff) as u8;
            let bar = function.read(wire, at + 4, 1)? as usize;
            let offset = function.read(wire, at + 8, 4)?;
            let place = bars.get(bar).copied().flatten().map(|base| base + u64::from(offset));
            let Some(place) = place else { continue };
            match kind {
                COMMON => found.common = place,
                NOTIFY => {
                    found.notify = place;
                    found.multiplier = function.read(wire, at + 16, 4)?;
                }
                DEVICE => found.config = place,
                _ => {}
            }
        }
        if [found.common, found.notify, found.config].contains(&0) {
            return Err(Broken(format!("a capability of the virtio device is missing: {found:x?}")));
        }
        Ok(found)
    }

    /// All that it offers.
    pub(super) fn offered(self, wire: &mut Wire) -> Result<u64, Broken> {
        let mut half = |select: u32| {
            wire.ask(&format!("writel {:#x} {select}", self.common + common::DEVICE_FEATURE_SELECT))?;
            wire.number(&format!("readl {:#x}", self.common + common::DEVICE_FEATURE))
        };
        Ok(half(0)? | half(1)? << 32)
    }

    /// Reset: done when the status reads 0.
    pub(super) fn reset(self, wire: &mut Wire) -> Result<(), Broken> {
        wire.ask(&format!("writeb {:#x} 0", self.common + common::STATUS))?;
        let until = Instant::now() + LIMIT;
        while self.status(wire)? != 0 {
            if Instant::now() > until {
                return Err(Broken("the device is not reset: its status does not become 0".into()));
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// The driver's start (3.1.1), with both queues.
    pub(super) fn start(self, wire: &mut Wire, own: u64, queues: &mut [Queue]) -> Result<(), Broken> {
        let offered = self.offered(wire)?;
        let accept = offered & (own & OWN | VERSION_1 | ACCESS_PLATFORM);
        let status = |value: u64| format!("writeb {:#x} {value:#x}", self.common + common::STATUS);
        let mut lines = vec![status(ACKNOWLEDGE), status(ACKNOWLEDGE | DRIVER)];
        for (select, half) in [(0, accept & 0xffff_ffff), (1, accept >> 32)] {
            lines.push(format!("writel {:#x} {select}", self.common + common::DRIVER_FEATURE_SELECT));
            lines.push(format!("writel {:#x} {half:#x}", self.common + common::DRIVER_FEATURE));
        }
        lines.push(status(ACKNOWLEDGE | DRIVER | FEATURES_OK));
        wire.tell(&lines)?;
        if self.status(wire)? & FEATURES_OK == 0 {
            return Err(Broken(format!("the device takes back FEATURES_OK for features {accept:#x} of {offered:#x}")));
        }
        for (index, queue) in (0_u64..).zip(queues) {
            wire.ask(&format!("writew {:#x} {index}", self.common + common::QUEUE_SELECT))?;
            let most = wire.number(&format!("readw {:#x}", self.common + common::QUEUE_SIZE))?;
            let off = wire.number(&format!("readw {:#x}", self.common + common::QUEUE_NOTIFY_OFF))?;
            queue.clear(most, self.notify + off * u64::from(self.multiplier), index)?;
            let mut lines = vec![
                format!("memset {:#x} {:#x} 0", queue.at, Queue::BYTES),
                format!("writew {:#x} {}", self.common + common::QUEUE_SIZE, queue.size),
            ];
            let parts = [queue.at, queue.available(), queue.used()];
            for (register, part) in
                [common::QUEUE_DESC, common::QUEUE_DRIVER, common::QUEUE_DEVICE].into_iter().zip(parts)
            {
                lines.push(format!("writel {:#x} {:#x}", self.common + register, part & 0xffff_ffff));
                lines.push(format!("writel {:#x} {:#x}", self.common + register + 4, part >> 32));
            }
            lines.push(format!("writew {:#x} 1", self.common + common::QUEUE_ENABLE));
            wire.tell(&lines)?;
        }
        wire.ask(&status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)).map(drop)
    }

    fn status(self, wire: &mut Wire) -> Result<u64, Broken> {
        wire.number(&format!("readb {:#x}", self.common + common::STATUS))
    }

    /// Whether it says that it needs a reset (2.1).
    pub(super) fn whole(self, wire: &mut Wire) -> Result<(), Broken> {
        if self.status(wire)? & NEEDS_RESET != 0 {
            return Err(Broken("the device has set DEVICE_NEEDS_RESET".into()));
        }
        Ok(())
    }

    /// The accesses of the device's configuration (4.1.3.1): as wide as fields are, never wider than 32 bits.
    fn fields(self, offset: u32, bytes: usize) -> Vec<(u64, usize)> {
        let (mut at, end) = (u64::from(offset), u64::from(offset) + bytes as u64);
        let mut all = Vec::new();
        while at < end {
            // From offset 36 on the fields are bytes (5.13.4).
            let width = if at < 36 && at.is_multiple_of(4) && end - at >= 4 { 4 } else { 1 };
            all.push((self.config + at, width));
            at += width as u64;
        }
        all
    }

    pub(super) fn read_config(self, wire: &mut Wire, offset: u32, data: &mut [u8]) -> Result<(), Broken> {
        let mut rest = data;
        for (at, width) in self.fields(offset, rest.len()) {
            let value = wire.number(&format!("read{} {at:#x}", if width == 4 { 'l' } else { 'b' }))?;
            let (field, after) = rest.split_at_mut(width);
            field.copy_from_slice(&value.to_le_bytes()[..width]);
            rest = after;
        }
        Ok(())
    }

    pub(super) fn write_config(self, wire: &mut Wire, offset: u32, data: &[u8]) -> Result<(), Broken> {
        let mut rest = data;
        for (at, width) in self.fields(offset, rest.len()) {
            let (field, after) = rest.split_at(width);
            let value = field.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
            wire.ask(&format!("write{} {at:#x} {value:#x}", if width == 4 { 'l' } else { 'b' }))?;
            rest = after;
        }
        Ok(())
    }
}

/// A split virtqueue in guest memory.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    at: u64,
    size: u16,
    notify: String,
    /// The index of the next entry of either ring.
    put: u16,
    taken: u16,
    /// Descriptors in use: where the buffer is, and how long.
    given: Vec<Option<(u64, usize)>>,
}

/// A buffer that was used: the used length, and all of what is writable in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) length: u32,
    pub(super) buffer: Vec<u8>,
}

impl Queue {
    /// The most descriptors that are used.
    pub(super) const MOST: u16 = 256;
    /// Three pages: descriptors, available ring, used ring.
    const BYTES: u64 = 0x3000;

    /// A queue at that place, which is aligned to a page.
    pub(super) const fn at(at: u64) -> Self {
        Self { at, size: 0, notify: String::new(), put: 0, taken: 0, given: Vec::new() }
    }

    fn clear(&mut self, most: u64, notify: u64, index: u64) -> Result<(), Broken> {
        self.size = u16::try_from(most).unwrap_or(Self::MOST).min(Self::MOST);
        if self.size < 2 {
            return Err(Broken(format!("queue {index} has {most} entries")));
        }
        self.notify = format!("writew {notify:#x} {index}");
        (self.put, self.taken) = (0, 0);
        self.given = vec![None; usize::from(self.size)];
        Ok(())
    }

    const fn available(&self) -> u64 {
        self.at + 0x1000
    }

    const fn used(&self) -> u64 {
        self.at + 0x2000
    }

    /// Puts a chain on the queue: what is readable, then what is writable; a part of no bytes is left out. The first descriptor is
    /// that of the `slot`, the second the one after it.
    pub(super) fn put(
        &mut self,
        wire: &mut Wire,
        slot: u16,
        readable: Option<(u64, &[u8])>,
        writable: Option<(u64, usize)>,
    ) -> Result<(), Broken> {
        let mut lines = Vec::new();
        let mut table = Vec::new();
        if let Some((at, data)) = readable {
            wire.write(at, data)?;
            table.extend(descriptor(at, data.len(), if writable.is_some() { NEXT } else { 0 }, slot + 1));
        }
        if let Some((at, bytes)) = writable {
            lines.push(format!("memset {at:#x} {bytes:#x} {CANARY:#x}"));
            table.extend(descriptor(at, bytes, WRITE, 0));
        }
        lines.push(write(self.at + 16 * u64::from(slot), &table));
        let entry = self.available() + 4 + 2 * u64::from(self.put % self.size);
        lines.push(write(entry, &slot.to_le_bytes()));
        self.put = self.put.wrapping_add(1);
        lines.push(write(self.available() + 2, &self.put.to_le_bytes()));
        lines.push(self.notify.clone());
        self.given[usize::from(slot)] = Some(writable.unwrap_or((0, 0)));
        wire.tell(&lines)
    }

    /// A slot that is not in use, of those of one descriptor.
    pub(super) fn free(&self) -> Option<u16> {
        let index = self.given.iter().position(Option::is_none)?;
        u16::try_from(index).ok()
    }

    /// The next buffer that was used, if there is one.
    pub(super) fn take(&mut self, wire: &mut Wire) -> Result<Option<Used>, Broken> {
        let index = wire.read(self.used() + 2, 2)?;
        if u16::from_le_bytes([index[0], index[1]]) == self.taken {
            return Ok(None);
        }
        let entry = wire.read(self.used() + 4 + 8 * u64::from(self.taken % self.size), 8)?;
        self.taken = self.taken.wrapping_add(1);
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let given = usize::try_from(word(0)).ok().and_then(|slot| self.given.get_mut(slot)).and_then(Option::take);
        let (at, bytes) = given.ok_or_else(|| Broken(format!("used: descriptor {}, which was not given", word(0))))?;
        let buffer = if bytes == 0 { Vec::new() } else { wire.read(at, bytes)? };
        Ok(Some(Used { length: word(4), buffer }))
    }

    /// Waits for it.
    pub(super) fn wait(&mut self, wire: &mut Wire, of: Virtio) -> Result<Used, Broken> {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(used) = self.take(wire)? {
                return Ok(used);
            }
            of.whole(wire)?;
            if Instant::now() > until {
                return Err(Broken(format!("the request was not used within {} s", LIMIT.as_secs())));
            }
            thread::yield_now();
        }
    }
}

fn descriptor(at: u64, bytes: usize, flags: u16, next: u16) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&at.to_le_bytes());
    out[8..12].copy_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes());
    out[12..14].copy_from_slice(&flags.to_le_bytes());
    out[14..].copy_from_slice(&next.to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_sixteen_bytes() {
        let is = descriptor(0x1122_3344, 20, NEXT, 1);
        assert_eq!(is, [0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn the_configuration_is_accessed_as_wide_as_its_fields() {
        let it = Virtio { config: 0x1000, ..Virtio::default() };
        assert_eq!(it.fields(0, 8), [(0x1000, 4), (0x1004, 4)]);
        assert_eq!(it.fields(36, 4), [(0x1024, 1), (0x1025, 1), (0x1026, 1), (0x1027, 1)]);
        assert_eq!(it.fields(34, 3), [(0x1022, 1), (0x1023, 1), (0x1024, 1)]);
        assert_eq!(it.fields(0, 0), []);
    }
}
