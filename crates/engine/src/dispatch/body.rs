//! What every trampoline does: save, call the callbacks of a set, restore.

use super::{Callback, Guard, Target};
use crate::emit::{Condition, Emitter, Label, Mem, Reg, reaches};

/// Vector state that has to survive a callback. In a set, the most demanding callback decides.
///
/// The default is safe for callbacks of which nothing is known: all vector registers of the
/// processor that runs this. Costs in ns, measured as the table of [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preserve {
    /// Nothing is saved: the callback promises to touch none, nor to call what does.
    /// [`super::promise`] finds out, for simple callbacks.
    None,
    /// `xmm0`–`xmm15`, +2: the callback, and what it calls, executes no AVX instruction. (Those
    /// clear the upper halves; the C library's `memcpy` is full of them.)
    Xmm,
    /// `ymm0`–`ymm15`: for processors without AVX-512.
    Ymm,
    /// `zmm0`–`zmm31` and the masks, +8: needs AVX-512F and BW; takes 2 KiB of stack.
    Zmm,
    /// What `xsave` saves, +140: for state that the others leave out (x87, MMX, and whatever
    /// processors may come to have).
    Xsave(XsaveArea),
}

/// How to use `xsave` on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XsaveArea {
    /// State components: at least those of all vector registers there are.
    pub mask: u64,
    /// Bytes that they take.
    pub bytes: u32,
    /// Whether `xsavec` is there.
    pub compacted: bool,
}

impl Default for Preserve {
    fn default() -> Self {
        Self::all(
            is_x86_feature_detected!("avx"),
            is_x86_feature_detected!("avx512f"),
            is_x86_feature_detected!("avx512bw"),
        )
    }
}

impl Preserve {
    /// All vector registers of a processor with these features.
    #[must_use]
    pub fn all(avx: bool, avx512f: bool, avx512bw: bool) -> Self {
        match (avx, avx512f, avx512bw) {
            (_, true, true) => Self::Zmm,
            // The first such processors; no layout of theirs takes more.
            (_, true, false) => {
                Self::Xsave(XsaveArea { mask: 0xe7, bytes: 2688, compacted: false })
            }
            (true, false, _) => Self::Ymm,
            (false, false, _) => Self::Xmm,
        }
    }

    /// What satisfies both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Xsave(a), Self::Xsave(b)) => Self::Xsave(XsaveArea {
                mask: a.mask | b.mask,
                bytes: a.bytes.max(b.bytes),
                compacted: a.compacted && b.compacted,
            }),
            _ if self.rank() < other.rank() => other,
            _ => self,
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Xmm => 1,
            Self::Ymm => 2,
            Self::Zmm => 3,
            Self::Xsave(_) => 4,
        }
    }

    /// Bytes of stack, and their alignment.
    fn room(self) -> (i32, i8) {
        match self {
            Self::None => (0, 16),
            Self::Xmm => (16 * 16, 16),
            Self::Ymm => (16 * 32, 32),
            Self::Zmm => (32 * 64 + 8 * 8, 64),
            Self::Xsave(area) => (area.bytes.next_multiple_of(64).cast_signed(), 64),
        }
    }
}

/// Registers that a called function may change, in the order of pushing.
const CALLER_SAVED: [Reg; 9] =
    [Reg::Rdi, Reg::Rsi, Reg::Rdx, Reg::Rcx, Reg::Rax, Reg::R8, Reg::R9, Reg::R10, Reg::R11];
/// The others but `rbp`, in the order of pushing from there on.
const LAST_SAVED: [Reg; 4] = [Reg::R12, Reg::R13, Reg::R14, Reg::R15];

/// From the address that a trampoline returns to, back to the function's address in the thunk.
pub(super) const FUNCTION: i32 = -17;

/// The frame of a trampoline of its own: distances from `rbp`.
mod shared {
    /// The address in the thunk that it returns to.
    pub(super) const RETURN: i32 = -8;
    /// Caller-saved registers, where they are all that is saved.
    pub(super) const CALLER_SAVED: i32 = RETURN - 9 * 8;
    /// Fields of `Registers`.
    pub(super) const RSP: i32 = RETURN - 8;
    pub(super) const RFLAGS: i32 = RSP - 8;
    pub(super) const RIP: i32 = RFLAGS - 8;
    pub(super) const REGISTERS: i32 = RETURN - 18 * 8;
}

