//! Calls as wholes: who called whom, how long each took, and how much of that was its own.

use sledge_trace::event::{
    Directory, Ending, Event, EventKind, FunctionId, Nanos, Sink, StackIndex, ThreadId,
};

use crate::names::Memo;

/// A call that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// On which thread.
    pub thread: ThreadId,
    /// Of which function.
    pub function: FunctionId,
    /// How many traced calls are open around it.
    pub depth: u32,
    /// When.
    pub at: Nanos,
}

/// A call that ended, or was open when its thread or the part of the trace that is read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// On which thread.
    pub thread: ThreadId,
    /// Of which function.
    pub function: FunctionId,
    /// How many traced calls were open around it.
    pub depth: u32,
    /// When it was entered.
    pub entered: Nanos,
    /// When it ended.
    pub at: Nanos,
    /// Nanoseconds in which nothing that it called ran: in which it was the innermost call of the
    /// stack that its thread ran on.
    pub own: u64,
    /// How; `None` for one that was still open.
    pub ending: Option<Ending>,
}

impl Ended {
    /// How long it took; `None` where its exit could not be seen. One that is still open took as
    /// long as it has been.
    #[must_use]
    pub fn duration(&self) -> Option<u64> {
        let seen = self.ending != Some(Ending::NotSeen);
        seen.then(|| self.at.0.saturating_sub(self.entered.0))
    }
}

/// Looks at calls: when they begin, and again when they have ended. With [`Calls`] in front of it,
/// it is a sink.
pub trait Visitor {
    /// What is kept with an open call.
    type Frame;
    /// What can go wrong.
    type Error;

    /// A call begins. `around` is what is kept with the call that made it.
    ///
    /// # Errors
    /// Whatever keeps the visitor from going on.
    fn begin(
        &mut self,
        directory: &Directory,
        call: &Begun,
        around: Option<&mut Self::Frame>,
    ) -> Result<Self::Frame, Self::Error>;

    /// A call has ended.
    ///
    /// # Errors
    /// Whatever keeps the visitor from going on.
    fn end(
        &mut self,
        directory: &Directory,
        call: &Ended,
        frame: Self::Frame,
    ) -> Result<(), Self::Error>;

    /// No call follows.
    ///
    /// # Errors
    /// Whatever keeps the visitor from ending well.
    fn finish(&mut self, directory: &Directory) -> Result<(), Self::Error> {
        let _ = directory;
        Ok(())
    }
}

#[derive(Debug)]
struct Open<F> {
    function: FunctionId,
    /// Wider than need be: together with the function it would be copied from the event in one
    /// piece, which was written in two, and the processor would wait.
    depth: u64,
    entered: Nanos,
    own: u64,
    frame: F,
}

/// One thread: its stacks, and which of them runs.
#[derive(Debug)]
struct Running<F> {
    stacks: Vec<Vec<Open<F>>>,
    current: usize,
    /// The one that ran before.
    before: usize,
    /// Up to when all time has been given to calls.
    since: Nanos,
}

impl<F> Default for Running<F> {
    fn default() -> Self {
        Self { stacks: vec![Vec::new()], current: 0, before: 0, since: Nanos::default() }
    }
}

impl<F> Running<F> {
    /// The innermost call that runs. Where a further stack has none, an untraced function runs
    /// there, on behalf of the stack before: a signal's frame that returns, a coroutine that ends.
    #[inline]
    fn innermost(&mut self) -> Option<&mut Open<F>> {
        let elsewhere = self.current != 0 && self.stacks[self.current].is_empty();
        let stack = if elsewhere { self.before } else { self.current };
        self.stacks[stack].last_mut()
    }

    /// Gives the time up to `at` to the call that ran.
    #[inline]
    fn pass(&mut self, at: Nanos) {
        let passed = at.0.saturating_sub(self.since.0);
        self.since = at;
        if let Some(call) = self.innermost() {
            call.own += passed;
        }
    }

