//! What other programs read in exported recordings, against what `sledge dump` tells.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::Value;
use sledge_tests::{
    Call, Checks, End, Event, Invocation, Kind, PathSum, Read, Recording, Trouble, calls,
    calls_across_stacks, dump, edge_calls, export, first_difference, named, node_modules,
    path_sums, read, read_by_node, record, run, tool,
};

/// Threads, coroutines, exceptions, children, and ends in the middle.
const PROGRAMS: &[&str] = &[
    "threads4",
    "generator",
    "throw-O2",
    "fork",
    "vfork_exec",
    "sigjmp",
    "tail",
    "nest-O0",
    "deep-5000",
    "kill9",
    "exit-thread",
];

/// Bytes of a file that is validated.
const SMALL: u64 = 200_000;

/// A recording, and what is to be read of it.
struct Told {
    recording: Recording,
    events: Vec<Event>,
    calls: Vec<Call>,
}

fn told(program: &str) -> Result<Told, Trouble> {
    let recording = record(&Invocation::of(named(program))?, &[])?;
    if !matches!(recording.finished.end, End::Exited(_)) {
        return Err(recording.finished.errors().into());
    }
    let events = dump(&recording.trace)?;
    let calls = calls(&events)?;
    Ok(Told { recording, events, calls })
}

/// Exports the recording of each program, has it read, and compares call by call.
fn every_call_is_read(
    title: &'static str,
    format: &str,
    reader: impl Fn(&Path) -> Result<Read, Trouble>,
    more: impl Fn(&Told, &Read) -> Result<(), Trouble>,
) {
    let mut checks = Checks::new(title);
    for program in PROGRAMS {
        checks.case(&format!("{format}: {program}"), || {
            let told = told(program)?;
            let read = reader(&export(&told.recording.trace, format)?)?;
            first_difference(&told.calls, &read.calls)?;
            more(&told, &read)
        });
    }
    checks.finish();
}

/// Threads and processes that one of these is said to have made.
fn flows(read: &Read, maker: &str) -> usize {
    let made = format!("flow {maker} ");
    read.remarks.iter().filter(|remark| remark.starts_with(&made)).count()
}

/// A flow leads to each thread and process that a recorded call made.
fn flows_are_told(told: &Told, read: &Read) -> Result<(), Trouble> {
    let called = |name: &str| {
        told.events.iter().filter(|event| event.kind == Kind::Entry && event.func == name).count()
    };
    for maker in ["pthread_create", "fork"] {
        if flows(read, maker) != called(maker) {
            return Err(format!("{} of {} by {maker}", flows(read, maker), called(maker)).into());
        }
    }
    Ok(())
}

#[test]
fn perfetto() {
    let reader = |file: &Path| read("perfetto_calls.py", &[file]);
    every_call_is_read("Perfetto", "perfetto", reader, |told, read| {
        let lost: u64 = told.events.iter().map(|event| event.count).sum();
        if !read.remarks.contains(&format!("lost {lost}")) {
            return Err(format!("{lost} lost, but {:?}", read.remarks).into());
        }
        flows_are_told(told, read)
    });
}

#[test]
fn chrome() {
    let reader = |file: &Path| read("chrome_calls.py", &[file]);
    every_call_is_read("Chrome", "chrome", reader, flows_are_told);
}

#[test]
fn speedscope() {
    let reader = |file: &Path| {
        let schema = node_modules("speedscope/dist/release/file-format-schema.json")?;
        // The validator is slow: small files are enough for it.
        let small = file.metadata()?.len() < SMALL;
        let files = [file, &schema];
        read("speedscope_calls.py", &files[..if small { 2 } else { 1 }])
    };
    every_call_is_read("speedscope", "speedscope", reader, |_, _| Ok(()));
}

#[test]
fn ctf() {
    let reader = |file: &Path| {
        tool("babeltrace2")?;
        read("ctf_calls.py", &[file])
    };
    every_call_is_read("CTF", "ctf", reader, |_, _| Ok(()));
}

/// The document of queries.
fn queries() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/queries.md"))
}

#[test]
fn parquet() {
    let mut checks = Checks::new("Parquet");
    for program in PROGRAMS {
        checks.case(&format!("parquet: {program}"), || {
            let told = told(program)?;
            let tables = export(&told.recording.trace, "parquet")?;
            let read = read("parquet_calls.py", &[&tables])?;
            first_difference(&calls_across_stacks(&told.events)?, &read.calls)?;
            was_made_here(&read)
        });
    }
    checks.case("parquet: the queries of docs/queries.md", || {
        let told = told("threads4")?;
        let tables = export(&told.recording.trace, "parquet")?;
        let answers = read("parquet_calls.py", &[&tables, queries()])?.remarks;
        if answers.len() < 5 || answers.iter().any(|rows| rows == "rows 0") {
            return Err(format!("{answers:?}").into());
        }
        Ok(())
    });
    checks.finish();
}

