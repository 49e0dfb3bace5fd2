//! Callbacks that see entry and exit, on functions of this process.
#![allow(missing_docs, reason = "tests")]

use sledge::{Dispatch, Ops, Tracer};
use std::cell::RefCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// What happened, as lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Logs entries with their first argument, and exits with what was handed over and the result.
fn logger(name: &'static str, log: &Log) -> Ops {
    let (enter, leave) = (log.clone(), log.clone());
    Ops::call(
        move |call| {
            let argument = call.argument(0).unwrap_or(0);
            enter.push(format!("{name} > {argument}"));
            Some(argument)
        },
        move |end, argument: u64| leave.push(format!("{name} < {argument} = {}", end.value())),
    )
    .save_regs()
}

#[inline(never)]
fn square(value: u64) -> u64 {
    black_box(value) * value
}

#[inline(never)]
fn factorial(value: u64) -> u64 {
    if black_box(value) == 0 { 1 } else { value * factorial(value - 1) }
}

#[test]
fn data_goes_from_entry_to_exit() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    let ops = tracer.register(logger("a", &log).filter("exit::square")).unwrap();
    assert_eq!(square(7), 49);
    assert_eq!(log.take(), ["a > 7", "a < 7 = 49"]);
    ops.set_enabled(false).unwrap();
    assert_eq!(square(8), 64);
    ops.set_enabled(true).unwrap();
    assert_eq!(square(9), 81);
    assert_eq!(log.take(), ["a > 9", "a < 9 = 81"]);
    ops.unregister().unwrap();
    assert_eq!(square(3), 9);
    assert!(log.take().is_empty());
    assert_eq!(tracer.missed_calls(), 0);
}

#[test]
fn calls_nest() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    let ops = tracer.register(logger("f", &log).filter("exit::factorial")).unwrap();
    assert_eq!(factorial(3), 6);
    let expected =
        ["f > 3", "f > 2", "f > 1", "f > 0", "f < 0 = 1", "f < 1 = 1", "f < 2 = 2", "f < 3 = 6"];
    assert_eq!(log.take(), expected);
    ops.unregister().unwrap();
}

#[inline(never)]
fn shared(value: u64) -> u64 {
    black_box(value) + 1
}

/// Each gets its own exits, whatever others do; entry-only ops are there as well.
#[test]
fn many_clients_at_once() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    let entries = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&entries);
    let plain = Ops::entry(move |_| _ = count.fetch_add(1, Relaxed));
    let plain = tracer.register(plain.filter("exit::shared")).unwrap();
    let first = tracer.register(logger("first", &log).filter("exit::shared")).unwrap();
    let picky = {
        let log = log.clone();
        let even = |call: &mut sledge::Call<'_>| call.argument(0).filter(|value| value % 2 == 0);
        let leave = move |_: &mut sledge::Return<'_>, value: u64| log.push(format!("even {value}"));
        tracer.register(Ops::call(even, leave).save_regs().filter("exit::shared")).unwrap()
    };
    assert_eq!((shared(1), shared(2)), (2, 3));
    let expected = ["first > 1", "first < 1 = 2", "first > 2", "even 2", "first < 2 = 3"];
    assert_eq!(log.take(), expected);
    first.unregister().unwrap();
    assert_eq!(shared(4), 5);
    assert_eq!(log.take(), ["even 4"]);
    picky.unregister().unwrap();
    assert_eq!(shared(6), 7);
    assert!(log.take().is_empty());
    assert_eq!(entries.load(Relaxed), 4);
    plain.unregister().unwrap();
}

#[inline(never)]
fn crowded(value: u64) -> u64 {
    black_box(value) + 2
}

