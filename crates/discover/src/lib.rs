//! Discover: which functions an ELF object has, and where each of them can be hooked.
//!
//! The first step of the data path. Reads files only, never a live process.
//!
//! [`Object::open`] does all of it: header, symbol tables, unwind tables, a scan of the whole
//! object for branches, and a verdict for each function. [`open_header`] only classifies a file.
#![forbid(unsafe_code)]

mod candidates;
mod debug;
mod error;
mod filler;
mod header;
mod image;
mod ladder;
pub mod maps;
pub mod names;
mod object;
mod relocations;
mod returns;
mod sections;
pub mod site;
mod sleds;
mod summary;
mod sweep;
mod symbols;
mod unwind;

pub use error::DiscoverError;
pub use header::{Header, Kind, Segment, open_header};
pub use object::{Export, Import, Object};
pub use site::{
    EntryOnly, Function, HOP_BYTES, MAX_DISPLACED, PATCH_BYTES, Refusal, Returns, Rung, Site,
};
pub use summary::Summary;
