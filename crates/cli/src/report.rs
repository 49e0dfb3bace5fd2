//! `sledge report`.

use std::path::PathBuf;

use anyhow::Context;
use sledge_analyse::{
    By, Change, Column, Diff, Format, Report, Row, SortKey, write_diff, write_report,
};

use crate::arguments::{InputArgs, ReportArgs};
use crate::demangle::names;
use crate::honesty;
use crate::input::Input;
use crate::patience::Patience;
use crate::screen::Screen;

/// Shows where the time went.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let (by, format): (By, Format) = (args.by.into(), args.format.into());
    let keys = args.sort.as_deref().unwrap_or(&SortKey::DEFAULT);
    if let [before, after] = &args.diff[..] {
        let diff = Diff::new(&runs(args, before)?, &runs(args, after)?, Change::of(keys));
        let mut screen = Screen::open(&args.output, args.screen)?;
        write_diff(&mut screen, &diff, by, format).context("cannot write")?;
        return screen.close();
    }
    let (input, rows) = read(args, &args.input, keys)?;
    let columns = args.fields.as_deref().unwrap_or(&Column::DEFAULT);
    let mut screen = Screen::open(&args.output, args.screen)?;
    write_report(&mut screen, &rows, by, format, columns).context("cannot write")?;
    screen.close()?;
    honesty::tell(&input.trace, args.names.demangle);
    Ok(())
}

fn read(
    args: &ReportArgs,
    file: &InputArgs,
    keys: &[SortKey],
) -> anyhow::Result<(Input, Vec<Row>)> {
    let input = Input::open(file, &args.filter)?;
    let mut report = Report::new(names(args.names.demangle), args.by.into());
    let patience = Patience::with(format!("reading {}", file.input.display()));
    input.events(&mut report)?;
    drop(patience);
    Ok((input, report.rows(keys)))
}

/// The reports of the traces that a list names.
fn runs(args: &ReportArgs, files: &str) -> anyhow::Result<Vec<Vec<Row>>> {
    let report = |file: &str| {
        let file = InputArgs { input: PathBuf::from(file), ..args.input.clone() };
        let (input, rows) = read(args, &file, &[])?;
        honesty::tell(&input.trace, args.names.demangle);
        Ok(rows)
    };
    files.split(',').filter(|file| !file.is_empty()).map(report).collect()
}
