//! Long runs that must not find anything: `sledge-soak NAME SECONDS`. `cargo xtask soak` runs them.
//!
//! Each is a process of its own in which threads call functions and check every result, while
//! others change under them whatever sledge can change. It prints one line, and fails if a result
//! was wrong or memory grew; a crash speaks for itself.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a soak says what it did")]

mod contexts;
mod memory;
mod ops;
mod patched;
mod storm;
#[path = "../../crates/live/tests/race/text.rs"]
#[allow(dead_code, reason = "its other user needs the rest")]
mod text;
mod workers;

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a soak has found.
#[derive(Debug, Default)]
struct Outcome {
    /// What was done, and how often.
    done: String,
    /// Calls whose results were checked.
    calls: u64,
    /// Calls with a wrong result, callbacks that saw what was not theirs, counts that are off.
    wrong: u64,
    /// What was wrong, as far as that can be told.
    findings: Vec<String>,
}

type Soak = fn(Instant) -> Outcome;

const SOAKS: [(&str, Soak); 7] = [
    ("shapes", |until| patched::shapes(until, false)),
    ("batches", |until| patched::batches(until, false)),
    ("ops", |until| ops::run(until, false)),
    ("shapes-storm", |until| patched::shapes(until, true)),
    ("batches-storm", |until| patched::batches(until, true)),
    ("ops-storm", |until| ops::run(until, true)),
    ("contexts", contexts::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let soak = |name: &str| SOAKS.iter().find(|(known, _)| *known == name);
    let (name, soak, seconds) = match &arguments[..] {
        [word] if word == "--list" => {
            SOAKS.iter().for_each(|(name, _)| println!("{name}"));
            return ExitCode::SUCCESS;
        }
        [name, seconds] => match (soak(name), seconds.parse::<u32>()) {
            (Some((name, soak)), Ok(seconds)) => (name, soak, seconds),
            _ => return usage(),
        },
        _ => return usage(),
    };
    let length = Duration::from_secs(seconds.into());
    let memory = memory::watch(length / 4);
    let mut outcome = soak(Instant::now() + length);
    outcome.findings.extend(workers::complaints());
    let (before, after) = memory.compare(&mut outcome.findings);
    let Outcome { done, calls, wrong, findings } = outcome;
    println!("{name}: {done}; {calls} calls checked, {wrong} wrong; memory {before} -> {after}");
    findings.iter().for_each(|finding| println!("{name}: {finding}"));
    if wrong == 0 && findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: sledge-soak NAME SECONDS, or --list");
    ExitCode::from(2)
}
