//! Running processes: `sledge -p PID`, `sledge record -p PID`, and the hub behind them.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use sledge_control::Full;
use sledge_hub::attached::Entry;
use sledge_hub::{HubError, Recording, Wish};

use crate::arguments::{self, HubArgs, Match, RecordArgs, RunningArgs};
use crate::failure::{Failure, say};
use crate::record::{AGENT, ring_bytes, scope};

/// The processes that are meant.
pub(crate) fn pids(args: &RunningArgs) -> Result<Vec<i32>, Failure> {
    let mut pids = args.pid.clone();
    if let Some(name) = &args.comm {
        let found = named(name);
        if found.is_empty() {
            let what = format!("no process is called '{name}'");
            return Err(Failure::new(what, "see: ps -eo pid,comm; or give its number with -p"));
        }
        pids.extend(found);
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Processes of this name, but not ourselves.
fn named(name: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_named = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim_end() == name && pid.cast_unsigned() != std::process::id()
    };
    pids.filter(is_named).collect()
}

/// Records running processes into a file.
pub(crate) fn record(args: &RecordArgs, pids: &[i32], output: &Path) -> anyhow::Result<()> {
    // Compiled here for what is wrong with them; the hub compiles them where they are used.
    args.filter.patterns(&args.patch)?;
    let full = full(args.full);
    let recording = Recording {
        pids,
        entry: Entry {
            agent: AGENT,
            ring_bytes: ring_bytes(args.buffer)?.next_power_of_two(),
            full,
        },
        wish: Wish {
            scope: scope(args),
            globs: args.filter.syntax == Match::Glob,
            functions: args.patch.clone(),
            but: Vec::new(),
        },
        filter: args.filter.spec()?,
        output,
        duration: args.time_limit.map(|time| Duration::from_nanos(time.0)),
    };
    let begun = || {
        if io::stderr().is_terminal() && recording.duration.is_none() {
            say("recording; Ctrl-C ends it and leaves the process as it was");
        }
    };
    let recorded = sledge_hub::record(&recording, &begun).map_err(|error| explain(&error))?;
    for note in &recorded.notes {
        say(note);
    }
    if recorded.lost > 0 {
        say(&format!("{} events lost: raise -b or narrow -P", recorded.lost));
    }
    Ok(())
}

fn full(args: arguments::Full) -> Full {
    match args {
        arguments::Full::Wait => Full::Wait,
        arguments::Full::Drop => Full::Drop,
    }
}

/// What went wrong, and what to do about it.
pub(crate) fn explain(error: &HubError) -> Failure {
    Failure::new(error.to_string(), error.advice())
}

/// Serves those who watch a process; the first of them is on standard input.
pub(crate) fn serve(args: &HubArgs) -> anyhow::Result<()> {
    let first = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let entry = Entry { agent: AGENT, ring_bytes: ring_bytes(args.ring)?, full: full(args.full) };
    sledge_hub::serve(args.pid, &entry, first).map_err(|error| explain(&error).into())
}
