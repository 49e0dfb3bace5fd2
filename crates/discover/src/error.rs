//! Why a file cannot be read as a program or library.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a file cannot be read as an x86-64 program or library. `Display` is one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoverError {
    /// No such file.
    #[error("{} does not exist", .0.display())]
    NotFound(PathBuf),
    /// A directory.
    #[error("{} is a directory", .0.display())]
    IsDirectory(PathBuf),
    /// A device, FIFO or socket.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// May not be read.
    #[error("no permission to read {}", .0.display())]
    PermissionDenied(PathBuf),
    /// Reading failed otherwise.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Has no bytes at all.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// A text file that names its interpreter.
    #[error("{} is a script for {interpreter}", .path.display())]
    Script {
        /// The file.
        path: PathBuf,
        /// The program on its first line.
        interpreter: String,
    },
    /// Not an ELF file.
    #[error("{} is not an ELF file", .0.display())]
    NotElf(PathBuf),
    /// An ELF file for 32-bit programs.
    #[error("{} is a 32-bit ELF file; only x86-64 is supported", .0.display())]
    Elf32(PathBuf),
    /// An ELF file for another processor.
    #[error("{} is for {machine}; only x86-64 is supported", .path.display())]
    OtherArchitecture {
        /// The file.
        path: PathBuf,
        /// The processor it is for.
        machine: String,
    },
    /// Shorter than its headers say.
    #[error("{} is truncated: {what} ends beyond the file", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is cut off.
        what: &'static str,
    },
    /// An object file, core dump or the like.
    #[error("{} is {what}, not a program or shared library", .path.display())]
    NotLoadable {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Its tables contradict the format.
    #[error("{} is a damaged ELF file: {what}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Opens a regular file for reading, with the specific reason when that is not possible.
pub(crate) fn open_regular(path: &Path) -> Result<File, DiscoverError> {
    let metadata = std::fs::metadata(path).map_err(|source| from_io(path, source))?;
    if metadata.is_dir() {
        return Err(DiscoverError::IsDirectory(path.into()));
    }
    if !metadata.is_file() {
        return Err(DiscoverError::NotRegular(path.into()));
    }
    File::open(path).map_err(|source| from_io(path, source))
}

pub(crate) fn from_io(path: &Path, source: io::Error) -> DiscoverError {
    match source.kind() {
        ErrorKind::NotFound => DiscoverError::NotFound(path.into()),
        ErrorKind::IsADirectory => DiscoverError::IsDirectory(path.into()),
        ErrorKind::PermissionDenied => DiscoverError::PermissionDenied(path.into()),
        _ => DiscoverError::Io { path: path.into(), source },
    }
}
