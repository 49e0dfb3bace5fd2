//! What can be wrong with a trace file.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a trace could not be written. The file stays readable up to what was written before.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file could not be created.
    #[error("cannot create {}: {source}", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No space is left on the file system, or in the user's quota.
    #[error("no space left for {} after {written} bytes", path.display())]
    DiskFull {
        /// Which file.
        path: PathBuf,
        /// How long the readable part is.
        written: u64,
    },
    /// The file has reached the size that this process may write (`ulimit -f`) or the file
    /// system can hold.
    #[error("{} may not grow beyond {written} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How long the readable part is.
        written: u64,
    },
    /// Another I/O error.
    #[error("cannot write {} after {written} bytes: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// How long the readable part is.
        written: u64,
        /// Why.
        source: io::Error,
    },
}

/// Why a trace cannot be read at all.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading failed underneath.
    #[error("cannot read the trace at byte {offset}: {source}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a trace", path.display())]
    NotATrace {
        /// Which file.
        path: PathBuf,
    },
    /// The file is a trace of a format that this reader does not know.
    #[error("the trace has format version {found}; this sledge reads version {known}")]
    WrongVersion {
        /// The file's.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The file ends within its first block.
    #[error("the trace is cut off after {length} bytes, before its first block ends")]
    Truncated {
        /// How long the file is.
        length: u64,
    },
    /// The first block, without which nothing can be read, is damaged.
    #[error("the trace's header is damaged: {flaw}")]
    BadHeader {
        /// How.
        flaw: Flaw,
    },
}

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Flaw {
    /// No block begins where one should.
    #[error("no block begins here")]
    NoBlock,
    /// Its bytes are not those that were written.
    #[error("bad checksum")]
    BadChecksum,
    /// It does not decompress.
    #[error("it cannot be decompressed")]
    BadCompression,
    /// The file ends within it.
    #[error("it is cut off")]
    Truncated,
    /// Its bytes are as written, but say nothing sensible.
    #[error("its content makes no sense")]
    BadContent,
    /// It speaks of a function or thread that nothing defines.
    #[error("it names something that is not defined")]
    Undefined,
}

/// A damaged stretch of the file, which was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes were skipped.
    pub length: u64,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} bytes at {:#x} skipped: {}", self.length, self.offset, self.flaw)
    }
}

/// Why giving a trace's events to a sink stopped.
#[derive(Debug, Error)]
pub enum ReplayError<E> {
    /// The trace could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The sink would not go on.
    #[error("{0}")]
    Sink(E),
}
