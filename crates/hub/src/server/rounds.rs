//! What the hub does now and then, and at the end.

use super::guest::{Guest, listed};
use super::{Hub, Thread};
use crate::attached::Leaving;
use crate::error::HubError;
use crate::protocol::Event;
use sledge_control::rings::Rings;
use sledge_discover::names;
use sledge_filter::{Pattern, Syntax};
use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// Bytes of text in one answer.
const PIECE: usize = 1 << 20;

impl Hub {
    /// Ends threads that are gone: their rings go to others.
    pub(super) fn retire(&mut self) {
        if self.attached.is_none() || self.threads.iter().all(Option::is_none) {
            return;
        }
        let there = thread_ids(self.pid);
        for index in 0..self.threads.len() {
            let tid = self.threads[index].as_ref().map(|thread| thread.tid);
            if tid.is_some_and(|tid| !there.contains(&tid)) {
                self.drain(true);
                self.end_thread(index);
            }
        }
    }

    fn end_thread(&mut self, index: usize) {
        let Some(attached) = &self.attached else { return };
        let lost = attached.segment().lost(index);
        self.lossy |= lost.0 > 0;
        self.guests.iter_mut().for_each(|guest| guest.thread_end(index, lost));
        self.threads[index] = None;
        attached.segment().release(index);
    }

    /// Reads what is left, ends all threads and says so.
    fn finish_threads(&mut self) {
        let Some(attached) = &self.attached else { return };
        for _ in 0..Rings::most_batches(attached.segment()) {
            if self.drain(true) == 0 {
                break;
            }
            self.guests.iter_mut().for_each(Guest::flush_all);
        }
        for index in 0..self.threads.len() {
            if self.threads[index].is_some() {
                self.end_thread(index);
            }
        }
    }

    fn bid_farewell(&mut self, ended: bool, ringless: u64, note: Option<&str>) {
        for guest in &mut self.guests {
            if let Some(note) = note {
                guest.tell(&Event::Note(note.to_owned()));
            }
            guest.tell(&Event::End { ended, ringless });
            guest.flush_all();
        }
    }

    fn ringless(&self) -> u64 {
        self.attached.as_ref().map_or(0, |attached| attached.segment().ringless())
    }

    /// The process has ended, or runs another image.
    pub(super) fn end(&mut self) {
        let ringless = self.ringless();
        self.finish_threads();
        let replaced = sledge_control::image::is_running(self.pid);
        let note = replaced.then(|| format!("process {} executed another program", self.pid));
        self.bid_farewell(true, ringless, note.as_deref());
    }

    /// Leaves the process while its last client waits for that.
    pub(super) fn leave_with_guests(&mut self) -> Result<(), HubError> {
        let ringless = self.ringless();
        let left = self.leave();
        let note = match &left {
            Ok(note) => note.clone(),
            Err(error) => Some(format!("{error} (see: sledge doctor {})", self.pid)),
        };
        self.bid_farewell(false, ringless, note.as_deref());
        self.guests.clear();
        left.map(drop)
    }

    /// Leaves the process. Returns what is left in it, for people.
    pub(super) fn leave(&mut self) -> Result<Option<String>, HubError> {
        let Some(attached) = &mut self.attached else { return Ok(None) };
        let pid = self.pid;
        let mut leaving = match attached.quieten() {
            Ok(leaving) => leaving,
            Err(HubError::Ended(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (mut out, mut returns) = self.evacuate(&mut leaving);
        if let Some(attached) = &self.attached {
            attached.close()?;
        }
        if !out {
            // Who waited for room in a ring does not any more.
            leaving.insist();
            (out, returns) = self.evacuate(&mut leaving);
        }
        self.finish_threads();
        let Some(attached) = self.attached.take() else { return Ok(None) };
        let left = attached.leave(returns, out)?;
        Ok(match left.returns {
            Some(0) => None,
            Some(count) => Some(format!(
                "{count} calls have not returned yet: code for that stays in process {pid}"
            )),
            None => Some(format!("code stays in process {pid}, for calls that may still return")),
        })
    }

    /// Waits until no thread is in generated code and none will return to it, for as long as that makes
    /// sense. Returns whether all threads are out, and where calls will still return.
    fn evacuate(&mut self, leaving: &mut Leaving) -> (bool, Option<Vec<u64>>) {
        let mut pause = Duration::from_millis(1);
        loop {
            // Nothing is read while a guest is behind, and a thread may wait for that.
            self.guests.iter_mut().for_each(Guest::flush);
            while self.drain(false) > 0 {
                self.guests.iter_mut().for_each(Guest::flush);
            }
            let out = leaving.threads_are_out();
            let still = |cells: Vec<u32>| Some(self.attached.as_ref()?.still_to_return(&cells));
            let returns = self.open_cells().and_then(still);
            let nobody = returns.as_ref().is_some_and(Vec::is_empty);
            if out && nobody || leaving.is_late(out) {
                return (out, returns);
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_millis(40));
        }
    }

    /// Where hooked calls will return from; `None` if that is not known.
    fn open_cells(&self) -> Option<Vec<u32>> {
        if self.lossy {
            return None;
        }
        let mut cells = Vec::new();
        for Thread { open, .. } in self.threads.iter().flatten() {
            cells.extend(open.cells()?);
        }
        Some(cells)
    }

    /// What `sledge ctl PID status` shows.
    pub(super) fn status(&self) -> String {
        let Some(attached) = &self.attached else { return String::new() };
        let (executable, _) = attached.program();
        let armed = attached.armed().len();
        let mut lines = vec![format!(
            "process {} ({executable}): {armed} sites patched, {} functions cannot be, {} threads seen",
            self.pid,
            attached.refused() + attached.foreign(),
            self.threads.iter().flatten().count(),
        )];
        let registered = self.guests.iter().filter(|guest| guest.wish.is_some());
        lines.extend(registered.map(Guest::line));
        lines.join("\n")
    }

    /// Functions that can be traced, one a line, in pieces.
    pub(super) fn functions(&self, pattern: &str) -> Result<Vec<Event>, String> {
        let Some(attached) = &self.attached else { return Ok(Vec::new()) };
        let pattern = if pattern.is_empty() {
            None
        } else {
            Some(Pattern::new(pattern, Syntax::Regex).map_err(|error| error.to_string())?)
        };
        let mut pieces = vec![String::new()];
        for (name, module) in listed(attached) {
            let demangled = names::demangle(&name);
            if pattern.as_ref().is_some_and(|it| !it.matches(&[&name, &demangled], &module)) {
                continue;
            }
            if pieces.last().is_some_and(|piece| piece.len() > PIECE) {
                pieces.push(String::new());
            }
            if let Some(piece) = pieces.last_mut() {
                piece.push_str(&format!("{name}@{module}\n"));
            }
        }
        let last = pieces.pop().unwrap_or_default();
        let more = pieces.into_iter().map(Event::More);
        Ok(more.chain([Event::Answer(last)]).collect())
    }
}

/// Ids of the threads of a process as it sees them itself.
fn thread_ids(pid: i32) -> HashSet<u32> {
    let entries = || fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let outside = || entries().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or("");
    if line.split_whitespace().count() < 2 {
        return outside().collect();
    }
    // It is in another namespace of process ids.
    let inside = outside().filter_map(|tid| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        line.split_whitespace().last()?.parse().ok()
    });
    inside.collect()
}
