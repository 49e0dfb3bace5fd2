//! Programs that run while `sledge` is attached to them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::checks::Trouble;
use crate::run::{PATIENCE, scratch, sledge};

/// A program that runs, and answers a line for each line it is given; ended when dropped.
#[derive(Debug)]
pub struct Live {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Live {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Result<Self, Trouble> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.current_dir(scratch()?).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a line and waits for its answer.
    ///
    /// # Errors
    /// When it does not answer: it has ended.
    pub fn ask(&mut self) -> Result<String, Trouble> {
        self.input.write_all(b"go\n")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        if answer.is_empty() {
            let end = self.child.wait()?;
            return Err(format!("the program gave no answer: {end}").into());
        }
        Ok(answer)
    }

    /// What can be seen of it from outside.
    ///
    /// # Errors
    /// When it has ended.
    pub fn look(&self) -> Result<Look, Trouble> {
        Look::at(self.pid())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What can be seen of a process from outside, and must be the same after it was traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Its mappings, neighbours of the same kind joined. The heap and stacks may grow.
    mappings: BTreeSet<String>,
    threads: usize,
    descriptors: BTreeSet<PathBuf>,
    signals: Vec<String>,
}

impl Look {
    /// Looks at a process.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(pid: u32) -> Result<Self, Trouble> {
        let path = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        let status = fs::read_to_string(path("status"))?;
        let signals = ["SigIgn", "SigCgt", "SigBlk", "Seccomp", "NoNewPrivs", "CapEff"];
        let signals = status.lines().filter(|line| signals.iter().any(|s| line.starts_with(s)));
        let descriptors = fs::read_dir(path("fd"))?.flatten().map(|entry| entry.path());
        Ok(Self {
            mappings: mappings(&fs::read_to_string(path("maps"))?),
            threads: fs::read_dir(path("task"))?.count(),
            descriptors: descriptors.collect(),
            signals: signals.map(str::to_owned).collect(),
        })
    }

    /// What differs from another look at a server: connections come and go, and threads with them.
    ///
    /// # Errors
    /// If anything else does.
    pub fn same_but_for_connections(&self, before: &Self) -> Result<(), Trouble> {
        let before = before.clone();
        let (threads, descriptors) = (self.threads, self.descriptors.clone());
        self.same_as(&Self { threads, descriptors, ..before })
    }

