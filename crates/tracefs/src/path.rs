//! Paths in the tree: which file or directory a path names.

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
const FILES: [(&str, File, u32, bool); 35] = [
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

/// Which instance a path lies in, and what is left of the path: `None` for the top.
pub(crate) fn split_instance(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("instances/") else { return (None, path) };
    let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
    (Some(name), rest)
}

impl Node {
    /// What a path in an instance's directory names; `lanes` is how many lanes there are.
    pub(crate) fn parse(path: &str, top: bool, lanes: usize) -> Option<Self> {
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

    /// The name of a file.
    pub(crate) fn name(&self) -> String {
        let found = match self {
            Self::Plain(file) => FILES.iter().find(|(_, other, ..)| other == file).map(|it| it.0),
            Self::Option(_) => Some("options"),
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
    pub(crate) fn names(&self, top: bool, lanes: usize) -> Vec<String> {
        let owned = |name: &str| name.to_owned();
        match self {
            Self::Root => {
                let files = FILES.iter().filter(|(.., everywhere)| top || *everywhere);
                let mut names: Vec<String> = files.map(|(name, ..)| owned(name)).collect();
                names.extend(["options", "per_cpu"].map(owned));
                if top {
                    names.extend(["instances", "trace_stat"].map(owned));
                }
                names
            }
            Self::Options => options::OPTIONS.iter().map(|(_, name, _)| owned(name)).collect(),
            Self::TraceStat => (0..lanes).map(|lane| format!("function{lane}")).collect(),
            Self::PerCpu => (0..lanes).map(|lane| format!("cpu{lane}")).collect(),
            Self::Lane(_) => LANE_FILES.iter().map(|(name, ..)| owned(name)).collect(),
            _ => Vec::new(),
        }
    }
}
