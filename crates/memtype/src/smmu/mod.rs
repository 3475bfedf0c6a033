//! What the Arm SMMU (SMMUv3) makes of a device's transaction.
//!
//! A CPU's access has a memory type because a page table says so. A PCIe transaction has none: the system gives it one,
//! cacheable and shared, so that DMA is coherent with the CPUs' caches. The SMMU may then replace it (the STE's overrides),
//! replace it again by what stage 1 says, and combine it with stage 2, by the rules that a CPU has ([`crate::arm`]). At last
//! the one bit of PCIe that speaks of caches counts: No Snoop turns a cacheable result into a non-cacheable one, after
//! everything else. A driver that was not told then reads stale data: thread 004.
//!
//! Nothing in the SMMU stops No Snoop. A hypervisor that wants each access of a function to be coherent sets STE.S2FWB *and*
//! disables No Snoop in the function's configuration space (IHI 0070 13.1.6, 13.6.2.1), or has a platform whose firmware
//! promises CANWBS.
//!
//! Left out: allocation hints, which change no outcome; transactions that ATS has translated, whose attributes are
//! IMPLEMENTATION DEFINED (13.6.2); accesses to devices, such as MSIs, which the system has to treat as Device whatever comes
//! out here (13.6.1); the SMMU's own accesses (13.8).
//!
//! ```
//! use memtype::arm::{Features, Stage1, Stage2};
//! use memtype::smmu::{Platform, Stream, transform};
//!
//! // A guest's memory behind a stage 2 that forces Write-Back (S2FWB), and a device that sets No Snoop.
//! let force_wb = Stage2::decode(true, 0b0110, 0b11, Features::NONE);
//! let mut stream = Stream { stage2: Some(force_wb), ..Stream::PCIE };
//! assert!(transform(&stream, Platform::SBSA).is_coherent());
//! stream.no_snoop = true;
//! let out = transform(&stream, Platform::SBSA);
//! assert_eq!(out.ty.name(), "normal-nc");
//! assert!(!out.is_coherent());
//! // Where firmware says CANWBS, memory stays coherent.
//! assert!(transform(&stream, Platform { canwbs: true, ..Platform::SBSA }).is_coherent());
//! ```

mod gbpa;
mod ste;

pub use gbpa::Gbpa;
pub use ste::{Bits, Config, Illegal, Reasons, Ste};

use crate::arm::{Device, Features, Reserved, Shareability, Stage1, Stage2, Type, combine};
use crate::cite::{Cite, Source};

const fn spec(place: &'static str) -> Cite {
    Cite::read(Source::Smmu, place)
}

/// The attributes with which a transaction comes to the SMMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incoming {
    /// The memory type and the shareability.
    pub attributes: Stage1,
    /// From a PCIe device: whether the STE's overrides count for it is IMPLEMENTATION DEFINED.
    pub pcie: bool,
}

impl Incoming {
    /// From PCIe: cacheable and shared, inner or outer as the system has it (IHI 0070 13.6.1, after SBSA). Here inner.
    pub const PCIE: Self = Self { attributes: Stage1::new(Type::NORMAL_WB, Shareability::Inner), pcie: true };
    /// What the SMMU supposes where the interconnect conveys no attribute: Normal Write-Back, Non-shareable (13.1.3).
    pub const NONE: Self = Self { attributes: Stage1::new(Type::NORMAL_WB, Shareability::Non), pcie: false };
}

/// What an STE, or SMMU_GBPA for all streams while the SMMU is off, puts in the place of incoming attributes (5.2 STE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Override {
    /// MTCFG and MemAttr: the memory type by its four bits, in the encoding of a stage-2 descriptor without FWB.
    pub memattr: Option<u8>,
    /// SHCFG: 0b00 Non-shareable, 0b01 use incoming, 0b10 Outer, 0b11 Inner.
    pub shcfg: u8,
}

impl Override {
    /// Use incoming, for both.
    pub const INCOMING: Self = Self { memattr: None, shcfg: 0b01 };
}

