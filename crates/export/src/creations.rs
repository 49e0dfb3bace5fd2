//! Which call made which thread or process.

use std::collections::HashMap;

use sledge_trace::event::{Directory, FunctionId, ProcessId, ThreadId};

use sledge_analyse::Memo;

/// What a function makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Makes {
    Nothing,
    Thread,
    Process,
}

/// Names calls that make threads and processes by number, and finds the number for what they made.
///
/// A trace does not say who made a thread. Ids are given out in order, so of the threads of a
/// process that have not been seen yet, the one with the n-th lowest id was made by the n-th call
/// that has made none yet. Where such calls were not recorded, nothing is said.
#[derive(Debug, Default)]
pub(crate) struct Creations {
    functions: Memo<Makes>,
    pending: HashMap<(ProcessId, Makes), Vec<u64>>,
    seen: Memo<()>,
    seen_process: Memo<()>,
    last: u64,
}

impl Creations {
    /// A call begins: its number, if it makes something.
    #[inline]
    pub(crate) fn called(
        &mut self,
        directory: &Directory,
        thread: ThreadId,
        function: FunctionId,
    ) -> Option<u64> {
        let makes = *self.functions.get(function.0, || makes(directory, function));
        if makes == Makes::Nothing {
            return None;
        }
        let process = directory.threads.get(thread.0 as usize)?.process;
        self.last += 1;
        self.pending.entry((process, makes)).or_default().push(self.last);
        Some(self.last)
    }

    /// A thread is first seen: the number of the call that made it.
    pub(crate) fn started(&mut self, directory: &Directory, thread: ThreadId) -> Option<u64> {
        let known = directory.threads.get(thread.0 as usize)?;
        let process = directory.processes.get(known.process.0 as usize)?;
        let first = self.seen_process.peek_mut(known.process.0).is_none();
        self.seen_process.get(known.process.0, || ());
        self.seen.get(thread.0, || ());
        if !first {
            let seen = &mut self.seen;
            let others = (0..).zip(&directory.threads).filter(|(number, other)| {
                other.process == known.process
                    && other.tid < known.tid
                    && other.tid != process.pid
                    && seen.peek_mut(*number).is_none()
            });
            return take(&mut self.pending, (known.process, Makes::Thread), others.count());
        }
        let parent = process.parent?;
        let seen = &mut self.seen_process;
        let others = (0..).zip(&directory.processes).filter(|(number, other)| {
            other.parent == Some(parent)
                && other.pid < process.pid
                && seen.peek_mut(*number).is_none()
        });
        // Whom `exec` replaced is no parent.
        let replaced = directory.processes.get(parent.0 as usize)?.pid == process.pid;
        if replaced {
            return None;
        }
        take(&mut self.pending, (parent, Makes::Process), others.count())
    }
}

/// Takes the number at `rank` out of those that wait.
fn take(
    pending: &mut HashMap<(ProcessId, Makes), Vec<u64>>,
    key: (ProcessId, Makes),
    rank: usize,
) -> Option<u64> {
    let waiting = pending.get_mut(&key)?;
    (rank < waiting.len()).then(|| waiting.remove(rank))
}

fn makes(directory: &Directory, function: FunctionId) -> Makes {
    let symbol = directory.functions.get(function.0 as usize).map_or("", |known| &known.name);
    match symbol.split('@').next().unwrap_or_default() {
        "pthread_create" | "thrd_create" => Makes::Thread,
        "fork" | "vfork" | "posix_spawn" | "posix_spawnp" => Makes::Process,
        _ => Makes::Nothing,
    }
}
