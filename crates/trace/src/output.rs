//! Where blocks go: into a file, or into memory that keeps the last of them.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::block::{self, Kind, MARKER, VERSION};
use crate::chunk::Head;
use crate::error::WriteError;
use crate::event::{ThreadId, Ticks};
use crate::index::{ChunkPlace, Place, Trailer, put_index};
use crate::records::put_host;
use crate::varint::put;
use crate::writer::Host;

/// A steps block in memory.
#[derive(Debug)]
struct Stored {
    place: ChunkPlace,
    block: Vec<u8>,
}

/// The last steps blocks.
#[derive(Debug)]
struct Memory {
    blocks: VecDeque<Stored>,
    bytes: u64,
    most: u64,
    /// From then on nothing is missing.
    since: Ticks,
}

#[derive(Debug)]
enum Store {
    File(File),
    Memory(Memory),
}

/// The file (or memory) and what is in it.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
    store: Store,
    written: u64,
    places: Vec<Place>,
    block: Vec<u8>,
    compress: bool,
    failed: bool,
}

fn create(path: &Path) -> Result<File, WriteError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map_err(|source| WriteError::Create { path: path.to_owned(), source })
}

/// `FILE.ending`.
fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

impl Output {
    fn new(path: &Path, store: Store, compress: bool) -> Self {
        let (places, block) = (Vec::new(), Vec::new());
        Self { path: path.to_owned(), store, written: 0, places, block, compress, failed: false }
    }

    /// Creates (or empties) a file, and begins it. What it has is complete from `since` on.
    pub(crate) fn file(
        path: &Path,
        host: &Host,
        since: Ticks,
        compress: bool,
    ) -> Result<Self, WriteError> {
        let mut output = Self::new(path, Store::File(create(path)?), compress);
        let mut head = MARKER.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        let mut body = Vec::new();
        put_host(&mut body, host);
        put(&mut body, since.0);
        output.places.push(Place::Other { kind: Kind::Header as u8, offset: 0 });
        output.write(Kind::Header, &head, &body)?;
        Ok(output)
    }

