//! The way in: from reset to Rust, and from an exception to Rust and back.
#![expect(unsafe_code, reason = "the first instructions have no stack, and a guest is entered with ERET")]

use core::arch::global_asm;

// Reset. EL2, MMU off, interrupts masked; QEMU starts one CPU (the others wait in PSCI). The BSS is zeroed and the stack set
// before the first instruction that a compiler made.
global_asm!(
    r#"
    .section .text.entry, "ax"
    .global entry
entry:
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.ne    .
    adrp    x1, bss_start
    adrp    x2, bss_end
1:  cmp     x1, x2
    b.hs    2f
    stp     xzr, xzr, [x1], #16
    b       1b
2:  adrp    x1, stack_top
    mov     sp, x1
    adr     x1, vectors
    msr     vbar_el2, x1
    // No traps of FP and SIMD: the compiler uses them.
    mov     x1, #0x33ff
    msr     cptr_el2, x1
    isb
    bl      start
    b       .

    .text
    // Takes an exception from EL2 itself: not expected, told and the end. SP may be what went wrong; a fresh one is used.
    .macro  own kind
    .balign 0x80
    adrp    x1, stack_top
    mov     sp, x1
    mov     x0, #\kind
    b       unexpected
    .endm

    // Takes an exception from the guest: back into the caller of `enter`.
    .macro  guest kind
    .balign 0x80
    sub     sp, sp, #16
    stp     x0, x1, [sp]
    mov     x1, #\kind
    b       leave
    .endm

    .balign 0x800
vectors:
    own 0
    own 1
    own 2
    own 3
    .balign 0x80
    // A synchronous exception from EL2 at EL2: it may be of an access that was made to be tried.
    b       tried
    own 5
    own 6
    own 7
    guest 0
    guest 1
    guest 2
    guest 3
    own 12
    own 13
    own 14
    own 15

    // x0, x1 are on the stack, x1 holds the kind. The guest's registers go to the context whose address is in TPIDR_EL2.
leave:
    mrs     x0, tpidr_el2
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    ldp     x2, x3, [sp], #16
    stp     x2, x3, [x0]
    mrs     x2, elr_el2
    stp     x30, x2, [x0, #240]
    mrs     x2, spsr_el2
    str     x2, [x0, #256]
    mov     x0, x1
    ldp     d8, d9, [sp], #16
    ldp     d10, d11, [sp], #16
    ldp     d12, d13, [sp], #16
    ldp     d14, d15, [sp], #16
    ldp     x19, x20, [sp], #16
    ldp     x21, x22, [sp], #16
    ldp     x23, x24, [sp], #16
    ldp     x25, x26, [sp], #16
    ldp     x27, x28, [sp], #16
    ldp     x29, x30, [sp], #16
    ret

    // enter(context) -> kind
    .global enter
enter:
    stp     x29, x30, [sp, #-16]!
    stp     x27, x28, [sp, #-16]!
    stp     x25, x26, [sp, #-16]!
    stp     x23, x24, [sp, #-16]!
    stp     x21, x22, [sp, #-16]!
    stp     x19, x20, [sp, #-16]!
    stp     d14, d15, [sp, #-16]!
    stp     d12, d13, [sp, #-16]!
    stp     d10, d11, [sp, #-16]!
    stp     d8, d9, [sp, #-16]!
    msr     tpidr_el2, x0
    ldp     x30, x2, [x0, #240]
    msr     elr_el2, x2
    ldr     x2, [x0, #256]
    msr     spsr_el2, x2
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldp     x0, x1, [x0]
    eret

    // An access that may fault: try_load(address, size log2, result) and try_store(address, size log2, value) give 0, or
    // ESR_EL2 of the synchronous exception. `tried` knows them by their addresses.
    .global try_load
    .global try_store
try_load:
    cbz     x1, 10f
    cmp     x1, #2
    b.lo    11f
    b.eq    12f
try_first:
    ldr     x3, [x0]
    b       13f
12: ldr     w3, [x0]
    b       13f
11: ldrh    w3, [x0]
    b       13f
10: ldrb    w3, [x0]
13: str     x3, [x2]
    dsb     sy
    mov     x0, #0
    ret
try_store:
    cbz     x1, 20f
    cmp     x1, #2
    b.lo    21f
    b.eq    22f
    str     x2, [x0]
    b       23f
22: str     w2, [x0]
    b       23f
21: strh    w2, [x0]
    b       23f
20: strb    w2, [x0]
    // A store may fault late: not past this.
23: dsb     sy
try_last:
    mov     x0, #0
    ret
    // The functions above keep x4 and x5 for this, and have no frame: what they return is returned for them.
tried:
    adr     x4, try_first
    mrs     x5, elr_el2
    cmp     x5, x4
    b.lo    30f
    adr     x4, try_last
    cmp     x5, x4
    b.hs    30f
    mrs     x0, esr_el2
    msr     elr_el2, x30
    eret
30: adrp    x1, stack_top
    mov     sp, x1
    mov     x0, #4
    b       unexpected
"#
);

/// The registers of a guest, as the code above stores them.
#[derive(Debug, Clone)]
#[repr(C)]
pub(crate) struct Context {
    /// x0 to x30.
    pub(crate) x: [u64; 31],
    /// The program counter.
    pub(crate) pc: u64,
    /// PSTATE.
    pub(crate) pstate: u64,
}

/// Why a guest came back: the kind of exception, by its vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// A synchronous exception: `ESR_EL2` says which.
    Synchronous,
    /// An interrupt.
    Interrupt,
    /// FIQ or SError.
    Other(u64),
}

unsafe extern "C" {
    #[link_name = "enter"]
    fn enter_guest(context: *mut Context) -> u64;
    fn try_load(address: u64, log2: u64, result: *mut u64) -> u64;
    fn try_store(address: u64, log2: u64, value: u64) -> u64;
}

/// Runs the guest until it comes back to EL2.
pub(crate) fn enter(context: &mut Context) -> Left {
    // SAFETY: the code above reads and writes the 33 words of the context, and keeps what the procedure call standard says is
    // kept: x19 to x30, d8 to d15 and SP. The guest reaches no memory but what stage 2 maps, which is none that this program
    // has references into.
    match unsafe { enter_guest(context) } {
        0 => Left::Synchronous,
        1 => Left::Interrupt,
        other => Left::Other(other),
    }
}

/// Reads 1, 2, 4 or 8 bytes (`log2` 0 to 3) at an address of EL2's own translation.
///
/// # Errors
/// `ESR_EL2` of the exception it takes.
///
/// # Safety
/// The address must be one of a device window that no Rust reference covers.
pub(crate) unsafe fn load(address: u64, log2: u8) -> Result<u64, u64> {
    let mut value = 0;
    // SAFETY: one load and the store to `value`; an exception of the load is returned.
    match unsafe { try_load(address, u64::from(log2), &mut value) } {
        0 => Ok(value),
        esr => Err(esr),
    }
}

/// Writes 1, 2, 4 or 8 bytes (`log2` 0 to 3) at an address of EL2's own translation.
///
/// # Errors
/// `ESR_EL2` of the exception it takes.
///
/// # Safety
/// As [`load`].
pub(crate) unsafe fn store(address: u64, log2: u8, value: u64) -> Result<(), u64> {
    // SAFETY: one store; an exception of it is returned.
    match unsafe { try_store(address, u64::from(log2), value) } {
        0 => Ok(()),
        esr => Err(esr),
    }
}
