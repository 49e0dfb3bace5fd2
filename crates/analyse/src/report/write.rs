//! A report as a table, as JSON or as CSV.

use std::io::{self, Write};

use super::{By, Row};
use crate::records::{self, Format, Value};
use crate::{UnknownWord, parse_list, text};

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
    /// The time that so many thousandths of the calls do not exceed.
    Quantile(u16),
    /// How many calls.
    Calls,
    /// The object's file name.
    Module,
}

impl Column {
    /// What a table shows if not told.
    pub const DEFAULT: [Self; 3] = [Self::Total, Self::Own, Self::Calls];
    const TABLE: [(&'static str, Self); 12] = [
        ("total", Self::Total),
        ("self", Self::Own),
        ("call", Self::Calls),
        ("avg", Self::Average),
        ("min", Self::Min),
        ("max", Self::Max),
        ("p50", Self::Quantile(500)),
        ("p90", Self::Quantile(900)),
        ("p95", Self::Quantile(950)),
        ("p99", Self::Quantile(990)),
        ("p999", Self::Quantile(999)),
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
            Self::Quantile(500) => "Median",
            Self::Quantile(900) => "90 %",
            Self::Quantile(950) => "95 %",
            Self::Quantile(990) => "99 %",
            Self::Quantile(_) => "99.9 %",
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
            Self::Quantile(thousandths) => {
                text::duration(out, row.quantile(f64::from(thousandths) / 1000.0));
            }
            Self::Calls => text::right(out, row.calls, WIDTH),
            Self::Module => {
                text::blanks(out, WIDTH.saturating_sub(text::columns(&row.module)));
                out.extend_from_slice(row.module.as_bytes());
            }
        }
    }
}

/// Width of a column.
pub(super) const WIDTH: usize = text::DURATION_COLUMNS;

impl By {
    /// The heading of what a row stands for, and its name for machines.
    pub(super) const fn heading(self) -> (&'static str, &'static str) {
        match self {
            Self::Function => ("Function", "functions"),
            Self::Module => ("Module", "modules"),
            Self::Thread => ("Thread", "threads"),
            Self::Source => ("Source file", "sources"),
        }
    }
}

/// The columns for machines.
const COLUMNS: [&str; 11] = [
    "name", "module", "calls", "total_ns", "self_ns", "avg_ns", "min_ns", "max_ns", "p50_ns",
    "p90_ns", "p99_ns",
];
const FUNCTION_COLUMNS: [&str; 11] = {
    let mut columns = COLUMNS;
    columns[0] = "function";
    columns
};

/// Writes `rows` in `format`. Only text heeds `columns`.
///
/// # Errors
/// The writer's.
pub fn write(
    writer: &mut impl Write,
    rows: &[Row],
    by: By,
    format: Format,
    columns: &[Column],
) -> io::Result<()> {
    if format == Format::Text {
        let mut out = Vec::new();
        table(&mut out, rows, by, columns);
        writer.write_all(&out)?;
        return writer.flush();
    }
    let names: &'static [&'static str] =
        if by == By::Function { &FUNCTION_COLUMNS } else { &COLUMNS };
    let values = rows.iter().map(|row| {
        [
            Value::Text(&row.name),
            Value::Text(&row.module),
            Value::Number(row.calls),
            Value::Number(row.total),
            Value::Number(row.own),
            Value::Number(row.average()),
            Value::Number(row.min()),
            Value::Number(row.max),
            Value::Number(row.quantile(0.5)),
            Value::Number(row.quantile(0.9)),
            Value::Number(row.quantile(0.99)),
        ]
    });
    records::write(writer, format, (by.heading().1, names), values)
}

fn table(out: &mut Vec<u8>, rows: &[Row], by: By, columns: &[Column]) {
    for column in columns {
        out.extend_from_slice(format!("  {:>WIDTH$}", column.heading()).as_bytes());
    }
    out.extend_from_slice(format!("  {}\n", by.heading().0).as_bytes());
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
        out.extend_from_slice(text::printable(&row.name).as_bytes());
        out.push(b'\n');
    }
}