/// The type of STE.MemAttr or SMMU_GBPA.MemAttr. Unlike in a descriptor, 0b0100, 0b1000 and 0b1100 are reserved and
/// behave as Device-nGnRnE. Higher bits are ignored.
#[must_use]
#[inline]
pub const fn override_type(memattr: u8) -> Type {
    use crate::arm::MemAttr;
    let memattr = memattr & 0xf;
    if memattr & 0b11 == 0 && memattr != 0 {
        return Type::Device(Device::nGnRnE);
    }
    match Stage2::decode(false, memattr, 0, Features::NONE).attr() {
        MemAttr::Combine(ty) => ty,
        // Not without FWB.
        _ => Type::Device(Device::nGnRnE),
    }
}

/// [`override_type`] of each encoding.
static OVERRIDES: [Stage1; 16] = {
    let mut table = [Stage1::new(Type::NORMAL_NC, Shareability::Outer); 16];
    let mut memattr = 0;
    while memattr < 16 {
        table[memattr] = Stage1::new(override_type(memattr as u8), Shareability::Outer);
        memattr += 1;
    }
    table
};

/// Whether [`override_type`] takes the encoding as reserved.
#[must_use]
#[inline]
pub const fn is_reserved_override(memattr: u8) -> bool {
    memattr & 0b11 == 0 && memattr & 0b1100 != 0
}

/// What stage 1 says: a byte of CD.{MAIR1, MAIR0} and SH of the descriptor. As [`Stage1::decode`], but for the bytes that are
/// reserved, of which the SMMU says what they do (5.4): `0b0000_ddxx` is the Device type `dd`, and any other with 0b0000 below
/// is inner Write-Through Transient, and outer what it says. That holds for 0xF0 too, Tagged to a CPU with FEAT_MTE2 (3.23),
/// and for the three bytes of FEAT_XS (3.17.8).
///
/// ```
/// use memtype::smmu::stage1;
///
/// assert_eq!(stage1(0xff, 0b11).ty().name(), "normal-wb");
/// // What a process maps with PROT_MTE, where a device shares its tables and MAIR.
/// assert_eq!(stage1(0xf0, 0b11).ty().name(), "normal-iwt-owb");
/// ```
#[must_use]
#[inline]
pub const fn stage1(mair: u8, sh: u8) -> Stage1 {
    if mair & 0x0f == 0 && mair != 0 {
        let mut it = Stage1::decode(mair | 0b0011, sh, Features::NONE);
        it.reserved_mair = Some(Reserved::MairNormal);
        return it;
    }
    Stage1::decode(mair, sh, Features::NONE)
}

/// A transaction and what is configured for its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream {
    /// As it comes in.
    pub incoming: Incoming,
    /// The overrides.
    pub overrides: Override,
    /// What stage 1 says of the page, by [`stage1()`]; `None`: stage 1 is bypassed.
    pub stage1: Option<Stage1>,
    /// What stage 2 says of the page, decoded with STE.S2FWB and, for `mte_perm`, SMMU_IDR3.MTEPERM (3.23.1); `None`: stage 2
    /// is bypassed.
    pub stage2: Option<Stage2>,
    /// The transaction has the No Snoop attribute.
    pub no_snoop: bool,
}

impl Stream {
    /// An ordinary PCIe transaction that bypasses both stages.
    pub const PCIE: Self =
        Self { incoming: Incoming::PCIE, overrides: Override::INCOMING, stage1: None, stage2: None, no_snoop: false };
}

/// What the SMMU and the system are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Platform {
    /// SMMU_IDR1.ATTR_TYPES_OVR: MTCFG, SHCFG and ALLOCCFG are there.
    pub attr_types_ovr: bool,
    /// They count for PCIe streams too: IMPLEMENTATION DEFINED (Table 13.5, 13.6.1), and not expected to be needed.
    pub override_pcie: bool,
    /// The system implements No Snoop: system-dependent (13.6.1.1).
    pub no_snoop: bool,
    /// Firmware says CANWBS for the device (IORT, memory access flags, bit 2): its accesses to memory are coherent whatever
    /// attributes the device presents or the SMMU gives them.
    pub canwbs: bool,
}

impl Platform {
    /// A server: overrides are there and leave PCIe alone, No Snoop works, firmware does not promise CANWBS.
    pub const SBSA: Self = Self { attr_types_ovr: true, override_pcie: false, no_snoop: true, canwbs: false };
}

