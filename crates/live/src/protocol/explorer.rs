//! Follows one thread through every interleaving with a sequence of writes and barriers.
//!
//! The thread stands on an old instruction boundary. Since the last barrier it may have seen any
//! of the bytes written after it, and none of them need be seen together: each fetch takes each
//! such byte new or old. It then runs an original instruction that is whole, or traps where the
//! handler knows the address, or takes the whole jump; anything else is silently wrong.

use crate::memory::array::Event;
use crate::patch::is_trap;
use std::collections::{BTreeMap, BTreeSet};

/// The code as the program has it, and as it is when armed.
pub(crate) struct Code<'a> {
    pub(crate) original: &'a [u8],
    /// The jump; empty where there is none.
    pub(crate) jump: &'a [u8],
    /// Where original instructions start, from 0 on.
    pub(crate) starts: &'a [usize],
}

/// What a thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Runs the original instruction here, and stands on the next.
    Original,
    /// Traps, and goes on in the copy or the island.
    Rescued,
    /// Takes the whole jump.
    Jumped,
}

/// A thread that ran what nobody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) after_events: usize,
    pub(crate) position: usize,
    pub(crate) saw: Vec<u8>,
}

/// Explores all runs of all threads that stand somewhere at the start or come in at any time.
/// Answers the outcomes that were seen, by position.
pub(crate) fn explore(
    code: &Code<'_>,
    start: &[u8],
    events: &[Event],
) -> Result<BTreeMap<usize, BTreeSet<Outcome>>, Wrong> {
    let mut settled = start.to_vec();
    let mut written: Vec<(usize, u8)> = Vec::new();
    // Threads may stand anywhere from the start: contexts saved long ago do.
    let mut seen: BTreeMap<usize, BTreeSet<Outcome>> = BTreeMap::new();
    for done in 0..=events.len() {
        for &position in code.starts {
            let wrong = |saw| Wrong { after_events: done, position, saw };
            let outcomes = fetches(code, position, &settled, &written).map_err(wrong)?;
            seen.entry(position).or_default().extend(outcomes);
        }
        match events.get(done) {
            Some(&Event::Write(at, byte)) => written.push((at, byte)),
            Some(Event::Sync) => written.drain(..).for_each(|(at, byte)| settled[at] = byte),
            None => {}
        }
    }
    Ok(seen)
}

/// Everything that a fetch may see while these writes are under way: each byte as it was at the
/// last barrier, or as any write since has left it.
fn fetches(
    code: &Code<'_>,
    position: usize,
    settled: &[u8],
    written: &[(usize, u8)],
) -> Result<BTreeSet<Outcome>, Vec<u8>> {
    let mut views = vec![Vec::new()];
    for (at, &old) in settled.iter().enumerate() {
        let mut values = BTreeSet::from([old]);
        values.extend(written.iter().filter(|write| write.0 == at).map(|write| write.1));
        views = views
            .into_iter()
            .flat_map(|view: Vec<u8>| {
                values.iter().map(move |&value| [view.as_slice(), &[value]].concat())
            })
            .collect();
    }
    views.into_iter().map(|view| execute(code, position, &view).ok_or(view)).collect()
}

fn execute(code: &Code<'_>, position: usize, view: &[u8]) -> Option<Outcome> {
    let next = code.starts.iter().copied().find(|&start| start > position);
    let instruction = position..next.unwrap_or(code.original.len());
    if view[instruction.clone()] == code.original[instruction] {
        return Some(Outcome::Original);
    }
    if position == 0 && !code.jump.is_empty() && view.starts_with(code.jump) {
        return Some(Outcome::Jumped);
    }
    is_trap(view[position]).then_some(Outcome::Rescued)
}
