//! The call filter.

use sledge_trace::event::{FunctionId, Nanos};

use crate::pattern::Pattern;

pub use crate::events::EventFilter;
pub use crate::steps::StepFilter;

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct FilterSpec {
    /// `-F`: only these functions and what they call; empty means all.
    pub filter: Vec<Pattern>,
    /// `-N`: not these functions nor what they call. It outranks `-F`.
    pub notrace: Vec<Pattern>,
    /// `-C`: only calls that lead to these functions, and those.
    pub caller: Vec<Pattern>,
    /// `-H`: not these functions, but what they call.
    pub hide: Vec<Pattern>,
    /// `-D`: so many levels, counted from the outermost call or from the one `-F` matched.
    pub depth: Option<u32>,
    /// `-t`: only calls that last at least so long. Calls that never ended are shown.
    pub threshold: Option<Nanos>,
}

/// Which pattern lists a function is on, a bit each.
type Lists = u8;
const FILTER: Lists = 1;
const NOTRACE: Lists = 2;
const CALLER: Lists = 4;
const HIDE: Lists = 8;

/// A [`FilterSpec`], applied to the functions learnt so far.
#[derive(Clone, Debug)]
pub struct CallFilter {
    spec: FilterSpec,
    lists: Vec<Lists>,
    /// Whether each pattern, list after list, has matched a function.
    matched: Vec<bool>,
}

impl CallFilter {
    /// A filter that knows no function yet; unknown functions match no pattern.
    #[must_use]
    pub fn new(spec: FilterSpec) -> Self {
        let matched = vec![false; patterns(&spec).count()];
        Self { spec, lists: Vec::new(), matched }
    }

    /// Tells the filter a function: its names (raw, demangled) and its object's file name.
    pub fn learn(&mut self, id: FunctionId, names: &[&str], module: &str) {
        let mut lists = 0;
        for ((list, pattern), matched) in patterns(&self.spec).zip(&mut self.matched) {
            if pattern.matches(names, module) {
                lists |= list;
                *matched = true;
            }
        }
        let at = id.0 as usize;
        if self.lists.len() <= at {
            self.lists.resize(at + 1, 0);
        }
        self.lists[at] = lists;
    }

    /// Patterns that have matched no function so far.
    #[must_use]
    pub fn unmatched(&self) -> Vec<&Pattern> {
        let all = patterns(&self.spec).zip(&self.matched);
        all.filter(|(_, matched)| !**matched).map(|((_, pattern), _)| pattern).collect()
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let limits = self.spec.depth.is_some() || self.spec.threshold.is_some();
        self.matched.is_empty() && !limits
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &FilterSpec {
        &self.spec
    }

    fn on(&self, function: FunctionId, list: Lists) -> bool {
        self.lists.get(function.0 as usize).is_some_and(|lists| lists & list != 0)
    }

    /// What holds outside all calls.
    pub(crate) fn outermost(&self) -> Scope {
        Scope { inside: self.spec.filter.is_empty(), excluded: false, levels: self.levels() }
    }

    fn levels(&self) -> u32 {
        self.spec.depth.unwrap_or(u32::MAX)
    }

    /// Whether a call from within `scope` is shown, and what holds within the call.
    pub(crate) fn judge(&self, function: FunctionId, scope: Scope) -> (bool, Scope) {
        let mut within = scope;
        if scope.excluded {
            return (false, within);
        }
        if self.on(function, NOTRACE) {
            within.excluded = true;
            return (false, within);
        }
        if self.on(function, FILTER) {
            within.inside = true;
            within.levels = self.levels();
        }
        if !within.inside || within.levels == 0 || self.on(function, HIDE) {
            return (false, within);
        }
        within.levels = if self.spec.depth.is_some() { within.levels - 1 } else { u32::MAX };
        (true, within)
    }

    /// Whether the callers of this function are wanted (`-C`), and the function with them.
    pub(crate) fn wants_callers(&self, function: FunctionId) -> bool {
        self.spec.caller.is_empty() || self.on(function, CALLER)
    }

    /// Whether it may take time to know if a call is shown.
    pub(crate) fn selects_callers(&self) -> bool {
        !self.spec.caller.is_empty()
    }
}

/// All patterns with the lists they stand on.
fn patterns(spec: &FilterSpec) -> impl Iterator<Item = (Lists, &Pattern)> {
    let lists = [
        (FILTER, &spec.filter),
        (NOTRACE, &spec.notrace),
        (CALLER, &spec.caller),
        (HIDE, &spec.hide),
    ];
    lists.into_iter().flat_map(|(list, patterns)| patterns.iter().map(move |p| (list, p)))
}

/// What the calls around decide for the calls within them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// In a function that `-F` wants.
    inside: bool,
    /// In one that `-N` excludes.
    excluded: bool,
    /// How many levels are still shown.
    levels: u32,
}
