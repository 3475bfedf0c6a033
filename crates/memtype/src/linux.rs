//! What Linux's `pgprot_*` and `ioremap_*` are on each architecture: the host-side meaning of the words drivers use.
//!
//! A driver asks Linux for a mapping by an intention: `ioremap()` for registers, `ioremap_wc()` for write-combining. VFIO gives
//! a BAR to user space with `pgprot_noncached()`, sysfs with `pgprot_device()` (`resourceN`) or `pgprot_writecombine()`
//! (`resourceN_wc`). What arrives in the page table, and which memory type that is, differs by architecture, by what the CPU
//! has and by kernel version. The table is for Linux 6.12; [`Entry::later`] says what 7.2 does otherwise. Power is 64-bit
//! Book3S, x86 and RISC-V are 64-bit.
//!
//! ```
//! use memtype::linux::{Helper, of};
//! use memtype::{Arch, MemoryType, riscv};
//!
//! // On RISC-V, ioremap_wc() was ioremap(); pgprot_writecombine() was not pgprot_noncached().
//! let wc = of(Arch::Riscv, Helper::IoremapWc).unwrap();
//! assert_eq!(wc.ty, Some(MemoryType::Riscv(riscv::Type::Io)));
//! assert_eq!(wc.later.unwrap().ty, MemoryType::Riscv(riscv::Type::Nc));
//! // ioremap_np(), for the rare bus that does not post writes, is of Arm alone.
//! assert!(of(Arch::X86, Helper::IoremapNp).is_none());
//! ```

pub mod at;

use core::fmt;

use crate::cite::{Cite, Source};
use crate::kind::{Arch, MemoryType};
use crate::{arm, loongarch, power, riscv, s390, x86};

/// A function or macro of Linux that names a kind of mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Helper {
    /// `pgprot_noncached()`: what VFIO maps a BAR with.
    PgprotNoncached = 0,
    /// `pgprot_device()`: what sysfs maps `resourceN` with.
    PgprotDevice = 1,
    /// `pgprot_writecombine()`: what sysfs maps `resourceN_wc` with.
    PgprotWritecombine = 2,
    /// `pgprot_dmacoherent()`: coherent DMA memory of a device that does not snoop; RAM, not a BAR.
    PgprotDmacoherent = 3,
    /// `ioremap()`: registers.
    Ioremap = 4,
    /// `ioremap_np()`: registers whose writes must not be posted; never PCI.
    IoremapNp = 5,
    /// `ioremap_uc()`: as uncached as it gets.
    IoremapUc = 6,
    /// `ioremap_wc()`: write-combining.
    IoremapWc = 7,
    /// `ioremap_wt()`: write-through.
    IoremapWt = 8,
    /// `ioremap_cache()`: cacheable.
    IoremapCache = 9,
}

impl Helper {
    /// All, in the order in which tables have them.
    pub const ALL: [Self; 10] = [
        Self::PgprotNoncached,
        Self::PgprotDevice,
        Self::PgprotWritecombine,
        Self::PgprotDmacoherent,
        Self::Ioremap,
        Self::IoremapNp,
        Self::IoremapUc,
        Self::IoremapWc,
        Self::IoremapWt,
        Self::IoremapCache,
    ];

    /// The name in Linux.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PgprotNoncached => "pgprot_noncached",
            Self::PgprotDevice => "pgprot_device",
            Self::PgprotWritecombine => "pgprot_writecombine",
            Self::PgprotDmacoherent => "pgprot_dmacoherent",
            Self::Ioremap => "ioremap",
            Self::IoremapNp => "ioremap_np",
            Self::IoremapUc => "ioremap_uc",
            Self::IoremapWc => "ioremap_wc",
            Self::IoremapWt => "ioremap_wt",
            Self::IoremapCache => "ioremap_cache",
        }
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a later version does otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Later {
    /// A version in which it is so; the change may be older.
    pub version: &'static str,
    /// The attribute, as Linux names it.
    pub attribute: &'static str,
    /// The memory type.
    pub ty: MemoryType,
    /// Where.
    pub cite: Cite,
}

/// What a helper gives on an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The architecture.
    pub arch: Arch,
    /// The helper.
    pub helper: Helper,
    /// The attribute, as Linux names it; or what there is instead of one. Without commas.
    pub attribute: &'static str,
    /// The memory type it amounts to, where [`condition`](Self::condition) holds. `None` where the helper is not provided, or
    /// changes nothing.
    pub ty: Option<MemoryType>,
    /// The memory type where the condition does not hold.
    pub otherwise: Option<MemoryType>,
    /// Under which condition; empty where there is none. Without commas.
    pub condition: &'static str,
    /// What a later version does otherwise.
    pub later: Option<Later>,
    /// Where it is.
    pub cite: Cite,
}

