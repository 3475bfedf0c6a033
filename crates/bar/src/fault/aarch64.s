// Every function here is a leaf without a stack frame: x0 is an address, the answer is x0 and, where nothing faulted, x1 = 0.
// Where an instruction between bar_fault_begin and bar_fault_end faults, the handler puts the address into x0 and the signal into
// x1 and goes on at bar_fault_fixup. No access has writeback, and none but `pair`, `simd` and `wide` more than one register:
// an emulated location can be told of no other.
    .text
    .p2align 2
    .hidden bar_fault_begin
    .globl bar_fault_begin
bar_fault_begin:

    .macro function name
    .hidden \name
    .globl \name
    .type \name, %function
\name:
    .endm

    .macro done
    mov x1, xzr
    ret
    .endm

    .macro load name, instruction:vararg
    function \name
    \instruction
    done
    .endm
    load bar_fault_load1, ldrb w0, [x0]
    load bar_fault_load2, ldrh w0, [x0]
    load bar_fault_load4, ldr w0, [x0]
    load bar_fault_load8, ldr x0, [x0]

    // x1: the value.
    load bar_fault_store1, strb w1, [x0]
    load bar_fault_store2, strh w1, [x0]
    load bar_fault_store4, str w1, [x0]
    load bar_fault_store8, str x1, [x0]

    // x1: bytes, a multiple of the step, not 0; x2: the value.
    .macro fill name, step, instruction:vararg
    function \name
2:  \instruction
    add x0, x0, #\step
    subs x1, x1, #\step
    b.ne 2b
    done
    .endm
    fill bar_fault_fill1, 1, strb w2, [x0]
    fill bar_fault_fill2, 2, strh w2, [x0]
    fill bar_fault_fill4, 4, str w2, [x0]
    fill bar_fault_fill8, 8, str x2, [x0]

    function bar_fault_fill_line
2:  str x2, [x0]
    str x2, [x0, #8]
    str x2, [x0, #16]
    str x2, [x0, #24]
    str x2, [x0, #32]
    str x2, [x0, #40]
    str x2, [x0, #48]
    str x2, [x0, #56]
    add x0, x0, #64
    subs x1, x1, #64
    b.ne 2b
    done

    function bar_fault_fill_pair
2:  stp x2, x2, [x0]
    stp x2, x2, [x0, #16]
    stp x2, x2, [x0, #32]
    stp x2, x2, [x0, #48]
    add x0, x0, #64
    subs x1, x1, #64
    b.ne 2b
    done

    function bar_fault_fill_simd
    dup v0.2d, x2
    mov v1.16b, v0.16b
    mov v2.16b, v0.16b
    mov v3.16b, v0.16b
2:  st1 {{v0.2d-v3.2d}}, [x0]
    add x0, x0, #64
    subs x1, x1, #64
    b.ne 2b
    done

    // ST64B x4, [x0]: x4 to x11.
    function bar_fault_fill_wide
    mov x4, x2
    mov x5, x2
    mov x6, x2
    mov x7, x2
    mov x8, x2
    mov x9, x2
    mov x10, x2
    mov x11, x2
2:  .inst 0xf83f9004
    add x0, x0, #64
    subs x1, x1, #64
    b.ne 2b
    done

    // x1: stores of 8 bytes, x2: rounds, x3: the value. A round is the stores, to ascending addresses, then a drain.
    .macro curve name, between:vararg
    function \name
3:  mov x4, x0
    mov x5, x1
2:  str x3, [x4]
    \between
    add x4, x4, #8
    subs x5, x5, #1
    b.ne 2b
    dsb oshst
    subs x2, x2, #1
    b.ne 3b
    done
    .endm
    curve bar_fault_curve
    curve bar_fault_curve_fenced, dmb oshst

    // x1: rounds. Loads of 8 bytes, each waiting for the one before.
    function bar_fault_chase
2:  ldr x2, [x0]
    eor x2, x2, x2
    add x0, x0, x2
    subs x1, x1, #1
    b.ne 2b
    done

    .hidden bar_fault_end
    .globl bar_fault_end
bar_fault_end:
    .hidden bar_fault_fixup
    .globl bar_fault_fixup
bar_fault_fixup:
    ret
