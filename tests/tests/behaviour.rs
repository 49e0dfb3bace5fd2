//! Every program in `programs/` does the same traced as untraced, and its trace says what it did.
#![forbid(unsafe_code)]

use sledge_tests::{
    Checks, Event, Invocation, Kind, Outline, PROGRAMS, Recording, Trouble, calls_by_function,
    compare, run, sledge, tally, traced,
};

fn same(what: &str, is: impl AsRef<str>, wanted: &str) -> Result<(), Trouble> {
    let is = is.as_ref();
    if is == wanted {
        return Ok(());
    }
    Err(format!("{what}: wanted\n{wanted}got\n{is}").into())
}

/// The outline of some functions alone.
fn outline(events: &[Event], names: &[&str]) -> String {
    Outline::only(events, |name| names.contains(&name)).text()
}

fn expect_calls(events: &[Event], wanted: &[(&str, u64)]) -> Result<(), Trouble> {
    let calls = calls_by_function(events);
    for (name, count) in wanted {
        let is = calls.get(name).copied().unwrap_or(0);
        if is != *count {
            return Err(format!("{name}: {is} calls, wanted {count}").into());
        }
    }
    Ok(())
}

/// Lines `names[0]`, `names[1]` … each one deeper than the one before.
fn chain(names: &[&str]) -> String {
    names.iter().enumerate().map(|(i, name)| format!("{}{name}\n", "  ".repeat(i))).collect()
}

/// What `sledge replay` prints of a recording, on either stream.
fn replay(recording: &Recording) -> Result<String, Trouble> {
    let mut command = sledge(["replay", "-i"])?;
    command.arg(&recording.trace);
    let shown = run(command, b"")?;
    Ok(shown.text() + &shown.errors())
}

#[test]
fn same_output_and_balanced() {
    let mut checks = Checks::new("behaviour, own functions");
    for program in PROGRAMS {
        checks.case(program.name, || {
            tally(&compare(&Invocation::of(program)?, &[])?.trace)?.balanced()
        });
    }
    checks.finish();
}

#[test]
fn same_output_and_balanced_with_libraries() {
    let mut checks = Checks::new("behaviour, --libs");
    for program in PROGRAMS {
        checks.case(program.name, || {
            tally(&compare(&Invocation::of(program)?, &["--libs"])?.trace)?.balanced()
        });
    }
    checks.finish();
}

#[test]
fn nests() {
    let mut checks = Checks::new("nests");
    for name in ["nest-O0", "nest-O2"] {
        checks.case(name, || {
            let (_, events) = traced(name, &[])?;
            same("outline", Outline::of(&events).text(), &chain(&["main", "a", "b", "c", "getpid"]))
        });
        checks.case(&format!("{name} --no-libcall"), || {
            let (_, events) = traced(name, &["--no-libcall"])?;
            same("outline", Outline::of(&events).text(), &chain(&["main", "a", "b", "c"]))
        });
        checks.case(&format!("{name} --libs"), || {
            let (_, events) = traced(name, &["--libs"])?;
            let names = ["main", "a", "b", "c", "getpid"];
            same("outline", outline(&events, &names), &chain(&names))
        });
    }
    checks.case("tail calls", || {
        let (_, events) = traced("tail", &[])?;
        let text = outline(&events, &["main", "outer", "leaf", "after"]);
        same(
            "begin",
            text.lines().take(4).collect::<Vec<_>>().join("\n"),
            "main\n  outer\n    leaf\n  after",
        )?;
        let names = ["odd", "even", "first", "second", "length", "passes_on", "stacked", "show"];
        let counts = [500_000, 500_001, 1, 2, 1, 1, 1, 1];
        expect_calls(&events, &names.into_iter().zip(counts).collect::<Vec<_>>())
    });
    for depth in [5_000_u32, 100_000] {
        checks.case(&format!("deep-{depth}"), || {
            let (_, events) = traced(&format!("deep-{depth}"), &[])?;
            expect_calls(&events, &[("main", 1), ("down", u64::from(depth) + 1)])?;
            let deepest =
                events.iter().filter(|event| event.func == "down").map(|event| event.depth);
            same("deepest", deepest.max().unwrap_or(0).to_string(), &(depth + 1).to_string())
        });
    }
    checks.finish();
}

