//! Cells whose return is hooked, and their unwind rules.

use super::*;
use crate::dispatch::hooked::{IN_SLOT, PUSHED};
use iced_x86::{Mnemonic, OpKind};

const HOOKED: HookedGate = HookedGate {
    trampoline: 0x5555_6300_0000,
    body: 0x5555_6300_0008,
    leave: 0x5555_6300_0010,
    first: 0x5555_6300_0018,
    entered: -128,
    left: -124,
};

#[test]
fn a_cell_whose_return_is_hooked() {
    let code = hooked_cell(PLACE, &HOOKED, SITE);
    assert_eq!(code.len() as u64, HOOKED_BYTES);
    assert_eq!(code[..8], SITE.to_le_bytes());
    expect![[r#"
        08 55                 push rbp
        09 4889e5             mov rbp,rsp
        0c 64ff042580ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF80h]
        14 0f884d000000       js 0000555560000067h
        1a ff15e0ffff02       call qword ptr [555563000000h]
        20 64ff042584ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF84h]
        28 5d                 pop rbp
        29 0f8332000000       jae 0000555560000061h
        2f 488d642408         lea rsp,[rsp+8]
        34 ff15ceffff02       call qword ptr [555563000008h]
        3a 488d6424f8         lea rsp,[rsp-8]
        3f 55                 push rbp
        40 4889e5             mov rbp,rsp
        43 64ff042580ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF80h]
        4b 0f8821000000       js 0000555560000072h
        51 ff15b9ffff02       call qword ptr [555563000010h]
        57 64ff042584ffffff   inc dword ptr fs:[0FFFFFFFFFFFFFF84h]
        5f 5d                 pop rbp
        60 c3                 ret
        61 ff25a1ffff02       jmp qword ptr [555563000008h]
        67 ff15abffff02       call qword ptr [555563000018h]
        6d e9a8ffffff         jmp 000055556000001Ah
        72 ff15a0ffff02       call qword ptr [555563000018h]
        78 e9d4ffffff         jmp 0000555560000051h
    "#]]
    .assert_eq(&listing(&code, PLACE, HOOKED_ENTRY as usize));
}

/// The unwind rules against what the instructions do to the stack: `rsp` is followed along every
/// way through the cell.
#[test]
fn phases_are_where_the_stack_is() {
    let code = hooked_cell(PLACE, &HOOKED, SITE);
    let phases = hooked_phases();
    // Where to look, how far `rsp` is below `S + 8`, and whether `rbp` is pushed.
    let mut ways = vec![(HOOKED_ENTRY, 8, false, false)];
    let mut seen = std::collections::BTreeSet::new();
    while let Some((at, below, pushed, in_slot)) = ways.pop() {
        if !seen.insert(at) {
            continue;
        }
        let phase = phases[at as usize];
        assert_eq!(i64::from(phase & 31), below, "rsp at {at:#x}");
        assert_eq!(phase & PUSHED != 0, pushed, "rbp at {at:#x}");
        assert_eq!(phase & IN_SLOT != 0, in_slot, "return address at {at:#x}");
        let bytes = &code[at as usize..];
        let mut decoder = Decoder::with_ip(64, bytes, PLACE + at, DecoderOptions::NONE);
        let instruction = decoder.decode();
        let next = at + instruction.len() as u64;
        let to = |address: u64| address - PLACE;
        match instruction.mnemonic() {
            Mnemonic::Push => ways.push((next, below + 8, true, in_slot)),
            Mnemonic::Pop => {
                // After the second, the return address is back.
                ways.push((next, below - 8, false, false));
            }
            Mnemonic::Lea => {
                let by = instruction.memory_displacement64().cast_signed();
                ways.push((next, below - by, pushed, by > 0 || in_slot));
            }
            Mnemonic::Js | Mnemonic::Jae => {
                ways.push((next, below, pushed, in_slot));
                ways.push((to(instruction.near_branch_target()), below, pushed, in_slot));
            }
            Mnemonic::Jmp if instruction.op0_kind() == OpKind::NearBranch64 => {
                ways.push((to(instruction.near_branch_target()), below, pushed, in_slot));
            }
            Mnemonic::Ret | Mnemonic::Jmp => {
                assert_eq!((below, pushed, in_slot), (8, false, false))
            }
            Mnemonic::Inc | Mnemonic::Call | Mnemonic::Mov => {
                ways.push((next, below, pushed, in_slot))
            }
            other => panic!("{other:?} at {at:#x}"),
        }
    }
    assert!(seen.contains(&HOOKED_RETURN));
}

