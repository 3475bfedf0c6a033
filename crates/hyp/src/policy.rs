//! Who decides the stage-2 type, and how: each policy is two pure functions of a few lines. [`Policy::mmap`] is what VFIO makes
//! of a BAR that user space maps, [`Policy::decide`] what KVM makes of the mapping when the guest touches it.

use core::fmt;

use memtype::{
    Attribute,
    x86::{
        self,
        kvm::{Asked, Era, Says},
    },
};
use platform::{NcDefect, Platform};

use crate::vma::{Pgprot, Vma};

/// What the CPU offers that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Cpu {
    /// FEAT_S2FWB on every CPU: ID_AA64MMFR2_EL1.FWB.
    pub fwb: bool,
    /// CTR_EL0.DIC on every CPU: no instruction cache invalidation needed, so memory may be mapped executable at once.
    pub dic: bool,
}

impl Cpu {
    /// Whether memory without a mapping of the kernel's own can be given to a guest cacheable: there is no address to maintain
    /// the caches by, and with these two nobody has to (Linux 6.17, `kvm_supports_cacheable_pfnmap`).
    #[must_use]
    pub const fn cacheable_pfnmap(self) -> bool {
        self.fwb && self.dic
    }
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
    /// All.
    pub const ALL: [Self; 3] = [Self::Normal, Self::NormalNc, Self::DeviceNgnre];

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

/// What VFIO knows of a BAR when user space maps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Facts {
    /// Bit 3 of the BAR.
    pub prefetchable: bool,
    /// Class code 0x0300: VGA compatible (`vfio_pci_is_vga`).
    pub vga: bool,
    /// The device's own driver says that this is memory, to be mapped cacheable (nvgrace-gpu's usemem).
    pub cached: bool,
    /// What is declared of the machine.
    pub platform: Platform,
}

impl Facts {
    /// Of a device with this class code, 24 bits, on a machine of which this is declared.
    #[must_use]
    pub const fn of_device(class: u32, platform: Platform) -> Self {
        Self { prefetchable: false, vga: class >> 8 == 0x0300, cached: false, platform }
    }
}

/// Why VFIO maps a BAR as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyMapped {
    /// vfio-pci maps every BAR so.
    Always,
    /// As above, and it says that a guest may have any uncached type.
    AllowAnyUncached,
    /// The BAR's prefetchable bit is set.
    Prefetchable,
    /// It is not.
    NotPrefetchable,
    /// The device is of the class VGA.
    Vga,
    /// It is not.
    NotVga,
    /// The device's own driver maps its memory cacheable.
    Driver,
    /// User space asked.
    Asked,
    /// User space asked for nothing.
    NotAsked,
    /// The platform is described as fit for Normal-NC.
    Described,
    /// It is not described at all.
    NotDescribed,
    /// A quirk takes the description back.
    Quirk,
}

impl WhyMapped {
    /// In a sentence.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Always => "vfio-pci maps every BAR pgprot_noncached. [Linux vfio_pci_core_mmap]",
            Self::AllowAnyUncached => {
                "vfio-pci maps every BAR pgprot_noncached, with VM_ALLOW_ANY_UNCACHED. [Linux 6.9, a39d3a966a09]"
            }
            Self::Prefetchable => "The BAR is prefetchable: pgprot_writecombine. [thread 000, Donthineni's RFC]",
            Self::NotPrefetchable => "The BAR is not prefetchable: pgprot_noncached. [thread 000, Donthineni's RFC]",
            Self::Vga => "The device is of the class VGA: pgprot_writecombine. [thread 002, xieming's patch]",
            Self::NotVga => "The device is not of the class VGA: pgprot_noncached. [thread 002, xieming's patch]",
            Self::Driver => "The device's own driver maps this memory cacheable. [Linux nvgrace_gpu_mmap]",
            Self::Asked => "User space asked for this attribute. [thread 001, Herrenschmidt's subregions]",
            Self::NotAsked => {
                "User space asked for no attribute: pgprot_noncached. [thread 001, Herrenschmidt's subregions]"
            }
            Self::Described => {
                "The platform is described as fit for Normal-NC: VM_ALLOW_ANY_UNCACHED. [thread 002, Zyngier: firmware \
                 description]"
            }
            Self::NotDescribed => {
                "The platform's description says nothing about Normal-NC: no flag. [thread 002, Zyngier: firmware description]"
            }
            Self::Quirk => {
                "The platform is described as fit for Normal-NC and an erratum takes that back: no flag. [thread 002, \
                 Gunthorpe: quirk list]"
            }
        }
    }
}

