//! Calls laid on lanes: each stack of each thread is one, and calls nest on it.

use std::io;

use sledge_analyse::Memo;
use sledge_trace::event::{
    Directory, Ending, Event, EventKind, FunctionId, Nanos, Process, Sink, StackIndex, Thread,
    ThreadId,
};

/// One stack of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Counts lanes, in order of appearance, from 0.
    pub number: u32,
    /// Whose.
    pub thread: ThreadId,
    /// Which of its stacks; 0 is that of the thread itself.
    pub stack: StackIndex,
}

impl Lane {
    /// The thread whose lane it is, and its process.
    pub(crate) fn owner<'d>(&self, directory: &'d Directory) -> Option<(&'d Process, &'d Thread)> {
        owner(directory, self.thread)
    }
}

/// A thread and its process.
pub(crate) fn owner(directory: &Directory, thread: ThreadId) -> Option<(&Process, &Thread)> {
    let thread = directory.threads.get(thread.0 as usize)?;
    Some((directory.processes.get(thread.process.0 as usize)?, thread))
}

/// What a process is called: the file name of its executable.
pub(crate) fn process_name(process: &Process) -> &str {
    process.executable.rsplit('/').next().unwrap_or(&process.executable)
}

/// A format with tracks. With [`OnLanes`] in front of it, it is a sink.
pub trait Timeline {
    /// A thread is first seen.
    ///
    /// # Errors
    /// The writer's; so it is for all of these.
    fn thread(&mut self, directory: &Directory, thread: ThreadId, at: Nanos) -> io::Result<()> {
        let _ = (directory, thread, at);
        Ok(())
    }

    /// A lane appears: its first call follows.
    ///
    /// # Errors
    /// The writer's.
    fn lane(&mut self, directory: &Directory, lane: Lane) -> io::Result<()>;

    /// A call begins.
    ///
    /// # Errors
    /// The writer's.
    fn begin(
        &mut self,
        directory: &Directory,
        lane: Lane,
        at: Nanos,
        function: FunctionId,
    ) -> io::Result<()>;

    /// The innermost call of a lane ends; `ending` is `None` for one that was still open when its
    /// thread ended.
    ///
    /// # Errors
    /// The writer's.
    fn end(
        &mut self,
        directory: &Directory,
        lane: Lane,
        at: Nanos,
        function: FunctionId,
        ending: Option<Ending>,
    ) -> io::Result<()>;

    /// Events of a thread were lost.
    ///
    /// # Errors
    /// The writer's.
    fn lost(
        &mut self,
        directory: &Directory,
        thread: ThreadId,
        since: Nanos,
        at: Nanos,
        count: u64,
    ) -> io::Result<()>;

    /// Nothing follows.
    ///
    /// # Errors
    /// The writer's.
    fn finish(&mut self, directory: &Directory) -> io::Result<()>;
}

/// A lane with its open calls.
#[derive(Debug)]
struct Laid {
    lane: Lane,
    open: Vec<FunctionId>,
}

/// A thread's lanes, by stack, and the stack that is current.
#[derive(Debug, Default)]
struct Running {
    current: StackIndex,
    lanes: Memo<Laid>,
}

/// Lays events on lanes: a sink in front of a [`Timeline`].
#[derive(Debug)]
pub struct OnLanes<T> {
    timeline: T,
    threads: Memo<Running>,
    lanes: u32,
    last: Nanos,
}

impl<T: Timeline> OnLanes<T> {
    /// In front of `timeline`.
    pub fn new(timeline: T) -> Self {
        Self { timeline, threads: Memo::default(), lanes: 0, last: Nanos::default() }
    }

    #[inline]
    fn begin(&mut self, directory: &Directory, event: &Event, of: FunctionId) -> io::Result<()> {
        let thread = event.thread;
        let running = self.threads.get(thread.0, Running::default);
        let stack = running.current;
        let mut fresh = false;
        let laid = running.lanes.get(stack, || {
            fresh = true;
            let lane = Lane { number: self.lanes, thread, stack };
            self.lanes += 1;
            Laid { lane, open: Vec::new() }
        });
        laid.open.push(of);
        let lane = laid.lane;
        if fresh {
            self.timeline.lane(directory, lane)?;
        }
        self.timeline.begin(directory, lane, event.at, of)
    }

    #[inline]
    fn end(&mut self, directory: &Directory, event: &Event, how: Ending) -> io::Result<()> {
        let running = self.threads.get(event.thread.0, Running::default);
        let laid = running.lanes.peek_mut(running.current);
        let ended = laid.and_then(|laid| Some((laid.lane, laid.open.pop()?)));
        // A call whose beginning was not told has no place on a lane.
        let Some((lane, function)) = ended else { return Ok(()) };
        self.timeline.end(directory, lane, event.at, function, Some(how))
    }

    /// Ends what is open.
    fn end_thread(&mut self, directory: &Directory, thread: u32, at: Nanos) -> io::Result<()> {
        let running = std::mem::take(self.threads.get(thread, Running::default));
        for laid in running.lanes.into_values() {
            for function in laid.open.into_iter().rev() {
                self.timeline.end(directory, laid.lane, at, function, None)?;
            }
        }
        Ok(())
    }
}

impl<T: Timeline> Sink for OnLanes<T> {
    type Error = io::Error;

    #[inline]
    fn event(&mut self, directory: &Directory, event: &Event) -> io::Result<()> {
        self.last = event.at;
        match event.kind {
            EventKind::Enter { function, .. } => self.begin(directory, event, function),
            EventKind::Exit { ending, .. } => self.end(directory, event, ending),
            EventKind::Switch { stack } => {
                self.threads.get(event.thread.0, Running::default).current = stack;
                Ok(())
            }
            EventKind::ThreadStart => self.timeline.thread(directory, event.thread, event.at),
            EventKind::Lost { count, since } => {
                self.timeline.lost(directory, event.thread, since, event.at, count)
            }
            EventKind::ThreadEnd { .. } => self.end_thread(directory, event.thread.0, event.at),
        }
    }

    fn finish(&mut self, directory: &Directory) -> io::Result<()> {
        // Where the rest of a trace could not be read, threads have not ended.
        for thread in 0..self.threads.len() {
            self.end_thread(directory, thread, self.last)?;
        }
        self.timeline.finish(directory)
    }
}

/// How a call ended, where that is worth a word.
pub(crate) fn remark(ending: Option<Ending>) -> Option<&'static str> {
    match ending {
        Some(Ending::Returned) => None,
        Some(Ending::Unwound) => Some("unwound"),
        Some(Ending::NotSeen) => Some("not seen"),
        None => Some("still open"),
    }
}
