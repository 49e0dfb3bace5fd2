//! Compiles what is in `programs/`, once for every content.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::checks::Trouble;
use crate::programs::Program;
use crate::run::scratch;

/// Builds `program` and gives the path of the result. What was built before of the same sources and
/// flags is taken as it is; builds may run at the same time.
///
/// # Errors
/// Skips where the compiler, a library for another one, or the CPU feature is missing.
pub fn build(program: &Program) -> Result<PathBuf, Trouble> {
    needs_cpu(program)?;
    let sources = sources(program);
    let result = scratch()?.join(format!("{}-{:016x}", program.name, digest(program, &sources)?));
    if result.exists() {
        return Ok(result);
    }
    let partial = result.with_extension(format!("{}.partial", unique()));
    let output = compiler(program, &sources, &partial)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Trouble::Skip(format!("{}: {error}", compiler_name(program))))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(match program.compiler {
            Some(_) => Trouble::Skip(said.lines().next().unwrap_or("does not build").to_owned()),
            None => Trouble::Fail(said),
        });
    }
    // Not renamed: another test may have made it meanwhile, and run it; its file must stay.
    let linked = fs::hard_link(&partial, &result);
    fs::remove_file(&partial)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(result),
    }
}

fn unique() -> String {
    format!("{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], "")
}

fn programs_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}

fn is_source(flag: &str) -> bool {
    !flag.starts_with('-') && (flag.ends_with(".S") || flag.ends_with(".c"))
}

fn sources(program: &Program) -> Vec<PathBuf> {
    let further = program.flags.iter().copied().filter(|flag| is_source(flag));
    std::iter::once(program.source).chain(further).map(|s| programs_directory().join(s)).collect()
}

fn digest(program: &Program, sources: &[PathBuf]) -> Result<u64, Trouble> {
    let mut hasher = DefaultHasher::new();
    (program.flags, compiler_name(program)).hash(&mut hasher);
    for source in sources {
        fs::read(source)?.hash(&mut hasher);
    }
    fs::read(programs_directory().join("check.h"))?.hash(&mut hasher);
    Ok(hasher.finish())
}

fn compiler_name(program: &Program) -> &'static str {
    program.compiler.unwrap_or(match program.source.rsplit('.').next() {
        Some("rs") => "rustc",
        Some("cpp") => "g++",
        _ => "gcc",
    })
}

fn compiler(program: &Program, sources: &[PathBuf], output: &Path) -> Command {
    let mut command = Command::new(compiler_name(program));
    match program.source.rsplit('.').next() {
        Some("rs") => {
            command.args(["--edition=2021", "--crate-name=traced"]);
        }
        Some("cpp") => {
            command.arg("-std=c++20");
        }
        _ => {
            command.arg("-std=gnu17");
        }
    }
    command.args(program.flags.iter().filter(|flag| !is_source(flag)));
    command.arg("-o").arg(output).args(sources);
    if !program.source.ends_with(".rs") {
        command.args(["-pthread", "-lm"]);
    }
    command
}

fn needs_cpu(program: &Program) -> Result<(), Trouble> {
    let Some(flag) = program.cpu else { return Ok(()) };
    let info = fs::read_to_string("/proc/cpuinfo")?;
    if info.split_whitespace().any(|word| word == flag) {
        return Ok(());
    }
    Err(Trouble::Skip(format!("this CPU has no {flag}")))
}
