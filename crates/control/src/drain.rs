//! Drain: empties the rings of one process into the trace.

use crate::error::ControlError;
use crate::segment::Segment;
use sledge_drain::pair::Pairer;
use sledge_filter::{CallFilter, StepFilter};
use sledge_trace::Writer;
use sledge_trace::event::{
    Function, FunctionId, ObjectId, ProcessId, Step, Thread, ThreadId, Ticks,
};
use sledge_wire::record::{Kind, RECORD_BYTES, Record};
use sledge_wire::segment::LOST_SITE;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records taken from one ring before the next one has its turn.
pub(crate) const BATCH: u64 = 32 * 1024;
/// A record that stays uncommitted so long, while later ones are there, is given up: its thread
/// left it behind by a jump out of a signal handler.
pub(crate) const HOLE_PATIENCE: Duration = Duration::from_millis(200);
/// How far behind a hole records are looked for.
pub(crate) const HOLE_SEARCH: u64 = 256;

/// What a site of a process is: the function it stands for.
#[derive(Clone, Debug)]
pub(crate) struct SiteName {
    /// Index in [`SiteTable::objects`].
    pub(crate) object: usize,
    /// Link-time address of the function, and its length.
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) name: String,
}

/// The sites of an image, by index; forked children share their parent's.
#[derive(Debug, Default)]
pub(crate) struct SiteTable {
    pub(crate) objects: Vec<sledge_trace::event::Object>,
    /// What to add to the addresses of each object.
    pub(crate) biases: Vec<u64>,
    pub(crate) sites: Vec<SiteName>,
}

/// What was seen, before filters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) lost: u64,
    /// Returns that match no call although nothing was lost.
    pub(crate) stray: u64,
    pub(crate) threads: u32,
}

/// The trace that is being written, and what it knows so far.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) writer: Writer,
    pub(crate) filter: CallFilter,
    pub(crate) threshold: Ticks,
    pub(crate) totals: Totals,
    objects: HashMap<(String, Vec<u8>), ObjectId>,
    functions: HashMap<(ObjectId, u64), FunctionId>,
}

