//! How the controller enters an agent that no loader brought in.

/// Owner of the agent's notes, with the terminating zero.
pub const NOTE_OWNER: &[u8; 7] = b"sledge\0";
/// Type of the note whose descriptor, four bytes, is the distance from itself to the entry.
pub const NOTE_ENTRY: u32 = 1;
/// Type of the note whose descriptor, four bytes, is the distance from itself to the `syscall`
/// instruction behind which a thread of the agent's own begins.
pub const NOTE_THREAD: u32 = 2;
/// What `r15` holds when the entry has done its work and stops the thread.
pub const FINISHED: u64 = u64::from_le_bytes(*b"finished");
