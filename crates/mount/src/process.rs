//! The process: its records, as the tree hears of them.

use crate::clock::{self, Converter};
use crate::symbols::Symbols;
use crate::taking::{Places, Taken, Taking};
use sledge_control::{Hit, Sink, Stream, StreamFunction};
use sledge_drain::Pairer;
use sledge_trace::event::{self, Ending, Op, Step};
use sledge_tracefs::{
    Clock, Errno, Function, FunctionId, Functions, Happening, ProbeId, ThreadId, Tracee, Tree,
    Wanted, WantedProbe, What,
};
use sledge_wire::record::Record;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often threads that are gone are looked for.
const ROUND: Duration = Duration::from_millis(100);

/// The process, as the tree knows it.
#[derive(Debug)]
pub(crate) struct Target {
    taking: Taking,
    places: Symbolic,
}

/// Names of places in the process.
#[derive(Debug)]
struct Symbolic {
    symbols: Vec<(u64, String)>,
    functions: Arc<Functions>,
}

impl Places for Symbolic {
    fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.iter().find(|(_, other)| other == name).map(|(address, _)| *address)
    }

    fn address(&self, function: FunctionId) -> u64 {
        self.functions.get(function).map_or(0, |it| it.address)
    }
}

impl Tracee for Target {
    fn now(&self) -> u64 {
        clock::now()
    }

    fn want(&mut self, wanted: &Wanted) -> Result<(), Errno> {
        self.taking.want(&wanted.probes, &self.places)
    }

    fn symbol(&self, name: &str) -> Option<u64> {
        self.places.symbol(name)
    }

    fn symbols(&self) -> Vec<(u64, String)> {
        self.places.symbols.clone()
    }

    fn takes_values(&self, probe: &WantedProbe) -> bool {
        self.taking.can(probe, &self.places)
    }

    fn clock_offset(&self, clock: Clock) -> Option<i64> {
        clock::offset(clock)
    }
}

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Process {
    stream: Stream,
    translation: Translation,
    looked: Instant,
}

/// Turns records into what happens in the tree.
#[derive(Debug)]
struct Translation {
    /// Sites, by the functions of the tree.
    sites: Vec<FunctionId>,
    taken: Taken,
    functions: Arc<Functions>,
    converter: Converter,
    rings: Vec<Option<Ring>>,
    tgid: u32,
    /// Threads that are new, and those that are gone, in order with what happens.
    happened: Vec<Heard>,
    next: u32,
}

/// What the tree is to hear.
#[derive(Debug)]
enum Heard {
    Thread(u32, String),
    Ended(ThreadId),
    Renamed(ThreadId, String),
    Happening(Happening),
}

/// A thread and its stacks.
#[derive(Debug)]
struct Ring {
    tid: u32,
    comm: String,
    pairer: Pairer,
    /// Each stack of the thread, with the functions that are open on it.
    stacks: Vec<(ThreadId, Vec<FunctionId>)>,
    current: usize,
    latest: u64,
}

impl Process {
    /// Makes a tree over a program that was launched.
    ///
    /// Answers, too, with what is wrong with the events that the program declares.
    pub(crate) fn new(mut stream: Stream) -> (Self, Tree, Vec<String>) {
        let (functions, sites) = table(&stream.functions());
        let functions = Arc::new(functions);
        let taking = Taking::new(stream.take_probes(), &sites);
        let translation = Translation {
            sites,
            taken: taking.taken(),
            functions: Arc::clone(&functions),
            converter: Converter::new(),
            rings: Vec::new(),
            tgid: stream.pid().cast_unsigned(),
            happened: Vec::new(),
            next: 0,
        };
        let Symbols { list: symbols, declared } = Symbols::read(&stream.objects());
        let places = Symbolic { symbols, functions: Arc::clone(&functions) };
        let target = Target { taking, places };
        let mut tree = Tree::new(functions, Box::new(target));
        let mut troubles = Vec::new();
        for line in declared {
            if let Err((error, at)) = tree.declare(&line) {
                troubles.push(format!("event '{line}' is not there: {error} (at byte {at})"));
            }
        }
        (Self { stream, translation, looked: Instant::now() }, tree, troubles)
    }

    /// Tells the tree what happened until now: how many records that were.
    pub(crate) fn pump(&mut self, tree: &mut Tree) -> u64 {
        self.translation.converter.refresh();
        let records = self.stream.pass(&mut self.translation);
        if self.looked.elapsed() > ROUND {
            self.looked = Instant::now();
            self.stream.retire(&mut self.translation);
            self.translation.rename();
        }
        self.translation.tell(tree);
        records
    }

    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.stream.ended()
    }
}

/// Functions in the order in which files list them, and for each site its function.
fn table(found: &[StreamFunction]) -> (Functions, Vec<FunctionId>) {
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|&at| (found[at].library.clone(), found[at].address));
    let mut sites = vec![FunctionId(0); found.len()];
    let mut list = Vec::new();
    for at in order {
        let it = &found[at];
        sites[at] = FunctionId(list.len() as u32);
        let module = it.library.as_deref().map(|path| {
            Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
        });
        let name = sledge_discover::names::demangle(&it.name).replace(' ', "");
        list.push(Function { name, module, address: it.address, size: it.size });
    }
    (Functions::new(list), sites)
}

