//! The contract between the agent (inside the tracee) and the controller (outside).
//!
//! Everything both sides must agree on is here and nowhere else: the records in a ring, the layout
//! of the shared segment, the cells of generated code, the messages at launch. Whoever changes a
//! layout raises [`VERSION`]; the two sides refuse each other when it differs.
//!
//! `no_std`, no allocation, plain data only.
#![no_std]
#![forbid(unsafe_code)]

pub mod attach;
pub mod block;
pub mod cell;
pub mod message;
pub mod probe;
pub mod raw;
pub mod record;
pub mod segment;

/// Raised with every change of a layout in this crate.
pub const VERSION: u32 = 2;
