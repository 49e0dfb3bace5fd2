//! A word on what takes so long.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Work that takes longer is shown.
const PATIENCE: Duration = Duration::from_secs(1);

/// While it lives, a line on the terminal tells what is being done, from the second second on.
#[derive(Debug)]
pub(crate) struct Patience {
    line: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Patience {
    /// Begins to wait for `what`.
    pub(crate) fn with(what: String) -> Self {
        if !io::stderr().is_terminal() {
            return Self { line: None };
        }
        let (done, waits) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            if waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // A line that cannot be shown is no loss.
                let _ = write!(io::stderr(), "\r\x1b[K{what} …");
                let _ = waits.recv();
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        });
        Self { line: Some((done, thread)) }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.line.take() {
            drop(done);
            // The line must be gone before anything else is shown.
            let _ = thread.join();
        }
    }
}
