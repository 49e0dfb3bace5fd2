//! All programs, with everything in them traced by the library from the inside: entries and exits, by
//! a preloaded object that is written in C. They behave as they do without.
#![forbid(unsafe_code)]

use sledge_tests::{
    Checks, Invocation, PROGRAMS, Program, Trouble, invoke, invoke_by, run, scratch,
    target_directory, tool,
};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the loader cannot preload anything into.
fn is_static(program: &Program) -> bool {
    program.flags.iter().any(|flag| flag.starts_with("-static") && !flag.contains("-static-lib"))
        || program.compiler == Some("musl-gcc")
}

fn root() -> Result<&'static Path, Trouble> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or_else(|| "no parent".into())
}

/// Where `libsledge.so` is.
fn libraries() -> Result<PathBuf, Trouble> {
    let directory = target_directory().join("release");
    if directory.join("libsledge.so").is_file() {
        return Ok(directory);
    }
    Err(Trouble::Skip("libsledge.so is not built: cargo build --release -p sledge-c".into()))
}

/// Compiles against the library.
fn compile(compiler: &str, source: &str, output: &str, more: &[&str]) -> Result<PathBuf, Trouble> {
    let (libraries, root) = (libraries()?, root()?);
    let output = scratch()?.join(output);
    let mut command = Command::new(compiler);
    command.args(["-O2", "-Wall", "-Werror", "-I"]).arg(root.join("crates/c/include"));
    command.arg(root.join(source)).arg("-o").arg(&output);
    match more {
        ["static"] => command.arg(libraries.join("libsledge.a")).args(["-lpthread", "-ldl", "-lm"]),
        more => {
            command.args(more).arg("-L").arg(&libraries).arg("-lsledge");
            command.arg(format!("-Wl,-rpath,{}", libraries.display()))
        }
    };
    let made = run(command, b"")?;
    if made.end.as_status() == 0 { Ok(output) } else { Err(made.errors().into()) }
}

#[test]
fn programs_traced_from_the_inside() {
    let mut checks = Checks::new("the library in programs");
    let everything =
        || compile("gcc", "tests/programs/everything.c", "everything.so", &["-shared", "-fPIC"]);
    // One shows its environment, where the object's name is.
    let shown = |program: &&Program| program.name == "environ";
    for program in PROGRAMS.iter().filter(|program| !is_static(program) && !shown(program)) {
        checks.case(program.name, || {
            let invocation = Invocation::of(program)?;
            let plain = invoke(&invocation)?;
            let mut preload = std::ffi::OsString::from("LD_PRELOAD=");
            preload.push(everything()?);
            let mut runner = Command::new("env");
            runner.arg(preload);
            let traced = invoke_by(&invocation, runner)?;
            if traced.end == plain.end && traced.text() == plain.text() {
                return Ok(());
            }
            Err(format!("{traced:?}, and without: {plain:?}").into())
        });
    }
    checks.finish();
}

/// Each function of the header, from C.
#[test]
fn verbs_in_c() {
    let mut checks = Checks::new("the verbs in C");
    for (how, more) in [("shared", &[][..]), ("static", &["static"][..])] {
        checks.case(how, || {
            let program = compile("gcc", "tests/programs/verbs.c", &format!("verbs-{how}"), more)?;
            let finished = run(Command::new(program), b"")?;
            if finished.text() == "all verbs\n" {
                return Ok(());
            }
            Err(format!("{finished:?}").into())
        });
    }
    checks.finish();
}

/// The README's examples, and what they print.
#[test]
fn examples_in_c() {
    let mut checks = Checks::new("examples in C and C++");
    let counted = "10 calls counted, 10 timed\nbtree_insert (2)\n\
                   -4, and: ops 3 has the function btree_insert for itself\n9 again, after 10 calls\n";
    let thrown = "6 entries, 3 exits, 3 exceptions\n";
    for (compiler, source, expected) in
        [("gcc", "examples/c/count.c", counted), ("g++", "examples/c/lambda.cpp", thrown)]
    {
        for (how, more) in [("shared", &[][..]), ("static", &["static"][..])] {
            checks.case(&format!("{source}, {how}"), || {
                let program =
                    compile(compiler, source, &format!("{compiler}-example-{how}"), more)?;
                let finished = run(Command::new(program), b"")?;
                if finished.text() == expected {
                    return Ok(());
                }
                Err(format!("{finished:?}").into())
            });
        }
    }
    checks.finish();
}

/// gdb shows generated code by name, and goes through it.
#[test]
fn debuggers_are_told() {
    let mut checks = Checks::new("gdb and the library");
    checks.case("bt", || {
        tool("gdb")?;
        let program = compile("gcc", "tests/programs/debugged.c", "debugged", &["-g", "-O1"])?;
        let mut gdb = Command::new("gdb");
        gdb.args(["-nx", "-batch", "-ex", "set confirm off", "-ex", "set debuginfod enabled off"]);
        let commands =
            ["break sledge_tell_debuggers", "run", "finish", "break innermost", "continue"];
        let more = ["bt", "delete", "break in_callback", "continue", "bt"];
        for command in commands.iter().chain(&more) {
            gdb.arg("-ex").arg(command);
        }
        let text = run(
            {
                gdb.arg(program);
                gdb
            },
            b"",
        )?
        .text();
        let frames = |text: &str| {
            let frames = text.lines().filter(|line| line.starts_with('#'));
            let name = |line: &str| {
                let name = line.split(" (").next().unwrap_or_default();
                name.rsplit(' ').next().unwrap_or_default().to_owned()
            };
            frames.map(name).collect::<Vec<_>>()
        };
        let all = frames(&text);
        let inside = ["innermost", "middle", "sledge_hooked:middle", "outermost"];
        let inside = [&inside[..], &["sledge_hooked:outermost", "main"]].concat();
        let found = |wanted: &[&str]| all.windows(wanted.len()).any(|some| some == wanted);
        let callback = ["sledge_leave", "outermost", "sledge_hooked:outermost", "main"];
        if found(&inside) && found(&callback) { Ok(()) } else { Err(text.into()) }
    });
    checks.finish();
}
