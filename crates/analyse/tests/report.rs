//! A report against a slow, obvious reference: random programs are written as trace files, read,
//! reported, and every number is added up again call by call.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sledge_analyse::{AsIs, By, Names, Report, Row, SortKey};
use sledge_trace::event::*;
use sledge_trace::{Selection, Trace, Writer};

const FUNCTIONS: u32 = 6;
/// Two objects; odd functions are in the second, and function 5 is called as 3 is.
const MODULES: [&str; 2] = ["app", "libx.so"];

/// What a thread does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    Call(u32),
    /// Calls of which none but the last returns on its own: each jumps to the next.
    Tail(u32, u32),
    Return,
    /// Leaves so many calls at once.
    Longjmp(u8),
    NotSeen(u32),
    Switch(u8),
    Lost(u8),
}

fn act() -> impl Strategy<Value = (u64, Act)> {
    let act = prop_oneof![
        8 => (0..FUNCTIONS).prop_map(Act::Call),
        2 => (0..FUNCTIONS, 0..FUNCTIONS).prop_map(|(f, g)| Act::Tail(f, g)),
        8 => Just(Act::Return),
        1 => (1..6_u8).prop_map(Act::Longjmp),
        1 => (0..FUNCTIONS).prop_map(Act::NotSeen),
        2 => (0..3_u8).prop_map(Act::Switch),
        1 => (1..9_u8).prop_map(Act::Lost),
    ];
    (0..2000_u64, act)
}

/// A call, by the numbers of the steps that begin and end it.
#[derive(Clone, Copy, Debug)]
struct Call {
    function: u32,
    stack: usize,
    begun: usize,
    ended: Option<usize>,
    ending: Option<Ending>,
}

/// A thread's steps, and its calls as they were meant.
#[derive(Debug, Default)]
struct Life {
    steps: Vec<Step>,
    calls: Vec<Call>,
    losses: Vec<(u64, u64)>,
    /// For each step, the stack that is current after it and the one that time goes to where that
    /// has no call.
    stacks: Vec<(usize, usize)>,
}

impl Life {
    fn new(acts: &[(u64, Act)]) -> Self {
        let mut life = Self::default();
        let (mut now, mut stacks) = (0, 1);
        for &(pause, act) in acts {
            now += pause;
            match act {
                Act::Call(f) => life.call(now, f),
                Act::Tail(f, g) => {
                    life.call(now, f);
                    life.call(now + pause, g);
                    now += 2 * pause;
                    life.leave(now, Ending::Returned);
                    life.leave(now, Ending::Returned);
                }
                Act::Return => life.leave(now, Ending::Returned),
                Act::Longjmp(count) => {
                    (0..count).for_each(|_| life.leave(now, Ending::Unwound));
                }
                Act::NotSeen(f) => {
                    life.call(now, f);
                    life.leave(now, Ending::NotSeen);
                }
                Act::Switch(to) => {
                    let to = usize::from(to).min(stacks);
                    stacks = stacks.max(to + 1);
                    life.step(now, Op::Switch(to as u32));
                }
                Act::Lost(count) => life.losses.push((now, count.into())),
            }
        }
        life
    }

    fn current(&self) -> (usize, usize) {
        self.stacks.last().copied().unwrap_or((0, 0))
    }

    fn step(&mut self, at: u64, op: Op) {
        let (current, before) = self.current();
        let stacks = match op {
            Op::Switch(to) => {
                let leaves_calls = self.innermost(current, self.steps.len()).is_some();
                (to as usize, if leaves_calls { current } else { before })
            }
            _ => (current, before),
        };
        self.steps.push(Step { at: Ticks(at), op });
        self.stacks.push(stacks);
    }

    fn call(&mut self, at: u64, function: u32) {
        let (stack, begun) = (self.current().0, self.steps.len());
        self.step(at, Op::Enter(FunctionId(function)));
        self.calls.push(Call { function, stack, begun, ended: None, ending: None });
    }

    fn leave(&mut self, at: u64, ending: Ending) {
        let number = self.steps.len();
        let Some(innermost) = self.innermost(self.current().0, number) else { return };
        self.step(at, Op::Leave(ending));
        let call = &mut self.calls[innermost];
        (call.ended, call.ending) = (Some(number), Some(ending));
    }

    /// The innermost call that is open on a stack before the step with this number.
    fn innermost(&self, stack: usize, number: usize) -> Option<usize> {
        self.calls.iter().rposition(|call| {
            call.stack == stack
                && call.begun < number
                && call.ended.is_none_or(|ended| ended >= number)
        })
    }

    fn time(&self, call: &Call, end: u64) -> (u64, u64) {
        let ended = call.ended.map_or(end, |ended| self.steps[ended].at.0);
        (self.steps[call.begun].at.0, ended)
    }

    /// Time in which a call was the innermost one that ran.
    fn own(&self, call: usize, end: u64) -> u64 {
        let mut own = 0;
        for (number, step) in self.steps.iter().enumerate() {
            let until = self.steps.get(number + 1).map_or(end, |next| next.at.0);
            let (current, before) = self.stacks[number];
            let mut running = self.innermost(current, number + 1);
            if current != 0 {
                running = running.or_else(|| self.innermost(before, number + 1));
            }
            if running == Some(call) {
                own += until - step.at.0;
            }
        }
        own
    }
}

