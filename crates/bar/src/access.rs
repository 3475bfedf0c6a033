//! Views over device memory that somebody mapped, with the ordering in their types.
//!
//! A [`Window`] is the memory. [`Registers`] is a view of it for registers: each access is one instruction of the size asked for, in
//! program order, with the barriers of Linux's `readl()` and `writel()`. [`WriteCombining`] is a view for bursts: what is stored
//! through it may be merged, reordered and held back, and a [`Burst`] has to end before anything can depend on it. A [`Doorbell`],
//! the register by which a device is told of a burst, is rung with the [`Ordered`] that only the end of a burst gives:
//!
//! ```
//! use bar::access::{Bad, Window};
//! use bar::cpu::Features;
//!
//! # #[repr(align(64))] struct Lines([u8; 128]);
//! # let mut memory = Lines([0; 128]);
//! # let mut doorbells = [0u32; 4];
//! // SAFETY: both are memory of this process that nobody else uses.
//! let (window, page) = unsafe {
//!     (Window::new(memory.0.as_mut_ptr(), 128), Window::new(doorbells.as_mut_ptr().cast(), 16))
//! };
//! let mut frame = window.write_combining(Features::detect());
//! let bell = page.registers().register::<u32>(8)?.doorbell();
//!
//! let mut burst = frame.begin();
//! burst.write(3, &[0xa5; 100])?;
//! bell.ring(burst.flush(), 1);
//! # assert_eq!((memory.0[2], memory.0[3], memory.0[102], memory.0[103], doorbells[2]), (0, 0xa5, 0xa5, 0, 1));
//! # Ok::<(), Bad>(())
//! ```
//!
//! There is no way to ring it earlier, nor to begin the next burst between the end of this one and the doorbell:
//!
//! ```compile_fail,E0499
//! # fn f(frame: &mut bar::access::WriteCombining, bell: bar::access::Doorbell<u32>) {
//! let done = frame.begin().flush();
//! let more = frame.begin();
//! bell.ring(done, 1);
//! # }
//! ```
//!
//! A burst that is dropped is flushed. What the types do not see: a plain [`Register::write`] while a burst is open comes in any
//! order with it, and so does anything after a burst that was given to `mem::forget`.
#![expect(unsafe_code, reason = "accesses at addresses that the maker of a window promised")]

use core::fmt;
use core::marker::PhantomData;

use crate::arch;
use crate::cpu::Features;

/// Why an access was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bad {
    /// It reaches beyond the end.
    Range {
        /// Where it begins.
        offset: usize,
        /// How many bytes.
        width: usize,
        /// How many there are.
        len: usize,
    },
    /// The address is no multiple of the width. Registers take no such access, and on arm64 Device memory faults.
    Alignment {
        /// Where it begins.
        offset: usize,
        /// Of what it had to be a multiple.
        width: usize,
    },
    /// This CPU has no store of 64 bytes.
    No64,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Range { offset, width, len } => {
                write!(f, "{width} bytes at offset {offset:#x} are not within the {len:#x} bytes that are mapped")
            }
            Self::Alignment { offset, width } => write!(f, "offset {offset:#x} is not at a multiple of {width} bytes"),
            Self::No64 => f.write_str("this CPU has no store of 64 bytes (MOVDIR64B, ST64B)"),
        }
    }
}

impl core::error::Error for Bad {}

/// Device memory, mapped: where it is and how far it goes.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    base: *mut u8,
    len: usize,
    mapped: PhantomData<&'a ()>,
}

// SAFETY: every access is a single instruction at an address that stays mapped; device memory has no owner among the threads.
unsafe impl Send for Window<'_> {}
// SAFETY: as above.
unsafe impl Sync for Window<'_> {}

