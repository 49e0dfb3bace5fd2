//! Threads that call, and stand still when asked to.

use super::functions::{self, COUNT};
use std::arch::asm;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread pointer of the thread that changes and checks.
static CHECKER: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// Whether this is the thread that changes and checks. Calls nothing.
#[inline(always)]
pub(crate) fn is_checker() -> bool {
    CHECKER.load(SeqCst) == thread_pointer()
}

#[inline(always)]
fn thread_pointer() -> u64 {
    let pointer;
    // SAFETY: the first word at the thread pointer is its own address (x86-64 psABI, TLS).
    unsafe { asm!("mov {}, fs:[0]", out(reg) pointer, options(pure, readonly, nostack)) };
    pointer
}

/// A call by the thread that checks.
pub(crate) fn check(number: usize) {
    WRONG.fetch_add(u64::from(!functions::call(number, 77 << 16, false)), SeqCst);
}

pub(crate) fn wrong() -> u64 {
    WRONG.load(SeqCst)
}

#[derive(Debug, Default)]
struct Shared {
    runs: AtomicBool,
    stop: AtomicBool,
    standing: AtomicUsize,
}

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Callers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    /// They stand still to begin with. The calling thread is the one that checks.
    pub(crate) fn start(count: u64) -> Self {
        CHECKER.store(thread_pointer(), SeqCst);
        let shared = Arc::new(Shared::default());
        let thread = |number: u64| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || work(number, &shared))
        };
        let threads = (0..count).map(thread).collect();
        let callers = Self { shared, threads };
        callers.pause();
        callers
    }

    /// When it returns, all are under way.
    pub(crate) fn resume(&self) {
        self.shared.runs.store(true, SeqCst);
        while self.shared.standing.load(SeqCst) > 0 {
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// When it returns, none is in a call.
    pub(crate) fn pause(&self) {
        self.shared.runs.store(false, SeqCst);
        while self.shared.standing.load(SeqCst) < self.threads.len() {
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(number: u64, shared: &Shared) {
    let mut random = number * 7919 + 1;
    while !shared.stop.load(SeqCst) {
        if !shared.runs.load(SeqCst) {
            shared.standing.fetch_add(1, SeqCst);
            while !shared.runs.load(SeqCst) && !shared.stop.load(SeqCst) {
                std::thread::sleep(Duration::from_micros(20));
            }
            shared.standing.fetch_sub(1, SeqCst);
        }
        for _ in 0..20 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let right = functions::call((random >> 11) as usize % COUNT, random, true);
            WRONG.fetch_add(u64::from(!right), SeqCst);
        }
    }
}
