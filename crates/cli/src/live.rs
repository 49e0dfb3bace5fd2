//! `sledge PROGRAM`: record, then show.

use std::ffi::OsString;
use std::process::ExitStatus;

use clap::CommandFactory;
use sledge_filter::suggest;

use crate::arguments::{Arguments, InputArgs, LiveArgs};
use crate::failure::{self, Failure, is_broken_pipe};
use crate::{record, replay, sites};

/// Records the program and shows its calls; the trace is kept only where `-o` says so.
pub(crate) fn run(mut args: LiveArgs) -> anyhow::Result<ExitStatus> {
    if args.record.running.is_empty() {
        check_program(&args.record.program)?;
    }
    let keep = args.record.output.is_some();
    let directory = tempfile::Builder::new().prefix("sledge-").tempdir()?;
    let path = match args.record.output.take() {
        Some(path) => path,
        None => directory.path().join("trace.sledge"),
    };
    args.record.output = Some(path.clone());
    let status = record::run(&args.record)?;
    let input = InputArgs { input: path.clone(), ..InputArgs::default() };
    let shown = replay::show(&input, args.record.filter.tid, &args.look, args.screen);
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

/// A word that is no program, but close to a command, was meant as one.
fn check_program(program: &[OsString]) -> Result<(), Failure> {
    let Some(word) = program.first().and_then(|word| word.to_str()) else {
        return Ok(());
    };
    if word.contains('/') || sites::find(word.as_ref()).exists() {
        return Ok(());
    }
    let command = Arguments::command();
    let commands: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let advice = if commands.contains(&word) {
        format!("options of a command stand behind it: sledge {word} [OPTIONS]")
    } else if let Some(near) = suggest(word, commands) {
        format!("did you mean: sledge {near}?")
    } else {
        return Ok(());
    };
    Err(Failure::misuse(format!("there is no program '{word}' in PATH"), advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_in_the_programs_place_is_told() {
        let text = |word: &str| check_program(&[word.into()]).map_err(|error| error.to_string());
        assert!(text("replay").unwrap_err().contains("no program 'replay'"));
        assert!(text("repaly").unwrap_err().contains("no program 'repaly'"));
        assert_eq!(text("/no/such/replay"), Ok(()));
        assert_eq!(text("sh"), Ok(()));
        assert_eq!(text("something-quite-different"), Ok(()));
    }
}
