//! Reads a recording through `sledge dump --format jsonl`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde::Deserialize;

use crate::checks::Trouble;
use crate::programs::named;
use crate::run::{Invocation, Recording, compare, sledge};

/// What a line of the dump tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A thread was first seen.
    Thread,
    /// A call.
    Entry,
    /// The end of one.
    Exit,
    /// The thread goes on on another stack.
    Switch,
    /// Events were lost.
    Lost,
    /// The last of a thread.
    ThreadEnd,
    /// Something this harness does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It returned.
    Returned,
    /// It was jumped over.
    Unwound,
    /// Its exit is not hooked.
    NotSeen,
}

/// One line of the dump.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Nanoseconds since the trace began.
    pub ts_ns: u64,
    /// The thread.
    pub tid: u32,
    /// Its process.
    pub pid: u32,
    /// What it tells.
    pub kind: Kind,
    /// The function's name.
    pub func: String,
    /// The file name of its object.
    pub module: String,
    /// How many calls were open around it.
    pub depth: u32,
    /// How long the call took.
    pub duration_ns: Option<u64>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// How many events were lost.
    pub count: u64,
    /// How many calls never ended.
    pub open: u64,
    /// The stack that a thread goes on on.
    pub stack: usize,
}

/// Gives every event of `trace` to `take`, as `sledge dump OPTIONS` tells them.
///
/// # Errors
/// When the dump fails or a line of it is not what it should be.
pub fn each_event(
    trace: &Path,
    options: &[&str],
    mut take: impl FnMut(Event),
) -> Result<(), Trouble> {
    let mut command = sledge(["dump", "-i"])?;
    command.arg(trace).args(["--format", "jsonl"]).args(options);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let Some(stdout) = child.stdout.take() else { return Err("no pipe".into()) };
    let mut lines = BufReader::with_capacity(1 << 20, stdout);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        let event = serde_json::from_str(&line).map_err(|error| format!("{error} in {line}"))?;
        take(event);
        line.clear();
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("sledge dump: {status}").into()) }
}

/// All events of `trace`.
///
/// # Errors
/// Those of [`each_event`].
pub fn dump(trace: &Path) -> Result<Vec<Event>, Trouble> {
    let mut events = Vec::new();
    each_event(trace, &[], |event| events.push(event))?;
    Ok(events)
}

/// Compares the runs of a program in the table, and gives its events, which are balanced.
///
/// # Errors
/// What differs, or is not balanced.
pub fn traced(name: &str, options: &[&str]) -> Result<(Recording, Vec<Event>), Trouble> {
    let recording = compare(&Invocation::of(named(name))?, options)?;
    let events = dump(&recording.trace)?;
    assert_balanced(&events)?;
    Ok((recording, events))
}

/// The number of calls of each function.
#[must_use]
pub fn calls_by_function(events: &[Event]) -> BTreeMap<&str, u64> {
    let mut calls = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == Kind::Entry) {
        *calls.entry(event.func.as_str()).or_default() += 1;
    }
    calls
}

/// Counts of a thread, kept while its events pass.
#[derive(Debug, Default)]
struct ThreadTally {
    running: BTreeMap<String, u64>,
    said_open: Option<u64>,
}

/// Counts of a trace, kept while its events pass: fits traces too long to hold.
#[derive(Debug, Default)]
pub struct Tally {
    threads: BTreeMap<(u32, u32), ThreadTally>,
    /// Calls.
    pub entries: u64,
    /// Events lost.
    pub lost: u64,
    /// Calls that were jumped over.
    pub unwound: u64,
    /// Calls still running at the end, as the trace says.
    pub open: u64,
    wrong: Option<String>,
}

impl Tally {
    /// Counts one event.
    pub fn add(&mut self, event: &Event) {
        let thread = self.threads.entry((event.pid, event.tid)).or_default();
        match event.kind {
            Kind::Entry => {
                self.entries += 1;
                match thread.running.get_mut(&event.func) {
                    Some(count) => *count += 1,
                    None => drop(thread.running.insert(event.func.clone(), 1)),
                }
            }
            Kind::Exit => match thread.running.get_mut(&event.func) {
                Some(count) if *count > 0 => {
                    *count -= 1;
                    self.unwound += u64::from(event.ending == Some(Ending::Unwound));
                }
                _ => self.wrong = Some(format!("{} ended but had not begun", event.func)),
            },
            Kind::Lost => self.lost += event.count,
            Kind::ThreadEnd => {
                self.open += event.open;
                // An image that another replaces ends its threads; their ids live on.
                *thread.said_open.get_or_insert_default() += event.open;
            }
            Kind::Thread | Kind::Switch | Kind::Other => {}
        }
    }

