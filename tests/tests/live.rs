//! `sledge PROGRAM`, replay and report: what people see.
#![forbid(unsafe_code)]

use sledge_tests::{Checks, End, Invocation, Trouble, build, named, record, run, sledge};

const NEST: &str = "main() {
  a() {
    b() {
      c() {
        getpid();
      } /* c */
    } /* b */
  } /* a */
} /* main */
";

/// The graph without the columns before it.
fn graph(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once("| ")).map(|(_, code)| format!("{code}\n")).collect()
}

fn same(is: &str, wanted: &str) -> Result<(), Trouble> {
    if is == wanted { Ok(()) } else { Err(format!("wanted\n{wanted}got\n{is}").into()) }
}

/// Runs `sledge options program arguments`.
fn live(
    options: &[&str],
    name: &str,
    arguments: &[&str],
) -> Result<(String, String, End), Trouble> {
    let mut command = sledge(options)?;
    command.arg(build(named(name))?).args(arguments);
    let finished = run(command, b"")?;
    Ok((finished.text(), finished.errors(), finished.end))
}

#[test]
fn what_a_run_shows() {
    let mut checks = Checks::new("live");
    checks.case("a nest", || {
        let (text, _, end) = live(&[], "nest-O2", &[])?;
        same(&graph(&text), NEST)?;
        if end == End::Exited(0) { Ok(()) } else { Err(format!("{end:?}").into()) }
    });
    checks.case("without columns", || {
        let (text, _, _) = live(&["-f", "none"], "nest-O2", &[])?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        same(&lines.map(|line| format!("{line}\n")).collect::<String>(), NEST)
    });
    checks.case("colours only where asked", || {
        let (plain, _, _) = live(&[], "nest-O2", &[])?;
        let (coloured, _, _) = live(&["--color", "always"], "nest-O2", &[])?;
        let escape = '\u{1b}';
        if plain.contains(escape) || !coloured.contains(escape) {
            Err(coloured.into())
        } else {
            Ok(())
        }
    });
    checks.case("the program's output and status", || {
        let (text, _, end) = live(&[], "exit", &["exit"])?;
        let found = text.contains("at exit\n") && text.contains("leave() {");
        if found && end == End::Exited(3) { Ok(()) } else { Err(format!("{end:?}\n{text}").into()) }
    });
    checks.case("a signal", || {
        let (text, said, end) = live(&[], "kill9", &["kill"])?;
        let told =
            said.lines().any(|line| line.starts_with("sledge: ") && line.contains("SIGKILL"));
        if told && end == End::Exited(137) && text.contains("wait_here() {") {
            return Ok(());
        }
        Err(format!("{end:?}\n{text}{said}").into())
    });
    checks.finish();
}

#[test]
fn what_a_recording_shows() {
    let mut checks = Checks::new("replay and report");
    checks.case("replay", || {
        let recording = record(&Invocation::of(named("nest-O2"))?, &[])?;
        let mut command = sledge(["replay", "-i"])?;
        command.arg(&recording.trace);
        same(&graph(&run(command, b"")?.text()), NEST)
    });
    checks.case("report", || {
        let recording = record(&Invocation::of(named("threads4"))?, &[])?;
        let mut command = sledge(["report", "-i"])?;
        command.arg(&recording.trace);
        let text = run(command, b"")?.text();
        for (name, calls) in
            [("leaf", "60000"), ("middle", "20000"), ("worker", "4"), ("main", "1")]
        {
            let row = text.lines().find(|line| line.split_whitespace().any(|word| word == name));
            let row = row.ok_or_else(|| format!("no {name}:\n{text}"))?;
            if !row.split_whitespace().any(|word| word == calls) {
                return Err(format!("not {calls} calls of {name}: {row}").into());
            }
        }
        Ok(())
    });
    checks.finish();
}
