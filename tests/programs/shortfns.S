# Function entries that are hard to patch. rax is 1 on entry to the shortest ones only because
# their wrappers say so.
    .text
    .macro function name align=4
    .globl \name
    .type \name, @function
    .p2align \align
\name:
    .cfi_startproc
    .endm
    .macro end name
    .cfi_endproc
    .size \name, . - \name
    .endm

# Lengths 1 to 6, apart.
function one
    ret
end one
function bare_two
    repz ret
end bare_two
function two
    mov $1, %eax
    call bare_two
    ret
end two
function three
    xor %eax, %eax
    ret
end three
function four
    mov %rdi, %rax
    ret
end four
function five
    lea 1(%rdi), %rax
    ret
end five
function six
    mov $6, %eax
    ret
end six

# The same without room between them.
function packed_one 4
    ret
end packed_one
function packed_bare_two 0
    repz ret
end packed_bare_two
function packed_three 0
    xor %eax, %eax
    ret
end packed_three
function packed_four 0
    mov %rdi, %rax
    ret
end packed_four
function packed_two 0
    mov $1, %eax
    call packed_bare_two
    ret
end packed_two

# Branches back to the entry, and into what a patch would cover.
function loop_to_entry
    dec %rdi
    jne loop_to_entry
    mov %rdi, %rax
    ret
end loop_to_entry
function loop_into_patch
    xor %eax, %eax
1:  add $2, %rax
    dec %rdi
    jne 1b
    ret
end loop_into_patch

# Branches first.
function jump_first
    jmp five
end jump_first
function jump_table_first
    jmp *five_pointer(%rip)
end jump_table_first
function jcc_early
    test %edi, %edi
    jne 1f
    xor %eax, %eax
    ret
1:  mov $1, %eax
    ret
end jcc_early
function jrcxz_with_zero
    jrcxz 1f
    ud2
1:  mov $1, %eax
    ret
end jrcxz_with_zero
function jrcxz_first
    xor %ecx, %ecx
    call jrcxz_with_zero
    ret
end jrcxz_first
function call_first
    call five
    inc %rax
    ret
end call_first
function call_memory_first
    call *five_pointer(%rip)
    inc %rax
    ret
end call_memory_first
# Position from a call to the next instruction: what is pushed must be the original address.
function call_next
    call 1f
    .cfi_adjust_cfa_offset 8
1:  pop %rax
    .cfi_adjust_cfa_offset -8
    lea 1b(%rip), %rdx
    cmp %rdx, %rax
    sete %al
    movzbl %al, %eax
    ret
end call_next

# rip-relative operands first.
function cmp_first
    cmpl $77, number(%rip)
    sete %al
    movzbl %al, %eax
    ret
end cmp_first
function lea_first
    lea number(%rip), %rax
    movslq (%rax), %rax
    ret
end lea_first
function load_got
    mov number_pointer(%rip), %rax
    movslq (%rax), %rax
    ret
end load_got
function sse_first
    movsd real(%rip), %xmm0
    ret
end sse_first

# endbr64 first.
function marked
    endbr64
    mov %rdi, %rax
    ret
end marked
function bare_marked_one
    endbr64
    ret
end bare_marked_one
function marked_one
    mov $1, %eax
    call bare_marked_one
    ret
end marked_one

# One function falls into the next.
function falls
    inc %rdi
    nopw 0(%rax,%rax)
end falls
function fallen 0
    lea 1(%rdi), %rax
    ret
end fallen

# Ordinary prologues.
function pushes
    push %rbp
    .cfi_adjust_cfa_offset 8
    push %r15
    .cfi_adjust_cfa_offset 8
    push %rbx
    .cfi_adjust_cfa_offset 8
    mov %rdi, %rbx
    mov %rbx, %rax
    pop %rbx
    .cfi_adjust_cfa_offset -8
    pop %r15
    .cfi_adjust_cfa_offset -8
    pop %rbp
    .cfi_adjust_cfa_offset -8
    ret
end pushes
function long_nop
    nopl 0(%rax)
    mov %rdi, %rax
    ret
end long_nop
function sub_stack
    sub $0x88, %rsp
    .cfi_adjust_cfa_offset 0x88
    mov %rdi, (%rsp)
    mov (%rsp), %rax
    add $0x88, %rsp
    .cfi_adjust_cfa_offset -0x88
    ret
end sub_stack

# Nothing behind it in its section.
    .section .text.last,"ax",@progbits
function last
    lea 9(%rdi), %rax
    ret
end last

    .section .data.rel.local,"aw",@progbits
    .p2align 3
five_pointer: .quad five
number_pointer: .quad number
    .data
    .p2align 3
real: .double 2.5
number: .long 77
    .section .note.GNU-stack,"",@progbits
