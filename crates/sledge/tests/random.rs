//! Random changes of clients and objects, under threads that call: what fires is what a simple
//! model says, call by call.
//!
//! Each step of a sequence is a window: threads stand still at its ends, so that counts can be
//! compared, and call all the while between. In a window, a client that had a function all the time
//! has seen every call of it, and a client that never had it none (I5, I6). A client that has ended
//! is not called any more (I7). A client that sees exits has seen as many as entries, each with what
//! its entry left (I8).
//!
//! `SLEDGE_RANDOM_SECONDS` says for how long; 15 if nothing is said.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::print_stderr, reason = "a long run says what it did")]

#[path = "random/callers.rs"]
mod callers;
#[path = "random/functions.rs"]
mod functions;
#[path = "random/model.rs"]
mod model;

use callers::Callers;
use functions::{COUNT, Libraries, OBJECTS};
use model::{Model, Wants};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use sledge::{Call, Ops, Registers, Registration, Results, Scratch, Tracer};
use sledge_engine::dispatch::{Preserve, promise};
use std::ffi::c_void;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const MOST_OPS: usize = 6;
/// Kinds of clients from here on see exits.
const FIRST_WITH_EXITS: u8 = 4;

/// What is done in a window.
#[derive(Clone, Debug)]
enum Step {
    Register { wants: Wants, kind: u8 },
    Unregister(usize),
    Filter { of: usize, patterns: Vec<String>, reset: bool },
    Notrace { of: usize, patterns: Vec<String>, reset: bool },
    Enable(usize, bool),
    Switch(bool),
    OpenOrClose(usize),
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..COUNT).prop_map(functions::name),
        1 => prop::sample::select(&["prop_a*", "prop_x*", "prop_?1", "prop_*"][..])
            .prop_map(str::to_owned),
    ]
}

fn patterns(least: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(pattern(), least..4)
}

fn step() -> impl Strategy<Value = Step> {
    let of = 0..MOST_OPS;
    let wants = (
        patterns(1),
        prop_oneof![2 => Just(Vec::new()), 1 => patterns(1)],
        prop::bool::weighted(0.8),
    );
    let wants = wants.prop_map(|(filter, notrace, enabled)| Wants { filter, notrace, enabled });
    prop_oneof![
        4 => (wants, 0..6_u8).prop_map(|(wants, kind)| Step::Register { wants, kind }),
        3 => of.clone().prop_map(Step::Unregister),
        2 => (of.clone(), patterns(1), any::<bool>())
            .prop_map(|(of, patterns, reset)| Step::Filter { of, patterns, reset }),
        2 => (of.clone(), patterns(0), any::<bool>())
            .prop_map(|(of, patterns, reset)| Step::Notrace { of, patterns, reset }),
        2 => (of, any::<bool>()).prop_map(|(of, on)| Step::Enable(of, on)),
        1 => prop::bool::weighted(0.7).prop_map(Step::Switch),
        2 => (1..OBJECTS).prop_map(Step::OpenOrClose),
    ]
}

/// What a callback has seen, by function: calls of the thread that checks, and of all others.
#[derive(Debug)]
struct Seen {
    live: AtomicBool,
    own: [AtomicU64; COUNT],
    others: [AtomicU64; COUNT],
    /// Exits, of whichever thread; of clients that see them.
    exits: Option<[AtomicU64; COUNT]>,
    /// Calls after the end, of functions that are none of these, or with other arguments.
    wrong: AtomicU64,
}

impl Seen {
    fn new(kind: u8) -> Self {
        Self {
            live: AtomicBool::new(true),
            own: [const { AtomicU64::new(0) }; COUNT],
            others: [const { AtomicU64::new(0) }; COUNT],
            exits: (kind >= FIRST_WITH_EXITS).then_some([const { AtomicU64::new(0) }; COUNT]),
            wrong: AtomicU64::new(0),
        }
    }

    fn hit(&self, function: u64) {
        let Some(number) = functions::number(function).filter(|_| self.live.load(SeqCst)) else {
            self.wrong.fetch_add(1, SeqCst);
            return;
        };
        let seen = if callers::is_checker() { &self.own } else { &self.others };
        seen[number].fetch_add(1, SeqCst);
    }

