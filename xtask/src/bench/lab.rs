//! Where benchmarks run: the programs they need, a scratch directory, and how a run is measured.

use crate::metadata::Workspace;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A command that takes longer is hung.
const PATIENCE_SECONDS: &str = "120";

/// The programs and the place of a benchmark.
pub(crate) struct Lab {
    sledge: PathBuf,
    meter: PathBuf,
    sources: PathBuf,
    scratch: TempDir,
    uftrace: bool,
}

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// Time on a processor, in and below the system.
    pub(crate) busy: Duration,
    /// Memory of its largest process.
    pub(crate) peak_bytes: u64,
}

impl Lab {
    /// Builds sledge, unless `SLEDGE_BIN` names one, and the measuring program.
    pub(crate) fn open() -> Result<Self> {
        let workspace = Workspace::read()?;
        let sledge = match std::env::var_os("SLEDGE_BIN") {
            Some(path) => path.into(),
            None => build(&workspace)?,
        };
        // In memory, so that no disk is measured.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let scratch = tempfile::Builder::new().prefix("sledge-bench-").tempdir_in(place)?;
        let uftrace = Command::new("uftrace").arg("--version").output();
        let mut lab = Self {
            sledge,
            meter: PathBuf::new(),
            sources: workspace.root.join("benches"),
            scratch,
            uftrace: uftrace.is_ok_and(|output| output.status.success()),
        };
        lab.meter = lab.compile("meter.c", "meter", &[])?;
        Ok(lab)
    }

    /// Compiles one of the sources in `benches`.
    pub(crate) fn compile(&self, source: &str, name: &str, flags: &[&str]) -> Result<PathBuf> {
        let program = self.path(name);
        let mut command = Command::new("cc");
        command.arg("-O2").args(flags).arg("-o").arg(&program).arg(self.sources.join(source));
        output(&mut command)?;
        Ok(program)
    }

    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// `sledge` with a command of its own.
    pub(crate) fn sledge(&self, command: &str) -> Command {
        let mut sledge = Command::new(&self.sledge);
        sledge.arg(command);
        sledge
    }

    /// `sledge record` to a file.
    pub(crate) fn record(&self, trace: &Path, options: &[&str]) -> Command {
        let mut command = self.sledge("record");
        command.arg("-o").arg(trace).args(options);
        command
    }

    /// `uftrace record` to a directory; `None` where it is not installed.
    pub(crate) fn uftrace(&self, directory: &Path, options: &[&str]) -> Option<Command> {
        let mut command = Command::new("uftrace");
        command.arg("record").args(options).arg("-d").arg(directory);
        self.uftrace.then_some(command)
    }

    /// Runs a command quietly and says what it took; an error when it fails or hangs.
    pub(crate) fn measure(&self, command: &Command) -> Result<Spent> {
        let result = self.path("spent");
        let mut metered = Command::new("timeout");
        metered.arg(PATIENCE_SECONDS).arg(&self.meter).arg(&result);
        metered.arg(command.get_program()).args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            metered.current_dir(directory);
        }
        metered.stdout(Stdio::null());
        output(&mut metered)?;
        parse_spent(&std::fs::read_to_string(&result)?).context("no times from the meter")
    }

    /// Calls of each function that a trace holds.
    pub(crate) fn report(&self, trace: &Path) -> Result<Vec<(String, u64)>> {
        let mut command = self.sledge("report");
        command.args(["--format", "json", "-i"]).arg(trace);
        let report: Value = serde_json::from_str(&output(&mut command)?)?;
        let functions = report["functions"].as_array().context("a report without functions")?;
        let name = |row: &Value| Some((row["function"].as_str()?.into(), row["calls"].as_u64()?));
        Ok(functions.iter().filter_map(name).collect())
    }

    /// The same of a directory of uftrace's.
    pub(crate) fn uftrace_report(&self, directory: &Path) -> Result<Vec<(String, u64)>> {
        let mut command = Command::new("uftrace");
        command.args(["report", "--no-pager", "-f", "call", "-d"]).arg(directory);
        let text = output(&mut command)?;
        let row = |line: &str| {
            let (calls, name) = line.trim().split_once(char::is_whitespace)?;
            Some((name.trim().to_owned(), calls.parse().ok()?))
        };
        Ok(text.lines().filter_map(row).collect())
    }
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--package", "sledge-cli"]);
    output(command.current_dir(&workspace.root))?;
    Ok(workspace.target.join("release/sledge"))
}

/// What a command wrote; an error, with its complaint, when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("")).to_owned();
    let output =
        command.output().with_context(|| format!("{} does not start", program.display()))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "{}: {}: {last}", program.display(), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse_spent(text: &str) -> Option<Spent> {
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [wall, user, system, peak] = numbers[..] else { return None };
    let busy = Duration::from_nanos(user + system);
    Some(Spent { wall: Duration::from_nanos(wall), busy, peak_bytes: peak * 1024 })
}

/// The number in the middle; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// The smallest number.
pub(crate) fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_least() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(least(&[3.0, 1.0, 2.0]), 1.0);
    }

    #[test]
    fn times_of_the_meter_are_read() {
        let spent = parse_spent("2000 1 2 4\n").unwrap();
        assert_eq!((spent.wall, spent.peak_bytes), (Duration::from_micros(2), 4096));
        assert_eq!(spent.busy, Duration::from_nanos(3));
        assert!(parse_spent("2000 1\n").is_none());
    }
}
