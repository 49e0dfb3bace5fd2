//! This process as the one that is patched.

use crate::memory::OwnMemory;
use crate::patch::Rescue;
use crate::patcher::{Host, HostError, Original, Patcher};
use crate::sync::Barrier;
use crate::trap;
use std::sync::atomic::{AtomicBool, Ordering};

/// Signal handlers belong to the process, and so does their table of sites.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The running process.
#[derive(Debug)]
pub struct OwnProcess {
    memory: OwnMemory,
    barrier: Barrier,
    journal: Vec<Original>,
}

impl OwnProcess {
    /// A patcher for this process: there is one. Handlers for traps stay in place from here on.
    ///
    /// # Errors
    /// When there is one already, or handlers cannot be installed.
    pub fn patcher(memory: OwnMemory) -> Result<Patcher<Self>, HostError> {
        if TAKEN.swap(true, Ordering::SeqCst) {
            return Err(HostError::Taken);
        }
        let ready = trap::install();
        ready.inspect_err(|_| TAKEN.store(false, Ordering::SeqCst)).map_err(HostError::Handlers)?;
        let barrier = Barrier::register();
        Ok(Patcher::new(Self { memory, barrier, journal: Vec::new() }))
    }

    /// How processors are synchronised here.
    #[must_use]
    pub fn barrier(&self) -> Barrier {
        self.barrier
    }

    /// The bytes that were replaced, or may be.
    #[must_use]
    pub fn journal(&self) -> &[Original] {
        &self.journal
    }
}

impl Host for OwnProcess {
    type Memory = OwnMemory;
    type Sync = Barrier;

    fn parts(&mut self) -> (&mut OwnMemory, &mut Barrier) {
        (&mut self.memory, &mut self.barrier)
    }

    fn journal(&mut self, originals: &[Original]) -> Result<(), HostError> {
        self.journal.extend_from_slice(originals);
        Ok(())
    }

    fn rescue(&mut self, sites: Vec<Rescue>) {
        trap::publish(sites);
    }

    fn ready(&mut self) -> Result<(), HostError> {
        trap::install().map_err(HostError::Handlers)
    }
}
