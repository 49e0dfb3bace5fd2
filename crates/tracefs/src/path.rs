//! Paths in the tree: which file or directory a path names.

use crate::events::{EventId, Events};
use crate::options::{self, TraceOption};

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file, with its permission bits.
    File(u32),
}

/// A file or directory of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Root,
    Plain(File),
    Options,
    Option(TraceOption),
    PerCpu,
    Lane(usize),
    LaneFile(usize, LaneFile),
    Instances,
    TraceStat,
    /// The profile of a lane.
    Stat(usize),
    Events,
    EventsFile(EventsFile),
    System(String),
    SystemFile(String, EventFile),
    Event(EventId),
    EventFile(EventId, EventFile),
}

/// Files of `events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventsFile {
    Enable,
    HeaderPage,
    HeaderEvent,
}

/// Files of an event; a system has the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventFile {
    Enable,
    Filter,
    Id,
    Format,
    Trigger,
    Hist,
}

/// Files that stand in the directory of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Readme,
    AvailableTracers,
    AvailableFilterFunctions,
    AvailableFilterFunctionsAddrs,
    CurrentTracer,
    TracingOn,
    Trace,
    TracePipe,
    TraceMarker,
    TraceMarkerRaw,
    TraceOptions,
    TraceClock,
    TracingCpumask,
    BufferSizeKb,
    BufferTotalSizeKb,
    SetFtraceFilter,
    SetFtraceNotrace,
    SetFtracePid,
    SetFtraceNotracePid,
    SetGraphFunction,
    SetGraphNotrace,
    MaxGraphDepth,
    TracingThresh,
    EnabledFunctions,
    TouchedFunctions,
    DynFtraceTotalInfo,
    Snapshot,
    ErrorLog,
    SavedCmdlines,
    SavedTgids,
    FunctionProfileEnabled,
    StackTrace,
    StackMaxSize,
    StackTraceFilter,
    StackTracerEnabled,
    AvailableEvents,
    SetEvent,
    SetEventPid,
    SetEventNotracePid,
    KprobeEvents,
    KprobeProfile,
    DynamicEvents,
    Kallsyms,
    BufferSubbufSizeKb,
}

/// Files of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneFile {
    Trace,
    TracePipe,
    Stats,
    BufferSizeKb,
    Snapshot,
    StackTrace,
    StackMaxSize,
}

use File as F;

const READ: u32 = 0o440;
const WRITE: u32 = 0o220;
const BOTH: u32 = 0o640;

/// Names, files, permissions, and whether instances have them, too.
const FILES: [(&str, File, u32, bool); 44] = [
    ("README", F::Readme, READ, false),
    ("available_tracers", F::AvailableTracers, READ, true),
    ("available_filter_functions", F::AvailableFilterFunctions, READ, false),
    ("available_filter_functions_addrs", F::AvailableFilterFunctionsAddrs, READ, false),
    ("current_tracer", F::CurrentTracer, BOTH, true),
    ("tracing_on", F::TracingOn, BOTH, true),
    ("trace", F::Trace, BOTH, true),
    ("trace_pipe", F::TracePipe, READ, true),
    ("trace_marker", F::TraceMarker, WRITE, true),
    ("trace_marker_raw", F::TraceMarkerRaw, WRITE, true),
    ("trace_options", F::TraceOptions, BOTH, true),
    ("trace_clock", F::TraceClock, BOTH, true),
    ("tracing_cpumask", F::TracingCpumask, BOTH, true),
    ("buffer_size_kb", F::BufferSizeKb, BOTH, true),
    ("buffer_total_size_kb", F::BufferTotalSizeKb, READ, true),
    ("buffer_subbuf_size_kb", F::BufferSubbufSizeKb, BOTH, true),
    ("set_ftrace_filter", F::SetFtraceFilter, BOTH, true),
    ("set_ftrace_notrace", F::SetFtraceNotrace, BOTH, true),
    ("set_ftrace_pid", F::SetFtracePid, BOTH, true),
    ("set_ftrace_notrace_pid", F::SetFtraceNotracePid, BOTH, true),
    ("set_graph_function", F::SetGraphFunction, BOTH, false),
    ("set_graph_notrace", F::SetGraphNotrace, BOTH, false),
    ("max_graph_depth", F::MaxGraphDepth, BOTH, false),
    ("tracing_thresh", F::TracingThresh, BOTH, false),
    ("enabled_functions", F::EnabledFunctions, READ, false),
    ("touched_functions", F::TouchedFunctions, READ, false),
    ("dyn_ftrace_total_info", F::DynFtraceTotalInfo, READ, false),
    ("snapshot", F::Snapshot, BOTH, true),
    ("error_log", F::ErrorLog, BOTH, true),
    ("saved_cmdlines", F::SavedCmdlines, READ, false),
    ("saved_tgids", F::SavedTgids, READ, false),
    ("function_profile_enabled", F::FunctionProfileEnabled, BOTH, false),
    ("stack_trace", F::StackTrace, READ, false),
    ("stack_max_size", F::StackMaxSize, BOTH, false),
    ("stack_trace_filter", F::StackTraceFilter, BOTH, false),
    // The kernel's is in /proc/sys/kernel.
    ("stack_tracer_enabled", F::StackTracerEnabled, BOTH, false),
    ("available_events", F::AvailableEvents, READ, true),
    ("set_event", F::SetEvent, BOTH, true),
    ("set_event_pid", F::SetEventPid, BOTH, true),
    ("set_event_notrace_pid", F::SetEventNotracePid, BOTH, true),
    ("kprobe_events", F::KprobeEvents, BOTH, false),
    ("kprobe_profile", F::KprobeProfile, READ, false),
    ("dynamic_events", F::DynamicEvents, BOTH, false),
    // The kernel's is /proc/kallsyms.
    ("kallsyms", F::Kallsyms, READ, false),
];

