//! Entries of the function graph tracer: nested code with durations.

use super::{Look, body, owner};
use crate::buffer::Placed;
use crate::entry::{Content, Entry, Who};
use crate::functions::FunctionId;
use crate::options::TraceOption as O;
use std::fmt::Write;

/// What a reader of graphs remembers of each lane.
#[derive(Clone, Debug, Default)]
pub(super) struct GraphText {
    lanes: Vec<LaneState>,
}

#[derive(Clone, Debug, Default)]
struct LaneState {
    /// Who was there last.
    who: Option<Who>,
    /// How deep comments stand.
    depth: i32,
    /// Functions whose beginning was shown, by depth.
    shown: Vec<Option<FunctionId>>,
}

impl GraphText {
    /// Writes an entry, if it is one of this tracer. Answers with the follower if that was written
    /// too: the return of a call that called nothing.
    pub(super) fn print(
        &mut self,
        look: &Look<'_>,
        placed: &Placed,
        follower: Option<(usize, &Entry)>,
        out: &mut String,
    ) -> Option<Option<usize>> {
        if self.lanes.len() <= placed.lane {
            self.lanes.resize(placed.lane + 1, LaneState::default());
        }
        let entry = &placed.entry;
        let state = &mut self.lanes[placed.lane];
        match &entry.what {
            Content::GraphEntry { function, depth } => {
                let leaf = follower.and_then(|(at, next)| {
                    let ended = ends(next, entry, *function, *depth)?;
                    Some((at, ended))
                });
                state.prologue(look, placed, out);
                state.call(look, *function, *depth, leaf.map(|(_, ended)| ended), out);
                Some(leaf.map(|(at, _)| at))
            }
            Content::GraphReturn { function, depth, duration, value } => {
                state.prologue(look, placed, out);
                state.end(look, *function, *depth, (*duration, *value), out);
                Some(None)
            }
            Content::Function { .. } => None,
            _ => {
                state.prologue(look, placed, out);
                state.comment(look, entry, out);
                Some(None)
            }
        }
    }
}

/// Whether `next` is the return of the call that `entry` began: how long it took, and its value.
fn ends(
    next: &Entry,
    entry: &Entry,
    function: FunctionId,
    depth: u16,
) -> Option<(u64, Option<u64>)> {
    match next.what {
        Content::GraphReturn { function: other, depth: deep, duration, value }
            if other == function && deep == depth && next.who == entry.who =>
        {
            Some((duration, value))
        }
        _ => None,
    }
}

impl LaneState {
    /// What stands before the duration.
    fn prologue(&mut self, look: &Look<'_>, placed: &Placed, out: &mut String) {
        let who = &placed.entry.who;
        let width = (look.threads.lanes().saturating_sub(1)).to_string().len();
        if self.who.as_ref() != Some(who)
            && let Some(before) = self.who.replace(who.clone())
        {
            out.push_str(" ------------------------------------------\n");
            let _ = write!(out, " {:width$}) ", placed.lane);
            process(look, &before, out);
            out.push_str(" => ");
            process(look, who, out);
            out.push_str("\n ------------------------------------------\n\n");
        }
        if !look.options.has(O::ContextInfo) {
            return;
        }
        if look.options.has(O::FuncgraphAbstime) {
            let micros = placed.entry.time / 1000;
            let _ = write!(out, "{:5}.{:06} |  ", micros / 1_000_000, micros % 1_000_000);
        }
        if look.options.has(O::FuncgraphCpu) {
            let _ = write!(out, " {:width$}) ", placed.lane);
        }
        if look.options.has(O::FuncgraphProc) {
            process(look, who, out);
            out.push_str(" | ");
        }
    }

    fn call(
        &mut self,
        look: &Look<'_>,
        function: FunctionId,
        depth: u16,
        leaf: Option<(u64, Option<u64>)>,
        out: &mut String,
    ) {
        let name = look.functions.name(function);
        self.depth = i32::from(depth) - i32::from(leaf.is_some());
        duration(look, leaf.map(|(took, _)| took), out);
        indent(depth.into(), out);
        self.show(depth, leaf.is_none().then_some(function));
        let _ = match leaf {
            None => writeln!(out, "{name}() {{"),
            Some(_) => writeln!(out, "{name}();"),
        };
    }

