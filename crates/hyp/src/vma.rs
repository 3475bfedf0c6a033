//! The host mapping behind a memory slot.

use memtype::{
    Arch, MemoryType,
    linux::{self, Helper},
};

/// How the pages are mapped in the host, in Linux's words: what `vm_page_prot` was made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pgprot {
    /// `pgprot_noncached()`: vfio-pci.
    Noncached,
    /// `pgprot_device()`: sysfs `resourceN`.
    Device,
    /// `pgprot_writecombine()`: sysfs `resourceN_wc`.
    WriteCombine,
    /// Left as it is: cacheable.
    Cached,
}

impl Pgprot {
    /// All, the strictest first.
    pub const ALL: [Self; 4] = [Self::Noncached, Self::Device, Self::WriteCombine, Self::Cached];

    /// The name in Linux; `cacheable` where no function is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Noncached => Helper::PgprotNoncached.name(),
            Self::Device => Helper::PgprotDevice.name(),
            Self::WriteCombine => Helper::PgprotWritecombine.name(),
            Self::Cached => "cacheable",
        }
    }
    /// The memory type it is on an architecture; `None` where that depends on the CPU.
    #[must_use]
    pub fn memory_type(self, arch: Arch) -> Option<MemoryType> {
        let helper = match self {
            Self::Noncached => Helper::PgprotNoncached,
            Self::Device => Helper::PgprotDevice,
            Self::WriteCombine => Helper::PgprotWritecombine,
            Self::Cached => Helper::IoremapCache,
        };
        linux::of(arch, helper)?.ty
    }
    /// Whether the CPU may read through the mapping what no program reads: everything but Device, on Arm.
    #[must_use]
    pub const fn speculates(self) -> bool {
        matches!(self, Self::WriteCombine | Self::Cached)
    }
}

/// A host mapping, as far as KVM looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Vma {
    /// `vm_page_prot`.
    pub pgprot: Pgprot,
    /// Its pages are the kernel's own memory (`pfn_is_map_memory()`): anonymous memory, hugetlb, shmem.
    pub kernel_memory: bool,
    /// VM_PFNMAP or VM_MIXEDMAP: pages without a `struct page` behind them, or that are not to be used.
    pub pfnmap: bool,
    /// VM_ALLOW_ANY_UNCACHED: the driver of the device says that a guest may have any uncached type.
    pub allow_any_uncached: bool,
    /// VM_MTE_ALLOWED: anonymous memory, hugetlb, shmem.
    pub mte_allowed: bool,
    /// The largest leaf of the host's own table for it, in bytes: 4 KiB, 2 MiB or 1 GiB. Stage 2 copies it.
    pub largest: u64,
}

/// Bytes of a level-2 block.
pub const BLOCK_2M: u64 = 2 << 20;
/// Bytes of a level-1 block.
pub const BLOCK_1G: u64 = 1 << 30;

impl Vma {
    /// Anonymous memory with transparent huge pages.
    pub const RAM: Self = Self {
        pgprot: Pgprot::Cached,
        kernel_memory: true,
        pfnmap: false,
        allow_any_uncached: false,
        mte_allowed: true,
        largest: BLOCK_2M,
    };
    /// Device memory that is mapped in this way and carries no flag of a driver: sysfs, vfio-platform, UIO, /dev/mem.
    #[must_use]
    pub const fn device(pgprot: Pgprot) -> Self {
        Self {
            pgprot,
            kernel_memory: false,
            pfnmap: true,
            allow_any_uncached: false,
            mte_allowed: false,
            largest: BLOCK_2M,
        }
    }
    /// A BAR that vfio-pci mapped since Linux 6.9.
    pub const VFIO_PCI_BAR: Self = Self { allow_any_uncached: true, ..Self::device(Pgprot::Noncached) };
    /// sysfs `resourceN`.
    pub const OTHER_DEVICE: Self = Self::device(Pgprot::Device);
}
