//! What cannot work ends with one clear error: a sentence that names the cause, no panic.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use sledge_tests::{
    Checks, End, Finished, Invocation, Trouble, build, named, record, run, scratch, sledge, tool,
};
use tempfile::TempDir;

/// Our exit status for what failed, and for what was asked wrongly.
const REFUSED: [i32; 4] = [1, 2, 126, 127];

/// One error, on standard error, with all of `words` in it.
fn clear(finished: &Finished, words: &[&str]) -> Result<(), Trouble> {
    let said = finished.errors();
    let wrong = |what: &str| Err(Trouble::Fail(format!("{what} ({:?}):\n{said}", finished.end)));
    if !matches!(finished.end, End::Exited(status) if REFUSED.contains(&status)) {
        return wrong("ended otherwise");
    }
    if said.lines().filter(|line| line.starts_with("sledge: ")).count() != 1 {
        return wrong("not one error");
    }
    if said.contains("panicked") || said.lines().count() > 4 {
        return wrong("not for people");
    }
    match words.iter().find(|word| !said.contains(**word)) {
        Some(word) => wrong(&format!("does not say `{word}`")),
        None => Ok(()),
    }
}

/// A file named `name` that holds `bytes`.
fn file(directory: &TempDir, name: &str, bytes: &[u8], mode: u32) -> Result<PathBuf, Trouble> {
    let path = directory.path().join(name);
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(path)
}

/// The header of a 32-bit executable for i386, and nothing behind it.
fn elf32() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    bytes.resize(52, 0);
    bytes[40] = 52;
    bytes
}

fn recording_fails(program: &Path, words: &[&str]) -> Result<(), Trouble> {
    let recording = record(&Invocation::new(program, [""; 0]), &[])?;
    clear(&recording.finished, words)?;
    if recording.trace.exists() { Err("leaves a trace file".into()) } else { Ok(()) }
}

