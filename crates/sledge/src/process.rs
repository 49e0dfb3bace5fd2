//! The one core of this process, and what happens to it when the process forks.

use crate::core::{Core, Retired};
use crate::error::Error;
use crate::thread::{self, Quiet, Seen};
use nix::libc;
use std::cell::UnsafeCell;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

static CORE: Mutex<Option<Core>> = Mutex::new(None);

/// The core, locked. What this thread calls meanwhile reaches no guarded callback.
pub(crate) struct Locked {
    core: MutexGuard<'static, Option<Core>>,
    _quiet: Quiet,
}

impl Locked {
    /// Locks the core; begins with a new one.
    pub(crate) fn new() -> Result<Self, Error> {
        thread::register_own();
        let quiet = Quiet::begin();
        watch_forks();
        let mut core = CORE.lock().unwrap_or_else(PoisonError::into_inner);
        if core.is_none() {
            *core = Some(Core::new()?);
        }
        Ok(Self { core, _quiet: quiet })
    }

    pub(crate) fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("made by `new`")
    }
}

/// Whether retired trampolines must be free when `reap` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// They must, unless this thread itself is in one.
    Yes,
    /// What is still in use is left to a later call.
    No,
}

/// Frees what was retired, as soon as every thread has been outside.
pub(crate) fn reap(wait: Wait) -> Result<(), Error> {
    let retired = take_retired(Locked::new()?.core())?;
    free(retired, wait)
}

/// Takes what was retired so far, to free it: from here on it is this thread's to wait for, and
/// nobody else's. Who has retired something that must be free when it returns does so before it
/// unlocks the core, or another thread would have it.
pub(crate) fn take_retired(core: &mut Core) -> Result<Retired, Error> {
    if core.retired.is_empty() || thread::inside() {
        return Ok(Retired::default());
    }
    core.barrier().map_err(Error::system("membarrier"))?;
    Ok(std::mem::take(&mut core.retired))
}

/// Frees it, as soon as every thread has been outside. The core is not locked meanwhile: a
/// callback may be waiting for it.
pub(crate) fn free(mut retired: Retired, wait: Wait) -> Result<(), Error> {
    if retired.is_empty() {
        return Ok(());
    }
    let outside = outside(wait);
    let mut locked = Locked::new()?;
    let core = locked.core();
    if !matches!(outside, Ok(true)) {
        core.retired.extend(retired);
        return outside.map(|_| ());
    }
    for piece in retired.trampolines.drain(..) {
        core.pool.give_back(&piece).map_err(Error::system("poisoning code"))?;
    }
    drop(locked);
    // Closures may do anything in their destructors.
    drop(retired);
    Ok(())
}

/// Whether every thread has been outside.
fn outside(wait: Wait) -> Result<bool, Error> {
    let _quiet = Quiet::begin();
    let mut grace = thread::begin_grace().map_err(Error::system("watching the threads"))?;
    let mut pause = Duration::from_micros(10);
    for round in 0_u64.. {
        // A thread that does little else than hits is seldom outside: one look is not enough.
        let mut seen = grace.poll();
        for _ in 0..LOOKS {
            if seen != Seen::Moving {
                break;
            }
            seen = grace.poll();
        }
        if seen == Seen::AllOutside {
            return Ok(true);
        }
        if wait == Wait::No && round >= 1 {
            break;
        }
        // Not `yield_now`: among threads that run all the time it costs a time slice of each.
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(1));
    }
    Ok(false)
}

/// How often running threads are looked at before the next pause.
const LOOKS: usize = 200;

/// The lock that is held over a fork.
struct Held(UnsafeCell<Option<MutexGuard<'static, Option<Core>>>>);

// SAFETY: used by the thread that forks only, between taking the lock and giving it back.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

/// A child must not be born in the middle of a batch, nor with the lock taken; and in it, the
/// threads of its parent are none of its own.
fn watch_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: three functions that may be called around a fork.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
    });
}

extern "C" fn before_fork() {
    let core = CORE.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the lock is held: nobody else is here.
    unsafe { *HELD.0.get() = Some(core) };
}

extern "C" fn in_parent() {
    // SAFETY: `before_fork` has left the lock there, and it is still held.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn in_child() {
    thread::start_anew();
    in_parent();
}
