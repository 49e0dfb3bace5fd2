//! Reading a trace file.

use std::ops::Range;
use std::path::Path;

use crate::error::{Damage, ReadError, ReplayError};
use crate::event::{Directory, FunctionId, Nanos, Sink, ThreadId};
use crate::writer::Host;

/// Where a trace without an end was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many bytes of the file were of use.
    pub offset: u64,
    /// The time of the last thing known.
    pub at: Nanos,
}

/// A stretch of a thread of which events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Whose.
    pub thread: ThreadId,
    /// From when on.
    pub since: Nanos,
    /// Until when.
    pub until: Nanos,
    /// How many.
    pub count: u64,
}

/// An open trace file.
#[derive(Debug)]
pub struct Trace {
    directory: Directory,
    host: Host,
}

impl Trace {
    /// Opens a trace: reads its index and its definitions, none of its steps.
    ///
    /// # Errors
    /// When it is no trace or nothing of it can be read. Damaged parts are no error: they are
    /// skipped and listed in [`damage`](Self::damage).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Err(ReadError::NotATrace { path: path.as_ref().to_owned() })
    }

    /// What the trace knows besides its events.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The machine it was recorded on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Where the recording was cut off; `None` when it was finished.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        None
    }

    /// Events that were lost while recording.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &[]
    }

    /// What has been found damaged and was skipped, so far: blocks are checked when read.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        Vec::new()
    }

    /// How long the trace is, from its first clock reading to the last thing known.
    #[must_use]
    pub fn duration(&self) -> Nanos {
        Nanos(0)
    }

    /// The calls of a thread that never ended, in the order in which they began.
    #[must_use]
    pub fn still_open(&self, _thread: ThreadId) -> Vec<FunctionId> {
        Vec::new()
    }

    /// Gives the events of all threads to `sink`, in time order.
    ///
    /// A range is presented as a trace of its own: its threads start, and the calls open at its
    /// beginning are entered, at their true times before it; calls open at its end are counted
    /// by `ThreadEnd`.
    ///
    /// # Errors
    /// When the file cannot be read, or the sink's.
    pub fn events<S: Sink>(
        &self,
        _range: Option<Range<Nanos>>,
        _sink: &mut S,
    ) -> Result<(), ReplayError<S::Error>> {
        Ok(())
    }
}
