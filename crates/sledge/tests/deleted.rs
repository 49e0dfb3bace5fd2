//! A program whose file is replaced while it runs, as upgrades do.
#![allow(missing_docs, reason = "tests")]

use sledge::{Ops, Tracer};
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const AGAIN: &str = "SLEDGE_TEST_DELETED";

#[inline(never)]
fn upgraded(value: u64) -> u64 {
    black_box(value) + 21
}

fn counted() -> (Arc<AtomicU64>, Ops) {
    let count = Arc::new(AtomicU64::new(0));
    let own = Arc::clone(&count);
    (count, Ops::entry(move |_| _ = own.fetch_add(1, Relaxed)).filter("deleted::upgraded"))
}

/// Also from the beginning, and when another file has its name.
fn begins_without_its_file() {
    let file = std::env::current_exe().unwrap();
    std::fs::remove_file(&file).unwrap();
    std::fs::copy("/bin/sh", file).unwrap();
    let tracer = Tracer::current().unwrap();
    let (count, ops) = counted();
    let ops = tracer.register(ops).unwrap();
    assert_eq!(upgraded(black_box(5)), 26);
    assert_eq!(count.load(Relaxed), 1);
    ops.unregister().unwrap();
}

fn goes_on_without_its_file() {
    let tracer = Tracer::current().unwrap();
    let (first, before) = counted();
    let before = tracer.register(before).unwrap();
    assert_eq!(upgraded(black_box(1)), 22);
    std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
    let (second, after) = counted();
    let after = tracer.register(after).unwrap();
    assert_eq!(upgraded(black_box(2)), 23);
    assert_eq!((first.load(Relaxed), second.load(Relaxed)), (2, 1));
    before.unregister().unwrap();
    assert_eq!(upgraded(black_box(3)), 24);
    after.unregister().unwrap();
    assert_eq!(upgraded(black_box(4)), 25);
    assert_eq!((first.load(Relaxed), second.load(Relaxed)), (2, 2));
}

#[test]
fn a_program_that_is_replaced_on_disk_is_traced_on() {
    match std::env::var(AGAIN).as_deref() {
        Ok("before") => return begins_without_its_file(),
        Ok(_) => return goes_on_without_its_file(),
        Err(_) => {}
    }
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--exact", "a_program_that_is_replaced_on_disk_is_traced_on", "--nocapture"];
    for when in ["before", "while"] {
        let copy = directory.path().join(when);
        std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        let output = Command::new(copy).args(arguments).env(AGAIN, when).output().unwrap();
        assert!(output.status.success(), "{when}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
