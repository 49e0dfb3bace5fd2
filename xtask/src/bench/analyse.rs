//! Reading traces: how quickly, in how much memory, and how large they are.

use super::lab::{Lab, least, output};
use super::row::Row;
use super::synthetic::{Calls, define};
use anyhow::{Context, Result};
use sledge_drain::pair::Pairer;
use sledge_trace::Writer;
use sledge_trace::event::{FunctionId, Ticks};
use std::fs;
use std::path::Path;

const BENCH: &str = "analyse";
const SIZES: [u64; 2] = [1_000_000, 10_000_000];
const ROUNDS: usize = 3;
const BATCH: usize = 32 * 1024;
const PEAK_BUDGET: f64 = 300.0;
const BYTES_BUDGET: f64 = 8.0;
/// Commands, and the events a second that are asked of them.
const COMMANDS: [(&str, f64); 2] = [("replay", 10e6), ("report", 30e6)];

pub(crate) fn run(emit: &mut dyn FnMut(Row)) -> Result<()> {
    let lab = Lab::open()?;
    let trace = lab.path("made-up.sledge");
    for calls in SIZES {
        let plain = write(&trace, calls)? as f64 / calls as f64;
        let row = |what: &str, unit: &'static str| {
            Row::new(BENCH, unit).case("trace", "made up").case("calls", calls).case("what", what)
        };
        for (command, budget) in COMMANDS {
            let (rate, peak) = read(&lab, command, &trace, 2.0 * calls as f64)?;
            emit(row(command, "events/s/core").value(rate).against("budget", budget));
            let peak_row = row(&format!("{command}, peak memory"), "MiB");
            emit(peak_row.value(peak).against("budget", PEAK_BUDGET));
        }
        let stored = fs::metadata(&trace)?.len() as f64 / calls as f64;
        emit(row("file", "bytes a call").value(stored).against("budget", BYTES_BUDGET));
        emit(row("file, not compressed", "bytes a call").value(plain));
    }
    for function in ["leaf", "fib", "many"] {
        emit(recorded(&lab, function)?);
    }
    Ok(())
}

/// Writes a trace; returns the bytes of its steps before compression.
fn write(path: &Path, calls: u64) -> Result<u64> {
    let mut writer = Writer::create(path)?;
    let thread = define(&mut writer);
    let mut pairer = Pairer::new();
    let (mut steps, mut last) = (Vec::new(), Ticks(0));
    for record in Calls::new(calls) {
        pairer.push(record, FunctionId(record.site), &mut steps);
        last = Ticks(record.tsc);
        if steps.len() >= BATCH {
            writer.steps(thread, &steps)?;
            steps.clear();
        }
    }
    writer.steps(thread, &steps)?;
    writer.clock(last, (last.0 - (1 << 40)) / 3);
    writer.thread_end(thread, last);
    writer.flush()?;
    let plain = writer.plain_bytes();
    writer.finish()?;
    Ok(plain)
}

/// Events a second of processor time, and MiB at most.
fn read(lab: &Lab, command: &str, trace: &Path, events: f64) -> Result<(f64, f64)> {
    let (mut times, mut peak) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let spent = lab.measure(lab.sledge(command).arg("-i").arg(trace))?;
        times.push(spent.busy.as_secs_f64());
        peak = peak.max(spent.peak_bytes);
    }
    Ok((events / least(&times), peak as f64 / f64::from(1 << 20)))
}

/// Bytes a call of a recording.
fn recorded(lab: &Lab, function: &str) -> Result<Row> {
    let program = lab.compile("calls.c", "calls", &[])?;
    let trace = lab.path("recorded.sledge");
    let mut command = lab.record(&trace, &[]);
    let text = output(command.arg(program).args(["-1", "10", "50000", "0", function]))?;
    let made = text.split_whitespace().nth(1).context("nothing was measured")?;
    let calls: u64 = made.parse()?;
    let row = Row::new(BENCH, "bytes a call").case("trace", function).case("calls", calls);
    let bytes = fs::metadata(&trace)?.len() as f64 / calls as f64;
    Ok(row.case("what", "file").value(bytes).against("budget", BYTES_BUDGET))
}
