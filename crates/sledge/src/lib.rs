//! Traces the functions of the running program: real, unmodified code, live, under its threads.
//!
//! ```
//! use sledge::{Ops, Tracer};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//!
//! #[inline(never)]
//! fn btree_insert(key: u64) -> u64 {
//!     std::hint::black_box(key) + 1
//! }
//!
//! # fn main() -> Result<(), sledge::Error> {
//! let tracer = Tracer::current()?; // this process
//! let hits = Arc::new(AtomicU64::new(0));
//! let count = Arc::clone(&hits);
//! let ops = tracer.register(
//!     Ops::entry(move |_call| { count.fetch_add(1, Relaxed); })
//!         .filter("*btree_*").notrace("*_free"))?; // live: other threads keep running
//! (0..10).for_each(|key| { btree_insert(key); });
//! drop(ops); // unregistered, its trampoline freed; no call is in it any more
//! assert_eq!(hits.load(Relaxed), 10);
//! # Ok(())
//! # }
//! ```

mod client;
mod code;
mod core;
mod error;
mod exits;
mod filters;
mod frames;
mod gdb;
mod hooks;
mod introspect;
mod list;
mod objects;
mod ops;
mod perf_map;
mod pool;
mod process;
mod sites;
mod thread;
mod tracer;

pub use client::{Call, EnterFunction, LeaveFunction, RawCallback, Return};
pub use core::Dispatch;
pub use error::Error;
pub use exits::Scratch;
pub use objects::Denied;
pub use ops::Ops;
pub use sites::SiteError;
pub use sledge_engine::dispatch::{Registers, Results};
pub use tracer::{Registration, Tracer, Untraced};
