//! Generate and place what functions need whose returns are hooked: a cell of its own for each, in
//! one range, so that a return address in it tells a call by a jump. Mapped when the first is asked
//! for; all of it stays for ever.

use crate::code::{self, Use, Window};
use crate::frames::Frames;
use crate::thread::Offsets;
use crate::{exits, objects};
use sledge_engine::dispatch::{
    HOOKED_BYTES, HOOKED_ENTRY, HookedGate, Leaving, Preserve, hooked_cell, hooked_frames,
    hooked_phases, leave_trampoline,
};
use std::io;
use std::ops::Range;

/// Bytes of code: the most hooked functions there can be.
const CELLS: u64 = 64 << 20;
/// Bytes of words behind it: two for each cell, and those that all share.
const WORDS: u64 = CELLS / HOOKED_BYTES * 16 + code::PAGE;

/// The range of hooked cells.
#[derive(Debug)]
pub(crate) struct Hooks {
    /// What is free of the code.
    free: Range<u64>,
    /// What is free of the words.
    words: Range<u64>,
    leave: u64,
    first: u64,
    leaving: Option<Range<u64>>,
    preserve: Option<Preserve>,
    offsets: Offsets,
}

/// Where returns go, with this saved.
pub(crate) fn leaving(place: u64, preserve: Preserve) -> Vec<u8> {
    leave_trampoline(place, &Leaving { leave: exits::leave as *const () as u64, preserve })
}

/// What a site got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hooked {
    /// Where the patched site is to lead.
    pub(crate) entry: u64,
    /// Holds the address of the trampoline.
    pub(crate) cell: u64,
    /// Holds the address where the function runs.
    pub(crate) body: u64,
}

impl Hooks {
    /// Maps the range. `first` is the address of what makes a thread known.
    ///
    /// # Errors
    /// When there is no address space.
    pub(crate) fn new(first: u64, offsets: Offsets, frames: &mut Frames) -> io::Result<Self> {
        let start = objects::space()?.near(&(first..first + 1), CELLS + WORDS);
        let start = start.ok_or(io::ErrorKind::OutOfMemory)?;
        let (code, words) = (start..start + CELLS, start + CELLS..start + CELLS + WORDS);
        code::map(&code, Use::Code)?;
        code::map(&words, Use::Cells)?;
        let slots = exits::prepare(code.clone())?;
        let phases = Box::leak(Box::new(hooked_phases())).as_ptr().addr() as u64;
        frames.add(hooked_frames(&code, phases, slots));
        code::store(words.start + 8, first);
        let (leave, known) = (words.start, words.start + 8);
        let words = words.start + 16..words.end;
        Ok(Self { free: code, words, leave, first: known, leaving: None, preserve: None, offsets })
    }

    /// Where returns go now.
    pub(crate) fn leaving(&self) -> Option<Range<u64>> {
        self.leaving.clone()
    }

    /// What returns must save for one more client, if that is more than before.
    pub(crate) fn must_save(&self, preserve: Preserve) -> Option<Preserve> {
        let all = self.preserve.map_or(preserve, |before| before.and(preserve));
        Some(all).filter(|_| self.preserve != Some(all))
    }

    /// Lets returns go there from now on; returns where they went before.
    pub(crate) fn set_leaving(
        &mut self,
        preserve: Preserve,
        code: Range<u64>,
    ) -> Option<Range<u64>> {
        self.preserve = Some(preserve);
        code::store(self.leave, code.start);
        self.leaving.replace(code)
    }

    /// Makes cells for functions, of which each has its body there. Until they are told otherwise,
    /// they call `target`.
    ///
    /// # Errors
    /// When too many are in use, or they cannot be written.
    pub(crate) fn place(
        &mut self,
        functions: &[(u64, u64)],
        target: u64,
    ) -> io::Result<Vec<Hooked>> {
        let start = self.free.start;
        let end = start + functions.len() as u64 * HOOKED_BYTES;
        if end > self.free.end {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let window = Window::open(&(start..end))?;
        let all = functions.iter().map(|&(function, body)| {
            let (place, words) = (self.free.start, self.words.start);
            let gate = HookedGate {
                trampoline: words,
                body: words + 8,
                leave: self.leave,
                first: self.first,
                entered: self.offsets.entered,
                left: self.offsets.left,
            };
            code::store(gate.trampoline, target);
            code::store(gate.body, body);
            window.write(place, &hooked_cell(place, &gate, function));
            self.free.start += HOOKED_BYTES;
            self.words.start += 16;
            Hooked { entry: place + HOOKED_ENTRY, cell: gate.trampoline, body: gate.body }
        });
        Ok(all.collect())
    }
}