    /// Keeps at most so many bytes of steps blocks. The file is created, to see that it can be.
    pub(crate) fn memory(path: &Path, most: u64, compress: bool) -> Result<Self, WriteError> {
        create(path)?;
        let memory = Memory { blocks: VecDeque::new(), bytes: 0, most, since: Ticks(0) };
        Ok(Self::new(path, Store::Memory(memory), compress))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.store, Store::Memory(_))
    }

    /// Of memory, from when on nothing is missing.
    pub(crate) fn since(&self) -> Option<Ticks> {
        match &self.store {
            Store::Memory(memory) => Some(memory.since),
            Store::File(_) => None,
        }
    }

    /// Whether a steps block of this thread is in memory.
    pub(crate) fn has(&self, thread: ThreadId) -> bool {
        match &self.store {
            Store::Memory(memory) => {
                memory.blocks.iter().any(|stored| stored.place.thread == thread)
            }
            Store::File(_) => false,
        }
    }

    /// Writes a steps block.
    pub(crate) fn steps(&mut self, head: &Head, content: &[u8]) -> Result<(), WriteError> {
        let &Head { thread, first, last, count, .. } = head;
        let place = ChunkPlace { offset: self.written, thread, first, last, count };
        if let Store::Memory(memory) = &mut self.store {
            let mut block = Vec::new();
            let encoded =
                block::encode(Kind::Steps, &head.encode(), content, self.compress, &mut block);
            if encoded.is_some() {
                memory.push(Stored { place, block });
            }
            return Ok(());
        }
        self.places.push(Place::Steps(place));
        self.write(Kind::Steps, &head.encode(), content)
    }

    /// Writes a block without a head, if it has content; memory keeps none of these.
    pub(crate) fn small(&mut self, kind: Kind, content: &[u8]) -> Result<(), WriteError> {
        if content.is_empty() || self.is_memory() {
            return Ok(());
        }
        self.places.push(Place::Other { kind: kind as u8, offset: self.written });
        self.write(kind, &[], content)
    }

    /// Writes index and trailer.
    pub(crate) fn finish(&mut self, trailer: &Trailer) -> Result<(), WriteError> {
        let trailer = Trailer { index: self.written, ..*trailer };
        let mut index = Vec::new();
        put_index(&mut index, &self.places);
        self.write(Kind::Index, &[], &index)?;
        self.write(Kind::Trailer, &[], &trailer.encode())
    }

    /// A file beside this one's, that is to take its place.
    pub(crate) fn beside(&self, host: &Host, since: Ticks) -> Result<Self, WriteError> {
        Self::file(&with_ending(&self.path, "new"), host, since, self.compress)
    }

    /// Copies all steps blocks in memory into a file.
    pub(crate) fn copy_blocks(&self, file: &mut Self) -> Result<(), WriteError> {
        let Store::Memory(memory) = &self.store else { return Ok(()) };
        for stored in &memory.blocks {
            file.places.push(Place::Steps(ChunkPlace { offset: file.written, ..stored.place }));
            file.block.clone_from(&stored.block);
            file.put_block()?;
        }
        Ok(())
    }

    /// Puts this file in the place of another.
    pub(crate) fn replace(self, path: &Path) -> Result<(), WriteError> {
        let (written, name) = (self.written, path.to_owned());
        std::fs::rename(&self.path, path).map_err(|source| WriteError::Write {
            path: name,
            written,
            source,
        })
    }

    /// Makes `FILE` `FILE.1`, that `FILE.2` and so on. There are `parts` by now, of which `count`
    /// are kept, with the one that comes next.
    pub(crate) fn shift(&self, parts: u32, count: u32) -> Result<(), WriteError> {
        let kept = count.saturating_sub(1).min(parts);
        let name = |number: u32| match number {
            0 => self.path.clone(),
            number => with_ending(&self.path, &number.to_string()),
        };
        for number in (0..kept).rev() {
            std::fs::rename(name(number), name(number + 1)).map_err(|source| {
                WriteError::Write { path: self.path.clone(), written: self.written, source }
            })?;
        }
        Ok(())
    }

    fn write(&mut self, kind: Kind, head: &[u8], content: &[u8]) -> Result<(), WriteError> {
        if self.failed {
            return Ok(());
        }
        match block::encode(kind, head, content, self.compress, &mut self.block) {
            Some(()) => self.put_block(),
            None => Err(self.fail(io::Error::new(io::ErrorKind::FileTooLarge, "block too long"))),
        }
    }

    fn put_block(&mut self) -> Result<(), WriteError> {
        let Store::File(file) = &mut self.store else { return Ok(()) };
        match file.write_all(&self.block) {
            Ok(()) => {
                self.written += self.block.len() as u64;
                Ok(())
            }
            Err(source) => Err(self.fail(source)),
        }
    }

    /// Cuts off what was written of the last block, and gives up.
    fn fail(&mut self, source: io::Error) -> WriteError {
        self.failed = true;
        if let Store::File(file) = &self.store {
            // If this fails too the reader will stop at the broken block anyway.
            drop(file.set_len(self.written));
        }
        let (path, written) = (self.path.clone(), self.written);
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WriteError::DiskFull { path, written }
            }
            io::ErrorKind::FileTooLarge => WriteError::TooLarge { path, written },
            _ => WriteError::Write { path, written, source },
        }
    }
}

impl Memory {
    fn push(&mut self, stored: Stored) {
        self.bytes += stored.block.len() as u64;
        self.blocks.push_back(stored);
        while self.bytes > self.most && self.blocks.len() > 1 {
            let Some(oldest) = self.blocks.pop_front() else { break };
            self.bytes -= oldest.block.len() as u64;
            self.since = self.since.max(Ticks(oldest.place.last.0.saturating_add(1)));
        }
    }
}
