//! Signals that reach us while a program runs.
//!
//! Ctrl-C goes to the whole foreground group, the program included: it decides, we keep what was
//! recorded. A request to terminate is passed on to it.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicI32, Ordering};

static TERMINATE: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: i32) {
    if signal == Signal::SIGTERM as i32 || signal == Signal::SIGHUP as i32 {
        TERMINATE.store(signal, Ordering::Relaxed);
    }
}

/// From now on these signals do not end us. Handlers, not `SIG_IGN`: a program started later
/// gets the default back.
pub(crate) fn outlive() {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and nothing else.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

/// Passes a request to terminate on to the program.
pub(crate) fn forward(pid: i32) {
    let signal = TERMINATE.swap(0, Ordering::Relaxed);
    if let Ok(signal) = Signal::try_from(signal) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
