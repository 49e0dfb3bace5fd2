//! Precise output of `relocate`, rule by rule, near and far.
#![allow(missing_docs, reason = "tests")]

use expect_test::{Expect, expect};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use sledge_engine::relocate::{AT_CALLEE, RelocateError, Relocated, relocate};
use std::fmt::Write;

const ORIGINAL: u64 = 0x5555_5555_1000;
const NEAR: u64 = 0x5555_6000_0000;
const FAR: u64 = 0x7000_0000_0000;
const CELL: usize = 56;

fn moved(displaced: &[u8], place: u64) -> Result<Relocated, RelocateError> {
    relocate(displaced, ORIGINAL, ORIGINAL + displaced.len() as u64, place, CELL)
}

/// One line for each instruction: what it stands for, its bytes, its text; then the literals.
fn listing(displaced: &[u8], place: u64) -> String {
    let relocated = match moved(displaced, place) {
        Ok(relocated) => relocated,
        Err(error) => return format!("{error}\n"),
    };
    assert_eq!(relocated.code.len(), relocated.map.len());
    let mut text = String::new();
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    let mut end = relocated.code.len();
    let mut decoder = Decoder::with_ip(64, &relocated.code, place, DecoderOptions::NONE);
    while decoder.position() < end {
        let at = decoder.position();
        let instruction = decoder.decode();
        if instruction.is_ip_rel_memory_operand() {
            let literal = instruction.ip_rel_memory_address().wrapping_sub(place);
            end = end.min(usize::try_from(literal).unwrap_or(end));
        }
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        let bytes = hex(&relocated.code[at..decoder.position()]);
        writeln!(text, "{} {bytes:<20} {line}", stands_for(relocated.map[at])).unwrap();
    }
    for literal in relocated.code[end..].chunks(8) {
        let value = u64::from_le_bytes(literal.try_into().unwrap());
        writeln!(text, " ; {value:#x}").unwrap();
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn stands_for(offset: u8) -> String {
    if offset == AT_CALLEE { "^ ".into() } else { format!("{offset:<2}") }
}

fn check(displaced: &[u8], near: Expect, far: Expect) {
    near.assert_eq(&listing(displaced, NEAR));
    far.assert_eq(&listing(displaced, FAR));
}

fn refused(displaced: &[u8], error: RelocateError) {
    assert_eq!(moved(displaced, FAR), Err(error));
}

#[test]
fn plain_instructions_are_copied() {
    // endbr64; push rbp; mov rbp, rsp; in the longer of its two encodings
    check(
        &[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x8b, 0xec],
        expect![[r#"
        0  f30f1efa             endbr64
        4  55                   push rbp
        5  488bec               mov rbp,rsp
        8  e9fb0f55f5           jmp 0x0000555555551008
    "#]],
        expect![[r#"
        0  f30f1efa             endbr64
        4  55                   push rbp
        5  488bec               mov rbp,rsp
        8  ff2500000000         jmp qword ptr [0x70000000000E]
         ; 0x555555551008
    "#]],
    );
}

#[test]
fn a_function_that_ends_needs_no_jump_back() {
    // mov eax, 39; syscall; ret; int3
    let code = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3, 0xcc];
    check(
        &code,
        expect![[r#"
        0  b827000000           mov eax,0x27
        5  0f05                 syscall
        7  c3                   ret
    "#]],
        expect![[r#"
        0  b827000000           mov eax,0x27
        5  0f05                 syscall
        7  c3                   ret
    "#]],
    );
}

#[test]
fn nops_are_left_out() {
    check(
        &[0x90; 5],
        expect![[r#"
        5  e9001055f5           jmp 0x0000555555551005
    "#]],
        expect![[r#"
        5  ff2500000000         jmp qword ptr [0x700000000006]
         ; 0x555555551005
    "#]],
    );
    // nop [rip + 0]; push rbx
    check(
        &[0x0f, 0x1f, 5, 0, 0, 0, 0, 0x53],
        expect![[r#"
        7  53                   push rbx
        8  e9021055f5           jmp 0x0000555555551008
    "#]],
        expect![[r#"
        7  53                   push rbx
        8  ff2500000000         jmp qword ptr [0x700000000007]
         ; 0x555555551008
    "#]],
    );
    // jmp +9 over NOPs, to the resume point
    let sled = [0xeb, 9, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0];
    check(
        &sled,
        expect![[r#"
        0  e9061055f5           jmp 0x000055555555100B
    "#]],
        expect![[r#"
        0  ff2500000000         jmp qword ptr [0x700000000006]
         ; 0x55555555100b
    "#]],
    );
    check(
        &[],
        expect![[r#"
        0  e9fb0f55f5           jmp 0x0000555555551000
    "#]],
        expect![[r#"
        0  ff2500000000         jmp qword ptr [0x700000000006]
         ; 0x555555551000
    "#]],
    );
}

#[test]
fn lea_becomes_the_address() {
    // lea r12, [rip + 0x100]
    check(
        &[0x4c, 0x8d, 0x25, 0, 1, 0, 0],
        expect![[r#"
        0  4c8d25001155f5       lea r12,[0x555555551107]
        7  e9fb0f55f5           jmp 0x0000555555551007
    "#]],
        expect![[r#"
        0  49bc0711555555550000 mov r12,0x555555551107
        7  ff2500000000         jmp qword ptr [0x700000000010]
         ; 0x555555551007
    "#]],
    );
    // lea eax, [rip + 0x100]
    check(
        &[0x8d, 5, 0, 1, 0, 0],
        expect![[r#"
        0  8d05001155f5         lea eax,[0x555555551106]
        6  e9fb0f55f5           jmp 0x0000555555551006
    "#]],
        expect![[r#"
        0  b806115555           mov eax,0x55551106
        6  ff2500000000         jmp qword ptr [0x70000000000B]
         ; 0x555555551006
    "#]],
    );
}

#[test]
fn a_load_uses_its_own_register() {
    // mov rax, [rip + 0x100]
    check(
        &[0x48, 0x8b, 5, 0, 1, 0, 0],
        expect![[r#"
        0  488b05001155f5       mov rax,[0x555555551107]
        7  e9fb0f55f5           jmp 0x0000555555551007
    "#]],
        expect![[r#"
        0  48b80711555555550000 mov rax,0x555555551107
        0  488b00               mov rax,[rax]
        7  ff2500000000         jmp qword ptr [0x700000000013]
         ; 0x555555551007
    "#]],
    );
    // mov r13d, [rip + 0x100]; movzx ebp, byte [rip + 0x100]
    let code = [0x44, 0x8b, 0x2d, 0, 1, 0, 0, 0x0f, 0xb6, 0x2d, 0, 1, 0, 0];
    check(
        &code,
        expect![[r#"
        0  448b2d001155f5       mov r13d,[0x555555551107]
        7  0fb62d001155f5       movzx ebp,byte ptr [0x55555555110E]
        14 e9fb0f55f5           jmp 0x000055555555100E
    "#]],
        expect![[r#"
        0  49bd0711555555550000 mov r13,0x555555551107
        0  458b6d00             mov r13d,[r13]
        7  48bd0e11555555550000 mov rbp,0x55555555110E
        7  0fb66d00             movzx ebp,byte ptr [rbp]
        14 ff2500000000         jmp qword ptr [0x700000000022]
         ; 0x55555555100e
    "#]],
    );
}

#[test]
fn other_operands_borrow_a_register() {
    // cmp dword [rip + 0x100], 0
    check(
        &[0x83, 0x3d, 0, 1, 0, 0, 0],
        expect![[r#"
        0  833d001155f500       cmp dword ptr [0x555555551107],0
        7  e9fb0f55f5           jmp 0x0000555555551007
    "#]],
        expect![[r#"
        0  4889442480           mov [rsp-0x80],rax
        0  48b80711555555550000 mov rax,0x555555551107
        0  833800               cmp dword ptr [rax],0
        0  488b442480           mov rax,[rsp-0x80]
        7  ff2500000000         jmp qword ptr [0x70000000001D]
         ; 0x555555551007
    "#]],
    );
    // mov [rip + 0x100], rax; add rcx, fs:[rip + 0x100]
    let code = [0x48, 0x89, 5, 0, 1, 0, 0, 0x64, 0x48, 3, 0x0d, 0, 1, 0, 0];
    check(
        &code[..7],
        expect![[r#"
        0  488905001155f5       mov [0x555555551107],rax
        7  e9fb0f55f5           jmp 0x0000555555551007
    "#]],
        expect![[r#"
        0  48894c2480           mov [rsp-0x80],rcx
        0  48b90711555555550000 mov rcx,0x555555551107
        0  488901               mov [rcx],rax
        0  488b4c2480           mov rcx,[rsp-0x80]
        7  ff2500000000         jmp qword ptr [0x70000000001D]
         ; 0x555555551007
    "#]],
    );
    check(
        &code[7..],
        expect![[r#"
        0  6448030d001155f5     add rcx,fs:[0x555555551108]
        8  e9fb0f55f5           jmp 0x0000555555551008
    "#]],
        expect![[r#"
        0  4889442480           mov [rsp-0x80],rax
        0  48b80811555555550000 mov rax,0x555555551108
        0  64480308             add rcx,fs:[rax]
        0  488b442480           mov rax,[rsp-0x80]
        8  ff2500000000         jmp qword ptr [0x70000000001E]
         ; 0x555555551008
    "#]],
    );
    // mov [rip + 0x100], ah
    check(
        &[0x88, 0x25, 0, 1, 0, 0],
        expect![[r#"
        0  8825001155f5         mov [0x555555551106],ah
        6  e9fb0f55f5           jmp 0x0000555555551006
    "#]],
        expect![[r#"
        0  48894c2480           mov [rsp-0x80],rcx
        0  48b90611555555550000 mov rcx,0x555555551106
        0  8821                 mov [rcx],ah
        0  488b4c2480           mov rcx,[rsp-0x80]
        6  ff2500000000         jmp qword ptr [0x70000000001C]
         ; 0x555555551006
    "#]],
    );
    // lock cmpxchg16b [rip + 0x100]
    check(
        &[0xf0, 0x48, 0x0f, 0xc7, 0x0d, 0, 1, 0, 0],
        expect![[r#"
        0  f0480fc70d001155f5   lock cmpxchg16b [0x555555551109]
        9  e9fb0f55f5           jmp 0x0000555555551009
    "#]],
        expect![[r#"
        0  4889742480           mov [rsp-0x80],rsi
        0  48be0911555555550000 mov rsi,0x555555551109
        0  f0480fc70e           lock cmpxchg16b [rsi]
        0  488b742480           mov rsi,[rsp-0x80]
        9  ff2500000000         jmp qword ptr [0x70000000001F]
         ; 0x555555551009
    "#]],
    );
    // movaps xmm0, [rip + 0x100]; vaddps zmm1, zmm2, dword [rip + 0x100] {1to16}
    check(
        &[0x0f, 0x28, 5, 0, 1, 0, 0],
        expect![[r#"
        0  0f2805001155f5       movaps xmm0,[0x555555551107]
        7  e9fb0f55f5           jmp 0x0000555555551007
    "#]],
        expect![[r#"
        0  4889442480           mov [rsp-0x80],rax
        0  48b80711555555550000 mov rax,0x555555551107
        0  0f2800               movaps xmm0,[rax]
        0  488b442480           mov rax,[rsp-0x80]
        7  ff2500000000         jmp qword ptr [0x70000000001D]
         ; 0x555555551007
    "#]],
    );
    check(
        &[0x62, 0xf1, 0x6c, 0x58, 0x58, 0x0d, 0, 1, 0, 0],
        expect![[r#"
        0  62f16c58580d001155f5 vaddps zmm1,zmm2,[0x55555555110A]{1to16}
        10 e9fb0f55f5           jmp 0x000055555555100A
    "#]],
        expect![[r#"
        0  4889442480           mov [rsp-0x80],rax
        0  48b80a11555555550000 mov rax,0x55555555110A
        0  62f16c585808         vaddps zmm1,zmm2,[rax]{1to16}
        0  488b442480           mov rax,[rsp-0x80]
        10 ff2500000000         jmp qword ptr [0x700000000020]
         ; 0x55555555100a
    "#]],
    );
}

#[test]
fn push_of_a_far_operand_pushes_last() {
    check(
        &[0xff, 0x35, 0, 1, 0, 0],
        expect![[r#"
        0  ff35001155f5         push qword ptr [0x555555551106]
        6  e9fb0f55f5           jmp 0x0000555555551006
    "#]],
        expect![[r#"
        0  4889442480           mov [rsp-0x80],rax
        0  48b80611555555550000 mov rax,0x555555551106
        0  488b00               mov rax,[rax]
        0  4889442488           mov [rsp-0x78],rax
        0  488b442480           mov rax,[rsp-0x80]
        0  ff742488             push qword ptr [rsp-0x78]
        6  ff2500000000         jmp qword ptr [0x700000000026]
         ; 0x555555551006
    "#]],
    );
}

#[test]
fn jumps() {
    // jmp +0x100
    check(
        &[0xe9, 0, 1, 0, 0],
        expect![[r#"
        0  e9001155f5           jmp 0x0000555555551105
    "#]],
        expect![[r#"
        0  ff2500000000         jmp qword ptr [0x700000000006]
         ; 0x555555551105
    "#]],
    );
    // jmp [rip + 0x100]
    check(
        &[0xff, 0x25, 0, 1, 0, 0],
        expect![[r#"
        0  ff25001155f5         jmp qword ptr [0x555555551106]
    "#]],
        expect![[r#"
        0  4889442480           mov [rsp-0x80],rax
        0  48b80611555555550000 mov rax,0x555555551106
        0  488b00               mov rax,[rax]
        0  4889442488           mov [rsp-0x78],rax
        0  488b442480           mov rax,[rsp-0x80]
        0  ff642488             jmp qword ptr [rsp-0x78]
    "#]],
    );
    // notrack jmp rax
    check(
        &[0x3e, 0xff, 0xe0],
        expect![[r#"
        0  3effe0               notrack jmp rax
    "#]],
        expect![[r#"
        0  3effe0               notrack jmp rax
    "#]],
    );
}

#[test]
fn conditional_branches() {
    // test rdi, rdi; je +0x20
    check(
        &[0x48, 0x85, 0xff, 0x74, 0x20],
        expect![[r#"
        0  4885ff               test rdi,rdi
        3  0f841c1055f5         je 0x0000555555551025
        5  e9f70f55f5           jmp 0x0000555555551005
    "#]],
        expect![[r#"
        0  4885ff               test rdi,rdi
        3  7506                 jne short 0x000070000000000B
        3  ff2506000000         jmp qword ptr [0x700000000011]
        5  ff2508000000         jmp qword ptr [0x700000000019]
         ; 0x555555551025
         ; 0x555555551005
    "#]],
    );
    // jge +0x1234
    check(
        &[0x0f, 0x8d, 0x34, 0x12, 0, 0],
        expect![[r#"
        0  0f8d342255f5         jge 0x000055555555223A
        6  e9fb0f55f5           jmp 0x0000555555551006
    "#]],
        expect![[r#"
        0  7c06                 jl short 0x0000700000000008
        0  ff2506000000         jmp qword ptr [0x70000000000E]
        6  ff2508000000         jmp qword ptr [0x700000000016]
         ; 0x55555555223a
         ; 0x555555551006
    "#]],
    );
}

#[test]
fn branches_inside_lead_to_the_copy() {
    // dec edi; jne -4; jmp +1; int3; push rax; ret
    let code = [0xff, 0xcf, 0x75, 0xfc, 0xeb, 1, 0xcc, 0x50, 0xc3];
    check(
        &code,
        expect![[r#"
        0  ffcf                 dec edi
        2  75fc                 jne short 0x0000555560000000
        4  eb00                 jmp short 0x0000555560000006
        7  50                   push rax
        8  c3                   ret
    "#]],
        expect![[r#"
        0  ffcf                 dec edi
        2  75fc                 jne short 0x0000700000000000
        4  eb00                 jmp short 0x0000700000000006
        7  50                   push rax
        8  c3                   ret
    "#]],
    );
    refused(
        &[0xeb, 1, 0xb8, 0x90, 0x90, 0x90, 0x90],
        RelocateError::BranchIntoDisplaced { offset: 0 },
    );
}

#[test]
fn calls_return_to_the_original() {
    // sub rsp, 8; call +0x1000
    check(
        &[0x48, 0x83, 0xec, 8, 0xe8, 0, 0x10, 0, 0],
        expect![[r#"
        0  4883ec08             sub rsp,8
        4  ff3505000000         push qword ptr [0x55556000000F]
        ^  e9fa1f55f5           jmp 0x0000555555552009
         ; 0x555555551009
    "#]],
        expect![[r#"
        0  4883ec08             sub rsp,8
        4  ff3506000000         push qword ptr [0x700000000010]
        ^  ff2508000000         jmp qword ptr [0x700000000018]
         ; 0x555555551009
         ; 0x555555552009
    "#]],
    );
    // call to the next instruction (the old way to read the program counter)
    check(
        &[0xe8, 0, 0, 0, 0],
        expect![[r#"
        0  ff3505000000         push qword ptr [0x55556000000B]
        ^  e9fa0f55f5           jmp 0x0000555555551005
         ; 0x555555551005
    "#]],
        expect![[r#"
        0  ff3506000000         push qword ptr [0x70000000000C]
        ^  ff2500000000         jmp qword ptr [0x70000000000C]
         ; 0x555555551005
    "#]],
    );
    // a function that calls itself enters its patch
    check(
        &[0xe8, 0xfb, 0xff, 0xff, 0xff],
        expect![[r#"
        0  ff3505000000         push qword ptr [0x55556000000B]
        ^  e9f50f55f5           jmp 0x0000555555551000
         ; 0x555555551005
    "#]],
        expect![[r#"
        0  ff3506000000         push qword ptr [0x70000000000C]
        ^  ff2508000000         jmp qword ptr [0x700000000014]
         ; 0x555555551005
         ; 0x555555551000
    "#]],
    );
}

#[test]
fn indirect_calls() {
    // call rax; call [rip + 0x100]; call [rsp + 0x10]; call [rax + rcx*8]
    check(
        &[0xff, 0xd0],
        expect![[r#"
        0  ff3502000000         push qword ptr [0x555560000008]
        ^  ffe0                 jmp rax
         ; 0x555555551002
    "#]],
        expect![[r#"
        0  ff3502000000         push qword ptr [0x700000000008]
        ^  ffe0                 jmp rax
         ; 0x555555551002
    "#]],
    );
    check(
        &[0xff, 0x15, 0, 1, 0, 0],
        expect![[r#"
        0  ff3506000000         push qword ptr [0x55556000000C]
        ^  ff25fa1055f5         jmp qword ptr [0x555555551106]
         ; 0x555555551006
    "#]],
        expect![[r#"
        0  4889442480           mov [rsp-0x80],rax
        0  48b80611555555550000 mov rax,0x555555551106
        0  488b00               mov rax,[rax]
        0  4889442488           mov [rsp-0x78],rax
        0  488b442480           mov rax,[rsp-0x80]
        0  ff3504000000         push qword ptr [0x700000000026]
        ^  ff642490             jmp qword ptr [rsp-0x70]
         ; 0x555555551006
    "#]],
    );
    check(
        &[0xff, 0x54, 0x24, 0x10],
        expect![[r#"
        0  ff3504000000         push qword ptr [0x55556000000A]
        ^  ff642418             jmp qword ptr [rsp+0x18]
         ; 0x555555551004
    "#]],
        expect![[r#"
        0  ff3504000000         push qword ptr [0x70000000000A]
        ^  ff642418             jmp qword ptr [rsp+0x18]
         ; 0x555555551004
    "#]],
    );
    check(
        &[0xff, 0x14, 0xc8],
        expect![[r#"
        0  ff3503000000         push qword ptr [0x555560000009]
        ^  ff24c8               jmp qword ptr [rax+rcx*8]
         ; 0x555555551003
    "#]],
        expect![[r#"
        0  ff3503000000         push qword ptr [0x700000000009]
        ^  ff24c8               jmp qword ptr [rax+rcx*8]
         ; 0x555555551003
    "#]],
    );
}