impl Entry {
    const fn new(attribute: &'static str, ty: MemoryType, place: &'static str) -> Self {
        Self {
            arch: ty.arch(),
            helper: Helper::Ioremap,
            attribute,
            ty: Some(ty),
            otherwise: None,
            condition: "",
            later: None,
            cite: Cite::read(Source::Linux, place),
        }
    }
    const fn none(attribute: &'static str, place: &'static str) -> Self {
        Self {
            arch: Arch::Arm64,
            helper: Helper::Ioremap,
            attribute,
            ty: None,
            otherwise: None,
            condition: "",
            later: None,
            cite: Cite::read(Source::Linux, place),
        }
    }
    const fn only(self, condition: &'static str, otherwise: MemoryType) -> Self {
        Self { condition, otherwise: Some(otherwise), ..self }
    }
    const fn note(self, condition: &'static str) -> Self {
        Self { condition, ..self }
    }
}

/// What `helper` gives on `arch`; `None` where it is not provided.
#[must_use]
pub const fn of(arch: Arch, helper: Helper) -> Option<Entry> {
    let entry = entry(arch, helper);
    match entry.ty {
        Some(_) => Some(entry),
        None => None,
    }
}

const DEFAULTS: &str = "include/linux/pgtable.h";
const GENERIC_IO: &str = "include/asm-generic/io.h";
const DMA: &str = "include/linux/dma-map-ops.h";

/// What `helper` gives on `arch`, or why it gives nothing.
#[must_use]
pub const fn entry(arch: Arch, helper: Helper) -> Entry {
    let entry = match arch {
        Arch::Arm64 => arm64(helper),
        Arch::X86 => x86(helper),
        Arch::Riscv => riscv(helper),
        Arch::Power => power(helper),
        Arch::LoongArch => loongarch(helper),
        Arch::S390 => s390(helper),
    };
    Entry { arch, helper, ..entry }
}

const fn null(helper: Helper) -> Entry {
    Entry::none("returns NULL", GENERIC_IO).note(match helper {
        Helper::IoremapNp => "of arm64 only",
        _ => "of x86 only",
    })
}

const fn undefined() -> Entry {
    Entry::none("not defined", "arch/*/include/asm/io.h").note("memremap() is what drivers are to use")
}

const fn arm64(helper: Helper) -> Entry {
    const PGTABLE: &str = "arch/arm64/include/asm/pgtable.h";
    const IO: &str = "arch/arm64/include/asm/io.h";
    const NGNRNE: MemoryType = MemoryType::Arm64(arm::Type::Device(arm::Device::nGnRnE));
    const NGNRE: MemoryType = MemoryType::Arm64(arm::Type::Device(arm::Device::nGnRE));
    const NC: MemoryType = MemoryType::Arm64(arm::Type::NORMAL_NC);
    const WB: MemoryType = MemoryType::Arm64(arm::Type::NORMAL_WB);
    match helper {
        Helper::PgprotNoncached => Entry::new("MT_DEVICE_nGnRnE", NGNRNE, PGTABLE),
        Helper::PgprotDevice => Entry::new("MT_DEVICE_nGnRE", NGNRE, PGTABLE),
        Helper::PgprotWritecombine | Helper::PgprotDmacoherent => Entry::new("MT_NORMAL_NC", NC, PGTABLE),
        Helper::Ioremap => Entry::new("PROT_DEVICE_nGnRE", NGNRE, IO),
        Helper::IoremapNp => Entry::new("PROT_DEVICE_nGnRnE", NGNRNE, IO),
        Helper::IoremapUc => null(helper),
        Helper::IoremapWc => Entry::new("PROT_NORMAL_NC", NC, IO),
        Helper::IoremapWt => Entry::new("as ioremap", NGNRE, GENERIC_IO),
        Helper::IoremapCache => Entry::new("PROT_NORMAL", WB, IO).note("of RAM: its linear mapping"),
    }
}

