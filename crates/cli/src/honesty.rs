//! What a reader must know about a trace to read it right; silent where all is well.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use sledge_analyse::text::{self, grouped};
use sledge_trace::event::{Directory, Nanos, Outcome, ThreadId};
use sledge_trace::{Loss, Trace};

use crate::arguments::Demangle;
use crate::demangle::names;
use crate::failure::say;

/// Lines of one kind that are shown; the rest is counted.
const LINES: usize = 8;
/// Calls of a chain that are shown at its inner end.
const CHAIN: usize = 8;

/// Says on stderr what is missing from the trace.
pub(crate) fn tell(trace: &Trace, demangle: Demangle) {
    if let Some(since) = trace.since() {
        say(&format!("the trace begins at {}: what came before was not kept", seconds(since)));
    }
    let losses = losses(trace.directory(), trace.losses());
    let damage: Vec<String> = trace.damage().iter().map(ToString::to_string).collect();
    for lines in [losses, damage, ending(trace, demangle)] {
        lines.iter().take(LINES).for_each(|line| say(line));
        if lines.len() > LINES {
            say(&format!("… and {} more of that kind", lines.len() - LINES));
        }
    }
}

/// One line a thread that lost events.
fn losses(directory: &Directory, losses: &[Loss]) -> Vec<String> {
    let mut by_thread: BTreeMap<ThreadId, Vec<&Loss>> = BTreeMap::new();
    for loss in losses {
        by_thread.entry(loss.thread).or_default().push(loss);
    }
    let line = |(thread, losses): (ThreadId, Vec<&Loss>)| {
        let count = losses.iter().fold(0_u64, |sum, loss| sum.saturating_add(loss.count));
        let since = losses.iter().map(|loss| loss.since).min().unwrap_or_default();
        let until = losses.iter().map(|loss| loss.until).max().unwrap_or_default();
        let times =
            if losses.len() > 1 { format!(" {} times", losses.len()) } else { String::new() };
        format!(
            "{} events lost on thread {}{times} between {} and {}: raise -b or narrow -F",
            grouped(count),
            tid(directory, thread),
            seconds(since),
            seconds(until)
        )
    };
    by_thread.into_iter().map(line).collect()
}

/// How the program or the recording ended, if not as it should.
fn ending(trace: &Trace, demangle: Demangle) -> Vec<String> {
    let directory = trace.directory();
    let what = match (trace.cut(), directory.outcome) {
        (_, Some(Outcome::Killed(signal))) => {
            format!("the program was killed by {}", signal_name(signal))
        }
        (Some(cut), _) => format!("the trace was cut off at {}", seconds(cut.at)),
        _ => return Vec::new(),
    };
    let mut chains = chains(trace, demangle).into_iter();
    let first = match chains.next() {
        Some((_, chain)) if chains.len() == 0 => format!("{what}; {chain} still running"),
        Some((tid, chain)) => format!("{what}; on thread {tid} {chain} still running"),
        None => what,
    };
    let others = chains.map(|(tid, chain)| format!("on thread {tid} {chain} still running"));
    std::iter::once(first).chain(others).collect()
}

/// `main() > serve() > accept() were`, by thread.
fn chains(trace: &Trace, demangle: Demangle) -> Vec<(u32, String)> {
    let directory = trace.directory();
    let mut names = names(demangle);
    let threads = (0..directory.threads.len() as u32).map(ThreadId);
    let mut chain = |thread: ThreadId| {
        let open = trace.still_open(thread);
        let verb = if open.len() == 1 { "was" } else { "were" };
        let skipped = open.len().saturating_sub(CHAIN);
        let shown = open[skipped..].iter();
        let calls: Vec<String> =
            shown.map(|function| names.call_of(directory, *function).to_owned()).collect();
        let before = if skipped > 0 { format!("{skipped} calls > ") } else { String::new() };
        let text = format!("{before}{} {verb}", calls.join(" > "));
        (!open.is_empty()).then(|| (tid(directory, thread), text))
    };
    threads.filter_map(&mut chain).collect()
}

fn tid(directory: &Directory, thread: ThreadId) -> u32 {
    directory.threads.get(thread.0 as usize).map_or(0, |known| known.tid)
}

fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |name| name.to_string())
}

/// `1.204 s`.
fn seconds(at: Nanos) -> String {
    let mut text = Vec::new();
    text::number(&mut text, at.0 / 1_000_000_000);
    text.push(b'.');
    text::zeroed(&mut text, at.0 / 1_000_000 % 1_000, 3);
    text.extend_from_slice(b" s");
    String::from_utf8(text).unwrap_or_default()
}
