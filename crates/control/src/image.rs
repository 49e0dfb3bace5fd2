//! Looks at a live image: which objects are mapped where.

use crate::error::ControlError;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use sledge_discover::maps::{self, Mapping};
use sledge_discover::{DiscoverError, Object};
use std::collections::HashMap;
use std::fs;
use std::io::IoSliceMut;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An object, once it was read; locked while it is.
type Place = Arc<Mutex<Option<Arc<Object>>>>;

/// Objects that were read, by path: processes share them.
#[derive(Debug, Default)]
pub struct Library {
    objects: Mutex<HashMap<PathBuf, Place>>,
}

impl Library {
    /// The object at a path, read once: whoever asks while it is being read waits for it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(&self, path: &Path) -> Result<Arc<Object>, DiscoverError> {
        // The kernel names a mapped file by where it really is.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let place = Arc::clone(locked(&self.objects).entry(path.clone()).or_default());
        let mut read = locked(&place);
        if let Some(object) = &*read {
            return Ok(Arc::clone(object));
        }
        let object = Arc::new(Object::open(&path)?);
        *read = Some(Arc::clone(&object));
        Ok(object)
    }
}

/// A reader that panicked left nothing half done behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An object in a process.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its file.
    pub path: PathBuf,
    /// What is in it.
    pub object: Arc<Object>,
    /// What to add to its own addresses.
    pub bias: u64,
    /// Its executable mappings, with their protection.
    pub text: Vec<Text>,
}

/// An executable mapping.
#[derive(Clone, Debug)]
pub struct Text {
    /// Where.
    pub range: Range<u64>,
    /// `PROT_*` bits.
    pub protection: u64,
}

/// A live image, looked at while its program has not begun to run.
#[derive(Debug)]
pub struct Image {
    /// The process.
    pub pid: i32,
    /// Its executable.
    pub executable: PathBuf,
    /// What it has mapped.
    pub mappings: Vec<Mapping>,
}

impl Image {
    /// Looks at a process.
    ///
    /// # Errors
    /// When it is gone, or may not be looked at.
    pub fn of(pid: i32) -> Result<Self, ControlError> {
        let gone = |source| ControlError::System { what: "reading /proc", source };
        let text = fs::read_to_string(format!("/proc/{pid}/maps")).map_err(gone)?;
        let executable = fs::read_link(format!("/proc/{pid}/exe")).map_err(gone)?;
        Ok(Self { pid, executable, mappings: maps::parse(&text) })
    }

    /// The words of its command line.
    pub fn arguments(&self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words = bytes.strip_suffix(&[0]).unwrap_or(&bytes).split(|&byte| byte == 0);
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// Paths of the mapped objects, the executable first, then in the order of loading (the
    /// loader maps downwards).
    pub fn object_paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.executable.clone()];
        for mapping in self.mappings.iter().rev() {
            let named = mapping.execute && mapping.inode != 0 && !mapping.shared;
            if named && !mapping.deleted() && !paths.contains(&mapping.path) {
                paths.push(mapping.path.clone());
            }
        }
        paths
    }

    /// Where an object lies.
    pub fn locate(&self, path: &Path, object: Arc<Object>) -> Option<Loaded> {
        let ours = |mapping: &&Mapping| mapping.execute && mapping.path == path;
        let first = self.mappings.iter().find(ours)?;
        let bias = object.bias(first)?;
        let text = self.mappings.iter().filter(ours).map(|mapping| Text {
            range: mapping.start..mapping.end,
            protection: u64::from(mapping.read)
                | u64::from(mapping.write) << 1
                | u64::from(mapping.execute) << 2,
        });
        Some(Loaded { path: path.to_owned(), text: text.collect(), object, bias })
    }

    /// The executable mapping that holds an address.
    pub fn executable_at(&self, address: u64) -> Option<&Mapping> {
        self.mappings.iter().find(|mapping| mapping.execute && mapping.contains(address))
    }

    /// Reads memory of the process; short where it is not mapped.
    pub fn read(&self, range: Range<u64>) -> Vec<u8> {
        let length = usize::try_from(range.end - range.start).expect("64-bit");
        let mut bytes = vec![0; length];
        let base = usize::try_from(range.start).expect("64-bit");
        let remote = [RemoteIoVec { base, len: length }];
        let local = &mut [IoSliceMut::new(&mut bytes)];
        let read = process_vm_readv(Pid::from_raw(self.pid), local, &remote).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    /// Reads a pointer.
    pub fn read_pointer(&self, address: u64) -> Option<u64> {
        let bytes = self.read(address..address.checked_add(8)?);
        bytes.try_into().ok().map(u64::from_le_bytes)
    }

    /// Where a heap made by `brk` may still grow: kept free.
    pub fn heap_room(&self) -> Option<Range<u64>> {
        const ROOM: u64 = 1 << 30;
        let heap = self.mappings.iter().find(|mapping| mapping.path == Path::new("[heap]"));
        let end = match heap {
            Some(heap) => heap.end,
            // No heap yet: the break lies somewhere above the executable.
            None => {
                let ours = |mapping: &&Mapping| mapping.path == self.executable;
                self.mappings.iter().filter(ours).map(|mapping| mapping.end).max()?
            }
        };
        Some(end..end + ROOM)
    }
}

/// State and parent of a process.
fn stat_fields(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// The parent of a process.
pub fn parent_of(pid: i32) -> Option<i32> {
    stat_fields(pid).map(|(_, parent)| parent)
}

/// Whether a process still runs.
pub fn is_running(pid: i32) -> bool {
    stat_fields(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_once_whoever_asks_and_by_whichever_name() {
        let directory = tempfile::tempdir().unwrap();
        let (here, link) = (std::env::current_exe().unwrap(), directory.path().join("link"));
        std::os::unix::fs::symlink(&here, &link).unwrap();
        let library = Library::default();
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| library.open(&link).unwrap());
            (library.open(&here).unwrap(), other.join().unwrap())
        });
        assert!(Arc::ptr_eq(&one, &other));
    }
}
