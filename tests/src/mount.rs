//! A process under `sledge mount`.

use crate::build::build;
use crate::checks::Trouble;
use crate::programs::Program;
use crate::run::sledge_path;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to unmount.
const END: Duration = Duration::from_secs(10);

/// A mounted process. It is unmounted in the end, whatever happens: a mount that nobody serves would
/// hang whoever looks there.
#[derive(Debug)]
pub struct Mount {
    directory: TempDir,
    child: Child,
}

impl Mount {
    /// Starts a program under `sledge mount`, and waits until it is there.
    ///
    /// # Errors
    /// When it cannot be mounted; it is skipped where there is no FUSE.
    pub fn new(program: &Program, arguments: &[&str]) -> Result<Self, Trouble> {
        if !Path::new("/dev/fuse").exists() {
            return Err(Trouble::Skip("there is no /dev/fuse".into()));
        }
        let directory = tempfile::tempdir()?;
        // It ends with the thread that runs the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM"])
            .arg(sledge_path()?)
            .args(["mount", "--buffer", "16M"]);
        command.arg(directory.path()).arg("--").arg(build(program)?).args(arguments);
        let child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut mount = Self { directory, child };
        mount.wait_until("it is mounted", |mount| mount.path("trace").exists())?;
        Ok(mount)
    }

    /// Waits until something is so.
    ///
    /// # Errors
    /// When it is not in time, or `sledge` ends first.
    pub fn wait_until(
        &mut self,
        what: &str,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), Trouble> {
        let begun = Instant::now();
        while !holds(self) {
            if self.child.try_wait()?.is_some() {
                let mut said = String::new();
                if let Some(stderr) = &mut self.child.stderr {
                    stderr.read_to_string(&mut said)?;
                }
                return Err(match said.contains("/dev/fuse") {
                    true => Trouble::Skip(format!("cannot mount: {said}")),
                    false => Trouble::Fail(format!("sledge ended before {what}: {said}")),
                });
            }
            if begun.elapsed() > PATIENCE {
                return Err(Trouble::Fail(format!("not in time: {what}")));
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The process that serves the mount.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The input of the program.
    pub fn input(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// Where a file is.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// What a file says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn cat(&self, file: &str) -> Result<String, Trouble> {
        Ok(fs::read_to_string(self.path(file))?)
    }

    /// Writes a line over what a file says.
    ///
    /// # Errors
    /// The file's.
    pub fn echo(&self, text: &str, file: &str) -> Result<(), Trouble> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(self.path(file))?;
        Ok(file.write_all(format!("{text}\n").as_bytes())?)
    }

    /// Writes a line behind what a file says.
    ///
    /// # Errors
    /// The file's.
    pub fn append(&self, text: &str, file: &str) -> Result<(), Trouble> {
        let mut file = OpenOptions::new().append(true).open(self.path(file))?;
        Ok(file.write_all(format!("{text}\n").as_bytes())?)
    }

    /// Waits until a file says something.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn shows(&mut self, file: &str, what: &str) -> Result<String, Trouble> {
        let mut text = String::new();
        self.wait_until(&format!("{file} shows {what}"), |mount| {
            text = mount.cat(file).unwrap_or_default();
            text.contains(what)
        })?;
        Ok(text)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let pid = self.child.id();
        let ours = format!("/proc/{pid}/task/{pid}/children");
        let traced = fs::read_to_string(ours).unwrap_or_default();
        let end = |signal: &str, pid: &str| {
            let _ = Command::new("kill").args([signal, pid]).status();
        };
        end("-TERM", &pid.to_string());
        traced.split_whitespace().for_each(|pid| end("-KILL", pid));
        let begun = Instant::now();
        while begun.elapsed() < END && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // It is gone already, unless something went wrong.
        let mut unmount = Command::new("umount");
        unmount.arg("-l").arg(self.directory.path()).stderr(Stdio::null());
        let _ = unmount.status();
    }
}
