//! Where the time went, by function.

mod write;

use std::collections::HashMap;
use std::convert::Infallible;

use sledge_trace::event::{Directory, Ending, Event, EventKind, FunctionId, Nanos, Sink};

use crate::names::{Memo, Names, module_name};
use crate::{UnknownWord, parse_list};

pub use write::{Column, Format, write};

/// What is known of one function, or of several that cannot be told apart by name and module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its readable name.
    pub name: Box<str>,
    /// The file name of its object.
    pub module: Box<str>,
    /// How often it was called.
    pub calls: u64,
    /// Nanoseconds in it and what it called; of a recursion the outermost call only.
    pub total: u64,
    /// Nanoseconds in it but not in traced functions that it called.
    pub own: u64,
    /// The calls whose duration is known.
    timed: u64,
    /// The sum of all durations, recursion or not.
    sum: u64,
    min: u64,
    /// The longest call.
    pub max: u64,
}

impl Row {
    /// The shortest call; 0 where no duration is known.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.timed == 0 { 0 } else { self.min }
    }

    /// The mean duration of a call; 0 where no duration is known.
    #[must_use]
    pub fn average(&self) -> u64 {
        self.sum.checked_div(self.timed).unwrap_or(0)
    }

    fn add(&mut self, duration: u64, inner: u64, outermost: bool) {
        self.timed += 1;
        self.sum = self.sum.saturating_add(duration);
        self.min = self.min.min(duration);
        self.max = self.max.max(duration);
        self.own += duration.saturating_sub(inner);
        if outermost {
            self.total += duration;
        }
    }
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

/// Adds up calls by function. A call still running when its thread ends counts up to then.
#[derive(Debug)]
pub struct Report {
    names: Names,
    rows: Vec<Row>,
    /// The row of a readable name in a module.
    by_name: HashMap<(Box<str>, Box<str>), u32>,
    /// The row of a function.
    row_of: Memo<u32>,
    threads: Memo<Stack>,
    last: Nanos,
}

/// The open calls of a thread, outermost first.
#[derive(Debug, Default)]
struct Stack {
    frames: Vec<Frame>,
    /// One bit a row: set while it has an open call.
    active: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    row: u32,
    depth: u32,
    entered: Nanos,
    /// Nanoseconds in calls that this one made.
    inner: u64,
    /// No call of the same function is around it.
    outermost: bool,
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(names: Names) -> Self {
        Self {
            names,
            rows: Vec::new(),
            by_name: HashMap::new(),
            row_of: Memo::default(),
            threads: Memo::default(),
            last: Nanos::default(),
        }
    }

    /// The rows, sorted by `keys`, equals by name and module. Ends what is still open.
    #[must_use]
    pub fn rows(mut self, keys: &[SortKey]) -> Vec<Row> {
        for stack in self.threads.values_mut() {
            stack.end(&mut self.rows, self.last);
        }
        self.rows.sort_by(|left, right| {
            let by_keys = keys.iter().map(|key| key.compare(left, right));
            by_keys
                .fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
                .then_with(|| (&left.name, &left.module).cmp(&(&right.name, &right.module)))
        });
        self.rows
    }

    fn row(&mut self, directory: &Directory, function: FunctionId) -> u32 {
        let Self { names, rows, by_name, row_of, .. } = self;
        *row_of.get(function.0, || {
            let name: Box<str> = names.of(directory, function).into();
            let module: Box<str> = module_name(directory, function).into();
            *by_name.entry((name.clone(), module.clone())).or_insert_with(|| {
                rows.push(Row::new(name, module));
                rows.len() as u32 - 1
            })
        })
    }
}

impl Row {
    fn new(name: Box<str>, module: Box<str>) -> Self {
        Self { name, module, calls: 0, total: 0, own: 0, timed: 0, sum: 0, min: u64::MAX, max: 0 }
    }
}

impl Sink for Report {
    type Error = Infallible;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), Infallible> {
        self.last = event.at;
        match event.kind {
            EventKind::Enter { function, depth } => {
                let row = self.row(directory, function);
                self.rows[row as usize].calls += 1;
                self.threads.get(event.thread.0, Stack::default).enter(row, depth, event.at);
            }
            EventKind::Exit { function, depth, entered, ending } => {
                let row = self.row(directory, function);
                let stack = self.threads.get(event.thread.0, Stack::default);
                let frame = stack.take(row, depth, entered).unwrap_or_else(|| {
                    // Its entry came before the part of the trace that is read.
                    self.rows[row as usize].calls += 1;
                    Frame { row, depth, entered, inner: 0, outermost: true }
                });
                if ending != Ending::NotSeen {
                    stack.account(&mut self.rows, &frame, event.at);
                }
            }
            EventKind::ThreadEnd { .. } => {
                let stack = self.threads.get(event.thread.0, Stack::default);
                stack.end(&mut self.rows, event.at);
                *stack = Stack::default();
            }
            EventKind::ThreadStart | EventKind::Switch { .. } | EventKind::Lost { .. } => {}
        }
        Ok(())
    }
}

impl Stack {
    fn enter(&mut self, row: u32, depth: u32, entered: Nanos) {
        let (word, bit) = (row as usize / 64, 1 << (row % 64));
        if word >= self.active.len() {
            self.active.resize(word + 1, 0);
        }
        let outermost = self.active[word] & bit == 0;
        self.active[word] |= bit;
        self.frames.push(Frame { row, depth, entered, inner: 0, outermost });
    }

    /// Takes the frame of an exit: the innermost, but for coroutines.
    fn take(&mut self, row: u32, depth: u32, entered: Nanos) -> Option<Frame> {
        let is_it =
            |frame: &Frame| frame.row == row && frame.depth == depth && frame.entered == entered;
        let index = self.frames.iter().rposition(is_it)?;
        let frame = self.frames.remove(index);
        if frame.outermost {
            self.active[row as usize / 64] &= !(1 << (row % 64));
        }
        Some(frame)
    }

    /// Adds an ended call to its row, and to the time inside the call around it.
    fn account(&mut self, rows: &mut [Row], ended: &Frame, at: Nanos) {
        let duration = at.0.saturating_sub(ended.entered.0);
        rows[ended.row as usize].add(duration, ended.inner, ended.outermost);
        let around = self.frames.iter_mut().rev().find(|frame| frame.depth < ended.depth);
        if let Some(around) = around {
            around.inner = around.inner.saturating_add(duration);
        }
    }

    /// Ends all open calls.
    fn end(&mut self, rows: &mut [Row], at: Nanos) {
        while let Some(frame) = self.frames.pop() {
            self.account(rows, &frame, at);
        }
    }
}

#[cfg(test)]
mod tests;
