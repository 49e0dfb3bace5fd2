//! An analysis of somebody else's: the example outside the workspace, built and run on a recording.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;

use sledge_tests::{Checks, Invocation, Program, build, record, run, scratch};

const NEST: Program = Program::named_source("nest-for-sink", "nest.c");

#[test]
fn an_analysis_is_one_small_file() {
    let mut checks = Checks::new("sink");
    checks.case("deepest", || {
        let recording = record(&Invocation::new(build(&NEST)?, ["x"]), &["--no-libcall"])?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no parent")?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(["run", "--quiet", "--locked", "--manifest-path"]);
        cargo.arg(root.join("examples/sink/Cargo.toml"));
        cargo.arg("--target-dir").arg(scratch()?.join("sink")).arg("--").arg(&recording.trace);
        let shown = run(cargo, b"")?;
        let wanted = "4 deep: main > a > b > c\n";
        if shown.text().ends_with(wanted) {
            return Ok(());
        }
        Err(format!("wanted {wanted:?}, got {:?} {:?}", shown.text(), shown.errors()).into())
    });
    checks.finish();
}
