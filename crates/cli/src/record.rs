//! `sledge record`.

use std::process::ExitStatus;

use crate::arguments::RecordArgs;
use crate::failure::Failure;

/// Runs the program and writes its trace.
pub(crate) fn run(args: &RecordArgs) -> anyhow::Result<ExitStatus> {
    let program = args.program.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    let what = format!("cannot record {program}: this build of sledge has no recorder");
    Err(Failure::new(what, "read an existing trace: sledge replay -i FILE").into())
}
