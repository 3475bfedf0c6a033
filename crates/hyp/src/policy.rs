//! Who decides the stage-2 type, and how: the policies as data, and the decision as a pure function.

use core::fmt;

use crate::Vma;

/// What the CPU offers that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cpu {
    /// FEAT_S2FWB on every CPU: ID_AA64MMFR2_EL1.FWB.
    pub fwb: bool,
    /// CTR_EL0.DIC on every CPU: no instruction cache invalidation needed, so memory may be mapped executable at once.
    pub dic: bool,
}

/// The stage-2 memory types Linux uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum S2Kind {
    /// `MT_S2_NORMAL`, `MT_S2_FWB_NORMAL`.
    Normal,
    /// `MT_S2_NORMAL_NC`, `MT_S2_FWB_NORMAL_NC`: since Linux 6.9.
    NormalNc,
    /// `MT_S2_DEVICE_nGnRE`, `MT_S2_FWB_DEVICE_nGnRE`.
    DeviceNgnre,
}

impl S2Kind {
    /// MemAttr\[3:0\] of the descriptor (`arch/arm64/include/asm/memory.h`).
    #[must_use]
    pub const fn memattr(self, fwb: bool) -> u8 {
        match (self, fwb) {
            (Self::Normal, false) => 0b1111,
            (Self::Normal, true) => 0b0110,
            (Self::NormalNc, _) => 0b0101,
            (Self::DeviceNgnre, _) => 0b0001,
        }
    }
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::NormalNc => "Normal-NC",
            Self::DeviceNgnre => "Device-nGnRE",
        }
    }
}

/// Why a decision fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The page is memory of the kernel's own.
    KernelMemory,
    /// Linux 6.1: a page that is not, is Device.
    NotKernelMemory,
    /// Linux 6.9: VFIO marked the VMA.
    AllowAnyUncached,
    /// Linux 6.9: it did not.
    NotAllowed,
}

impl Why {
    /// In a sentence.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::KernelMemory => "The page is the kernel's own memory (pfn_is_map_memory), so stage 2 is Normal.",
            Self::NotKernelMemory => {
                "The page is not the kernel's own memory, so stage 2 is Device-nGnRE; the VMA is not asked."
            }
            Self::AllowAnyUncached => {
                "The page is not the kernel's own memory and its VMA has VM_ALLOW_ANY_UNCACHED (vfio-pci sets it), so stage \
                 2 is Normal-NC and the guest chooses Device or Normal-NC."
            }
            Self::NotAllowed => {
                "The page is not the kernel's own memory and its VMA lacks VM_ALLOW_ANY_UNCACHED, so stage 2 is Device-nGnRE."
            }
        }
    }
    /// The function and version it comes from.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::KernelMemory | Self::NotKernelMemory => {
                "Linux 6.1, arch/arm64/kvm/mmu.c: user_mem_abort, kvm_is_device_pfn"
            }
            Self::AllowAnyUncached | Self::NotAllowed => {
                "Linux 6.9, arch/arm64/kvm/mmu.c: user_mem_abort (8c47ce3e1d2c), vfio_pci_core_mmap (a39d3a966a09)"
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.says(), self.source())
    }
}

/// What was decided for a page, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The type.
    pub kind: S2Kind,
    /// Why.
    pub why: Why,
}

/// Who decides the stage-2 type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Linux before 6.9: device memory is Device-nGnRE at stage 2, always.
    Linux6_1,
    /// Linux 6.9 and later: Normal-NC where VFIO says so.
    Linux6_9,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Linux6_1, Self::Linux6_9];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux6_1 => "linux-6.1",
            Self::Linux6_9 => "linux-6.9",
        }
    }
    /// By name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
    /// The rule in a sentence.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Linux6_1 => "Device memory is Device-nGnRE at stage 2, always.",
            Self::Linux6_9 => "Normal-NC at stage 2 where VFIO says so: the guest chooses Device or Normal-NC.",
        }
    }
    /// Where the rule comes from.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Linux6_1 => "Linux 6.1 user_mem_abort, kvm_is_device_pfn; the kernel of thread 002",
            Self::Linux6_9 => "Linux 6.9 user_mem_abort, VM_ALLOW_ANY_UNCACHED; thread 003",
        }
    }

    /// What the pages behind `vma` get at stage 2.
    #[must_use]
    pub const fn decide(self, vma: &Vma) -> Decision {
        match (self, vma.kernel_memory, vma.allow_any_uncached) {
            (_, true, _) => Decision { kind: S2Kind::Normal, why: Why::KernelMemory },
            (Self::Linux6_1, false, _) => Decision { kind: S2Kind::DeviceNgnre, why: Why::NotKernelMemory },
            (Self::Linux6_9, false, true) => Decision { kind: S2Kind::NormalNc, why: Why::AllowAnyUncached },
            (Self::Linux6_9, false, false) => Decision { kind: S2Kind::DeviceNgnre, why: Why::NotAllowed },
        }
    }
}
