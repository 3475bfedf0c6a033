//! Register numbers for KVM_GET_ONE_REG and KVM_SET_ONE_REG on arm64 (Linux, arch/arm64/include/uapi/asm/kvm.h and
//! Documentation/virt/kvm/api.rst, 4.68).

/// KVM_REG_ARM64 with KVM_REG_SIZE_U64.
const ARM64_U64: u64 = 0x6030_0000_0000_0000;
/// KVM_REG_ARM_CORE.
const CORE: u64 = ARM64_U64 | 0x10 << 16;
/// KVM_REG_ARM64_SYSREG.
const SYSREG: u64 = ARM64_U64 | 0x13 << 16;

/// A field of `struct kvm_regs`, in 32-bit words from its start.
const fn core(byte_offset: u64) -> u64 {
    CORE | (byte_offset / 4)
}

const fn sysreg(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    SYSREG | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// x0 to x30.
#[must_use]
pub const fn x(number: u8) -> u64 {
    core(8 * number as u64)
}

/// The program counter, after the 31 registers and SP_EL0.
pub const PC: u64 = core(8 * 32);
/// PSTATE.
pub const PSTATE: u64 = core(8 * 33);
/// ELR_EL1, after SP_EL1.
pub const ELR_EL1: u64 = core(8 * 35);
/// SCTLR_EL1.
pub const SCTLR_EL1: u64 = sysreg(3, 0, 1, 0, 0);
/// TTBR0_EL1.
pub const TTBR0_EL1: u64 = sysreg(3, 0, 2, 0, 0);
/// TCR_EL1.
pub const TCR_EL1: u64 = sysreg(3, 0, 2, 0, 2);
/// ESR_EL1.
pub const ESR_EL1: u64 = sysreg(3, 0, 5, 2, 0);
/// FAR_EL1.
pub const FAR_EL1: u64 = sysreg(3, 0, 6, 0, 0);
/// MAIR_EL1.
pub const MAIR_EL1: u64 = sysreg(3, 0, 10, 2, 0);
/// VBAR_EL1.
pub const VBAR_EL1: u64 = sysreg(3, 0, 12, 0, 0);
/// ID_AA64MMFR2_EL1.
pub const ID_AA64MMFR2_EL1: u64 = sysreg(3, 0, 0, 7, 2);
/// CTR_EL0.
pub const CTR_EL0: u64 = sysreg(3, 3, 0, 0, 1);

/// PSTATE at the start: EL1h, with D, A, I and F masked.
pub const START_PSTATE: u64 = 0x3c5;

/// Whether ID_AA64MMFR2_EL1 says that FEAT_S2FWB is there (FWB, bits 43 to 40).
#[must_use]
pub const fn has_fwb(mmfr2: u64) -> bool {
    mmfr2 >> 40 & 0xf != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_kernel_numbers_them() {
        // KVM's own list of registers (tools/testing/selftests/kvm/arm64/get-reg-list.c) has these numbers.
        assert_eq!(x(0), 0x6030_0000_0010_0000);
        assert_eq!(x(30), 0x6030_0000_0010_003c);
        assert_eq!(PC, 0x6030_0000_0010_0040);
        assert_eq!(PSTATE, 0x6030_0000_0010_0042);
        assert_eq!(ELR_EL1, 0x6030_0000_0010_0046);
        assert_eq!(SCTLR_EL1, 0x6030_0000_0013_c080);
        assert_eq!(TTBR0_EL1, 0x6030_0000_0013_c100);
        assert_eq!(TCR_EL1, 0x6030_0000_0013_c102);
        assert_eq!(ESR_EL1, 0x6030_0000_0013_c290);
        assert_eq!(FAR_EL1, 0x6030_0000_0013_c300);
        assert_eq!(MAIR_EL1, 0x6030_0000_0013_c510);
        assert_eq!(VBAR_EL1, 0x6030_0000_0013_c600);
        assert_eq!(ID_AA64MMFR2_EL1, 0x6030_0000_0013_c03a);
        assert_eq!(CTR_EL0, 0x6030_0000_0013_d801);
        assert!(has_fwb(1 << 40) && !has_fwb(0xffff_f0ff_ffff_ffff));
    }
}
