//! `sledge record`: runs a program and keeps a trace of its calls.

use std::io::{self, IsTerminal, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sledge_control::{ControlError, Full, Options, Progress, Recorded, Scope};
use sledge_trace::event::Outcome;
use sledge_trace::{Keep, Storage};

use crate::arguments::{self, RecordArgs, Switch};
use crate::failure::{Failure, say};
use crate::running;

/// The code that runs inside the program.
pub(crate) static AGENT: &[u8] = include_bytes!(env!("SLEDGE_AGENT_SO"));

/// The default file.
const TRACE: &str = "trace.sledge";
/// Work that takes longer is shown.
const PATIENCE: Duration = Duration::from_secs(1);
/// Less would not hold a single block of each of a few threads.
const LEAST_KEPT: u64 = 256 << 10;
/// Warnings that are shown; the rest is counted.
const WARNINGS: usize = 8;

/// `sledge record` as typed: a program that has not begun has no thread ids yet.
pub(crate) fn command(args: &RecordArgs) -> anyhow::Result<ExitStatus> {
    if !args.filter.tid.is_empty() {
        let what = "--tid does not go with record: thread ids are known once the program runs";
        return Err(Failure::misuse(what, "give it to sledge replay, report or dump").into());
    }
    run(args)
}

/// Runs the program and writes its trace.
pub(crate) fn run(args: &RecordArgs) -> anyhow::Result<ExitStatus> {
    let output = args.output.clone().unwrap_or_else(|| TRACE.into());
    let pids = running::pids(&args.running)?;
    if !pids.is_empty() {
        keep_older(&output)?;
        running::record(args, &pids, &output)?;
        return Ok(ExitStatus::from_raw(0));
    }
    let options = options(args, &output)?;
    keep_older(&output)?;
    for part in 1..args.max_files.unwrap_or(1) {
        let mut name = output.as_os_str().to_owned();
        name.push(format!(".{part}"));
        keep_older(Path::new(&name))?;
    }
    let line = ProgressLine::default();
    let recorded = sledge_control::record(&options, &|progress| line.show(&progress));
    line.clear();
    let recorded = recorded.map_err(|error| explain(&error))?;
    tell(&recorded);
    Ok(status(recorded.outcome))
}

fn options<'a>(args: &'a RecordArgs, output: &'a Path) -> Result<Options<'a>, Failure> {
    Ok(Options {
        words: &args.program,
        output,
        agent: AGENT,
        scope: scope(args),
        patch: args.filter.patterns(&args.patch)?,
        filter: args.filter.spec()?,
        follow: args.follow == Switch::On,
        probes: false,
        ring_bytes: ring_bytes(args.buffer)?,
        full: match args.full {
            arguments::Full::Wait => Full::Wait,
            arguments::Full::Drop => Full::Drop,
        },
        storage: Storage { keep: keep(args)?, compress: args.compress == Switch::On },
        time_limit: args.time_limit.map(|time| Duration::from_nanos(time.0)),
    })
}

/// How much of the trace is kept.
fn keep(args: &RecordArgs) -> Result<Keep, Failure> {
    let keep = match (args.max_size, args.max_files, args.flight_recorder) {
        (_, _, Some(bytes)) => Keep::Last(bytes),
        (Some(bytes), Some(count), None) => Keep::Files { bytes, count },
        (Some(bytes), None, None) => Keep::First(bytes),
        (None, ..) => Keep::All,
    };
    let size = args.flight_recorder.or(args.max_size);
    if size.is_some_and(|size| size < LEAST_KEPT) {
        let what = "a trace that is limited has at least 256k";
        return Err(Failure::misuse(what, "choose --max-size or --flight-recorder above that"));
    }
    Ok(keep)
}

/// Which functions of libraries are meant.
pub(crate) fn scope(args: &RecordArgs) -> Scope {
    match (args.libs, args.no_libcall) {
        (true, _) => Scope::Libraries,
        (_, true) => Scope::Executable,
        _ => Scope::Calls,
    }
}

pub(crate) fn ring_bytes(asked: u64) -> Result<u64, Failure> {
    if (64 << 10..=1 << 30).contains(&asked) {
        return Ok(asked);
    }
    Err(Failure::misuse("a buffer has between 64k and 1G", "choose -b within that"))
}

/// An existing trace becomes `.old`.
fn keep_older(output: &Path) -> anyhow::Result<()> {
    if !output.is_file() {
        return Ok(());
    }
    let mut older = output.as_os_str().to_owned();
    older.push(".old");
    std::fs::rename(output, PathBuf::from(older)).map_err(|error| {
        let what = format!("cannot keep the older {}: {error}", output.display());
        Failure::new(what, "write elsewhere with -o FILE").into()
    })
}

fn explain(error: &ControlError) -> Failure {
    Failure::new(error.to_string(), error.advice())
}

fn status(outcome: Outcome) -> ExitStatus {
    match outcome {
        Outcome::Exited(code) => ExitStatus::from_raw(code << 8),
        Outcome::Killed(signal) => ExitStatus::from_raw(signal),
        Outcome::Running => ExitStatus::from_raw(0),
    }
}

/// Says what the user must know of the recording itself.
///
/// Coverage is a remark, for people: where stderr goes to a program it stays the traced
/// program's own.
fn tell(recorded: &Recorded) {
    let remarks = if io::stderr().is_terminal() { &recorded.untraceable[..] } else { &[] };
    for module in remarks {
        let (refused, wanted) = (module.refused, module.wanted.max(module.refused));
        let name = &module.module;
        say(&format!(
            "{refused} of {wanted} functions of {name} not traceable (sledge sites --explain)"
        ));
    }
    for warning in recorded.warnings.iter().take(WARNINGS) {
        say(warning);
    }
    if recorded.warnings.len() > WARNINGS {
        say(&format!("… and {} more warnings", recorded.warnings.len() - WARNINGS));
    }
}

/// One line on a terminal, for work that takes a while.
#[derive(Debug, Default)]
struct ProgressLine {
    state: Mutex<Option<(Instant, bool)>>,
}

impl ProgressLine {
    fn show(&self, progress: &Progress) {
        if !io::stderr().is_terminal() {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (since, shown) = state.get_or_insert((Instant::now(), false));
        if since.elapsed() < PATIENCE {
            return;
        }
        *shown = true;
        let text = match progress {
            Progress::Reading(path) => {
                format!("reading symbols of {}", path.file_name().unwrap_or_default().display())
            }
            Progress::Draining(records) => format!("draining: {records} events"),
        };
        // A progress line that cannot be shown is no loss.
        let _ = write!(io::stderr(), "\r\x1b[K{text}");
    }

    fn clear(&self) {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.is_some_and(|(_, shown)| shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
