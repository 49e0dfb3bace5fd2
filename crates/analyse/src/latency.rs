//! The slowest calls of some functions, and how long all their calls took.

mod subtree;
mod write;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::convert::Infallible;

use sledge_trace::event::{Directory, Ending, Event, FunctionId, Nanos, Sink, ThreadId};

use crate::calls::{Begun, Calls, Ended, Visitor};
use crate::histogram::Histogram;

pub use subtree::{Inner, Nested, Subtree};
pub use write::{headline, histogram, rows};

/// A call that was slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slow {
    /// How long it took, in nanoseconds.
    pub duration: u64,
    /// When it began.
    pub entered: Nanos,
    /// On which thread.
    pub thread: ThreadId,
    /// Of which function.
    pub function: FunctionId,
    /// How many traced calls were open around it.
    pub depth: u32,
    /// Whether it was still open at the end of what was read.
    pub open: bool,
}

/// How long the calls of some functions took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// The slowest, the slowest first; of equals, the earlier.
    pub slowest: Vec<Slow>,
    /// All durations.
    pub durations: Histogram,
    /// Their sum.
    pub total: u64,
    /// The shortest; `u64::MAX` where there is none.
    pub least: u64,
    /// Calls whose exit could not be seen.
    pub unseen: u64,
}

/// Looks for the slowest calls of some functions.
#[derive(Debug)]
pub struct Latency(Calls<Search>);

/// How slow a call was, and of equals how early.
type Rank = (u64, Reverse<Nanos>);

#[derive(Debug)]
struct Search {
    /// By function, whether it is one of them.
    wanted: Vec<bool>,
    most: usize,
    /// The slowest so far, the least slow of them on top.
    heap: BinaryHeap<Reverse<(Rank, Slow)>>,
    found: Latencies,
}

impl Latency {
    /// Looks at the functions for which `wanted` is set, and keeps the slowest `most` calls.
    #[must_use]
    pub fn new(wanted: Vec<bool>, most: usize) -> Self {
        let found = Latencies { least: u64::MAX, ..Latencies::default() };
        Self(Calls::new(Search { wanted, most, heap: BinaryHeap::new(), found }))
    }

    /// What was found.
    #[must_use]
    pub fn found(self) -> Latencies {
        let Search { heap, found, .. } = self.0.visitor;
        // Sorted by what is reversed: the slowest comes first.
        let slowest = heap.into_sorted_vec().into_iter().map(|Reverse((_, slow))| slow);
        Latencies { slowest: slowest.collect(), ..found }
    }
}

impl Sink for Latency {
    type Error = Infallible;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), Infallible> {
        self.0.event(directory, event)
    }

    fn finish(&mut self, directory: &Directory) -> Result<(), Infallible> {
        self.0.finish(directory)
    }
}

impl Visitor for Search {
    type Frame = ();
    type Error = Infallible;

    #[inline(always)]
    fn begin(&mut self, _: &Directory, _: &Begun, _: Option<&mut ()>) -> Result<(), Infallible> {
        Ok(())
    }

    #[inline(always)]
    fn end(&mut self, _: &Directory, call: &Ended, (): ()) -> Result<(), Infallible> {
        if self.wanted.get(call.function.0 as usize).copied().unwrap_or(false) {
            self.count(call);
        }
        Ok(())
    }
}

impl Search {
    fn count(&mut self, call: &Ended) {
        if call.ending == Some(Ending::NotSeen) {
            self.found.unseen += 1;
            return;
        }
        let duration = call.at.0.saturating_sub(call.entered.0);
        self.found.durations.add(duration);
        self.found.total = self.found.total.saturating_add(duration);
        self.found.least = self.found.least.min(duration);
        let &Ended { thread, function, depth, entered, .. } = call;
        let slow = Slow { duration, entered, thread, function, depth, open: call.ending.is_none() };
        let full = self.heap.len() >= self.most;
        let least = self.heap.peek().map(|Reverse(((least, _), _))| *least);
        if full && least.is_none_or(|least| duration <= least) {
            return;
        }
        if full {
            self.heap.pop();
        }
        self.heap.push(Reverse(((duration, Reverse(entered)), slow)));
    }
}

#[cfg(test)]
mod tests;
