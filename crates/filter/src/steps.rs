//! Filtering steps, while recording.

use sledge_trace::event::{Op, StackIndex, Step, Ticks};

use crate::calls::CallFilter;
use crate::gate::Gate;
use crate::strand::{ShownStacks, Strand};

/// Filters the steps of one thread while recording.
///
/// With a threshold an entry is held back until its call is known to last long enough: then it
/// comes out, in its place, with the time it had.
#[derive(Debug)]
pub struct StepFilter {
    strand: Strand,
    gate: Gate<(StackIndex, Step)>,
    shown: ShownStacks,
}

impl StepFilter {
    /// For one thread; `threshold` is the filter's in ticks.
    #[must_use]
    pub fn new(threshold: Ticks) -> Self {
        let (strand, shown) = (Strand::default(), ShownStacks::default());
        Self { strand, gate: Gate::new(threshold.0), shown }
    }

    /// Takes the thread's next step and appends those that are known to be shown.
    pub fn push(&mut self, filter: &CallFilter, step: Step, out: &mut Vec<Step>) {
        let (now, payload) = (step.at.0, (self.strand.stack(), step));
        match step.op {
            Op::Enter(function) => {
                self.strand.enter(filter, &mut self.gate, (function, now), payload);
            }
            Op::Leave(_) => self.strand.leave(&mut self.gate, now, payload),
            Op::Switch(stack) => self.strand.switch(filter, stack),
        }
        self.release(now, out);
    }

    /// Appends what was held back: calls that never ended are shown.
    pub fn finish(&mut self, out: &mut Vec<Step>) {
        self.strand.finish(&mut self.gate);
        self.release(u64::MAX, out);
    }

    fn release(&mut self, now: u64, out: &mut Vec<Step>) {
        while let Some((stack, step)) = self.gate.next(now) {
            if let Some(stack) = self.shown.switch(stack) {
                out.push(Step { at: step.at, op: Op::Switch(stack) });
            }
            out.push(step);
        }
    }
}
