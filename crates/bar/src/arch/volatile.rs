//! Elsewhere: volatile accesses, which the compiler neither merges nor leaves out; it promises no instruction.
#![expect(unsafe_code, reason = "loads and stores at addresses of the caller's")]

macro_rules! access {
    ($($load:ident $store:ident $ty:ty;)+) => { $(
        /// # Safety
        /// The address is mapped, and aligned.
        #[inline(always)]
        pub(crate) unsafe fn $load(at: *const u8) -> $ty {
            // SAFETY: the caller's promise.
            unsafe { at.cast::<$ty>().read_volatile() }
        }
        /// # Safety
        /// As the load; the bytes are nobody's but the device's.
        #[inline(always)]
        pub(crate) unsafe fn $store(at: *mut u8, value: $ty) {
            // SAFETY: the caller's promise.
            unsafe { at.cast::<$ty>().write_volatile(value) }
        }
    )+ };
}

access! {
    load8 store8 u8;
    load16 store16 u16;
    load32 store32 u32;
    load64 store64 u64;
}

/// # Safety
/// As [`store64`], for 64 bytes at a multiple of 64.
pub(crate) unsafe fn line(at: *mut u8, words: &[u64; 8]) {
    for (i, word) in words.iter().enumerate() {
        // SAFETY: the caller's promise; i is below 8.
        unsafe { store64(at.add(8 * i), *word) };
    }
}

/// # Safety
/// Never called: no such store is known here.
pub(crate) unsafe fn store64_bytes(at: *mut u8, words: &[u64; 8]) {
    // SAFETY: the caller's promise.
    unsafe { line(at, words) }
}