/// What a row should say.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    calls: u64,
    total: u64,
    own: u64,
    durations: Vec<u64>,
}

type Key = (String, String);

fn expected(lives: &[Life], end: u64, key: impl Fn(usize, u32) -> Key) -> BTreeMap<Key, Expected> {
    let mut rows: BTreeMap<Key, Expected> = BTreeMap::new();
    for (thread, life) in lives.iter().enumerate() {
        for (number, call) in life.calls.iter().enumerate() {
            let row = rows.entry(key(thread, call.function)).or_default();
            row.calls += 1;
            if call.ending == Some(Ending::NotSeen) {
                continue;
            }
            let (from, to) = life.time(call, end);
            row.durations.push(to - from);
            row.own += life.own(number, end);
            if is_outermost(life, number, &|f| key(thread, f)) {
                row.total += to - from;
            }
        }
    }
    rows
}

/// Whether no call that counts for the total of the same row is open around it.
fn is_outermost(life: &Life, number: usize, key: &dyn Fn(u32) -> Key) -> bool {
    let call = life.calls[number];
    !life.calls[..number].iter().enumerate().any(|(earlier, around)| {
        key(around.function) == key(call.function)
            && around.ended.is_none_or(|ended| ended > call.begun)
            && is_outermost(life, earlier, key)
    })
}

fn name(function: u32) -> String {
    format!("f{}", if function == 5 { 3 } else { function })
}

fn module(function: u32) -> String {
    MODULES[function as usize % 2].to_owned()
}

fn write(path: &std::path::Path, lives: &[Life]) {
    let mut writer = Writer::create(path).unwrap();
    let objects: Vec<ObjectId> = MODULES
        .iter()
        .map(|name| writer.object(&Object { path: format!("/x/{name}"), build_id: Vec::new() }))
        .collect();
    for function in 0..FUNCTIONS {
        let (object, address) = (objects[function as usize % 2], u64::from(function) * 16);
        writer.function(&Function { object, address, size: 16, name: name(function) });
    }
    let (executable, arguments) = ("/x/app".to_owned(), Vec::new());
    let process = writer.process(&Process { pid: 1, parent: None, executable, arguments });
    for (number, life) in lives.iter().enumerate() {
        let thread = Thread { process, tid: number as u32, name: "t".to_owned() };
        let thread = writer.thread(&thread, Ticks(0));
        for part in life.steps.chunks(7) {
            writer.steps(thread, part).unwrap();
            // A chunk of its own: reading goes over its border.
            writer.flush().unwrap();
        }
        for &(at, count) in &life.losses {
            writer.lost(thread, Ticks(at.saturating_sub(1)), Ticks(at), count);
        }
    }
    writer.finish().unwrap();
}

fn report(trace: &Trace, by: By) -> Vec<Row> {
    let mut report = Report::new(Names::new(Box::new(AsIs)), by);
    trace.events(&Selection::default(), &mut report).unwrap();
    report.rows(&[SortKey::Function])
}

fn check(rows: &[Row], expected: &BTreeMap<Key, Expected>) -> Result<(), TestCaseError> {
    prop_assert_eq!(rows.len(), expected.len());
    for row in rows {
        let wanted = &expected[&(row.name.to_string(), row.module.to_string())];
        prop_assert_eq!((row.calls, row.total, row.own), (wanted.calls, wanted.total, wanted.own));
        let mut sorted = wanted.durations.clone();
        sorted.sort_unstable();
        let count = sorted.len() as u64;
        prop_assert_eq!(row.timed(), count);
        prop_assert_eq!(row.min(), sorted.first().copied().unwrap_or(0));
        prop_assert_eq!(row.max, sorted.last().copied().unwrap_or(0));
        let sum: u64 = sorted.iter().sum();
        prop_assert_eq!(row.average(), sum.checked_div(count).unwrap_or(0));
        for share in [0.5, 0.9, 0.99] {
            let rank = ((share * count as f64).ceil() as usize).max(1);
            let exact = sorted.get(rank - 1).copied().unwrap_or(0);
            let said = row.quantile(share);
            prop_assert!(said.abs_diff(exact) <= exact / 32 + 1, "{} for {}", said, exact);
        }
        if count > 1 {
            let mean = sum as f64 / count as f64;
            let squares: f64 = sorted.iter().map(|&d| (d as f64 - mean).powi(2)).sum();
            let deviation = (squares / (count - 1) as f64).sqrt();
            prop_assert!((row.deviation().unwrap() - deviation).abs() <= 1e-6 * mean + 1e-3);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_number_is_what_the_calls_add_up_to(
        acts in prop::collection::vec(prop::collection::vec(act(), 0..60), 1..4),
    ) {
        let lives: Vec<Life> = acts.iter().map(|acts| Life::new(acts)).collect();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        write(&path, &lives);
        let trace = Trace::open(&path).unwrap();
        let end = trace.duration().0;
        let by_function = expected(&lives, end, |_, f| (name(f), module(f)));
        check(&report(&trace, By::Function), &by_function)?;
        let by_module = expected(&lives, end, |_, f| (module(f), String::new()));
        check(&report(&trace, By::Module), &by_module)?;
        let by_thread = expected(&lives, end, |thread, _| (format!("t [{thread}]"), String::new()));
        check(&report(&trace, By::Thread), &by_thread)?;
    }
}
