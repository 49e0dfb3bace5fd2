//! Calls added up by the path that led to them.

use std::collections::HashMap;
use std::io;

use sledge_analyse::calls::{Begun, Calls, Ended, Visitor};
use sledge_trace::event::{Directory, FunctionId, ProcessId};

/// A path has no more calls: what a deeper recursion calls is added up below its calls at this
/// depth, by function. The formats write paths out, so that a deep path costs its square.
const DEEPEST: u32 = 512;

/// The innermost step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Where paths begin.
    Process(ProcessId),
    /// A call.
    Call(FunctionId),
}

/// All calls with the same callers.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The path without its last step, by index.
    pub parent: Option<u32>,
    /// Its last step.
    pub step: Step,
    /// How many calls.
    pub calls: u64,
    /// Nanoseconds in which nothing that they called ran.
    pub own: u64,
    depth: u32,
}

/// Writes paths: the part of a format that is its own.
pub trait Summary {
    /// Writes the sums of a trace. A path stands behind its parent.
    ///
    /// # Errors
    /// The writer's.
    fn write(&mut self, directory: &Directory, paths: &[Path]) -> io::Result<()>;
}

/// Adds calls up: all of a trace, in memory for its different paths.
#[derive(Debug)]
pub struct PathTree<S> {
    summary: S,
    paths: Vec<Path>,
    known: HashMap<(Option<u32>, Step), u32>,
}

impl<S: Summary> PathTree<S> {
    /// For `summary` to write.
    pub fn new(summary: S) -> Calls<Self> {
        Calls::new(Self { summary, paths: Vec::new(), known: HashMap::new() })
    }

    fn path(&mut self, parent: Option<u32>, step: Step) -> u32 {
        let next = self.paths.len() as u32;
        let index = *self.known.entry((parent, step)).or_insert(next);
        if index == next {
            let depth = parent.map_or(0, |parent| self.paths[parent as usize].depth + 1);
            self.paths.push(Path { parent, step, calls: 0, own: 0, depth });
        }
        index
    }
}

impl<S: Summary> Visitor for PathTree<S> {
    type Frame = u32;
    type Error = io::Error;

    fn begin(
        &mut self,
        directory: &Directory,
        call: &Begun,
        around: Option<&mut u32>,
    ) -> io::Result<u32> {
        let parent = match around {
            Some(&mut caller) if self.paths[caller as usize].depth <= DEEPEST => caller,
            Some(&mut caller) => self.paths[caller as usize].parent.unwrap_or(caller),
            None => {
                let thread = directory.threads.get(call.thread.0 as usize);
                let process = thread.map_or(ProcessId(u32::MAX), |thread| thread.process);
                self.path(None, Step::Process(process))
            }
        };
        let path = self.path(Some(parent), Step::Call(call.function));
        self.paths[path as usize].calls += 1;
        Ok(path)
    }

    fn end(&mut self, _: &Directory, call: &Ended, path: u32) -> io::Result<()> {
        let own = &mut self.paths[path as usize].own;
        *own = own.saturating_add(call.own);
        Ok(())
    }

    fn finish(&mut self, directory: &Directory) -> io::Result<()> {
        self.summary.write(directory, &self.paths)
    }
}
