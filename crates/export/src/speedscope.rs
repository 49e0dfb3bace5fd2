//! The format of <https://www.speedscope.app>.

use std::io::{self, Write};
use std::path::Path;

use sledge_analyse::json::{self, Object};
use sledge_analyse::{Memo, Names, Output, module_name, text};
use sledge_trace::event::{Directory, Ending, FunctionId, Nanos, ThreadId};

use crate::lanes::{Lane, OnLanes, Timeline, process_name};
use crate::spool::Spool;

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";

/// A lane's beginning and end.
#[derive(Debug)]
struct Extent {
    lane: Lane,
    first: Nanos,
    last: Nanos,
}

/// A profile of opening and closing calls for each lane.
#[derive(Debug)]
pub struct Speedscope<W> {
    output: Output<W>,
    names: Names,
    spool: Spool,
    lanes: Memo<Extent>,
    frames: Memo<u32>,
    /// Functions, by number of their frame.
    functions: Vec<FunctionId>,
}

impl<W: Write> Speedscope<W> {
    /// Into `writer`; what must wait does so in `directory`.
    pub fn new(writer: W, names: Names, directory: &Path) -> OnLanes<Self> {
        OnLanes::new(Self {
            output: Output::new(writer),
            names,
            spool: Spool::new(directory),
            lanes: Memo::default(),
            frames: Memo::default(),
            functions: Vec::new(),
        })
    }

    fn event(&mut self, lane: Lane, kind: u8, at: Nanos, of: FunctionId) -> io::Result<()> {
        let functions = &mut self.functions;
        let frame = *self.frames.get(of.0, || {
            functions.push(of);
            functions.len() as u32 - 1
        });
        let mut fresh = false;
        let extent = self.lanes.get(lane.number, || {
            fresh = true;
            Extent { lane, first: at, last: at }
        });
        extent.last = at;
        self.spool.append(lane.number, |out| {
            out.extend_from_slice(if fresh { b"\n{\"type\":\"" } else { b",\n{\"type\":\"" });
            out.push(kind);
            out.extend_from_slice(b"\",\"frame\":");
            text::number(out, frame.into());
            out.extend_from_slice(b",\"at\":");
            text::number(out, at.0);
            out.push(b'}');
        })
    }

    fn frame_table(&mut self, directory: &Directory) {
        let out = &mut self.output.bytes;
        out.extend_from_slice(b",\"shared\":{\"frames\":");
        json::array(out, &self.functions, |out, &function| {
            let mut frame = Object::begin(out);
            frame.string("name", self.names.of(directory, function));
            match self.names.place(directory, function) {
                Some(place) => frame.string("file", &place.file).number("line", place.line.into()),
                None => frame.string("file", module_name(directory, function)),
            };
            frame.end();
        });
        out.push(b'}');
    }

    fn profile(&mut self, directory: &Directory, extent: &Extent) -> io::Result<()> {
        let out = &mut self.output.bytes;
        let mut profile = Object::begin(out);
        profile
            .string("type", "evented")
            .string("name", &title(directory, extent.lane))
            .string("unit", "nanoseconds")
            .number("startValue", extent.first.0)
            .number("endValue", extent.last.0)
            .key("events")
            .push(b'[');
        self.spool.copy(extent.lane.number, self.output.writer()?)?;
        self.output.bytes.extend_from_slice(b"]}");
        Ok(())
    }
}

/// What a lane is called.
pub(crate) fn title(directory: &Directory, lane: Lane) -> String {
    let Some((process, thread)) = lane.owner(directory) else { return "?".into() };
    let stack = if lane.stack > 0 { format!(", stack {}", lane.stack) } else { String::new() };
    format!(
        "{} {}, thread {} {}{stack}",
        process_name(process),
        process.pid,
        thread.name,
        thread.tid
    )
}

impl<W: Write> Timeline for Speedscope<W> {
    fn lane(&mut self, _: &Directory, _: Lane) -> io::Result<()> {
        Ok(())
    }

    fn begin(&mut self, _: &Directory, lane: Lane, at: Nanos, of: FunctionId) -> io::Result<()> {
        self.event(lane, b'O', at, of)
    }

    fn end(
        &mut self,
        _: &Directory,
        lane: Lane,
        at: Nanos,
        of: FunctionId,
        _: Option<Ending>,
    ) -> io::Result<()> {
        self.event(lane, b'C', at, of)
    }

    /// The format has no word for it.
    fn lost(&mut self, _: &Directory, _: ThreadId, _: Nanos, _: Nanos, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, directory: &Directory) -> io::Result<()> {
        let out = &mut self.output.bytes;
        let program = directory.processes.first().map_or("", |process| process_name(process));
        Object::begin(out)
            .string("$schema", SCHEMA)
            .string("exporter", concat!("sledge ", env!("CARGO_PKG_VERSION")))
            .string("name", program);
        self.frame_table(directory);
        self.output.bytes.extend_from_slice(b",\"profiles\":[");
        for (index, extent) in std::mem::take(&mut self.lanes).into_values().enumerate() {
            if index > 0 {
                self.output.bytes.push(b',');
            }
            self.profile(directory, &extent)?;
        }
        self.output.bytes.extend_from_slice(b"]}\n");
        self.output.finish()
    }
}
