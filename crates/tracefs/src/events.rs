//! Events: probes on functions, those that a program declares, and `print` for what is written into
//! `trace_marker`.

mod control;
mod definition;
mod fetch;
mod fields;
mod filter;
mod format;
mod hist;
mod hit;
mod state;
mod triggers;
mod values;

pub use fetch::{Fetch, REGISTERS, Type, TypeKind};
pub(crate) use format::{HEADER_EVENT, header_page};
pub(crate) use hit::{Occurrence, text};
pub(crate) use state::EventState;

use crate::functions::{FunctionId, Functions};
use crate::instance::Instance;
use crate::tracee::{ProbeId, WantedProbe};
pub(crate) use definition::Definition;
use definition::{Flavour, Trouble};
use fields::Fields;
use std::collections::{BTreeMap, HashMap};

/// An event, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EventId(pub(crate) u32);

/// Numbers below are the kernel's own.
const FIRST: u32 = 1000;
/// `print`.
pub(crate) const PRINT: EventId = EventId(5);

/// An event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    pub(crate) system: String,
    pub(crate) name: String,
    /// At least one, except for `print`.
    pub(crate) probes: Vec<Probe>,
    /// It was there from the beginning and stays.
    pub(crate) declared: bool,
}

/// One place where an event is hit.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) id: ProbeId,
    pub(crate) definition: Definition,
    pub(crate) hits: u64,
}

impl Probe {
    /// What the process is asked for.
    pub(crate) fn wanted(&self) -> WantedProbe {
        let it = &self.definition;
        let arguments = it.arguments.iter().map(|one| (one.fetch.clone(), one.kind.clone()));
        WantedProbe {
            id: self.id,
            function: it.function,
            offset: it.offset,
            on_return: it.on_return,
            arguments: arguments.collect(),
        }
    }

    fn is_hit(&self, on_return: bool, takes: bool, given: Option<ProbeId>) -> bool {
        let here = self.definition.on_return == on_return;
        here && given.map_or(!takes && self.definition.offset == 0, |id| id == self.id)
    }
}

impl Event {
    /// The fields that it has.
    pub(crate) fn fields(&self) -> Fields<'_> {
        let first = self.probes.first().map(|probe| &probe.definition);
        Fields {
            id: self.id.0,
            arguments: first.map_or(&[][..], |it| &it.arguments),
            on_return: first.is_some_and(|it| it.on_return),
            print: self.id == PRINT,
        }
    }

    /// Whether values are taken in the process when it is hit.
    pub(crate) fn needs_process(&self) -> bool {
        let arguments = |probe: &Probe| {
            probe.definition.arguments.iter().any(|argument| argument.fetch.needs_process())
        };
        self.probes.iter().any(arguments)
    }
}

/// All events of a process.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    list: BTreeMap<EventId, Event>,
    next: u32,
    /// Which probes a function has.
    hooks: HashMap<FunctionId, Vec<(EventId, usize)>>,
}

impl Default for Events {
    fn default() -> Self {
        let (system, name) = ("ftrace".to_owned(), "print".to_owned());
        let print = Event { id: PRINT, system, name, probes: Vec::new(), declared: true };
        Self { list: BTreeMap::from([(PRINT, print)]), next: FIRST, hooks: HashMap::new() }
    }
}

