//! Devices that are known to take a read without harm, each with the reason. Of any other nothing is read unless somebody says so.

/// A device, or a class of devices, and where reading it does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Harmless {
    /// Vendor and device.
    pub id: Option<(u16, u16)>,
    /// Base class and subclass.
    pub class: Option<u16>,
    /// Which BAR.
    pub bar: u8,
    /// The first byte.
    pub first: u64,
    /// How many bytes from there; nothing: to its end.
    pub len: Option<u64>,
    /// What it is, and who says so.
    pub why: &'static str,
}

/// All that are known.
pub const HARMLESS: &[Harmless] = &[
    Harmless {
        id: Some((0x1af4, 0x1110)),
        class: None,
        bar: 2,
        first: 0,
        len: None,
        why: "shared memory (QEMU docs/specs/ivshmem-spec.rst)",
    },
    Harmless {
        id: Some((0x1234, 0x11e8)),
        class: None,
        bar: 0,
        first: 0,
        len: Some(12),
        why: "identification, liveness check, factorial: a read has no effect (QEMU docs/specs/edu.rst)",
    },
    Harmless {
        id: Some((0x1234, 0x1111)),
        class: None,
        bar: 0,
        first: 0,
        len: None,
        why: "the frame buffer (QEMU docs/specs/standard-vga.rst)",
    },
    Harmless {
        id: None,
        class: Some(0x0108),
        bar: 0,
        first: 0,
        len: Some(12),
        why: "CAP and VS, read-only (NVM Express Base Specification, Controller Properties)",
    },
];

/// The reason why reading `len` bytes of a BAR at an offset does no harm, if one is known. `class` has 24 bits, as in configuration
/// space.
#[must_use]
pub fn harmless(id: (u16, u16), class: u32, bar: u8, offset: u64, len: u64) -> Option<&'static Harmless> {
    HARMLESS.iter().find(|it| {
        it.id.is_none_or(|i| i == id)
            && it.class.is_none_or(|c| u32::from(c) == class >> 8)
            && it.bar == bar
            && offset.checked_sub(it.first).is_some_and(|o| it.len.is_none_or(|most| o.saturating_add(len) <= most))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_and_unknown() {
        let known = |id, class, bar, offset| harmless(id, class, bar, offset, 9).is_some();
        assert!(known((0x1af4, 0x1110), 0x05_0000, 2, 1 << 30));
        assert!(!known((0x1af4, 0x1110), 0x05_0000, 0, 0));
        assert!(known((0x1234, 0x11e8), 0x00_ff00, 0, 0));
        // The interrupt status is beside the start of a DMA.
        assert!(!known((0x1234, 0x11e8), 0x00_ff00, 0, 0x24));
        assert!(known((0x144d, 0xa80a), 0x01_0802, 0, 0));
        assert!(!known((0x144d, 0xa80a), 0x01_0802, 0, 8));
        assert!(!known((0x144d, 0xa80a), 0x01_0802, 0, u64::MAX));
        assert!(!known((0x10de, 0x2684), 0x03_0000, 1, 0));
    }

    /// No entry is for everything.
    #[test]
    fn each_names_a_device() {
        assert!(HARMLESS.iter().all(|it| it.id.is_some() || it.class.is_some()));
    }
}