/// A rule of [`transform`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The incoming attributes of PCIe.
    FixedPcie,
    /// The incoming attributes where none are given.
    Default,
    /// MTCFG.
    OverrideType,
    /// SHCFG.
    OverrideShareability,
    /// A reserved MemAttr.
    ReservedOverride,
    /// SMMU_IDR1.ATTR_TYPES_OVR = 0.
    NoOverrides,
    /// Overrides that do not count for PCIe.
    NotForPcie,
    /// Stage 1 replaces.
    Stage1,
    /// A reserved byte in CD.MAIR.
    ReservedMair,
    /// Stage 2 combines.
    Stage2,
    /// Stage 2 with S2FWB.
    Stage2Fwb,
    /// No Snoop.
    NoSnoop,
    /// No Snoop on Device or on what is not cacheable.
    NoSnoopIdle,
    /// The system has no No Snoop.
    NoSnoopIgnored,
    /// CANWBS.
    Canwbs,
}

impl Rule {
    /// The rule, as a sentence.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::FixedPcie => "PCIe has no memory types: a transaction comes in cacheable and shared.",
            Self::Default => "Where no attribute is conveyed, the SMMU supposes Normal Write-Back, Non-shareable.",
            Self::OverrideType => "MTCFG replaces the incoming memory type by MemAttr.",
            Self::OverrideShareability => "SHCFG replaces the incoming shareability; Device and Normal-NC stay OSH.",
            Self::ReservedOverride => {
                "MemAttr 0b0100, 0b1000 and 0b1100 are reserved here, and behave as Device-nGnRnE."
            }
            Self::NoOverrides => "SMMU_IDR1.ATTR_TYPES_OVR is 0: there are no overrides of type and shareability.",
            Self::NotForPcie => "It is IMPLEMENTATION DEFINED whether overrides count for PCIe; here they do not.",
            Self::Stage1 => "Stage 1 replaces type and shareability by those of CD.MAIR and the descriptor.",
            Self::ReservedMair => {
                "The MAIR byte is reserved here: a Device byte is what its bits 3:2 say, any other inner Write-Through."
            }
            Self::Stage2 => "Stage 2 is combined as a CPU combines it: the stricter wins.",
            Self::Stage2Fwb => "STE.S2FWB: stage 2 means what it means to a CPU with HCR_EL2.FWB = 1.",
            Self::NoSnoop => "No Snoop turns a cacheable result into Normal-iNC-oNC-OSH, after S2FWB and all else.",
            Self::NoSnoopIdle => "No Snoop changes neither Device nor what is not cacheable.",
            Self::NoSnoopIgnored => "This system does not implement No Snoop: it has no effect.",
            Self::Canwbs => {
                "Firmware promises CANWBS: accesses to memory are coherent whatever their attributes, No Snoop included."
            }
        }
    }

    /// Where it comes from.
    #[must_use]
    pub const fn cite(self) -> Cite {
        match self {
            Self::FixedPcie => spec("13.6.1"),
            Self::Default => spec("13.1.3"),
            Self::OverrideType => spec("5.2 STE.MTCFG, 6.3.14, 13.1.4"),
            Self::OverrideShareability => spec("5.2 STE.SHCFG, 6.3.14, 13.1.4"),
            Self::ReservedOverride => spec("5.2 STE.MemAttr"),
            Self::NoOverrides => spec("6.3.2 SMMU_IDR1.ATTR_TYPES_OVR"),
            Self::NotForPcie => spec("Table 13.5, 13.6.1"),
            Self::Stage1 => spec("13.4.2"),
            Self::ReservedMair => spec("5.4 CD.MAIR1, 3.23"),
            Self::Stage2 => spec("13.4.3, 13.1.5, and DDI 0487 D8.6.5"),
            Self::Stage2Fwb => spec("13.4.3, 13.1.6, and DDI 0487 D8.6.6"),
            Self::NoSnoop | Self::NoSnoopIdle | Self::NoSnoopIgnored => spec("13.6.1.1"),
            Self::Canwbs => Cite::second_hand(
                Source::Linux,
                "807404d66fcf, 7.2 drivers/acpi/arm64/iort.c, of IORT (DEN0049E.f) memory access flags",
            ),
        }
    }
}

