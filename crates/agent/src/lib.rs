//! The agent: the code inside the tracee.
#![no_std]
/// Where this crate's sources are: the CLI's build script compiles them as a `cdylib`.
pub const MANIFEST_DIR: &str = env!("CARGO_MANIFEST_DIR");
