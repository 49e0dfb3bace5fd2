//! What every trampoline does: save, call the callbacks of a set, restore.

use super::{Callback, Guard, Preserve, Target};
use crate::emit::{Condition, Emitter, Label, Mem, Reg, reaches};

/// Registers that a called function may change, in the order of pushing.
pub(super) const CALLER_SAVED: [Reg; 9] =
    [Reg::Rdi, Reg::Rsi, Reg::Rdx, Reg::Rcx, Reg::Rax, Reg::R8, Reg::R9, Reg::R10, Reg::R11];
/// The others but `rbp`, in the order of pushing from there on.
const LAST_SAVED: [Reg; 4] = [Reg::R12, Reg::R13, Reg::R14, Reg::R15];

/// From the address that a trampoline returns to, back to the function's address in the thunk.
pub(super) const FUNCTION: i32 = -32;

/// The frame of a trampoline: distances from `rbp`.
mod frame {
    /// The address in the thunk that it returns to.
    pub(super) const RETURN: i32 = -8;
    /// Caller-saved registers, where they are all that is saved.
    pub(super) const CALLER_SAVED: i32 = RETURN - 9 * 8;
    /// Behind them, what [`super::Hook::enter`] returned.
    pub(super) const HOOKED: i32 = CALLER_SAVED - 8;
    /// Fields of `Registers`.
    pub(super) const RSP: i32 = RETURN - 8;
    pub(super) const RFLAGS: i32 = RSP - 8;
    pub(super) const RIP: i32 = RFLAGS - 8;
    pub(super) const REGISTERS: i32 = RETURN - 18 * 8;
}

/// Generates the trampoline of a set, to be called by thunks.
///
/// `redirected` is where [`redirection`] lies, which sets with full registers need.
#[must_use]
pub fn entry_trampoline(place: u64, set: &[Callback], redirected: u64) -> Vec<u8> {
    trampoline(place, set, None, redirected)
}

/// Generates the trampoline of a set with ops that see exits, to be called by a
/// [`hooked_cell`](super::hooked_cell): like [`entry_trampoline`], and calls `hook` at the end.
#[must_use]
pub fn hook_trampoline(place: u64, set: &[Callback], hook: &Hook, redirected: u64) -> Vec<u8> {
    trampoline(place, set, Some(*hook), redirected)
}

fn trampoline(place: u64, set: &[Callback], hook: Option<Hook>, redirected: u64) -> Vec<u8> {
    let mut body = Body::new(Emitter::at(place), set, hook);
    let asks = |hook: Hook| hook.save_regs;
    if hook.is_some_and(asks) || set.iter().any(|callback| callback.save_regs) {
        body.with_registers(redirected);
    } else {
        body.with_caller_saved();
    }
    body.finish()
}

/// What decides whether the return of a call is hooked, and notes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `extern "C" fn(ip: u64, parent: u64, data: *const c_void, registers: *mut Registers,
    /// cell: *mut u64) -> u32`, whose `cell` is where the return address lies. Not 0: hooked.
    pub enter: u64,
    /// Passed as it is.
    pub data: u64,
    /// Whether it gets registers.
    pub save_regs: bool,
    /// What it, and what it calls, may not touch.
    pub preserve: Preserve,
}

/// Generates the way out of a trampoline for calls that a callback sent elsewhere: counts the
/// thread out, at `left` from the thread pointer, and jumps. Permanent, like thunks; one serves
/// all.
#[must_use]
pub fn redirection(place: u64, left: i32) -> Vec<u8> {
    let mut code = Emitter::at(place);
    code.increment32(Mem::Thread(left));
    code.pop_register(Reg::Rbp);
    code.jump_through(Mem::Base(Reg::Rsp, frame::RIP - 8));
    code.finish()
}

/// Code for one set under construction.
struct Body<'a> {
    code: Emitter,
    set: &'a [Callback],
    hook: Option<Hook>,
    preserve: Preserve,
    /// Addresses that are out of reach of a direct call.
    far: Vec<(Label, u64)>,
    /// Guards that were found taken: count, and go on.
    busy: Vec<(Label, Guard, Label)>,
}

