//! The text of each file.

use super::{Work, lane_of};
use crate::buffer::Buffers;
use crate::errno::Errno;
use crate::events::{HEADER_EVENT, header_page};
use crate::instance::{Instance, Tracer};
use crate::output::{Look, Printer, header};
use crate::path::{EventFile, EventsFile, File, LaneFile, Node};
use crate::readme::README;
use crate::tree::{Handle, Read, Tree};
use std::fmt::Write;

/// Entries that a consuming read formats at once.
const BATCH: usize = 512;

impl Tree {
    fn look<'a>(&'a self, instance: &Instance) -> Look<'a> {
        Look {
            functions: &self.functions,
            threads: &self.threads,
            events: &self.events,
            options: instance.options,
            tracer: instance.tracer,
            clock: instance.clock,
        }
    }

    pub(crate) fn instance_ref(&self, at: usize) -> Result<&Instance, Errno> {
        self.instances.get(at).and_then(Option::as_ref).ok_or(Errno::NoDevice)
    }

    /// What a file says now.
    pub(super) fn text(&self, at: usize, node: &Node) -> Result<String, Errno> {
        let instance = self.instance_ref(at)?;
        match node {
            Node::Plain(file) => Ok(self.plain(instance, *file)),
            Node::Option(option) => Ok(flag(instance.has(*option))),
            Node::EventFile(id, file) => Ok(self.event_text(instance, *id, *file)),
            Node::SystemFile(system, EventFile::Enable) => {
                Ok(self.enabled_text(instance, Some(system)))
            }
            Node::SystemFile(..) => Ok("### global filter ###\n# Use this to set filters for multiple events.\n# Only events with the given fields will be affected.\n# If no events are modified, an error message will be displayed here\n".to_owned()),
            Node::EventsFile(file) => Ok(match file {
                EventsFile::Enable => self.enabled_text(instance, None),
                EventsFile::HeaderPage => header_page(instance.subbuffer_kb),
                EventsFile::HeaderEvent => HEADER_EVENT.to_owned(),
            }),
            Node::Stat(lane) => Ok(self.profile.listing(*lane, &self.functions)),
            Node::LaneFile(lane, file) => Ok(self.lane_text(instance, *lane, *file)),
            _ => Err(Errno::IsDirectory),
        }
    }

    fn plain(&self, instance: &Instance, file: File) -> String {
        match file {
            File::Readme => README.to_owned(),
            File::AvailableTracers => Tracer::ALL.map(|(_, name)| name).join(" ") + "\n",
            File::AvailableFilterFunctions => self.available(false),
            File::AvailableFilterFunctionsAddrs => self.available(true),
            File::CurrentTracer => format!("{}\n", instance.tracer.name()),
            File::TracingOn => flag(instance.on),
            File::Trace => self.trace(instance, None),
            File::TraceOptions => instance.options.listing(),
            File::TraceClock => instance.clock.listing(),
            File::TracingCpumask => self.mask(instance),
            File::BufferSizeKb => kilobytes(instance, None),
            File::BufferTotalSizeKb => format!("{}\n", instance.buffers.total_kilobytes()),
            File::SetFtraceFilter => {
                let list = instance.filter.listing(&self.functions, ALL_ENABLED);
                list + &instance.commands.listing(&self.functions)
            }
            File::SetFtraceNotrace => instance.notrace.listing(&self.functions, NONE_DISABLED),
            File::SetFtracePid => instance.only.listing("no pid\n"),
            File::SetFtraceNotracePid => instance.not.listing("no pid\n"),
            File::SetGraphFunction => self.graph_function.listing(&self.functions, ALL_ENABLED),
            File::SetGraphNotrace => self.graph_notrace.listing(&self.functions, NONE_DISABLED),
            File::MaxGraphDepth => format!("{}\n", self.max_graph_depth),
            File::TracingThresh => format!("{}\n", self.threshold / 1000),
            File::EnabledFunctions => self.enabled(),
            File::TouchedFunctions => {
                self.touched.iter().map(|id| self.functions.label(id) + "\n").collect()
            }
            File::DynFtraceTotalInfo => {
                let count = self.functions.len();
                format!("{count} pages:{} groups: 1\n", count.div_ceil(256))
            }
            File::Snapshot => self.snapshot(instance, None),
            File::ErrorLog => instance.errors.listing(),
            File::SavedCmdlines => {
                self.threads.iter().map(|it| format!("{} {}\n", it.tid, it.comm)).collect()
            }
            File::SavedTgids => {
                self.threads.iter().map(|it| format!("{} {}\n", it.tid, it.tgid)).collect()
            }
            File::FunctionProfileEnabled => flag(self.profile.on),
            File::StackTrace => self.stack.listing(None, &self.functions),
            File::StackMaxSize => format!("{}\n", self.stack.most(None)),
            File::StackTraceFilter => self.stack.filter.listing(&self.functions, ALL_ENABLED),
            File::StackTracerEnabled => flag(self.stack.on),
            File::AvailableEvents => {
                let listed = self.events.iter().filter(|event| event.system != "ftrace");
                listed.map(|event| format!("{}:{}\n", event.system, event.name)).collect()
            }
            File::SetEvent => self.set_event_text(instance),
            File::SetEventPid => instance.event_pids.only.listing(""),
            File::SetEventNotracePid => instance.event_pids.not.listing(""),
            File::KprobeEvents => self.events.listing(true),
            File::KprobeProfile => self.events.profile(),
            File::DynamicEvents => self.events.listing(false),
            File::BufferSubbufSizeKb => format!("{}\n", instance.subbuffer_kb),
            File::Kallsyms => self.kallsyms(),
            File::TraceMarker | File::TraceMarkerRaw | File::TracePipe => String::new(),
        }
    }

    fn lane_text(&self, instance: &Instance, lane: usize, file: LaneFile) -> String {
        match file {
            LaneFile::Trace => self.trace(instance, Some(lane)),
            LaneFile::Snapshot => self.snapshot(instance, Some(lane)),
            LaneFile::BufferSizeKb => kilobytes(instance, Some(lane)),
            LaneFile::Stats => self.stats(instance, lane),
            LaneFile::StackTrace => self.stack.listing(Some(lane), &self.functions),
            LaneFile::StackMaxSize => format!("{}\n", self.stack.most(Some(lane))),
            LaneFile::TracePipe => String::new(),
        }
    }

    /// `kallsyms`: all symbols, ascending.
    fn kallsyms(&self) -> String {
        let functions = self.functions.iter();
        let mut all: Vec<(u64, char, String)> =
            functions.map(|(id, it)| (it.address, 't', self.functions.label(id))).collect();
        let known: std::collections::HashSet<u64> = all.iter().map(|it| it.0).collect();
        let others = self.tracee.symbols().into_iter().filter(|it| !known.contains(&it.0));
        all.extend(others.map(|(address, name)| (address, 'd', name)));
        all.sort();
        let line = |(address, kind, name): &(u64, char, String)| {
            format!("{address:016x} {kind} {}\n", name.replace(" [", "\t["))
        };
        all.iter().map(line).collect()
    }

    fn available(&self, addresses: bool) -> String {
        let mut text = String::new();
        for (id, function) in self.functions.iter() {
            if addresses {
                let _ = write!(text, "{:x} ", function.address);
            }
            text += &self.functions.label(id);
            text.push('\n');
        }
        text
    }

    /// `enabled_functions`: which functions are hooked, and for how many.
    fn enabled(&self) -> String {
        let mut text = String::new();
        for (id, _) in self.functions.iter() {
            let users = |it: &&Instance| it.traced.contains(id) || it.commands.concerns(id);
            let count = self.instances.iter().flatten().filter(users).count();
            if count > 0 {
                let label = self.functions.label(id);
                let _ = writeln!(text, "{label} ({count})           ->sledge_recorder");
            }
        }
        text
    }

    fn trace(&self, instance: &Instance, lane: Option<usize>) -> String {
        self.entries(instance, &instance.buffers, lane)
    }

    fn entries(&self, instance: &Instance, buffers: &Buffers, lane: Option<usize>) -> String {
        let look = self.look(instance);
        let (there, written) = buffers.totals(lane);
        let entries = buffers.merged(lane);
        header(&look, there, written) + &Printer::default().print(&look, &entries, false)
    }

    fn snapshot(&self, instance: &Instance, lane: Option<usize>) -> String {
        match &instance.snapshot {
            Some(spare) if !spare.is_empty(lane) => self.entries(instance, spare, lane),
            spare => {
                let state = if spare.is_some() { "allocated" } else { "freed" };
                let name = instance.tracer.name();
                format!("# tracer: {name}\n#\n#\n# * Snapshot is {state} *\n#\n{SNAPSHOT_HELP}")
            }
        }
    }

    fn stats(&self, instance: &Instance, lane: usize) -> String {
        let Some(it) = instance.buffers.lanes().get(lane) else { return String::new() };
        let time = |nanoseconds: u64| {
            let micros = nanoseconds / 1000;
            format!("{:5}.{:06}", micros / 1_000_000, micros % 1_000_000)
        };
        let now = self.tracee.now().saturating_add_signed(instance.clock_offset);
        format!(
            "entries: {}\noverrun: {}\ncommit overrun: 0\nbytes: {}\noldest event ts: {}\n\
             now ts: {}\ndropped events: {}\nread events: {}\n",
            it.len(),
            it.overrun,
            it.bytes(),
            time(it.oldest().unwrap_or(0)),
            time(now),
            it.dropped,
            it.read
        )
    }

    /// The lanes that record, in hexadecimal; with as many digits as lanes need.
    fn mask(&self, instance: &Instance) -> String {
        let lanes = self.threads.lanes();
        let word = instance.lanes.first().copied().unwrap_or(u64::MAX);
        let shown = if lanes < 64 { word & ((1 << lanes) - 1) } else { word };
        format!("{shown:0width$x}\n", width = lanes.min(64).div_ceil(4))
    }

    pub(super) fn read_pipe(&mut self, handle: &mut Handle, most: usize) -> Result<Read, Errno> {
        let Work::Pipe { printer, rest } = &mut handle.work else { return Err(Errno::BadFile) };
        if rest.is_empty() {
            let lane = lane_of(&handle.node);
            let entries = self.instance(handle.instance)?.buffers.consume(lane, BATCH);
            let instance = self.instance_ref(handle.instance)?;
            *rest = printer.print(&self.look(instance), &entries, true).into_bytes();
        }
        if rest.is_empty() {
            let wait = if handle.open.nonblocking { Err(Errno::Again) } else { Ok(Read::Wait) };
            return wait;
        }
        let most = most.min(rest.len());
        Ok(Read::Data(rest.drain(..most).collect()))
    }
}

const ALL_ENABLED: &str = "#### all functions enabled ####\n";
const NONE_DISABLED: &str = "#### no functions disabled ####\n";

/// What stands in `snapshot` while there is none.
const SNAPSHOT_HELP: &str = "\
# Snapshot commands:
# echo 0 > snapshot : Clears and frees snapshot buffer
# echo 1 > snapshot : Allocates snapshot buffer, if not already allocated.
#                      Takes a snapshot of the main buffer.
# echo 2 > snapshot : Clears snapshot buffer (but does not allocate or free)
#                      (Doesn't have to be '2' works with any number that
#                       is not a '0' or '1')
";

fn flag(on: bool) -> String {
    if on { "1\n" } else { "0\n" }.to_owned()
}

fn kilobytes(instance: &Instance, lane: Option<usize>) -> String {
    match instance.buffers.kilobytes(lane) {
        Some(kilobytes) => format!("{kilobytes}\n"),
        None => "X\n".to_owned(),
    }
}
