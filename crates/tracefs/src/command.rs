//! Commands of functions: `function:traceoff:3` in `set_ftrace_filter`.

use crate::errno::Errno;
use crate::functions::{FunctionId, Functions};
use crate::list::select;
use std::collections::BTreeMap;

/// What a function does when it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    TraceOn,
    TraceOff,
    StackTrace,
    Snapshot,
    /// `enable_event` or `disable_event`.
    Event {
        on: bool,
        system: String,
        event: String,
    },
}

impl Action {
    /// Reads `traceoff`, `enable_event:system:event` and the like, and what follows them.
    fn parse(text: &str) -> Option<(Self, Option<&str>)> {
        let (name, rest) = split(text);
        let simple = match name {
            "traceon" => Self::TraceOn,
            "traceoff" => Self::TraceOff,
            "stacktrace" => Self::StackTrace,
            "snapshot" => Self::Snapshot,
            "enable_event" | "disable_event" => {
                let (system, rest) = split(rest?);
                let (event, rest) = split(rest?);
                let (system, event) = (system.to_owned(), event.to_owned());
                return Some((Self::Event { on: name == "enable_event", system, event }, rest));
            }
            _ => return None,
        };
        Some((simple, rest))
    }

    fn text(&self) -> String {
        match self {
            Self::TraceOn => "traceon".into(),
            Self::TraceOff => "traceoff".into(),
            Self::StackTrace => "stacktrace".into(),
            Self::Snapshot => "snapshot".into(),
            Self::Event { on, system, event } => {
                format!("{}_event:{system}:{event}", if *on { "enable" } else { "disable" })
            }
        }
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(head, rest)| (head, Some(rest)))
}

/// The commands of an instance. With and without a count they are different ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    kinds: BTreeMap<(Action, bool), BTreeMap<FunctionId, u64>>,
}

impl Commands {
    pub(crate) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Whether a word is one of these, not a plain pattern or a module's.
    pub(crate) fn is_one(word: &str) -> bool {
        word.split_once(':').is_some_and(|(_, rest)| rest != "mod" && !rest.starts_with("mod:"))
    }

    /// Takes one word: `pattern:action[:count]`, with `!` in front to remove. `known` says whether
    /// there is such an event.
    pub(crate) fn edit(
        &mut self,
        functions: &Functions,
        word: &str,
        known: impl Fn(&str, &str) -> bool,
    ) -> Result<(), Errno> {
        let (pattern, rest) = word.split_once(':').ok_or(Errno::Invalid)?;
        let (remove, pattern) =
            pattern.strip_prefix('!').map_or((false, pattern), |rest| (true, rest));
        let (action, count) = Action::parse(rest).ok_or(Errno::Invalid)?;
        if let Action::Event { system, event, .. } = &action
            && !known(system, event)
        {
            return Err(Errno::Invalid);
        }
        let ids = select(functions, pattern);
        if ids.is_empty() {
            return Err(Errno::Invalid);
        }
        if remove {
            return self.remove(&ids, (action, count.is_some()));
        }
        let count = match count {
            Some("") | None => None,
            Some(count) => Some(crate::words::parse_number(count).ok_or(Errno::Invalid)?),
        };
        let kind = self.kinds.entry((action, count.is_some())).or_default();
        let before = kind.len();
        for id in ids {
            kind.entry(id).or_insert(count.unwrap_or(0));
        }
        if kind.len() == before { Err(Errno::Invalid) } else { Ok(()) }
    }

    fn remove(&mut self, ids: &[FunctionId], kind: (Action, bool)) -> Result<(), Errno> {
        let list = self.kinds.get_mut(&kind).ok_or(Errno::Invalid)?;
        let before = list.len();
        ids.iter().for_each(|id| {
            list.remove(id);
        });
        let removed = list.len() < before;
        if list.is_empty() {
            self.kinds.remove(&kind);
        }
        if removed { Ok(()) } else { Err(Errno::Invalid) }
    }

    /// Functions that have a command.
    pub(crate) fn functions(&self) -> impl Iterator<Item = FunctionId> + '_ {
        self.kinds.values().flat_map(|list| list.keys().copied())
    }

    /// What a function does now; `did` is told each action and answers whether it changed
    /// anything: only then the count goes down.
    pub(crate) fn hit(&mut self, id: FunctionId, mut did: impl FnMut(&Action) -> bool) {
        for ((action, counted), list) in &mut self.kinds {
            let Some(left) = list.get_mut(&id) else { continue };
            if *counted && *left == 0 {
                continue;
            }
            if did(action) && *counted {
                *left -= 1;
            }
        }
    }

    /// Whether anything happens when a function is called.
    pub(crate) fn concerns(&self, id: FunctionId) -> bool {
        self.kinds.values().any(|list| list.contains_key(&id))
    }

    /// The events that are switched, once for each kind of command.
    pub(crate) fn events(&self) -> impl Iterator<Item = (&str, &str)> {
        self.kinds.keys().filter_map(|(action, _)| match action {
            Action::Event { system, event, .. } => Some((system.as_str(), event.as_str())),
            _ => None,
        })
    }

    /// The lines of the file.
    pub(crate) fn listing(&self, functions: &Functions) -> String {
        let mut text = String::new();
        for ((action, counted), list) in &self.kinds {
            for (&id, left) in list {
                let left = if *counted { format!("count={left}") } else { "unlimited".into() };
                text += &format!("{}:{}:{left}\n", functions.label(id), action.text());
            }
        }
        text
    }
}
