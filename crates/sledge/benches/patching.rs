//! What changes cost, while four threads run through the sites that change. One JSON object a case,
//! on standard output. `ms` is wall time, of a machine that has less processors than threads perhaps;
//! `ms of the thread` is what the thread that makes the change computed.
//!
//! `cargo xtask bench patching` runs it.
#![allow(missing_docs, clippy::print_stdout, reason = "a program")]

use nix::time::ClockId;
use sledge::{Ops, Registers, Tracer};
use std::arch::global_asm;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

const THREADS: usize = 4;
const ROUNDS: usize = 9;
/// Functions of each table, and how its functions are called.
const TABLES: [(&str, usize); 3] = [("many_a", 1_000), ("many_b", 9_000), ("many_c", 90_000)];
const FUNCTION_BYTES: usize = 16;

// Three tables of functions, one behind the other.
global_asm!(
    ".macro many_function name",
    ".balign 16",
    ".type \\name\\@, @function",
    "\\name\\@: lea rax, [rdi + rsi]",
    "nop",
    "ret",
    ".size \\name\\@, 6",
    ".endm",
    ".pushsection .text.many, \"ax\"",
    ".balign 16",
    "many_begin:",
    ".rept 1000",
    "many_function many_a",
    ".endr",
    ".rept 9000",
    "many_function many_b",
    ".endr",
    ".rept 90000",
    "many_function many_c",
    ".endr",
    ".popsection",
);

unsafe extern "C" {
    static many_begin: u8;
}

#[inline(never)]
extern "C" fn empty(_: u64, _: u64, _: *mut c_void, _: *mut Registers) {}

fn ops(tables: usize) -> Ops {
    // SAFETY: it does nothing.
    let ops = unsafe { Ops::raw(empty, std::ptr::null_mut()) };
    TABLES[..tables].iter().fold(ops, |ops, (name, _)| ops.filter(format!("{name}*")))
}

fn main() {
    let tracer = Tracer::current().expect("a process that can be traced");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let stop = &stop;
            scope.spawn(move || run(thread, stop));
        }
        batches(&tracer);
        toggles(&tracer);
        round_trips(&tracer);
        stop.store(true, Relaxed);
    });
}

/// Calls functions all over the tables.
fn run(thread: usize, stop: &AtomicBool) {
    let count: usize = TABLES.iter().map(|(_, count)| count).sum();
    let begin = (&raw const many_begin).addr();
    let mut at = thread * count / THREADS;
    while !stop.load(Relaxed) {
        at = (at + 7919) % count;
        // SAFETY: one of the functions above: it adds.
        let sum = unsafe {
            let function: extern "C" fn(u64, u64) -> u64 =
                std::mem::transmute(begin + at * FUNCTION_BYTES);
            function(at as u64, 1)
        };
        assert_eq!(sum, at as u64 + 1, "a wrong result");
    }
}

/// Arms and disarms many at once: cold, when they are generated and placed first, and warm.
fn batches(tracer: &Tracer) {
    let mut sites = 0;
    for tables in 1..=TABLES.len() {
        sites += TABLES[tables - 1].1;
        // New ones of the tables before are warm already: take the new table alone for that.
        let before = resident();
        let fresh = &TABLES[tables - 1];
        // SAFETY: it does nothing.
        let cold = unsafe { Ops::raw(empty, std::ptr::null_mut()) };
        let cold = cold.filter(format!("{}*", fresh.0)).disabled();
        let cold = tracer.register(cold).expect("registered");
        let begin = Times::now();
        cold.set_enabled(true).expect("enabled");
        begin.passed().show("arm", "cold", fresh.1);
        assert_eq!(cold.wanted(), fresh.1);
        let memory = resident().saturating_sub(before) as f64 / fresh.1 as f64;
        show("memory", "cold", fresh.1, "bytes a site", memory);
        cold.unregister().expect("unregistered");
        let warm = tracer.register(ops(tables).disabled()).expect("registered");
        let (mut arm, mut disarm) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begin = Times::now();
            warm.set_enabled(true).expect("enabled");
            arm.push(begin.passed());
            let begin = Times::now();
            warm.set_enabled(false).expect("disabled");
            disarm.push(begin.passed());
        }
        median(arm).show("arm", "warm", sites);
        median(disarm).show("disarm", "warm", sites);
        warm.unregister().expect("unregistered");
    }
}

/// One hot site.
fn toggles(tracer: &Tracer) {
    // SAFETY: it does nothing.
    let ops = unsafe { Ops::raw(empty, std::ptr::null_mut()) };
    let ops = tracer.register(ops.filter("many_a0").disabled()).expect("registered");
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed().as_secs_f64() < 1.0 {
        ops.set_enabled(count.is_multiple_of(2)).expect("toggled");
        count += 1;
    }
    show("toggle", "warm", 1, "changes a second", f64::from(count) / begin.elapsed().as_secs_f64());
}

/// A client that comes and goes: its trampoline is generated and freed.
fn round_trips(tracer: &Tracer) {
    let (begin, mut count) = (Instant::now(), 0_u32);
    while begin.elapsed().as_secs_f64() < 1.0 {
        // SAFETY: it does nothing.
        let ops = unsafe { Ops::raw(empty, std::ptr::null_mut()) };
        let ops = tracer.register(ops.filter("many_a0")).expect("registered");
        ops.unregister().expect("unregistered");
        count += 1;
    }
    let each = begin.elapsed().as_secs_f64() * 1e3 / f64::from(count);
    show("register+unregister", "warm", 1, "ms", each);
}

/// Milliseconds of the clock on the wall, and of this thread.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
struct Times {
    wall: f64,
    thread: f64,
}

impl Times {
    fn now() -> Self {
        let read = |clock| {
            let time = nix::time::clock_gettime(clock).expect("a clock");
            time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6
        };
        let clocks = (ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_THREAD_CPUTIME_ID);
        Self { wall: read(clocks.0), thread: read(clocks.1) }
    }

    fn passed(self) -> Self {
        let now = Self::now();
        Self { wall: now.wall - self.wall, thread: now.thread - self.thread }
    }

    fn show(self, what: &str, state: &str, sites: usize) {
        show(what, state, sites, "ms", self.wall);
        show(what, state, sites, "ms of the thread", self.thread);
    }
}

fn median(mut values: Vec<Times>) -> Times {
    values.sort_by(|a, b| a.thread.total_cmp(&b.thread));
    values[values.len() / 2]
}

fn show(what: &str, state: &str, sites: usize, unit: &str, value: f64) {
    println!(
        "{{\"what\":\"{what}\",\"state\":\"{state}\",\"sites\":{sites},\"unit\":\"{unit}\",\
         \"value\":{value:.3}}}"
    );
}

/// Bytes of anonymous memory that are resident.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a size");
    let kilobytes = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kilobytes.expect("a number") << 10
}
