//! One thread's way through its part of the file.

use std::collections::VecDeque;
use std::convert::Infallible;

use crate::chunk::{ChunkReader, Head, OpenCall};
use crate::error::{Damage, Flaw, ReadError};
use crate::event::{Event, EventKind, FunctionId, Nanos, Op, Step, ThreadId, Ticks};
use crate::file::BlockError;
use crate::index::ChunkPlace;
use crate::load::{LostTicks, Strand, thread_at};
use crate::opening::Call;
use crate::reader::Trace;
use crate::stacks::Stacks;

/// Steps that are read in one go.
const BATCH: usize = 256;

/// Where in a thread's life its lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Alive,
    Over,
}

/// Makes events of a thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Teller {
    thread: ThreadId,
    latest: Nanos,
}

impl Teller {
    #[inline(always)]
    pub(crate) fn event(self, at: Nanos, kind: EventKind) -> Event {
        Event { at: at.min(self.latest), thread: self.thread, kind }
    }
}

/// Reads one thread, in time order, with one chunk in memory.
#[derive(Debug)]
pub(crate) struct Lane<'t> {
    pub(crate) trace: &'t Trace,
    pub(crate) teller: Teller,
    strand: &'t Strand,
    phase: Phase,
    reader: ChunkReader,
    /// The chunk being read, and how many of its steps are still to come.
    chunk: Option<(ChunkPlace, u32)>,
    next_chunk: usize,
    next_loss: usize,
    /// Steps read but not done yet, from `next_step` on.
    steps: Vec<Step>,
    /// What is to be told before all else.
    told: VecDeque<(Ticks, EventKind)>,
    next_step: usize,
    /// What is wrong with the chunk behind these steps.
    flaw: Option<Flaw>,
    /// Steps that could not be read.
    hole: Option<LostTicks>,
    pub(crate) stacks: Stacks<Call>,
    pub(crate) hint: usize,
    /// The time of what was told last: nothing told after it is earlier, whatever a file says.
    now: Ticks,
    end: Ticks,
}

/// Room for stored blocks, shared by all lanes.
pub(crate) type Room = Vec<u8>;

impl<'t> Lane<'t> {
    /// At the beginning of the thread with this number; it is over at `end`, and nothing of it is
    /// said to be later than `latest`.
    pub(crate) fn new(
        trace: &'t Trace,
        number: usize,
        strand: &'t Strand,
        (end, latest): (Ticks, Nanos),
    ) -> Self {
        Self {
            trace,
            teller: Teller { thread: thread_at(number), latest },
            strand,
            phase: Phase::Before,
            reader: ChunkReader::default(),
            chunk: None,
            next_chunk: 0,
            next_loss: 0,
            steps: Vec::new(),
            told: VecDeque::new(),
            next_step: 0,
            flaw: None,
            hole: None,
            stacks: Stacks::default(),
            hint: 0,
            now: Ticks(0),
            end,
        }
    }

    /// Gives back the memory of a lane that is over.
    pub(crate) fn release(&mut self) {
        self.reader = ChunkReader::default();
        self.steps = Vec::new();
        self.stacks = Stacks::default();
    }

    #[inline(always)]
    pub(crate) fn nanos(&mut self, ticks: Ticks) -> Nanos {
        self.trace.loaded.clock.nanos(ticks, &mut self.hint)
    }

    /// When the next thing happens; `None` after the end.
    pub(crate) fn next_time(&self) -> Option<Ticks> {
        if let Some(&(at, _)) = self.told.front() {
            return Some(at);
        }
        match self.phase {
            Phase::Before => Some(self.strand.first().min(self.end)),
            Phase::Alive => Some(self.next_inside().map_or(self.end, |at| at.min(self.end))),
            Phase::Over => None,
        }
    }

    fn next_inside(&self) -> Option<Ticks> {
        let chunk = match (self.hole, self.step()) {
            (Some(hole), _) => Some(hole.until),
            (None, Some(step)) => Some(step.at),
            (None, None) => self.strand.chunks.get(self.next_chunk).map(|chunk| chunk.first),
        };
        let loss = self.strand.losses.get(self.next_loss).map(|loss| loss.until);
        let next = match (chunk, loss) {
            (Some(chunk), Some(loss)) => Some(chunk.min(loss)),
            (chunk, loss) => chunk.or(loss),
        };
        next.map(|at| at.max(self.now))
    }

