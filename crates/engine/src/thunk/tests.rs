//! What the generated code is, byte for byte and as a disassembler reads it.

use super::*;
use expect_test::{Expect, expect};
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};

const AGENT: AgentLayout = AgentLayout {
    thunks: 0x7f00_0000_0000,
    relocated: 0x7f00_0400_0000,
    trampolines: 0x7f00_0800_0000,
    slots: 0x7f00_0a00_0000,
    tls_offset: -16,
    cover: 0x7eff_ffff_f000,
    thread: 0x7eff_ffff_f100,
    full: 0x7eff_ffff_f200,
    exec: [0x7eff_ffff_f300, 0x7eff_ffff_f400, 0x7eff_ffff_f500],
    probe: 0,
};
const SITE: u32 = 0x0102_0304;

/// One line an instruction: offset, bytes, text; `int3` filler is left out.
fn listing(code: &[u8], address: u64) -> String {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    let mut text = String::new();
    for instruction in &mut decoder {
        let start = (instruction.ip() - address) as usize;
        let bytes = &code[start..start + instruction.len()];
        if bytes == [0xcc] {
            continue;
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut line = String::new();
        formatter.format(&instruction, &mut line);
        text.push_str(&format!("{start:02x} {hex:<18} {line}\n"));
    }
    text
}

fn check(code: &[u8], address: u64, expected: Expect) {
    expected.assert_eq(&listing(code, address));
}

#[test]
fn a_hooked_thunk() {
    let set = Trampolines::recorder(&AGENT, &[]);
    let place = AGENT.thunks + 7 * cell::THUNK_BYTES;
    let body = AGENT.relocated + 7 * cell::RELOCATED_BYTES;
    let code = hooked(&AGENT, &set, place, body, SITE);
    assert_eq!(code.len() as u64, cell::THUNK_BYTES);
    assert_eq!(code[cell::THUNK_SITE as usize..][..4], SITE.to_le_bytes());
    assert_eq!(code[cell::THUNK_SLOTS as usize..][..8], AGENT.slots.to_le_bytes());
    check(
        &code[..cell::THUNK_SITE as usize],
        place,
        expect![[r#"
        00 4c895424e8         mov [rsp-18h],r10
        05 e876fcff07         call 00007F0008000000h
        0a 428f4414f8         pop qword ptr [rsp+r10-8]
        0f 4c8b5424e0         mov r10,[rsp-20h]
        14 e8e7ffff03         call 00007F0004000380h
        19 4c895424e0         mov [rsp-20h],r10
        1e e89dfeff07         call 00007F0008000240h
        23 42ff7414f8         push qword ptr [rsp+r10-8]
        28 4c8b5424e8         mov r10,[rsp-18h]
        2d c3                 ret
        2e 4c8b5424e8         mov r10,[rsp-18h]
        33 e9c8ffff03         jmp 00007F0004000380h
    "#]],
    );
}

#[test]
fn an_entry_only_thunk() {
    let set = Trampolines::recorder(&AGENT, &[]);
    let code = entry_only(&AGENT, &set, AGENT.thunks, AGENT.relocated, SITE);
    check(
        &code[..cell::THUNK_SITE as usize],
        AGENT.thunks,
        expect![[r#"
        00 4c895424e8         mov [rsp-18h],r10
        05 e876010008         call 00007F0008000180h
        0a eb22               jmp short 00007F000000002Eh
        2e 4c8b5424e8         mov r10,[rsp-18h]
        33 e9c8ffff03         jmp 00007F0004000000h
    "#]],
    );
}

#[test]
fn the_trampolines_of_a_recorder() {
    let set = Trampolines::recorder(&AGENT, &[]);
    assert_eq!(set.code.len() as u64, crate::trampoline::TRAMPOLINE_BYTES);
    check(
        &set.code,
        AGENT.trampolines,
        expect![[r#"
        00 4c895c24e8         mov [rsp-18h],r11
        05 48894424e0         mov [rsp-20h],rax
        0a 48895424d8         mov [rsp-28h],rdx
        0f 4c8b542408         mov r10,[rsp+8]
        14 4c8d1de5fffff7     lea r11,[7F0000000000h]
        1b 4d29da             sub r10,r11
        1e 4981fa00000004     cmp r10,4000000h
        25 0f82a0000000       jb 00007F00080000CBh
        2b 4c8d542408         lea r10,[rsp+8]
        30 49c1ea18           shr r10,18h
        34 4c8d1dc5ffff01     lea r11,[7F000A000000h]
        3b 4f8b54d300         mov r10,[r11+r10*8]
        40 4d85d2             test r10,r10
        43 0f8411010000       je 00007F000800015Ah
        49 644c8b1c25f0ffffff mov r11,fs:[0FFFFFFFFFFFFFFF0h]
        52 4d85db             test r11,r11
        55 0f844c000000       je 00007F00080000A7h
        5b 498b5300           mov rdx,[r11]
        5f 493b5308           cmp rdx,[r11+8]
        63 0f8348000000       jae 00007F00080000B1h
        69 0f31               rdtsc
        6b 48c1e220           shl rdx,20h
        6f 4809d0             or rax,rdx
        72 ba10000000         mov edx,10h
        77 490fc15300         xadd [r11],rdx
        7c 41235310           and edx,[r11+10h]
        80 49035318           add rdx,[r11+18h]
        84 4c8b5c2400         mov r11,[rsp]
        89 458b5b2e           mov r11d,[r11+2Eh]
        8d 44895a08           mov [rdx+8],r11d
        91 4c8d5c2408         lea r11,[rsp+8]
        96 49c1eb03           shr r11,3
        9a 44895a0c           mov [rdx+0Ch],r11d
        9e 48894200           mov [rdx],rax
        a2 e914000000         jmp 00007F00080000BBh
        a7 e854f0fff7         call 00007EFFFFFFF100h
        ac e998ffffff         jmp 00007F0008000049h
        b1 e84af1fff7         call 00007EFFFFFFF200h
        b6 e98effffff         jmp 00007F0008000049h
        bb 4c8b5c24e8         mov r11,[rsp-18h]
        c0 488b4424e0         mov rax,[rsp-20h]
        c5 488b5424d8         mov rdx,[rsp-28h]
        ca c3                 ret
        cb 644c8b1c25f0ffffff mov r11,fs:[0FFFFFFFFFFFFFFF0h]
        d4 4d85db             test r11,r11
        d7 0f8453000000       je 00007F0008000130h
        dd 498b5300           mov rdx,[r11]
        e1 493b5308           cmp rdx,[r11+8]
        e5 0f834f000000       jae 00007F000800013Ah
        eb 0f31               rdtsc
        ed 48c1e220           shl rdx,20h
        f1 4809d0             or rax,rdx
        f4 ba10000000         mov edx,10h
        f9 490fc15300         xadd [r11],rdx
        fe 41235310           and edx,[r11+10h]
        102 49035318           add rdx,[r11+18h]
        106 4c8b5c2400         mov r11,[rsp]
        10b 458b5b2e           mov r11d,[r11+2Eh]
        10f 4181cb00000040     or r11d,40000000h
        116 44895a08           mov [rdx+8],r11d
        11a 4c8d5c2408         lea r11,[rsp+8]
        11f 49c1eb03           shr r11,3
        123 44895a0c           mov [rdx+0Ch],r11d
        127 48894200           mov [rdx],rax
        12b e914000000         jmp 00007F0008000144h
        130 e8cbeffff7         call 00007EFFFFFFF100h
        135 e991ffffff         jmp 00007F00080000CBh
        13a e8c1f0fff7         call 00007EFFFFFFF200h
        13f e987ffffff         jmp 00007F00080000CBh
        144 4c8b5c24e8         mov r11,[rsp-18h]
        149 488b4424e0         mov rax,[rsp-20h]
        14e 488b5424d8         mov rdx,[rsp-28h]
        153 488344240024       add qword ptr [rsp],24h
        159 c3                 ret
        15a e8a1eefff7         call 00007EFFFFFFF000h
        15f e9c7feffff         jmp 00007F000800002Bh
        180 4c895c24e8         mov [rsp-18h],r11
        185 48894424e0         mov [rsp-20h],rax
        18a 48895424d8         mov [rsp-28h],rdx
        18f 644c8b1c25f0ffffff mov r11,fs:[0FFFFFFFFFFFFFFF0h]
        198 4d85db             test r11,r11
        19b 0f8453000000       je 00007F00080001F4h
        1a1 498b5300           mov rdx,[r11]
        1a5 493b5308           cmp rdx,[r11+8]
        1a9 0f834f000000       jae 00007F00080001FEh
        1af 0f31               rdtsc
        1b1 48c1e220           shl rdx,20h
        1b5 4809d0             or rax,rdx
        1b8 ba10000000         mov edx,10h
        1bd 490fc15300         xadd [r11],rdx
        1c2 41235310           and edx,[r11+10h]
        1c6 49035318           add rdx,[r11+18h]
        1ca 4c8b5c2400         mov r11,[rsp]
        1cf 458b5b2e           mov r11d,[r11+2Eh]
        1d3 4181cb000000c0     or r11d,0C0000000h
        1da 44895a08           mov [rdx+8],r11d
        1de 4c8d5c2408         lea r11,[rsp+8]
        1e3 49c1eb03           shr r11,3
        1e7 44895a0c           mov [rdx+0Ch],r11d
        1eb 48894200           mov [rdx],rax
        1ef e914000000         jmp 00007F0008000208h
        1f4 e807effff7         call 00007EFFFFFFF100h
        1f9 e991ffffff         jmp 00007F000800018Fh
        1fe e8fdeffff7         call 00007EFFFFFFF200h
        203 e987ffffff         jmp 00007F000800018Fh
        208 4c8b5c24e8         mov r11,[rsp-18h]
        20d 488b4424e0         mov rax,[rsp-20h]
        212 488b5424d8         mov rdx,[rsp-28h]
        217 c3                 ret
        240 4c895c24e0         mov [rsp-20h],r11
        245 48894424d8         mov [rsp-28h],rax
        24a 48895424d0         mov [rsp-30h],rdx
        24f 644c8b1c25f0ffffff mov r11,fs:[0FFFFFFFFFFFFFFF0h]
        258 4d85db             test r11,r11
        25b 0f8453000000       je 00007F00080002B4h
        261 498b5300           mov rdx,[r11]
        265 493b5308           cmp rdx,[r11+8]
        269 0f834f000000       jae 00007F00080002BEh
        26f 0f31               rdtsc
        271 48c1e220           shl rdx,20h
        275 4809d0             or rax,rdx
        278 ba10000000         mov edx,10h
        27d 490fc15300         xadd [r11],rdx
        282 41235310           and edx,[r11+10h]
        286 49035318           add rdx,[r11+18h]
        28a 4c8b5c2400         mov r11,[rsp]
        28f 458b5b15           mov r11d,[r11+15h]
        293 4181cb00000080     or r11d,80000000h
        29a 44895a08           mov [rdx+8],r11d
        29e 4c8d5c2400         lea r11,[rsp]
        2a3 49c1eb03           shr r11,3
        2a7 44895a0c           mov [rdx+0Ch],r11d
        2ab 48894200           mov [rdx],rax
        2af e914000000         jmp 00007F00080002C8h
        2b4 e847eefff7         call 00007EFFFFFFF100h
        2b9 e991ffffff         jmp 00007F000800024Fh
        2be e83deffff7         call 00007EFFFFFFF200h
        2c3 e987ffffff         jmp 00007F000800024Fh
        2c8 4c8d542400         lea r10,[rsp]
        2cd 49c1ea18           shr r10,18h
        2d1 4c8d1d28fdff01     lea r11,[7F000A000000h]
        2d8 4f8b54d300         mov r10,[r11+r10*8]
        2dd 4c8b5c24e0         mov r11,[rsp-20h]
        2e2 488b4424d8         mov rax,[rsp-28h]
        2e7 488b5424d0         mov rdx,[rsp-30h]
        2ec c3                 ret
    "#]],
    );
}

#[test]
fn gates() {
    let place = AGENT.trampolines + 0x1000;
    let callers = 0x5555_5555_4000..0x5555_5555_9000;
    let code = caller_gate(&AGENT, place, callers, AGENT.thunks, AGENT.relocated);
    check(
        &code,
        place,
        expect![[r#"
        00 4c895424e8         mov [rsp-18h],r10
        05 4c895c24e0         mov [rsp-20h],r11
        0a 4c8b542400         mov r10,[rsp]
        0f 49bb0040555555550000 mov r11,555555554000h
        19 4d29da             sub r10,r11
        1c 4981fa00500000     cmp r10,5000h
        23 0f822e000000       jb 00007F0008001057h
        29 4c8b542400         mov r10,[rsp]
        2e 49bb00000000007f0000 mov r11,7F0000000000h
        38 4d29da             sub r10,r11
        3b 4981fa00000004     cmp r10,4000000h
        42 0f820f000000       jb 00007F0008001057h
        48 4c8b5424e8         mov r10,[rsp-18h]
        4d 4c8b5c24e0         mov r11,[rsp-20h]
        52 e9a9effffb         jmp 00007F0004000000h
        57 4c8b5424e8         mov r10,[rsp-18h]
        5c 4c8b5c24e0         mov r11,[rsp-20h]
        61 e99aeffff7         jmp 00007F0000000000h
    "#]],
    );
    check(
        &exec_gate(place, AGENT.exec[0], AGENT.thunks),
        place,
        expect![[r#"
        00 e8fbe2fff7         call 00007EFFFFFFF300h
        05 e9f6effff7         jmp 00007F0000000000h
    "#]],
    );
}

#[test]
fn an_island_jumps_through_a_word() {
    let bytes = island_through(0x5555_5555_1003, 0x5555_5565_0000);
    assert_eq!(bytes[..6], [0xff, 0x25, 0xf7, 0xef, 0x0f, 0]);
    assert_eq!(bytes[6..], [0xcc; 10]);
}

#[test]
fn an_island_jumps_anywhere() {
    assert_eq!(
        island(0x1122_3344_5566_7788),
        [0xff, 0x25, 2, 0, 0, 0, 0xcc, 0xcc, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]
    );
}

#[test]
fn a_patch_is_a_jump_or_refused() {
    assert_eq!(patch(0x1000, 0x2000), Some([0xe9, 0xfb, 0x0f, 0, 0]));
    assert_eq!(patch(0x2000, 0x1000), Some([0xe9, 0xfb, 0xef, 0xff, 0xff]));
    assert_eq!(patch(0x1000, 0x1_0000_0000), None);
}
