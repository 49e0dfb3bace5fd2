//! Threads and their rings.
//!
//! Generated code finds a thread's [`Block`] through one word of thread-local storage, which is
//! zero in a new thread. A block is 64 bytes of private memory that a forked child finds zeroed,
//! so that its first event takes the slow path, whatever the thread did before.

use super::process::{self, SETTINGS};
use super::{known, system};
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use sledge_wire::block::{BLOCK_BASE, BLOCK_BYTES, BLOCK_CURSOR, BLOCK_LIMIT, BLOCK_MASK};
use sledge_wire::record::{Kind, RECORD_BYTES, Record};
use sledge_wire::segment::{self, LOST_SITE, ThreadState};

// Initial-exec by hand: one word, its offset from the thread pointer a constant per process.
global_asm!(
    ".pushsection .tbss.sledge,\"awT\",@nobits",
    ".p2align 4; .hidden sledge_tls; .globl sledge_tls; .type sledge_tls,@object",
    "sledge_tls: .zero 16; .size sledge_tls, 16",
    ".popsection",
);

/// Room kept for handlers of signals that arrive between the check of a limit and its use.
const MARGIN: u64 = 256 * RECORD_BYTES;
/// How long a thread waits for a controller that does not move: 200 times 10 ms.
const WAIT_NANOSECONDS: u64 = 10_000_000;
const WAIT_ROUNDS: u32 = 200;
/// `owner` of the block of threads that do not record.
const NOBODY: u64 = u64::MAX;

/// A thread's block; the first four fields are those of `sledge_wire::block`.
#[repr(C)]
pub(crate) struct Block {
    /// Bytes ever reserved in the ring.
    cursor: u64,
    /// Where the slow path is due.
    limit: u64,
    /// Ring bytes minus one.
    mask: u64,
    /// Address of the ring.
    base: u64,
    /// Index of the thread's entry plus one; 0 in a forked child.
    owner: u64,
    /// `cursor` when dropping began; 0 while nothing is dropped.
    resume: u64,
    /// Time stamp counter when dropping began.
    lost_since: u64,
    unused: u64,
}

const _: () = {
    assert!(size_of::<Block>() as u64 == BLOCK_BYTES);
    assert!(offset_of!(Block, cursor) == BLOCK_CURSOR && offset_of!(Block, limit) == BLOCK_LIMIT);
    assert!(offset_of!(Block, mask) == BLOCK_MASK && offset_of!(Block, base) == BLOCK_BASE);
};

/// Offset of the thread-local word from the thread pointer.
pub(crate) fn tls_offset() -> i64 {
    let offset: i64;
    // SAFETY: reads one word of our own global offset table.
    unsafe {
        asm!("mov {}, qword ptr [rip + sledge_tls@gottpoff]", out(reg) offset,
            options(pure, readonly, nostack, preserves_flags));
    }
    offset
}

fn current() -> *mut Block {
    if known::in_use() {
        return known::block() as *mut Block;
    }
    let block: *mut Block;
    // SAFETY: the word at that offset is ours in every thread.
    unsafe {
        asm!("mov {}, qword ptr fs:[{}]", out(reg) block, in(reg) tls_offset(),
            options(readonly, nostack, preserves_flags));
    }
    block
}

fn set_current(block: *mut Block) {
    if known::in_use() {
        return known::set_block(block.addr() as u64);
    }
    // SAFETY: as in `current`.
    unsafe {
        asm!("mov qword ptr fs:[{}], {}", in(reg) tls_offset(), in(reg) block,
            options(nostack, preserves_flags));
    }
}

/// Gives the calling thread a block: with a ring, or the one that swallows records.
pub(crate) fn arrange() {
    let block = if process::recording() { claim() } else { None };
    set_current(block.unwrap_or_else(nobody));
}

/// The block of threads that do not record: one cell takes all their records.
fn nobody() -> *mut Block {
    // It lies in the wiped page, so a forked child's first event asks again.
    let block = (SETTINGS.page.load(Ordering::Relaxed) + 64) as *mut Block;
    let scratch = SETTINGS.scratch.load(Ordering::Relaxed);
    let value = Block {
        cursor: 0,
        limit: u64::MAX,
        mask: 0,
        base: scratch,
        owner: NOBODY,
        resume: 0,
        lost_since: 0,
        unused: 0,
    };
    // SAFETY: within the mapped page; several threads may write the same value.
    unsafe { block.write_volatile(value) };
    block
}

fn entry_word(index: u64, offset: usize) -> &'static AtomicU32 {
    let at = segment::thread_offset(index as usize) + offset;
    // SAFETY: within the mapped segment, aligned by its layout.
    unsafe { &*((SETTINGS.segment.load(Ordering::Relaxed) + at as u64) as *const AtomicU32) }
}

