//! Clients of the library come, change and go at full rate, under threads that call.
//!
//! One client is there all the time, and must see every call of half of the functions exactly once;
//! the other half is armed and disarmed as clients come and go. The others check that
//! they see what they asked for, and are not called when they have gone; what is freed is poisoned,
//! so a thread that is left in a trampoline crashes.

mod clients;
mod functions;

use crate::Outcome;
use crate::storm;
use crate::workers::{Random, THREADS, Tally, yield_to_the_writer};
use clients::Changer;
use functions::COUNT;
use nix::libc;
use sledge::{Ops, Registers, Tracer};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const CHANGERS: u64 = 2;

/// What the client that is always there has seen, by the threads that call much and all others.
static SEEN: [[AtomicU64; COUNT]; SLOTS] = [const { [const { AtomicU64::new(0) }; COUNT] }; SLOTS];
const SLOTS: usize = THREADS as usize + 1;

thread_local!(static SLOT: Cell<usize> = const { Cell::new(SLOTS - 1) });

/// Counts what a client that is always there sees.
unsafe extern "C" fn observe(function: u64, _: u64, _: *mut c_void, _: *mut Registers) {
    match functions::number(function) {
        Some(number) if is_observed(number) => SEEN[SLOT.get()][number].fetch_add(1, SeqCst),
        _ => clients::WRONG.fetch_add(1, SeqCst),
    };
}

fn is_observed(number: usize) -> bool {
    number.is_multiple_of(2)
}

pub(crate) fn run(until: Instant, storm: bool) -> Outcome {
    let tracer = Tracer::current().expect("a tracer");
    let code = functions::direct().1;
    if storm {
        // A patch begins behind the `endbr64`.
        let patches = functions::addresses().iter().enumerate();
        let patches = patches.map(|(number, address)| {
            address + if functions::name(number).contains("endbr") { 4 } else { 0 }
        });
        let call = |random: &mut Random| functions::check(random.below(COUNT), random.argument());
        storm::install(patches.collect(), call, true);
    }
    // SAFETY: for any call of any thread, and without data.
    let mut observer = unsafe { Ops::raw(observe, std::ptr::null_mut()) };
    for number in (0..COUNT).filter(|&number| is_observed(number)) {
        observer = observer.filter(functions::name(number));
    }
    let observer = tracer.register(observer).expect("the observer");
    let mut findings = Vec::new();
    if observer.wanted() != COUNT / 2 {
        findings.push(format!("{} of {} functions can be traced", observer.wanted(), COUNT / 2));
    }
    let tally = Tally::default();
    let stop = AtomicBool::new(false);
    let (mut ended, mut threads) = (0, 0);
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let tally = &tally;
            scope.spawn(move || work(number, storm, tally));
        }
        let changers = (1..=CHANGERS).map(|number| {
            let random = Random(number * 88_172_645_463_325_253);
            let mut changer = Changer { tracer, tally: &tally, random, number, stop: &stop };
            scope.spawn(move || changer.run())
        });
        let changers: Vec<_> = changers.collect();
        while Instant::now() < until && !changers.iter().any(|changer| changer.is_finished()) {
            come_and_go(&tally);
            threads += 1;
        }
        stop.store(true, SeqCst);
        for changer in changers {
            match changer.join() {
                Ok(Ok(clients)) => ended += clients,
                Ok(Err(error)) => {
                    let blocking = sledge_live::trap::threads_with_traps_blocked();
                    findings.push(format!("{error}; now {blocking:?}"));
                }
                Err(_) => findings.push("a thread that changes clients panicked".to_owned()),
            }
        }
        tally.stop();
    });
    observer.unregister().expect("an end");
    let made = functions::made().into_iter().enumerate();
    for (number, made) in made.filter(|&(number, _)| is_observed(number)) {
        let seen: u64 = SEEN.iter().map(|seen| seen[number].load(SeqCst)).sum();
        if made != seen {
            findings.push(format!("{}: {made} calls, {seen} seen", functions::name(number)));
        }
    }
    if functions::direct().1 != code {
        findings.push("caller-supplied code was written".to_owned());
    }
    let asleep = clients::ENDED_OVER_SLEEPER.load(SeqCst);
    let handled = storm::handled();
    let mut done = format!(
        "{ended} clients ended, {asleep} over a sleeping callback, {threads} threads came and went"
    );
    if storm {
        done += &format!(", {} held inside a patch by a handler", handled.held);
    }
    let wrong = tally.wrong.into_inner() + clients::WRONG.load(SeqCst) + handled.wrong;
    Outcome { done, calls: tally.calls.into_inner() + handled.calls, wrong, findings }
}

fn work(number: u64, storm: bool, tally: &Tally) {
    yield_to_the_writer();
    SLOT.set(number as usize);
    if number == 0 {
        // SAFETY: asks for a number.
        clients::CHOSEN_THREAD.store(unsafe { libc::gettid() }, SeqCst);
    }
    let timer = storm.then(|| storm::start_timer(number));
    let mut random = Random(number * 7919 + 1);
    let mut made = [0_u64; COUNT];
    while tally.goes_on(|| ()) {
        let mut wrong = 0;
        for _ in 0..1000 {
            let (function, argument) = (random.below(COUNT), random.argument());
            let result = functions::call(function, argument);
            made[function] += 1;
            wrong += u64::from(!functions::may_be(function, argument, result));
        }
        tally.add(1000, wrong);
    }
    drop(timer);
    made.iter().enumerate().for_each(|(function, &calls)| functions::note(function, calls));
}

/// A thread that lives for a moment.
fn come_and_go(tally: &Tally) {
    let thread = std::thread::spawn(|| {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        (0..100).filter(|_| !functions::check(random.below(COUNT), random.argument())).count()
    });
    match thread.join() {
        Ok(wrong) => tally.add(100, wrong as u64),
        Err(_) => tally.check(false, "a short thread panicked"),
    }
    std::thread::sleep(Duration::from_millis(2));
}
