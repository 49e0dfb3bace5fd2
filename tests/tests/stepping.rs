//! A debugger that stops at any instruction of a thunk sees the whole stack.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sledge_tests::{Checks, Trouble, build, named, run, scratch, sledge, tool};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/step.py");

fn wait_for_pid(file: &Path) -> Result<String, Trouble> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        let pid = fs::read_to_string(file).unwrap_or_default();
        if pid.ends_with('\n') {
            return Ok(pid.trim().to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("the program did not start".into())
}

/// Attaches gdb to the program that `start` runs, steps, and gives the three sums of step.py.
fn step(mut start: Command, pid_file: &Path) -> Result<[u64; 3], Trouble> {
    let gdb = tool("gdb")?;
    start.arg(build(named("step"))?).arg(pid_file).stdout(Stdio::null());
    let mut child = start.spawn()?;
    let pid = wait_for_pid(pid_file);
    let stepped = pid.and_then(|pid| {
        let mut command = Command::new(gdb);
        command.args(["-q", "-batch", "-nx", "-p", &pid, "-x", SCRIPT]);
        run(command, b"")
    });
    if stepped.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    let said = stepped?.text();
    let sums = said.lines().find(|line| line.starts_with("steps ")).ok_or_else(|| said.clone())?;
    let numbers: Vec<u64> = sums.split(' ').filter_map(|word| word.parse().ok()).collect();
    let sums = <[u64; 3]>::try_from(numbers).map_err(|_| said.clone())?;
    match (sums, status.success()) {
        ([_, _, 0], true) => Ok(sums),
        _ => Err(format!("{status}\n{said}").into()),
    }
}

#[test]
fn a_backtrace_is_whole_at_every_instruction() {
    let mut checks = Checks::new("stepping");
    checks.case("untraced", || {
        let directory = tempfile::TempDir::new_in(scratch()?)?;
        // `env` stands where `sledge record` will.
        let [steps, generated, _] = step(Command::new("env"), &directory.path().join("pid"))?;
        if steps < 50 || generated != 0 {
            Err(format!("{steps} steps, {generated} ours").into())
        } else {
            Ok(())
        }
    });
    checks.case("traced", || {
        let directory = tempfile::TempDir::new_in(scratch()?)?;
        let mut record = sledge(["record", "-o"])?;
        record.arg(directory.path().join("trace.sledge"));
        let [steps, generated, _] = step(record, &directory.path().join("pid"))?;
        if generated < 100 {
            Err(format!("{generated} of {steps} steps in our code").into())
        } else {
            Ok(())
        }
    });
    checks.finish();
}