const fn x86(helper: Helper) -> Entry {
    const IOREMAP: &str = "arch/x86/mm/ioremap.c";
    const UC: MemoryType = MemoryType::X86(x86::Type::Uc);
    const WC: MemoryType = MemoryType::X86(x86::Type::Wc);
    const WT: MemoryType = MemoryType::X86(x86::Type::Wt);
    const WB: MemoryType = MemoryType::X86(x86::Type::Wb);
    const MINUS: &str = "UC-: an MTRR that says WC makes it WC";
    const MTRR: &str = "where the MTRR says WB (a BAR's says UC)";
    match helper {
        Helper::PgprotNoncached => {
            Entry::new("_PAGE_CACHE_MODE_UC_MINUS", UC, "arch/x86/include/asm/pgtable.h").note(MINUS)
        }
        Helper::PgprotDevice => Entry::new("as pgprot_noncached", UC, DEFAULTS).note(MINUS),
        Helper::PgprotDmacoherent => Entry::new("as pgprot_noncached", UC, DMA).note(MINUS),
        Helper::PgprotWritecombine => Entry::new("_PAGE_CACHE_MODE_WC", WC, "arch/x86/mm/pat/memtype.c")
            .only("where PAT is on and no other mapping has UC-", UC),
        Helper::Ioremap => Entry::new("_PAGE_CACHE_MODE_UC_MINUS", UC, IOREMAP).note(MINUS),
        Helper::IoremapNp => null(helper),
        Helper::IoremapUc => Entry::new("_PAGE_CACHE_MODE_UC", UC, IOREMAP),
        Helper::IoremapWc => {
            Entry::new("_PAGE_CACHE_MODE_WC", WC, IOREMAP).only("where PAT is on and no other mapping has UC-", UC)
        }
        Helper::IoremapWt => Entry::new("_PAGE_CACHE_MODE_WT", WT, IOREMAP).only(MTRR, UC),
        Helper::IoremapCache => Entry::new("_PAGE_CACHE_MODE_WB", WB, IOREMAP).only(MTRR, UC),
    }
}

const fn riscv(helper: Helper) -> Entry {
    const PGTABLE: &str = "arch/riscv/include/asm/pgtable.h";
    const IO: MemoryType = MemoryType::Riscv(riscv::Type::Io);
    const NC: MemoryType = MemoryType::Riscv(riscv::Type::Nc);
    const PMA_IO: MemoryType = MemoryType::Riscv(riscv::Type::PmaIo);
    const PMA_MAIN: MemoryType = MemoryType::Riscv(riscv::Type::PmaMain);
    const SVPBMT: &str = "where Svpbmt is present (or T-Head's encoding)";
    match helper {
        Helper::PgprotNoncached => Entry::new("_PAGE_IO", IO, PGTABLE).only(SVPBMT, PMA_IO),
        Helper::PgprotDevice => Entry::new("as pgprot_noncached", IO, DEFAULTS).only(SVPBMT, PMA_IO),
        Helper::PgprotWritecombine => Entry::new("_PAGE_NOCACHE", NC, PGTABLE).only(SVPBMT, PMA_IO),
        Helper::PgprotDmacoherent => Entry::new("as pgprot_writecombine", NC, PGTABLE).only(SVPBMT, PMA_MAIN),
        Helper::Ioremap => Entry::new("_PAGE_IOREMAP", IO, PGTABLE).only(SVPBMT, PMA_IO),
        Helper::IoremapNp | Helper::IoremapUc => null(helper),
        Helper::IoremapWc => Entry {
            later: Some(Later {
                version: "7.2",
                attribute: "_PAGE_KERNEL_NC",
                ty: NC,
                cite: Cite::read(Source::Linux, "7.2 arch/riscv/include/asm/io.h"),
            }),
            ..Entry::new("as ioremap", IO, GENERIC_IO).only(SVPBMT, PMA_IO)
        },
        Helper::IoremapWt => Entry::new("as ioremap", IO, GENERIC_IO).only(SVPBMT, PMA_IO),
        Helper::IoremapCache => undefined(),
    }
}

const fn power(helper: Helper) -> Entry {
    const PGTABLE: &str = "arch/powerpc/include/asm/book3s/64/pgtable.h";
    const IOREMAP: &str = "arch/powerpc/mm/ioremap.c";
    const IG: MemoryType = MemoryType::Power(power::Type::InhibitedGuarded);
    const I: MemoryType = MemoryType::Power(power::Type::Inhibited);
    const M: MemoryType = MemoryType::Power(power::Type::Cacheable);
    match helper {
        Helper::PgprotNoncached => Entry::new("_PAGE_NON_IDEMPOTENT", IG, PGTABLE),
        Helper::PgprotDevice => Entry::new("as pgprot_noncached", IG, DEFAULTS),
        Helper::PgprotWritecombine => Entry::new("_PAGE_TOLERANT", I, PGTABLE),
        Helper::PgprotDmacoherent => Entry::new("as pgprot_noncached", IG, DMA),
        Helper::Ioremap => Entry::new("_PAGE_NON_IDEMPOTENT", IG, IOREMAP),
        Helper::IoremapNp | Helper::IoremapUc => null(helper),
        Helper::IoremapWc => Entry::new("_PAGE_TOLERANT", I, IOREMAP),
        Helper::IoremapWt => Entry::new("as ioremap", IG, GENERIC_IO).note("32-bit has its own"),
        Helper::IoremapCache => Entry::new("PAGE_KERNEL", M, "arch/powerpc/include/asm/io.h"),
    }
}

