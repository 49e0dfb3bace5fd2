//! Functions that are replaced, and code of one's own in place of trampolines.
#![allow(missing_docs, reason = "tests")]

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};
use sledge::{Error, Ops, Tracer};
use std::ffi::c_void;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

extern "C" fn four() -> i32 {
    4
}

/// Threads call it all the while; each result is of the one or of the other.
#[test]
fn a_function_of_libc_is_replaced_and_given_back() {
    let tracer = Tracer::current().unwrap();
    // SAFETY: no arguments.
    let parent = unsafe { libc::getppid() };
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    // SAFETY: no arguments.
                    let id = unsafe { libc::getppid() };
                    assert!(id == parent || id == 4, "{id}");
                    seen[usize::from(id == 4)].fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let wait = |at: usize| {
        let before = seen[at].load(Relaxed);
        while seen[at].load(Relaxed) < before + 100 {
            std::thread::yield_now();
        }
    };
    for _ in 0..20 {
        wait(0);
        // SAFETY: as getppid: no arguments, returns an integer.
        let ops = unsafe { Ops::replace(four as *const c_void) };
        let ops = tracer.register(ops.filter("getppid@libc")).unwrap();
        // SAFETY: no arguments.
        assert_eq!(unsafe { libc::getppid() }, 4);
        wait(1);
        ops.unregister().unwrap();
        // SAFETY: no arguments.
        assert_eq!(unsafe { libc::getppid() }, parent);
        let replaced = seen[1].load(Relaxed);
        wait(0);
        // A thread that was on its way has come back.
        assert!(seen[1].load(Relaxed) <= replaced + 3);
    }
    stop.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[inline(never)]
fn contested(value: u64) -> u64 {
    black_box(value) + 1
}

extern "C" fn one_way(value: u64) -> u64 {
    black_box(value) + 100
}

extern "C" fn other_way(value: u64) -> u64 {
    black_box(value) + 200
}

#[test]
fn two_cannot_replace_the_same_function() {
    let tracer = Tracer::current().unwrap();
    let replace = |by: extern "C" fn(u64) -> u64| {
        // SAFETY: takes and returns an integer, as `contested` does.
        unsafe { Ops::replace(by as *const c_void) }.filter("replace::contested")
    };
    let first = tracer.register(replace(one_way)).unwrap();
    let refused = tracer.register(replace(other_way)).unwrap_err();
    assert!(matches!(refused, Error::Ops(_)), "{refused:?}");
    assert!(refused.to_string().contains("replace::contested"), "{refused}");
    assert_eq!(contested(black_box(1)), 101);
    let enabled = tracer.enabled_functions().unwrap();
    assert!(enabled.contains("replace::contested (1) R I"), "{enabled}");
    first.unregister().unwrap();
    let second = tracer.register(replace(other_way)).unwrap();
    assert_eq!(contested(black_box(1)), 201);
    second.unregister().unwrap();
    assert_eq!(contested(black_box(1)), 2);
}

#[inline(never)]
fn direct(value: u64) -> u64 {
    black_box(value) + 3
}

/// `lock inc qword [rip + 0xf8]; ret`: counts in the page behind.
const COUNTER: [u8; 9] = [0xf0, 0x48, 0xff, 0x05, 0xf8, 0x0f, 0, 0, 0xc3];

/// Its page cannot be written at all, and holds the same in the end.
#[test]
fn code_of_ones_own_is_never_written() {
    let tracer = Tracer::current().unwrap();
    let length = NonZeroUsize::new(2 * 4096).unwrap();
    let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a mapping of our own, whose first page is code from here on.
    let (code, count) = unsafe {
        let pages = mmap_anonymous(None, length, rights, MapFlags::MAP_PRIVATE).unwrap();
        pages.cast::<[u8; 9]>().write(COUNTER);
        mprotect(pages, 4096, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC).unwrap();
        (pages.cast::<u8>(), pages.cast::<u64>().add(4096 / 8))
    };
    // SAFETY: the page was written above.
    let bytes = || unsafe { std::slice::from_raw_parts(code.as_ptr(), 4096).to_vec() };
    let before = bytes();
    // SAFETY: changes flags only, and the page stays.
    let counted = |calls: u64| unsafe { assert_eq!(count.read_volatile(), calls) };
    for round in 0..10 {
        // SAFETY: as above.
        let ops = unsafe { Ops::direct(code.as_ptr().cast::<c_void>()) };
        let ops = tracer.register(ops.filter("replace::direct")).unwrap();
        assert_eq!(direct(black_box(1)), 4);
        let note = Arc::new(AtomicU64::new(0));
        let (enter, leave) = (Arc::clone(&note), Arc::clone(&note));
        let more = Ops::call(
            move |_| Some(enter.fetch_add(1, Relaxed)),
            move |_, _| _ = leave.fetch_add(10, Relaxed),
        );
        let more = tracer.register(more.filter("replace::direct")).unwrap();
        assert_eq!(direct(black_box(2)), 5);
        ops.set_enabled(false).unwrap();
        assert_eq!(direct(black_box(3)), 6);
        ops.set_enabled(true).unwrap();
        more.unregister().unwrap();
        assert_eq!(direct(black_box(4)), 7);
        ops.unregister().unwrap();
        assert_eq!(direct(black_box(5)), 8);
        assert_eq!(note.load(Relaxed), 22);
        counted(3 * (round + 1));
    }
    assert_eq!(bytes(), before);
}