impl<'a> Window<'a> {
    /// Of a mapping.
    ///
    /// # Safety
    /// For the whole of `'a`, `len` bytes at `base` are mapped, readable and writable, and no reference of Rust's lives in them.
    #[must_use]
    pub const unsafe fn new(base: *mut u8, len: usize) -> Self {
        Self { base, len, mapped: PhantomData }
    }
    /// How many bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
    /// Where it begins.
    #[must_use]
    pub const fn base(self) -> *mut u8 {
        self.base
    }
    /// A part of it.
    ///
    /// # Errors
    /// It is not within.
    pub const fn part(self, offset: usize, len: usize) -> Result<Self, Bad> {
        match self.check(offset, len) {
            Ok(base) => Ok(Self { base, len, mapped: PhantomData }),
            Err(bad) => Err(bad),
        }
    }
    /// The view for registers. Give it memory that is mapped as Device or uncached: of a write-combining mapping it keeps the sizes and
    /// its own order, and what the CPU merges and delays is the mapping's.
    #[must_use]
    pub const fn registers(self) -> Registers<'a> {
        Registers { window: self }
    }
    /// The view for bursts. It is correct on any type, and fast on Normal-NC and WC.
    #[must_use]
    pub const fn write_combining(self, features: Features) -> WriteCombining<'a> {
        WriteCombining { window: self, features }
    }

    /// The address of `width` bytes at `offset`, if they are within.
    pub(crate) const fn check(self, offset: usize, width: usize) -> Result<*mut u8, Bad> {
        match offset.checked_add(width) {
            // SAFETY: offset is not beyond the end of the mapping.
            Some(end) if end <= self.len => Ok(unsafe { self.base.add(offset) }),
            _ => Err(Bad::Range { offset, width, len: self.len }),
        }
    }
    /// The same, at a multiple of `width`, a power of two.
    fn aligned(self, offset: usize, width: usize) -> Result<*mut u8, Bad> {
        let at = self.check(offset, width)?;
        if at.addr() & (width - 1) == 0 { Ok(at) } else { Err(Bad::Alignment { offset, width }) }
    }
}

mod sealed {
    pub trait Word: Copy {
        /// # Safety
        /// As the instruction.
        unsafe fn load(at: *const u8) -> Self;
        /// # Safety
        /// As the instruction.
        unsafe fn store(at: *mut u8, value: Self);
    }
}

/// What a register holds: `u8`, `u16`, `u32` or `u64`, little-endian on the bus.
pub trait Word: sealed::Word {}

macro_rules! words {
    ($($ty:ty: $load:ident $store:ident;)+) => { $(
        impl sealed::Word for $ty {
            #[inline(always)]
            unsafe fn load(at: *const u8) -> Self {
                // SAFETY: the caller's promise.
                Self::from_le(unsafe { arch::$load(at) })
            }
            #[inline(always)]
            unsafe fn store(at: *mut u8, value: Self) {
                // SAFETY: the caller's promise.
                unsafe { arch::$store(at, value.to_le()) }
            }
        }
        impl Word for $ty {}
    )+ };
}

words! {
    u8: load8 store8;
    u16: load16 store16;
    u32: load32 store32;
    u64: load64 store64;
}

/// Registers: ordered, of the size asked for, never merged by the compiler nor, where the mapping is Device or uncached, by the CPU.
#[derive(Debug, Clone, Copy)]
pub struct Registers<'a> {
    window: Window<'a>,
}

impl<'a> Registers<'a> {
    /// The register at an offset, checked once.
    ///
    /// # Errors
    /// It is not within, or not at a multiple of its size.
    pub fn register<T: Word>(self, offset: usize) -> Result<Register<'a, T>, Bad> {
        let at = self.window.aligned(offset, size_of::<T>())?;
        Ok(Register { at, mapped: PhantomData, holds: PhantomData })
    }
    /// Reads once, as [`Register::read`].
    ///
    /// # Errors
    /// As [`Registers::register`].
    pub fn read<T: Word>(self, offset: usize) -> Result<T, Bad> {
        self.register(offset).map(Register::read)
    }
    /// Writes once, as [`Register::write`].
    ///
    /// # Errors
    /// As [`Registers::register`].
    pub fn write<T: Word>(self, offset: usize, value: T) -> Result<(), Bad> {
        self.register(offset).map(|it| it.write(value))
    }
    /// Reads once, as [`Register::read_relaxed`].
    ///
    /// # Errors
    /// As [`Registers::register`].
    pub fn read_relaxed<T: Word>(self, offset: usize) -> Result<T, Bad> {
        self.register(offset).map(Register::read_relaxed)
    }
    /// Writes once, as [`Register::write_relaxed`].
    ///
    /// # Errors
    /// As [`Registers::register`].
    pub fn write_relaxed<T: Word>(self, offset: usize, value: T) -> Result<(), Bad> {
        self.register(offset).map(|it| it.write_relaxed(value))
    }
    /// The window.
    #[must_use]
    pub const fn window(self) -> Window<'a> {
        self.window
    }
}

