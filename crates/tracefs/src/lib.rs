//! The control tree: ftrace's files and words for a process.
//!
//! A [`Tree`] is an object model of what the kernel shows as tracefs: instances with their tracers,
//! filters, buffers and options, and files that are read and written over them. It is pure: no
//! file system and no process is in it. What mounts it passes reads and writes on, and what
//! controls a process implements [`Tracee`] and feeds the tree with what [`Happening`]s there are.
//!
//! Where a rule or a format is the kernel's, it follows Linux 6.12. Where a process differs from a
//! kernel, the module that decides says so.
#![forbid(unsafe_code)]

mod buffer;
mod clock;
mod command;
mod entry;
mod errno;
mod error_log;
mod events;
mod feed;
mod files;
mod functions;
mod glob;
mod graph;
mod instance;
mod list;
mod options;
mod output;
mod path;
mod pids;
mod profile;
mod readme;
mod stack;
mod threads;
mod tracee;
mod tree;
mod words;

pub use clock::Clock;
pub use entry::Writer;
pub use errno::Errno;
pub use events::{Fetch, REGISTERS, Type, TypeKind};
pub use functions::{Function, FunctionId, FunctionSet, Functions};
pub use path::Kind;
pub use tracee::{Happening, ProbeId, ThreadId, Tracee, Value, Wanted, WantedProbe, What};
pub use tree::{HandleId, Open, Read, Tree};