#[test]
fn frames_jumped_over_are_unwound() {
    let mut checks = Checks::new("unwound");
    for name in ["throw-O0", "throw-O2", "rust_panic-debug", "rust_panic-release"] {
        checks.case(name, || {
            let (_, events) = traced(name, &[])?;
            let text = outline(&events, &["main", "catcher", "middle", "thrower"]);
            let depth = if name.starts_with("throw") { 5 } else { 4 };
            let mut wanted = vec!["main".to_owned(), "  catcher".to_owned()];
            wanted.extend((0..depth).map(|i| format!("{:1$}middle (unwound)", "", 4 + 2 * i)));
            wanted.push(format!("{:1$}thrower (unwound)", "", 4 + 2 * depth));
            let begin: Vec<_> = text.lines().take(wanted.len()).collect();
            same("begin", begin.join("\n"), &wanted.join("\n"))?;
            let returned = text.lines().filter(|line| line.trim_start() == "thrower").count();
            same("thrower returned", returned.to_string(), "0")
        });
    }
    checks.case("qsort_throw", || {
        let (_, events) = traced("qsort_throw", &[])?;
        let unwound = outline(&events, &["compare"]).matches("compare (unwound)").count();
        same("compare unwound", unwound.to_string(), "101")
    });
    checks.case("sigjmp", || {
        let (_, events) = traced("sigjmp", &[])?;
        expect_calls(
            &events,
            &[("jumper", 400 * 11), ("raiser", 400 * 11), ("faulter", 400 * 11), ("handler", 800)],
        )?;
        let text = outline(&events, &["jumper", "raiser", "faulter", "handler"]);
        // The last handler ran on the other stack, where nothing comes after it that would show
        // that it is gone.
        let last = text.matches("handler (open)").count();
        same("left open", (last <= 1).to_string(), "true")?;
        let returned = text.lines().filter(|line| !line.ends_with(" (unwound)")).count();
        same("returned", (returned - last).to_string(), "0")
    });
    checks.case("cancel", || {
        let (_, events) = traced("cancel", &[])?;
        expect_calls(
            &events,
            &[("run", 40), ("levels", 240), ("cleanup", 240), ("leaving", 20), ("blocked", 20)],
        )?;
        let text = outline(&events, &["levels", "leaving", "blocked"]);
        let returned = text.lines().filter(|line| !line.contains(" (")).count();
        same("returned", returned.to_string(), "0")
    });
    checks.finish();
}

#[test]
fn calls_are_counted_exactly() {
    let cases: &[(&str, &[(&str, u64)])] = &[
        ("threads4", &[("main", 1), ("worker", 4), ("middle", 20_000), ("leaf", 60_000)]),
        (
            "returns",
            &[("dcomplex", 200_000), ("ldcomplex", 200_000), ("big", 200_000), ("word", 200_000)],
        ),
        ("patchable", &[("main", 1), ("outer", 1), ("leaf", 1), ("fib", 1973)]),
        ("patchable-cet", &[("main", 1), ("outer", 1), ("leaf", 1), ("fib", 1973)]),
        ("patchable-fentry", &[("main", 1), ("outer", 1), ("leaf", 1), ("fib", 1973)]),
        (
            "shortfns",
            &[
                ("five", 1500),
                ("six", 300),
                ("packed_three", 300),
                ("loop_into_patch", 300),
                ("cmp_first", 300),
                ("marked", 300),
                ("last", 300),
            ],
        ),
        ("generator", &[("start", 3), ("next", 71), ("walk", 62 + 9)]),
        ("dlopen", &[("once", 6), ("called_back", 6)]),
        ("static", &[("main", 1), ("worker", 2)]),
        (
            "registers",
            &[("fill_call_compare", 20_000), ("arrive", 20_000), ("leave_alone", 20_000)],
        ),
        ("fork", &[("in_parent", 3), ("in_child", 3), ("in_grandchild", 3), ("thread_work", 3)]),
        ("tree", &[("http_serve", 3), ("slow_leaf", 3), ("recursive", 21), ("branch", 3 * 8)]),
    ];
    let mut checks = Checks::new("counts");
    for (name, wanted) in cases {
        checks.case(name, || expect_calls(&traced(name, &[])?.1, wanted));
    }
    checks.case("threads4, each thread", || {
        let (_, events) = traced("threads4", &[])?;
        let mut leaves = std::collections::BTreeMap::<u32, u64>::new();
        for event in events.iter().filter(|e| e.kind == Kind::Entry && e.func == "leaf") {
            *leaves.entry(event.tid).or_default() += 1;
        }
        same("leaf", format!("{:?}", leaves.values()), "[15000, 15000, 15000, 15000]")
    });
    checks.finish();
}

/// The tracee dies in the middle: everything up to then is there, and the end is told.
#[test]
fn a_killed_program_keeps_its_trace() {
    let cases = [
        ("kill9", "SIGKILL"),
        ("kill9-segv", "SIGSEGV"),
        ("kill9-abort", "SIGABRT"),
        ("kill9-term", "SIGTERM"),
    ];
    let nest = "main (open)\n  serve (open)\n    prepare\n    wait_here (open)\n";
    let mut checks = Checks::new("killed");
    for (name, signal) in cases {
        checks.case(name, || {
            let (recording, events) = traced(name, &[])?;
            same("outline", outline(&events, &["main", "serve", "prepare", "wait_here"]), nest)?;
            let shown = replay(&recording)?;
            let wanted = ["main() {", "serve() {", "prepare();", "wait_here() {", signal];
            match wanted.iter().find(|part| !shown.contains(**part)) {
                Some(part) => Err(format!("replay does not show {part}:\n{shown}").into()),
                None => Ok(()),
            }
        });
    }
    checks.case("kill9-exit", || {
        let (_, events) = traced("kill9-exit", &[])?;
        same("outline", outline(&events, &["main", "serve", "prepare", "wait_here"]), nest)
    });
    checks.finish();
}

/// A stripped program's functions are found and named by their addresses.
#[test]
fn stripped_programs_are_traced() {
    let mut checks = Checks::new("stripped");
    for name in ["stripped", "stripped-O0-no-pie"] {
        checks.case(name, || {
            let (_, events) = traced(name, &["--no-libcall"])?;
            let calls = calls_by_function(&events);
            let mut counts: Vec<_> = calls.values().copied().filter(|n| *n >= 1000).collect();
            counts.sort_unstable();
            same("counts", format!("{counts:?}"), "[1000, 2000]")
        });
    }
    checks.finish();
}
