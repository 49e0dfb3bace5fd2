//! How a thread finds its block where no loader gave this object a word of thread-local storage:
//! by its thread pointer, in a table; see `sledge_wire::attach::Known`.
//!
//! Whoever comes here is the thread itself, with its signals blocked; other threads change other
//! entries.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};
use sledge_wire::attach::{KNOWN_BITS, KNOWN_ENTRIES, KNOWN_FACTOR, KNOWN_PROBES};

/// An entry; the fields are those of `sledge_wire::attach::Known`.
#[repr(C)]
struct Entry {
    pointer: AtomicU64,
    tid: AtomicU64,
    block: AtomicU64,
    unused: u64,
}

struct Table(UnsafeCell<[Entry; KNOWN_ENTRIES]>);
// SAFETY: atomics.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new(
    [const {
        Entry {
            pointer: AtomicU64::new(0),
            tid: AtomicU64::new(0),
            block: AtomicU64::new(0),
            unused: 0,
        }
    }; KNOWN_ENTRIES],
));

/// Where from the thread pointer the thread's id lies; 0 while a loader's word is used.
static TID_OFFSET: AtomicU64 = AtomicU64::new(0);

/// Address of the table.
pub(crate) fn table() -> u64 {
    TABLE.0.get().addr() as u64
}

/// From now on threads are found here.
pub(crate) fn use_table(tid_offset: u64) {
    TID_OFFSET.store(tid_offset, Ordering::Relaxed);
}

/// Whether threads are found here.
pub(crate) fn in_use() -> bool {
    TID_OFFSET.load(Ordering::Relaxed) != 0
}

/// The id of the calling thread, as its C library noted it.
fn thread_id() -> u64 {
    let id: u32;
    // SAFETY: the controller saw that the id lies there.
    unsafe {
        asm!("mov {:e}, dword ptr fs:[{}]", out(reg) id, in(reg) TID_OFFSET.load(Ordering::Relaxed),
            options(readonly, nostack, preserves_flags));
    }
    u64::from(id)
}

fn thread_pointer() -> u64 {
    let pointer: u64;
    // SAFETY: the first word of a thread's control block is its own address.
    unsafe {
        asm!("mov {}, qword ptr fs:[0]", out(reg) pointer,
            options(readonly, nostack, preserves_flags));
    }
    pointer
}

/// The entries that a thread pointer may have.
fn places(pointer: u64) -> &'static [Entry] {
    let first = (pointer.wrapping_mul(KNOWN_FACTOR) >> (64 - KNOWN_BITS)) as usize;
    // SAFETY: never changed but through atomics.
    let table = unsafe { &*TABLE.0.get() };
    table.get(first..first + KNOWN_PROBES).unwrap_or(&[])
}

/// The block of the calling thread; 0 if it has none.
pub(crate) fn block() -> u64 {
    let (pointer, tid) = (thread_pointer(), thread_id());
    let is_own = |entry: &&Entry| entry.pointer.load(Ordering::Relaxed) == pointer;
    let own = places(pointer).iter().find(is_own);
    own.filter(|entry| entry.tid.load(Ordering::Relaxed) == tid)
        .map_or(0, |entry| entry.block.load(Ordering::Relaxed))
}

/// Gives the calling thread its block.
pub(crate) fn set_block(block: u64) {
    let (pointer, tid) = (thread_pointer(), thread_id());
    let places = places(pointer);
    let is_own = |entry: &&Entry| entry.pointer.load(Ordering::Relaxed) == pointer;
    let claim = |entry: &&Entry| {
        let (free, relaxed) = (0, Ordering::Relaxed);
        entry.pointer.compare_exchange(free, pointer, relaxed, relaxed).is_ok()
    };
    let entry = places.iter().find(is_own).or_else(|| places.iter().find(claim));
    // Where all are taken the first goes: its thread asks again.
    let Some(entry) = entry.or(places.first()) else { return };
    entry.tid.store(0, Ordering::Relaxed);
    entry.block.store(block, Ordering::Relaxed);
    entry.pointer.store(pointer, Ordering::Relaxed);
    entry.tid.store(tid, Ordering::Relaxed);
}
