//! What can go wrong with a running process.

use sledge_control::ControlError;
use sledge_inject::InjectError;
use std::io;
use thiserror::Error;

/// Why a running process is not traced, or no longer.
#[derive(Debug, Error)]
pub enum HubError {
    /// It could not be entered, or not be left.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// What the controller does failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The agent could not do as it was told.
    #[error("the agent in process {pid} cannot {what}: {source}")]
    Agent {
        /// The process.
        pid: i32,
        /// What it was to do.
        what: &'static str,
        /// Why it could not.
        source: io::Error,
    },
    /// The agent gave no answer.
    #[error("the agent in process {0} does not answer")]
    Silent(i32),
    /// No address space is free where it is needed.
    #[error("no address space is free near the code of process {0}")]
    NoRoom(i32),
    /// The process ended.
    #[error("process {0} has ended")]
    Ended(i32),
    /// Hub and client could not speak with each other.
    #[error("the connection to the hub of process {pid}: {source}")]
    Connection {
        /// The process.
        pid: i32,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The hub refused.
    #[error("{0}")]
    Refused(String),
    /// Nobody traces it.
    #[error("process {0} is not being traced")]
    NotTraced(i32),
}

impl HubError {
    /// What the user can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Inject(error) => error.advice(),
            Self::Control(error) => error.advice().to_owned(),
            Self::Agent { .. } => {
                "limits on memory or on executable mappings may be in the way".into()
            }
            Self::NoRoom(_) => "trace fewer functions: -P PATTERN".into(),
            Self::Silent(pid) => format!("see: sledge doctor {pid}"),
            Self::Ended(_) => "there is nothing left to trace".into(),
            Self::Connection { .. } => "try again".into(),
            Self::Refused(_) => {
                "see: sledge sites; patterns are regular expressions unless --match glob".into()
            }
            Self::NotTraced(pid) => format!("begin with: sledge record -p {pid}"),
        }
    }
}
