//! Generate: trampolines that call callbacks, for a process that traces itself.
//!
//! A trampoline serves one *set* of callbacks: those that want the site, and no others. It is
//! straight-line code without a list and without a hash test, so a call costs what its own
//! callbacks cost, however many others are registered.
//!
//! ```text
//! site: jmp ─→ thunk: push rbp; mov rbp, rsp
//!                     inc entered; js unknown ─→ call first; jmp back
//!                     call [cell] ─→ trampoline: saves; calls callback after callback;
//!                                                restores; ret
//!                     inc left
//!                     pop rbp
//!                     the displaced instructions; jmp back behind the patch
//! ```
//!
//! Where a site has one callback that needs little, a thunk of another kind calls it itself, without a
//! trampoline ([`lone_thunk`]).
//!
//! Thunks, and what else has no owner, are permanent; trampolines come and go with their sets. The
//! counts tell when a trampoline has no thread in it: see [`Gate`].
//!
//! | set | ns over a plain call |
//! |---|---|
//! | one empty callback, by a trampoline | 3.1 |
//! | eight | 12.7 |
//! | one, with full registers | 6.2 |
//!
//! (`lea; ret` in a loop on an AMD EPYC of family 25; `examples/dispatch.rs` measures it again.)
//! A trampoline is left by `ret`, so that all calls and returns pair for the return predictor.
//!
//! # What survives
//! All general-purpose registers, always, including those that a called function may change:
//! compilers know what a local function leaves alone, and rely on it. Status flags do not survive:
//! thunks count, and no compiler keeps flags over a call. Vector registers survive according to [`Preserve`]. The control bits of MXCSR and of the x87 unit are the callee's to
//! preserve, by the calling convention, and so the callbacks'; the direction flag is clear on
//! entry to a function, the x87 stack empty, and a callback leaves them so. The stack is aligned
//! for callbacks even where the traced function's own is not.
//!
//! # Stacks
//! `rbp` is a frame pointer from the thunk's second instruction on, and the frame is that of a
//! function that the caller of the traced function called: walkers by frame pointer see the
//! callback, then that caller. The rule for unwind tables, between `mov rbp, rsp` and `pop rbp`,
//! is `CFA = rbp + 16`, and `CFA = rsp + 8` around it.

mod body;
mod hooked;
mod preserve;
mod promise;
mod thunk;
mod unwind;

pub use body::{Hook, entry_trampoline, hook_trampoline, redirection};
pub use hooked::{
    HOOKED_BACK, HOOKED_BYTES, HOOKED_ENTRY, HOOKED_RETURN, HookedGate, Leaving, Results,
    hooked_cell, hooked_phases, leave_trampoline,
};
pub use preserve::{Preserve, XsaveArea};
pub use promise::promise;
pub use thunk::{
    Displaced, EntryThunk, Gate, Lone, ThunkError, direct_thunk, entry_thunk, lone_thunk,
};
pub use unwind::{description, hooked_frames, trampoline_frames};

/// The address of a callback:
/// `extern "C" fn(ip: u64, parent: u64, ops: *const c_void, registers: *mut Registers)`.
///
/// `ip` is the traced function, `parent` the address it returns to. `registers` is null unless
/// the callback asked for them. A callback does not unwind and does not `longjmp` out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This function, called directly where it is within reach.
    Function(u64),
    /// The function whose address is at this address, aligned to 8 bytes: changed by one store,
    /// at the same price.
    Cell(u64),
}

/// One callback of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback {
    /// What is called.
    pub target: Target,
    /// Passed as it is.
    pub ops: u64,
    /// Whether the callback gets [`Registers`], and may change them.
    pub save_regs: bool,
    /// What the callback may not touch, or must find saved.
    pub preserve: Preserve,
    /// Whether the callback is left out while this thread is in a callback already.
    pub guard: Option<Guard>,
    /// Calls of other threads are left out.
    pub threads: Option<ThreadFilter>,
}

/// Where a thread notes that it is in a callback: 8 bytes at this offset from the thread pointer
/// (`fs`), aligned to 4, zero in a new thread.
///
/// The first four bytes are the note; the other four count the hits at which guarded callbacks
/// were left out, so that nothing is lost in silence. All guarded callbacks share the note, as
/// the kernel's do: a callback's own calls reach no guarded callback, and neither do calls from a
/// signal handler that interrupted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// From the thread pointer.
    pub offset: i32,
}

/// Which threads a callback wants: those in which one of these bits is set in the byte at this
/// offset from the thread pointer (`fs`). Who sets the filter keeps the bits up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadFilter {
    /// From the thread pointer.
    pub offset: i32,
    /// The bits.
    pub mask: u8,
}

/// A traced function's registers on its entry, in the order of the kernel's `pt_regs` (without
/// `orig_rax`, `cs` and `ss`).
///
/// What a callback writes, the function starts with; later callbacks of the set see it. `rsp` and
/// `rflags` are only to be read; the status flags are not the caller's, but what the thunk left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
#[expect(missing_docs, reason = "named after the registers")]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The traced function. Another address here is where execution goes on instead, with these
    /// registers and the function's own return address on the stack.
    pub rip: u64,
    pub rflags: u64,
    /// Points to the return address.
    pub rsp: u64,
}

#[cfg(test)]
mod tests;
