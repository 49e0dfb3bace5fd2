//! Chrome's trace event format in JSON, which many viewers read.

use std::io::{self, Write};

use sledge_analyse::json::{self, Object};
use sledge_analyse::{Memo, Names, Output, module_name, text};
use sledge_trace::event::{Directory, Ending, FunctionId, Nanos, ThreadId};

use crate::creations::Creations;
use crate::lanes::{Lane, OnLanes, Timeline, owner, process_name, remark};

/// Further stacks of a thread are told as threads with ids from here on, which Linux never gives.
const STACKS: u64 = 1 << 30;

/// `"pid":…,"tid":…` of a lane.
type Place = Box<[u8]>;

/// Calls as pairs of events `B` and `E`, in time order. A function's module is its category. Lost
/// events are a counter; flows lead from calls to the threads and processes that they made.
#[derive(Debug)]
pub struct Chrome<W> {
    output: Output<W>,
    names: Names,
    /// `"name":…,"cat":…` by function.
    members: Memo<Box<[u8]>>,
    lanes: Memo<Place>,
    processes: Memo<()>,
    lost: Memo<u64>,
    creations: Creations,
    first: bool,
}

impl<W: Write> Chrome<W> {
    /// Into `writer`.
    pub fn new(writer: W, names: Names) -> OnLanes<Self> {
        OnLanes::new(Self {
            output: Output::new(writer),
            names,
            members: Memo::default(),
            lanes: Memo::default(),
            processes: Memo::default(),
            lost: Memo::default(),
            creations: Creations::default(),
            first: true,
        })
    }

    /// Begins an event: all but its closing brace.
    #[inline]
    fn event(&mut self, phase: u8, place: &[u8]) {
        self.begin_event(phase);
        self.output.bytes.extend_from_slice(place);
    }

    #[inline]
    fn begin_event(&mut self, phase: u8) {
        let start: &[u8] =
            if self.first { b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n" } else { b",\n" };
        self.first = false;
        self.output.bytes.extend_from_slice(start);
        self.output
            .bytes
            .extend_from_slice(&[b'{', b'"', b'p', b'h', b'"', b':', b'"', phase, b'"', b',']);
    }

    /// Names a process or thread.
    fn name(&mut self, place: &[u8], what: &str, name: &str) {
        self.event(b'M', place);
        let out = &mut self.output.bytes;
        out.extend_from_slice(b",\"name\":");
        json::string(out, what);
        out.extend_from_slice(b",\"args\":");
        Object::begin(out).string("name", name).end();
        out.push(b'}');
    }

    fn flow(&mut self, phase: u8, place: &[u8], at: Nanos, id: u64) {
        self.event(phase, place);
        time(&mut self.output.bytes, at);
        let bind: &[u8] = if phase == b'f' { b",\"bp\":\"e\"" } else { b"" };
        self.output.bytes.extend_from_slice(b",\"name\":\"made\",\"cat\":\"thread\"");
        self.output.bytes.extend_from_slice(bind);
        self.output.bytes.extend_from_slice(b",\"id\":");
        text::number(&mut self.output.bytes, id);
        self.output.bytes.push(b'}');
    }
}

fn place(pid: u32, tid: u64) -> Place {
    let mut place = b"\"pid\":".to_vec();
    text::number(&mut place, pid.into());
    place.extend_from_slice(b",\"tid\":");
    text::number(&mut place, tid);
    place.into_boxed_slice()
}

fn place_of(directory: &Directory, thread: ThreadId) -> Place {
    let (pid, tid) = owner(directory, thread).map_or((0, 0), |(p, t)| (p.pid, t.tid));
    place(pid, tid.into())
}

/// Microseconds, with their thousandths.
#[inline]
fn time(out: &mut Vec<u8>, at: Nanos) {
    out.extend_from_slice(b",\"ts\":");
    text::number(out, at.0 / 1000);
    out.push(b'.');
    text::zeroed(out, at.0 % 1000, 3);
}

impl<W: Write> Timeline for Chrome<W> {
    fn thread(&mut self, directory: &Directory, thread: ThreadId, at: Nanos) -> io::Result<()> {
        let Some((process, known)) = owner(directory, thread) else { return Ok(()) };
        let place = place_of(directory, thread);
        let mut fresh = false;
        self.processes.get(known.process.0, || fresh = true);
        if fresh {
            self.name(&place, "process_name", process_name(process));
        }
        self.name(&place, "thread_name", &known.name);
        if let Some(id) = self.creations.started(directory, thread) {
            self.flow(b'f', &place, at, id);
        }
        self.output.batch()
    }

