//! The tree: its instances, its open files, and what they do.

use crate::entry::Writer;
use crate::errno::Errno;
use crate::events::Events;
use crate::files::Work;
use crate::functions::Functions;
use crate::instance::Instance;
use crate::list::FunctionList;
use crate::path::{Kind, Node, split_instance};
use crate::profile::Profile;
use crate::stack::StackTracer;
use crate::threads::Threads;
use crate::tracee::{ThreadId, Tracee, Wanted};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandleId(pub u64);

/// How a file is opened.
#[derive(Clone, Debug)]
pub struct Open {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// What was there is dropped.
    pub truncate: bool,
    /// Reads do not wait.
    pub nonblocking: bool,
    /// Who opens it.
    pub who: Writer,
}

/// What a read finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// So much; nothing at the end of the file.
    Data(Vec<u8>),
    /// Nothing yet: ask again when something has happened.
    Wait,
}

/// An open file, as the tree knows it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) instance: usize,
    pub(crate) node: Node,
    pub(crate) open: Open,
    pub(crate) work: Work,
}

/// The control tree of one process.
#[derive(Debug)]
pub struct Tree {
    pub(crate) functions: Arc<Functions>,
    pub(crate) tracee: Box<dyn Tracee>,
    pub(crate) threads: Threads,
    /// The first is the top. Numbers are used again when an instance is gone.
    pub(crate) instances: Vec<Option<Instance>>,
    handles: BTreeMap<HandleId, Handle>,
    next: u64,
    pub(crate) graph_function: FunctionList,
    pub(crate) graph_notrace: FunctionList,
    pub(crate) max_graph_depth: u16,
    /// `tracing_thresh` in nanoseconds.
    pub(crate) threshold: u64,
    pub(crate) touched: crate::functions::FunctionSet,
    pub(crate) lost: u64,
    pub(crate) profile: Profile,
    pub(crate) stack: StackTracer,
    pub(crate) events: Events,
    /// The error of this write was told already.
    pub(crate) logged: bool,
    wanted: Wanted,
}

impl Tree {
    /// A tree over a process.
    #[must_use]
    pub fn new(functions: Arc<Functions>, tracee: Box<dyn Tracee>) -> Self {
        Self {
            functions,
            tracee,
            threads: Threads::default(),
            instances: vec![Some(Instance::new("", 1))],
            handles: BTreeMap::new(),
            next: 1,
            graph_function: FunctionList::default(),
            graph_notrace: FunctionList::default(),
            max_graph_depth: 0,
            threshold: 0,
            touched: crate::functions::FunctionSet::default(),
            lost: 0,
            profile: Profile::default(),
            stack: StackTracer::default(),
            events: Events::default(),
            logged: false,
            wanted: Wanted::default(),
        }
    }

    /// Notes a thread of the process; a coroutine's stack counts as one.
    pub fn add_thread(&mut self, tid: u32, tgid: u32, comm: &str) -> ThreadId {
        let id = self.threads.add(tid, tgid, comm);
        let lanes = self.threads.lanes();
        self.instances.iter_mut().flatten().for_each(|it| it.buffers.reserve(lanes));
        id
    }

    /// Notes that a thread has another name.
    pub fn rename_thread(&mut self, id: ThreadId, comm: &str) {
        self.threads.rename(id, comm);
    }

    /// Notes that a thread has ended.
    pub fn end_thread(&mut self, id: ThreadId) {
        self.threads.end(id);
    }

    /// What a path names, if anything. Paths are relative and have no `/` at the end.
    #[must_use]
    pub fn kind(&self, path: &str) -> Option<Kind> {
        self.find(path).map(|(_, node)| node.kind())
    }

