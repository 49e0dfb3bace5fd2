//! How `sledge` says that something went wrong: what, and what to do about it.

use std::io::{self, Write};
use std::process::ExitCode;

use thiserror::Error;

/// Exit status of a command used wrongly.
const MISUSED: u8 = 2;

/// A sentence that says what is wrong, and one that says what to do.
#[derive(Debug, Error)]
#[error("{what}")]
pub(crate) struct Failure {
    what: String,
    advice: String,
    status: u8,
}

impl Failure {
    /// Something could not be done.
    pub(crate) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into(), status: 1 }
    }

    /// The command was used wrongly.
    pub(crate) fn misuse(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: MISUSED, ..Self::new(what, advice) }
    }
}

/// Says what failed; gives the exit status.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    let failure = error.downcast_ref::<Failure>();
    say(&sentence(error));
    if let Some(failure) = failure.filter(|failure| !failure.advice.is_empty()) {
        for line in failure.advice.lines() {
            say_raw(&format!("        {line}\n"));
        }
    }
    ExitCode::from(failure.map_or(1, |failure| failure.status))
}

/// One sentence: the error and those of its causes that it does not tell itself.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

/// Shows help where it was asked for, else what was wrong with the arguments.
pub(crate) fn misused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nobody is left to tell that help could not be printed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    match text.strip_prefix("error: ") {
        Some(text) => say_raw(&format!("sledge: {text}")),
        None => say_raw(&text),
    }
    ExitCode::from(MISUSED)
}

/// A line on stderr.
pub(crate) fn say(line: &str) {
    say_raw(&format!("sledge: {line}\n"));
}

fn say_raw(text: &str) {
    // Where stderr is closed there is nobody to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Whether the reader of our output went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}
