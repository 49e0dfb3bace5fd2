//! Patches the running process itself, under its running threads.
//!
//! No thread is stopped, waited for or looked at. Every byte of a patch on which a thread may
//! stand is a trap at all times at which the original instruction is not whole there (`patch`),
//! bytes change in an order in which no processor can run a mixture (`protocol`), and what traps
//! goes on in the relocated copy (`trap`). `patcher` keeps the sites and the promises about them.
//!
//! # What must hold in the process
//!
//! * No thread may run patchable code with `SIGTRAP` or `SIGILL` blocked while sites are armed or
//!   disarmed: the kernel kills a process whose thread traps with the signal blocked.
//!   [`trap::threads_with_traps_blocked`] lists such threads. libc blocks all signals inside
//!   `pthread_create`, `posix_spawn` and `abort`: what they call is better left alone.
//! * A child forked in the middle of a batch inherits traps, and handlers that know them: it is
//!   right, but slow there. Whoever forks should do it between batches.
//! * The code of [`trap::own_code`] must not be patched.
//! * Relocated copies and islands stay mapped for ever: a context saved long ago may lead there.

pub mod memory;
pub mod patch;
pub mod patcher;
pub mod process;
pub mod protocol;
pub mod sync;
pub mod trap;
