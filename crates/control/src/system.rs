//! System calls that no safe wrapper has.

use nix::errno::Errno;
use nix::libc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// The time stamp counter.
pub fn time_stamp() -> u64 {
    // SAFETY: `rdtsc` reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Waits while a shared futex holds `value`, at most so long.
pub fn futex_wait(word: &AtomicU32, value: u32, at_most: Duration) {
    let time = libc::timespec {
        tv_sec: at_most.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(at_most.subsec_nanos()),
    };
    // SAFETY: reads the word and the time, which live through the call.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const time)
    };
}

/// Wakes whoever waits on a shared futex.
pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: takes the word's address only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Time stamp counter and `CLOCK_MONOTONIC` in nanoseconds, read as near to each other as five
/// attempts allow.
#[must_use]
pub fn clock_pair() -> (u64, u64) {
    let pair = || {
        let before = time_stamp();
        let nanoseconds = monotonic();
        let after = time_stamp();
        (after.wrapping_sub(before), before + after.wrapping_sub(before) / 2, nanoseconds)
    };
    let (_, ticks, nanoseconds) =
        (0..5).map(|_| pair()).min_by_key(|pair| pair.0).unwrap_or((0, 0, 0));
    (ticks, nanoseconds)
}

/// Waits for the child without blocking: its status, once it ended.
pub fn try_wait(pid: i32) -> Option<Ended> {
    let mut status = 0;
    // SAFETY: writes the status.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    if waited == 0 {
        return None;
    }
    if waited < 0 {
        return (Errno::last() != Errno::EINTR).then_some(Ended::Exited(1));
    }
    if libc::WIFSIGNALED(status) {
        Some(Ended::Killed(libc::WTERMSIG(status)))
    } else {
        Some(Ended::Exited(libc::WEXITSTATUS(status)))
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// With a status.
    Exited(i32),
    /// By a signal.
    Killed(i32),
}