impl Translation {
    fn tell(&mut self, tree: &mut Tree) {
        let mut batch = Vec::new();
        for heard in self.happened.drain(..) {
            match heard {
                Heard::Happening(happening) => batch.push(happening),
                Heard::Thread(tid, comm) => {
                    tree.add_thread(tid, self.tgid, &comm);
                }
                Heard::Renamed(id, comm) => tree.rename_thread(id, &comm),
                Heard::Ended(id) => {
                    in_order(&mut batch, tree);
                    tree.end_thread(id);
                }
            }
        }
        in_order(&mut batch, tree);
    }

    /// Threads often name themselves after they began.
    fn rename(&mut self) {
        for ring in self.rings.iter_mut().flatten() {
            let path = format!("/proc/{}/task/{}/comm", self.tgid, ring.tid);
            let Ok(comm) = std::fs::read_to_string(path) else { continue };
            let comm = comm.trim_end();
            if ring.comm != comm {
                comm.clone_into(&mut ring.comm);
                let renamed = |(id, _): &(ThreadId, _)| Heard::Renamed(*id, comm.to_owned());
                self.happened.extend(ring.stacks.iter().map(renamed));
            }
        }
    }

    /// Trees number threads as they are added.
    fn add_thread(&mut self, tid: u32, comm: &str) -> ThreadId {
        self.happened.push(Heard::Thread(tid, comm.to_owned()));
        self.next += 1;
        ThreadId(self.next - 1)
    }

    fn step(&mut self, ring: &mut Ring, step: Step, cell: u64) {
        ring.latest = ring.latest.max(self.converter.nanoseconds(step.at.0));
        let time = ring.latest;
        let what = match step.op {
            Op::Switch(stack) => {
                let stack = stack as usize;
                while ring.stacks.len() <= stack {
                    let id = self.add_thread(ring.tid, &ring.comm);
                    ring.stacks.push((id, Vec::new()));
                }
                ring.current = stack;
                return;
            }
            Op::Enter(id) => {
                let function = FunctionId(id.0);
                let (_, open) = &mut ring.stacks[ring.current];
                let parent = open.last().map_or(0, |parent| self.address(*parent));
                open.push(function);
                What::Enter { function, parent, cell }
            }
            Op::Leave(ending) => {
                let (_, open) = &mut ring.stacks[ring.current];
                let Some(function) = open.pop() else { return };
                let returned = ending == Ending::Returned;
                What::Leave { function, returned, value: None }
            }
        };
        let thread = ring.stacks[ring.current].0;
        self.happened.push(Heard::Happening(Happening { time, thread, what }));
    }

    fn address(&self, function: FunctionId) -> u64 {
        self.functions.get(function).map_or(0, |it| it.address)
    }
}

/// Passes a batch on, in order of time; each thread's own order is kept.
fn in_order(batch: &mut Vec<Happening>, tree: &mut Tree) {
    batch.sort_by_key(|happening| happening.time);
    tree.feed(batch);
    batch.clear();
}

impl Sink for Translation {
    fn thread(&mut self, ring: usize, tid: u32, name: &str) {
        if self.rings.len() <= ring {
            self.rings.resize_with(ring + 1, || None);
        }
        let id = self.add_thread(tid, name);
        self.rings[ring] = Some(Ring {
            tid,
            comm: name.to_owned(),
            pairer: Pairer::new(),
            stacks: vec![(id, Vec::new())],
            current: 0,
            latest: 0,
        });
    }

    fn record(&mut self, ring: usize, record: Record) {
        let Some(mut it) = self.rings.get_mut(ring).and_then(Option::take) else { return };
        let Some(&function) = self.sites.get(record.site as usize) else { return };
        let mut steps = Vec::new();
        it.pairer.push(record, event::FunctionId(function.0), &mut steps);
        for step in steps {
            self.step(&mut it, step, u64::from(record.cell) * 8);
        }
        self.rings[ring] = Some(it);
    }

    fn hit(&mut self, ring: usize, hit: Hit) {
        let Some(it) = self.rings.get_mut(ring).and_then(Option::as_mut) else { return };
        let Some(values) = self.taken.values(&hit, &it.comm) else { return };
        it.latest = it.latest.max(self.converter.nanoseconds(hit.tsc));
        let (time, thread) = (it.latest, it.stacks[it.current].0);
        let what = What::Hit { probe: ProbeId(hit.probe), parent: hit.caller, values };
        self.happened.push(Heard::Happening(Happening { time, thread, what }));
    }

    fn lost(&mut self, ring: usize, count: u64) {
        let Some(it) = self.rings.get_mut(ring).and_then(Option::as_mut) else { return };
        it.pairer.lost();
        let (time, thread) = (it.latest, it.stacks[it.current].0);
        let what = What::Lost(count);
        self.happened.push(Heard::Happening(Happening { time, thread, what }));
    }

    fn thread_ended(&mut self, ring: usize) {
        let Some(it) = self.rings.get_mut(ring).and_then(Option::take) else { return };
        self.happened.extend(it.stacks.iter().map(|(id, _)| Heard::Ended(*id)));
    }
}
