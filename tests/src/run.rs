//! Runs programs, plain and under `sledge record`, and compares what they did.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::build::build;
use crate::checks::Trouble;
use crate::programs::{Program, named};

/// No run may take longer.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl End {
    /// The exit status by which `sledge record` passes it on.
    #[must_use]
    pub const fn as_status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Killed(signal) => 128 + signal,
        }
    }
}

/// What a program wrote, and how it ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Its end.
    pub end: End,
}

impl Finished {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where; [`scratch`] where `None`.
    pub directory: Option<PathBuf>,
    /// Its standard input.
    pub input: Vec<u8>,
}

impl Invocation {
    /// `program` with `arguments`, without input.
    pub fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program: program.into(), arguments, directory: None, input: Vec::new() }
    }

    /// The same in `directory`.
    #[must_use]
    pub fn within(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// The same with `input` to read.
    #[must_use]
    pub fn reading(mut self, input: &[u8]) -> Self {
        self.input = input.to_vec();
        self
    }

    /// A built program with the arguments that its table row gives it.
    ///
    /// # Errors
    /// Those of [`build`].
    pub fn of(program: &Program) -> Result<Self, Trouble> {
        let mut arguments = Vec::new();
        for argument in program.arguments {
            arguments.push(match argument.strip_prefix('@') {
                Some(name) => build(named(name))?.into_os_string(),
                None => OsString::from(argument),
            });
        }
        Ok(Self::new(build(program)?, arguments))
    }

    fn command(&self, tracer: Option<Command>) -> Command {
        let mut command = match tracer {
            Some(mut tracer) => {
                tracer.arg(&self.program);
                tracer
            }
            None => Command::new(&self.program),
        };
        command.args(&self.arguments);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

/// Runs it by another program, whose arguments are it and its own.
///
/// # Errors
/// When that cannot be started or does not end.
pub fn invoke_by(invocation: &Invocation, runner: Command) -> Result<Finished, Trouble> {
    run(invocation.command(Some(runner)), &invocation.input)
}

/// Runs it plain.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn invoke(invocation: &Invocation) -> Result<Finished, Trouble> {
    run(invocation.command(None), &invocation.input)
}

/// Runs `command` in a small, fixed environment, with `input` to read.
///
/// # Errors
/// When it cannot be started or does not end.
pub fn run(mut command: Command, input: &[u8]) -> Result<Finished, Trouble> {
    let directory = TempDir::new_in(scratch()?)?;
    let at = |name: &str| directory.path().join(name);
    fs::write(at("in"), input)?;
    if command.get_current_dir().is_none() {
        command.current_dir(scratch()?); // where `gmon.out` of -pg programs does no harm
    }
    command.stdin(File::open(at("in"))?);
    command.stdout(File::create(at("out"))?).stderr(File::create(at("err"))?);
    keep_environment_small(&mut command);
    let mut child = command.process_group(0).spawn()?;
    let end = wait(&mut child)?;
    Ok(Finished { stdout: fs::read(at("out"))?, stderr: fs::read(at("err"))?, end })
}

fn keep_environment_small(command: &mut Command) {
    let given: Vec<_> =
        command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    command.env_clear().env("LANG", "C.UTF-8").env("GREETING", "hello");
    for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for (name, value) in given {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// [`PATIENCE`], or more seconds where `SLEDGE_PATIENCE` says so.
fn patience() -> Duration {
    let asked = std::env::var("SLEDGE_PATIENCE").ok().and_then(|text| text.parse().ok());
    asked.map_or(PATIENCE, Duration::from_secs)
}

fn wait(child: &mut Child) -> Result<End, Trouble> {
    let (begun, patience) = (Instant::now(), patience());
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(match status.signal() {
                Some(signal) => End::Killed(signal),
                None => End::Exited(status.code().unwrap_or(-1)),
            });
        }
        if begun.elapsed() > patience {
            kill_group(child.id());
            child.wait()?;
            return Err(Trouble::Fail(format!("did not end within {} s", patience.as_secs())));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Ends the process group that [`run`] made for its child.
fn kill_group(leader: u32) {
    let _ = Command::new("kill").args(["-9", "--", &format!("-{leader}")]).status();
}

/// A directory for what the tests build, kept between runs.
///
/// # Errors
/// When it cannot be created.
pub fn scratch() -> Result<PathBuf, Trouble> {
    let directory = target_directory().join("tmp");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Tests lie in `<target>/<profile>/deps`.
pub fn target_directory() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    test.ancestors().nth(3).unwrap_or(Path::new("target")).to_owned()
}

/// The path of a tool on this machine, past wrapper scripts that `PATH` may hold first.
///
/// # Errors
/// Skips where it is not installed.
pub fn tool(name: &str) -> Result<PathBuf, Trouble> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_elf = |path: &PathBuf| {
        fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF")) && path.is_file()
    };
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(is_elf)
        .ok_or_else(|| Trouble::Skip(format!("{name} is not installed")))
}

/// The `sledge` binary: `SLEDGE_BIN`, or else built here, once.
///
/// # Errors
/// When it does not build.
pub fn sledge_path() -> Result<&'static Path, Trouble> {
    static PATH: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PATH.get_or_init(find_sledge) {
        Ok(path) => Ok(path),
        Err(why) => Err(Trouble::Fail(why.clone())),
    }
}

fn find_sledge() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("SLEDGE_BIN") {
        return Ok(path.into());
    }
    let target = target_directory();
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--quiet", "--package", "sledge-cli", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("cargo build: {error}"))?;
    if !output.status.success() {
        return Err(format!("sledge: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(target.join("release/sledge"))
}

/// A command that runs `sledge` with `arguments`.
///
/// # Errors
/// When there is no `sledge`.
pub fn sledge<A: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<Command, Trouble> {
    let mut command = Command::new(sledge_path()?);
    command.args(arguments);
    Ok(command)
}

/// A program's run under `sledge record`.
#[derive(Debug)]
pub struct Recording {
    /// The trace file.
    pub trace: PathBuf,
    /// What the run wrote and how it ended; `end` is that of `sledge`.
    pub finished: Finished,
    /// Lines of our own on standard error, after the program's.
    pub said: String,
    _directory: TempDir,
}

/// Runs it under `sledge record` with `options`.
///
/// # Errors
/// When that cannot be started or does not end.
pub fn record(invocation: &Invocation, options: &[&str]) -> Result<Recording, Trouble> {
    let directory = TempDir::new_in(scratch()?)?;
    let trace = directory.path().join("trace.sledge");
    let mut tracer = sledge(["record", "-o"])?;
    tracer.arg(&trace).args(options);
    let finished = run(invocation.command(Some(tracer)), &invocation.input)?;
    Ok(Recording { trace, finished, said: String::new(), _directory: directory })
}

/// Runs it plain and under `sledge record` with `options`: output, errors and end must be the same.
///
/// # Errors
/// Tells the first difference.
pub fn compare(invocation: &Invocation, options: &[&str]) -> Result<Recording, Trouble> {
    let plain = invoke(invocation)?;
    let mut recording = record(invocation, options)?;
    let traced = &recording.finished;
    recording.said = ours(&plain, traced)?;
    if traced.end != End::Exited(plain.end.as_status()) {
        let (was, is) = (plain.end, traced.end);
        return Err(format!("untraced {was:?}, traced {is:?}\n{}", traced.errors()).into());
    }
    differ("stdout", &plain.stdout, &traced.stdout)?;
    Ok(recording)
}

/// What follows the program's own standard error, which must be whole, and be our lines only.
fn ours(plain: &Finished, traced: &Finished) -> Result<String, Trouble> {
    let Some(rest) = traced.stderr.strip_prefix(plain.stderr.as_slice()) else {
        differ("stderr", &plain.stderr, &traced.stderr)?;
        return Ok(String::new());
    };
    let rest = String::from_utf8_lossy(rest).into_owned();
    match rest.lines().find(|line| !line.starts_with("sledge: ") && !line.starts_with("   ")) {
        Some(line) => Err(format!("stderr of the traced run has more: {line}").into()),
        None => Ok(rest),
    }
}

fn differ(what: &str, plain: &[u8], traced: &[u8]) -> Result<(), Trouble> {
    if plain == traced {
        return Ok(());
    }
    let (plain, traced) = (String::from_utf8_lossy(plain), String::from_utf8_lossy(traced));
    let mut lines = traced.lines();
    for (number, was) in plain.lines().enumerate() {
        let is = lines.next().unwrap_or("(nothing)");
        if was != is {
            return Err(
                format!("{what} line {}: untraced `{was}`, traced `{is}`", number + 1).into()
            );
        }
    }
    Err(format!("{what}: traced has more: `{}`", lines.next().unwrap_or("(a line end)")).into())
}

#[cfg(test)]
mod tests {
    use super::{End, Finished, differ, ours};

    fn finished(stderr: &str) -> Finished {
        Finished { stdout: Vec::new(), stderr: stderr.into(), end: End::Exited(0) }
    }

    #[test]
    fn only_our_lines_may_follow_the_programs_own() {
        let said = |traced: &str| ours(&finished("a\n"), &finished(traced));
        assert_eq!(
            said("a\nsledge: 3 calls\n        more\n").ok().as_deref(),
            Some("sledge: 3 calls\n        more\n")
        );
        for wrong in ["", "b\n", "a\nb\n", "sledge: 3 calls\na\n"] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_difference_is_seen() {
        assert!(differ("stdout", b"a\nb\n", b"a\nb\n").is_ok());
        for (traced, wanted) in
            [("a\n", "(nothing)"), ("a\nB\n", "`B`"), ("a\nb\nc\n", "`c`"), ("a\nb", "has more")]
        {
            let said =
                differ("stdout", b"a\nb\n", traced.as_bytes()).map_err(|why| why.to_string());
            assert!(matches!(&said, Err(said) if said.contains(wanted)), "{traced}: {said:?}");
        }
    }
}
