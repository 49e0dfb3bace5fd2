//! Instances: each as if it were alone.

use crate::support::Lab;
use sledge_tracefs::{Errno, FunctionId};

fn program(lab: &mut Lab) {
    for round in 0..5 {
        lab.call(round % 2, 0, 1000, |lab| {
            lab.call(round % 2, 1, 100, |_| {});
            lab.call(round % 2, 3, 500, |lab| lab.call(round % 2, 4, 5, |_| {}));
            lab.call(round % 2, 2, 100, |_| {});
        });
    }
}

/// Sets an instance up; the first is the top.
const SETUPS: [&[(&str, &str)]; 5] = [
    &[("current_tracer", "function")],
    &[("set_ftrace_filter", "*lock"), ("current_tracer", "function")],
    &[("set_ftrace_notrace", "schedule"), ("current_tracer", "function_graph")],
    &[("set_ftrace_pid", "101"), ("current_tracer", "function_graph")],
    &[("set_ftrace_filter", "main schedule"), ("current_tracer", "function_graph")],
];

fn set_up(lab: &mut Lab, number: usize) -> String {
    let directory = format!("instances/i{number}");
    lab.tree.make_directory(&directory).unwrap();
    for (file, text) in SETUPS[number] {
        lab.echo(text, &format!("{directory}/{file}")).unwrap();
    }
    directory
}

/// Without the header, which counts lanes and entries.
fn entries(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

#[test]
fn five_instances_see_what_each_sees_alone() {
    let alone = |number| {
        let mut lab = Lab::new();
        let directory = set_up(&mut lab, number);
        program(&mut lab);
        entries(&lab.cat(&format!("{directory}/trace")))
    };
    let alone: Vec<String> = (0..5).map(alone).collect();
    for order in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]] {
        let mut lab = Lab::new();
        let directories: Vec<String> = (0..5).map(|number| set_up(&mut lab, number)).collect();
        program(&mut lab);
        for number in 0..5 {
            let text = lab.cat(&format!("{}/trace", directories[number]));
            assert_eq!(entries(&text), alone[number], "{number}");
        }
        for (gone, number) in order.into_iter().enumerate() {
            lab.tree.remove_directory(&directories[number]).unwrap();
            let kept: Vec<usize> = order[gone + 1..].to_vec();
            kept.iter()
                .for_each(|it| lab.echo("", &format!("{}/trace", directories[*it])).unwrap());
            program(&mut lab);
            for it in kept {
                let text = lab.cat(&format!("{}/trace", directories[it]));
                let lines = |text: &str| text.lines().count();
                assert_eq!(lines(&entries(&text)), lines(&alone[it]), "{it} after {number}");
            }
        }
        assert!(lab.wanted.lock().unwrap().functions.is_empty());
    }
}

#[test]
fn directories_come_and_go() {
    let mut lab = Lab::new();
    lab.tree.make_directory("instances/a").unwrap();
    assert_eq!(lab.tree.make_directory("instances/a"), Err(Errno::Exists));
    assert_eq!(lab.tree.make_directory("instances/a/b"), Err(Errno::Permission));
    assert_eq!(lab.tree.make_directory("b"), Err(Errno::Permission));
    assert_eq!(lab.tree.remove_directory("instances/b"), Err(Errno::NoEntry));
    assert_eq!(lab.tree.remove_directory("options"), Err(Errno::Permission));
    assert_eq!(lab.tree.kind("instances/a/available_filter_functions"), None);
    lab.tree.remove_directory("instances/a").unwrap();
    assert_eq!(lab.tree.kind("instances/a"), None);
}

#[test]
fn only_what_somebody_traces_is_wanted() {
    let mut lab = Lab::new();
    let wanted = |lab: &Lab| -> Vec<u32> {
        lab.wanted.lock().unwrap().functions.iter().map(|FunctionId(id)| id).collect()
    };
    assert_eq!(wanted(&lab), [0; 0]);
    lab.echo("schedule", "set_ftrace_filter").unwrap();
    assert_eq!(wanted(&lab), [0; 0]);
    lab.echo("function", "current_tracer").unwrap();
    assert_eq!(wanted(&lab), [3]);
    lab.append("kfree:stacktrace", "set_ftrace_filter").unwrap();
    assert_eq!(wanted(&lab), [3, 4]);
    lab.echo("nop", "current_tracer").unwrap();
    assert_eq!(wanted(&lab), [4]);
    assert!(lab.cat("enabled_functions").starts_with("kfree [libk.so] (1)"));
    assert_eq!(lab.cat("touched_functions"), "schedule\nkfree [libk.so]\n");
}

#[test]
fn commands_switch_tracing_and_count() {
    let mut lab = Lab::new();
    lab.echo("function", "current_tracer").unwrap();
    lab.append("schedule:traceoff:2", "set_ftrace_filter").unwrap();
    for left in ["1", "0"] {
        lab.echo("1", "tracing_on").unwrap();
        program(&mut lab);
        assert_eq!(lab.cat("tracing_on"), "0\n");
        assert!(
            lab.cat("set_ftrace_filter").contains(&format!("schedule:traceoff:count={left}\n"))
        );
    }
    lab.echo("1", "tracing_on").unwrap();
    program(&mut lab);
    assert_eq!(lab.cat("tracing_on"), "1\n");
    lab.append("main:stacktrace", "set_ftrace_filter").unwrap();
    lab.echo("", "trace").unwrap();
    program(&mut lab);
    assert!(lab.cat("trace").contains(": <stack trace>\n => main\n"));
}