/// Generates the trampoline of a set, to be called by its [`super::entry_thunk`]s.
#[must_use]
pub fn entry_trampoline(place: u64, set: &[Callback]) -> Vec<u8> {
    let mut body = Body::new(Emitter::at(place), set, Function::FromThunk);
    if set.iter().any(|callback| callback.save_regs) {
        body.with_registers();
    } else {
        body.with_caller_saved(shared::CALLER_SAVED);
        body.code.ret();
    }
    body.finish()
}

/// Where a callback's first argument comes from.
#[derive(Clone, Copy)]
pub(super) enum Function {
    /// It is known.
    Known(u64),
    /// The thunk that called has it.
    FromThunk,
}

/// Code for one set under construction.
pub(super) struct Body<'a> {
    pub(super) code: Emitter,
    set: &'a [Callback],
    preserve: Preserve,
    function: Function,
    /// Addresses that are out of reach of a direct call.
    far: Vec<(Label, u64)>,
    /// Guards that were found taken: count, and go on.
    busy: Vec<(Label, Guard, Label)>,
}

impl<'a> Body<'a> {
    pub(super) fn new(code: Emitter, set: &'a [Callback], function: Function) -> Self {
        let preserve = set.iter().map(|callback| callback.preserve);
        let preserve = preserve.fold(Preserve::None, Preserve::and);
        Self { code, set, preserve, function, far: Vec::new(), busy: Vec::new() }
    }

    /// Calls the set, with caller-saved registers down to `saved` from `rbp`.
    pub(super) fn with_caller_saved(&mut self, saved: i32) {
        for reg in CALLER_SAVED {
            self.code.push_register(reg);
        }
        self.calls(None);
        self.code.lea(Reg::Rsp, Mem::Base(Reg::Rbp, saved));
        self.pop_caller_saved();
    }

    fn pop_caller_saved(&mut self) {
        for reg in CALLER_SAVED.into_iter().rev() {
            self.code.pop_register(reg);
        }
    }

    /// Calls the set with full registers, and returns to the thunk or to where a callback wants.
    fn with_registers(&mut self) {
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
        self.code.store(Mem::Base(Reg::Rbp, shared::RSP), Reg::Rax);
        self.load_function(Reg::Rdi);
        self.code.store(Mem::Base(Reg::Rbp, shared::RIP), Reg::Rdi);
        self.calls(Some(shared::REGISTERS));
        let redirected = self.code.label();
        self.load_function(Reg::Rdi);
        self.code.compare(Reg::Rdi, Mem::Base(Reg::Rbp, shared::RIP));
        self.code.branch(Condition::NotZero, redirected);
        self.restore_registers();
        self.code.ret();
        self.code.place(redirected);
        self.redirect();
    }

    /// Leaves `rbp` to the thunk, but in its place the value that it is to have.
    fn restore_registers(&mut self) {
        self.code.lea(Reg::Rsp, Mem::Base(Reg::Rbp, shared::REGISTERS));
        for reg in LAST_SAVED.into_iter().rev() {
            self.code.pop_register(reg);
        }
        self.code.pop(Mem::Base(Reg::Rbp, 0));
        self.code.pop_register(Reg::Rbx);
        self.restore_flags();
        self.pop_caller_saved();
        self.code.lea(Reg::Rsp, Mem::Base(Reg::Rsp, 24));
    }

    /// Status flags, from `rax`: five times as quick as `popfq`. Nothing behind it changes them.
    fn restore_flags(&mut self) {
        self.code.load(Reg::Rax, Mem::Base(Reg::Rbp, shared::RFLAGS));
        self.code.raw(&[0x86, 0xc4]); // xchg al, ah: now ah = SF ZF AF PF CF, and al = .. OF ...
        self.code.raw(&[0xc0, 0xe8, 3]); // shr al, 3
        self.code.raw(&[0x24, 1]); // and al, 1
        self.code.raw(&[0x04, 0x7f]); // add al, 127: overflows if OF was set
        self.code.raw(&[0x9e]); // sahf
    }

