//! SMMU_GBPA: what all streams get while the SMMU is off (IHI 0070 6.3.14, 13.2).

use super::Override;

/// SMMU_GBPA. Its overrides count where those of the STE would: [`Platform`](super::Platform).
///
/// ```
/// use memtype::smmu::{Gbpa, Platform, Stream, transform};
///
/// // As it comes in: shareability 0b01, no type.
/// let gbpa = Gbpa(0b01 << 12);
/// assert!(!gbpa.aborts());
/// let stream = Stream { overrides: gbpa.overrides(), ..Stream::PCIE };
/// assert!(transform(&stream, Platform::SBSA).is_coherent());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gbpa(pub u32);

impl Gbpa {
    /// ABORT, bit 20: transactions are aborted, and do not bypass.
    #[must_use]
    pub const fn aborts(self) -> bool {
        self.0 & 1 << 20 != 0
    }
    /// MTCFG (bit 4), MemAttr (3:0) and SHCFG (13:12).
    #[must_use]
    pub const fn overrides(self) -> Override {
        let memattr = if self.0 & 1 << 4 != 0 { Some((self.0 & 0xf) as u8) } else { None };
        Override { memattr, shcfg: (self.0 >> 12 & 3) as u8 }
    }
    /// ALLOCCFG, bits 11:8: 0b0xxx as they come in, 0b1RWT Read-Allocate, Write-Allocate, Transient.
    #[must_use]
    pub const fn alloccfg(self) -> u8 {
        (self.0 >> 8 & 0xf) as u8
    }
}
