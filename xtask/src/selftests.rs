//! The kernel's own ftrace self-tests, run unmodified against a process.
//!
//! They are GPL-2.0 and are never committed: they come from the kernel's sources, as a directory or
//! as Debian's package, which is fetched when asked for.

mod cases;

use anyhow::{Context, Result, bail, ensure};
use cases::{NOT_RUN, Outcome, reason};
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGE: &str = "linux-source-6.12";
const NAMESPACE: &str = include_str!("selftests/namespace.sh");

/// Runs them all, or those whose path contains a word, and prints a table.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>> {
    let options = Options::read(arguments)?;
    let tests = match options.from {
        Some(directory) => directory,
        None => fetched(options.fetch)?,
    };
    ensure!(tests.join("ftracetest").exists(), "no ftracetest in {}", tests.display());
    let work = target().join("selftests-run");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let list = cases(&tests.join("test.d"), options.only.as_deref())?;
    let (sledge, kernel) = (build_sledge()?, build_kernel(&work)?);
    run_in_namespace(&sledge, &kernel, &tests, &work, &list)?;
    table(&work, &list)
}

#[derive(Debug, Default)]
struct Options {
    fetch: bool,
    from: Option<PathBuf>,
    only: Option<String>,
}

impl Options {
    fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let (mut options, mut arguments) = (Self::default(), arguments.into_iter());
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--fetch") => options.fetch = true,
                Some("--from") => options.from = arguments.next().map(PathBuf::from),
                Some(word) if !word.starts_with('-') => options.only = Some(word.to_owned()),
                _ => bail!("usage: cargo xtask selftests [--fetch | --from DIR] [WORD]"),
            }
        }
        Ok(options)
    }
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

/// Where the tests of the package lie.
fn fetched(fetch: bool) -> Result<PathBuf> {
    let place = target().join("selftests");
    let tests = place.join(PACKAGE).join("tools/testing/selftests/ftrace");
    if !tests.exists() {
        ensure!(
            fetch,
            "the tests are not here: give --fetch (150 MB by apt-get download) or --from DIR"
        );
        fs::create_dir_all(&place)?;
        let script = format!(
            "set -e; apt-get download -q {PACKAGE}; \
             dpkg-deb --fsys-tarfile {PACKAGE}_*.deb | tar -xf - ./usr/src/{PACKAGE}.tar.xz; \
             tar -xJf usr/src/{PACKAGE}.tar.xz {PACKAGE}/tools/testing/selftests/ftrace; \
             rm -rf usr {PACKAGE}_*.deb"
        );
        let status = Command::new("sh").args(["-c", &script]).current_dir(&place).status()?;
        ensure!(status.success(), "fetching {PACKAGE} failed");
    }
    Ok(fs::canonicalize(tests)?)
}

/// Paths of the cases, in `test.d`.
fn cases(directory: &Path, only: Option<&str>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "tc") {
                found.push(path.strip_prefix(directory)?.to_string_lossy().into_owned());
            }
        }
    }
    found.retain(|case| case != NOT_RUN && only.is_none_or(|word| case.contains(word)));
    found.sort();
    Ok(found)
}

fn build_sledge() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--release", "--quiet", "--package", "sledge-cli"];
    let status = Command::new(cargo).args(arguments).status()?;
    ensure!(status.success(), "sledge does not build");
    fs::canonicalize(target().join("release/sledge")).context("target/release/sledge")
}

/// The traced program: its functions bear the names that the tests use.
fn build_kernel(work: &Path) -> Result<PathBuf> {
    let output = work.join("kernel");
    let source = "tests/programs/kernel.c";
    let arguments = ["-O1", "-fno-optimize-sibling-calls", "-pthread", "-o"];
    let status = Command::new("gcc").args(arguments).arg(&output).arg(source).status()?;
    ensure!(status.success(), "{source} does not build");
    Ok(fs::canonicalize(output)?)
}

fn run_in_namespace(
    sledge: &Path,
    kernel: &Path,
    tests: &Path,
    work: &Path,
    list: &[String],
) -> Result<()> {
    let work = fs::canonicalize(work)?;
    let script = work.join("namespace.sh");
    fs::write(&script, NAMESPACE)?;
    let mut child = Command::new("unshare")
        .args(["--mount", "sh"])
        .args([&script, sledge, kernel, tests, &work])
        .stdin(Stdio::piped())
        .spawn()
        .context("unshare")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all((list.join("\n") + "\n").as_bytes())?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "the namespace could not be set up (root is needed): {status}");
    Ok(())
}

/// Prints what became of each case, as a table for SPECIFICATION.md.
fn table(work: &Path, list: &[String]) -> Result<Vec<String>> {
    let (mut passed, mut findings) = (0, Vec::new());
    println!("| case | result | why not |\n|---|---|---|");
    for case in list {
        let text = fs::read_to_string(work.join(case.replace('/', "_") + ".out"))?;
        for (instance, outcome) in Outcome::read_all(&text) {
            let name = if instance { format!("{case} (instance)") } else { case.clone() };
            let why = if outcome == Outcome::Pass { "" } else { reason(case).unwrap_or("") };
            passed += usize::from(outcome == Outcome::Pass);
            println!("| {name} | {outcome} | {why} |");
            if outcome == Outcome::Fail && why.is_empty() {
                findings.push(format!("{name} fails"));
            }
        }
    }
    if let Some(why) = reason(NOT_RUN) {
        println!("| {NOT_RUN} | not run | {why} |");
    }
    println!("\n{passed} pass; what the others said is in {}", work.display());
    Ok(findings)
}
