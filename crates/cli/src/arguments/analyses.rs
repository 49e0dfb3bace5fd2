//! What can be typed to look at a trace in other ways than as code.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sledge_filter::parse_duration;
use sledge_trace::event::Nanos;

use super::{FilterArgs, FormatArg, InputArgs, LOOK, NameArgs, OutputArgs, ScreenArgs};

/// `sledge graph`.
#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    /// Show the callers and callees of functions that match PATTERN, not the whole tree
    #[arg(value_name = "PATTERN")]
    pub(crate) functions: Vec<String>,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Leave out what takes less than TIME in all
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0",
          help_heading = LOOK)]
    pub(crate) least: Nanos,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) names: NameArgs,
    #[command(flatten)]
    pub(crate) screen: ScreenArgs,
}

/// How a flame graph is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FlameFormatArg {
    /// A picture that a browser shows, searches and zooms
    Svg,
    /// A line for each stack, as other tools read it
    Folded,
    /// The same as folded
    Text,
    Json,
    Csv,
}

/// `sledge flame`.
#[derive(Debug, Args)]
pub(crate) struct FlameArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Colour by what takes longer (red) or less (blue) than in the trace BEFORE
    #[arg(long, value_name = "BEFORE")]
    pub(crate) diff: Option<PathBuf>,
    /// What to write above the picture [default: the program and its arguments]
    #[arg(long, value_name = "TEXT", help_heading = LOOK)]
    pub(crate) title: Option<String>,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "svg")]
    pub(crate) format: FlameFormatArg,
    #[command(flatten)]
    pub(crate) names: NameArgs,
}

/// `sledge latency`.
#[derive(Debug, Args)]
pub(crate) struct LatencyArgs {
    /// Look at functions that match PATTERN
    #[arg(value_name = "PATTERN", required = true)]
    pub(crate) functions: Vec<String>,
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Show so many of the slowest calls
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "3")]
    pub(crate) count: usize,
    /// Show how often each duration occurred, and no calls
    #[arg(long)]
    pub(crate) histogram: bool,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) names: NameArgs,
    #[command(flatten)]
    pub(crate) screen: ScreenArgs,
}

/// `sledge tree`.
#[derive(Debug, Args)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) input: InputArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: FormatArg,
    #[command(flatten)]
    pub(crate) screen: ScreenArgs,
}
