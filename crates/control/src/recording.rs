//! One recording, from the start of the program to the end of the trace.

use crate::drain::{Arrival, Drained, Output, Totals};
use crate::error::ControlError;
use crate::image::{Library, is_running};
use crate::launch;
use crate::options::{Options, Progress, Recorded};
use crate::session::Session;
use crate::signals;
use crate::system::{self, Ended};
use crate::welcome::{Shared, serve};
use sledge_trace::event::{Outcome, Process, ProcessId, Ticks};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long the drain sleeps at most when the rings are empty.
const NAP: Duration = Duration::from_millis(1);
/// How often threads and processes that are gone are looked for, and the clock is noted.
const ROUND: Duration = Duration::from_millis(50);

/// How often the trace is brought up to date for whoever reads it meanwhile.
const FLUSH: Duration = Duration::from_secs(1);

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
    let session = Session::create(options.agent)?;
    // Who sees the file may ask for a snapshot of it.
    signals::outlive();
    let output = Output::create(options.output, &options.filter, options.storage)?;
    let recorded = record_into(output, &path, session, options, progress);
    let nothing_recorded = |error: &ControlError| !matches!(error, ControlError::Write(_));
    if recorded.as_ref().is_err_and(nothing_recorded) {
        // There was no run to tell of.
        let _ = std::fs::remove_file(options.output);
    }
    recorded
}

fn record_into(
    output: Output,
    path: &Path,
    session: Session,
    options: &Options<'_>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Recorded, ControlError> {
    let library = Library::default();
    let shared = Shared { options, library: &library, notes: Mutex::default(), progress };
    let stop = AtomicBool::new(false);
    let (sender, receiver) = channel();
    let launched = launch::start(path, options.words, &session)?;
    let recorded = std::thread::scope(|scope| {
        // Reading the executable overlaps with its start.
        scope.spawn(|| shared.library.open(path).map(drop));
        scope.spawn(|| serve(&session, &shared, &sender, &stop));
        let entered = launched.enter(&session, options.agent);
        let recorded = Recorder::new(output, receiver, options.time_limit, &|records| {
            progress(Progress::Draining(records));
        })
        .run(launched.pid);
        let recorded = entered.and(recorded);
        stop.store(true, Ordering::Relaxed);
        session.stop();
        recorded
    });
    if let Some(refusal) = shared.notes().refusal.take() {
        return Err(refusal);
    }
    recorded.map(|(outcome, totals)| shared.report(outcome, totals))
}

/// Drains processes into the trace until the program has ended.
struct Recorder<'a> {
    output: Output,
    processes: Vec<Drained>,
    receiver: Receiver<Arrival>,
    seen: bool,
    last_flush: Instant,
    /// When recording ends, at the latest.
    deadline: Option<Instant>,
    /// The trace is complete, although the program goes on.
    stopped: bool,
    /// Hears how many records were read after a process ended.
    tell: &'a dyn Fn(u64),
}

impl<'a> Recorder<'a> {
    fn new(
        output: Output,
        receiver: Receiver<Arrival>,
        time_limit: Option<Duration>,
        tell: &'a dyn Fn(u64),
    ) -> Self {
        let now = Instant::now();
        Self {
            output,
            processes: Vec::new(),
            receiver,
            seen: false,
            last_flush: now,
            deadline: time_limit.and_then(|limit| now.checked_add(limit)),
            stopped: false,
            tell,
        }
    }

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
            result = result.and_then(|()| self.obey());
            if result.is_err() || self.stopped {
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
                self.processes.remove(old).finish(&mut self.output, self.tell)?;
            }
            let id = self.output.writer.process(&Process {
                pid: arrival.pid.cast_unsigned(),
                parent,
                executable: arrival.executable.clone(),
                arguments: arrival.arguments.clone(),
            });
            self.processes.push(Drained::new(id, arrival));
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
        if self.last_flush.elapsed() > FLUSH {
            self.last_flush = Instant::now();
            self.output.writer.flush()?;
        }
        let mut index = 0;
        while let Some(process) = self.processes.get_mut(index) {
            process.retire(&mut self.output)?;
            if process.pid != main && !is_running(process.pid) {
                self.processes.remove(index).finish(&mut self.output, self.tell)?;
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// Does what was asked for meanwhile: a snapshot, or the end of the recording.
    fn obey(&mut self) -> Result<(), ControlError> {
        if self.stopped {
            return Ok(());
        }
        if signals::take_snapshot_request() {
            self.snapshot()?;
        }
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if self.seen && (late || self.output.writer.is_full()) {
            self.stop()?;
        }
        Ok(())
    }

    /// Brings the file up to date with what has been recorded.
    fn snapshot(&mut self) -> Result<(), ControlError> {
        let (ticks, nanoseconds) = system::clock_pair();
        self.output.writer.clock(Ticks(ticks), nanoseconds);
        Ok(self.output.writer.snapshot()?)
    }

    /// Completes the trace, while the program goes on.
    fn stop(&mut self) -> Result<(), ControlError> {
        for process in self.processes.drain(..) {
            process.finish(&mut self.output, self.tell)?;
        }
        self.complete(Outcome::Running)?;
        self.stopped = true;
        Ok(())
    }

    fn complete(&mut self, outcome: Outcome) -> Result<(), ControlError> {
        let (ticks, nanoseconds) = system::clock_pair();
        self.output.writer.clock(Ticks(ticks), nanoseconds);
        self.output.writer.outcome(outcome);
        Ok(self.output.writer.close()?)
    }

    fn abandon(&mut self) {
        while let Ok(arrival) = self.receiver.try_recv() {
            arrival.segment.close();
        }
        self.processes.drain(..).for_each(|process| process.segment.close());
    }

    fn finish(mut self, outcome: Outcome) -> Result<(Outcome, Totals), ControlError> {
        let totals = self.output.totals;
        if self.stopped {
            return Ok((outcome, totals));
        }
        self.admit()?;
        if !self.seen {
            return Err(ControlError::NoAgent);
        }
        for process in self.processes.drain(..) {
            process.finish(&mut self.output, self.tell)?;
        }
        self.complete(outcome)?;
        Ok((outcome, self.output.totals))
    }
}
