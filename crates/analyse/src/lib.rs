//! What to make of a trace: each analysis is a [`sledge_trace::event::Sink`] that takes events in time order
//! and writes to any [`std::io::Write`].
//!
//! * [`Replay`] shows the calls as nested code,
//! * [`Report`] adds up where the time went; a [`Diff`] compares such reports,
//! * [`Contexts`] are all ways in which functions were reached: [`graph`] shows them or those of
//!   some functions, a [`Flame`] draws them,
//! * [`latency`] finds the slowest calls, each with all that happened within it,
//! * [`Tree`] shows processes and threads,
//! * [`Dump`] writes one JSON object a line.
//!
//! An analysis of whole calls, rather than of their entries and exits, is a [`calls::Visitor`].
//!
//! No analysis opens a file or knows a mangling scheme: [`Names`] is given a [`Naming`].
#![forbid(unsafe_code)]

pub mod calls;
pub mod contexts;
mod dump;
mod flame;
pub mod graph;
pub mod histogram;
pub mod json;
pub mod latency;
mod names;
mod output;
mod records;
mod replay;
mod report;
#[cfg(test)]
mod synthetic;
pub mod text;
mod tree;

pub use contexts::{Contexts, Contextual};
pub use dump::Dump;
pub use flame::{Flame, FlameFormat};
pub use names::{AsIs, Memo, Names, Naming, Place, Places, module_name};
pub use output::Output;
pub use records::Format;
pub use replay::{Field, Replay, ReplayRows, Style};
pub use report::{
    By, Change, Changed, Column, Diff, Report, Row, SortKey, Verdict, write as write_report,
    write_diff,
};
pub use tree::Tree;

/// A word of an option that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} '{word}' (known: {known})")]
pub struct UnknownWord {
    /// What kind of word was asked for.
    pub what: &'static str,
    /// What was given.
    pub word: String,
    /// What would have been understood.
    pub known: String,
}

/// Reads comma-separated words of a table; a leading `+` appends to `default`, `none` is empty.
fn parse_list<T: Copy + PartialEq>(
    what: &'static str,
    text: &str,
    table: &[(&str, T)],
    default: &[T],
) -> Result<Vec<T>, UnknownWord> {
    let (mut list, words) = match text.strip_prefix('+') {
        Some(rest) => (default.to_vec(), rest),
        None => (Vec::new(), text),
    };
    if words == "none" {
        return Ok(list);
    }
    for word in words.split(',').map(|word| word.trim().trim_start_matches('+')) {
        let found = table.iter().find(|(name, _)| *name == word);
        let &(_, value) = found.ok_or_else(|| UnknownWord {
            what,
            word: word.to_owned(),
            known: table.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
        })?;
        if !list.contains(&value) {
            list.push(value);
        }
    }
    Ok(list)
}
