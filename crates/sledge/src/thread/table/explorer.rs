//! Follows threads, and who frees, through every interleaving of their steps.
//!
//! What is explored is the code itself: [`make_known`] and [`Grace`] run against a memory that
//! stops them at each access, and a thunk runs as the instructions that were generated for it
//! (`tests` decodes them). A step is one access. Stores to a thread's own block wait in its store
//! buffer, in order, and become visible one by one at any later time (x86-TSO); locked instructions
//! and the barrier empty it. The handler of a signal may come between any two steps, with a hit of
//! its own; a thread may end anywhere, and a new one get its number and its block.
//!
//! Wrong is: a thread in a trampoline whose memory was freed, or used again for another.

use super::*;
use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

pub(super) const PLACES: usize = 3;
const BLOCKS: usize = 2;
/// Trampolines come after each other in this many pieces of memory.
const PIECES: usize = 2;
const FREED: u8 = u8::MAX;

/// What the instructions of a thunk do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    CountIn,
    /// Makes the thread known, if the count in says that it is not.
    IfUnknown,
    ReadCell,
    /// The trampoline runs, begins and ends.
    Run,
    CountOut,
}

/// How this exploration differs from what is shipped: each must be found wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Mistake {
    #[default]
    None,
    NoBarrier,
    CountInIsReadFirst,
    /// Only the first place that a thread tries counts as used.
    UsedIsRaisedOnce,
    /// Freed at once.
    NoGrace,
    /// An entry that is there already is changed by whoever is interrupted while choosing one.
    EntryChanges,
}

/// What is explored.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) thunk: Vec<Step>,
    pub(super) mistake: Mistake,
    /// Threads at the beginning, each on a block of its own.
    pub(super) threads: Vec<Plan>,
    /// Trampolines that are retired and freed, one after the other.
    pub(super) rounds: u8,
    /// Others look at the table at the same time.
    pub(super) others: u8,
}

/// What a thread may do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    pub(super) hits: u8,
    pub(super) signals: u8,
    /// May end at any moment, also in a trampoline; then another thread comes, with its number, its
    /// block, and so many hits.
    pub(super) reborn: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Field {
    Left,
    Entered,
    Entry,
}

/// One step.
#[derive(Clone, Copy, Debug)]
enum Access {
    Own(Field),
    Add(Field),
    Clear,
    Note,
    Used,
    Raise(usize),
    Get(usize),
    Replace(usize, u64, u64),
    Cell,
    Run(u64),
    Look(u64, Field),
    Ended(u64),
}

/// Code that runs until it ends, by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Script {
    Hit,
    Begin,
    Poll(Vec<(u64, u32)>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Frame {
    script: Script,
    /// What its accesses have answered so far.
    log: Vec<u64>,
}

/// How a script goes on.
#[derive(Clone, Debug)]
enum Next {
    Access(Access),
    End(Vec<(u64, u32)>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Thread {
    block: usize,
    ended: bool,
    /// A hit, and hits of handlers that interrupted it.
    frames: Vec<Frame>,
    buffer: VecDeque<(Field, u64)>,
    hits: u8,
    signals: u8,
    reborn: Option<u8>,
}

/// Who retires and frees; or who only looks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reaper {
    /// 0: about to write; then lead, barrier, begin, poll, free.
    at: u8,
    rounds: u8,
    frees: bool,
    frame: Option<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Block {
    left: u32,
    entered: u32,
    entry: u64,
}

const NEW: Block = Block { left: 0, entered: UNKNOWN, entry: 0 };

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    cell: u8,
    pieces: [u8; PIECES],
    table: [u64; PLACES],
    used: usize,
    generation: u64,
    blocks: [Block; BLOCKS],
    threads: Vec<Thread>,
    reapers: Vec<Reaper>,
}

/// A thread ran what was freed.
#[derive(Debug)]
pub(super) struct Wrong;

/// Memory that answers from a log, and stops whoever asks for more.
struct Replay<'a> {
    log: &'a [u64],
    at: Cell<usize>,
    mistake: Mistake,
    raised: Cell<bool>,
    /// The count in, where it is read first by mistake.
    early: Cell<Option<u32>>,
}

impl Replay<'_> {
    fn ask(&self, access: Access) -> u64 {
        let at = self.at.replace(self.at.get() + 1);
        match self.log.get(at) {
            Some(&answer) => answer,
            None => resume_unwind(Box::new(access)),
        }
    }

    fn hit(&self, thunk: &[Step]) {
        let (mut entered, mut target) = (0, 0);
        for step in thunk {
            match step {
                Step::CountIn => entered = self.ask(Access::Add(Field::Entered)),
                Step::IfUnknown if entered as u32 & UNKNOWN != 0 => _ = make_known(&self),
                Step::IfUnknown => {}
                Step::ReadCell => target = self.ask(Access::Cell),
                Step::Run => (0..2).for_each(|_| _ = self.ask(Access::Run(target))),
                Step::CountOut => _ = self.ask(Access::Add(Field::Left)),
            }
        }
    }
}

