//! The way in without a loader: the controller mapped this object raw into a static program.
//!
//! A note names the entry. The controller sends the program's first thread there, between two
//! instructions of its start-up code, and puts all general registers back afterwards; vector
//! and floating-point state is put back here.

use super::init;
use core::arch::{global_asm, naked_asm};
use sledge_wire::raw;

// The descriptor is the distance from itself to the entry.
global_asm!(
    ".pushsection .note.sledge,\"a\",@note",
    ".p2align 2",
    ".long 7, 4, {kind}",
    ".asciz \"sledge\"; .p2align 2",
    ".long {entry} - .",
    ".popsection",
    kind = const raw::NOTE_ENTRY,
    entry = sym entry,
);

/// Entered by a change of `rip`, with `rdi` the address of an environment of ours.
///
/// It ends by stopping itself, so that no signal's disposition is touched; what tells this stop
/// from any other is the mark in `r15`.
#[unsafe(naked)]
unsafe extern "C" fn entry() {
    naked_asm!(
        "cld",
        "sub rsp, 512",
        "and rsp, -64",
        "fxsave64 [rsp]",
        "call {enter}",
        "fxrstor64 [rsp]",
        "mov eax, 39",
        "syscall",
        "mov edi, eax",
        "mov eax, 186",
        "syscall",
        "mov esi, eax",
        "mov edx, 19",
        "movabs r15, {mark}",
        "mov eax, 234",
        "syscall",
        "ud2",
        enter = sym enter,
        mark = const raw::FINISHED,
    )
}

/// # Safety
/// `environment` is an array of zero-terminated strings that a null ends, all writable.
unsafe extern "C" fn enter(environment: *mut *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { init::enter(environment) }
}
