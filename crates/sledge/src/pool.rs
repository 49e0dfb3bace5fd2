//! Code memory that is used again: trampolines come and go.

use crate::code::{self, PAGE, Use, Window};
use sledge_engine::islands::AddressSpace;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// Trampolines begin on lines of the processor's cache.
const GRAIN: u64 = 64;
/// Bytes that are mapped at once, at least.
const BLOCK: u64 = 64 << 10;
/// Where nothing is: code that is generated for there has the longest forms of everything.
const FAR: u64 = 0x4000_0000_0000;
/// What is free traps.
const POISON: u8 = 0xcc;

/// Free and used pieces of code memory.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// Start and end of what is free.
    free: BTreeMap<u64, u64>,
    /// What was mapped, and unwinders do not know of yet.
    pub(crate) fresh: Vec<Range<u64>>,
    /// Bytes in use.
    pub(crate) used: u64,
    /// Bytes mapped.
    pub(crate) mapped: u64,
}

impl Pool {
    /// Puts code into a piece of memory near `close_to`; `generate` is told where it will lie.
    pub(crate) fn put(
        &mut self,
        space: impl FnOnce() -> io::Result<AddressSpace>,
        close_to: &Range<u64>,
        generate: impl Fn(u64) -> Vec<u8>,
    ) -> io::Result<Range<u64>> {
        let longest = generate(FAR).len() as u64;
        let piece = self.take(longest.max(1), space, close_to)?;
        Window::open(&piece)?.write(piece.start, &generate(piece.start));
        Ok(piece)
    }

    fn take(
        &mut self,
        length: u64,
        space: impl FnOnce() -> io::Result<AddressSpace>,
        close_to: &Range<u64>,
    ) -> io::Result<Range<u64>> {
        let length = length.next_multiple_of(GRAIN);
        if !self.free.iter().any(|(start, end)| end - start >= length) {
            self.grow(length, &mut space()?, close_to)?;
        }
        let fits = |(&start, &end): (&u64, &u64)| (end - start >= length).then_some((start, end));
        let (start, end) = self.free.iter().find_map(fits).ok_or(io::ErrorKind::OutOfMemory)?;
        self.free.remove(&start);
        if start + length < end {
            self.free.insert(start + length, end);
        }
        self.used += length;
        Ok(start..start + length)
    }

    fn grow(
        &mut self,
        length: u64,
        space: &mut AddressSpace,
        close_to: &Range<u64>,
    ) -> io::Result<()> {
        let bytes = length.max(BLOCK).next_multiple_of(PAGE);
        let start = space.near(close_to, bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        code::map(&(start..start + bytes), Use::Code)?;
        self.fresh.push(start..start + bytes);
        self.mapped += bytes;
        self.poison(&(start..start + bytes))?;
        self.release(start..start + bytes);
        Ok(())
    }

    /// Takes a piece back that nobody runs and nobody will: it is poisoned, and used again.
    pub(crate) fn give_back(&mut self, piece: &Range<u64>) -> io::Result<()> {
        self.poison(piece)?;
        self.used -= piece.end - piece.start;
        self.release(piece.clone());
        Ok(())
    }

    fn poison(&self, piece: &Range<u64>) -> io::Result<()> {
        Window::open(piece)?.write(piece.start, &vec![POISON; (piece.end - piece.start) as usize]);
        Ok(())
    }

    fn release(&mut self, mut piece: Range<u64>) {
        if let Some((&start, &end)) = self.free.range(..piece.start).next_back()
            && end == piece.start
        {
            self.free.remove(&start);
            piece.start = start;
        }
        if let Some(end) = self.free.remove(&piece.end) {
            piece.end = end;
        }
        self.free.insert(piece.start, piece.end);
    }
}
