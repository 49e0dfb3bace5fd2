//! Writing a trace file.

use std::path::Path;

use crate::block::Kind;
use crate::chunk::{ChunkBuilder, OpenCall};
use crate::error::WriteError;
use crate::event::{
    Function, FunctionId, Object, ObjectId, Op, Outcome, Process, ProcessId, Step, Thread,
    ThreadId, Ticks,
};
use crate::index::Trailer;
use crate::keep::{Keep, Kept, Storage};
use crate::output::Output;
use crate::records::{Entry, Started, put_outcome};
use crate::stacks::Stacks;
use crate::varint::{put, put_bytes};

/// Bytes that a chunk of steps grows to before it is written.
const CHUNK_BYTES: usize = 64 << 10;

/// The machine that a trace was recorded on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its kernel's release.
    pub kernel: String,
    /// Its processor's model name.
    pub processor: String,
    /// Nominal ticks a second, used where a trace has fewer than two clock readings; 0 if
    /// unknown, then a tick counts as a nanosecond.
    pub ticks_per_second: u64,
    /// Wall clock time when the recording began: nanoseconds since 1970 (UTC).
    pub began: u64,
}

/// Definitions not written yet.
#[derive(Debug, Default)]
struct Batch {
    first: u32,
    count: u32,
    entries: Vec<u8>,
}

impl Batch {
    /// Adds an entry and says its number.
    fn add(&mut self, entry: &impl Entry) -> u32 {
        entry.put(&mut self.entries);
        self.count += 1;
        self.first + self.count - 1
    }

    fn total(&self) -> u32 {
        self.first + self.count
    }

    /// Takes the body of a block with what is pending; empty when nothing is.
    fn take(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        if self.count > 0 {
            put(&mut body, u64::from(self.first));
            put(&mut body, u64::from(self.count));
            body.append(&mut self.entries);
        }
        (self.first, self.count) = (self.total(), 0);
        body
    }
}

/// Everything not written yet but the steps.
#[derive(Debug, Default)]
struct Pending {
    objects: Batch,
    functions: Batch,
    processes: Batch,
    threads: Batch,
    names: Vec<u8>,
    clock: Vec<u8>,
    losses: Vec<u8>,
    ends: Vec<u8>,
    outcome: Vec<u8>,
}

impl Pending {
    /// The bodies to write, in an order in which each defines what the next ones name.
    fn take(&mut self) -> [(Kind, Vec<u8>); 9] {
        [
            (Kind::Objects, self.objects.take()),
            (Kind::Functions, self.functions.take()),
            (Kind::Processes, self.processes.take()),
            (Kind::Threads, self.threads.take()),
            (Kind::ThreadNames, std::mem::take(&mut self.names)),
            (Kind::Clock, std::mem::take(&mut self.clock)),
            (Kind::Lost, std::mem::take(&mut self.losses)),
            (Kind::ThreadEnds, std::mem::take(&mut self.ends)),
            (Kind::Outcome, std::mem::take(&mut self.outcome)),
        ]
    }
}

/// A thread whose steps are being written.
#[derive(Debug, Default)]
struct Lane {
    stacks: Stacks<OpenCall>,
    chunk: ChunkBuilder,
    last: Ticks,
    ended: bool,
}

impl Lane {
    /// Puts `step` in the chunk, unless it makes no sense: the file stays well-formed.
    #[inline]
    fn push(&mut self, mut step: Step) {
        step.at = step.at.max(self.last);
        if self.chunk.is_empty() {
            self.chunk.begin(step.at, &self.stacks);
        }
        let sound = match step.op {
            Op::Enter(function) => {
                self.stacks.enter(OpenCall { function, entered: step.at });
                true
            }
            Op::Leave(_) => self.stacks.leave().is_some(),
            Op::Switch(stack) => self.stacks.switch(stack),
        };
        if sound {
            self.last = step.at;
            self.chunk.push(step);
        }
    }

    /// Writes a chunk without steps: only what is open.
    fn open_calls(
        &self,
        thread: ThreadId,
        functions: u32,
        content: &mut Vec<u8>,
        output: &mut Output,
    ) -> Result<(), WriteError> {
        let mut chunk = ChunkBuilder::default();
        chunk.begin(self.last, &self.stacks);
        let head = chunk.finish(thread, functions, content);
        output.steps(&head, content)
    }
}

