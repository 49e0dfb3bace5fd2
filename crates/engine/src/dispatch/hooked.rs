//! A site's own code, for callbacks on entry and exit.
//!
//! A WORD OF CAUTION: this file, `unwind.rs` and what [`Hook::enter`](super::Hook::enter) and
//! [`Leaving::leave`] do are one piece of code in four places. `S` is the address of the stack cell
//! that holds the return address of the hooked function.
//!
//! ```text
//! rsp
//! S      push rbp; mov rbp, rsp
//! S - 8  inc entered; call [trampoline] ─→ callbacks; enter keeps [S] in a slot; carry: hooked
//! S - 8  inc left; pop rbp
//! S      jae unhooked; lea rsp, [rsp + 8]
//! S + 8  call [body] ─→ the function, whose return address, at S, leads back here
//! S + 8  lea rsp, [rsp - 8]; push rbp; mov rbp, rsp
//! S - 8  inc entered; call [leave] ─→ puts [S] back; exit callbacks
//! S - 8  inc left; pop rbp
//! S      ret
//! ```
//!
//! The stack cell stays the same, so arguments do not move; every `ret` pairs with a `call`, for
//! return predictors and shadow stacks.

use super::Preserve;
use super::body::{CALLER_SAVED, FUNCTION};
use crate::emit::{Condition, Emitter, Label, Mem, Reg};

/// Bytes of a hooked cell.
pub const HOOKED_BYTES: u64 = 128;
/// Where in it the patched site jumps to.
pub const HOOKED_ENTRY: u64 = 8;
/// Where in it the function returns to.
pub const HOOKED_RETURN: u64 = 58;
/// From the address that a trampoline returns to, back to its cell.
pub const HOOKED_BACK: u64 = -FUNCTION as u64;

/// The words that hooked cells go by, each aligned to 8 bytes and within reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookedGate {
    /// Holds the address of the trampoline.
    pub trampoline: u64,
    /// Holds the address where the function runs.
    pub body: u64,
    /// Holds the address of the [`leave_trampoline`].
    pub leave: u64,
    /// Holds the address of what makes a thread known; see [`super::Gate::first`].
    pub first: u64,
    /// Offset from the thread pointer of the count of threads that come in.
    pub entered: i32,
    /// And of those that go out.
    pub left: i32,
}

/// Generates the cell of a function whose return may be hooked.
#[must_use]
pub fn hooked_cell(place: u64, gate: &HookedGate, function: u64) -> Vec<u8> {
    let mut code = Emitter::at(place);
    let unhooked = code.label();
    code.raw(&function.to_le_bytes());
    code.push_register(Reg::Rbp);
    code.copy(Reg::Rbp, Reg::Rsp);
    let first = counted_call(&mut code, gate, gate.trampoline);
    code.pop_register(Reg::Rbp);
    code.branch(Condition::AboveOrEqual, unhooked);
    code.lea(Reg::Rsp, Mem::Base(Reg::Rsp, 8));
    code.call_through(Mem::Absolute(gate.body));
    debug_assert_eq!(code.here() - place, HOOKED_RETURN);
    code.lea(Reg::Rsp, Mem::Base(Reg::Rsp, -8));
    code.push_register(Reg::Rbp);
    code.copy(Reg::Rbp, Reg::Rsp);
    let second = counted_call(&mut code, gate, gate.leave);
    code.pop_register(Reg::Rbp);
    code.ret();
    code.place(unhooked);
    code.jump_through(Mem::Absolute(gate.body));
    for unknown in [first, second] {
        unknown.place(&mut code, gate.first);
    }
    code.pad_to(HOOKED_BYTES);
    code.finish()
}

/// A call while which the thread counts as inside.
fn counted_call(code: &mut Emitter, gate: &HookedGate, word: u64) -> Unknown {
    let (taken, known) = (code.label(), code.label());
    code.increment32(Mem::Thread(gate.entered));
    code.branch(Condition::Sign, taken);
    code.place(known);
    code.call_through(Mem::Absolute(word));
    code.increment32(Mem::Thread(gate.left));
    Unknown { taken, known }
}

/// The way of a thread that nobody knows yet.
struct Unknown {
    taken: Label,
    known: Label,
}

impl Unknown {
    fn place(self, code: &mut Emitter, first: u64) {
        code.place(self.taken);
        code.call_through(Mem::Absolute(first));
        code.jump_to(self.known);
    }
}

/// What is called when a hooked function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// `extern "C" fn(cell: *mut u64, results: *mut Results)`: puts the return address back into
    /// the cell, and runs the exit callbacks.
    pub leave: u64,
    /// What it, and what it calls, may not touch.
    pub preserve: Preserve,
}

/// The registers that a function leaves behind and a called function may change, in their order on
/// the stack. What a callback writes, the caller finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "named after the registers")]
pub struct Results {
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
}

/// Generates what hooked cells call when their function has returned.
#[must_use]
pub fn leave_trampoline(place: u64, leaving: &Leaving) -> Vec<u8> {
    let mut code = Emitter::at(place);
    for reg in CALLER_SAVED {
        code.push_register(reg);
    }
    code.lea(Reg::Rdi, Mem::Base(Reg::Rbp, 8));
    code.copy(Reg::Rsi, Reg::Rsp);
    let (bytes, alignment) = leaving.preserve.room();
    code.lea(Reg::Rsp, Mem::Base(Reg::Rsp, -bytes));
    code.align_stack(alignment);
    leaving.preserve.emit(&mut code, true);
    code.set64(Reg::Rax, leaving.leave);
    code.raw(&[0xff, 0xd0]); // call rax
    leaving.preserve.emit(&mut code, false);
    code.lea(Reg::Rsp, Mem::Base(Reg::Rbp, -8 - 8 * CALLER_SAVED.len() as i32));
    for reg in CALLER_SAVED.into_iter().rev() {
        code.pop_register(reg);
    }
    code.ret();
    code.finish()
}

/// For each offset in a cell, how a frame with its program counter there is unwound: in the low
/// five bits the distance from `rsp` to `S + 8`, and `IN_SLOT`, `PUSHED`.
#[must_use]
pub fn hooked_phases() -> [u8; HOOKED_BYTES as usize] {
    let mut phases = [0; HOOKED_BYTES as usize];
    let mut from = 0;
    for (end, phase) in PHASES {
        phases[from..end].fill(phase);
        from = end;
    }
    phases
}

/// The return address is in the slot of `S`, not in `S`.
pub(super) const IN_SLOT: u8 = 0x80;
/// The caller's `rbp` is at `S - 8`.
pub(super) const PUSHED: u8 = 0x20;

/// Where phases end; each instruction belongs to the phase in which it begins.
const PHASES: [(usize, u8); 9] = [
    (9, 8),
    (41, 16 | PUSHED),
    (52, 8),
    (63, IN_SLOT),
    (64, 8 | IN_SLOT),
    (96, 16 | IN_SLOT | PUSHED),
    (103, 8),
    (114, 16 | PUSHED),
    (128, 16 | IN_SLOT | PUSHED),
];
