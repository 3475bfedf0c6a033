//! Memory types of Arm's A-profile (DDI 0487 M.a.a, chapters B2.10 and D8.6).
//!
//! There are two kinds. **Normal** memory may be read ahead, merged, reordered; it is Non-cacheable (NC), Write-Through (WT)
//! or Write-Back (WB), and that twice, for inner and outer caches. Normal-NC is what Arm has for write-combining. **Device**
//! memory is for what has side effects: it is never read ahead and never cached, an unaligned access to it faults, and its name
//! spells what else is allowed, with an `n` before what is not:
//!
//! * **G**athering: several writes become one, so a device may see one transaction of 64 bytes for eight stores;
//! * **R**eordering: accesses to one device arrive in another order than the program's;
//! * **E**arly write acknowledgement: a write is done before the device has it. PCI memory writes are posted, so this is how
//!   they are anyway.
//!
//! Device-nGnRE, then, is a register BAR as PCI people know it: each store one write of its size, in order, posted.
//! Device-nGnRnE is stricter only where the bus can say that a write arrived. Device-nGRE and Device-GRE are weaker, and
//! little used.
//!
//! A page gets its type in two steps. **Stage 1**, the guest's or a process's own tables, has an index into MAIR_EL1, a
//! register of eight bytes that each encode a type ([`Stage1`]). **Stage 2**, the hypervisor's tables, has four bits, MemAttr
//! ([`Stage2`]). [`combine`] says what the two come to: the stricter, unless the hypervisor uses FEAT_S2FWB, which lets it
//! force Write-Back or take what stage 1 says. Caches and MMUs that are off, and what an instruction fetch or a table walk
//! gets, are in [`Regime`]. What a type promises is [`Type::guarantee`].
//!
//! ```
//! use memtype::arm::{Alignment, Features, Stage1, Stage2, combine, mair_of, memattr_of};
//!
//! // A driver maps a BAR with ioremap_wc(): Normal-NC. Linux's KVM says Normal-NC for it from 6.9 on, as it may with FWB.
//! let f = Features::LATEST;
//! let guest = Stage1::decode(mair_of("normal-nc").unwrap(), 0b11, f);
//! let kvm = Stage2::decode(true, memattr_of(true, "normal-nc").unwrap(), 0b11, f);
//! let both = combine(&guest, &kvm);
//! assert_eq!(both.ty.to_string(), "Normal-NC");
//! assert_eq!(both.unaligned(), Alignment::Ok);
//! // The same stage 2 leaves a guest's ioremap() alone.
//! let registers = Stage1::decode(mair_of("device-ngnre").unwrap(), 0b11, f);
//! assert_eq!(combine(&registers, &kvm).ty.to_string(), "Device-nGnRE");
//! // Each rule that was applied can be asked for, with its place in the manual.
//! assert!(both.because().next().unwrap().to_string().contains("D8.6.6"));
//! ```

mod combine;
mod guarantee;
mod key;
mod regime;
mod rules;
mod stage1;
mod stage2;

pub use combine::{Alignment, Combined, combine};
pub use regime::{Access, InForce, Permission, Quirk, Regime};
pub use rules::{Because, Rule};
pub use stage1::{NAMES, Stage1, mair_of, name_of_mair};
pub use stage2::{MemAttr, Stage2, memattr_of};

use core::fmt;

use crate::guarantee::{Question, Standing};

/// The features that change what an attribute encoding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features {
    /// FEAT_XS: the XS attribute, and the MAIR bytes that clear it.
    pub xs: bool,
    /// FEAT_MTE2: the Tagged attribute (MAIR byte 0xF0).
    pub mte2: bool,
    /// FEAT_MTE_PERM: the NoTagAccess attribute at stage 2.
    pub mte_perm: bool,
}

impl Features {
    /// FEAT_XS and FEAT_MTE2, without FEAT_MTE_PERM: a current server CPU.
    pub const LATEST: Self = Self { xs: true, mte2: true, mte_perm: false };
    /// None of them.
    pub const NONE: Self = Self { xs: false, mte2: false, mte_perm: false };
}

