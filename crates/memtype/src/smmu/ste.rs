//! The stream table entry: 64 bytes of configuration for each device (IHI 0070 5.2).

use super::Override;

/// A place in the 512 bits of an STE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bits {
    /// As the manual names it.
    pub name: &'static str,
    /// The highest bit of the 512.
    pub high: u16,
    /// The lowest; in the same doubleword.
    pub low: u16,
}

macro_rules! layout {
    ($count:literal; $($id:ident $high:literal $low:literal: $means:literal,)*) => {
        impl Bits {
            $(
                #[doc = $means]
                pub const $id: Self = Self { name: stringify!($id), high: $high, low: $low };
            )*
            /// All fields of the first four doublewords, the lowest first. The others hold MPAM, the Secure stage 2 and what
            /// comes with Realms, and nothing about memory types.
            pub const ALL: [Self; $count] = [$(Self::$id,)*];
        }
    };
}

// The names are the manual's.
#[allow(non_upper_case_globals)]
mod names {
    use super::Bits;

    layout! { 58;
        V 0 0: "The entry is valid.",
        Config 3 1: "Which stages translate.",
        S1Fmt 5 4: "Levels of the table of context descriptors. Counts with S1CDMax.",
        S1ContextPtr 55 6: "The context descriptor, or the table of them.",
        S1CDMax 63 59: "Log2 of the number of context descriptors; 0: substreams (PASIDs) are off.",
        S1DSS 65 64: "What a transaction without a substream does. Counts with S1CDMax.",
        S1CIR 67 66: "Inner cacheability of fetches of context descriptors.",
        S1COR 69 68: "Outer cacheability of the same.",
        S1CSH 71 70: "Shareability of the same.",
        S2HWU59 72 72: "Bit 59 of a stage-2 leaf is for hardware.",
        S2HWU60 73 73: "Bit 60 likewise.",
        S2HWU61 74 74: "Bit 61 likewise.",
        S2HWU62 75 75: "Bit 62 likewise.",
        DRE 76 76: "Destructive reads are allowed.",
        CONT 80 77: "Log2 of the number of neighbours that are the same.",
        DCP 81 81: "Directed cache prefetch is allowed.",
        PPAR 82 82: "Automatic responses to page requests have a PASID.",
        MEV 83 83: "Similar events may be merged.",
        SW_RESERVED 87 84: "For software.",
        S1PIE 88 88: "Context descriptors may enable permission indirection.",
        S2FWB 89 89: "Stage 2 as with HCR_EL2.FWB = 1. RES0 before SMMUv3.2.",
        S1MPAM 90 90: "MPAM comes from the context descriptor.",
        S1STALLD 91 91: "Stage 1 may not stall.",
        EATS 93 92: "ATS. Ignored when nothing translates.",
        STRW 95 94: "Whose stage 1 it is. Counts where stage 1 alone translates.",
        MemAttr 99 96: "The memory type for MTCFG.",
        MTCFG 100 100: "MemAttr replaces the incoming memory type.",
        ALLOCCFG 104 101: "Allocation hints.",
        SHCFG 109 108: "Shareability.",
        NSCFG 111 110: "Security of the access. Ignored for a Non-secure stream.",
        PRIVCFG 113 112: "Privilege of the access.",
        INSTCFG 115 114: "Whether reads are instruction fetches.",
        S2VMID 143 128: "VMID.",
        S2T0SZ 165 160: "Size of the input address of stage 2.",
        S2SL0 167 166: "Where walks start.",
        S2IR0 169 168: "Inner cacheability of stage-2 walks.",
        S2OR0 171 170: "Outer cacheability of stage-2 walks.",
        S2SH0 173 172: "Shareability of stage-2 walks.",
        S2TG 175 174: "Granule of stage 2.",
        S2PS 178 176: "Size of the output address of stage 2.",
        S2AA64 179 179: "Stage-2 tables are VMSAv8-64.",
        S2ENDI 180 180: "Stage-2 tables are big-endian.",
        S2AFFD 181 181: "A clear Access flag does not fault.",
        S2PTW 182 182: "A fetch for stage 1 that stage 2 makes Device faults. Counts where both translate.",
        S2HD 183 183: "Hardware updates dirty state.",
        S2HA 184 184: "Hardware updates the Access flag.",
        S2S 185 185: "Faults of stage 2 stall.",
        S2R 186 186: "Faults of stage 2 are recorded.",
        S2HAFT 187 187: "Hardware updates the Access flag of tables.",
        S2PIE 188 188: "Permission indirection at stage 2.",
        S2POE 189 189: "Permission overlay at stage 2.",
        DPT_VMATCH 191 190: "How the VMID has to match in DPT checks. Counts with EATS = 0b11.",
        S2NSW 192 192: "Secure streams: walks for Non-secure addresses are Non-secure.",
        S2NSA 193 193: "Secure streams: Non-secure addresses stay so.",
        S2SL0_2 194 194: "The third bit of S2SL0, with S2DS.",
        S2DS 195 195: "52-bit addresses with small granules.",
        S2TTB 247 196: "The stage-2 tables.",
        S2SKL 254 253: "Levels skipped, with VMSAv9-128.",
    }
}