    fn switch(&mut self, stack: StackIndex) {
        let stack = stack as usize;
        if stack >= self.stacks.len() {
            self.stacks.resize_with(stack + 1, Vec::new);
        }
        if !self.stacks[self.current].is_empty() {
            self.before = self.current;
        }
        self.current = stack;
    }
}

/// Makes calls of events: a sink in front of a [`Visitor`].
#[derive(Debug)]
pub struct Calls<V: Visitor> {
    /// Who looks at them.
    pub visitor: V,
    threads: Memo<Running<V::Frame>>,
    last: Nanos,
}

impl<V: Visitor> Calls<V> {
    /// Shows calls to `visitor`.
    pub fn new(visitor: V) -> Self {
        Self { visitor, threads: Memo::default(), last: Nanos::default() }
    }

    #[inline(always)]
    fn begin(&mut self, directory: &Directory, call: &Begun) -> Result<(), V::Error> {
        let running = self.threads.get(call.thread.0, Running::default);
        running.pass(call.at);
        let around = running.innermost().map(|open| &mut open.frame);
        let frame = self.visitor.begin(directory, call, around)?;
        let &Begun { function, depth, at, .. } = call;
        running.stacks[running.current].push(Open {
            function,
            depth: depth.into(),
            entered: at,
            own: 0,
            frame,
        });
        Ok(())
    }

    #[inline(always)]
    fn end(
        &mut self,
        directory: &Directory,
        event: &Event,
        call: Begun,
        ending: Ending,
    ) -> Result<(), V::Error> {
        let running = self.threads.get(event.thread.0, Running::default);
        running.pass(event.at);
        let open = match running.stacks[running.current].pop() {
            Some(open) => open,
            // Its entry was not told.
            None => {
                let frame = self.visitor.begin(directory, &call, None)?;
                let own = event.at.0.saturating_sub(call.at.0);
                Open {
                    function: call.function,
                    depth: call.depth.into(),
                    entered: call.at,
                    own,
                    frame,
                }
            }
        };
        let ended = Ended::new(event.thread, event.at, &open, Some(ending));
        self.visitor.end(directory, &ended, open.frame)
    }

    /// Ends what is open, innermost first.
    fn end_thread(
        &mut self,
        directory: &Directory,
        thread: ThreadId,
        at: Nanos,
    ) -> Result<(), V::Error> {
        let running = self.threads.get(thread.0, Running::default);
        running.pass(at);
        let mut stacks = std::mem::take(running).stacks;
        for open in stacks.drain(..).rev().flat_map(|stack| stack.into_iter().rev()) {
            let ended = Ended::new(thread, at, &open, None);
            self.visitor.end(directory, &ended, open.frame)?;
        }
        Ok(())
    }
}

impl Ended {
    fn new<F>(thread: ThreadId, at: Nanos, open: &Open<F>, ending: Option<Ending>) -> Self {
        let &Open { function, depth, entered, own, .. } = open;
        Self { thread, function, depth: depth as u32, entered, at, own, ending }
    }
}

impl<V: Visitor> Sink for Calls<V> {
    type Error = V::Error;

    #[inline]
    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), V::Error> {
        let (at, thread) = (event.at, event.thread);
        self.last = at;
        // By place: copying an event that was just written makes the processor wait.
        match event.kind {
            EventKind::Enter { function, depth } => {
                self.begin(directory, &Begun { thread, function, depth, at })
            }
            EventKind::Exit { function, depth, entered, ending } => {
                let call = Begun { thread, function, depth, at: entered };
                self.end(directory, event, call, ending)
            }
            EventKind::Switch { stack } => {
                let running = self.threads.get(thread.0, Running::default);
                running.pass(at);
                running.switch(stack);
                Ok(())
            }
            EventKind::ThreadEnd { .. } => self.end_thread(directory, thread, at),
            EventKind::ThreadStart | EventKind::Lost { .. } => Ok(()),
        }
    }

    fn finish(&mut self, directory: &Directory) -> Result<(), V::Error> {
        // Where the rest of a trace could not be read, threads have not ended.
        for thread in 0..self.threads.len() {
            self.end_thread(directory, ThreadId(thread), self.last)?;
        }
        self.visitor.finish(directory)
    }
}
