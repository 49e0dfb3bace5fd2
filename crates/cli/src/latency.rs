//! `sledge latency`.

use std::io::Write;

use anyhow::Context;
use sledge_analyse::latency::{self, Latencies, Latency, Nested, Slow, Subtree};
use sledge_analyse::{Format, Replay, Style, text};
use sledge_trace::Selection;
use sledge_trace::event::Nanos;

use crate::arguments::LatencyArgs;
use crate::demangle::names;
use crate::honesty;
use crate::input::Input;
use crate::patience::Patience;
use crate::screen::Screen;

/// Calls within a slow one that are written for machines.
const NESTED: usize = 100_000;

/// Shows the slowest calls of a function.
pub(crate) fn run(args: &LatencyArgs) -> anyhow::Result<()> {
    let input = Input::open(&args.input, &args.filter)?;
    let wanted = input.matching(&args.functions, &args.filter, &args.input)?;
    let mut latency = Latency::new(wanted, args.count.max(1));
    let patience = Patience::with(format!("reading {}", args.input.input.display()));
    input.events(&mut latency)?;
    drop(patience);
    let mut found = latency.found();
    if args.histogram {
        found.slowest.clear();
    }
    found.slowest.truncate(args.count);
    let mut screen = Screen::open(&args.output, args.screen)?;
    match args.format.into() {
        Format::Text => show(args, &input, &found, &mut screen)?,
        format if args.histogram => {
            latency::histogram(&mut screen, &found, format).context("cannot write")?;
        }
        format => write(args, &input, &found, &mut screen, format)?,
    }
    screen.close()?;
    honesty::tell(&input.trace, args.names.demangle);
    Ok(())
}

/// Only the stretch of a call, on its thread: the rest of the trace is not read.
fn stretch(slow: &Slow) -> Selection {
    let Nanos(entered) = slow.entered;
    let end = Nanos(entered.saturating_add(slow.duration).saturating_add(1));
    Selection { range: Some(slow.entered..end), threads: Some(vec![slow.thread]) }
}

fn show(
    args: &LatencyArgs,
    input: &Input,
    found: &Latencies,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let directory = input.trace.directory();
    let what = args.functions.join(", ");
    writeln!(screen, "# {}", latency::headline(&what, found)).context("cannot write")?;
    latency::histogram(screen, found, Format::Text).context("cannot write")?;
    for (rank, slow) in (1..).zip(&found.slowest) {
        let thread = &directory.threads[slow.thread.0 as usize];
        let Nanos(at) = slow.entered;
        writeln!(
            screen,
            "\n# {rank}: at {}.{:09} s on thread {} [{}]{}",
            at / 1_000_000_000,
            at % 1_000_000_000,
            text::printable(&thread.name),
            thread.tid,
            if slow.open { ", still running" } else { "" }
        )
        .context("cannot write")?;
        let style = Style { colour: screen.colour(), ..Style::default() };
        let mut replay = Replay::new(&mut *screen, names(args.names.demangle), style);
        input.events_of(&stretch(slow), &mut Subtree::new(slow, &mut replay))?;
    }
    Ok(())
}

fn write(
    args: &LatencyArgs,
    input: &Input,
    found: &Latencies,
    screen: &mut Screen,
    format: Format,
) -> anyhow::Result<()> {
    let mut calls = Vec::new();
    let mut left = NESTED;
    for slow in &found.slowest {
        let mut nested = Nested::new(left);
        input.events_of(&stretch(slow), &mut Subtree::new(slow, &mut nested))?;
        left -= nested.calls.len();
        calls.push((*slow, nested));
    }
    let left_out: u64 = calls.iter().map(|(_, nested)| nested.left_out).sum();
    if left_out > 0 {
        let count = text::grouped(left_out);
        crate::failure::say(&format!("{count} calls within the slow ones are left out"));
    }
    let directory = input.trace.directory();
    let mut names = names(args.names.demangle);
    latency::rows(screen, directory, &mut names, &calls, format).context("cannot write")
}
