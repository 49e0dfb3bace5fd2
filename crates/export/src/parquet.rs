//! Tables of calls and events in Parquet, for DuckDB, Spark, Trino, ClickHouse and their like.
//!
//! `calls/host=…/process=…/day=…/RECORDING.parquet`, and the same under `events/`: Hive's
//! partitions, which those readers know. Traces of many machines can go into one directory.

mod part;
mod place;

use std::io;
use std::path::Path;

use sledge_analyse::calls::{Begun, Calls, Ended, Visitor};
use sledge_analyse::{Names, module_name};
use sledge_trace::Host;
use sledge_trace::event::{Directory, Ending, Event, EventKind, FunctionId, Sink};

use crate::lanes::{owner, process_name};
use part::{Field, Parts};
use place::Place;

const CALLS: &str = "message call {
    REQUIRED INT64 recording;
    REQUIRED INT64 time (TIMESTAMP(MICROS, true));
    REQUIRED INT64 at_ns;
    OPTIONAL INT64 duration_ns;
    REQUIRED INT64 own_ns;
    REQUIRED INT64 pid;
    REQUIRED INT64 tid;
    REQUIRED BYTE_ARRAY thread (STRING);
    REQUIRED BYTE_ARRAY function (STRING);
    REQUIRED BYTE_ARRAY module (STRING);
    OPTIONAL BYTE_ARRAY caller (STRING);
    REQUIRED INT64 depth;
    REQUIRED BYTE_ARRAY ending (STRING);
}";

const EVENTS: &str = "message event {
    REQUIRED INT64 recording;
    REQUIRED INT64 time (TIMESTAMP(MICROS, true));
    REQUIRED INT64 at_ns;
    REQUIRED INT64 pid;
    REQUIRED INT64 tid;
    REQUIRED BYTE_ARRAY thread (STRING);
    REQUIRED BYTE_ARRAY kind (STRING);
    OPTIONAL INT64 value;
}";

/// Writes both tables: a row for each call, and one for each other event of a thread.
#[derive(Debug)]
pub struct Parquet {
    calls: Calls<CallTable>,
    events: Parts,
    place: Place,
}

#[derive(Debug)]
struct CallTable {
    parts: Parts,
    place: Place,
    names: Names,
}

/// An open call, and who made it.
#[derive(Clone, Copy, Debug)]
struct Open {
    function: FunctionId,
    caller: Option<FunctionId>,
}

impl Parquet {
    /// Into `directory`, for what was recorded on `host`.
    ///
    /// # Errors
    /// None yet: files are made when their first rows are written.
    pub fn new(directory: &Path, names: Names, host: &Host) -> io::Result<Self> {
        let parts = |table: &str, schema| Parts::new(&directory.join(table), schema, host);
        let place = Place::new(host);
        let calls = CallTable { parts: parts("calls", CALLS)?, place, names };
        Ok(Self { calls: Calls::new(calls), events: parts("events", EVENTS)?, place })
    }

    fn other(
        &mut self,
        directory: &Directory,
        event: &Event,
        kind: &str,
        value: Option<u64>,
    ) -> io::Result<()> {
        let Some((process, thread)) = owner(directory, event.thread) else { return Ok(()) };
        let day = self.place.day(event.at);
        let part = self.events.part(process_name(process), &day);
        part.push(0, Field::Number(self.place.recording()));
        part.push(1, Field::Number(self.place.micros(event.at)));
        part.push(2, Field::Number(event.at.0));
        part.push(3, Field::Number(process.pid.into()));
        part.push(4, Field::Number(thread.tid.into()));
        part.push(5, Field::Text(&thread.name));
        part.push(6, Field::Text(kind));
        part.push(7, value.map_or(Field::Null, Field::Number));
        self.events.row_ends(process_name(process), &day)
    }
}

impl Sink for Parquet {
    type Error = io::Error;

    #[inline]
    fn event(&mut self, directory: &Directory, event: &Event) -> io::Result<()> {
        self.calls.event(directory, event)?;
        match event.kind {
            EventKind::Enter { .. } | EventKind::Exit { .. } => Ok(()),
            EventKind::ThreadStart => self.other(directory, event, "thread_start", None),
            EventKind::Switch { stack } => {
                self.other(directory, event, "switch", Some(stack.into()))
            }
            EventKind::Lost { count, .. } => self.other(directory, event, "lost", Some(count)),
            EventKind::ThreadEnd { open } => {
                self.other(directory, event, "thread_end", Some(open.into()))
            }
        }
    }

    fn finish(&mut self, directory: &Directory) -> io::Result<()> {
        self.calls.finish(directory)?;
        self.events.finish()
    }
}

impl Visitor for CallTable {
    type Frame = Open;
    type Error = io::Error;

    #[inline]
    fn begin(
        &mut self,
        _: &Directory,
        call: &Begun,
        around: Option<&mut Open>,
    ) -> io::Result<Open> {
        Ok(Open { function: call.function, caller: around.map(|caller| caller.function) })
    }

    fn end(&mut self, directory: &Directory, call: &Ended, open: Open) -> io::Result<()> {
        let Some((process, thread)) = owner(directory, call.thread) else { return Ok(()) };
        let day = self.place.day(call.entered);
        let part = self.parts.part(process_name(process), &day);
        part.push(0, Field::Number(self.place.recording()));
        part.push(1, Field::Number(self.place.micros(call.entered)));
        part.push(2, Field::Number(call.entered.0));
        part.push(3, call.duration().map_or(Field::Null, Field::Number));
        part.push(4, Field::Number(call.own));
        part.push(5, Field::Number(process.pid.into()));
        part.push(6, Field::Number(thread.tid.into()));
        part.push(7, Field::Text(&thread.name));
        part.push(8, Field::Text(self.names.of(directory, open.function)));
        part.push(9, Field::Text(module_name(directory, open.function)));
        match open.caller {
            Some(caller) => part.push(10, Field::Text(self.names.of(directory, caller))),
            None => part.push(10, Field::Null),
        }
        part.push(11, Field::Number(call.depth.into()));
        part.push(12, Field::Text(ending(call.ending)));
        self.parts.row_ends(process_name(process), &day)
    }

    fn finish(&mut self, _: &Directory) -> io::Result<()> {
        self.parts.finish()
    }
}

fn ending(ending: Option<Ending>) -> &'static str {
    match ending {
        Some(Ending::Returned) => "returned",
        Some(Ending::Unwound) => "unwound",
        Some(Ending::NotSeen) => "not_seen",
        None => "open",
    }
}
