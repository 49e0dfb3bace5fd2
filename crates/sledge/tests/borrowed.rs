//! A child of `vfork` runs on the memory, the stack and the thread's block of its parent.
#![allow(missing_docs, reason = "tests")]

use nix::libc;
use sledge::{Ops, Tracer};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

#[inline(never)]
fn work(value: u64) -> u64 {
    black_box(value) * 3 + 1
}

/// Calls the function in a child, which ends.
fn call_in_borrowed_block() {
    // SAFETY: the child calls a function that changes nothing, and ends.
    #[expect(deprecated, reason = "what posix_spawn does underneath")]
    unsafe {
        let child = libc::vfork();
        if child == 0 {
            work(1);
            libc::_exit(0);
        }
        assert!(child > 0);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

#[test]
fn a_thread_whose_first_call_was_its_childs_is_waited_for() {
    let tracer = Tracer::current().unwrap();
    let (calls, inside) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let ops = {
        let (calls, inside) = (Arc::clone(&calls), Arc::clone(&inside));
        Ops::entry(move |_| {
            if calls.fetch_add(1, SeqCst) > 0 {
                inside.store(true, SeqCst);
                std::thread::sleep(Duration::from_millis(200));
                inside.store(false, SeqCst);
            }
        })
    };
    let ops = tracer.register(ops.filter("*borrowed::work")).unwrap();
    let thread = std::thread::spawn(|| {
        call_in_borrowed_block();
        work(2)
    });
    while !inside.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    ops.unregister().unwrap();
    assert!(!inside.load(SeqCst), "unregistered, and still running");
    assert_eq!(thread.join().unwrap(), 7);
    assert_eq!(calls.load(SeqCst), 2);
}
