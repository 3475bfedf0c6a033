//! The system registers and the instructions that no Rust has.
#![expect(unsafe_code, reason = "system registers and maintenance instructions are reached by assembly alone")]

use core::arch::asm;

/// Reads a system register.
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: reading one of the registers named in this file has no side effect.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags)) };
        value
    }};
}

/// Writes a system register, and sees to it that what follows sees it.
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the registers written in this file are those of the guest's regime, of its stage 2, of EL2's timer and of the
        // interrupt controller. None changes how this program's own memory is translated; `Translation` does, and says why it may.
        unsafe { core::arch::asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) value, options(nostack, preserves_flags)) };
    }};
}

/// ID_AA64MMFR0_EL1.PARange.
pub(crate) fn pa_range() -> u64 {
    read!("id_aa64mmfr0_el1") & 0xf
}

/// FEAT_S2FWB: ID_AA64MMFR2_EL1.FWB.
pub(crate) fn has_fwb() -> bool {
    read!("id_aa64mmfr2_el1") >> 40 & 0xf != 0
}

/// FEAT_MTE2 as a guest with HCR_EL2.ATA = 1 has it: ID_AA64PFR1_EL1.MTE, 2 or more.
pub(crate) fn has_mte2() -> bool {
    read!("id_aa64pfr1_el1") >> 8 & 0xf >= 2
}

/// FEAT_XS: ID_AA64ISAR1_EL1.XS.
pub(crate) fn has_xs() -> bool {
    read!("id_aa64isar1_el1") >> 56 & 0xf != 0
}

/// CTR_EL0.DIC.
pub(crate) fn has_dic() -> bool {
    read!("ctr_el0") >> 29 & 1 != 0
}

/// MIDR_EL1.
pub(crate) fn midr() -> u64 {
    read!("midr_el1")
}

/// HCR_EL2 of a guest as KVM has it (Linux `HCR_GUEST_FLAGS`, arch/arm64/include/asm/kvm_arm.h; `vcpu_reset_hcr`): TEA, TLOR,
/// RW, TID3, TACR, TIDCP, TSC, TSW, TWE, TWI, AMO, IMO, FMO, BSU = IS, FB, PTW, SWIO, VM.
///
/// E2H is 0: the program has a regime of its own.
pub(crate) const HCR_GUEST: u64 = 1 << 31
    | 1 << 37
    | 1 << 35
    | 1 << 22
    | 1 << 21
    | 1 << 20
    | 1 << 19
    | 1 << 18
    | 1 << 14
    | 1 << 13
    | 1 << 10
    | 1 << 9
    | 0b111 << 3
    | 1 << 2
    | 1 << 1
    | 1;
/// HCR_EL2.FWB.
pub(crate) const HCR_FWB: u64 = 1 << 46;
/// HCR_EL2.ATA: the guest's accesses to allocation tags are not trapped, and MAIR byte 0xF0 means what it says.
pub(crate) const HCR_ATA: u64 = 1 << 56;
/// HCR_EL2 while no guest is about: EL1 is AArch64.
pub(crate) const HCR_NONE: u64 = 1 << 31;

/// Writes HCR_EL2.
pub(crate) fn set_hcr(value: u64) {
    write!("hcr_el2", value);
}

/// The registers of stage 2: its root and its shape.
pub(crate) fn set_stage2(root: u64, vtcr: u64) {
    write!("vtcr_el2", vtcr);
    // VMID 1.
    write!("vttbr_el2", root | 1 << 48);
}

/// The guest's stage 1 and vectors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct El1 {
    /// SCTLR_EL1.
    pub(crate) sctlr: u64,
    /// TCR_EL1.
    pub(crate) tcr: u64,
    /// MAIR_EL1.
    pub(crate) mair: u64,
    /// TTBR0_EL1.
    pub(crate) ttbr0: u64,
    /// VBAR_EL1.
    pub(crate) vbar: u64,
}

