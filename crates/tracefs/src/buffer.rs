//! The trace buffer of an instance: one bounded lane for each thread.
//!
//! Where the kernel has a buffer for each CPU, a tree has one for each thread that lives: graphs
//! stay readable when threads move, and nobody reads more than one thread's order out of them. A
//! thread's lane goes to another when it has ended; its entries stay.

use crate::entry::Entry;
use std::collections::VecDeque;

/// What a lane can hold before anybody changed it.
pub(crate) const DEFAULT_KB: usize = 1408;

/// One lane.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// What it may hold.
    pub(crate) kilobytes: usize,
    /// Entries that were overwritten.
    pub(crate) overrun: u64,
    /// Entries that found no room, where none may be overwritten.
    pub(crate) dropped: u64,
    /// Entries that were read by consuming readers.
    pub(crate) read: u64,
    /// Lost since a consuming reader was here.
    lost: u64,
}

impl Lane {
    fn new(kilobytes: usize) -> Self {
        let entries = VecDeque::new();
        Self { entries, bytes: 0, kilobytes, overrun: 0, dropped: 0, read: 0, lost: 0 }
    }

    fn push(&mut self, entry: Entry, overwrite: bool) {
        let bytes = entry.bytes();
        let room = self.kilobytes * 1024;
        if !overwrite && self.bytes + bytes > room {
            self.dropped += 1;
            self.lost += 1;
            return;
        }
        self.bytes += bytes;
        self.entries.push_back(entry);
        self.shrink(room);
    }

    fn shrink(&mut self, room: usize) {
        while self.bytes > room && self.entries.len() > 1 {
            if let Some(old) = self.entries.pop_front() {
                self.bytes -= old.bytes();
                self.overrun += 1;
                self.lost += 1;
            }
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes();
        self.read += 1;
        Some(entry)
    }

    fn clear(&mut self) {
        *self = Self::new(self.kilobytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.time)
    }
}

/// All lanes of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    lanes: Vec<Lane>,
    kilobytes: usize,
}

/// An entry with the lane it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) lane: usize,
    pub(crate) entry: Entry,
    /// Entries that were lost just before this one.
    pub(crate) lost: u64,
}

impl Buffers {
    pub(crate) fn new(kilobytes: usize) -> Self {
        Self { lanes: vec![Lane::new(kilobytes)], kilobytes }
    }

    /// Empty ones of the same sizes.
    pub(crate) fn like(other: &Self) -> Self {
        let lanes = other.lanes.iter().map(|lane| Lane::new(lane.kilobytes)).collect();
        Self { lanes, kilobytes: other.kilobytes }
    }

    pub(crate) fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// There are at least so many lanes.
    pub(crate) fn reserve(&mut self, lanes: usize) {
        let kilobytes = self.kilobytes;
        while self.lanes.len() < lanes {
            self.lanes.push(Lane::new(kilobytes));
        }
    }

    pub(crate) fn push(&mut self, lane: usize, entry: Entry, overwrite: bool) {
        self.reserve(lane + 1);
        self.lanes[lane].push(entry, overwrite);
    }

    /// Changes what all lanes, or one of them, may hold.
    pub(crate) fn resize(&mut self, lane: Option<usize>, kilobytes: usize) {
        if lane.is_none() {
            self.kilobytes = kilobytes;
        }
        for (_, it) in self.chosen(lane) {
            it.kilobytes = kilobytes;
            it.shrink(kilobytes * 1024);
        }
    }

    pub(crate) fn clear(&mut self, lane: Option<usize>) {
        self.chosen(lane).for_each(|(_, lane)| lane.clear());
    }

    fn chosen(&mut self, lane: Option<usize>) -> impl Iterator<Item = (usize, &mut Lane)> {
        let wanted = move |at: usize| lane.is_none_or(|lane| lane == at);
        self.lanes.iter_mut().enumerate().filter(move |(at, _)| wanted(*at))
    }

    pub(crate) fn is_empty(&self, lane: Option<usize>) -> bool {
        match lane {
            Some(lane) => self.lanes.get(lane).is_none_or(|lane| lane.entries.is_empty()),
            None => self.lanes.iter().all(|lane| lane.entries.is_empty()),
        }
    }

