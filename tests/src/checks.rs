//! A table of cases: all run, failures are told together, what could not run is said.

use std::fmt;
use std::io::{self, Write};

/// Why a case did not pass.
#[derive(Debug)]
pub enum Trouble {
    /// Something the case needs is missing here.
    Skip(String),
    /// It went wrong.
    Fail(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip(why) | Self::Fail(why) => f.write_str(why),
        }
    }
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self::Fail(what)
    }
}

impl From<&str> for Trouble {
    fn from(what: &str) -> Self {
        Self::Fail(what.to_owned())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Fail(error.to_string())
    }
}

/// The cases of one test function.
#[derive(Debug)]
pub struct Checks {
    title: &'static str,
    passed: usize,
    skipped: Vec<String>,
    failed: Vec<String>,
}

impl Checks {
    /// An empty table.
    #[must_use]
    pub const fn new(title: &'static str) -> Self {
        Self { title, passed: 0, skipped: Vec::new(), failed: Vec::new() }
    }

    /// Runs one case, unless `SLEDGE_ONLY` asks for others.
    pub fn case(&mut self, name: &str, check: impl FnOnce() -> Result<(), Trouble>) {
        if std::env::var("SLEDGE_ONLY").is_ok_and(|only| !name.contains(&only)) {
            return;
        }
        match check() {
            Ok(()) => self.passed += 1,
            Err(Trouble::Skip(why)) => {
                say(&format!("skipped: {name}: {why}"));
                self.skipped.push(format!("{name}: {why}"));
            }
            Err(Trouble::Fail(why)) => {
                say(&format!("failed: {} / {name}: {why}", self.title));
                self.failed.push(format!("{name}: {why}"));
            }
        }
    }

    /// Tells the sum, and panics where a case failed.
    ///
    /// # Panics
    /// When a case failed, or was skipped while `SLEDGE_NO_SKIP` is set.
    pub fn finish(self) {
        say(&format!(
            "{}: {} passed, {} failed, {} skipped",
            self.title,
            self.passed,
            self.failed.len(),
            self.skipped.len()
        ));
        assert!(self.failed.is_empty(), "{}:\n{}", self.title, self.failed.join("\n"));
        let strict = std::env::var_os("SLEDGE_NO_SKIP").is_some();
        assert!(!strict || self.skipped.is_empty(), "skipped:\n{}", self.skipped.join("\n"));
    }
}

/// Writes past the test runner's capture, so that passing tests show it too.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
