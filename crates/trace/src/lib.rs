//! The trace file: its events, its writer and its reader.
//!
//! [`event`] says what a trace *means*; the file format is in FORMAT.md.
#![forbid(unsafe_code)]

pub mod event;