    /// An exit, with the function as the entry left it.
    fn exit(&self, function: u64, left: u64) {
        let number = functions::number(function).filter(|_| self.live.load(SeqCst));
        match (number, &self.exits) {
            (Some(number), Some(exits)) if function == left => {
                _ = exits[number].fetch_add(1, SeqCst)
            }
            _ => _ = self.wrong.fetch_add(1, SeqCst),
        }
    }

    /// Entries that have no exit, by function, when nobody is in a call.
    fn open(&self) -> [u64; COUNT] {
        let Some(exits) = &self.exits else { return [0; COUNT] };
        std::array::from_fn(|number| {
            let entries = self.own[number].load(SeqCst) + self.others[number].load(SeqCst);
            entries.wrapping_sub(exits[number].load(SeqCst))
        })
    }

    fn ops(self: &Arc<Self>, kind: u8) -> Ops {
        let seen = Arc::clone(self);
        match kind {
            0 => Ops::entry(move |call| seen.hit(call.function())),
            1 => Ops::entry(move |call: &mut Call<'_>| {
                let marked = call.argument(0).is_some_and(|value| value >> 48 == functions::MARK);
                seen.wrong.fetch_add(u64::from(!marked), SeqCst);
                seen.hit(call.function());
            })
            .save_regs(),
            // SAFETY: for any call; what it counts in is kept until the ops has ended.
            2 => unsafe { Ops::raw(raw, Arc::as_ptr(self).cast_mut().cast()) },
            // SAFETY: as above.
            3 => unsafe { Ops::raw(leaf, Arc::as_ptr(self).cast_mut().cast()) },
            FIRST_WITH_EXITS => {
                let end = Arc::clone(self);
                Ops::call(
                    move |call| {
                        seen.hit(call.function());
                        Some(call.function())
                    },
                    move |call, left: u64| end.exit(call.function(), left),
                )
            }
            // SAFETY: as above.
            _ => unsafe {
                Ops::raw_call(raw_enter, raw_leave, Arc::as_ptr(self).cast_mut().cast())
            },
        }
    }
}

unsafe extern "C" fn raw(function: u64, _: u64, seen: *mut c_void, _: *mut Registers) {
    // SAFETY: the data of `Seen::ops`.
    unsafe { (*seen.cast::<Seen>()).hit(function) };
}

/// The same without a call and without vector registers: a thunk may call it itself.
unsafe extern "C" fn leaf(function: u64, _: u64, seen: *mut c_void, _: *mut Registers) {
    // SAFETY: as in `raw`; numbers are below the count.
    unsafe {
        let seen = &*seen.cast::<Seen>();
        let addresses = functions::addresses().as_ptr();
        let mut number = 0;
        while number < black_box(COUNT) && (*addresses.add(number)).load(SeqCst) != function {
            number += 1;
        }
        if number == COUNT || !seen.live.load(SeqCst) {
            seen.wrong.fetch_add(1, SeqCst);
            return;
        }
        let counts = if callers::is_checker() { &seen.own } else { &seen.others };
        counts.get_unchecked(number).fetch_add(1, SeqCst);
    }
}

/// Else the thunks that call a callback themselves are not tested here.
#[test]
fn a_thunk_can_call_the_leaf() {
    let address = leaf as *const () as u64;
    // SAFETY: code of this program; what follows the function is code as well.
    let code = unsafe { std::slice::from_raw_parts(leaf as *const u8, 256) };
    assert_eq!(promise(code, address), Some(Preserve::None));
}

unsafe extern "C" fn raw_enter(
    function: u64,
    _: u64,
    seen: *mut c_void,
    _: *mut Registers,
    scratch: *mut Scratch,
) -> bool {
    // SAFETY: as in `raw`; the scratch is this call's.
    unsafe {
        (*seen.cast::<Seen>()).hit(function);
        *scratch = [function, 0];
    }
    true
}

