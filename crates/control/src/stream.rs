//! A launched program whose records go to a sink as they come, for as long as it runs.

use crate::drain::{Arrival, SiteTable};
use crate::error::ControlError;
use crate::image::Library;
use crate::launch;
use crate::options::Options;
use crate::plan::Scope;
use crate::probes::{Assembled, Hit, Hits, Probes};
use crate::rings::{Rings, Taken};
use crate::segment::Segment;
use crate::session::Session;
use crate::system;
use crate::welcome::{Shared, serve};
use sledge_filter::{FilterSpec, Pattern};
use sledge_wire::record::{Kind, Record};
use sledge_wire::segment::{Full, LOST_SITE};
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a program may take to report.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is launched, and how it is traced.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// The program and its arguments.
    pub words: Vec<OsString>,
    /// The agent: the shared object that is preloaded.
    pub agent: &'static [u8],
    /// Which functions of libraries are traced.
    pub scope: Scope,
    /// Patch only functions that match one of these; all where empty.
    pub patch: Vec<Pattern>,
    /// Bytes of a thread's ring, rounded up to a power of two.
    pub ring_bytes: u64,
}

/// A function that is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFunction {
    /// Its name in the symbol table, or the import's.
    pub name: String,
    /// Path of the object it is in; the program's own functions have none.
    pub library: Option<String>,
    /// Its address in the process.
    pub address: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// Hears what the program does.
pub trait Sink {
    /// A thread has a ring now.
    fn thread(&mut self, ring: usize, tid: u32, name: &str);
    /// A record of a thread; its site is an index in [`Stream::functions`].
    fn record(&mut self, ring: usize, record: Record);
    /// A thread hit a probe.
    fn hit(&mut self, ring: usize, hit: Hit);
    /// So many events of a thread are missing here.
    fn lost(&mut self, ring: usize, count: u64);
    /// A thread is gone; its ring may become another's.
    fn thread_ended(&mut self, ring: usize);
}

