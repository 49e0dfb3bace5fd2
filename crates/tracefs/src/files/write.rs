//! What writing into each file does.

use super::Work;
use crate::buffer::Buffers;
use crate::clock::Clock;
use crate::command::Commands;
use crate::entry::{Content, Hit, Who};
use crate::errno::Errno;
use crate::events::{EventId, Occurrence, PRINT};
use crate::instance::Instance;
use crate::instance::Tracer;
use crate::list::FunctionList;
use crate::options::{self, TraceOption};
use crate::path::{EventFile, File, LaneFile, Node};
use crate::tree::{Handle, Tree};
use crate::words::{Words, number};
use std::sync::Arc;

/// What a marker needs of a sub-buffer beside its text.
const MARKER_OVERHEAD: usize = 96;
/// The largest sub-buffer, in kilobytes.
const MOST_SUBBUFFER_KB: u64 = 64;
/// The largest buffer of a lane, in kilobytes.
const MOST_KB: u64 = 1 << 20;

impl Tree {
    pub(crate) fn write_to(&mut self, handle: &mut Handle, bytes: &[u8]) -> Result<usize, Errno> {
        if !handle.open.write {
            return Err(Errno::BadFile);
        }
        let at = handle.instance;
        match (&handle.node, &mut handle.work) {
            (Node::Plain(file), Work::Functions { list, words, changed }) => {
                self.edit_list(at, *file, list, words, changed, Some(bytes))
            }
            (_, Work::Pids { pids, words, changed }) => words.write(bytes, |word| {
                *changed = true;
                pids.add(word)
            }),
            (_, Work::Words(words)) => {
                let mut taken = std::mem::take(words);
                let file = match handle.node {
                    Node::Plain(file) => file,
                    _ => File::TraceOptions,
                };
                let written = taken.write(bytes, |word| self.set_word(at, file, word));
                *words = taken;
                written
            }
            (Node::Plain(File::TraceMarker), _) => self.mark(handle, bytes),
            (Node::Plain(File::TraceMarkerRaw), _) => self.mark_raw(handle, bytes),
            (Node::Plain(file @ (File::KprobeEvents | File::DynamicEvents)), _) => {
                let only_kprobes = *file == File::KprobeEvents;
                let text = std::str::from_utf8(bytes).map_err(|_| Errno::Invalid)?;
                for line in text.lines() {
                    self.define_line(at, line, only_kprobes)?;
                }
                Ok(bytes.len())
            }
            (node, _) => {
                let node = node.clone();
                self.set(at, &node, bytes).map(|()| bytes.len())
            }
        }
    }

    /// Takes words for a list of functions; without `bytes`, the last one has ended.
    pub(crate) fn edit_list(
        &mut self,
        at: usize,
        file: File,
        list: &mut FunctionList,
        words: &mut Words,
        changed: &mut bool,
        bytes: Option<&[u8]>,
    ) -> Result<usize, Errno> {
        let functions = Arc::clone(&self.functions);
        let modules = matches!(file, File::SetFtraceFilter | File::SetFtraceNotrace);
        let accept = |word: &str| {
            if file == File::SetFtraceFilter && Commands::is_one(word) {
                return self.command(at, word);
            }
            if word.contains(':') && !modules {
                return Err(Errno::Invalid);
            }
            *changed = true;
            list.edit(&functions, word)
        };
        match bytes {
            Some(bytes) => words.write(bytes, accept),
            None => words.end(accept).map(|()| 0),
        }
    }

    fn command(&mut self, at: usize, word: &str) -> Result<(), Errno> {
        let functions = Arc::clone(&self.functions);
        let Self { events, instances, .. } = self;
        let instance = instances.get_mut(at).and_then(Option::as_mut).ok_or(Errno::NoDevice)?;
        let known = |system: &str, event: &str| events.named(system, event).is_some();
        let switched = |instance: &Instance| -> Vec<EventId> {
            let pairs = instance.commands.events();
            pairs.filter_map(|(system, event)| Some(events.named(system, event)?.id)).collect()
        };
        let before = switched(instance);
        instance.commands.edit(&functions, word, known)?;
        let after = switched(instance);
        let missing = |one: &[EventId], id: &EventId| !one.contains(id);
        for id in after.iter().filter(|id| missing(&before, id)) {
            instance.event_state(*id).begin_soft();
        }
        for id in before.iter().filter(|id| missing(&after, id)) {
            instance.event_state(*id).end_soft();
        }
        if word.contains(":snapshot") && !word.starts_with('!') && instance.snapshot.is_none() {
            instance.snapshot = Some(Buffers::like(&instance.buffers));
        }
        self.update()
    }