unsafe extern "C" fn raw_leave(
    function: u64,
    _: u64,
    seen: *mut c_void,
    _: *mut Results,
    scratch: *mut Scratch,
) {
    // SAFETY: as in `raw_enter`.
    unsafe { (*seen.cast::<Seen>()).exit(function, (*scratch)[0]) };
}

struct Client {
    registration: Registration,
    seen: Arc<Seen>,
    /// Whether it had each function: at some time of the window, and all the time.
    ever: [bool; COUNT],
    always: [bool; COUNT],
    /// Counts at the begin of the window.
    before: [u64; COUNT],
}

/// The process and the model of it.
struct World<'a> {
    tracer: Tracer,
    callers: &'a Callers,
    libraries: &'a mut Libraries,
    model: Model,
    clients: Vec<Client>,
    ended: Vec<Arc<Seen>>,
    called: [u64; COUNT],
}

type Outcome = Result<(), TestCaseError>;

fn failed(error: sledge::Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

impl World<'_> {
    fn window(&mut self, step: &Step) -> Outcome {
        for (at, client) in self.clients.iter_mut().enumerate() {
            let has = self.model.has(at);
            (client.ever, client.always) = (has, has);
            client.before = client.seen.others.each_ref().map(|count| count.load(SeqCst));
        }
        self.called = functions::called();
        // An object must not go while it is called.
        let closes = matches!(step, Step::OpenOrClose(object) if self.model.loaded[*object]);
        if !closes {
            self.callers.resume();
        }
        self.take(step)?;
        for (at, client) in self.clients.iter_mut().enumerate() {
            for (number, has) in self.model.has(at).into_iter().enumerate() {
                client.ever[number] |= has;
                client.always[number] &= has;
            }
        }
        if !closes {
            std::thread::sleep(Duration::from_micros(300));
            self.callers.pause();
        }
        self.compare()
    }

    fn take(&mut self, step: &Step) -> Outcome {
        let at = |of: &usize, count: usize| (count > 0).then(|| of % count.max(1));
        let count = self.clients.len();
        match step {
            Step::Register { wants, kind } if count < MOST_OPS => self.register(wants, *kind)?,
            Step::Register { .. } => {}
            Step::Unregister(of) => {
                let Some(at) = at(of, count) else { return Ok(()) };
                let client = self.clients.remove(at);
                self.model.ops.remove(at);
                client.registration.unregister().map_err(failed)?;
                client.seen.live.store(false, SeqCst);
                self.ended.push(client.seen);
            }
            Step::Filter { of, patterns, reset } => {
                let Some(at) = at(of, count) else { return Ok(()) };
                let registration = &self.clients[at].registration;
                let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
                let list = &mut self.model.ops[at].filter;
                list.drain(..if *reset { list.len() } else { 0 });
                list.extend(patterns.iter().cloned());
                let done = if *reset {
                    registration.set_filter(&texts)
                } else {
                    registration.add_filter(&texts)
                };
                done.map_err(failed)?;
            }
            Step::Notrace { of, patterns, reset } => {
                let Some(at) = at(of, count) else { return Ok(()) };
                let registration = &self.clients[at].registration;
                let texts: Vec<&str> = patterns.iter().map(String::as_str).collect();
                let list = &mut self.model.ops[at].notrace;
                list.drain(..if *reset { list.len() } else { 0 });
                list.extend(patterns.iter().cloned());
                let done = if *reset {
                    registration.set_notrace(&texts)
                } else {
                    registration.add_notrace(&texts)
                };
                done.map_err(failed)?;
            }
            Step::Enable(of, on) => {
                let Some(at) = at(of, count) else { return Ok(()) };
                self.model.ops[at].enabled = *on;
                self.clients[at].registration.set_enabled(*on).map_err(failed)?;
            }
            Step::Switch(on) => {
                self.model.off = !on;
                self.tracer.switch(*on).map_err(failed)?;
            }
            Step::OpenOrClose(object) => {
                self.model.loaded[*object] = !self.model.loaded[*object];
                self.libraries.open_or_close(*object);
            }
        }
        Ok(())
    }

    fn register(&mut self, wants: &Wants, kind: u8) -> Outcome {
        let seen = Arc::new(Seen::new(kind));
        let mut ops = seen.ops(kind);
        for pattern in &wants.filter {
            ops = ops.filter(pattern.as_str());
        }
        for pattern in &wants.notrace {
            ops = ops.notrace(pattern.as_str());
        }
        let ops = if wants.enabled { ops } else { ops.disabled() };
        let registration = self.tracer.register(ops).map_err(failed)?;
        self.model.ops.push(wants.clone());
        let (ever, always, before) = ([false; COUNT], [false; COUNT], [0; COUNT]);
        self.clients.push(Client { registration, seen, ever, always, before });
        Ok(())
    }

    /// Everybody stands still.
    fn compare(&self) -> Outcome {
        let called = functions::called();
        for (at, client) in self.clients.iter().enumerate() {
            let has = self.model.has(at);
            let wanted = has.iter().filter(|&&has| has).count();
            prop_assert!(self.model.off || client.registration.wanted() == wanted, "client {at}");
            prop_assert_eq!(client.seen.wrong.load(SeqCst), 0, "client {} was called wrongly", at);
            prop_assert_eq!(client.seen.open(), [0; COUNT], "client {}: entries without exit", at);
            for (number, called) in called.iter().enumerate() {
                let name = functions::name(number);
                let calls = called - self.called[number];
                let seen = client.seen.others[number].load(SeqCst) - client.before[number];
                if client.always[number] {
                    prop_assert_eq!(seen, calls, "client {} of {}: had it all the time", at, name);
                } else if !client.ever[number] {
                    prop_assert_eq!(seen, 0, "client {} of {}: never had it", at, name);
                } else {
                    prop_assert!(seen <= calls, "client {at} of {name}: {seen} of {calls}");
                }
            }
        }
        for number in (0..COUNT).filter(|&number| functions::is_loaded(number)) {
            let own = |client: &Client| client.seen.own[number].load(SeqCst);
            let before: Vec<u64> = self.clients.iter().map(own).collect();
            (0..3).for_each(|_| callers::check(number));
            for (at, client) in self.clients.iter().enumerate() {
                let expected = if self.model.has(at)[number] { 3 } else { 0 };
                let seen = own(client) - before[at];
                prop_assert_eq!(seen, expected, "client {} of {}", at, functions::name(number));
            }
        }
        prop_assert!(
            self.ended.iter().all(|seen| seen.wrong.load(SeqCst) == 0),
            "called after its end"
        );
        prop_assert_eq!(callers::wrong(), 0, "a result");
        Ok(())
    }
}

