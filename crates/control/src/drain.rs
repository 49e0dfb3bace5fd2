//! Drain: empties the rings of one process into the trace.

use crate::error::ControlError;
use crate::host;
use crate::lanes::Lanes;
use crate::rings::{Rings, Taken};
use crate::segment::Segment;
use crate::system;
use sledge_filter::{CallFilter, FilterSpec};
use sledge_trace::event::{Function, FunctionId, ObjectId, ProcessId, Ticks};
use sledge_trace::{Storage, Writer};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a site of a process is: the function it stands for.
#[derive(Clone, Debug)]
pub struct SiteName {
    /// Index in [`SiteTable::objects`].
    pub object: usize,
    /// Link-time address of the function.
    pub address: u64,
    /// Its length.
    pub size: u64,
    /// Its name, as the symbol table has it.
    pub name: String,
}

/// The sites of an image, by index; forked children share their parent's.
#[derive(Clone, Debug, Default)]
pub struct SiteTable {
    /// The objects.
    pub objects: Vec<sledge_trace::event::Object>,
    /// What to add to the addresses of each object.
    pub biases: Vec<u64>,
    /// The sites.
    pub sites: Vec<SiteName>,
}

/// What was seen, before filters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Calls.
    pub calls: u64,
    /// Events lost.
    pub lost: u64,
    /// Returns that match no call although nothing was lost.
    pub stray: u64,
    /// Threads.
    pub threads: u32,
}

/// The trace that is being written, and what it knows so far.
#[derive(Debug)]
pub struct Output {
    /// Where it goes.
    pub writer: Writer,
    /// What of the calls is kept.
    pub filter: CallFilter,
    /// How long a call must take to be kept.
    pub threshold: Ticks,
    /// What was seen so far.
    pub totals: Totals,
    objects: HashMap<(String, Vec<u8>), ObjectId>,
    functions: HashMap<(ObjectId, u64), FunctionId>,
}

impl Output {
    /// Begins a trace file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(
        path: &Path,
        filter: &FilterSpec,
        storage: Storage,
    ) -> Result<Self, ControlError> {
        let mut writer = Writer::create_with(path, &host::this_machine(), storage)?;
        let (ticks, nanoseconds) = system::clock_pair();
        writer.clock(Ticks(ticks), nanoseconds);
        let mut threshold = Ticks(0);
        if let Some(least) = filter.threshold {
            std::thread::sleep(Duration::from_millis(5));
            let (later, then) = system::clock_pair();
            writer.clock(Ticks(later), then);
            let rate = (later - ticks) as f64 / (then - nanoseconds).max(1) as f64;
            threshold = Ticks((least.0 as f64 * rate) as u64);
        }
        Ok(Self::new(writer, CallFilter::new(filter.clone()), threshold))
    }

    fn new(writer: Writer, filter: CallFilter, threshold: Ticks) -> Self {
        Self {
            writer,
            filter,
            threshold,
            totals: Totals::default(),
            objects: HashMap::new(),
            functions: HashMap::new(),
        }
    }

    /// The function behind a site; the trace learns of it when it is first called.
    pub(crate) fn function(&mut self, table: &SiteTable, site: &SiteName) -> FunctionId {
        let object = &table.objects[site.object];
        let key = (object.path.clone(), object.build_id.clone());
        let object_id = *self.objects.entry(key).or_insert_with(|| self.writer.object(object));
        if let Some(known) = self.functions.get(&(object_id, site.address)) {
            return *known;
        }
        let function = Function {
            object: object_id,
            address: site.address,
            size: site.size,
            name: site.name.clone(),
        };
        let id = self.writer.function(&function);
        let demangled = sledge_discover::names::demangle(&site.name);
        let module = Path::new(&object.path).file_name().unwrap_or_default().to_string_lossy();
        self.filter.learn(id, &[&site.name, &demangled], &module);
        self.functions.insert((object_id, site.address), id);
        id
    }
}

/// A process that begins to be drained.
pub(crate) struct Arrival {
    pub(crate) pid: i32,
    pub(crate) parent: Option<i32>,
    pub(crate) visible: bool,
    /// Its first thread goes on in calls that its parent entered.
    pub(crate) forked: bool,
    pub(crate) executable: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) segment: Segment,
    /// Generated code of a new image, and where in it the thunks begin.
    pub(crate) code: Option<(OwnedFd, u64)>,
    pub(crate) table: Arc<SiteTable>,
}

/// A process whose rings are read.
#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) id: ProcessId,
    pub(crate) pid: i32,
    pub(crate) segment: Segment,
    /// Thread ids mean something in our own pid namespace.
    visible: bool,
    /// Returns out of calls that a parent entered have no entry here.
    forked: bool,
    lanes: Lanes,
    rings: Rings,
}

impl Drained {
    pub(crate) fn new(id: ProcessId, arrival: Arrival) -> Self {
        let Arrival { pid, visible, forked, segment, table, .. } = arrival;
        let rings = Rings::new(&segment);
        Self { id, pid, visible, forked, lanes: Lanes::new(id, table), rings, segment }
    }

    /// Reads what is there, a batch from each ring. Returns how many records that were.
    pub(crate) fn pass(&mut self, output: &mut Output, ended: bool) -> Result<u64, ControlError> {
        let mut total = 0;
        for index in 0..self.segment.rings() {
            if !self.lanes.has(index) {
                if !self.segment.is_live(index) {
                    continue;
                }
                self.lanes.greet(index, self.segment.thread(index), output);
            }
            total += self.read(index, output, ended)?;
        }
        Ok(total)
    }

    fn read(
        &mut self,
        index: usize,
        output: &mut Output,
        ended: bool,
    ) -> Result<u64, ControlError> {
        let lanes = &mut self.lanes;
        let read = self.rings.read(&self.segment, index, ended, |taken| match taken {
            Taken::Record(record) => lanes.take(index, &record, output),
            Taken::Hole => lanes.skip(index, output),
        });
        lanes.write(index, output)?;
        Ok(read)
    }

    /// Ends threads that are gone: their rings go to others.
    pub(crate) fn retire(&mut self, output: &mut Output) -> Result<(), ControlError> {
        for index in 0..self.segment.rings() {
            let Some(tid) = self.lanes.tid(index) else { continue };
            let path = format!("/proc/{}/task/{tid}", self.pid);
            if !self.visible || Path::new(&path).exists() {
                continue;
            }
            for _ in 0..Rings::most_batches(&self.segment) {
                if self.read(index, output, true)? == 0 {
                    break;
                }
            }
            self.end_thread(index, output)?;
            self.segment.release(index);
        }
        Ok(())
    }

    fn end_thread(&mut self, index: usize, output: &mut Output) -> Result<(), ControlError> {
        let stray = self.lanes.end(index, self.segment.lost(index), output)?;
        if !self.forked {
            output.totals.stray += stray;
        }
        Ok(())
    }

    /// Reads the rest and ends all threads: the process is gone, or nobody looks any more.
    /// `tell` hears how many records were read.
    pub(crate) fn finish(
        mut self,
        output: &mut Output,
        tell: &dyn Fn(u64),
    ) -> Result<(), ControlError> {
        self.segment.close();
        let mut records = 0;
        for _ in 0..Rings::most_batches(&self.segment) {
            match self.pass(output, true)? {
                0 => break,
                read => records += read,
            }
            tell(records);
        }
        for index in 0..self.segment.rings() {
            self.end_thread(index, output)?;
        }
        output.totals.lost += self.segment.ringless();
        Ok(())
    }
}
