//! What other programs read in exported recordings, against what `sledge dump` tells.

use std::path::Path;

use sledge_tests::{
    Call, Checks, End, Event, Invocation, Kind, Read, Recording, Trouble, calls, dump, export,
    first_difference, named, node_modules, read, record,
};

/// Threads, coroutines, exceptions, children, and ends in the middle.
const PROGRAMS: &[&str] = &[
    "threads4",
    "generator",
    "throw-O2",
    "fork",
    "vfork_exec",
    "sigjmp",
    "tail",
    "nest-O0",
    "deep-5000",
    "kill9",
    "exit-thread",
];

/// Bytes of a file that is validated.
const SMALL: u64 = 200_000;

/// A recording, and what is to be read of it.
struct Told {
    recording: Recording,
    events: Vec<Event>,
    calls: Vec<Call>,
}

fn told(program: &str) -> Result<Told, Trouble> {
    let recording = record(&Invocation::of(named(program))?, &[])?;
    if !matches!(recording.finished.end, End::Exited(_)) {
        return Err(recording.finished.errors().into());
    }
    let events = dump(&recording.trace)?;
    let calls = calls(&events)?;
    Ok(Told { recording, events, calls })
}

/// Exports the recording of each program, has it read, and compares call by call.
fn every_call_is_read(
    title: &'static str,
    format: &str,
    reader: impl Fn(&Path) -> Result<Read, Trouble>,
    more: impl Fn(&Told, &Read) -> Result<(), Trouble>,
) {
    let mut checks = Checks::new(title);
    for program in PROGRAMS {
        checks.case(&format!("{format}: {program}"), || {
            let told = told(program)?;
            let read = reader(&export(&told.recording.trace, format)?)?;
            first_difference(&told.calls, &read.calls)?;
            more(&told, &read)
        });
    }
    checks.finish();
}

/// Threads and processes that one of these is said to have made.
fn flows(read: &Read, maker: &str) -> usize {
    let made = format!("flow {maker} ");
    read.remarks.iter().filter(|remark| remark.starts_with(&made)).count()
}

/// A flow leads to each thread and process that a recorded call made.
fn flows_are_told(told: &Told, read: &Read) -> Result<(), Trouble> {
    let called = |name: &str| {
        told.events.iter().filter(|event| event.kind == Kind::Entry && event.func == name).count()
    };
    // The first record of a child may come before that of its parent: who made it is not known then.
    for (maker, unknown) in [("pthread_create", 0), ("fork", 3)] {
        let (flows, called) = (flows(read, maker), called(maker));
        if !(called.saturating_sub(unknown)..=called).contains(&flows) {
            return Err(format!("{flows} of {called} by {maker}").into());
        }
    }
    Ok(())
}

#[test]
fn perfetto() {
    let reader = |file: &Path| read("perfetto_calls.py", &[file]);
    every_call_is_read("Perfetto", "perfetto", reader, |told, read| {
        let lost: u64 = told.events.iter().map(|event| event.count).sum();
        if !read.remarks.contains(&format!("lost {lost}")) {
            return Err(format!("{lost} lost, but {:?}", read.remarks).into());
        }
        flows_are_told(told, read)
    });
}

#[test]
fn chrome() {
    let reader = |file: &Path| read("chrome_calls.py", &[file]);
    every_call_is_read("Chrome", "chrome", reader, flows_are_told);
}

#[test]
fn speedscope() {
    let reader = |file: &Path| {
        let schema = node_modules("speedscope/dist/release/file-format-schema.json")?;
        // The validator is slow: small files are enough for it.
        let small = file.metadata()?.len() < SMALL;
        let files = [file, &schema];
        read("speedscope_calls.py", &files[..if small { 2 } else { 1 }])
    };
    every_call_is_read("speedscope", "speedscope", reader, |_, _| Ok(()));
}
