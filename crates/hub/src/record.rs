//! A recording of running processes: a client that writes what it hears into a trace.

use crate::attached::Entry;
use crate::client::Client;
use crate::error::HubError;
use crate::protocol::{Event, Request, Wish};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sledge_control::drain::{Output, SiteName, SiteTable, Totals};
use sledge_control::lanes::Lanes;
use sledge_control::{ControlError, signals, system};
use sledge_filter::FilterSpec;
use sledge_trace::Storage;
use sledge_trace::event::{self, Outcome, Process, ProcessId, Ticks};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the clock is noted.
const ROUND: Duration = Duration::from_millis(50);
/// How often the trace is brought up to date for whoever reads it meanwhile.
const FLUSH: Duration = Duration::from_secs(1);
/// How long a hub may take to leave its process.
const FAREWELL: Duration = Duration::from_secs(100);
/// How long its greeting may take.
const GREETING: Duration = Duration::from_secs(60);

/// What to record, and how.
#[derive(Debug)]
pub struct Recording<'a> {
    /// The processes.
    pub pids: &'a [i32],
    /// How they are entered, where nobody did yet.
    pub entry: Entry,
    /// Which functions.
    pub wish: Wish,
    /// What of their calls is kept.
    pub filter: FilterSpec,
    /// Where the trace goes.
    pub output: &'a Path,
    /// For how long; until Ctrl-C or the end of the processes, if not given.
    pub duration: Option<Duration>,
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Calls recorded, before filters.
    pub calls: u64,
    /// Threads seen.
    pub threads: u32,
    /// Events lost.
    pub lost: u64,
    /// What people should know.
    pub notes: Vec<String>,
}

/// A process that is recorded.
struct Source {
    client: Client,
    lanes: Option<Lanes>,
    id: ProcessId,
    ended: bool,
}

/// Records running processes until they end, the time is over, or somebody asks to stop. `begun` is
/// called when all is in place.
///
/// # Errors
/// When a process cannot be entered, or the trace not be written; all processes were left again.
pub fn record(recording: &Recording<'_>, begun: &dyn Fn()) -> Result<Recorded, HubError> {
    signals::outlive();
    let mut output = Output::create(recording.output, &recording.filter, Storage::default())?;
    let mut notes = Vec::new();
    let mut sources = Vec::new();
    let recorded = begin(recording, &mut output, &mut sources, &mut notes).and_then(|()| {
        begun();
        run(recording, &mut output, &mut sources, &mut notes)
    });
    if let Err(error) = recorded {
        // There was nothing to tell of, or no place to tell it.
        let _ = std::fs::remove_file(recording.output);
        return Err(error);
    }
    let (ticks, nanoseconds) = system::clock_pair();
    output.writer.clock(Ticks(ticks), nanoseconds);
    output.writer.outcome(Outcome::Running);
    let Totals { calls, lost, threads, .. } = output.totals;
    output.writer.finish().map_err(ControlError::from)?;
    Ok(Recorded { calls, threads, lost, notes })
}

fn begin(
    recording: &Recording<'_>,
    output: &mut Output,
    sources: &mut Vec<Source>,
    notes: &mut Vec<String>,
) -> Result<(), HubError> {
    for &pid in recording.pids {
        let mut client = Client::open(pid, &recording.entry, "record")?;
        client.send(&Request::Select(recording.wish.clone()))?;
        sources.push(Source { client, lanes: None, id: ProcessId(0), ended: false });
    }
    for source in sources {
        let since = Instant::now();
        while !source.hear(output, notes, Duration::from_millis(100))? {
            if since.elapsed() > GREETING {
                return Err(HubError::Silent(source.client.pid()));
            }
        }
    }
    Ok(())
}

