//! Brings the agent into a running process, and takes it out again.
//!
//! One thread is borrowed by ptrace for less than a millisecond. It makes a few system calls out of a
//! `syscall` instruction that is there already, so that nothing of the program's is written: not its
//! text, not its stack. They map the agent, whose image is then written from outside, and make a thread
//! for it. No library function of the process is called, so it does not matter what its threads were
//! doing: waiting in the kernel, allocating memory, or loading a library.
//!
//! * `victim` chooses the thread; `borrow` takes it and gives it back as it was.
//! * `agent`, `header` and `index` lay the agent's file out without a loader.
//! * `attach` is the sequence; `target` what is looked at before.

mod agent;
mod attach;
mod borrow;
mod error;
pub mod header;
pub mod index;
mod target;
mod victim;

pub use agent::{Agent, Piece, note};
pub use attach::{Injected, Prepare, Shape, attach, is_ours, unmap};
pub use error::{InjectError, Unusual};
pub use target::{Status, status_field};
