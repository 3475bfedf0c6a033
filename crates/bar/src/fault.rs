//! An access whose fault is an answer and not the end of the process.
//!
//! The accesses are leaf functions in assembly, between two labels. A handler of SIGBUS, SIGSEGV and SIGILL looks at the program
//! counter: inside, it writes the signal into the registers in which the function answers and lets it return; outside, the fault is
//! somebody else's and goes to the handler that was there before. Nothing is unwound, no Rust code is interrupted in the middle, and
//! nothing is shared between threads: two may fault at once.
//!
//! What cannot be caught: an error that comes after the store has retired. On arm64 that is an SError, which the kernel takes; on x86
//! a machine check.
#![expect(unsafe_code, reason = "signal handlers; accesses in assembly")]

use std::cell::UnsafeCell;
use std::io;
use std::sync::OnceLock;
use std::{fmt, mem, ptr};

use libc::{c_int, c_void, siginfo_t};

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(include_str!("fault/aarch64.s"));
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(include_str!("fault/x86_64.s"));

/// What came instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// SIGBUS, SIGSEGV or SIGILL.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
}

impl Fault {
    /// Whether it is the alignment fault of Device memory: arm64 `SIGBUS BUS_ADRALN`.
    #[must_use]
    pub const fn is_alignment(self) -> bool {
        self.signal == libc::SIGBUS && self.code == libc::BUS_ADRALN
    }
}

/// `SIGBUS BUS_ADRALN`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // include/uapi/asm-generic/siginfo.h of Linux.
        let name = match (self.signal, self.code) {
            (libc::SIGBUS, 1) => "SIGBUS BUS_ADRALN",
            (libc::SIGBUS, 2) => "SIGBUS BUS_ADRERR",
            (libc::SIGBUS, 3) => "SIGBUS BUS_OBJERR",
            (libc::SIGBUS, 4) => "SIGBUS BUS_MCEERR_AR",
            (libc::SIGSEGV, 1) => "SIGSEGV SEGV_MAPERR",
            (libc::SIGSEGV, 2) => "SIGSEGV SEGV_ACCERR",
            (libc::SIGILL, 1) => "SIGILL ILL_ILLOPC",
            (signal, code) => {
                let name = match signal {
                    libc::SIGBUS => "SIGBUS",
                    libc::SIGSEGV => "SIGSEGV",
                    libc::SIGILL => "SIGILL",
                    _ => "signal",
                };
                return write!(f, "{name} si_code {code}");
            }
        };
        f.write_str(name)
    }
}

impl std::error::Error for Fault {}

/// The two registers in which a function of the assembly answers.
#[derive(Clone, Copy)]
#[repr(C)]
struct Answer {
    value: u64,
    /// 0, or the signal in the upper and `si_code` in the lower half.
    fault: u64,
}

impl Answer {
    const fn take(self) -> Result<u64, Fault> {
        match (self.fault >> 32) as u32 {
            0 => Ok(self.value),
            signal => Err(Fault {
                signal: signal.cast_signed(),
                code: (self.fault as u32).cast_signed(),
                address: self.value,
            }),
        }
    }
}

macro_rules! functions {
    ($($name:ident($($arg:ident: $ty:ty),*);)+) => {
        unsafe extern "C" { $(fn $name(at: *mut u8 $(, $arg: $ty)*) -> Answer;)+ }
    };
}

functions! {
    bar_fault_load1();
    bar_fault_load2();
    bar_fault_load4();
    bar_fault_load8();
    bar_fault_store1(value: u64);
    bar_fault_store2(value: u64);
    bar_fault_store4(value: u64);
    bar_fault_store8(value: u64);
    bar_fault_fill1(bytes: usize, value: u64);
    bar_fault_fill2(bytes: usize, value: u64);
    bar_fault_fill4(bytes: usize, value: u64);
    bar_fault_fill8(bytes: usize, value: u64);
    bar_fault_fill_line(bytes: usize, value: u64);
    bar_fault_fill_simd(bytes: usize, value: u64);
    bar_fault_fill_wide(bytes: usize, value: u64);
    bar_fault_curve(stores: usize, rounds: usize, value: u64);
    bar_fault_curve_fenced(stores: usize, rounds: usize, value: u64);
    bar_fault_chase(rounds: usize);
}

