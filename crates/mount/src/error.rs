//! Why there is no mount.

use sledge_control::ControlError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a process could not be mounted.
#[derive(Debug, Error)]
pub enum MountError {
    /// The program could not be started or traced.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The directory is none.
    #[error("{} is not a directory", .0.display())]
    Directory(PathBuf),
    /// The kernel refused.
    #[error("cannot mount at {}: {source}", .directory.display())]
    Mount {
        /// Where.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl MountError {
    /// What the user can do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Control(error) => error.advice(),
            Self::Directory(_) => "make it first: mkdir DIR",
            Self::Mount { .. } => "mounting needs /dev/fuse, and root or fusermount3",
            Self::System { .. } => "see ulimit -a and the kernel's limits",
        }
    }
}