/// A recording knows the machine and the time that it was made.
fn was_made_here(read: &Read) -> Result<(), Trouble> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let remark = |what: &str| read.remarks.iter().find_map(|remark| remark.strip_prefix(what));
    let began: u64 = remark("began ").and_then(|time| time.parse().ok()).unwrap_or(0);
    if remark("host ") != Some(host.trim_end()) || !(now - 3600..=now).contains(&began) {
        return Err(format!("{:?}, it is {now} at {host}", read.remarks).into());
    }
    Ok(())
}

/// Exports the recording of each program that stays on its stacks, and compares sums by path.
fn sums_are_read(
    title: &'static str,
    format: &str,
    programs: &[&str],
    check: impl Fn(&Path, &BTreeMap<Vec<String>, PathSum>) -> Result<(), Trouble>,
) {
    let mut checks = Checks::new(title);
    // Paths of deep recursions are cut.
    for program in programs.iter().filter(|program| !program.starts_with("deep")) {
        checks.case(&format!("{format}: {program}"), || {
            let told = told(program)?;
            let file = export(&told.recording.trace, format)?;
            match path_sums(&told.events) {
                Some(sums) => check(&file, &sums),
                None => Err(Trouble::Skip("it changes stacks: sums are not compared".into())),
            }
        });
    }
    checks.finish();
}

fn same<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
    told: &BTreeMap<K, V>,
    read: &BTreeMap<K, V>,
) -> Result<(), Trouble> {
    if let Some((key, value)) = told.iter().find(|(key, value)| read.get(key) != Some(value)) {
        return Err(format!("{key:?}: told {value:?}, read {:?}", read.get(key)).into());
    }
    match read.keys().find(|key| !told.contains_key(key)) {
        Some(more) => Err(format!("read {more:?}, which was not told").into()),
        None => Ok(()),
    }
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Trouble> {
    serde_json::from_value(value).map_err(|error| error.to_string().into())
}

#[test]
fn pprof() {
    sums_are_read("pprof", "pprof", PROGRAMS, |file, told| {
        let mut sums: BTreeMap<Vec<String>, PathSum> = BTreeMap::new();
        for line in read_by_node("pprof_paths.cjs", &[file])? {
            let (path, calls, own): (Vec<String>, u64, u64) = parsed(line)?;
            let sum = sums.entry(path).or_default();
            (sum.calls, sum.own) = (sum.calls + calls, sum.own + own);
        }
        same(told, &sums)
    });
}

#[test]
fn mermaid() {
    // The reader takes long to start.
    sums_are_read("Mermaid", "mermaid", &["threads4", "throw-O2", "fork"], |file, told| {
        let mut edges = BTreeMap::new();
        let told = edge_calls(told);
        for line in read_by_node("mermaid_edges.mjs", &[file])? {
            let (caller, callee, calls): (String, String, u64) = parsed(line)?;
            *edges.entry((caller, callee)).or_default() += calls;
        }
        edges.retain(|edge, _| told.contains_key(edge) || !is_process(&edge.0));
        same(&told, &edges)
    });
}

/// A process is told as `name pid`.
fn is_process(name: &str) -> bool {
    name.rsplit_once(' ').is_some_and(|(_, pid)| pid.parse::<u32>().is_ok())
}

#[test]
fn graphviz() {
    sums_are_read("Graphviz", "graphviz", PROGRAMS, |file, told| {
        let mut command = Command::new(tool("dot")?);
        command.arg("-Tdot_json").arg(file);
        let finished = run(command, b"")?;
        let graph: Value = serde_json::from_str(&finished.text())
            .map_err(|error| format!("{error}: {}", finished.errors()))?;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok());
        let list = |of: &str| graph[of].as_array().cloned().unwrap_or_default();
        let (mut nodes, mut edges) = (BTreeMap::new(), BTreeMap::new());
        let mut names = BTreeMap::new();
        for node in list("objects") {
            let name = node["label"].as_str().unwrap_or_default().to_owned();
            names.insert(node["_gvid"].as_u64(), name.clone());
            if let (Some(calls), Some(own)) = (number(&node["calls"]), number(&node["own_ns"])) {
                let sum: &mut PathSum = nodes.entry(name).or_default();
                (sum.calls, sum.own) = (sum.calls + calls, sum.own + own);
            }
        }
        for edge in list("edges") {
            let end = |which: &str| names.get(&edge[which].as_u64()).cloned().unwrap_or_default();
            *edges.entry((end("tail"), end("head"))).or_default() +=
                number(&edge["calls"]).unwrap_or(0);
        }
        let mut functions: BTreeMap<String, PathSum> = BTreeMap::new();
        for (path, told) in told {
            let sum = functions.entry(path.last().cloned().unwrap_or_default()).or_default();
            (sum.calls, sum.own) = (sum.calls + told.calls, sum.own + told.own);
        }
        same(&functions, &nodes)?;
        let told = edge_calls(told);
        edges.retain(|edge, _| told.contains_key(edge) || !is_process(&edge.0));
        same(&told, &edges)
    });
}
