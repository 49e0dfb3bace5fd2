//! The sequence that brings the agent in, and the one that takes its memory away.

use crate::agent::Agent;
use crate::borrow::Borrowed;
use crate::error::InjectError;
use crate::target::{Status, Target, mappings, status_field};
use nix::libc;
use sledge_wire::attach::{self, State};
use sledge_wire::raw::NOTE_THREAD;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const MMAP: u64 = 9;
const MUNMAP: u64 = 11;
const CLOSE: u64 = 3;
const CLONE: u64 = 56;
const MEMFD_CREATE: u64 = 319;
const READ_EXECUTE: u64 = 5;
const READ_WRITE: u64 = 3;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED: u64 = 0x10;
const ANONYMOUS: u64 = 0x20;
const NORESERVE: u64 = 0x4000;
/// The thread shares everything with the process; the kernel tells and clears its id in the segment.
const THREAD_FLAGS: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u64;
/// Offsets at which C libraries keep a thread's id: glibc, musl, older musl.
const TID_OFFSETS: [u64; 3] = [0x2d0, 0x30, 0x38];
/// How long the agent may take to say that it is ready. A stopped process answers later.
const READY: Duration = Duration::from_secs(30);
/// A program that has just begun has no threads yet that know themselves.
const BEGINNING: Duration = Duration::from_secs(2);
/// More threads than the table of threads is made for.
const MOST_THREADS: u64 = 4000;

/// The shape of the segment that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rings.
    pub rings: usize,
    /// Bytes of each.
    pub ring_bytes: u64,
}

/// An agent in a running process, its thread ready for commands.
#[derive(Debug)]
pub struct Injected {
    /// The process.
    pub pid: i32,
    /// Its memory.
    pub memory: File,
    /// Where the agent lies.
    pub region: Range<u64>,
    /// The shared segment.
    pub segment: File,
    /// Where the process has it.
    pub segment_at: u64,
    /// Where from the thread pointer a thread's id lies.
    pub tid_offset: u64,
    /// For how long the borrowed thread stood still.
    pub pause: Duration,
}

/// Writes what an agent must find in its segment: given that, where the process has it, and where the
/// agent lies.
pub type Prepare<'a> = dyn Fn(&File, u64, &Range<u64>) -> Result<(), InjectError> + Sync + 'a;

/// Brings the agent in. The segment is as wide as [`attach::attached_bytes`] says; `prepare` writes
/// into it what the agent must find there, before its thread begins.
///
/// # Errors
/// When the process cannot be entered; it goes on as before.
pub fn attach(
    pid: i32,
    agent: &[u8],
    shape: Shape,
    prepare: &Prepare<'_>,
) -> Result<Injected, InjectError> {
    let agent = Agent::read(agent)?;
    check(pid)?;
    let target = Target::open(pid)?;
    // A thread of ours that ends lets go of whatever it traces.
    let attached = std::thread::scope(|scope| {
        let entering = scope.spawn(|| enter(&target, &agent, shape, prepare));
        entering.join().map_err(|_| InjectError::NoThread(pid))?
    })?;
    attached.wait_until_ready()?;
    Ok(attached)
}

/// What makes it impossible, or unwise.
fn check(pid: i32) -> Result<(), InjectError> {
    let status = Status::of(pid)?;
    let refused = |why| Err(InjectError::Refused { pid, why });
    match status {
        Status { tracer: 1.., .. } => Err(InjectError::Traced { pid, tracer: status.tracer }),
        Status { seccomp: 1, .. } => refused("it runs in seccomp's strict mode"),
        Status { locked: 1.., .. } => refused("it locks its memory, and the buffers would be, too"),
        Status { shadow_stack: true, .. } => {
            refused("it has a shadow stack, which is not tried yet")
        }
        Status { threads, .. } if threads > MOST_THREADS => refused("it has too many threads"),
        _ => Ok(()),
    }
}

fn enter(
    target: &Target,
    agent: &Agent<'_>,
    shape: Shape,
    prepare: &Prepare<'_>,
) -> Result<Injected, InjectError> {
    let (mut thread, tid_offset) = borrow_knowing(target)?;
    let taken = Instant::now();
    let entered = bring_in(&mut thread, target, agent, shape, tid_offset, prepare);
    let entered = entered.map(|injected| Injected { pause: taken.elapsed(), ..injected });
    thread.give_back()?;
    entered
}

