//! `set_ftrace_pid` and its kin: lists of thread ids.

use crate::errno::Errno;
use std::collections::BTreeSet;

/// A list of thread ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pids {
    list: Option<BTreeSet<u32>>,
}

impl Pids {
    /// Whether nothing was written.
    pub(crate) const fn is_blank(&self) -> bool {
        self.list.is_none()
    }

    pub(crate) fn contains(&self, tid: u32) -> bool {
        self.list.as_ref().is_some_and(|list| list.contains(&tid))
    }

    pub(crate) fn clear(&mut self) {
        self.list = None;
    }

    pub(crate) fn add(&mut self, word: &str) -> Result<(), Errno> {
        let tid = word.parse().map_err(|_| Errno::Invalid)?;
        if tid > 1 << 22 {
            return Err(Errno::Invalid);
        }
        self.list.get_or_insert_default().insert(tid);
        Ok(())
    }

    pub(crate) fn listing(&self, empty: &str) -> String {
        match &self.list {
            Some(list) => list.iter().map(|tid| format!("{tid}\n")).collect(),
            None => empty.to_owned(),
        }
    }
}

/// Whether a thread is traced, by the list of those that are and the list of those that are not.
pub(crate) fn traces(only: &Pids, not: &Pids, tid: u32) -> bool {
    (only.is_blank() || only.contains(tid)) && !not.contains(tid)
}

/// `set_event_pid` and `set_event_notrace_pid`.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventPids {
    pub(crate) only: Pids,
    pub(crate) not: Pids,
}

impl EventPids {
    pub(crate) fn lets(&self, tid: u32) -> bool {
        traces(&self.only, &self.not, tid)
    }
}
