//! The threads of one process on their way into the trace: pairing, filters, names.

use crate::drain::{Output, SiteName, SiteTable};
use crate::error::ControlError;
use sledge_drain::pair::Pairer;
use sledge_filter::StepFilter;
use sledge_trace::event::{FunctionId, ProcessId, Step, Thread, ThreadId, Ticks};
use sledge_wire::record::{Kind, Record};
use sledge_wire::segment::LOST_SITE;
use std::sync::Arc;

/// A thread whose records are read.
#[derive(Debug)]
struct Lane {
    thread: ThreadId,
    tid: u32,
    pairer: Pairer,
    filter: StepFilter,
    last: Ticks,
    /// A lost stretch whose end was not read yet: since when, and how many.
    losing: Option<(Ticks, u64)>,
}

/// The threads of a process, by number.
#[derive(Debug)]
pub struct Lanes {
    process: ProcessId,
    table: Arc<SiteTable>,
    functions: Vec<Option<FunctionId>>,
    lanes: Vec<Option<Lane>>,
    raw: Vec<Step>,
    shown: Vec<Step>,
}

impl Lanes {
    /// No threads yet.
    #[must_use]
    pub fn new(process: ProcessId, table: Arc<SiteTable>) -> Self {
        let functions = vec![None; table.sites.len()];
        let (lanes, raw, shown) = (Vec::new(), Vec::new(), Vec::new());
        Self { process, table, functions, lanes, raw, shown }
    }

    /// Takes in an object of further sites.
    pub fn add_object(&mut self, object: sledge_trace::event::Object) {
        Arc::make_mut(&mut self.table).objects.push(object);
    }

    /// Takes in the next site.
    pub fn add_site(&mut self, site: SiteName) {
        Arc::make_mut(&mut self.table).sites.push(site);
        self.functions.push(None);
    }

    /// Whether a thread of this number is there.
    #[must_use]
    pub fn has(&self, index: usize) -> bool {
        self.lanes.get(index).is_some_and(Option::is_some)
    }

    /// The thread's id.
    #[must_use]
    pub fn tid(&self, index: usize) -> Option<u32> {
        self.lane(index).map(|lane| lane.tid)
    }

    fn lane(&self, index: usize) -> Option<&Lane> {
        self.lanes.get(index)?.as_ref()
    }

    /// A thread begins.
    pub fn greet(
        &mut self,
        index: usize,
        (tid, started, name): (u32, u64, String),
        output: &mut Output,
    ) {
        let started = Ticks(started);
        let thread = output.writer.thread(&Thread { process: self.process, tid, name }, started);
        output.totals.threads += 1;
        if self.lanes.len() <= index {
            self.lanes.resize_with(index + 1, || None);
        }
        self.lanes[index] = Some(Lane {
            thread,
            tid,
            pairer: Pairer::new(),
            filter: StepFilter::new(output.threshold),
            last: started,
            losing: None,
        });
    }

    /// One record is lost.
    pub fn skip(&mut self, index: usize, output: &mut Output) {
        if let Some(Some(lane)) = self.lanes.get_mut(index) {
            lane.pairer.lost();
            output.totals.lost += 1;
            output.writer.lost(lane.thread, lane.last, lane.last, 1);
        }
    }

    /// Takes a thread's next record.
    pub fn take(&mut self, index: usize, record: &Record, output: &mut Output) {
        let Some(Some(lane)) = self.lanes.get_mut(index) else { return };
        lane.last = lane.last.max(Ticks(record.tsc));
        if record.site == LOST_SITE {
            lane.take_lost(record, output);
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
        lane.pairer.push(*record, function, &mut self.raw);
    }

    /// Filters and writes the steps of a batch of one thread's records.
    ///
    /// # Errors
    /// When the trace cannot be written.
    pub fn write(&mut self, index: usize, output: &mut Output) -> Result<(), ControlError> {
        let Some(Some(lane)) = self.lanes.get_mut(index) else { return Ok(()) };
        let result = if output.filter.is_empty() {
            output.writer.steps(lane.thread, &self.raw)
        } else {
            for step in &self.raw {
                lane.filter.push(&output.filter, *step, &mut self.shown);
            }
            output.writer.steps(lane.thread, &self.shown)
        };
        self.raw.clear();
        self.shown.clear();
        result.map_err(ControlError::from)
    }

    /// A thread has ended; `lost` records were dropped of which it did not tell, since then.
    /// Returns how many of its returns had no call.
    ///
    /// # Errors
    /// When the trace cannot be written.
    pub fn end(
        &mut self,
        index: usize,
        (lost, since): (u64, u64),
        output: &mut Output,
    ) -> Result<u64, ControlError> {
        self.write(index, output)?;
        let Some(mut lane) = self.lanes.get_mut(index).and_then(Option::take) else { return Ok(0) };
        if lost > 0 {
            output.totals.lost += lost;
            let since = Ticks(since);
            output.writer.lost(lane.thread, since, lane.last.max(since), lost);
        }
        lane.filter.finish(&mut self.shown);
        output.writer.steps(lane.thread, &self.shown)?;
        self.shown.clear();
        output.writer.thread_end(lane.thread, lane.last);
        Ok(lane.pairer.stray())
    }

    /// The numbers of all threads.
    #[must_use]
    pub fn numbers(&self) -> Vec<usize> {
        (0..self.lanes.len()).filter(|&index| self.has(index)).collect()
    }
}

impl Lane {
    /// Two records stand for a lost stretch: its beginning and length, then its end.
    fn take_lost(&mut self, record: &Record, output: &mut Output) {
        if record.kind == Kind::Enter {
            self.pairer.lost();
            self.losing = Some((Ticks(record.tsc), u64::from(record.cell)));
        } else if let Some((since, count)) = self.losing.take() {
            output.totals.lost += count;
            output.writer.lost(self.thread, since, Ticks(record.tsc).max(since), count);
        }
    }
}