    pub(crate) fn set_word(&mut self, at: usize, file: File, word: &str) -> Result<(), Errno> {
        if file == File::SetEvent {
            self.set_event_word(at, word)
        } else {
            self.set_option_word(at, word)
        }
    }

    fn set_option_word(&mut self, at: usize, word: &str) -> Result<(), Errno> {
        let (option, on) = options::parse(word).ok_or(Errno::Invalid)?;
        self.set_option(at, option, on)
    }

    fn set_option(&mut self, at: usize, option: TraceOption, on: bool) -> Result<(), Errno> {
        self.instance(at)?.options.set(option, on);
        Ok(())
    }

    fn set(&mut self, at: usize, node: &Node, bytes: &[u8]) -> Result<(), Errno> {
        match node {
            Node::Option(option) => self.set_option(at, *option, switch(bytes)?),
            Node::LaneFile(lane, LaneFile::BufferSizeKb) => self.resize(at, Some(*lane), bytes),
            Node::LaneFile(lane, LaneFile::Snapshot) => self.take_snapshot(at, Some(*lane), bytes),
            Node::LaneFile(_, LaneFile::Trace) => Ok(()),
            Node::EventFile(id, file) => self.write_event(at, *id, *file, text(bytes)?),
            Node::SystemFile(system, EventFile::Enable) => {
                self.switch_all(at, system, switch(bytes)?)
            }
            Node::SystemFile(system, _) => self.set_system_filter(at, system, text(bytes)?),
            Node::EventsFile(_) => self.switch_all(at, "*", switch(bytes)?),
            Node::Plain(file) => self.set_plain(at, *file, bytes),
            _ => Err(Errno::Invalid),
        }
    }

    fn set_plain(&mut self, at: usize, file: File, bytes: &[u8]) -> Result<(), Errno> {
        match file {
            File::CurrentTracer => self.set_tracer(at, bytes),
            File::TracingOn => {
                let on = number(bytes)? != 0;
                let now = self.tracee.now();
                let instance = self.instance(at)?;
                if on && !instance.on {
                    instance.since = now;
                }
                instance.on = on;
                Ok(())
            }
            // Whatever is written: opening it to write has cleared it.
            File::Trace => Ok(()),
            File::TraceClock => self.set_clock(at, bytes),
            File::TracingCpumask => self.set_mask(at, bytes),
            File::BufferSizeKb => self.resize(at, None, bytes),
            File::BufferSubbufSizeKb => {
                let kilobytes = number(bytes)?;
                if kilobytes == 0 || kilobytes > MOST_SUBBUFFER_KB {
                    return Err(Errno::Invalid);
                }
                let instance = self.instance(at)?;
                instance.subbuffer_kb = (kilobytes as usize).next_power_of_two().max(4);
                instance.clear(None);
                Ok(())
            }
            File::MaxGraphDepth => {
                self.max_graph_depth = u16::try_from(number(bytes)?).unwrap_or(u16::MAX);
                Ok(())
            }
            File::TracingThresh => {
                self.threshold = number(bytes)?.checked_mul(1000).ok_or(Errno::Invalid)?;
                Ok(())
            }
            File::Snapshot => self.take_snapshot(at, None, bytes),
            File::FunctionProfileEnabled => {
                self.profile.switch(switch(bytes)?);
                self.update()
            }
            File::StackMaxSize => {
                self.stack.reset(number(bytes)?);
                Ok(())
            }
            File::StackTracerEnabled => {
                self.stack.on = switch(bytes)?;
                self.update()
            }
            File::ErrorLog => {
                self.instance(at)?.errors.clear();
                Ok(())
            }
            _ => Err(Errno::Invalid),
        }
    }

    fn set_tracer(&mut self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        let name = std::str::from_utf8(bytes).map_err(|_| Errno::Invalid)?;
        let tracer = Tracer::named(name.trim()).ok_or(Errno::Invalid)?;
        let now = self.tracee.now();
        let instance = self.instance(at)?;
        if instance.tracer != tracer {
            instance.tracer = tracer;
            instance.graphs.clear();
            instance.since = now;
            instance.clear(None);
        }
        self.update()
    }

