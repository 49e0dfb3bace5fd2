//! Generate: the code that a traced function runs, as bytes for known addresses.
//!
//! Pure: nothing here touches a process. `relocate` moves displaced instructions; `trampoline`
//! and `thunk` write the code of an ops set and of a site; `islands` finds room for jumps that
//! must lie near a site; `dispatch` is for processes that trace themselves.
#![forbid(unsafe_code)]

pub mod dispatch;
pub mod emit;
pub mod islands;
pub mod ops;
pub mod relocate;
pub mod thunk;
pub mod trampoline;
