//! What the generated code is, byte for byte and as a disassembler reads it.

use super::*;
use expect_test::{Expect, expect};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use std::fmt::Write;

mod hooked;

const SITE: u64 = 0x5555_5555_1000;
const PLACE: u64 = 0x5555_6000_0000;
const TRAMPOLINE: u64 = 0x5555_6100_0000;
const NEAR: u64 = 0x5555_5600_0000;
const REDIRECTED: u64 = 0x5555_6200_0000;
const CELL: u64 = 0x5555_6300_0000;
const GATE: Gate = Gate { cell: CELL, entered: -128, left: -124, first: 0x5555_6400_0000 };
const FAR: u64 = 0x7000_0000_0000;
const CALLBACK: Callback = Callback {
    target: Target::Function(NEAR),
    ops: 0x5555_5700_0000,
    save_regs: false,
    preserve: Preserve::None,
    guard: None,
    threads: None,
};
/// `push rbp; mov rbp, rsp; push rbx`.
const DISPLACED: Displaced<'_> = Displaced {
    function: SITE,
    address: SITE + 4,
    bytes: &[0x55, 0x48, 0x89, 0xe5, 0x53],
    resume: SITE + 9,
};

/// One line an instruction, from an offset on: offset, bytes, text; `int3` filler is left out.
fn listing(code: &[u8], address: u64, from: usize) -> String {
    let from_address = address + from as u64;
    let mut decoder = Decoder::with_ip(64, &code[from..], from_address, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    for instruction in &mut decoder {
        let start = (instruction.ip() - address) as usize;
        let bytes = &code[start..start + instruction.len()];
        if bytes == [0xcc] {
            continue;
        }
        let hex = bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        writeln!(text, "{start:02x} {hex:<18} {line}").unwrap();
    }
    text
}

fn check(code: &[u8], address: u64, expected: Expect) {
    expected.assert_eq(&listing(code, address, 0));
}

#[test]
fn a_shared_trampoline_of_two() {
    let second = Callback { ops: 0x1234, ..CALLBACK };
    check(
        &entry_trampoline(TRAMPOLINE, &[CALLBACK, second], REDIRECTED),
        TRAMPOLINE,
        expect![[r#"
            00 57                 push rdi
            01 56                 push rsi
            02 52                 push rdx
            03 51                 push rcx
            04 50                 push rax
            05 4150               push r8
            07 4151               push r9
            09 4152               push r10
            0b 4153               push r11
            0d 4883e4f0           and rsp,0FFFFFFFFFFFFFFF0h
            11 488b7df8           mov rdi,[rbp-8]
            15 488b7fe0           mov rdi,[rdi-20h]
            19 488b7508           mov rsi,[rbp+8]
            1d 488d15dcfffff5     lea rdx,[555557000000h]
            24 31c9               xor ecx,ecx
            26 e8d5fffff4         call 0000555556000000h
            2b 488b7df8           mov rdi,[rbp-8]
            2f 488b7fe0           mov rdi,[rdi-20h]
            33 488b7508           mov rsi,[rbp+8]
            37 ba34120000         mov edx,1234h
            3c 31c9               xor ecx,ecx
            3e e8bdfffff4         call 0000555556000000h
            43 f8                 clc
            44 488d65b0           lea rsp,[rbp-50h]
            48 415b               pop r11
            4a 415a               pop r10
            4c 4159               pop r9
            4e 4158               pop r8
            50 58                 pop rax
            51 59                 pop rcx
            52 5a                 pop rdx
            53 5e                 pop rsi
            54 5f                 pop rdi
            55 c3                 ret
        "#]],
    );
}

#[test]
fn its_thunk() {
    let thunk = entry_thunk(PLACE, &GATE, None, &DISPLACED).unwrap();
    assert_eq!(thunk.code[..8], SITE.to_le_bytes());
    assert_eq!((thunk.entry, thunk.body), (8, 41));
    expect![[r#"
        08 55                 push rbp
        09 4889e5             mov rbp,rsp
        0c 64ff042580ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF80h]
        14 0f8819000000       js 0000555560000033h
        1a ff15e0ffff02       call qword ptr [555563000000h]
        20 64ff042584ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF84h]
        28 5d                 pop rbp
        29 55                 push rbp
        2a 4889e5             mov rbp,rsp
        2d 53                 push rbx
        2e e9d60f55f5         jmp 0000555555551009h
        33 e8c8ffff03         call 0000555564000000h
        38 e9ddffffff         jmp 000055556000001Ah
    "#]]
    .assert_eq(&listing(&thunk.code, PLACE, thunk.entry));
}

#[test]
fn a_thunk_that_calls_its_only_callback_itself() {
    let thunk = lone_thunk(PLACE, &GATE, &DISPLACED).unwrap();
    assert_eq!(thunk.code[..8], SITE.to_le_bytes());
    expect![[r#"
        08 55                 push rbp
        09 4889e5             mov rbp,rsp
        0c 64ff042580ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF80h]
        14 0f8850000000       js 000055556000006Ah
        1a 57                 push rdi
        1b 56                 push rsi
        1c 52                 push rdx
        1d 51                 push rcx
        1e 50                 push rax
        1f 4150               push r8
        21 4151               push r9
        23 4152               push r10
        25 4153               push r11
        27 488b05d2ffff02     mov rax,[555563000000h]
        2e 488b3dcbffffff     mov rdi,[555560000000h]
        35 488b7508           mov rsi,[rbp+8]
        39 488b5008           mov rdx,[rax+8]
        3d 31c9               xor ecx,ecx
        3f 4883e4f0           and rsp,0FFFFFFFFFFFFFFF0h
        43 ff5000             call qword ptr [rax]
        46 488d65b8           lea rsp,[rbp-48h]
        4a 415b               pop r11
        4c 415a               pop r10
        4e 4159               pop r9
        50 4158               pop r8
        52 58                 pop rax
        53 59                 pop rcx
        54 5a                 pop rdx
        55 5e                 pop rsi
        56 5f                 pop rdi
        57 64ff042584ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF84h]
        5f 5d                 pop rbp
        60 55                 push rbp
        61 4889e5             mov rbp,rsp
        64 53                 push rbx
        65 e99f0f55f5         jmp 0000555555551009h
        6a e891ffff03         call 0000555564000000h
        6f e9a6ffffff         jmp 000055556000001Ah
    "#]]
    .assert_eq(&listing(&thunk.code, PLACE, thunk.entry));
}

#[test]
fn a_thunk_that_also_calls_caller_supplied_code() {
    let thunk = entry_thunk(PLACE, &GATE, Some(NEAR), &DISPLACED).unwrap();
    expect![[r#"
        08 55                 push rbp
        09 4889e5             mov rbp,rsp
        0c 64ff042580ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF80h]
        14 0f881f000000       js 0000555560000039h
        1a ff15e0ffff02       call qword ptr [555563000000h]
        20 64ff042584ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF84h]
        28 5d                 pop rbp
        29 ff15d1fffff5       call qword ptr [555556000000h]
        2f 55                 push rbp
        30 4889e5             mov rbp,rsp
        33 53                 push rbx
        34 e9d00f55f5         jmp 0000555555551009h
        39 e8c2ffff03         call 0000555564000000h
        3e e9d7ffffff         jmp 000055556000001Ah
    "#]]
    .assert_eq(&listing(&thunk.code, PLACE, thunk.entry));
}

#[test]
fn the_way_to_elsewhere() {
    check(
        &redirection(REDIRECTED, GATE.left),
        REDIRECTED,
        expect![[r#"
        00 64ff042584ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF84h]
        08 5d                 pop rbp
        09 ff6424d8           jmp qword ptr [rsp-28h]
    "#]],
    );
}

#[test]
fn what_cannot_be_moved_is_refused() {
    let displaced = Displaced { bytes: &[0xe3, 0, 0x90, 0x90, 0x90], ..DISPLACED };
    let refused = |thunk: Result<EntryThunk, _>| matches!(thunk, Err(ThunkError::Relocate(_)));
    assert!(refused(entry_thunk(PLACE, &GATE, None, &displaced)));
    assert!(refused(direct_thunk(PLACE, NEAR, &displaced)));
}

#[test]
fn a_direct_thunk() {
    let thunk = direct_thunk(PLACE, NEAR, &DISPLACED).unwrap();
    check(
        &thunk.code,
        PLACE,
        expect![[r#"
            00 ff15fafffff5       call qword ptr [555556000000h]
            06 55                 push rbp
            07 4889e5             mov rbp,rsp
            0a 53                 push rbx
            0b e9f90f55f5         jmp 0000555555551009h
        "#]],
    );
}

#[test]
fn full_registers() {
    let set = [CALLBACK, Callback { save_regs: true, ..CALLBACK }];
    check(
        &entry_trampoline(TRAMPOLINE, &set, REDIRECTED),
        TRAMPOLINE,
        expect![[r#"
            00 55                 push rbp
            01 9c                 pushfq
            02 55                 push rbp
            03 57                 push rdi
            04 56                 push rsi
            05 52                 push rdx
            06 51                 push rcx
            07 50                 push rax
            08 4150               push r8
            0a 4151               push r9
            0c 4152               push r10
            0e 4153               push r11
            10 53                 push rbx
            11 ff7500             push qword ptr [rbp]
            14 4154               push r12
            16 4155               push r13
            18 4156               push r14
            1a 4157               push r15
            1c 488d4508           lea rax,[rbp+8]
            20 488945f0           mov [rbp-10h],rax
            24 488b7df8           mov rdi,[rbp-8]
            28 488b7fe0           mov rdi,[rdi-20h]
            2c 48897de0           mov [rbp-20h],rdi
            30 4883e4f0           and rsp,0FFFFFFFFFFFFFFF0h
            34 488b7df8           mov rdi,[rbp-8]
            38 488b7fe0           mov rdi,[rdi-20h]
            3c 488b7508           mov rsi,[rbp+8]
            40 488d15b9fffff5     lea rdx,[555557000000h]
            47 31c9               xor ecx,ecx
            49 e8b2fffff4         call 0000555556000000h
            4e 488b7df8           mov rdi,[rbp-8]
            52 488b7fe0           mov rdi,[rdi-20h]
            56 488b7508           mov rsi,[rbp+8]
            5a 488d159ffffff5     lea rdx,[555557000000h]
            61 488d8d68ffffff     lea rcx,[rbp-98h]
            68 e893fffff4         call 0000555556000000h
            6d 488b7df8           mov rdi,[rbp-8]
            71 488b7fe0           mov rdi,[rdi-20h]
            75 483b7de0           cmp rdi,[rbp-20h]
            79 0f8527000000       jne 00005555610000A6h
            7f f8                 clc
            80 488da568ffffff     lea rsp,[rbp-98h]
            87 415f               pop r15
            89 415e               pop r14
            8b 415d               pop r13
            8d 415c               pop r12
            8f 8f4500             pop qword ptr [rbp]
            92 5b                 pop rbx
            93 415b               pop r11
            95 415a               pop r10
            97 4159               pop r9
            99 4158               pop r8
            9b 58                 pop rax
            9c 59                 pop rcx
            9d 5a                 pop rdx
            9e 5e                 pop rsi
            9f 5f                 pop rdi
            a0 488d642418         lea rsp,[rsp+18h]
            a5 c3                 ret
            a6 48b80000006255550000 mov rax,555562000000h
            b0 488945f8           mov [rbp-8],rax
            b4 488da568ffffff     lea rsp,[rbp-98h]
            bb 415f               pop r15
            bd 415e               pop r14
            bf 415d               pop r13
            c1 415c               pop r12
            c3 8f4500             pop qword ptr [rbp]
            c6 5b                 pop rbx
            c7 415b               pop r11
            c9 415a               pop r10
            cb 4159               pop r9
            cd 4158               pop r8
            cf 58                 pop rax
            d0 59                 pop rcx
            d1 5a                 pop rdx
            d2 5e                 pop rsi
            d3 5f                 pop rdi
            d4 488d642418         lea rsp,[rsp+18h]
            d9 c3                 ret
        "#]],
    );
}

#[test]
fn conditions_are_tested_once_for_neighbours() {
    let guard = Some(Guard { offset: -64 });
    let threads = Some(ThreadFilter { offset: -56, mask: 4 });
    let filtered = Callback { guard, threads, ..CALLBACK };
    let set = [filtered, filtered, Callback { guard, ..CALLBACK }];
    check(
        &entry_trampoline(TRAMPOLINE, &set, REDIRECTED),
        TRAMPOLINE,
        expect![[r#"
            00 57                 push rdi
            01 56                 push rsi
            02 52                 push rdx
            03 51                 push rcx
            04 50                 push rax
            05 4150               push r8
            07 4151               push r9
            09 4152               push r10
            0b 4153               push r11
            0d 4883e4f0           and rsp,0FFFFFFFFFFFFFFF0h
            11 64f60425c8ffffff04 test byte ptr fs:[0FFFFFFFFFFFFFFC8h],4
            1a 0f845b000000       je 000055556100007Bh
            20 64833c25c0ffffff00 cmp dword ptr fs:[0FFFFFFFFFFFFFFC0h],0
            29 0f85a0000000       jne 00005555610000CFh
            2f 64c70425c0ffffff01000000 mov dword ptr fs:[0FFFFFFFFFFFFFFC0h],1
            3b 488b7df8           mov rdi,[rbp-8]
            3f 488b7fe0           mov rdi,[rdi-20h]
            43 488b7508           mov rsi,[rbp+8]
            47 488d15b2fffff5     lea rdx,[555557000000h]
            4e 31c9               xor ecx,ecx
            50 e8abfffff4         call 0000555556000000h
            55 488b7df8           mov rdi,[rbp-8]
            59 488b7fe0           mov rdi,[rdi-20h]
            5d 488b7508           mov rsi,[rbp+8]
            61 488d1598fffff5     lea rdx,[555557000000h]
            68 31c9               xor ecx,ecx
            6a e891fffff4         call 0000555556000000h
            6f 64c70425c0ffffff00000000 mov dword ptr fs:[0FFFFFFFFFFFFFFC0h],0
            7b 64833c25c0ffffff00 cmp dword ptr fs:[0FFFFFFFFFFFFFFC0h],0
            84 0f8552000000       jne 00005555610000DCh
            8a 64c70425c0ffffff01000000 mov dword ptr fs:[0FFFFFFFFFFFFFFC0h],1
            96 488b7df8           mov rdi,[rbp-8]
            9a 488b7fe0           mov rdi,[rdi-20h]
            9e 488b7508           mov rsi,[rbp+8]
            a2 488d1557fffff5     lea rdx,[555557000000h]
            a9 31c9               xor ecx,ecx
            ab e850fffff4         call 0000555556000000h
            b0 64c70425c0ffffff00000000 mov dword ptr fs:[0FFFFFFFFFFFFFFC0h],0
            bc f8                 clc
            bd 488d65b0           lea rsp,[rbp-50h]
            c1 415b               pop r11
            c3 415a               pop r10
            c5 4159               pop r9
            c7 4158               pop r8
            c9 58                 pop rax
            ca 59                 pop rcx
            cb 5a                 pop rdx
            cc 5e                 pop rsi
            cd 5f                 pop rdi
            ce c3                 ret
            cf 64ff0425c4ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFFC4h]
            d7 e99fffffff         jmp 000055556100007Bh
            dc 64ff0425c4ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFFC4h]
            e4 e9d3ffffff         jmp 00005555610000BCh
        "#]],
    );
}

#[test]
fn targets_far_and_in_cells() {
    let targets = [Target::Function(FAR), Target::Cell(NEAR), Target::Cell(FAR)];
    let set = targets.map(|target| Callback { target, ops: FAR, ..CALLBACK });
    let code = entry_trampoline(TRAMPOLINE, &set, REDIRECTED);
    let literal = code.len() - 8;
    assert_eq!(code[literal..], FAR.to_le_bytes());
    check(
        &code[..literal],
        TRAMPOLINE,
        expect![[r#"
            00 57                 push rdi
            01 56                 push rsi
            02 52                 push rdx
            03 51                 push rcx
            04 50                 push rax
            05 4150               push r8
            07 4151               push r9
            09 4152               push r10
            0b 4153               push r11
            0d 4883e4f0           and rsp,0FFFFFFFFFFFFFFF0h
            11 488b7df8           mov rdi,[rbp-8]
            15 488b7fe0           mov rdi,[rdi-20h]
            19 488b7508           mov rsi,[rbp+8]
            1d 48ba0000000000700000 mov rdx,700000000000h
            27 31c9               xor ecx,ecx
            29 ff1559000000       call qword ptr [555561000088h]
            2f 488b7df8           mov rdi,[rbp-8]
            33 488b7fe0           mov rdi,[rdi-20h]
            37 488b7508           mov rsi,[rbp+8]
            3b 48ba0000000000700000 mov rdx,700000000000h
            45 31c9               xor ecx,ecx
            47 ff15b3fffff4       call qword ptr [555556000000h]
            4d 488b7df8           mov rdi,[rbp-8]
            51 488b7fe0           mov rdi,[rdi-20h]
            55 488b7508           mov rsi,[rbp+8]
            59 48ba0000000000700000 mov rdx,700000000000h
            63 31c9               xor ecx,ecx
            65 48b80000000000700000 mov rax,700000000000h
            6f ff5000             call qword ptr [rax]
            72 f8                 clc
            73 488d65b0           lea rsp,[rbp-50h]
            77 415b               pop r11
            79 415a               pop r10
            7b 4159               pop r9
            7d 4158               pop r8
            7f 58                 pop rax
            80 59                 pop rcx
            81 5a                 pop rdx
            82 5e                 pop rsi
            83 5f                 pop rdi
            84 c3                 ret
        "#]],
    );
}

/// Only the instructions between the alignment of the stack and the callback, and behind it.
fn vectors(preserve: Preserve) -> String {
    let code = entry_trampoline(TRAMPOLINE, &[Callback { preserve, ..CALLBACK }], REDIRECTED);
    let text = listing(&code, TRAMPOLINE, 0);
    let lines = text.lines().skip_while(|line| !line.contains("lea rsp")).collect::<Vec<_>>();
    let end = lines.iter().rposition(|line| line.contains("lea rsp")).unwrap();
    let kept = lines[..end].iter().filter(|line| {
        let middle = (2..14).any(|n| line.contains(&format!("mm{n}")));
        let upper = (18..31).any(|n| line.contains(&format!("mm{n}")));
        !middle && !upper
    });
    kept.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn vector_state() {
    expect![[r#"
        0d 488da42400ffffff   lea rsp,[rsp-100h]
        15 4883e4f0           and rsp,0FFFFFFFFFFFFFFF0h
        19 0f11442400         movups [rsp],xmm0
        1e 0f114c2410         movups [rsp+10h],xmm1
        77 440f11b424e0000000 movups [rsp+0E0h],xmm14
        80 440f11bc24f0000000 movups [rsp+0F0h],xmm15
        89 488b7df8           mov rdi,[rbp-8]
        8d 488b7fe0           mov rdi,[rdi-20h]
        91 488b7508           mov rsi,[rbp+8]
        95 488d1564fffff5     lea rdx,[555557000000h]
        9c 31c9               xor ecx,ecx
        9e e85dfffff4         call 0000555556000000h
        a3 0f10442400         movups xmm0,[rsp]
        a8 0f104c2410         movups xmm1,[rsp+10h]
        101 440f10b424e0000000 movups xmm14,[rsp+0E0h]
        10a 440f10bc24f0000000 movups xmm15,[rsp+0F0h]
        113 f8                 clc
    "#]]
    .assert_eq(&vectors(Preserve::Xmm));
    expect![[r#"
        0d 488da42400feffff   lea rsp,[rsp-200h]
        15 4883e4e0           and rsp,0FFFFFFFFFFFFFFE0h
        19 c5fc11842400000000 vmovups [rsp],ymm0
        22 c5fc118c2420000000 vmovups [rsp+20h],ymm1
        97 c57c11b424c0010000 vmovups [rsp+1C0h],ymm14
        a0 c57c11bc24e0010000 vmovups [rsp+1E0h],ymm15
        a9 488b7df8           mov rdi,[rbp-8]
        ad 488b7fe0           mov rdi,[rdi-20h]
        b1 488b7508           mov rsi,[rbp+8]
        b5 488d1544fffff5     lea rdx,[555557000000h]
        bc 31c9               xor ecx,ecx
        be e83dfffff4         call 0000555556000000h
        c3 c5fc10842400000000 vmovups ymm0,[rsp]
        cc c5fc108c2420000000 vmovups ymm1,[rsp+20h]
        141 c57c10b424c0010000 vmovups ymm14,[rsp+1C0h]
        14a c57c10bc24e0010000 vmovups ymm15,[rsp+1E0h]
        153 f8                 clc
    "#]]
    .assert_eq(&vectors(Preserve::Ymm));
    expect![[r#"
        0d 488da424c0f7ffff   lea rsp,[rsp-840h]
        15 4883e4c0           and rsp,0FFFFFFFFFFFFFFC0h
        19 62f17c4811442400   vmovups [rsp],zmm0
        21 62f17c48114c2401   vmovups [rsp+40h],zmm1
        89 62717c481174240e   vmovups [rsp+380h],zmm14
        91 62717c48117c240f   vmovups [rsp+3C0h],zmm15
        99 62e17c4811442410   vmovups [rsp+400h],zmm16
        a1 62e17c48114c2411   vmovups [rsp+440h],zmm17
        119 c4e1f891842400080000 kmovq [rsp+800h],k0
        123 c4e1f8918c2408080000 kmovq [rsp+808h],k1
        12d c4e1f891942410080000 kmovq [rsp+810h],k2
        137 c4e1f8919c2418080000 kmovq [rsp+818h],k3
        141 c4e1f891a42420080000 kmovq [rsp+820h],k4
        14b c4e1f891ac2428080000 kmovq [rsp+828h],k5
        155 c4e1f891b42430080000 kmovq [rsp+830h],k6
        15f c4e1f891bc2438080000 kmovq [rsp+838h],k7
        169 488b7df8           mov rdi,[rbp-8]
        16d 488b7fe0           mov rdi,[rdi-20h]
        171 488b7508           mov rsi,[rbp+8]
        175 488d1584fefff5     lea rdx,[555557000000h]
        17c 31c9               xor ecx,ecx
        17e e87dfefff4         call 0000555556000000h
        183 62f17c4810442400   vmovups zmm0,[rsp]
        18b 62f17c48104c2401   vmovups zmm1,[rsp+40h]
        1f3 62717c481074240e   vmovups zmm14,[rsp+380h]
        1fb 62717c48107c240f   vmovups zmm15,[rsp+3C0h]
        203 62e17c4810442410   vmovups zmm16,[rsp+400h]
        20b 62e17c48104c2411   vmovups zmm17,[rsp+440h]
        283 c4e1f890842400080000 kmovq k0,[rsp+800h]
        28d c4e1f8908c2408080000 kmovq k1,[rsp+808h]
        297 c4e1f890942410080000 kmovq k2,[rsp+810h]
        2a1 c4e1f8909c2418080000 kmovq k3,[rsp+818h]
        2ab c4e1f890a42420080000 kmovq k4,[rsp+820h]
        2b5 c4e1f890ac2428080000 kmovq k5,[rsp+828h]
        2bf c4e1f890b42430080000 kmovq k6,[rsp+830h]
        2c9 c4e1f890bc2438080000 kmovq k7,[rsp+838h]
        2d3 f8                 clc
    "#]]
    .assert_eq(&vectors(Preserve::Zmm));
    let area = XsaveArea { mask: 0x2_0000_00e7, bytes: 2600, compacted: true };
    expect![[r#"
        0d 488da424c0f5ffff   lea rsp,[rsp-0A40h]
        15 4883e4c0           and rsp,0FFFFFFFFFFFFFFC0h
        19 31d2               xor edx,edx
        1b 4889942400020000   mov [rsp+200h],rdx
        23 4889942408020000   mov [rsp+208h],rdx
        2b 4889942410020000   mov [rsp+210h],rdx
        33 4889942418020000   mov [rsp+218h],rdx
        3b 4889942420020000   mov [rsp+220h],rdx
        43 4889942428020000   mov [rsp+228h],rdx
        4b 4889942430020000   mov [rsp+230h],rdx
        53 4889942438020000   mov [rsp+238h],rdx
        5b b8e7000000         mov eax,0E7h
        60 ba02000000         mov edx,2
        65 480fc7642400       xsavec64 [rsp]
        6b 488b7df8           mov rdi,[rbp-8]
        6f 488b7fe0           mov rdi,[rdi-20h]
        73 488b7508           mov rsi,[rbp+8]
        77 488d1582fffff5     lea rdx,[555557000000h]
        7e 31c9               xor ecx,ecx
        80 e87bfffff4         call 0000555556000000h
        85 b8e7000000         mov eax,0E7h
        8a ba02000000         mov edx,2
        8f 480fae6c2400       xrstor64 [rsp]
        95 f8                 clc
    "#]]
    .assert_eq(&vectors(Preserve::Xsave(area)));
    let area = XsaveArea { compacted: false, ..area };
    assert!(vectors(Preserve::Xsave(area)).contains("xsave64"));
}

#[test]
fn the_most_demanding_callback_decides() {
    let small = XsaveArea { mask: 7, bytes: 832, compacted: true };
    let large = XsaveArea { mask: 0xe0, bytes: 2696, compacted: false };
    let both = XsaveArea { mask: 0xe7, bytes: 2696, compacted: false };
    assert_eq!(Preserve::Xsave(small).and(Preserve::Xsave(large)), Preserve::Xsave(both));
    let ranks = [Preserve::None, Preserve::Xmm, Preserve::Ymm, Preserve::Zmm];
    for (low, a) in ranks.into_iter().enumerate() {
        for (high, b) in ranks.into_iter().enumerate() {
            assert_eq!(a.and(b), ranks[low.max(high)]);
        }
        assert_eq!(a.and(Preserve::Xsave(small)), Preserve::Xsave(small));
    }
}

#[test]
fn the_default_preserves_what_there_is() {
    assert_eq!(Preserve::all(false, false, false), Preserve::Xmm);
    assert_eq!(Preserve::all(true, false, false), Preserve::Ymm);
    assert_eq!(Preserve::all(true, true, true), Preserve::Zmm);
    let Preserve::Xsave(area) = Preserve::all(true, true, false) else { panic!("no xsave") };
    assert_eq!(area.mask & 0xe6, 0xe6, "SSE, AVX, AVX-512");
}

#[test]
fn a_set_of_nobody_changes_nothing() {
    let code = entry_trampoline(TRAMPOLINE, &[], REDIRECTED);
    assert_eq!(code.last(), Some(&0xc3));
    assert!(!listing(&code, TRAMPOLINE, 0).contains("call"));
}

#[test]
fn what_code_promises() {
    let cases: [(&[u8], Option<Preserve>); 14] = [
        (&[0xc3], Some(Preserve::None)),
        // add rdi, rsi; ret
        (&[0x48, 0x01, 0xf7, 0xc3], Some(Preserve::None)),
        // andn eax, edi, esi; ret
        (&[0xc4, 0xe2, 0x40, 0xf2, 0xc6, 0xc3], Some(Preserve::None)),
        // addsd xmm0, xmm1; ret
        (&[0xf2, 0x0f, 0x58, 0xc1, 0xc3], Some(Preserve::Xmm)),
        // je over addsd; ret
        (&[0x74, 0x04, 0xf2, 0x0f, 0x58, 0xc1, 0xc3], Some(Preserve::Xmm)),
        // ret; addsd: not reached
        (&[0xc3, 0xf2, 0x0f, 0x58, 0xc1], Some(Preserve::None)),
        // a loop
        (&[0x75, 0xfe, 0xc3], Some(Preserve::None)),
        // vaddsd xmm0, xmm0, xmm1; vzeroupper; fld1; emms
        (&[0xc5, 0xfb, 0x58, 0xc1, 0xc3], None),
        (&[0xc5, 0xf8, 0x77, 0xc3], None),
        (&[0xd9, 0xe8, 0xc3], None),
        (&[0x0f, 0x77, 0xc3], None),
        // call; jmp away; falls off the end
        (&[0xe8, 0, 0, 0, 0, 0xc3], None),
        (&[0xe9, 0, 1, 0, 0], None),
        (&[0x90], None),
    ];
    for (code, expected) in cases {
        assert_eq!(promise(code, 0x1000), expected, "{code:02x?}");
    }
}
