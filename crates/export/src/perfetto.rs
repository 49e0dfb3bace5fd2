//! Perfetto's protobuf format, for <https://ui.perfetto.dev> and trace_processor.
//!
//! Field numbers are those of `protos/perfetto/trace/*.proto`. All packets are one sequence, so
//! names are interned once; tracks are numbered from 1.

use std::io::{self, Write};

use sledge_analyse::{Memo, Names, Output, module_name};
use sledge_trace::Host;
use sledge_trace::event::{Directory, Ending, FunctionId, Nanos, ProcessId, ThreadId};

use crate::creations::Creations;
use crate::lanes::{Lane, OnLanes, Timeline, owner, process_name, remark};
use crate::protobuf::{bytes, fixed64, message, number, packed};

/// `TracePacket`.
mod packet {
    pub(super) const CLOCK_SNAPSHOT: u32 = 6;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const SEQUENCE: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const INTERNED: u32 = 12;
    pub(super) const FLAGS: u32 = 13;
    pub(super) const TRACK: u32 = 60;
}

/// `TrackEvent`.
mod event {
    pub(super) const CATEGORIES: u32 = 3;
    pub(super) const ANNOTATION: u32 = 4;
    pub(super) const TYPE: u32 = 9;
    pub(super) const NAME: u32 = 10;
    pub(super) const TRACK: u32 = 11;
    pub(super) const NAME_TEXT: u32 = 23;
    pub(super) const COUNTER: u32 = 30;
    pub(super) const FLOWS: u32 = 47;
    pub(super) const FLOW_ENDS: u32 = 48;
}

/// `TrackDescriptor`.
mod track {
    pub(super) const ID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const PROCESS: u32 = 3;
    pub(super) const THREAD: u32 = 4;
    pub(super) const PARENT: u32 = 5;
    pub(super) const COUNTER: u32 = 8;
}

const PACKET: u32 = 1;
const SEQUENCE_ID: u64 = 1;
const STATE_CLEARED: u64 = 1;
const NEEDS_STATE: u64 = 2;
const REALTIME: u64 = 1;
const BOOTTIME: u64 = 6;

/// `TrackEvent.Type`.
#[derive(Clone, Copy)]
enum Type {
    Begin = 1,
    End = 2,
    Instant = 3,
    Counter = 4,
}

/// The tracks of a thread.
#[derive(Debug, Default)]
struct Tracks {
    own: u64,
    counter: Option<u64>,
    lost: u64,
}

/// A track for each thread, with its calls as slices; further stacks of a thread have tracks below
/// its own. A function's module is its category. Lost events are a counter. Where it is known which
/// call made a thread or process, a flow leads there.
#[derive(Debug)]
pub struct Perfetto<W> {
    output: Output<W>,
    names: Names,
    modules: Memo<u64>,
    interned: Memo<u64>,
    processes: Memo<u64>,
    threads: Memo<Tracks>,
    lanes: Memo<u64>,
    creations: Creations,
    tracks: u64,
}

impl<W: Write> Perfetto<W> {
    /// Into `writer`; what was recorded on `host` began at its time.
    pub fn new(writer: W, names: Names, host: &Host) -> OnLanes<Self> {
        let mut perfetto = Self {
            output: Output::new(writer),
            names,
            modules: Memo::default(),
            interned: Memo::default(),
            processes: Memo::default(),
            threads: Memo::default(),
            lanes: Memo::default(),
            creations: Creations::default(),
            tracks: 0,
        };
        perfetto.clocks(host);
        OnLanes::new(perfetto)
    }

    /// Says which wall time the trace's beginning was.
    fn clocks(&mut self, host: &Host) {
        message(&mut self.output.bytes, PACKET, |out| {
            number(out, packet::SEQUENCE, SEQUENCE_ID);
            number(out, packet::FLAGS, STATE_CLEARED);
            message(out, packet::CLOCK_SNAPSHOT, |out| {
                for (clock, time) in [(BOOTTIME, 0), (REALTIME, host.began)] {
                    message(out, 1, |out| {
                        number(out, 1, clock);
                        number(out, 2, time);
                    });
                }
            });
        });
    }

    /// Describes a new track and gives its number.
    fn track(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        self.tracks += 1;
        let id = self.tracks;
        message(&mut self.output.bytes, PACKET, |out| {
            number(out, packet::SEQUENCE, SEQUENCE_ID);
            message(out, packet::TRACK, |out| {
                number(out, track::ID, id);
                write(out);
            });
        });
        id
    }

    fn process_track(&mut self, directory: &Directory, of: ProcessId) -> u64 {
        if let Some(known) = self.processes.peek_mut(of.0) {
            return *known;
        }
        let process = directory.processes.get(of.0 as usize);
        let id = self.track(|out| {
            message(out, track::PROCESS, |out| {
                let Some(process) = process else { return };
                number(out, 1, process.pid.into());
                process.arguments.iter().for_each(|argument| bytes(out, 2, argument.as_bytes()));
                bytes(out, 6, process_name(process).as_bytes());
            });
        });
        *self.processes.get(of.0, || id)
    }

