//! `sledge export`.

use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sledge_export::{Chrome, Ctf, Folded, Graphviz, Mermaid, Parquet, Perfetto, Pprof, Speedscope};

use crate::arguments::{Colour, ExportArgs, ExportFormat, ScreenArgs};
use crate::demangle::names;
use crate::failure::Failure;
use crate::honesty;
use crate::input::Input;
use crate::screen::Screen;

/// Turns a trace into another tool's format.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let input = Input::open(&args.input, &args.filter)?;
    check_output(args)?;
    match args.format {
        ExportFormat::Ctf | ExportFormat::Parquet => to_directory(&input, args)?,
        _ => to_file(&input, args)?,
    }
    honesty::tell(&input.trace, args.names.demangle);
    Ok(())
}

fn to_file(input: &Input, args: &ExportArgs) -> anyhow::Result<()> {
    let plain = ScreenArgs { colour: Colour::Never, no_pager: true };
    let mut screen = Screen::open(&args.output, plain)?;
    let (out, names) = (&mut screen, names(args.names.demangle));
    match args.format {
        ExportFormat::Perfetto => {
            input.events(&mut Perfetto::new(out, names, input.trace.host()))?;
        }
        ExportFormat::Chrome => input.events(&mut Chrome::new(out, names))?,
        ExportFormat::Speedscope => {
            input.events(&mut Speedscope::new(out, names, &waiting_room(args)))?;
        }
        ExportFormat::Folded => input.events(&mut Folded::new(out, names))?,
        ExportFormat::Pprof => input.events(&mut Pprof::new(out, names, input.trace.host()))?,
        ExportFormat::Graphviz => input.events(&mut Graphviz::new(out, names))?,
        ExportFormat::Mermaid => input.events(&mut Mermaid::new(out, names))?,
        ExportFormat::Ctf | ExportFormat::Parquet => {}
    }
    screen.close()
}

fn to_directory(input: &Input, args: &ExportArgs) -> anyhow::Result<()> {
    let Some(directory) = &args.output.output else {
        let what = "this format is a directory of files";
        return Err(Failure::misuse(what, "name one with -o DIRECTORY").into());
    };
    let (names, host) = (names(args.names.demangle), input.trace.host());
    let shown = || format!("cannot write into {}", directory.display());
    if args.format == ExportFormat::Parquet {
        let mut tables = Parquet::new(directory, names, host).with_context(shown)?;
        return input.events(&mut tables).with_context(shown);
    }
    let mut sink = Ctf::new(directory, names, host).map_err(|error| {
        let what = format!("cannot write into {}: {error}", directory.display());
        Failure::new(what, "name a directory that is empty, or not there yet, with -o DIRECTORY")
    })?;
    input.events(&mut sink).with_context(shown)
}

/// Where temporary files go: beside the output, where there is room for it.
fn waiting_room(args: &ExportArgs) -> PathBuf {
    let beside = args.output.output.as_deref().filter(|path| path.is_file()).and_then(Path::parent);
    match beside {
        Some(directory) if directory.as_os_str().is_empty() => ".".into(),
        Some(directory) => directory.to_owned(),
        None => std::env::temp_dir(),
    }
}

/// The trace itself is no place for it, nor is a terminal for bytes.
fn check_output(args: &ExportArgs) -> Result<(), Failure> {
    let Some(path) = &args.output.output else {
        if is_binary(args.format) && io::stdout().is_terminal() {
            return Err(Failure::misuse(
                "this format is not for a terminal",
                "name a file with -o FILE",
            ));
        }
        return Ok(());
    };
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    if identity(path).is_some_and(|output| Some(output) == identity(&args.input.input)) {
        let what = format!("{} is the trace that is to be read", path.display());
        return Err(Failure::misuse(what, "name another file with -o FILE"));
    }
    Ok(())
}

fn is_binary(format: ExportFormat) -> bool {
    matches!(format, ExportFormat::Perfetto | ExportFormat::Pprof)
}
