//! One recording, from the start of the program to the end of the trace.

use crate::drain::{Drained, Output, SiteName, SiteTable, Totals};
use crate::error::ControlError;
use crate::image::{Image, Library, Loaded};
use crate::launch;
use crate::plan::{Choice, Scope, module_name};
use crate::planner::{Layout, Planner};
use crate::segment::{Segment, memory_file, read_words, write_all};
use crate::session::{Connection, Session};
use crate::signals;
use crate::system::{self, Ended};
use sledge_engine::trampoline::AgentLayout;
use sledge_filter::{CallFilter, FilterSpec, Pattern};
use sledge_trace::Writer;
use sledge_trace::event::{Object, Outcome, Process, ProcessId, Ticks};
use sledge_wire::message::{
    Applied, Hello, Origin, Reply, STEP_REFUSED, STEP_RESULT, STEP_WORDS, Step,
};
use sledge_wire::segment::{Full, MAX_RINGS};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the drain sleeps at most when the rings are empty.
const NAP: Duration = Duration::from_millis(1);
/// How often threads and processes that are gone are looked for, and the clock is noted.
const ROUND: Duration = Duration::from_millis(50);

/// What to record, and how.
#[derive(Debug)]
pub struct Options<'a> {
    /// The program and its arguments.
    pub words: &'a [OsString],
    /// Where the trace goes.
    pub output: &'a Path,
    /// The agent: the shared object that is preloaded.
    pub agent: &'static [u8],
    /// Which functions of libraries are traced.
    pub scope: Scope,
    /// Patch only functions that match one of these; all where empty.
    pub patch: Vec<Pattern>,
    /// What of the calls is kept.
    pub filter: FilterSpec,
    /// Whether forked children and executed programs are traced.
    pub follow: bool,
    /// Bytes of a thread's ring, rounded up to a power of two.
    pub ring_bytes: u64,
    /// What threads do when their ring is full.
    pub full: Full,
}

/// What a recording is busy with, for a progress line.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Reading the symbols and code of an object.
    Reading(PathBuf),
    /// Emptying rings after the program ended.
    Draining(u64),
}

/// Functions of an object that could not be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraceable {
    /// The object's file name.
    pub module: String,
    /// How many functions were wanted there.
    pub wanted: usize,
    /// How many of them are not traced.
    pub refused: usize,
}

/// How a recording went.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// How the program ended.
    pub outcome: Outcome,
    /// Calls recorded, before filters.
    pub calls: u64,
    /// Threads seen.
    pub threads: u32,
    /// Events lost.
    pub lost: u64,
    /// Sites patched in all images.
    pub patched: u64,
    /// Objects with functions that are not traced.
    pub untraceable: Vec<Untraceable>,
    /// What went wrong without ending the recording.
    pub warnings: Vec<String>,
}

/// Runs a program and records it.
///
/// # Errors
/// When the program cannot be traced or started, or the trace cannot be written; a program that
/// was started is waited for in any case.
pub fn record(
    options: &Options<'_>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Recorded, ControlError> {
    let program = options.words.first().cloned().unwrap_or_default();
    let path = launch::find(&program)?;
    let output = open_output(options)?;
    let session = Session::create(options.agent)?;
    let library = Library::default();
    let shared = Shared { options, library: &library, notes: Mutex::default(), progress };
    let stop = AtomicBool::new(false);
    let (sender, receiver) = channel();
    signals::outlive();
    let child = launch::start(&path, options.words, &session)?;
    let pid = child.id().cast_signed();
    std::thread::scope(|scope| {
        // Reading the executable overlaps with its start.
        scope.spawn(|| shared.library.open(&path).map(drop));
        scope.spawn(|| serve(&session, &shared, sender, &stop));
        let recorded = Recorder { output, processes: Vec::new(), receiver, seen: false }.run(pid);
        stop.store(true, Ordering::Relaxed);
        recorded
    })
    .map(|(outcome, totals)| shared.report(outcome, totals))
}

/// Begins the trace file.
fn open_output(options: &Options<'_>) -> Result<Output, ControlError> {
    let mut writer = Writer::create(options.output)?;
    let (ticks, nanoseconds) = system::clock_pair();
    writer.clock(Ticks(ticks), nanoseconds);
    let mut threshold = Ticks(0);
    if let Some(least) = options.filter.threshold {
        std::thread::sleep(Duration::from_millis(5));
        let (later, then) = system::clock_pair();
        writer.clock(Ticks(later), then);
        let rate = (later - ticks) as f64 / (then - nanoseconds).max(1) as f64;
        threshold = Ticks((least.0 as f64 * rate) as u64);
    }
    let filter = CallFilter::new(options.filter.clone());
    Ok(Output::new(writer, filter, threshold))
}

