//! What the writer wrote, the reader tells.

mod common;

use common::*;
use sledge_trace::event::*;
use sledge_trace::{Trace, Writer};

fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.sledge");
    (directory, path)
}

#[test]
fn everything_defined_comes_back() {
    let (_keep, path) = file();
    let mut writer = writer(&path, 3, 2);
    let child = Process {
        pid: 9,
        parent: Some(ProcessId(0)),
        executable: "/bin/ls".into(),
        arguments: Vec::new(),
    };
    writer.process(&child);
    writer.thread_name(ThreadId(1), "worker");
    writer.outcome(Outcome::Running);
    writer.outcome(Outcome::Killed(9));
    writer.lost(ThreadId(1), Ticks(5), Ticks(9), 44);
    writer.finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    let directory = trace.directory();
    assert_eq!(directory.processes[1], child);
    assert_eq!(directory.threads[1].name, "worker");
    assert_eq!(directory.functions[2].name, "function_2");
    assert_eq!(directory.objects[0].build_id, [1, 2, 3]);
    assert_eq!(directory.outcome, Some(Outcome::Killed(9)));
    assert_eq!(trace.host().name, "nowhere");
    assert_eq!((trace.cut(), trace.damage()), (None, Vec::new()));
    let loss = trace.losses()[0];
    assert_eq!(
        (loss.thread, loss.since, loss.until, loss.count),
        (ThreadId(1), Nanos(5), Nanos(9), 44)
    );
    let lost = EventKind::Lost { count: 44, since: Nanos(5) };
    assert!(events(&trace).iter().any(|event| event.at == Nanos(9) && event.kind == lost));
}

#[test]
fn the_steps_of_many_threads_come_back_merged_by_time() {
    for seed in 1..30 {
        let (_keep, path) = file();
        let mut dice = Dice(seed);
        let mut writer = writer(&path, 200, 3);
        let lanes: Vec<Vec<Step>> =
            (0..3).map(|thread| random_steps(&mut dice, 20_000 * thread, 200, seed % 4)).collect();
        for (thread, steps) in lanes.iter().enumerate() {
            for part in steps.chunks(1 + dice.below(30_000) as usize) {
                writer.steps(ThreadId(thread as u32), part).unwrap();
            }
        }
        writer.finish().unwrap();
        let end = lanes.iter().flatten().map(|step| step.at.0).max().unwrap();
        let trace = Trace::open(&path).unwrap();
        assert_eq!(trace.duration(), Nanos(end));
        let told = events(&trace);
        for (thread, steps) in lanes.iter().enumerate() {
            let thread = thread as u32;
            let of_thread: Vec<Event> =
                told.iter().copied().filter(|event| event.thread == ThreadId(thread)).collect();
            assert_eq!(of_thread, expected(thread, steps, end));
            let open = trace.still_open(ThreadId(thread)).len() as u32;
            assert_eq!(of_thread.last().unwrap().kind, EventKind::ThreadEnd { open });
        }
    }
}

#[test]
fn a_range_is_the_same_as_that_part_of_the_whole() {
    let (_keep, path) = file();
    let mut dice = Dice(77);
    let mut writer = writer(&path, 50, 2);
    for thread in 0..2 {
        writer.steps(ThreadId(thread), &random_steps(&mut dice, 100_000, 50, 3)).unwrap();
    }
    writer.finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    let whole = events(&trace);
    let last = whole.last().unwrap().at.0;
    for _ in 0..20 {
        let from = dice.below(last);
        let to = from + dice.below(last / 10);
        let part = events_in(&trace, from, to);
        let inside = |event: &&Event| {
            let bounds = matches!(event.kind, EventKind::ThreadStart | EventKind::ThreadEnd { .. });
            event.at.0 >= from && event.at.0 < to && !bounds
        };
        let expected: Vec<&Event> = whole.iter().filter(inside).collect();
        assert_eq!(part.iter().filter(inside).collect::<Vec<_>>(), expected);
        check_nesting(&part);
    }
}

/// Every exit has its entry, at the depth and time that it says.
fn check_nesting(events: &[Event]) {
    for thread in [ThreadId(0), ThreadId(1)] {
        let mut open: Vec<(u32, FunctionId, u32, Nanos)> = Vec::new();
        let mut stack = 0;
        for event in events.iter().filter(|event| event.thread == thread) {
            match event.kind {
                EventKind::Switch { stack: to } => stack = to,
                EventKind::Enter { function, depth } => {
                    open.push((stack, function, depth, event.at));
                }
                EventKind::Exit { function, depth, entered, .. } => {
                    let at = open.iter().rposition(|call| call.0 == stack).unwrap();
                    assert_eq!(open.remove(at), (stack, function, depth, entered));
                }
                EventKind::ThreadEnd { open: count } => assert_eq!(open.len() as u32, count),
                EventKind::ThreadStart | EventKind::Lost { .. } => {}
            }
        }
    }
}

