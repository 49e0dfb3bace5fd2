//! Recordings of which only a part is kept: the last files, or the last bytes.

mod common;

use std::path::Path;

use common::*;
use sledge_trace::event::*;
use sledge_trace::{Host, Keep, Storage, Trace, Writer};

const THREADS: u32 = 3;

/// A writer that keeps so much, with 50 functions and three threads; the last thread enters two
/// functions and waits in them until the end.
fn begin(path: &Path, keep: Keep) -> Writer {
    let storage = Storage { keep, compress: true };
    let mut writer = Writer::create_with(path, &Host::default(), storage).unwrap();
    let object = writer.object(&Object { path: "/bin/x".into(), build_id: vec![1] });
    for number in 0..50 {
        let name = format!("function_{number}");
        writer.function(&Function { object, address: number * 16, size: 16, name });
    }
    let (executable, arguments) = ("/bin/x".to_owned(), Vec::new());
    let process = writer.process(&Process { pid: 7, parent: None, executable, arguments });
    for tid in 0..THREADS {
        writer.thread(&Thread { process, tid, name: "t".into() }, Ticks(0));
    }
    writer.steps(ThreadId(2), &[enter(1, 48), enter(2, 49)]).unwrap();
    writer
}

/// Steps of the two threads that do not wait.
fn lanes(seed: u64, count: usize) -> [Vec<Step>; 2] {
    let mut dice = Dice(seed);
    [random_steps(&mut dice, count, 40, 3), random_steps(&mut dice, count, 40, 1)]
}

fn write(writer: &mut Writer, lanes: &[Vec<Step>; 2]) {
    let parts = lanes.iter().map(|steps| steps.chunks(5_000));
    let mut parts: Vec<_> = parts.collect();
    while parts.iter().any(|parts| parts.len() > 0) {
        for (thread, parts) in (0..).map(ThreadId).zip(&mut parts) {
            if let Some(part) = parts.next() {
                writer.steps(thread, part).unwrap();
            }
        }
        writer.flush().unwrap();
    }
}

/// What is told of calls that ended and of those that did not.
fn calls(events: &[Event], thread: u32) -> Vec<(Nanos, Nanos, FunctionId)> {
    let of_thread = events.iter().filter(|event| event.thread == ThreadId(thread));
    let ended = of_thread.filter_map(|event| match event.kind {
        EventKind::Exit { function, entered, .. } => Some((entered, event.at, function)),
        _ => None,
    });
    ended.collect()
}

/// Every exit is of a call that was told at its true time, or at the beginning of its chunk.
fn check_open(events: &[Event], thread: u32) -> Vec<FunctionId> {
    let mut open: Vec<(FunctionId, u32, Nanos)> = Vec::new();
    for event in events.iter().filter(|event| event.thread == ThreadId(thread)) {
        match event.kind {
            EventKind::Enter { function, depth } => open.push((function, depth, event.at)),
            EventKind::Exit { function, depth, entered, .. } => {
                let wanted = (function, depth, entered);
                let at = open.iter().rposition(|call| *call == wanted);
                open.remove(at.unwrap_or_else(|| panic!("{wanted:?} was not entered")));
            }
            EventKind::ThreadEnd { open: count } => assert_eq!(open.len() as u32, count),
            _ => {}
        }
    }
    open.into_iter().map(|call| call.0).collect()
}

#[test]
fn files_are_complete_in_themselves_and_together() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let lanes = lanes(3, 100_000);
    let mut writer = begin(&path, Keep::Files { bytes: 100_000, count: 1000 });
    write(&mut writer, &lanes);
    writer.finish().unwrap();
    let count = std::fs::read_dir(directory.path()).unwrap().count();
    assert!(count > 3, "{count}");
    let name = |number: usize| match number {
        0 => path.clone(),
        number => directory.path().join(format!("trace.{number}")),
    };
    let mut told: Vec<Vec<(Nanos, Nanos, FunctionId)>> = vec![Vec::new(), Vec::new()];
    for number in (0..count).rev() {
        let trace = Trace::open(name(number)).unwrap();
        assert_eq!((trace.cut(), trace.damage()), (None, Vec::new()));
        assert_eq!(trace.since().is_none(), number == count - 1);
        let events = events(&trace);
        for thread in 0..2 {
            told[thread as usize].extend(calls(&events, thread));
            check_open(&events, thread);
        }
        // Who did nothing all the time is known to wait.
        assert_eq!(check_open(&events, 2), [FunctionId(48), FunctionId(49)]);
        assert_eq!(trace.still_open(ThreadId(2)), [FunctionId(48), FunctionId(49)]);
    }
    for (thread, steps) in (0..).zip(&lanes) {
        let whole = calls(&expected(thread, steps, u64::MAX), thread);
        assert_eq!(told[thread as usize], whole);
    }
}

