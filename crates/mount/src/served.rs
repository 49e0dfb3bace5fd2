//! What the mount and the process share.

use crate::process::Process;
use sledge_tracefs::Tree;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A tree and the process behind it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) tree: Tree,
    pub(crate) process: Process,
}

impl Served {
    /// Takes in what the process did until now: how many records that were.
    pub(crate) fn catch_up(&mut self) -> u64 {
        self.process.pump(&mut self.tree)
    }
}

/// Whoever panicked left a tree behind that is still better than none.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
