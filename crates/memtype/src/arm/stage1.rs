//! Stage 1: the MAIR_ELx byte and the descriptor's SH.
//!
//! ```
//! use memtype::arm::{Features, Shareability, Stage1, Type};
//!
//! // 0x44: Normal, Inner and Outer Non-cacheable; SH 0b11: Inner Shareable.
//! let nc = Stage1::decode(0x44, 0b11, Features::LATEST);
//! assert_eq!((nc.ty(), nc.sh), (Type::NORMAL_NC, Shareability::Inner));
//! // 0x06 is reserved; it decodes all the same, and says so.
//! assert!(Stage1::decode(0x06, 0b11, Features::LATEST).reserved_mair.is_some());
//! ```

use core::fmt;

use super::key::{KNOWN, key};
use super::{Cache, Cacheability, Features, Hints, Reserved, Shareability, Tagging, Type};

/// The attributes stage 1 gives a location.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stage1 {
    /// The type, as the MAIR byte that says it.
    pub(super) key: u8,
    /// The descriptor's shareability, before the rule that Device and Normal iNC-oNC are Outer Shareable.
    pub sh: Shareability,
    /// The XS attribute (FEAT_XS): a TLBI or DSB with the nXS qualifier need not wait for such accesses.
    pub xs: bool,
    /// [`Tagging::Tagged`] for MAIR byte 0xF0 with FEAT_MTE2.
    pub tagging: Tagging,
    /// Set when the MAIR byte is a reserved encoding.
    pub reserved_mair: Option<Reserved>,
    /// Set when SH is.
    pub reserved_sh: Option<Reserved>,
}

impl Stage1 {
    /// Data accesses with the stage-1 MMU off and HCR_EL2.DC = 0: Device-nGnRnE (`AArch64.S1DisabledOutput`).
    pub const MMU_OFF: Self = Self::decode(0x00, 0b10, Features::LATEST);

    /// The attributes of a type, Untagged; XS is clear for Normal Write-Back and set for any other.
    ///
    /// What no MAIR byte says is left out: a Transient hint where neither Read- nor Write-Allocate is.
    #[must_use]
    pub const fn new(ty: Type, sh: Shareability) -> Self {
        let key = key(ty);
        let xs = !ty.is_normal_wb();
        Self { key, sh, xs, tagging: Tagging::Untagged, reserved_mair: None, reserved_sh: None }
    }

    /// From the MAIR_ELx byte (D24.2.127) and the descriptor's SH\[1:0\] (`S1DecodeMemAttrs`). Total: a reserved byte
    /// decodes to something the architecture allows and is named in [`reserved_mair`](Self::reserved_mair).
    #[inline]
    #[must_use]
    pub const fn decode(mair: u8, sh: u8, features: Features) -> Self {
        let (sh, bad_sh) = Shareability::from_bits(sh);
        let entry = MAIR[mair as usize];
        let tagged = matches!(entry.needs, Needs::Mte2);
        let missing = matches!(entry.needs, Needs::Xs) && !features.xs || tagged && !features.mte2;
        Self {
            key: entry.key,
            sh,
            xs: entry.xs,
            tagging: if tagged && features.mte2 { Tagging::Tagged } else { Tagging::Untagged },
            reserved_mair: if missing { Some(Reserved::MairFeature) } else { entry.reserved },
            reserved_sh: if bad_sh { Some(Reserved::Stage1Sh) } else { None },
        }
    }

    /// The attributes of the stage-1 tables themselves, from TCR_ELx.{IRGN, ORGN, SH} (`WalkMemAttrs`, D24.2.194): always
    /// Normal. Higher bits are ignored.
    #[must_use]
    pub const fn of_walk(irgn: u8, orgn: u8, sh: u8) -> Self {
        const fn cache(bits: u8) -> Cache {
            let read = Hints::new(true, false, false);
            match bits & 3 {
                0b00 => Cache::NC,
                0b01 => Cache::WB,
                0b10 => Cache { policy: Cacheability::WriteThrough, hints: read },
                _ => Cache { policy: Cacheability::WriteBack, hints: read },
            }
        }
        let (sh, bad_sh) = Shareability::from_bits(sh);
        let ty = Type::Normal { inner: cache(irgn), outer: cache(orgn) };
        Self { reserved_sh: if bad_sh { Some(Reserved::Stage1Sh) } else { None }, ..Self::new(ty, sh) }
    }

    /// The memory type.
    #[inline]
    #[must_use]
    pub const fn ty(&self) -> Type {
        KNOWN[self.key as usize].ty
    }
    /// Whether it is any Device type.
    #[inline]
    #[must_use]
    pub const fn is_device(&self) -> bool {
        self.key < 0x10
    }

    /// The same with another type; XS stays.
    pub(super) const fn with_type(self, ty: Type) -> Self {
        Self { key: key(ty), tagging: Tagging::Untagged, ..self }
    }
}

impl fmt::Debug for Stage1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage1")
            .field("ty", &self.ty())
            .field("sh", &self.sh)
            .field("xs", &self.xs)
            .field("tagging", &self.tagging)
            .field("reserved_mair", &self.reserved_mair)
            .field("reserved_sh", &self.reserved_sh)
            .finish()
    }
}

/// A feature that a MAIR byte is reserved without.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Xs,
    Mte2,
}

/// A MAIR byte, decoded.
#[derive(Clone, Copy)]
struct Entry {
    key: u8,
    xs: bool,
    needs: Needs,
    reserved: Option<Reserved>,
}

/// Every MAIR byte.
static MAIR: [Entry; 256] = {
    let mut table = [entry(0); 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = entry(byte as u8);
        byte += 1;
    }
    table
};

const fn entry(mair: u8) -> Entry {
    const WT: Cache = Cache { hints: Hints::new(true, false, false), ..Cache::WT };
    let (key, xs, needs, reserved) = match (mair >> 4, mair & 0xf) {
        (0, low) => {
            let needs = if low & 0b11 == 0b01 { Needs::Xs } else { Needs::Nothing };
            let reserved = if low & 0b10 != 0 { Some(Reserved::MairDevice) } else { None };
            (low & 0b1100, low & 1 == 0, needs, reserved)
        }
        (0b0100, 0) => (key(Type::NORMAL_NC), false, Needs::Xs, None),
        (0b1010, 0) => (key(Type::Normal { inner: WT, outer: WT }), false, Needs::Xs, None),
        (0b1111, 0) => (key(Type::NORMAL_WB), false, Needs::Mte2, None),
        (_, 0) => (0, true, Needs::Nothing, Some(Reserved::MairNormal)),
        _ => (mair, !KNOWN[mair as usize].back, Needs::Nothing, None),
    };
    Entry { key, xs, needs, reserved }
}

/// The memory types people name, and the MAIR byte Linux and others use for each.
pub const NAMES: [(&str, u8); 8] = [
    ("device-ngnrne", 0x00),
    ("device-ngnre", 0x04),
    ("device-ngre", 0x08),
    ("device-gre", 0x0c),
    ("normal-nc", 0x44),
    ("normal-wt", 0xbb),
    ("normal-wb", 0xff),
    ("normal-wb-tagged", 0xf0),
];

/// The MAIR byte of a named type.
#[must_use]
pub fn mair_of(name: &str) -> Option<u8> {
    NAMES.iter().find(|(n, _)| *n == name).map(|(_, byte)| *byte)
}

/// The name of a MAIR byte, where [`NAMES`] has that very byte.
#[must_use]
pub fn name_of_mair(byte: u8) -> Option<&'static str> {
    NAMES.iter().find(|(_, b)| *b == byte).map(|(name, _)| *name)
}
