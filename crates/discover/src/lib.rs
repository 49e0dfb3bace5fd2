//! Discover: which functions an ELF object has, and where each of them can be hooked.
//!
//! The first step of the data path. Reads files only, never a live process.
#![forbid(unsafe_code)]

pub mod site;
