//! What generated code needs of a thread: the first words of its block, found through one word
//! of thread-local storage (zero in a new thread).

/// `u64`: bytes ever reserved in the ring.
pub const BLOCK_CURSOR: usize = 0;
/// `u64`: where the slow path is due.
pub const BLOCK_LIMIT: usize = 8;
/// `u64`: bytes of the ring minus one.
pub const BLOCK_MASK: usize = 16;
/// `u64`: address of the ring.
pub const BLOCK_BASE: usize = 24;
/// Bytes of a block; the rest is the agent's own.
pub const BLOCK_BYTES: u64 = 64;
