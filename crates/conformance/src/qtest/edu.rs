//! QEMU's `edu` (docs/specs/edu.rst): a device that copies between memory and its own buffer.

use std::thread;
use std::time::{Duration, Instant};

use super::pci::Function;
use super::wire::Wire;
use crate::device::Broken;

/// Its registers.
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const RUN: u64 = 0x98;
/// Where its buffer is, to itself, and how long it is.
const BUFFER: u64 = 0x4_0000;
pub(super) const BYTES: usize = 4096;
/// It copies 100 ms after it was told to: of virtual time, which passes at once where no CPU runs.
const LIMIT: Duration = Duration::from_secs(5);

/// One, behind a root port of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edu {
    pub(super) registers: u64,
    pub(super) port: Function,
    /// The number of its bus, and the other one.
    pub(super) bus: u8,
    pub(super) aside: u8,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// From memory.
    In,
    /// To memory.
    Out,
}

impl Edu {
    /// Copies between an I/O address and the buffer, as the endpoint that the suite knows.
    pub(super) fn copy(self, wire: &mut Wire, which: Copy, iova: u64, bytes: usize) -> Result<(), Broken> {
        let (source, destination, run) = match which {
            Copy::In => (iova, BUFFER, 1),
            Copy::Out => (BUFFER, iova, 3),
        };
        let write = |register: u64, value: u64| format!("writeq {:#x} {value:#x}", self.registers + register);
        wire.tell(&[
            write(SOURCE, source),
            write(DESTINATION, destination),
            write(COUNT, bytes as u64),
            write(RUN, run),
        ])?;
        let until = Instant::now() + LIMIT;
        while wire.number(&format!("readq {:#x}", self.registers + RUN))? & 1 != 0 {
            if Instant::now() > until {
                return Err(Broken(format!("the edu has not copied within {} s", LIMIT.as_secs())));
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// Copies as the endpoint aside.
    pub(super) fn aside(self, wire: &mut Wire, which: Copy, at: u64, bytes: usize) -> Result<(), Broken> {
        wire.tell(&self.port.renumber(self.aside))?;
        self.copy(wire, which, at, bytes)?;
        wire.tell(&self.port.renumber(self.bus))
    }
}
