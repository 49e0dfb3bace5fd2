//! `sledge replay`.

use sledge_analyse::{Replay, ReplayRows, Style};

use crate::arguments::{
    Colour, FilterArgs, FormatArg, InputArgs, LookArgs, OutputArgs, ReplayArgs, ScreenArgs,
};
use crate::demangle::names;
use crate::honesty;
use crate::input::Input;
use crate::screen::Screen;

/// Shows a trace as nested code.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let input = Input::open(&args.input, &args.filter)?;
    if args.format != FormatArg::Text {
        let plain = ScreenArgs { colour: Colour::Never, no_pager: true };
        let mut screen = Screen::open(&args.output, plain)?;
        let names = names(args.look.names.demangle);
        input.events(&mut ReplayRows::new(&mut screen, names, args.format.into()))?;
        screen.close()?;
        honesty::tell(&input.trace, args.look.names.demangle);
        return Ok(());
    }
    show_input(&input, &args.look, &args.output, args.screen)
}

/// Shows all of a trace, or these threads of it, as `sledge PROGRAM` does.
pub(crate) fn show(
    input: &InputArgs,
    tid: Vec<u32>,
    look: &LookArgs,
    screen: ScreenArgs,
) -> anyhow::Result<()> {
    // What the other filters leave out is not in the trace.
    let input = Input::open(input, &FilterArgs { tid, ..FilterArgs::default() })?;
    show_input(&input, look, &OutputArgs { output: None }, screen)
}

fn show_input(
    input: &Input,
    look: &LookArgs,
    output: &OutputArgs,
    screen: ScreenArgs,
) -> anyhow::Result<()> {
    let mut screen = Screen::open(output, screen)?;
    let mut style = Style { colour: screen.colour(), ..Style::default() };
    if let Some(fields) = &look.fields {
        style.fields.clone_from(fields);
    }
    let mut replay = Replay::new(&mut screen, names(look.names.demangle), style);
    input.events(&mut replay)?;
    screen.close()?;
    honesty::tell(&input.trace, look.names.demangle);
    Ok(())
}
