//! The one core of this process, and what happens to it when the process forks.

use crate::core::loader::{self, State};
use crate::core::{Core, Retired};
use crate::error::Error;
use crate::thread::{self, Quiet, Seen};
use nix::libc;
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, TryLockError};
use std::thread::panicking;
use std::time::{Duration, Instant};

static CORE: Mutex<Option<Core>> = Mutex::new(None);

/// The thread that has the core, and the one that is about to unmap an object; 0 for none.
static HOLDER: AtomicI32 = AtomicI32::new(0);
static UNLOADING: AtomicI32 = AtomicI32::new(0);
/// How long threads wait for each other where they might do so for ever: who unloads an object has
/// the loader's lock, who changes something has the core, and either may come to need the other.
const PATIENCE: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_micros(50);

/// The core, locked. What this thread calls meanwhile reaches no guarded callback.
///
/// A panic meanwhile leaves nobody knows what: everything is disarmed then, and stays so.
pub(crate) struct Locked {
    core: MutexGuard<'static, Option<Core>>,
    /// Whether the thread was panicking already, which is none of ours.
    panicking: bool,
    _quiet: Quiet,
}

impl Locked {
    /// Locks the core; begins with a new one.
    pub(crate) fn new() -> Result<Self, Error> {
        thread::register_own();
        let quiet = Quiet::begin();
        watch_forks();
        let mut core = lock();
        if CORE.is_poisoned() {
            return Err(Error::Defect);
        }
        if core.is_none() {
            *core = Some(Core::new()?);
        }
        HOLDER.store(thread::number(), Ordering::SeqCst);
        Ok(Self { core, panicking: panicking(), _quiet: quiet })
    }

    /// The same for who has a lock that the holder may need; `None` if it takes too long, or if there
    /// is no core, or if this thread has it already.
    fn within_patience() -> Option<Self> {
        thread::register_own();
        let quiet = Quiet::begin();
        let own = thread::number();
        let begin = Instant::now();
        loop {
            if HOLDER.load(Ordering::SeqCst) == own {
                return None;
            }
            match CORE.try_lock() {
                Ok(core) if core.is_none() => return None,
                Ok(core) => {
                    HOLDER.store(own, Ordering::SeqCst);
                    return Some(Self { core, panicking: panicking(), _quiet: quiet });
                }
                Err(TryLockError::Poisoned(_)) => return None,
                Err(TryLockError::WouldBlock) if begin.elapsed() > PATIENCE => return None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(NAP),
            }
        }
    }

    pub(crate) fn core(&mut self) -> &mut Core {
        self.core.as_mut().expect("made by `new`")
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if panicking() && !self.panicking {
            let _ = catch_unwind(AssertUnwindSafe(|| self.core().give_up()));
        }
        HOLDER.store(0, Ordering::SeqCst);
    }
}

/// Locks the core, when no other thread is about to unmap what might be written.
fn lock() -> MutexGuard<'static, Option<Core>> {
    let begin = Instant::now();
    loop {
        let core = CORE.lock().unwrap_or_else(PoisonError::into_inner);
        let unloading = UNLOADING.load(Ordering::SeqCst);
        if unloading == 0 || unloading == thread::number() || begin.elapsed() > PATIENCE {
            return core;
        }
        drop(core);
        std::thread::sleep(NAP);
    }
}

/// The loader is about to change its list of objects, or has changed it.
pub(crate) extern "C" fn on_loader(_: u64, _: u64, _: *const c_void, _: *mut c_void) {
    let _ = catch_unwind(|| match loader::state() {
        State::Adding => {}
        State::Deleting => {
            // From here on nobody writes to objects, until it is known which are left.
            let locked = Locked::within_patience();
            if locked.is_some() {
                UNLOADING.store(thread::number(), Ordering::SeqCst);
            }
        }
        State::Consistent => {
            let locked = Locked::within_patience();
            let own = thread::number();
            // Another thread's, of another namespace of the loader, stays.
            let _ = UNLOADING.compare_exchange(own, 0, Ordering::SeqCst, Ordering::SeqCst);
            if let Some(mut locked) = locked {
                // What fails now is tried again at the next change.
                let _ = locked.core().refresh();
            }
        }
    });
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
    let core = lock();
    // SAFETY: the lock is held: nobody else is here.
    unsafe { *HELD.0.get() = Some(core) };
}

extern "C" fn in_parent() {
    // SAFETY: `before_fork` has left the lock there, and it is still held.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn in_child() {
    thread::start_anew();
    HOLDER.store(0, Ordering::SeqCst);
    UNLOADING.store(0, Ordering::SeqCst);
    in_parent();
}

#[cfg(test)]
mod tests;