impl Table for &Replay<'_> {
    fn most(&self) -> usize {
        PLACES
    }

    fn used(&self) -> usize {
        self.ask(Access::Used) as usize
    }

    fn raise_used(&self, to: usize) {
        if self.mistake != Mistake::UsedIsRaisedOnce || !self.raised.replace(true) {
            self.ask(Access::Raise(to));
        }
    }

    fn get(&self, at: usize) -> u64 {
        self.ask(Access::Get(at))
    }

    fn replace(&self, at: usize, from: u64, to: u64) -> bool {
        self.ask(Access::Replace(at, from, to)) != 0
    }
}

impl Itself for &Replay<'_> {
    fn entry(&self) -> u64 {
        self.ask(Access::Own(Field::Entry))
    }

    fn note_entry(&self) {
        self.ask(Access::Note);
    }

    fn note_number(&self) -> bool {
        true
    }

    fn apply_filters(&self) {}

    fn clear_unknown(&self) {
        self.ask(Access::Clear);
    }
}

impl Look for &Replay<'_> {
    fn left(&self, block: u64) -> Option<u32> {
        if self.mistake == Mistake::CountInIsReadFirst {
            self.early.set(Some(self.ask(Access::Look(block, Field::Entered)) as u32));
        }
        Some(self.ask(Access::Look(block, Field::Left)) as u32)
    }

    fn entered(&self, block: u64) -> Option<u32> {
        let early = self.early.take();
        Some(early.unwrap_or_else(|| self.ask(Access::Look(block, Field::Entered)) as u32))
    }

    fn entry(&self, block: u64) -> Option<u64> {
        Some(self.ask(Access::Look(block, Field::Entry)))
    }

    fn has_ended(&self, block: u64) -> bool {
        self.ask(Access::Ended(block)) != 0
    }
}

fn address(block: usize) -> u64 {
    (block as u64 + 1) << 6
}

fn index(address: u64) -> usize {
    (address >> 6) as usize - 1
}

impl Block {
    fn get(&self, field: Field) -> u64 {
        match field {
            Field::Left => self.left.into(),
            Field::Entered => self.entered.into(),
            Field::Entry => self.entry,
        }
    }

    fn set(&mut self, field: Field, value: u64) {
        match field {
            Field::Left => self.left = value as u32,
            Field::Entered => self.entered = value as u32,
            Field::Entry => self.entry = value,
        }
    }
}

/// The search.
pub(super) struct Explorer {
    setting: Setting,
    /// Where each script goes on, by what it has seen: it runs once for each.
    known: HashMap<Frame, Rc<Next>>,
    pub(super) states: usize,
}

impl Explorer {
    pub(super) fn new(setting: Setting) -> Self {
        Self { setting, known: HashMap::new(), states: 0 }
    }

    /// Looks at every state that can be reached.
    pub(super) fn run(&mut self) -> Result<(), Wrong> {
        let mut seen = HashSet::new();
        // Two numbers of 64 bits stand for a state.
        let (one, two) = (std::hash::RandomState::new(), std::hash::RandomState::new());
        let mut open = vec![self.begin()];
        while let Some(state) = open.pop() {
            for next in self.successors(&state)? {
                if seen.insert((one.hash_one(&next), two.hash_one(&next))) {
                    open.push(next);
                }
            }
        }
        self.states = seen.len();
        Ok(())
    }

