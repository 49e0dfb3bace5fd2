//! What can be typed. Each command's module turns it into what is meant.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sledge_analyse::{By, Column, Field, Format, SortKey};
use sledge_filter::{FilterSpec, Pattern, Syntax, parse_duration, parse_size};
use sledge_trace::event::Nanos;

use crate::failure::Failure;
use crate::generate::Generate;

/// Trace the function calls of a program
///
/// Without a command, PROGRAM is run, its calls are recorded, and then shown as nested code.
/// The program need not be rebuilt nor have debug information, and behaves as it does untraced.
#[derive(Debug, Parser)]
#[command(
    name = "sledge",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    override_usage = USAGE
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    /// Print the man page or the completions of a shell
    #[arg(long, value_name = "WHAT", hide = true, exclusive = true)]
    pub(crate) generate: Option<Generate>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// How the command is used, in two lines.
pub(crate) const USAGE: &str = "sledge [OPTIONS] PROGRAM [ARGS]...\n       sledge [OPTIONS] -p PID\n       sledge COMMAND [OPTIONS]";

/// The commands; any other first word is a program to run.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Command {
    /// Run a program, or watch a running one, and keep a trace of its calls
    #[command(
        override_usage = "sledge record [OPTIONS] PROGRAM [ARGS]...\n       sledge record [OPTIONS] -p PID"
    )]
    Record(RecordArgs),
    /// Change what is traced of a process while it is traced
    Ctl(CtlArgs),
    /// Serve those who watch a process
    #[command(name = sledge_hub::HUB_COMMAND, hide = true)]
    Hub(HubArgs),
    /// Show the calls of a trace as nested code
    Replay(ReplayArgs),
    /// Show where the time went, by function
    Report(ReportArgs),
    /// Show who calls what: the whole tree of calls, or the callers and callees of a function
    Graph(GraphArgs),
    /// Draw where the time went, as a flame graph
    Flame(FlameArgs),
    /// Show the slowest calls of a function, each with all that happened within it
    Latency(LatencyArgs),
    /// Show which processes and threads there were
    Tree(TreeArgs),
    /// Write a trace for other programs to read
    Dump(DumpArgs),
    /// Turn a trace into another tool's format
    Export(ExportArgs),
    /// Show which functions of a file can be traced, and why the others cannot
    Sites(SitesArgs),
    /// Run a program and drive it as ftrace: with the files of tracefs, in a directory
    #[command(override_usage = "sledge mount [OPTIONS] DIR -- PROGRAM [ARGS]...")]
    Mount(MountArgs),
}

/// `sledge PROGRAM`.
#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    #[command(flatten)]
    pub(crate) record: RecordArgs,
    #[command(flatten)]
    pub(crate) look: LookArgs,
    #[command(flatten)]
    pub(crate) screen: ScreenArgs,
}

/// `sledge record PROGRAM`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Write the trace to FILE; an existing one becomes FILE.old [default: trace.sledge]
    #[arg(short, long, value_name = "FILE", help_heading = RECORDING)]
    pub(crate) output: Option<PathBuf>,
    /// Trace the inside of libraries too
    #[arg(short, long, help_heading = RECORDING)]
    pub(crate) libs: bool,
    /// Do not trace the library functions that the program calls
    #[arg(long, conflicts_with = "libs", help_heading = RECORDING)]
    pub(crate) no_libcall: bool,
    /// Trace forked children too
    #[arg(long, value_name = "WHETHER", default_value = "on", help_heading = RECORDING)]
    pub(crate) follow: Switch,
    /// Buffer SIZE of memory for each thread (64k, 4M, …)
    #[arg(short, long, value_name = "SIZE", default_value = "4M", value_parser = parse_size,
          help_heading = RECORDING)]
    pub(crate) buffer: u64,
    /// When a buffer is full: let the thread wait, or drop events and count them
    #[arg(long, value_name = "WHAT", default_value = "wait", help_heading = RECORDING)]
    pub(crate) full: Full,
    /// Stop recording when the trace has SIZE; with --max-files, go on in another file
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = RECORDING)]
    pub(crate) max_size: Option<u64>,
    /// Keep the last COUNT files of --max-size each: FILE, FILE.1, …
    #[arg(long, value_name = "COUNT", requires = "max_size", help_heading = RECORDING,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_files: Option<u32>,
    /// Keep the last SIZE of events in memory, and write them when the program ends, however it
    /// does, or when sledge gets SIGUSR1
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "max_size",
          help_heading = RECORDING)]
    pub(crate) flight_recorder: Option<u64>,
    /// Stop recording after TIME; the program goes on
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration,
          help_heading = RECORDING)]
    pub(crate) time_limit: Option<Nanos>,
    /// Whether to compress the trace
    #[arg(long, value_name = "WHETHER", default_value = "on", help_heading = RECORDING)]
    pub(crate) compress: Switch,
    /// Patch only functions that match PATTERN: the others cost nothing
    #[arg(short = 'P', long, value_name = "PATTERN", help_heading = RECORDING)]
    pub(crate) patch: Vec<String>,
    #[command(flatten)]
    pub(crate) running: RunningArgs,
    /// The program to run, and its arguments
    #[arg(value_name = "PROGRAM", required_unless_present_any = ["pid", "comm"],
          conflicts_with_all = ["pid", "comm"], trailing_var_arg = true,
          allow_hyphen_values = true, value_hint = clap::ValueHint::CommandWithArguments)]
    pub(crate) program: Vec<OsString>,
}

