//! A site's own code, for callbacks on entry.

use super::body::{CALLER_SAVED, FUNCTION};
use crate::emit::{Condition, Emitter, Label, Mem, Reg};
use crate::relocate::{RelocateError, Relocated, relocate};
use std::mem::offset_of;
use std::sync::atomic::AtomicU64;

/// The instructions of a site that its patch displaces.
#[derive(Clone, Copy, Debug)]
pub struct Displaced<'a> {
    /// The function's own address, which callbacks are told.
    pub function: u64,
    /// Where the displaced bytes were; behind the function's `endbr64`, if it has one.
    pub address: u64,
    /// Whole instructions.
    pub bytes: &'a [u8],
    /// Where the function goes on behind them.
    pub resume: u64,
}

/// Why there is no thunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThunkError {
    /// The displaced instructions cannot be moved.
    #[error(transparent)]
    Relocate(#[from] RelocateError),
}

/// The code of a site.
#[derive(Clone, Debug)]
pub struct EntryThunk {
    /// For the place it was generated for.
    pub code: Vec<u8>,
    /// Where in it the patched site jumps to.
    pub entry: usize,
    /// Where in it the displaced instructions run: the function, without what is attached to it.
    pub body: usize,
    /// The displaced instructions, for threads that are found inside the patched bytes.
    pub relocated: Relocated,
}

/// How a thunk comes to its trampoline, and says that a thread is on the way.
///
/// Thunks are there for ever, trampolines come and go. A thread counts itself in *before* it reads
/// the cell, and out when it is back: who stores another trampoline in the cell, has every
/// processor take notice (`membarrier`), and then finds a thread whose two counts agree, knows
/// that this thread is not in the old trampoline and never will be. The counts never go back, so
/// hits that nest need no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Holds the address of the trampoline, aligned to 8 bytes; within reach of the thunk.
    pub cell: u64,
    /// Where a thread counts itself in: 4 bytes at this offset from the thread pointer (`fs`).
    /// The highest bit is set in a thread that nobody knows yet.
    pub entered: i32,
    /// Where it counts itself out: likewise 4 bytes.
    pub left: i32,
    /// Called by a thread that nobody knows yet, as trampolines are: makes it known, and clears
    /// the bit. Within reach of the thunk.
    pub first: u64,
}

/// The thunk of a site whose callbacks are called by a shared trampoline; and, with `direct`, by
/// caller-supplied code afterwards, as in [`direct_thunk`].
///
/// # Errors
/// When the displaced instructions cannot be moved.
pub fn entry_thunk(
    place: u64,
    gate: &Gate,
    direct: Option<u64>,
    displaced: &Displaced<'_>,
) -> Result<EntryThunk, ThunkError> {
    let (mut code, entry, unknown) = begin(place, gate, displaced);
    code.call_through(Mem::Absolute(gate.cell));
    debug_assert_eq!(code.here().wrapping_add_signed(FUNCTION.into()), place);
    code.increment32(Mem::Thread(gate.left));
    code.pop_register(Reg::Rbp);
    if let Some(cell) = direct {
        code.call_through(Mem::Absolute(cell));
    }
    let (body, relocated) = append(&mut code, displaced)?;
    unknown.place(&mut code);
    Ok(finish(code, place, entry, body, relocated))
}

/// A callback that a [`lone_thunk`] calls itself.
#[derive(Debug)]
#[repr(C)]
pub struct Lone {
    /// Its address: changed by one store.
    pub function: AtomicU64,
    /// Passed as ops.
    pub data: u64,
}