/// Gives the guest these registers; FP is off (CPACR_EL1 = 0), as on KVM at the start.
pub(crate) fn set_el1(el1: &El1) {
    write!("cpacr_el1", 0);
    write!("tcr_el1", el1.tcr);
    write!("mair_el1", el1.mair);
    write!("ttbr0_el1", el1.ttbr0);
    write!("vbar_el1", el1.vbar);
    write!("esr_el1", 0);
    write!("far_el1", 0);
    write!("elr_el1", 0);
    write!("sctlr_el1", el1.sctlr);
}

/// MAIR_EL1.
pub(crate) fn set_mair_el1(mair: u64) {
    write!("mair_el1", mair);
}

/// ESR_EL1, FAR_EL1, ELR_EL1.
pub(crate) fn el1_exception() -> [u64; 3] {
    [read!("esr_el1"), read!("far_el1"), read!("elr_el1")]
}

/// What EL2 is told of an exception.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syndrome {
    /// ESR_EL2.
    pub(crate) esr: u64,
    /// FAR_EL2.
    pub(crate) far: u64,
    /// HPFAR_EL2.
    pub(crate) hpfar: u64,
    /// ELR_EL2.
    pub(crate) elr: u64,
}

/// The registers of the last exception to EL2.
pub(crate) fn syndrome() -> Syndrome {
    Syndrome { esr: read!("esr_el2"), far: read!("far_el2"), hpfar: read!("hpfar_el2"), elr: read!("elr_el2") }
}

