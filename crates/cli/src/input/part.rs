//! The part of a trace that is asked for: a stretch of time, and some threads.

use std::ops::Range;

use sledge_filter::Pattern;
use sledge_trace::Trace;
use sledge_trace::event::{Directory, Nanos, Thread, ThreadId};

use crate::arguments::{FilterArgs, InputArgs};
use crate::failure::Failure;

/// Names that are shown where something else was asked for.
const SHOWN: usize = 8;

/// The stretch between `--from` and `--to`; `None` for all of the trace.
pub(super) fn range(input: &InputArgs, trace: &Trace) -> Result<Option<Range<Nanos>>, Failure> {
    if input.from.is_none() && input.to.is_none() {
        return Ok(None);
    }
    let range = input.from.unwrap_or_default()..input.to.unwrap_or(Nanos(u64::MAX));
    let advice = format!("the trace goes from 0 to {}", spelled(trace.duration()));
    if range.is_empty() {
        return Err(Failure::misuse("--from is not before --to", advice));
    }
    if range.start > trace.duration() {
        return Err(Failure::new("nothing was recorded so late", advice));
    }
    Ok(Some(range))
}

/// A time as `--from` takes it.
fn spelled(Nanos(nanos): Nanos) -> String {
    format!("{}.{:09}s", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// The threads that all of `--tid`, `--thread` and `--pid` allow; `None` for all there are.
pub(super) fn threads(
    input: &InputArgs,
    filter: &FilterArgs,
    directory: &Directory,
) -> Result<Option<Vec<ThreadId>>, Failure> {
    if filter.tid.is_empty() && input.pid.is_empty() && input.thread.is_empty() {
        return Ok(None);
    }
    let names = filter.patterns(&input.thread)?;
    let pid = |thread: &Thread| directory.processes[thread.process.0 as usize].pid;
    let all = || directory.threads.iter();
    for &tid in &filter.tid {
        let there = all().map(|thread| thread.tid);
        known(tid, there).map_err(|there| missing(&format!("thread {tid}"), &there))?;
    }
    for &wanted in &input.pid {
        known(wanted, all().map(pid))
            .map_err(|there| missing(&format!("process {wanted}"), &there))?;
    }
    for name in &names {
        if !all().any(|thread| is_named(thread, name)) {
            let there = shown(all().map(|thread| thread.name.clone()));
            return Err(missing(&format!("thread named '{}'", name.text()), &there));
        }
    }
    let wanted = |thread: &Thread| {
        (filter.tid.is_empty() || filter.tid.contains(&thread.tid))
            && (input.pid.is_empty() || input.pid.contains(&pid(thread)))
            && (names.is_empty() || names.iter().any(|name| is_named(thread, name)))
    };
    let numbered = (0..).map(ThreadId).zip(&directory.threads);
    Ok(Some(numbered.filter(|(_, thread)| wanted(thread)).map(|(number, _)| number).collect()))
}

fn is_named(thread: &Thread, name: &Pattern) -> bool {
    name.matches(&[&thread.name], "")
}

/// Whether a number is there; if not, which are.
fn known(wanted: u32, there: impl Iterator<Item = u32> + Clone) -> Result<(), String> {
    if there.clone().any(|number| number == wanted) {
        return Ok(());
    }
    Err(shown(there.map(|number| number.to_string())))
}

/// A thread that is not in the trace is most likely mistyped.
fn missing(what: &str, there: &str) -> Failure {
    Failure::new(format!("no {what} in the trace"), format!("there are: {there}"))
}

/// Some of what is there, each once.
fn shown(there: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = there.collect();
    all.sort_unstable();
    all.dedup();
    let more = if all.len() > SHOWN { ", …" } else { "" };
    all.truncate(SHOWN);
    format!("{}{more}", all.join(", "))
}
