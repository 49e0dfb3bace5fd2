//! A report as a table, as JSON or as CSV.

use std::io::{self, Write};

use super::Row;
use crate::json::{self, Object};
use crate::{UnknownWord, parse_list, text};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A table for people; the only format that heeds columns.
    #[default]
    Text,
    /// One object: `functions`, an array of `function`, `module`, `calls`, `total_ns`, `self_ns`,
    /// `avg_ns`, `min_ns`, `max_ns`.
    Json,
    /// The same members as comma-separated values, with a heading.
    Csv,
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Time in it and what it called.
    Total,
    /// Time in itself.
    Own,
    /// The mean time of a call.
    Average,
    /// The shortest call.
    Min,
    /// The longest call.
    Max,
    /// How many calls.
    Calls,
    /// The object's file name.
    Module,
}

impl Column {
    /// What a table shows if not told.
    pub const DEFAULT: [Self; 3] = [Self::Total, Self::Own, Self::Calls];
    const TABLE: [(&'static str, Self); 7] = [
        ("total", Self::Total),
        ("self", Self::Own),
        ("call", Self::Calls),
        ("avg", Self::Average),
        ("min", Self::Min),
        ("max", Self::Max),
        ("module", Self::Module),
    ];

    /// Reads `total,self`, `+avg` (appends to the default) or `none`.
    ///
    /// # Errors
    /// [`UnknownWord`] for a column that there is not.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UnknownWord> {
        parse_list("field", text, &Self::TABLE, &Self::DEFAULT)
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Total => "Total time",
            Self::Own => "Self time",
            Self::Average => "Avg time",
            Self::Min => "Min time",
            Self::Max => "Max time",
            Self::Calls => "Calls",
            Self::Module => "Module",
        }
    }

    fn value(self, out: &mut Vec<u8>, row: &Row) {
        match self {
            Self::Total => text::duration(out, row.total),
            Self::Own => text::duration(out, row.own),
            Self::Average => text::duration(out, row.average()),
            Self::Min => text::duration(out, row.min()),
            Self::Max => text::duration(out, row.max),
            Self::Calls => text::right(out, row.calls, WIDTH),
            Self::Module => out.extend_from_slice(format!("{:>WIDTH$}", row.module).as_bytes()),
        }
    }
}

/// Width of a column.
const WIDTH: usize = text::DURATION_COLUMNS;

/// Writes `rows` in `format`.
///
/// # Errors
/// The writer's.
pub fn write(
    writer: &mut impl Write,
    rows: &[Row],
    format: Format,
    columns: &[Column],
) -> io::Result<()> {
    let mut out = Vec::new();
    match format {
        Format::Text => table(&mut out, rows, columns),
        Format::Json => object(&mut out, rows),
        Format::Csv => csv(&mut out, rows),
    }
    writer.write_all(&out)?;
    writer.flush()
}

fn table(out: &mut Vec<u8>, rows: &[Row], columns: &[Column]) {
    for column in columns {
        out.extend_from_slice(format!("  {:>WIDTH$}", column.heading()).as_bytes());
    }
    out.extend_from_slice(b"  Function\n");
    for _ in columns {
        out.extend_from_slice(b"  ==========");
    }
    out.extend_from_slice(b"  ====================\n");
    for row in rows {
        for column in columns {
            text::blanks(out, 2);
            column.value(out, row);
        }
        text::blanks(out, 2);
        out.extend_from_slice(row.name.as_bytes());
        out.push(b'\n');
    }
}

/// The numbers of a row and their names.
fn numbers(row: &Row) -> [(&'static str, u64); 6] {
    [
        ("calls", row.calls),
        ("total_ns", row.total),
        ("self_ns", row.own),
        ("avg_ns", row.average()),
        ("min_ns", row.min()),
        ("max_ns", row.max),
    ]
}

fn object(out: &mut Vec<u8>, rows: &[Row]) {
    let mut whole = Object::begin(out);
    json::array(whole.key("functions"), rows, |out, row| {
        out.extend_from_slice(b"\n");
        let mut object = Object::begin(out);
        object.string("function", &row.name).string("module", &row.module);
        for (key, value) in numbers(row) {
            object.number(key, value);
        }
        object.end();
    });
    whole.end();
    out.push(b'\n');
}

fn csv(out: &mut Vec<u8>, rows: &[Row]) {
    out.extend_from_slice(b"function,module,calls,total_ns,self_ns,avg_ns,min_ns,max_ns\n");
    for row in rows {
        csv_text(out, &row.name);
        out.push(b',');
        csv_text(out, &row.module);
        for (_, value) in numbers(row) {
            out.push(b',');
            text::number(out, value);
        }
        out.push(b'\n');
    }
}

/// A text, quoted where it needs to be.
fn csv_text(out: &mut Vec<u8>, value: &str) {
    if value.contains(['"', ',', '\n', '\r']) {
        out.extend_from_slice(format!("\"{}\"", value.replace('"', "\"\"")).as_bytes());
    } else {
        out.extend_from_slice(value.as_bytes());
    }
}
