//! `sledge flame`.

use anyhow::Context;
use sledge_analyse::{Flame, FlameFormat, Format};
use sledge_trace::event::Directory;

use crate::arguments::{Colour, FlameArgs, FlameFormatArg, InputArgs, ScreenArgs};
use crate::graph;
use crate::honesty;
use crate::screen::Screen;

/// Longest title that is made of the arguments, in letters.
const TITLE: usize = 80;

impl From<FlameFormatArg> for FlameFormat {
    fn from(format: FlameFormatArg) -> Self {
        match format {
            FlameFormatArg::Svg => Self::Svg,
            FlameFormatArg::Folded | FlameFormatArg::Text => Self::Folded,
            FlameFormatArg::Json => Self::Rows(Format::Json),
            FlameFormatArg::Csv => Self::Rows(Format::Csv),
        }
    }
}

/// Draws where the time went.
pub(crate) fn run(args: &FlameArgs) -> anyhow::Result<()> {
    let (input, contexts) = graph::read(&args.input, &args.filter, args.names)?;
    let before = match &args.diff {
        None => None,
        Some(path) => {
            let file = InputArgs { input: path.clone(), ..args.input.clone() };
            Some(graph::read(&file, &args.filter, args.names)?.1)
        }
    };
    let title = args.title.clone().unwrap_or_else(|| title(input.trace.directory()));
    let mut flame = Flame::new(&contexts, &title);
    if let Some(before) = &before {
        flame = flame.compared_with(before);
    }
    let plain = ScreenArgs { colour: Colour::Never, no_pager: true };
    let mut screen = Screen::open(&args.output, plain)?;
    flame.write(&mut screen, args.format.into()).context("cannot write")?;
    screen.close()?;
    honesty::tell(&input.trace, args.names.demangle);
    Ok(())
}

/// The first program and its arguments, if they are not too long.
fn title(directory: &Directory) -> String {
    let Some(process) = directory.processes.first() else { return String::new() };
    let all = process.arguments.join(" ");
    let words: Vec<&str> = all.split_whitespace().collect();
    let words = if words.is_empty() { process.executable.clone() } else { words.join(" ") };
    match words.char_indices().nth(TITLE) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}