#[test]
fn as_many_as_there_may_be() {
    let tracer = Tracer::current().unwrap();
    let sum = Arc::new(AtomicU64::new(0));
    let client = |number: u64| {
        let sum = Arc::clone(&sum);
        Ops::call(move |_| Some(number), move |_, number| _ = sum.fetch_add(1 << number, Relaxed))
            .filter("exit::crowded")
    };
    let mut all = Vec::new();
    let refused = loop {
        match tracer.register(client(all.len() as u64 % 64)) {
            Ok(ops) => all.push(ops),
            Err(error) => break error,
        }
    };
    // Other tests have some of the 64 at the time.
    assert!((32..=64).contains(&all.len()), "{}", all.len());
    assert!(refused.to_string().contains("64"), "{refused}");
    assert_eq!(crowded(1), 3);
    let expected = (0..all.len()).fold(0, |sum: u64, number| sum | 1 << number);
    assert_eq!(sum.load(Relaxed), expected);
}

#[inline(never)]
fn throws(value: u64) -> u64 {
    let kept = Noisy(value);
    if black_box(value) > 10 {
        std::panic::panic_any(value);
    }
    kept.0 + 1
}

#[inline(never)]
fn passes_on(value: u64) -> u64 {
    throws(value) + throws(value + 1)
}

struct Noisy(u64);

thread_local! {
    static DROPPED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Noisy {
    fn drop(&mut self) {
        DROPPED.with_borrow_mut(|dropped| dropped.push(self.0));
    }
}

/// The unwinder finds its way through hooked frames, and what it skips has no exit.
#[test]
fn panics_go_through() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    let ops = logger("p", &log).filter("exit::throws").filter("exit::passes_on");
    let ops = tracer.register(ops).unwrap();
    for _ in 0..3 {
        let thrown = std::panic::catch_unwind(|| passes_on(10)).unwrap_err();
        assert_eq!(thrown.downcast_ref::<u64>(), Some(&11));
        assert_eq!(DROPPED.take(), [10, 11]);
        assert_eq!(log.take(), ["p > 10", "p > 10", "p < 10 = 11", "p > 11"]);
    }
    assert_eq!(passes_on(1), 5);
    assert_eq!(log.take().len(), 6);
    ops.unregister().unwrap();
}

#[inline(never)]
fn backtrace_below(depth: u64) -> String {
    if black_box(depth) == 0 {
        return std::backtrace::Backtrace::force_capture().to_string();
    }
    let text = backtrace_below(depth - 1);
    black_box(text)
}

#[test]
fn backtraces_go_through() {
    let tracer = Tracer::current().unwrap();
    let plain = backtrace_below(5);
    let seen: Arc<Mutex<String>> = Arc::default();
    let keep = Arc::clone(&seen);
    let ops = Ops::call(
        |_| Some(()),
        move |_, ()| {
            *keep.lock().unwrap() = std::backtrace::Backtrace::force_capture().to_string();
        },
    );
    let ops = tracer.register(ops.filter("exit::backtrace_below")).unwrap();
    let traced = backtrace_below(5);
    ops.unregister().unwrap();
    let names = |text: &str| text.lines().filter(|line| line.contains("exit::")).count();
    assert!(names(&plain) >= 5, "{plain}");
    let functions = |text: &str| {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("at "));
        let name = |line: &str| line.split_once(": ").map(|(_, name)| name.to_owned());
        lines.filter_map(name).filter(|name| name != "<unknown>").collect::<Vec<_>>()
    };
    assert_eq!(functions(&traced), functions(&plain), "{traced}");
    // And from a callback, to the caller of the traced function.
    let from_callback = seen.lock().unwrap().clone();
    assert!(from_callback.contains("test::run_test"), "{from_callback}");
}

#[inline(never)]
fn waits(until: &std::sync::Barrier, value: u64) -> u64 {
    until.wait();
    until.wait();
    black_box(value) + 4
}

/// A call that is under way keeps nobody from unregistering, has no exit then, and returns.
#[test]
fn a_call_outlives_its_client() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    let gone = Arc::new(());
    let held = Arc::clone(&gone);
    let note = log.clone();
    let ops = Ops::call(|_| Some(1_u8), move |_, _| note.push(format!("{held:?}")));
    let ops = tracer.register(ops.filter("exit::waits")).unwrap();
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let other = Arc::clone(&barrier);
    let thread = std::thread::spawn(move || waits(&other, 1));
    barrier.wait();
    ops.unregister().unwrap();
    assert_eq!(Arc::strong_count(&gone), 1, "the closure is dropped");
    // Another has its place, and must not be taken for it.
    let next = tracer.register(logger("next", &log).filter("exit::waits")).unwrap();
    barrier.wait();
    assert_eq!(thread.join().unwrap(), 5);
    assert!(log.take().is_empty());
    next.unregister().unwrap();
}