impl<'a> Body<'a> {
    fn new(code: Emitter, set: &'a [Callback], hook: Option<Hook>) -> Self {
        let preserve = set.iter().map(|callback| callback.preserve);
        let preserve = preserve.chain(hook.map(|hook| hook.preserve));
        let preserve = preserve.fold(Preserve::None, Preserve::and);
        Self { code, set, hook, preserve, far: Vec::new(), busy: Vec::new() }
    }

    /// Calls the set, with caller-saved registers kept.
    fn with_caller_saved(&mut self) {
        for reg in CALLER_SAVED {
            self.code.push_register(reg);
        }
        if self.hook.is_some() {
            self.code.push_register(Reg::Rax);
        }
        self.calls(None, frame::HOOKED);
        self.say_hooked(frame::HOOKED);
        self.code.lea(Reg::Rsp, Mem::Base(Reg::Rbp, frame::CALLER_SAVED));
        self.pop_caller_saved();
        self.code.ret();
    }

    /// The carry flag tells the thunk whether the return is hooked; nothing on the way back changes
    /// it.
    fn say_hooked(&mut self, place: i32) {
        if self.hook.is_some() {
            self.code.load32(Reg::Rax, Mem::Base(Reg::Rbp, place));
            self.code.raw(&[0xf7, 0xd8]); // neg eax
        } else {
            self.code.raw(&[0xf8]); // clc
        }
    }

    fn pop_caller_saved(&mut self) {
        for reg in CALLER_SAVED.into_iter().rev() {
            self.code.pop_register(reg);
        }
    }

    /// Calls the set with full registers, and returns to the thunk; or, if a callback wants to go
    /// elsewhere, to the redirection, which finds the address where it is, below the stack.
    fn with_registers(&mut self, redirected: u64) {
        // Places for `rsp` and, behind the flags, for `rip`.
        self.code.push_register(Reg::Rbp);
        self.code.raw(&[0x9c]); // pushfq
        self.code.push_register(Reg::Rbp);
        for reg in CALLER_SAVED.into_iter().chain([Reg::Rbx]) {
            self.code.push_register(reg);
        }
        self.code.push(Mem::Base(Reg::Rbp, 0));
        for reg in LAST_SAVED {
            self.code.push_register(reg);
        }
        self.code.lea(Reg::Rax, Mem::Base(Reg::Rbp, 8));
        self.code.store(Mem::Base(Reg::Rbp, frame::RSP), Reg::Rax);
        self.load_function(Reg::Rdi);
        self.code.store(Mem::Base(Reg::Rbp, frame::RIP), Reg::Rdi);
        // The place of the flags is only to be read, and read no more.
        self.calls(Some(frame::REGISTERS), frame::RFLAGS);
        let elsewhere = self.code.label();
        self.load_function(Reg::Rdi);
        self.code.compare(Reg::Rdi, Mem::Base(Reg::Rbp, frame::RIP));
        self.code.branch(Condition::NotZero, elsewhere);
        self.say_hooked(frame::RFLAGS);
        self.restore_registers();
        self.code.ret();
        self.code.place(elsewhere);
        self.code.set64(Reg::Rax, redirected);
        self.code.store(Mem::Base(Reg::Rbp, frame::RETURN), Reg::Rax);
        self.restore_registers();
        self.code.ret();
    }

    /// Leaves `rbp` to the thunk, but in its place the value that it is to have.
    fn restore_registers(&mut self) {
        self.code.lea(Reg::Rsp, Mem::Base(Reg::Rbp, frame::REGISTERS));
        for reg in LAST_SAVED.into_iter().rev() {
            self.code.pop_register(reg);
        }
        self.code.pop(Mem::Base(Reg::Rbp, 0));
        self.code.pop_register(Reg::Rbx);
        self.pop_caller_saved();
        self.code.lea(Reg::Rsp, Mem::Base(Reg::Rsp, 24));
    }

