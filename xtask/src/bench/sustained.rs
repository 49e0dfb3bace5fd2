//! A program that does nothing but call, for longer than any buffer lasts: how many events a
//! second arrive in the file, and how many do not.

use super::lab::{Lab, median};
use super::row::Row;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

const BENCH: &str = "sustained";
const UNIT: &str = "events/s";
const ROUNDS: usize = 3;
/// Any CPU, bursts (and ten to warm up), calls in one, no pause.
const RUN: [&str; 4] = ["-1", "10", "500000", "0"];

pub(crate) fn run(emit: &mut dyn FnMut(Row)) -> Result<()> {
    let lab = Lab::open()?;
    let program = lab.compile("calls.c", "calls", &[])?;
    let instrumented = lab.compile("calls.c", "calls-pg", &["-pg"])?;
    for (function, pattern) in [("leaf", "leaf"), ("fib", "fib"), ("many", "one_of_many_")] {
        let trace = lab.path("trace");
        let counts = || lab.report(&trace);
        let waiting = lab.record(&trace, &[]);
        let ours = rate(&lab, waiting, &program, function, pattern, &counts)?;
        let row = Row::new(BENCH, UNIT).case("function", function);
        emit(row.clone().case("mode", "sledge").value(ours.rate));
        let dropping = lab.record(&trace, &["--full", "drop"]);
        let dropped = rate(&lab, dropping, &program, function, pattern, &counts)?;
        let note = format!("{:.0} % of the calls kept", dropped.kept * 100.0);
        let drop_row = row.clone().case("mode", "sledge --full drop").value(dropped.rate);
        emit(drop_row.against("sledge", ours.rate).note(note));
        let peer = row.case("mode", "uftrace -pg");
        let directory = lab.path("uftrace");
        emit(match lab.uftrace(&directory, &["--no-libcall"]) {
            None => peer.note("uftrace is not installed"),
            Some(command) => {
                let counts = || lab.uftrace_report(&directory);
                let theirs = rate(&lab, command, &instrumented, function, pattern, &counts)?;
                let note = format!("{:.0} % of the calls kept", theirs.kept * 100.0);
                peer.value(theirs.rate).against("sledge", ours.rate).note(note)
            }
        });
        std::fs::remove_dir_all(&directory).ok();
    }
    Ok(())
}

/// What arrived.
struct Arrived {
    /// Events a second.
    rate: f64,
    /// Which part of all.
    kept: f64,
}

fn rate(
    lab: &Lab,
    mut command: Command,
    program: &Path,
    function: &str,
    pattern: &str,
    counts: &dyn Fn() -> Result<Vec<(String, u64)>>,
) -> Result<Arrived> {
    command.arg(program).args(RUN).arg(function).current_dir(lab.path(""));
    let mut rates = Vec::new();
    let mut kept = Vec::new();
    for _ in 0..ROUNDS {
        let spent = lab.measure(&command)?;
        let named = counts()?.into_iter().filter(|(name, _)| name.starts_with(pattern));
        let calls = named.map(|(_, calls)| calls).sum::<u64>() as f64;
        rates.push(2.0 * calls / spent.wall.as_secs_f64());
        kept.push(calls / made(lab, program, function)?);
    }
    Ok(Arrived { rate: median(&rates), kept: median(&kept) })
}

/// Calls that the program makes.
fn made(lab: &Lab, program: &Path, function: &str) -> Result<f64> {
    let mut plain = Command::new(program);
    plain.args(RUN).arg(function).current_dir(lab.path(""));
    let text = super::lab::output(&mut plain)?;
    Ok(text.split_whitespace().nth(1).unwrap_or_default().parse()?)
}
