//! Ordinary programs: how long they take when traced, and when a live run shows its first line.

use super::lab::{Lab, median, output};
use super::row::Row;
use anyhow::{Context, Result};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const BENCH: &str = "programs";
const UNIT: &str = "ms";
const ROUNDS: usize = 7;

pub(crate) fn run(emit: &mut dyn FnMut(Row)) -> Result<()> {
    let lab = Lab::open()?;
    let place = lab.path("place");
    prepare(&place)?;
    let python = output(Command::new("python3").args(["-c", "import sys; print(sys.executable)"]));
    let python = python.map(|path| path.trim().to_owned()).unwrap_or("python3".into());
    let programs: [(&str, &[&str]); 4] = [
        ("ls", &["ls", "/usr/bin"]),
        ("python3 -c 'print(1)'", &[&python, "-c", "print(1)"]),
        ("git status", &["git", "status"]),
        ("gcc -O2 -c hello.c", &["gcc", "-O2", "-c", "hello.c"]),
    ];
    for (name, words) in programs {
        compare(&lab, &place, name, words, emit)?;
    }
    emit(first_line(&lab, &place)?);
    Ok(())
}

/// A small repository with a source file, and an empty directory.
fn prepare(place: &Path) -> Result<()> {
    fs::create_dir_all(place.join("empty"))?;
    let hello = "#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n";
    fs::write(place.join("hello.c"), hello)?;
    let name = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"];
    for words in [&["init", "-q"][..], &["add", "hello.c"], &["commit", "-qm", "hello"]] {
        output(Command::new("git").args(name).args(words).current_dir(place))?;
    }
    Ok(())
}

fn compare(
    lab: &Lab,
    place: &Path,
    name: &str,
    words: &[&str],
    emit: &mut dyn FnMut(Row),
) -> Result<()> {
    let trace = lab.path("trace");
    let directory = lab.path("uftrace");
    let mut plain = Command::new(words[0]);
    plain.args(&words[1..]);
    let mut modes = vec![("plain", plain)];
    for (mode, options) in [("sledge", &[][..]), ("sledge --libs", &["--libs"])] {
        modes.push((mode, with(lab.record(&trace, options), words)));
    }
    if let Some(command) = lab.uftrace(&directory, &["-P", "."]) {
        modes.push(("uftrace -P .", with(command, words)));
    }
    let mut times = vec![Vec::new(); modes.len()];
    let mut notes = vec![String::new(); modes.len()];
    for _ in 0..ROUNDS {
        for (index, (mode, command)) in modes.iter_mut().enumerate() {
            let took = lab.measure(command.current_dir(place));
            match took {
                Ok(spent) => times[index].push(spent.wall.as_secs_f64() * 1e3),
                Err(error) => notes[index] = format!("failed: {error}"),
            }
            if notes[index].is_empty() {
                notes[index] = calls(lab, mode, &trace, &directory)?;
            }
        }
    }
    let base = median(&times[0]);
    for ((mode, _), (times, note)) in modes.iter().zip(times.iter().zip(notes)) {
        let row = Row::new(BENCH, UNIT).case("program", name).case("mode", *mode).note(note);
        let all = times.len() == ROUNDS;
        emit(if all { row.value(median(times)).against("plain", base) } else { row });
    }
    fs::remove_dir_all(&directory).ok();
    Ok(())
}

fn with(mut command: Command, words: &[&str]) -> Command {
    command.args(words);
    command
}

/// How many calls the tracer of that mode saw.
fn calls(lab: &Lab, mode: &str, trace: &Path, directory: &Path) -> Result<String> {
    let counts = match mode {
        "plain" => return Ok(String::new()),
        "uftrace -P ." => lab.uftrace_report(directory),
        _ => lab.report(trace),
    };
    let Ok(counts) = counts else { return Ok("nothing recorded that can be read".into()) };
    Ok(format!("{} calls", counts.iter().map(|(_, calls)| calls).sum::<u64>()))
}

/// When the first line of `sledge ls` comes, after what `ls` takes. The directory is empty, so
/// that it is not a line of `ls` itself.
fn first_line(lab: &Lab, place: &Path) -> Result<Row> {
    let (mut plain, mut live) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut command = Command::new("ls");
        command.arg("empty");
        plain.push(lab.measure(command.current_dir(place))?.wall.as_secs_f64() * 1e3);
        let mut command = lab.sledge("ls");
        command.arg("empty").current_dir(place);
        live.push(until_line(&mut command)?.as_secs_f64() * 1e3);
    }
    let base = median(&plain);
    let row = Row::new(BENCH, "ms to the first line, after what ls takes");
    let row = row.case("program", "ls").case("mode", "sledge ls | head -1");
    Ok(row.value(median(&live) - base).against("budget", 100.0))
}

fn until_line(command: &mut Command) -> Result<Duration> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut line)?;
    let took = start.elapsed();
    child.wait()?;
    anyhow::ensure!(!line.is_empty(), "sledge showed nothing");
    Ok(took)
}
