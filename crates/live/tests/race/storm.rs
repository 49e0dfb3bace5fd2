//! Threads that call and check, under timer signals.

use crate::text::Function;
use nix::libc;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// First addresses of all patches, ascending.
static PATCHES: OnceLock<Vec<u64>> = OnceLock::new();
/// Signals that found a thread inside a patch, and slept there.
static HELD: AtomicU64 = AtomicU64::new(0);

/// What the threads found.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) calls: AtomicU64,
    pub(crate) wrong: AtomicU64,
    pub(crate) stop: AtomicBool,
}

pub(crate) fn held() -> u64 {
    HELD.load(Relaxed)
}

/// Installs the handler that sleeps while the interrupted thread stands inside a patch.
pub(crate) fn install(functions: &[Function]) {
    let mut patches: Vec<u64> = functions.iter().map(|function| function.site.address).collect();
    patches.sort_unstable();
    PATCHES.set(patches).expect("once");
    // SAFETY: a valid action; the handler sleeps and reads atomics only.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_tick as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut()), 0);
    }
}

fn is_inside(pointer: u64) -> bool {
    let patches = PATCHES.get().map_or(&[][..], Vec::as_slice);
    let after = patches.partition_point(|&patch| patch < pointer);
    after > 0 && pointer < patches[after - 1] + 5
}

extern "C" fn on_tick(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    thread_local!(static SLEPT: Cell<bool> = const { Cell::new(false) });
    // SAFETY: the kernel passes a context.
    let pointer =
        unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs[libc::REG_RIP as usize] };
    // A signal that came during the sleep is delivered before one more instruction has run.
    if SLEPT.get() || !is_inside(pointer.cast_unsigned()) {
        SLEPT.set(false);
        return;
    }
    SLEPT.set(true);
    let long = HELD.fetch_add(1, Relaxed).is_multiple_of(64);
    // SAFETY: sleeps.
    unsafe { libc::usleep(if long { 30_000 } else { 1500 }) };
}

/// The fewer processors, the less the one that patches would get done among those that call.
fn yield_to_the_writer() {
    // SAFETY: concerns this thread only.
    assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) }, 0);
}

/// A timer for the calling thread, each with a period of its own.
fn start_timer(number: u64) {
    // SAFETY: all structures are valid and live through the calls.
    unsafe {
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = std::mem::zeroed();
        let clock = libc::CLOCK_MONOTONIC;
        assert_eq!(libc::timer_create(clock, &raw mut event, &raw mut timer), 0);
        let period = libc::timespec { tv_sec: 0, tv_nsec: 150_000 + 7_001 * number as i64 };
        let times = libc::itimerspec { it_interval: period, it_value: period };
        assert_eq!(libc::timer_settime(timer, 0, &raw const times, std::ptr::null_mut()), 0);
    }
}

/// Runs `toggle` while four threads call all functions, in random order, and check every result.
pub(crate) fn under_calls(functions: &[Function], tally: &Tally, toggle: impl FnOnce()) {
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || {
                yield_to_the_writer();
                start_timer(number);
                let mut random = Random(number * 7919 + 1);
                while !tally.stop.load(Relaxed) {
                    let wrong = (0..1000).filter(|_| !is_right(functions, &mut random)).count();
                    tally.calls.fetch_add(1000, Relaxed);
                    tally.wrong.fetch_add(wrong as u64, Relaxed);
                }
                // Its timer may still fire.
                std::thread::sleep(Duration::from_millis(1));
            });
        }
        toggle();
        tally.stop.store(true, Relaxed);
    });
}

fn is_right(functions: &[Function], random: &mut Random) -> bool {
    let number = random.next();
    let function = &functions[number as usize % functions.len()];
    // Zero in the low half now and then, for the branches.
    let argument = if number >> 60 == 0 { number & !0xffff_ffff } else { number };
    function.call(argument) == function.expected(argument)
}

/// A generator of numbers, `xorshift64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
