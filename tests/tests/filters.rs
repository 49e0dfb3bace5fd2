//! A filter says the same when recording and when reading.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use sledge_tests::{Checks, Event, Invocation, Kind, Trouble, compare, each_event, named, tool};

/// A trace without what differs from run to run: times, and the numbers of threads.
fn shape(trace: &Path, options: &[&str]) -> Result<Vec<String>, Trouble> {
    let mut threads = BTreeMap::new();
    let mut lines: Vec<Vec<String>> = Vec::new();
    each_event(trace, options, |event: Event| {
        if !matches!(event.kind, Kind::Entry | Kind::Exit) {
            return;
        }
        let thread = *threads.entry((event.pid, event.tid)).or_insert_with(|| {
            lines.push(Vec::new());
            lines.len() - 1
        });
        let Event { kind, func, module, depth, ending, .. } = event;
        lines[thread].push(format!("{kind:?} {func}@{module} {depth} {ending:?}"));
    })?;
    Ok(lines.concat())
}

/// Records with the filter, and without; reading the second with the filter must give the first.
/// Gives the number of events that pass it.
fn alike(invocation: &Invocation, scope: &[&str], filter: &[&str]) -> Result<usize, Trouble> {
    let filtered = compare(invocation, &[scope, filter].concat())?;
    let whole = compare(invocation, scope)?;
    let recorded = shape(&filtered.trace, &[])?;
    let read = shape(&whole.trace, filter)?;
    let all = shape(&whole.trace, &[])?;
    for (number, (a, b)) in recorded.iter().zip(&read).enumerate() {
        if a != b {
            return Err(format!("event {number}: recorded `{a}`, read `{b}`").into());
        }
    }
    if recorded.len() != read.len() {
        return Err(format!("{} events recorded, {} read", recorded.len(), read.len()).into());
    }
    if all.len() <= read.len() {
        return Err(format!("{filter:?} keeps all {} events", all.len()).into());
    }
    Ok(recorded.len())
}

const TREE: &[(&[&str], usize)] = &[
    (&["-F", "^http_parse$"], 6 * 5 * 2),
    (&["-F", "^http_"], 3 * (13 + 5) * 2),
    (&["-F", "http_*", "--match", "glob"], 3 * (13 + 5) * 2),
    (&["-F", "^slow_leaf$", "-F", "^leaf$"], 3 * 23 * 2),
    (&["-N", "^branch$"], 0),
    (&["-N", "^(recursive|http_serve)$"], 0),
    (&["-D", "2"], 0),
    (&["-D", "1"], 2),
    (&["-t", "30ms"], (1 + 3 * 3) * 2),
    (&["-F", "^http_serve$", "-N", "^slow_", "-D", "3"], 0),
    (&["-F", "^recursive$", "-D", "2"], 0),
    (&["-F", "^http_serve$", "-t", "30ms"], 3 * 3 * 2),
    (&["-H", "^branch$"], 0),
    (&["-C", "^slow_leaf$"], (1 + 3 * 3) * 2),
    (&["-F", "leaf@tree"], 0),
];

#[test]
fn filters_on_a_fixture() {
    let mut checks = Checks::new("filters, tree");
    for (filter, wanted) in TREE {
        checks.case(&filter.join(" "), || {
            let tree = Invocation::of(named("tree"))?;
            let passed = alike(&tree, &["--no-libcall"], filter)?;
            if *wanted != 0 && passed != *wanted {
                return Err(format!("{passed} events pass, wanted {wanted}").into());
            }
            Ok(())
        });
    }
    checks.finish();
}

#[test]
fn filters_on_threads_and_exceptions() {
    let cases: &[(&str, &[&str])] = &[
        ("threads4", &["-F", "^middle$"]),
        ("threads4", &["-N", "^leaf$"]),
        ("threads4", &["-D", "2"]),
        ("throw-O2", &["-F", "^catcher$"]),
        ("throw-O2", &["-N", "^middle$"]),
        ("throw-O2", &["-D", "3"]),
        ("tail", &["-F", "^outer$"]),
        ("generator", &["-N", "^yield$"]),
    ];
    let mut checks = Checks::new("filters, behaviour");
    for (name, filter) in cases {
        checks.case(&format!("{name} {}", filter.join(" ")), || {
            alike(&Invocation::of(named(name))?, &["--no-libcall"], filter).map(drop)
        });
    }
    checks.finish();
}

const SHELL: &str =
    "f() { local x=$1; (( x > 0 )) && f $(( x - 1 )); }; for i in 1 2 3; do f 4; done; echo $i";
const PERL: &str =
    "my $n = 0; $n += $_ for 1..50; select(undef, undef, undef, 0.3); print \"$n\\n\"";

#[test]
fn filters_on_real_programs() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("bash", SHELL, &["-F", "^execute_command$"]),
        ("bash", SHELL, &["-N", "^execute_command_internal$"]),
        ("bash", SHELL, &["-D", "4"]),
        ("bash", SHELL, &["-F", "^parse_command$", "-D", "3"]),
        ("perl", PERL, &["-t", "150ms"]),
    ];
    let mut checks = Checks::new("filters, real programs");
    for (name, script, filter) in cases {
        checks.case(&format!("{name} {}", filter.join(" ")), || {
            let flag = if *name == "bash" { "-c" } else { "-e" };
            alike(&Invocation::new(tool(name)?, [flag, script]), &[], filter).map(drop)
        });
    }
    checks.finish();
}