/// Processes that run already.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunningArgs {
    /// Trace the running process PID instead of a new program; may be given several times
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..),
          help_heading = RUNNING)]
    pub(crate) pid: Vec<i32>,
    /// Trace the running processes of this name
    #[arg(long, value_name = "NAME", help_heading = RUNNING)]
    pub(crate) comm: Option<String>,
}

const RUNNING: &str = "Running processes";
const RECORDING: &str = "Recording";
const FILTERS: &str = "Filters (alike when recording and when reading)";
const PART: &str = "Part of the trace";
const LOOK: &str = "Look";

/// An option that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// What a thread does when its buffer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Full {
    Wait,
    Drop,
}

/// How patterns are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Match {
    #[default]
    Regex,
    Glob,
}

/// Which calls: the same letters when recording and when reading.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only functions that match PATTERN (NAME, or NAME@MODULE) and what they call
    #[arg(short = 'F', long, value_name = "PATTERN", help_heading = FILTERS)]
    pub(crate) filter: Vec<String>,
    /// Not functions that match PATTERN, nor what they call
    #[arg(short = 'N', long, value_name = "PATTERN", help_heading = FILTERS)]
    pub(crate) notrace: Vec<String>,
    /// Only calls that lead to functions that match PATTERN
    #[arg(short = 'C', long, value_name = "PATTERN", help_heading = FILTERS)]
    pub(crate) caller: Vec<String>,
    /// Not functions that match PATTERN, but what they call
    #[arg(short = 'H', long, value_name = "PATTERN", help_heading = FILTERS)]
    pub(crate) hide: Vec<String>,
    /// Only so many levels of calls
    #[arg(short = 'D', long, value_name = "LEVELS", help_heading = FILTERS)]
    pub(crate) depth: Option<u32>,
    /// Only calls that take at least TIME (10us, 1ms, …)
    #[arg(short = 't', long, value_name = "TIME", value_parser = parse_duration,
          help_heading = FILTERS)]
    pub(crate) time: Option<Nanos>,
    /// How a PATTERN is written
    #[arg(long = "match", value_name = "SYNTAX", default_value = "regex", help_heading = FILTERS)]
    pub(crate) syntax: Match,
    /// Only threads with these ids
    #[arg(long, value_name = "TID", value_delimiter = ',', help_heading = FILTERS)]
    pub(crate) tid: Vec<u32>,
}

/// Which trace.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct InputArgs {
    /// Read the trace in FILE
    #[arg(short, long, value_name = "FILE", default_value = "trace.sledge")]
    pub(crate) input: PathBuf,
    /// Only from TIME on, counted from the beginning of the trace (1.5s, 300ms, …)
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = PART)]
    pub(crate) from: Option<Nanos>,
    /// Only up to TIME
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = PART)]
    pub(crate) to: Option<Nanos>,
    /// Only threads with a name that matches PATTERN
    #[arg(long, value_name = "PATTERN", help_heading = PART)]
    pub(crate) thread: Vec<String>,
    /// Only processes with these ids
    #[arg(long, value_name = "PID", value_delimiter = ',', help_heading = PART)]
    pub(crate) pid: Vec<u32>,
}

