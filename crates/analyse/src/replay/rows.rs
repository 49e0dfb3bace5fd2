//! A replay for machines: a row for each call that ended.

use std::io::{self, Write};

use sledge_trace::event::{Directory, Ending, Event, EventKind, Sink};

use crate::names::{Names, module_name};
use crate::output::Output;
use crate::records::{Format, Records, Value};

const COLUMNS: [&str; 9] =
    ["start_ns", "duration_ns", "pid", "tid", "thread", "depth", "function", "module", "ending"];

/// Writes calls as rows, in the order in which they ended.
#[derive(Debug)]
pub struct ReplayRows<W> {
    output: Output<W>,
    records: Records,
    names: Names,
}

impl<W: Write> ReplayRows<W> {
    /// Rows into `writer`: JSON, or CSV for any other format.
    pub fn new(writer: W, names: Names, format: Format) -> Self {
        let mut output = Output::new(writer);
        let records = Records::begin(&mut output.bytes, format, "calls", &COLUMNS);
        Self { output, records, names }
    }
}

impl<W: Write> Sink for ReplayRows<W> {
    type Error = io::Error;

    fn event(&mut self, directory: &Directory, event: &Event) -> io::Result<()> {
        let EventKind::Exit { function, depth, entered, ending } = event.kind else {
            return Ok(());
        };
        let thread = directory.threads.get(event.thread.0 as usize);
        let process = thread.and_then(|known| directory.processes.get(known.process.0 as usize));
        let (duration, word) = match ending {
            Ending::Returned => (Some(event.at.0.saturating_sub(entered.0)), "returned"),
            Ending::Unwound => (Some(event.at.0.saturating_sub(entered.0)), "unwound"),
            Ending::NotSeen => (None, "not_seen"),
        };
        let values = [
            Value::Number(entered.0),
            Value::from(duration),
            Value::from(process.map(|known| u64::from(known.pid))),
            Value::from(thread.map(|known| u64::from(known.tid))),
            Value::Text(thread.map_or("", |known| &known.name)),
            Value::Number(depth.into()),
            Value::Text(self.names.of(directory, function)),
            Value::Text(module_name(directory, function)),
            Value::Text(word),
        ];
        self.records.row(&mut self.output.bytes, &values);
        self.output.batch()
    }

    fn finish(&mut self, _: &Directory) -> io::Result<()> {
        self.records.end(&mut self.output.bytes);
        self.output.finish()
    }
}
