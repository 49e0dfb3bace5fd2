//! Controls a live recording: launches a program, plans and patches it, drains its rings.
//!
//! The middle of the data path. `session` is where the agent finds us, `launch` starts the
//! program, `statics` brings the agent into one that has no loader, `image` looks at what runs,
//! `plan` decides and lays out generated code, `segment` is the shared memory, `drain` empties
//! rings into the trace, `recording` runs the whole, and `stream` gives records to whoever asks.
//!
//! `unsafe` is in `segment` and `system`, for memory shared with a tracee that may be hostile, and
//! for system calls without a safe wrapper. Nothing in that memory is believed: it yields numbers,
//! never addresses or lengths.

pub mod drain;
mod error;
mod host;
pub mod image;
pub mod lanes;
mod launch;
mod options;
pub mod plan;
mod planner;
mod probes;
mod recording;
pub mod rings;
pub mod segment;
mod session;
pub mod signals;
mod statics;
mod stream;
pub mod system;
mod welcome;

pub use error::ControlError;
pub use options::{Options, Progress, Recorded, Untraceable};
pub use plan::Scope;
pub use probes::{Hit, Probe, Probes, number};
pub use recording::record;
pub use sledge_wire::segment::Full;
pub use stream::{Sink, Stream, StreamFunction, StreamOptions};
pub use system::clock_pair;