fn run(
    recording: &Recording<'_>,
    output: &mut Output,
    sources: &mut [Source],
    notes: &mut Vec<String>,
) -> Result<(), HubError> {
    let begin = Instant::now();
    let (mut last_round, mut last_flush) = (begin, begin);
    let over = || recording.duration.is_some_and(|duration| begin.elapsed() >= duration);
    while sources.iter().any(|source| !source.ended) && !over() && !signals::asked_to_end() {
        wait(sources, ROUND.min(recording.duration.unwrap_or(ROUND)));
        for source in sources.iter_mut().filter(|source| !source.ended) {
            source.hear(output, notes, Duration::ZERO)?;
        }
        if last_round.elapsed() > ROUND {
            last_round = Instant::now();
            let (ticks, nanoseconds) = system::clock_pair();
            output.writer.clock(Ticks(ticks), nanoseconds);
        }
        if last_flush.elapsed() > FLUSH {
            last_flush = Instant::now();
            output.writer.flush().map_err(ControlError::from)?;
        }
    }
    for source in sources.iter_mut().filter(|source| !source.ended) {
        source.client.send(&Request::Finish)?;
    }
    let farewell = Instant::now();
    for source in sources {
        while !source.ended {
            source.hear(output, notes, Duration::from_millis(100))?;
            if farewell.elapsed() > FAREWELL {
                return Err(HubError::Silent(source.client.pid()));
            }
        }
    }
    Ok(())
}

fn wait(sources: &[Source], at_most: Duration) {
    let open = sources.iter().filter(|source| !source.ended);
    let mut waited: Vec<PollFd<'_>> =
        open.map(|source| PollFd::new(source.client.descriptor(), PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
    // Interrupted or not: the caller looks.
    let _ = poll(&mut waited, timeout);
}

impl Source {
    /// Takes in what there is to hear, waiting for the first of it; says whether the hub has begun to
    /// send what was asked for.
    fn hear(
        &mut self,
        output: &mut Output,
        notes: &mut Vec<String>,
        at_most: Duration,
    ) -> Result<bool, HubError> {
        let mut selected = false;
        let mut patience = at_most;
        while let Some(event) = self.client.next(patience)? {
            patience = Duration::ZERO;
            match event {
                Event::Selected { .. } => selected = true,
                Event::Note(note) => notes.push(note),
                Event::Refused(text) => return Err(HubError::Refused(text)),
                Event::Snapshot => output.writer.flush().map_err(ControlError::from)?,
                Event::Process { pid, executable, arguments } => {
                    let pid = pid.cast_unsigned();
                    let process = Process { pid, parent: None, executable, arguments };
                    self.id = output.writer.process(&process);
                    self.lanes = Some(Lanes::new(self.id, Arc::new(SiteTable::default())));
                }
                Event::End { ringless, .. } => {
                    self.ended = true;
                    output.totals.lost += ringless;
                    self.end_all(output)?;
                    return Ok(selected);
                }
                other => self.take(other, output)?,
            }
        }
        Ok(selected)
    }

    fn take(&mut self, event: Event, output: &mut Output) -> Result<(), HubError> {
        let Some(lanes) = &mut self.lanes else { return Ok(()) };
        match event {
            Event::Object { path, build_id } => lanes.add_object(event::Object { path, build_id }),
            Event::Site { object, address, size, name } => {
                lanes.add_site(SiteName { object: object as usize, address, size, name });
            }
            Event::Thread { index, tid, started, name } => {
                lanes.greet(index as usize, (tid, started, name), output);
            }
            Event::Records { index, records } => {
                for record in &records {
                    lanes.take(index as usize, record, output);
                }
                lanes.write(index as usize, output)?;
            }
            Event::Hole(index) => lanes.skip(index as usize, output),
            Event::ThreadEnd { index, lost, since } => {
                output.totals.stray += lanes.end(index as usize, (lost, since), output)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn end_all(&mut self, output: &mut Output) -> Result<(), HubError> {
        let Some(lanes) = &mut self.lanes else { return Ok(()) };
        for index in lanes.numbers() {
            lanes.end(index, (0, 0), output)?;
        }
        Ok(())
    }
}