/// Why an attribute cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoAttribute {
    /// There is no call to ask by.
    NoCall {
        /// The policy.
        policy: Policy,
        /// What was asked for.
        asked: Attribute,
    },
    /// A device's own driver has to say that its memory can be mapped cacheable; this one's does not (thread 001:
    /// "a device specific kernel driver providing adequate authority").
    NotCacheable,
}

impl fmt::Display for NoAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCall { policy, asked } => {
                write!(f, "under {} there is no call by which to ask for `{asked}`", policy.name())
            }
            Self::NotCacheable => f.write_str(
                "`cached` needs a driver of the device's own that says its memory can be: this one has none",
            ),
        }
    }
}

impl core::error::Error for NoAttribute {}

/// Why KVM decided as it did.
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
    /// Linux 6.17: the VMA has neither VM_PFNMAP nor VM_MIXEDMAP.
    NotPfnmap,
    /// Linux 6.17: the VMA is cacheable, and the CPU has what that takes.
    CacheablePfnmap,
    /// The VMA is cacheable, and stage 2 follows it.
    VmaCached,
    /// The VMA is write-combining, and stage 2 follows it.
    VmaWriteCombine,
    /// The VMA is uncached, and stage 2 follows it.
    VmaUncached,
    /// x86: MMIO is UC and the guest's PAT counts.
    GuestPat,
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
                "The page is not the kernel's own memory and its VMA has VM_ALLOW_ANY_UNCACHED, so stage 2 is Normal-NC and \
                 the guest chooses Device or Normal-NC."
            }
            Self::NotAllowed => {
                "The page is not the kernel's own memory and its VMA lacks VM_ALLOW_ANY_UNCACHED, so stage 2 is Device-nGnRE."
            }
            Self::NotPfnmap => "The VMA is not VM_PFNMAP, so the page is taken to be memory: stage 2 is Normal.",
            Self::CacheablePfnmap => {
                "The VMA is VM_PFNMAP and cacheable, and the CPU has FWB and DIC, so stage 2 is Normal and, by FWB, every \
                 access of the guest's is Write-Back."
            }
            Self::VmaCached => "The VMA is cacheable and stage 2 follows it: Normal.",
            Self::VmaWriteCombine => "The VMA is write-combining and stage 2 follows it: Normal-NC.",
            Self::VmaUncached => "The VMA is uncached and stage 2 follows it: Device-nGnRE.",
            Self::GuestPat => "The page is MMIO: UC with the guest's PAT honoured, so the guest chooses UC or WC.",
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
            Self::NotPfnmap | Self::CacheablePfnmap => {
                "Linux 6.17, arch/arm64/kvm/mmu.c: user_mem_abort, kvm_supports_cacheable_pfnmap"
            }
            Self::VmaCached => "threads 001 and 002: KVM takes the memory type from the VMA",
            Self::VmaWriteCombine | Self::VmaUncached => {
                "threads 000, 001 and 002: KVM takes the memory type from the VMA"
            }
            Self::GuestPat => "thread 002, Tian 2022-04-06; Linux arch/x86/kvm/vmx/vmx.c: vmx_get_mt_mask",
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

impl Decision {
    const fn new(kind: S2Kind, why: Why) -> Self {
        Self { kind, why }
    }
}

/// A cacheable VM_PFNMAP mapping on a CPU without FWB and DIC: -EINVAL where the slot is registered, -EFAULT where it is
/// only found out on the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheableRefused(pub Cpu);

impl fmt::Display for CacheableRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fwb, dic) = (u8::from(self.0.fwb), u8::from(self.0.dic));
        write!(f, "the mapping is cacheable and VM_PFNMAP, and the CPU lacks FWB or DIC (FWB {fwb}, DIC {dic})")
    }
}

