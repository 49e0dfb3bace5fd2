//! Cells of generated code, and the address ranges in the agent that hold them.
//!
//! The agent reserves three executable ranges of addresses (nothing in the file); generated code
//! is mapped over them. One static unwind rule covers each range, so the rule must be able to
//! read everything from the program counter and the cell: hence the fixed layouts below. They
//! are repeated as numbers in the agent's unwind rules (`ranges.rs`) and tested against them.

/// Bytes of a thunk cell; a power of two, and cells are aligned to it.
pub const THUNK_BYTES: u64 = 128;
/// First program counter at which the return address lies in the slot: just past the `pop`.
pub const IN_SLOT_FIRST: u64 = 0x0f;
/// Last such program counter: that of the `push` which brings it back.
pub const IN_SLOT_LAST: u64 = 0x23;
/// Where the thunk goes on when the frame is not hooked (tail calls, entry-only sites).
pub const UNHOOKED: u64 = 0x2e;
/// Where the trampoline for entries returns to in a hooked thunk.
pub const AFTER_ENTER: u64 = 0x0a;
/// Where the trampoline for exits returns to.
pub const AFTER_LEAVE: u64 = IN_SLOT_LAST;
/// Offset of the site index (`u32`).
pub const THUNK_SITE: u64 = 0x38;
/// Offset of the word that names the site's probes (`u32`), see [`crate::probe`]; 0: none.
pub const THUNK_PROBES: u64 = 0x3c;
/// Offset of the address of the slot table (`u64`), for the unwind rule.
pub const THUNK_SLOTS: u64 = 0x40;

/// Bytes of a cell that holds a relocated prologue.
pub const RELOCATED_BYTES: u64 = 128;
/// How many of them may be code, from offset 0.
pub const RELOCATED_CODE: u64 = 56;
/// Offset of the function's address (`u64`).
pub const RELOCATED_FUNCTION: u64 = 56;
/// Offset of the map: for each code byte, the offset in the function whose unwind row holds.
pub const RELOCATED_MAP: u64 = 72;

/// Address space reserved for thunks.
pub const THUNK_RANGE: u64 = 64 << 20;
/// Address space reserved for relocated prologues.
pub const RELOCATED_RANGE: u64 = 64 << 20;
/// Address space reserved for trampolines and gates.
pub const TRAMPOLINE_RANGE: u64 = 32 << 20;
/// Sites that fit into the ranges.
pub const CELLS: u64 = THUNK_RANGE / THUNK_BYTES;

/// A slot table entry covers this many bits of stack address: 16 MiB.
pub const SLOT_SHIFT: u32 = 24;
/// Entries of the slot table: 47 bits of address.
pub const SLOT_ENTRIES: usize = 1 << (47 - SLOT_SHIFT);