#[cfg(target_arch = "aarch64")]
functions! {
    bar_fault_fill_pair(bytes: usize, value: u64);
}

#[cfg(target_arch = "x86_64")]
functions! {
    bar_fault_fill_stream(bytes: usize, value: u64);
    bar_fault_curve_stream(stores: usize, rounds: usize, value: u64);
    bar_fault_curve_stream_fenced(stores: usize, rounds: usize, value: u64);
}

unsafe extern "C" {
    static bar_fault_begin: u8;
    static bar_fault_end: u8;
    static bar_fault_fixup: u8;
}

/// How many bytes an access is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 1.
    U8,
    /// 2.
    U16,
    /// 4.
    U32,
    /// 8.
    U64,
}

impl Width {
    /// All, ascending.
    pub const ALL: [Self; 4] = [Self::U8, Self::U16, Self::U32, Self::U64];
    /// How many.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::U32 => 4,
            Self::U64 => 8,
        }
    }
}

/// A way to store many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Idiom {
    /// A loop of stores of this width.
    Loop(Width),
    /// Eight stores of 8 bytes, with nothing between them.
    Line,
    /// arm64: four STP.
    Pair,
    /// arm64: ST1 of four vectors; x86: four MOVDQA. 64 bytes.
    Simd,
    /// x86: four MOVNTDQ. They are write-combining whatever the memory type is.
    Stream,
    /// x86 MOVDIR64B, arm64 ST64B.
    Wide,
}

impl Idiom {
    /// All that this architecture has.
    pub const ALL: &'static [Self] = &[
        Self::Loop(Width::U8),
        Self::Loop(Width::U16),
        Self::Loop(Width::U32),
        Self::Loop(Width::U64),
        Self::Line,
        #[cfg(target_arch = "aarch64")]
        Self::Pair,
        Self::Simd,
        #[cfg(target_arch = "x86_64")]
        Self::Stream,
        Self::Wide,
    ];
    /// Of what the address and the number of bytes are a multiple.
    #[must_use]
    pub const fn step(self) -> usize {
        match self {
            Self::Loop(width) => width.bytes(),
            _ => 64,
        }
    }
    /// Whether an emulated location can take it: a store of one general register.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        matches!(self, Self::Loop(_) | Self::Line)
    }
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        let arm = cfg!(target_arch = "aarch64");
        match self {
            Self::Loop(Width::U8) => "loop of 1-byte stores",
            Self::Loop(Width::U16) => "loop of 2-byte stores",
            Self::Loop(Width::U32) => "loop of 4-byte stores",
            Self::Loop(Width::U64) => "loop of 8-byte stores",
            Self::Line => "8 x 8 bytes in a row",
            Self::Pair => "4 x STP",
            Self::Simd if arm => "ST1 of 4 vectors",
            Self::Simd => "4 x MOVDQA",
            Self::Stream => "4 x MOVNTDQ",
            Self::Wide if arm => "ST64B",
            Self::Wide => "MOVDIR64B",
        }
    }
}

/// What a round of [`curve`] stores with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Curve {
    /// Plain stores.
    Plain,
    /// Plain stores, a fence after each: nothing can combine.
    Fenced,
    /// x86: MOVNTI, which is write-combining on memory of any type.
    Stream,
    /// x86: MOVNTI, a fence after each.
    StreamFenced,
}

const SIGNALS: [c_int; 3] = [libc::SIGBUS, libc::SIGSEGV, libc::SIGILL];

/// What was there before for each of [`SIGNALS`]. Written once, before the handler is there.
struct Before(UnsafeCell<[mem::MaybeUninit<libc::sigaction>; 3]>);
// SAFETY: written under the lock of `INSTALLED`, each before its handler can run, and only read after.
unsafe impl Sync for Before {}
static BEFORE: Before = Before(UnsafeCell::new([const { mem::MaybeUninit::uninit() }; 3]));
static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();

/// Puts the handler in, once for the process. Everything here does it by itself; a process that installs handlers of its own does it
/// after them, since one that comes later must hand on what is not its own.
///
/// # Errors
/// The kernel refuses.
pub fn install() -> io::Result<()> {
    INSTALLED.get_or_init(put).map_err(io::Error::from_raw_os_error)
}

