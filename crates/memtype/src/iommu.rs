//! Whether an IOMMU can make every DMA snoop: VT-d, AMD-Vi, and what stands for it elsewhere.
//!
//! A PCIe function may set No Snoop on a transaction, which then need not look into the CPUs' caches. An IOMMU that can force
//! snooping takes that away from it. A hypervisor has to know: if it can, no guest needs to have its RAM uncached, and KVM on
//! Intel ignores the guest's PAT for RAM; if it cannot, the guest's PAT must count ([`Unit::noncoherent_dma`]).
//!
//! On Arm the SMMU cannot. What does is to disable No Snoop in the function's configuration space, with STE.S2FWB against the
//! guest's own stage 1, or a platform that does not care, which firmware says with CANWBS (thread 004, case C).
//!
//! ```
//! use memtype::guarantee::Standing;
//! use memtype::iommu::{Ecap, Unit};
//! use memtype::x86::kvm::{Asked, Era, Says};
//!
//! let without = Unit::VtD(Ecap(0));
//! assert_eq!(without.forces_snoop().standing, Standing::Forbidden);
//! assert!(!without.snoops(true) && without.snoops(false));
//! // KVM then lets the guest's PAT decide for RAM: IPAT is 0.
//! let ram = Asked { noncoherent_dma: without.noncoherent_dma(), ..Asked::RAM };
//! assert!(matches!(Era::V6_12.leaf(ram).says, Says::Leaf { ipat: false, .. }));
//! assert_eq!(Unit::VtD(Ecap(1 << 7)).forces_snoop().standing, Standing::Guaranteed);
//! ```

use crate::cite::{Cite, Source};
use crate::guarantee::{Guarantee, Standing};

/// VT-d's extended capability register, ECAP_REG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ecap(pub u64);

impl Ecap {
    /// C, bit 0: the unit's own walks of page tables snoop.
    #[must_use]
    pub const fn walks_are_coherent(self) -> bool {
        self.0 & 1 != 0
    }
    /// SC, bit 7, snoop control: SNP of a second-stage entry and PGSNP of a PASID entry can be set.
    #[must_use]
    pub const fn snoop_control(self) -> bool {
        self.0 & 1 << 7 != 0
    }
}

/// SNP of a VT-d second-stage leaf, bit 11: accesses through it snoop, whatever the transaction says.
pub const VTD_LEAF_SNP: u64 = 1 << 11;
/// PGSNP of a VT-d PASID-table entry, bit 88, here in its second doubleword: the same for the first stage.
pub const VTD_PASID_PGSNP: u64 = 1 << 24;
/// FC of a leaf of AMD-Vi's host ("v1") tables, bit 60: accesses through it are forced coherent.
pub const AMD_LEAF_FC: u64 = 1 << 60;

/// An IOMMU, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Intel VT-d.
    VtD(Ecap),
    /// AMD-Vi.
    AmdVi {
        /// The domain has tables of the CPU's format ("v2"), which have no FC.
        v2: bool,
    },
    /// Arm SMMUv3, and whether firmware says CANWBS for the device.
    Smmu {
        /// IORT memory access flags, bit 2.
        canwbs: bool,
    },
    /// Arm SMMUv1 or v2.
    SmmuV2,
    /// The RISC-V IOMMU.
    Riscv,
    /// virtio-iommu: it cannot say (thread 004).
    Virtio,
}

impl Unit {
    /// Whether the unit can force the accesses of a device to snoop: guaranteed or forbidden.
    #[must_use]
    pub const fn forces_snoop(self) -> Guarantee {
        match self {
            Self::VtD(ecap) => {
                let cite = Cite::second_hand(
                    Source::Vtd,
                    "ECAP_REG.SC; a processor's datasheet has the bit, 6043257b1de0 in Linux the effect",
                );
                if ecap.snoop_control() {
                    Guarantee::guaranteed(cite).note("SNP in each leaf, or PGSNP for a PASID")
                } else {
                    Guarantee::forbidden(cite).note("some units, for integrated graphics among others, lack it")
                }
            }
            Self::AmdVi { v2: false } => Guarantee::guaranteed(Cite::second_hand(
                Source::AmdVi,
                "PTE.FC; 6043257b1de0 in Linux has the effect, and that FC is always set",
            )),
            Self::AmdVi { v2: true } => {
                Guarantee::forbidden(Cite::read(Source::Linux, "7.2 drivers/iommu/amd/iommu.c amdv2_ops, a comment"))
                    .note("the format has no FC; Linux answers that it is enforced all the same")
            }
            Self::Smmu { canwbs: true } => Guarantee::guaranteed(Cite::read(
                Source::Linux,
                "807404d66fcf; 7.2 arm-smmu-v3.c arm_smmu_capable(), IOMMU_FWSPEC_PCI_RC_CANWBS",
            ))
            .note("firmware's promise; software cannot find out"),
            Self::Smmu { canwbs: false } => {
                Guarantee::forbidden(Cite::read(Source::Smmu, "13.1.6, 13.6.1.1, 13.6.2.1"))
                    .note("S2FWB stops a guest's stage 1; No Snoop has to be disabled in the function")
            }
            Self::SmmuV2 => {
                Guarantee::forbidden(Cite::read(Source::Linux, "6.12 drivers/iommu/arm/arm-smmu/arm-smmu.c"))
            }
            Self::Riscv => Guarantee::forbidden(Cite::read(Source::Linux, "7.2 drivers/iommu/riscv: no .capable"))
                .note("Linux takes it as not coherent at all"),
            Self::Virtio => {
                Guarantee::forbidden(Cite::read(Source::Linux, "7.2 drivers/iommu/virtio-iommu.c viommu_capable()"))
                    .note("Linux takes it as coherent without asking; the device cannot say")
            }
        }
    }

