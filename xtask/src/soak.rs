//! Long runs that must find nothing: builds the program that does them, and lets it.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEFAULT_SECONDS: u32 = 60;
/// What a soak may take over its time before it counts as hanging.
const GRACE: Duration = Duration::from_secs(120);

const USAGE: &str = "usage: cargo xtask soak [--seconds N] [--together] [NAME…]
  in turn, N seconds (60) in all; or together, N seconds each";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seconds: u32,
    together: bool,
    names: Vec<String>,
}

/// The soaks that are asked for, or all.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>> {
    let Options { seconds, together, names } = options(arguments)?;
    let program = build()?;
    let names = if names.is_empty() { list(&program)? } else { names };
    let each = if together { seconds } else { (seconds / names.len() as u32).max(1) };
    let start = |name: &String| start(&program, name, each);
    let mut findings = Vec::new();
    if together {
        let running: Vec<_> = names.iter().map(start).collect::<Result<_>>()?;
        for soak in running {
            findings.extend(soak.end()?);
        }
    } else {
        for name in &names {
            findings.extend(start(name)?.end()?);
        }
    }
    Ok(findings)
}

fn options(arguments: impl IntoIterator<Item = OsString>) -> Result<Options> {
    let mut options = Options { seconds: DEFAULT_SECONDS, together: false, names: Vec::new() };
    let mut words = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => match words.next().and_then(|number| number.parse().ok()) {
                Some(seconds) => options.seconds = seconds,
                None => bail!("{USAGE}"),
            },
            "--together" => options.together = true,
            option if option.starts_with('-') => bail!("{USAGE}"),
            _ => options.names.push(word),
        }
    }
    Ok(options)
}

fn build() -> Result<PathBuf> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--quiet", "--package", "sledge-soak"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    ensure!(output.status.success(), "the soaks cannot be built");
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut programs = messages
        .filter_map(|message: serde_json::Value| message["executable"].as_str().map(PathBuf::from));
    programs.next_back().context("cargo names no program")
}

fn list(program: &PathBuf) -> Result<Vec<String>> {
    let output = Command::new(program).arg("--list").output().context("the soaks")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// A soak that runs; it prints what it did itself.
struct Running {
    name: String,
    child: Child,
    until: Instant,
}

fn start(program: &PathBuf, name: &str, seconds: u32) -> Result<Running> {
    let child = Command::new(program).args([name, &seconds.to_string()]).spawn();
    let child = child.with_context(|| program.display().to_string())?;
    let until = Instant::now() + Duration::from_secs(seconds.into()) + GRACE;
    Ok(Running { name: name.to_owned(), child, until })
}

impl Running {
    /// Waits for it; a finding if it failed, crashed, or hangs.
    fn end(mut self) -> Result<Option<String>> {
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(None),
                Some(status) => return Ok(Some(format!("soak {}: {status}", self.name))),
                None if Instant::now() > self.until => {
                    self.child.kill()?;
                    self.child.wait()?;
                    return Ok(Some(format!("soak {}: hangs; killed", self.name)));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_options_come_in_any_order() {
        let read = |words: &[&str]| options(words.iter().map(OsString::from)).ok();
        let expected = |seconds, together, names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Some(Options { seconds, together, names })
        };
        assert_eq!(read(&[]), expected(DEFAULT_SECONDS, false, &[]));
        let words = ["ops", "--seconds", "1800", "--together", "shapes"];
        assert_eq!(read(&words), expected(1800, true, &["ops", "shapes"]));
        assert_eq!(read(&["--seconds"]), None);
        assert_eq!(read(&["--seconds", "soon"]), None);
        assert_eq!(read(&["--forever"]), None);
    }
}
