//! Lets the agent know when we die, however: a robust mutex in shared memory that we hold.
//!
//! The kernel marks it when the thread that holds it ends, and wakes who waits on it.

use nix::errno::Errno;
use nix::libc;
use sledge_control::segment::Segment;
use sledge_wire::attach::OWNER;
use std::sync::atomic::Ordering;

/// Set by waiters: the kernel wakes one when the holder dies.
const WAITERS: u32 = 0x8000_0000;

/// Takes the mutex for the calling thread, which must live as long as the hub does.
pub(crate) fn take(segment: &Segment) -> Result<(), Errno> {
    let word = segment.word(OWNER);
    let mutex = word.as_ptr().cast::<libc::pthread_mutex_t>();
    // SAFETY: the segment keeps this place for a mutex, aligned and mapped as long as we live; no
    // other process uses it as one.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        check(libc::pthread_mutexattr_init(&raw mut attributes))?;
        let (robust, shared) = (libc::PTHREAD_MUTEX_ROBUST, libc::PTHREAD_PROCESS_SHARED);
        check(libc::pthread_mutexattr_setrobust(&raw mut attributes, robust))?;
        check(libc::pthread_mutexattr_setpshared(&raw mut attributes, shared))?;
        check(libc::pthread_mutex_init(mutex, &raw const attributes))?;
        check(libc::pthread_mutex_lock(mutex))?;
    }
    word.fetch_or(WAITERS, Ordering::SeqCst);
    Ok(())
}

/// Gives it back.
pub(crate) fn give(segment: &Segment) {
    let mutex = segment.word(OWNER).as_ptr().cast::<libc::pthread_mutex_t>();
    // SAFETY: taken by `take`, by this thread.
    unsafe { libc::pthread_mutex_unlock(mutex) };
}

fn check(error: i32) -> Result<(), Errno> {
    if error == 0 { Ok(()) } else { Err(Errno::from_raw(error)) }
}
