//! Traces that are not whole, and what is said of them.

use sledge_trace::event::{Outcome, ProcessId, Thread, Ticks};

use crate::fixture::{Calls, MAIN, PUTS, Place, SERVE, program};

/// A trace whose program was in `main() > serve() > puts()` when something happened.
fn unfinished(place: &Place, outcome: Option<Outcome>) {
    let (mut writer, thread) = program(&place.path("trace.sledge"));
    let mut calls = Calls(Vec::new());
    calls.enter(0, MAIN).enter(1_000, SERVE).enter(2_000, PUTS);
    writer.steps(thread, &calls.0).unwrap();
    writer.clock(Ticks(5_000_000), 5_001_000);
    match outcome {
        Some(outcome) => {
            writer.outcome(outcome);
            writer.finish().unwrap();
        }
        None => writer.flush().unwrap(),
    }
}

#[test]
fn a_killed_program_is_told_with_what_was_running() {
    let place = Place::new();
    unfinished(&place, Some(Outcome::Killed(9)));
    let said = place.sledge("replay -f none");
    assert_eq!(said.stdout, "main() {\n  serve() {\n    puts() {\n");
    let expected = "sledge: the program was killed by SIGKILL; \
                    main() > serve() > puts() were still running\n";
    assert_eq!((said.stderr.as_str(), said.status), (expected, Some(0)));
}

#[test]
fn of_deep_calls_on_several_threads_the_inner_end_is_told() {
    let place = Place::new();
    let (mut writer, first) = program(&place.path("trace.sledge"));
    let second = Thread { process: ProcessId(0), tid: 4712, name: "worker".into() };
    let second = writer.thread(&second, Ticks(10));
    let mut calls = Calls(Vec::new());
    for at in 0..12 {
        calls.enter(at, SERVE);
    }
    calls.enter(12, PUTS);
    writer.steps(first, &calls.0).unwrap();
    let mut calls = Calls(Vec::new());
    calls.enter(20, MAIN);
    writer.steps(second, &calls.0).unwrap();
    writer.clock(Ticks(1_000), 2_000);
    writer.outcome(Outcome::Killed(11));
    writer.finish().unwrap();
    let inner = "serve() > ".repeat(7);
    let expected = format!(
        "sledge: the program was killed by SIGSEGV; \
         on thread 4711 5 calls > {inner}puts() were still running\n\
         sledge: on thread 4712 main() was still running\n"
    );
    assert_eq!(place.sledge("replay").stderr, expected);
}

#[test]
fn a_program_that_exited_amid_calls_is_nothing_to_tell() {
    let place = Place::new();
    unfinished(&place, Some(Outcome::Exited(3)));
    assert_eq!(place.sledge("replay").stderr, "");
}

#[test]
fn a_cut_trace_is_shown_up_to_there() {
    let place = Place::new();
    unfinished(&place, None);
    let said = place.sledge("replay -f none");
    assert_eq!(said.stdout, "main() {\n  serve() {\n    puts() {\n");
    assert!(said.stderr.starts_with("sledge: the trace was cut off at "), "{}", said.stderr);
    assert!(said.stderr.ends_with("; main() > serve() > puts() were still running\n"));
    assert_eq!(said.status, Some(0));
}

#[test]
fn losses_are_told_by_thread() {
    let place = Place::new();
    let (mut writer, thread) = program(&place.path("trace.sledge"));
    let mut calls = Calls(Vec::new());
    calls.enter(0, MAIN);
    writer.steps(thread, &calls.0).unwrap();
    writer.lost(thread, Ticks(1_204_000_000), Ticks(1_219_000_000), 18_402);
    let mut calls = Calls(Vec::new());
    calls.leave(2_000_000_000);
    writer.steps(thread, &calls.0).unwrap();
    writer.clock(Ticks(2_000_000_000), 2_000_001_000);
    writer.outcome(Outcome::Exited(0));
    writer.finish().unwrap();
    let said = place.sledge("replay -f none");
    assert_eq!(said.stdout, "main() {\n  /* 18402 events lost */\n} /* main */\n");
    let expected = "sledge: 18 402 events lost on thread 4711 between 1.204 s and 1.219 s: \
                    raise -b or narrow -F\n";
    assert_eq!(said.stderr, expected);
}

#[test]
fn a_truncated_trace_is_shown_as_far_as_it_goes_or_refused() {
    let place = Place::with_trace();
    let bytes = std::fs::read(place.path("trace.sledge")).unwrap();
    let whole = place.sledge("replay").stdout;
    for length in 0..bytes.len() {
        std::fs::write(place.path("cut"), &bytes[..length]).unwrap();
        let said = place.sledge("replay -i cut");
        let is_told = said.stderr.starts_with("sledge: ") && !said.stderr.contains("panicked");
        assert!(is_told || said.stdout == whole, "cut at {length}: {}", said.stderr);
        assert!(matches!(said.status, Some(0 | 1)), "cut at {length}");
    }
}

#[test]
fn a_flipped_bit_is_never_silent() {
    let place = Place::with_trace();
    let bytes = std::fs::read(place.path("trace.sledge")).unwrap();
    let whole = place.sledge("dump").stdout;
    for offset in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[offset] ^= 1 << (offset % 8);
        std::fs::write(place.path("flipped"), &flipped).unwrap();
        let said = place.sledge("dump -i flipped");
        let is_told = said.stderr.starts_with("sledge: ") && !said.stderr.contains("panicked");
        assert!(is_told || said.stdout == whole, "bit of byte {offset}: {}", said.stderr);
        assert!(matches!(said.status, Some(0 | 1)), "bit of byte {offset}");
    }
}
