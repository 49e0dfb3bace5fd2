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
    if std::env::var_os(AGAIN).is_some() {
        return goes_on_without_its_file();
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("deleted");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let arguments = ["--exact", "a_program_that_is_replaced_on_disk_is_traced_on", "--nocapture"];
    let output = Command::new(copy).args(arguments).env(AGAIN, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