    /// The names in a directory, with what they are.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn list(&self, path: &str) -> Result<Vec<(String, Kind)>, Errno> {
        let (instance, node) = self.find(path).ok_or(Errno::NoEntry)?;
        if node.kind() != Kind::Directory {
            return Err(Errno::NotDirectory);
        }
        let top = instance == 0;
        if node == Node::Instances {
            let named = self.instances.iter().skip(1).flatten();
            return Ok(named.map(|it| (it.name.clone(), Kind::Directory)).collect());
        }
        let names = node.names(top, self.threads.lanes(), &self.events);
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let kind = |name: String| {
            let kind = self.kind(&format!("{prefix}{name}"))?;
            Some((name, kind))
        };
        Ok(names.into_iter().filter_map(kind).collect())
    }

    fn find(&self, path: &str) -> Option<(usize, Node)> {
        let (name, rest) = split_instance(path);
        let instance = match name {
            None => 0,
            Some(name) => self.instance_named(name)?,
        };
        let node = Node::parse(rest, instance == 0, self.threads.lanes(), &self.events)?;
        Some((instance, node))
    }

    fn instance_named(&self, name: &str) -> Option<usize> {
        let found = |it: &Option<Instance>| it.as_ref().is_some_and(|it| it.name == name);
        self.instances.iter().skip(1).position(found).map(|at| at + 1)
    }

    /// Makes an instance: a directory in `instances`.
    ///
    /// # Errors
    /// When it exists, or directories cannot be made there.
    pub fn make_directory(&mut self, path: &str) -> Result<(), Errno> {
        let name = path.strip_prefix("instances/").filter(|name| !name.contains('/'));
        let name = name.filter(|name| !name.is_empty()).ok_or(Errno::Permission)?;
        if self.instance_named(name).is_some() {
            return Err(Errno::Exists);
        }
        let mut instance = Instance::new(name, self.threads.lanes());
        instance.since = self.tracee.now();
        match self.instances.iter().position(Option::is_none) {
            Some(free) => self.instances[free] = Some(instance),
            None => self.instances.push(Some(instance)),
        }
        Ok(())
    }

    /// Removes an instance.
    ///
    /// # Errors
    /// When there is no such instance, or somebody has a file of it open.
    pub fn remove_directory(&mut self, path: &str) -> Result<(), Errno> {
        let name = path.strip_prefix("instances/").filter(|name| !name.contains('/'));
        let name = name.ok_or(Errno::Permission)?;
        let at = self.instance_named(name).ok_or(Errno::NoEntry)?;
        if self.instances[at].as_ref().is_some_and(|it| it.users > 0) {
            return Err(Errno::Busy);
        }
        self.instances[at] = None;
        self.update()
    }

    /// Opens a file.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be opened in that way now.
    pub fn open(&mut self, path: &str, open: Open) -> Result<HandleId, Errno> {
        let (instance, node) = self.find(path).ok_or(Errno::NoEntry)?;
        let Kind::File(mode) = node.kind() else { return Err(Errno::IsDirectory) };
        if open.read && mode & 0o400 == 0 || open.write && mode & 0o200 == 0 {
            return Err(Errno::Permission);
        }
        let work = self.begin(instance, &node, &open)?;
        let id = HandleId(self.next);
        self.next += 1;
        if let Some(instance) = self.instances[instance].as_mut() {
            instance.users += 1;
        }
        self.handles.insert(id, Handle { instance, node, open, work });
        Ok(id)
    }

    /// Reads from an open file.
    ///
    /// # Errors
    /// When it is not open for reading.
    pub fn read(&mut self, id: HandleId, offset: u64, most: usize) -> Result<Read, Errno> {
        let mut handle = self.handles.remove(&id).ok_or(Errno::BadFile)?;
        let read = self.read_from(&mut handle, offset, most);
        self.handles.insert(id, handle);
        read
    }

    /// Writes to an open file: how many bytes were taken.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn write(&mut self, id: HandleId, bytes: &[u8]) -> Result<usize, Errno> {
        let mut handle = self.handles.remove(&id).ok_or(Errno::BadFile)?;
        let written = self.write_to(&mut handle, bytes);
        if written == Err(Errno::Invalid) && !std::mem::take(&mut self.logged) {
            self.note_error(&handle, bytes);
        }
        self.handles.insert(id, handle);
        written
    }

    /// One of the descriptors of an open file is closed: what was written takes effect.
    ///
    /// # Errors
    /// When it cannot.
    pub fn flush(&mut self, id: HandleId) -> Result<(), Errno> {
        let mut handle = self.handles.remove(&id).ok_or(Errno::BadFile)?;
        let flushed = self.commit(&mut handle, false);
        self.handles.insert(id, handle);
        flushed
    }

    /// Nobody has the file open any more.
    ///
    /// # Errors
    /// When what was written last makes no sense.
    pub fn close(&mut self, id: HandleId) -> Result<(), Errno> {
        let mut handle = self.handles.remove(&id).ok_or(Errno::BadFile)?;
        let closed = self.commit(&mut handle, true);
        self.end(&handle);
        if let Some(instance) = self.instances[handle.instance].as_mut() {
            instance.users -= 1;
        }
        closed
    }

    /// `error_log` tells of what was refused.
    fn note_error(&mut self, handle: &Handle, bytes: &[u8]) {
        let time = self.tracee.now();
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).into_owned();
        let place = handle.node.name();
        let at = text.len() - text.trim_start().len();
        if let Ok(instance) = self.instance(handle.instance) {
            instance.errors.note(time, &place, "Invalid argument", &text, at);
        }
    }

    pub(crate) fn instance(&mut self, at: usize) -> Result<&mut Instance, Errno> {
        self.instances.get_mut(at).and_then(Option::as_mut).ok_or(Errno::NoDevice)
    }

    /// Events that were lost on the way from the process.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Tells the process what is wanted, if that has changed.
    pub(crate) fn update(&mut self) -> Result<(), Errno> {
        let functions = &self.functions;
        self.instances.iter_mut().flatten().for_each(|instance| instance.choose(functions));
        self.events.choose(&self.instances);
        let wanted = Wanted { functions: self.all_wanted(), probes: self.events.taking() };
        if wanted == self.wanted {
            return Ok(());
        }
        self.touched.extend(&wanted.functions);
        self.tracee.want(&wanted)?;
        self.wanted = wanted;
        Ok(())
    }
}
