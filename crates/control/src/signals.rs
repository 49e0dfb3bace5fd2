//! Signals that reach us while a program runs.
//!
//! Ctrl-C goes to the whole foreground group, the program included: it decides, we keep what was
//! recorded. A request to terminate is passed on to it. SIGUSR1 asks for a snapshot of the trace.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

static TERMINATE: AtomicI32 = AtomicI32::new(0);
static ASKED: AtomicBool = AtomicBool::new(false);

static SNAPSHOT: AtomicBool = AtomicBool::new(false);

extern "C" fn note(signal: i32) {
    if signal == Signal::SIGUSR1 as i32 {
        SNAPSHOT.store(true, Ordering::Relaxed);
        return;
    }
    ASKED.store(true, Ordering::Relaxed);
    if signal == Signal::SIGTERM as i32 || signal == Signal::SIGHUP as i32 {
        TERMINATE.store(signal, Ordering::Relaxed);
    }
}

/// From now on these signals do not end us. Handlers, not `SIG_IGN`: a program started later
/// gets the default back.
pub fn outlive() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    let signals =
        [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1];
    for signal in signals {
        // SAFETY: the handler stores to atomics and nothing else.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Whether a snapshot has been asked for since the last time.
pub(crate) fn take_snapshot_request() -> bool {
    SNAPSHOT.swap(false, Ordering::Relaxed)
}

/// Whether somebody wants us to end.
#[must_use]
pub fn asked_to_end() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Passes a request to terminate on to the program.
pub(crate) fn forward(pid: i32) {
    let signal = TERMINATE.swap(0, Ordering::Relaxed);
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