impl Output {
    pub(crate) fn new(writer: Writer, filter: CallFilter, threshold: Ticks) -> Self {
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
    fn function(&mut self, table: &SiteTable, site: &SiteName) -> FunctionId {
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

/// A thread whose ring is read.
#[derive(Debug)]
struct Reading {
    thread: ThreadId,
    tid: u32,
    pairer: Pairer,
    filter: StepFilter,
    last: Ticks,
    hole_since: Option<Instant>,
    /// A lost stretch whose end was not read yet: since when, and how many.
    losing: Option<(Ticks, u64)>,
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
    pub(crate) table: Arc<SiteTable>,
}

/// A process whose rings are read.
#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) id: ProcessId,
    pub(crate) pid: i32,
    pub(crate) segment: Segment,
    pub(crate) table: Arc<SiteTable>,
    /// Thread ids mean something in our own pid namespace.
    pub(crate) visible: bool,
    /// Returns out of calls that a parent entered have no entry here.
    forked: bool,
    functions: Vec<Option<FunctionId>>,
    threads: Vec<Option<Reading>>,
    positions: Vec<u64>,
    raw: Vec<Step>,
    shown: Vec<Step>,
}

impl Drained {
    pub(crate) fn new(id: ProcessId, arrival: Arrival) -> Self {
        let Arrival { pid, visible, forked, segment, table, .. } = arrival;
        let rings = segment.rings();
        Self {
            id,
            pid,
            visible,
            forked,
            functions: vec![None; table.sites.len()],
            threads: (0..rings).map(|_| None).collect(),
            positions: vec![0; rings],
            raw: Vec::new(),
            shown: Vec::new(),
            segment,
            table,
        }
    }

    /// Reads what is there, a batch from each ring. Returns how many records that were.
    pub(crate) fn pass(&mut self, output: &mut Output, ended: bool) -> Result<u64, ControlError> {
        let mut total = 0;
        for index in 0..self.segment.rings() {
            if self.threads[index].is_none() {
                if !self.segment.is_live(index) {
                    continue;
                }
                self.greet(index, output);
            }
            total += self.read(index, output, ended)?;
        }
        Ok(total)
    }

    fn greet(&mut self, index: usize, output: &mut Output) {
        let (tid, started, name) = self.segment.thread(index);
        let started = Ticks(started);
        let thread = output.writer.thread(&Thread { process: self.id, tid, name }, started);
        output.totals.threads += 1;
        self.threads[index] = Some(Reading {
            thread,
            tid,
            pairer: Pairer::new(),
            filter: StepFilter::new(output.threshold),
            last: started,
            hole_since: None,
            losing: None,
        });
    }

    fn read(
        &mut self,
        index: usize,
        output: &mut Output,
        ended: bool,
    ) -> Result<u64, ControlError> {
        let Some(mut reading) = self.threads[index].take() else { return Ok(0) };
        let start = self.positions[index];
        let publish_every = self.segment.ring_bytes() / 8;
        let mut position = start;
        let mut published = start;
        while position - start < BATCH * RECORD_BYTES {
            let Some(record) = self.segment.take(index, position) else {
                if self.skip_hole(index, position, &mut reading, ended) {
                    position += RECORD_BYTES;
                    reading.pairer.lost();
                    output.totals.lost += 1;
                    output.writer.lost(reading.thread, reading.last, reading.last, 1);
                    continue;
                }
                break;
            };
            reading.hole_since = None;
            position += RECORD_BYTES;
            self.take(&record, &mut reading, output);
            if position - published >= publish_every {
                self.segment.publish(index, position);
                published = position;
            }
        }
        if position != start {
            self.segment.publish(index, position);
            self.positions[index] = position;
        }
        let result = self.write(&mut reading, output);
        self.threads[index] = Some(reading);
        result.map(|()| (position - start) / RECORD_BYTES)
    }

    /// Whether the record at a position will never be committed.
    fn skip_hole(&self, index: usize, position: u64, reading: &mut Reading, ended: bool) -> bool {
        if !self.segment.any_behind(index, position, HOLE_SEARCH) {
            return false;
        }
        let since = *reading.hole_since.get_or_insert_with(Instant::now);
        if ended || since.elapsed() > HOLE_PATIENCE {
            reading.hole_since = None;
            return true;
        }
        false
    }

    fn take(&mut self, record: &Record, reading: &mut Reading, output: &mut Output) {
        reading.last = reading.last.max(Ticks(record.tsc));
        if record.site == LOST_SITE {
            self.take_lost(record, reading, output);
            return;
        }
        let site = record.site as usize;
        // A site that we never made: the tracee wrote over its ring.
        let Some(known) = self.functions.get_mut(site) else { return };
        let function = match *known {
            Some(function) => function,
            None => {
                let function = output.function(&self.table, &self.table.sites[site]);
                *known = Some(function);
                function
            }
        };
        output.totals.calls += u64::from(record.kind != Kind::Exit);
        reading.pairer.push(*record, function, &mut self.raw);
    }

    /// Two records stand for a lost stretch: its beginning and length, then its end.
    fn take_lost(&mut self, record: &Record, reading: &mut Reading, output: &mut Output) {
        if record.kind == Kind::Enter {
            reading.pairer.lost();
            reading.losing = Some((Ticks(record.tsc), u64::from(record.cell)));
        } else if let Some((since, count)) = reading.losing.take() {
            output.totals.lost += count;
            output.writer.lost(reading.thread, since, Ticks(record.tsc).max(since), count);
        }
    }

    /// Filters and writes the steps of a batch.
    fn write(&mut self, reading: &mut Reading, output: &mut Output) -> Result<(), ControlError> {
        let result = if output.filter.is_empty() {
            output.writer.steps(reading.thread, &self.raw)
        } else {
            for step in &self.raw {
                reading.filter.push(&output.filter, *step, &mut self.shown);
            }
            output.writer.steps(reading.thread, &self.shown)
        };
        self.raw.clear();
        self.shown.clear();
        result.map_err(ControlError::from)
    }

    /// Ends threads that are gone: their rings go to others.
    pub(crate) fn retire(&mut self, output: &mut Output) -> Result<(), ControlError> {
        for index in 0..self.segment.rings() {
            let Some(reading) = &self.threads[index] else { continue };
            let path = format!("/proc/{}/task/{}", self.pid, reading.tid);
            if !self.visible || Path::new(&path).exists() {
                continue;
            }
            for _ in 0..self.most_batches() {
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
        let Some(mut reading) = self.threads[index].take() else { return Ok(()) };
        let (lost, since) = self.segment.lost(index);
        if lost > 0 {
            output.totals.lost += lost;
            let since = Ticks(since);
            output.writer.lost(reading.thread, since, reading.last.max(since), lost);
        }
        if !self.forked {
            output.totals.stray += reading.pairer.stray();
        }
        self.write(&mut reading, output)?;
        reading.filter.finish(&mut self.shown);
        output.writer.steps(reading.thread, &self.shown)?;
        self.shown.clear();
        output.writer.thread_end(reading.thread, reading.last);
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
        for _ in 0..self.most_batches() {
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

    /// Batches that empty a ring even if its thread goes on until it notices that we stopped; a
    /// tracee that does not stop is not listened to for longer.
    fn most_batches(&self) -> u64 {
        2 * self.segment.ring_bytes() / (BATCH * RECORD_BYTES) + 2
    }
}