/// A Device memory type, the strictest first (B2.10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types)]
pub enum Device {
    /// No gathering, no reordering, no early write acknowledgement.
    nGnRnE = 0,
    /// Early write acknowledgement allowed.
    nGnRE = 1,
    /// Reordering allowed too.
    nGRE = 2,
    /// Gathering allowed too.
    GRE = 3,
}

impl Device {
    /// From the two bits that encode it, in MAIR_ELx and in stage-2 MemAttr alike (`DecodeDevice`). Higher bits are ignored.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::nGnRnE,
            1 => Self::nGnRE,
            2 => Self::nGRE,
            _ => Self::GRE,
        }
    }
    /// The stricter of two (`S2CombineS1Device`).
    #[inline]
    #[must_use]
    pub const fn stricter(self, other: Self) -> Self {
        if (self as u8) < (other as u8) { self } else { other }
    }
}

/// Cacheability of Normal memory, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cacheability {
    /// Non-cacheable.
    NonCacheable = 0,
    /// Write-Through Cacheable.
    WriteThrough = 1,
    /// Write-Back Cacheable.
    WriteBack = 2,
}

impl Cacheability {
    /// `nc`, `wt` or `wb`.
    #[inline]
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::NonCacheable => "nc",
            Self::WriteThrough => "wt",
            Self::WriteBack => "wb",
        }
    }
    /// The weaker of two (Table D8-98).
    #[inline]
    #[must_use]
    pub const fn weaker(self, other: Self) -> Self {
        if (self as u8) < (other as u8) { self } else { other }
    }
}

/// Allocation hints of cacheable memory, in one byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hints(u8);

impl Hints {
    /// Read-Allocate, Write-Allocate, not Transient: what a result gets that has none from stage 1 (R_TBQKG).
    pub const ALLOCATE: Self = Self::new(true, true, false);
    /// No allocation; also what Non-cacheable memory has.
    pub const NONE: Self = Self::new(false, false, false);

    /// From the three hints.
    #[inline]
    #[must_use]
    pub const fn new(read: bool, write: bool, transient: bool) -> Self {
        Self(read as u8 | (write as u8) << 1 | (transient as u8) << 2)
    }
    /// Read-Allocate.
    #[inline]
    #[must_use]
    pub const fn read(self) -> bool {
        self.0 & 1 != 0
    }
    /// Write-Allocate.
    #[inline]
    #[must_use]
    pub const fn write(self) -> bool {
        self.0 & 2 != 0
    }
    /// Transient.
    #[inline]
    #[must_use]
    pub const fn transient(self) -> bool {
        self.0 & 4 != 0
    }
}

impl fmt::Debug for Hints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |it, name| if it { name } else { "" };
        write!(f, "Hints({}{}{})", name(self.read(), "R"), name(self.write(), "W"), name(self.transient(), "T"))
    }
}

/// Cacheability with its hints, for one of inner and outer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cache {
    /// NC, WT or WB.
    pub policy: Cacheability,
    /// [`Hints::NONE`] for NC.
    pub hints: Hints,
}

impl Cache {
    /// Non-cacheable.
    pub const NC: Self = Self { policy: Cacheability::NonCacheable, hints: Hints::NONE };
    /// Write-Through, Read-Allocate, Write-Allocate, not Transient.
    pub const WT: Self = Self { policy: Cacheability::WriteThrough, hints: Hints::ALLOCATE };
    /// Write-Back, Read-Allocate, Write-Allocate, not Transient.
    pub const WB: Self = Self { policy: Cacheability::WriteBack, hints: Hints::ALLOCATE };

    #[inline]
    const fn is(self, policy: Cacheability) -> bool {
        self.policy as u8 == policy as u8
    }
}

/// A memory type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// Device.
    Device(Device),
    /// Normal.
    Normal {
        /// Inner cacheability.
        inner: Cache,
        /// Outer cacheability.
        outer: Cache,
    },
}

