//! Benchmarks: what sledge costs, as ratios to a baseline measured in the same run.

mod analyse;
mod drain;
mod entry;
mod lab;
mod library;
mod programs;
mod row;
mod sites;
mod sustained;
mod synthetic;

use anyhow::{Result, bail};
use row::Row;
use std::ffi::OsString;
use std::io::Write;

type Bench = fn(&mut dyn FnMut(Row)) -> Result<()>;

/// All benchmarks: name, what it measures, and how.
const BENCHES: [(&str, &str, Bench); 8] = [
    ("dispatch", "a call with callbacks: trampolines of sets against the list", library::dispatch),
    (
        "patching",
        "arming, disarming and changing sites under threads that run there",
        library::patching,
    ),
    ("entry", "nanoseconds that tracing adds to a call, beside uftrace", entry::run),
    ("sustained", "events a second of a program that does nothing but call", sustained::run),
    ("programs", "wall time of ordinary programs, and the first line of a live run", programs::run),
    ("analyse", "events a second, memory and bytes of replay and report", analyse::run),
    ("drain", "records a second from ring to file", drain::run),
    ("sites", "functions a second of discovery in large objects", sites::run),
];

/// Runs `bench NAME [--json]`; without a name lists them.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Result<Vec<String>> {
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let (options, names): (Vec<_>, Vec<_>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with('-'));
    let json = match options[..] {
        [] => false,
        ["--json"] => true,
        _ => bail!("usage: cargo xtask bench [NAME] [--json]"),
    };
    let [name] = names[..] else {
        BENCHES.iter().for_each(|(name, what, _)| println!("{name:10} {what}"));
        return Ok(Vec::new());
    };
    let Some((_, _, bench)) = BENCHES.iter().find(|(known, ..)| *known == name) else {
        bail!("there is no benchmark '{name}'; cargo xtask bench lists them");
    };
    let mut rows = Vec::new();
    let mut output = std::io::stdout();
    let mut closed = Ok(());
    bench(&mut |row| match (json, &closed) {
        (false, _) => rows.push(row),
        (true, Ok(())) => closed = writeln!(output, "{}", row.json()),
        (true, Err(_)) => {}
    })?;
    closed?;
    write!(output, "{}", row::table(&rows))?;
    Ok(Vec::new())
}
