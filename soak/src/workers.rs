//! Threads that call, and can be made to pause.

use nix::libc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Threads that call, in each soak.
pub(crate) const THREADS: u64 = 4;

/// A generator of numbers, `xorshift64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }

    /// Zero in the low half now and then, for branches.
    pub(crate) fn argument(&mut self) -> u64 {
        let number = self.next();
        if number >> 60 == 0 { number & !0xffff_ffff } else { number }
    }
}

/// What threads found, and what they are told.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: AtomicU64,
    pub(crate) wrong: AtomicU64,
    stop: AtomicBool,
    pause: AtomicBool,
    paused: AtomicUsize,
}

impl Tally {
    /// Between two calls: whether to go on, after a pause if one is asked for. `flush` is called
    /// before a pause begins.
    pub(crate) fn goes_on(&self, flush: impl FnOnce()) -> bool {
        if self.pause.load(SeqCst) {
            flush();
            self.paused.fetch_add(1, SeqCst);
            while self.pause.load(SeqCst) {
                std::thread::sleep(Duration::from_micros(100));
            }
            self.paused.fetch_sub(1, SeqCst);
        }
        !self.stop.load(SeqCst)
    }

    /// Runs something while so many threads stand still.
    pub(crate) fn while_paused<T>(&self, threads: u64, action: impl FnOnce() -> T) -> T {
        self.pause.store(true, SeqCst);
        while self.paused.load(SeqCst) < threads as usize {
            std::thread::sleep(Duration::from_micros(100));
        }
        let result = action();
        self.pause.store(false, SeqCst);
        while self.paused.load(SeqCst) > 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        result
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    pub(crate) fn add(&self, calls: u64, wrong: u64) {
        self.calls.fetch_add(calls, SeqCst);
        self.wrong.fetch_add(wrong, SeqCst);
    }

    pub(crate) fn check(&self, right: bool, what: &str) {
        if !right {
            self.wrong.fetch_add(1, SeqCst);
            complain(what);
        }
    }
}

/// What was wrong, the first of it.
static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
const MOST_COMPLAINTS: usize = 20;

/// Says what was wrong. Not for signal handlers.
pub(crate) fn complain(what: &str) {
    let mut complaints = COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner);
    if complaints.len() < MOST_COMPLAINTS {
        complaints.push(what.to_owned());
    }
}

pub(crate) fn complaints() -> Vec<String> {
    std::mem::take(&mut COMPLAINTS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The fewer processors, the less the one that changes would get done among those that call.
pub(crate) fn yield_to_the_writer() {
    // SAFETY: concerns this thread only; a thread that may not be nicer goes on as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 12) };
}