    fn begin(&self) -> State {
        let thread = |(block, plan): (usize, &Plan)| Thread {
            block,
            ended: false,
            frames: Vec::new(),
            buffer: VecDeque::new(),
            hits: plan.hits,
            signals: plan.signals,
            reborn: plan.reborn,
        };
        let reaper = |frees, rounds| Reaper { at: 0, rounds, frees, frame: None };
        let others = (0..self.setting.others).map(|_| reaper(false, 1));
        State {
            cell: 0,
            pieces: [0, FREED],
            table: [0; PLACES],
            used: 0,
            generation: 0,
            blocks: [NEW; BLOCKS],
            threads: self.setting.threads.iter().enumerate().map(thread).collect(),
            reapers: std::iter::once(reaper(true, self.setting.rounds)).chain(others).collect(),
        }
    }

    fn successors(&mut self, state: &State) -> Result<Vec<State>, Wrong> {
        let mut found = Vec::new();
        for at in 0..state.threads.len() {
            self.steps_of_thread(state, at, &mut found)?;
        }
        for at in 0..state.reapers.len() {
            found.extend(self.step_of_reaper(state, at));
        }
        Ok(found)
    }

    fn steps_of_thread(
        &mut self,
        state: &State,
        at: usize,
        found: &mut Vec<State>,
    ) -> Result<(), Wrong> {
        let thread = &state.threads[at];
        if thread.ended {
            if let Some(hits) = thread.reborn {
                let mut next = state.clone();
                next.blocks[thread.block] = NEW;
                let signals = thread.signals;
                let frames = Vec::new();
                let buffer = VecDeque::new();
                let (block, ended, reborn) = (thread.block, false, None);
                next.threads[at] = Thread { block, ended, frames, buffer, hits, signals, reborn };
                found.push(next);
            }
            return Ok(());
        }
        if !thread.buffer.is_empty() {
            let mut next = state.clone();
            next.flush(at, 1);
            found.push(next);
        }
        if thread.reborn.is_some() {
            let mut next = state.clone();
            next.flush(at, usize::MAX);
            next.threads[at].frames.clear();
            next.threads[at].ended = true;
            found.push(next);
        }
        let interrupted = !thread.frames.is_empty() && thread.signals > 0;
        if interrupted || thread.frames.is_empty() && thread.hits > 0 {
            let mut next = state.clone();
            let thread = &mut next.threads[at];
            *(if interrupted { &mut thread.signals } else { &mut thread.hits }) -= 1;
            thread.frames.push(Frame { script: Script::Hit, log: Vec::new() });
            found.push(next);
        }
        let Some(frame) = thread.frames.last() else { return Ok(()) };
        let mut next = state.clone();
        match *self.next(frame) {
            Next::End(_) => _ = next.threads[at].frames.pop(),
            Next::Access(access) => {
                let answer = next.take(at, access, self.setting.mistake)?;
                next.threads[at].frames.last_mut().expect("one").log.push(answer);
            }
        }
        found.push(next);
        Ok(())
    }

    fn step_of_reaper(&mut self, state: &State, at: usize) -> Option<State> {
        let reaper = &state.reapers[at];
        if reaper.rounds == 0 {
            return None;
        }
        let mut next = state.clone();
        if let Some(frame) = &reaper.frame {
            match &*self.next(frame) {
                Next::Access(access) => {
                    let answer = next.look(*access);
                    next.reapers[at].frame.as_mut().expect("one").log.push(answer);
                }
                Next::End(waiting) => next.reapers[at].polled(waiting.clone()),
            }
            return Some(next);
        }
        let (old, new) = (state.cell, state.cell + 1);
        let mistake = self.setting.mistake;
        let reaper = &mut next.reapers[at];
        reaper.at += 1;
        match reaper.at {
            1 if reaper.frees => next.pieces[usize::from(new) % PIECES] = new,
            2 if reaper.frees => next.cell = new,
            3 if mistake != Mistake::NoBarrier => {
                (0..next.threads.len()).for_each(|thread| next.flush(thread, usize::MAX));
            }
            4 if !reaper.frees || mistake != Mistake::NoGrace => {
                reaper.frame = Some(Frame { script: Script::Begin, log: Vec::new() });
            }
            5 => {
                reaper.at = 0;
                reaper.rounds -= 1;
                if reaper.frees {
                    // The cell was changed in this round.
                    next.pieces[usize::from(old - 1) % PIECES] = FREED;
                }
            }
            _ => {}
        }
        Some(next)
    }