#[test]
fn only_so_many_files_are_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let mut writer = begin(&path, Keep::Files { bytes: 50_000, count: 3 });
    write(&mut writer, &lanes(9, 100_000));
    writer.finish().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["trace", "trace.1", "trace.2"]);
    let length = |name: &str| std::fs::metadata(directory.path().join(name)).unwrap().len();
    assert!(names.iter().all(|name| length(name) < 200_000));
}

#[test]
fn the_last_bytes_are_complete_and_in_order() {
    for seed in 1..6 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let lanes = lanes(seed, 100_000);
        let mut writer = begin(&path, Keep::Last(100_000));
        write(&mut writer, &lanes);
        writer.outcome(Outcome::Killed(11));
        writer.finish().unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        assert!((50_000..150_000).contains(&length), "{length}");
        let trace = Trace::open(&path).unwrap();
        let since = trace.since().unwrap();
        assert_eq!(trace.directory().outcome, Some(Outcome::Killed(11)));
        let told = events(&trace);
        for (thread, steps) in (0..).zip(&lanes) {
            let whole = expected(thread, steps, u64::MAX);
            let late = |event: &&Event| {
                let bounds = matches!(event.kind, EventKind::ThreadEnd { .. });
                event.thread == ThreadId(thread) && event.at >= since && !bounds
            };
            let wanted: Vec<&Event> = whole.iter().filter(late).collect();
            assert!(wanted.len() > 100);
            assert_eq!(told.iter().filter(late).collect::<Vec<_>>(), wanted);
            // The stack at the end is that of the whole.
            let mut open = check_open(&told, thread);
            let mut wanted = check_open(&whole, thread);
            open.sort();
            wanted.sort();
            assert_eq!(open, wanted);
        }
        assert_eq!(check_open(&told, 2), [FunctionId(48), FunctionId(49)]);
        // A range of it is as one of any trace.
        let end = trace.duration().0;
        let part = events_in(&trace, since.0 + (end - since.0) / 2, end);
        (0..THREADS).for_each(|thread| drop(check_open(&part, thread)));
    }
}

#[test]
fn a_snapshot_is_a_whole_trace_and_the_recording_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let mut writer = begin(&path, Keep::Last(1 << 20));
    writer.steps(ThreadId(0), &[enter(10, 1), enter(20, 2)]).unwrap();
    writer.snapshot().unwrap();
    let trace = Trace::open(&path).unwrap();
    assert_eq!((trace.cut(), trace.since()), (None, None));
    assert_eq!(trace.still_open(ThreadId(0)), [FunctionId(1), FunctionId(2)]);
    writer.steps(ThreadId(0), &[leave(30)]).unwrap();
    writer.close().unwrap();
    writer.steps(ThreadId(0), &[leave(40)]).unwrap();
    writer.close().unwrap();
    let trace = Trace::open(&path).unwrap();
    assert_eq!(trace.still_open(ThreadId(0)), [FunctionId(1)]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_size_that_is_reached_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let mut writer = begin(&path, Keep::First(30_000));
    assert!(!writer.is_full());
    write(&mut writer, &lanes(4, 50_000));
    assert!(writer.is_full());
}

#[test]
fn what_is_not_compressed_reads_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let lanes = lanes(4, 20_000);
    let mut read = Vec::new();
    for compress in [true, false] {
        let path = directory.path().join("trace");
        let storage = Storage { keep: Keep::All, compress };
        let mut writer = Writer::create_with(&path, &Host::default(), storage).unwrap();
        let object = writer.object(&Object { path: "/bin/x".into(), build_id: Vec::new() });
        for number in 0..50 {
            let name = number.to_string();
            writer.function(&Function { object, address: number, size: 0, name });
        }
        let (executable, arguments) = (String::new(), Vec::new());
        let process = writer.process(&Process { pid: 7, parent: None, executable, arguments });
        for tid in 0..2 {
            writer.thread(&Thread { process, tid, name: "t".into() }, Ticks(0));
        }
        write(&mut writer, &lanes);
        writer.finish().unwrap();
        let length = std::fs::metadata(&path).unwrap().len();
        read.push((length, events(&Trace::open(&path).unwrap())));
    }
    assert!(read[0].0 < read[1].0);
    assert_eq!(read[0].1, read[1].1);
}
