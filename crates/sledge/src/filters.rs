//! Thread filters: which threads an ops wants, as bits in each thread's block.
//!
//! A trampoline tests one bit at a constant distance from the thread pointer. A thread sets its own
//! bits when it becomes known; who changes a filter writes those of all known threads.

use crate::thread;
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

/// So many ops can have a thread filter at once.
pub(crate) const MOST: usize = 64;

/// The threads of a filter, ascending.
#[derive(Debug)]
pub(crate) struct Filter(Box<[i32]>);

static FILTERS: [AtomicPtr<Filter>; MOST] = [const { AtomicPtr::new(std::ptr::null_mut()) }; MOST];
/// Counts changes of the filters.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Replaces a filter; the one that was there may be dropped after a grace period.
///
/// # Errors
/// When the blocks of other threads cannot be written.
pub(crate) fn set(
    number: u8,
    threads: Option<Box<[i32]>>,
) -> Result<Option<Box<Filter>>, io::Error> {
    let new =
        threads.map_or(std::ptr::null_mut(), |threads| Box::into_raw(Box::new(Filter(threads))));
    let old = FILTERS[usize::from(number)].swap(new, Ordering::SeqCst);
    CHANGES.fetch_add(1, Ordering::SeqCst);
    thread::write_filters()?;
    // SAFETY: came from `Box::into_raw` above, and is reachable no more; a thread that still reads
    // it is the caller's to wait for.
    Ok((!old.is_null()).then(|| unsafe { Box::from_raw(old) }))
}

/// The bits of a thread.
#[unsafe(link_section = "sledge_trap")]
pub(crate) fn bits(thread: i32) -> u64 {
    let mut bits = 0;
    let mut number = 0;
    while number < MOST {
        let filter = FILTERS[number].load(Ordering::SeqCst);
        // SAFETY: a filter lives until a grace period after it was replaced, and this thread has
        // counted itself in.
        if !filter.is_null() && unsafe { holds(&raw const (*filter).0, thread) } {
            bits |= 1 << number;
        }
        number += 1;
    }
    bits
}

/// Whether a filter's threads hold this one. Calls nothing that could be traced.
#[unsafe(link_section = "sledge_trap")]
unsafe fn holds(threads: *const Box<[i32]>, thread: i32) -> bool {
    // SAFETY: the caller's; `at` stays below the length.
    unsafe {
        let threads: *const [i32] = &raw const **threads;
        let (first, count) = (threads.cast::<i32>(), threads.len());
        let mut at = 0;
        while at < count {
            if *first.wrapping_add(at) == thread {
                return true;
            }
            at += 1;
        }
    }
    false
}

/// Sets this thread's bits, after it has come into the table: who changes a filter meanwhile
/// either finds it there and writes them, or is seen here.
#[unsafe(link_section = "sledge_trap")]
pub(crate) unsafe fn apply(thread: i32, wanted: *mut u64) {
    loop {
        let changes = CHANGES.load(Ordering::SeqCst);
        let bits = bits(thread);
        // SAFETY: the caller's own block.
        unsafe { wanted.write_volatile(bits) };
        fence(Ordering::SeqCst);
        if CHANGES.load(Ordering::SeqCst) == changes {
            return;
        }
    }
}
