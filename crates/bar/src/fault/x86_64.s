// Every function here is a leaf that leaves the stack alone: rdi is an address, the answer is rax and, where nothing faulted,
// rdx = 0. Where an instruction between bar_fault_begin and bar_fault_end faults, the handler puts the address into rax and the
// signal into rdx and goes on at bar_fault_fixup.
    .text
    .hidden bar_fault_begin
    .globl bar_fault_begin
bar_fault_begin:

    .macro function name
    .hidden \name
    .globl \name
    .type \name, @function
\name:
    .endm

    .macro done
    xor edx, edx
    ret
    .endm

    .macro load name, instruction:vararg
    function \name
    \instruction
    done
    .endm
    load bar_fault_load1, movzx eax, byte ptr [rdi]
    load bar_fault_load2, movzx eax, word ptr [rdi]
    load bar_fault_load4, mov eax, dword ptr [rdi]
    load bar_fault_load8, mov rax, qword ptr [rdi]

    // rsi: the value.
    load bar_fault_store1, mov byte ptr [rdi], sil
    load bar_fault_store2, mov word ptr [rdi], si
    load bar_fault_store4, mov dword ptr [rdi], esi
    load bar_fault_store8, mov qword ptr [rdi], rsi

    // rsi: bytes, a multiple of the step, not 0; rdx: the value.
    .macro fill name, step, instruction:vararg
    function \name
2:  \instruction
    add rdi, \step
    sub rsi, \step
    jne 2b
    done
    .endm
    fill bar_fault_fill1, 1, mov byte ptr [rdi], dl
    fill bar_fault_fill2, 2, mov word ptr [rdi], dx
    fill bar_fault_fill4, 4, mov dword ptr [rdi], edx
    fill bar_fault_fill8, 8, mov qword ptr [rdi], rdx

    function bar_fault_fill_line
2:  mov qword ptr [rdi], rdx
    mov qword ptr [rdi + 8], rdx
    mov qword ptr [rdi + 16], rdx
    mov qword ptr [rdi + 24], rdx
    mov qword ptr [rdi + 32], rdx
    mov qword ptr [rdi + 40], rdx
    mov qword ptr [rdi + 48], rdx
    mov qword ptr [rdi + 56], rdx
    add rdi, 64
    sub rsi, 64
    jne 2b
    done

    .macro vectors name, store
    function \name
    movq xmm0, rdx
    punpcklqdq xmm0, xmm0
2:  \store xmmword ptr [rdi], xmm0
    \store xmmword ptr [rdi + 16], xmm0
    \store xmmword ptr [rdi + 32], xmm0
    \store xmmword ptr [rdi + 48], xmm0
    add rdi, 64
    sub rsi, 64
    jne 2b
    done
    .endm
    vectors bar_fault_fill_simd, movdqa
    vectors bar_fault_fill_stream, movntdq

    // MOVDIR64B from the red zone.
    function bar_fault_fill_wide
    mov qword ptr [rsp - 64], rdx
    mov qword ptr [rsp - 56], rdx
    mov qword ptr [rsp - 48], rdx
    mov qword ptr [rsp - 40], rdx
    mov qword ptr [rsp - 32], rdx
    mov qword ptr [rsp - 24], rdx
    mov qword ptr [rsp - 16], rdx
    mov qword ptr [rsp - 8], rdx
2:  movdir64b rdi, zmmword ptr [rsp - 64]
    add rdi, 64
    sub rsi, 64
    jne 2b
    done

    // rsi: stores of 8 bytes, rdx: rounds, rcx: the value. A round is the stores, to ascending addresses, then a drain.
    .macro curve name, store, between:vararg
    function \name
3:  mov r8, rdi
    mov r9, rsi
2:  \store qword ptr [r8], rcx
    \between
    add r8, 8
    sub r9, 1
    jne 2b
    sfence
    sub rdx, 1
    jne 3b
    done
    .endm
    curve bar_fault_curve, mov
    curve bar_fault_curve_fenced, mov, sfence
    curve bar_fault_curve_stream, movnti
    curve bar_fault_curve_stream_fenced, movnti, sfence

    // rsi: rounds. Loads of 8 bytes, each waiting for the one before.
    function bar_fault_chase
2:  mov rax, qword ptr [rdi]
    and rax, 0
    add rdi, rax
    sub rsi, 1
    jne 2b
    done

    .hidden bar_fault_end
    .globl bar_fault_end
bar_fault_end:
    .hidden bar_fault_fixup
    .globl bar_fault_fixup
bar_fault_fixup:
    ret
