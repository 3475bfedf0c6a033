//! The stream table entry: 64 bytes of configuration for each device (IHI 0070 5.2).

use super::Override;

/// STE.Config: what happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Config {
    /// 0b0xx: transactions are aborted, without an event.
    Abort,
    /// 0b100: no translation.
    Bypass,
    /// 0b101.
    Stage1,
    /// 0b110.
    Stage2,
    /// 0b111: nested.
    Both,
}

/// A stream table entry: eight doublewords, the lowest first. Every bit pattern is one.
///
/// ```
/// use memtype::smmu::{Config, Ste};
///
/// // Stage 2 with S2FWB, shareability as it comes in.
/// let ste = Ste([0b110 << 1 | 1, 1 << 25 | 0b01 << 44, 0, 0, 0, 0, 0, 0]);
/// assert!(ste.is_valid() && ste.s2fwb());
/// assert_eq!((ste.config(), ste.overrides().shcfg), (Config::Stage2, 0b01));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ste(pub [u64; 8]);

impl Ste {
    /// The field from bit `low` of the 512, of `width` bits (1 to 64), within one doubleword.
    #[must_use]
    #[inline]
    pub const fn field(&self, low: u32, width: u32) -> u64 {
        let word = self.0[(low / 64 % 8) as usize] >> (low % 64);
        if width >= 64 { word } else { word & ((1 << width) - 1) }
    }
    /// V, bit 0.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.field(0, 1) != 0
    }
    /// Config, bits 3:1.
    #[must_use]
    pub const fn config(&self) -> Config {
        match self.field(1, 3) {
            0b100 => Config::Bypass,
            0b101 => Config::Stage1,
            0b110 => Config::Stage2,
            0b111 => Config::Both,
            _ => Config::Abort,
        }
    }
    /// S2FWB, bit 89. RES0 before SMMUv3.2; counts where stage 2 translates.
    #[must_use]
    pub const fn s2fwb(&self) -> bool {
        self.field(89, 1) != 0
    }
    /// MTCFG (bit 100), MemAttr (99:96) and SHCFG (109:108).
    #[must_use]
    pub const fn overrides(&self) -> Override {
        let memattr = if self.field(100, 1) != 0 { Some(self.field(96, 4) as u8) } else { None };
        Override { memattr, shcfg: self.field(108, 2) as u8 }
    }
    /// ALLOCCFG, bits 104:101.
    #[must_use]
    pub const fn alloccfg(&self) -> u8 {
        self.field(101, 4) as u8
    }
    /// EATS, bits 93:92.
    #[must_use]
    pub const fn eats(&self) -> u8 {
        self.field(92, 2) as u8
    }
}