/// A register: its place was checked, so an access cannot fail.
#[derive(Debug)]
pub struct Register<'a, T> {
    at: *mut u8,
    mapped: PhantomData<&'a ()>,
    holds: PhantomData<T>,
}

impl<T> Clone for Register<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Register<'_, T> {}

// SAFETY: as of a window.
unsafe impl<T> Send for Register<'_, T> {}
// SAFETY: as of a window.
unsafe impl<T> Sync for Register<'_, T> {}

impl<'a, T: Word> Register<'a, T> {
    /// Reads; what is read after it, RAM too, is read after it (Linux `readl()`).
    #[inline]
    #[must_use]
    pub fn read(self) -> T {
        let value = self.read_relaxed();
        arch::after_read();
        value
    }
    /// Writes; the device that sees it sees what was written to RAM before (Linux `writel()`).
    #[inline]
    pub fn write(self, value: T) {
        arch::before_write();
        self.write_relaxed(value);
    }
    /// Reads, without order against RAM. Accesses to registers of one device stay in order among themselves.
    #[inline]
    #[must_use]
    pub fn read_relaxed(self) -> T {
        // SAFETY: the place was checked against a window that is mapped for 'a.
        unsafe { T::load(self.at) }
    }
    /// Writes, without order against RAM. Accesses to registers of one device stay in order among themselves.
    #[inline]
    pub fn write_relaxed(self, value: T) {
        // SAFETY: the place was checked against a window that is mapped for 'a.
        unsafe { T::store(self.at, value) }
    }
    /// The same register, to be rung after bursts and in no other way.
    #[must_use]
    pub const fn doorbell(self) -> Doorbell<'a, T> {
        Doorbell(self)
    }
}

/// A register that tells the device of a burst.
#[derive(Debug, Clone, Copy)]
pub struct Doorbell<'a, T>(Register<'a, T>);

impl<T: Word> Doorbell<'_, T> {
    /// Writes it: the device that sees it has the burst, and sees what was written to RAM before.
    #[inline]
    pub fn ring(self, _after: Ordered<'_>, value: T) {
        self.0.write(value);
    }
}

/// That a burst has ended, on this CPU: a doorbell written now comes after it. While it is kept no other burst begins.
#[derive(Debug)]
#[must_use = "the doorbell is rung with it; drop it where there is none"]
pub struct Ordered<'w> {
    /// A fence orders the accesses of the CPU that executes it: neither a burst nor this goes to another thread.
    of: PhantomData<(&'w mut (), *const ())>,
}

/// Memory for bursts.
#[derive(Debug)]
pub struct WriteCombining<'a> {
    window: Window<'a>,
    features: Features,
}

impl<'a> WriteCombining<'a> {
    /// Begins a burst: what was written before, to RAM or to a register, comes before it.
    pub fn begin(&mut self) -> Burst<'_> {
        arch::begin();
        Burst { window: self.window, features: self.features, ends: true, of: PhantomData }
    }
    /// Reads, with aligned loads of up to 8 bytes in ascending order. Slow: each waits for the device.
    ///
    /// # Errors
    /// It is not within.
    pub fn read(&mut self, offset: usize, into: &mut [u8]) -> Result<(), Bad> {
        let at = self.window.check(offset, into.len())?;
        arch::between();
        for step in Steps::new(at.addr(), into.len()) {
            let (to, width) = (step.at, step.width);
            // SAFETY: every step is within the bytes that were checked.
            let from = unsafe { at.add(to) };
            let mut put = |bytes: &[u8]| into[to..to + bytes.len()].copy_from_slice(bytes);
            // SAFETY: as above, and at a multiple of its width.
            unsafe {
                match width {
                    1 => put(&[arch::load8(from)]),
                    2 => put(&arch::load16(from).to_ne_bytes()),
                    4 => put(&arch::load32(from).to_ne_bytes()),
                    _ => put(&arch::load64(from).to_ne_bytes()),
                }
            }
        }
        arch::after_read();
        Ok(())
    }
    /// The window.
    #[must_use]
    pub const fn window(&self) -> Window<'a> {
        self.window
    }
}

