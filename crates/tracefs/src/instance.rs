//! One instance: its tracer, its filters, its buffers. The top of the tree is one, too.

use crate::buffer::{Buffers, DEFAULT_KB};
use crate::clock::Clock;
use crate::command::Commands;
use crate::entry::{Content, Entry, Who};
use crate::error_log::ErrorLog;
use crate::events::{EventId, EventState};
use crate::functions::{FunctionId, FunctionSet, Functions};
use crate::graph::GraphStack;
use crate::list::FunctionList;
use crate::options::{Options, TraceOption};
use crate::pids::{EventPids, Pids, traces};
use crate::tracee::ThreadId;
use std::collections::HashMap;

/// What an instance does with calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tracer {
    #[default]
    Nop,
    Function,
    FunctionGraph,
}

impl Tracer {
    /// All of them, as `available_tracers` lists them.
    pub(crate) const ALL: [(Self, &'static str); 3] =
        [(Self::FunctionGraph, "function_graph"), (Self::Function, "function"), (Self::Nop, "nop")];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(tracer, _)| *tracer == self).map_or("nop", |(_, name)| name)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, other)| *other == name).map(|(tracer, _)| *tracer)
    }
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) on: bool,
    /// Nothing that happened before is recorded.
    pub(crate) since: u64,
    pub(crate) tracer: Tracer,
    pub(crate) filter: FunctionList,
    pub(crate) notrace: FunctionList,
    pub(crate) commands: Commands,
    pub(crate) only: Pids,
    pub(crate) not: Pids,
    pub(crate) options: Options,
    pub(crate) buffers: Buffers,
    pub(crate) snapshot: Option<Buffers>,
    /// The most that one entry may take, and what the kernel calls a sub-buffer.
    pub(crate) subbuffer_kb: usize,
    pub(crate) clock: Clock,
    /// Nanoseconds to add to monotonic time for `clock`.
    pub(crate) clock_offset: i64,
    counter: u64,
    /// Lanes that record, one bit each; the last word stands for all that follow.
    pub(crate) lanes: Vec<u64>,
    pub(crate) graphs: Vec<GraphStack>,
    pub(crate) errors: ErrorLog,
    /// Open files of it.
    pub(crate) users: usize,
    /// Readers that stop recording while they read.
    pub(crate) pauses: usize,
    /// Lanes with a consuming reader.
    pub(crate) pipes: Vec<Option<usize>>,
    /// What it asks of the process, kept up to date by [`Instance::choose`].
    pub(crate) traced: FunctionSet,
    pub(crate) events: HashMap<EventId, EventState>,
    pub(crate) event_pids: EventPids,
}

impl Instance {
    pub(crate) fn new(name: &str, lanes: usize) -> Self {
        let mut buffers = Buffers::new(DEFAULT_KB);
        buffers.reserve(lanes);
        Self {
            name: name.to_owned(),
            on: true,
            since: 0,
            tracer: Tracer::default(),
            filter: FunctionList::default(),
            notrace: FunctionList::default(),
            commands: Commands::default(),
            only: Pids::default(),
            not: Pids::default(),
            options: Options::default(),
            buffers,
            snapshot: None,
            subbuffer_kb: 4,
            clock: Clock::default(),
            clock_offset: 0,
            counter: 0,
            lanes: vec![u64::MAX],
            graphs: Vec::new(),
            errors: ErrorLog::default(),
            users: 0,
            pauses: 0,
            pipes: Vec::new(),
            traced: FunctionSet::default(),
            events: HashMap::new(),
            event_pids: EventPids::default(),
        }
    }

    pub(crate) const fn has(&self, option: TraceOption) -> bool {
        self.options.has(option)
    }

    /// Works out which functions its tracer hooks.
    pub(crate) fn choose(&mut self, functions: &Functions) {
        self.traced = FunctionSet::default();
        if self.tracer != Tracer::Nop {
            let all = functions.iter().map(|(id, _)| id);
            self.traced = all.filter(|&id| self.lets(id)).collect();
        }
    }

    pub(crate) fn lets(&self, id: FunctionId) -> bool {
        self.filter.lets(id) && !self.notrace.set.contains(id)
    }

    pub(crate) fn traces_thread(&self, tid: u32) -> bool {
        traces(&self.only, &self.not, tid)
    }

    fn records_lane(&self, lane: usize) -> bool {
        let word = self.lanes.get(lane / 64).or(self.lanes.last()).copied().unwrap_or(u64::MAX);
        word >> (lane % 64) & 1 != 0
    }

    /// Whether something that happened then is recorded.
    pub(crate) const fn records(&self, time: u64) -> bool {
        self.on && self.pauses == 0 && time >= self.since
    }

    /// Records something that happened at a monotonic time.
    pub(crate) fn record(&mut self, lane: usize, time: u64, who: Who, what: Content) {
        if !self.records(time) || !self.records_lane(lane) {
            return;
        }
        let time = if self.clock == Clock::Counter {
            self.counter += 1;
            self.counter
        } else {
            time.saturating_add_signed(self.clock_offset)
        };
        let overwrite = self.has(TraceOption::Overwrite);
        self.buffers.push(lane, Entry { time, who, what }, overwrite);
    }

    /// Exchanges the buffers with the spare ones.
    pub(crate) fn swap(&mut self) {
        let mut spare = self.snapshot.take().unwrap_or_else(|| Buffers::like(&self.buffers));
        spare.reserve(self.buffers.lanes().len());
        self.snapshot = Some(std::mem::replace(&mut self.buffers, spare));
    }

    pub(crate) fn graph(&mut self, thread: ThreadId) -> &mut GraphStack {
        let at = thread.0 as usize;
        if at >= self.graphs.len() {
            self.graphs.resize(at + 1, GraphStack::default());
        }
        &mut self.graphs[at]
    }

    pub(crate) fn clear(&mut self, lane: Option<usize>) {
        self.buffers.clear(lane);
        self.counter = 0;
    }
}