const LANE_FILES: [(&str, LaneFile, u32); 7] = [
    ("trace", LaneFile::Trace, BOTH),
    ("trace_pipe", LaneFile::TracePipe, READ),
    ("stats", LaneFile::Stats, READ),
    ("buffer_size_kb", LaneFile::BufferSizeKb, BOTH),
    ("snapshot", LaneFile::Snapshot, BOTH),
    // Not in the kernel: the deepest stack of one thread.
    ("stack_trace", LaneFile::StackTrace, READ),
    ("stack_max_size", LaneFile::StackMaxSize, READ),
];

const EVENTS_FILES: [(&str, EventsFile, u32); 3] = [
    ("enable", EventsFile::Enable, BOTH),
    ("header_page", EventsFile::HeaderPage, READ),
    ("header_event", EventsFile::HeaderEvent, READ),
];

const EVENT_FILES: [(&str, EventFile, u32); 6] = [
    ("enable", EventFile::Enable, BOTH),
    ("filter", EventFile::Filter, BOTH),
    ("id", EventFile::Id, READ),
    ("format", EventFile::Format, READ),
    ("trigger", EventFile::Trigger, BOTH),
    ("hist", EventFile::Hist, READ),
];

/// Those of a system.
const SYSTEM_FILES: usize = 2;

/// Which instance a path lies in, and what is left of the path: `None` for the top.
pub(crate) fn split_instance(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("instances/") else { return (None, path) };
    let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
    (Some(name), rest)
}

impl Node {
    /// What a path in an instance's directory names; `lanes` is how many lanes there are.
    pub(crate) fn parse(path: &str, top: bool, lanes: usize, events: &Events) -> Option<Self> {
        let mut parts = path.split('/');
        let first = parts.next().unwrap_or("");
        let rest: Vec<&str> = parts.collect();
        match (first, rest.as_slice()) {
            ("", []) => Some(Self::Root),
            ("options", []) => Some(Self::Options),
            ("options", [name]) => options::named(name).map(Self::Option),
            ("instances", []) if top => Some(Self::Instances),
            ("trace_stat", []) if top => Some(Self::TraceStat),
            ("trace_stat", [name]) if top => {
                let lane = name.strip_prefix("function")?.parse().ok()?;
                (lane < lanes).then_some(Self::Stat(lane))
            }
            ("events", rest) => Self::parse_event(rest, events),
            ("per_cpu", []) => Some(Self::PerCpu),
            ("per_cpu", [lane, rest @ ..]) => {
                let lane = lane.strip_prefix("cpu")?.parse().ok().filter(|&lane| lane < lanes)?;
                match rest {
                    [] => Some(Self::Lane(lane)),
                    [name] => {
                        let file = LANE_FILES.iter().find(|(other, ..)| other == name)?;
                        Some(Self::LaneFile(lane, file.1))
                    }
                    _ => None,
                }
            }
            (name, []) => {
                let found = FILES.iter().find(|(other, ..)| *other == name);
                found.filter(|(.., everywhere)| top || *everywhere).map(|it| Self::Plain(it.1))
            }
            _ => None,
        }
    }

