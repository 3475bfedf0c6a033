//! x86-64: each access is one `MOV`, in assembly, so that it is of the size asked for and stays where it is. KVM emulates `MOV`
//! wherever it meets it.
#![expect(unsafe_code, reason = "loads and stores at addresses of the caller's")]

use core::arch::asm;

macro_rules! access {
    ($($load:ident $ldr:literal $store:ident $str:literal $class:ident $ty:ty;)+) => { $(
        /// # Safety
        /// The address is mapped.
        #[inline(always)]
        pub(crate) unsafe fn $load(at: *const u8) -> $ty {
            let value: $ty;
            // SAFETY: the caller's promise.
            unsafe { asm!($ldr, value = out($class) value, at = in(reg) at, options(nostack, preserves_flags)) };
            value
        }
        /// # Safety
        /// As the load; the bytes are nobody's but the device's.
        #[inline(always)]
        pub(crate) unsafe fn $store(at: *mut u8, value: $ty) {
            // SAFETY: the caller's promise.
            unsafe { asm!($str, value = in($class) value, at = in(reg) at, options(nostack, preserves_flags)) };
        }
    )+ };
}

access! {
    load8 "mov {value}, byte ptr [{at}]" store8 "mov byte ptr [{at}], {value}" reg_byte u8;
    load16 "mov {value:x}, word ptr [{at}]" store16 "mov word ptr [{at}], {value:x}" reg u16;
    load32 "mov {value:e}, dword ptr [{at}]" store32 "mov dword ptr [{at}], {value:e}" reg u32;
    load64 "mov {value:r}, qword ptr [{at}]" store64 "mov qword ptr [{at}], {value:r}" reg u64;
}

/// Eight stores in ascending order with nothing between them.
///
/// # Safety
/// As [`store64`], for 64 bytes at a multiple of 64.
#[inline(always)]
pub(crate) unsafe fn line(at: *mut u8, words: &[u64; 8]) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "mov qword ptr [{at}], {a}",
            "mov qword ptr [{at} + 8], {b}",
            "mov qword ptr [{at} + 16], {c}",
            "mov qword ptr [{at} + 24], {d}",
            "mov qword ptr [{at} + 32], {e}",
            "mov qword ptr [{at} + 40], {f}",
            "mov qword ptr [{at} + 48], {g}",
            "mov qword ptr [{at} + 56], {h}",
            at = in(reg) at,
            a = in(reg) words[0], b = in(reg) words[1], c = in(reg) words[2], d = in(reg) words[3],
            e = in(reg) words[4], f = in(reg) words[5], g = in(reg) words[6], h = in(reg) words[7],
            options(nostack, preserves_flags)
        );
    }
}

/// MOVDIR64B: 64 bytes as one write, by the protocol of WC whatever the memory type is (SDM vol. 2 MOVDIR64B).
///
/// # Safety
/// As [`line`], and the CPU has it.
pub(crate) unsafe fn store64_bytes(at: *mut u8, words: &[u64; 8]) {
    // SAFETY: the caller's promise; it reads the 64 bytes of `words`.
    unsafe {
        asm!(
            "movdir64b {at}, zmmword ptr [{words}]",
            at = in(reg) at, words = in(reg) words,
            options(nostack, preserves_flags)
        );
    }
}