    fn end(
        &mut self,
        look: &Look<'_>,
        function: FunctionId,
        depth: u16,
        (took, _): (u64, Option<u64>),
        out: &mut String,
    ) {
        self.depth = i32::from(depth) - 1;
        let begun = self.shown.get(usize::from(depth)).copied().flatten() == Some(function);
        self.show(depth, None);
        duration(look, Some(took), out);
        indent(depth.into(), out);
        if begun && !look.options.has(O::FuncgraphTail) {
            out.push_str("}\n");
        } else {
            let _ = writeln!(out, "}} /* {} */", look.functions.name(function));
        }
    }

    fn comment(&self, look: &Look<'_>, entry: &Entry, out: &mut String) {
        duration(look, None, out);
        if self.depth > 0 {
            indent(self.depth + 1, out);
        }
        out.push_str("/* ");
        let mut text = String::new();
        body(look, entry, &mut text);
        let text = match &entry.what {
            Content::Print(_) => text.strip_prefix("tracing_mark_write: ").unwrap_or(&text),
            _ => &text,
        };
        let _ = writeln!(out, "{} */", text.trim_end_matches('\n'));
    }

    fn show(&mut self, depth: u16, function: Option<FunctionId>) {
        let depth = usize::from(depth);
        if self.shown.len() <= depth {
            self.shown.resize(depth + 1, None);
        }
        self.shown[depth] = function;
    }
}

fn indent(depth: i32, out: &mut String) {
    (0..depth).for_each(|_| out.push_str("  "));
}

/// `comm-pid`, in the middle of 14 columns.
fn process(look: &Look<'_>, who: &Who, out: &mut String) {
    let (comm, tid, _) = owner(look, who);
    let comm: String = comm.chars().take(7).collect();
    let _ = write!(out, "{:^14}", format!("{comm}-{tid}"));
}

/// The overhead mark and the duration, or room for them.
fn duration(look: &Look<'_>, took: Option<u64>, out: &mut String) {
    if !look.options.has(O::FuncgraphDuration) || !look.options.has(O::ContextInfo) {
        return;
    }
    let Some(took) = took else {
        out.push_str("              |  ");
        return;
    };
    let marked = look.options.has(O::FuncgraphOverhead);
    let _ = write!(out, "{} ", if marked { mark(took) } else { ' ' });
    out.push_str(&micros(took));
    out.push_str("|  ");
}

/// How the length of a call is marked.
fn mark(nanoseconds: u64) -> char {
    let marks = [
        (1_000_000_000, '$'),
        (100_000_000, '@'),
        (10_000_000, '*'),
        (1_000_000, '#'),
        (100_000, '!'),
        (10_000, '+'),
    ];
    marks.iter().find(|(least, _)| nanoseconds > *least).map_or(' ', |(_, mark)| *mark)
}

/// Nanoseconds as microseconds with seven significant characters, and `us`, in the width of the
/// column.
pub(crate) fn micros(nanoseconds: u64) -> String {
    let mut text = (nanoseconds / 1000).to_string();
    if text.len() < 7 {
        let fraction = format!("{:03}", nanoseconds % 1000);
        let room = (7 - text.len()).min(3);
        text = format!("{text}.{}", &fraction[..room]);
    }
    let fill = 8usize.saturating_sub(text.len());
    format!("{text} us {:fill$}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_kernel_s_form() {
        assert_eq!(micros(0), "0.000 us    ");
        assert_eq!(micros(1_234), "1.234 us    ");
        assert_eq!(micros(123_456_789), "123456.7 us ");
        assert_eq!(micros(12_345_678), "12345.67 us ");
        assert_eq!(micros(1_234_567_890), "1234567 us  ");
        assert_eq!((mark(10_000), mark(10_001), mark(2_000_000_000)), (' ', '+', '$'));
    }
}
