//! Sums of calls, made the slow and obvious way.

use std::collections::BTreeMap;

use crate::trace::{Event, Kind};

/// Names, from the outermost call on.
type Path = Vec<String>;

/// The calls of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathSum {
    /// How many.
    pub calls: u64,
    /// Nanoseconds, less those of the calls that they made.
    pub own: u64,
}

#[derive(Debug)]
struct Open {
    path: Path,
    start: u64,
    inside: u64,
}

/// Sums by path. `None` where a thread changes stacks: whose time it is then is not obvious.
#[must_use]
pub fn path_sums(events: &[Event]) -> Option<BTreeMap<Vec<String>, PathSum>> {
    let mut sums: BTreeMap<Path, PathSum> = BTreeMap::new();
    let mut threads: BTreeMap<(u32, u32), Vec<Open>> = BTreeMap::new();
    let mut end = |stack: &mut Vec<Open>, at: u64| {
        let Some(open) = stack.pop() else { return };
        let took = at - open.start;
        if let Some(around) = stack.last_mut() {
            around.inside += took;
        }
        let sum = sums.entry(open.path).or_default();
        sum.calls += 1;
        sum.own += took - open.inside;
    };
    for event in events {
        let stack = threads.entry((event.pid, event.tid)).or_default();
        match event.kind {
            Kind::Entry => {
                let mut path = stack.last().map_or_else(Path::new, |around| around.path.clone());
                path.push(event.func.clone());
                stack.push(Open { path, start: event.ts_ns, inside: 0 });
            }
            Kind::Exit => end(stack, event.ts_ns),
            Kind::ThreadEnd => {
                while !stack.is_empty() {
                    end(stack, event.ts_ns);
                }
            }
            Kind::Switch => return None,
            Kind::Thread | Kind::Lost | Kind::Other => {}
        }
    }
    Some(sums)
}

/// How many calls each function makes of each other. Outermost calls are nobody's.
#[must_use]
pub fn edge_calls(paths: &BTreeMap<Vec<String>, PathSum>) -> BTreeMap<(String, String), u64> {
    let mut edges = BTreeMap::new();
    for (path, sum) in paths {
        if let [.., caller, callee] = path.as_slice() {
            *edges.entry((caller.clone(), callee.clone())).or_default() += sum.calls;
        }
    }
    edges
}