/// How names are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Demangle {
    /// Without parameters
    Simple,
    /// All of it
    Full,
    /// As the symbol table has it
    No,
}

/// How names are shown.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct NameArgs {
    /// How C++ and Rust names are shown
    #[arg(long, value_name = "HOW", default_value = "simple", help_heading = LOOK)]
    pub(crate) demangle: Demangle,
}

/// How nested code looks.
#[derive(Clone, Debug, Args)]
pub(crate) struct LookArgs {
    // The path in full: clap takes a plain `Vec` for an option given several times.
    /// Show these columns: duration, tid, time, delta, elapsed, module, comm; +FIELD adds one,
    /// none shows none
    #[arg(short, long, value_name = "FIELDS", value_parser = Field::parse_list,
          help_heading = LOOK)]
    pub(crate) fields: Option<::std::vec::Vec<Field>>,
    #[command(flatten)]
    pub(crate) names: NameArgs,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    Auto,
    Always,
    Never,
}

/// Where text for people goes.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ScreenArgs {
    /// When to colour the output
    #[arg(long = "color", value_name = "WHEN", default_value = "auto", help_heading = LOOK)]
    pub(crate) colour: Colour,
    /// Do not show the output in a pager
    #[arg(long, help_heading = LOOK)]
    pub(crate) no_pager: bool,
}

/// `sledge ctl`.
#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    /// The process
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    /// Which client is meant, by its number in the status; needed where there are several
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    pub(crate) client: u32,
    #[command(subcommand)]
    pub(crate) what: Ctl,
}

/// What can be asked of a process that is traced.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Ctl {
    /// Trace only functions that match PATTERN; all, without one
    Filter {
        /// Names, or NAME@MODULE
        #[arg(value_name = "PATTERN")]
        patterns: Vec<String>,
    },
    /// Do not trace functions that match PATTERN
    Notrace {
        /// Names, or NAME@MODULE
        #[arg(value_name = "PATTERN")]
        patterns: Vec<String>,
    },
    /// Go on recording
    On,
    /// Record nothing for the time being
    Off,
    /// Show who traces what
    Status,
    /// List the functions that can be traced
    Functions {
        /// Only those that match
        #[arg(value_name = "PATTERN", default_value = "", hide_default_value = true)]
        pattern: String,
    },
    /// Write what was recorded so far to the trace
    Snapshot,
}

/// The hidden command behind a hub.
#[derive(Debug, Args)]
pub(crate) struct HubArgs {
    /// The process
    pub(crate) pid: i32,
    /// Bytes of a ring
    pub(crate) ring: u64,
    /// What happens when one is full
    pub(crate) full: Full,
}

/// Where a command writes.
#[derive(Clone, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write to FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `sledge replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) look: LookArgs,
    /// How to write it: json and csv have a row for each call that ended
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) screen: ScreenArgs,
}

/// How an analysis is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    Text,
    Json,
    Csv,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Json => Self::Json,
            FormatArg::Csv => Self::Csv,
        }
    }
}

/// What a row of a report stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ByArg {
    Function,
    Module,
    Thread,
    Source,
}

impl From<ByArg> for By {
    fn from(by: ByArg) -> Self {
        match by {
            ByArg::Function => Self::Function,
            ByArg::Module => Self::Module,
            ByArg::Thread => Self::Thread,
            ByArg::Source => Self::Source,
        }
    }
}

/// `sledge report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Sort by these: total, self, call, avg, min, max, func
    #[arg(short, long, value_name = "KEYS", value_parser = SortKey::parse_list)]
    pub(crate) sort: Option<::std::vec::Vec<SortKey>>,
    /// Show these columns: total, self, call, avg, min, max, p50, p90, p95, p99, p999, module;
    /// +FIELD adds one
    #[arg(short, long, value_name = "FIELDS", value_parser = Column::parse_list)]
    pub(crate) fields: Option<::std::vec::Vec<Column>>,
    /// What a row stands for
    #[arg(long, value_name = "WHAT", default_value = "function")]
    pub(crate) by: ByArg,
    /// Compare the traces A with the traces B (each one FILE, or several: FILE,FILE…), and say
    /// which differences are within the noise
    #[arg(long, value_names = ["A", "B"], num_args = 2, conflicts_with_all = ["input", "fields"])]
    pub(crate) diff: Vec<String>,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) names: NameArgs,
    #[command(flatten)]
    pub(crate) screen: ScreenArgs,
}