    /// All entries of all lanes, or of one, in order of time.
    pub(crate) fn merged(&self, lane: Option<usize>) -> Vec<Placed> {
        let mut all: Vec<Placed> = Vec::new();
        for (at, it) in self.lanes.iter().enumerate() {
            if lane.is_some_and(|lane| lane != at) {
                continue;
            }
            let placed = |entry: &Entry| Placed { lane: at, entry: entry.clone(), lost: 0 };
            all.extend(it.entries.iter().map(placed));
        }
        all.sort_by_key(|placed| placed.entry.time);
        all
    }

    /// Takes out the earliest entries, at most so many.
    pub(crate) fn consume(&mut self, lane: Option<usize>, most: usize) -> Vec<Placed> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let candidates = self.chosen(lane);
            let timed = candidates.filter_map(|(at, lane)| Some((lane.oldest()?, at)));
            let Some((_, at)) = timed.min() else { break };
            let lost = std::mem::take(&mut self.lanes[at].lost);
            let Some(entry) = self.lanes[at].pop() else { break };
            taken.push(Placed { lane: at, entry, lost });
        }
        taken
    }

    /// Kilobytes of all lanes together.
    pub(crate) fn total_kilobytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.kilobytes).sum()
    }

    /// Kilobytes of each lane; `None` where they differ.
    pub(crate) fn kilobytes(&self, lane: Option<usize>) -> Option<usize> {
        match lane {
            Some(lane) => self.lanes.get(lane).map(|lane| lane.kilobytes),
            None => {
                let same = self.lanes.iter().all(|lane| lane.kilobytes == self.kilobytes);
                same.then_some(self.kilobytes)
            }
        }
    }

    /// Entries that are there, and entries that were ever written.
    pub(crate) fn totals(&self, lane: Option<usize>) -> (u64, u64) {
        let wanted = |at: usize| lane.is_none_or(|lane| lane == at);
        let lanes = self.lanes.iter().enumerate().filter(|(at, _)| wanted(*at));
        lanes.fold((0, 0), |(there, written), (_, lane)| {
            let entries = lane.len() as u64;
            (there + entries, written + entries + lane.overrun)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Content, Who};
    use crate::functions::FunctionId;
    use crate::tracee::ThreadId;

    fn entry(time: u64) -> Entry {
        let what = Content::Function { function: FunctionId(0), parent: 0 };
        Entry { time, who: Who::Thread(ThreadId(0)), what }
    }

    #[test]
    fn a_lane_is_bounded_and_counts_what_it_overwrites() {
        let mut buffers = Buffers::new(4);
        (0..1000).for_each(|time| buffers.push(0, entry(time), true));
        let (there, written) = buffers.totals(None);
        assert!(there * 28 <= 4096 && there > 100);
        assert_eq!(written, 1000);
        let first = &buffers.consume(None, 1)[0];
        assert_eq!((first.entry.time, first.lost), (1000 - there, 1000 - there));
        assert_eq!(buffers.consume(None, 1)[0].lost, 0);
    }

    #[test]
    fn without_overwrite_the_oldest_stay() {
        let mut buffers = Buffers::new(4);
        (0..1000).for_each(|time| buffers.push(0, entry(time), false));
        assert_eq!(buffers.consume(None, 1)[0].entry.time, 0);
        assert!(buffers.lanes()[0].dropped > 800);
    }

    #[test]
    fn lanes_merge_by_time() {
        let mut buffers = Buffers::new(4);
        buffers.push(1, entry(2), true);
        buffers.push(0, entry(1), true);
        buffers.push(0, entry(3), true);
        let times = |all: Vec<Placed>| all.iter().map(|it| it.entry.time).collect::<Vec<_>>();
        assert_eq!(times(buffers.merged(None)), [1, 2, 3]);
        assert_eq!(times(buffers.merged(Some(0))), [1, 3]);
        assert_eq!(times(buffers.consume(None, 2)), [1, 2]);
    }
}
