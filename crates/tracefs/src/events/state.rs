//! What an instance does with an event: whether it records it, and what else it does.

use super::filter::Filter;
use super::hist::Histogram;

/// An event in an instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventState {
    enabled: bool,
    /// How many commands and triggers may switch it.
    soft: usize,
    /// Switched off by one of them.
    off: bool,
    pub(crate) filter: Option<Filter>,
    pub(crate) triggers: Vec<Trigger>,
}

/// What happens when an event is hit.
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    pub(crate) action: TriggerAction,
    /// How often it may still act.
    pub(crate) left: Option<u64>,
    pub(crate) condition: Option<Filter>,
}

/// What a trigger does.
#[derive(Clone, Debug)]
pub(crate) enum TriggerAction {
    Trace { on: bool },
    Snapshot,
    StackTrace,
    Event { on: bool, system: String, event: String },
    Hist(Box<Histogram>),
}

impl TriggerAction {
    /// Triggers of one event that exclude each other have the same.
    pub(crate) fn sort(&self) -> (u8, &str, &str) {
        match self {
            Self::Trace { .. } => (0, "", ""),
            Self::Snapshot => (1, "", ""),
            Self::StackTrace => (2, "", ""),
            Self::Event { system, event, .. } => (3, system, event),
            Self::Hist(_) => (4, "", ""),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Trace { on } => if *on { "traceon" } else { "traceoff" }.to_owned(),
            Self::Snapshot => "snapshot".to_owned(),
            Self::StackTrace => "stacktrace".to_owned(),
            Self::Event { on, system, event } => {
                format!("{}_event:{system}:{event}", if *on { "enable" } else { "disable" })
            }
            Self::Hist(hist) => hist.definition(),
        }
    }
}

impl Trigger {
    /// Its line in the file.
    pub(crate) fn line(&self) -> String {
        let condition =
            self.condition.as_ref().map_or_else(String::new, |it| format!(" if {}", it.text));
        if let TriggerAction::Hist(hist) = &self.action {
            let state = if hist.paused { "paused" } else { "active" };
            return format!("{}{condition} [{state}]\n", hist.definition());
        }
        let left = self.left.map_or_else(|| "unlimited".into(), |left| format!("count={left}"));
        format!("{}:{left}{condition}\n", self.action.text())
    }
}

impl EventState {
    /// Whether the event is recorded.
    pub(crate) const fn records(&self) -> bool {
        self.enabled && !self.off
    }

    /// Whether anybody must hear of it.
    pub(crate) fn concerns(&self) -> bool {
        self.enabled || !self.triggers.is_empty()
    }

    /// Whether `echo > kprobe_events` must leave it alone.
    pub(crate) fn is_busy(&self) -> bool {
        self.concerns()
    }

    pub(crate) fn listing(&self) -> String {
        let star = if self.off || self.soft > 0 { "*" } else { "" };
        format!("{}{star}\n", u8::from(self.records()))
    }

    /// Somebody writes into `enable`.
    pub(crate) const fn switch(&mut self, on: bool) {
        if on {
            (self.enabled, self.off) = (true, false);
        } else if self.soft > 0 {
            self.off = true;
        } else {
            (self.enabled, self.off) = (false, false);
        }
    }

    /// A command or trigger may switch it from now on.
    pub(crate) const fn begin_soft(&mut self) {
        self.soft += 1;
        if self.soft == 1 && !self.enabled {
            (self.enabled, self.off) = (true, true);
        }
    }

    pub(crate) const fn end_soft(&mut self) {
        self.soft = self.soft.saturating_sub(1);
        if self.soft == 0 && self.off {
            (self.enabled, self.off) = (false, false);
        }
    }

    /// A command or trigger switches it: whether that changed anything.
    pub(crate) const fn soft_switch(&mut self, on: bool) -> bool {
        let changed = self.off == on;
        self.off = !on;
        changed
    }
}
