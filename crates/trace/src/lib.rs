//! The trace file: its events, its writer and its reader.
//!
//! [`event`] says what a trace *means*; the file format is in FORMAT.md. [`Writer`] writes one,
//! [`Trace`] reads it and gives its events, in time order, to a [`event::Sink`].
#![forbid(unsafe_code)]

mod block;
mod checksum;
mod chunk;
mod clock;
pub mod error;
pub mod event;
mod file;
mod index;
mod keep;
mod lane;
mod load;
mod merge;
mod opening;
mod output;
pub mod reader;
mod records;
pub mod stacks;
mod varint;
pub mod writer;

pub use error::{Damage, Flaw, ReadError, ReplayError, WriteError};
pub use keep::{Keep, Storage};
pub use reader::{Cut, Loss, Selection, Trace};
pub use writer::{Host, Writer};
