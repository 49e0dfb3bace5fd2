//! Tasks of this repository: `cargo xtask TASK`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tasks talk to the terminal")]

mod agent_check;
mod bench;
mod metadata;
mod selftests;
mod soak;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask TASK
  tidy                 check the layout rules of the sources
  agent-check [FILE]   check the agent's shared object (the newest one built, or FILE)
  bench [NAME] [--json]
                       run a benchmark; without NAME, list them
  selftests [--fetch | --from DIR] [WORD]
                       run the kernel's ftrace self-tests against a mounted process (as root)
  soak [--seconds N] [--together] [NAME…]
                       long runs that must find nothing: in turn, 60 s in all; or together, N s each";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let task = arguments.next();
    let file = arguments.next().map(PathBuf::from);
    let findings = match task.as_ref().and_then(|task| task.to_str()) {
        Some("tidy") if file.is_none() => tidy::run(),
        Some("agent-check") if arguments.next().is_none() => agent_check::run(file),
        Some("bench") => bench::run(file.into_iter().map(Into::into).chain(arguments)),
        Some("selftests") => selftests::run(file.into_iter().map(Into::into).chain(arguments)),
        Some("soak") => soak::run(file.into_iter().map(Into::into).chain(arguments)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match findings {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
            eprintln!("{} findings", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
