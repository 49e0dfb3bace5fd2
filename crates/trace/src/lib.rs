//! The trace file: its events, its writer and its reader.
//!
//! [`event`] says what a trace *means*; the file format is in FORMAT.md. [`Writer`] writes one,
//! [`Trace`] reads it and gives its events, in time order, to a [`event::Sink`].
//!
//! An analysis is a sink; this one counts calls. `examples/sink` in the repository is a whole program.
//!
//! ```
//! use std::convert::Infallible;
//! use sledge_trace::event::*;
//! use sledge_trace::{Selection, Trace, Writer};
//!
//! #[derive(Default)]
//! struct Count(u64);
//!
//! impl Sink for Count {
//!     type Error = Infallible;
//!
//!     fn event(&mut self, _: &Directory, event: &Event) -> Result<(), Infallible> {
//!         self.0 += u64::from(matches!(event.kind, EventKind::Enter { .. }));
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("trace.sledge");
//! # let mut writer = Writer::create(&path)?;
//! # let object = writer.object(&Object { path: "/bin/app".into(), build_id: Vec::new() });
//! # let main = Function { object, address: 0, size: 0, name: "main".into() };
//! # let main = writer.function(&main);
//! # let app = Process { pid: 1, parent: None, executable: "/bin/app".into(), arguments: vec![] };
//! # let process = writer.process(&app);
//! # let thread = writer.thread(&Thread { process, tid: 1, name: "app".into() }, Ticks(0));
//! # writer.steps(thread, &[Step { at: Ticks(5), op: Op::Enter(main) }])?;
//! # writer.finish()?;
//! let trace = Trace::open(path)?;
//! let mut count = Count::default();
//! // All of it; `Selection` can ask for a stretch of time and some threads, and then only these
//! // are read.
//! trace.events(&Selection::default(), &mut count)?;
//! assert_eq!(count.0, 1);
//! # Ok(())
//! # }
//! ```
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
