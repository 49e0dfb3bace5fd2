//! What is told later than it happened, until then in a temporary file.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of a stream that lie together in the file.
const PIECE: usize = 32 << 10;

/// Streams of bytes, each of any length, by number. Of each, the last bytes are in memory; the rest
/// lies in one file without a name, which is made when it is needed.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    file: Option<File>,
    pieces: u64,
    streams: Vec<Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    /// Where its pieces lie: numbers of pieces.
    pieces: Vec<u64>,
    bytes: Vec<u8>,
}

impl Spool {
    /// No streams yet; their file will be in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), file: None, pieces: 0, streams: Vec::new() }
    }

    /// How many streams there are.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.streams.len() as u32
    }

    /// How long a stream is, in bytes.
    #[must_use]
    pub fn length(&self, stream: u32) -> u64 {
        self.streams.get(stream as usize).map_or(0, |stream| {
            stream.pieces.len() as u64 * PIECE as u64 + stream.bytes.len() as u64
        })
    }

    /// Lets `write` append to a stream.
    ///
    /// # Errors
    /// When the file cannot be written.
    #[inline]
    pub fn append(&mut self, stream: u32, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let at = stream as usize;
        if at >= self.streams.len() {
            self.streams.resize_with(at + 1, Stream::default);
        }
        let bytes = &mut self.streams[at].bytes;
        write(bytes);
        if bytes.len() < PIECE { Ok(()) } else { self.store(at) }
    }

    fn store(&mut self, at: usize) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.directory)?),
        };
        let Stream { pieces, bytes } = &mut self.streams[at];
        let whole = bytes.len() / PIECE;
        for piece in bytes.chunks_exact(PIECE) {
            file.write_all_at(piece, self.pieces * PIECE as u64)?;
            pieces.push(self.pieces);
            self.pieces += 1;
        }
        bytes.drain(..whole * PIECE);
        Ok(())
    }

    /// Copies a stream to `writer`.
    ///
    /// # Errors
    /// When the file cannot be read, or the writer's.
    pub fn copy(&self, stream: u32, writer: &mut impl Write) -> io::Result<()> {
        let Some(stream) = self.streams.get(stream as usize) else { return Ok(()) };
        let mut piece = vec![0; PIECE];
        for &number in &stream.pieces {
            if let Some(file) = &self.file {
                file.read_exact_at(&mut piece, number * PIECE as u64)?;
                writer.write_all(&piece)?;
            }
        }
        writer.write_all(&stream.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_come_back_whole_and_apart() {
        let mut spool = Spool::new(&std::env::temp_dir());
        let mut expected = vec![Vec::new(); 3];
        for round in 0..3000_usize {
            let stream = round * 7 % 3;
            // The last stream is short, and one piece is longer than a piece of the file.
            let length = if stream == 2 {
                1
            } else if round == 300 {
                3 * PIECE
            } else {
                round % 97
            };
            let bytes = vec![round as u8; length];
            expected[stream].extend_from_slice(&bytes);
            spool.append(stream as u32, |out| out.extend_from_slice(&bytes)).unwrap();
        }
        for (stream, expected) in (0..).zip(&expected) {
            let mut copied = Vec::new();
            spool.copy(stream, &mut copied).unwrap();
            assert_eq!(spool.length(stream), expected.len() as u64);
            assert!(copied == *expected, "stream {stream}");
        }
        assert!(spool.file.is_some() && spool.streams.iter().all(|s| s.bytes.len() < PIECE));
    }
}
