//! What a call costs more than plain with so many ops that want it and others that do not: the
//! matrix of the kernel's `samples/ftrace/ftrace-ops.c`. One JSON object a case, on standard output.
//!
//! `cargo xtask bench dispatch` runs it.
#![allow(missing_docs, clippy::print_stdout, reason = "a program")]

use sledge::{Dispatch, Ops, Registers, Registration, Results, Scratch, Tracer};
use std::arch::global_asm;
use std::ffi::c_void;
use std::hint::black_box;
use std::time::Instant;

/// Pairs of measurements, and calls in one.
const ROUNDS: usize = 101;
const CALLS: u64 = 1000;
const RELEVANT: [usize; 6] = [0, 1, 2, 4, 8, 16];
const IRRELEVANT: [usize; 4] = [0, 1, 10, 100];

/// Twins: in each pair one is traced. Several, since a processor's branch predictor has its
/// favourites among addresses.
const PAIRS: usize = 8;

// Entries of two tables, and a function that the other ops want.
global_asm!(
    ".macro bench_function name",
    ".balign 16",
    ".type \\name, @function",
    "\\name: .byte 0x48, 0x8d, 0x44, 0x37, 0", // lea rax, [rdi + rsi + 0]
    "ret",
    ".size \\name, . - \\name",
    ".zero 48",
    ".endm",
    ".altmacro",
    ".macro bench_pair number",
    "bench_function bench_plain_\\number",
    "bench_function bench_relevant_\\number",
    ".pushsection .data.rel.ro.bench_pairs, \"aw\"",
    ".quad bench_plain_\\number, bench_relevant_\\number",
    ".popsection",
    ".endm",
    ".pushsection .data.rel.ro.bench_pairs, \"aw\"",
    ".balign 16",
    "bench_pairs:",
    ".popsection",
    ".irp number, 0, 1, 2, 3, 4, 5, 6, 7",
    "bench_pair \\number",
    ".endr",
    ".noaltmacro",
    "bench_function bench_irrelevant",
);

unsafe extern "C" {
    static bench_pairs: [[Function; 2]; PAIRS];
}

#[inline(never)]
extern "C" fn empty(_: u64, _: u64, _: *mut c_void, _: *mut Registers) {}

fn main() {
    let tracer = Tracer::current().expect("a process that can be traced");
    RELEVANT.into_iter().filter(|&calls| calls != 0).for_each(bare);
    for save_regs in [false, true] {
        for relevant in RELEVANT {
            for irrelevant in IRRELEVANT {
                both(&tracer, relevant, irrelevant, save_regs);
            }
        }
        both(&tracer, 8, 56, save_regs);
    }
    [1, 2, 4, 8].into_iter().for_each(|clients| exits(&tracer, clients));
}

/// Ops that see entry and exit: two callbacks a call each.
fn exits(tracer: &Tracer, relevant: usize) {
    let ops: Vec<Registration> = (0..relevant)
        .map(|_| {
            // SAFETY: they do nothing.
            let ops = unsafe { Ops::raw_call(enter, leave, std::ptr::null_mut()) };
            tracer.register(ops.filter("bench_relevant_*")).expect("registered")
        })
        .collect();
    let nanoseconds = over_plain();
    println!("{{\"dispatch\":\"entry+exit\",\"relevant\":{relevant},\"value\":{nanoseconds:.3}}}");
    drop(ops);
}

#[inline(never)]
extern "C" fn enter(
    _: u64,
    _: u64,
    _: *mut c_void,
    _: *mut Registers,
    scratch: *mut Scratch,
) -> bool {
    !scratch.is_null()
}

#[inline(never)]
extern "C" fn leave(_: u64, _: u64, _: *mut c_void, _: *mut Results, _: *mut Scratch) {}

/// What the callbacks' calls alone cost, made by straight-line code: the floor of any dispatch.
fn bare(calls: usize) {
    let empty: extern "C" fn(u64, u64, *mut c_void, *mut Registers) = black_box(empty);
    let time = |calls: usize| {
        median((0..ROUNDS).map(|_| {
            let begin = Instant::now();
            for number in 0..CALLS {
                match calls {
                    0 => _ = black_box(number),
                    1 => repeat::<1>(empty, number),
                    2 => repeat::<2>(empty, number),
                    4 => repeat::<4>(empty, number),
                    8 => repeat::<8>(empty, number),
                    _ => repeat::<16>(empty, number),
                }
            }
            begin.elapsed().as_secs_f64() * 1e9 / CALLS as f64
        }))
    };
    let nanoseconds = time(calls) - time(0);
    println!("{{\"dispatch\":\"bare calls\",\"relevant\":{calls},\"value\":{nanoseconds:.3}}}");
}

#[inline(always)]
fn repeat<const CALLS: usize>(
    callback: extern "C" fn(u64, u64, *mut c_void, *mut Registers),
    number: u64,
) {
    for _ in 0..CALLS {
        callback(number, number, std::ptr::null_mut(), std::ptr::null_mut());
    }
}

/// The same ops, by both ways.
fn both(tracer: &Tracer, relevant: usize, irrelevant: usize, save_regs: bool) {
    let ops: Vec<Registration> = (0..relevant + irrelevant)
        .map(|number| {
            // Those that want it stand among the others.
            let share = |number| number * relevant / (relevant + irrelevant);
            let wants = share(number + 1) > share(number);
            let function = if wants { "bench_relevant_*" } else { "bench_irrelevant" };
            // SAFETY: it does nothing.
            let ops = unsafe { Ops::raw(empty, std::ptr::null_mut()) }.filter(function);
            tracer.register(if save_regs { ops.save_regs() } else { ops }).expect("registered")
        })
        .collect();
    for (dispatch, name) in [(Dispatch::Set, "set"), (Dispatch::List, "list")] {
        tracer.set_dispatch(dispatch).expect("dispatch");
        let nanoseconds = over_plain();
        println!(
            "{{\"dispatch\":\"{name}\",\"relevant\":{relevant},\"irrelevant\":{irrelevant},\
             \"save_regs\":{save_regs},\"value\":{nanoseconds:.3}}}"
        );
    }
    tracer.set_dispatch(Dispatch::Set).expect("dispatch");
    drop(ops);
}

type Function = unsafe extern "C" fn(u64, u64) -> u64;

/// What a call takes more than plain: the median of all pairs of twins.
fn over_plain() -> f64 {
    // SAFETY: a table that never changes.
    let pairs = unsafe { &bench_pairs };
    median(pairs.iter().map(|&[plain, relevant]| over(relevant, plain)))
}

/// The median of what a call takes more than its twin.
fn over(function: Function, twin: Function) -> f64 {
    median((0..ROUNDS).map(|_| time(function) - time(twin)))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2] + values[(values.len() - 1) / 2]) / 2.0
}

/// Nanoseconds a call.
fn time(function: Function) -> f64 {
    let begin = Instant::now();
    black_box(call(function));
    begin.elapsed().as_secs_f64() * 1e9 / CALLS as f64
}

#[inline(never)]
fn call(function: Function) -> u64 {
    let mut sum = 0;
    for number in 0..CALLS {
        // SAFETY: one of the functions above: it adds.
        sum ^= unsafe { function(number, 1) };
    }
    sum
}
