//! A tree, and a process that does what it is told.

use sledge_tracefs::{
    Clock, Errno, Function, FunctionId, Functions, HandleId, Happening, Open, Read, ThreadId,
    Tracee, Tree, Wanted, WantedProbe, What, Writer,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The functions of the process, by number.
pub(crate) const NAMES: [&str; 5] = ["main", "mutex_lock", "mutex_unlock", "schedule", "kfree"];

#[derive(Debug)]
struct Script {
    now: Arc<AtomicU64>,
    wanted: Arc<Mutex<Wanted>>,
}

impl Tracee for Script {
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn want(&mut self, wanted: &Wanted) -> Result<(), Errno> {
        *self.wanted.lock().unwrap() = wanted.clone();
        Ok(())
    }

    fn symbol(&self, name: &str) -> Option<u64> {
        (name == "counter").then_some(0x9000)
    }

    fn symbols(&self) -> Vec<(u64, String)> {
        vec![(0x9000, "counter".into())]
    }

    fn takes_values(&self, _: &WantedProbe) -> bool {
        true
    }

    fn clock_offset(&self, clock: Clock) -> Option<i64> {
        Some(if clock == Clock::Boot { 1_000_000_000 } else { 0 })
    }
}

/// A tree with its process.
pub(crate) struct Lab {
    pub(crate) tree: Tree,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) wanted: Arc<Mutex<Wanted>>,
    pub(crate) threads: [ThreadId; 2],
}

impl Lab {
    pub(crate) fn new() -> Self {
        let function = |(at, name): (usize, &&str)| Function {
            name: (*name).into(),
            module: (*name == "kfree").then(|| "libk.so".to_owned()),
            address: 0x1000 + 0x100 * at as u64,
            size: 0x80,
        };
        let functions = Functions::new(NAMES.iter().enumerate().map(function).collect());
        let (now, wanted) = (Arc::new(AtomicU64::new(1_000_000_000)), Arc::default());
        let script = Script { now: Arc::clone(&now), wanted: Arc::clone(&wanted) };
        let mut tree = Tree::new(Arc::new(functions), Box::new(script));
        let threads = [tree.add_thread(100, 100, "main"), tree.add_thread(101, 100, "worker")];
        Self { tree, now, wanted, threads }
    }

    fn open(&mut self, path: &str, write: bool, truncate: bool) -> Result<HandleId, Errno> {
        let who = Writer { tid: 7, tgid: 7, comm: "sh".into() };
        self.tree.open(path, Open { read: !write, write, truncate, nonblocking: true, who })
    }

    /// What a file says.
    pub(crate) fn cat(&mut self, path: &str) -> String {
        let handle = self.open(path, false, false).unwrap();
        let mut text = Vec::new();
        while let Ok(Read::Data(part)) = self.tree.read(handle, text.len() as u64, 7) {
            if part.is_empty() {
                break;
            }
            text.extend(part);
        }
        self.tree.close(handle).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// `echo text > path`.
    pub(crate) fn echo(&mut self, text: &str, path: &str) -> Result<(), Errno> {
        self.write(&format!("{text}\n"), path, true)
    }

    /// `echo text >> path`.
    pub(crate) fn append(&mut self, text: &str, path: &str) -> Result<(), Errno> {
        self.write(&format!("{text}\n"), path, false)
    }

    fn write(&mut self, text: &str, path: &str, truncate: bool) -> Result<(), Errno> {
        let handle = self.open(path, true, truncate)?;
        let mut bytes = text.as_bytes();
        let mut result = Ok(());
        while !bytes.is_empty() {
            match self.tree.write(handle, bytes) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.tree.flush(handle)?;
        self.tree.close(handle)?;
        result
    }

    /// The time goes on.
    pub(crate) fn tick(&self, nanoseconds: u64) -> u64 {
        self.now.fetch_add(nanoseconds, Ordering::Relaxed) + nanoseconds
    }

    /// A call that lasts so long, in which `inside` happens.
    pub(crate) fn call(
        &mut self,
        thread: usize,
        function: u32,
        nanoseconds: u64,
        inside: impl FnOnce(&mut Self),
    ) {
        let (time, thread) = (self.tick(10), self.threads[thread]);
        let function = FunctionId(function);
        let what = What::Enter { function, parent: 0x1000, cell: 0 };
        self.tree.feed(&[Happening { time, thread, what }]);
        inside(self);
        let time = self.tick(nanoseconds);
        let what = What::Leave { function, returned: true, value: None };
        self.tree.feed(&[Happening { time, thread, what }]);
    }
}
