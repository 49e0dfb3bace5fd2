//! Changes a batch of patches under running threads.
//!
//! Four steps, each over the whole batch, with a barrier behind each that wrote anything:
//!
//! 1. *Traps*: `int3` on the first byte, and on each old boundary that does not trap yet.
//! 2. *Operands*: the bytes on which no thread can stand.
//! 3. *Boundaries*: those of the goal: other trapping bytes, or the original instructions.
//! 4. *Entry*: the first byte.
//!
//! A thread that comes to the first byte, or stands on a boundary, thus finds the original
//! instruction with all its operands, or a trap, or the whole jump. This holds from any state that
//! an earlier, interrupted change may have left, and it holds both ways.

use crate::memory::{Memory, MemoryError};
use crate::patch::{Bytes, Goal, INT3, Patch, is_trap};
use crate::sync::{Sync, SyncError};
use std::ops::Range;

/// Why one patch of a batch was left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else's bytes: they are not overwritten.
    #[error("expected [{expected}], found [{found}]")]
    OtherBytes {
        /// What we last saw or wrote there.
        expected: Bytes,
        /// What is there.
        found: Bytes,
    },
    /// The memory is not there any more, or must not be written.
    #[error("cannot be written")]
    Unwritable,
}

/// What stops a whole batch.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Windows could not be opened, or not be closed.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Processors could not be synchronised. Patches in the middle of a change stay as they are:
    /// they trap, which is slow and safe.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Traps,
    Operands,
    Boundaries,
    Entry,
}

const STEPS: [Step; 4] = [Step::Traps, Step::Operands, Step::Boundaries, Step::Entry];

/// Brings the chosen patches (indices, each once) to the goal; says which were refused, and why.
/// Those that are there already are not looked at.
///
/// # Errors
/// When the batch could not be finished; what was written is in the patches' state.
pub fn change(
    memory: &mut impl Memory,
    sync: &mut impl Sync,
    patches: &mut [Patch],
    chosen: &[usize],
    goal: Goal,
) -> Result<Vec<(usize, Refusal)>, Fault> {
    let pending: Vec<usize> =
        chosen.iter().copied().filter(|&index| !patches[index].is(goal)).collect();
    if pending.is_empty() {
        return Ok(Vec::new());
    }
    let mut ranges: Vec<Range<u64>> = pending.iter().map(|&index| patches[index].range()).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    memory.open(&ranges)?;
    let changed = run(memory, sync, patches, &pending, goal);
    memory.close()?;
    Ok(changed?)
}

fn run(
    memory: &mut impl Memory,
    sync: &mut impl Sync,
    patches: &mut [Patch],
    chosen: &[usize],
    goal: Goal,
) -> Result<Vec<(usize, Refusal)>, SyncError> {
    // Traps that a failed change has left may not be everywhere yet.
    if chosen.iter().any(|&index| !patches[index].settled) {
        sync.sync()?;
    }
    let mut refused = Vec::new();
    let mut pending = chosen.to_vec();
    for step in STEPS {
        let mut wrote = false;
        pending.retain(|&index| match patches[index].take(step, goal, memory, &mut wrote) {
            Ok(()) => true,
            Err(refusal) => {
                refused.push((index, refusal));
                false
            }
        });
        if wrote {
            sync.sync()?;
        }
    }
    chosen.iter().for_each(|&index| patches[index].settled = true);
    Ok(refused)
}

impl Patch {
    /// Takes one step, unless the bytes are not those it believes to be there.
    fn take(
        &mut self,
        step: Step,
        goal: Goal,
        memory: &mut impl Memory,
        wrote: &mut bool,
    ) -> Result<(), Refusal> {
        let next = self.after(step, goal);
        if next == self.believed {
            return Ok(());
        }
        self.compare(memory)?;
        let mut differs = next.word() ^ self.believed.word();
        while differs != 0 {
            let at = differs.trailing_zeros() / 8;
            let byte = (next.word() >> (8 * at)) as u8;
            memory.write(self.address + u64::from(at), byte).map_err(|_| Refusal::Unwritable)?;
            self.believed.as_mut_slice()[at as usize] = byte;
            (self.settled, *wrote) = (false, true);
            differs &= !(0xff << (8 * at));
        }
        Ok(())
    }

    fn compare(&self, memory: &impl Memory) -> Result<(), Refusal> {
        let mut found = self.believed;
        let read = memory.read(self.address, found.as_mut_slice());
        read.map_err(|_| Refusal::Unwritable)?;
        if found == self.believed {
            return Ok(());
        }
        Err(Refusal::OtherBytes { expected: self.believed, found })
    }

    /// The bytes after a step.
    fn after(&self, step: Step, goal: Goal) -> Bytes {
        let (believed, goal) = (self.believed.word(), self.bytes(goal).word());
        let inner = spread(self.boundaries);
        let (bytes, from) = match step {
            Step::Traps => (ENTRY | inner & !self.trapping(), INT3S),
            Step::Operands => (!(ENTRY | inner), goal),
            Step::Boundaries => (inner, goal),
            Step::Entry => (ENTRY, goal),
        };
        self.believed.with_word(believed & !bytes | from & bytes)
    }

    /// The boundaries that trap now.
    fn trapping(&self) -> u64 {
        let bytes = self.believed.as_slice().iter().enumerate();
        let trapping = bytes.filter(|&(at, &byte)| self.is_boundary(at) && is_trap(byte));
        trapping.fold(0, |mask, (at, _)| mask | 0xff << (8 * at))
    }
}

/// The first byte of a word.
const ENTRY: u64 = 0xff;
/// A word of them.
const INT3S: u64 = u64::from_le_bytes([INT3; 8]);

/// A byte of ones for each bit.
fn spread(bits: u8) -> u64 {
    (0..8).filter(|at| bits >> at & 1 != 0).fold(0, |mask, at| mask | 0xff << (8 * at))
}

#[cfg(test)]
mod explorer;
#[cfg(test)]
mod tests;
