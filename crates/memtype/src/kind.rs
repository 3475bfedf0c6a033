//! The memory types of every architecture, as one closed set.
//!
//! ```
//! use memtype::{Arch, MemoryType};
//!
//! let wc = MemoryType::named("x86:wc").unwrap();
//! assert_eq!((wc.arch(), wc.name()), (Arch::X86, "wc"));
//! assert!(MemoryType::ALL.iter().all(|ty| MemoryType::named(&ty.to_string()) == Some(*ty)));
//! ```

use core::fmt;

use crate::guarantee::{Guarantee, Question};
use crate::{arm, loongarch, power, riscv, s390, x86};

/// An architecture whose CPUs have memory types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// Arm, A-profile, AArch64.
    Arm64,
    /// Intel 64 and AMD64.
    X86,
    /// RISC-V with Svpbmt.
    Riscv,
    /// Power, Book III, 64-bit server.
    Power,
    /// LoongArch.
    LoongArch,
    /// z/Architecture, with PCI.
    S390,
}

impl Arch {
    /// All.
    pub const ALL: [Self; 6] = [Self::Arm64, Self::X86, Self::Riscv, Self::Power, Self::LoongArch, Self::S390];

    /// The name in files and on the command line: `arm64`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86 => "x86",
            Self::Riscv => "riscv",
            Self::Power => "power",
            Self::LoongArch => "loongarch",
            Self::S390 => "s390",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A memory type of some architecture, as it is in force after all stages of translation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryType {
    /// Of Arm.
    Arm64(arm::Type),
    /// Of x86.
    X86(x86::Type),
    /// Of RISC-V.
    Riscv(riscv::Type),
    /// Of Power.
    Power(power::Type),
    /// Of LoongArch.
    LoongArch(loongarch::Type),
    /// Of s390: how its PCI instructions reach a function.
    S390(s390::Type),
}

macro_rules! all {
    ($($arch:ident($($ty:expr),+ $(,)?),)+) => {
        /// Every memory type that has a name, by architecture, the strictest first. Of Arm those whose inner and outer
        /// cacheability are the same.
        pub const ALL: &'static [Self] = &[$($(Self::$arch($ty)),+),+];
    };
}

impl MemoryType {
    all! {
        Arm64(
            arm::Type::Device(arm::Device::nGnRnE),
            arm::Type::Device(arm::Device::nGnRE),
            arm::Type::Device(arm::Device::nGRE),
            arm::Type::Device(arm::Device::GRE),
            arm::Type::NORMAL_NC,
            arm::Type::NORMAL_WT,
            arm::Type::NORMAL_WB,
        ),
        X86(x86::Type::Uc, x86::Type::Wc, x86::Type::Wp, x86::Type::Wt, x86::Type::Wb),
        Riscv(riscv::Type::Io, riscv::Type::PmaIo, riscv::Type::Nc, riscv::Type::PmaMain),
        Power(power::Type::InhibitedGuarded, power::Type::Inhibited, power::Type::Cacheable),
        LoongArch(loongarch::Type::Suc, loongarch::Type::Wuc, loongarch::Type::Cc),
        S390(s390::Type::Mio, s390::Type::MioWc),
    }

    /// The architecture.
    #[must_use]
    pub const fn arch(self) -> Arch {
        match self {
            Self::Arm64(_) => Arch::Arm64,
            Self::X86(_) => Arch::X86,
            Self::Riscv(_) => Arch::Riscv,
            Self::Power(_) => Arch::Power,
            Self::LoongArch(_) => Arch::LoongArch,
            Self::S390(_) => Arch::S390,
        }
    }

    /// The name within its architecture: `normal-nc`, `wc`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arm64(ty) => ty.name(),
            Self::X86(ty) => ty.name(),
            Self::Riscv(ty) => ty.name(),
            Self::Power(ty) => ty.name(),
            Self::LoongArch(ty) => ty.name(),
            Self::S390(ty) => ty.name(),
        }
    }

    /// The type of a name with its architecture: `x86:wc`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (arch, ty) = name.split_once(':')?;
        Self::ALL.iter().copied().find(|it| it.arch().name() == arch && it.name() == ty)
    }

    /// How `question` stands for it. `None` where the architecture has no such operation: x86 has no load-exclusive.
    #[must_use]
    pub const fn guarantee(self, question: Question) -> Option<Guarantee> {
        match self {
            Self::Arm64(ty) => ty.guarantee(question),
            Self::X86(ty) => ty.guarantee(question),
            Self::Riscv(ty) => ty.guarantee(question),
            Self::Power(ty) => ty.guarantee(question),
            Self::LoongArch(ty) => ty.guarantee(question),
            Self::S390(ty) => ty.guarantee(question),
        }
    }
}

/// With its architecture: `x86:wc`.
impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.arch().name(), self.name())
    }
}