impl Type {
    /// Normal, Inner and Outer Non-cacheable.
    pub const NORMAL_NC: Self = Self::Normal { inner: Cache::NC, outer: Cache::NC };
    /// Normal, Inner and Outer Write-Through, Read- and Write-Allocate.
    pub const NORMAL_WT: Self = Self::Normal { inner: Cache::WT, outer: Cache::WT };
    /// Normal, Inner and Outer Write-Back, Read- and Write-Allocate.
    pub const NORMAL_WB: Self = Self::Normal { inner: Cache::WB, outer: Cache::WB };

    /// Any Device type.
    #[inline]
    #[must_use]
    pub const fn is_device(self) -> bool {
        matches!(self, Self::Device(_))
    }
    /// Normal Inner Non-cacheable Outer Non-cacheable.
    #[inline]
    #[must_use]
    pub const fn is_normal_nc(self) -> bool {
        match self {
            Self::Device(_) => false,
            Self::Normal { inner, outer } => {
                inner.is(Cacheability::NonCacheable) && outer.is(Cacheability::NonCacheable)
            }
        }
    }
    /// Normal Inner Write-Back Outer Write-Back: the one type for which exclusives and atomics are architected to work,
    /// when it is shareable (B2.2.6).
    #[inline]
    #[must_use]
    pub const fn is_normal_wb(self) -> bool {
        match self {
            Self::Device(_) => false,
            Self::Normal { inner, outer } => inner.is(Cacheability::WriteBack) && outer.is(Cacheability::WriteBack),
        }
    }
    /// May be held in a cache, inner or outer (B2.10.1; Device never).
    #[inline]
    #[must_use]
    pub const fn is_cacheable(self) -> bool {
        !self.is_device() && !self.is_normal_nc()
    }
    /// Whether the behaviour is anything but forbidden ([`guarantee`](Self::guarantee)).
    const fn may(self, question: Question) -> bool {
        match self.guarantee(question) {
            Some(answer) => !matches!(answer.standing, Standing::Forbidden),
            None => false,
        }
    }
    /// Several accesses may be merged into one transaction: Normal (B2.10.1) and Device-GRE (B2.10.2.1).
    #[inline]
    #[must_use]
    pub const fn may_gather(self) -> bool {
        self.may(Question::Gather)
    }
    /// Accesses to the same peripheral may arrive in another order than the program's: all but Device-nGnR* (B2.10.2.2).
    #[inline]
    #[must_use]
    pub const fn may_reorder(self) -> bool {
        self.may(Question::ReorderSame)
    }
    /// A write may be acknowledged before it reached the endpoint: all but Device-nGnRnE (B2.10.2.3). For PCIe memory
    /// writes, which are posted, nE gives no endpoint acknowledgement either.
    #[inline]
    #[must_use]
    pub const fn may_acknowledge_early(self) -> bool {
        self.may(Question::EarlyAcknowledge)
    }
    /// Locations the program never reads may be read: Normal (B2.10.1). Device forbids it, but for a few instructions
    /// (B2.10.2: bytes of the same 16-byte window of a SIMD load, SVE, LDNP, MOPS).
    #[inline]
    #[must_use]
    pub const fn may_speculate(self) -> bool {
        self.may(Question::SpeculativeRead)
    }
    /// The name in files and on the command line, without cacheability: `device-ngnre` … or `normal`.
    #[inline]
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Device(Device::nGnRnE) => "device-ngnrne",
            Self::Device(Device::nGnRE) => "device-ngnre",
            Self::Device(Device::nGRE) => "device-ngre",
            Self::Device(Device::GRE) => "device-gre",
            Self::Normal { .. } => "normal",
        }
    }
    /// The name in files and on the command line: `device-ngnre`, `normal-nc`; for Normal memory whose inner and outer
    /// cacheability differ `normal-iwb-onc` and so on. Hints are not part of it.
    #[inline]
    #[must_use]
    pub const fn name(self) -> &'static str {
        use Cacheability::{NonCacheable as Nc, WriteBack as Wb, WriteThrough as Wt};
        match self {
            Self::Device(_) => self.class(),
            Self::Normal { inner, outer } => match (inner.policy, outer.policy) {
                (Nc, Nc) => "normal-nc",
                (Wt, Wt) => "normal-wt",
                (Wb, Wb) => "normal-wb",
                (Nc, Wt) => "normal-inc-owt",
                (Nc, Wb) => "normal-inc-owb",
                (Wt, Nc) => "normal-iwt-onc",
                (Wt, Wb) => "normal-iwt-owb",
                (Wb, Nc) => "normal-iwb-onc",
                (Wb, Wt) => "normal-iwb-owt",
            },
        }
    }
}