/// The thunk of a site with one callback and nothing else: calls it without a trampoline, which
/// saves a call and a return. The cell of its gate holds the address of a [`Lone`], under the same
/// rules as that of a trampoline.
///
/// For a callback that asks for no registers and has no guard and no thread filter, and for which
/// nothing but general-purpose registers has to be saved ([`Preserve::None`](super::Preserve)).
///
/// # Errors
/// When the displaced instructions cannot be moved.
pub fn lone_thunk(
    place: u64,
    gate: &Gate,
    displaced: &Displaced<'_>,
) -> Result<EntryThunk, ThunkError> {
    let (mut code, entry, unknown) = begin(place, gate, displaced);
    for reg in CALLER_SAVED {
        code.push_register(reg);
    }
    code.load(Reg::Rax, Mem::Absolute(gate.cell));
    code.load(Reg::Rdi, Mem::Absolute(place));
    code.load(Reg::Rsi, Mem::Base(Reg::Rbp, 8));
    code.load(Reg::Rdx, Mem::Base(Reg::Rax, offset_of!(Lone, data) as i32));
    code.clear(Reg::Rcx);
    code.align_stack(16);
    code.call_through(Mem::Base(Reg::Rax, offset_of!(Lone, function) as i32));
    code.lea(Reg::Rsp, Mem::Base(Reg::Rbp, -8 * CALLER_SAVED.len() as i32));
    for reg in CALLER_SAVED.into_iter().rev() {
        code.pop_register(reg);
    }
    code.increment32(Mem::Thread(gate.left));
    code.pop_register(Reg::Rbp);
    let (body, relocated) = append(&mut code, displaced)?;
    unknown.place(&mut code);
    Ok(finish(code, place, entry, body, relocated))
}

/// The thunk of a site with caller-supplied code, whose address is in the cell `direct`, aligned
/// to 8 bytes and within reach. It is called as the kernel calls direct trampolines: all registers
/// as on entry to the function, `[rsp]` the address where the function goes on, `[rsp + 8]` the
/// function's own return address.
///
/// The code may return, and the function runs; or call `[rsp]` with arguments and a return address
/// of its own and see the result; or drop `[rsp]` and return to the function's caller. It
/// preserves what the function and its caller need. Its bytes are never changed.
///
/// # Errors
/// When the displaced instructions cannot be moved.
pub fn direct_thunk(
    place: u64,
    direct: u64,
    displaced: &Displaced<'_>,
) -> Result<EntryThunk, ThunkError> {
    let mut code = Emitter::at(place);
    code.call_through(Mem::Absolute(direct));
    let (body, relocated) = append(&mut code, displaced)?;
    Ok(finish(code, place, place, body, relocated))
}

/// The function's address, and behind it the entry: a frame as functions with a frame pointer have
/// it, in which the thread counts itself in.
fn begin(place: u64, gate: &Gate, displaced: &Displaced<'_>) -> (Emitter, u64, Unknown) {
    let mut code = Emitter::at(place);
    code.raw(&displaced.function.to_le_bytes());
    let entry = code.here();
    let (taken, known) = (code.label(), code.label());
    code.push_register(Reg::Rbp);
    code.copy(Reg::Rbp, Reg::Rsp);
    code.increment32(Mem::Thread(gate.entered));
    code.branch(Condition::Sign, taken);
    code.place(known);
    (code, entry, Unknown { taken, known, first: gate.first })
}

/// The way of a thread that nobody knows yet: behind all else, since it is taken once.
struct Unknown {
    taken: Label,
    known: Label,
    first: u64,
}

impl Unknown {
    fn place(self, code: &mut Emitter) {
        code.place(self.taken);
        code.call(self.first);
        code.jump_to(self.known);
    }
}

/// Appends the displaced instructions; says where they are.
fn append(
    code: &mut Emitter,
    displaced: &Displaced<'_>,
) -> Result<(u64, Relocated), RelocateError> {
    let Displaced { address, bytes, resume, .. } = *displaced;
    let here = code.here();
    let relocated = relocate(bytes, address, resume, here, usize::from(u8::MAX))?;
    code.raw(&relocated.code);
    Ok((here, relocated))
}

fn finish(code: Emitter, place: u64, entry: u64, body: u64, relocated: Relocated) -> EntryThunk {
    let offset = |address: u64| (address - place) as usize;
    EntryThunk { entry: offset(entry), body: offset(body), code: code.finish(), relocated }
}