#[test]
fn a_trace_is_readable_while_it_is_written() {
    let (_keep, path) = file();
    let mut writer = writer(&path, 2, 1);
    writer.steps(ThreadId(0), &[enter(10, 0), enter(20, 1)]).unwrap();
    writer.flush().unwrap();
    let trace = Trace::open(&path).unwrap();
    assert_eq!(trace.cut().unwrap().at, Nanos(20));
    assert_eq!(trace.cut().unwrap().offset, writer.written());
    assert_eq!(trace.still_open(ThreadId(0)), [FunctionId(0), FunctionId(1)]);
    writer.steps(ThreadId(0), &[leave(30)]).unwrap();
    writer.thread_end(ThreadId(0), Ticks(35));
    writer.clock(Ticks(1), 1);
    writer.clock(Ticks(101), 201);
    writer.finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    assert_eq!(trace.cut(), None);
    assert_eq!(trace.duration(), Nanos(200));
    let last = *events(&trace).last().unwrap();
    assert_eq!((last.at, last.kind), (Nanos(68), EventKind::ThreadEnd { open: 1 }));
}

#[test]
fn deep_recursion_does_not_swell_the_file() {
    let (_keep, path) = file();
    let mut writer = writer(&path, 2, 1);
    let depth = 100_000;
    let mut steps: Vec<Step> = (0..depth).map(|at| enter(at * 100, 0)).collect();
    let top = depth * 100;
    steps.extend((0..500_000).flat_map(|n| [enter(top + n * 60, 1), leave(top + n * 60 + 30)]));
    writer.steps(ThreadId(0), &steps).unwrap();
    writer.finish().unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!(bytes < 600_000 * 8, "{bytes}");
    assert_eq!(events(&Trace::open(&path).unwrap()).len(), steps.len() + 2);
}

#[test]
fn senseless_steps_do_not_get_into_the_file() {
    let (_keep, path) = file();
    let mut writer = writer(&path, 2, 1);
    let far = Step { at: Ticks(6), op: Op::Switch(9) };
    writer.steps(ThreadId(0), &[leave(5), far, enter(10, 0), leave(3), leave(11)]).unwrap();
    writer.finish().unwrap();
    let kinds: Vec<u64> = events(&Trace::open(&path).unwrap()).iter().map(|e| e.at.0).collect();
    assert_eq!(kinds, [0, 10, 10, 10]);
}

#[test]
fn a_full_disk_is_told_once_and_what_was_written_stays_readable() {
    let full = std::path::Path::new("/dev/full");
    if full.exists() {
        let error = Writer::create(full).unwrap_err();
        assert!(matches!(error, sledge_trace::WriteError::DiskFull { written: 0, .. }), "{error}");
    }
    let missing = Writer::create("/nonexistent/trace").unwrap_err();
    assert!(matches!(missing, sledge_trace::WriteError::Create { .. }));
}

/// Not a test of its own: the next one runs it with a limit on the size of files.
#[test]
fn write_until_it_fails() {
    let Some(path) = std::env::var_os("SLEDGE_TEST_LIMITED_FILE") else { return };
    let mut writer = writer(std::path::Path::new(&path), 50, 1);
    let steps = random_steps(&mut Dice(3), 200_000, 50, 1);
    let failed: Vec<_> =
        steps.chunks(1000).filter_map(|part| writer.steps(ThreadId(0), part).err()).collect();
    let [sledge_trace::WriteError::TooLarge { written, .. }] = failed[..] else {
        panic!("{failed:?}")
    };
    assert!(writer.failed());
    assert_eq!(written, writer.written());
    writer.finish().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), written);
}

#[test]
fn when_the_file_may_not_grow_what_was_written_stays_readable() {
    let (_keep, path) = file();
    let script = r#"trap '' XFSZ; ulimit -f 300; exec "$0" --exact write_until_it_fails"#;
    let done = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("SLEDGE_TEST_LIMITED_FILE", &path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    let trace = Trace::open(&path).unwrap();
    assert!(trace.cut().is_some());
    let told = events(&trace);
    assert!(told.len() > 10_000 && trace.damage().is_empty());
    let steps = random_steps(&mut Dice(3), 200_000, 50, 1);
    let end = trace.duration().0;
    let whole = expected(0, &steps[..told.len() - 2], end);
    assert_eq!(told, whole);
}
