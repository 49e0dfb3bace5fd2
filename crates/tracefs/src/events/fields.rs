//! Fields of events, for filters and histograms.

use super::fetch::{Argument, TypeKind};

/// A field of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// `common_pid`: the thread.
    Pid,
    /// `common_cpu`: the lane.
    Lane,
    /// `common_timestamp`.
    Time,
    /// `common_type` and others that are always the same.
    Constant(u32),
    /// `comm`.
    Comm,
    /// Where the probe lies; for a return probe the function.
    Address,
    /// Where a return probe returned to.
    Parent,
    /// `buf` of `print`.
    Text,
    /// An argument.
    Argument(usize),
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Found {
    Number(i128),
    Text(String),
    Nothing,
}

/// The fields that an event has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    pub(crate) id: u32,
    pub(crate) arguments: &'a [Argument],
    pub(crate) on_return: bool,
    /// It is `print`.
    pub(crate) print: bool,
}

impl Fields<'_> {
    pub(crate) fn named(&self, name: &str) -> Option<Field> {
        Some(match name {
            "common_pid" => Field::Pid,
            "common_cpu" | "cpu" | "CPU" => Field::Lane,
            "common_timestamp" => Field::Time,
            "common_type" => Field::Constant(self.id),
            "common_flags" | "common_preempt_count" => Field::Constant(0),
            "comm" | "COMM" => Field::Comm,
            "buf" if self.print => Field::Text,
            "ip" if self.print => Field::Constant(0),
            "__probe_ip" if !self.on_return && !self.print => Field::Address,
            "__probe_func" if self.on_return => Field::Address,
            "__probe_ret_ip" if self.on_return => Field::Parent,
            _ => Field::Argument(self.arguments.iter().position(|it| it.name == name)?),
        })
    }

    pub(crate) fn is_text(&self, field: Field) -> bool {
        match field {
            Field::Comm | Field::Text => true,
            Field::Argument(at) => {
                self.arguments.get(at).is_some_and(|it| it.kind.kind == TypeKind::String)
            }
            _ => false,
        }
    }
}
