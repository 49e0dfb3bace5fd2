//! What a trace means: processes, threads, functions, and the calls that they made.

/// Index of a process in [`Directory::processes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(pub u32);
/// Index of a thread in [`Directory::threads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub u32);
/// Index of an object in [`Directory::objects`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u32);
/// Index of a function in [`Directory::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub u32);

/// Time stamp counter ticks, as recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticks(pub u64);
/// Nanoseconds since the trace began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// An ELF object that functions belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it lay when recorded.
    pub path: String,
    /// Its build-id; empty where it has none.
    pub build_id: Vec<u8>,
}

/// A traced function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The object it belongs to.
    pub object: ObjectId,
    /// Its link-time address in that object.
    pub address: u64,
    /// Its length in bytes; 0 where unknown.
    pub size: u64,
    /// Its name as the symbol table has it (mangled); empty in a stripped object.
    pub name: String,
}

/// A traced process image: an `exec` begins a new one with the same pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// The image that forked or executed it, where that was traced too.
    pub parent: Option<ProcessId>,
    /// Path of its executable.
    pub executable: String,
    /// Its arguments, program name first.
    pub arguments: Vec<String>,
}

/// A traced thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The process it belongs to.
    pub process: ProcessId,
    /// Its thread id.
    pub tid: u32,
    /// Its name (`comm`).
    pub name: String,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It returned.
    Returned,
    /// It was jumped over: an exception, `longjmp`, thread exit. The time is that of the first
    /// event that shows it.
    Unwound,
    /// It has no hooked exit (`setjmp`, `vfork`); the time is that of its entry.
    NotSeen,
}

/// Which of a thread's stacks a call runs on: 0 is the one it was first seen on; coroutines,
/// alternate signal stacks and the like get further numbers.
pub type StackIndex = u32;

/// One step of a thread, as the drain writes it and the file keeps it. A thread's steps are in
/// time order; `Leave` ends the innermost open call of the stack last switched to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Ticks,
    /// What.
    pub op: Op,
}

/// What a [`Step`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A function was called.
    Enter(FunctionId),
    /// The innermost open call ended.
    Leave(Ending),
    /// The following steps are on another stack of the thread.
    Switch(StackIndex),
}

/// One event, as the reader gives it to a [`Sink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Nanos,
    /// On which thread.
    pub thread: ThreadId,
    /// What.
    pub kind: EventKind,
}

/// What an [`Event`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The thread was first seen.
    ThreadStart,
    /// A function was called.
    Enter {
        /// Which.
        function: FunctionId,
        /// How many traced calls were open around it: those of its stack, and those that were
        /// open when that stack was first switched to.
        depth: u32,
    },
    /// A call ended.
    Exit {
        /// Which function's.
        function: FunctionId,
        /// The depth of its entry.
        depth: u32,
        /// When it was entered.
        entered: Nanos,
        /// How it ended.
        ending: Ending,
    },
    /// What the thread does next is on another of its stacks; each stack nests for itself.
    Switch {
        /// Which.
        stack: StackIndex,
    },
    /// Events of this thread were lost between `since` and the event's time.
    Lost {
        /// How many.
        count: u64,
        /// From when on.
        since: Nanos,
    },
    /// The thread ended, or the trace or the range asked for did; `open` calls were still running.
    ThreadEnd {
        /// Calls that never ended.
        open: u32,
    },
}

/// How the recorded program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// It was still running when the recording stopped.
    Running,
}

/// What a trace knows besides its events.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Process images, in order of appearance.
    pub processes: Vec<Process>,
    /// Threads, in order of appearance.
    pub threads: Vec<Thread>,
    /// Objects.
    pub objects: Vec<Object>,
    /// Functions.
    pub functions: Vec<Function>,
    /// How the program ended; `None` when the trace was cut before its end.
    pub outcome: Option<Outcome>,
}

/// Receives the events of a trace in time order. Analyses and exporters are sinks.
pub trait Sink {
    /// What can go wrong in this sink.
    type Error;

    /// Takes one event. `directory` is complete for everything that the event names.
    ///
    /// # Errors
    /// Whatever keeps the sink from going on; the reader stops and passes it up.
    fn event(&mut self, directory: &Directory, event: &Event) -> Result<(), Self::Error>;

    /// Hears that no event follows, also where the rest of the trace cannot be read; not after an
    /// error of its own.
    ///
    /// # Errors
    /// Whatever keeps the sink from ending well.
    fn finish(&mut self, directory: &Directory) -> Result<(), Self::Error> {
        let _ = directory;
        Ok(())
    }
}
