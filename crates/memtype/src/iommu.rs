//! Whether an IOMMU can make every DMA snoop: VT-d, AMD-Vi, and what stands for it elsewhere.
//!
//! A PCIe function may set No Snoop on a transaction, which then need not look into the CPUs' caches. An IOMMU that can force
//! snooping takes that away from it. A hypervisor has to know: if it can, no guest needs to have its RAM uncached, and KVM on
//! Intel ignores the guest's PAT for RAM; if it cannot, the guest's PAT must count.
//!
//! ```
//! use memtype::guarantee::Standing;
//! use memtype::iommu::{Ecap, Unit};
//!
//! let without = Unit::VtD(Ecap(0));
//! assert_eq!(without.forces_snoop().standing, Standing::Forbidden);
//! assert!(!without.snoops(true) && without.snoops(false));
//! assert_eq!(Unit::AmdVi.forces_snoop().standing, Standing::Guaranteed);
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
/// FC of an AMD-Vi leaf, bit 60: accesses through it are forced coherent.
pub const AMD_LEAF_FC: u64 = 1 << 60;

/// An IOMMU, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Intel VT-d.
    VtD(Ecap),
    /// AMD-Vi.
    AmdVi,
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
                    "ECAP_REG.SC; as Linux 7.2 drivers/iommu/intel/iommu.c enforces cache coherency",
                );
                if ecap.snoop_control() {
                    Guarantee::guaranteed(cite).note("SNP in each leaf, or PGSNP for a PASID")
                } else {
                    Guarantee::forbidden(cite).note("some units, for integrated graphics among others, lack it")
                }
            }
            Self::AmdVi => Guarantee::guaranteed(Cite::second_hand(
                Source::AmdVi,
                "PTE.FC; Linux 6.12 drivers/iommu/amd/amd_iommu_types.h sets it always",
            )),
            Self::Smmu { canwbs } => {
                let cite = Cite::read(Source::Smmu, "13.6.1.1: No_snoop applies after S2FWB");
                if canwbs {
                    Guarantee::guaranteed(Cite::second_hand(
                        Source::Linux,
                        "7.2 arm-smmu-v3.c arm_smmu_capable(), IOMMU_FWSPEC_PCI_RC_CANWBS",
                    ))
                    .note("firmware's promise; software cannot find out")
                } else {
                    Guarantee::forbidden(cite).note("S2FWB stops a guest's stage 1, and not No Snoop")
                }
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

    /// Whether an access snoops, in a domain in which snooping is forced where that can be.
    #[must_use]
    pub const fn snoops(self, no_snoop: bool) -> bool {
        !no_snoop || matches!(self.forces_snoop().standing, Standing::Guaranteed)
    }
}

/// The memory access flags of an IORT node (byte 7 of its memory access properties; DEN0049E.f).
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
    /// Bit 2, CANWBS: coherent whatever the transaction says. Linux reads this one and neither of the others (7.2,
    /// `drivers/acpi/arm64/iort.c`).
    #[must_use]
    pub const fn canwbs(self) -> bool {
        self.0 & 4 != 0
    }
}
