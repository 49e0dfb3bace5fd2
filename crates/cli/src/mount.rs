//! `sledge mount`: a process, driven by the files of tracefs.

use sledge_control::{Scope, StreamOptions};
use sledge_filter::{Pattern, Syntax};
use sledge_mount::{MountError, MountOptions};

use crate::arguments::MountArgs;
use crate::failure::{Failure, say};
use crate::record::{AGENT, ring_bytes};

/// Runs until the directory is unmounted, or until we are interrupted.
pub(crate) fn run(args: &MountArgs) -> anyhow::Result<()> {
    let directory = args.directory.display();
    let options = options(args)?;
    let status = sledge_mount::mount(options, |pid, troubles| {
        troubles.iter().for_each(|trouble| say(trouble));
        say(&format!("process {pid} is at {directory}; to end: umount {directory}, or Ctrl-C"));
    });
    match status.map_err(|error| explain(&error))? {
        Some(status) => say(&format!("the program ended with status {status}")),
        None => say("the program goes on, untraced"),
    }
    Ok(())
}

fn options(args: &MountArgs) -> Result<MountOptions, Failure> {
    let pattern = |text: &String| Pattern::new(text, Syntax::Glob);
    let patch = args.patch.iter().map(pattern).collect::<Result<_, _>>();
    let patch = patch.map_err(|error| Failure::misuse(error.to_string(), "-P takes a glob"))?;
    let scope = match (args.libs, args.no_libcall) {
        (true, _) => Scope::Libraries,
        (_, true) => Scope::Executable,
        _ => Scope::Calls,
    };
    let ring_bytes = ring_bytes(args.buffer)?;
    let words = args.program.clone();
    let stream = StreamOptions { words, agent: AGENT, scope, patch, ring_bytes };
    Ok(MountOptions { directory: args.directory.clone(), stream })
}

fn explain(error: &MountError) -> Failure {
    Failure::new(error.to_string(), error.advice())
}
