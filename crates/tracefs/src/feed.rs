//! What happens in the process, as the instances see it.

use crate::command::Action;
use crate::entry::{Content, Hit, Who};
use crate::events::{Events, Occurrence};
use crate::functions::{FunctionId, FunctionSet, Functions};
use crate::graph::Verdict;
use crate::instance::{Instance, Tracer};
use crate::options::TraceOption as O;
use crate::threads::{Open, Thread};
use crate::tracee::{Happening, ProbeId, ThreadId, Value, What};
use crate::tree::Tree;
use std::sync::Arc;

/// Frames of a recorded stack.
const MOST_FRAMES: usize = 64;

/// A call, as everybody sees it.
#[derive(Clone, Copy, Debug)]
struct Call {
    time: u64,
    thread: ThreadId,
    lane: usize,
    tid: u32,
    function: FunctionId,
    parent: u64,
}

impl Tree {
    /// Takes what happened in the process, each thread's in order.
    pub fn feed(&mut self, happenings: &[Happening]) {
        for happening in happenings {
            self.take(happening);
        }
    }

    fn take(&mut self, happening: &Happening) {
        let (time, thread) = (happening.time, happening.thread);
        match happening.what {
            What::Enter { function, parent, cell } => {
                let Some(it) = self.threads.get_mut(thread) else { return };
                it.calls.push(Open { function, entered: time, cell, children: 0 });
                let (lane, tid) = (it.lane, it.tid);
                if self.stack.on {
                    self.stack.enter(lane, &it.calls);
                }
                let call = Call { time, thread, lane, tid, function, parent };
                self.enter(call);
                self.hit_probes(call, false, None);
            }
            What::Leave { function, value, .. } => {
                let Some(it) = self.threads.get_mut(thread) else { return };
                let (lane, tid) = (it.lane, it.tid);
                let ended = it.calls.pop_if(|open| open.function == function);
                let took = ended.map_or(0, |open| time.saturating_sub(open.entered));
                let mut caller = None;
                if let Some(open) = it.calls.last_mut() {
                    open.children += took;
                    caller = Some(open.function);
                }
                if let Some(open) = ended {
                    self.profile_call(lane, open, took);
                }
                let parent =
                    caller.and_then(|id| self.functions.get(id)).map_or(0, |it| it.address);
                let call = Call { time, thread, lane, tid, function, parent };
                self.hit_probes(call, true, None);
                self.leave(call, value);
            }
            What::Hit { probe, parent, ref values } => {
                let Some(it) = self.threads.get(thread) else { return };
                let function = self.events.function_of(probe);
                let Some((function, on_return)) = function else { return };
                let call = Call { time, thread, lane: it.lane, tid: it.tid, function, parent };
                self.hit_probes(call, on_return, Some((probe, values)));
            }
            What::Lost(count) => self.lost += count,
        }
    }

    fn enter(&mut self, call: Call) {
        let graph = &self.graph_function;
        let limited = !graph.is_blank();
        let opens = limited && graph.set.contains(call.function);
        let closes = self.graph_notrace.set.contains(call.function);
        let verdict = Verdict { wanted: false, opens, closes, limited, most: self.max_graph_depth };
        let (threads, functions, slow) = (&self.threads, &self.functions, self.threshold > 0);
        let events = &self.events;
        let frames = |thread| frames(threads.get(thread), functions);
        for instance in self.instances.iter_mut().flatten() {
            run_commands(instance, events, call, frames);
            instance.enter(call, verdict, slow, frames);
        }
    }

    /// Events of a function's probes; those that take values come with them.
    fn hit_probes(&mut self, call: Call, on_return: bool, given: Option<(ProbeId, &[Value])>) {
        let Self { events, threads, functions, instances, .. } = self;
        if !events.hit(call.function, on_return, given.map(|(id, _)| id)) {
            return;
        }
        let Some(thread) = threads.get(call.thread) else { return };
        let stack = frames(Some(thread), functions);
        for (event, definition) in events.hits(call.function, on_return, given.map(|(id, _)| id)) {
            let values = match given {
                Some((_, values)) => values.into(),
                None => definition.values(&thread.comm),
            };
            let start = functions.get(call.function).map_or(0, |it| it.address);
            let hit = Hit {
                event: event.id,
                address: start + definition.offset,
                parent: call.parent,
                is_return: on_return,
                values,
            };
            let it = Occurrence {
                event,
                time: call.time,
                lane: call.lane,
                tid: call.tid,
                comm: &thread.comm,
                who: Who::Thread(call.thread),
                hit: Arc::new(hit),
                text: None,
                stack: Arc::clone(&stack),
            };
            instances.iter_mut().flatten().for_each(|instance| instance.event(events, &it));
        }
    }

