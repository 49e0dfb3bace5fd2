//! Runs the races against live patching for long.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::process::Command;

const DEFAULT_SECONDS: u64 = 60;

/// Each race in turn, optimised, for the seconds asked for.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>> {
    let seconds = seconds(arguments)?;
    println!("soak: {seconds} s of calls under live patching");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--release", "--quiet", "--package", "sledge-live", "--test", "race"])
        .args(["--", "--nocapture"])
        .env("SLEDGE_SOAK_SECONDS", seconds.to_string())
        .status()
        .context("cargo")?;
    Ok(if status.success() { Vec::new() } else { vec![format!("the race failed: {status}")] })
}

fn seconds(arguments: impl IntoIterator<Item = OsString>) -> Result<u64> {
    let mut arguments = arguments.into_iter();
    let Some(option) = arguments.next() else { return Ok(DEFAULT_SECONDS) };
    let number = arguments.next().and_then(|number| number.to_str()?.parse().ok());
    match (option.to_str(), number, arguments.next()) {
        (Some("--seconds"), Some(number), None) => Ok(number),
        _ => bail!("usage: cargo xtask soak [--seconds N]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_of_seconds_is_taken() {
        let read = |words: &[&str]| seconds(words.iter().map(OsString::from)).ok();
        assert_eq!(read(&[]), Some(DEFAULT_SECONDS));
        assert_eq!(read(&["--seconds", "1800"]), Some(1800));
        assert_eq!(read(&["--seconds"]), None);
        assert_eq!(read(&["--seconds", "soon"]), None);
        assert_eq!(read(&["--seconds", "1", "2"]), None);
    }
}
