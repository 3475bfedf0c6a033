//! Where a statement comes from, and whether somebody has looked.
//!
//! ```
//! use memtype::cite::{Checked, Cite, Source};
//!
//! let cite = Cite::read(Source::Arm, "B2.10.2.1");
//! assert_eq!(cite.to_string(), "DDI 0487 B2.10.2.1");
//! let cite = Cite::unverified(Source::Apm, "15.25.8");
//! assert_eq!(cite.to_string(), "APM vol. 2 15.25.8, unverified");
//! assert_eq!(cite.checked, Checked::Unverified);
//! ```

use core::fmt;

/// A document or a tree of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Arm Architecture Reference Manual for A-profile, DDI 0487, issue M.a.a.
    Arm,
    /// Arm SMMUv3 Architecture Specification, IHI 0070, issue G.b.
    Smmu,
    /// Intel 64 and IA-32 Architectures Software Developer's Manual, volumes 2 and 3.
    Sdm,
    /// AMD64 Architecture Programmer's Manual, volume 2.
    Apm,
    /// Intel Virtualization Technology for Directed I/O, architecture specification.
    Vtd,
    /// AMD I/O Virtualization Technology (IOMMU) specification.
    AmdVi,
    /// The RISC-V Instruction Set Manual, volumes I and II.
    Riscv,
    /// Power ISA.
    Power,
    /// LoongArch Reference Manual, volume 1.
    LoongArch,
    /// z/Architecture: what is known of its PCI instructions.
    S390,
    /// PCI Express Base Specification.
    Pcie,
    /// Linux 6.12 where no version is named.
    Linux,
    /// rdma-core.
    RdmaCore,
    /// UCX.
    Ucx,
    /// DPDK.
    Dpdk,
    /// gdrcopy.
    Gdrcopy,
    /// SPDK.
    Spdk,
    /// A mail, a talk, a page: named in the place.
    Said,
}

impl Source {
    /// What stands before the place in a citation.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Arm => "DDI 0487",
            Self::Smmu => "IHI 0070",
            Self::Sdm => "SDM",
            Self::Apm => "APM vol. 2",
            Self::Vtd => "VT-d",
            Self::AmdVi => "AMD IOMMU",
            Self::Riscv => "RISC-V",
            Self::Power => "Power ISA",
            Self::LoongArch => "LoongArch vol. 1",
            Self::S390 => "z/Architecture",
            Self::Pcie => "PCIe",
            Self::Linux => "Linux",
            Self::RdmaCore => "rdma-core",
            Self::Ucx => "UCX",
            Self::Dpdk => "DPDK",
            Self::Gdrcopy => "gdrcopy",
            Self::Spdk => "SPDK",
            Self::Said => "said:",
        }
    }
}

/// How far a statement has been followed to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checked {
    /// It was read there.
    Read,
    /// It was read in something else that reports it: another implementation, a page about it.
    SecondHand,
    /// Nobody has looked it up: general knowledge, or an inference. Do not build on it.
    Unverified,
}

impl Checked {
    /// `read`, `second-hand`, `unverified`.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::SecondHand => "second-hand",
            Self::Unverified => "unverified",
        }
    }
}

/// A place in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cite {
    /// The source.
    pub source: Source,
    /// The section, table, rule, file or function in it.
    pub place: &'static str,
    /// How far it was followed.
    pub checked: Checked,
}

impl Cite {
    /// Read there.
    #[must_use]
    pub const fn read(source: Source, place: &'static str) -> Self {
        Self { source, place, checked: Checked::Read }
    }
    /// Read in something that reports it; `place` says in what.
    #[must_use]
    pub const fn second_hand(source: Source, place: &'static str) -> Self {
        Self { source, place, checked: Checked::SecondHand }
    }
    /// Not looked up.
    #[must_use]
    pub const fn unverified(source: Source, place: &'static str) -> Self {
        Self { source, place, checked: Checked::Unverified }
    }
}

impl fmt::Display for Cite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source.short(), self.place)?;
        match self.checked {
            Checked::Read => Ok(()),
            Checked::SecondHand | Checked::Unverified => write!(f, ", {}", self.checked.short()),
        }
    }
}