/// What the thread that serves agents shares with the one that drains.
struct Shared<'a> {
    options: &'a Options<'a>,
    library: &'a Library,
    notes: Mutex<Notes>,
    progress: &'a (dyn Fn(Progress) + Sync),
}

#[derive(Default)]
struct Notes {
    patched: u64,
    untraceable: Vec<Untraceable>,
    warnings: Vec<String>,
    images: HashMap<i32, Arc<SiteTable>>,
}

/// A process that begins to be drained.
struct Arrival {
    pid: i32,
    parent: Option<i32>,
    replaces: bool,
    visible: bool,
    executable: String,
    arguments: Vec<String>,
    segment: Segment,
    table: Arc<SiteTable>,
}

impl Shared<'_> {
    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn report(&self, outcome: Outcome, totals: Totals) -> Recorded {
        let notes = self.notes();
        let mut warnings = notes.warnings.clone();
        if totals.stray > 0 {
            warnings.push(format!("{} returns without a call were left out", totals.stray));
        }
        Recorded {
            outcome,
            calls: totals.calls,
            threads: totals.threads,
            lost: totals.lost,
            patched: notes.patched,
            untraceable: notes.untraceable.clone(),
            warnings,
        }
    }

    fn segment(&self) -> Result<Segment, ControlError> {
        let options = self.options;
        Segment::create(MAX_RINGS, options.ring_bytes.next_power_of_two(), options.full)
    }

    fn reply(&self, steps: u64) -> Reply {
        Reply {
            accepted: true,
            ring_count: MAX_RINGS as u32,
            ring_bytes: self.options.ring_bytes.next_power_of_two(),
            steps,
            follow: self.options.follow,
        }
    }
}

/// Answers agents until the recording ends.
fn serve(session: &Session, shared: &Shared<'_>, sender: Sender<Arrival>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Some(connection) = session.accept(Duration::from_millis(20)) else { continue };
        let Some(hello) = connection.receive().and_then(Hello::from_words) else { continue };
        let welcomed = match hello.origin {
            Origin::Image => welcome_image(&connection, &hello, shared, &sender),
            Origin::Fork => welcome_fork(&connection, &hello, shared, &sender),
        };
        if let Err(error) = welcomed {
            shared.notes().warnings.push(format!("process {}: {error}", connection.pid()));
        }
    }
}

/// Plans a new image and has the plan carried out.
fn welcome_image(
    connection: &Connection,
    hello: &Hello,
    shared: &Shared<'_>,
    sender: &Sender<Arrival>,
) -> Result<(), ControlError> {
    let pid = connection.pid();
    let image = Image::of(pid)?;
    let choice = choose(&image, shared);
    let agent = agent_layout(hello);
    let layout = Planner::new(&image, &choice, agent).lay_out();
    let segment = shared.segment()?;
    let code = memory_file(c"sledge-code")?;
    write_all(&code, &layout.code)?;
    let plan = memory_file(c"sledge-plan")?;
    let words = layout.steps.iter().flat_map(|step| step.to_words());
    write_all(&plan, &words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>())?;
    let reply = shared.reply(layout.steps.len() as u64).to_words();
    let send = ControlError::system("answering the agent");
    connection.send(&reply, &[segment.file(), code.as_fd(), plan.as_fd()]).map_err(send)?;
    let applied = connection.receive().ok_or(ControlError::NoAgent)?;
    let applied = Applied::from_words(applied).ok_or(ControlError::Version)?;
    let results = read_words(&plan, layout.steps.len() * STEP_WORDS);
    note(shared, &choice, &layout, &results, &applied);
    let table = Arc::new(site_table(&choice, &layout));
    let replaces = shared.notes().images.insert(pid, Arc::clone(&table)).is_some();
    let arrival = Arrival {
        pid,
        parent: Some(hello.parent.cast_signed()),
        replaces,
        visible: hello.pid.cast_signed() == pid,
        executable: image.executable.to_string_lossy().into_owned(),
        arguments: image.arguments(),
        segment,
        table,
    };
    let _ = sender.send(arrival);
    let go = ControlError::system("letting the program run");
    connection.send(&[0; 16], &[]).map_err(go)?;
    if applied.error != 0 {
        let source = std::io::Error::from_raw_os_error(applied.error as i32);
        return Err(ControlError::Plan { step: applied.failed_step, source });
    }
    Ok(())
}

