//! The man page and the completions, made from the arguments themselves.

use std::io::{self, Write};

use clap::{Arg, Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::{Arguments, USAGE};

/// What can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Generate {
    Man,
    Bash,
    Zsh,
    Fish,
}

/// Prints it.
pub(crate) fn run(what: Generate) -> anyhow::Result<()> {
    let mut out = Vec::new();
    let mut command = Arguments::command();
    let mut complete = |shell| clap_complete::generate(shell, &mut command, "sledge", &mut out);
    match what {
        Generate::Man => out = man()?,
        Generate::Bash => complete(Shell::Bash),
        Generate::Zsh => complete(Shell::Zsh),
        Generate::Fish => complete(Shell::Fish),
    }
    io::stdout().write_all(&out)?;
    Ok(())
}

/// One page for all commands. What they share is said once, where `sledge PROGRAM` is.
fn man() -> io::Result<Vec<u8>> {
    let command = Arguments::command().disable_help_flag(true);
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for subcommand in command.get_subcommands() {
        render_command(&mut page, subcommand, &command)?;
    }
    exit_status(&mut page)?;
    Ok(page)
}

fn synopsis(page: &mut Vec<u8>) -> io::Result<()> {
    writeln!(page, ".SH SYNOPSIS")?;
    let uses: Vec<String> =
        USAGE.lines().map(|line| line.trim().replacen("sledge", "\\fBsledge\\fR", 1)).collect();
    writeln!(page, "{}", uses.join("\n.br\n"))
}

/// The options of one command that are its own, under its name.
fn render_command(page: &mut Vec<u8>, command: &Command, whole: &Command) -> io::Result<()> {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(page, ".SH SLEDGE {}", command.get_name().to_uppercase())?;
    writeln!(page, "{about}.")?;
    let is_shared = |arg: &Arg| {
        let mut shared = whole.get_arguments();
        shared.any(|other| other.get_id() == arg.get_id() && help(other) == help(arg))
    };
    let all = command.get_arguments().count();
    let own = command.clone().disable_help_flag(true).mut_args(|arg| {
        let shared = is_shared(&arg);
        arg.hide(shared)
    });
    let shown = own.get_arguments().filter(|arg| !arg.is_hide_set()).count();
    if shown < all {
        writeln!(
            page,
            "Takes options of \\fBsledge\\fR PROGRAM too: see sledge {} \\-\\-help.",
            command.get_name()
        )?;
    }
    let mut options = Vec::new();
    if shown > 0 {
        Man::new(own).render_options_section(&mut options)?;
    }
    let options = String::from_utf8_lossy(&options);
    page.write_all(options.replace(".SH OPTIONS\n", "").replace(".SH ", ".SS ").as_bytes())
}

fn help(arg: &Arg) -> Option<String> {
    arg.get_help().map(ToString::to_string)
}

fn exit_status(page: &mut Vec<u8>) -> io::Result<()> {
    writeln!(page, ".SH EXIT STATUS")?;
    writeln!(
        page,
        "Of \\fBsledge\\fR PROGRAM and \\fBsledge record\\fR the program's own, or 128 and the"
    )?;
    writeln!(page, "number of the signal that killed it. Else 0: done, 1: failed, 2: used wrongly.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sledge --generate man >docs/sledge.1` makes it so.
    #[test]
    fn the_man_page_in_docs_is_the_one_that_is_generated() {
        let kept = include_str!("../../../docs/sledge.1");
        let made = String::from_utf8(man().unwrap()).unwrap();
        assert!(kept == made, "docs/sledge.1 is out of date");
    }
}