fn put() -> Result<(), i32> {
    for (i, signal) in SIGNALS.into_iter().enumerate() {
        // SAFETY: zero is a valid sigaction; the one that was there is stored before ours is put in, so that ours finds it.
        let failed = unsafe {
            let mut ours: libc::sigaction = mem::zeroed();
            // SA_ONSTACK: on the alternate stack where the thread has one; threads of Rust have, for what comes after us.
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            ours.sa_sigaction = handler as *const () as usize;
            libc::sigemptyset(&raw mut ours.sa_mask);
            let before = &mut (*BEFORE.0.get())[i];
            libc::sigaction(signal, ptr::null(), before.as_mut_ptr()) != 0
                || libc::sigaction(signal, &raw const ours, ptr::null_mut()) != 0
        };
        if failed {
            return Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
        }
    }
    Ok(())
}

extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives both to a handler with SA_SIGINFO. Nothing here allocates, locks or touches thread-local memory.
    unsafe {
        let code = (*info).si_code;
        // A code of 0 or less was sent by a process; BUS_MCEERR_AO (5) is of no instruction.
        let ours = code > 0 && !(signal == libc::SIGBUS && code == 5);
        if ours && resume(context.cast(), signal, code, (*info).si_addr() as u64) {
            return;
        }
        hand_on(signal, info, context, code);
    }
}

/// Makes the access answer with the fault, if it was one of ours.
///
/// # Safety
/// Within a handler, with its context.
unsafe fn resume(context: *mut libc::ucontext_t, signal: c_int, code: c_int, address: u64) -> bool {
    let (begin, end) = (&raw const bar_fault_begin as u64, &raw const bar_fault_end as u64);
    let fixup = &raw const bar_fault_fixup as u64;
    let fault = u64::from(signal.cast_unsigned()) << 32 | u64::from(code.cast_unsigned());
    // SAFETY: the caller's promise.
    let machine = unsafe { &mut (*context).uc_mcontext };
    #[cfg(target_arch = "aarch64")]
    {
        if !(begin..end).contains(&machine.pc) {
            return false;
        }
        machine.pc = fixup;
        machine.regs[0] = address;
        machine.regs[1] = fault;
    }
    #[cfg(target_arch = "x86_64")]
    {
        let at = &mut machine.gregs;
        if !(begin..end).contains(&at[libc::REG_RIP as usize].cast_unsigned()) {
            return false;
        }
        at[libc::REG_RIP as usize] = fixup.cast_signed();
        at[libc::REG_RAX as usize] = address.cast_signed();
        at[libc::REG_RDX as usize] = fault.cast_signed();
    }
    true
}

/// Does what would have been done without us.
///
/// # Safety
/// Within a handler, with what it was given.
unsafe fn hand_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void, code: c_int) {
    let Some(i) = SIGNALS.iter().position(|s| *s == signal) else { return };
    // SAFETY: it was stored before this handler was put in, and is not written again.
    let before = unsafe { (*BEFORE.0.get())[i].assume_init_ref() };
    match before.sa_sigaction {
        // A sent one is ignored; at a fault the kernel would kill all the same.
        libc::SIG_IGN if code <= 0 => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: zero is SIG_DFL. The instruction is executed again on return, and this time the default comes.
            unsafe {
                let default: libc::sigaction = mem::zeroed();
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                if code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: whoever set SA_SIGINFO gave a function of this type.
            unsafe {
                mem::transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(handler)(
                    signal, info, context,
                );
            }
        }
        // SAFETY: whoever did not gave one of this type.
        handler => unsafe { mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal) },
    }
}

fn ready() -> Result<(), Fault> {
    // That sigaction refuses has never been seen; an access without the handler would be worse than none.
    install().map_err(|_| Fault { signal: 0, code: 0, address: 0 })
}

/// One load.
///
/// # Safety
/// If the address is mapped, reading it does no harm: no such promise is needed where nothing is mapped.
///
/// # Errors
/// It faulted.
#[inline]
pub unsafe fn load(at: *const u8, width: Width) -> Result<u64, Fault> {
    ready()?;
    let at = at.cast_mut();
    // SAFETY: the caller's promise; a fault becomes the answer.
    unsafe {
        match width {
            Width::U8 => bar_fault_load1(at),
            Width::U16 => bar_fault_load2(at),
            Width::U32 => bar_fault_load4(at),
            Width::U64 => bar_fault_load8(at),
        }
    }
    .take()
}

