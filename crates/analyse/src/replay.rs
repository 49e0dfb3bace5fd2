//! A trace shown as the nested code that it ran.

mod line;
mod rows;

use std::io::{self, Write};

use sledge_trace::event::{Directory, Ending, Event, EventKind, FunctionId, Nanos, Sink, ThreadId};

use crate::names::{Memo, Names, module_name};
use crate::output::Output;
use crate::{UnknownWord, parse_list, text};

use line::Line;

pub use rows::ReplayRows;

/// A column before the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// How long the call took.
    Duration,
    /// The thread's id.
    Tid,
    /// Seconds since the trace began.
    Time,
    /// Time since the thread's line before.
    Delta,
    /// Time since the first line.
    Elapsed,
    /// The file name of the function's object.
    Module,
    /// The thread's name.
    Comm,
}

impl Field {
    /// What [`Style::default`] shows.
    pub const DEFAULT: [Self; 2] = [Self::Duration, Self::Tid];
    const TABLE: [(&'static str, Self); 7] = [
        ("duration", Self::Duration),
        ("tid", Self::Tid),
        ("time", Self::Time),
        ("delta", Self::Delta),
        ("elapsed", Self::Elapsed),
        ("module", Self::Module),
        ("comm", Self::Comm),
    ];

    /// Reads `duration,tid`, `+time` (appends to the default) or `none`.
    ///
    /// # Errors
    /// [`UnknownWord`] for a field that there is not.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UnknownWord> {
        parse_list("field", text, &Self::TABLE, &Self::DEFAULT)
    }
}

/// How a replay looks.
#[derive(Clone, Debug)]
pub struct Style {
    /// The columns, from the left.
    pub fields: Vec<Field>,
    /// Whether to colour with ANSI escapes.
    pub colour: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { fields: Field::DEFAULT.to_vec(), colour: false }
    }
}

/// Shows calls as nested code, in time order over all threads:
///
/// ```text
/// # DURATION     TID      FUNCTION
///             [ 4711] | main() {
///    1.204 us [ 4711] |   strlen();
///   15.333 us [ 4711] | } /* main */
/// ```
///
/// A call whose exit is the very next event is one line, `f();`. A call that was jumped over by an
/// exception or `longjmp` ends as `} /* f, unwound */`. Where the exit could not be seen (`vfork`)
/// there is no duration; nor is there for a call still running at the end, which stays open.
#[derive(Debug)]
pub struct Replay<W> {
    output: Output<W>,
    line: Line,
    /// An entry whose line waits to see whether the exit follows at once.
    pending: Option<Pending>,
    threads: Memo<ThreadView>,
    first: Option<Nanos>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    at: Nanos,
    thread: ThreadId,
    function: FunctionId,
    depth: u32,
}

/// What a thread's lines need to know of those before.
#[derive(Debug)]
struct ThreadView {
    /// `[ 4711]`.
    label: Box<[u8]>,
    comm: Box<str>,
    last: Nanos,
    /// How deep it is, for lines that are not calls.
    depth: u32,
}

impl<W: Write> Replay<W> {
    /// A replay into `writer`.
    pub fn new(writer: W, names: Names, style: Style) -> Self {
        Self {
            output: Output::new(writer),
            line: Line::new(names, style),
            pending: None,
            threads: Memo::default(),
            first: None,
        }
    }

    /// Writes the headings once; gives the time of the first event.
    fn begin(&mut self, directory: &Directory, at: Nanos) -> Nanos {
        *self.first.get_or_insert_with(|| {
            self.line.header(&mut self.output.bytes, directory);
            at
        })
    }

    /// Writes the columns of a line.
    fn columns(
        &mut self,
        directory: &Directory,
        at: Nanos,
        thread: ThreadId,
        function: Option<FunctionId>,
        duration: Option<u64>,
    ) {
        let since_first = at.0.saturating_sub(self.begin(directory, at).0);
        let line = &self.line;
        let view = self.threads.get(thread.0, || ThreadView::new(line, directory, thread, at));
        let module = || function.map_or("", |function| module_name(directory, function));
        let moment = line::Moment { at, since_first, duration };
        line.columns(&mut self.output.bytes, &moment, view, module);
        view.last = at;
    }

    /// Writes the waiting entry as a block that opens.
    fn open_pending(&mut self, directory: &Directory) {
        if let Some(entry) = self.pending.take() {
            self.columns(directory, entry.at, entry.thread, Some(entry.function), None);
            self.line.open(&mut self.output.bytes, directory, entry.function, entry.depth);
        }
    }

    /// Takes the waiting entry if this exit is its own.
    fn take_leaf(&mut self, exit: &Pending) -> Option<Pending> {
        self.pending.take_if(|entry| {
            entry.thread == exit.thread
                && entry.function == exit.function
                && entry.depth == exit.depth
        })
    }

    fn exit(&mut self, directory: &Directory, exit: Pending, entered: Nanos, ending: Ending) {
        let duration = (ending != Ending::NotSeen).then(|| exit.at.0.saturating_sub(entered.0));
        let function = exit.function;
        if let Some(entry) = self.take_leaf(&exit) {
            self.columns(directory, entry.at, entry.thread, Some(function), duration);
            self.line.leaf(&mut self.output.bytes, directory, function, exit.depth, ending);
        } else {
            self.open_pending(directory);
            self.columns(directory, exit.at, exit.thread, Some(function), duration);
            self.line.close(&mut self.output.bytes, directory, function, exit.depth, ending);
        }
    }

    fn lost(&mut self, directory: &Directory, event: &Event, count: u64) {
        self.open_pending(directory);
        self.columns(directory, event.at, event.thread, None, None);
        let depth = self.view(directory, event).depth;
        self.line.lost(&mut self.output.bytes, count, depth);
    }

    fn view(&mut self, directory: &Directory, event: &Event) -> &mut ThreadView {
        let line = &self.line;
        let make = || ThreadView::new(line, directory, event.thread, event.at);
        self.threads.get(event.thread.0, make)
    }
}

impl<W: Write> Sink for Replay<W> {
    type Error = io::Error;

    fn event(&mut self, directory: &Directory, event: &Event) -> io::Result<()> {
        let (at, thread) = (event.at, event.thread);
        self.begin(directory, at);
        match event.kind {
            EventKind::Enter { function, depth } => {
                self.open_pending(directory);
                self.pending = Some(Pending { at, thread, function, depth });
                self.view(directory, event).depth = depth + 1;
            }
            EventKind::Exit { function, depth, entered, ending } => {
                self.exit(directory, Pending { at, thread, function, depth }, entered, ending);
                self.view(directory, event).depth = depth;
            }
            EventKind::Lost { count, .. } => self.lost(directory, event, count),
            EventKind::ThreadStart | EventKind::Switch { .. } | EventKind::ThreadEnd { .. } => {}
        }
        self.output.batch()
    }

    fn finish(&mut self, directory: &Directory) -> io::Result<()> {
        self.begin(directory, Nanos::default());
        self.open_pending(directory);
        self.output.finish()
    }
}

impl ThreadView {
    fn new(line: &Line, directory: &Directory, thread: ThreadId, at: Nanos) -> Self {
        let known = directory.threads.get(thread.0 as usize);
        Self {
            label: line.thread_label(known.map_or(0, |known| known.tid)),
            comm: text::printable(known.map_or("", |known| &known.name)).into(),
            last: at,
            depth: 0,
        }
    }
}

#[cfg(test)]
mod tests;