fn entry_long(index: u64, offset: usize) -> &'static AtomicU64 {
    let at = segment::thread_offset(index as usize) + offset;
    // SAFETY: as above.
    unsafe { &*((SETTINGS.segment.load(Ordering::Relaxed) + at as u64) as *const AtomicU64) }
}

/// Claims a free ring for this thread.
fn claim() -> Option<*mut Block> {
    let count = SETTINGS.ring_count.load(Ordering::Relaxed);
    let (free, claimed) = (ThreadState::Free as u32, ThreadState::Claimed as u32);
    let index = (0..count).find(|&index| {
        let state = entry_word(index, segment::THREAD_STATE);
        state.compare_exchange(free, claimed, Ordering::Acquire, Ordering::Relaxed).is_ok()
    });
    let Some(index) = index else {
        process::count_ringless();
        return None;
    };
    introduce(index);
    let ring = SETTINGS.ring_bytes.load(Ordering::Relaxed);
    let offset = segment::ring_offset(count as usize, ring, index as usize);
    let tail = entry_long(index, segment::THREAD_TAIL).load(Ordering::Acquire);
    let block = (SETTINGS.blocks.load(Ordering::Relaxed) + index * BLOCK_BYTES) as *mut Block;
    let value = Block {
        cursor: tail,
        limit: tail + ring / 4,
        mask: ring - 1,
        base: SETTINGS.segment.load(Ordering::Relaxed) + offset,
        owner: index + 1,
        resume: 0,
        lost_since: 0,
        unused: 0,
    };
    // SAFETY: the entry was claimed, so the block is this thread's.
    unsafe { block.write_volatile(value) };
    let state = entry_word(index, segment::THREAD_STATE);
    state.store(ThreadState::Live as u32, Ordering::Release);
    process::ring_doorbell();
    Some(block)
}

/// Writes who the thread is into its entry.
fn introduce(index: u64) {
    let mut name = [0u8; 16];
    system::thread_name(&mut name);
    let (low, high) = name.split_at(8);
    for (i, half) in [low, high].into_iter().enumerate() {
        let word = u64::from_le_bytes(half.try_into().unwrap_or([0; 8]));
        entry_long(index, segment::THREAD_NAME + 8 * i).store(word, Ordering::Relaxed);
    }
    entry_word(index, segment::THREAD_TID).store(system::thread_id(), Ordering::Relaxed);
    let now = system::time_stamp();
    entry_long(index, segment::THREAD_STARTED).store(now, Ordering::Relaxed);
    entry_long(index, segment::THREAD_LOST).store(0, Ordering::Relaxed);
}

/// Drops one record and counts it, if this thread drops and must go on dropping: every dropped
/// record comes here. Signals need not be blocked: a handler that comes in between drops its own.
pub(crate) fn drop_one() -> bool {
    // SAFETY: as in `full`; each access stands for itself.
    let Some(block) = (unsafe { current().as_mut() }) else { return false };
    if matches!(block.owner, 0 | NOBODY) || block.resume == 0 || process::closed() {
        return false;
    }
    let (index, ring) = (block.owner - 1, SETTINGS.ring_bytes.load(Ordering::Relaxed));
    if room(index, block.resume) >= ring / 2 {
        return false;
    }
    entry_long(index, segment::THREAD_LOST).fetch_add(1, Ordering::Relaxed);
    block.limit = block.cursor + RECORD_BYTES;
    true
}

/// The cursor reached the limit: find room, wait for it, or drop.
pub(crate) fn full() {
    // SAFETY: generated code found the block the same way; only this thread, with its signals
    // blocked, uses it.
    let Some(block) = (unsafe { current().as_mut() }) else { return arrange() };
    match block.owner {
        0 => arrange(),
        NOBODY => block.limit = u64::MAX,
        _ if process::closed() => set_current(nobody()),
        owner if block.resume != 0 => stop_dropping(block, owner - 1),
        owner => make_room(block, owner - 1),
    }
}

/// Bytes that may still be written, from `cursor` on.
fn room(index: u64, cursor: u64) -> u64 {
    let ring = SETTINGS.ring_bytes.load(Ordering::Relaxed);
    let tail = entry_long(index, segment::THREAD_TAIL).load(Ordering::Acquire);
    (ring - MARGIN).saturating_sub(cursor.wrapping_sub(tail))
}

