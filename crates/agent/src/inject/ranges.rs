//! The address ranges that hold generated code, and the unwind rules that cover them.
//!
//! A WORD OF CAUTION: the numbers in the unwind rules are those of `sledge_wire::cell`, byte for
//! byte. The checks at the end of this file hold them together; change both or neither.
//!
//! Three ranges are reserved as executable sections without contents: addresses, and nothing in
//! the file. Generated code is mapped over them. Each range has one FDE in this object's
//! `.eh_frame`, found by every unwinder through the link map, so nothing is ever registered.
//!
//! **Thunks.** The rule tells from the program counter whether the return address is on the stack
//! or in its slot: `c = ((pc - IN_SLOT_FIRST) & 127) <= IN_SLOT_LAST - IN_SLOT_FIRST`. Then
//! * `CFA = rsp + 8 - 7c` (one byte above the caller's `rsp`, never equal to the CFA of a
//!   neighbouring frame: libgcc asserts that);
//! * the caller's `rsp = rsp + 8(1 - c)`;
//! * the return address is at `rsp + (-c & (slots[(rsp - 8) >> 24] - 8))`.
//!
//! **Relocated prologues.** A virtual frame: `rsp` unchanged, and as return address the original
//! program counter (plus one, since unwinders look up `pc - 1`), so that the function's own
//! rule applies at the right row.
//!
//! **Trampolines.** They never move `rsp`: `CFA = rsp + 8`.
//!
//! No `DW_OP_nop` anywhere: LLVM's unwinder aborts on it.

use core::arch::global_asm;
use sledge_wire::cell;

global_asm!(
    ".pushsection .sledge.ranges,\"ax\",@nobits",
    ".p2align 12",
    ".hidden sledge_thunks; .globl sledge_thunks; sledge_thunks: .zero {thunk_range}",
    ".hidden sledge_relocated; .globl sledge_relocated; sledge_relocated: .zero {relocated_range}",
    ".hidden sledge_trampolines; .globl sledge_trampolines",
    "sledge_trampolines: .zero {trampoline_range}",
    ".popsection",
    ".pushsection .eh_frame,\"a\",@progbits",
    // Thunks.
    "20: .long 22f-21f",
    "21: .long 0; .byte 1; .asciz \"zR\"; .uleb128 1; .sleb128 -8; .byte 16; .uleb128 1; .byte 0x1b",
    //   CFA = rsp + 8 - 7c
    ".byte 0x0f,16, 0x77,0x00, 0x80,0x71,0x08,0x7f,0x1a,0x08,0x14,0x2c, 0x37,0x1e,0x1f,0x22, 0x23,0x08",
    //   rsp = rsp + 8(1 - c)
    ".byte 0x16,7,15, 0x77,0x00, 0x80,0x71,0x08,0x7f,0x1a,0x08,0x14,0x2c, 0x31,0x27,0x33,0x24,0x22",
    //   return address at rsp + (-c & (slots[(rsp - 8) >> 24] - 8)), slots = *((pc & -128) + 0x40)
    ".byte 0x10,16,32, 0x77,0x00, 0x80,0x71,0x08,0x7f,0x1a,0x08,0x14,0x2c, 0x1f",
    ".byte 0x77,0x78, 0x08,0x18, 0x25, 0x33, 0x24",
    ".byte 0x80,0x00, 0x09,0x80, 0x1a, 0x23,0x40, 0x06",
    ".byte 0x22, 0x06, 0x38, 0x1c, 0x1a, 0x22",
    ".p2align 3",
    "22: .long 24f-23f",
    "23: .long 23b-20b; .long sledge_thunks-.; .long {thunk_range}; .uleb128 0; .p2align 3",
    "24:",
    // Relocated prologues: CFA = rsp + 1, rsp = rsp, pc = function + map[pc & 127] + 1.
    "30: .long 32f-31f",
    "31: .long 0; .byte 1; .asciz \"zR\"; .uleb128 1; .sleb128 -8; .byte 16; .uleb128 1; .byte 0x1b",
    ".byte 0x0f,2, 0x77,0x01",
    ".byte 0x16,7,2, 0x77,0x00",
    ".byte 0x16,16,23, 0x80,0x00, 0x09,0x80, 0x1a, 0x12, 0x23,56, 0x06, 0x16",
    ".byte 0x80,0x00, 0x08,0x7f, 0x1a, 0x22, 0x23,72, 0x94,0x01, 0x22, 0x23,0x01",
    ".p2align 3",
    "32: .long 34f-33f",
    "33: .long 33b-30b; .long sledge_relocated-.; .long {relocated_range}; .uleb128 0; .p2align 3",
    "34:",
    // Trampolines and gates.
    "40: .long 42f-41f",
    "41: .long 0; .byte 1; .asciz \"zR\"; .uleb128 1; .sleb128 -8; .byte 16; .uleb128 1; .byte 0x1b",
    ".byte 0x0c,7,8, 0x90,1",
    ".p2align 3",
    "42: .long 44f-43f",
    "43: .long 43b-40b; .long sledge_trampolines-.; .long {trampoline_range}; .uleb128 0; .p2align 3",
    "44:",
    ".popsection",
    thunk_range = const cell::THUNK_RANGE,
    relocated_range = const cell::RELOCATED_RANGE,
    trampoline_range = const cell::TRAMPOLINE_RANGE,
);

unsafe extern "C" {
    static sledge_thunks: u8;
    static sledge_relocated: u8;
    static sledge_trampolines: u8;
}

/// Start of the range for thunks.
pub(crate) fn thunks() -> u64 {
    (&raw const sledge_thunks).addr() as u64
}

/// Start of the range for relocated prologues.
pub(crate) fn relocated() -> u64 {
    (&raw const sledge_relocated).addr() as u64
}

/// Start of the range for trampolines.
pub(crate) fn trampolines() -> u64 {
    (&raw const sledge_trampolines).addr() as u64
}

// The rules above, as numbers: -0x71 is 15, 0x14 is 20, and so on.
const _: () = {
    assert!(cell::THUNK_BYTES == 128 && cell::RELOCATED_BYTES == 128);
    assert!(cell::IN_SLOT_FIRST == 0x80 - 0x71);
    assert!(cell::IN_SLOT_LAST - cell::IN_SLOT_FIRST == 0x14);
    assert!(cell::THUNK_SLOTS == 0x40 && cell::SLOT_SHIFT == 0x18);
    assert!(cell::RELOCATED_FUNCTION == 56 && cell::RELOCATED_MAP == 72);
};
