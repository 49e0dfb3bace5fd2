//! Small traces for tests.

use sledge_trace::event::{
    Directory, Ending, Event, EventKind, Function, FunctionId, Nanos, Object, ObjectId, Process,
    ProcessId, Sink, Thread, ThreadId,
};

/// One process, three threads from tid 4711 on, and functions of these names.
pub(crate) fn directory(names: &[&str]) -> Directory {
    let function = |(index, name): (usize, &&str)| Function {
        object: ObjectId(0),
        address: 0x1000 + 16 * index as u64,
        size: 16,
        name: (*name).to_owned(),
    };
    let thread = |index: u32| Thread {
        process: ProcessId(0),
        tid: 4711 + index,
        name: format!("thread-{index}"),
    };
    Directory {
        processes: vec![Process {
            pid: 4700,
            parent: None,
            executable: "/bin/app".to_owned(),
            arguments: vec!["app".to_owned()],
        }],
        threads: (0..3).map(thread).collect(),
        objects: vec![Object { path: "/bin/app".to_owned(), build_id: Vec::new() }],
        functions: names.iter().enumerate().map(function).collect(),
        outcome: None,
    }
}

/// Events in the making.
pub(crate) struct Script {
    pub(crate) directory: Directory,
    pub(crate) events: Vec<Event>,
    open: [Vec<(FunctionId, Nanos)>; 3],
}

impl Script {
    pub(crate) fn new(directory: Directory) -> Self {
        Self { directory, events: Vec::new(), open: Default::default() }
    }

    pub(crate) fn push(&mut self, at: u64, thread: u32, kind: EventKind) -> &mut Self {
        self.events.push(Event { at: Nanos(at), thread: ThreadId(thread), kind });
        self
    }

    pub(crate) fn enter(&mut self, at: u64, thread: u32, function: u32) -> &mut Self {
        let function = FunctionId(function);
        let open = &mut self.open[thread as usize];
        let depth = open.len() as u32;
        open.push((function, Nanos(at)));
        self.push(at, thread, EventKind::Enter { function, depth })
    }

    pub(crate) fn leave(&mut self, at: u64, thread: u32, ending: Ending) -> &mut Self {
        let open = &mut self.open[thread as usize];
        let (function, entered) = open.pop().unwrap();
        let depth = open.len() as u32;
        self.push(at, thread, EventKind::Exit { function, depth, entered, ending })
    }

    pub(crate) fn end(&mut self, at: u64, thread: u32) -> &mut Self {
        self.leave(at, thread, Ending::Returned)
    }

    pub(crate) fn feed<S: Sink>(&self, sink: &mut S)
    where
        S::Error: std::fmt::Debug,
    {
        for event in &self.events {
            sink.event(&self.directory, event).unwrap();
        }
    }
}