fn make_room(block: &mut Block, index: u64) {
    let ring = SETTINGS.ring_bytes.load(Ordering::Relaxed);
    process::ring_doorbell();
    let mut free = room(index, block.cursor);
    if free < RECORD_BYTES && process::waits_when_full() {
        free = wait_for_room(block.cursor, index);
    }
    if process::closed() {
        set_current(nobody());
    } else if free >= RECORD_BYTES {
        block.limit = block.cursor + free.min(ring / 4);
    } else {
        block.resume = block.cursor;
        block.lost_since = system::time_stamp();
        block.base = SETTINGS.scratch.load(Ordering::Relaxed);
        block.mask = 0;
        block.limit = block.cursor + RECORD_BYTES;
        entry_long(index, segment::THREAD_LOST_SINCE).store(block.lost_since, Ordering::Relaxed);
        entry_long(index, segment::THREAD_LOST).store(1, Ordering::Release);
    }
}

/// Waits until the controller has read something; gives up when it makes no progress.
fn wait_for_room(cursor: u64, index: u64) -> u64 {
    let waiting = entry_word(index, segment::THREAD_WAITING);
    let futex = entry_word(index, segment::THREAD_FUTEX);
    waiting.store(1, Ordering::SeqCst);
    let mut rounds = 0;
    let free = loop {
        let seen = futex.load(Ordering::SeqCst);
        let free = room(index, cursor);
        if free >= RECORD_BYTES || rounds == WAIT_ROUNDS || process::closed() {
            break free;
        }
        process::ring_doorbell();
        system::futex_wait((&raw const *futex).addr() as u64, seen, WAIT_NANOSECONDS);
        rounds += 1;
    };
    waiting.store(0, Ordering::Relaxed);
    free
}

/// There is room again: tells in the ring what was dropped, and goes on.
fn stop_dropping(block: &mut Block, index: u64) {
    let ring = SETTINGS.ring_bytes.load(Ordering::Relaxed);
    let count = SETTINGS.ring_count.load(Ordering::Relaxed) as usize;
    let offset = segment::ring_offset(count, ring, index as usize);
    let lost = entry_long(index, segment::THREAD_LOST).swap(0, Ordering::Relaxed);
    block.base = SETTINGS.segment.load(Ordering::Relaxed) + offset;
    block.mask = ring - 1;
    block.cursor = block.resume;
    block.resume = 0;
    let cell = u32::try_from(lost).unwrap_or(u32::MAX);
    write(block, Record { tsc: block.lost_since, kind: Kind::Enter, site: LOST_SITE, cell });
    let now = system::time_stamp();
    write(block, Record { tsc: now, kind: Kind::Exit, site: LOST_SITE, cell });
    block.limit = block.cursor + ring / 4;
}

/// Room for records in a ring, reserved at once: those of a signal's handler go before or behind.
pub(crate) struct Place {
    base: u64,
    mask: u64,
    first: u64,
}

impl Place {
    /// Writes one of the records.
    pub(crate) fn write(&self, index: u64, record: Record) {
        write_at(self.base + ((self.first + index * RECORD_BYTES) & self.mask), record);
    }
}

/// A word of a thread's block, if it has one.
fn word_of(block: *mut Block, at: usize) -> Option<u64> {
    // SAFETY: generated code found the block the same way; the offset is one of its fields.
    (!block.is_null()).then(|| unsafe { block.cast::<u64>().byte_add(at).read_volatile() })
}

/// Reserves room for records that belong together; `None` if this thread drops, or does not
/// record. They may go over the limit by [`sledge_wire::probe::MOST_RECORDS`]: the margin has room.
pub(crate) fn reserve(records: u64) -> Option<Place> {
    if word_of(current(), BLOCK_CURSOR)? >= word_of(current(), BLOCK_LIMIT)? {
        super::slow::full_ring();
    }
    let block = current();
    let owner = word_of(block, offset_of!(Block, owner))?;
    if matches!(owner, 0 | NOBODY) {
        return None;
    }
    if word_of(block, offset_of!(Block, resume))? != 0 {
        entry_long(owner - 1, segment::THREAD_LOST).fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let mut first = records * RECORD_BYTES;
    // SAFETY: the thread's own block; one instruction, so that handlers go before or behind.
    unsafe {
        asm!("xadd qword ptr [{}], {}", in(reg) block.byte_add(BLOCK_CURSOR), inout(reg) first,
            options(nostack));
    }
    Some(Place { base: word_of(block, BLOCK_BASE)?, mask: word_of(block, BLOCK_MASK)?, first })
}

/// Appends a record as generated code does: the time last, it commits.
fn write(block: &mut Block, record: Record) {
    let at = block.base + (block.cursor & block.mask);
    block.cursor += RECORD_BYTES;
    write_at(at, record);
}

fn write_at(at: u64, record: Record) {
    let (tsc, tail) = record.encode();
    // SAFETY: within the ring: its base and mask say so.
    let words = unsafe { &*(at as *const [AtomicU64; 2]) };
    words[1].store(tail, Ordering::Relaxed);
    words[0].store(tsc, Ordering::Release);
}
