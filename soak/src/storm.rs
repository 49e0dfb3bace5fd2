//! Timer signals for threads that call.
//!
//! The handler calls a function itself, and checks the result. Where it finds the interrupted
//! thread inside a patch it sleeps there; now and then for so long that the site changes many
//! times meanwhile. Asked to, it sleeps now and then wherever it is.

use crate::workers::Random;
use nix::libc;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a handler does.
struct Plan {
    /// First addresses of all patches, ascending.
    patches: Vec<u64>,
    /// Calls a function and says whether the result is right.
    call: fn(&mut Random) -> bool,
    anywhere: bool,
}

static PLAN: OnceLock<Plan> = OnceLock::new();
static HELD: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// What the handlers did and found.
#[derive(Debug)]
pub(crate) struct Handled {
    /// Threads that were held inside a patch.
    pub(crate) held: u64,
    pub(crate) calls: u64,
    pub(crate) wrong: u64,
}

pub(crate) fn handled() -> Handled {
    let [held, calls, wrong] = [&HELD, &CALLS, &WRONG].map(|count| count.load(Relaxed));
    Handled { held, calls, wrong }
}

/// Installs the handler; timers are started by each thread.
pub(crate) fn install(mut patches: Vec<u64>, call: fn(&mut Random) -> bool, anywhere: bool) {
    patches.sort_unstable();
    assert!(PLAN.set(Plan { patches, call, anywhere }).is_ok(), "once");
    // SAFETY: a valid action; the handler uses atomics and its own thread's cells, and calls
    // functions that may be called at any time.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_tick as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Where the thread of a signal's context stands.
pub(crate) fn pointer(context: *mut libc::c_void) -> u64 {
    // SAFETY: the kernel passes a context.
    let registers = unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    registers[libc::REG_RIP as usize].cast_unsigned()
}

/// Whether an address lies inside one of the patches, but not at its beginning.
pub(crate) fn is_inside(patches: &[u64], pointer: u64) -> bool {
    let after = patches.partition_point(|&patch| patch < pointer);
    after > 0 && pointer < patches[after - 1] + 5
}

extern "C" fn on_tick(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    thread_local!(static SLEPT: Cell<bool> = const { Cell::new(false) });
    let Some(plan) = PLAN.get() else { return };
    let number = CALLS.fetch_add(1, Relaxed);
    let mut random = Random(pointer(context) ^ number << 32 | 1);
    WRONG.fetch_add(u64::from(!(plan.call)(&mut random)), Relaxed);
    let inside = is_inside(&plan.patches, pointer(context));
    // A signal that came during a sleep is delivered before one more instruction has run.
    let sleeps = inside || plan.anywhere && number.is_multiple_of(500);
    if SLEPT.replace(false) || !sleeps {
        return;
    }
    SLEPT.set(true);
    let held = if inside { HELD.fetch_add(1, Relaxed) } else { number / 500 };
    sleep(match held {
        _ if held.is_multiple_of(1024) => 1_000_000,
        _ if held.is_multiple_of(64) => 30_000,
        _ => 1500,
    });
}

/// To the end, whatever signals come meanwhile.
fn sleep(micros: i64) {
    let mut left =
        libc::timespec { tv_sec: micros / 1_000_000, tv_nsec: micros % 1_000_000 * 1000 };
    // SAFETY: reads and writes one structure.
    while unsafe { libc::nanosleep(&raw const left, &raw mut left) } != 0 {}
}

/// A timer for the calling thread, each with a period of its own; `None` if there is none.
pub(crate) fn start_timer(number: u64) -> Option<Timer> {
    // SAFETY: all structures are valid and live through the calls.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = std::mem::zeroed();
        if libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) != 0 {
            return None;
        }
        let period = libc::timespec { tv_sec: 0, tv_nsec: 150_000 + 7_001 * number as i64 };
        let times = libc::itimerspec { it_interval: period, it_value: period };
        let started = libc::timer_settime(timer, 0, &raw const times, std::ptr::null_mut()) == 0;
        started.then_some(Timer(timer))
    }
}

/// Stops when it is dropped, by the thread that started it.
#[derive(Debug)]
pub(crate) struct Timer(libc::timer_t);

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer of `start_timer`, deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}
