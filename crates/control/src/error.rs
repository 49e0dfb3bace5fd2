//! What can go wrong while a program is recorded.

use sledge_discover::DiscoverError;
use sledge_inject::{InjectError, Unusual};
use sledge_trace::WriteError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no recording, or only part of one.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No such program, neither as a path nor in `$PATH`.
    #[error("there is no program '{}'", .0.display())]
    NoProgram(PathBuf),
    /// The file may not be executed.
    #[error("{} is not executable", .0.display())]
    NotExecutable(PathBuf),
    /// A setuid or setgid program.
    #[error("{} is set{}: not traced", .0.display(), .1)]
    SetId(PathBuf, &'static str),
    /// A statically linked program with something unusual about it.
    #[error("this statically linked program cannot be traced: {0}")]
    Static(&'static str),
    /// A running process could not be entered.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// The file is no program that can be traced.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// The program could not be started.
    #[error("cannot start {}: {source}", .program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent in the program never reported.
    #[error("the program started, but the agent in it did not report")]
    NoAgent,
    /// No directory for the session.
    #[error("no directory for the agent and its socket: {0}")]
    Session(io::Error),
    /// A system call of the controller failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The agent could not carry out the plan.
    #[error("the agent could not carry out step {step} of the plan: {source}")]
    Plan {
        /// Which step.
        step: u64,
        /// Why.
        source: io::Error,
    },
    /// The agent speaks another version.
    #[error("the agent in the program is of another version")]
    Version,
    /// A pattern matches no function.
    #[error("no function matches '{pattern}' in {}{}", .program, hint(.suggestion.as_deref(), *.functions))]
    NoMatch {
        /// The pattern.
        pattern: String,
        /// The program's file name.
        program: String,
        /// A name that may have been meant.
        suggestion: Option<String>,
        /// How many functions there are.
        functions: usize,
    },
    /// The trace could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl ControlError {
    /// What the user can do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::NoProgram(_) => "give a path, or a name that $PATH finds",
            Self::NotExecutable(_) => "make it executable: chmod +x",
            Self::SetId(..) => "run it as root, or trace a copy without the bit",
            Self::Static(_) => "link it dynamically",
            Self::Inject(_) => "see: sledge doctor",
            Self::Discover(_) => "sledge traces x86-64 ELF programs and scripts that they run",
            Self::Start { .. } => "try to run it without sledge",
            Self::NoAgent => "its loader may ignore LD_PRELOAD; try to run it without sledge",
            Self::Session(_) => "set TMPDIR to a directory of yours that is not mounted noexec",
            Self::System { .. } => "see ulimit -a and the kernel's limits",
            Self::Plan { .. } => "limits on memory or on executable mappings may be in the way",
            Self::Version => "use the sledge that the program was started with",
            Self::NoMatch { .. } => {
                "see what there is: sledge sites; patterns are regular expressions unless --match glob"
            }
            Self::Write(_) => "make room, or write elsewhere with -o FILE",
        }
    }

    pub(crate) fn system(what: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |error| Self::System { what, source: error.into() }
    }
}

impl From<Unusual> for ControlError {
    fn from(error: Unusual) -> Self {
        Self::Static(error.0)
    }
}

fn hint(suggestion: Option<&str>, functions: usize) -> String {
    match suggestion {
        Some(name) => format!(" (did you mean '{name}'? {functions} functions)"),
        None => format!(" ({functions} functions)"),
    }
}
