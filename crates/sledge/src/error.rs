//! What can go wrong.

use sledge_discover::DiscoverError;
use sledge_engine::ops::OpsError;
use sledge_filter::PatternError;
use sledge_live::patcher::{HostError, PatcherError};
use std::io;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operation breaks a rule of ops; nothing changed.
    #[error(transparent)]
    Ops(#[from] OpsError),
    /// A pattern cannot be used; nothing changed.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The program's own object cannot be read.
    #[error(transparent)]
    Object(#[from] DiscoverError),
    /// Traps cannot be handled in this process.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Patching failed; everything was disarmed, and the program goes on.
    #[error(transparent)]
    Patcher(#[from] PatcherError),
    /// The system refused something that tracing needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Threads block `SIGTRAP` or `SIGILL`: the kernel would kill the process if one ran into a
    /// site while its bytes change. Nothing changed.
    #[error("threads {threads:?} block SIGTRAP or SIGILL; unblock both there")]
    TrapsBlocked {
        /// Their numbers.
        threads: Vec<i32>,
    },
    /// A panic in the middle of a change: everything was disarmed, and the program goes on.
    #[error("a defect of sledge: everything was disarmed, and nothing is traced any more")]
    Defect,
    /// All 64 thread filters are in use.
    #[error("{} ops have a thread filter already", crate::filters::MOST)]
    TooManyThreadFilters,
}

impl Error {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
