//! Reading a trace file.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::block::{HEADER_BYTES, MAGIC, MARKER};
use crate::error::{Damage, ReadError, ReplayError};
use crate::event::{Directory, FunctionId, Nanos, Sink, ThreadId, Ticks};
use crate::file::Source;
use crate::load::{self, Loaded, thread_at};
use crate::merge;
use crate::writer::Host;

/// Where a trace without an end was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many bytes of the file were of use.
    pub offset: u64,
    /// The time of the last thing known.
    pub at: Nanos,
}

/// Which part of a trace is read: all of it by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only what happens within; the end is not part of it.
    pub range: Option<Range<Nanos>>,
    /// Only these threads. The others are not read at all.
    pub threads: Option<Vec<ThreadId>>,
}

impl From<Range<Nanos>> for Selection {
    fn from(range: Range<Nanos>) -> Self {
        Self { range: Some(range), threads: None }
    }
}

impl Selection {
    pub(crate) fn has(&self, thread: ThreadId) -> bool {
        self.threads.as_ref().is_none_or(|threads| threads.contains(&thread))
    }
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
    pub(crate) source: Source,
    pub(crate) loaded: Loaded,
    losses: Vec<Loss>,
    damage: Mutex<Vec<Damage>>,
}

impl Trace {
    /// Opens a trace: reads its index and its definitions, none of its steps.
    ///
    /// # Errors
    /// When it is no trace or nothing of it can be read. Damaged parts are no error: they are
    /// skipped and listed in [`damage`](Self::damage).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        let open = |source| ReadError::Open { path: path.to_owned(), source };
        let source = Source::new(File::open(path).map_err(open)?).map_err(open)?;
        check_beginning(&source, path)?;
        let mut loaded = load::load(&source)?;
        let losses = losses(&loaded);
        let damage = Mutex::new(std::mem::take(&mut loaded.damage));
        Ok(Self { source, loaded, losses, damage })
    }

    /// What the trace knows besides its events.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.loaded.directory
    }

    /// The machine it was recorded on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.loaded.host
    }

    /// Where the recording was cut off; `None` when it was finished.
    #[must_use]
    pub fn cut(&self) -> Option<Cut> {
        self.loaded.cut.map(|offset| Cut { offset, at: self.duration() })
    }

    /// From when on the trace has everything; `None` where it has the beginning of its recording.
    /// What was before was not kept, but for the calls that were open then.
    #[must_use]
    pub fn since(&self) -> Option<Nanos> {
        let since = self.loaded.since;
        (since > Ticks(0)).then(|| self.nanos(since))
    }

    /// Events that were lost while recording, by the time at which they ended.
    #[must_use]
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// What has been found damaged and was skipped, so far: blocks are checked when read.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the trace is, from its first clock reading to the last thing known.
    #[must_use]
    pub fn duration(&self) -> Nanos {
        self.nanos(self.loaded.last)
    }

    /// When a thread was first and last seen; `None` for a thread that the trace does not have.
    #[must_use]
    pub fn lifetime(&self, thread: ThreadId) -> Option<(Nanos, Nanos)> {
        let strand = self.loaded.strands.get(thread.0 as usize)?;
        let end = merge::end_of(strand, self.loaded.last);
        Some((self.nanos(strand.first().min(end)), self.nanos(end)))
    }

    /// The calls of a thread that never ended, in the order in which they began.
    #[must_use]
    pub fn still_open(&self, thread: ThreadId) -> Vec<FunctionId> {
        merge::still_open(self, thread)
    }

    /// Gives the events that are selected to `sink`, in time order over all threads, and then
    /// tells it to finish.
    ///
    /// A range is presented as a trace of its own: its threads start, and the calls open at its
    /// beginning are entered, at their true times before it; calls open at its end are counted
    /// by `ThreadEnd`. Where a block is damaged, its events are told as lost.
    ///
    /// # Errors
    /// When the file cannot be read, or the sink's.
    pub fn events<S: Sink>(
        &self,
        selection: &Selection,
        sink: &mut S,
    ) -> Result<(), ReplayError<S::Error>> {
        let read = merge::events(self, selection, sink);
        if !matches!(read, Err(ReplayError::Sink(_))) {
            sink.finish(self.directory()).map_err(ReplayError::Sink)?;
        }
        read
    }

    pub(crate) fn nanos(&self, ticks: Ticks) -> Nanos {
        self.loaded.clock.nanos(ticks, &mut 0)
    }

    /// Notes damage, once for each place.
    pub(crate) fn note(&self, damage: Damage) {
        let mut noted = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.iter().any(|known| known.offset == damage.offset) {
            noted.push(damage);
        }
    }
}

/// Tells a trace, even a damaged one, from something else.
fn check_beginning(source: &Source, path: &Path) -> Result<(), ReadError> {
    let mut bytes = [0; HEADER_BYTES + MARKER.len()];
    let count = source.read(0, &mut bytes)?;
    let (magic, marker) = (&bytes[..MAGIC.len()], &bytes[HEADER_BYTES..]);
    let prefix = count.min(MAGIC.len());
    if count < bytes.len() && bytes[..prefix] == MAGIC[..prefix] {
        return Err(ReadError::Truncated { length: source.length() });
    }
    // Either will do: one of them may be what is damaged.
    if magic == MAGIC || marker == MARKER {
        return Ok(());
    }
    Err(ReadError::NotATrace { path: path.to_owned() })
}

fn losses(loaded: &Loaded) -> Vec<Loss> {
    let mut losses = Vec::new();
    for (number, strand) in loaded.strands.iter().enumerate() {
        losses.extend(strand.losses.iter().map(|loss| Loss {
            thread: thread_at(number),
            since: loaded.clock.nanos(loss.since, &mut 0),
            until: loaded.clock.nanos(loss.until, &mut 0),
            count: loss.count,
        }));
    }
    losses.sort_by_key(|loss| loss.until);
    losses
}
