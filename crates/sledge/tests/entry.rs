//! Callbacks on the entry of this program's own functions, under running threads.
#![allow(missing_docs, reason = "tests")]

use sledge::{Ops, Tracer};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

#[inline(never)]
fn alpha(value: u64) -> u64 {
    black_box(value) * 3 + 1
}

#[inline(never)]
fn beta(value: u64) -> u64 {
    black_box(value) ^ 0x55
}

#[inline(never)]
fn gamma(value: u64) -> u64 {
    black_box(value) * 5 + 2
}

#[inline(never)]
fn delta(value: u64) -> u64 {
    black_box(value) ^ 0xaa
}

fn counter() -> (Arc<AtomicU64>, Ops) {
    let count = Arc::new(AtomicU64::new(0));
    let own = Arc::clone(&count);
    (
        count,
        Ops::entry(move |_| {
            own.fetch_add(1, Relaxed);
        }),
    )
}

#[test]
fn a_callback_sees_every_call_while_it_is_registered_and_none_after() {
    let tracer = Tracer::current().unwrap();
    let (count, ops) = counter();
    let ops = tracer.register(ops.filter("*entry::alpha")).unwrap();
    assert_eq!(ops.wanted(), 1);
    for value in 0..1000 {
        assert_eq!(alpha(value), value * 3 + 1);
        assert_eq!(beta(value), value ^ 0x55);
    }
    assert_eq!(count.load(Relaxed), 1000);
    ops.set_filter(&["*entry::beta"]).unwrap();
    alpha(1);
    beta(1);
    beta(1);
    assert_eq!(count.load(Relaxed), 1002);
    ops.unregister().unwrap();
    alpha(1);
    beta(1);
    assert_eq!(count.load(Relaxed), 1002);
    assert_eq!(Arc::strong_count(&count), 1, "the closure is gone");
}

#[test]
fn clients_come_and_go_under_running_threads() {
    let tracer = Tracer::current().unwrap();
    let (stop, wrong) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    for value in 0..1000 {
                        let right = gamma(value) == value * 5 + 2 && delta(value) == value ^ 0xaa;
                        wrong.fetch_add(u64::from(!right), Relaxed);
                    }
                }
            });
        }
        // The threads are in a callback nine tenths of their time, and stay there while others have
        // the processor: each end has to wait until it meets all of them outside.
        for round in 0..50 {
            let (first, one) = counter();
            let (second, two) = counter();
            let one = tracer.register(one.filter("*entry::gamma")).unwrap();
            let two = tracer.register(two.filter("*entry::[gd]*")).unwrap();
            while first.load(Relaxed) < 10 || second.load(Relaxed) < 10 {
                std::thread::yield_now();
            }
            drop(one);
            let before = first.load(Relaxed);
            std::thread::yield_now();
            assert_eq!(first.load(Relaxed), before, "round {round}");
            drop(two);
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(wrong.load(Relaxed), 0);
}

#[inline(never)]
fn epsilon(value: u64) -> u64 {
    black_box(value) * 7 + 3
}

/// Each end waits for its own callback, also while other threads free what was retired.
#[test]
fn an_end_returns_after_its_callback_though_others_end_at_the_same_time() {
    let tracer = Tracer::current().unwrap();
    let stop = AtomicBool::new(false);
    let late = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for value in 0.. {
                assert_eq!(epsilon(value), value * 7 + 3);
                if stop.load(Relaxed) {
                    break;
                }
            }
        });
        // Others, that change and end in the meantime.
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let (_, ops) = counter();
                    let ops = tracer.register(ops.filter("entry::zeta")).unwrap();
                    ops.set_enabled(false).unwrap();
                }
            });
        }
        for _ in 0..100 {
            let inside = Arc::new(AtomicU64::new(0));
            let own = Arc::clone(&inside);
            let sleeps = Ops::entry(move |_| {
                own.fetch_add(1, Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(2));
                own.fetch_sub(1, Relaxed);
            });
            let ops = tracer.register(sleeps.filter("entry::epsilon")).unwrap();
            while inside.load(Relaxed) == 0 {
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
            ops.unregister().unwrap();
            late.fetch_add(inside.load(Relaxed), Relaxed);
            late.fetch_add(Arc::strong_count(&inside) as u64 - 1, Relaxed);
        }
        stop.store(true, Relaxed);
    });
    assert_eq!(late.load(Relaxed), 0);
}

#[inline(never)]
pub fn zeta(value: u64) -> u64 {
    black_box(value) + 9
}

#[inline(never)]
fn eta(value: u64) -> u64 {
    black_box(value) + 11
}

/// A change that cannot be made is not half made: the next one finds everything as it was.
#[test]
fn a_thread_that_blocks_traps_puts_a_change_off() {
    let tracer = Tracer::current().unwrap();
    let (count, ops) = counter();
    let ops = tracer.register(ops.filter("entry::eta").disabled()).unwrap();
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        nix::sys::signal::SigSet::all().thread_block().unwrap();
        tell.send(()).unwrap();
        let _ = wait.recv();
    });
    told.recv().unwrap();
    let refused = ops.set_enabled(true);
    assert!(matches!(refused, Err(sledge::Error::TrapsBlocked { .. })), "{refused:?}");
    assert_eq!(eta(black_box(1)), 12);
    drop(stop);
    thread.join().unwrap();
    ops.set_enabled(true).unwrap();
    assert_eq!(eta(black_box(2)), 13);
    assert_eq!(count.load(Relaxed), 1);
    ops.unregister().unwrap();
}