const MOST: usize = 8;

/// What a transaction becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The memory type.
    pub ty: Type,
    /// The shareability.
    pub sh: Shareability,
    /// Firmware promises that an access to memory is coherent whatever the two say: CANWBS.
    pub promised: bool,
}

impl Outcome {
    /// Whether an access to memory snoops the CPUs' caches, so that a driver needs no cache maintenance: the attributes say so,
    /// or firmware does.
    #[must_use]
    #[inline]
    pub const fn is_coherent(&self) -> bool {
        self.promised | self.attributes_are_coherent()
    }
    /// Whether the attributes say so: Normal, inner and outer Write-Back, shareable.
    #[must_use]
    #[inline]
    pub const fn attributes_are_coherent(&self) -> bool {
        self.ty.is_normal_wb() & !matches!(self.sh, Shareability::Non)
    }
}

/// What a transaction becomes (13.4, 13.5 and 13.6.1.1). A stream without stages is 13.3, and with [`Gbpa`]'s overrides 13.2.
///
/// With CANWBS a transaction with No Snoop keeps the attributes it had: the promise is that it makes no difference, and what
/// goes out on the interconnect is the system's.
#[must_use]
#[inline]
pub const fn transform(stream: &Stream, platform: Platform) -> Outcome {
    run(stream, platform).0
}

/// The rules that make it so, in the order in which they are applied.
pub fn because(stream: &Stream, platform: Platform) -> impl Iterator<Item = Rule> {
    run(stream, platform).1.into_iter().flatten()
}

/// The outcome and the rules. Inlined, so that who wants no rules pays for none.
#[inline(always)]
const fn run(stream: &Stream, platform: Platform) -> (Outcome, [Option<Rule>; MOST]) {
    let mut rules = [None; MOST];
    let mut at = 0;
    macro_rules! rule {
        ($rule:ident) => {
            rules[at] = Some(Rule::$rule);
            at += 1;
        };
    }
    let Incoming { attributes: mut first, pcie } = stream.incoming;
    if pcie {
        rule!(FixedPcie);
    } else if first.ty().is_normal_wb() && matches!(first.sh, Shareability::Non) {
        rule!(Default);
    }
    // Stage 1 replaces whatever the overrides say, so they are worth no word then.
    let over = stream.overrides;
    if let Some(s1) = stream.stage1 {
        first = s1;
        rule!(Stage1);
        if s1.reserved_mair.is_some() {
            rule!(ReservedMair);
        }
    } else if over.memattr.is_some() || over.shcfg & 3 != 0b01 {
        if !platform.attr_types_ovr {
            rule!(NoOverrides);
        } else if pcie && !platform.override_pcie {
            rule!(NotForPcie);
        } else {
            if let Some(memattr) = over.memattr {
                let sh = first.sh;
                first = OVERRIDES[(memattr & 0xf) as usize];
                first.sh = sh;
                rule!(OverrideType);
                if is_reserved_override(memattr) {
                    rule!(ReservedOverride);
                }
            }
            if over.shcfg & 3 != 0b01 {
                first.sh = Shareability::from_bits(over.shcfg).0;
                rule!(OverrideShareability);
            }
        }
    }
    let (mut ty, mut sh) = if let Some(s2) = &stream.stage2 {
        if s2.is_fwb() {
            rule!(Stage2Fwb);
        } else {
            rule!(Stage2);
        }
        let both = combine(&first, s2);
        (both.ty, both.sh)
    } else {
        (first.ty(), first.sh)
    };
    sh = sh.effective(ty);
    if stream.no_snoop {
        if !platform.no_snoop {
            rule!(NoSnoopIgnored);
        } else if !ty.is_cacheable() {
            rule!(NoSnoopIdle);
        } else if !platform.canwbs {
            ty = Type::NORMAL_NC;
            sh = Shareability::Outer;
            rule!(NoSnoop);
        }
    }
    let out = Outcome { ty, sh, promised: platform.canwbs };
    if platform.canwbs && (stream.no_snoop || !out.attributes_are_coherent()) {
        rule!(Canwbs);
    }
    let _ = at;
    (out, rules)
}
