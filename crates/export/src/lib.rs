//! Traces for other tools: each format is a [`sledge_trace::event::Sink`] that writes
//! while events pass: to any [`std::io::Write`], or into a directory.
//!
//! Layers stand between events and formats, so that a format is one small file:
//!
//! * [`OnLanes`] lays calls on lanes, on each of which they nest, for formats that have tracks:
//!   [`Perfetto`], [`Chrome`], [`Speedscope`], [`Ctf`];
//! * [`PathTree`] adds calls up by the path that led to them, for formats that have sums:
//!   [`Folded`], [`Pprof`];
//! * [`EdgeSums`] adds them up by caller and callee, for graphs: [`Graphviz`], [`Mermaid`].
//!
//! [`Parquet`] is a table of calls.
//!
//! A trace of any length takes little memory: what a format wants in another order than it
//! happened waits in a temporary file ([`spool`]).
#![forbid(unsafe_code)]

mod chrome;
mod creations;
mod ctf;
mod edges;
mod folded;
mod graphviz;
mod lanes;
mod mermaid;
mod parquet;
mod paths;
mod perfetto;
mod pprof;
mod protobuf;
mod speedscope;
pub mod spool;

pub use chrome::Chrome;
pub use ctf::Ctf;
pub use edges::{Drawing, Edge, EdgeSums, Node};
pub use folded::Folded;
pub use graphviz::Graphviz;
pub use lanes::{Lane, OnLanes, Timeline};
pub use mermaid::Mermaid;
pub use parquet::Parquet;
pub use paths::{Path, PathTree};
pub use perfetto::Perfetto;
pub use pprof::Pprof;
pub use speedscope::Speedscope;
