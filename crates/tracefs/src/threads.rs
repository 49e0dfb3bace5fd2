//! The threads of the process, and what each is in the middle of.

use crate::functions::FunctionId;
use crate::tracee::ThreadId;

/// A call that has not returned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Open {
    pub(crate) function: FunctionId,
    pub(crate) entered: u64,
    pub(crate) cell: u64,
    /// Time spent in traced functions that it called.
    pub(crate) children: u64,
}

/// A thread.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) tid: u32,
    pub(crate) tgid: u32,
    pub(crate) comm: String,
    pub(crate) lane: usize,
    pub(crate) calls: Vec<Open>,
    alive: bool,
}

/// All threads that were ever seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads {
    list: Vec<Thread>,
    /// Which lanes are somebody's.
    taken: Vec<bool>,
}

impl Threads {
    /// A new thread gets the first lane that is free.
    pub(crate) fn add(&mut self, tid: u32, tgid: u32, comm: &str) -> ThreadId {
        let lane = self.taken.iter().position(|taken| !taken).unwrap_or(self.taken.len());
        if lane == self.taken.len() {
            self.taken.push(false);
        }
        self.taken[lane] = true;
        let comm = comm.to_owned();
        self.list.push(Thread { tid, tgid, comm, lane, calls: Vec::new(), alive: true });
        ThreadId(self.list.len() as u32 - 1)
    }

    /// A thread has ended; its lane goes to the next one.
    pub(crate) fn end(&mut self, id: ThreadId) {
        let Some(thread) = self.list.get_mut(id.0 as usize) else { return };
        if std::mem::take(&mut thread.alive) {
            thread.calls = Vec::new();
            self.taken[thread.lane] = false;
        }
    }

    pub(crate) fn get(&self, id: ThreadId) -> Option<&Thread> {
        self.list.get(id.0 as usize)
    }

    pub(crate) fn get_mut(&mut self, id: ThreadId) -> Option<&mut Thread> {
        self.list.get_mut(id.0 as usize)
    }

    /// A thread has another name now.
    pub(crate) fn rename(&mut self, id: ThreadId, comm: &str) {
        if let Some(thread) = self.list.get_mut(id.0 as usize) {
            comm.clone_into(&mut thread.comm);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Thread> {
        self.list.iter()
    }

    /// How many lanes there are.
    pub(crate) fn lanes(&self) -> usize {
        self.taken.len().max(1)
    }
}