const fn loongarch(helper: Helper) -> Entry {
    const BITS: &str = "arch/loongarch/include/asm/pgtable-bits.h";
    const IO: &str = "arch/loongarch/include/asm/io.h";
    const SUC: MemoryType = MemoryType::LoongArch(loongarch::Type::Suc);
    const WUC: MemoryType = MemoryType::LoongArch(loongarch::Type::Wuc);
    const CC: MemoryType = MemoryType::LoongArch(loongarch::Type::Cc);
    const WC_ENABLED: &str = "where wc_enabled (CONFIG_ARCH_WRITECOMBINE; writecombine=on)";
    match helper {
        Helper::PgprotNoncached => Entry::new("_CACHE_SUC", SUC, BITS),
        Helper::PgprotDevice => Entry::new("as pgprot_noncached", SUC, DEFAULTS),
        Helper::PgprotWritecombine => Entry::new("_CACHE_WUC", WUC, BITS).only(WC_ENABLED, SUC),
        Helper::PgprotDmacoherent => Entry::new("as pgprot_noncached", SUC, DMA),
        Helper::Ioremap => Entry::new("PAGE_KERNEL_SUC", SUC, IO),
        Helper::IoremapNp | Helper::IoremapUc => null(helper),
        Helper::IoremapWc => Entry::new("PAGE_KERNEL_WUC", WUC, IO).only(WC_ENABLED, SUC),
        Helper::IoremapWt => Entry::new("as ioremap", SUC, GENERIC_IO),
        Helper::IoremapCache => Entry::new("PAGE_KERNEL", CC, IO),
    }
}

const fn s390(helper: Helper) -> Entry {
    const IO: &str = "arch/s390/include/asm/io.h";
    const MIO: MemoryType = MemoryType::S390(s390::Type::Mio);
    const MIO_WC: MemoryType = MemoryType::S390(s390::Type::MioWc);
    const ADDRESS: &str = "the address decides: a BAR's resource has mio_wt";
    const WB: &str = "where firmware names a write-back bit (MIO)";
    match helper {
        Helper::PgprotNoncached => Entry::new("no change", MIO, DEFAULTS).note(ADDRESS),
        Helper::PgprotDevice => Entry::new("as pgprot_noncached", MIO, DEFAULTS).note(ADDRESS),
        Helper::PgprotWritecombine => Entry::new("mio_wb_bit_mask", MIO_WC, "arch/s390/mm/pgtable.c").only(WB, MIO),
        Helper::PgprotDmacoherent => Entry::none("no change", DMA).note("RAM stays as it is"),
        Helper::Ioremap => {
            Entry::new("PAGE_KERNEL", MIO, IO).note("without MIO the address is a cookie for the handle")
        }
        Helper::IoremapNp | Helper::IoremapUc => null(helper),
        Helper::IoremapWc => Entry::new("mio_wb_bit_mask", MIO_WC, IO).only(WB, MIO),
        Helper::IoremapWt => Entry::new("as ioremap", MIO, GENERIC_IO),
        Helper::IoremapCache => undefined(),
    }
}

/// Whether sysfs and /proc offer a write-combining mapping of a prefetchable BAR (`arch_can_pci_mmap_wc()`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MmapWc {
    /// There is a `resourceN_wc`.
    Yes,
    /// Where `pat_enabled()`.
    IfPat,
    /// There is none.
    No,
}

impl MmapWc {
    /// `yes`, `if-pat`, `no`.
    #[must_use]
    #[inline]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::IfPat => "if-pat",
            Self::No => "no",
        }
    }
}

/// `arch_can_pci_mmap_wc()` of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CanMmapWc {
    /// In 6.12.
    pub v6_12: MmapWc,
    /// In 7.2.
    pub v7_2: MmapWc,
    /// Where.
    pub cite: Cite,
}

/// `arch_can_pci_mmap_wc()` on `arch`: whether user space can have a BAR write-combining without VFIO. It says nothing on
/// whether writes are combined then.
#[must_use]
pub const fn arch_can_pci_mmap_wc(arch: Arch) -> CanMmapWc {
    use MmapWc::{IfPat, No, Yes};
    let (v6_12, v7_2, place) = match arch {
        Arch::Arm64 => (Yes, Yes, "arch/arm64/include/asm/pci.h"),
        Arch::X86 => (IfPat, IfPat, "arch/x86/include/asm/pci.h"),
        Arch::Power => (Yes, Yes, "arch/powerpc/include/asm/pci.h"),
        Arch::S390 => (No, Yes, "7.2 arch/s390/include/asm/pci.h"),
        Arch::Riscv | Arch::LoongArch => (No, No, "include/linux/pci.h"),
    };
    CanMmapWc { v6_12, v7_2, cite: Cite::read(Source::Linux, place) }
}
