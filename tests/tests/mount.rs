//! `sledge mount`: a real process, driven as a shell drives ftrace.
#![forbid(unsafe_code)]

use sledge_tests::{Checks, Program, Trouble, build, sledge};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

const KERNEL: Program = Program::named_source("kernel", "kernel.c");

/// A mounted process; unmounted in the end.
struct Mount {
    directory: TempDir,
    child: Child,
}

impl Mount {
    fn new(arguments: &[&str]) -> Result<Self, Trouble> {
        if !Path::new("/dev/fuse").exists() {
            return Err(Trouble::Skip("there is no /dev/fuse".into()));
        }
        let directory = tempfile::tempdir()?;
        let mut command = sledge(["mount".as_ref(), directory.path().as_os_str()])?;
        command.arg("--").arg(build(&KERNEL)?).args(arguments).stderr(Stdio::piped());
        let child = command.spawn()?;
        let mut mount = Self { directory, child };
        mount.wait_until("it is mounted", |mount| mount.path("trace").exists())?;
        Ok(mount)
    }

    fn wait_until(
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

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn cat(&self, file: &str) -> Result<String, Trouble> {
        Ok(fs::read_to_string(self.path(file))?)
    }

    fn echo(&self, text: &str, file: &str) -> Result<(), Trouble> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(self.path(file))?;
        Ok(file.write_all(format!("{text}\n").as_bytes())?)
    }

    /// Waits until a file says something.
    fn shows(&mut self, file: &str, what: &str) -> Result<String, Trouble> {
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
            let _ = std::process::Command::new("kill").args([signal, pid]).status();
        };
        end("-TERM", &pid.to_string());
        traced.split_whitespace().for_each(|pid| end("-KILL", pid));
        let _ = self.child.wait();
    }
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn a_process_is_driven_by_files() {
    let mut checks = Checks::new("mount");
    checks.case("filter and function tracer", || {
        let mut mount = Mount::new(&[])?;
        mount.echo("*lock*", "set_ftrace_filter")?;
        mount.echo("function", "current_tracer")?;
        let text = mount.shows("trace", "_raw_spin_lock <-mutex_lock")?;
        match entries(&text).find(|line| !line.contains("lock")) {
            Some(line) => Err(Trouble::Fail(line.into())),
            None => Ok(()),
        }
    });
    checks.case("a pipe blocks, and gives what happens", || {
        let mount = Mount::new(&[])?;
        let mut pipe = File::open(mount.path("trace_pipe"))?;
        mount.echo("schedule", "set_ftrace_filter")?;
        mount.echo("function", "current_tracer")?;
        let mut text = [0; 200];
        pipe.read_exact(&mut text)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.contains("schedule <-do_syscall_64") { Ok(()) } else { Err(text.into()) }
    });
    checks.case("the program starts with the signal mask it has without us", || {
        let mask = |pid: &str| -> Result<String, Trouble> {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find(|line| line.starts_with("SigBlk:"));
            Ok(line.unwrap_or("no SigBlk").to_owned())
        };
        let mut plain = std::process::Command::new(build(&KERNEL)?).spawn()?;
        let expected = mask(&plain.id().to_string());
        plain.kill()?;
        plain.wait()?;
        let mount = Mount::new(&[])?;
        let pid = mount.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let (found, expected) = (mask(children.trim())?, expected?);
        if found == expected { Ok(()) } else { Err(format!("{found}, not {expected}").into()) }
    });
    checks.case("a blocked reader can be killed", || {
        let mount = Mount::new(&[])?;
        let mut reader = std::process::Command::new("cat")
            .arg(mount.path("trace_pipe"))
            .stdout(Stdio::null())
            .spawn()?;
        sleep(Duration::from_millis(100));
        reader.kill()?;
        reader.wait()?;
        Ok(())
    });
    checks.case("function graph", || {
        let mut mount = Mount::new(&[])?;
        mount.echo("function_graph", "current_tracer")?;
        let text = mount.shows("trace", "mutex_lock() {")?;
        for line in ["kernel_clone() {\n", "_raw_spin_lock();\n", "}\n"] {
            if !text.contains(line) {
                return Err(format!("no {line} in {text}").into());
            }
        }
        Ok(())
    });
    checks.case("profile, stack tracer and instances at once", || {
        let mut mount = Mount::new(&[])?;
        fs::create_dir(mount.path("instances/one"))?;
        mount.echo("kfree", "instances/one/set_ftrace_filter")?;
        mount.echo("function", "instances/one/current_tracer")?;
        mount.echo("1", "function_profile_enabled")?;
        mount.echo("1", "stack_tracer_enabled")?;
        mount.shows("trace_stat/function0", "\n  vfs_read ")?;
        mount.shows("stack_trace", ") ")?;
        let text = mount.shows("instances/one/trace", "kfree <-do_syscall_64")?;
        if entries(&text).any(|line| !line.contains("kfree")) {
            return Err(text.into());
        }
        if entries(&mount.cat("trace")?).next().is_some() {
            return Err("the top records what it was not asked for".into());
        }
        fs::remove_dir(mount.path("instances/one"))?;
        Ok(())
    });
    checks.finish();
}