/// What an EPT leaf says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ept {
    /// Bits 5:3.
    pub ty: x86::Type,
    /// Bit 6: the guest's PAT does not count.
    pub ipat: bool,
}

/// Who decides the stage-2 type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// Linux before 6.9: device memory is Device-nGnRE at stage 2, always.
    Linux6_1,
    /// A prefetchable BAR gets a write-combining VMA, and stage 2 follows it.
    Prefetchable,
    /// As above, for VGA-class devices only.
    Vga,
    /// Stage 2 copies the VMA's memory type.
    FollowVma,
    /// User space attaches attributes to parts of a region.
    Subregions,
    /// Linux 6.9 and later: Normal-NC where VFIO says so.
    Linux6_9,
    /// Linux 6.17 and later: as 6.9, and cacheable device memory with FWB and DIC.
    Linux6_17,
    /// What the platform's description allows, and quirks that take it back.
    Firmware,
    /// x86: UC for MMIO with the guest's PAT honoured, write-back for RAM.
    X86Ept,
}

impl Policy {
    /// All of them, in the order of their proposal.
    pub const ALL: [Self; 9] = [
        Self::Linux6_1,
        Self::Prefetchable,
        Self::Vga,
        Self::FollowVma,
        Self::Subregions,
        Self::Linux6_9,
        Self::Linux6_17,
        Self::Firmware,
        Self::X86Ept,
    ];
    /// Those of an Arm hypervisor: all but `x86-ept`, which is the last.
    pub const ARM: &'static [Self] = match Self::ALL.split_last() {
        Some((_, arm)) => arm,
        None => &[],
    };

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux6_1 => "linux-6.1",
            Self::Prefetchable => "prefetchable",
            Self::Vga => "vga",
            Self::FollowVma => "follow-vma",
            Self::Subregions => "subregions",
            Self::Linux6_9 => "linux-6.9",
            Self::Linux6_17 => "linux-6.17",
            Self::Firmware => "firmware",
            Self::X86Ept => "x86-ept",
        }
    }
    /// By name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
    /// Whether it is of an Arm hypervisor.
    #[must_use]
    pub const fn is_arm(self) -> bool {
        !matches!(self, Self::X86Ept)
    }
    /// Whether user space can ask for an attribute: of all proposals, the subregions alone.
    #[must_use]
    pub const fn takes_attributes(self) -> bool {
        matches!(self, Self::Subregions)
    }
    /// Whether KVM refuses a cacheable VM_PFNMAP slot on a CPU without FWB and DIC: since Linux 6.17.
    #[must_use]
    pub const fn refuses_cacheable(self) -> bool {
        matches!(self, Self::Linux6_17)
    }

    /// What the mapping of a BAR is in the host: VFIO's part.
    ///
    /// # Errors
    /// [`NoAttribute`] where user space asks for what it cannot have.
    pub const fn mmap(self, bar: &Facts, asked: Attribute) -> Result<(Vma, WhyMapped), NoAttribute> {
        use Pgprot::{Cached, Noncached, WriteCombine};
        const fn plain(pgprot: Pgprot, why: WhyMapped) -> Result<(Vma, WhyMapped), NoAttribute> {
            Ok((Vma::device(pgprot), why))
        }
        if !self.takes_attributes() && !matches!(asked, Attribute::Default) {
            return Err(NoAttribute::NoCall { policy: self, asked });
        }
        match self {
            Self::Linux6_1 | Self::X86Ept => plain(Noncached, WhyMapped::Always),
            Self::Prefetchable if bar.prefetchable => plain(WriteCombine, WhyMapped::Prefetchable),
            Self::Prefetchable => plain(Noncached, WhyMapped::NotPrefetchable),
            Self::Vga if bar.vga => plain(WriteCombine, WhyMapped::Vga),
            Self::Vga => plain(Noncached, WhyMapped::NotVga),
            Self::FollowVma | Self::Linux6_9 | Self::Linux6_17 if bar.cached => plain(Cached, WhyMapped::Driver),
            Self::FollowVma => plain(Noncached, WhyMapped::Always),
            Self::Linux6_9 | Self::Linux6_17 => Ok((Vma::VFIO_PCI_BAR, WhyMapped::AllowAnyUncached)),
            Self::Subregions => match asked {
                Attribute::Default if bar.cached => plain(Cached, WhyMapped::Driver),
                Attribute::Default => plain(Noncached, WhyMapped::NotAsked),
                Attribute::Uncached => plain(Noncached, WhyMapped::Asked),
                Attribute::WriteCombine => plain(WriteCombine, WhyMapped::Asked),
                Attribute::Cached if bar.cached => plain(Cached, WhyMapped::Asked),
                Attribute::Cached => Err(NoAttribute::NotCacheable),
            },
            Self::Firmware => match (bar.platform.described, bar.platform.normal_nc) {
                (true, NcDefect::None) => Ok((Vma::VFIO_PCI_BAR, WhyMapped::Described)),
                (true, _) => plain(Noncached, WhyMapped::Quirk),
                (false, _) => plain(Noncached, WhyMapped::NotDescribed),
            },
        }
    }

    /// What the pages behind `vma` get at stage 2: KVM's part. [`Self::X86Ept`] decides by [`ept`](Self::ept); here it says
    /// what comes nearest on Arm: Normal-NC lets a guest choose among the uncached types as UC with its PAT does.
    ///
    /// # Errors
    /// [`CacheableRefused`].
    pub const fn decide(self, vma: &Vma, cpu: Cpu) -> Result<Decision, CacheableRefused> {
        let cached = matches!(vma.pgprot, Pgprot::Cached);
        let says = Decision::new;
        // 6.17 asks whether the mapping is of plain page frames before it asks whose memory it is.
        if matches!(self, Self::Linux6_17) && !vma.pfnmap && !vma.kernel_memory {
            return Ok(says(S2Kind::Normal, Why::NotPfnmap));
        }
        if vma.kernel_memory {
            return Ok(says(S2Kind::Normal, Why::KernelMemory));
        }
        Ok(match self {
            Self::Linux6_1 => says(S2Kind::DeviceNgnre, Why::NotKernelMemory),
            Self::Linux6_17 if cached && cpu.cacheable_pfnmap() => says(S2Kind::Normal, Why::CacheablePfnmap),
            Self::Linux6_17 if cached => return Err(CacheableRefused(cpu)),
            Self::Linux6_9 | Self::Linux6_17 | Self::Firmware if vma.allow_any_uncached => {
                says(S2Kind::NormalNc, Why::AllowAnyUncached)
            }
            Self::Linux6_9 | Self::Linux6_17 | Self::Firmware => says(S2Kind::DeviceNgnre, Why::NotAllowed),
            Self::X86Ept => says(S2Kind::NormalNc, Why::GuestPat),
            Self::Prefetchable | Self::Vga | Self::FollowVma | Self::Subregions => match vma.pgprot {
                // The patches of threads 000 and 002 know write-combining and nothing else.
                Pgprot::Cached if matches!(self, Self::Prefetchable | Self::Vga) => {
                    says(S2Kind::DeviceNgnre, Why::VmaUncached)
                }
                Pgprot::Cached => says(S2Kind::Normal, Why::VmaCached),
                Pgprot::WriteCombine => says(S2Kind::NormalNc, Why::VmaWriteCombine),
                Pgprot::Noncached | Pgprot::Device => says(S2Kind::DeviceNgnre, Why::VmaUncached),
            },
        })
    }

    /// What an EPT leaf for `vma` says (`vmx_get_mt_mask()`): the rule of [`Self::X86Ept`], whichever policy this is.
    #[must_use]
    pub const fn ept(vma: &Vma, noncoherent_dma: bool) -> Ept {
        let asked = Asked { mmio: !vma.kernel_memory, noncoherent_dma, ..Asked::RAM };
        match Era::Quirk.leaf(asked).says {
            Says::Leaf { ty, ipat } => Ept { ty, ipat },
            // What the guest's MTRRs say; they say Write-Back of RAM.
            _ => Ept { ty: x86::Type::Wb, ipat: false },
        }
    }
}
