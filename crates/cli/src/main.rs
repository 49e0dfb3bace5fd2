//! The `sledge` command: reads its arguments, runs one action, says how it ended.
#![forbid(unsafe_code)]

mod arguments;
mod ctl;
mod demangle;
mod dump;
mod export;
mod failure;
mod flame;
mod generate;
mod graph;
mod honesty;
mod input;
mod latency;
mod live;
mod mount;
mod patience;
mod record;
mod replay;
mod report;
mod running;
mod screen;
mod sites;
mod tree;

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::misused(&error),
    };
    match run(arguments) {
        Ok(status) => status,
        // Whoever read our output has seen enough.
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => failure::failed(&error),
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if let Some(what) = arguments.generate {
        generate::run(what)?;
        return Ok(ExitCode::SUCCESS);
    }
    match arguments.command {
        None => return live::run(arguments.live).map(as_program),
        Some(Command::Record(args)) => return record::command(&args).map(as_program),
        Some(Command::Ctl(args)) => ctl::run(&args)?,
        Some(Command::Hub(args)) => running::serve(&args)?,
        Some(Command::Replay(args)) => replay::run(&args)?,
        Some(Command::Report(args)) => report::run(&args)?,
        Some(Command::Graph(args)) => graph::run(&args)?,
        Some(Command::Flame(args)) => flame::run(&args)?,
        Some(Command::Latency(args)) => latency::run(&args)?,
        Some(Command::Tree(args)) => tree::run(&args)?,
        Some(Command::Dump(args)) => dump::run(&args)?,
        Some(Command::Export(args)) => export::run(&args)?,
        Some(Command::Sites(args)) => sites::run(&args)?,
        Some(Command::Mount(args)) => mount::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The traced program's own status; 128 and its number for a signal, as shells do.
fn as_program(status: ExitStatus) -> ExitCode {
    let by_signal = || status.signal().map(|signal| 128 + signal);
    let code = status.code().or_else(by_signal).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
