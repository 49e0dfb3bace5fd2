//! Memory for generated code and its cells.
//!
//! Private and anonymous: a forked child has its own. Code can be executed, and for the length of a
//! window written; cells can be written, and never executed.

use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const PAGE: u64 = 4096;

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Code,
    Cells,
}

/// Maps memory at an address that must be free. It is never unmapped.
pub(crate) fn map(range: &Range<u64>, purpose: Use) -> io::Result<()> {
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED_NOREPLACE;
    let rights = match purpose {
        Use::Code => ProtFlags::PROT_READ | ProtFlags::PROT_EXEC,
        Use::Cells => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
    };
    let length = NonZeroUsize::new((range.end - range.start) as usize);
    let length = length.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: `MAP_FIXED_NOREPLACE` touches no mapping that exists.
    let found =
        unsafe { mmap_anonymous(NonZeroUsize::new(range.start as usize), length, rights, flags) }?;
    if found.as_ptr().addr() as u64 == range.start {
        // Islands are few in much address space: whole large pages would be wasted on them.
        // SAFETY: concerns this new mapping only.
        let _ = unsafe { madvise(found, length.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        return Ok(());
    }
    // A kernel that does not know the flag takes the address for a hint.
    // SAFETY: the mapping that was just made, to which nothing refers.
    let _ = unsafe { nix::sys::mman::munmap(found, length.get()) };
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Code that can be written for a time; threads go on running there.
#[derive(Debug)]
pub(crate) struct Window {
    pages: Range<u64>,
}

impl Window {
    /// Opens part of a mapping made with [`Use::Code`].
    pub(crate) fn open(range: &Range<u64>) -> io::Result<Self> {
        let pages = range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE);
        protect(&pages, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC)?;
        Ok(Self { pages })
    }

    /// Writes code that nothing leads to yet.
    pub(crate) fn write(&self, address: u64, code: &[u8]) {
        let end = address + code.len() as u64;
        assert!(self.pages.start <= address && end <= self.pages.end, "outside of the window");
        let place = std::ptr::with_exposed_provenance_mut(address as usize);
        // SAFETY: inside pages of ours that are writable; nobody runs them yet.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), place, code.len()) };
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // Pages that stay writable do not stop the program.
        let _ = protect(&self.pages, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC);
    }
}

fn protect(pages: &Range<u64>, rights: ProtFlags) -> io::Result<()> {
    let place = std::ptr::with_exposed_provenance_mut::<libc::c_void>(pages.start as usize);
    let place = NonNull::new(place).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a mapping of ours, from which nothing is taken that running code needs.
    Ok(unsafe { mprotect(place, (pages.end - pages.start) as usize, rights) }?)
}

/// Stores a word in a cell of ours, which generated code may read at any time.
pub(crate) fn store(cell: u64, value: u64) {
    assert!(cell.is_multiple_of(8), "cells are aligned");
    let cell = std::ptr::with_exposed_provenance::<AtomicU64>(cell as usize);
    // SAFETY: an aligned word in memory that is ours, writable, and mapped for ever.
    unsafe { (*cell).store(value, Ordering::SeqCst) };
}

/// Reads a word of a cell of ours.
pub(crate) fn load(cell: u64) -> u64 {
    assert!(cell.is_multiple_of(8), "cells are aligned");
    let cell = std::ptr::with_exposed_provenance::<AtomicU64>(cell as usize);
    // SAFETY: as in `store`.
    unsafe { (*cell).load(Ordering::SeqCst) }
}

/// Reads bytes of a function of an object that is mapped, as discovery found it in its file.
pub(crate) fn read_text(address: u64, bytes: &mut [u8]) {
    for (at, byte) in (address..).zip(bytes) {
        // SAFETY: text that its object maps, readable; other threads only execute it.
        *byte = unsafe { std::ptr::with_exposed_provenance::<u8>(at as usize).read_volatile() };
    }
}
