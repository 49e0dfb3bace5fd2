//! Running processes: attached to, watched by several at once, left as they were.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sledge_tests::{
    Checks, Event, Live, Trouble, Watching, assert_balanced, assert_restored, assert_untouched,
    build, calls_by_function, control, dump, hub, named, signal, sledge,
};

/// Threads of rounds.c that work, and how often each does it for a line.
const WORKERS: u64 = 4;
const TIMES: u64 = 200;

fn rounds() -> Result<Live, Trouble> {
    let mut live = Live::start(Command::new(build(named("rounds"))?))?;
    live.ask()?;
    Ok(live)
}

/// What rounds.c calls for a line, of its own functions.
fn expected(lines: u64) -> BTreeMap<&'static str, u64> {
    let times = WORKERS * TIMES * lines;
    let leaf = times * (2 + 2 + 1);
    [("work", WORKERS * lines), ("leaf", leaf), ("twice", 2 * times), ("jumps", times)]
        .into_iter()
        .chain([("recurse", 6 * times), ("strdup", times), ("strlen", times), ("free", times)])
        .chain([("snprintf", times)])
        .collect()
}

fn assert_calls(events: &[Event], wanted: &[&str], lines: u64) -> Result<(), Trouble> {
    let calls = calls_by_function(events);
    let mut expected = expected(lines);
    expected.retain(|name, _| wanted.contains(name));
    let mut seen: BTreeMap<&str, u64> = calls.clone();
    seen.retain(|name, _| self::expected(1).contains_key(name));
    if seen == expected { Ok(()) } else { Err(format!("{seen:?}, expected {expected:?}").into()) }
}

const ALL: [&str; 9] =
    ["work", "leaf", "twice", "jumps", "recurse", "strdup", "strlen", "free", "snprintf"];

fn a_process_is_recorded_and_left() -> Result<(), Trouble> {
    let mut live = rounds()?;
    let before = live.look()?;
    for options in [&[][..], &["--libs"], &["-P", "leaf"]] {
        let mut watching = Watching::start(live.pid(), options)?;
        live.ask()?;
        live.ask()?;
        watching.stop()?;
        let events = dump(&watching.trace)?;
        assert_balanced(&events)?;
        match options {
            [] => assert_calls(&events, &ALL, 2)?,
            ["-P", ..] => assert_calls(&events, &["leaf"], 2)?,
            // Libraries call these functions, too.
            _ => {}
        }
        assert_restored(live.pid())?;
        // Calls that waited when it was left return now.
        live.ask()?;
    }
    // The last one took away what had stayed for the calls of the first.
    assert_untouched(live.pid())?;
    live.look()?.same_as(&before)
}

fn two_recordings_do_not_disturb_each_other() -> Result<(), Trouble> {
    let mut live = rounds()?;
    let mut first = Watching::start(live.pid(), &["-P", "^(twice|leaf|strlen)$"])?;
    live.ask()?;
    let mut second = Watching::start(live.pid(), &["-P", "^(leaf|jumps|recurse|work)$"])?;
    live.ask()?;
    first.stop()?;
    live.ask()?;
    second.stop()?;
    assert_untouched(live.pid())?;
    let (one, other) = (dump(&first.trace)?, dump(&second.trace)?);
    assert_balanced(&one)?;
    assert_balanced(&other)?;
    assert_calls(&one, &["twice", "leaf", "strlen"], 2)?;
    assert_calls(&other, &["leaf", "jumps", "recurse", "work"], 2)
}

fn what_is_traced_is_changed_meanwhile() -> Result<(), Trouble> {
    let mut live = rounds()?;
    let mut watching = Watching::start(live.pid(), &["-P", "^leaf$"])?;
    live.ask()?;
    control(live.pid(), &["filter", "^twice$", "^jumps$"])?;
    live.ask()?;
    control(live.pid(), &["off"])?;
    live.ask()?;
    control(live.pid(), &["on"])?;
    control(live.pid(), &["notrace", "^jumps$"])?;
    live.ask()?;
    let status = control(live.pid(), &["status"])?;
    if !status.contains("filter ^twice$ ^jumps$, notrace ^jumps$") {
        return Err(status.into());
    }
    let functions = control(live.pid(), &["functions", "^recurse$"])?;
    if !functions.starts_with("recurse@") {
        return Err(functions.into());
    }
    watching.stop()?;
    let events = dump(&watching.trace)?;
    assert_balanced(&events)?;
    let calls = calls_by_function(&events);
    let one = expected(1);
    let expected = [("jumps", one["jumps"]), ("leaf", one["leaf"]), ("twice", 2 * one["twice"])];
    if calls != BTreeMap::from(expected) {
        return Err(format!("{calls:?}, expected {expected:?}").into());
    }
    assert_untouched(live.pid())
}