/// Stores that may be merged, reordered and held back until it ends.
#[derive(Debug)]
#[must_use = "a burst ends by `flush` or `order`"]
pub struct Burst<'w> {
    window: Window<'w>,
    features: Features,
    ends: bool,
    of: PhantomData<(&'w mut (), *const ())>,
}

impl<'w> Burst<'w> {
    /// Stores bytes, in ascending order: whole lines of 64 bytes as eight stores with nothing between them, the rest with the largest
    /// stores that are aligned. Not one byte outside is touched. Whether the CPU makes one transaction of a line is up to it.
    ///
    /// # Errors
    /// They are not within; nothing was stored.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Bad> {
        let at = self.window.check(offset, bytes.len())?;
        let (head, rest) = bytes.split_at(bytes.len().min(at.addr().wrapping_neg() & 63));
        let (lines, tail) = rest.as_chunks::<64>();
        // SAFETY: all of it was checked. Behind the head every line is at a multiple of 64.
        unsafe {
            pieces(at, head);
            let mut at = at.add(head.len());
            for line in lines {
                arch::line(at, &words_of(line));
                at = at.add(64);
            }
            pieces(at, tail);
        }
        Ok(())
    }
    /// Stores words, little-endian, as [`Burst::write`]. The offset must be a multiple of 8: each word is one store.
    ///
    /// # Errors
    /// They are not within, or not at a multiple of 8.
    pub fn write_words(&mut self, offset: usize, words: &[u64]) -> Result<(), Bad> {
        let width = size_of_val(words);
        let at = self.window.check(offset, width)?;
        if at.addr() & 7 != 0 {
            return Err(Bad::Alignment { offset, width: 8 });
        }
        let (head, rest) = words.split_at(words.len().min((at.addr().wrapping_neg() & 63) / 8));
        let (lines, tail) = rest.as_chunks::<8>();
        // SAFETY: all of it was checked. Behind the head every line is at a multiple of 64.
        unsafe {
            let mut at = whole(at, head);
            for line in lines {
                arch::line(at, &line.map(u64::to_le));
                at = at.add(64);
            }
            whole(at, tail);
        }
        Ok(())
    }
    /// Stores 64 bytes at a multiple of 64 that leave the CPU as one write, where it can do that.
    ///
    /// On arm64 an address that does not support it faults, or takes it byte by byte: see [`Features::store64`].
    ///
    /// # Errors
    /// The CPU cannot; they are not within, or not at a multiple of 64. Nothing was stored.
    pub fn store64(&mut self, offset: usize, bytes: &[u8; 64]) -> Result<(), Bad> {
        let at = self.window.aligned(offset, 64)?;
        if !self.features.store64() {
            return Err(Bad::No64);
        }
        // SAFETY: the CPU has it; 64 bytes within the window, at a multiple of 64.
        unsafe { arch::store64_bytes(at, &words_of(bytes)) };
        Ok(())
    }
    /// What follows is not merged with what went before, and comes after it.
    pub fn separate(&mut self) {
        arch::between();
    }
    /// Tells the CPU that waiting for more to merge is not worth it (arm64 DGH; elsewhere nothing). It orders nothing and promises nothing.
    pub fn hint(&mut self) {
        arch::hint();
    }
    /// Ends it: every byte leaves the CPU now, before what follows. On arm64 it waits for that (DSB OSHST).
    pub fn flush(mut self) -> Ordered<'w> {
        arch::flush();
        self.ends = false;
        Ordered { of: PhantomData }
    }
    /// Ends it: it comes before what follows, and leaves the CPU when it likes. Cheaper on arm64 (DMB OSHST), the same on x86.
    pub fn order(mut self) -> Ordered<'w> {
        arch::between();
        self.ends = false;
        Ordered { of: PhantomData }
    }
}