#[test]
fn a_trampoline_that_hooks() {
    let hook =
        Hook { enter: NEAR, data: 0x5555_5700_0000, save_regs: false, preserve: Preserve::None };
    check(
        &hook_trampoline(TRAMPOLINE, &[], &hook, REDIRECTED),
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
        0d 50                 push rax
        0e 4883e4f0           and rsp,0FFFFFFFFFFFFFFF0h
        12 4c8d4508           lea r8,[rbp+8]
        16 488b7df8           mov rdi,[rbp-8]
        1a 488b7fe0           mov rdi,[rdi-20h]
        1e 488b7508           mov rsi,[rbp+8]
        22 488d15d7fffff5     lea rdx,[555557000000h]
        29 31c9               xor ecx,ecx
        2b e8d0fffff4         call 0000555556000000h
        30 8945a8             mov [rbp-58h],eax
        33 8b45a8             mov eax,[rbp-58h]
        36 f7d8               neg eax
        38 488d65b0           lea rsp,[rbp-50h]
        3c 415b               pop r11
        3e 415a               pop r10
        40 4159               pop r9
        42 4158               pop r8
        44 58                 pop rax
        45 59                 pop rcx
        46 5a                 pop rdx
        47 5e                 pop rsi
        48 5f                 pop rdi
        49 c3                 ret
    "#]],
    );
    let with_registers = Hook { save_regs: true, ..hook };
    let code = hook_trampoline(TRAMPOLINE, &[CALLBACK], &with_registers, REDIRECTED);
    let text = listing(&code, TRAMPOLINE, 0);
    let lines = text.lines().skip_while(|line| !line.contains("call"));
    let lines = lines.take_while(|line| !line.contains("pop"));
    expect![[r#"
        49 e8b2fffff4         call 0000555556000000h
        4e 4c8d4508           lea r8,[rbp+8]
        52 488b7df8           mov rdi,[rbp-8]
        56 488b7fe0           mov rdi,[rdi-20h]
        5a 488b7508           mov rsi,[rbp+8]
        5e 488d159bfffff5     lea rdx,[555557000000h]
        65 488d8d68ffffff     lea rcx,[rbp-98h]
        6c e88ffffff4         call 0000555556000000h
        71 8945e8             mov [rbp-18h],eax
        74 488b7df8           mov rdi,[rbp-8]
        78 488b7fe0           mov rdi,[rdi-20h]
        7c 483b7de0           cmp rdi,[rbp-20h]
        80 0f852b000000       jne 00005555610000B1h
        86 8b45e8             mov eax,[rbp-18h]
        89 f7d8               neg eax
        8b 488da568ffffff     lea rsp,[rbp-98h]
    "#]]
    .assert_eq(&lines.fold(String::new(), |text, line| text + line + "\n"));
}

#[test]
fn what_runs_on_return() {
    let leaving = Leaving { leave: FAR, preserve: Preserve::Xmm };
    let code = leave_trampoline(TRAMPOLINE, &leaving);
    let text = listing(&code, TRAMPOLINE, 0);
    let lines = text.lines().filter(|line| !line.contains("xmm"));
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
        0d 488d7d08           lea rdi,[rbp+8]
        11 4889e6             mov rsi,rsp
        14 488da42400ffffff   lea rsp,[rsp-100h]
        1c 4883e4f0           and rsp,0FFFFFFFFFFFFFFF0h
        90 48b80000000000700000 mov rax,700000000000h
        9a ffd0               call rax
        10c 488d65b0           lea rsp,[rbp-50h]
        110 415b               pop r11
        112 415a               pop r10
        114 4159               pop r9
        116 4158               pop r8
        118 58                 pop rax
        119 59                 pop rcx
        11a 5a                 pop rdx
        11b 5e                 pop rsi
        11c 5f                 pop rdi
        11d c3                 ret
    "#]]
    .assert_eq(&lines.fold(String::new(), |text, line| text + line + "\n"));
}
