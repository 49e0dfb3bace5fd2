//! A byte array as the memory that is patched, which remembers in which order things happened.

use super::{Memory, MemoryError};
use crate::sync::{Sync, SyncError};
use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A byte was written at an offset.
    Write(usize, u8),
    /// All processors were synchronised.
    Sync,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Rc<RefCell<Vec<Event>>>);

impl Log {
    pub(crate) fn push(&self, event: Event) {
        self.0.borrow_mut().push(event);
    }

    /// What was done since the last time.
    pub(crate) fn take(&self) -> Vec<Event> {
        self.0.take()
    }
}

/// The array, at an address.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) base: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) log: Log,
    /// Somebody else writes this byte when so many writes have been made.
    pub(crate) intruder: Option<(usize, usize, u8)>,
    writes: usize,
    open: Vec<Range<u64>>,
}

impl Array {
    pub(crate) fn new(base: u64, bytes: &[u8]) -> Self {
        let (log, open) = (Log::default(), Vec::new());
        Self { base, bytes: bytes.to_vec(), log, intruder: None, writes: 0, open }
    }

    fn index(&self, address: u64, length: usize) -> Result<usize, MemoryError> {
        let end = address + length as u64;
        let open = self.open.iter().any(|range| range.start <= address && end <= range.end);
        let index = (address - self.base) as usize;
        let inside = index + length <= self.bytes.len();
        if open && inside { Ok(index) } else { Err(MemoryError::Closed { address }) }
    }
}

impl Memory for Array {
    fn open(&mut self, ranges: &[Range<u64>]) -> Result<(), MemoryError> {
        assert!(ranges.is_sorted_by_key(|range| range.start));
        self.open = ranges.to_vec();
        Ok(())
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let index = self.index(address, bytes.len())?;
        bytes.copy_from_slice(&self.bytes[index..index + bytes.len()]);
        Ok(())
    }

    fn write(&mut self, address: u64, byte: u8) -> Result<(), MemoryError> {
        let index = self.index(address, 1)?;
        self.bytes[index] = byte;
        self.log.push(Event::Write(index, byte));
        self.writes += 1;
        if let Some((_, at, byte)) = self.intruder.take_if(|(when, ..)| *when == self.writes) {
            self.bytes[at] = byte;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), MemoryError> {
        self.open.clear();
        Ok(())
    }
}

/// Processors that are synchronised by writing it down; fails when so many times are used up.
#[derive(Debug)]
pub(crate) struct LoggedSync {
    pub(crate) log: Log,
    pub(crate) left: usize,
}

impl Sync for LoggedSync {
    fn sync(&mut self) -> Result<(), SyncError> {
        self.left = self.left.checked_sub(1).ok_or(SyncError::ManyThreads { threads: 2 })?;
        self.log.push(Event::Sync);
        Ok(())
    }
}