fn choose(image: &Image, shared: &Shared<'_>) -> Choice {
    let options = shared.options;
    let mut objects: Vec<Loaded> = Vec::new();
    for (index, path) in image.object_paths().into_iter().enumerate() {
        if index > 0 && options.scope == Scope::Executable && !options.follow {
            break;
        }
        if path.ends_with("libsledge-agent.so") {
            continue;
        }
        (shared.progress)(Progress::Reading(path.clone()));
        match shared.library.open(&path) {
            Ok(object) => objects.extend(image.locate(&path, object)),
            Err(error) => shared.notes().warnings.push(error.to_string()),
        }
    }
    if objects.is_empty() {
        return Choice::default();
    }
    Choice::make(image, objects, options.scope, &options.patch, options.follow)
}

fn agent_layout(hello: &Hello) -> AgentLayout {
    AgentLayout {
        thunks: hello.thunks,
        relocated: hello.relocated,
        trampolines: hello.trampolines,
        slots: hello.slots,
        tls_offset: i32::try_from(hello.tls_offset).unwrap_or(0),
        cover: hello.cover,
        thread: hello.thread,
        full: hello.full,
        exec: hello.exec,
    }
}

fn site_table(choice: &Choice, layout: &Layout) -> SiteTable {
    let objects = choice.objects.iter().map(|loaded| Object {
        path: loaded.path.to_string_lossy().into_owned(),
        build_id: loaded.object.build_id.clone(),
    });
    let sites = layout.sites.iter().map(|&index| {
        let chosen = &choice.chosen[index];
        let function = &choice.objects[chosen.object].object.functions[chosen.function];
        SiteName {
            object: chosen.object,
            address: function.address,
            size: function.size,
            name: chosen.name.clone(),
        }
    });
    SiteTable { objects: objects.collect(), sites: sites.collect() }
}

/// Notes what is not traced, so that it can be said.
fn note(shared: &Shared<'_>, choice: &Choice, layout: &Layout, results: &[u64], applied: &Applied) {
    let mut refused = vec![0; choice.objects.len()];
    for &(index, _) in &layout.failed {
        refused[choice.chosen[index].object] += 1;
    }
    for &(object, _) in &choice.untraceable {
        refused[object] += 1;
    }
    let mut found_other = 0;
    for (step, words) in layout.steps.iter().zip(results.chunks_exact(STEP_WORDS)) {
        let is_patch = matches!(step, Step::Patch { .. });
        found_other += u64::from(is_patch && words[STEP_RESULT] == STEP_REFUSED);
    }
    let mut notes = shared.notes();
    notes.patched += applied.patched;
    if found_other > 0 {
        let warning = format!("{found_other} functions left alone: their code had been changed");
        notes.warnings.push(warning);
    }
    for (object, &count) in refused.iter().enumerate().filter(|(_, count)| **count > 0) {
        let wanted = choice.chosen.iter().filter(|chosen| chosen.object == object).count();
        let module = module_name(&choice.objects[object]);
        let entry = Untraceable { module, wanted, refused: count };
        if !notes.untraceable.contains(&entry) {
            notes.untraceable.push(entry);
        }
    }
}

/// Gives a forked child a segment; its sites are its parent's.
fn welcome_fork(
    connection: &Connection,
    hello: &Hello,
    shared: &Shared<'_>,
    sender: &Sender<Arrival>,
) -> Result<(), ControlError> {
    let pid = connection.pid();
    let parent = parent_of(pid).unwrap_or(hello.parent.cast_signed());
    let table = shared.notes().images.get(&parent).cloned();
    let Some(table) = table.filter(|_| shared.options.follow) else {
        let refusal = Reply { accepted: false, ..shared.reply(0) }.to_words();
        let send = ControlError::system("answering the agent");
        return connection.send(&refusal, &[]).map_err(send);
    };
    let segment = shared.segment()?;
    shared.notes().images.insert(pid, Arc::clone(&table));
    let send = ControlError::system("answering the agent");
    connection.send(&shared.reply(0).to_words(), &[segment.file()]).map_err(send)?;
    let image = Image::of(pid)?;
    let arrival = Arrival {
        pid,
        parent: Some(parent),
        replaces: false,
        visible: hello.pid.cast_signed() == pid,
        executable: image.executable.to_string_lossy().into_owned(),
        arguments: image.arguments(),
        segment,
        table,
    };
    let _ = sender.send(arrival);
    Ok(())
}

