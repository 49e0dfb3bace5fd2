//! What `relocate` refuses, and the edges of what it accepts.
#![allow(missing_docs, reason = "tests")]

use sledge_engine::relocate::{RelocateError, Relocated, relocate};

const ORIGINAL: u64 = 0x5555_5555_1000;
const FAR: u64 = 0x7000_0000_0000;
const CELL: usize = 56;

fn moved(displaced: &[u8], place: u64) -> Result<Relocated, RelocateError> {
    relocate(displaced, ORIGINAL, ORIGINAL + displaced.len() as u64, place, CELL)
}

fn refused(displaced: &[u8], error: RelocateError) {
    assert_eq!(moved(displaced, FAR), Err(error));
}

#[test]
fn low_addresses_take_short_moves() {
    let code = [0x48, 0x8d, 0x3d, 0, 1, 0, 0, 0x83, 0x3d, 0, 1, 0, 0, 0];
    let relocated = relocate(&code, 0x40_1000, 0x40_100e, FAR, CELL).unwrap();
    // mov edi, 0x401107; mov [rsp-0x80], rax; mov eax, 0x40110e
    assert_eq!(relocated.code[..5], [0xbf, 7, 0x11, 0x40, 0]);
    assert_eq!(relocated.code[10..15], [0xb8, 0x0e, 0x11, 0x40, 0]);
}

#[test]
fn what_cannot_be_moved_is_refused() {
    use RelocateError::{
        CallNotLast, CountingBranch, MovesStackPointer, NoRoom, RedZoneInUse, TooManyBytes,
        Undecodable, Unmovable,
    };
    // call +0; nop
    refused(&[0xe8, 0, 0, 0, 0, 0x90], CallNotLast { offset: 0 });
    // push rax; jrcxz +2; loop +2
    refused(&[0x50, 0xe3, 2, 0xe2, 2], CountingBranch { offset: 1 });
    refused(&[0x50, 0xe2, 2], CountingBranch { offset: 1 });
    // a truncated mov, 06 (no instruction), int3, int 0x80, xbegin, far ret, vmcall
    refused(&[0x50, 0xb8, 0, 0], Undecodable { offset: 1 });
    refused(&[0x06, 0x90], Undecodable { offset: 0 });
    refused(&[0xcc], Unmovable { offset: 0 });
    refused(&[0xcd, 0x80], Unmovable { offset: 0 });
    refused(&[0xc7, 0xf8, 0, 0, 0, 0], Unmovable { offset: 0 });
    refused(&[0xcb], Unmovable { offset: 0 });
    refused(&[0x0f, 0x01, 0xc1], Unmovable { offset: 0 });
    // pop [rip + 0]; mov rsp, [rip + 0]; sub rsp, [rip + 0]; mov eax, [eip + 0]
    refused(&[0x8f, 5, 0, 0, 0, 0], MovesStackPointer { offset: 0 });
    refused(&[0x48, 0x8b, 0x25, 0, 0, 0, 0], MovesStackPointer { offset: 0 });
    refused(&[0x48, 0x2b, 0x25, 0, 0, 0, 0], MovesStackPointer { offset: 0 });
    refused(&[0x67, 0x8b, 5, 0, 0, 0, 0], Unmovable { offset: 0 });
    // call rsp; call [rsp - 8], the cell that the call itself writes
    refused(&[0xff, 0xd4], Unmovable { offset: 0 });
    refused(&[0xff, 0x54, 0x24, 0xf8], Unmovable { offset: 0 });
    // mov [rsp - 0x80], rdi; cmp [rip + 0], 0
    let red = [0x48, 0x89, 0x7c, 0x24, 0x80, 0x83, 0x3d, 0, 0, 0, 0, 0];
    refused(&red, RedZoneInUse { offset: 5 });
    // mov [rsp - 0x78], rdi; push [rip + 0], which takes 16 bytes
    refused(&[0x48, 0x89, 0x7c, 0x24, 0x88, 0xff, 0x35, 0, 0, 0, 0], RedZoneInUse { offset: 5 });
    // mov rbp, rsp; mov [rbp - 0x80], rdi; cmp [rip + 0], 0
    let red = [0x48, 0x89, 0xe5, 0x48, 0x89, 0x7d, 0x80, 0x83, 0x3d, 0, 0, 0, 0, 0];
    refused(&red, RedZoneInUse { offset: 7 });
    // lea rax, [rsp + rcx]; mov [rax], rdi; cmp [rip + 0], 0
    let red = [0x48, 0x8d, 0x04, 0x0c, 0x48, 0x89, 0x38, 0x83, 0x3d, 0, 0, 0, 0, 0];
    refused(&red, RedZoneInUse { offset: 7 });
    // je over push; cmp [rip + 0], 0
    refused(&[0x74, 1, 0x50, 0x83, 0x3d, 0, 0, 0, 0, 0], RedZoneInUse { offset: 3 });
    // and rsp, -32; cmp [rip + 0], 0
    let red = [0x48, 0x83, 0xe4, 0xe0, 0x83, 0x3d, 0, 0, 0, 0, 0];
    refused(&red, RedZoneInUse { offset: 4 });
    // cmp [rip + 0], 0, three times
    refused(&[0x83, 0x3d, 0, 0, 0, 0, 0].repeat(3), NoRoom { needed: 83, capacity: CELL });
    refused(&[0x90; 255], TooManyBytes { bytes: 255 });
}

#[test]
fn the_red_zone_may_be_written_elsewhere() {
    // push rbp; mov rbp, rsp; mov [rbp - 0x20], rdi; sub rsp, 0x10; cmp [rip + 0], 0
    let code = [
        0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0x7d, 0xe0, 0x48, 0x83, 0xec, 0x10, 0x83, 0x3d, 0, 0,
        0, 0, 0,
    ];
    assert!(moved(&code, FAR).is_ok());
    // mov [rsp - 0x80], rdi; sub rsp, 0x10; cmp [rip + 0], 0
    let code = [0x48, 0x89, 0x7c, 0x24, 0x80, 0x48, 0x83, 0xec, 0x10, 0x83, 0x3d, 0, 0, 0, 0, 0];
    assert!(moved(&code, FAR).is_ok());
    // sub rsp, -0x80; cmp [rip + 0], 0: the caller's stack is in the red zone now
    let code = [0x48, 0x83, 0xec, 0x80, 0x83, 0x3d, 0, 0, 0, 0, 0];
    refused(&code, RelocateError::RedZoneInUse { offset: 4 });
}

#[test]
fn a_thread_goes_on_where_its_instruction_is() {
    // push rbp; nop; cmp [rip + 0], 0; jmp +0; int3
    let code = [0x55, 0x90, 0x83, 0x3d, 0, 0, 0, 0, 0, 0xe9, 0, 1, 0, 0, 0xcc];
    let relocated = moved(&code, FAR).unwrap();
    let positions = [0, 1, 2, 9, 14].map(|offset| relocated.position(offset));
    assert_eq!(positions, [Some(0), Some(1), Some(1), Some(24), None]);
}

#[test]
fn the_edge_of_reach() {
    let target = ORIGINAL + 5;
    for distance in [0x7fff_f000_u64, 0x8000_0000] {
        for place in [target.wrapping_add(distance), target.wrapping_sub(distance)] {
            let relocated = moved(&[0xb8, 0, 0, 0, 0], place).unwrap();
            assert_eq!(relocated.code[5] == 0xe9, distance < 0x8000_0000, "{place:#x}");
        }
    }
}
