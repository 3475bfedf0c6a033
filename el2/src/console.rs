//! PL011, polled: what is written goes to the host.
#![expect(unsafe_code, reason = "a device's registers")]

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

/// Where its registers are; 0 until the device tree said so.
static BASE: AtomicU64 = AtomicU64::new(0);
/// UARTDR.
const DATA: u64 = 0x00;
/// UARTFR; bit 5: the transmit FIFO is full, bit 3: busy.
const FLAGS: u64 = 0x18;

/// Writes to the console found by [`found`]; where there is none, to nowhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console;

/// There is a PL011 whose registers begin here, and nobody else uses it.
pub(crate) fn found(base: u64) {
    BASE.store(base, Ordering::Relaxed);
}

impl Console {
    /// Writes bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) {
        let base = BASE.load(Ordering::Relaxed);
        if base == 0 {
            return;
        }
        for byte in bytes {
            // SAFETY: the registers of the PL011 that the device tree names, mapped as Device memory; nothing else is there.
            unsafe {
                while core::ptr::read_volatile((base + FLAGS) as *const u32) & 1 << 5 != 0 {}
                core::ptr::write_volatile((base + DATA) as *mut u32, u32::from(*byte));
            }
        }
    }

    /// Waits until everything left.
    pub(crate) fn flush(self) {
        let base = BASE.load(Ordering::Relaxed);
        // SAFETY: as above.
        while base != 0 && unsafe { core::ptr::read_volatile((base + FLAGS) as *const u32) } & 1 << 3 != 0 {}
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        Ok(())
    }
}
