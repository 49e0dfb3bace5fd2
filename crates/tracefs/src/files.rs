//! What reading and writing each file does.

mod read;
mod write;

use crate::errno::Errno;
use crate::list::FunctionList;
use crate::options::TraceOption;
use crate::output::Printer;
use crate::path::{EventFile, File, LaneFile, Node};
use crate::pids::Pids;
use crate::tree::{Handle, Open, Read, Tree};
use crate::words::Words;

/// What an open file is in the middle of.
#[derive(Debug)]
pub(crate) enum Work {
    /// Nothing: writes take effect at once.
    None,
    /// Text to be read, as it was when the file was opened.
    Text(Vec<u8>),
    /// A list of functions that is being edited.
    Functions { list: FunctionList, words: Words, changed: bool },
    /// Words that take effect one by one.
    Words(Words),
    /// Thread ids.
    Pids { pids: Pids, words: Words, changed: bool },
    /// A consuming reader: what it has still to say.
    Pipe { printer: Printer, rest: Vec<u8> },
}

/// The lane that a file is about; `None` for all.
fn lane_of(node: &Node) -> Option<usize> {
    match node {
        Node::LaneFile(lane, _) => Some(*lane),
        _ => None,
    }
}

impl Tree {
    /// Prepares a file that is opened.
    pub(crate) fn begin(&mut self, at: usize, node: &Node, open: &Open) -> Result<Work, Errno> {
        let lane = lane_of(node);
        match node {
            Node::Plain(File::TracePipe) | Node::LaneFile(_, LaneFile::TracePipe) => {
                let instance = self.instance(at)?;
                if instance
                    .pipes
                    .iter()
                    .any(|other| other.is_none() || lane.is_none() || *other == lane)
                {
                    return Err(Errno::Busy);
                }
                instance.pipes.push(lane);
                return Ok(Work::Pipe { printer: Printer::default(), rest: Vec::new() });
            }
            Node::Plain(File::Trace) | Node::LaneFile(_, LaneFile::Trace) if open.truncate => {
                self.instance(at)?.clear(lane);
            }
            Node::Plain(File::KprobeEvents) if open.truncate => self.clear_events(true)?,
            Node::Plain(File::DynamicEvents) if open.truncate => self.clear_events(false)?,
            Node::Plain(File::SetEvent) if open.truncate => {
                self.set_event_word(at, "!*:*").or(Ok(()))?
            }
            Node::EventFile(id, EventFile::Trigger) if open.truncate => {
                self.clear_histograms(at, *id)?;
            }
            Node::Plain(File::ErrorLog) if open.truncate => self.instance(at)?.errors.clear(),
            _ => {}
        }
        if open.write {
            return self.begin_writing(at, node, open);
        }
        let text = self.text(at, node)?;
        if self.pauses(at, node) {
            self.instance(at)?.pauses += 1;
        }
        Ok(Work::Text(text.into_bytes()))
    }

    /// Whether a reader of this file stops recording while it reads.
    fn pauses(&self, at: usize, node: &Node) -> bool {
        let trace = matches!(node, Node::Plain(File::Trace) | Node::LaneFile(_, LaneFile::Trace));
        let instance = self.instances.get(at).and_then(Option::as_ref);
        trace && instance.is_some_and(|it| it.has(TraceOption::PauseOnTrace))
    }

    fn begin_writing(&mut self, at: usize, node: &Node, open: &Open) -> Result<Work, Errno> {
        let Node::Plain(file) = node else { return Ok(Work::None) };
        let words = Words::default();
        let changed = open.truncate;
        Ok(match file {
            File::SetFtraceFilter
            | File::SetFtraceNotrace
            | File::SetGraphFunction
            | File::SetGraphNotrace
            | File::StackTraceFilter => {
                let mut list = self.list_of(at, *file)?.clone();
                if open.truncate {
                    list.clear();
                }
                Work::Functions { list, words, changed }
            }
            File::SetFtracePid
            | File::SetFtraceNotracePid
            | File::SetEventPid
            | File::SetEventNotracePid => {
                let mut pids = self.pids(at, *file)?.clone();
                if open.truncate {
                    pids.clear();
                }
                Work::Pids { pids, words, changed }
            }
            File::TraceOptions | File::SetEvent => Work::Words(words),
            _ => Work::None,
        })
    }

