//! What the tests of the trace file share.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "not every test uses all of it"
)]

use std::convert::Infallible;
use std::path::Path;

use sledge_trace::event::*;
use sledge_trace::{Host, Selection, Trace, Writer};

/// A sink that keeps all events and checks what every sink may rely on.
#[derive(Default)]
pub struct Keep {
    pub events: Vec<Event>,
}

impl Sink for Keep {
    type Error = Infallible;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), Infallible> {
        if let Some(last) = self.events.last() {
            assert!(last.at <= event.at, "{last:?} before {event:?}");
        }
        assert!((event.thread.0 as usize) < directory.threads.len());
        if let EventKind::Enter { function, .. } | EventKind::Exit { function, .. } = event.kind {
            assert!((function.0 as usize) < directory.functions.len());
        }
        self.events.push(*event);
        Ok(())
    }
}

pub fn events(trace: &Trace) -> Vec<Event> {
    let mut keep = Keep::default();
    trace.events(&Selection::default(), &mut keep).unwrap();
    keep.events
}

pub fn events_in(trace: &Trace, from: u64, to: u64) -> Vec<Event> {
    let mut keep = Keep::default();
    trace.events(&Selection::from(Nanos(from)..Nanos(to)), &mut keep).unwrap();
    keep.events
}

/// A writer with `functions` functions and `threads` threads defined.
pub fn writer(path: &Path, functions: u32, threads: u32) -> Writer {
    let host = Host { name: "nowhere".into(), kernel: "6.1".into(), ..Host::default() };
    let mut writer = Writer::create_on(path, &host).unwrap();
    let object = writer.object(&Object { path: "/bin/x".into(), build_id: vec![1, 2, 3] });
    for number in 0..functions {
        let name = format!("function_{number}");
        writer.function(&Function { object, address: u64::from(number) * 16, size: 16, name });
    }
    let (executable, arguments) = ("/bin/x".to_owned(), vec!["x".to_owned(), "-v".to_owned()]);
    let process = writer.process(&Process { pid: 7, parent: None, executable, arguments });
    for tid in 0..threads {
        writer.thread(&Thread { process, tid: 7 + tid, name: format!("t{tid}") }, Ticks(0));
    }
    writer
}

pub fn enter(at: u64, function: u32) -> Step {
    Step { at: Ticks(at), op: Op::Enter(FunctionId(function)) }
}

pub fn leave(at: u64) -> Step {
    Step { at: Ticks(at), op: Op::Leave(Ending::Returned) }
}

/// Random numbers, the same on every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Random well-formed steps on up to `stacks` stacks.
pub fn random_steps(dice: &mut Dice, count: usize, functions: u64, stacks: u64) -> Vec<Step> {
    let (mut steps, mut now, mut open, mut current) = (Vec::new(), 1, vec![0u32], 0usize);
    while steps.len() < count {
        now += dice.below(40) * 10;
        let op = match dice.below(100) {
            0..=1 if stacks > 1 => {
                let to = dice.below((open.len() as u64 + 1).min(stacks)) as usize;
                if to == open.len() {
                    open.push(0);
                }
                current = to;
                Op::Switch(to as u32)
            }
            2..=50 if open[current] > 0 => {
                open[current] -= 1;
                let endings = [Ending::Returned, Ending::Unwound, Ending::NotSeen];
                Op::Leave(endings[dice.below(20).saturating_sub(17) as usize])
            }
            _ if open[current] < 30 => {
                open[current] += 1;
                Op::Enter(FunctionId(dice.below(functions) as u32))
            }
            _ => continue,
        };
        steps.push(Step { at: Ticks(now), op });
    }
    steps
}

/// The events that steps mean, the slow and obvious way. A tick is a nanosecond.
pub fn expected(thread: u32, steps: &[Step], end: u64) -> Vec<Event> {
    let mut stacks: Vec<(u32, Vec<(FunctionId, Nanos)>)> = vec![(0, Vec::new())];
    let mut current = 0;
    let mut events = Vec::new();
    let mut tell = |at, kind| events.push(Event { at: Nanos(at), thread: ThreadId(thread), kind });
    tell(0, EventKind::ThreadStart);
    for step in steps {
        let at = step.at.0;
        let depth = stacks[current].0 + stacks[current].1.len() as u32;
        match step.op {
            Op::Enter(function) => {
                stacks[current].1.push((function, Nanos(at)));
                tell(at, EventKind::Enter { function, depth });
            }
            Op::Leave(ending) => {
                let (function, entered) = stacks[current].1.pop().unwrap();
                tell(at, EventKind::Exit { function, depth: depth - 1, entered, ending });
            }
            Op::Switch(stack) => {
                if stack as usize == stacks.len() {
                    stacks.push((depth, Vec::new()));
                }
                current = stack as usize;
                tell(at, EventKind::Switch { stack });
            }
        }
    }
    let open = stacks.iter().map(|stack| stack.1.len() as u32).sum();
    tell(end, EventKind::ThreadEnd { open });
    events
}
