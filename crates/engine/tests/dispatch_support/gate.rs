//! A thread's counts, and thunks' way to a trampoline past them.

use super::arena::Arena;
use sledge_engine::dispatch::Gate;
use std::arch::asm;
use std::cell::Cell;

/// Set in a thread that nobody knows yet.
const UNKNOWN: u32 = 1 << 31;

/// What a thread counts.
#[repr(C)]
struct Counts {
    entered: Cell<u32>,
    left: Cell<u32>,
    /// How often it was made known.
    known: Cell<u32>,
}

thread_local! {
    static COUNTS: Counts = const {
        Counts { entered: Cell::new(UNKNOWN), left: Cell::new(0), known: Cell::new(0) }
    };
}

/// From the thread pointer; the same in all threads, since the program's own thread-local storage
/// lies below it.
pub(crate) fn thread_offset(of: *const u8) -> i32 {
    let pointer: u64;
    // SAFETY: the first word at the thread pointer is its own address.
    unsafe { asm!("mov {}, fs:[0]", out(reg) pointer, options(readonly, nostack)) };
    let offset = (of.addr() as u64).wrapping_sub(pointer).cast_signed();
    i32::try_from(offset).expect("static storage")
}

fn offset() -> i32 {
    COUNTS.with(|counts| thread_offset(std::ptr::from_ref(counts).cast()))
}

/// Offset of the count of those that left.
pub(crate) fn left() -> i32 {
    offset() + 4
}

/// A gate whose cell holds this address, of a trampoline or of a [`sledge_engine::dispatch::Lone`].
pub(crate) fn gate(arena: &mut Arena, trampoline: u64) -> Gate {
    let entered = offset();
    let first = arena.put(|_| make_known(entered));
    let cell = arena.put(|_| trampoline.to_le_bytes().to_vec());
    Gate { cell, entered, left: left(), first }
}

/// `and dword ptr fs:[entered], ~UNKNOWN; inc dword ptr fs:[known]; ret`.
fn make_known(entered: i32) -> Vec<u8> {
    let mut code = vec![0x64, 0x81, 0x24, 0x25];
    code.extend(entered.to_le_bytes());
    code.extend((!UNKNOWN).to_le_bytes());
    code.extend([0x64, 0xff, 0x04, 0x25]);
    code.extend((entered + 8).to_le_bytes());
    code.push(0xc3);
    code
}

/// So many calls came through this thread's gate; all are out, and it was made known once.
#[track_caller]
pub(crate) fn all_left() -> u32 {
    COUNTS.with(|counts| {
        assert_eq!(counts.entered.get() & !UNKNOWN, counts.left.get(), "the counts agree");
        assert_eq!(counts.known.get(), u32::from(counts.entered.get() & UNKNOWN == 0));
        counts.left.get()
    })
}
