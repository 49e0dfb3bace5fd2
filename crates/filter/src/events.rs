//! Filtering events, while replaying.

use sledge_trace::event::{Directory, Event, EventKind, Sink, StackIndex};
use sledge_trace::stacks::Stacks;

use crate::calls::CallFilter;
use crate::gate::Gate;
use crate::strand::{ShownStacks, Strand};

/// What has been passed on of a thread.
#[derive(Debug, Default)]
struct Shown {
    stacks: Stacks<()>,
    numbers: ShownStacks,
}

/// Filters events while replaying: a sink in front of a sink.
///
/// With a threshold it holds events back so that they come out in time order all the same; for
/// that it needs as much memory as calls are shown within that time. With `-C`, a thread that is
/// in no wanted call yet holds back what later threads show.
#[derive(Debug)]
pub struct EventFilter<'a, S> {
    filter: &'a CallFilter,
    sink: &'a mut S,
    strands: Vec<Strand>,
    gate: Gate<(StackIndex, Event)>,
    shown: Vec<Shown>,
}

impl<'a, S: Sink> EventFilter<'a, S> {
    /// Passes on to `sink` what `filter` shows.
    pub fn new(filter: &'a CallFilter, sink: &'a mut S) -> Self {
        let threshold = filter.spec().threshold.unwrap_or_default().0;
        let gate = Gate::new(threshold);
        Self { filter, sink, strands: Vec::new(), gate, shown: Vec::new() }
    }

    /// The thread's place in our tables.
    fn thread(&mut self, event: &Event) -> usize {
        let at = event.thread.0 as usize;
        if self.strands.len() <= at {
            self.strands.resize_with(at + 1, Strand::default);
            self.shown.resize_with(at + 1, Shown::default);
        }
        at
    }

    /// Passes on what is known at `now` to be shown.
    #[inline]
    fn pass_on_known(&mut self, directory: &Directory, now: u64) -> Result<(), S::Error> {
        while let Some((stack, event)) = self.gate.next(now) {
            self.pass_on(directory, stack, event)?;
        }
        Ok(())
    }

    fn pass_on(
        &mut self,
        directory: &Directory,
        stack: StackIndex,
        mut event: Event,
    ) -> Result<(), S::Error> {
        let at = self.thread(&event);
        let shown = &mut self.shown[at];
        let of_stack = matches!(event.kind, EventKind::Enter { .. } | EventKind::Exit { .. });
        if of_stack && let Some(stack) = shown.numbers.switch(stack) {
            shown.stacks.switch(stack);
            let switch = Event { kind: EventKind::Switch { stack }, ..event };
            self.sink.event(directory, &switch)?;
        }
        match &mut event.kind {
            EventKind::Enter { depth, .. } => *depth = shown.stacks.enter(()),
            EventKind::Exit { depth, .. } => {
                if let Some(((), entered_at)) = shown.stacks.leave() {
                    *depth = entered_at;
                }
            }
            EventKind::ThreadEnd { open } => *open = shown.stacks.open() as u32,
            EventKind::ThreadStart | EventKind::Switch { .. } | EventKind::Lost { .. } => {}
        }
        self.sink.event(directory, &event)
    }
}

impl<S: Sink> Sink for EventFilter<'_, S> {
    type Error = S::Error;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), S::Error> {
        let at = self.thread(event);
        let strand = &mut self.strands[at];
        let (now, payload) = (event.at.0, (strand.stack(), *event));
        match event.kind {
            EventKind::Enter { function, .. } => {
                strand.enter(self.filter, &mut self.gate, (function, now), payload);
            }
            EventKind::Exit { .. } => strand.leave(&mut self.gate, now, payload),
            EventKind::Switch { stack } => strand.switch(self.filter, stack),
            EventKind::ThreadEnd { .. } => {
                strand.finish(&mut self.gate);
                self.gate.pass(now, payload);
            }
            EventKind::ThreadStart | EventKind::Lost { .. } => self.gate.pass(now, payload),
        }
        self.pass_on_known(directory, now)
    }

    fn finish(&mut self, directory: &Directory) -> Result<(), S::Error> {
        // Where the end of the trace could not be read, threads may still hold calls back.
        self.strands.iter_mut().for_each(|strand| strand.finish(&mut self.gate));
        self.pass_on_known(directory, u64::MAX)?;
        self.sink.finish(directory)
    }
}