    /// Runs a script as far as its log goes.
    fn next(&mut self, frame: &Frame) -> Rc<Next> {
        if let Some(next) = self.known.get(frame) {
            return Rc::clone(next);
        }
        let replay = Replay {
            log: &frame.log,
            at: Cell::new(0),
            mistake: self.setting.mistake,
            raised: Cell::new(false),
            early: Cell::new(None),
        };
        let run = || match &frame.script {
            Script::Hit => {
                replay.hit(&self.setting.thunk);
                Vec::new()
            }
            Script::Begin => Grace::begin(&replay, &replay).waiting(),
            Script::Poll(waiting) => {
                let (table, blocks, waiting) = (&replay, &replay, waiting.clone());
                let mut grace = Grace { table, blocks, waiting };
                grace.poll();
                grace.waiting()
            }
        };
        let next = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(waiting) => Next::End(waiting),
            Err(stopped) => match stopped.downcast::<Access>() {
                Ok(access) => Next::Access(*access),
                Err(panic) => resume_unwind(panic),
            },
        };
        let next = Rc::new(next);
        self.known.insert(frame.clone(), Rc::clone(&next));
        next
    }
}

impl Reaper {
    /// Looks again until nobody is left.
    fn polled(&mut self, waiting: Vec<(u64, u32)>) {
        let script = Script::Poll(waiting.clone());
        self.frame = (!waiting.is_empty()).then(|| Frame { script, log: Vec::new() });
    }
}

impl State {
    /// The oldest stores of a thread become visible.
    fn flush(&mut self, thread: usize, most: usize) {
        let Thread { block, buffer, .. } = &mut self.threads[thread];
        for (field, value) in buffer.drain(..most.min(buffer.len())) {
            self.blocks[*block].set(field, value);
        }
    }

    /// The field of its own block, as a thread sees it.
    fn own(&self, thread: usize, field: Field) -> u64 {
        let Thread { block, buffer, .. } = &self.threads[thread];
        let newest = buffer.iter().rev().find(|store| store.0 == field);
        newest.map_or_else(|| self.blocks[*block].get(field), |store| store.1)
    }

    fn store(&mut self, thread: usize, field: Field, value: u64) {
        self.threads[thread].buffer.push_back((field, value));
    }

    /// A step of a thread.
    fn take(&mut self, thread: usize, access: Access, mistake: Mistake) -> Result<u64, Wrong> {
        match access {
            Access::Own(field) => return Ok(self.own(thread, field)),
            Access::Add(field) => {
                let value = u64::from((self.own(thread, field) as u32).wrapping_add(1));
                self.store(thread, field, value);
                return Ok(value);
            }
            Access::Clear => {
                let value = self.own(thread, Field::Entered) & u64::from(!UNKNOWN);
                self.store(thread, Field::Entered, value);
                return Ok(0);
            }
            Access::Cell => return Ok(self.cell.into()),
            Access::Run(target) => {
                let there = self.pieces[target as usize % PIECES];
                return if u64::from(there) == target { Ok(0) } else { Err(Wrong) };
            }
            Access::Note | Access::Raise(_) | Access::Replace(..) => {
                // Locked instructions.
                self.flush(thread, usize::MAX);
            }
            _ => {}
        }
        if let Access::Note = access {
            let block = self.threads[thread].block;
            self.generation += 1;
            if self.blocks[block].entry == 0 || mistake == Mistake::EntryChanges {
                self.blocks[block].entry = entry(address(block), self.generation);
            }
            return Ok(0);
        }
        Ok(self.look(access))
    }

    /// A step that does not depend on who takes it.
    fn look(&mut self, access: Access) -> u64 {
        match access {
            Access::Used => self.used as u64,
            Access::Raise(to) => {
                self.used = self.used.max(to);
                0
            }
            Access::Get(at) => self.table[at],
            Access::Replace(at, from, to) => {
                let is_as_thought = self.table[at] == from;
                if is_as_thought {
                    self.table[at] = to;
                }
                is_as_thought.into()
            }
            Access::Look(block, field) => self.blocks[index(block)].get(field),
            Access::Ended(block) => {
                let on_it = |thread: &&Thread| thread.block == index(block);
                self.threads.iter().find(on_it).is_none_or(|thread| thread.ended).into()
            }
            _ => unreachable!("a step of a thread: {access:?}"),
        }
    }
}
