//! The call filter.

use sledge_trace::event::{Directory, Event, FunctionId, Nanos, Sink, Step, Ticks};

use crate::pattern::Pattern;

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct FilterSpec {
    /// `-F`: only these functions and what they call; empty means all.
    pub filter: Vec<Pattern>,
    /// `-N`: not these functions nor what they call.
    pub notrace: Vec<Pattern>,
    /// `-C`: only calls that lead to these functions, and those.
    pub caller: Vec<Pattern>,
    /// `-H`: not these functions, but what they call.
    pub hide: Vec<Pattern>,
    /// `-D`: so many levels, counted from the outermost call or from the one `-F` matched.
    pub depth: Option<u32>,
    /// `-t`: only calls that last at least so long.
    pub threshold: Option<Nanos>,
}

/// A [`FilterSpec`], applied to the functions learnt so far.
#[derive(Clone, Debug)]
pub struct CallFilter {
    spec: FilterSpec,
}

impl CallFilter {
    /// A filter that knows no function yet; unknown functions match no pattern.
    #[must_use]
    pub fn new(spec: FilterSpec) -> Self {
        Self { spec }
    }

    /// Tells the filter a function: its names (raw, demangled) and its object's file name.
    pub fn learn(&mut self, _id: FunctionId, _names: &[&str], _module: &str) {}

    /// Patterns that have matched no function so far.
    #[must_use]
    pub fn unmatched(&self) -> Vec<&Pattern> {
        self.spec.filter.iter().collect()
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }
}

/// Filters the steps of one thread while recording.
#[derive(Debug)]
pub struct StepFilter {
    threshold: Ticks,
}

impl StepFilter {
    /// For one thread; `threshold` is the filter's in ticks.
    #[must_use]
    pub fn new(threshold: Ticks) -> Self {
        Self { threshold }
    }

    /// Takes the thread's next step and appends those that are known to be shown.
    pub fn push(&mut self, _filter: &CallFilter, step: Step, out: &mut Vec<Step>) {
        if step.at >= self.threshold {
            out.push(step);
        }
    }

    /// Appends what was held back: calls that never ended are shown.
    pub fn finish(&mut self, _out: &mut Vec<Step>) {}
}

/// Filters events while replaying: a sink in front of a sink.
#[derive(Debug)]
pub struct EventFilter<'a, S> {
    filter: &'a CallFilter,
    sink: &'a mut S,
}

impl<'a, S: Sink> EventFilter<'a, S> {
    /// Passes on to `sink` what `filter` shows.
    pub fn new(filter: &'a CallFilter, sink: &'a mut S) -> Self {
        Self { filter, sink }
    }
}

impl<S: Sink> Sink for EventFilter<'_, S> {
    type Error = S::Error;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), S::Error> {
        if self.filter.is_empty() { self.sink.event(directory, event) } else { Ok(()) }
    }
}
