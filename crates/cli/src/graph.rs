//! `sledge graph`.

use anyhow::Context;
use sledge_analyse::{Contexts, Contextual, graph};

use crate::arguments::{FilterArgs, GraphArgs, InputArgs, NameArgs};
use crate::demangle::names;
use crate::failure::say;
use crate::honesty;
use crate::input::Input;
use crate::patience::Patience;
use crate::screen::Screen;

/// Shows who calls what.
pub(crate) fn run(args: &GraphArgs) -> anyhow::Result<()> {
    let (input, contexts) = read(&args.input, &args.filter, args.names)?;
    let parts = if args.functions.is_empty() {
        graph::whole(&contexts)
    } else {
        // Only for its error: what is shown is looked for by the names that are shown.
        input.matching(&args.functions, &args.filter, &args.input)?;
        let patterns = args.filter.patterns(&args.functions)?;
        graph::around(&contexts, |label| {
            patterns.iter().any(|pattern| pattern.matches(&[&label.name], &label.module))
        })
    };
    let mut screen = Screen::open(&args.output, args.screen)?;
    graph::write(&mut screen, &parts, args.format.into(), args.least.0).context("cannot write")?;
    screen.close()?;
    honesty::tell(&input.trace, args.names.demangle);
    Ok(())
}

/// Reads the contexts of a trace.
pub(crate) fn read(
    file: &InputArgs,
    filter: &FilterArgs,
    how: NameArgs,
) -> anyhow::Result<(Input, Contexts)> {
    let input = Input::open(file, filter)?;
    let mut contextual = Contextual::new(names(how.demangle));
    let patience = Patience::with(format!("reading {}", file.input.display()));
    input.events(&mut contextual)?;
    drop(patience);
    let contexts = contextual.contexts();
    if contexts.merged > 0 {
        let count = sledge_analyse::text::grouped(contexts.merged);
        say(&format!("too many different stacks: {count} calls count as part of their callers"));
    }
    Ok((input, contexts))
}
