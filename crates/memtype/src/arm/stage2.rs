//! Stage 2: the descriptor's MemAttr and SH, without and with FEAT_S2FWB.
//!
//! ```
//! use memtype::arm::{Features, MemAttr, Stage2, Type};
//!
//! // The same bits say Normal-NC without FWB, and with it: Normal-NC unless stage 1 says Device.
//! let plain = Stage2::decode(false, 0b0101, 0b11, Features::LATEST);
//! assert_eq!(plain.attr(), MemAttr::Combine(Type::NORMAL_NC));
//! let fwb = Stage2::decode(true, 0b0101, 0b11, Features::LATEST);
//! assert_eq!(fwb.attr(), MemAttr::FwbNcUnlessDevice);
//! ```

use core::fmt;

use super::key::{KNOWN, key};
use super::{Cache, Cacheability, Device, Features, Hints, Reserved, Shareability, Stage1, Tagging, Type};

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
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stage2 {
    /// MemAttr, as a place in `FORMS`.
    form: u8,
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
    #[inline]
    #[must_use]
    pub const fn decode(fwb: bool, memattr: u8, sh: u8, features: Features) -> Self {
        let (sh, bad_sh) = Shareability::from_bits(sh);
        let entry = MEMATTR[(memattr & 0xf | (fwb as u8) << 4 | (features.mte_perm as u8) << 5) as usize];
        Self {
            form: entry.form,
            sh,
            xs: true,
            no_tag_access: entry.no_tag_access,
            reserved_attr: entry.reserved,
            reserved_sh: if bad_sh { Some(Reserved::Stage2Sh) } else { None },
        }
    }

    /// The same with FnXS set (FEAT_XS): the result has XS = 0.
    #[inline]
    #[must_use]
    pub const fn with_fnxs(self) -> Self {
        Self { xs: false, ..self }
    }

    /// What MemAttr says.
    #[inline]
    #[must_use]
    pub const fn attr(&self) -> MemAttr {
        FORMS[self.form as usize % FORMS.len()]
    }

    /// Whether FWB is on.
    #[inline]
    #[must_use]
    pub const fn is_fwb(&self) -> bool {
        self.form >= FWB
    }

    /// The key of what a stage 1 becomes.
    #[inline]
    pub(super) const fn apply(&self, s1: &Stage1) -> u8 {
        RESULT[self.form as usize % FORMS.len()][s1.key as usize]
    }

    /// [`Tagging`] of a result from stage 1's; `taggable`: the result is Normal Write-Back with both allocation hints
    /// (`S2MemTagType`).
    #[inline]
    pub(super) const fn tagging(&self, s1: Tagging, taggable: bool) -> Tagging {
        if matches!(s1, Tagging::Untagged) | !taggable {
            Tagging::Untagged
        } else if self.no_tag_access {
            Tagging::NoTagAccess
        } else {
            Tagging::Tagged
        }
    }
}

impl fmt::Debug for Stage2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage2")
            .field("attr", &self.attr())
            .field("sh", &self.sh)
            .field("xs", &self.xs)
            .field("no_tag_access", &self.no_tag_access)
            .field("reserved_attr", &self.reserved_attr)
            .field("reserved_sh", &self.reserved_sh)
            .finish()
    }
}

/// Everything stage 2 can say: without FWB four Device types and nine of Normal, with FWB the others.
static FORMS: [MemAttr; 32] = {
    let mut table = [MemAttr::FwbAsStage1; 32];
    let mut i = 0;
    while i < 4 {
        table[i] = MemAttr::Combine(Type::Device(Device::from_bits(i as u8)));
        table[i + FWB as usize] = MemAttr::FwbDevice(Device::from_bits(i as u8));
        i += 1;
    }
    while i < 13 {
        // The bits of MemAttr without the encodings that have a zero in them.
        let normal = i as u8 - 4;
        table[i] = MemAttr::Combine(Type::Normal { inner: cache(normal % 3 + 1), outer: cache(normal / 3 + 1) });
        i += 1;
    }
    table[FWB as usize + 5] = MemAttr::FwbNcUnlessDevice;
    table[FWB as usize + 6] = MemAttr::FwbForceWb;
    table
};

/// The first form with FWB; MemAttr\[2:0\] is added to it.
const FWB: u8 = 16;

