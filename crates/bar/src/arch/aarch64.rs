//! arm64: each access is one `LDR` or `STR` of a general register with a base register and no writeback. A hypervisor that emulates
//! the location can decode no other form (ESR_EL2.ISS.ISV of a Data Abort; KVM_EXIT_ARM_NISV), and of each the architecture says
//! that it is a single access (B2.2.1). A volatile access is no such promise: LLVM made `str w9, [x0], #4` of some (rust-lang/rust
//! 131894) until llvm/llvm-project 196305 of May 2026.
#![expect(unsafe_code, reason = "loads and stores at addresses of the caller's")]

use core::arch::asm;

macro_rules! access {
    ($($load:ident $ldr:literal $store:ident $str:literal $ty:ty;)+) => { $(
        /// # Safety
        /// The address is mapped, and of the alignment its memory type asks for.
        #[inline(always)]
        pub(crate) unsafe fn $load(at: *const u8) -> $ty {
            let value: $ty;
            // SAFETY: the caller's promise.
            unsafe { asm!($ldr, value = out(reg) value, at = in(reg) at, options(nostack, preserves_flags)) };
            value
        }
        /// # Safety
        /// As the load; the bytes are nobody's but the device's.
        #[inline(always)]
        pub(crate) unsafe fn $store(at: *mut u8, value: $ty) {
            // SAFETY: the caller's promise.
            unsafe { asm!($str, value = in(reg) value, at = in(reg) at, options(nostack, preserves_flags)) };
        }
    )+ };
}

access! {
    load8 "ldrb {value:w}, [{at}]" store8 "strb {value:w}, [{at}]" u8;
    load16 "ldrh {value:w}, [{at}]" store16 "strh {value:w}, [{at}]" u16;
    load32 "ldr {value:w}, [{at}]" store32 "str {value:w}, [{at}]" u32;
    load64 "ldr {value:x}, [{at}]" store64 "str {value:x}, [{at}]" u64;
}

/// Eight stores in ascending order with nothing between them: the form that Linux 6.10 and later has in `__iowrite64_copy()` since
/// cores seldom combine what a loop stores (arch/arm64/include/asm/io.h). STP and NEON would do better on some, and cannot be
/// decoded where the location is emulated.
///
/// # Safety
/// As [`store64`], for 64 bytes at a multiple of 64.
#[inline(always)]
pub(crate) unsafe fn line(at: *mut u8, words: &[u64; 8]) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "str {a}, [{at}]",
            "str {b}, [{at}, #8]",
            "str {c}, [{at}, #16]",
            "str {d}, [{at}, #24]",
            "str {e}, [{at}, #32]",
            "str {f}, [{at}, #40]",
            "str {g}, [{at}, #48]",
            "str {h}, [{at}, #56]",
            at = in(reg) at,
            a = in(reg) words[0], b = in(reg) words[1], c = in(reg) words[2], d = in(reg) words[3],
            e = in(reg) words[4], f = in(reg) words[5], g = in(reg) words[6], h = in(reg) words[7],
            options(nostack, preserves_flags)
        );
    }
}

/// ST64B, as a number: an assembler without FEAT_LS64 does not take the name. `1111_1000_0011_1111_1001_00nn_nnnt_tttt`
/// (DDI 0487 C6.2 ST64B): Rn is x8, Rt is x0.
pub(crate) const ST64B_X0_AT_X8: u32 = 0xf83f_9000 | 8 << 5;

/// # Safety
/// As [`line`], and the CPU has FEAT_LS64, and the address supports it.
pub(crate) unsafe fn store64_bytes(at: *mut u8, words: &[u64; 8]) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            ".inst {st64b}",
            st64b = const ST64B_X0_AT_X8,
            in("x0") words[0], in("x1") words[1], in("x2") words[2], in("x3") words[3],
            in("x4") words[4], in("x5") words[5], in("x6") words[6], in("x7") words[7],
            in("x8") at,
            options(nostack, preserves_flags)
        );
    }
}
