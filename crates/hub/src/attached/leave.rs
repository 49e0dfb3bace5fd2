//! Takes everything away again, as far as no thread can still need it.
//!
//! 1. All original bytes are back, and calls go on without hooks. Returns are still recorded.
//! 2. Threads leave generated code; calls that were hooked return. Which are still to return is known
//!    exactly, from the records, unless some were lost.
//! 3. When nobody is left, everything is unmapped. Else the agent's image stays, which holds the code
//!    that those returns need, with a note of where they are: whoever enters the process next looks at
//!    these places and takes it away.

mod evacuation;
pub(crate) mod resident;

use super::Attached;
use crate::error::HubError;
use crate::owner;
use evacuation::Evacuation;
use sledge_inject::unmap;
use sledge_wire::attach::{self, Order};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long threads are waited for that will return to generated code.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How long for those that are in it, once none of them can wait for us. Only a process that is
/// stopped, or starves, takes so long.
const LAST: Duration = Duration::from_secs(30);

/// What is left in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Calls that will still return through generated code, which stays for them; `None` if that is
    /// not known.
    pub returns: Option<usize>,
}

/// How far the leaving of a process is.
#[derive(Debug)]
pub struct Leaving {
    evacuation: Evacuation,
    since: Instant,
    patience: Duration,
}

impl Attached {
    /// Puts all original bytes back and lets no more calls be recorded; returns still are.
    ///
    /// # Errors
    /// When the agent cannot do its part.
    pub fn quieten(&mut self) -> Result<Leaving, HubError> {
        self.arm(&HashSet::new())?;
        self.switch_off(&[attach::SWITCH_ENTER, attach::SWITCH_ENTER_ONLY])?;
        let mut ranges = self.layout.places();
        ranges.push(self.injected.region.clone());
        let evacuation = Evacuation::new(self.pid, self.agent_thread(), ranges);
        Ok(Leaving { evacuation, since: Instant::now(), patience: PATIENCE })
    }

    fn switch_off(&self, switches: &[usize]) -> Result<(), HubError> {
        let words = self.layout.attachment.switches;
        let word = |index: usize| words + 8 * index as u64;
        for &switch in switches {
            let quiet = word(switch + attach::SWITCH_QUIET);
            let target = self.layout.switches().find(|(word, _)| *word == quiet);
            if let Some((_, target)) = target {
                self.order("set a switch", Order::Store, [word(switch), target])?;
            }
        }
        Ok(())
    }

    fn agent_thread(&self) -> u32 {
        self.segment.word(attach::THREAD).load(Ordering::Relaxed)
    }

    /// Whether the agent's thread has ended.
    fn wait_for_end(&self) -> bool {
        let begin = Instant::now();
        while self.agent_thread() != 0 {
            if begin.elapsed() > LAST {
                return false;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        true
    }
}

impl Leaving {
    /// Nobody waits for us any more: threads that are not out will be.
    pub fn insist(&mut self) {
        (self.since, self.patience) = (Instant::now(), LAST);
    }

    /// Whether it makes no sense to wait any longer, when all threads are `out` or not.
    #[must_use]
    pub fn is_late(&self, out: bool) -> bool {
        self.since.elapsed() > if out { PATIENCE } else { self.patience }
    }

    /// Whether no thread is in generated code any more, and none was interrupted there.
    pub fn threads_are_out(&mut self) -> bool {
        self.evacuation.threads_are_out()
    }
}

impl Attached {
    /// Of the places where return addresses of hooked calls lay, by the low half that records have,
    /// those that still hold one.
    #[must_use]
    pub fn still_to_return(&self, cells: &[u32]) -> Vec<u64> {
        resident::returning(self.pid, &self.injected.region, cells)
    }

    /// Nothing is recorded any more: what is in the rings is all.
    ///
    /// # Errors
    /// When the agent cannot do its part.
    pub fn close(&self) -> Result<(), HubError> {
        self.switch_off(&[attach::SWITCH_LEAVE])?;
        self.segment.close();
        Ok(())
    }

    /// Leaves the process, after [`Attached::close`]. `returns` are those still to return, `None` if
    /// they are not known; `out` tells whether all threads are.
    ///
    /// # Errors
    /// When something could not be taken away that should have been.
    pub fn leave(self, returns: Option<Vec<u64>>, out: bool) -> Result<Left, HubError> {
        self.patch(false, &self.layout.all_pads())?;
        if out {
            // A thread that is not may be about to trap.
            self.order("give signal handlers back", Order::Handlers, [0; 2])?;
        }
        let nobody = out && returns.as_ref().is_some_and(Vec::is_empty);
        if out {
            for range in &self.layout.mapped {
                let with = [range.start, range.end - range.start];
                self.order("unmap code", Order::Unmap, with)?;
            }
            self.order("unmap its memory", Order::Clean, [u64::from(nobody), 0])?;
        }
        self.order("end", Order::Quit, [0; 2])?;
        let ended = self.wait_for_end();
        owner::give(&self.segment);
        let known = returns.filter(|_| out && ended);
        self.finish(known, out && ended, nobody && ended)
    }

    fn finish(self, returns: Option<Vec<u64>>, out: bool, nobody: bool) -> Result<Left, HubError> {
        let (rings, bytes) = (self.segment.rings(), self.segment.ring_bytes());
        let place = self.injected.segment_at;
        let segment: Range<u64> = place..place + attach::attached_bytes(rings, bytes);
        let region = self.injected.region.clone();
        if nobody {
            unmap(self.pid, &[segment, region], None)?;
            return Ok(Left { returns: Some(0) });
        }
        let note = self.layout.attachment.switches;
        resident::note(&self.injected.memory, &region, note, returns.as_deref());
        if out {
            unmap(self.pid, &[segment], None)?;
        }
        Ok(Left { returns: returns.map(|returns| returns.len()) })
    }
}
