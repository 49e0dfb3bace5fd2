//! What tracing adds to one call.
//!
//! The measured program times itself in bursts that fit the ring, so that this is the cost of
//! recording, not of draining. It runs plain and under each tracer in turn, round after round.

use super::lab::{Lab, least, median, output};
use super::row::Row;
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

const BENCH: &str = "entry";
const UNIT: &str = "ns added a call";
const ROUNDS: usize = 7;
/// Bursts, calls in one, and microseconds between them: the drain is done before the next.
const BURSTS: [&str; 3] = ["15", "20000", "10000"];
const FUNCTIONS: [&str; 3] = ["leaf", "fib", "many"];
const ENTRY_ONLY: &str = "leaf-entry-only";
const FLOORS: [&str; 2] = ["leaf-1-rdtsc", "leaf-2-rdtsc"];

/// How the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    Plain,
    /// Traced, but for another function than those measured.
    FilteredOut,
    Recorded,
    /// Compiled with `-pg`, not traced; and traced by uftrace.
    InstrumentedPlain,
    UftraceInstrumented,
    /// The plain program, patched by uftrace.
    UftracePatched,
}

const MODES: [Mode; 6] = [
    Mode::Plain,
    Mode::FilteredOut,
    Mode::Recorded,
    Mode::InstrumentedPlain,
    Mode::UftraceInstrumented,
    Mode::UftracePatched,
];

/// Nanoseconds a call of all bursts, by mode and function.
#[derive(Default)]
struct Samples {
    times: HashMap<(Mode, String), Vec<f64>>,
    /// Calls that the last run made.
    made: HashMap<String, u64>,
    /// Calls that each tracer then knew of.
    seen: HashMap<(Mode, String), u64>,
}

pub(crate) fn run(emit: &mut dyn FnMut(Row)) -> Result<()> {
    let lab = Lab::open()?;
    let programs =
        [lab.compile("calls.c", "calls", &[])?, lab.compile("calls.c", "calls-pg", &["-pg"])?];
    let mut samples = Samples::default();
    for _ in 0..ROUNDS {
        for mode in MODES {
            samples.round(&lab, mode, &programs[0], &programs[1])?;
        }
    }
    samples.rows(emit)
}

/// The CPU to stay on: the last one, where a tracer's own work is least likely to be.
fn cpu() -> String {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    if count > 1 { (count - 1).to_string() } else { "-1".into() }
}

impl Samples {
    fn round(&mut self, lab: &Lab, mode: Mode, program: &Path, instrumented: &Path) -> Result<()> {
        let trace = lab.path("trace");
        let command = match mode {
            Mode::Plain => Some(Command::new(program)),
            Mode::FilteredOut => Some(lab.record(&trace, &["-P", "^idle$"])),
            Mode::Recorded => Some(lab.record(&trace, &[])),
            Mode::InstrumentedPlain => Some(Command::new(instrumented)),
            Mode::UftraceInstrumented => lab.uftrace(&trace, &["--no-libcall"]),
            Mode::UftracePatched => lab.uftrace(&trace, &["--no-libcall", "-P", "."]),
        };
        let Some(mut command) = command else { return Ok(()) };
        match mode {
            Mode::Plain | Mode::InstrumentedPlain => {}
            Mode::UftraceInstrumented => drop(command.arg(instrumented)),
            _ => drop(command.arg(program)),
        }
        command.arg(cpu()).args(BURSTS).args(FUNCTIONS).arg(ENTRY_ONLY).args(FLOORS);
        // gprof's own file goes where the rest goes.
        command.current_dir(lab.path(""));
        let text = output(&mut command)?;
        text.lines().try_for_each(|line| self.line(mode, line))?;
        self.count(lab, mode, &trace)?;
        forget(&trace);
        Ok(())
    }

