//! Why a process was not entered.

use std::io;
use thiserror::Error;

/// Something is not laid out as it always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unusual(pub &'static str);

/// Why the agent was not brought in, or not taken out. The process goes on as before.
#[derive(Debug, Error)]
pub enum InjectError {
    /// There is no such process, or it has ended.
    #[error("there is no process {0}")]
    Gone(i32),
    /// Another program traces it: there can be one.
    #[error("process {pid} is traced by process {tracer} already")]
    Traced {
        /// The process.
        pid: i32,
        /// The other tracer.
        tracer: i32,
    },
    /// The system does not let us.
    #[error("not permitted to trace process {0}")]
    Denied(i32),
    /// What it is makes it impossible.
    #[error("process {pid} cannot be traced: {why}")]
    Refused {
        /// The process.
        pid: i32,
        /// Why not.
        why: &'static str,
    },
    /// No thread could be borrowed in time.
    #[error("no thread of process {0} could be stopped for the moment that it takes")]
    NoThread(i32),
    /// A system call in the process failed.
    #[error("process {pid} cannot {what}: {source}")]
    Remote {
        /// The process.
        pid: i32,
        /// What it was to do.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A system call of ours failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The agent's file is not as it was built.
    #[error(transparent)]
    Unusual(#[from] Unusual),
}

impl InjectError {
    /// What the user can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Gone(_) => "see: ps -e".into(),
            Self::Traced { tracer, .. } => {
                format!("wait until process {tracer} (a debugger?) lets go of it")
            }
            Self::Denied(pid) => format!("run as its user or as root; see: sledge doctor {pid}"),
            Self::Refused { .. } => "start it under sledge instead: sledge record PROGRAM".into(),
            Self::NoThread(_) => {
                "try again; all its threads may be writing, or waiting for a device".into()
            }
            Self::Remote { pid, .. } => format!("see: sledge doctor {pid}"),
            Self::System { .. } => "see ulimit -a and the kernel's limits".into(),
            Self::Unusual(_) => "build sledge anew".into(),
        }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
