//! Where the time went: by function, module, thread or source file.

mod diff;
mod row;
mod write;

use std::collections::HashMap;
use std::convert::Infallible;

use sledge_trace::event::{Directory, Ending, FunctionId, ThreadId};

use crate::calls::{Begun, Calls, Ended, Visitor};
use crate::names::{Memo, Names, module_name};
use crate::{UnknownWord, parse_list};

pub use diff::{Change, Changed, Diff, Verdict, write as write_diff};
pub use row::Row;
pub use write::{Column, write};

/// What a row of a report stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// A function, or several that cannot be told apart by name and module.
    #[default]
    Function,
    /// All functions of an object.
    Module,
    /// All calls of a thread.
    Thread,
    /// All functions that a source file defines.
    Source,
}

/// What rows are sorted by; times and counts from the largest, names from A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// [`Row::total`].
    Total,
    /// [`Row::own`].
    Own,
    /// [`Row::calls`].
    Calls,
    /// [`Row::average`].
    Average,
    /// [`Row::min`].
    Min,
    /// [`Row::max`].
    Max,
    /// [`Row::name`].
    Function,
}

impl SortKey {
    /// What a report is sorted by if not told.
    pub const DEFAULT: [Self; 1] = [Self::Total];
    const TABLE: [(&'static str, Self); 7] = [
        ("total", Self::Total),
        ("self", Self::Own),
        ("call", Self::Calls),
        ("avg", Self::Average),
        ("min", Self::Min),
        ("max", Self::Max),
        ("func", Self::Function),
    ];

    /// Reads `total,func` and the like.
    ///
    /// # Errors
    /// [`UnknownWord`] for a key that there is not.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UnknownWord> {
        parse_list("sort key", text, &Self::TABLE, &Self::DEFAULT)
    }

    fn compare(self, left: &Row, right: &Row) -> std::cmp::Ordering {
        match self {
            Self::Total => right.total.cmp(&left.total),
            Self::Own => right.own.cmp(&left.own),
            Self::Calls => right.calls.cmp(&left.calls),
            Self::Average => right.average().cmp(&left.average()),
            Self::Min => right.min().cmp(&left.min()),
            Self::Max => right.max.cmp(&left.max),
            Self::Function => left.name.cmp(&right.name),
        }
    }
}

/// Adds up calls. One that is still open when its thread ends counts up to then.
#[derive(Debug)]
pub struct Report(Calls<Adding>);

impl Report {
    /// An empty report with a row for each of these.
    #[must_use]
    pub fn new(names: Names, by: By) -> Self {
        Self(Calls::new(Adding {
            by,
            names,
            rows: Vec::new(),
            by_name: HashMap::new(),
            row_of: Memo::default(),
            active: Memo::default(),
        }))
    }

    /// The rows, sorted by `keys`, equals by name and module.
    #[must_use]
    pub fn rows(self, keys: &[SortKey]) -> Vec<Row> {
        let mut rows = self.0.visitor.rows;
        rows.sort_by(|left, right| {
            let by_keys = keys.iter().map(|key| key.compare(left, right));
            by_keys
                .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
                .then_with(|| (&left.name, &left.module).cmp(&(&right.name, &right.module)))
        });
        rows
    }
}

impl sledge_trace::event::Sink for Report {
    type Error = Infallible;

    #[inline]
    fn event(
        &mut self,
        directory: &Directory,
        event: &sledge_trace::event::Event,
    ) -> Result<(), Infallible> {
        self.0.event(directory, event)
    }

    fn finish(&mut self, directory: &Directory) -> Result<(), Infallible> {
        self.0.finish(directory)
    }
}

/// A report in the making.
#[derive(Debug)]
struct Adding {
    by: By,
    names: Names,
    rows: Vec<Row>,
    /// The row of a readable name in a module.
    by_name: HashMap<(Box<str>, Box<str>), u32>,
    /// The row of a function, or of a thread.
    row_of: Memo<u32>,
    /// By thread, a bit for each row: set while it has an open call.
    active: Memo<Vec<u64>>,
}

/// What is kept with an open call.
#[derive(Clone, Copy, Debug)]
struct Frame {
    row: u32,
    /// No call of the same row is around it.
    outermost: bool,
}

impl Adding {
    #[inline]
    fn row(&mut self, directory: &Directory, thread: ThreadId, function: FunctionId) -> u32 {
        let Self { by, names, rows, by_name, row_of, .. } = self;
        let index = if *by == By::Thread { thread.0 } else { function.0 };
        *row_of.get(index, || {
            let (name, module) = match by {
                By::Function => (names.of(directory, function), module_name(directory, function)),
                By::Module => (module_name(directory, function), ""),
                By::Thread => return add(rows, thread_name(directory, thread).into(), "".into()),
                By::Source => (names.file(directory, function), ""),
            };
            let key: (Box<str>, Box<str>) = (name.into(), module.into());
            *by_name.entry(key.clone()).or_insert_with(|| add(rows, key.0, key.1))
        })
    }
}

fn add(rows: &mut Vec<Row>, name: Box<str>, module: Box<str>) -> u32 {
    rows.push(Row::new(name, module));
    rows.len() as u32 - 1
}

/// `worker [4712]`.
fn thread_name(directory: &Directory, thread: ThreadId) -> String {
    match directory.threads.get(thread.0 as usize) {
        Some(known) => format!("{} [{}]", known.name, known.tid),
        None => format!("?{}", thread.0),
    }
}

impl Visitor for Adding {
    type Frame = Frame;
    type Error = Infallible;

    #[inline(always)]
    fn begin(
        &mut self,
        directory: &Directory,
        call: &Begun,
        _: Option<&mut Frame>,
    ) -> Result<Frame, Infallible> {
        let row = self.row(directory, call.thread, call.function);
        self.rows[row as usize].calls += 1;
        let active = self.active.get(call.thread.0, Vec::new);
        let (word, bit) = (row as usize / 64, 1 << (row % 64));
        if word >= active.len() {
            active.resize(word + 1, 0);
        }
        let outermost = active[word] & bit == 0;
        active[word] |= bit;
        Ok(Frame { row, outermost })
    }

    #[inline(always)]
    fn end(&mut self, _: &Directory, call: &Ended, frame: Frame) -> Result<(), Infallible> {
        if frame.outermost {
            let active = self.active.get(call.thread.0, Vec::new);
            active[frame.row as usize / 64] &= !(1 << (frame.row % 64));
        }
        let row = &mut self.rows[frame.row as usize];
        if call.ending != Some(Ending::NotSeen) {
            let duration = call.at.0.saturating_sub(call.entered.0);
            row.add(duration, call.own, frame.outermost);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
