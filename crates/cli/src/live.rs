//! `sledge PROGRAM`: record, then show.

use std::process::ExitStatus;

use crate::arguments::{InputArgs, LiveArgs};
use crate::failure::{self, is_broken_pipe};
use crate::{record, replay};

/// Records the program and shows its calls; the trace is kept only where `-o` says so.
pub(crate) fn run(mut args: LiveArgs) -> anyhow::Result<ExitStatus> {
    let keep = args.record.output.is_some();
    let directory = tempfile::Builder::new().prefix("sledge-").tempdir()?;
    let path = match args.record.output.take() {
        Some(path) => path,
        None => directory.path().join("trace.sledge"),
    };
    args.record.output = Some(path.clone());
    let status = record::run(&args.record)?;
    let shown = replay::show(&InputArgs { input: path.clone() }, &args.look, args.screen);
    match shown {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        // The program's status counts, whether or not all of it was looked at.
        _ => {
            if keep {
                failure::say(&format!("the trace is in {}", path.display()));
            }
            Ok(status)
        }
    }
}
