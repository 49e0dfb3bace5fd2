//! The files of a table: one for each program and day, written a row group at a time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, Repetition};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::Type;

use super::place::Day;
use sledge_trace::Host;

/// Rows of a row group: what waits in memory.
const ROWS: usize = 64 << 10;

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    Null,
    Number(u64),
    Text(&'a str),
}

/// A column's values that are not written yet.
#[derive(Debug)]
enum Waiting {
    Numbers(Vec<i64>),
    /// By number of a text.
    Texts(Vec<u32>),
}

#[derive(Debug)]
struct Column {
    waiting: Waiting,
    /// Whether each row has a value; empty where all must.
    present: Vec<i16>,
    optional: bool,
}

/// A file.
pub(super) struct Part {
    path: PathBuf,
    columns: Vec<Column>,
    texts: Texts,
    rows: usize,
    writer: Option<SerializedFileWriter<File>>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Texts {
    known: HashMap<String, u32>,
    list: Vec<ByteArray>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(&known) = self.known.get(text) {
            return known;
        }
        let next = self.list.len() as u32;
        self.known.insert(text.to_owned(), next);
        self.list.push(ByteArray::from(text));
        next
    }
}

impl Part {
    fn new(path: PathBuf, schema: &Type) -> Self {
        let columns = schema.get_fields().iter().map(|field| {
            let text = field.get_physical_type() == parquet::basic::Type::BYTE_ARRAY;
            Column {
                waiting: if text {
                    Waiting::Texts(Vec::new())
                } else {
                    Waiting::Numbers(Vec::new())
                },
                present: Vec::new(),
                optional: field.get_basic_info().repetition() == Repetition::OPTIONAL,
            }
        });
        let columns = columns.collect();
        Self { path, columns, texts: Texts::default(), rows: 0, writer: None }
    }

    /// Gives this row's value of a column.
    #[inline]
    pub(super) fn push(&mut self, column: usize, field: Field<'_>) {
        let Column { waiting, present, optional } = &mut self.columns[column];
        if *optional {
            present.push(i16::from(!matches!(field, Field::Null)));
        }
        match (waiting, field) {
            (Waiting::Numbers(numbers), Field::Number(number)) => {
                numbers.push(i64::try_from(number).unwrap_or(i64::MAX));
            }
            (Waiting::Texts(numbers), Field::Text(text)) => numbers.push(self.texts.number(text)),
            (_, Field::Null) => {}
            (_, field) => debug_assert!(false, "column {column} cannot hold {field:?}"),
        }
    }

    fn write(&mut self, schema: &Arc<Type>) -> parquet::errors::Result<()> {
        if self.writer.is_none() {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory)?;
            }
            let properties = WriterProperties::builder()
                .set_compression(Compression::SNAPPY)
                .set_created_by(concat!("sledge ", env!("CARGO_PKG_VERSION")).to_owned());
            let (file, properties) = (File::create(&self.path)?, Arc::new(properties.build()));
            self.writer = Some(SerializedFileWriter::new(file, Arc::clone(schema), properties)?);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut group = writer.next_row_group()?;
        for column in &mut self.columns {
            column.write(&mut group, &self.texts)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl Column {
    fn write(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, File>,
        texts: &Texts,
    ) -> parquet::errors::Result<()> {
        let Some(mut writer) = group.next_column()? else { return Ok(()) };
        let present = self.optional.then_some(self.present.as_slice());
        match &mut self.waiting {
            Waiting::Numbers(numbers) => {
                writer.typed::<Int64Type>().write_batch(numbers, present, None)?;
                numbers.clear();
            }
            Waiting::Texts(numbers) => {
                let values: Vec<ByteArray> =
                    numbers.iter().map(|&number| texts.list[number as usize].clone()).collect();
                writer.typed::<ByteArrayType>().write_batch(&values, present, None)?;
                numbers.clear();
            }
        }
        self.present.clear();
        writer.close()
    }
}

/// A table's files.
#[derive(Debug)]
pub(super) struct Parts {
    directory: PathBuf,
    name: String,
    schema: Arc<Type>,
    numbers: HashMap<String, HashMap<Day, usize>>,
    parts: Vec<Part>,
}

impl Parts {
    /// In `directory`; nothing is written yet.
    pub(super) fn new(directory: &Path, schema: &str, host: &Host) -> io::Result<Self> {
        Ok(Self {
            directory: directory.join(format!("host={}", encoded(&host.name))),
            name: format!("{:016x}.parquet", host.began),
            schema: Arc::new(parse_message_type(schema).map_err(io::Error::other)?),
            numbers: HashMap::new(),
            parts: Vec::new(),
        })
    }

    /// Where rows of a program and day go.
    pub(super) fn part(&mut self, program: &str, day: &Day) -> &mut Part {
        let number = self.number(program, *day);
        &mut self.parts[number]
    }

    fn number(&mut self, program: &str, day: Day) -> usize {
        if let Some(&number) = self.numbers.get(program).and_then(|days| days.get(&day)) {
            return number;
        }
        let directory =
            self.directory.join(format!("process={}", encoded(program))).join(format!("day={day}"));
        self.parts.push(Part::new(directory.join(&self.name), &self.schema));
        let number = self.parts.len() - 1;
        self.numbers.entry(program.to_owned()).or_default().insert(day, number);
        number
    }

    /// A row is whole.
    pub(super) fn row_ends(&mut self, program: &str, day: &Day) -> io::Result<()> {
        let number = self.number(program, *day);
        let part = &mut self.parts[number];
        part.rows += 1;
        if part.rows < ROWS { Ok(()) } else { part.write(&self.schema).map_err(io::Error::other) }
    }

    /// Writes what waits, and ends all files.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        for part in &mut self.parts {
            if part.rows > 0 {
                part.write(&self.schema).map_err(io::Error::other)?;
            }
            if let Some(writer) = part.writer.take() {
                writer.close().map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}

/// A partition's value as a file name: other characters by their code, as Hive has it.
fn encoded(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'+' => {
                encoded.push(byte.into());
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    if encoded.is_empty() { "unknown".to_owned() } else { encoded }
}