    fn set_clock(&mut self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        let name = std::str::from_utf8(bytes).map_err(|_| Errno::Invalid)?;
        let clock = Clock::named(name.trim()).ok_or(Errno::Invalid)?;
        let offset = self.tracee.clock_offset(clock).ok_or(Errno::Invalid)?;
        let instance = self.instance(at)?;
        (instance.clock, instance.clock_offset) = (clock, offset);
        instance.clear(None);
        Ok(())
    }

    fn set_mask(&mut self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        let text = std::str::from_utf8(bytes).map_err(|_| Errno::Invalid)?;
        let digits: String = text.trim().chars().filter(|it| *it != ',').collect();
        let word = u64::from_str_radix(&digits, 16).map_err(|_| Errno::Invalid)?;
        let lanes = self.threads.lanes();
        let known = if lanes < 64 { (1 << lanes) - 1 } else { u64::MAX };
        // All lanes that there are means those to come, too.
        let rest = if word & known == known { u64::MAX } else { 0 };
        self.instance(at)?.lanes = vec![word & known | rest & !known, rest];
        Ok(())
    }

    fn resize(&mut self, at: usize, lane: Option<usize>, bytes: &[u8]) -> Result<(), Errno> {
        let kilobytes = number(bytes)?;
        if kilobytes == 0 || kilobytes > MOST_KB {
            return Err(Errno::Invalid);
        }
        let kilobytes = usize::try_from(kilobytes).map_err(|_| Errno::Invalid)?;
        self.instance(at)?.buffers.resize(lane, kilobytes);
        Ok(())
    }

    fn take_snapshot(&mut self, at: usize, lane: Option<usize>, bytes: &[u8]) -> Result<(), Errno> {
        let asked = number(bytes)?;
        let instance = self.instance(at)?;
        match (asked, lane) {
            (0 | 1, Some(_)) => return Err(Errno::Invalid),
            (0, None) => instance.snapshot = None,
            (1, None) => instance.swap(),
            _ => {
                if let Some(spare) = &mut instance.snapshot {
                    spare.clear(lane);
                }
            }
        }
        Ok(())
    }

    /// Text that somebody writes into the trace.
    fn mark(&mut self, handle: &Handle, bytes: &[u8]) -> Result<usize, Errno> {
        let most = self.instance(handle.instance)?.subbuffer_kb * 1024 - MARKER_OVERHEAD;
        let part = &bytes[..bytes.len().min(most)];
        self.mark_with(handle, Content::Print(part.into()))?;
        Ok(part.len())
    }

    fn mark_raw(&mut self, handle: &Handle, bytes: &[u8]) -> Result<usize, Errno> {
        let Some((id, rest)) = bytes.split_first_chunk::<4>() else { return Err(Errno::Invalid) };
        let most = self.instance(handle.instance)?.subbuffer_kb * 1024 - MARKER_OVERHEAD;
        if rest.len() > most {
            return Err(Errno::Invalid);
        }
        self.mark_with(handle, Content::Raw(u32::from_le_bytes(*id), rest.into()))?;
        Ok(bytes.len())
    }

    fn mark_with(&mut self, handle: &Handle, what: Content) -> Result<(), Errno> {
        let time = self.tracee.now();
        let writer = handle.open.who.clone();
        let who = Who::Writer(Arc::new(writer.clone()));
        let Self { events, instances, .. } = self;
        let found = instances.get_mut(handle.instance).and_then(Option::as_mut);
        let instance = found.ok_or(Errno::NoDevice)?;
        if !instance.on {
            return Err(Errno::BadFile);
        }
        instance.record(0, time, who.clone(), what.clone());
        let (Content::Print(text), Some(event)) = (&what, events.get(PRINT)) else { return Ok(()) };
        let values = Box::default();
        let hit = Hit { event: PRINT, address: 0, parent: 0, is_return: false, values };
        let it = Occurrence {
            event,
            time,
            lane: 0,
            tid: writer.tid,
            comm: &writer.comm,
            who,
            hit: Arc::new(hit),
            text: Some(text),
            stack: Arc::default(),
        };
        instance.event(events, &it);
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, Errno> {
    std::str::from_utf8(bytes).map_err(|_| Errno::Invalid)
}

/// What a file that holds 0 or 1 is set to.
fn switch(bytes: &[u8]) -> Result<bool, Errno> {
    match number(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::Invalid),
    }
}
