//! Traces for other tools: each format is a [`sledge_trace::event::Sink`] that writes to any
//! [`std::io::Write`] while events pass.
//!
//! Two layers stand between events and formats, so that a format is one small file:
//!
//! * [`OnLanes`] lays calls on lanes, on each of which they nest, for formats that have tracks:
//!   [`Perfetto`], [`Chrome`], [`Speedscope`];
//! * [`PathTree`] adds calls up by the path that led to them, for formats that have sums:
//!   [`Folded`].
//!
//! A trace of any length takes little memory: what a format wants in another order than it
//! happened waits in a temporary file ([`spool`]).
#![forbid(unsafe_code)]

mod chrome;
mod creations;
mod folded;
mod lanes;
mod paths;
mod perfetto;
mod protobuf;
mod speedscope;
pub mod spool;

pub use chrome::Chrome;
pub use folded::Folded;
pub use lanes::{Lane, OnLanes, Timeline};
pub use paths::{Path, PathTree};
pub use perfetto::Perfetto;
pub use speedscope::Speedscope;
