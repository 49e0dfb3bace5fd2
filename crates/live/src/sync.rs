//! Makes every processor that runs this process see changed code.

use nix::libc;
use std::io;

const REGISTER: libc::c_int = libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE;
const SYNC_CORE: libc::c_int = libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE;

/// Why processors could not be synchronised.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The system call failed after it had been registered for.
    #[error("membarrier failed: {0}")]
    Membarrier(io::Error),
    /// The kernel has no such barrier, and other threads run.
    #[error("no core-serialising membarrier here, and this process has {threads} threads")]
    ManyThreads {
        /// How many.
        threads: usize,
    },
    /// Threads could not be counted.
    #[error("cannot count threads: {0}")]
    Threads(io::Error),
}

/// Serialises all processors.
pub trait Sync {
    /// When it returns, each thread runs an instruction that was fetched after every write made
    /// before, or has not come back from the kernel, which has the same effect.
    ///
    /// # Errors
    /// When that cannot be promised.
    fn sync(&mut self) -> Result<(), SyncError>;
}

/// What this kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// `membarrier(PRIVATE_EXPEDITED_SYNC_CORE)`: the architected way for user space.
    Membarrier,
    /// The kernel lacks it, or a seccomp filter forbids it. Patching is possible as long as the
    /// process has one thread, and is refused when it has more.
    OneThread,
}

impl Barrier {
    /// Registers this process for the barrier; says by its value whether there is one.
    #[must_use]
    pub fn register() -> Self {
        match membarrier(REGISTER) {
            Ok(()) => Self::Membarrier,
            Err(_) => Self::OneThread,
        }
    }
}

impl Sync for Barrier {
    fn sync(&mut self) -> Result<(), SyncError> {
        match self {
            Self::Membarrier => membarrier(SYNC_CORE)
                // A forked child may have to register for itself.
                .or_else(|_| membarrier(REGISTER).and_then(|()| membarrier(SYNC_CORE)))
                .map_err(SyncError::Membarrier),
            Self::OneThread => match thread_count().map_err(SyncError::Threads)? {
                1 => {
                    serialise();
                    Ok(())
                }
                threads => Err(SyncError::ManyThreads { threads }),
            },
        }
    }
}

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers and touches no memory of ours.
    if unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Serialises this processor.
fn serialise() {
    std::arch::x86_64::__cpuid(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_barrier_one_thread_may_patch_and_many_may_not() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv().is_err());
        let refused = Barrier::OneThread.sync();
        drop(stop);
        assert!(other.join().is_ok_and(|ended| ended));
        assert!(matches!(refused, Err(SyncError::ManyThreads { threads: 2.. })), "{refused:?}");
    }

    #[test]
    fn a_registered_process_can_use_the_barrier_again_and_again() {
        let mut barrier = Barrier::register();
        if barrier == Barrier::Membarrier {
            assert!((0..3).all(|_| barrier.sync().is_ok()));
        }
    }
}
