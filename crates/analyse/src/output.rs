//! A byte buffer before a writer.

use std::io::{self, Write};

/// Bytes gathered before a write.
const BATCH: usize = 64 << 10;

/// Gathers bytes in a plain vector, which is quicker to append to than any `dyn Write`.
#[derive(Debug)]
pub(crate) struct Output<W> {
    writer: W,
    pub(crate) bytes: Vec<u8>,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, bytes: Vec::with_capacity(BATCH + (4 << 10)) }
    }

    /// To be called between lines: passes a full batch on.
    pub(crate) fn batch(&mut self) -> io::Result<()> {
        if self.bytes.len() < BATCH { Ok(()) } else { self.pass_on() }
    }

    /// Passes everything on.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.writer.flush()
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}
