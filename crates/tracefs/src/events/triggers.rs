//! `trigger`: what is written there.

use super::fields::Fields;
use super::filter::{Filter, FilterError};
use super::hist::{Change, Histogram};
use super::state::{Trigger, TriggerAction};
use crate::errno::Errno;
use crate::functions::Functions;
use crate::words::parse_number;

/// What is wrong with a trigger: where that comes from, what and where.
#[derive(Debug)]
pub(super) struct TriggerError {
    pub(super) errno: Errno,
    pub(super) said: Option<(&'static str, &'static str, usize)>,
}

impl From<Errno> for TriggerError {
    fn from(errno: Errno) -> Self {
        Self { errno, said: None }
    }
}

/// A command for the file.
#[derive(Debug)]
pub(super) enum Command {
    Add(Trigger),
    Remove(TriggerAction),
    /// Of the histogram that is the same.
    Change(Box<Histogram>, Change),
}

/// Reads a line.
pub(super) fn parse(
    line: &str,
    fields: &Fields<'_>,
    functions: &Functions,
) -> Result<Command, TriggerError> {
    let (head, condition) = split_condition(line);
    let (remove, head) = head.strip_prefix('!').map_or((false, head), |rest| (true, rest));
    let (name, parameters) = head.split_once(':').map_or((head, None), |(a, b)| (a, Some(b)));
    if name == "hist" {
        return histogram(line, parameters, condition, remove, fields, functions);
    }
    let (action, count) = simple(name, parameters)?;
    if remove {
        return Ok(Command::Remove(action));
    }
    let left = match count {
        None => None,
        Some(count) => Some(parse_number(count).ok_or(Errno::Invalid)?),
    };
    let condition = read_condition(condition, fields, functions)?;
    Ok(Command::Add(Trigger { action, left, condition }))
}

fn simple<'a>(
    name: &str,
    parameters: Option<&'a str>,
) -> Result<(TriggerAction, Option<&'a str>), Errno> {
    Ok(match name {
        "traceon" => (TriggerAction::Trace { on: true }, parameters),
        "traceoff" => (TriggerAction::Trace { on: false }, parameters),
        "snapshot" => (TriggerAction::Snapshot, parameters),
        "stacktrace" => (TriggerAction::StackTrace, parameters),
        "enable_event" | "disable_event" => {
            let mut parts = parameters.ok_or(Errno::Invalid)?.splitn(3, ':');
            let (system, event) = (parts.next(), parts.next());
            let (Some(system), Some(event)) = (system, event) else { return Err(Errno::Invalid) };
            let (system, event) = (system.to_owned(), event.to_owned());
            let on = name == "enable_event";
            (TriggerAction::Event { on, system, event }, parts.next())
        }
        _ => return Err(Errno::Invalid),
    })
}

/// What stands behind ` if `.
fn split_condition(line: &str) -> (&str, Option<(&str, usize)>) {
    match line.find(" if ") {
        Some(at) => (line[..at].trim_end(), Some((&line[at + 4..], at + 4))),
        None => (line.trim_end(), None),
    }
}

fn read_condition(
    condition: Option<(&str, usize)>,
    fields: &Fields<'_>,
    functions: &Functions,
) -> Result<Option<Filter>, TriggerError> {
    let Some((text, start)) = condition else { return Ok(None) };
    let failed = |FilterError { error, at }| TriggerError {
        errno: Errno::Invalid,
        said: Some(("event filter parse error", error, start + at)),
    };
    Filter::parse(text, fields, functions).map(Some).map_err(failed)
}

fn histogram(
    line: &str,
    parameters: Option<&str>,
    condition: Option<(&str, usize)>,
    remove: bool,
    fields: &Fields<'_>,
    functions: &Functions,
) -> Result<Command, TriggerError> {
    let parameters = parameters.ok_or(Errno::Invalid)?;
    let start = line.find(parameters).unwrap_or(0);
    let (hist, change) = Histogram::parse(parameters, start, fields).map_err(|trouble| {
        TriggerError { errno: Errno::Invalid, said: Some(("hist", trouble.error, trouble.at)) }
    })?;
    if remove {
        return Ok(Command::Remove(TriggerAction::Hist(Box::new(hist))));
    }
    let condition = read_condition(condition, fields, functions)?;
    match change {
        Some(change) => Ok(Command::Change(Box::new(hist), change)),
        None => {
            let action = TriggerAction::Hist(Box::new(hist));
            Ok(Command::Add(Trigger { action, left: None, condition }))
        }
    }
}