/// As Arm writes it: `Device-nGnRE`, `Normal-NC`, `Normal-iWB-oNC`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const fn upper(c: Cacheability) -> &'static str {
            match c {
                Cacheability::NonCacheable => "NC",
                Cacheability::WriteThrough => "WT",
                Cacheability::WriteBack => "WB",
            }
        }
        match self {
            Self::Device(d) => f.pad(match d {
                Device::nGnRnE => "Device-nGnRnE",
                Device::nGnRE => "Device-nGnRE",
                Device::nGRE => "Device-nGRE",
                Device::GRE => "Device-GRE",
            }),
            Self::Normal { inner, outer } if inner.policy == outer.policy => {
                write!(f, "Normal-{}", upper(inner.policy))
            }
            Self::Normal { inner, outer } => write!(f, "Normal-i{}-o{}", upper(inner.policy), upper(outer.policy)),
        }
    }
}

/// Shareability, the weakest first (Table D8-103).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shareability {
    /// Non-shareable.
    Non = 0,
    /// Inner Shareable.
    Inner = 1,
    /// Outer Shareable.
    Outer = 2,
}

impl Shareability {
    /// From an SH field; the second value is true for the reserved 0b01, which `DecodeShareability` may treat as any of
    /// the three and which is Outer Shareable here. Higher bits are ignored.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u8) -> (Self, bool) {
        match bits & 3 {
            0b00 => (Self::Non, false),
            0b11 => (Self::Inner, false),
            0b10 => (Self::Outer, false),
            _ => (Self::Outer, true),
        }
    }
    /// `nsh`, `ish` or `osh`.
    #[inline]
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Non => "nsh",
            Self::Inner => "ish",
            Self::Outer => "osh",
        }
    }
    /// The stronger of two (`S2CombineS1Shareability`).
    #[inline]
    #[must_use]
    pub const fn stronger(self, other: Self) -> Self {
        if (self as u8) > (other as u8) { self } else { other }
    }
    /// What it is for memory of type `ty`: Device and Normal iNC-oNC are always Outer Shareable (`EffectiveShareability`).
    #[inline]
    #[must_use]
    pub const fn effective(self, ty: Type) -> Self {
        if ty.is_device() || ty.is_normal_nc() { Self::Outer } else { self }
    }
}

/// Whether accesses are checked against allocation tags (FEAT_MTE2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tagging {
    /// No tags.
    Untagged,
    /// Allocation Tagged.
    Tagged,
    /// Tagged, and accesses to the tags fault (FEAT_MTE_PERM).
    NoTagAccess,
}

/// An encoding the architecture reserves. The behaviour is CONSTRAINED UNPREDICTABLE: the decoded type is one of those
/// allowed, chosen here once so that results are the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reserved {
    /// MAIR byte `0b0000_dd1x`. Taken as the Device type `dd`.
    MairDevice,
    /// MAIR byte `0bxxxx_0000` that encodes nothing. Taken as Device-nGnRnE.
    MairNormal,
    /// A MAIR byte that needs FEAT_XS or FEAT_MTE2. Taken as if the feature was there, without its effect.
    MairFeature,
    /// SH 0b01 in the stage-1 descriptor. Taken as Outer Shareable.
    Stage1Sh,
    /// SH 0b01 in the stage-2 descriptor. Taken as Outer Shareable.
    Stage2Sh,
    /// Stage-2 MemAttr\[1:0\] = 0b00 with MemAttr\[3:2\] other than 0b00, without FWB. The reserved half is taken as
    /// Non-cacheable.
    MemAttr,
    /// Stage-2 MemAttr\[2:0\] = 0b100 with FWB (or, with FEAT_MTE_PERM, MemAttr\[3:2\] = 0b10, or 0b1101). The
    /// pseudocode handles 0bx100 as 0b101, and so does this.
    MemAttrFwb,
}
