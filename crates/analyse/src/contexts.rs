//! The tree of calling contexts: every way in which a function was reached, with what it took.

use std::collections::HashMap;
use std::convert::Infallible;

use sledge_trace::event::{Directory, Event, FunctionId, Sink};

use crate::calls::{Begun, Calls, Ended, Visitor};
use crate::names::{Memo, Names, module_name};

/// Contexts that are told apart: about 200 MiB of them.
const MOST: usize = 2_000_000;

/// Index of a [`Context`]; 0 is the root, in which the threads begin.
pub type ContextId = u32;

/// A function as it was called in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Which, in [`Contexts::labels`].
    pub label: u32,
    /// Who called it.
    pub parent: ContextId,
    /// How often.
    pub calls: u64,
    /// Nanoseconds in it but not in traced functions that it called.
    pub own: u64,
    /// Nanoseconds in it and in what it called, as its callers see it: the sum of all `own` below.
    pub total: u64,
    /// What it called, the most expensive first.
    pub children: Vec<ContextId>,
}

/// A function as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Its readable name.
    pub name: Box<str>,
    /// The file name of its object.
    pub module: Box<str>,
}

/// The contexts of a trace, all threads together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts {
    /// All contexts; a parent comes before its children.
    pub nodes: Vec<Context>,
    /// What they are called. The root's is empty.
    pub labels: Vec<Label>,
    /// Calls that count as part of their caller, because there were too many contexts.
    pub merged: u64,
}

impl Contexts {
    /// The name of a context's function.
    #[must_use]
    pub fn label(&self, context: ContextId) -> &Label {
        &self.labels[self.nodes[context as usize].label as usize]
    }

    /// A context.
    #[must_use]
    pub fn node(&self, context: ContextId) -> &Context {
        &self.nodes[context as usize]
    }

    /// Adds up what is below each context, and puts children in order.
    fn complete(&mut self) {
        for index in (1..self.nodes.len()).rev() {
            let (parent, own) = (self.nodes[index].parent as usize, self.nodes[index].own);
            self.nodes[index].total += own;
            let total = self.nodes[index].total;
            self.nodes[parent].total += total;
            self.nodes[parent].children.push(index as ContextId);
        }
        let order: Vec<(u64, u32)> =
            self.nodes.iter().map(|node| (node.total, node.label)).collect();
        let Self { nodes, labels, .. } = self;
        let key = |id: &ContextId| {
            let (total, label) = order[*id as usize];
            (std::cmp::Reverse(total), &labels[label as usize].name)
        };
        for node in nodes {
            node.children.sort_by(|left, right| key(left).cmp(&key(right)));
        }
    }

    /// Gives every context below `from` with its level (0 for `from` itself), callers first.
    pub fn walk(&self, from: ContextId, visit: &mut impl FnMut(ContextId, usize)) {
        let mut open = vec![(from, 0)];
        while let Some((context, level)) = open.pop() {
            visit(context, level);
            let children = self.node(context).children.iter().rev();
            open.extend(children.map(|&child| (child, level + 1)));
        }
    }
}

/// Puts a tree of contexts together.
#[derive(Debug)]
pub struct Contextual(Calls<Growing>);

impl Contextual {
    /// An empty tree.
    #[must_use]
    pub fn new(names: Names) -> Self {
        Self(Calls::new(Growing::new(names)))
    }

    /// The tree.
    #[must_use]
    pub fn contexts(self) -> Contexts {
        let mut contexts = self.0.visitor.contexts;
        contexts.complete();
        contexts
    }
}

impl Sink for Contextual {
    type Error = Infallible;

    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), Infallible> {
        self.0.event(directory, event)
    }

    fn finish(&mut self, directory: &Directory) -> Result<(), Infallible> {
        self.0.finish(directory)
    }
}

/// A tree in the making.
#[derive(Debug)]
struct Growing {
    names: Names,
    contexts: Contexts,
    /// By context, the child that was called last: mostly it is called again.
    latest: Vec<(u32, ContextId)>,
    child_of: HashMap<(ContextId, u32), ContextId>,
    label_of: Memo<u32>,
    by_name: HashMap<Label, u32>,
}

impl Growing {
    fn new(names: Names) -> Self {
        let root = Label { name: "".into(), module: "".into() };
        let mut growing = Self {
            names,
            contexts: Contexts { nodes: Vec::new(), labels: vec![root], merged: 0 },
            latest: Vec::new(),
            child_of: HashMap::new(),
            label_of: Memo::default(),
            by_name: HashMap::new(),
        };
        growing.add(0, 0);
        growing
    }

    fn add(&mut self, parent: ContextId, label: u32) -> ContextId {
        let nodes = &mut self.contexts.nodes;
        nodes.push(Context { label, parent, calls: 0, own: 0, total: 0, children: Vec::new() });
        self.latest.push((0, 0));
        nodes.len() as ContextId - 1
    }

    fn label(&mut self, directory: &Directory, function: FunctionId) -> u32 {
        let Self { names, contexts, label_of, by_name, .. } = self;
        *label_of.get(function.0, || {
            let name = names.of(directory, function).into();
            let label = Label { name, module: module_name(directory, function).into() };
            *by_name.entry(label.clone()).or_insert_with(|| {
                contexts.labels.push(label);
                contexts.labels.len() as u32 - 1
            })
        })
    }

    /// The context of a function that is called from another context; `None` where there are too
    /// many already.
    #[inline]
    fn child(&mut self, parent: ContextId, label: u32) -> Option<ContextId> {
        let latest = self.latest[parent as usize];
        if latest.0 == label {
            return Some(latest.1);
        }
        let known = self.child_of.get(&(parent, label)).copied();
        let child = match known {
            Some(child) => child,
            None if self.contexts.nodes.len() >= MOST => return None,
            None => {
                let child = self.add(parent, label);
                self.child_of.insert((parent, label), child);
                child
            }
        };
        self.latest[parent as usize] = (label, child);
        Some(child)
    }
}

impl Visitor for Growing {
    type Frame = ContextId;
    type Error = Infallible;

    fn begin(
        &mut self,
        directory: &Directory,
        call: &Begun,
        around: Option<&mut ContextId>,
    ) -> Result<ContextId, Infallible> {
        let label = self.label(directory, call.function);
        let parent = around.map_or(0, |around| *around);
        let Some(context) = self.child(parent, label) else {
            // Its time counts as its caller's own.
            self.contexts.merged += 1;
            return Ok(parent);
        };
        self.contexts.nodes[context as usize].calls += 1;
        Ok(context)
    }

    fn end(&mut self, _: &Directory, call: &Ended, frame: ContextId) -> Result<(), Infallible> {
        self.contexts.nodes[frame as usize].own += call.own;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn of(script: &crate::synthetic::Script) -> Contexts {
    let mut contextual = Contextual::new(Names::new(Box::new(crate::AsIs)));
    script.feed(&mut contextual);
    let Ok(()) = contextual.finish(&script.directory);
    contextual.contexts()
}
