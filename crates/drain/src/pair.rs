//! Pairing the entries and exits of one thread.

use sledge_trace::event::{FunctionId, Step};
use sledge_wire::record::Record;

/// Turns the raw records of one thread into well-formed steps.
#[derive(Debug, Default)]
pub struct Pairer {
    stray: u64,
}

impl Pairer {
    /// For a thread of which nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record, whose site is `function`, and appends the steps it means.
    pub fn push(&mut self, _record: Record, _function: FunctionId, _out: &mut Vec<Step>) {}

    /// Notes that records are missing before the next one.
    pub fn lost(&mut self) {}

    /// Exits that matched no open call although nothing was lost.
    #[must_use]
    pub fn stray(&self) -> u64 {
        self.stray
    }

    /// Calls open now, over all stacks.
    #[must_use]
    pub fn open(&self) -> usize {
        0
    }

    /// Ends the thread. Calls still open stay so: they are reported as never ended.
    pub fn finish(self, _out: &mut Vec<Step>) {}
}
