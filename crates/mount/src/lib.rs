//! Mounts the control tree of a process as a file system of type `fuse.tracefs`.
//!
//! `process` is the process: its records become what the tree hears. `filesystem` is the mount:
//! its requests become reads and writes of the tree. Both share one `Served`, behind one
//! lock; before a file is opened or written, what the process did until then is taken in, so that
//! what is read back is what had happened.
#![forbid(unsafe_code)]

mod clock;
mod error;
mod filesystem;
mod inodes;
mod process;
mod run;
mod served;
mod symbols;
mod taking;
mod waiting;

pub use error::MountError;
pub use run::{MountOptions, mount};
