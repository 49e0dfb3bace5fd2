//! What a tree needs of the process that it drives, and what it hears from there.

use crate::errno::Errno;
use crate::events::{Fetch, Type};
use crate::functions::{FunctionId, FunctionSet};
use std::fmt;

/// A thread of the process, by the number that [`crate::Tree::add_thread`] gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u32);

/// A probe, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u32);

/// A value that a probe took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Text.
    Text(Box<[u8]>),
    /// Elements of an array.
    Numbers(Box<[u64]>),
    /// The memory could not be read.
    Fault,
}

/// Something that happened in the process. Those of one thread come in order.
#[derive(Clone, Debug)]
pub struct Happening {
    /// When: nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// In which thread.
    pub thread: ThreadId,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum What {
    /// A function was called.
    Enter {
        /// Which.
        function: FunctionId,
        /// An address in the code that called it; 0 where it is not known.
        parent: u64,
        /// The address of the stack cell that holds its return address, in bytes; only differences
        /// within a thread mean something.
        cell: u64,
    },
    /// The innermost call returned, or was left some other way.
    Leave {
        /// What of.
        function: FunctionId,
        /// Whether it returned: it was not unwound by an exception or a jump.
        returned: bool,
        /// What it returned, if that was seen.
        value: Option<u64>,
    },
    /// A probe was hit, which takes values in the process.
    Hit {
        /// Which.
        probe: ProbeId,
        /// An address in the code that called the probed function, or to which it returned.
        parent: u64,
        /// Its arguments, in order.
        values: Box<[Value]>,
    },
    /// The thread's events were lost.
    Lost(u64),
}

/// What all instances of a tree together want of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The functions of which calls are wanted.
    pub functions: FunctionSet,
    /// Probes for which the process takes values.
    pub probes: Vec<WantedProbe>,
}

/// A probe that takes values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedProbe {
    /// Its number.
    pub id: ProbeId,
    /// The function that it is on.
    pub function: FunctionId,
    /// How far into it.
    pub offset: u64,
    /// Hit when the function returns.
    pub on_return: bool,
    /// Its arguments: where each is, and what it is taken for.
    pub arguments: Vec<(Fetch, Type)>,
}

/// The process that a tree drives.
pub trait Tracee: Send + fmt::Debug {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    fn now(&self) -> u64;

    /// Says what is wanted from now on.
    ///
    /// # Errors
    /// When the process is gone or refuses.
    fn want(&mut self, wanted: &Wanted) -> Result<(), Errno>;

    /// The address of a symbol, be it a function or data.
    fn symbol(&self, name: &str) -> Option<u64>;

    /// All symbols with their addresses, for `kallsyms`; functions that can be traced are added.
    fn symbols(&self) -> Vec<(u64, String)>;

    /// Whether a probe can take values there.
    fn takes_values(&self, probe: &WantedProbe) -> bool;

    /// Offset in the nanoseconds of another clock against `CLOCK_MONOTONIC`; `None` if there is no
    /// such clock.
    fn clock_offset(&self, clock: crate::clock::Clock) -> Option<i64>;
}
