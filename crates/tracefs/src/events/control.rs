//! Reading and writing the files of events.

use super::definition::{Trouble, event_name, words};
use super::state::{EventState, Trigger, TriggerAction};
use super::triggers::{Command, TriggerError, parse};
use super::{Event, EventId, filter::Filter, format::format};
use crate::buffer::Buffers;
use crate::errno::Errno;
use crate::glob::Pattern;
use crate::instance::Instance;
use crate::path::EventFile;
use crate::tree::Tree;

const NO_TRIGGERS: &str = "\
# Available triggers:
# traceon traceoff snapshot stacktrace enable_event disable_event hist
";

impl Tree {
    /// Adds an event that the program declares, by a definition as in `dynamic_events`.
    ///
    /// # Errors
    /// When the definition is wrong: what, and where in it.
    pub fn declare(&mut self, line: &str) -> Result<(), (&'static str, usize)> {
        let functions = std::sync::Arc::clone(&self.functions);
        let defined = self.events.define(line, &functions, true);
        defined.map_err(|(_, Trouble { error, at, .. })| (error, at))
    }

    /// What an event's file says.
    pub(crate) fn event_text(&self, instance: &Instance, id: EventId, file: EventFile) -> String {
        let Some(event) = self.events.get(id) else { return String::new() };
        let none = EventState::default();
        let state = instance.events.get(&id).unwrap_or(&none);
        match file {
            EventFile::Enable => state.listing(),
            EventFile::Id => format!("{}\n", id.0),
            EventFile::Format => format(event),
            EventFile::Filter => {
                state.filter.as_ref().map_or_else(|| "none\n".into(), |it| it.text.clone() + "\n")
            }
            EventFile::Trigger if state.triggers.is_empty() => NO_TRIGGERS.to_owned(),
            EventFile::Trigger => state.triggers.iter().map(Trigger::line).collect(),
            EventFile::Hist => {
                let hists = state.triggers.iter().filter_map(|trigger| match &trigger.action {
                    TriggerAction::Hist(hist) => {
                        Some(hist.listing(&trigger.line(), &self.functions))
                    }
                    _ => None,
                });
                hists.collect::<Vec<_>>().join("\n\n")
            }
        }
    }

    /// `1`, `0` or `X` for the events of a system, or of all.
    pub(crate) fn enabled_text(&self, instance: &Instance, system: Option<&str>) -> String {
        let inside = |event: &&Event| {
            system.is_none_or(|system| event.system == system) && event.system != "ftrace"
        };
        let on = |event: &Event| instance.events.get(&event.id).is_some_and(EventState::records);
        let all: Vec<bool> = self.events.iter().filter(inside).map(on).collect();
        match (all.contains(&true), all.contains(&false)) {
            (true, true) => "X\n",
            (true, false) => "1\n",
            _ => "0\n",
        }
        .to_owned()
    }

    /// `set_event`: those that are on.
    pub(crate) fn set_event_text(&self, instance: &Instance) -> String {
        let on = |event: &&Event| instance.events.get(&event.id).is_some_and(EventState::records);
        let line = |event: &Event| format!("{}:{}\n", event.system, event.name);
        self.events.iter().filter(on).map(line).collect()
    }

    /// Switches the events whose system and name match.
    pub(crate) fn switch_events(
        &mut self,
        at: usize,
        system: &str,
        name: &str,
        on: bool,
    ) -> Result<(), Errno> {
        let (systems, names) = (Pattern::new(system), Pattern::new(name));
        let matching = |event: &&Event| {
            systems.matches(&event.system) && names.matches(&event.name) && event.system != "ftrace"
        };
        let events: Vec<&Event> = self.events.iter().filter(matching).collect();
        if events.is_empty() {
            return Err(Errno::Invalid);
        }
        let (can, cannot): (Vec<&Event>, Vec<&Event>) =
            events.into_iter().partition(|event| !on || self.can_take(event));
        let refused = !cannot.is_empty();
        let ids: Vec<EventId> = can.into_iter().map(|event| event.id).collect();
        let instance = self.instance(at)?;
        ids.into_iter().for_each(|id| instance.event_state(id).switch(on));
        self.update()?;
        // Those that can be are on; the error says that not all are.
        if refused { Err(Errno::NotSupported) } else { Ok(()) }
    }

