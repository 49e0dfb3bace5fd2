//! Memory that is patched.

use nix::libc;
use sledge_discover::maps;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

const PAGE: u64 = 4096;

/// Why memory could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// No open window holds the address: it is not mapped, is shared with a file, or the system
    /// forbids writing there.
    #[error("{address:#x} cannot be written")]
    Closed {
        /// Where.
        address: u64,
    },
    /// The list of mappings could not be read.
    #[error("cannot read the list of mappings: {0}")]
    Maps(io::Error),
    /// Protections could not be put back.
    #[error("cannot restore the protection of {address:#x}: {error}")]
    Restore {
        /// First page.
        address: u64,
        /// What the system said.
        error: io::Error,
    },
}

/// The memory in which sites lie.
pub trait Memory {
    /// Opens windows on these ranges, which are sorted: from here until `close` they can be read
    /// and written, and threads go on running there. Ranges for which that is impossible stay
    /// closed, and reading or writing them fails.
    ///
    /// # Errors
    /// When nothing can be said about any range; nothing is open then.
    fn open(&mut self, ranges: &[Range<u64>]) -> Result<(), MemoryError>;

    /// Reads bytes in open windows.
    ///
    /// # Errors
    /// When one is not in an open window.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError>;

    /// Writes one byte in an open window, in one store.
    ///
    /// # Errors
    /// When it is not in an open window.
    fn write(&mut self, address: u64, byte: u8) -> Result<(), MemoryError>;

    /// Closes all windows: protections are what they were.
    ///
    /// # Errors
    /// When they could not be restored.
    fn close(&mut self) -> Result<(), MemoryError>;
}

/// How the bytes of a window are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// By stores; pages are writable (and executable) for the time.
    Store,
    /// Through `/proc/self/mem`, which asks for no protection: some systems forbid pages that are
    /// writable and executable.
    File,
}

#[derive(Clone, Debug)]
struct Window {
    pages: Range<u64>,
    protection: libc::c_int,
    access: Access,
}

impl Window {
    fn holds(&self, address: u64, length: usize) -> bool {
        self.pages.start <= address && address + length as u64 <= self.pages.end
    }
}

/// The memory of this process.
#[derive(Debug, Default)]
pub struct OwnMemory {
    windows: Vec<Window>,
    file: Option<File>,
    /// Never make pages writable.
    file_only: bool,
}

impl OwnMemory {
    /// Writes by stores where the system allows it, else through `/proc/self/mem`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes through `/proc/self/mem` only.
    #[must_use]
    pub fn through_file() -> Self {
        Self { windows: Vec::new(), file: None, file_only: true }
    }

    /// The window that holds these bytes.
    fn window(&self, address: u64, length: usize) -> Option<&Window> {
        let after = self.windows.partition_point(|window| window.pages.start <= address);
        let window = self.windows.get(after.checked_sub(1)?)?;
        window.holds(address, length).then_some(window)
    }

    /// A window on part of a mapping, by the way the system allows.
    fn open_one(&mut self, mapping: &Mapping, pages: Range<u64>) -> Option<Window> {
        // A write to a shared mapping would change the file, and other processes.
        if mapping.shared {
            return None;
        }
        let protection = mapping.protection;
        let open = libc::PROT_READ | libc::PROT_WRITE | protection;
        if !self.file_only && (open == protection || protect(&pages, open).is_ok()) {
            return Some(Window { pages, protection, access: Access::Store });
        }
        if self.file.is_none() {
            self.file = File::options().read(true).write(true).open("/proc/self/mem").ok();
        }
        self.file.as_ref()?;
        Some(Window { pages, protection, access: Access::File })
    }
}

impl Memory for OwnMemory {
    fn open(&mut self, ranges: &[Range<u64>]) -> Result<(), MemoryError> {
        self.close()?;
        for mapping in mappings(ranges).map_err(MemoryError::Maps)? {
            if let Some(pages) = touched(&mapping, ranges) {
                let window = self.open_one(&mapping, pages);
                self.windows.extend(window);
            }
        }
        Ok(())
    }

    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let Some(window) = self.window(address, bytes.len()) else {
            return split(address, bytes.len(), |at, index| {
                self.read(at, &mut bytes[index..=index])
            });
        };
        match (window.access, &self.file) {
            (Access::File, Some(file)) => {
                file.read_exact_at(bytes, address).map_err(|_| MemoryError::Closed { address })
            }
            _ => {
                for (at, byte) in (address..).zip(bytes) {
                    // SAFETY: the window is mapped and readable; other threads only execute it.
                    *byte = unsafe {
                        std::ptr::with_exposed_provenance::<u8>(at as usize).read_volatile()
                    };
                }
                Ok(())
            }
        }
    }

    fn write(&mut self, address: u64, byte: u8) -> Result<(), MemoryError> {
        let window = self.window(address, 1).ok_or(MemoryError::Closed { address })?;
        match (window.access, &self.file) {
            (Access::File, Some(file)) => {
                file.write_all_at(&[byte], address).map_err(|_| MemoryError::Closed { address })
            }
            _ => {
                let place = std::ptr::with_exposed_provenance_mut::<u8>(address as usize);
                // SAFETY: the window is mapped and writable. It is code, which no reference of
                // this program's covers; that threads may run it at any time is what the
                // protocol's order of writes is for.
                unsafe { place.write_volatile(byte) };
                Ok(())
            }
        }
    }

    fn close(&mut self) -> Result<(), MemoryError> {
        // Not kept: in a forked child it would be the parent's memory.
        self.file = None;
        let mut first_error = Ok(());
        for window in self.windows.drain(..) {
            let open = libc::PROT_READ | libc::PROT_WRITE | window.protection;
            if window.access == Access::File || window.protection == open {
                continue;
            }
            let address = window.pages.start;
            let closed = protect(&window.pages, window.protection);
            let closed = closed.map_err(|error| MemoryError::Restore { address, error });
            first_error = first_error.and(closed);
        }
        first_error
    }
}