    fn calls(&mut self, registers: Option<i32>, hooked: i32) {
        let (bytes, alignment) = self.preserve.room();
        if bytes != 0 {
            self.code.lea(Reg::Rsp, Mem::Base(Reg::Rsp, -bytes));
        }
        self.code.align_stack(alignment);
        self.preserve.emit(&mut self.code, true);
        let set = self.set;
        for run in set.chunk_by(|a, b| (a.guard, a.threads) == (b.guard, b.threads)) {
            self.run(run, registers);
        }
        if let Some(hook) = self.hook {
            self.code.lea(Reg::R8, Mem::Base(Reg::Rbp, 8));
            self.arguments(hook.data, registers);
            self.call_function(hook.enter);
            self.code.store32(Mem::Base(Reg::Rbp, hooked), Reg::Rax);
        }
        self.preserve.emit(&mut self.code, false);
    }

    /// Callbacks under the same conditions.
    fn run(&mut self, run: &[Callback], registers: Option<i32>) {
        let (busy, after) = (self.code.label(), self.code.label());
        if let Some(threads) = run[0].threads {
            self.code.test8(Mem::Thread(threads.offset), threads.mask);
            self.code.branch(Condition::Zero, after);
        }
        if let Some(guard) = run[0].guard {
            self.code.compare_immediate32(Mem::Thread(guard.offset), 0);
            self.code.branch(Condition::NotZero, busy);
            self.code.store_immediate32(Mem::Thread(guard.offset), 1);
            self.busy.push((busy, guard, after));
        }
        for callback in run {
            self.call(callback, registers);
        }
        if let Some(guard) = run[0].guard {
            self.code.store_immediate32(Mem::Thread(guard.offset), 0);
        }
        self.code.place(after);
    }

    fn call(&mut self, callback: &Callback, registers: Option<i32>) {
        self.arguments(callback.ops, registers.filter(|_| callback.save_regs));
        match callback.target {
            Target::Function(function) => self.call_function(function),
            Target::Cell(cell) if reaches(self.code.here(), cell) => {
                self.code.call_through(Mem::Absolute(cell));
            }
            Target::Cell(cell) => {
                self.code.set64(Reg::Rax, cell);
                self.code.call_through(Mem::Base(Reg::Rax, 0));
            }
        }
    }

    fn arguments(&mut self, data: u64, registers: Option<i32>) {
        self.load_function(Reg::Rdi);
        self.code.load(Reg::Rsi, Mem::Base(Reg::Rbp, 8));
        address(&mut self.code, Reg::Rdx, data);
        match registers {
            Some(offset) => self.code.lea(Reg::Rcx, Mem::Base(Reg::Rbp, offset)),
            None => self.code.clear(Reg::Rcx),
        }
    }

    /// `call function`, through a literal if it is too far.
    fn call_function(&mut self, function: u64) {
        if reaches(self.code.here(), function) {
            self.code.call(function);
        } else {
            let literal = self.code.label();
            self.code.call_through_label(literal);
            self.far.push((literal, function));
        }
    }

    fn load_function(&mut self, reg: Reg) {
        self.code.load(reg, Mem::Base(Reg::Rbp, frame::RETURN));
        self.code.load(reg, Mem::Base(reg, FUNCTION));
    }

    /// What lies behind the code: paths seldom taken, and literals.
    fn finish(mut self) -> Vec<u8> {
        for (busy, guard, after) in self.busy {
            self.code.place(busy);
            self.code.increment32(Mem::Thread(guard.offset + 4));
            self.code.jump_to(after);
        }
        for (literal, value) in self.far {
            while !self.code.here().is_multiple_of(8) {
                self.code.raw(&[0xcc]);
            }
            self.code.place(literal);
            self.code.raw(&value.to_le_bytes());
        }
        self.code.finish()
    }
}

/// Loads a value that is probably an address, in few bytes.
fn address(code: &mut Emitter, reg: Reg, value: u64) {
    if let Ok(small) = u32::try_from(value) {
        code.set32(reg, small);
    } else if reaches(code.here(), value) {
        code.lea(reg, Mem::Absolute(value));
    } else {
        code.set64(reg, value);
    }
}
