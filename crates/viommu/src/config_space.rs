//! The PCI configuration space of an assigned function, as far as coherency is concerned: Enable No Snoop.
//!
//! Bit 11 of the PCIe Device Control register lets a function set the No Snoop attribute on its accesses. Where the attribute counts and the
//! guest does not maintain caches, such accesses go past what the caches hold (thread 004, case C; `memtype::iommu` says which IOMMU takes
//! the attribute off). Linux' vfio-pci lets the guest's writes of the register through, but for a few other bits (7.2, `init_pci_cap_exp_perm`
//! in drivers/vfio/pci/vfio_pci_config.c), so that a VMM has to keep the bit clear. It is 1 after a reset where a function
//! has it (PCI Express Base Specification, Device Control; not verified here), so that it has to be cleared too, and after each reset again
//! ([`DeviceControl::at_start`]).
//!
//! A guest that reads the bit as 0 whatever it writes sees a function that never sets No Snoop, of which PCIe lets the bit be
//! hardwired to 0 (same place, not verified here). A virtual function of SR-IOV has no such bit: that of its physical function
//! counts, which the host keeps (Single Root I/O Virtualization, Device Control of VFs; not verified here).
//!
//! ```
//! use viommu::config_space::{BIT, DeviceControl};
//!
//! let mut image = [0; 256];
//! image[0x06] = 1 << 4; // Status: there are capabilities
//! image[0x34] = 0x40;
//! image[0x40] = 0x10; // PCI Express
//! let control = DeviceControl::find(&image).unwrap().unwrap();
//! assert_eq!((control.at(), control.at_start(0x2810)), (0x48, Some(0x2010)));
//! let mut write = 0x2810u32.to_le_bytes();
//! control.keep_clear(0x48, &mut write);
//! assert_eq!(u32::from_le_bytes(write), 0x2010);
//! ```

use crate::coherency::NoSnoop;

/// Enable No Snoop, bit 11 of the Device Control register.
pub const BIT: u16 = 1 << 11;

/// Bytes of the PCI-compatible configuration space, in which the list of capabilities lies.
const SPACE: usize = 256;
/// Bytes of the header, in which no capability lies.
const HEADER: usize = 64;
/// Status, bit 4: there is a list of capabilities.
const STATUS: usize = 0x06;
/// Header type; bit 7 is another matter (several functions).
const HEADER_TYPE: usize = 0x0e;
/// Where the list begins, of types 0 and 1.
const FIRST: usize = 0x34;
/// The PCI Express capability.
const PCI_EXPRESS: u8 = 0x10;
/// Device Control, from the capability's first byte.
const DEVICE_CONTROL: usize = 8;

/// Where a function's Device Control register is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceControl {
    at: u16,
}

/// Why an image of a configuration space has no list of capabilities that can be walked. The values are the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not reach as far as the list does.
    #[error("the image has {len} bytes, and offset {at:#x} is needed")]
    Short {
        /// Bytes there are.
        len: usize,
        /// The last byte that is needed.
        at: usize,
    },
    /// Nothing answers: every read is all ones.
    #[error("vendor and device are {0:#06x}: no function answers")]
    NoFunction(u16),
    /// A header whose list begins elsewhere, CardBus (2), or one that is not known.
    #[error("a header of type {0}: capabilities are looked for in types 0 and 1")]
    HeaderType(u8),
    /// A pointer into the header.
    #[error("a capability at {at:#x}, within the header")]
    InHeader {
        /// Where it points.
        at: usize,
    },
    /// The PCI Express capability does not fit.
    #[error("a PCI Express capability at {at:#x}, whose Device Control register would lie beyond {SPACE} bytes")]
    Beyond {
        /// Where it points.
        at: usize,
    },
    /// More links than there is room for capabilities.
    #[error("the list of capabilities is a loop: {at:#x} comes again")]
    Loop {
        /// The capability that comes a second time.
        at: usize,
    },
}

