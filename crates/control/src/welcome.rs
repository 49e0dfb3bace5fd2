//! Welcomes agents: plans new images, and gives forked children segments of their own.

use crate::drain::{Arrival, SiteName, SiteTable, Totals};
use crate::error::ControlError;
use crate::image::{Image, Library, Loaded, parent_of};
use crate::options::{Options, Progress, Recorded, Untraceable};
use crate::plan::{Choice, Scope, module_name};
use crate::planner::{Layout, Planner};
use crate::segment::{Segment, memory_file, read_words, write_all};
use crate::session::{Connection, Session};
use sledge_discover::{DiscoverError, Object};
use sledge_engine::trampoline::AgentLayout;
use sledge_trace::event::{self, Outcome};
use sledge_wire::message::{
    Applied, Hello, Origin, Reply, STEP_REFUSED, STEP_RESULT, STEP_WORDS, Step,
};
use sledge_wire::segment::MAX_RINGS;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the thread that serves agents shares with the one that drains.
pub(crate) struct Shared<'a> {
    pub(crate) options: &'a Options<'a>,
    pub(crate) library: &'a Library,
    pub(crate) notes: Mutex<Notes>,
    pub(crate) progress: &'a (dyn Fn(Progress) + Sync),
}

/// What was found out on the way.
#[derive(Default)]
pub(crate) struct Notes {
    patched: u64,
    untraceable: Vec<Untraceable>,
    warnings: Vec<String>,
    images: HashMap<i32, Arc<SiteTable>>,
    /// Why the program was not let run.
    pub(crate) refusal: Option<ControlError>,
}

fn arrival(
    image: &Image,
    hello: &Hello,
    (segment, code): (Segment, Option<(OwnedFd, u64)>),
    table: Arc<SiteTable>,
) -> Arrival {
    Arrival {
        pid: image.pid,
        parent: parent_of(image.pid),
        visible: hello.pid.cast_signed() == image.pid,
        forked: hello.origin == Origin::Fork,
        executable: image.executable.to_string_lossy().into_owned(),
        arguments: image.arguments(),
        segment,
        code,
        table,
    }
}

impl Shared<'_> {
    pub(crate) fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn report(&self, outcome: Outcome, totals: Totals) -> Recorded {
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
pub(crate) fn serve(
    session: &Session,
    shared: &Shared<'_>,
    sender: &Sender<Arrival>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let Some(connection) = session.accept(Duration::from_millis(20)) else { continue };
        let Some(hello) = connection.receive().and_then(Hello::from_words) else { continue };
        let welcomed = match hello.origin {
            Origin::Image => welcome_image(&connection, &hello, shared, sender),
            Origin::Fork => welcome_fork(&connection, &hello, shared, sender),
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
    if let Some(error) = nothing_to_trace(&image, &choice, shared) {
        return refuse(connection, error, shared);
    }
    let agent = agent_layout(hello, shared.options.probes);
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
    shared.notes().images.insert(pid, Arc::clone(&table));
    let _ = sender.send(arrival(&image, hello, (segment, Some((code, layout.thunks))), table));
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
    let mut paths = image.object_paths();
    paths.retain(|path| !path.ends_with("libsledge-agent.so"));
    if options.scope == Scope::Executable && !options.follow {
        paths.truncate(1);
    }
    let mut objects: Vec<Loaded> = Vec::new();
    for (path, object) in paths.iter().zip(open_all(&paths, shared)) {
        match object {
            Ok(object) => objects.extend(image.locate(path, object)),
            Err(error) => shared.notes().warnings.push(error.to_string()),
        }
    }
    if objects.is_empty() {
        return Choice::default();
    }
    Choice::make(image, objects, options.scope, &options.patch, options.follow)
}

/// Reads objects, two at a time: the program waits for it.
fn open_all(paths: &[PathBuf], shared: &Shared<'_>) -> Vec<Result<Arc<Object>, DiscoverError>> {
    let open = |path: &PathBuf| {
        (shared.progress)(Progress::Reading(path.clone()));
        shared.library.open(path)
    };
    let (even, odd): (Vec<_>, Vec<_>) =
        paths.iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let read = |part: Vec<(usize, &PathBuf)>| {
        part.into_iter().map(|(index, path)| (index, open(path))).collect::<Vec<_>>()
    };
    let mut opened = std::thread::scope(|scope| {
        let other = scope.spawn(|| read(odd));
        let mut opened = read(even);
        // A panic there is a defect that has been told already.
        opened.extend(other.join().unwrap_or_default());
        opened
    });
    opened.sort_by_key(|(index, _)| *index);
    opened.into_iter().map(|(_, object)| object).collect()
}

/// The launched program has nothing of what was asked for: better said before it runs.
fn nothing_to_trace(image: &Image, choice: &Choice, shared: &Shared<'_>) -> Option<ControlError> {
    let options = shared.options;
    if !shared.notes().images.is_empty() {
        return None;
    }
    let filter = &options.filter;
    let asked = filter.filter.iter().chain(&filter.caller).chain(&options.patch);
    let unmatched = choice.unmatched(asked, options.scope, options.follow)?;
    let program = image.executable.file_name().unwrap_or_default().to_string_lossy();
    Some(ControlError::NoMatch {
        pattern: unmatched.pattern,
        program: program.into_owned(),
        suggestion: unmatched.suggestion,
        functions: unmatched.functions,
    })
}

/// Ends a program that has not begun to run.
fn refuse(
    connection: &Connection,
    error: ControlError,
    shared: &Shared<'_>,
) -> Result<(), ControlError> {
    shared.notes().refusal = Some(error);
    let pid = nix::unistd::Pid::from_raw(connection.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
        .map_err(ControlError::system("ending the program"))
}

fn agent_layout(hello: &Hello, probes: bool) -> AgentLayout {
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
        probe: if probes { hello.probe } else { 0 },
    }
}

fn site_table(choice: &Choice, layout: &Layout) -> SiteTable {
    let objects = choice.objects.iter().map(|loaded| event::Object {
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
    let biases = choice.objects.iter().map(|loaded| loaded.bias).collect();
    SiteTable { objects: objects.collect(), biases, sites: sites.collect() }
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
    // Looked at before it runs on: it may not live for long.
    let arrival = arrival(&Image::of(pid)?, hello, (segment, None), table);
    let send = ControlError::system("answering the agent");
    connection.send(&shared.reply(0).to_words(), &[arrival.segment.file()]).map_err(send)?;
    let _ = sender.send(arrival);
    Ok(())
}
