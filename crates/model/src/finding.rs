//! Findings: where a machine that is not ours departs from the architecture, as known by name. Each can be put on the model,
//! so that "the emulator does not do it right" is a prediction like any other: what is seen must be that, to the bit.

/// A known departure of an emulator from the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finding {
    /// QEMU: DC ZVA is not checked for alignment by memory type.
    QemuDcZva,
    /// QEMU: with stage 1 off, its Device-nGnRnE is not checked for alignment.
    QemuMmuOff,
    /// QEMU: the fetch is translated before the PC's alignment is looked at.
    QemuPcAlignment,
    /// QEMU: a stage-2 Alignment fault on a page already accessed is reported as one of stage 1.
    QemuTlbAlignment,
    /// QEMU: no access that fails on the bus is an error.
    QemuNoUncontained,
    /// QEMU: Normal-NC works.
    QemuNcWorks,
}

impl Finding {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::QemuDcZva,
        Self::QemuMmuOff,
        Self::QemuPcAlignment,
        Self::QemuTlbAlignment,
        Self::QemuNoUncontained,
        Self::QemuNcWorks,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QemuDcZva => "qemu-dc-zva",
            Self::QemuMmuOff => "qemu-mmu-off",
            Self::QemuPcAlignment => "qemu-pc-alignment",
            Self::QemuTlbAlignment => "qemu-tlb-alignment",
            Self::QemuNoUncontained => "qemu-no-uncontained",
            Self::QemuNcWorks => "qemu-nc-works",
        }
    }

    /// What is seen, and what ought to be.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::QemuDcZva => {
                "QEMU (TCG, seen with 10.0.2) performs DC ZVA on Device memory; the architecture has an Alignment fault, of \
                 stage 1 or 2, however aligned the address is. [DDI 0487 C5.3; AArch64.S1HasAlignmentFault. The cause in QEMU is \
                 not traced]"
            }
            Self::QemuMmuOff => {
                "QEMU (TCG, seen with 10.0.2) makes no stage-1 alignment check while the guest's MMU is off; the architecture \
                 has Device-nGnRnE there, and an Alignment fault of stage 1. What stage 2 says is checked. [DDI 0487 \
                 AArch64.S1DisabledOutput; QEMU marks a page for the check in get_phys_addr_lpae only]"
            }
            Self::QemuPcAlignment => {
                "QEMU (TCG, seen with 10.0.2) translates the fetch of a misaligned PC, and reports its fault; the architecture \
                 has a PC alignment fault first. [DDI 0487 B2.8.1. The cause in QEMU is not traced]"
            }
            Self::QemuTlbAlignment => {
                "QEMU (TCG, seen with 10.0.2) takes the Alignment fault of an access that stage 2 makes Device to EL1, as one of \
                 stage 1, where the page was accessed before and its translation is in the TLB; the architecture has a stage-2 \
                 fault, taken to EL2, every time. The first access to a page is right. [DDI 0487 AArch64.S2HasAlignmentFault; \
                 QEMU target/arm/tcg/tlb_helper.c: arm_cpu_do_unaligned_access leaves fi.stage2 clear]"
            }
            Self::QemuNoUncontained => {
                "QEMU's PCIe window (machine `virt`) answers where no device does: a read gives ones, a write is dropped. A \
                 platform that is declared to tell the guest, or to lose the host, cannot be shown there. [thread 003; QEMU \
                 hw/pci-host/gpex.c, allow-unmapped-accesses]"
            }
            Self::QemuNcWorks => {
                "QEMU has no write buffer and no defect of one: Normal-NC accesses to a BAR always work, whatever is declared \
                 of the platform. [thread 002, Gunthorpe, of SoCs on which they do not]"
            }
        }
    }
}
