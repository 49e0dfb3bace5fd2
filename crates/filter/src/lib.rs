//! Which calls are shown: the same letters, the same result, at record and at replay time.
//!
//! A [`CallFilter`] is made from a [`FilterSpec`] and learns functions as they appear. A
//! [`StepFilter`] applies it to the steps of a thread that is being recorded, an [`EventFilter`]
//! to the events of a trace; both are driven by the same code.
#![forbid(unsafe_code)]

pub mod calls;
mod events;
mod gate;
pub mod pattern;
mod steps;
mod strand;
pub mod suggest;
pub mod units;

pub use calls::{CallFilter, EventFilter, FilterSpec, StepFilter};
pub use pattern::{Pattern, PatternError, Syntax};
pub use suggest::suggest;
pub use units::{UnitError, parse_duration, parse_size};
