//! What happens when an event is hit.

use super::fields::{Field, Found};
use super::state::{EventState, TriggerAction};
use super::values::{narrowed, show};
use super::{Event, EventId, Events, PRINT};
use crate::entry::{Content, Hit, Who};
use crate::functions::Functions;
use crate::instance::Instance;
use crate::tracee::Value;
use std::sync::Arc;

/// An event that is hit, and by whom.
#[derive(Debug)]
pub(crate) struct Occurrence<'a> {
    pub(crate) event: &'a Event,
    pub(crate) time: u64,
    pub(crate) lane: usize,
    pub(crate) tid: u32,
    pub(crate) comm: &'a str,
    pub(crate) who: Who,
    pub(crate) hit: Arc<Hit>,
    /// What was written, for `print`.
    pub(crate) text: Option<&'a [u8]>,
    /// The functions that the thread is in.
    pub(crate) stack: Arc<[u64]>,
}

impl Occurrence<'_> {
    fn find(&self, field: Field) -> Found {
        match field {
            Field::Pid => Found::Number(self.tid.into()),
            Field::Lane => Found::Number(self.lane as i128),
            Field::Time => Found::Number(self.time.into()),
            Field::Constant(value) => Found::Number(value.into()),
            Field::Comm => Found::Text(self.comm.to_owned()),
            Field::Address => Found::Number(self.hit.address.into()),
            Field::Parent => Found::Number(self.hit.parent.into()),
            Field::Text => {
                let text = String::from_utf8_lossy(self.text.unwrap_or(&[]));
                Found::Text(text.trim_end_matches('\n').to_owned())
            }
            Field::Argument(at) => self.argument(at),
        }
    }

    fn argument(&self, at: usize) -> Found {
        let arguments = self.event.fields().arguments;
        match (self.hit.values.get(at), arguments.get(at)) {
            (Some(Value::Number(word)), Some(argument)) => {
                Found::Number(narrowed(&argument.kind, *word))
            }
            (Some(Value::Text(text)), _) => Found::Text(String::from_utf8_lossy(text).into_owned()),
            _ => Found::Nothing,
        }
    }
}

impl Instance {
    /// An event was hit: triggers act, and it is recorded if it is to be.
    pub(crate) fn event(&mut self, events: &Events, it: &Occurrence<'_>) {
        let Some(state) = self.events.get_mut(&it.event.id) else { return };
        if !state.concerns() || !self.event_pids.lets(it.tid) {
            return;
        }
        let mut triggers = std::mem::take(&mut state.triggers);
        for trigger in &mut triggers {
            let wanted = |filter: &super::filter::Filter| filter.passes(&|field| it.find(field));
            if trigger.left == Some(0) || !trigger.condition.as_ref().is_none_or(wanted) {
                continue;
            }
            if self.act(&mut trigger.action, events, it)
                && let Some(left) = &mut trigger.left
            {
                *left -= 1;
            }
        }
        let stack = triggers.iter().any(|it| matches!(it.action, TriggerAction::StackTrace));
        let Some(state) = self.events.get_mut(&it.event.id) else { return };
        state.triggers = triggers;
        let passes = state.filter.as_ref().is_none_or(|filter| filter.passes(&|f| it.find(f)));
        if it.event.id != PRINT && state.records() && passes {
            let what = Content::Event(Arc::clone(&it.hit));
            self.record(it.lane, it.time, it.who.clone(), what);
        }
        if stack {
            let what = Content::Stack(Arc::clone(&it.stack));
            self.record(it.lane, it.time, it.who.clone(), what);
        }
    }

    /// Whether a trigger changed anything.
    fn act(&mut self, action: &mut TriggerAction, events: &Events, it: &Occurrence<'_>) -> bool {
        match action {
            TriggerAction::Trace { on } => std::mem::replace(&mut self.on, *on) != *on,
            TriggerAction::Snapshot => {
                let records = self.records(it.time);
                if records {
                    self.swap();
                }
                records
            }
            TriggerAction::StackTrace => true,
            TriggerAction::Event { on, system, event } => {
                self.soft_switch(events, system, event, *on)
            }
            TriggerAction::Hist(hist) => {
                hist.hit(&|field| it.find(field));
                true
            }
        }
    }

    /// Switches an event as commands and triggers do.
    pub(crate) fn soft_switch(
        &mut self,
        events: &Events,
        system: &str,
        event: &str,
        on: bool,
    ) -> bool {
        let id = events.named(system, event).map(|event| event.id);
        let state = id.and_then(|id| self.events.get_mut(&id));
        state.is_some_and(|state| state.soft_switch(on))
    }

    pub(crate) fn event_state(&mut self, id: EventId) -> &mut EventState {
        self.events.entry(id).or_default()
    }
}

/// `event: (place) name=value …`.
pub(crate) fn text(events: &Events, functions: &Functions, hit: &Hit) -> String {
    let Some(event) = events.get(hit.event) else { return "unknown event\n".to_owned() };
    let place = functions.symbol(hit.address, true);
    let head = if hit.is_return {
        let parent = functions.symbol(hit.parent, true);
        let name = functions.symbol(hit.address, false);
        format!("({parent} <- {name})")
    } else {
        format!("({place})")
    };
    let arguments = show(event.fields().arguments, &hit.values, functions);
    format!("{}: {head}{arguments}\n", event.name)
}