impl DeviceControl {
    /// Looks for the register in an image of a configuration space, of which the first 256 bytes matter. Nothing if the function
    /// has no PCI Express capability. The image may be anything: every pointer is looked at once.
    ///
    /// # Errors
    /// [`Malformed`]; there may be a register then, so that a VMM should not give the function away.
    pub fn find(image: &[u8]) -> Result<Option<Self>, Malformed> {
        let byte = |at: usize| image.get(at).copied().ok_or(Malformed::Short { len: image.len(), at });
        let word = |at: usize| Ok(u16::from_le_bytes([byte(at)?, byte(at + 1)?]));
        let vendor = word(0)?;
        if vendor == 0xffff && word(2)? == 0xffff && word(STATUS)? == 0xffff {
            return Err(Malformed::NoFunction(vendor));
        }
        if word(STATUS)? & 1 << 4 == 0 {
            return Ok(None);
        }
        let kind = byte(HEADER_TYPE)? & 0x7f;
        if kind > 1 {
            return Err(Malformed::HeaderType(kind));
        }
        // Pointers are of whole doublewords: a bit for each.
        let mut seen = 0u64;
        // The two lowest bits of a pointer are reserved, and to be masked off.
        let mut at = usize::from(byte(FIRST)? & !3);
        while at != 0 {
            if at < HEADER {
                return Err(Malformed::InHeader { at });
            }
            if seen & 1 << (at / 4) != 0 {
                return Err(Malformed::Loop { at });
            }
            seen |= 1 << (at / 4);
            if byte(at)? == PCI_EXPRESS {
                let register = at + DEVICE_CONTROL;
                if register + 2 > SPACE {
                    return Err(Malformed::Beyond { at });
                }
                word(register)?;
                return Ok(u16::try_from(register).ok().map(|at| Self { at }));
            }
            at = usize::from(byte(at + 1)? & !3);
        }
        Ok(None)
    }

    /// The offset of the register, of 16 bits.
    #[must_use]
    pub const fn at(self) -> u16 {
        self.at
    }

    /// What to write to the register before the function is given to a guest, and after each reset that does not restore it; nothing if
    /// there is nothing to do. `now` is what it holds. The bits that a write of 1 does something to are not in this register
    /// (Device Status, beside it, has those: write 16 bits and no more), but for Initiate Function Level Reset, bit 15, which
    /// reads as 0; it is written as 0.
    #[must_use]
    pub const fn at_start(self, now: u16) -> Option<u16> {
        if now & BIT == 0 { None } else { Some(now & !BIT & !(1 << 15)) }
    }

    /// Takes the bit out of the bytes of an access at `offset`, of any size and alignment: before a write reaches the function, and
    /// after a read, before the guest has its result. The guest reads 0 of what it wrote as 1.
    pub fn keep_clear(self, offset: u64, data: &mut [u8]) {
        let [low, high] = BIT.to_le_bytes();
        for (within, mask) in [(0, low), (1, high)] {
            let there = (u64::from(self.at) + within).checked_sub(offset).and_then(|i| usize::try_from(i).ok());
            if let Some(byte) = there.and_then(|i| data.get_mut(i)) {
                *byte &= !mask;
            }
        }
    }
}

/// What the guest does about accesses with No Snoop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guest {
    /// Nothing: it was not told that the attribute counts, or its cache maintenance does not reach memory.
    Unaware,
    /// It has its buffers uncached or maintains the caches, and that has an effect. So on x86, where KVM was told of the device by its VFIO
    /// device and lets the guest's PAT and WBINVD count (Linux `kvm_vfio_update_coherency`); or where the guest took VIRTIO_IOMMU_F_COHERENCY.
    Maintains,
}

/// A row of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// What becomes of the attribute.
    pub no_snoop: NoSnoop,
    /// What the guest does about it.
    pub guest: Guest,
    /// Enable No Snoop is kept clear.
    pub mask: bool,
    /// Why.
    pub why: &'static str,
}

/// When Enable No Snoop has to be kept clear: what is not known counts as what does harm.
pub const RULES: [Rule; 6] = [
    Rule {
        no_snoop: NoSnoop::Enforced,
        guest: Guest::Unaware,
        mask: false,
        why: "the attribute is taken off, or has no effect",
    },
    Rule {
        no_snoop: NoSnoop::Enforced,
        guest: Guest::Maintains,
        mask: false,
        why: "the attribute is taken off, or has no effect",
    },
    Rule {
        no_snoop: NoSnoop::Allowed,
        guest: Guest::Unaware,
        mask: true,
        why: "the attribute counts, and the guest maintains no caches for it",
    },
    Rule {
        no_snoop: NoSnoop::Allowed,
        guest: Guest::Maintains,
        mask: false,
        why: "the attribute counts, and the guest maintains caches for it",
    },
    Rule {
        no_snoop: NoSnoop::Unknown,
        guest: Guest::Unaware,
        mask: true,
        why: "the attribute may count, and the guest maintains no caches for it",
    },
    Rule {
        no_snoop: NoSnoop::Unknown,
        guest: Guest::Maintains,
        mask: false,
        why: "the attribute may count, and the guest maintains caches for it",
    },
];

/// The row of [`RULES`].
#[must_use]
pub fn rule(no_snoop: NoSnoop, guest: Guest) -> Rule {
    let unknown = Rule { no_snoop, guest, mask: true, why: "nothing is known" };
    RULES.into_iter().find(|r| (r.no_snoop, r.guest) == (no_snoop, guest)).unwrap_or(unknown)
}

/// Whether Enable No Snoop has to be kept clear.
#[must_use]
pub fn mask(no_snoop: NoSnoop, guest: Guest) -> bool {
    rule(no_snoop, guest).mask
}
