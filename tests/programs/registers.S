# Fills every register, calls a function, and compares: on arrival there, and on return.
    .set K, 0x0101010101010101
    .macro general action
    .irp pair, "rax,1", "rcx,2", "rdx,3", "rbx,4", "rsi,5", "rdi,6", "rbp,7", "r8,8", "r9,9", "r10,10", "r11,11", "r12,12", "r13,13", "r14,14", "r15,15"
    \action \pair
    .endr
    .endm
    .macro fill register, number
    movabs $(K * \number), %\register
    .endm
    .macro store register, number
    mov %\register, saved + 8 * \number(%rip)
    .endm

    .text
    .macro function name
    .globl \name
    .type \name, @function
    .p2align 4
\name:
    .cfi_startproc
    .endm
    .macro end name
    .cfi_endproc
    .size \name, . - \name
    .endm

# Stores all registers and touches none but flags.
    .macro store_all
    general store
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
#ifdef __AVX__
    vmovdqu %ymm\n, vectors + 32 * \n(%rip)
#else
    movdqu %xmm\n, vectors + 32 * \n(%rip)
#endif
    .endr
    .endm

function arrive
    store_all
    ret
end arrive

# Counts in rax the values of `saved` from index \first on and of `vectors` that are wrong.
    .macro count first
    xor %eax, %eax
    mov $\first, %ecx
    movabs $K, %rdx
1:  mov %rdx, %rsi
    imul %rcx, %rsi
    lea saved(%rip), %rdi
    cmp %rsi, (%rdi,%rcx,8)
    je 2f
    inc %rax
2:  inc %ecx
    cmp $16, %ecx
    jne 1b
    xor %ecx, %ecx
3:  lea vectors(%rip), %rdi
    lea pattern(%rip), %rsi
    mov (%rdi,%rcx,8), %rdx
    cmp %rdx, (%rsi,%rcx,8)
    je 4f
    inc %rax
4:  inc %ecx
    cmp $64, %ecx
    jne 3b
    .endm

function fill_call_compare
    push %rbx
    .cfi_adjust_cfa_offset 8
    push %rbp
    .cfi_adjust_cfa_offset 8
    push %r12
    .cfi_adjust_cfa_offset 8
    push %r13
    .cfi_adjust_cfa_offset 8
    push %r14
    .cfi_adjust_cfa_offset 8
    push %r15
    .cfi_adjust_cfa_offset 8
    sub $8, %rsp
    .cfi_adjust_cfa_offset 8
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
#ifdef __AVX__
    vmovdqu pattern + 32 * \n(%rip), %ymm\n
#else
    movdqu pattern + 32 * \n(%rip), %xmm\n
#endif
    .endr
    general fill
    call arrive
    mov %rax, arrived_rax(%rip)
    mov %rsp, arrived_rsp(%rip)
    call check_arrival
    general fill
    call leave_alone
    store_all
    cld
#ifdef __AVX__
    vzeroupper
#endif
    count 2
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    pop %r15
    .cfi_adjust_cfa_offset -8
    pop %r14
    .cfi_adjust_cfa_offset -8
    pop %r13
    .cfi_adjust_cfa_offset -8
    pop %r12
    .cfi_adjust_cfa_offset -8
    pop %rbp
    .cfi_adjust_cfa_offset -8
    pop %rbx
    .cfi_adjust_cfa_offset -8
    ret
end fill_call_compare

# Counts what `arrive` saw, and leaves the vector registers as they are.
function check_arrival
    count 1
    mov %rax, wrong(%rip)
    ret
end check_arrival

# Changes rax alone, as a compiler would know of a local function.
function leave_alone
    mov sink(%rip), %eax
    add $1, %eax
    mov %eax, sink(%rip)
    ret
end leave_alone

function seen_wrong
    mov wrong(%rip), %rax
    ret
end seen_wrong

    .data
    .p2align 5
pattern:
    .set value, 1
    .rept 64
#ifdef __AVX__
    .quad value * 0x0123456789abcd
#else
    .if (value - 1) & 2
    .quad 0
    .else
    .quad value * 0x0123456789abcd
    .endif
#endif
    .set value, value + 1
    .endr
    .bss
    .p2align 5
vectors: .skip 512
saved: .skip 128
arrived_rax: .skip 8
arrived_rsp: .skip 8
wrong: .skip 8
sink: .skip 8
    .section .note.GNU-stack,"",@progbits