    fn profile_call(&mut self, lane: usize, open: Open, took: u64) {
        let Ok(top) = self.instance_ref(0) else { return };
        if self.profile.on && top.lets(open.function) {
            let own = if top.has(O::GraphTime) { took } else { took.saturating_sub(open.children) };
            self.profile.add(lane, open.function, own);
        }
    }

    fn leave(&mut self, call: Call, value: Option<u64>) {
        let threshold = self.threshold;
        for instance in self.instances.iter_mut().flatten() {
            instance.leave(call, value, threshold);
        }
    }
}

/// Addresses of the functions that a thread is in, the innermost first.
fn frames(thread: Option<&Thread>, functions: &Functions) -> Arc<[u64]> {
    let calls = thread.map_or(&[][..], |thread| &thread.calls).iter().rev().take(MOST_FRAMES);
    calls.filter_map(|open| functions.get(open.function)).map(|it| it.address).collect()
}

impl Tree {
    /// All functions that somebody wants to hear of.
    pub(crate) fn all_wanted(&self) -> FunctionSet {
        let mut all = FunctionSet::default();
        for instance in self.instances.iter().flatten() {
            all.extend(&instance.traced);
            all.extend(&instance.commands.functions().collect());
        }
        all.extend(&self.events.functions().collect());
        let everything = || self.functions.iter().map(|(id, _)| id);
        if self.profile.on
            && let Ok(top) = self.instance_ref(0)
        {
            all.extend(&everything().filter(|&id| top.lets(id)).collect());
        }
        if self.stack.on {
            // Frames need the calls that they lie between.
            all.extend(&everything().collect());
        }
        all
    }
}

impl Instance {
    fn enter(
        &mut self,
        call: Call,
        verdict: Verdict,
        slow: bool,
        frames: impl Fn(ThreadId) -> Arc<[u64]>,
    ) {
        let Call { function, time, thread, .. } = call;
        match self.tracer {
            Tracer::Nop => {}
            Tracer::Function => {
                if self.traced.contains(function) && self.traces_thread(call.tid) {
                    let what = Content::Function { function, parent: call.parent };
                    self.record(call.lane, time, Who::Thread(thread), what);
                    if self.has(O::FuncStackTrace) {
                        self.record_stack(call, frames(thread));
                    }
                }
            }
            Tracer::FunctionGraph => {
                let wanted = self.traced.contains(function) && self.traces_thread(call.tid);
                let verdict = Verdict { wanted, ..verdict };
                if let Some(depth) = self.graph(thread).enter(function, time, verdict)
                    && !slow
                {
                    let what = Content::GraphEntry { function, depth };
                    self.record(call.lane, time, Who::Thread(thread), what);
                }
            }
        }
    }

    fn leave(&mut self, call: Call, value: Option<u64>, threshold: u64) {
        let Call { function, time, thread, lane, .. } = call;
        if self.tracer != Tracer::FunctionGraph {
            return;
        }
        let Some(ended) = self.graph(thread).leave(function, time) else { return };
        if ended.duration < threshold {
            return;
        }
        let (depth, duration) = (ended.depth, ended.duration);
        let what = Content::GraphReturn { function, depth, duration, value };
        self.record(lane, time, Who::Thread(thread), what);
    }

    fn record_stack(&mut self, call: Call, frames: Arc<[u64]>) {
        let what = Content::Stack(frames);
        self.record(call.lane, call.time, Who::Thread(call.thread), what);
    }
}

/// What the function's commands do.
fn run_commands(
    instance: &mut Instance,
    events: &Events,
    call: Call,
    frames: impl Fn(ThreadId) -> Arc<[u64]>,
) {
    if instance.commands.is_empty() || !instance.commands.concerns(call.function) {
        return;
    }
    let mut commands = std::mem::take(&mut instance.commands);
    commands.hit(call.function, |action| match action {
        Action::TraceOn => !std::mem::replace(&mut instance.on, true),
        Action::TraceOff => std::mem::replace(&mut instance.on, false),
        Action::StackTrace => {
            instance.record_stack(call, frames(call.thread));
            instance.records(call.time)
        }
        Action::Snapshot => {
            let records = instance.records(call.time);
            if records {
                instance.swap();
            }
            records
        }
        Action::Event { on, system, event } => instance.soft_switch(events, system, event, *on),
    });
    instance.commands = commands;
}