/// STE.Config: what happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Config {
    /// 0b000; 0b001, 0b010 and 0b011 are reserved and behave alike: transactions are aborted, without an event.
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

impl Config {
    /// Whether stage 1 translates.
    #[must_use]
    #[inline]
    pub const fn stage1(self) -> bool {
        matches!(self, Self::Stage1 | Self::Both)
    }
    /// Whether stage 2 translates.
    #[must_use]
    #[inline]
    pub const fn stage2(self) -> bool {
        matches!(self, Self::Stage2 | Self::Both)
    }
}

/// What makes an entry of a Non-secure stream ILLEGAL, as if not valid, as far as the entry alone tells (5.2.2). Most of what
/// does depends on the ID registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Illegal {
    /// EATS is 0b10 and not both stages translate, or stage 2 stalls.
    SplitAts,
    /// EATS is 0b01, or 0b11 with DPT, and stage 2 stalls.
    StallingAts,
    /// STRW is 0b01 or 0b11.
    StreamWorld,
    /// S2FWB with VMSAv8-32 tables.
    FwbOnLpae,
    /// S2TG is 0b11.
    Granule,
}

impl Illegal {
    /// The reason, with the condition on the ID registers.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::SplitAts => {
                "EATS 0b10 is for two stages that translate, with S2S = 0: else ILLEGAL, where there is ATS"
            }
            Self::StallingAts => "EATS 0b01 or 0b11 with a stage 2 that stalls (S2S) is ILLEGAL, where there is ATS",
            Self::StreamWorld => "STRW 0bx1 is reserved and ILLEGAL, where there is EL2 (SMMU_IDR0.Hyp)",
            Self::FwbOnLpae => "S2FWB with S2AA64 = 0 is ILLEGAL, unless SMMU_IDR5.D128 makes that VMSAv9-128",
            Self::Granule => "S2TG 0b11 is reserved and ILLEGAL",
        }
    }
}

