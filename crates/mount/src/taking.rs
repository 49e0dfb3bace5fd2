//! Values that probes take: fetch arguments become steps for the agent, and bytes become values.

use sledge_control::{Hit, Probe, Probes, number};
use sledge_tracefs::{
    Errno, Fetch, FunctionId, ProbeId, REGISTERS, Type, TypeKind, Value, WantedProbe,
};
use sledge_wire::probe::Step;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Where symbols and functions of the process are.
pub(crate) trait Places {
    /// The address of a symbol.
    fn symbol(&self, name: &str) -> Option<u64>;
    /// The address of a function.
    fn address(&self, function: FunctionId) -> u64;
}

/// The arguments of the probes that were ever wanted: hits may come late.
type Arguments = Arc<Mutex<HashMap<ProbeId, Vec<(Fetch, Type)>>>>;

/// The side that asks for values.
#[derive(Debug)]
pub(crate) struct Taking {
    probes: Option<Probes>,
    /// The sites of functions.
    sites: HashMap<FunctionId, u32>,
    arguments: Arguments,
}

impl Taking {
    pub(crate) fn new(probes: Option<Probes>, functions: &[FunctionId]) -> Self {
        let sites = functions.iter().enumerate().map(|(site, id)| (*id, site as u32)).collect();
        Self { probes, sites, arguments: Arguments::default() }
    }

    /// The side that gets them.
    pub(crate) fn taken(&self) -> Taken {
        Taken(Arc::clone(&self.arguments))
    }

    /// Whether a probe can be had.
    pub(crate) fn can(&self, probe: &WantedProbe, places: &impl Places) -> bool {
        self.probes.is_some() && self.probe(probe, places).is_some()
    }

    /// These are wanted from now on.
    pub(crate) fn want(&mut self, all: &[WantedProbe], places: &impl Places) -> Result<(), Errno> {
        let probes = all.iter().filter_map(|probe| self.probe(probe, places)).collect::<Vec<_>>();
        let mut known = self.arguments.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(all.iter().map(|probe| (probe.id, probe.arguments.clone())));
        match &mut self.probes {
            Some(there) => there.set(&probes).map_err(|_| Errno::NoSpace),
            None => Ok(()),
        }
    }

    fn probe(&self, probe: &WantedProbe, places: &impl Places) -> Option<Probe> {
        if probe.offset != 0 {
            return None;
        }
        let site = *self.sites.get(&probe.function)?;
        let mut steps = Vec::new();
        for (fetch, kind) in probe.arguments.iter().filter(|(fetch, _)| fetch.needs_process()) {
            // The address of a value in memory, or the value.
            match fetch {
                Fetch::Memory(offset, inner) => {
                    reach(inner, probe, places, &mut steps)?;
                    steps.push(match (kind.kind, kind.count) {
                        (TypeKind::String, 0) => Step::String(*offset),
                        (TypeKind::String, _) => return None,
                        (_, count) => {
                            let length = u16::from(kind.bytes) * u16::from(count.max(1));
                            Step::Bytes(length, *offset)
                        }
                    });
                }
                _ => {
                    reach(fetch, probe, places, &mut steps)?;
                    steps.push(Step::Give);
                }
            }
        }
        let on_return = probe.on_return;
        Probe::fits(&steps).then_some(Probe { number: probe.id.0, site, on_return, steps })
    }
}

/// Steps that end with a value as the number.
fn reach(
    fetch: &Fetch,
    probe: &WantedProbe,
    places: &impl Places,
    steps: &mut Vec<Step>,
) -> Option<()> {
    /// Integer arguments that are in registers, by their names.
    const PASSED: [&str; 6] = ["di", "si", "dx", "cx", "r8", "r9"];
    let register = |name: &str| {
        let number = sledge_wire::probe::REGISTERS.iter().position(|it| *it == name)?;
        Some(Step::Register(number as u64))
    };
    let step = match fetch {
        Fetch::Register(number) => match *REGISTERS.get(usize::from(*number))? {
            "ip" if probe.on_return => return None,
            "ip" => Step::Number(places.address(probe.function)),
            name => register(name)?,
        },
        Fetch::StackPointer => register("sp")?,
        Fetch::Stack(index) => Step::Stack(u64::from(*index)),
        Fetch::Return => register("ax")?,
        // They are gone when the function returns.
        Fetch::Argument(_) if probe.on_return => return None,
        Fetch::Argument(index) => match PASSED.get(*index as usize) {
            Some(name) => register(name)?,
            None => Step::Stack(u64::from(*index) - 5),
        },
        Fetch::Number(number) => Step::Number(*number),
        Fetch::Symbol(name, offset) => {
            Step::Number(places.symbol(name)?.wrapping_add_signed(*offset))
        }
        Fetch::Memory(offset, inner) => {
            reach(inner, probe, places, steps)?;
            Step::Follow(*offset)
        }
        Fetch::Comm | Fetch::Text(_) => return None,
    };
    steps.push(step);
    Some(())
}

/// The side that gets values.
#[derive(Debug)]
pub(crate) struct Taken(Arguments);

impl Taken {
    /// The values of a hit, for a thread of this name.
    pub(crate) fn values(&self, hit: &Hit, comm: &str) -> Option<Box<[Value]>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let arguments = known.get(&ProbeId(hit.probe))?;
        let mut given = hit.values.iter();
        let value = |(fetch, kind): &(Fetch, Type)| match fetch {
            Fetch::Comm => Value::Text(comm.as_bytes().into()),
            Fetch::Text(text) => Value::Text(text.as_bytes().into()),
            Fetch::Number(number) => Value::Number(*number),
            _ => given.next().map_or(Value::Fault, |bytes| value(bytes.as_deref(), kind)),
        };
        Some(arguments.iter().map(value).collect())
    }
}

fn value(bytes: Option<&[u8]>, kind: &Type) -> Value {
    match bytes {
        None => Value::Fault,
        Some(bytes) if kind.kind == TypeKind::String => Value::Text(bytes.into()),
        Some(bytes) if kind.count > 0 => {
            Value::Numbers(bytes.chunks(usize::from(kind.bytes)).map(number).collect())
        }
        Some(bytes) => Value::Number(number(bytes)),
    }
}
