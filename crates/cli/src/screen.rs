//! Where output goes: a file, a pager, or plainly stdout.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Stdout, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

use crate::arguments::{Colour, OutputArgs, ScreenArgs};
use crate::failure::Failure;

/// An open output.
#[derive(Debug)]
pub(crate) struct Screen {
    target: Target,
    colour: bool,
}

#[derive(Debug)]
enum Target {
    File(File),
    Pager(Child, Option<ChildStdin>),
    Stdout(Stdout),
}

impl Screen {
    /// Opens what the arguments name.
    pub(crate) fn open(output: &OutputArgs, args: ScreenArgs) -> anyhow::Result<Self> {
        if let Some(path) = &output.output {
            let file = File::create(path).map_err(|error| {
                let what = format!("cannot create {}: {error}", path.display());
                Failure::new(what, "give another file with -o FILE, or leave -o out")
            })?;
            let target = Target::File(file);
            return Ok(Self { target, colour: args.colour == Colour::Always });
        }
        let terminal = io::stdout().is_terminal();
        let colour = match args.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && may_colour(),
        };
        let pager = if terminal && !args.no_pager { pager() } else { None };
        Ok(Self { target: pager.unwrap_or_else(|| Target::Stdout(io::stdout())), colour })
    }

    /// Whether to colour.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Ends the output.
    pub(crate) fn close(mut self) -> anyhow::Result<()> {
        self.flush().context("cannot write")
    }
}

impl Drop for Screen {
    /// Waits for the pager to be left: it must not outlive us on the terminal.
    fn drop(&mut self) {
        if let Target::Pager(child, input) = &mut self.target {
            drop(input.take());
            // A pager that cannot be waited for is gone.
            let _ = child.wait();
        }
    }
}

/// <https://no-color.org>, and terminals that cannot.
fn may_colour() -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Starts `$PAGER`, or `less` told to leave at once where everything fits.
fn pager() -> Option<Target> {
    let command = env::var("PAGER").unwrap_or_else(|_| "less -FRX".to_owned());
    let mut words = command.split_whitespace();
    let program = words.next().filter(|program| *program != "cat")?;
    let mut pager = Command::new(program);
    pager.args(words).stdin(Stdio::piped());
    if env::var_os("LESS").is_none() {
        pager.env("LESS", "FRX");
    }
    let mut child = pager.spawn().ok()?;
    // Ctrl-C is the pager's while it shows: it must not outlive us on the terminal.
    let _ = SigSet::from(Signal::SIGINT).thread_block();
    let input = child.stdin.take();
    Some(Target::Pager(child, input))
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::File(file) => file.write(bytes),
            Target::Pager(_, Some(input)) => input.write(bytes),
            Target::Pager(_, None) => Err(io::ErrorKind::BrokenPipe.into()),
            Target::Stdout(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::File(file) => file.flush(),
            Target::Pager(_, Some(input)) => input.flush(),
            Target::Pager(_, None) => Ok(()),
            Target::Stdout(stdout) => stdout.flush(),
        }
    }
}
