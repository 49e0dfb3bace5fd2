//! `sledge report`.

use anyhow::Context;
use sledge_analyse::{Column, Format, Report, SortKey, write_report};

use crate::arguments::{ReportArgs, ReportFormat};
use crate::demangle::names;
use crate::honesty;
use crate::input::Input;
use crate::patience::Patience;
use crate::screen::Screen;

/// Shows where the time went.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let input = Input::open(&args.input, &args.filter)?;
    let mut report = Report::new(names(args.names.demangle));
    let patience = Patience::with(format!("reading {}", args.input.input.display()));
    input.events(&mut report)?;
    drop(patience);
    let rows = report.rows(args.sort.as_deref().unwrap_or(&SortKey::DEFAULT));
    let format = match args.format {
        ReportFormat::Text => Format::Text,
        ReportFormat::Json => Format::Json,
        ReportFormat::Csv => Format::Csv,
    };
    let columns = args.fields.as_deref().unwrap_or(&Column::DEFAULT);
    let mut screen = Screen::open(&args.output, args.screen)?;
    write_report(&mut screen, &rows, format, columns).context("cannot write")?;
    screen.close()?;
    honesty::tell(&input.trace, args.names.demangle);
    Ok(())
}