    /// What differs from another look.
    ///
    /// # Errors
    /// If anything does.
    pub fn same_as(&self, before: &Self) -> Result<(), Trouble> {
        let more: Vec<_> = self.mappings.difference(&before.mappings).collect();
        let fewer: Vec<_> = before.mappings.difference(&self.mappings).collect();
        if !more.is_empty() || !fewer.is_empty() {
            return Err(format!("mappings: new {more:?}, gone {fewer:?}").into());
        }
        if (self.threads, &self.descriptors) != (before.threads, &before.descriptors) {
            return Err(format!("threads or descriptors: {before:?}, then {self:?}").into());
        }
        if self.signals != before.signals {
            return Err(format!("{:?}, then {:?}", before.signals, self.signals).into());
        }
        Ok(())
    }
}

/// Mappings of files, by what they are: cuts in one that nothing lies between are not seen.
fn mappings(text: &str) -> BTreeSet<String> {
    let mut joined: Vec<(u64, u64, String)> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let name = words.nth(3).unwrap_or("");
        if !name.starts_with('/') {
            continue;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let (start, end) = range.split_once('-').unwrap_or_default();
        let kind = format!("{rights} {name}");
        match joined.last_mut() {
            Some(last) if last.1 == number(start) && last.2 == kind => last.1 = number(end),
            _ => joined.push((number(start), number(end), kind)),
        }
    }
    joined.into_iter().map(|(start, end, kind)| format!("{start:x}-{end:x} {kind}")).collect()
}

/// The code of a process is what its files say, and nothing of ours is there.
///
/// # Errors
/// Says where it is not.
pub fn assert_untouched(pid: u32) -> Result<(), Trouble> {
    assert_restored(pid)?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    match maps.lines().find(|line| line.contains("sledge")) {
        Some(line) => Err(format!("left behind: {line}").into()),
        None => Ok(()),
    }
}

/// The code of a process is what its files say.
///
/// # Errors
/// Says where it is not.
pub fn assert_restored(pid: u32) -> Result<(), Trouble> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [range, rights, offset, _, _, path] = words[..] else { continue };
        if !rights.contains('x') || !path.starts_with('/') {
            continue;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        let (start, end) = range.split_once('-').unwrap_or_default();
        let mut is = vec![0; (number(end) - number(start)) as usize];
        memory.read_exact_at(&mut is, number(start))?;
        let mut was = vec![0; is.len()];
        let file = File::open(path)?;
        let mut read = 0;
        while read < was.len() {
            match file.read_at(&mut was[read..], number(offset) + read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        if let Some(at) = (0..is.len()).find(|&at| is[at] != was[at]) {
            let place = number(start) + at as u64;
            return Err(format!("{path} is changed at {place:x}").into());
        }
    }
    Ok(())
}

/// `sledge record` attached to a process, in the background; killed when dropped.
#[derive(Debug)]
pub struct Watching {
    child: Child,
    /// The trace file.
    pub trace: PathBuf,
    errors: PathBuf,
    _directory: TempDir,
}

impl Watching {
    /// Attaches; returns when events are recorded.
    ///
    /// # Errors
    /// When it does not come to that.
    pub fn start(pid: u32, options: &[&str]) -> Result<Self, Trouble> {
        let directory = TempDir::new_in(scratch()?)?;
        let (trace, errors) = (directory.path().join("trace.sledge"), directory.path().join("err"));
        let clients = clients(pid);
        let mut command = sledge(["record", "-p", &pid.to_string(), "-o"])?;
        command.arg(&trace).args(options).stdin(Stdio::null()).stderr(File::create(&errors)?);
        let child = command.spawn()?;
        let mut watching = Self { child, trace, errors, _directory: directory };
        let begun = Instant::now();
        while self::clients(pid) <= clients {
            if watching.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                return Err(format!("it does not record: {}", watching.errors()?).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(watching)
    }

    /// The id of the process that records.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn errors(&self) -> Result<String, Trouble> {
        Ok(fs::read_to_string(&self.errors)?)
    }

    /// Ends it as Ctrl-C does; returns what it said.
    ///
    /// # Errors
    /// When it fails.
    pub fn stop(&mut self) -> Result<String, Trouble> {
        signal("INT", self.child.id())?;
        self.wait()
    }

    /// Waits for its end; returns what it said.
    ///
    /// # Errors
    /// When it fails.
    pub fn wait(&mut self) -> Result<String, Trouble> {
        let status = self.child.wait()?;
        let said = self.errors()?;
        if status.success() { Ok(said) } else { Err(format!("{status}: {said}").into()) }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many clients the hub of a process has.
fn clients(pid: u32) -> usize {
    control(pid, &["status"])
        .map_or(0, |text| text.lines().filter(|line| line.starts_with("client")).count())
}

/// What `sledge ctl PID` answers.
///
/// # Errors
/// When it fails: what it said.
pub fn control(pid: u32, words: &[&str]) -> Result<String, Trouble> {
    let output = sledge(["ctl", &pid.to_string()])?.args(words).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends a signal.
///
/// # Errors
/// When there is no such process.
pub fn signal(name: &str, pid: u32) -> Result<(), Trouble> {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { Err(format!("no process {pid}").into()) }
}

/// The hub of a process.
///
/// # Errors
/// When it has none.
pub fn hub(pid: u32) -> Result<u32, Trouble> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|&byte| byte == 0).collect();
        let is_hub = words.get(1) == Some(&&b"hub-of"[..])
            && words.get(2) == Some(&pid.to_string().as_bytes());
        if is_hub && let Some(hub) = name_as_number(&entry.path()) {
            return Ok(hub);
        }
    }
    Err("there is no hub".into())
}

fn name_as_number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}
