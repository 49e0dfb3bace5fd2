//! Unwind tables for generated code, in the format of `.eh_frame` (Linux Standard Base; DWARF 4,
//! 6.4): a CIE, an FDE, a terminator. To be registered with the process' unwinder.
//!
//! A WORD OF CAUTION: see `hooked.rs`.
//!
//! **Trampolines** are skipped together with their thunks: while one runs, `rbp` points to the frame
//! that the thunk made.
//!
//! **Hooked cells.** With `t` the phase of the program counter ([`super::hooked_phases`]) and
//! `X = S + 8 = rsp + (t & 31)`:
//! * `CFA = X + (t >> 7)`: never equal to that of the function called, which libgcc asserts;
//! * the caller's `rsp = X`;
//! * its `rbp` is at `X - 16` if pushed, else unchanged;
//! * the return address is at `X - 8`, or, in a slot, `slots[(X - 8) >> 24]` bytes further.
//!
//! No `DW_OP_nop` anywhere: LLVM's unwinder aborts on it.

use std::ops::Range;

const RBP: u8 = 6;
const RSP: u8 = 7;
const RIP: u8 = 16;

const DEF_CFA: u8 = 0x0c;
const DEF_CFA_EXPRESSION: u8 = 0x0f;
const EXPRESSION: u8 = 0x10;
const VAL_EXPRESSION: u8 = 0x16;
const OFFSET: u8 = 0x80;

/// The table for trampolines in a range.
#[must_use]
pub fn trampoline_frames(code: &Range<u64>) -> Vec<u8> {
    table(code, &[DEF_CFA, RBP, 16, OFFSET | RIP, 1, OFFSET | RBP, 2])
}

/// The table for hooked cells in a range, with the phases at an address, and the distances of slots
/// from stack cells, one for each 16 MiB of addresses, at another.
#[must_use]
pub fn hooked_frames(code: &Range<u64>, phases: u64, slots: u64) -> Vec<u8> {
    let phase = || [op::program_counter(), op::and(127), op::add_address(phases), op::byte()];
    let phase = || phase().concat();
    // X
    let base = || [op::stack_pointer(), phase(), op::and(31), op::plus()].concat();
    let in_slot = || [phase(), op::shift_right(7)].concat();
    let cfa = [base(), in_slot(), op::plus()].concat();
    // rbp + (pushed ? *(X - 16) - rbp : 0), without a branch.
    let saved = [base(), op::minus(16), op::deref(), op::frame_pointer(), op::subtract()].concat();
    let pushed = [phase(), op::shift_right(5), op::and(1), op::negate()].concat();
    let frame = [op::frame_pointer(), saved, pushed, op::and_both(), op::plus()].concat();
    let cell = || [base(), op::minus(8)].concat();
    let distance =
        [cell(), op::shift_right(24), op::shift_left(3), op::add_address(slots), op::deref()];
    let distance = [distance.concat(), in_slot(), op::negate(), op::and_both()].concat();
    let place = [cell(), distance, op::plus()].concat();
    let mut rules = Vec::new();
    for (head, expression) in [
        (&[DEF_CFA_EXPRESSION][..], cfa),
        (&[VAL_EXPRESSION, RSP], base()),
        (&[VAL_EXPRESSION, RBP], frame),
        (&[EXPRESSION, RIP], place),
    ] {
        rules.extend(head);
        unsigned(&mut rules, expression.len());
        rules.extend(expression);
    }
    table(code, &rules)
}

fn table(code: &Range<u64>, rules: &[u8]) -> Vec<u8> {
    // Version 1; augmentation "zR"; alignment of code 1 and of data -8; the return address is in
    // 16; pointers are absolute.
    let mut cie = vec![0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, RIP, 1, 0];
    cie.extend(rules);
    let mut table = entry(&cie);
    let mut fde = (table.len() as u32 + 4).to_le_bytes().to_vec();
    fde.extend(code.start.to_le_bytes());
    fde.extend((code.end - code.start).to_le_bytes());
    fde.push(0);
    table.extend(entry(&fde));
    table.extend([0; 4]);
    table
}

/// Where in a table its FDE begins: LLVM's unwinder is given that.
#[must_use]
pub fn description(table: &[u8]) -> usize {
    let length = table.first_chunk().copied().map_or(0, u32::from_le_bytes);
    length as usize + 4
}

/// With its length before it; whole words, filled with `DW_CFA_nop`.
fn entry(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() + 4).next_multiple_of(8) - 4;
    let mut entry = (length as u32).to_le_bytes().to_vec();
    entry.extend(bytes);
    entry.resize(length + 4, 0);
    entry
}

fn unsigned(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Operations of DWARF's stack machine.
mod op {
    use super::{RBP, RIP, RSP};

    fn register(number: u8) -> Vec<u8> {
        vec![0x70 + number, 0]
    }

    pub(super) fn program_counter() -> Vec<u8> {
        register(RIP)
    }

    pub(super) fn stack_pointer() -> Vec<u8> {
        register(RSP)
    }

    pub(super) fn frame_pointer() -> Vec<u8> {
        register(RBP)
    }

    fn with(value: u8, operation: u8) -> Vec<u8> {
        vec![0x08, value, operation]
    }

    pub(super) fn and(mask: u8) -> Vec<u8> {
        with(mask, 0x1a)
    }

    pub(super) fn minus(value: u8) -> Vec<u8> {
        with(value, 0x1c)
    }

    pub(super) fn shift_right(bits: u8) -> Vec<u8> {
        with(bits, 0x25)
    }

    pub(super) fn shift_left(bits: u8) -> Vec<u8> {
        with(bits, 0x24)
    }

    pub(super) fn add_address(address: u64) -> Vec<u8> {
        let mut bytes = vec![0x03];
        bytes.extend(address.to_le_bytes());
        bytes.push(0x22);
        bytes
    }

    pub(super) fn byte() -> Vec<u8> {
        vec![0x94, 1]
    }

    pub(super) fn deref() -> Vec<u8> {
        vec![0x06]
    }

    pub(super) fn plus() -> Vec<u8> {
        vec![0x22]
    }

    pub(super) fn subtract() -> Vec<u8> {
        vec![0x1c]
    }

    pub(super) fn and_both() -> Vec<u8> {
        vec![0x1a]
    }

    pub(super) fn negate() -> Vec<u8> {
        vec![0x1f]
    }
}
