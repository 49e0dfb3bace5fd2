//! What the library costs. The measuring programs are benches of its crate; each prints its rows as
//! JSON objects.

use super::lab::output;
use super::row::Row;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::process::Command;

/// The matrix of the kernel's `samples/ftrace/ftrace-ops.c`, by trampolines of sets and by the list
/// function.
pub(crate) fn dispatch(emit: &mut dyn FnMut(Row)) -> Result<()> {
    let mut set = None;
    rows("dispatch", |case, row, value| {
        let relevant = case.get("relevant").is_some_and(|ops| *ops != 0);
        let list = case.get("dispatch").is_some_and(|way| way == "list");
        // A list's row follows that of the set; of calls that cost nothing there is no ratio.
        emit(match set.take().filter(|_| list && relevant) {
            Some(set) => row.against("set", set),
            None => row,
        });
        set = (!list).then_some(value);
    })
}

/// Sites that are armed, disarmed and changed.
pub(crate) fn patching(emit: &mut dyn FnMut(Row)) -> Result<()> {
    rows("patching", |_, row, _| emit(row))
}

fn rows(bench: &'static str, mut each: impl FnMut(&Map<String, Value>, Row, f64)) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["bench", "--quiet", "--package", "sledge", "--bench", bench]);
    for line in output(&mut cargo)?.lines().filter(|line| line.starts_with('{')) {
        let mut case: Map<String, Value> = serde_json::from_str(line)?;
        let unit = case.remove("unit").and_then(|unit| unit.as_str().map(str::to_owned));
        let value = case.remove("value").and_then(|value| value.as_f64()).context("no value")?;
        let row = Row::new(bench, &unit.unwrap_or_else(|| "ns over plain".into()));
        let row = case.iter().fold(row, |row, (key, value)| row.case(key, value.clone()));
        each(&case, row.value(value), value);
    }
    Ok(())
}