    /// Goes to the address in `Registers::rip`, by the one `ret` that pairs with the thunk's call.
    fn redirect(&mut self) {
        self.restore_registers();
        self.code.push_register(Reg::Rax);
        // [rbp - 16] = rax; above it: the return into the thunk, and the value of rbp.
        self.code.load(Reg::Rax, Mem::Base(Reg::Rbp, 0));
        self.code.store(Mem::Base(Reg::Rbp, shared::RETURN), Reg::Rax);
        self.code.load(Reg::Rax, Mem::Base(Reg::Rbp, shared::RIP));
        self.code.store(Mem::Base(Reg::Rbp, 0), Reg::Rax);
        self.code.pop_register(Reg::Rax);
        self.code.pop_register(Reg::Rbp);
        self.code.ret();
    }

    fn calls(&mut self, registers: Option<i32>) {
        let (bytes, alignment) = self.preserve.room();
        if bytes != 0 {
            self.code.lea(Reg::Rsp, Mem::Base(Reg::Rsp, -bytes));
        }
        self.code.align_stack(alignment);
        self.vectors(true);
        let set = self.set;
        for run in set.chunk_by(|a, b| (a.guard, a.threads) == (b.guard, b.threads)) {
            self.run(run, registers);
        }
        self.vectors(false);
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
        self.load_function(Reg::Rdi);
        self.code.load(Reg::Rsi, Mem::Base(Reg::Rbp, 8));
        address(&mut self.code, Reg::Rdx, callback.ops);
        match registers.filter(|_| callback.save_regs) {
            Some(offset) => self.code.lea(Reg::Rcx, Mem::Base(Reg::Rbp, offset)),
            None => self.code.clear(Reg::Rcx),
        }
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

    /// `call function`, through a literal if it is too far.
    pub(super) fn call_function(&mut self, function: u64) {
        if reaches(self.code.here(), function) {
            self.code.call(function);
        } else {
            let literal = self.code.label();
            self.code.call_through_label(literal);
            self.far.push((literal, function));
        }
    }

    fn load_function(&mut self, reg: Reg) {
        match self.function {
            Function::Known(function) => address(&mut self.code, reg, function),
            Function::FromThunk => {
                self.code.load(reg, Mem::Base(Reg::Rbp, shared::RETURN));
                self.code.load(reg, Mem::Base(reg, FUNCTION));
            }
        }
    }

    /// Saves or restores vector state at `rsp`; changes `rax` and `rdx`.
    fn vectors(&mut self, save: bool) {
        let code = &mut self.code;
        match self.preserve {
            Preserve::None => {}
            Preserve::Xmm => (0..16).for_each(|n| {
                let place = Mem::Base(Reg::Rsp, 16 * i32::from(n));
                if save { code.store_xmm(place, n) } else { code.load_xmm(n, place) }
            }),
            Preserve::Ymm => {
                (0..16).for_each(|n| if save { code.store_ymm(n) } else { code.load_ymm(n) })
            }
            Preserve::Zmm => {
                (0..32).for_each(|n| if save { code.store_zmm(n) } else { code.load_zmm(n) });
                (0..8).for_each(|n| {
                    let place = 32 * 64 + 8 * i32::from(n);
                    if save { code.store_mask(place, n) } else { code.load_mask(n, place) }
                });
            }
            Preserve::Xsave(area) => xsave(code, area, save),
        }
    }

    /// What lies behind the code: paths seldom taken, and literals.
    pub(super) fn finish(mut self) -> Vec<u8> {
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

fn xsave(code: &mut Emitter, area: XsaveArea, save: bool) {
    let place = Mem::Base(Reg::Rsp, 0);
    if save {
        // The header, of which saving writes only a part.
        code.clear(Reg::Rdx);
        for word in 0..8 {
            code.store(Mem::Base(Reg::Rsp, 512 + 8 * word), Reg::Rdx);
        }
    }
    code.set32(Reg::Rax, area.mask as u32);
    code.set32(Reg::Rdx, (area.mask >> 32) as u32);
    match (save, area.compacted) {
        (true, true) => code.xsave_compacted(place),
        (true, false) => code.xsave(place),
        (false, _) => code.xrstor(place),
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
