//! Who calls whom: functions, and the calls between each two of them.

use std::collections::HashMap;
use std::io;

use sledge_analyse::Names;
use sledge_analyse::calls::{Begun, Calls, Ended, Visitor};
use sledge_trace::event::{Directory, ProcessId, ThreadId};

use crate::lanes::process_name;
use crate::paths::Step;

/// A function, or a process, whose outermost calls are made by nobody else.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Which.
    pub step: Step,
    /// How many calls.
    pub calls: u64,
    /// Nanoseconds in which nothing that they called ran.
    pub own: u64,
}

/// All calls of one function by another.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// Who calls: index of its node.
    pub from: u32,
    /// Who is called.
    pub to: u32,
    /// How many calls.
    pub calls: u64,
    /// Nanoseconds that they took; a call inside another one of the same edge is not counted twice.
    pub total: u64,
}

/// Writes a graph: the part of a format that is its own.
pub trait Drawing {
    /// Writes the graph of a trace.
    ///
    /// # Errors
    /// The writer's.
    fn draw(&mut self, directory: &Directory, nodes: &[Node], edges: &[Edge]) -> io::Result<()>;
}

/// Gathers a trace's graph, in memory for its functions and who calls whom.
#[derive(Debug)]
pub struct EdgeSums<D> {
    drawing: D,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    known_nodes: HashMap<Step, u32>,
    known_edges: HashMap<(u32, u32), u32>,
    /// How many calls of an edge are open on a thread.
    open: HashMap<(ThreadId, u32), u32>,
}

impl<D: Drawing> EdgeSums<D> {
    /// For `drawing` to write.
    pub fn new(drawing: D) -> Calls<Self> {
        Calls::new(Self {
            drawing,
            nodes: Vec::new(),
            edges: Vec::new(),
            known_nodes: HashMap::new(),
            known_edges: HashMap::new(),
            open: HashMap::new(),
        })
    }

    fn node(&mut self, step: Step) -> u32 {
        let next = self.nodes.len() as u32;
        let index = *self.known_nodes.entry(step).or_insert(next);
        if index == next {
            self.nodes.push(Node { step, calls: 0, own: 0 });
        }
        index
    }

    fn edge(&mut self, from: u32, to: u32) -> u32 {
        let next = self.edges.len() as u32;
        let index = *self.known_edges.entry((from, to)).or_insert(next);
        if index == next {
            self.edges.push(Edge { from, to, calls: 0, total: 0 });
        }
        index
    }
}

/// An open call.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    node: u32,
    edge: u32,
}

impl<D: Drawing> Visitor for EdgeSums<D> {
    type Frame = Open;
    type Error = io::Error;

    fn begin(
        &mut self,
        directory: &Directory,
        call: &Begun,
        around: Option<&mut Open>,
    ) -> io::Result<Open> {
        let from = match around {
            Some(caller) => caller.node,
            None => {
                let thread = directory.threads.get(call.thread.0 as usize);
                let process = thread.map_or(ProcessId(u32::MAX), |thread| thread.process);
                self.node(Step::Process(process))
            }
        };
        let node = self.node(Step::Call(call.function));
        let edge = self.edge(from, node);
        self.nodes[node as usize].calls += 1;
        self.edges[edge as usize].calls += 1;
        *self.open.entry((call.thread, edge)).or_default() += 1;
        Ok(Open { node, edge })
    }

    fn end(&mut self, _: &Directory, call: &Ended, open: Open) -> io::Result<()> {
        let own = &mut self.nodes[open.node as usize].own;
        *own = own.saturating_add(call.own);
        let nested = self.open.entry((call.thread, open.edge)).or_default();
        *nested = nested.saturating_sub(1);
        if *nested == 0 {
            let total = &mut self.edges[open.edge as usize].total;
            *total = total.saturating_add(call.duration().unwrap_or(0));
        }
        Ok(())
    }

    fn finish(&mut self, directory: &Directory) -> io::Result<()> {
        self.drawing.draw(directory, &self.nodes, &self.edges)
    }
}

/// What a node is called.
pub(crate) fn label(names: &mut Names, directory: &Directory, step: Step) -> String {
    match step {
        Step::Call(function) => names.of(directory, function).to_owned(),
        Step::Process(ProcessId(process)) => match directory.processes.get(process as usize) {
            Some(process) => format!("{} {}", process_name(process), process.pid),
            None => "?".to_owned(),
        },
    }
}