impl Drop for Burst<'_> {
    fn drop(&mut self) {
        if self.ends {
            arch::flush();
        }
    }
}

/// Fewer bytes than a line, by the largest stores that are aligned.
///
/// # Safety
/// They are mapped there, and nobody's but the device's.
unsafe fn pieces(at: *mut u8, bytes: &[u8]) {
    for Step { at: from, width } in Steps::new(at.addr(), bytes.len()) {
        // SAFETY: every step is within the bytes, at a multiple of its width.
        unsafe {
            let to = at.add(from);
            match bytes[from..from + width] {
                [a] => arch::store8(to, a),
                [a, b] => arch::store16(to, u16::from_ne_bytes([a, b])),
                [a, b, c, d] => arch::store32(to, u32::from_ne_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => arch::store64(to, u64::from_ne_bytes([a, b, c, d, e, f, g, h])),
                _ => {}
            }
        }
    }
}

/// Words, ascending; where the next would go.
///
/// # Safety
/// They are mapped there, at a multiple of 8, and nobody's but the device's.
unsafe fn whole(mut at: *mut u8, words: &[u64]) -> *mut u8 {
    for word in words {
        // SAFETY: the caller's promise.
        unsafe {
            arch::store64(at, word.to_le());
            at = at.add(8);
        }
    }
    at
}

/// The words in the order of memory.
fn words_of(line: &[u8; 64]) -> [u64; 8] {
    let (words, _) = line.as_chunks::<8>();
    core::array::from_fn(|i| u64::from_ne_bytes(words[i]))
}

/// Bytes cut into aligned accesses of 1, 2, 4 and 8 bytes, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    address: usize,
    at: usize,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// From the first byte.
    pub(crate) at: usize,
    /// 1, 2, 4 or 8.
    pub(crate) width: usize,
}

impl Steps {
    pub(crate) const fn new(address: usize, len: usize) -> Self {
        Self { address, at: 0, len }
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let left = self.len - self.at;
        let address = self.address.wrapping_add(self.at);
        let fits = |width: &usize| *width <= left && address & (width - 1) == 0;
        let width = [8, 4, 2, 1].into_iter().find(fits)?;
        let step = Step { at: self.at, width };
        self.at += width;
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[repr(align(64))]
    struct Memory([u8; 1024]);

    impl Memory {
        fn of(byte: u8) -> Self {
            Self([byte; 1024])
        }
        fn window(&mut self) -> Window<'_> {
            // SAFETY: this memory is borrowed for as long.
            unsafe { Window::new(self.0.as_mut_ptr(), self.0.len()) }
        }
    }

    #[test]
    fn what_is_refused() {
        let mut memory = Memory::of(0);
        let window = memory.window();
        let r = window.registers();
        assert_eq!(r.read::<u32>(1022), Err(Bad::Range { offset: 1022, width: 4, len: 1024 }));
        assert_eq!(r.read::<u32>(usize::MAX), Err(Bad::Range { offset: usize::MAX, width: 4, len: 1024 }));
        assert_eq!(r.read::<u32>(1021), Err(Bad::Range { offset: 1021, width: 4, len: 1024 }));
        assert_eq!(r.write(6, 1u32), Err(Bad::Alignment { offset: 6, width: 4 }));
        assert_eq!(r.write(1020, 1u32), Ok(()));
        assert_eq!(window.part(1000, 24).map(Window::len), Ok(24));
        assert!(window.part(1000, 25).is_err());
        let mut wc = window.write_combining(Features::BASE);
        let mut burst = wc.begin();
        assert_eq!(burst.write(1024, &[]), Ok(()));
        assert!(burst.write(1024, &[1]).is_err() && burst.write(1025, &[]).is_err());
        assert_eq!(burst.write_words(4, &[1]), Err(Bad::Alignment { offset: 4, width: 8 }));
        assert_eq!(burst.store64(0, &[1; 64]), Err(Bad::No64));
        assert_eq!(burst.store64(8, &[1; 64]), Err(Bad::Alignment { offset: 8, width: 64 }));
        drop(burst);
        assert_eq!(memory.0[1020..], 1u32.to_le_bytes());
        assert!(memory.0[..1020].iter().all(|b| *b == 0));
    }

