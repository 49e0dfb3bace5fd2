//! Exports recordings, and has them read by programs that are not ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::checks::Trouble;
use crate::run::{End, run, sledge, target_directory, tool};
use crate::trace::{Event, Kind};

/// One call, as everyone must see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Call {
    /// The thread.
    pub tid: u32,
    /// When it began: nanoseconds since the trace began.
    pub start: u64,
    /// How many calls of its thread's stack were open around it.
    pub depth: usize,
    /// The function.
    pub name: String,
    /// When it ended, or its thread did.
    pub end: u64,
}

#[derive(Debug)]
struct Open {
    name: String,
    start: u64,
    /// Its depth, as the dump has it: among the calls of all stacks.
    depth: usize,
}

#[derive(Debug, Default)]
struct Running {
    stacks: Vec<Vec<Open>>,
    current: usize,
}

/// The calls that a dump tells, in order.
///
/// # Errors
/// When they do not nest.
pub fn calls(events: &[Event]) -> Result<Vec<Call>, Trouble> {
    calls_with(events, |on_stack, _| on_stack)
}

/// The same, with their depths among the calls of all stacks of their thread.
///
/// # Errors
/// When they do not nest.
pub fn calls_across_stacks(events: &[Event]) -> Result<Vec<Call>, Trouble> {
    calls_with(events, |_, told| told)
}

fn calls_with(
    events: &[Event],
    choose: impl Fn(usize, usize) -> usize,
) -> Result<Vec<Call>, Trouble> {
    let mut threads: BTreeMap<(u32, u32), Running> = BTreeMap::new();
    let mut calls = Vec::new();
    for event in events {
        let running = threads.entry((event.pid, event.tid)).or_default();
        let (tid, at) = (event.tid, event.ts_ns);
        let wanted = running.current.max(event.stack) + 1;
        running.stacks.resize_with(wanted.max(running.stacks.len()), Vec::new);
        match event.kind {
            Kind::Entry => running.stacks[running.current].push(Open {
                name: event.func.clone(),
                start: at,
                depth: event.depth as usize,
            }),
            Kind::Exit => {
                let stack = &mut running.stacks[running.current];
                let Open { name, start, depth } = stack.pop().ok_or("an exit without an entry")?;
                if name != event.func || event.duration_ns.is_some_and(|took| took != at - start) {
                    return Err(format!("{} ended, {name} is open", event.func).into());
                }
                let depth = choose(stack.len(), depth);
                calls.push(Call { tid, start, depth, name, end: at });
            }
            Kind::Switch => running.current = event.stack,
            Kind::ThreadEnd => {
                for stack in std::mem::take(running).stacks {
                    for (on_stack, Open { name, start, depth }) in stack.into_iter().enumerate() {
                        let depth = choose(on_stack, depth);
                        calls.push(Call { tid, start, depth, name, end: at });
                    }
                }
            }
            Kind::Thread | Kind::Lost | Kind::Other => {}
        }
    }
    calls.sort();
    Ok(calls)
}

/// Exports `trace` beside itself, and says where.
///
/// # Errors
/// When that fails, or is not silent.
pub fn export(trace: &Path, format: &str) -> Result<PathBuf, Trouble> {
    let output = trace.with_extension(format);
    let mut command = sledge(["export", "--format", format, "-i"])?;
    command.arg(trace).arg("-o").arg(&output);
    let finished = run(command, b"")?;
    if finished.end == End::Exited(0) {
        return Ok(output);
    }
    Err(format!("sledge export: {:?}: {}", finished.end, finished.errors()).into())
}

/// What a reader said: the calls, in order, and its remarks.
#[derive(Debug, Default)]
pub struct Read {
    /// The calls.
    pub calls: Vec<Call>,
    /// Lines that begin with `#`, without it.
    pub remarks: Vec<String>,
}

/// Runs a script of `readers/`, in the environment that `scripts/test.sh` made.
///
/// # Errors
/// Skips where that lacks something; fails where the reader does.
pub fn read(script: &str, arguments: &[&Path]) -> Result<Read, Trouble> {
    let python = readers().join("venv/bin/python");
    if !python.is_file() {
        return Err(Trouble::Skip(format!("no Python with readers ({script}): scripts/test.sh")));
    }
    let mut command = Command::new(python);
    command.arg("-B").arg(scripts().join(script)).args(arguments);
    let text = said_by(script, command)?;
    let mut read = Read::default();
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(remark) => read.remarks.push(remark.to_owned()),
            None => {
                let (tid, name, start, end, depth) =
                    serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
                read.calls.push(Call { tid, start, depth, name, end });
            }
        }
    }
    read.calls.sort();
    Ok(read)
}

/// Runs a script of `readers/` by node, and gives its lines: JSON.
///
/// # Errors
/// Skips where node or a package is missing; fails where the reader does.
pub fn read_by_node(script: &str, arguments: &[&Path]) -> Result<Vec<Value>, Trouble> {
    let modules = node_modules("")?;
    let mut command = Command::new(tool("node")?);
    command.arg(scripts().join(script)).args(arguments).arg(&modules).env("NODE_PATH", &modules);
    let text = said_by(script, command)?;
    let parse = |line: &str| serde_json::from_str(line).map_err(|error| error.to_string().into());
    text.lines().map(parse).collect()
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("readers")
}

/// What a reader prints.
fn said_by(script: &str, command: Command) -> Result<String, Trouble> {
    let finished = run(command, b"")?;
    let said = finished.errors();
    let missing =
        ["ModuleNotFoundError", "Error: Cannot find module", "Error [ERR_MODULE_NOT_FOUND]"];
    let is_missing = |line: &&str| missing.iter().any(|error| line.starts_with(error));
    if let Some(missing) = said.lines().find(is_missing) {
        return Err(Trouble::Skip(format!("{script}: {missing}")));
    }
    if finished.end != End::Exited(0) {
        return Err(format!("{script}: {said}").into());
    }
    Ok(finished.text())
}

/// A file that an npm package brings.
///
/// # Errors
/// Skips where it is not there.
pub fn node_modules(file: &str) -> Result<PathBuf, Trouble> {
    let path = readers().join("node/node_modules").join(file);
    if path.exists() { Ok(path) } else { Err(Trouble::Skip(format!("{file} is not installed"))) }
}

fn readers() -> PathBuf {
    target_directory().join("readers")
}

/// Where the calls that were read are not those that were told.
///
/// # Errors
/// Tells the first difference.
pub fn first_difference(told: &[Call], read: &[Call]) -> Result<(), Trouble> {
    if let Some((told, read)) = told.iter().zip(read).find(|(told, read)| told != read) {
        return Err(format!("told {told:?}, read {read:?}").into());
    }
    if told.len() == read.len() {
        return Ok(());
    }
    Err(format!("{} calls told, {} read", told.len(), read.len()).into())
}