    /// Switches all events of a system, or all there are: it is no error if there are none.
    pub(crate) fn switch_all(&mut self, at: usize, system: &str, on: bool) -> Result<(), Errno> {
        match self.switch_events(at, system, "*", on) {
            Err(Errno::Invalid) => Ok(()),
            other => other,
        }
    }

    /// Whether the process gives the values that an event takes.
    fn can_take(&self, event: &Event) -> bool {
        let taken = |probe: &super::Probe| {
            let it = &probe.definition;
            let values = it.arguments.iter().any(|argument| argument.fetch.needs_process());
            (!values && it.offset == 0) || self.tracee.takes_values(&probe.wanted())
        };
        event.probes.iter().all(taken)
    }

    /// A word of `set_event`: `system:event`, `event`, `system:`, with `!` to switch off.
    pub(crate) fn set_event_word(&mut self, at: usize, word: &str) -> Result<(), Errno> {
        let (on, word) = word.strip_prefix('!').map_or((true, word), |rest| (false, rest));
        match word.split_once(':') {
            Some((system, event)) => {
                let star =
                    |text: &str| if text.is_empty() { "*".to_owned() } else { text.to_owned() };
                self.switch_events(at, &star(system), &star(event), on)
            }
            None => self
                .switch_events(at, "*", word, on)
                .or_else(|_| self.switch_events(at, word, "*", on)),
        }
    }

    /// Writes into an event's file.
    pub(crate) fn write_event(
        &mut self,
        at: usize,
        id: EventId,
        file: EventFile,
        text: &str,
    ) -> Result<(), Errno> {
        match file {
            EventFile::Enable => {
                let event = self.events.get(id).ok_or(Errno::NoDevice)?;
                let (system, name) = (event.system.clone(), event.name.clone());
                match text.trim() {
                    "0" => self.switch_events(at, &system, &name, false),
                    "1" => self.switch_events(at, &system, &name, true),
                    _ => Err(Errno::Invalid),
                }
            }
            EventFile::Filter => self.set_filter(at, id, text.trim_end_matches('\n')),
            EventFile::Trigger => self.set_trigger(at, id, text.trim_end_matches('\n')),
            EventFile::Format | EventFile::Id | EventFile::Hist => Err(Errno::Permission),
        }
    }

    fn set_filter(&mut self, at: usize, id: EventId, text: &str) -> Result<(), Errno> {
        if text.trim() == "0" || text.trim().is_empty() {
            self.instance(at)?.event_state(id).filter = None;
            return Ok(());
        }
        let event = self.events.get(id).ok_or(Errno::NoDevice)?;
        match Filter::parse(text, &event.fields(), &self.functions) {
            Ok(filter) => {
                self.instance(at)?.event_state(id).filter = Some(filter);
                Ok(())
            }
            Err(wrong) => {
                self.log(at, "event filter parse error", wrong.error, text, wrong.at);
                Err(Errno::Invalid)
            }
        }
    }

    /// The filter of all events of a system that have its fields.
    pub(crate) fn set_system_filter(
        &mut self,
        at: usize,
        system: &str,
        text: &str,
    ) -> Result<(), Errno> {
        let inside = self.events.iter().filter(|event| event.system == system);
        let ids: Vec<EventId> = inside.map(|event| event.id).collect();
        let set = ids.into_iter().map(|id| self.set_filter(at, id, text.trim_end_matches('\n')));
        let set: Vec<Result<(), Errno>> = set.collect();
        if set.iter().any(Result::is_ok) { Ok(()) } else { Err(Errno::Invalid) }
    }

    pub(crate) fn log(
        &mut self,
        at: usize,
        place: &str,
        error: &'static str,
        command: &str,
        position: usize,
    ) {
        let time = self.tracee.now();
        self.logged = true;
        if let Ok(instance) = self.instance(at) {
            instance.errors.note(time, place, error, command, position);
        }
    }