    /// Every call ended once, or is said to have been open at the end; nothing was lost.
    ///
    /// # Errors
    /// Tells the first that did not.
    pub fn balanced(&self) -> Result<(), Trouble> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone().into());
        }
        if self.lost > 0 {
            return Err(format!("{} events lost", self.lost).into());
        }
        for ((pid, tid), thread) in &self.threads {
            let running: u64 = thread.running.values().sum();
            match thread.said_open {
                None => return Err(format!("the end of thread {pid}/{tid} is not told").into()),
                Some(open) if open != running => {
                    let names: Vec<_> = thread.running.iter().filter(|(_, n)| **n > 0).collect();
                    return Err(format!("{tid}: {open} said open, open are {names:?}").into());
                }
                Some(_) => {}
            }
        }
        if self.entries == 0 { Err("nothing was recorded".into()) } else { Ok(()) }
    }
}

/// Counts a whole trace without holding it.
///
/// # Errors
/// Those of [`each_event`].
pub fn tally(trace: &Path) -> Result<Tally, Trouble> {
    let mut tally = Tally::default();
    each_event(trace, &[], |event| tally.add(&event))?;
    Ok(tally)
}

/// [`Tally::balanced`] of events at hand.
///
/// # Errors
/// Tells the first call that is not.
pub fn assert_balanced(events: &[Event]) -> Result<(), Trouble> {
    let mut tally = Tally::default();
    events.iter().for_each(|event| tally.add(event));
    tally.balanced()
}

/// The calls of a trace as an indented outline: one line a call, thread after thread in the order
/// of their first calls. A call that was jumped over has ` (unwound)` behind its name, one whose
/// exit is not hooked ` (not seen)`, one that never ended ` (open)`.
#[derive(Debug, Default)]
pub struct Outline {
    threads: Vec<ThreadOutline>,
}

#[derive(Debug, Default)]
struct ThreadOutline {
    key: (u32, u32),
    lines: Vec<(usize, String, &'static str)>,
    running: Vec<usize>,
}

impl Outline {
    /// Of all calls.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        Self::only(events, |_| true)
    }

    /// Of those functions alone that `wanted` accepts; the others' calls move to their callers.
    #[must_use]
    pub fn only(events: &[Event], wanted: impl Fn(&str) -> bool) -> Self {
        let mut outline = Self::default();
        for event in events.iter().filter(|event| wanted(&event.func)) {
            match event.kind {
                Kind::Entry => outline.thread((event.pid, event.tid)).enter(&event.func),
                Kind::Exit => outline.thread((event.pid, event.tid)).leave(event),
                _ => {}
            }
        }
        outline
    }

    fn thread(&mut self, key: (u32, u32)) -> &mut ThreadOutline {
        let at = self.threads.iter().position(|thread| thread.key == key).unwrap_or_else(|| {
            self.threads.push(ThreadOutline { key, ..ThreadOutline::default() });
            self.threads.len() - 1
        });
        &mut self.threads[at]
    }

    /// The outline as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (depth, name, end) in self.threads.iter().flat_map(|thread| &thread.lines) {
            let _ = writeln!(text, "{:indent$}{name}{end}", "", indent = 2 * depth);
        }
        text
    }
}

impl ThreadOutline {
    fn enter(&mut self, name: &str) {
        self.running.push(self.lines.len());
        self.lines.push((self.running.len() - 1, name.to_owned(), " (open)"));
    }

    fn leave(&mut self, event: &Event) {
        let named = |line: &usize| self.lines[*line].1 == event.func;
        let Some(at) = self.running.iter().rposition(named) else { return };
        let line = self.running.remove(at);
        self.lines[line].2 = match event.ending {
            Some(Ending::Unwound) => " (unwound)",
            Some(Ending::NotSeen) => " (not seen)",
            Some(Ending::Returned) | None => "",
        };
    }
}

#[cfg(test)]
mod tests;