/// A stream table entry: eight doublewords, the lowest first. Every bit pattern is one.
///
/// ```
/// use memtype::smmu::{Bits, Config, Ste};
///
/// // Stage 2 with S2FWB on VMSAv8-64 tables, shareability as it comes in.
/// let ste = Ste([0b110 << 1 | 1, 1 << 25 | 0b01 << 44, 1 << 51, 0, 0, 0, 0, 0]);
/// assert!(ste.is_valid() && ste.s2fwb() && ste.illegal().is_empty());
/// assert_eq!((ste.config(), ste.overrides().shcfg), (Config::Stage2, 0b01));
/// assert_eq!(ste.get(Bits::S2AA64), 1);
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
    /// A field.
    #[must_use]
    #[inline]
    pub const fn get(&self, bits: Bits) -> u64 {
        self.field(bits.low as u32, (bits.high - bits.low + 1) as u32)
    }
    const fn has(&self, bit: Bits) -> bool {
        self.get(bit) != 0
    }

    /// V.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.has(Bits::V)
    }
    /// Config.
    #[must_use]
    pub const fn config(&self) -> Config {
        match self.get(Bits::Config) {
            0b100 => Config::Bypass,
            0b101 => Config::Stage1,
            0b110 => Config::Stage2,
            0b111 => Config::Both,
            _ => Config::Abort,
        }
    }
    /// What happens to a transaction without a substream (PASID): S1DSS may have it skip stage 1, or abort it, where stage 1
    /// has more than one context descriptor.
    #[must_use]
    pub const fn config_without_substream(&self) -> Config {
        let config = self.config();
        if !config.stage1() || !self.has(Bits::S1CDMax) {
            return config;
        }
        match (self.get(Bits::S1DSS), config) {
            (0b01, Config::Both) => Config::Stage2,
            (0b01, _) => Config::Bypass,
            (0b10, config) => config,
            // 0b11 is reserved and behaves as 0b00.
            _ => Config::Abort,
        }
    }
    /// S2FWB. Counts where stage 2 translates.
    #[must_use]
    pub const fn s2fwb(&self) -> bool {
        self.has(Bits::S2FWB)
    }
    /// MTCFG, MemAttr and SHCFG. They are replaced where stage 1 translates.
    #[must_use]
    pub const fn overrides(&self) -> Override {
        let memattr = if self.has(Bits::MTCFG) { Some(self.get(Bits::MemAttr) as u8) } else { None };
        Override { memattr, shcfg: self.get(Bits::SHCFG) as u8 }
    }
    /// ALLOCCFG: 0b0xxx as they come in, 0b1RWT Read-Allocate, Write-Allocate, Transient.
    #[must_use]
    pub const fn alloccfg(&self) -> u8 {
        self.get(Bits::ALLOCCFG) as u8
    }
    /// EATS: 0b00 no ATS, 0b01 full, 0b10 split-stage, 0b11 full with DPT checks. 0 where no stage translates.
    #[must_use]
    pub const fn eats(&self) -> u8 {
        if self.config().stage1() || self.config().stage2() { self.get(Bits::EATS) as u8 } else { 0 }
    }
    /// What makes the entry ILLEGAL, as far as it tells.
    #[must_use]
    pub const fn illegal(&self) -> Reasons {
        let (config, stalls) = (self.config(), self.has(Bits::S2S));
        let (s2, aa64) = (config.stage2(), self.has(Bits::S2AA64));
        let world = matches!(config, Config::Stage1) && self.get(Bits::STRW) & 1 != 0;
        let is = [
            self.eats() == 0b10 && (!matches!(config, Config::Both) || stalls),
            self.eats() & 1 != 0 && s2 && stalls,
            world,
            s2 && !aa64 && self.s2fwb(),
            s2 && aa64 && self.get(Bits::S2TG) == 0b11,
        ];
        Reasons(is, self.is_valid())
    }
}

/// The reasons for which an entry is ILLEGAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reasons([bool; 5], bool);

impl Reasons {
    /// None that the entry alone tells. An entry that is not valid has none: the rest of it is ignored.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.1 || matches!(self.0, [false, false, false, false, false])
    }
    /// Each.
    pub fn iter(self) -> impl Iterator<Item = Illegal> {
        use Illegal::{FwbOnLpae, Granule, SplitAts, StallingAts, StreamWorld};
        let all = [SplitAts, StallingAts, StreamWorld, FwbOnLpae, Granule];
        all.into_iter().zip(self.0).filter(move |(_, is)| *is && self.1).map(|(it, _)| it)
    }
}
