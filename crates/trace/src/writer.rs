//! Writing a trace file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::block::{self, Kind, MARKER, VERSION};
use crate::chunk::{ChunkBuilder, OpenCall};
use crate::error::WriteError;
use crate::event::{
    Function, FunctionId, Object, ObjectId, Op, Outcome, Process, ProcessId, Step, Thread,
    ThreadId, Ticks,
};
use crate::index::{ChunkPlace, Place, Trailer, put_index};
use crate::records::{Entry, Started, put_host, put_outcome};
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
}

/// The file and what is in it.
#[derive(Debug)]
struct Output {
    path: PathBuf,
    file: File,
    written: u64,
    places: Vec<Place>,
    block: Vec<u8>,
    failed: bool,
}

impl Output {
    fn write(&mut self, kind: Kind, head: &[u8], content: &[u8]) -> Result<(), WriteError> {
        if self.failed {
            return Ok(());
        }
        let done = match block::encode(kind, head, content, &mut self.block) {
            Some(()) => self.file.write_all(&self.block),
            None => Err(io::Error::new(io::ErrorKind::FileTooLarge, "block too long")),
        };
        match done {
            Ok(()) => {
                self.written += self.block.len() as u64;
                Ok(())
            }
            Err(source) => Err(self.fail(source)),
        }
    }

    /// Cuts off what was written of the last block, and gives up.
    fn fail(&mut self, source: io::Error) -> WriteError {
        self.failed = true;
        // If this fails too the reader will stop at the broken block anyway.
        drop(self.file.set_len(self.written));
        let (path, written) = (self.path.clone(), self.written);
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WriteError::DiskFull { path, written }
            }
            io::ErrorKind::FileTooLarge => WriteError::TooLarge { path, written },
            _ => WriteError::Write { path, written, source },
        }
    }

    fn small(&mut self, kind: Kind, content: &[u8]) -> Result<(), WriteError> {
        if content.is_empty() {
            return Ok(());
        }
        self.places.push(Place::Other { kind: kind as u8, offset: self.written });
        self.write(kind, &[], content)
    }
}

/// Writes a trace file, block by block, forward only.
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
        let path = path.as_ref().to_owned();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(source) => return Err(WriteError::Create { path, source }),
        };
        let (places, block) = (Vec::new(), Vec::new());
        let mut output = Output { path, file, written: 0, places, block, failed: false };
        let mut head = MARKER.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        let mut body = Vec::new();
        put_host(&mut body, host);
        output.places.push(Place::Other { kind: Kind::Header as u8, offset: 0 });
        output.write(Kind::Header, &head, &body)?;
        let (pending, lanes, content) = (Pending::default(), Vec::new(), Vec::new());
        Ok(Self { output, pending, lanes, content, last: Ticks(0), plain: 0 })
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
        for thread in 0..self.lanes.len() {
            self.write_chunk(ThreadId(thread as u32))?;
        }
        self.write_pending()
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.output.written
    }

    /// Bytes that the steps blocks written so far have when not compressed.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        self.plain
    }

    /// Whether writing was given up after an error.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.output.failed
    }

    /// Writes what is buffered, the index and the trailer. Without it a trace counts as cut.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.flush()?;
        let trailer = Trailer {
            index: self.output.written,
            last: self.last.0,
            objects: self.pending.objects.total(),
            functions: self.pending.functions.total(),
            processes: self.pending.processes.total(),
            threads: self.pending.threads.total(),
        };
        let mut index = Vec::new();
        put_index(&mut index, &self.output.places);
        self.output.write(Kind::Index, &[], &index)?;
        self.output.write(Kind::Trailer, &[], &trailer.encode())
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
        let (first, last, count) = (head.first, head.last, head.count);
        let offset = self.output.written;
        self.output.places.push(Place::Steps(ChunkPlace { offset, thread, first, last, count }));
        self.output.write(Kind::Steps, &head.encode(), &self.content)
    }

    fn write_pending(&mut self) -> Result<(), WriteError> {
        for (kind, body) in self.pending.take() {
            self.output.small(kind, &body)?;
        }
        Ok(())
    }
}
