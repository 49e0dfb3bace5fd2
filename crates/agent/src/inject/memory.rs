//! What the compiler expects of a C library, hidden so that it interposes nobody's.

use core::arch::global_asm;

global_asm!(
    ".pushsection .text.sledge_memory,\"ax\",@progbits",
    ".hidden memcpy; .globl memcpy; .type memcpy,@function",
    ".hidden memmove; .globl memmove; .type memmove,@function",
    ".hidden memset; .globl memset; .type memset,@function",
    ".hidden memcmp; .globl memcmp; .type memcmp,@function",
    ".hidden bcmp; .globl bcmp; .type bcmp,@function",
    ".hidden strlen; .globl strlen; .type strlen,@function",
    "memcpy: mov rax, rdi; mov rcx, rdx; rep movsb; ret",
    "memmove: mov rax, rdi; mov rcx, rdx; mov r8, rdi; sub r8, rsi; cmp r8, rdx; jb 2f",
    "rep movsb; ret",
    "2: lea rdi, [rdi + rcx - 1]; lea rsi, [rsi + rcx - 1]; std; rep movsb; cld; ret",
    "memset: mov r8, rdi; mov eax, esi; mov rcx, rdx; rep stosb; mov rax, r8; ret",
    "bcmp:",
    "memcmp: xor eax, eax; xor ecx, ecx",
    "3: cmp rcx, rdx; je 4f; movzx eax, byte ptr [rdi + rcx]; movzx r8d, byte ptr [rsi + rcx]",
    "inc rcx; sub eax, r8d; je 3b",
    "4: ret",
    "strlen: xor eax, eax",
    "5: cmp byte ptr [rdi + rax], 0; je 6f; inc rax; jmp 5b",
    "6: ret",
    ".popsection",
);
