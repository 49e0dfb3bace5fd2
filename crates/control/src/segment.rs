//! The shared segment of one traced process, seen from outside.
//!
//! The tracee writes here and may be hostile: what is read is a number, used as nothing but a
//! number. Positions are our own; the tracee's are never followed.

use crate::error::ControlError;
use crate::system;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use sledge_wire::VERSION;
use sledge_wire::record::{RECORD_BYTES, Record};
use sledge_wire::segment::{self, Full, ThreadState};
use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Memory without a file, to be handed to a tracee.
///
/// # Errors
/// When the system has none.
pub fn memory_file(name: &std::ffi::CStr) -> Result<OwnedFd, ControlError> {
    // Executable memory needs saying so where the kernel asks for it.
    const MFD_EXEC: u32 = 0x10;
    let flags = MFdFlags::MFD_CLOEXEC;
    memfd_create(name, flags | MFdFlags::from_bits_retain(MFD_EXEC))
        .or_else(|_| memfd_create(name, flags))
        .map_err(ControlError::system("memfd_create"))
}

/// One process's segment, mapped.
#[derive(Debug)]
pub struct Segment {
    file: OwnedFd,
    base: NonNull<c_void>,
    bytes: usize,
    rings: usize,
    ring_bytes: u64,
}

// SAFETY: all access to the memory goes through atomics.
unsafe impl Send for Segment {}
// SAFETY: likewise.
unsafe impl Sync for Segment {}

impl Segment {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn create(rings: usize, ring_bytes: u64, full: Full) -> Result<Self, ControlError> {
        let file = memory_file(c"sledge-segment")?;
        let bytes = segment::segment_bytes(rings, ring_bytes);
        nix::unistd::ftruncate(&file, bytes.cast_signed())
            .map_err(ControlError::system("ftruncate"))?;
        Self::adopt(file, bytes, rings, ring_bytes, full)
    }