/// Writes before are seen by table walks after, and by every other observer.
pub(crate) fn publish() {
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// Writes and reads before are complete: for devices.
pub(crate) fn complete() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// TLBI VMALLS12E1IS: both stages of the guest.
pub(crate) fn forget_guest() {
    // SAFETY: invalidates what can be walked again.
    unsafe { asm!("dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// TLBI ALLE2: EL2's own.
pub(crate) fn forget_own() {
    // SAFETY: as above.
    unsafe { asm!("dsb ishst", "tlbi alle2", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// What the guest wrote as data can be fetched as instructions: IC IALLUIS.
pub(crate) fn forget_instructions() {
    // SAFETY: invalidates what can be fetched again.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}

/// AT S12E1R, and PAR_EL1.
pub(crate) fn translate(address: u64) -> u64 {
    // SAFETY: an address translation instruction changes PAR_EL1 alone.
    unsafe { asm!("at s12e1r, {}", "isb", in(reg) address, options(nostack, preserves_flags)) };
    read!("par_el1")
}

/// The counter at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(u64);

impl Clock {
    /// Now.
    pub(crate) fn now() -> Self {
        Self(read!("cntpct_el0"))
    }
    /// Milliseconds since then.
    pub(crate) fn elapsed(self) -> u64 {
        (Self::now().0 - self.0) / per_millisecond()
    }
}

/// What the counter counts in a millisecond.
fn per_millisecond() -> u64 {
    (read!("cntfrq_el0") / 1000).max(1)
}

/// The EL2 physical timer (CNTHP) fires after so many milliseconds.
pub(crate) fn alarm(milliseconds: u64) {
    alarm_in(per_millisecond() * milliseconds);
}

/// The same, in what the counter counts.
pub(crate) fn alarm_in(ticks: u64) {
    write!("cnthp_cval_el2", read!("cntpct_el0") + ticks);
    write!("cnthp_ctl_el2", 1);
}

/// How much is left until it fires.
pub(crate) fn left() -> u64 {
    read!("cnthp_cval_el2").saturating_sub(read!("cntpct_el0"))
}

/// It does not.
pub(crate) fn no_alarm() {
    write!("cnthp_ctl_el2", 0);
}

/// Whether it has.
pub(crate) fn rang() -> bool {
    read!("cnthp_ctl_el2") & 0b101 == 0b101
}

/// Lets interrupts of group 1 come to EL2: the system registers of GICv3.
pub(crate) fn open_interrupts() {
    // ICC_SRE_EL2: SRE, Enable. ICC_PMR_EL1: every priority. ICC_IGRPEN1_EL1.
    write!("S3_4_C12_C9_5", read!("S3_4_C12_C9_5") | 0b1001);
    write!("S3_0_C4_C6_0", 0xff);
    write!("S3_0_C12_C12_7", 1);
}

/// Takes the interrupt that is pending and ends it; its number.
pub(crate) fn acknowledge() -> u64 {
    let number = read!("S3_0_C12_C12_0");
    write!("S3_0_C12_C12_1", number);
    number
}

/// EL2's own stage 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Translation {
    /// TTBR0_EL2.
    pub(crate) root: u64,
    /// MAIR_EL2.
    pub(crate) mair: u64,
    /// TCR_EL2.
    pub(crate) tcr: u64,
}

impl Translation {
    /// Turns EL2's stage 1 on, caches too. What was written before by way of no cache is not invalidated in any: the boot
    /// protocol says that no cache has it.
    ///
    /// # Safety
    /// The tables at `root` map the program, its stack and heap where they are, with the memory types their use needs, and stay
    /// so.
    pub(crate) unsafe fn turn_on(&self) {
        // SCTLR_EL2: RES1 bits, I, C, M. SA and A stay off.
        const SCTLR: u64 = 0x30c5_0830 | 1 << 12 | 1 << 2 | 1;
        // SAFETY: the caller's.
        unsafe {
            asm!(
                "msr mair_el2, {mair}",
                "msr tcr_el2, {tcr}",
                "msr ttbr0_el2, {root}",
                "dsb ish",
                "tlbi alle2",
                "dsb ish",
                "isb",
                "msr sctlr_el2, {sctlr}",
                "isb",
                mair = in(reg) self.mair,
                tcr = in(reg) self.tcr,
                root = in(reg) self.root,
                sctlr = in(reg) SCTLR,
                options(nostack, preserves_flags)
            );
        }
    }
}

/// PSCI SYSTEM_OFF, by SMC (DEN0022: 0x84000008).
pub(crate) fn power_off() -> ! {
    // SAFETY: the firmware ends the machine; where there is none, the loop does nothing for ever.
    unsafe {
        asm!("dsb sy", "mov x0, {function}", "smc #0", "1: wfi", "b 1b", function = in(reg) 0x8400_0008_u64, options(noreturn))
    }
}

/// Asks until it holds, for so many milliseconds; `None` where it never did.
pub(crate) fn wait(milliseconds: u64, mut holds: impl FnMut() -> bool) -> Option<()> {
    let begun = Clock::now();
    while !holds() {
        if begun.elapsed() > milliseconds {
            return None;
        }
    }
    Some(())
}

/// AT S1E1R: what the guest's stage 1 makes of an address; `None` where it faults.
pub(crate) fn translate_stage1(address: u64) -> Option<u64> {
    // SAFETY: as `translate`.
    unsafe { asm!("at s1e1r, {}", "isb", in(reg) address, options(nostack, preserves_flags)) };
    let par = read!("par_el1");
    (par & 1 == 0).then_some(par & 0x000f_ffff_ffff_f000)
}

/// A virtual exception for the guest's EL1: where it was, and what it was doing.
pub(crate) fn set_el1_exception(esr: u64, far: u64, elr: u64, spsr: u64) {
    write!("esr_el1", esr);
    write!("far_el1", far);
    write!("elr_el1", elr);
    write!("spsr_el1", spsr);
}

/// DC CIVAC of every line of a part of RAM.
pub(crate) fn clean(region: crate::memory::Region) {
    // CTR_EL0.DminLine: words of 4 bytes, to the power of two.
    let line = 4 << (read!("ctr_el0") >> 16 & 0xf);
    let mut at = region.base() & !(line - 1);
    while at < region.base() + region.size() {
        // SAFETY: the address is mapped, and cleaning changes no data.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += line;
    }
    publish();
}