    fn parse_event(rest: &[&str], events: &Events) -> Option<Self> {
        let file = |name: &str| EVENT_FILES.iter().find(|(other, ..)| *other == name);
        match *rest {
            [] => Some(Self::Events),
            [name] => {
                let own = EVENTS_FILES.iter().find(|(other, ..)| *other == name);
                let system = || {
                    let found = events.iter().find(|event| event.system == name)?;
                    Some(Self::System(found.system.clone()))
                };
                own.map(|it| Self::EventsFile(it.1)).or_else(system)
            }
            [system, name] => {
                let own = EVENT_FILES[..SYSTEM_FILES].iter().find(|(other, ..)| *other == name);
                let in_system = own.filter(|_| events.systems().contains(&system));
                let system_file = in_system.map(|it| Self::SystemFile(system.to_owned(), it.1));
                system_file.or_else(|| Some(Self::Event(events.named(system, name)?.id)))
            }
            [system, name, last] => {
                Some(Self::EventFile(events.named(system, name)?.id, file(last)?.1))
            }
            _ => None,
        }
    }

    /// The name of a file.
    pub(crate) fn name(&self) -> String {
        let found = match self {
            Self::Plain(file) => FILES.iter().find(|(_, other, ..)| other == file).map(|it| it.0),
            Self::Option(_) => Some("options"),
            Self::EventFile(_, file) | Self::SystemFile(_, file) => {
                EVENT_FILES.iter().find(|(_, other, _)| other == file).map(|it| it.0)
            }
            Self::EventsFile(_) => Some("events"),
            Self::LaneFile(_, file) => {
                LANE_FILES.iter().find(|(_, other, _)| other == file).map(|it| it.0)
            }
            _ => None,
        };
        found.unwrap_or("tracefs").to_owned()
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Root | Self::Options | Self::PerCpu | Self::Lane(_) => Kind::Directory,
            Self::Instances | Self::TraceStat => Kind::Directory,
            Self::Events | Self::System(_) | Self::Event(_) => Kind::Directory,
            Self::EventsFile(EventsFile::Enable) => Kind::File(BOTH),
            Self::EventsFile(_) => Kind::File(READ),
            Self::EventFile(_, file) | Self::SystemFile(_, file) => {
                let found = EVENT_FILES.iter().find(|(_, other, _)| other == file);
                Kind::File(found.map_or(READ, |(.., mode)| *mode))
            }
            Self::Option(_) => Kind::File(BOTH),
            Self::Stat(_) => Kind::File(READ),
            Self::Plain(file) => {
                let found = FILES.iter().find(|(_, other, ..)| other == file);
                Kind::File(found.map_or(READ, |(_, _, mode, _)| *mode))
            }
            Self::LaneFile(_, file) => {
                let found = LANE_FILES.iter().find(|(_, other, _)| other == file);
                Kind::File(found.map_or(READ, |(.., mode)| *mode))
            }
        }
    }

    /// Names in a directory, without those that come and go.
    pub(crate) fn names(&self, top: bool, lanes: usize, events: &Events) -> Vec<String> {
        let owned = |name: &str| name.to_owned();
        match self {
            Self::Root => {
                let files = FILES.iter().filter(|(.., everywhere)| top || *everywhere);
                let mut names: Vec<String> = files.map(|(name, ..)| owned(name)).collect();
                names.extend(["options", "per_cpu", "events"].map(owned));
                if top {
                    names.extend(["instances", "trace_stat"].map(owned));
                }
                names
            }
            Self::Options => options::OPTIONS.iter().map(|(_, name, _)| owned(name)).collect(),
            Self::TraceStat => (0..lanes).map(|lane| format!("function{lane}")).collect(),
            Self::Events => {
                let files = EVENTS_FILES.iter().map(|(name, ..)| *name);
                files.chain(events.systems()).map(owned).collect()
            }
            Self::System(system) => {
                let files = EVENT_FILES[..SYSTEM_FILES].iter().map(|(name, ..)| owned(name));
                let inside = events.iter().filter(|event| event.system == *system);
                files.chain(inside.map(|event| event.name.clone())).collect()
            }
            Self::Event(_) => EVENT_FILES.iter().map(|(name, ..)| owned(name)).collect(),
            Self::PerCpu => (0..lanes).map(|lane| format!("cpu{lane}")).collect(),
            Self::Lane(_) => LANE_FILES.iter().map(|(name, ..)| owned(name)).collect(),
            _ => Vec::new(),
        }
    }
}