    fn line(&mut self, mode: Mode, line: &str) -> Result<()> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(made)) = (words.next(), words.next()) else {
            bail!("the measured program wrote: {line}");
        };
        self.made.insert(name.into(), made.parse()?);
        let times = self.times.entry((mode, name.into())).or_default();
        for word in words {
            times.push(word.parse()?);
        }
        Ok(())
    }

    fn count(&mut self, lab: &Lab, mode: Mode, trace: &Path) -> Result<()> {
        let counts = match mode {
            Mode::FilteredOut | Mode::Recorded => lab.report(trace)?,
            Mode::UftraceInstrumented | Mode::UftracePatched => lab.uftrace_report(trace)?,
            _ => return Ok(()),
        };
        for workload in FUNCTIONS.iter().chain([&ENTRY_ONLY]) {
            let counted = counts.iter().filter(|(name, _)| belongs(name, workload));
            let sum = counted.map(|(_, calls)| calls).sum();
            self.seen.insert((mode, (*workload).into()), sum);
        }
        Ok(())
    }

    /// Least and median time of a call.
    fn time(&self, mode: Mode, function: &str) -> Option<(f64, f64)> {
        let times = self.times.get(&(mode, function.into()))?;
        (!times.is_empty()).then(|| (least(times), median(times)))
    }

    /// What `mode` adds to a call of `function`.
    fn added(&self, mode: Mode, function: &str) -> Option<(f64, f64)> {
        let plain = self.time(Mode::Plain, function)?;
        let time = self.time(mode, function)?;
        Some((time.0 - plain.0, time.1 - plain.1))
    }

    /// What so many time stamps add to the leaf.
    fn floor(&self, stamps: usize) -> Result<(f64, f64)> {
        let plain = self.time(Mode::Plain, "leaf").context("the leaf was not timed")?;
        let time = self.time(Mode::Plain, FLOORS[stamps - 1]).context("no time stamps")?;
        Ok((time.0 - plain.0, time.1 - plain.1))
    }

    fn rows(&self, emit: &mut dyn FnMut(Row)) -> Result<()> {
        let floors = [self.floor(1)?, self.floor(2)?];
        let plain = self.time(Mode::Plain, "leaf").context("the leaf was not timed")?.0;
        for (name, floor) in ["rdtsc", "2 rdtsc"].into_iter().zip(floors) {
            let row = Row::new(BENCH, UNIT).case("function", "leaf").case("mode", name);
            emit(row.value(floor.0).median(floor.1).against("plain", plain));
        }
        for function in FUNCTIONS {
            self.rows_of(function, floors[0].0, floors[1].0, emit)?;
        }
        Ok(())
    }

    fn rows_of(
        &self,
        function: &str,
        floor: f64,
        floors: f64,
        emit: &mut dyn FnMut(Row),
    ) -> Result<()> {
        let row = |mode: &str| Row::new(BENCH, UNIT).case("function", function).case("mode", mode);
        let plain = self.time(Mode::Plain, function).context("no plain run")?;
        let time = Row::new(BENCH, "ns a call").case("function", function).case("mode", "plain");
        emit(time.value(plain.0).median(plain.1));
        emit(self.fill(row("filtered out"), Mode::FilteredOut, function, "plain", plain.0));
        emit(if function == "leaf" {
            self.fill(row("entry"), Mode::Recorded, ENTRY_ONLY, "rdtsc", floor)
        } else {
            row("entry").note("only functions whose return cannot be hooked are recorded so")
        });
        let row_both = row("entry+exit");
        emit(self.fill(row_both, Mode::Recorded, function, "2 rdtsc", floors));
        let ours = self.added(Mode::Recorded, function).context("no recorded run")?.0;
        for (name, mode) in [
            ("-pg, not traced", Mode::InstrumentedPlain),
            ("uftrace -pg", Mode::UftraceInstrumented),
            ("uftrace -P .", Mode::UftracePatched),
        ] {
            emit(self.fill(row(name), mode, function, "entry+exit", ours));
        }
        Ok(())
    }

    fn fill(&self, row: Row, mode: Mode, function: &str, what: &str, baseline: f64) -> Row {
        let Some(added) = self.added(mode, function) else {
            return row.note("uftrace is not installed");
        };
        let made = self.made.get(function).copied().unwrap_or_default();
        let wanted = if mode == Mode::FilteredOut { 0 } else { made };
        match self.seen.get(&(mode, function.into())) {
            Some(&seen) if seen == 0 && wanted > 0 => row.note("not traced, without a word"),
            Some(&seen) if seen != wanted => row.note(format!("{seen} of {wanted} calls traced")),
            _ => row.value(added.0).median(added.1).against(what, baseline),
        }
    }
}

/// Whether a function's calls are those of a workload.
fn belongs(name: &str, workload: &str) -> bool {
    match workload {
        "many" => name.starts_with("one_of_many_"),
        _ => name == workload.replace('-', "_"),
    }
}

fn forget(trace: &Path) {
    // Either a file or a directory; what is not there need not go.
    let _ = std::fs::remove_file(trace);
    let _ = std::fs::remove_dir_all(trace);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let mut samples = Samples::default();
        samples.line(Mode::Plain, "leaf 30 2.0 1.0 3.0").unwrap();
        samples.line(Mode::Recorded, "leaf 30 22.0 21.0 24.0").unwrap();
        samples
    }

    #[test]
    fn what_is_added_is_the_least_less_the_least() {
        assert_eq!(samples().added(Mode::Recorded, "leaf"), Some((20.0, 20.0)));
        assert_eq!(samples().added(Mode::UftracePatched, "leaf"), None);
    }

    #[test]
    fn calls_that_were_not_traced_have_no_cost() {
        let mut samples = samples();
        let row = |samples: &Samples| {
            samples.fill(Row::new(BENCH, UNIT), Mode::Recorded, "leaf", "x", 10.0).json()
        };
        samples.seen.insert((Mode::Recorded, "leaf".into()), 29);
        assert!(row(&samples)["value"].is_null());
        samples.seen.insert((Mode::Recorded, "leaf".into()), 30);
        assert_eq!(row(&samples)["ratio"], 2.0);
    }

    #[test]
    fn functions_are_told_by_their_names() {
        assert!(belongs("one_of_many_123", "many"));
        assert!(belongs("leaf_entry_only", "leaf-entry-only"));
        assert!(!belongs("leaf_entry_only", "leaf"));
    }
}