fn run(steps: &[Step], callers: &Callers, libraries: &mut Libraries) -> Outcome {
    let tracer = Tracer::current().map_err(failed)?;
    let model = Model::new(libraries.loaded());
    let (clients, ended, called) = (Vec::new(), Vec::new(), functions::called());
    let mut world = World { tracer, callers, libraries, model, clients, ended, called };
    let outcome = steps.iter().try_for_each(|step| world.window(step));
    // The next sequence begins with nobody, also after a failure.
    if outcome.is_err() {
        callers.pause();
    }
    world.clients.clear();
    tracer.switch(true).map_err(failed)?;
    outcome
}

#[test]
fn what_fires_is_what_the_model_says() {
    let Some(mut libraries) = Libraries::build() else {
        eprintln!("skipped: random changes of clients (no cc)");
        return;
    };
    let seconds = std::env::var("SLEDGE_RANDOM_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(15));
    let mut sequences = 0;
    while Instant::now() < until {
        let callers = Callers::start(1 + sequences / 20 % 4);
        let config = Config { cases: 20, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new(config);
        let libraries = std::cell::RefCell::new(&mut libraries);
        let strategy = prop::collection::vec(step(), 1..16);
        let outcome =
            runner.run(&strategy, |steps| run(&steps, &callers, &mut libraries.borrow_mut()));
        match outcome {
            Ok(()) => sequences += 20,
            Err(TestError::Fail(why, steps)) => panic!("{why}: {steps:#?}"),
            Err(error) => panic!("{error}"),
        }
    }
    eprintln!("{sequences} sequences, {} calls", functions::called().iter().sum::<u64>());
}
