//! Error numbers that files answer with: the kernel's.

use std::fmt;

/// An error number of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    /// Not allowed on this file.
    Permission = 1,
    /// There is no such file, function or event.
    NoEntry = 2,
    /// Too much at once.
    TooBig = 7,
    /// The file was not opened for that.
    BadFile = 9,
    /// Nothing there now.
    Again = 11,
    /// In use.
    Busy = 16,
    /// Exists already.
    Exists = 17,
    /// No such device: the process is gone.
    NoDevice = 19,
    /// Not a directory.
    NotDirectory = 20,
    /// Is a directory.
    IsDirectory = 21,
    /// What was written makes no sense.
    Invalid = 22,
    /// No room.
    NoSpace = 28,
    /// Out of range.
    Range = 34,
    /// Name too long.
    NameTooLong = 36,
    /// Not empty.
    NotEmpty = 39,
    /// In the middle of an instruction.
    IllegalSequence = 84,
    /// Not supported.
    NotSupported = 95,
}

impl Errno {
    /// The number itself.
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} ({})", self.code())
    }
}

impl std::error::Error for Errno {}
