//! A byte buffer before a writer.

use std::io::{self, Write};

/// Bytes gathered before a write.
const BATCH: usize = 64 << 10;

/// Gathers bytes in a plain vector, which is quicker to append to than any `dyn Write`.
#[derive(Debug)]
pub struct Output<W> {
    writer: W,
    /// What is gathered: appended to by whoever writes.
    pub bytes: Vec<u8>,
}

impl<W: Write> Output<W> {
    /// Nothing gathered yet.
    pub fn new(writer: W) -> Self {
        Self { writer, bytes: Vec::with_capacity(BATCH + (4 << 10)) }
    }

    /// To be called between lines: passes a full batch on.
    ///
    /// # Errors
    /// The writer's.
    pub fn batch(&mut self) -> io::Result<()> {
        if self.bytes.len() < BATCH { Ok(()) } else { self.pass_on() }
    }

    /// Passes everything on.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.writer.flush()
    }

    /// The writer itself, behind all that is gathered.
    ///
    /// # Errors
    /// Its own.
    pub fn writer(&mut self) -> io::Result<&mut W> {
        self.pass_on()?;
        Ok(&mut self.writer)
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}
