//! A trace as one JSON object a line.

use std::io::{self, Write};

use sledge_trace::event::{Directory, Ending, Event, EventKind, FunctionId, Sink};

use crate::json::Object;
use crate::names::{Memo, Names, module_name};
use crate::output::Output;
use crate::{json, text};

/// Writes every event as one line of JSON:
///
/// * all: `ts_ns`, `tid`, `pid`, `kind` (`thread`, `entry`, `exit`, `switch`, `lost`,
///   `thread_end`);
/// * `entry` and `exit`: `func`, `module`, `depth`; `exit` also `duration_ns` (`null` where the
///   exit could not be seen) and `ending` (`returned`, `unwound`, `not_seen`);
/// * `thread`: `name`; `switch`: `stack`, the one it runs on from now on; `lost`: `count` and `since_ns`; `thread_end`: `open`.
#[derive(Debug)]
pub struct Dump<W> {
    output: Output<W>,
    names: Names,
    /// `"func":"…","module":"…"` by function: escaped once.
    members: Memo<Box<[u8]>>,
}

impl<W: Write> Dump<W> {
    /// A dump into `writer`.
    pub fn new(writer: W, names: Names) -> Self {
        Self { output: Output::new(writer), names, members: Memo::default() }
    }

    fn call(&mut self, directory: &Directory, function: FunctionId, depth: u32) {
        let names = &mut self.names;
        let members = self.members.get(function.0, || {
            let mut bytes = b",\"func\":".to_vec();
            json::string(&mut bytes, names.of(directory, function));
            bytes.extend_from_slice(b",\"module\":");
            json::string(&mut bytes, module_name(directory, function));
            bytes.extend_from_slice(b",\"depth\":");
            bytes.into_boxed_slice()
        });
        self.output.bytes.extend_from_slice(members);
        text::number(&mut self.output.bytes, depth.into());
    }
}

impl<W: Write> Sink for Dump<W> {
    type Error = io::Error;

    fn event(&mut self, directory: &Directory, event: &Event) -> io::Result<()> {
        let thread = directory.threads.get(event.thread.0 as usize);
        let process = thread.and_then(|known| directory.processes.get(known.process.0 as usize));
        let kind = match event.kind {
            EventKind::ThreadStart => "thread",
            EventKind::Enter { .. } => "entry",
            EventKind::Exit { .. } => "exit",
            EventKind::Switch { .. } => "switch",
            EventKind::Lost { .. } => "lost",
            EventKind::ThreadEnd { .. } => "thread_end",
        };
        let mut line = Object::begin(&mut self.output.bytes);
        line.number("ts_ns", event.at.0)
            .optional("tid", thread.map(|known| known.tid.into()))
            .optional("pid", process.map(|known| known.pid.into()))
            .string("kind", kind);
        match event.kind {
            EventKind::ThreadStart => {
                line.string("name", thread.map_or("", |known| &known.name));
            }
            EventKind::Switch { stack } => {
                line.number("stack", stack.into());
            }
            EventKind::Lost { count, since } => {
                line.number("count", count).number("since_ns", since.0);
            }
            EventKind::ThreadEnd { open } => {
                line.number("open", open.into());
            }
            EventKind::Enter { function, depth } => self.call(directory, function, depth),
            EventKind::Exit { function, depth, entered, ending } => {
                self.call(directory, function, depth);
                ended(&mut self.output.bytes, event.at.0.saturating_sub(entered.0), ending);
            }
        }
        self.output.bytes.extend_from_slice(b"}\n");
        self.output.batch()
    }

    fn finish(&mut self, _: &Directory) -> io::Result<()> {
        self.output.finish()
    }
}

/// The members that only an exit has.
fn ended(out: &mut Vec<u8>, nanos: u64, ending: Ending) {
    out.extend_from_slice(b",\"duration_ns\":");
    let word = match ending {
        Ending::Returned => "returned",
        Ending::Unwound => "unwound",
        Ending::NotSeen => "not_seen",
    };
    if ending == Ending::NotSeen {
        out.extend_from_slice(b"null");
    } else {
        text::number(out, nanos);
    }
    out.extend_from_slice(b",\"ending\":");
    json::string(out, word);
}

#[cfg(test)]
mod tests;
