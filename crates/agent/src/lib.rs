//! The agent: the code of ours that runs inside the tracee.
//!
//! No libc, no allocator, no undefined symbol: that it cannot allocate and cannot call a traced
//! function is a fact of the link (`cargo xtask agent-check`), not a rule of style. It decides
//! nothing: it carries out the controller's plan and hands out rings.
//!
//! * `init` runs first: finds the controller, carries out the plan, lets the program go on.
//! * `raw` is the way in where no loader brought this object; `attached` the one into a process that
//!   runs: there it has a thread, `change` patches under the others, `trap` sends on those that trap.
//! * `ranges` reserves the addresses of generated code and says how to unwind it.
//! * `slow` is what generated code calls when it cannot go on by itself.
#![cfg_attr(not(test), no_std)]

/// Where this crate's sources are: the CLI's build script compiles them as a `cdylib`.
pub const MANIFEST_DIR: &str = env!("CARGO_MANIFEST_DIR");

#[cfg(all(feature = "inject", not(test)))]
mod inject {
    mod apply;
    mod attached;
    mod change;
    mod environment;
    mod exec;
    mod init;
    mod known;
    mod memory;
    mod probe;
    mod process;
    mod ranges;
    mod raw;
    mod slow;
    mod socket;
    mod system;
    mod thread;
    mod trap;

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // Nothing here panics on purpose; if it happens, stop at once rather than run on.
        // SAFETY: `ud2` has no operands; it never returns.
        unsafe { core::arch::asm!("ud2", options(noreturn)) }
    }
}