#[inline(never)]
fn busy(value: u64) -> u64 {
    black_box(value) ^ 0x55
}

/// Exits match entries, under threads, while clients come and go.
#[test]
fn exits_match_entries() {
    let tracer = Tracer::current().unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut calls = 0_u64;
                while !stop.load(Relaxed) {
                    assert_eq!(busy(calls), calls ^ 0x55);
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for round in 0..60 {
        let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)]);
        let (enter, leave) = (Arc::clone(&counts), Arc::clone(&counts));
        let ops = Ops::call(
            move |call| {
                enter[0].fetch_add(1, Relaxed);
                Some([call.function(), round])
            },
            move |end, [function, number]: [u64; 2]| {
                leave[1].fetch_add(1, Relaxed);
                leave[2]
                    .fetch_add(u64::from(function != end.function() || number != round), Relaxed);
            },
        );
        let ops = tracer.register(ops.filter("exit::busy")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1 + round % 4));
        ops.unregister().unwrap();
        let [entries, exits, wrong] = [0, 1, 2].map(|at| counts[at].load(Relaxed));
        // One call in each thread may have been under way.
        assert!(exits <= entries && entries - exits <= 3, "{entries} entries, {exits} exits");
        assert_eq!(wrong, 0);
    }
    stop.store(true, Relaxed);
    for thread in threads {
        assert!(thread.join().unwrap() > 0);
    }
}

std::arch::global_asm!(
    ".pushsection .text.exit_tails, \"ax\"",
    ".macro tail name, to",
    ".balign 16",
    ".type \\name, @function",
    "\\name: lea rdi, [rdi + 1]",
    "lea rax, [rdi + rdi]",
    "jmp \\to",
    ".size \\name, . - \\name",
    ".endm",
    "tail exit_tail_first, exit_tail_second",
    "tail exit_tail_second, exit_tail_last",
    ".balign 16",
    ".type exit_tail_last, @function",
    "exit_tail_last: lea rax, [rdi + 100]",
    "nop",
    "ret",
    ".size exit_tail_last, . - exit_tail_last",
    // Jumps to itself as often as its argument says.
    ".balign 16",
    ".type exit_tail_loop, @function",
    "exit_tail_loop: lea rax, [rdi + 0]",
    "lea rsi, [rdi - 1]",
    "mov rdi, rsi",
    "test rax, rax",
    "jz 2f",
    "jmp [rip + 3f]",
    "2: ret",
    ".size exit_tail_loop, . - exit_tail_loop",
    ".popsection",
    ".pushsection .data.rel.ro, \"aw\"",
    "3: .quad exit_tail_loop",
    ".popsection",
);

unsafe extern "C" {
    safe fn exit_tail_first(value: u64) -> u64;
    safe fn exit_tail_loop(value: u64) -> u64;
}

/// Who ends in a jump to another function returns when that does.
#[test]
fn tail_calls_return_together() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    let ops = tracer.register(logger("t", &log).filter("exit_tail_*").notrace("*loop")).unwrap();
    for _ in 0..2 {
        assert_eq!(exit_tail_first(1), 103);
        let expected = ["t > 1", "t > 2", "t > 3", "t < 3 = 103", "t < 2 = 103", "t < 1 = 103"];
        assert_eq!(log.take(), expected);
    }
    ops.unregister().unwrap();
    assert_eq!(exit_tail_first(1), 103);
}

/// They cannot be told apart without end: what is too much is left out, and counted.
#[test]
fn endless_tail_calls_are_counted() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    let ops = tracer.register(logger("l", &log).filter("exit_tail_loop")).unwrap();
    let before = tracer.missed_calls();
    assert_eq!(exit_tail_loop(1000), 0);
    let lines = log.take();
    let missed = tracer.missed_calls() - before;
    assert_eq!(lines.len() as u64 / 2 + missed, 1001);
    assert!(missed > 0 && lines.len() >= 64, "{missed} missed, {} lines", lines.len());
    assert_eq!(exit_tail_loop(2), 0);
    assert_eq!(log.take().len(), 6);
    ops.unregister().unwrap();
}