impl Drop for OwnMemory {
    fn drop(&mut self) {
        // Pages that stay writable do not stop the program.
        let _ = self.close();
    }
}

/// Bytes that lie in two windows, one by one; a single byte outside is an error.
fn split(
    address: u64,
    length: usize,
    mut read: impl FnMut(u64, usize) -> Result<(), MemoryError>,
) -> Result<(), MemoryError> {
    if length <= 1 {
        return Err(MemoryError::Closed { address });
    }
    (0..length).try_for_each(|index| read(address + index as u64, index))
}

/// The pages of a mapping from the first to the last that one of the sorted ranges touches. What
/// is between them is opened too: fewer and larger windows, and the mapping is not cut up.
fn touched(mapping: &Mapping, ranges: &[Range<u64>]) -> Option<Range<u64>> {
    let first = ranges.partition_point(|range| range.end <= mapping.start);
    let behind = ranges.partition_point(|range| range.start < mapping.end);
    let inside = ranges.get(first..behind)?;
    let start = inside.first()?.start.max(mapping.start) / PAGE * PAGE;
    let end = inside.last()?.end.min(mapping.end).next_multiple_of(PAGE);
    Some(start..end)
}

fn protect(pages: &Range<u64>, protection: libc::c_int) -> io::Result<()> {
    let place = std::ptr::with_exposed_provenance_mut(pages.start as usize);
    let length = (pages.end - pages.start) as usize;
    // SAFETY: nothing is taken away that the pages had when they were looked at: a window adds
    // rights, and its closing removes what it added.
    if unsafe { libc::mprotect(place, length, protection) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What a window must know of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    protection: libc::c_int,
    shared: bool,
}

/// The mappings that sorted ranges touch, ascending.
fn mappings(ranges: &[Range<u64>]) -> io::Result<Vec<Mapping>> {
    let file = File::open("/proc/self/maps")?;
    by_query(&file, ranges).or_else(|_| by_text(&file))
}

/// Asks for each mapping by its address: the cost does not grow with the number of mappings.
fn by_query(file: &File, ranges: &[Range<u64>]) -> io::Result<Vec<Mapping>> {
    let mut found: Vec<Mapping> = Vec::new();
    for range in ranges {
        let known = found.last().map_or(0, |mapping| mapping.end);
        let mut at = range.start.max(known);
        while at < range.end {
            let Some(mapping) = query(file, at)?.filter(|next| next.start < range.end) else {
                break;
            };
            at = mapping.end;
            found.push(mapping);
        }
    }
    Ok(found)
}

/// The kernel's `struct procmap_query`.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    protection: u64,
    /// Page size, offset, inode, device.
    other: [u64; 4],
    /// Name and build id: not wanted.
    sizes: [u32; 2],
    buffers: [u64; 2],
}

const COVERING_OR_NEXT: u64 = 0x10;
const SHARED: u64 = 8;

/// The mapping at an address, or the next behind it; an error where the kernel (before 6.11)
/// cannot tell.
fn query(file: &File, address: u64) -> io::Result<Option<Mapping>> {
    let size = size_of::<Query>();
    let request = 3 << 30 | (size as u64) << 16 | u64::from(b'f') << 8 | 17;
    let mut query =
        Query { size: size as u64, flags: COVERING_OR_NEXT, address, ..Query::default() };
    // SAFETY: the kernel fills in the structure, whose size it is told.
    if unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut query) } == 0 {
        let (start, end, shared) = (query.start, query.end, query.protection & SHARED != 0);
        // Its bits for reading, writing and execution are those of `mprotect`.
        let protection = (query.protection & 7) as libc::c_int;
        return Ok(Some(Mapping { start, end, protection, shared }));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOENT) { Ok(None) } else { Err(error) }
}

/// All mappings.
fn by_text(mut file: &File) -> io::Result<Vec<Mapping>> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let mappings = maps::parse(&String::from_utf8_lossy(&text)).into_iter();
    let flag = |set: bool, flag: libc::c_int| if set { flag } else { 0 };
    let mappings = mappings.map(|mapping| Mapping {
        start: mapping.start,
        end: mapping.end,
        protection: flag(mapping.read, libc::PROT_READ)
            | flag(mapping.write, libc::PROT_WRITE)
            | flag(mapping.execute, libc::PROT_EXEC),
        shared: mapping.shared,
    });
    Ok(mappings.collect())
}

#[cfg(test)]
pub(crate) mod array;
#[cfg(test)]
mod tests;