impl Events {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.list.values()
    }

    pub(crate) fn get(&self, id: EventId) -> Option<&Event> {
        self.list.get(&id)
    }

    pub(crate) fn named(&self, system: &str, name: &str) -> Option<&Event> {
        self.iter().find(|event| event.system == system && event.name == name)
    }

    /// The systems, each once.
    pub(crate) fn systems(&self) -> Vec<&str> {
        let mut systems: Vec<&str> = self.iter().map(|event| event.system.as_str()).collect();
        systems.sort_unstable();
        systems.dedup();
        systems
    }

    /// Adds a probe, to a new event or to one that is there.
    fn define(
        &mut self,
        line: &str,
        functions: &Functions,
        declared: bool,
    ) -> Result<(), (Flavour, Trouble)> {
        let flavour = if line.starts_with('f') { Flavour::Fprobe } else { Flavour::Kprobe };
        let parsed = Definition::parse(line, functions).map_err(|trouble| (flavour, trouble))?;
        let id = ProbeId(self.next);
        self.next += 1;
        let found = self.named(&parsed.group, &parsed.event).map(|event| event.id);
        let event = match found.and_then(|id| self.list.get_mut(&id)) {
            Some(event) => {
                let Some(first) = event.probes.first().filter(|_| !event.declared) else {
                    let error = "Given group/event name is already used by another event";
                    return Err((flavour, Trouble::new(error, 0)));
                };
                let first = &first.definition;
                parsed.joins(first, line).map_err(|trouble| (flavour, trouble))?;
                for probe in &event.probes {
                    parsed.joins(&probe.definition, line).map_err(|trouble| (flavour, trouble))?;
                }
                event
            }
            None => {
                let (system, name) = (parsed.group.clone(), parsed.event.clone());
                let probes = Vec::new();
                let id = EventId(id.0);
                let event = Event { id, system, name, probes, declared };
                self.list.entry(id).or_insert(event)
            }
        };
        event.probes.push(Probe { id, definition: parsed, hits: 0 });
        Ok(())
    }

    /// Takes out the probes that `gone` says are, and events that have none left.
    fn retain(&mut self, mut stays: impl FnMut(&Event, &Probe) -> bool) {
        let ids: Vec<EventId> = self.list.keys().copied().collect();
        for id in ids {
            let Some(event) = self.list.get(&id).filter(|event| !event.declared) else { continue };
            let kept: Vec<bool> = event.probes.iter().map(|probe| stays(event, probe)).collect();
            let Some(event) = self.list.get_mut(&id) else { continue };
            let mut kept = kept.into_iter();
            event.probes.retain(|_| kept.next().unwrap_or(true));
            if event.probes.is_empty() {
                self.list.remove(&id);
            }
        }
    }

    /// The function that a probe is on, and whether it is hit when that returns.
    pub(crate) fn function_of(&self, id: ProbeId) -> Option<(FunctionId, bool)> {
        let mut probes = self.iter().flat_map(|event| &event.probes);
        let found = probes.find(|probe| probe.id == id)?;
        Some((found.definition.function, found.definition.on_return))
    }

    /// Counts a call, or a return, for the probes of a function: whether there are any. Those that
    /// take values in the process are hit one by one.
    pub(crate) fn hit(
        &mut self,
        function: FunctionId,
        on_return: bool,
        given: Option<ProbeId>,
    ) -> bool {
        let Some(hooks) = self.hooks.get(&function) else { return false };
        let mut any = false;
        for (id, at) in hooks {
            let Some(event) = self.list.get_mut(id) else { continue };
            let takes = event.needs_process();
            let Some(probe) = event.probes.get_mut(*at) else { continue };
            if probe.is_hit(on_return, takes, given) {
                probe.hits += 1;
                any = true;
            }
        }
        any
    }

    /// The probes that were hit, with their events.
    pub(crate) fn hits(
        &self,
        function: FunctionId,
        on_return: bool,
        given: Option<ProbeId>,
    ) -> impl Iterator<Item = (&Event, &Definition)> {
        let hooks = self.hooks.get(&function).into_iter().flatten();
        hooks.filter_map(move |(id, at)| {
            let event = self.list.get(id)?;
            let probe = event.probes.get(*at)?;
            let hit = probe.is_hit(on_return, event.needs_process(), given);
            hit.then_some((event, &probe.definition))
        })
    }

    /// Functions with probes that some instance wants to hear of.
    pub(crate) fn functions(&self) -> impl Iterator<Item = FunctionId> {
        self.hooks.keys().copied()
    }

    /// Probes that some instance wants to hear of and that take values in the process.
    pub(crate) fn taking(&self) -> Vec<WantedProbe> {
        let event = |&(id, at): &(EventId, usize)| Some((self.list.get(&id)?, at));
        let events = self.hooks.values().flatten().filter_map(event);
        let taking = events.filter(|(event, _)| event.needs_process());
        let mut all: Vec<WantedProbe> =
            taking.filter_map(|(event, at)| Some(event.probes.get(at)?.wanted())).collect();
        all.sort_by_key(|probe| probe.id);
        all
    }

    /// Finds out which probes some instance wants to hear of: only those are hit.
    pub(crate) fn choose(&mut self, instances: &[Option<Instance>]) {
        self.hooks.clear();
        for event in self.list.values() {
            let mut all = instances.iter().flatten();
            if !all.any(|it| it.events.get(&event.id).is_some_and(EventState::concerns)) {
                continue;
            }
            for (at, probe) in event.probes.iter().enumerate() {
                self.hooks.entry(probe.definition.function).or_default().push((event.id, at));
            }
        }
    }

    /// Lines of `dynamic_events`, or of those flavours that `kprobe_events` has.
    pub(crate) fn listing(&self, only_kprobes: bool) -> String {
        let mut text = String::new();
        for probe in self.iter().filter(|event| !event.declared).flat_map(|event| &event.probes) {
            if !only_kprobes || probe.definition.flavour == Flavour::Kprobe {
                text += &probe.definition.line();
                text.push('\n');
            }
        }
        text
    }

    /// `kprobe_profile`: hits, and those that were missed.
    pub(crate) fn profile(&self) -> String {
        let dynamic = self.iter().filter(|event| !event.declared);
        let line = |event: &Event| {
            let hits: u64 = event.probes.iter().map(|probe| probe.hits).sum();
            format!("  {:<44} {hits:15} {:15}\n", event.name, 0)
        };
        dynamic.map(line).collect()
    }
}
