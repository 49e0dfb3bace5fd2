//! Objects that come and go under calling threads: filters hold for them before any of their code runs.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::print_stderr, reason = "says what is skipped")]

use nix::libc;
use sledge::{Ops, Tracer};
use std::ffi::{CString, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

fn library(directory: &Path, name: &str, text: &str) -> Option<PathBuf> {
    let (source, library) = (directory.join(name), directory.join(name).with_extension("so"));
    let source = source.with_extension("c");
    std::fs::write(&source, text).unwrap();
    let arguments = ["-shared", "-fPIC", "-O1", "-o"];
    let status = Command::new("cc").args(arguments).args([&library, &source]).status().ok()?;
    assert!(status.success());
    Some(library)
}

fn open(library: &Path) -> *mut c_void {
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: one of the libraries of these tests.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null());
    handle
}

fn close(handle: *mut c_void) {
    // SAFETY: of `open`.
    assert_eq!(unsafe { libc::dlclose(handle) }, 0);
}

fn counted(filter: &str) -> (Arc<AtomicU64>, Ops) {
    let count = Arc::new(AtomicU64::new(0));
    let own = Arc::clone(&count);
    (count, Ops::entry(move |_| _ = own.fetch_add(1, Relaxed)).filter(filter))
}

const CONSTRUCTED: &str = "
    __attribute__((noinline)) int loader_helper(int x) { return x * 3 + 1; }
    __attribute__((constructor)) static void begin(void) { for (int i = 0; i < 5; i++) loader_helper(i); }
    __attribute__((destructor)) static void end(void) { for (int i = 0; i < 7; i++) loader_helper(i); }
";

#[test]
fn constructors_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let Some(library) = library(directory.path(), "constructed", CONSTRUCTED) else {
        eprintln!("skipped: constructors are seen (no cc)");
        return;
    };
    let tracer = Tracer::current().unwrap();
    assert!(tracer.follows_loader().unwrap());
    let (count, ops) = counted("loader_helper");
    let ops = tracer.register(ops).unwrap();
    assert_eq!(ops.pending(), ["loader_helper"]);
    for round in 0..20 {
        let handle = open(&library);
        assert_eq!(count.load(Relaxed), round * 12 + 5);
        assert_eq!(ops.wanted(), 1);
        close(handle);
        assert_eq!(count.load(Relaxed), round * 12 + 12);
        assert_eq!(ops.wanted(), 0);
    }
    ops.unregister().unwrap();
}

/// Threads open and close, each a library of its own, while another changes what is wanted in all.
#[test]
fn changes_and_loading_do_not_meet() {
    let directory = tempfile::tempdir().unwrap();
    let text = |number: usize| {
        let functions = (0..40).map(|of| {
            format!("__attribute__((noinline)) int meet_{number}_{of}(int x) {{ return x * 3 + {of}; }}\n")
        });
        let calls = (0..40).map(|of| format!("s += meet_{number}_{of}(1);\n")).collect::<String>();
        functions.collect::<String>()
            + &format!("int meet_all_{number}(void) {{ int s = 0; {calls} return s; }}")
    };
    let make = |number| library(directory.path(), &format!("meet{number}"), &text(number));
    let Some(libraries) = (0..3).map(make).collect::<Option<Vec<_>>>() else {
        eprintln!("skipped: changes and loading do not meet (no cc)");
        return;
    };
    let tracer = Tracer::current().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = libraries
        .into_iter()
        .enumerate()
        .map(|(number, library)| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let name = CString::new(format!("meet_all_{number}")).unwrap();
                let mut rounds = 0;
                while !stop.load(Relaxed) {
                    let handle = open(&library);
                    // SAFETY: a function of this library, of this type.
                    let sum = unsafe {
                        let all = libc::dlsym(handle, name.as_ptr());
                        assert!(!all.is_null());
                        std::mem::transmute::<*mut c_void, extern "C" fn() -> i32>(all)()
                    };
                    assert_eq!(sum, 40 * 3 + 39 * 40 / 2);
                    close(handle);
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let (count, ops) = counted("meet_*");
    let ops = tracer.register(ops).unwrap();
    let begin = std::time::Instant::now();
    let mut changes = 0;
    while begin.elapsed().as_secs() < 3 {
        ops.set_enabled(changes % 2 == 0).unwrap();
        changes += 1;
    }
    ops.unregister().unwrap();
    stop.store(true, Relaxed);
    let rounds: Vec<u32> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(changes > 10 && rounds.iter().all(|&rounds| rounds > 10), "{changes} {rounds:?}");
    assert!(count.load(Relaxed) > 0);
}
