//! One line of a replay: its columns, its code, its colours.

use sledge_trace::event::{Directory, Ending, FunctionId, Nanos};

use super::{Field, Style, ThreadView};
use crate::names::Names;
use crate::text::{self, Unit};

const PLAIN: &[u8] = b"\x1b[0m";
const DIM: &[u8] = b"\x1b[2m";
const GREY: &[u8] = b"\x1b[90m";

/// Columns of a module or thread name.
const NAME_COLUMNS: usize = 16;
/// Columns of a tid, at least.
const TID_COLUMNS: usize = 5;

/// When a line's event was.
pub(super) struct Moment {
    pub(super) at: Nanos,
    pub(super) since_first: u64,
    pub(super) duration: Option<u64>,
}

/// Writes the parts of lines.
#[derive(Debug)]
pub(super) struct Line {
    names: Names,
    style: Style,
    tid_columns: usize,
}

impl Line {
    pub(super) fn new(names: Names, style: Style) -> Self {
        Self { names: names.printed(), style, tid_columns: TID_COLUMNS }
    }

    /// Writes the headings, and settles how wide a tid may be.
    pub(super) fn header(&mut self, out: &mut Vec<u8>, directory: &Directory) {
        let widest = directory.threads.iter().map(|thread| thread.tid).max().unwrap_or(0);
        self.tid_columns = TID_COLUMNS.max(widest.to_string().len());
        if self.style.fields.is_empty() {
            return;
        }
        let start = out.len();
        for &field in &self.style.fields {
            let heading = heading(field);
            out.extend_from_slice(heading.as_bytes());
            text::blanks(out, self.width(field).saturating_sub(heading.len()) + 1);
        }
        out[start] = b'#';
        out.extend_from_slice(b"    FUNCTION\n");
    }

    fn width(&self, field: Field) -> usize {
        match field {
            Field::Duration => text::DURATION_COLUMNS + 1,
            Field::Delta | Field::Elapsed => text::DURATION_COLUMNS,
            Field::Tid => self.tid_columns + 2,
            Field::Time | Field::Module | Field::Comm => NAME_COLUMNS,
        }
    }

    /// `[ 4711]`.
    pub(super) fn thread_label(&self, tid: u32) -> Box<[u8]> {
        let mut label = vec![b'['];
        text::right(&mut label, tid.into(), self.tid_columns);
        label.push(b']');
        label.into_boxed_slice()
    }

    /// Writes everything up to the code.
    pub(super) fn columns<'d>(
        &self,
        out: &mut Vec<u8>,
        moment: &Moment,
        view: &ThreadView,
        module: impl Fn() -> &'d str,
    ) {
        for field in &self.style.fields {
            match field {
                Field::Duration => self.duration(out, moment.duration),
                Field::Tid => out.extend_from_slice(&view.label),
                Field::Time => {
                    text::right(out, moment.at.0 / 1_000_000_000, 6);
                    out.push(b'.');
                    text::zeroed(out, moment.at.0 % 1_000_000_000, 9);
                }
                Field::Delta => text::duration(out, moment.at.0.saturating_sub(view.last.0)),
                Field::Elapsed => text::duration(out, moment.since_first),
                Field::Module => self.coloured(out, DIM, |out| name(out, module())),
                Field::Comm => name(out, &view.comm),
            }
            out.push(b' ');
        }
        if !self.style.fields.is_empty() {
            out.extend_from_slice(b"| ");
        }
    }

    fn duration(&self, out: &mut Vec<u8>, nanos: Option<u64>) {
        let Some(nanos) = nanos else {
            return text::blanks(out, text::DURATION_COLUMNS + 1);
        };
        out.push(b' ');
        match text::scale(nanos).1 {
            Unit::Micro => text::duration(out, nanos),
            Unit::Milli => self.coloured(out, b"\x1b[32m", |out| text::duration(out, nanos)),
            Unit::Second => self.coloured(out, b"\x1b[33m", |out| text::duration(out, nanos)),
            Unit::Minute | Unit::Hour => {
                self.coloured(out, b"\x1b[31m", |out| text::duration(out, nanos));
            }
        }
    }

    /// `f() {`
    pub(super) fn open(
        &mut self,
        out: &mut Vec<u8>,
        directory: &Directory,
        function: FunctionId,
        depth: u32,
    ) {
        self.call(out, directory, function, depth);
        out.extend_from_slice(b" {\n");
    }

    /// `f();`
    pub(super) fn leaf(
        &mut self,
        out: &mut Vec<u8>,
        directory: &Directory,
        function: FunctionId,
        depth: u32,
        ending: Ending,
    ) {
        self.call(out, directory, function, depth);
        out.push(b';');
        if ending == Ending::Unwound {
            out.push(b' ');
            self.coloured(out, GREY, |out| out.extend_from_slice(b"/* unwound */"));
        }
        out.push(b'\n');
    }

    /// `} /* f */`
    pub(super) fn close(
        &mut self,
        out: &mut Vec<u8>,
        directory: &Directory,
        function: FunctionId,
        depth: u32,
        ending: Ending,
    ) {
        text::blanks(out, depth as usize * 2);
        out.extend_from_slice(b"} ");
        self.start(out, GREY);
        out.extend_from_slice(b"/* ");
        out.extend_from_slice(self.names.of(directory, function).as_bytes());
        if ending == Ending::Unwound {
            out.extend_from_slice(b", unwound");
        }
        out.extend_from_slice(b" */");
        self.start(out, PLAIN);
        out.push(b'\n');
    }

    /// `/* 123 events lost */`
    pub(super) fn lost(&self, out: &mut Vec<u8>, count: u64, depth: u32) {
        text::blanks(out, depth as usize * 2);
        self.coloured(out, GREY, |out| {
            out.extend_from_slice(b"/* ");
            text::number(out, count);
            let noun: &[u8] = if count == 1 { b" event" } else { b" events" };
            out.extend_from_slice(noun);
            out.extend_from_slice(b" lost */");
        });
        out.push(b'\n');
    }

    /// Indentation and `f()`.
    fn call(&mut self, out: &mut Vec<u8>, directory: &Directory, function: FunctionId, depth: u32) {
        text::blanks(out, depth as usize * 2);
        out.extend_from_slice(self.names.call_of(directory, function).as_bytes());
    }

    fn coloured(&self, out: &mut Vec<u8>, colour: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.start(out, colour);
        write(out);
        self.start(out, PLAIN);
    }

    fn start(&self, out: &mut Vec<u8>, colour: &[u8]) {
        if self.style.colour {
            out.extend_from_slice(colour);
        }
    }
}

/// The heading of a column; its first byte gives way to `#` at the start of the line.
const fn heading(field: Field) -> &'static str {
    match field {
        Field::Duration => "  DURATION",
        Field::Tid => "   TID",
        Field::Time => "  TIMESTAMP",
        Field::Delta => "   DELTA",
        Field::Elapsed => "  ELAPSED",
        Field::Module => "  MODULE",
        Field::Comm => "  COMM",
    }
}

/// A name in its column, cut where it does not fit.
fn name(out: &mut Vec<u8>, name: &str) {
    let shown = text::cut(name, NAME_COLUMNS);
    out.extend_from_slice(shown.as_bytes());
    text::blanks(out, NAME_COLUMNS - text::columns(shown));
}