fn a_process_outlives_its_hub() -> Result<(), Trouble> {
    let mut live = rounds()?;
    let mut watching = Watching::start(live.pid(), &[])?;
    live.ask()?;
    signal("KILL", hub(live.pid())?)?;
    if watching.wait().is_ok() {
        return Err("a recording without its hub went well".into());
    }
    live.ask()?;
    // The next one finds original bytes.
    let mut watching = Watching::start(live.pid(), &[])?;
    live.ask()?;
    watching.stop()?;
    let events = dump(&watching.trace)?;
    assert_calls(&events, &ALL, 1)?;
    live.ask().map(drop)
}

/// Each time everything must be there from the first call on. (The agent once took the first command
/// for one that it had carried out, if that came early enough; the program died of it.)
fn a_process_is_entered_over_and_over() -> Result<(), Trouble> {
    let mut live = rounds()?;
    let before = live.look()?;
    for _ in 0..20 {
        let mut watching = Watching::start(live.pid(), &["-P", "^(leaf|recurse)$"])?;
        live.ask()?;
        watching.stop()?;
        assert_calls(&dump(&watching.trace)?, &["leaf", "recurse"], 1)?;
    }
    assert_untouched(live.pid())?;
    live.look()?.same_as(&before)
}

/// The recorder stops reading until threads wait for room, then goes on and leaves at once.
fn a_process_is_left_while_its_threads_wait() -> Result<(), Trouble> {
    let mut live = rounds()?;
    let pid = live.pid();
    let (lines, end) = (AtomicU64::new(0), AtomicBool::new(false));
    let stalled = || {
        let before = lines.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(200));
        lines.load(Ordering::Relaxed) == before
    };
    let left = || {
        let mut watching = Watching::start(pid, &["-P", "^(leaf|twice|jumps)$"])?;
        signal("STOP", watching.pid())?;
        let begun = Instant::now();
        while !stalled() && begun.elapsed() < Duration::from_secs(60) {}
        signal("INT", watching.pid())?;
        signal("CONT", watching.pid())?;
        watching.wait()?;
        assert_untouched(pid)
    };
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| -> Result<(), Trouble> {
            while !end.load(Ordering::Relaxed) {
                live.ask()?;
                lines.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let left = left();
        end.store(true, Ordering::Relaxed);
        asks.join().map_err(|_| "it panicked")??;
        left
    })
}

fn a_recording_of_a_time_ends() -> Result<(), Trouble> {
    let live = rounds()?;
    let begun = Instant::now();
    let pid = live.pid().to_string();
    let words = ["record", "-p", &pid, "-P", "leaf", "--for", "100ms", "-o", "/dev/null"];
    let mut command = sledge(words)?;
    let status = command.status()?;
    if !status.success() || begun.elapsed() < Duration::from_millis(100) {
        return Err(format!("{status} after {:?}", begun.elapsed()).into());
    }
    assert_untouched(live.pid())
}

fn what_cannot_be_is_said() -> Result<(), Trouble> {
    for (words, expected) in [
        (&["record", "-p", "999999999"][..], "there is no process 999999999"),
        (&["record", "--comm", "no such name"], "no process is called 'no such name'"),
        (&["ctl", "999999999", "status"], "process 999999999 is not being traced"),
    ] {
        let output = sledge(words)?.current_dir(sledge_tests::scratch()?).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() || !said.contains(expected) {
            return Err(format!("{words:?}: {said}").into());
        }
    }
    Ok(())
}

#[test]
fn running_processes() {
    let mut checks = Checks::new("attach");
    checks.case("recorded and left", a_process_is_recorded_and_left);
    checks.case("two at once", two_recordings_do_not_disturb_each_other);
    checks.case("changed meanwhile", what_is_traced_is_changed_meanwhile);
    checks.case("the hub is killed", a_process_outlives_its_hub);
    checks.case("over and over", a_process_is_entered_over_and_over);
    checks.case("left while threads wait", a_process_is_left_while_its_threads_wait);
    checks.case("for a time", a_recording_of_a_time_ends);
    checks.case("errors", what_cannot_be_is_said);
    checks.finish();
}
