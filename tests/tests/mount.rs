//! `sledge mount`: a real process, driven as a shell drives ftrace.
#![forbid(unsafe_code)]

use sledge_tests::{Checks, Mount, Program, Trouble, build};
use std::fs::{self, File};
use std::io::Read;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

const KERNEL: Program = Program::named_source("kernel", "kernel.c");

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn a_process_is_driven_by_files() {
    let mut checks = Checks::new("mount");
    checks.case("filter and function tracer", || {
        let mut mount = Mount::new(&KERNEL, &[])?;
        mount.echo("*lock*", "set_ftrace_filter")?;
        mount.echo("function", "current_tracer")?;
        let text = mount.shows("trace", "_raw_spin_lock <-mutex_lock")?;
        match entries(&text).find(|line| !line.contains("lock")) {
            Some(line) => Err(Trouble::Fail(line.into())),
            None => Ok(()),
        }
    });
    checks.case("a pipe blocks, and gives what happens", || {
        let mount = Mount::new(&KERNEL, &[])?;
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
        let mount = Mount::new(&KERNEL, &[])?;
        let pid = mount.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let (found, expected) = (mask(children.trim())?, expected?);
        if found == expected { Ok(()) } else { Err(format!("{found}, not {expected}").into()) }
    });
    checks.case("a blocked reader can be killed", || {
        let mount = Mount::new(&KERNEL, &[])?;
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
        let mut mount = Mount::new(&KERNEL, &[])?;
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
        let mut mount = Mount::new(&KERNEL, &[])?;
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