    /// Every width, relaxed or not, reads and writes what ordinary memory holds, little-endian.
    #[test]
    fn registers() {
        let mut memory = Memory::of(0);
        let r = memory.window().registers();
        r.write(8, 0x1122_3344_5566_7788u64).unwrap();
        assert_eq!(r.read(8), Ok(0x88u8));
        assert_eq!(r.read_relaxed(10), Ok(0x5566u16));
        assert_eq!(r.read(12), Ok(0x1122_3344u32));
        r.write_relaxed(9, 0xaau8).unwrap();
        r.write(14, 0xbbccu16).unwrap();
        assert_eq!(r.read(8), Ok(0xbbcc_3344_5566_aa88u64));
    }

    #[test]
    fn store64_where_the_cpu_has_it() {
        let features = Features::detect();
        // arm64: ST64B faults on memory that is cached (DDI 0487 C3.2.8).
        if !features.store64() || cfg!(target_arch = "aarch64") {
            return;
        }
        let mut memory = Memory::of(0);
        let bytes: [u8; 64] = core::array::from_fn(|i| i as u8 + 1);
        let mut wc = memory.window().write_combining(features);
        let mut burst = wc.begin();
        burst.store64(128, &bytes).unwrap();
        drop(burst.flush());
        assert_eq!(memory.0[128..192], bytes);
        assert!(memory.0[..128].iter().chain(&memory.0[192..]).all(|b| *b == 0));
    }

    #[cfg(target_arch = "aarch64")]
    #[test]
    fn st64b() {
        // 1111 1000 0011 1111 1001 00, Rn = 8, Rt = 0.
        assert_eq!(arch::ST64B_X0_AT_X8, 0b1111_1000_0011_1111_1001_0001_0000_0000);
    }

    /// What a burst is cut into, the naive way: byte by byte, joined to the largest aligned power of two that fits.
    fn naive(address: usize, len: usize) -> Vec<Step> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < len {
            let mut width = 1;
            for w in [2, 4, 8] {
                if (address + at).is_multiple_of(w) && at + w <= len {
                    width = w;
                }
            }
            out.push(Step { at, width });
            at += width;
        }
        out
    }

    proptest! {
        #[test]
        fn steps(address in 0usize..4096, len in 0usize..1000) {
            let steps: Vec<_> = Steps::new(address, len).collect();
            prop_assert_eq!(&steps, &naive(address, len));
            prop_assert!(steps.windows(2).all(|s| s[0].at + s[0].width == s[1].at));
        }

        #[test]
        fn burst(offset in 0usize..1100, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut memory = Memory::of(0x5a);
            let mut expected = memory.0;
            let mut wc = memory.window().write_combining(Features::detect());
            let mut burst = wc.begin();
            let done = burst.write(offset, &bytes);
            drop(burst.flush());
            if let Some(place) = expected.get_mut(offset..offset + bytes.len()) {
                prop_assert_eq!(done, Ok(()));
                place.copy_from_slice(&bytes);
                let mut back = std::vec![0; bytes.len()];
                wc.read(offset, &mut back).unwrap();
                prop_assert_eq!(back, bytes);
            } else {
                prop_assert!(done.is_err());
            }
            prop_assert_eq!(&memory.0[..], &expected[..]);
        }

        #[test]
        fn words(offset in 0usize..130, words in proptest::collection::vec(any::<u64>(), 0..40)) {
            let mut memory = Memory::of(0x5a);
            let mut expected = memory.0;
            let mut wc = memory.window().write_combining(Features::BASE);
            let mut burst = wc.begin();
            let done = burst.write_words(offset, &words);
            drop(burst);
            if offset % 8 == 0 {
                prop_assert_eq!(done, Ok(()));
                for (i, word) in words.iter().enumerate() {
                    expected[offset + 8 * i..][..8].copy_from_slice(&word.to_le_bytes());
                }
            } else {
                prop_assert_eq!(done, Err(Bad::Alignment { offset, width: 8 }));
            }
            prop_assert_eq!(&memory.0[..], &expected[..]);
        }
    }
}
