//! Which calls are shown: the same letters, the same result, at record and at replay time.
#![forbid(unsafe_code)]

pub mod calls;
pub mod pattern;
pub mod suggest;
pub mod units;

pub use calls::{CallFilter, EventFilter, FilterSpec, StepFilter};
pub use pattern::{Pattern, PatternError, Syntax};
pub use suggest::suggest;
pub use units::{UnitError, parse_duration, parse_size};