#[test]
fn programs_that_cannot_be_traced() {
    let mut checks = Checks::new("errors, programs");
    let elf32 = elf32();
    let mut big_endian = elf32.clone();
    (big_endian[4], big_endian[5]) = (2, 2);
    let files: &[(&str, &[u8], u32, &[&str])] = &[
        ("no-permission", b"\x7fELF", 0o644, &["no-permission"]),
        ("text", b"hello, this is no program\n", 0o755, &["text"]),
        ("empty", b"", 0o755, &["empty"]),
        ("elf32", &elf32, 0o755, &["elf32", "32-bit"]),
        ("other-machine", &big_endian, 0o755, &["other-machine"]),
        ("cut", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0", 0o755, &["cut"]),
    ];
    for (name, bytes, mode, words) in files {
        checks.case(name, || {
            let directory = TempDir::new_in(scratch()?)?;
            recording_fails(&file(&directory, name, bytes, *mode)?, words)
        });
    }
    checks.case("missing", || {
        recording_fails(Path::new("/nonexistent/program"), &["/nonexistent/program"])
    });
    checks.case("not in PATH", || {
        recording_fails(Path::new("no-such-program"), &["no-such-program"])
    });
    checks.case("a directory", || recording_fails(Path::new("/usr"), &["/usr", "directory"]));
    checks.case("setuid", || {
        let directory = TempDir::new_in(scratch()?)?;
        let bytes = fs::read(build(named("nest-O2"))?)?;
        let program = file(&directory, "program", &bytes, 0o755)?;
        // Of another user than ours: only then does it change who we are.
        if chown(&program, Some(65534), None).is_err() {
            return Err(Trouble::Skip("only root can make a file another user's".into()));
        }
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
        recording_fails(&program, &["program", "setuid"])
    });
    checks.case("cut in half", || {
        let directory = TempDir::new_in(scratch()?)?;
        let bytes = fs::read(build(named("nest-O2"))?)?;
        let program = file(&directory, "half", &bytes[..bytes.len() / 2], 0o755)?;
        // The kernel may run it or not; either way there is one clear end to it.
        let finished = record(&Invocation::new(program, [""; 0]), &[])?.finished;
        if finished.errors().contains("panicked") { Err(finished.errors().into()) } else { Ok(()) }
    });
    checks.case("a filter that matches nothing", || {
        let nest = Invocation::of(named("nest-O2"))?;
        clear(&record(&nest, &["-F", "^nowhere$"])?.finished, &["nowhere"])
    });
    checks.case("a filter that may match in a program that is started", || {
        let finished = record(&Invocation::of(named("shell"))?, &["-F", "^nowhere$"])?.finished;
        if finished.errors().is_empty() { Ok(()) } else { Err(finished.errors().into()) }
    });
    checks.case("a pattern that is none", || {
        let nest = Invocation::of(named("nest-O2"))?;
        clear(&record(&nest, &["-F", "(("])?.finished, &["(("])
    });
    checks.finish();
}

/// A script is run by its interpreter, which is what is traced.
#[test]
fn scripts_run_by_their_interpreter() {
    let mut checks = Checks::new("scripts");
    checks.case("#!", || {
        let directory = TempDir::new_in(scratch()?)?;
        let script = file(&directory, "script", b"#!/bin/sh\necho from a script; exit 9\n", 0o755)?;
        let recording = sledge_tests::compare(&Invocation::new(script, ["x"]), &[])?;
        sledge_tests::tally(&recording.trace)?.balanced()
    });
    checks.finish();
}

const READERS: [&[&str]; 3] = [&["replay"], &["report"], &["dump", "--format", "jsonl"]];

/// Reads `trace` in every way; gives what each said.
fn read_all(trace: &Path) -> Result<Vec<Finished>, Trouble> {
    READERS
        .iter()
        .map(|reader| {
            let mut command = sledge(*reader)?;
            command.arg("-i").arg(trace);
            run(command, b"")
        })
        .collect()
}

#[test]
fn traces_that_cannot_be_read() {
    let mut checks = Checks::new("errors, traces");
    let cases: &[(&str, &[u8])] =
        &[("empty", b""), ("text", b"this is no trace at all\n"), ("zeroes", &[0; 4096])];
    for (name, bytes) in cases {
        checks.case(name, || {
            let directory = TempDir::new_in(scratch()?)?;
            let trace = file(&directory, name, bytes, 0o644)?;
            read_all(&trace)?.iter().try_for_each(|finished| clear(finished, &[name]))
        });
    }
    checks.case("missing", || {
        read_all(Path::new("/nonexistent.sledge"))?
            .iter()
            .try_for_each(|finished| clear(finished, &["/nonexistent.sledge"]))
    });
    checks.case("a directory", || {
        read_all(Path::new("/usr"))?.iter().try_for_each(|finished| clear(finished, &["/usr"]))
    });
    checks.case("not readable", || {
        let directory = TempDir::new_in(scratch()?)?;
        let trace = file(&directory, "secret", b"x", 0)?;
        if fs::read(&trace).is_ok() {
            return Err(Trouble::Skip("root reads everything".into()));
        }
        read_all(&trace)?.iter().try_for_each(|finished| clear(finished, &["secret"]))
    });
    checks.finish();
}

/// However a trace is damaged: what is whole is shown, or one error is; and nothing else happens.
#[test]
fn damaged_traces() {
    let mut checks = Checks::new("errors, damage");
    let whole = || -> Result<(TempDir, Vec<u8>), Trouble> {
        let recording = record(&Invocation::of(named("tree"))?, &[])?;
        Ok((TempDir::new_in(scratch()?)?, fs::read(&recording.trace)?))
    };
    let orderly = |directory: &TempDir, bytes: &[u8]| -> Result<(), Trouble> {
        for finished in read_all(&file(directory, "trace", bytes, 0o644)?)? {
            let said = finished.errors();
            match finished.end {
                End::Exited(0) if !said.contains("panicked") => {}
                _ => clear(&finished, &["trace"])?,
            }
        }
        Ok(())
    };
    checks.case("truncated", || {
        let (directory, bytes) = whole()?;
        let step = (bytes.len() / 40).max(1);
        (0..bytes.len()).step_by(step).try_for_each(|length| orderly(&directory, &bytes[..length]))
    });
    checks.case("bits flipped", || {
        let (directory, bytes) = whole()?;
        let step = (bytes.len() / 120).max(1);
        (0..bytes.len()).step_by(step).try_for_each(|at| {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            orderly(&directory, &damaged).map_err(|why| Trouble::Fail(format!("byte {at}: {why}")))
        })
    });
    checks.finish();
}

/// The program goes on and ends as it would; what cannot be kept is said.
#[test]
fn a_full_disk() {
    let mut checks = Checks::new("errors, full disk");
    checks.case("recording to /dev/full", || {
        let mut command = sledge(["record", "-o", "/dev/full"])?;
        command.arg(build(named("threads4"))?);
        let finished = run(command, b"")?;
        let said = finished.errors();
        if said.contains("panicked")
            || said.lines().filter(|l| l.starts_with("sledge: ")).count() != 1
        {
            return Err(format!("{:?}\n{said}", finished.end).into());
        }
        Ok(())
    });
    checks.case("recording to a small file system", on_a_small_file_system);
    checks.case("dumping to /dev/full", || {
        let recording = record(&Invocation::of(named("threads4"))?, &[])?;
        let mut command = Command::new(tool("bash")?);
        command.args(["-c", "exec \"$0\" dump -i \"$1\" --format jsonl > /dev/full"]);
        command.arg(sledge_tests::sledge_path()?).arg(&recording.trace);
        clear(&run(command, b"")?, &["space"])
    });
    checks.case("a reader that goes away", || {
        let recording = record(&Invocation::of(named("threads4"))?, &[])?;
        let mut command = Command::new(tool("bash")?);
        command.args(["-c", "\"$0\" replay -i \"$1\" | head -n 3"]);
        command.arg(sledge_tests::sledge_path()?).arg(&recording.trace);
        let finished = run(command, b"")?;
        let quiet = finished.stderr.is_empty() && finished.text().lines().count() == 3;
        if quiet { Ok(()) } else { Err(finished.errors().into()) }
    });
    checks.finish();
}

/// 128 KiB is less than the trace of three million calls: the program still ends well, it is said,
/// and what was kept can be read or is refused with one error.
fn on_a_small_file_system() -> Result<(), Trouble> {
    let directory = TempDir::new_in(scratch()?)?;
    let script = "mount -t tmpfs -o size=128k none \"$0\" || exit 77
        \"$1\" record -o \"$0/t.sledge\" \"$2\"
        \"$1\" report -i \"$0/t.sledge\" 2>&1 > /dev/null | grep panicked >&2";
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", script]).arg(directory.path());
    command.arg(sledge_tests::sledge_path()?).arg(build(named("returns"))?);
    let finished = run(command, b"").map_err(|why| Trouble::Skip(format!("unshare: {why}")))?;
    let said = finished.errors();
    if finished.end == End::Exited(77) || said.contains("unshare failed") {
        return Err(Trouble::Skip("no tmpfs can be mounted here".into()));
    }
    let told = said.lines().any(|line| line.starts_with("sledge: ") && line.contains("space"));
    if finished.text() != "returned\n" || said.contains("panicked") || !told {
        return Err(format!("{}{said}", finished.text()).into());
    }
    Ok(())
}
