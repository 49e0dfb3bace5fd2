//! Children of the program: forked, and executing other programs.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use sledge_tests::{
    Checks, Event, Invocation, Kind, Trouble, assert_balanced, build, compare, dump, named, tool,
    traced,
};

/// The processes that called `name`, and how often all of them did.
fn callers(events: &[Event], name: &str) -> (usize, usize) {
    let calls = events.iter().filter(|e| e.kind == Kind::Entry && e.func == name);
    let pids: Vec<u32> = calls.map(|event| event.pid).collect();
    (pids.iter().collect::<BTreeSet<_>>().len(), pids.len())
}

fn expect(events: &[Event], wanted: &[(&str, usize, usize)]) -> Result<(), Trouble> {
    for (name, processes, calls) in wanted {
        let is = callers(events, name);
        if is != (*processes, *calls) {
            return Err(format!(
                "{name}: (processes, calls) {is:?}, wanted {:?}",
                (processes, calls)
            )
            .into());
        }
    }
    Ok(())
}

/// Executes environ.c through `env`, which changes the environment that it is given.
fn through_env(changes: &[OsString]) -> Result<(), Trouble> {
    let mut arguments = changes.to_vec();
    arguments.push(build(named("environ"))?.into());
    let recording = compare(&Invocation::new(tool("env")?, arguments), &[])?;
    let events = dump(&recording.trace)?;
    assert_balanced(&events)?;
    expect(&events, &[("show_environment", 1, 1), ("show_limits", 1, 1)])
}

#[test]
fn children_are_followed() {
    let mut checks = Checks::new("follow");
    checks.case("a child that returns out of its parent's calls is no remark", || {
        // In bash the function that forks returns in the child, too.
        let forks = ["-c", "for word in 1 2 3; do (echo $word); done"];
        let recording = compare(&Invocation::new(tool("bash")?, forks), &["--libs"])?;
        let said = recording.finished.errors();
        if said.is_empty() { Ok(()) } else { Err(said.into()) }
    });
    checks.case("fork", || {
        let (_, events) = traced("fork", &[])?;
        expect(
            &events,
            &[
                ("in_parent", 1, 3),
                ("in_child", 3, 3),
                ("in_grandchild", 3, 3),
                ("thread_work", 3, 3),
            ],
        )
    });
    checks.case("fork, a child's calls are its own", || {
        let (_, events) = traced("fork", &["--no-libcall"])?;
        let mut work = BTreeMap::<u32, u64>::new();
        for event in events.iter().filter(|e| e.kind == Kind::Entry && e.func == "work") {
            *work.entry(event.pid).or_default() += 1;
        }
        let mut counts: Vec<_> = work.into_values().collect();
        counts.sort_unstable();
        // work(8), work(9) in the descendants, work(10) three times in the parent.
        let wanted = [67, 67, 67, 109, 109, 109, 3 * 177];
        if counts == wanted { Ok(()) } else { Err(format!("{counts:?}, wanted {wanted:?}").into()) }
    });
    checks.case("fork, --follow off", || {
        let (_, events) = traced("fork", &["--follow", "off"])?;
        expect(&events, &[("in_parent", 1, 3), ("in_child", 0, 0), ("in_grandchild", 0, 0)])
    });
    checks.case("exec", || {
        let (_, events) = traced("vfork_exec", &[])?;
        expect(&events, &[("by_vfork", 1, 2), ("be_executed", 3, 3)])
    });
    checks.case("exec, --follow off", || {
        let (_, events) = traced("vfork_exec", &["--follow", "off"])?;
        expect(&events, &[("by_vfork", 1, 2), ("be_executed", 0, 0)])
    });
    checks.case("exec with an empty environment", || through_env(&["-i".into()]));
    checks.case("exec with a library to preload", || {
        let mut preload = OsString::from("LD_PRELOAD=");
        preload.push(build(named("plugin"))?);
        through_env(&[preload])
    });
    checks.case("daemon", || {
        let (_, events) = traced("close_all_fds", &["--no-libcall"])?;
        expect(&events, &[("close_all", 2, 2), ("daemon_body", 1, 1), ("thread_work", 2, 3)])
    });
    checks.finish();
}