    fn lane(&mut self, directory: &Directory, lane: Lane) -> io::Result<()> {
        let (pid, tid, name) =
            lane.owner(directory).map_or((0, 0, ""), |(p, t)| (p.pid, t.tid, t.name.as_str()));
        let mut id = u64::from(tid);
        if lane.stack > 0 {
            id = STACKS + u64::from(lane.number);
            self.name(
                &place(pid, id),
                "thread_name",
                &format!("{name} {tid}, stack {}", lane.stack),
            );
        }
        self.lanes.get(lane.number, || place(pid, id));
        Ok(())
    }

    #[inline]
    fn begin(
        &mut self,
        directory: &Directory,
        lane: Lane,
        at: Nanos,
        function: FunctionId,
    ) -> io::Result<()> {
        self.begin_event(b'B');
        let out = &mut self.output.bytes;
        let place = self.lanes.get(lane.number, Place::default);
        out.extend_from_slice(place);
        time(out, at);
        let names = &mut self.names;
        out.extend_from_slice(self.members.get(function.0, || {
            let mut member = b",\"name\":".to_vec();
            json::string(&mut member, names.of(directory, function));
            member.extend_from_slice(b",\"cat\":");
            json::string(&mut member, module_name(directory, function));
            member.push(b'}');
            member.into_boxed_slice()
        }));
        if let Some(id) = self.creations.called(directory, lane.thread, function) {
            let place = place.clone();
            self.flow(b's', &place, at, id);
        }
        self.output.batch()
    }

    #[inline]
    fn end(
        &mut self,
        _: &Directory,
        lane: Lane,
        at: Nanos,
        _: FunctionId,
        ending: Option<Ending>,
    ) -> io::Result<()> {
        self.begin_event(b'E');
        let out = &mut self.output.bytes;
        out.extend_from_slice(self.lanes.get(lane.number, Place::default));
        time(out, at);
        if let Some(word) = remark(ending) {
            out.extend_from_slice(b",\"args\":");
            Object::begin(out).string("ending", word).end();
        }
        out.push(b'}');
        self.output.batch()
    }

    fn lost(
        &mut self,
        directory: &Directory,
        thread: ThreadId,
        since: Nanos,
        at: Nanos,
        count: u64,
    ) -> io::Result<()> {
        let place = place_of(directory, thread);
        let tid = owner(directory, thread).map_or(0, |(_, known)| known.tid);
        let lost = self.lost.get(thread.0, || 0);
        let before = *lost;
        *lost = lost.saturating_add(count);
        let after = *lost;
        for (at, value) in [(since, before), (at, after)] {
            self.event(b'C', &place);
            let out = &mut self.output.bytes;
            time(out, at);
            out.extend_from_slice(b",\"name\":");
            json::string(out, &format!("events lost on thread {tid}"));
            out.extend_from_slice(b",\"args\":");
            Object::begin(out).number("events", value).end();
            out.push(b'}');
        }
        self.output.batch()
    }

    fn finish(&mut self, _: &Directory) -> io::Result<()> {
        let end: &[u8] = if self.first { b"{\"traceEvents\":[]}\n" } else { b"\n]}\n" };
        self.output.bytes.extend_from_slice(end);
        self.output.finish()
    }
}