fn stat_fields(pid: i32) -> Option<(char, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn parent_of(pid: i32) -> Option<i32> {
    stat_fields(pid).map(|(_, parent)| parent)
}

fn is_running(pid: i32) -> bool {
    stat_fields(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Drains processes into the trace until the program has ended.
struct Recorder {
    output: Output,
    processes: Vec<Drained>,
    receiver: Receiver<Arrival>,
    seen: bool,
}

impl Recorder {
    fn run(mut self, pid: i32) -> Result<(Outcome, Totals), ControlError> {
        let mut result = Ok(());
        let mut last_round = Instant::now();
        let ended = loop {
            let ended = system::try_wait(pid);
            result = result.and_then(|()| self.turn());
            signals::forward(pid);
            if last_round.elapsed() > ROUND {
                last_round = Instant::now();
                result = result.and_then(|()| self.round(pid));
            }
            if let Some(ended) = ended {
                break ended;
            }
            if result.is_err() {
                // Nothing more can be kept; the program goes on and is waited for.
                self.abandon();
                std::thread::sleep(NAP);
            }
        };
        let outcome = match ended {
            Ended::Exited(status) => Outcome::Exited(status),
            Ended::Killed(signal) => Outcome::Killed(signal),
        };
        result?;
        self.finish(outcome)
    }

    /// Empties the rings once; sleeps when there was nothing.
    fn turn(&mut self) -> Result<(), ControlError> {
        self.admit()?;
        let bell = self.processes.first().map(|process| process.segment.doorbell());
        let mut records = 0;
        for process in &mut self.processes {
            records += process.pass(&mut self.output, false)?;
        }
        match (records, self.processes.first(), bell) {
            (0, Some(process), Some(bell)) => process.segment.sleep(bell, NAP),
            (0, ..) => std::thread::sleep(NAP),
            _ => {}
        }
        Ok(())
    }

    /// Takes in processes that have arrived.
    fn admit(&mut self) -> Result<(), ControlError> {
        while let Ok(arrival) = self.receiver.try_recv() {
            self.seen = true;
            let parent = self.process_id(arrival.parent);
            if let Some(old) = self.processes.iter().position(|old| old.pid == arrival.pid) {
                debug_assert!(arrival.replaces);
                self.processes.remove(old).finish(&mut self.output)?;
            }
            let id = self.output.writer.process(&Process {
                pid: arrival.pid.cast_unsigned(),
                parent,
                executable: arrival.executable,
                arguments: arrival.arguments,
            });
            let Arrival { pid, visible, segment, table, .. } = arrival;
            self.processes.push(Drained::new(id, pid, visible, segment, table));
        }
        Ok(())
    }

    fn process_id(&self, pid: Option<i32>) -> Option<ProcessId> {
        self.processes.iter().find(|process| Some(process.pid) == pid).map(|process| process.id)
    }

    /// Looks for what is gone, and notes the clock.
    fn round(&mut self, main: i32) -> Result<(), ControlError> {
        let (ticks, nanoseconds) = system::clock_pair();
        self.output.writer.clock(Ticks(ticks), nanoseconds);
        let mut index = 0;
        while let Some(process) = self.processes.get_mut(index) {
            process.retire(&mut self.output)?;
            if process.pid != main && !is_running(process.pid) {
                self.processes.remove(index).finish(&mut self.output)?;
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    fn abandon(&mut self) {
        while let Ok(arrival) = self.receiver.try_recv() {
            arrival.segment.close();
        }
        self.processes.drain(..).for_each(|process| process.segment.close());
    }

    fn finish(mut self, outcome: Outcome) -> Result<(Outcome, Totals), ControlError> {
        self.admit()?;
        if !self.seen {
            return Err(ControlError::NoAgent);
        }
        for process in self.processes.drain(..) {
            process.finish(&mut self.output)?;
        }
        let (ticks, nanoseconds) = system::clock_pair();
        self.output.writer.clock(Ticks(ticks), nanoseconds);
        self.output.writer.outcome(outcome);
        let totals = self.output.totals;
        self.output.writer.finish()?;
        Ok((outcome, totals))
    }
}
