//! A site's own code, for callbacks on entry.

use super::Callback;
use super::body::{Body, FUNCTION, Function};
use crate::emit::{Emitter, Reg};
use crate::relocate::{RelocateError, Relocated, relocate};

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
    /// Full registers are what shared trampolines are for.
    #[error("a callback that wants full registers cannot be called by the thunk itself")]
    FullRegisters,
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

/// The thunk of a site whose callbacks are called by a shared trampoline, which must be within
/// reach; and, with `direct`, by caller-supplied code afterwards, as in [`direct_thunk`].
///
/// # Errors
/// When the displaced instructions cannot be moved.
pub fn entry_thunk(
    place: u64,
    trampoline: u64,
    direct: Option<u64>,
    displaced: &Displaced<'_>,
) -> Result<EntryThunk, ThunkError> {
    let mut code = Emitter::at(place);
    let function = code.here();
    code.raw(&displaced.function.to_le_bytes());
    let entry = code.here();
    begin(&mut code);
    code.call(trampoline);
    debug_assert_eq!(code.here().wrapping_add_signed(FUNCTION.into()), function);
    code.pop_register(Reg::Rbp);
    let mut body = Body::new(code, &[], Function::FromThunk);
    if let Some(direct) = direct {
        body.call_function(direct);
    }
    finish(body, place, entry, displaced)
}

/// The thunk of a site whose set is called by the thunk itself: the quickest form, and the
/// largest.
///
/// # Errors
/// When the displaced instructions cannot be moved, or a callback wants full registers.
pub fn inline_thunk(
    place: u64,
    set: &[Callback],
    displaced: &Displaced<'_>,
) -> Result<EntryThunk, ThunkError> {
    if set.iter().any(|callback| callback.save_regs) {
        return Err(ThunkError::FullRegisters);
    }
    let mut code = Emitter::at(place);
    begin(&mut code);
    let mut body = Body::new(code, set, Function::Known(displaced.function));
    body.with_caller_saved(-9 * 8);
    body.code.pop_register(Reg::Rbp);
    finish(body, place, place, displaced)
}

/// The thunk of a site with caller-supplied code, which is called as the kernel calls direct
/// trampolines: all registers as on entry to the function, `[rsp]` the address where the function
/// goes on, `[rsp + 8]` the function's own return address.
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
    let mut body = Body::new(Emitter::at(place), &[], Function::FromThunk);
    body.call_function(direct);
    finish(body, place, place, displaced)
}

/// A frame as functions with a frame pointer have it.
fn begin(code: &mut Emitter) {
    code.push_register(Reg::Rbp);
    code.copy(Reg::Rbp, Reg::Rsp);
}

/// Appends the displaced instructions, and what lies behind all code.
fn finish(
    mut body: Body<'_>,
    place: u64,
    entry: u64,
    displaced: &Displaced<'_>,
) -> Result<EntryThunk, ThunkError> {
    let here = body.code.here();
    let Displaced { address, bytes, resume, .. } = *displaced;
    let relocated = relocate(bytes, address, resume, here, usize::from(u8::MAX))?;
    body.code.raw(&relocated.code);
    let code = body.finish();
    let offset = |address: u64| (address - place) as usize;
    Ok(EntryThunk { code, entry: offset(entry), body: offset(here), relocated })
}