#[inline(never)]
fn replaced(value: u64) -> u64 {
    black_box(value) + 1
}

extern "C" fn replacement(value: u64) -> u64 {
    black_box(value) + 1000
}

/// The exit of a function that another stands for is seen when that returns.
#[test]
fn replaced_functions_return_as_well() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    // SAFETY: both take and return one integer.
    let ops = unsafe { Ops::replace(replacement as *const std::ffi::c_void) };
    let replace = tracer.register(ops.filter("exit::replaced")).unwrap();
    assert_eq!(replaced(1), 1001);
    let ops = tracer.register(logger("r", &log).filter("exit::replaced")).unwrap();
    assert_eq!(replaced(2), 1002);
    assert_eq!(log.take(), ["r > 2", "r < 2 = 1002"]);
    replace.unregister().unwrap();
    assert_eq!(replaced(3), 4);
    assert_eq!(log.take(), ["r > 3", "r < 3 = 4"]);
    ops.unregister().unwrap();
}

#[inline(never)]
fn changed(value: u64) -> u64 {
    black_box(value) + 1
}

#[test]
fn results_can_be_changed() {
    let tracer = Tracer::current().unwrap();
    let ops = Ops::call(
        |_| Some(()),
        // SAFETY: the caller takes any integer.
        |end, ()| unsafe { end.set_value(end.value() * 10) },
    );
    let ops = tracer.register(ops.filter("exit::changed")).unwrap();
    assert_eq!(changed(1), 20);
    ops.unregister().unwrap();
    assert_eq!(changed(1), 2);
}

#[inline(never)]
fn floats(a: f64, b: f32) -> (f64, f32) {
    (black_box(a) * 2.0, black_box(b) * 3.0)
}

/// What a callback does with vector registers is not seen by the function nor by its caller.
#[test]
fn results_in_vector_registers_survive() {
    let tracer = Tracer::current().unwrap();
    let noise = || {
        let text = format!("{}", black_box(1.5_f64) * black_box(2.5));
        black_box(text.repeat(10));
    };
    let ops = Ops::call(
        move |_| {
            noise();
            Some(())
        },
        move |_, ()| noise(),
    );
    let ops = tracer.register(ops.filter("exit::floats")).unwrap();
    for _ in 0..100 {
        assert_eq!(floats(1.25, 2.5), (2.5, 7.5));
    }
    ops.unregister().unwrap();
}

#[inline(never)]
fn panicking(value: u64) -> u64 {
    black_box(value) + 6
}

#[test]
fn a_panicking_callback_ends_with_itself() {
    let tracer = Tracer::current().unwrap();
    let ops = Ops::call(|_| Some(()), |_, ()| panic!("in the callback"));
    let ops = tracer.register(ops.filter("exit::panicking")).unwrap();
    assert_eq!(panicking(1), 7);
    assert_eq!(panicking(1), 7);
    assert_eq!(ops.panics(), 1);
    ops.unregister().unwrap();
}

#[inline(never)]
fn listed(value: u64) -> u64 {
    black_box(value) + 8
}

/// The list is for those who see entries only; together they are still right.
#[test]
fn the_list_does_not_concern_exits() {
    let (tracer, log) = (Tracer::current().unwrap(), Log::default());
    let ops = tracer.register(logger("x", &log).filter("exit::listed")).unwrap();
    let note = log.clone();
    let entry = Ops::entry(move |_| note.push("entry".into()));
    let entry = tracer.register(entry.filter("exit::listed")).unwrap();
    for dispatch in [Dispatch::List, Dispatch::Set] {
        tracer.set_dispatch(dispatch).unwrap();
        assert_eq!(listed(black_box(1)), 9);
        assert_eq!(log.take(), ["entry", "x > 1", "x < 1 = 9"]);
    }
    entry.unregister().unwrap();
    ops.unregister().unwrap();
}