    fn list_of(&mut self, at: usize, file: File) -> Result<&mut FunctionList, Errno> {
        Ok(match file {
            File::SetGraphFunction => &mut self.graph_function,
            File::SetGraphNotrace => &mut self.graph_notrace,
            File::StackTraceFilter => &mut self.stack.filter,
            File::SetFtraceNotrace => &mut self.instance(at)?.notrace,
            _ => &mut self.instance(at)?.filter,
        })
    }

    fn pids(&mut self, at: usize, file: File) -> Result<&mut Pids, Errno> {
        let instance = self.instance(at)?;
        Ok(match file {
            File::SetFtracePid => &mut instance.only,
            File::SetFtraceNotracePid => &mut instance.not,
            File::SetEventPid => &mut instance.event_pids.only,
            _ => &mut instance.event_pids.not,
        })
    }

    pub(crate) fn read_from(
        &mut self,
        handle: &mut Handle,
        offset: u64,
        most: usize,
    ) -> Result<Read, Errno> {
        if !handle.open.read {
            return Err(Errno::BadFile);
        }
        if matches!(handle.work, Work::Pipe { .. }) {
            return self.read_pipe(handle, most);
        }
        if !matches!(handle.work, Work::Text(_)) {
            // Open for both: what it is now.
            let text = self.text(handle.instance, &handle.node)?;
            return Ok(Read::Data(part(text.as_bytes(), offset, most)));
        }
        let Work::Text(text) = &handle.work else { return Err(Errno::BadFile) };
        Ok(Read::Data(part(text, offset, most)))
    }

    /// One of a file's descriptors is closed, or the last one.
    pub(crate) fn commit(&mut self, handle: &mut Handle, last: bool) -> Result<(), Errno> {
        let (at, node) = (handle.instance, handle.node.clone());
        let Node::Plain(file) = node else { return Ok(()) };
        let mut result = Ok(());
        match &mut handle.work {
            Work::Functions { list, words, changed } => {
                if last {
                    result = self.edit_list(at, file, list, words, changed, None).map(drop);
                }
                if std::mem::take(changed) {
                    *self.list_of(at, file)? = list.clone();
                    self.update()?;
                }
            }
            Work::Pids { pids, words, changed } => {
                if last {
                    result = words.end(|word| {
                        *changed = true;
                        pids.add(word)
                    });
                }
                if std::mem::take(changed) {
                    *self.pids(at, file)? = pids.clone();
                }
            }
            Work::Words(words) if last => {
                let mut words = std::mem::take(words);
                result = words.end(|word| self.set_word(at, file, word));
            }
            _ => {}
        }
        result
    }

    /// What an open file held on to is free again.
    pub(crate) fn end(&mut self, handle: &Handle) {
        let lane = lane_of(&handle.node);
        let is_pipe = matches!(handle.work, Work::Pipe { .. });
        let reads = matches!(handle.work, Work::Text(_));
        let is_trace =
            matches!(handle.node, Node::Plain(File::Trace) | Node::LaneFile(_, LaneFile::Trace));
        let Ok(instance) = self.instance(handle.instance) else { return };
        if is_pipe && let Some(at) = instance.pipes.iter().position(|other| *other == lane) {
            instance.pipes.remove(at);
        }
        if reads && is_trace {
            instance.pauses = instance.pauses.saturating_sub(1);
        }
    }
}

/// The part of a text that is asked for.
fn part(text: &[u8], offset: u64, most: usize) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    text[start..].iter().take(most).copied().collect()
}