    fn thread_tracks(&mut self, directory: &Directory, thread: ThreadId) -> &mut Tracks {
        if self.threads.peek_mut(thread.0).is_none()
            && let Some((process, known)) = owner(directory, thread)
        {
            let parent = self.process_track(directory, known.process);
            let own = self.track(|out| {
                number(out, track::PARENT, parent);
                message(out, track::THREAD, |out| {
                    number(out, 1, process.pid.into());
                    number(out, 2, known.tid.into());
                    bytes(out, 5, known.name.as_bytes());
                });
            });
            self.threads.get(thread.0, || Tracks { own, ..Tracks::default() });
        }
        self.threads.get(thread.0, Tracks::default)
    }

    #[inline]
    fn event(&mut self, at: Nanos, kind: Type, on: u64, write: impl FnOnce(&mut Vec<u8>)) {
        message(&mut self.output.bytes, PACKET, |out| {
            number(out, packet::TIMESTAMP, at.0);
            number(out, packet::SEQUENCE, SEQUENCE_ID);
            number(out, packet::FLAGS, NEEDS_STATE);
            message(out, packet::TRACK_EVENT, |out| {
                number(out, event::TYPE, kind as u64);
                number(out, event::TRACK, on);
                write(out);
            });
        });
    }

    /// The number of a function's module, whose names come before it in the trace.
    #[inline]
    fn intern(&mut self, directory: &Directory, function: FunctionId) -> u64 {
        if let Some(&mut module) = self.interned.peek_mut(function.0) {
            return module;
        }
        let object =
            directory.functions.get(function.0 as usize).map_or(u32::MAX >> 8, |f| f.object.0);
        let fresh = self.modules.peek_mut(object).is_none();
        let module = *self.modules.get(object, || u64::from(object) + 1);
        let name = self.names.of(directory, function);
        message(&mut self.output.bytes, PACKET, |out| {
            number(out, packet::SEQUENCE, SEQUENCE_ID);
            number(out, packet::FLAGS, NEEDS_STATE);
            message(out, packet::INTERNED, |out| {
                if fresh {
                    text(out, 1, module, module_name(directory, function));
                }
                text(out, 2, u64::from(function.0) + 1, name);
            });
        });
        *self.interned.get(function.0, || module)
    }
}

/// An interned text.
fn text(out: &mut Vec<u8>, field: u32, id: u64, text: &str) {
    message(out, field, |out| {
        number(out, 1, id);
        bytes(out, 2, text.as_bytes());
    });
}

impl<W: Write> Timeline for Perfetto<W> {
    fn thread(&mut self, directory: &Directory, thread: ThreadId, at: Nanos) -> io::Result<()> {
        let track = self.thread_tracks(directory, thread).own;
        if let Some(flow) = self.creations.started(directory, thread) {
            self.event(at, Type::Instant, track, |out| {
                bytes(out, event::NAME_TEXT, b"started");
                fixed64(out, event::FLOW_ENDS, flow);
            });
        }
        self.output.batch()
    }

    fn lane(&mut self, directory: &Directory, lane: Lane) -> io::Result<()> {
        let mut track = self.thread_tracks(directory, lane.thread).own;
        if lane.stack > 0 {
            let name = format!("stack {}", lane.stack);
            track = self.track(|out| {
                number(out, track::PARENT, track);
                bytes(out, track::NAME, name.as_bytes());
            });
        }
        self.lanes.get(lane.number, || track);
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
        let module = self.intern(directory, function);
        let track = *self.lanes.get(lane.number, || 0);
        let flow = self.creations.called(directory, lane.thread, function);
        self.event(at, Type::Begin, track, |out| {
            packed(out, event::CATEGORIES, [module]);
            number(out, event::NAME, u64::from(function.0) + 1);
            if let Some(flow) = flow {
                fixed64(out, event::FLOWS, flow);
            }
        });
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
        let track = *self.lanes.get(lane.number, || 0);
        self.event(at, Type::End, track, |out| {
            if let Some(word) = remark(ending) {
                message(out, event::ANNOTATION, |out| {
                    bytes(out, 10, b"ending");
                    bytes(out, 6, word.as_bytes());
                });
            }
        });
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
        let tracks = self.thread_tracks(directory, thread);
        let (own, before) = (tracks.own, tracks.lost);
        let counter = tracks.counter;
        let counter = counter.unwrap_or_else(|| {
            self.track(|out| {
                number(out, track::PARENT, own);
                bytes(out, track::NAME, b"events lost");
                message(out, track::COUNTER, |_| ());
            })
        });
        let after = before.saturating_add(count);
        let tracks = self.thread_tracks(directory, thread);
        (tracks.counter, tracks.lost) = (Some(counter), after);
        for (at, value) in [(since, before), (at, after)] {
            self.event(at, Type::Counter, counter, |out| number(out, event::COUNTER, value));
        }
        self.output.batch()
    }

    fn finish(&mut self, _: &Directory) -> io::Result<()> {
        self.output.finish()
    }
}
