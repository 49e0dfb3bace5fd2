//! What callbacks cost: the matrix of the kernel's `samples/ftrace/ftrace-ops.c`, by trampolines of
//! sets and by the list function. The measuring program is a bench of the library's crate.

use super::lab::output;
use super::row::Row;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::process::Command;

const BENCH: &str = "dispatch";

pub(crate) fn run(emit: &mut dyn FnMut(Row)) -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["bench", "--quiet", "--package", "sledge", "--bench", "dispatch"]);
    let mut set = None;
    for line in output(&mut cargo)?.lines().filter(|line| line.starts_with('{')) {
        let mut case: Map<String, Value> = serde_json::from_str(line)?;
        let unit = case.remove("unit").and_then(|unit| unit.as_str().map(str::to_owned));
        let value = case.remove("value").and_then(|value| value.as_f64()).context("no value")?;
        let relevant = case.get("relevant").is_some_and(|ops| *ops != 0);
        let list = case.get("dispatch").is_some_and(|way| way == "list");
        let unit = unit.unwrap_or_else(|| "ns over plain".into());
        let row = case
            .into_iter()
            .fold(Row::new(BENCH, &unit), |row, (key, value)| row.case(&key, value));
        let row = row.value(value);
        // A list's row follows that of the set; of calls that cost nothing there is no ratio.
        emit(match set.take().filter(|_| list && relevant) {
            Some(set) => row.against("set", set),
            None => row,
        });
        set = (!list).then_some(value);
    }
    Ok(())
}
