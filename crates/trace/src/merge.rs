//! All threads' events in one order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::error::{ReadError, ReplayError};
use crate::event::{Event, FunctionId, Nanos, Sink, ThreadId, Ticks};
use crate::lane::{Lane, Room};
use crate::load::{Strand, thread_at};
use crate::reader::{Selection, Trace};

/// When a thread was over: when it ended, or with the trace, but not before its last event.
pub(crate) fn end_of(strand: &Strand, last: Ticks) -> Ticks {
    strand.last_event().max(strand.ended.unwrap_or(last))
}

/// Keeps reading errors and the sink's apart until both are known.
enum Stop<E> {
    Read(ReadError),
    Sink(E),
}

impl<E> From<ReadError> for Stop<E> {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl<E> From<Stop<E>> for ReplayError<E> {
    fn from(stop: Stop<E>) -> Self {
        match stop {
            Stop::Read(error) => Self::Read(error),
            Stop::Sink(error) => Self::Sink(error),
        }
    }
}

/// The range asked for, in ticks.
struct Window {
    from: Ticks,
    /// Exclusive; `None` for all there is.
    to: Option<Ticks>,
    /// No event is said to be later.
    latest: Nanos,
}

impl Window {
    fn new(trace: &Trace, selection: &Selection) -> Self {
        let Some(range) = &selection.range else {
            return Self { from: Ticks(0), to: None, latest: Nanos(u64::MAX) };
        };
        let clock = &trace.loaded.clock;
        let (from, to) = (clock.ticks(range.start), clock.ticks(range.end));
        Self { from, to: Some(to), latest: range.end }
    }

    /// The lane of a thread that lives within the window, and whether the window closes it.
    fn lane<'t>(&self, trace: &'t Trace, number: usize) -> Option<(Lane<'t>, bool)> {
        let strand = &trace.loaded.strands[number];
        let end = end_of(strand, trace.loaded.last);
        if end < self.from || self.to.is_some_and(|to| strand.first() >= to) {
            return None;
        }
        let closed = self.to.is_some_and(|to| to <= end);
        let end = self.to.map_or(end, |to| to.min(end));
        Some((Lane::new(trace, number, strand, (end, self.latest)), closed))
    }
}

/// Gives the events that are selected to `sink`.
pub(crate) fn events<S: Sink>(
    trace: &Trace,
    selection: &Selection,
    sink: &mut S,
) -> Result<(), ReplayError<S::Error>> {
    let window = Window::new(trace, selection);
    let mut room = Room::new();
    let mut lanes = Vec::new();
    let threads = 0..trace.loaded.strands.len();
    for number in threads.filter(|&number| selection.has(thread_at(number))) {
        let Some((mut lane, closed)) = window.lane(trace, number) else { continue };
        lane.seek(window.from, &mut room)?;
        lanes.push((lane, closed));
    }
    let directory = &trace.loaded.directory;
    let mut tell = |event: &Event| sink.event(directory, event).map_err(Stop::Sink);
    Ok(merge(lanes, &mut room, &mut tell)?)
}

fn merge<E>(
    mut lanes: Vec<(Lane<'_>, bool)>,
    room: &mut Room,
    tell: &mut impl FnMut(&Event) -> Result<(), Stop<E>>,
) -> Result<(), Stop<E>> {
    let next = |(number, (lane, _)): (usize, &(Lane<'_>, bool))| {
        lane.next_time().map(|at| Reverse((at, number)))
    };
    let mut queue: BinaryHeap<_> = lanes.iter().enumerate().filter_map(next).collect();
    while let Some(Reverse((_, number))) = queue.pop() {
        let until = match queue.peek() {
            None => Ticks(u64::MAX),
            Some(&Reverse((at, other))) if other > number => at,
            // Ties go to the lane with the lower number.
            Some(&Reverse((Ticks(at), _))) => Ticks(at.saturating_sub(1)),
        };
        let (lane, closed) = &mut lanes[number];
        let until = until.max(lane.next_time().unwrap_or(until));
        lane.run(until, *closed, room, tell)?;
        match lane.next_time() {
            Some(at) => queue.push(Reverse((at, number))),
            None => lane.release(),
        }
    }
    Ok(())
}

/// The calls of a thread that never ended; none where nothing of it can be read.
pub(crate) fn still_open(trace: &Trace, thread: ThreadId) -> Vec<FunctionId> {
    let number = thread.0 as usize;
    let Some(strand) = trace.loaded.strands.get(number) else { return Vec::new() };
    let mut lane = Lane::new(trace, number, strand, (Ticks(u64::MAX), Nanos(u64::MAX)));
    lane.still_open(&mut Room::new()).unwrap_or_default()
}