    /// Takes over a segment that lies in shared memory of `bytes` bytes, and begins it.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn adopt(
        file: OwnedFd,
        bytes: u64,
        rings: usize,
        ring_bytes: u64,
        full: Full,
    ) -> Result<Self, ControlError> {
        let bytes = usize::try_from(bytes).expect("64-bit");
        let length = NonZeroUsize::new(bytes).expect("a segment has a header");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, &file, 0) }
            .map_err(ControlError::system("mmap"))?;
        let segment = Self { file, base, bytes, rings, ring_bytes };
        segment.long(segment::HEADER_MAGIC).store(segment::MAGIC, Ordering::Relaxed);
        segment.word(segment::HEADER_VERSION).store(VERSION, Ordering::Relaxed);
        segment.word(segment::HEADER_FULL).store(full as u32, Ordering::Relaxed);
        Ok(segment)
    }

    /// The shared memory.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// How many rings it has.
    #[must_use]
    pub const fn rings(&self) -> usize {
        self.rings
    }

    /// Bytes of each.
    #[must_use]
    pub const fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// A word of it.
    ///
    /// # Panics
    /// If it has none at this offset.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + 4 <= self.bytes && offset.is_multiple_of(4));
        // SAFETY: within the mapping, aligned, and only ever accessed atomically.
        unsafe { self.base.cast::<AtomicU32>().byte_add(offset).as_ref() }
    }

    /// A long word of it.
    ///
    /// # Panics
    /// If it has none at this offset.
    #[must_use]
    pub fn long(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + 8 <= self.bytes && offset.is_multiple_of(8));
        // SAFETY: within the mapping, aligned, and only ever accessed atomically.
        unsafe { self.base.cast::<AtomicU64>().byte_add(offset).as_ref() }
    }

    /// Writes a word of the area for programs of probes.
    pub fn set_probe_word(&self, index: usize, word: u64) {
        let area = segment::probes_offset(self.rings, self.ring_bytes);
        let at = usize::try_from(area).expect("64-bit") + 8 * index;
        self.long(at).store(word, Ordering::Release);
    }

    /// Tells the agent that nobody reads any more.
    pub fn close(&self) {
        self.word(segment::HEADER_CLOSED).store(1, Ordering::SeqCst);
        for index in (0..self.rings).filter(|&index| self.is_waiting(index)) {
            self.wake(index);
        }
    }

    fn is_waiting(&self, index: usize) -> bool {
        let at = segment::thread_offset(index) + segment::THREAD_WAITING;
        self.word(at).load(Ordering::SeqCst) != 0
    }

    /// Threads that found no ring.
    pub fn ringless(&self) -> u64 {
        self.long(segment::HEADER_RINGLESS).load(Ordering::Relaxed)
    }

    /// The doorbell's value; read it before looking at the rings.
    pub fn doorbell(&self) -> u32 {
        self.word(segment::HEADER_DOORBELL).load(Ordering::SeqCst)
    }

    /// Sleeps until the agent rings, unless it has since `seen`.
    pub fn sleep(&self, seen: u32, at_most: Duration) {
        let sleeping = self.word(segment::HEADER_SLEEPING);
        sleeping.store(1, Ordering::SeqCst);
        system::futex_wait(self.word(segment::HEADER_DOORBELL), seen, at_most);
        sleeping.store(0, Ordering::SeqCst);
    }

    /// Whether a thread has this ring.
    pub fn is_live(&self, index: usize) -> bool {
        let at = segment::thread_offset(index) + segment::THREAD_STATE;
        self.word(at).load(Ordering::Acquire) == ThreadState::Live as u32
    }

    /// The thread that has this ring: its id, when it was first seen, its name.
    pub fn thread(&self, index: usize) -> (u32, u64, String) {
        let at = segment::thread_offset(index);
        let tid = self.word(at + segment::THREAD_TID).load(Ordering::Relaxed);
        let started = self.long(at + segment::THREAD_STARTED).load(Ordering::Relaxed);
        let half = |i: usize| self.long(at + segment::THREAD_NAME + 8 * i).load(Ordering::Relaxed);
        let bytes: Vec<u8> = [half(0), half(1)].into_iter().flat_map(u64::to_le_bytes).collect();
        let name = bytes.split(|&byte| byte == 0).next().unwrap_or(&[]);
        (tid, started, String::from_utf8_lossy(name).into_owned())
    }

    /// Events dropped of which the ring does not tell yet: how many, and since when.
    pub fn lost(&self, index: usize) -> (u64, u64) {
        let at = segment::thread_offset(index);
        let lost = self.long(at + segment::THREAD_LOST).load(Ordering::Acquire);
        (lost, self.long(at + segment::THREAD_LOST_SINCE).load(Ordering::Relaxed))
    }

    /// Gives a ring back to the agent's threads.
    pub fn release(&self, index: usize) {
        let at = segment::thread_offset(index) + segment::THREAD_STATE;
        self.word(at).store(ThreadState::Free as u32, Ordering::Release);
    }

    fn record_at(&self, index: usize, position: u64) -> (&AtomicU64, &AtomicU64) {
        let ring = segment::ring_offset(self.rings, self.ring_bytes, index);
        let at = ring + (position & (self.ring_bytes - 1));
        let at = usize::try_from(at).expect("64-bit");
        (self.long(at), self.long(at + 8))
    }

    /// Takes the record at a position, if it is committed, and clears its place.
    pub fn take(&self, index: usize, position: u64) -> Option<Record> {
        let (time, rest) = self.record_at(index, position);
        let tsc = time.load(Ordering::Acquire);
        let record = Record::decode(tsc, rest.load(Ordering::Relaxed))?;
        time.store(0, Ordering::Relaxed);
        Some(record)
    }

    /// Whether one of the next `count` records behind a position is committed.
    pub fn any_behind(&self, index: usize, position: u64, count: u64) -> bool {
        (1..=count).any(|i| {
            self.record_at(index, position + i * RECORD_BYTES).0.load(Ordering::Relaxed) != 0
        })
    }

    /// Publishes how far a ring was read, and wakes its thread if it waits for room.
    pub fn publish(&self, index: usize, position: u64) {
        let at = segment::thread_offset(index);
        self.long(at + segment::THREAD_TAIL).store(position, Ordering::SeqCst);
        self.word(at + segment::THREAD_FUTEX).store(position as u32, Ordering::SeqCst);
        if self.is_waiting(index) {
            self.wake(index);
        }
    }

    fn wake(&self, index: usize) {
        let futex = self.word(segment::thread_offset(index) + segment::THREAD_FUTEX);
        futex.fetch_add(u32::from(self.is_closed()), Ordering::SeqCst);
        system::futex_wake(futex);
    }

    fn is_closed(&self) -> bool {
        self.word(segment::HEADER_CLOSED).load(Ordering::Relaxed) != 0
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: mapped in `create`; all references to it end with `self`.
        let _ = unsafe { munmap(self.base, self.bytes) };
    }
}

/// Writes a descriptor from its beginning.
///
/// # Errors
/// When it cannot be written.
pub fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), ControlError> {
    let mut written = 0;
    while written < bytes.len() {
        let count = nix::sys::uio::pwrite(file, &bytes[written..], written as i64)
            .map_err(ControlError::system("writing generated code"))?;
        written += count;
    }
    Ok(())
}

/// Reads words back from a descriptor.
pub fn read_words(file: &OwnedFd, words: usize) -> Vec<u64> {
    let mut bytes = vec![0; words * 8];
    let mut read = 0;
    while read < bytes.len() {
        match nix::sys::uio::pread(file, &mut bytes[read..], read as i64) {
            Ok(0) | Err(_) => break,
            Ok(count) => read += count,
        }
    }
    let word = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
    bytes.chunks_exact(8).map(word).collect()
}
