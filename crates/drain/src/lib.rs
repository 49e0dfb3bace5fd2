//! From the tracee's raw ring records to a trace's steps.
#![forbid(unsafe_code)]

pub mod pair;

pub use pair::Pairer;
