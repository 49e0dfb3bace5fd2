//! The man page and the completions, made from the arguments themselves.

use std::io::{self, Write};

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::Arguments;

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

/// One page for all commands.
fn man() -> io::Result<Vec<u8>> {
    let mut command = Arguments::command().disable_help_flag(true);
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        render_command(&mut page, subcommand)?;
    }
    Ok(page)
}

/// The options of one command, under its name.
fn render_command(page: &mut Vec<u8>, command: &Command) -> io::Result<()> {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    writeln!(page, ".SH SLEDGE {}", command.get_name().to_uppercase())?;
    writeln!(page, "{about}.")?;
    let mut options = Vec::new();
    Man::new(command.clone()).render_options_section(&mut options)?;
    let options = String::from_utf8_lossy(&options);
    page.write_all(options.replace(".SH ", ".SS ").as_bytes())
}
