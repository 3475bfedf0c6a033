//! Stage 1: the MAIR_ELx byte and the descriptor's SH.

use super::{Cache, Cacheability, Device, Features, Hints, Reserved, Shareability, Tagging, Type};

/// The attributes stage 1 gives a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stage1 {
    /// The memory type.
    pub ty: Type,
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

    /// From the MAIR_ELx byte (D24.2.127) and the descriptor's SH\[1:0\] (`S1DecodeMemAttrs`). Total: a reserved byte
    /// decodes to something the architecture allows and is named in [`reserved_mair`](Self::reserved_mair).
    #[must_use]
    pub const fn decode(mair: u8, sh: u8, features: Features) -> Self {
        let (sh, bad_sh) = Shareability::from_bits(sh);
        let mut reserved = None;
        let mut tagging = Tagging::Untagged;
        let (ty, xs) = match (mair >> 4, mair & 0xf) {
            (0, low) => {
                if low & 0b10 != 0 {
                    reserved = Some(Reserved::MairDevice);
                } else if low & 1 != 0 && !features.xs {
                    reserved = Some(Reserved::MairFeature);
                }
                (Type::Device(Device::from_bits(low >> 2)), low & 1 == 0)
            }
            (0b0100, 0) => {
                if !features.xs {
                    reserved = Some(Reserved::MairFeature);
                }
                (Type::NORMAL_NC, false)
            }
            (0b1010, 0) => {
                if !features.xs {
                    reserved = Some(Reserved::MairFeature);
                }
                let wt = cache(0b1010);
                (Type::Normal { inner: wt, outer: wt }, false)
            }
            (0b1111, 0) => {
                if features.mte2 {
                    tagging = Tagging::Tagged;
                } else {
                    reserved = Some(Reserved::MairFeature);
                }
                (Type::NORMAL_WB, false)
            }
            (_, 0) => {
                reserved = Some(Reserved::MairNormal);
                (Type::Device(Device::nGnRnE), true)
            }
            (outer, inner) => {
                let ty = Type::Normal { inner: cache(inner), outer: cache(outer) };
                (ty, !ty.is_normal_wb())
            }
        };
        Self {
            ty,
            sh,
            xs,
            tagging,
            reserved_mair: reserved,
            reserved_sh: if bad_sh { Some(Reserved::Stage1Sh) } else { None },
        }
    }
}

/// One nibble of a Normal MAIR byte (`DecodeLDFAttr`); never 0 here.
const fn cache(nibble: u8) -> Cache {
    if nibble == 0b0100 {
        return Cache::NC;
    }
    let policy = if nibble & 0b0100 == 0 { Cacheability::WriteThrough } else { Cacheability::WriteBack };
    // Without a hint there is no Transient: 0b0100 is NC, and 0b0000 encodes something else altogether.
    let (read, write) = (nibble & 0b10 != 0, nibble & 0b01 != 0);
    Cache { policy, hints: Hints { read, write, transient: nibble & 0b1000 == 0 && (read || write) } }
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