/// Writes a trace file, block by block, forward only; or, as [`Keep`] has it, several such files,
/// or the last part of a recording.
///
/// An error is told once. After it the file ends with the last whole block, further calls do
/// nothing and succeed, and [`failed`](Self::failed) says so.
#[derive(Debug)]
pub struct Writer {
    output: Output,
    pending: Pending,
    lanes: Vec<Lane>,
    content: Vec<u8>,
    last: Ticks,
    plain: u64,
    host: Host,
    storage: Storage,
    /// What every file of the recording must have; `None` where there is one from the beginning.
    kept: Option<Kept>,
    /// How many files have been ended.
    parts: u32,
    closed: bool,
}

impl Writer {
    /// Creates (or empties) the file at `path`, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be created or written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, WriteError> {
        Self::create_on(path, &Host::default())
    }

    /// [`create`](Self::create), with what is known of the machine.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create_on(path: impl AsRef<Path>, host: &Host) -> Result<Self, WriteError> {
        Self::create_with(path, host, Storage::default())
    }

    /// [`create_on`](Self::create_on), with how much is kept and how.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn create_with(
        path: impl AsRef<Path>,
        host: &Host,
        storage: Storage,
    ) -> Result<Self, WriteError> {
        let output = match storage.keep {
            Keep::Last(bytes) => Output::memory(path.as_ref(), bytes, storage.compress)?,
            _ => Output::file(path.as_ref(), host, Ticks(0), storage.compress)?,
        };
        let kept = matches!(storage.keep, Keep::Last(_) | Keep::Files { .. });
        Ok(Self {
            output,
            pending: Pending::default(),
            lanes: Vec::new(),
            content: Vec::new(),
            last: Ticks(0),
            plain: 0,
            host: host.clone(),
            storage,
            kept: kept.then(Kept::default),
            parts: 0,
            closed: false,
        })
    }

    /// Defines an object.
    pub fn object(&mut self, object: &Object) -> ObjectId {
        ObjectId(self.pending.objects.add(object))
    }

    /// Defines a function.
    pub fn function(&mut self, function: &Function) -> FunctionId {
        FunctionId(self.pending.functions.add(function))
    }

    /// Defines a process image.
    pub fn process(&mut self, process: &Process) -> ProcessId {
        ProcessId(self.pending.processes.add(process))
    }

    /// Defines a thread, first seen at `started`.
    pub fn thread(&mut self, thread: &Thread, started: Ticks) -> ThreadId {
        self.lanes.push(Lane::default());
        let started = Started { thread: thread.clone(), at: started };
        ThreadId(self.pending.threads.add(&started))
    }

    /// Renames a thread.
    pub fn thread_name(&mut self, thread: ThreadId, name: &str) {
        put(&mut self.pending.names, u64::from(thread.0));
        put_bytes(&mut self.pending.names, name.as_bytes());
    }

    /// Notes that the time stamp counter and `CLOCK_MONOTONIC` were read together. The first
    /// reading is where the trace begins; one is due at its end too.
    pub fn clock(&mut self, ticks: Ticks, monotonic_ns: u64) {
        self.last = self.last.max(ticks);
        if let Some(kept) = &mut self.kept {
            kept.clock(ticks, monotonic_ns);
        }
        put(&mut self.pending.clock, ticks.0);
        put(&mut self.pending.clock, monotonic_ns);
    }

    /// Adds steps of one thread, in time order, after those given before. A step out of order
    /// counts as at the time of the one before it; one that ends a call although none is open is
    /// left out.
    ///
    /// # Errors
    /// When the file cannot be written; see [`WriteError`].
    ///
    /// # Panics
    /// When the thread is not one of this writer's.
    pub fn steps(&mut self, thread: ThreadId, steps: &[Step]) -> Result<(), WriteError> {
        let mut rest = steps;
        while let Some((&step, after)) = rest.split_first() {
            let lane = &mut self.lanes[thread.0 as usize];
            lane.push(step);
            rest = after;
            if lane.chunk.is_full(CHUNK_BYTES) {
                self.write_chunk(thread)?;
                self.rotate_if_due()?;
            }
        }
        Ok(())
    }

    /// Notes that `count` events of a thread were lost.
    pub fn lost(&mut self, thread: ThreadId, since: Ticks, until: Ticks, count: u64) {
        self.last = self.last.max(until);
        for number in [u64::from(thread.0), since.0, until.0.saturating_sub(since.0), count] {
            put(&mut self.pending.losses, number);
        }
    }

    /// Notes that a thread ended.
    pub fn thread_end(&mut self, thread: ThreadId, at: Ticks) {
        self.last = self.last.max(at);
        put(&mut self.pending.ends, u64::from(thread.0));
        put(&mut self.pending.ends, at.0);
        if let Some(lane) = self.lanes.get_mut(thread.0 as usize) {
            lane.ended = true;
        }
    }

    /// Notes how the program ended; the last note counts.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.pending.outcome.clear();
        put_outcome(&mut self.pending.outcome, outcome);
    }

    /// Writes everything that is buffered, so that a reader sees it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        if self.closed || self.output.is_memory() {
            return Ok(());
        }
        self.write_chunks()?;
        self.rotate_if_due()
    }

    fn write_chunks(&mut self) -> Result<(), WriteError> {
        for thread in 0..self.lanes.len() {
            self.write_chunk(ThreadId(thread as u32))?;
        }
        self.write_pending()
    }

    /// Bytes written so far, into the file that is being written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.output.written()
    }

    /// Bytes that the steps blocks written so far have when not compressed.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        self.plain
    }

    /// Whether writing was given up after an error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.output.failed()
    }

    /// Whether there is as much as [`Keep::First`] allows: nothing more should be given.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.storage.keep, Keep::First(bytes) if self.written() >= bytes)
    }

    /// Writes what is buffered, the index and the trailer. Without it a trace counts as cut.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.close()
    }

    /// Does as [`finish`](Self::finish); what is given afterwards is left out.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn close(&mut self) -> Result<(), WriteError> {
        if self.closed {
            return Ok(());
        }
        self.closed = true;
        if self.output.is_memory() {
            return self.snapshot();
        }
        self.write_chunks()?;
        self.output.finish(&self.trailer())
    }

    /// Brings the file up to date: with [`Keep::Last`], everything that is kept is written into
    /// it; otherwise it is flushed.
    ///
    /// # Errors
    /// When the file cannot be written. With [`Keep::Last`] the file before is then untouched.
    pub fn snapshot(&mut self) -> Result<(), WriteError> {
        self.write_chunks()?;
        let (Some(since), Some(kept)) = (self.output.since(), &self.kept) else { return Ok(()) };
        let mut file = self.output.beside(&self.host, since)?;
        kept.write(&mut file)?;
        self.output.copy_blocks(&mut file)?;
        let functions = self.pending.functions.total();
        for (number, lane) in (0..).zip(&self.lanes) {
            if lane.stacks.open() > 0 && !self.output.has(ThreadId(number)) {
                lane.open_calls(ThreadId(number), functions, &mut self.content, &mut file)?;
            }
        }
        file.finish(&self.trailer())?;
        file.replace(self.output.path())
    }

    fn trailer(&self) -> Trailer {
        Trailer {
            index: 0,
            last: self.last.0,
            objects: self.pending.objects.total(),
            functions: self.pending.functions.total(),
            processes: self.pending.processes.total(),
            threads: self.pending.threads.total(),
        }
    }

    /// Ends the file where it has its size, and begins the next one.
    fn rotate_if_due(&mut self) -> Result<(), WriteError> {
        let Keep::Files { bytes, count } = self.storage.keep else { return Ok(()) };
        if self.output.written() < bytes || self.output.failed() {
            return Ok(());
        }
        self.write_chunks()?;
        self.output.finish(&self.trailer())?;
        self.parts += 1;
        self.output.shift(self.parts, count)?;
        let path = self.output.path().to_owned();
        let since = Ticks(self.last.0.saturating_add(1));
        self.output = Output::file(&path, &self.host, since, self.storage.compress)?;
        if let Some(kept) = &self.kept {
            kept.write(&mut self.output)?;
        }
        let functions = self.pending.functions.total();
        for (number, lane) in (0..).zip(&self.lanes) {
            if lane.stacks.open() > 0 {
                let (content, output) = (&mut self.content, &mut self.output);
                lane.open_calls(ThreadId(number), functions, content, output)?;
            }
        }
        Ok(())
    }

    fn write_chunk(&mut self, thread: ThreadId) -> Result<(), WriteError> {
        if self.lanes[thread.0 as usize].chunk.is_empty() {
            return Ok(());
        }
        self.write_pending()?;
        let lane = &mut self.lanes[thread.0 as usize];
        let functions = self.pending.functions.total();
        let head = lane.chunk.finish(thread, functions, &mut self.content);
        if lane.ended {
            // Programs may start threads without end; what is over needs no buffers.
            lane.chunk = ChunkBuilder::default();
        }
        self.last = self.last.max(head.last);
        self.plain += self.content.len() as u64;
        self.output.steps(&head, &self.content)
    }

    fn write_pending(&mut self) -> Result<(), WriteError> {
        for (kind, body) in self.pending.take() {
            if let Some(kept) = &mut self.kept {
                kept.note(kind, &body);
            }
            self.output.small(kind, &body)?;
        }
        Ok(())
    }
}
