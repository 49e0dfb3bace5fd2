//! The shared segment of one traced process: header, thread entries, rings.
//!
//! ```text
//! 0                 header (one page)
//! 4096              thread entries, THREAD_BYTES each
//! ring_offset(..)   rings, ring_bytes each (a power of two, whole pages)
//! probes_offset(..) programs of probes, see `probe`
//! ```
//!
//! The agent writes records and thread entries, the controller writes `tail`, `closed` and
//! `sleeping`. Neither trusts the other: the controller takes nothing from here as an address or
//! a length, the agent waits for nothing without a limit.

/// First word of every segment: `sledge\0\1`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"sledge\0\x01");

/// `u64`: [`MAGIC`].
pub const HEADER_MAGIC: usize = 0;
/// `u32`: [`crate::VERSION`].
pub const HEADER_VERSION: usize = 8;
/// `u32`: not 0 once the controller stopped reading: nobody waits for it any more.
pub const HEADER_CLOSED: usize = 16;
/// `u32`: futex; the agent counts it up and wakes it when a ring wants reading.
pub const HEADER_DOORBELL: usize = 20;
/// `u32`: not 0 while the controller sleeps on the doorbell.
pub const HEADER_SLEEPING: usize = 24;
/// `u32`: what to do when a ring is full, see [`Full`].
pub const HEADER_FULL: usize = 28;
/// `u64`: threads that found no ring.
pub const HEADER_RINGLESS: usize = 32;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 4096;

/// `u32`: see [`ThreadState`].
pub const THREAD_STATE: usize = 0;
/// `u32`: thread id.
pub const THREAD_TID: usize = 4;
/// `u64`: time stamp counter when the thread was first seen.
pub const THREAD_STARTED: usize = 8;
/// `u64`: bytes of the ring that were read, ever; written by the controller.
pub const THREAD_TAIL: usize = 16;
/// `u32`: not 0 while the thread waits for `tail` to move.
pub const THREAD_WAITING: usize = 24;
/// `u32`: low half of `tail` again, as the futex to wait on.
pub const THREAD_FUTEX: usize = 28;
/// `u64`: records that were dropped and that no [`LOST_SITE`] record tells of yet.
pub const THREAD_LOST: usize = 32;
/// `u64`: time stamp counter of the first of them.
pub const THREAD_LOST_SINCE: usize = 40;
/// 16 bytes: the thread's name, zero-padded.
pub const THREAD_NAME: usize = 64;
/// Bytes of a thread entry.
pub const THREAD_BYTES: usize = 128;

/// Rings a segment has room for.
pub const MAX_RINGS: usize = 1024;
/// The smallest ring.
pub const MIN_RING_BYTES: u64 = 64 << 10;
/// The largest.
pub const MAX_RING_BYTES: u64 = 1 << 30;

/// The site index of the two records that stand for a lost stretch: `Enter` with the time of the
/// first lost event and their number as `cell`, then `Exit` with the time of the last.
pub const LOST_SITE: u32 = crate::record::MAX_SITES - 1;

/// State of a thread entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ThreadState {
    /// Nobody's.
    Free = 0,
    /// Claimed, its fields are being written.
    Claimed = 1,
    /// A thread's.
    Live = 2,
}

/// What a thread does when its ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Full {
    /// Waits for the controller, as long as that makes progress.
    Wait = 0,
    /// Drops events and counts them.
    Drop = 1,
}

/// Offset of a thread's entry.
#[must_use]
pub const fn thread_offset(index: usize) -> usize {
    HEADER_BYTES + index * THREAD_BYTES
}

/// Offset of a thread's ring.
#[must_use]
pub const fn ring_offset(ring_count: usize, ring_bytes: u64, index: usize) -> u64 {
    let entries = (thread_offset(ring_count) + 4095) & !4095;
    entries as u64 + index as u64 * ring_bytes
}

/// Offset of the programs of probes.
#[must_use]
pub const fn probes_offset(ring_count: usize, ring_bytes: u64) -> u64 {
    ring_offset(ring_count, ring_bytes, ring_count)
}

/// Bytes of a whole segment.
#[must_use]
pub const fn segment_bytes(ring_count: usize, ring_bytes: u64) -> u64 {
    probes_offset(ring_count, ring_bytes) + crate::probe::AREA_BYTES
}
