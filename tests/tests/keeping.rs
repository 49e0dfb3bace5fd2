//! Recordings that keep only a part: the flight recorder after a crash, files that take turns, limits.
//!
//! `SLEDGE_FLIGHT_SECONDS=600 SLEDGE_PATIENCE=1200 cargo test --release -p sledge-tests --test keeping
//! after_a_crash` lets the program run for ten minutes before it crashes.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sledge_tests::{
    Checks, Event, Invocation, Kind, Program, Trouble, build, dump, record, run, scratch, sledge,
};

const FLIGHT: Program = Program::named_source("flight", "flight.c");

fn flight(arguments: &[&str]) -> Result<Invocation, Trouble> {
    Ok(Invocation::new(build(&FLIGHT)?, arguments.iter().map(Into::<std::ffi::OsString>::into)))
}

fn seconds() -> String {
    std::env::var("SLEDGE_FLIGHT_SECONDS").unwrap_or_else(|_| "1.5".to_owned())
}

/// The calls of the digits are all there, in the order in which the program makes them.
fn complete_and_in_order(events: &[Event]) -> Result<usize, Trouble> {
    let entries = events.iter().filter(|event| event.kind == Kind::Entry);
    let digit = |event: &Event, of: &str| event.func.strip_prefix(of)?.parse::<u32>().ok();
    let (mut high, mut expected, mut count) = (None, None, 0);
    for event in entries {
        if let Some(digit) = digit(event, "high_") {
            if high.is_some_and(|before| (before + 1) % 16 != digit) {
                return Err(format!("high_{digit} follows high_{high:?}").into());
            }
            high = Some(digit);
        }
        if let Some(digit) = digit(event, "low_") {
            if expected.is_some_and(|expected| expected != digit) {
                return Err(format!("low_{digit} where low_{expected:?} is due").into());
            }
            (expected, count) = (Some((digit + 1) % 16), count + 1);
        }
    }
    Ok(count)
}

fn says(text: &str, wanted: &str) -> Result<(), Trouble> {
    if text.contains(wanted) {
        return Ok(());
    }
    Err(format!("{wanted:?} is not in: {text}").into())
}

/// What `sledge report` says on stderr, and that it ends well.
fn remarks(trace: &Path) -> Result<String, Trouble> {
    let mut command = sledge(["report", "-i"])?;
    command.arg(trace);
    Ok(run(command, b"")?.errors())
}

#[test]
fn flight_recorder_after_a_crash() {
    let mut checks = Checks::new("flight recorder");
    checks.case("crash", || {
        let invocation = flight(&[&seconds(), "crash"])?;
        let recording = record(&invocation, &["--flight-recorder", "1M"])?;
        if recording.finished.end.as_status() != 128 + Signal::SIGSEGV as i32 {
            return Err(format!("ended by {:?}", recording.finished.end).into());
        }
        let length = fs::metadata(&recording.trace)?.len();
        if !(900_000..1_500_000).contains(&length) {
            return Err(format!("{length} bytes").into());
        }
        let events = dump(&recording.trace)?;
        let count = complete_and_in_order(&events)?;
        if count < 100_000 {
            return Err(format!("only {count} calls").into());
        }
        if events.iter().any(|event| event.kind == Kind::Lost) {
            return Err("events are lost".into());
        }
        let text = remarks(&recording.trace)?;
        says(&text, "the trace begins at ")?;
        says(&text, "SIGSEGV; main() > fall() > crash_here() were still running")
    });
    checks.finish();
}

#[test]
fn flight_recorder_on_a_signal() {
    let mut checks = Checks::new("snapshot");
    checks.case("SIGUSR1", || {
        let directory = tempfile::TempDir::new_in(scratch()?)?;
        let trace = directory.path().join("trace.sledge");
        let mut command = sledge(["record", "--flight-recorder", "1M", "-o"])?;
        command.arg(&trace).arg(build(&FLIGHT)?).arg("60");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let begun = Instant::now();
        let mut taken = Err("no snapshot was written".into());
        while taken.is_err() && begun.elapsed() < Duration::from_secs(30) {
            // Asked again: the program may not have begun yet.
            if trace.exists() {
                kill(pid, Signal::SIGUSR1).map_err(|error| error.to_string())?;
            }
            std::thread::sleep(Duration::from_millis(300));
            taken = if trace.exists() { snapshot(&trace) } else { taken };
        }
        let running = child.try_wait()?.is_none();
        kill(pid, Signal::SIGTERM).map_err(|error| error.to_string())?;
        child.wait()?;
        taken?;
        if !running {
            return Err("the program did not go on".into());
        }
        // The end is written as well.
        says(&remarks(&trace)?, "the program was killed by SIGTERM")
    });
    checks.finish();
}

fn snapshot(trace: &Path) -> Result<(), Trouble> {
    if fs::metadata(trace)?.len() == 0 {
        return Err("no snapshot was written".into());
    }
    let events = dump(trace)?;
    if complete_and_in_order(&events)? < 10_000 {
        return Err("few calls in the snapshot".into());
    }
    let text = remarks(trace)?;
    if text.contains("cut off") { Err(text.into()) } else { Ok(()) }
}

#[test]
fn limits_end_the_recording_not_the_program() {
    let mut checks = Checks::new("limits");
    let limits: [(&str, &[&str]); 2] =
        [("size", &["--max-size", "256k"]), ("time", &["--for", "200ms"])];
    for (name, options) in limits {
        checks.case(name, || {
            let recording = record(&flight(&["1.5"])?, options)?;
            if recording.finished.end.as_status() != 3 || recording.finished.text() != "done\n" {
                return Err(format!("{:?}", recording.finished).into());
            }
            if name == "size" && fs::metadata(&recording.trace)?.len() > 4_000_000 {
                return Err("the file is too large".into());
            }
            let events = dump(&recording.trace)?;
            if complete_and_in_order(&events)? < 1_000 {
                return Err("few calls".into());
            }
            let last = events.last().map_or(0, |event| event.ts_ns);
            if last > 1_400_000_000 {
                return Err(format!("recorded until {last} ns").into());
            }
            let text = remarks(&recording.trace)?;
            if text.is_empty() { Ok(()) } else { Err(text.into()) }
        });
    }
    checks.finish();
}

#[test]
fn files_take_turns() {
    let mut checks = Checks::new("rotation");
    checks.case("--max-files", || {
        let options = ["--max-size", "256k", "--max-files", "3"];
        let recording = record(&flight(&["1.5"])?, &options)?;
        let directory = recording.trace.parent().ok_or("no directory")?;
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        if names != ["trace.sledge", "trace.sledge.1", "trace.sledge.2"] {
            return Err(format!("{names:?}").into());
        }
        let mut events: Vec<Event> = Vec::new();
        for name in names.iter().rev() {
            let mut more = dump(&directory.join(name))?;
            more.retain(|event| event.kind != Kind::Entry || event.func.starts_with("low_"));
            // A call that is open where a file begins is told again.
            let entry = |event: &&Event| event.kind == Kind::Entry;
            let last = events.iter().rfind(entry).map(|event| event.func.clone());
            let first = more.iter().position(|event| event.kind == Kind::Entry);
            if let Some(first) = first
                && Some(&more[first].func) == last.as_ref()
            {
                more.remove(first);
            }
            events.extend(more);
        }
        complete_and_in_order(&events)?;
        says(&remarks(&recording.trace)?, "the trace begins at ")
    });
    checks.finish();
}
