//! Everything within one call.

use sledge_trace::event::{Directory, Ending, Event, EventKind, FunctionId, Nanos, Sink, ThreadId};

use super::Slow;

/// Passes on what happens within one call, from its entry to its exit: a sink in front of a sink.
#[derive(Debug)]
pub struct Subtree<'s, S> {
    call: Slow,
    state: State,
    sink: &'s mut S,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Inside,
    After,
}

impl<'s, S: Sink> Subtree<'s, S> {
    /// Passes on to `sink`. The call is known again by its thread, function, depth and times.
    pub fn new(call: &Slow, sink: &'s mut S) -> Self {
        Self { call: *call, state: State::Before, sink }
    }

    fn is_it(&self, event: &Event, function: FunctionId, depth: u32, entered: Nanos) -> bool {
        let call = &self.call;
        (event.thread, function, depth, entered)
            == (call.thread, call.function, call.depth, call.entered)
    }
}

impl<S: Sink> Sink for Subtree<'_, S> {
    type Error = S::Error;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), S::Error> {
        match (self.state, event.kind) {
            (State::Before, EventKind::Enter { function, depth })
                if self.is_it(event, function, depth, event.at) =>
            {
                self.state = State::Inside;
            }
            (State::Inside, EventKind::Exit { function, depth, entered, .. })
                if self.is_it(event, function, depth, entered) =>
            {
                self.state = State::After;
                return self.sink.event(directory, event);
            }
            _ => {}
        }
        let own = event.thread == self.call.thread;
        if self.state == State::Inside && own { self.sink.event(directory, event) } else { Ok(()) }
    }

    fn finish(&mut self, directory: &Directory) -> Result<(), S::Error> {
        self.sink.finish(directory)
    }
}

/// A call within a slow one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// How far inside: 0 is the slow call itself.
    pub level: u32,
    /// Of which function.
    pub function: FunctionId,
    /// When it began.
    pub entered: Nanos,
    /// How long it took; `None` where it did not end, or its exit could not be seen.
    pub duration: Option<u64>,
    /// On which thread.
    pub thread: ThreadId,
}

/// Lists the calls of a [`Subtree`], callers first, and forgets those over a limit.
#[derive(Debug, Default)]
pub struct Nested {
    /// The calls.
    pub calls: Vec<Inner>,
    /// Calls that were too many to list.
    pub left_out: u64,
    most: usize,
    open: Vec<Option<usize>>,
    first: Option<u32>,
}

impl Nested {
    /// Lists at most so many calls.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }
}

impl Sink for Nested {
    type Error = std::convert::Infallible;

    fn event(&mut self, _: &Directory, event: &Event) -> Result<(), Self::Error> {
        match event.kind {
            EventKind::Enter { function, depth } => {
                let level = depth.saturating_sub(*self.first.get_or_insert(depth));
                let (entered, thread) = (event.at, event.thread);
                if self.calls.len() < self.most {
                    self.open.push(Some(self.calls.len()));
                    self.calls.push(Inner { level, function, entered, duration: None, thread });
                } else {
                    self.left_out += 1;
                    self.open.push(None);
                }
            }
            EventKind::Exit { function, entered, ending, .. } => {
                // The innermost, but for calls on other stacks.
                let is_it = |number: &Option<usize>| {
                    number.is_none_or(|number| {
                        let call = &self.calls[number];
                        (call.function, call.entered) == (function, entered)
                    })
                };
                let number = self.open.iter().rposition(is_it).map(|at| self.open.remove(at));
                if let Some(Some(number)) = number
                    && ending != Ending::NotSeen
                {
                    self.calls[number].duration = Some(event.at.0.saturating_sub(entered.0));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
