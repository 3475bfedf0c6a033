//! Stage 2: the descriptor's MemAttr and SH, without and with FEAT_S2FWB.

use core::fmt;

use super::{Cache, Cacheability, Device, Features, Hints, Reserved, Shareability, Tagging, Type};

/// What stage-2 MemAttr\[3:0\] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemAttr {
    /// HCR_EL2.FWB = 0: a memory type, to be combined with that of stage 1 (Table D8-96).
    Combine(Type),
    /// FWB = 1, MemAttr\[2\] = 0: Device, combined with a Device type of stage 1 by the stricter (Table D8-100, R_GSDKZ).
    FwbDevice(Device),
    /// FWB = 1, 0b101: Device where stage 1 says Device, else Normal Non-cacheable.
    FwbNcUnlessDevice,
    /// FWB = 1, 0b110: Normal Write-Back whatever stage 1 says.
    FwbForceWb,
    /// FWB = 1, 0b111: what stage 1 says.
    FwbAsStage1,
}

impl fmt::Display for MemAttr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Combine(ty) => ty.fmt(f),
            Self::FwbDevice(device) => Type::Device(*device).fmt(f),
            Self::FwbNcUnlessDevice => f.pad("Normal-NC unless stage 1 is Device"),
            Self::FwbForceWb => f.pad("Normal-WB whatever stage 1 is"),
            Self::FwbAsStage1 => f.pad("as stage 1"),
        }
    }
}

/// The attributes stage 2 gives a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stage2 {
    /// MemAttr.
    pub attr: MemAttr,
    /// The descriptor's shareability.
    pub sh: Shareability,
    /// The XS attribute: false when the descriptor's FnXS (bit 11) is set.
    pub xs: bool,
    /// NoTagAccess (FEAT_MTE_PERM).
    pub no_tag_access: bool,
    /// Set when MemAttr is a reserved encoding.
    pub reserved_attr: Option<Reserved>,
    /// Set when SH is.
    pub reserved_sh: Option<Reserved>,
}

impl Stage2 {
    /// From MemAttr\[3:0\] and SH\[1:0\] of a stage-2 descriptor (`S2DecodeMemAttrs`, `AArch64.S2ApplyFWBMemAttrs`), with
    /// FnXS clear. Higher bits are ignored. Total, as [`Stage1::decode`](super::Stage1::decode).
    ///
    /// With FWB and without FEAT_MTE_PERM MemAttr\[3\] is RES0 (R_JXGKQ): it is ignored, and setting it is no reserved
    /// encoding of the type.
    #[must_use]
    pub const fn decode(fwb: bool, memattr: u8, sh: u8, features: Features) -> Self {
        let (sh, bad_sh) = Shareability::from_bits(sh);
        let memattr = memattr & 0xf;
        let mut reserved = None;
        let mut no_tag_access = false;
        let attr = if fwb {
            if features.mte_perm && (memattr >> 2 == 0b10 || memattr == 0b1101) {
                reserved = Some(Reserved::MemAttrFwb);
            }
            no_tag_access = features.mte_perm && memattr >> 1 == 0b111;
            match memattr & 0b111 {
                device @ 0..=3 => MemAttr::FwbDevice(Device::from_bits(device)),
                0b110 => MemAttr::FwbForceWb,
                0b111 => MemAttr::FwbAsStage1,
                low => {
                    if low == 0b100 {
                        reserved = Some(Reserved::MemAttrFwb);
                    }
                    MemAttr::FwbNcUnlessDevice
                }
            }
        } else {
            match (memattr >> 2, memattr & 0b11) {
                (0, device) => MemAttr::Combine(Type::Device(Device::from_bits(device))),
                (0b01, 0) if features.mte_perm => {
                    no_tag_access = true;
                    MemAttr::Combine(Type::NORMAL_WB)
                }
                (outer, inner) => {
                    if inner == 0 {
                        reserved = Some(Reserved::MemAttr);
                    }
                    MemAttr::Combine(Type::Normal { inner: cache(inner), outer: cache(outer) })
                }
            }
        };
        Self {
            attr,
            sh,
            xs: true,
            no_tag_access,
            reserved_attr: reserved,
            reserved_sh: if bad_sh { Some(Reserved::Stage2Sh) } else { None },
        }
    }

    /// The same with FnXS set (FEAT_XS): the result has XS = 0.
    #[must_use]
    pub const fn with_fnxs(self) -> Self {
        Self { xs: false, ..self }
    }

    /// Whether FWB is on.
    #[must_use]
    pub const fn is_fwb(&self) -> bool {
        !matches!(self.attr, MemAttr::Combine(_))
    }

    /// [`Tagging`] of a result that is Normal Write-Back with both allocation hints, from a Tagged stage 1
    /// (`S2MemTagType`).
    pub(super) const fn tagging(&self, s1: Tagging, ty: Type) -> Tagging {
        let allocates = match ty {
            Type::Normal { inner, outer } => ty.is_normal_wb() && allocate(inner.hints) && allocate(outer.hints),
            Type::Device(_) => false,
        };
        if matches!(s1, Tagging::Untagged) || !allocates {
            Tagging::Untagged
        } else if self.no_tag_access {
            Tagging::NoTagAccess
        } else {
            Tagging::Tagged
        }
    }
}

const fn allocate(h: Hints) -> bool {
    h.read && h.write && !h.transient
}

/// Two bits of MemAttr (`S2DecodeCacheability`); stage 2 has no hints. The reserved 0b00 is taken as Non-cacheable.
const fn cache(bits: u8) -> Cache {
    let policy = match bits & 3 {
        0b10 => Cacheability::WriteThrough,
        0b11 => Cacheability::WriteBack,
        _ => Cacheability::NonCacheable,
    };
    Cache { policy, hints: Hints::NONE }
}

/// The MemAttr\[3:0\] a hypervisor writes for a named type: without FWB any Device type and `normal-nc`, `normal-wt`,
/// `normal-wb`; with FWB any Device type, `normal-nc` (0b0101: leaves a Device stage 1 as it is), `normal-wb` (0b0110: over
/// any stage 1) and `as-s1` (0b0111). `None` for a type that stage 2 cannot say.
#[must_use]
pub fn memattr_of(fwb: bool, name: &str) -> Option<u8> {
    Some(match (name, fwb) {
        ("device-ngnrne", _) => 0b0000,
        ("device-ngnre", _) => 0b0001,
        ("device-ngre", _) => 0b0010,
        ("device-gre", _) => 0b0011,
        ("normal-nc", _) => 0b0101,
        ("normal-wt", false) => 0b1010,
        ("normal-wb", false) => 0b1111,
        ("normal-wb", true) => 0b0110,
        ("as-s1", true) => 0b0111,
        ("as-s1", false) => 0b1111,
        _ => return None,
    })
}