/// A program that runs and is traced.
#[derive(Debug)]
pub struct Stream {
    pid: i32,
    table: Arc<SiteTable>,
    segment: Arc<Segment>,
    rings: Rings,
    /// Of each ring what came of a hit so far.
    hits: Vec<Hits>,
    probes: Option<Probes>,
    /// Of each ring the thread that has it.
    tids: Vec<Option<u32>>,
    ended: Option<i32>,
    session: Arc<Session>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Stream {
    /// Starts the program and waits until it is patched. `started` is called once it runs and before
    /// there is any other thread: what it does to signals, the program does not inherit and our
    /// threads do.
    ///
    /// # Errors
    /// When it cannot be started or traced.
    pub fn launch(options: StreamOptions, started: impl FnOnce()) -> Result<Self, ControlError> {
        let path = launch::find(options.words.first().map_or("".as_ref(), |word| word))?;
        let session = Arc::new(Session::create(options.agent)?);
        let launched = launch::start(&path, &options.words, &session)?;
        started();
        let (sender, receiver) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let refusal = Arc::new(Mutex::new(None));
        let server = {
            let (session, stop) = (Arc::clone(&session), Arc::clone(&stop));
            let (options, refusal) = (options.clone(), Arc::clone(&refusal));
            std::thread::spawn(move || {
                let library = Library::default();
                let options = recording(&options);
                let shared = Shared {
                    options: &options,
                    library: &library,
                    notes: Mutex::default(),
                    progress: &|_| {},
                };
                serve(&session, &shared, &sender, &stop);
                if let Some(error) = shared.notes().refusal.take() {
                    *locked(&refusal) = Some(error);
                }
            })
        };
        launched.enter(&session, options.agent)?;
        let arrival = wait(&receiver, launched.pid);
        let Some(arrival) = arrival else {
            stop.store(true, Ordering::Relaxed);
            session.stop();
            let _ = server.join();
            return Err(locked(&refusal).take().unwrap_or(ControlError::NoAgent));
        };
        let Arrival { pid, segment, code, table, .. } = arrival;
        let segment = Arc::new(segment);
        let probes = code.map(|code| Probes::new(Arc::clone(&segment), code));
        let (rings, count) = (Rings::new(&segment), segment.rings());
        let (tids, hits, server) = (vec![None; count], vec![Hits::default(); count], Some(server));
        let ended = None;
        Ok(Self { pid, table, segment, rings, hits, probes, tids, ended, session, stop, server })
    }

    /// The process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// What sets its probes; it can be taken once.
    pub const fn take_probes(&mut self) -> Option<Probes> {
        self.probes.take()
    }

    /// Its traced functions, by site.
    #[must_use]
    pub fn functions(&self) -> Vec<StreamFunction> {
        let sites = self.table.sites.iter();
        let function = |site: &crate::drain::SiteName| StreamFunction {
            name: site.name.clone(),
            library: (site.object > 0).then(|| self.table.objects[site.object].path.clone()),
            address: site.address.wrapping_add(self.table.biases[site.object]),
            size: site.size,
        };
        sites.map(function).collect()
    }

    /// Paths of its objects, with what to add to their own addresses.
    #[must_use]
    pub fn objects(&self) -> Vec<(String, u64)> {
        let paths = self.table.objects.iter().map(|object| object.path.clone());
        paths.zip(self.table.biases.iter().copied()).collect()
    }

    /// The program's exit status once it has ended; 128 and its number for a signal.
    pub fn ended(&mut self) -> Option<i32> {
        if self.ended.is_none() {
            self.ended = system::try_wait(self.pid).map(|ended| match ended {
                system::Ended::Exited(status) => status,
                system::Ended::Killed(signal) => 128 + signal,
            });
        }
        self.ended
    }

    /// Sleeps until there is something to read, at most so long.
    pub fn sleep(&self, at_most: Duration) {
        self.segment.sleep(self.segment.doorbell(), at_most);
    }

    /// Reads what is there, a batch from each ring: how many records that were.
    pub fn pass(&mut self, sink: &mut dyn Sink) -> u64 {
        (0..self.tids.len()).map(|ring| self.pass_ring(ring, sink)).sum()
    }

    fn pass_ring(&mut self, index: usize, sink: &mut dyn Sink) -> u64 {
        if self.tids[index].is_none() {
            if !self.segment.is_live(index) {
                return 0;
            }
            let (tid, _, name) = self.segment.thread(index);
            self.tids[index] = Some(tid);
            sink.thread(index, tid, &name);
        }
        let (ended, sites) = (self.ended.is_some(), self.table.sites.len());
        let hits = &mut self.hits[index];
        self.rings.read(&self.segment, index, ended, |taken| match taken {
            Taken::Record(record) if record.site == LOST_SITE => {
                hits.forget();
                if record.kind == Kind::Enter {
                    sink.lost(index, u64::from(record.cell));
                }
            }
            Taken::Record(record) => match hits.push(record) {
                Assembled::More => {}
                Assembled::Hit(hit) => sink.hit(index, hit),
                // A site that we never made: the tracee wrote over its ring.
                Assembled::Other if record.site as usize >= sites => {}
                Assembled::Other => sink.record(index, record),
            },
            Taken::Hole => {
                hits.forget();
                sink.lost(index, 1);
            }
        })
    }

    /// Looks for threads that are gone; their rings go to others.
    pub fn retire(&mut self, sink: &mut dyn Sink) {
        for index in 0..self.tids.len() {
            let Some(tid) = self.tids[index] else { continue };
            if Path::new(&format!("/proc/{}/task/{tid}", self.pid)).exists() {
                continue;
            }
            while self.pass_ring(index, sink) > 0 {}
            sink.thread_ended(index);
            self.tids[index] = None;
            self.hits[index].forget();
            self.segment.release(index);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.segment.close();
        self.stop.store(true, Ordering::Relaxed);
        self.session.stop();
        if let Some(server) = self.server.take() {
            // A panic there is a defect that has been told already.
            let _ = server.join();
        }
    }
}

/// Waits for the agent of a program; `None` if the program ends first.
fn wait(receiver: &Receiver<Arrival>, pid: i32) -> Option<Arrival> {
    let begun = Instant::now();
    loop {
        match receiver.recv_timeout(Duration::from_millis(20)) {
            Ok(arrival) => return Some(arrival),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if begun.elapsed() > PATIENCE || system::try_wait(pid).is_some() {
            return None;
        }
    }
}

fn recording(options: &StreamOptions) -> Options<'_> {
    Options {
        words: &options.words,
        output: Path::new(""),
        agent: options.agent,
        scope: options.scope,
        patch: options.patch.clone(),
        filter: FilterSpec::default(),
        follow: false,
        probes: true,
        ring_bytes: options.ring_bytes,
        storage: sledge_trace::Storage::default(),
        time_limit: None,
        full: Full::Drop,
    }
}

/// Whoever panicked left nothing half done behind.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
