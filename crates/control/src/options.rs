//! What is asked of a recording, and what it answers.

use crate::plan::Scope;
use sledge_filter::{FilterSpec, Pattern};
use sledge_trace::Storage;
use sledge_trace::event::Outcome;
use sledge_wire::segment::Full;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What to record, and how.
#[derive(Debug)]
pub struct Options<'a> {
    /// The program and its arguments.
    pub words: &'a [OsString],
    /// Where the trace goes.
    pub output: &'a Path,
    /// The agent: the shared object that is preloaded.
    pub agent: &'static [u8],
    /// Which functions of libraries are traced.
    pub scope: Scope,
    /// Patch only functions that match one of these; all where empty.
    pub patch: Vec<Pattern>,
    /// What of the calls is kept.
    pub filter: FilterSpec,
    /// Whether forked children and executed programs are traced.
    pub follow: bool,
    /// Whether sites can have probes that take values: each call then asks whether its site has.
    pub probes: bool,
    /// Bytes of a thread's ring, rounded up to a power of two.
    pub ring_bytes: u64,
    /// What threads do when their ring is full.
    pub full: Full,
    /// How much of the trace is kept, and how.
    pub storage: Storage,
    /// For how long to record; the program goes on afterwards.
    pub time_limit: Option<Duration>,
}

/// What a recording is busy with, for a progress line.
#[derive(Clone, Debug)]
pub enum Progress {
    /// Reading the symbols and code of an object.
    Reading(PathBuf),
    /// Emptying rings after the program ended.
    Draining(u64),
}

/// Functions of an object that could not be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraceable {
    /// The object's file name.
    pub module: String,
    /// How many functions were wanted there.
    pub wanted: usize,
    /// How many of them are not traced.
    pub refused: usize,
}

/// How a recording went.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// How the program ended.
    pub outcome: Outcome,
    /// Calls recorded, before filters.
    pub calls: u64,
    /// Threads seen.
    pub threads: u32,
    /// Events lost.
    pub lost: u64,
    /// Sites patched in all images.
    pub patched: u64,
    /// Objects with functions that are not traced.
    pub untraceable: Vec<Untraceable>,
    /// What went wrong without ending the recording.
    pub warnings: Vec<String>,
}