    fn set_trigger(&mut self, at: usize, id: EventId, text: &str) -> Result<(), Errno> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let event = self.events.get(id).ok_or(Errno::NoDevice)?.clone();
        let command = match parse(text.trim(), &event.fields(), &self.functions) {
            Ok(command) => command,
            Err(TriggerError { errno, said }) => {
                if let Some((place, error, position)) = said {
                    let hist = format!("hist:{}:{}", event.system, event.name);
                    let place = if place == "hist" { hist.as_str() } else { place };
                    self.log(at, place, error, text, position);
                }
                return Err(errno);
            }
        };
        match command {
            Command::Add(trigger) => self.add_trigger(at, &event, trigger)?,
            Command::Remove(action) => self.remove_trigger(at, id, &action)?,
            Command::Change(hist, change) => {
                let mut hist = hist;
                let state = self.instance(at)?.event_state(id);
                let same = state.triggers.iter_mut().find_map(|it| match &mut it.action {
                    TriggerAction::Hist(other) if other.is_same(&hist) => Some(other),
                    _ => None,
                });
                match same {
                    Some(other) => other.change(change),
                    None => {
                        hist.change(change);
                        let action = TriggerAction::Hist(hist);
                        let trigger = Trigger { action, left: None, condition: None };
                        self.add_trigger(at, &event, trigger)?;
                    }
                }
            }
        }
        self.update()
    }

    fn add_trigger(&mut self, at: usize, event: &Event, trigger: Trigger) -> Result<(), Errno> {
        if !self.can_take(event) && event.needs_process() {
            return Err(Errno::NotSupported);
        }
        let other = match &trigger.action {
            TriggerAction::Event { system, event, .. } => {
                Some(self.events.named(system, event).ok_or(Errno::Invalid)?.id)
            }
            _ => None,
        };
        let instance = self.instance(at)?;
        let state = instance.event_state(event.id);
        let clashes = |it: &Trigger| match (&it.action, &trigger.action) {
            (TriggerAction::Hist(one), TriggerAction::Hist(new)) => one.is_same(new),
            (one, new) => one.sort() == new.sort(),
        };
        if state.triggers.iter().any(clashes) {
            return Err(Errno::Exists);
        }
        let snapshot = matches!(trigger.action, TriggerAction::Snapshot);
        state.triggers.push(trigger);
        if let Some(other) = other {
            instance.event_state(other).begin_soft();
        }
        if snapshot && instance.snapshot.is_none() {
            instance.snapshot = Some(Buffers::like(&instance.buffers));
        }
        Ok(())
    }

    fn remove_trigger(
        &mut self,
        at: usize,
        id: EventId,
        action: &TriggerAction,
    ) -> Result<(), Errno> {
        let other = match action {
            TriggerAction::Event { system, event, .. } => self.events.named(system, event),
            _ => None,
        };
        let other = other.map(|event| event.id);
        let instance = self.instance(at)?;
        let state = instance.event_state(id);
        let before = state.triggers.len();
        state.triggers.retain(|it| match (&it.action, action) {
            (TriggerAction::Hist(one), TriggerAction::Hist(gone)) => !one.is_same(gone),
            (one, gone) => one.sort() != gone.sort(),
        });
        if state.triggers.len() < before
            && let Some(other) = other
        {
            instance.event_state(other).end_soft();
        }
        Ok(())
    }

    /// Opening a trigger file to overwrite it removes its histograms.
    pub(crate) fn clear_histograms(&mut self, at: usize, id: EventId) -> Result<(), Errno> {
        let state = self.instance(at)?.event_state(id);
        state.triggers.retain(|it| !matches!(it.action, TriggerAction::Hist(_)));
        Ok(())
    }

    fn is_busy(&self, id: EventId) -> bool {
        let state = |instance: &Instance| instance.events.get(&id).is_some_and(EventState::is_busy);
        self.instances.iter().flatten().any(state)
    }

    /// Removes all dynamic events, or those of `kprobe_events`.
    pub(crate) fn clear_events(&mut self, only_kprobes: bool) -> Result<(), Errno> {
        use super::definition::Flavour;
        let gone = |event: &Event| {
            !event.declared
                && (!only_kprobes
                    || event.probes.iter().any(|it| it.definition.flavour == Flavour::Kprobe))
        };
        let ids: Vec<EventId> =
            self.events.iter().filter(|event| gone(event)).map(|event| event.id).collect();
        if ids.iter().any(|id| self.is_busy(*id)) {
            return Err(Errno::Busy);
        }
        self.events.retain(|event, _| !ids.contains(&event.id));
        self.forget_events();
        self.update()
    }

    fn forget_events(&mut self) {
        let events = &self.events;
        for instance in self.instances.iter_mut().flatten() {
            instance.events.retain(|id, _| events.get(*id).is_some());
        }
    }

    /// A line of `kprobe_events` or `dynamic_events`.
    pub(crate) fn define_line(
        &mut self,
        at: usize,
        line: &str,
        only_kprobes: bool,
    ) -> Result<(), Errno> {
        let line = line.split('#').next().unwrap_or("").trim_end();
        let start = line.trim_start();
        let refused = |letters: &[char]| !start.starts_with(letters);
        if start.is_empty() {
            return Ok(());
        }
        if start.starts_with(['-', '!']) {
            return self.remove_line(start, only_kprobes);
        }
        if refused(if only_kprobes { &['p', 'r'] } else { &['p', 'r', 'f'] }) {
            return Err(Errno::Invalid);
        }
        let functions = std::sync::Arc::clone(&self.functions);
        if let Some(errno) = self.unknown_symbol(at, line) {
            return Err(errno);
        }
        match self.events.define(line, &functions, false) {
            Ok(()) => self.update(),
            Err((flavour, trouble)) => {
                self.log(at, flavour.place(), trouble.error, line, trouble.at);
                Err(trouble.errno)
            }
        }
    }

    /// Whether an argument names a symbol that is not there.
    fn unknown_symbol(&mut self, at: usize, line: &str) -> Option<Errno> {
        let functions = std::sync::Arc::clone(&self.functions);
        let parsed = super::definition::Definition::parse(line, &functions).ok()?;
        for (place, argument) in words(line).into_iter().skip(2).zip(&parsed.arguments) {
            let Some(symbol) = argument.fetch.symbol() else { continue };
            if self.tracee.symbol(symbol).is_none() {
                let error = "Invalid memory address";
                self.log(at, parsed.flavour.place(), error, line, place.0);
                return Some(Errno::Invalid);
            }
        }
        None
    }

    /// `-:group/event [place [arguments]]`, or `!` and a definition.
    fn remove_line(&mut self, line: &str, only_kprobes: bool) -> Result<(), Errno> {
        use super::definition::Flavour;
        let words = words(line);
        let head = words.first().and_then(|(_, head)| head.split_once(':'));
        let (_, name) = head.ok_or(Errno::Invalid)?;
        let (group, event) = event_name(name, 0).map_err(|_| Errno::Invalid)?;
        let rest: Vec<&str> = words.iter().skip(1).map(|(_, word)| *word).collect();
        let meant = |it: &Event, probe: &super::Probe| {
            let definition = &probe.definition;
            let flavour = !only_kprobes || definition.flavour == Flavour::Kprobe;
            let line = definition.line();
            let mut listed = line.split(' ').skip(1);
            let same = rest.iter().all(|word| {
                listed.next().is_some_and(|it| {
                    it == *word || it.split_once('=').is_some_and(|(_, body)| body == *word)
                })
            });
            flavour
                && !it.declared
                && same
                && group.as_ref().is_none_or(|group| *group == it.system)
                && event.as_ref().is_none_or(|event| *event == it.name)
        };
        let found =
            self.events.iter().flat_map(|it| it.probes.iter().map(move |probe| (it, probe)));
        let found: Vec<(EventId, crate::tracee::ProbeId)> = found
            .filter(|(it, probe)| meant(it, probe))
            .map(|(it, probe)| (it.id, probe.id))
            .collect();
        if found.is_empty() {
            return Err(Errno::NoEntry);
        }
        if found.iter().any(|(id, _)| self.is_busy(*id)) {
            return Err(Errno::Busy);
        }
        self.events.retain(|_, probe| !found.iter().any(|(_, gone)| *gone == probe.id));
        self.forget_events();
        self.update()
    }
}
