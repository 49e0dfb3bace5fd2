//! The file below a trace: reading blocks, and finding them where no index says where they are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::block::{self, BlockHeader, HEADER_BYTES, Kind, MAGIC, STEPS_HEAD_BYTES};
use crate::chunk::Head;
use crate::error::{Damage, Flaw, ReadError};
use crate::index::{ChunkPlace, Place};

/// Bytes looked at in one go while searching for the next sound block.
const SEARCH_BYTES: usize = 64 << 10;

/// What cannot be had of a block: its content is flawed, or the file cannot be read.
#[derive(Debug)]
pub(crate) enum BlockError {
    Flawed(Flaw),
    Unreadable(ReadError),
}

impl From<Flaw> for BlockError {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl From<ReadError> for BlockError {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

/// What a walk over a file found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) places: Vec<Place>,
    pub(crate) damage: Vec<Damage>,
    /// Where the last sound block ends.
    pub(crate) end: u64,
    /// Whether the recording came to its end.
    pub(crate) finished: bool,
}

/// A trace file, read by position.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    length: u64,
}

impl Source {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    /// How long the file was when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Fills `bytes` as far as the file goes, and says how far.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, ReadError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.saturating_add(done as u64);
            match self.file.read_at(&mut bytes[done..], at) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { offset: at, source }),
            }
        }
        Ok(done)
    }

    /// The header at `offset`; a block that does not end within the file counts as cut off.
    pub(crate) fn header(&self, offset: u64) -> Result<BlockHeader, BlockError> {
        let mut bytes = [0; HEADER_BYTES];
        let count = self.read(offset, &mut bytes)?;
        if count < HEADER_BYTES {
            return Err(Flaw::Truncated.into());
        }
        let header = BlockHeader::decode(&bytes).ok_or(Flaw::NoBlock)?;
        let fits = offset.saturating_add(header.block_bytes()) <= self.length;
        if fits { Ok(header) } else { Err(Flaw::Truncated.into()) }
    }

    /// Reads and checks the block of this kind at `offset`. Its head comes back as the result,
    /// the rest of its content in `content`; `stored` is room to read into.
    pub(crate) fn block<'s>(
        &self,
        kind: Kind,
        offset: u64,
        stored: &'s mut Vec<u8>,
        content: &mut Vec<u8>,
    ) -> Result<&'s [u8], BlockError> {
        let header = self.header(offset)?;
        if header.kind != kind as u8 {
            return Err(Flaw::BadContent.into());
        }
        stored.resize(header.length as usize, 0);
        if self.read(offset + HEADER_BYTES as u64, stored)? < stored.len() {
            return Err(Flaw::Truncated.into());
        }
        block::unpack(header, kind.head_bytes(), stored, content)?;
        Ok(&stored[..kind.head_bytes()])
    }

    /// Walks over all block headers from the beginning of the file.
    pub(crate) fn walk(&self) -> Result<Walk, ReadError> {
        let mut walk = Walk::default();
        let mut offset = 0;
        while offset < self.length {
            match self.header(offset) {
                Ok(header) => {
                    self.visit(offset, header, &mut walk)?;
                    offset += header.block_bytes();
                    walk.end = offset;
                }
                Err(BlockError::Unreadable(error)) => return Err(error),
                Err(BlockError::Flawed(flaw)) => {
                    let next = self.next_block(offset + 1)?;
                    let length = next.unwrap_or(self.length) - offset;
                    // The remains of the block being written when all ended are no damage.
                    if next.is_some() || flaw != Flaw::Truncated {
                        walk.damage.push(Damage { offset, length, flaw });
                    }
                    offset += length;
                }
            }
        }
        Ok(walk)
    }

    fn visit(&self, offset: u64, header: BlockHeader, walk: &mut Walk) -> Result<(), ReadError> {
        let kind = Kind::from_number(header.kind);
        walk.finished |= matches!(kind, Some(Kind::Index | Kind::Trailer));
        if kind != Some(Kind::Steps) {
            walk.places.push(Place::Other { kind: header.kind, offset });
            return Ok(());
        }
        let mut bytes = [0; STEPS_HEAD_BYTES];
        self.read(offset + HEADER_BYTES as u64, &mut bytes)?;
        match Head::decode(&bytes) {
            Some(Head { thread, count, first, last, .. }) => {
                walk.places.push(Place::Steps(ChunkPlace { offset, thread, first, last, count }));
            }
            None => {
                let (length, flaw) = (header.block_bytes(), Flaw::BadChecksum);
                walk.damage.push(Damage { offset, length, flaw });
            }
        }
        Ok(())
    }

    /// Where, from `offset` on, the next sound block header is.
    fn next_block(&self, mut offset: u64) -> Result<Option<u64>, ReadError> {
        let mut window = vec![0; SEARCH_BYTES];
        while offset < self.length {
            let count = self.read(offset, &mut window)?;
            let Some(last_start) = count.checked_sub(HEADER_BYTES) else { break };
            for at in 0..=last_start {
                let candidate = &window[at..at + HEADER_BYTES];
                if candidate.starts_with(&MAGIC) && self.header(offset + at as u64).is_ok() {
                    return Ok(Some(offset + at as u64));
                }
            }
            offset += last_start as u64 + 1;
        }
        Ok(None)
    }
}