    /// Goes on while things happen at `until` or before, telling each to `emit`. `closed` says
    /// that what lies exactly at the end belongs to it no more.
    pub(crate) fn run<E: From<ReadError>>(
        &mut self,
        until: Ticks,
        closed: bool,
        room: &mut Room,
        emit: &mut impl FnMut(&Event) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(&(at, kind)) = self.told.front() {
            if at > until {
                return Ok(());
            }
            self.told.pop_front();
            self.now = at;
            let at = self.nanos(at);
            emit(&self.teller.event(at, kind))?;
        }
        if self.phase == Phase::Before {
            let at = self.next_time().unwrap_or(self.end);
            if at > until {
                return Ok(());
            }
            self.phase = Phase::Alive;
            self.now = at;
            let at = self.nanos(at);
            emit(&self.teller.event(at, EventKind::ThreadStart))?;
        }
        while self.phase == Phase::Alive {
            match self.next_inside().filter(|&at| at < self.end || at == self.end && !closed) {
                Some(at) if at <= until => self.advance(at, until, room, emit)?,
                Some(_) => break,
                None if self.end <= until => {
                    self.phase = Phase::Over;
                    let open = self.stacks.open() as u32;
                    let end = self.nanos(self.end);
                    emit(&self.teller.event(end, EventKind::ThreadEnd { open }))?;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Does what comes next, at `at`.
    fn advance<E: From<ReadError>>(
        &mut self,
        at: Ticks,
        until: Ticks,
        room: &mut Room,
        emit: &mut impl FnMut(&Event) -> Result<(), E>,
    ) -> Result<(), E> {
        self.now = at;
        let loss = self.strand.losses.get(self.next_loss).filter(|loss| loss.until <= at).copied();
        if let Some(loss) = loss {
            self.next_loss += 1;
            return self.tell_loss(loss, emit);
        }
        if let Some(hole) = self.hole.take() {
            return self.tell_loss(hole, emit);
        }
        if self.step().is_none() {
            if let Some(opening) = self.load(room)? {
                self.reconcile(&opening, at, emit)?;
                self.read_steps();
            }
            return Ok(());
        }
        let next_loss =
            self.strand.losses.get(self.next_loss).map_or(u64::MAX, |loss| loss.until.0);
        // Up to here nothing but steps can come.
        let before = next_loss.min(self.end.0).saturating_sub(1);
        let until = until.min(Ticks(before).max(at));
        while let Some(step) = self.step().filter(|step| step.at.max(at) <= until) {
            self.now = step.at.max(self.now);
            let now = self.nanos(self.now);
            self.apply(step.op, now, emit)?;
            self.next_step();
        }
        Ok(())
    }

    fn tell_loss<E>(
        &mut self,
        loss: LostTicks,
        emit: &mut impl FnMut(&Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let since = self.nanos(loss.since.min(self.now));
        let now = self.nanos(self.now);
        emit(&self.teller.event(now, EventKind::Lost { count: loss.count, since }))
    }

    /// The next step of the chunk, if it has one.
    #[inline]
    fn step(&self) -> Option<Step> {
        self.steps.get(self.next_step).copied()
    }

    /// Goes on to the step after it.
    #[inline]
    fn next_step(&mut self) {
        self.next_step += 1;
        if self.next_step >= self.steps.len() {
            self.read_steps();
        }
    }

    /// Reads some more steps of the chunk; where they are flawed, what is left becomes a hole.
    fn read_steps(&mut self) {
        self.steps.clear();
        self.next_step = 0;
        let functions = self.trace.loaded.directory.functions.len();
        if self.flaw.is_none() {
            self.flaw = self.reader.fill(&mut self.steps, BATCH, functions).err();
        }
        if let Some((_, left)) = &mut self.chunk {
            *left = left.saturating_sub(self.steps.len() as u32);
        }
        if self.steps.is_empty()
            && let Some(flaw) = self.flaw.take()
        {
            self.reader = ChunkReader::default();
            if let Some((place, left)) = self.chunk {
                self.skip(place, u64::from(left), flaw);
            }
        }
    }

    /// Notes that what is left of a chunk cannot be read.
    fn skip(&mut self, place: ChunkPlace, count: u64, flaw: Flaw) {
        let header = self.trace.source.header(place.offset);
        let length = header.map_or(0, |header| header.block_bytes());
        self.trace.note(Damage { offset: place.offset, length, flaw });
        self.hole = Some(LostTicks { since: place.first, until: place.last, count });
    }

    /// Loads the next chunk and says which calls are open at its beginning. A damaged one leaves
    /// a hole instead.
    fn load(&mut self, room: &mut Room) -> Result<Option<Stacks<OpenCall>>, ReadError> {
        let Some(&place) = self.strand.chunks.get(self.next_chunk) else { return Ok(None) };
        self.next_chunk += 1;
        self.steps.clear();
        (self.next_step, self.flaw) = (0, None);
        match self.open(place, room) {
            Ok(opening) => {
                self.chunk = Some((place, place.count));
                Ok(Some(opening))
            }
            Err(BlockError::Unreadable(error)) => Err(error),
            Err(BlockError::Flawed(flaw)) => {
                self.reader = ChunkReader::default();
                self.skip(place, u64::from(place.count), flaw);
                Ok(None)
            }
        }
    }

    fn open(&mut self, place: ChunkPlace, room: &mut Room) -> Result<Stacks<OpenCall>, BlockError> {
        let kind = crate::block::Kind::Steps;
        let content = self.reader.content_mut();
        let head = self.trace.source.block(kind, place.offset, room, content)?;
        let head = Head::decode(head).ok_or(Flaw::BadContent)?;
        let expected = (place.thread, place.first, place.last, place.count);
        if (head.thread, head.first, head.last, head.count) != expected {
            return Err(Flaw::BadContent.into());
        }
        let opening = self.reader.begin(&head).ok_or(Flaw::BadContent)?;
        let functions = self.trace.loaded.directory.functions.len();
        let mut calls = opening.all().iter().flat_map(|stack| &stack.calls);
        if calls.any(|call| call.function.0 as usize >= functions) {
            return Err(Flaw::Undefined.into());
        }
        Ok(opening)
    }

    /// Does a step and tells it, if it makes sense.
    // Events are built where they are told: copies of what was just written make the processor wait.
    #[inline(always)]
    fn apply<E>(
        &mut self,
        op: Op,
        at: Nanos,
        emit: &mut impl FnMut(&Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let teller = self.teller;
        match op {
            Op::Enter(function) => {
                let depth = self.stacks.enter(Call { function, entered: self.now, nanos: at });
                emit(&teller.event(at, EventKind::Enter { function, depth }))
            }
            Op::Leave(ending) => {
                let Some((call, depth)) = self.stacks.leave() else { return Ok(()) };
                let (function, entered) = (call.function, call.nanos);
                emit(&teller.event(at, EventKind::Exit { function, depth, entered, ending }))
            }
            Op::Switch(stack) if self.stacks.switch(stack) => {
                emit(&teller.event(at, EventKind::Switch { stack }))
            }
            Op::Switch(_) => Ok(()),
        }
    }

    /// Goes to the time `from`: of what comes before, only what is open then will be told. Where the
    /// beginning of the recording was not kept, the same holds for the beginning of the thread's
    /// first chunk.
    pub(crate) fn seek(&mut self, from: Ticks, room: &mut Room) -> Result<(), ReadError> {
        let first = self.strand.first();
        let part = self.trace.loaded.since > Ticks(0) && !self.strand.chunks.is_empty();
        if first >= from && !part {
            return Ok(());
        }
        self.phase = Phase::Alive;
        self.next_loss = self.strand.losses.partition_point(|loss| loss.until < from);
        let after = self.strand.chunks.partition_point(|chunk| chunk.first < from);
        self.next_chunk = after.saturating_sub(1);
        if after > 0 {
            self.skim(from, room)?;
        } else if part {
            self.peek(room)?;
        }
        let mut told = vec![(first.min(self.end), EventKind::ThreadStart)];
        self.tell_open(&mut told);
        let mut last = Ticks(0);
        for (at, _) in &mut told {
            // Whatever a file says, nothing goes back in time.
            *at = last.max(*at);
            last = *at;
        }
        self.told = told.into();
        self.now = Ticks(0);
        Ok(())
    }

    /// Takes over what is open at the beginning of the first chunk.
    fn peek(&mut self, room: &mut Room) -> Result<(), ReadError> {
        if let Some(opening) = self.load(room)? {
            self.adopt(&opening.open_before(self.end));
        }
        self.reader = ChunkReader::default();
        (self.next_chunk, self.chunk, self.hole) = (0, None, None);
        Ok(())
    }

    /// Reads the next chunk up to `from`, quietly.
    fn skim(&mut self, from: Ticks, room: &mut Room) -> Result<(), ReadError> {
        if let Some(opening) = self.load(room)? {
            self.adopt(&opening);
            self.read_steps();
            while let Some(step) = self.step().filter(|step| step.at < from) {
                self.now = step.at;
                let now = self.nanos(step.at);
                let Ok(()) = self.apply(step.op, now, &mut |_| Ok::<(), Infallible>(()));
                self.next_step();
            }
        }
        self.hole = self.hole.filter(|hole| hole.until >= from);
        Ok(())
    }

    /// The calls open after the thread's last readable chunk.
    pub(crate) fn still_open(&mut self, room: &mut Room) -> Result<Vec<FunctionId>, ReadError> {
        for chunk in (0..self.strand.chunks.len()).rev() {
            self.next_chunk = chunk;
            self.hole = None;
            self.skim(Ticks(u64::MAX), room)?;
            if let Some(step) = self.step() {
                let now = self.nanos(step.at);
                let Ok(()) = self.apply(step.op, now, &mut |_| Ok::<(), Infallible>(()));
            }
            if self.chunk.is_some() {
                break;
            }
        }
        Ok(self.open_calls().into_iter().map(|(_, _, call)| call.function).collect())
    }
}
