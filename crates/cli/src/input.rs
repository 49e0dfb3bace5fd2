//! The trace that a command reads, and which of its calls.

mod part;

use std::path::Path;

use sledge_analyse::module_name;
use sledge_discover::names::demangle;
use sledge_filter::{CallFilter, EventFilter, suggest};
use sledge_trace::error::{ReadError, ReplayError};
use sledge_trace::event::{Directory, FunctionId, Sink};
use sledge_trace::{Selection, Trace};

use crate::arguments::{Demangle, FilterArgs, InputArgs};
use crate::demangle::names;
use crate::failure::{Failure, say};

/// An open trace.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) trace: Trace,
    filter: CallFilter,
    selection: Selection,
}

impl Input {
    /// Opens the trace and applies the filters to its functions.
    pub(crate) fn open(input: &InputArgs, filter: &FilterArgs) -> anyhow::Result<Self> {
        let spec = filter.spec()?;
        let trace = Trace::open(&input.input).map_err(|error| unreadable(&input.input, &error))?;
        let mut calls = CallFilter::new(spec);
        let directory = trace.directory();
        let mut names = names(Demangle::Simple);
        for (id, function) in (0..).map(FunctionId).zip(&directory.functions) {
            let shown = names.of(directory, id);
            calls.learn(id, &[&function.name, shown], module_name(directory, id));
        }
        let unmatched: Vec<&str> = calls.unmatched().iter().map(|pattern| pattern.text()).collect();
        check_patterns(&unmatched, filter, directory, &input.input)?;
        let selection = Selection {
            range: part::range(input, &trace)?,
            threads: part::threads(input, filter, directory)?,
        };
        Ok(Self { trace, filter: calls, selection })
    }

    /// For each function, whether one of the patterns matches it; an error where none does.
    pub(crate) fn matching(
        &self,
        patterns: &[String],
        filter: &FilterArgs,
        file: &InputArgs,
    ) -> Result<Vec<bool>, Failure> {
        let directory = self.trace.directory();
        let parsed = filter.patterns(patterns)?;
        let mut names = names(Demangle::Simple);
        let functions = (0..).map(FunctionId).zip(&directory.functions);
        let matching: Vec<bool> = functions
            .map(|(id, function)| {
                let module = module_name(directory, id);
                let shown = names.of(directory, id);
                parsed.iter().any(|pattern| pattern.matches(&[&function.name, shown], module))
            })
            .collect();
        if matching.contains(&true) {
            return Ok(matching);
        }
        let first = patterns.first().map_or("", String::as_str);
        Err(no_function(first, directory, &file.input))
    }

    /// Gives the calls that pass to `sink`.
    pub(crate) fn events<S>(&self, sink: &mut S) -> anyhow::Result<()>
    where
        S: Sink,
        S::Error: std::error::Error + Send + Sync + 'static,
    {
        self.events_of(&self.selection, sink)
    }

    /// Gives the calls that pass of another part of the trace to `sink`.
    pub(crate) fn events_of<S>(&self, selection: &Selection, sink: &mut S) -> anyhow::Result<()>
    where
        S: Sink,
        S::Error: std::error::Error + Send + Sync + 'static,
    {
        let done = if self.filter.is_empty() {
            self.trace.events(selection, sink)
        } else {
            self.trace.events(selection, &mut EventFilter::new(&self.filter, sink))
        };
        done.map_err(|error| match error {
            ReplayError::Read(error) => {
                Failure::new(error.to_string(), "look after the disk that the trace is on").into()
            }
            ReplayError::Sink(error) => anyhow::Error::new(error).context("cannot write"),
        })
    }
}

/// What to do about a trace that cannot be read.
fn unreadable(path: &Path, error: &ReadError) -> Failure {
    let advice = match error {
        ReadError::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "record one with: sledge record PROGRAM, or name another with -i FILE"
        }
        ReadError::Open { .. } => "a trace can be read by the user who recorded it, or by root",
        ReadError::NotATrace { .. } => "name a file that sledge record has written with -i FILE",
        ReadError::WrongVersion { .. } => "read it with the sledge that recorded it",
        _ => "nothing of it can be shown; record again",
    };
    let text = error.to_string();
    let name = path.display().to_string();
    let what = if text.contains(&name) { text } else { format!("{name}: {text}") };
    Failure::new(what, advice)
}

/// A pattern that matches nothing is most likely mistyped: an error where nothing would be left
/// to show, else worth a word.
fn check_patterns(
    unmatched: &[&str],
    filter: &FilterArgs,
    directory: &Directory,
    path: &Path,
) -> Result<(), Failure> {
    let all_unmatched = |patterns: &[String]| {
        !patterns.is_empty() && patterns.iter().all(|text| unmatched.contains(&text.as_str()))
    };
    for patterns in [&filter.filter, &filter.caller] {
        if all_unmatched(patterns) {
            return Err(no_function(&patterns[0], directory, path));
        }
    }
    for pattern in unmatched {
        say(&no_function(pattern, directory, path).to_string());
    }
    Ok(())
}

fn no_function(pattern: &str, directory: &Directory, path: &Path) -> Failure {
    let name = path.display();
    let count = sledge_analyse::text::grouped(directory.functions.len() as u64);
    let names: Vec<_> = directory.functions.iter().map(|known| demangle(&known.name)).collect();
    let wanted = pattern.split('@').next().unwrap_or(pattern);
    let near = match suggest(wanted, names.iter().map(AsRef::as_ref)) {
        Some(near) => format!("did you mean '{near}'? "),
        None => String::new(),
    };
    let what = format!("no function matches '{pattern}' in {name} ({near}{count} functions)");
    Failure::new(what, "see which there are: sledge report")
}