    /// Whether an access snoops, in a domain in which snooping is forced where that can be, and whose mappings are cacheable.
    #[must_use]
    pub const fn snoops(self, no_snoop: bool) -> bool {
        !no_snoop || matches!(self.forces_snoop().standing, Standing::Guaranteed)
    }

    /// What Linux answers for IOMMU_CAP_ENFORCE_CACHE_COHERENCY (7.2; in 6.12 no SMMU has it). It differs from
    /// [`forces_snoop`](Self::forces_snoop) for AMD-Vi with v2 tables, since VFIO cannot have it depend on the domain.
    #[must_use]
    pub const fn linux_enforces(self) -> bool {
        matches!(self, Self::AmdVi { .. }) || matches!(self.forces_snoop().standing, Standing::Guaranteed)
    }

    /// Whether VFIO tells KVM, for a device behind the unit, that DMA may bypass the caches: `kvm_vfio_update_coherency()`
    /// (virt/kvm/vfio.c, 7.2), where user space has made a KVM-VFIO device. On x86 the guest's PAT then counts for RAM
    /// ([`Asked::noncoherent_dma`](crate::x86::kvm::Asked)) and its WBINVD is executed; elsewhere nothing follows.
    #[must_use]
    pub const fn noncoherent_dma(self) -> bool {
        !self.linux_enforces()
    }
}

/// The memory access properties of an IORT node: eight bytes, little-endian (DEN0049E.f, as Linux's `include/acpi/actbl2.h`
/// has it).
///
/// ```
/// use memtype::iommu::IortAccess;
///
/// let it = IortAccess(0b111 << 56 | 1);
/// assert!(it.fully_coherent() && it.flags().canwbs());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IortAccess(pub u64);

impl IortAccess {
    /// CCA, bytes 3:0, is 1: the node is fully coherent. 0 is not coherent, and any other value reserved.
    #[must_use]
    pub const fn fully_coherent(self) -> bool {
        self.0 as u32 == 1
    }
    /// Byte 7.
    #[must_use]
    pub const fn flags(self) -> IortFlags {
        IortFlags((self.0 >> 56) as u8)
    }
}

/// The memory access flags of an IORT node, byte 7 of [`IortAccess`]. Of these properties Linux reads CANWBS alone (7.2,
/// `drivers/acpi/arm64/iort.c`): whether DMA is coherent it takes from _CCA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IortFlags(pub u8);

impl IortFlags {
    /// Bit 0, CPM: the path to memory is coherent.
    #[must_use]
    pub const fn coherent_path(self) -> bool {
        self.0 & 1 != 0
    }
    /// Bit 1, DACS: the device's attributes are cacheable and inner shareable.
    #[must_use]
    pub const fn device_attributes_cacheable(self) -> bool {
        self.0 & 2 != 0
    }
    /// Bit 2, CANWBS, from issue E.f on: coherent whatever the attributes are.
    #[must_use]
    pub const fn canwbs(self) -> bool {
        self.0 & 4 != 0
    }
    /// What the three say, in words.
    #[must_use]
    pub const fn says(self) -> [&'static str; 3] {
        [
            if self.coherent_path() {
                "CPM: the path to memory is coherent"
            } else {
                "CPM = 0: the path is not coherent"
            },
            if self.device_attributes_cacheable() {
                "DACS: the device's accesses are cacheable and inner shareable"
            } else {
                "DACS = 0: the device's accesses are not"
            },
            if self.canwbs() {
                "CANWBS: accesses to memory are coherent whatever attributes the device or the SMMU gives them"
            } else {
                "CANWBS = 0: other attributes than Write-Back shareable, or No Snoop, may lose coherency"
            },
        ]
    }
    /// Where that comes from.
    #[must_use]
    pub const fn cite(self) -> Cite {
        Cite::second_hand(Source::Linux, "include/acpi/actbl2.h and 807404d66fcf, of IORT (DEN0049E.f)")
    }
}