/// What each form makes of each stage 1, as keys.
///
/// Without FWB and with it there is one rule. Put the types into one order, Device-nGnRnE, -nGnRE, -nGRE, -GRE, Normal-NC,
/// -WT, -WB, for inner and outer each, where a Device type stands for both. Then the result is the lower of stage 1 and of a
/// bound that stage 2 sets; FWB with MemAttr 0b110 alone lifts stage 1 to Write-Back first.
static RESULT: [[u8; 256]; 32] = {
    let mut table = [[0; 256]; 32];
    let mut form = 0;
    while form < table.len() {
        let mut s1 = 0;
        while s1 < 256 {
            table[form][s1] = key(result(FORMS[form], KNOWN[s1].ty));
            s1 += 1;
        }
        form += 1;
    }
    table
};

const fn result(attr: MemAttr, s1: Type) -> Type {
    const WB: Type = Type::Normal { inner: cache(0b11), outer: cache(0b11) };
    const NC: Type = Type::NORMAL_NC;
    let (s1, bound) = match attr {
        MemAttr::Combine(bound) => (s1, bound),
        MemAttr::FwbDevice(device) => (s1, Type::Device(device)),
        MemAttr::FwbNcUnlessDevice => (s1, NC),
        MemAttr::FwbAsStage1 => (s1, WB),
        MemAttr::FwbForceWb => match s1 {
            Type::Device(_) => return Type::NORMAL_WB,
            Type::Normal { inner, outer } => (Type::Normal { inner: lift(inner), outer: lift(outer) }, WB),
        },
    };
    match (s1, bound) {
        (Type::Device(a), Type::Device(b)) => Type::Device(a.stricter(b)),
        (Type::Device(_), Type::Normal { .. }) => s1,
        (Type::Normal { .. }, Type::Device(_)) => bound,
        (Type::Normal { inner: i1, outer: o1 }, Type::Normal { inner: i2, outer: o2 }) => {
            Type::Normal { inner: weaker(i1, i2.policy), outer: weaker(o1, o2.policy) }
        }
    }
}

/// The weaker cacheability, with stage 1's hints (`S2CombineS1AttrHints`).
const fn weaker(s1: Cache, s2: Cacheability) -> Cache {
    match s1.policy.weaker(s2) {
        Cacheability::NonCacheable => Cache::NC,
        policy => Cache { policy, hints: s1.hints },
    }
}

/// Write-Back with stage 1's hints where it is cacheable, else with both (R_THYXB, R_TBQKG).
const fn lift(s1: Cache) -> Cache {
    match s1.policy {
        Cacheability::NonCacheable => Cache::WB,
        _ => Cache { policy: Cacheability::WriteBack, hints: s1.hints },
    }
}

/// MemAttr\[3:0\], decoded.
#[derive(Clone, Copy)]
struct Entry {
    form: u8,
    no_tag_access: bool,
    reserved: Option<Reserved>,
}

/// What each MemAttr\[3:0\] says; bit 4 of the index is FWB, bit 5 FEAT_MTE_PERM.
static MEMATTR: [Entry; 64] = {
    let mut table = [entry(false, 0, false); 64];
    let mut i = 0;
    while i < table.len() {
        table[i] = entry(i & 1 << 4 != 0, i as u8 & 0xf, i & 1 << 5 != 0);
        i += 1;
    }
    table
};

const fn entry(fwb: bool, memattr: u8, mte_perm: bool) -> Entry {
    let low = memattr & 0b111;
    let (form, no_tag_access, reserved) = if fwb {
        let reserved = low == 0b100 || mte_perm && (memattr >> 2 == 0b10 || memattr == 0b1101);
        // The reserved 0bx100 is taken as 0bx101.
        let form = FWB + if low == 0b100 { 0b101 } else { low };
        (form, mte_perm && memattr >> 1 == 0b111, if reserved { Some(Reserved::MemAttrFwb) } else { None })
    } else {
        // A reserved half is taken as Non-cacheable.
        match (memattr >> 2, memattr & 0b11) {
            (0, device) => (device, false, None),
            (1, 0) if mte_perm => (4 + 8, true, None),
            (outer, 0) => (4 + 3 * (outer - 1), false, Some(Reserved::MemAttr)),
            (outer, inner) => (4 + 3 * (outer - 1) + inner - 1, false, None),
        }
    };
    Entry { form, no_tag_access, reserved }
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
