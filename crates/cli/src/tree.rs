//! `sledge tree`.

use anyhow::Context;
use sledge_analyse::Tree;

use crate::arguments::{Demangle, TreeArgs};
use crate::honesty;
use crate::input::Input;
use crate::patience::Patience;
use crate::screen::Screen;

/// Shows processes and threads.
pub(crate) fn run(args: &TreeArgs) -> anyhow::Result<()> {
    let input = Input::open(&args.input, &args.filter)?;
    let mut tree = Tree::default();
    let patience = Patience::with(format!("reading {}", args.input.input.display()));
    input.events(&mut tree)?;
    drop(patience);
    let mut screen = Screen::open(&args.output, args.screen)?;
    let directory = input.trace.directory();
    tree.write(&mut screen, directory, args.format.into()).context("cannot write")?;
    screen.close()?;
    honesty::tell(&input.trace, Demangle::Simple);
    Ok(())
}