/// One store of the lower bytes of a value.
///
/// # Safety
/// If the address is mapped, its bytes are no Rust object that is in use, and writing them does no harm.
///
/// # Errors
/// It faulted.
#[inline]
pub unsafe fn store(at: *mut u8, width: Width, value: u64) -> Result<(), Fault> {
    ready()?;
    // SAFETY: the caller's promise; a fault becomes the answer.
    unsafe {
        match width {
            Width::U8 => bar_fault_store1(at, value),
            Width::U16 => bar_fault_store2(at, value),
            Width::U32 => bar_fault_store4(at, value),
            Width::U64 => bar_fault_store8(at, value),
        }
    }
    .take()
    .map(drop)
}

/// Stores a value again and again, `bytes` in all, by an idiom. Nothing is done where `bytes` is 0.
///
/// # Safety
/// As [`store`], for all bytes. The address and the number of bytes are multiples of [`Idiom::step`], and the CPU has the idiom.
///
/// # Errors
/// It faulted.
pub unsafe fn fill(at: *mut u8, bytes: usize, idiom: Idiom, value: u64) -> Result<(), Fault> {
    ready()?;
    if bytes < idiom.step() {
        return Ok(());
    }
    // SAFETY: the caller's promise; a fault becomes the answer.
    unsafe {
        match idiom {
            Idiom::Loop(Width::U8) => bar_fault_fill1(at, bytes, value),
            Idiom::Loop(Width::U16) => bar_fault_fill2(at, bytes, value),
            Idiom::Loop(Width::U32) => bar_fault_fill4(at, bytes, value),
            Idiom::Loop(Width::U64) => bar_fault_fill8(at, bytes, value),
            Idiom::Line => bar_fault_fill_line(at, bytes, value),
            Idiom::Simd => bar_fault_fill_simd(at, bytes, value),
            Idiom::Wide => bar_fault_fill_wide(at, bytes, value),
            #[cfg(target_arch = "aarch64")]
            Idiom::Pair => bar_fault_fill_pair(at, bytes, value),
            #[cfg(target_arch = "x86_64")]
            Idiom::Stream => bar_fault_fill_stream(at, bytes, value),
            #[cfg(target_arch = "x86_64")]
            Idiom::Pair => bar_fault_fill_line(at, bytes, value),
            #[cfg(target_arch = "aarch64")]
            Idiom::Stream => bar_fault_fill_line(at, bytes, value),
        }
    }
    .take()
    .map(drop)
}

/// `rounds` times: `stores` stores of 8 bytes to ascending addresses, then a drain (x86 SFENCE, arm64 DSB OSHST).
///
/// # Safety
/// As [`store`], for the bytes of a round, at a multiple of 8.
///
/// # Errors
/// It faulted.
pub unsafe fn curve(at: *mut u8, stores: usize, rounds: usize, kind: Curve, value: u64) -> Result<(), Fault> {
    ready()?;
    if stores == 0 || rounds == 0 {
        return Ok(());
    }
    // SAFETY: the caller's promise; a fault becomes the answer.
    unsafe {
        match kind {
            #[cfg(target_arch = "x86_64")]
            Curve::Stream => bar_fault_curve_stream(at, stores, rounds, value),
            #[cfg(target_arch = "x86_64")]
            Curve::StreamFenced => bar_fault_curve_stream_fenced(at, stores, rounds, value),
            #[cfg(target_arch = "aarch64")]
            Curve::Stream => bar_fault_curve(at, stores, rounds, value),
            #[cfg(target_arch = "aarch64")]
            Curve::StreamFenced => bar_fault_curve_fenced(at, stores, rounds, value),
            Curve::Plain => bar_fault_curve(at, stores, rounds, value),
            Curve::Fenced => bar_fault_curve_fenced(at, stores, rounds, value),
        }
    }
    .take()
    .map(drop)
}

/// `rounds` loads of 8 bytes, each waiting for the one before.
///
/// # Safety
/// As [`load`].
///
/// # Errors
/// It faulted.
pub unsafe fn chase(at: *const u8, rounds: usize) -> Result<(), Fault> {
    ready()?;
    if rounds == 0 {
        return Ok(());
    }
    // SAFETY: the caller's promise; a fault becomes the answer.
    unsafe { bar_fault_chase(at.cast_mut(), rounds) }.take().map(drop)
}
