//! `sledge dump`.

use sledge_analyse::Dump;

use crate::arguments::{Colour, DumpArgs, DumpFormat, ScreenArgs};
use crate::demangle::names;
use crate::honesty;
use crate::input::Input;
use crate::screen::Screen;

/// Writes a trace for other programs.
pub(crate) fn run(args: &DumpArgs) -> anyhow::Result<()> {
    let input = Input::open(&args.input, &args.filter)?;
    let plain = ScreenArgs { colour: Colour::Never, no_pager: true };
    let mut screen = Screen::open(&args.output, plain)?;
    match args.format {
        DumpFormat::Jsonl => {
            let mut dump = Dump::new(&mut screen, names(args.names.demangle));
            input.events(&mut dump)?;
        }
    }
    screen.close()?;
    honesty::tell(&input.trace, args.names.demangle);
    Ok(())
}
