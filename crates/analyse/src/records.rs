//! Rows for machines: JSON or comma-separated values, the same columns in both.

use std::io::{self, Write};

use crate::json::Object;
use crate::text;

/// How an analysis is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object with an array of objects in it.
    Json,
    /// Comma-separated values with a heading.
    Csv,
}

/// A value in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A number.
    Number(u64),
    /// A number with a fraction, or below 0.
    Real(f64),
    /// Nothing: `null`, or an empty field.
    None,
}

impl From<Option<u64>> for Value<'_> {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Value::None, Value::Number)
    }
}

/// Rows in the making.
#[derive(Debug)]
pub(crate) struct Records {
    json: bool,
    columns: &'static [&'static str],
    /// Whether a row has been written.
    some: bool,
}

impl Records {
    /// Begins rows with these columns; in JSON they are the array `name` of an object.
    pub(crate) fn begin(
        out: &mut Vec<u8>,
        format: Format,
        name: &str,
        columns: &'static [&'static str],
    ) -> Self {
        let json = format == Format::Json;
        if json {
            out.extend_from_slice(b"{\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":[");
        } else {
            out.extend_from_slice(columns.join(",").as_bytes());
            out.push(b'\n');
        }
        Self { json, columns, some: false }
    }

    /// Adds a row: a value for each column.
    pub(crate) fn row(&mut self, out: &mut Vec<u8>, values: &[Value<'_>]) {
        debug_assert_eq!(values.len(), self.columns.len());
        if self.json {
            out.extend_from_slice(if self.some { b",\n" } else { b"\n" });
            let mut object = Object::begin(out);
            for (column, value) in self.columns.iter().zip(values) {
                put_json(&mut object, column, *value);
            }
            object.end();
        } else {
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                put_csv(out, *value);
            }
            out.push(b'\n');
        }
        self.some = true;
    }

    /// Ends the rows.
    pub(crate) fn end(&self, out: &mut Vec<u8>) {
        if self.json {
            out.extend_from_slice(b"]}\n");
        }
    }
}

/// Writes all rows at once.
pub(crate) fn write<'a, R: AsRef<[Value<'a>]>>(
    writer: &mut impl Write,
    format: Format,
    (name, columns): (&str, &'static [&'static str]),
    rows: impl IntoIterator<Item = R>,
) -> io::Result<()> {
    let mut out = Vec::new();
    let mut records = Records::begin(&mut out, format, name, columns);
    for row in rows {
        records.row(&mut out, row.as_ref());
    }
    records.end(&mut out);
    writer.write_all(&out)?;
    writer.flush()
}

fn put_json(object: &mut Object<'_>, column: &str, value: Value<'_>) {
    match value {
        Value::Text(text) => {
            object.string(column, text);
        }
        Value::Number(number) => {
            object.number(column, number);
        }
        Value::Real(real) if real.is_finite() => {
            object.key(column).extend_from_slice(real.to_string().as_bytes());
        }
        Value::Real(_) | Value::None => {
            object.optional(column, None);
        }
    }
}

fn put_csv(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Text(text) if text.contains(['"', ',', '\n', '\r']) => {
            out.extend_from_slice(format!("\"{}\"", text.replace('"', "\"\"")).as_bytes());
        }
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        Value::Number(number) => text::number(out, number),
        Value::Real(real) if real.is_finite() => out.extend_from_slice(real.to_string().as_bytes()),
        Value::Real(_) | Value::None => {}
    }
}
