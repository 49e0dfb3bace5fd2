//! The text of `trace` and `trace_pipe`, as the kernel's tools expect it.

mod graph;
mod header;

pub(crate) use graph::micros;
pub(crate) use header::header;

use crate::buffer::Placed;
use crate::clock::Clock;
use crate::entry::{Content, Entry, Who};
use crate::events::Events;
use crate::functions::Functions;
use crate::instance::Tracer;
use crate::options::{Options, TraceOption as O};
use crate::threads::Threads;
use graph::GraphText;
use std::fmt::Write;

/// What text is written from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) functions: &'a Functions,
    pub(crate) threads: &'a Threads,
    pub(crate) events: &'a Events,
    pub(crate) options: Options,
    pub(crate) tracer: Tracer,
    pub(crate) clock: Clock,
}

/// What a reader remembers between entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Printer {
    graph: GraphText,
    /// Lanes of which an entry was shown.
    begun: Vec<bool>,
    any: bool,
}

impl Printer {
    /// Writes entries, which are in order of time. `pipe` readers hear of losses, others of
    /// buffers that began later.
    pub(crate) fn print(&mut self, look: &Look<'_>, entries: &[Placed], pipe: bool) -> String {
        let mut out = String::new();
        let next = next_of_lane(entries);
        let mut skip = vec![false; entries.len()];
        for (at, placed) in entries.iter().enumerate() {
            if placed.lost > 0 {
                let _ = writeln!(out, "CPU:{} [LOST {} EVENTS]", placed.lane, placed.lost);
            }
            if skip[at] {
                continue;
            }
            self.begin(look, placed.lane, pipe, &mut out);
            let follower = next[at].map(|next| (next, &entries[next].entry));
            if look.tracer == Tracer::FunctionGraph
                && let Some(used) = self.graph.print(look, placed, follower, &mut out)
            {
                if let Some(used) = used {
                    skip[used] = true;
                }
                continue;
            }
            line(look, placed.lane, &placed.entry, &mut out);
        }
        out
    }

    /// `annotate`: the first entry of each lane but the very first is announced.
    fn begin(&mut self, look: &Look<'_>, lane: usize, pipe: bool, out: &mut String) {
        if self.begun.len() <= lane {
            self.begun.resize(lane + 1, false);
        }
        let new = !std::mem::replace(&mut self.begun[lane], true);
        let first = !std::mem::replace(&mut self.any, true);
        if new && !first && !pipe && look.options.has(O::Annotate) && look.threads.lanes() > 1 {
            let _ = writeln!(out, "##### CPU {lane} buffer started ####");
        }
    }
}

/// For each entry, the next one of its lane.
fn next_of_lane(entries: &[Placed]) -> Vec<Option<usize>> {
    let lanes = entries.iter().map(|placed| placed.lane + 1).max().unwrap_or(0);
    let (mut latest, mut next) = (vec![None; lanes], vec![None; entries.len()]);
    for (at, placed) in entries.iter().enumerate().rev() {
        next[at] = latest[placed.lane].replace(at);
    }
    next
}

/// Name, thread id and process id of whoever made an entry.
pub(crate) fn owner<'a>(look: &'a Look<'_>, who: &'a Who) -> (&'a str, u32, u32) {
    let (comm, tid, tgid) = match who {
        Who::Thread(id) => match look.threads.get(*id) {
            Some(thread) => (thread.comm.as_str(), thread.tid, thread.tgid),
            None => ("<...>", 0, 0),
        },
        Who::Writer(writer) => (writer.comm.as_str(), writer.tid, writer.tgid),
    };
    (if look.options.has(O::RecordCmd) { comm } else { "<...>" }, tid, tgid)
}

/// One entry in the form of all tracers but the graph's.
fn line(look: &Look<'_>, lane: usize, entry: &Entry, out: &mut String) {
    if look.options.has(O::ContextInfo) {
        context(look, lane, entry, out);
    }
    body(look, entry, out);
}

fn context(look: &Look<'_>, lane: usize, entry: &Entry, out: &mut String) {
    let (comm, tid, tgid) = owner(look, &entry.who);
    let _ = write!(out, "{comm:>16}-{tid:<7} ");
    if look.options.has(O::RecordTgid) {
        let _ = write!(out, "({tgid:7}) ");
    }
    let _ = write!(out, "[{lane:03}] ");
    if look.options.has(O::IrqInfo) {
        out.push_str(".....");
    }
    if look.clock.is_time() {
        // Rounded to microseconds, as the kernel does.
        let micros = entry.time.saturating_add(500) / 1000;
        let _ = write!(out, " {:5}.{:06}: ", micros / 1_000_000, micros % 1_000_000);
    } else {
        let _ = write!(out, " {:12}: ", entry.time);
    }
}

/// What an entry says, with the end of its line.
pub(super) fn body(look: &Look<'_>, entry: &Entry, out: &mut String) {
    match &entry.what {
        Content::Function { function, parent } => {
            let address = look.functions.get(*function).map_or(0, |function| function.address);
            symbol(look, address, out);
            if look.options.has(O::PrintParent) {
                out.push_str(" <-");
                symbol(look, *parent, out);
            }
            out.push('\n');
        }
        Content::GraphEntry { function, depth } => {
            let name = look.functions.name(*function);
            let _ = writeln!(out, "graph_ent: func={name} depth={depth}");
        }
        Content::GraphReturn { function, depth, duration, .. } => {
            let name = look.functions.name(*function);
            let _ = writeln!(out, "graph_ret: func={name} depth={depth} duration={duration}");
        }
        Content::Print(text) => {
            let _ = write!(out, "tracing_mark_write: {}", String::from_utf8_lossy(text));
            if text.last() != Some(&b'\n') {
                out.push('\n');
            }
        }
        Content::Raw(id, bytes) => {
            let _ = write!(out, "# {id:x} buf:");
            bytes.iter().for_each(|byte| {
                let _ = write!(out, " {byte:02x}");
            });
            out.push('\n');
        }
        Content::Event(hit) => {
            out.push_str(&crate::events::text(look.events, look.functions, hit));
        }
        Content::Stack(frames) => {
            out.push_str("<stack trace>\n");
            for &frame in frames.iter() {
                out.push_str(" => ");
                symbol(look, frame, out);
                out.push('\n');
            }
        }
    }
}

/// A symbol as the options want it.
fn symbol(look: &Look<'_>, address: u64, out: &mut String) {
    if address == 0 {
        out.push('0');
        return;
    }
    out.push_str(&look.functions.symbol(address, look.options.has(O::SymOffset)));
    if look.options.has(O::SymAddr) {
        let _ = write!(out, " <{address:016x}>");
    }
}