/// How a dump is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DumpFormat {
    /// One JSON object a line
    Jsonl,
}

/// `sledge dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    pub(crate) format: DumpFormat,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) names: NameArgs,
}

/// What a trace is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// Perfetto's protobuf: ui.perfetto.dev, trace_processor
    Perfetto,
    /// Chrome's trace events in JSON: many viewers
    Chrome,
    /// For speedscope.app
    Speedscope,
    /// Folded stacks with nanoseconds: flamegraph.pl, inferno
    Folded,
    /// pprof's profile: go tool pprof, and who reads the same
    Pprof,
    /// Who calls whom, for Graphviz
    Graphviz,
    /// Who calls whom, for Mermaid: what took most time of it
    Mermaid,
    /// A directory in the Common Trace Format 1.8: babeltrace2, Trace Compass
    Ctf,
    /// A directory of tables: DuckDB, Spark, Trino, ClickHouse
    Parquet,
}

/// `sledge export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// What to turn it into
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: ExportFormat,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    #[command(flatten)]
    pub(crate) names: NameArgs,
}

/// How coverage is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SitesFormat {
    Text,
    Json,
}

/// `sledge sites`.
#[derive(Debug, Args)]
pub(crate) struct SitesArgs {
    /// The program or library to look at; a bare name is looked up in PATH
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Explain how FUNCTION (a name, or an address as 0x1234) can be traced, or why it cannot
    #[arg(long, value_name = "FUNCTION")]
    pub(crate) explain: Option<String>,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: SitesFormat,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) names: NameArgs,
    #[command(flatten)]
    pub(crate) screen: ScreenArgs,
}

/// `sledge mount`.
#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// Trace the inside of libraries too
    #[arg(short, long)]
    pub(crate) libs: bool,
    /// Do not trace the library functions that the program calls
    #[arg(long, conflicts_with = "libs")]
    pub(crate) no_libcall: bool,
    /// Buffer SIZE of memory for each thread, between the program and the tree (64k, 4M, …)
    #[arg(short, long, value_name = "SIZE", default_value = "4M", value_parser = parse_size)]
    pub(crate) buffer: u64,
    /// Patch only functions that match PATTERN (a glob): the others cost nothing
    #[arg(short = 'P', long, value_name = "PATTERN")]
    pub(crate) patch: Vec<String>,
    /// The directory to mount at
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
    /// The program to run, and its arguments
    #[arg(value_name = "PROGRAM", required = true, last = true,
          value_hint = clap::ValueHint::CommandWithArguments)]
    pub(crate) program: Vec<OsString>,
}

impl RunningArgs {
    /// Whether no running process is meant.
    pub(crate) fn is_empty(&self) -> bool {
        self.pid.is_empty() && self.comm.is_none()
    }
}

impl FilterArgs {
    /// What the options mean.
    pub(crate) fn spec(&self) -> Result<FilterSpec, Failure> {
        Ok(FilterSpec {
            filter: self.patterns(&self.filter)?,
            notrace: self.patterns(&self.notrace)?,
            caller: self.patterns(&self.caller)?,
            hide: self.patterns(&self.hide)?,
            depth: self.depth,
            threshold: self.time,
        })
    }

    /// Patterns in the syntax that `--match` names.
    pub(crate) fn patterns(&self, texts: &[String]) -> Result<Vec<Pattern>, Failure> {
        let syntax = match self.syntax {
            Match::Regex => Syntax::Regex,
            Match::Glob => Syntax::Glob,
        };
        let pattern = |text: &String| Pattern::new(text, syntax);
        texts.iter().map(pattern).collect::<Result<_, _>>().map_err(|error| {
            Failure::misuse(
                error.to_string(),
                "a pattern is a regular expression, or with --match glob a glob",
            )
        })
    }
}

mod analyses;
pub(crate) use analyses::{FlameArgs, FlameFormatArg, GraphArgs, LatencyArgs, TreeArgs};

#[cfg(test)]
mod tests;