/// Borrows a thread that knows its own id. In a process that has just begun there is none yet.
fn borrow_knowing(target: &Target) -> Result<(Borrowed<'_>, u64), InjectError> {
    let begin = Instant::now();
    loop {
        let thread = Borrowed::take(target, None)?;
        let pointer = thread.saved().fs_base;
        let tid = tid_inside(target.pid, thread.tid);
        let knows = |offset: &u64| {
            let word = target.read(pointer.wrapping_add(*offset)).map(i32::from_le_bytes);
            word == Some(tid)
        };
        let own_address = target.read_word(pointer) == Some(pointer);
        match TID_OFFSETS.into_iter().find(knows) {
            Some(offset) if pointer != 0 && own_address => return Ok((thread, offset)),
            _ if begin.elapsed() < BEGINNING => {}
            _ => {
                let why = "its threads cannot be told apart: not glibc's nor musl's, or Go's";
                return Err(InjectError::Refused { pid: target.pid, why });
            }
        }
        thread.give_back()?;
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A thread's id as its own process sees it.
fn tid_inside(pid: i32, tid: i32) -> i32 {
    let path = format!("/proc/{pid}/task/{tid}/status");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inside = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
    inside.unwrap_or(tid)
}

fn bring_in(
    thread: &mut Borrowed<'_>,
    target: &Target,
    agent: &Agent<'_>,
    shape: Shape,
    tid_offset: u64,
    prepare: &Prepare<'_>,
) -> Result<Injected, InjectError> {
    let span = agent.span();
    let map = [0, span, READ_EXECUTE, PRIVATE | ANONYMOUS | NORESERVE, u64::MAX, 0];
    let base = thread.call("make room for the agent", MMAP, map)?;
    let region = base..base + span;
    let made = share(thread, target, shape, &region);
    let (segment, segment_at) = match made {
        Ok(made) => made,
        Err(error) => {
            // What was made goes; that this may fail, too, changes nothing.
            let _ = thread.call("undo", MUNMAP, [base, span, 0, 0, 0, 0]);
            return Err(error);
        }
    };
    let started = prepare(&segment, segment_at, &region)
        .and_then(|()| start(thread, target, agent, shape, &region, segment_at, tid_offset));
    if let Err(error) = started {
        let bytes = attach::attached_bytes(shape.rings, shape.ring_bytes);
        let _ = thread.call("undo", MUNMAP, [segment_at, bytes, 0, 0, 0, 0]);
        let _ = thread.call("undo", MUNMAP, [base, span, 0, 0, 0, 0]);
        return Err(error);
    }
    let memory = target.memory.try_clone().map_err(InjectError::system("dup"))?;
    let (pid, pause) = (target.pid, Duration::ZERO);
    Ok(Injected { pid, memory, region, segment, segment_at, tid_offset, pause })
}

/// Makes the segment, and puts its name on the agent's room.
fn share(
    thread: &mut Borrowed<'_>,
    target: &Target,
    shape: Shape,
    region: &Range<u64>,
) -> Result<(File, u64), InjectError> {
    target.write(region.start, b"sledge\0")?;
    let create = [region.start, u64::from(libc::MFD_CLOEXEC), 0, 0, 0, 0];
    let file = thread.call("make shared memory", MEMFD_CREATE, create)?;
    let shared = open_and_map(thread, target, shape, region, file);
    let closed = thread.call("close", CLOSE, [file, 0, 0, 0, 0, 0]);
    let (segment, segment_at) = shared?;
    closed?;
    Ok((segment, segment_at))
}

fn open_and_map(
    thread: &mut Borrowed<'_>,
    target: &Target,
    shape: Shape,
    region: &Range<u64>,
    file: u64,
) -> Result<(File, u64), InjectError> {
    let path = format!("/proc/{}/task/{}/fd/{file}", target.pid, thread.tid);
    let opened = File::options().read(true).write(true).open(path);
    let segment = opened.map_err(InjectError::system("opening the shared memory"))?;
    let bytes = attach::attached_bytes(shape.rings, shape.ring_bytes);
    let span = region.end - region.start;
    segment.set_len(bytes + span).map_err(InjectError::system("sizing the shared memory"))?;
    let map = [0, bytes, READ_WRITE, SHARED | NORESERVE, file, 0];
    let segment_at = thread.call("map shared memory", MMAP, map)?;
    // The room again, under the name of the file; nothing of the file is ever in it.
    let flags = PRIVATE | NORESERVE | FIXED;
    let map = [region.start, span, READ_EXECUTE, flags, file, bytes];
    if let Err(error) = thread.call("make room for the agent", MMAP, map) {
        let _ = thread.call("undo", MUNMAP, [segment_at, bytes, 0, 0, 0, 0]);
        return Err(error);
    }
    Ok((segment, segment_at))
}

/// Writes the agent and makes its thread.
fn start(
    thread: &mut Borrowed<'_>,
    target: &Target,
    agent: &Agent<'_>,
    shape: Shape,
    region: &Range<u64>,
    segment_at: u64,
    tid_offset: u64,
) -> Result<(), InjectError> {
    for piece in agent.pieces(region.start, 0)? {
        target.write(piece.address, &piece.bytes)?;
    }
    let writable = agent.writable();
    let gate = region.start + agent.entry(NOTE_THREAD)?;
    let id = segment_at + attach::THREAD as u64;
    let storage = region.start + writable.start;
    thread.call_at("start a thread", gate, CLONE, [THREAD_FLAGS, 0, id, id, storage, 0], |r| {
        r.rbx = region.start + writable.start;
        r.rbp = writable.end - writable.start;
        r.r12 = segment_at;
        r.r13 = shape.rings as u64;
        r.r14 = shape.ring_bytes;
        r.r15 = tid_offset;
    })?;
    Ok(())
}

impl Injected {
    fn header_word(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        // A segment that cannot be read tells nothing.
        let _ = self.segment.read_exact_at(&mut bytes, offset as u64);
        u32::from_le_bytes(bytes)
    }

    fn wait_until_ready(&self) -> Result<(), InjectError> {
        let begin = Instant::now();
        loop {
            match self.header_word(attach::STATE) {
                state if state == State::Ready as u32 => return Ok(()),
                state if state == State::Failed as u32 => {
                    let error = self.header_word(attach::ERROR).cast_signed();
                    self.clean_up();
                    let source = std::io::Error::from_raw_os_error(error);
                    let what = "run the agent's thread";
                    return Err(InjectError::Remote { pid: self.pid, what, source });
                }
                _ if begin.elapsed() > READY && !is_stopped(self.pid) => {
                    return Err(InjectError::NoThread(self.pid));
                }
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
            Status::of(self.pid)?;
        }
    }

    fn clean_up(&self) {
        let begin = Instant::now();
        while self.header_word(attach::THREAD) != 0 {
            if begin.elapsed() > READY {
                return;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let bytes = self.segment.metadata().map_or(0, |file| file.len());
        let bytes = bytes.saturating_sub(self.region.end - self.region.start);
        // What stays is address space.
        let segment = self.segment_at..self.segment_at + bytes;
        let _ = unmap(self.pid, &[segment, self.region.clone()], None);
    }
}

fn is_stopped(pid: i32) -> bool {
    status_field(pid, "State").is_some_and(|state| state.starts_with(['T', 't']))
}

/// Unmaps ranges of ours in a process, whose agent's thread has ended. Looks first that they are
/// still what they were: the process may have executed another program.
///
/// # Errors
/// When no thread could be borrowed.
pub fn unmap(pid: i32, ranges: &[Range<u64>], but: Option<i32>) -> Result<(), InjectError> {
    let target = Target::open(pid)?;
    std::thread::scope(|scope| {
        let leaving = scope.spawn(|| {
            let mut thread = Borrowed::take(&target, but)?;
            // No other thread unmaps what is ours; only an `execve` could, and that ends the thread.
            let mapped = mappings(pid)?;
            let ours = |range: &&Range<u64>| {
                let covers = |mapping: &&sledge_discover::maps::Mapping| {
                    mapping.contains(range.start) && is_ours(&mapping.path)
                };
                mapped.iter().any(|mapping| covers(&mapping))
            };
            for range in ranges.iter().filter(ours) {
                let arguments = [range.start, range.end - range.start, 0, 0, 0, 0];
                thread.call("unmap the agent", MUNMAP, arguments)?;
            }
            thread.give_back()
        });
        leaving.join().map_err(|_| InjectError::NoThread(pid))?
    })
}

/// Whether a mapping bears our name.
#[must_use]
pub fn is_ours(path: &std::path::Path) -> bool {
    path.as_os_str().as_encoded_bytes() == b"/memfd:sledge (deleted)"
}
