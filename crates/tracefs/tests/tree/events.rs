//! Events: probes, filters, triggers, histograms.

use crate::support::Lab;
use sledge_tracefs::{Errno, Happening, ProbeId, Value, What};

const SCHEDULE: u32 = 3;
const KFREE: u32 = 4;

fn hit(lab: &mut Lab, function: u32) {
    lab.call(0, function, 100, |_| {});
}

fn lines<'a>(text: &'a str, what: &str) -> Vec<&'a str> {
    text.lines().filter(|line| !line.starts_with('#') && line.contains(what)).collect()
}

#[test]
fn a_probe_is_defined_hit_and_removed() {
    let mut lab = Lab::new();
    lab.echo("p:mine schedule comm=$comm", "kprobe_events").unwrap();
    lab.append("r:back schedule", "dynamic_events").unwrap();
    assert_eq!(
        lab.cat("dynamic_events"),
        "p:kprobes/mine schedule comm=$comm\nr:kprobes/back schedule\n"
    );
    hit(&mut lab, SCHEDULE);
    assert_eq!(lab.cat("trace").lines().filter(|line| !line.starts_with('#')).count(), 0);
    lab.echo("1", "events/kprobes/enable").unwrap();
    lab.call(0, 0, 10, |lab| hit(lab, SCHEDULE));
    let text = lab.cat("trace");
    assert!(text.contains("mine: (schedule+0x0/0x80) comm=\"main\"\n"), "{text}");
    assert!(text.contains("back: (main+0x0/0x80 <- schedule)\n"), "{text}");
    assert!(lab.cat("kprobe_profile").contains(&format!("  {:<44} {:15} {:15}\n", "mine", 1, 0)));
    assert_eq!(lab.echo("", "kprobe_events"), Err(Errno::Busy));
    lab.echo("0", "events/enable").unwrap();
    lab.append("-:back", "kprobe_events").unwrap();
    assert_eq!(lab.cat("kprobe_events"), "p:kprobes/mine schedule comm=$comm\n");
    lab.echo("", "kprobe_events").unwrap();
    assert_eq!(lab.tree.kind("events/kprobes"), None);
    assert_eq!(lab.append("-:mine", "kprobe_events"), Err(Errno::NoEntry));
}

#[test]
fn values_come_from_the_process() {
    let mut lab = Lab::new();
    let line = "p:e kfree a=%di:s32 b=+0(%si):string c=+0(%si):x8[2] d=@counter";
    lab.echo(line, "kprobe_events").unwrap();
    lab.echo("1", "events/kprobes/e/enable").unwrap();
    lab.echo("a < 0 && b ~ \"h*\"", "events/kprobes/e/filter").unwrap();
    let thread = lab.threads[0];
    for (number, text) in [(0xffff_fffe, "hello"), (2, "hello"), (0xffff_fffe, "other")] {
        let values = Box::new([
            Value::Number(number),
            Value::Text(text.as_bytes().into()),
            Value::Numbers(Box::new([1, 255])),
            Value::Fault,
        ]);
        let what = What::Hit { probe: ProbeId(1000), parent: 0, values };
        lab.tree.feed(&[Happening { time: lab.tick(1), thread, what }]);
    }
    let text = lab.cat("trace");
    let found = lines(&text, "e: ");
    assert_eq!(found.len(), 1, "{text}");
    assert!(
        found[0].ends_with("e: (kfree+0x0/0x80 [libk.so]) a=-2 b=\"hello\" c={0x1,0xff} d=(fault)")
    );
    let format = lab.cat("events/kprobes/e/format");
    for line in ["\tfield:s32 a;\toffset:16;\tsize:4;\tsigned:1;\n", "__data_loc char[] b;"] {
        assert!(format.contains(line), "{format}");
    }
    assert_eq!(lab.append("p:f kfree @nothing", "kprobe_events"), Err(Errno::Invalid));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let mut lab = Lab::new();
    assert_eq!(lab.append("p schedule +0(@0", "kprobe_events"), Err(Errno::Invalid));
    let log = lab.cat("error_log");
    assert!(log.contains("trace_kprobe: error: Dereference brace is not closed\n"), "{log}");
    assert!(log.contains("  Command: p schedule +0(@0\n                           ^\n"), "{log}");
    lab.echo("p:e schedule", "kprobe_events").unwrap();
    let file = "events/kprobes/e/filter";
    for (filter, error, at) in [
        ("((common_pid >= 10) || dsig == 17)", "Field not found", 28),
        ("common_pid == 1 &&", "No filter found", 18),
        ("common_pid == b", "Expecting numeric field", 14),
        ("common_pid = 1", "Invalid operator", 11),
        ("(common_pid == 1", "Too many '('", 16),
        ("common_pid == 1)", "Too few '('", 15),
        ("comm < x", "Illegal operation for field type", 7),
    ] {
        lab.echo("", "error_log").unwrap();
        assert_eq!(lab.append(filter, file), Err(Errno::Invalid), "{filter}");
        let log = lab.cat("error_log");
        assert!(log.contains(&format!("event filter parse error: error: {error}\n")), "{log}");
        assert!(log.ends_with(&format!("\n{:1$}^\n", "", 11 + at)), "{filter}: {log}");
    }
    assert_eq!(lab.cat(file), "none\n");
}

#[test]
fn filters_choose() {
    let mut lab = Lab::new();
    lab.echo("p:e schedule", "kprobe_events").unwrap();
    lab.echo("1", "events/kprobes/e/enable").unwrap();
    let cases = [
        ("common_pid == 100", true),
        ("common_pid != 100", false),
        ("!(common_pid == 100)", false),
        ("common_pid >= 1000 || comm == \"main\"", true),
        ("common_pid & 4 && comm ~ \"m*n\"", true),
        ("comm == 'm*n'", false),
        ("__probe_ip.function == schedule", true),
        ("__probe_ip.function == kfree", false),
        ("0", true),
    ];
    for (filter, passes) in cases {
        lab.echo(filter, "events/kprobes/e/filter").unwrap();
        lab.echo("", "trace").unwrap();
        hit(&mut lab, SCHEDULE);
        assert_eq!(lines(&lab.cat("trace"), "e: ").len(), usize::from(passes), "{filter}");
    }
}

#[test]
fn triggers_act_as_often_as_they_may() {
    let mut lab = Lab::new();
    lab.echo("p:one schedule", "kprobe_events").unwrap();
    lab.append("p:two kfree", "kprobe_events").unwrap();
    let file = "events/kprobes/one/trigger";
    lab.append("traceoff:1 if common_pid == 100", file).unwrap();
    assert_eq!(lab.cat(file), "traceoff:count=1 if common_pid == 100\n");
    assert_eq!(lab.append("traceon", file), Err(Errno::Exists));
    for left in ["0", "1"] {
        lab.echo("1", "tracing_on").unwrap();
        hit(&mut lab, SCHEDULE);
        assert_eq!(lab.cat("tracing_on"), format!("{left}\n"));
    }
    lab.append("!traceoff", file).unwrap();
    lab.append("enable_event:kprobes:two", file).unwrap();
    assert_eq!(lab.cat("events/kprobes/two/enable"), "0*\n");
    hit(&mut lab, KFREE);
    hit(&mut lab, SCHEDULE);
    hit(&mut lab, KFREE);
    assert_eq!(lab.cat("events/kprobes/two/enable"), "1*\n");
    assert_eq!(lines(&lab.cat("trace"), "two: ").len(), 1);
    lab.append("!enable_event:kprobes:two", file).unwrap();
    lab.append("stacktrace", file).unwrap();
    hit(&mut lab, SCHEDULE);
    assert!(lab.cat("trace").contains("<stack trace>\n => schedule\n"));
    for nonsense in ["traceoff:x", "traceoff+1", "nothing", "enable_event:no:such", "hist:keys="] {
        assert_eq!(lab.append(nonsense, file), Err(Errno::Invalid), "{nonsense}");
    }
}

#[test]
fn histograms_count() {
    let mut lab = Lab::new();
    lab.echo("p:e schedule", "kprobe_events").unwrap();
    let file = "events/kprobes/e/trigger";
    lab.append("hist:keys=common_pid.execname,__probe_ip.sym:sort=hitcount.descending", file)
        .unwrap();
    assert_eq!(
        lab.cat(file),
        "hist:keys=common_pid.execname,__probe_ip.sym:vals=hitcount:sort=hitcount.descending:size=2048 [active]\n"
    );
    (0..3).for_each(|_| hit(&mut lab, SCHEDULE));
    lab.call(1, SCHEDULE, 1, |_| {});
    let hist = lab.cat("events/kprobes/e/hist");
    let rows = lines(&hist, "hitcount:");
    assert_eq!(rows.len(), 2, "{hist}");
    let pid = format!("{{ common_pid: {:<16}[{:10}], __probe_ip: [1300] ", "main", 100);
    assert!(rows[0].starts_with(&pid) && rows[0].ends_with("hitcount:          3"), "{hist}");
    assert!(hist.ends_with("Totals:\n    Hits: 4\n    Entries: 2\n    Dropped: 0\n"));
    lab.append("hist:keys=common_pid.execname,__probe_ip.sym:pause", file).unwrap();
    hit(&mut lab, SCHEDULE);
    assert!(lab.cat("events/kprobes/e/hist").contains("Hits: 4\n"));
    for (wrong, error) in [
        ("hist:keys=nothing", "Couldn't find field"),
        ("hist:keys=common_pid:sort=common_pid,junk", "Sort field must be a key or a val"),
        ("hist:keys=common_pid:sort=", "Empty assignment"),
        ("hist:keys=common_pid:sort=common_pid.junk", "Invalid sort modifier"),
        ("hist:keys=common_pid:x=1", "Variables and actions are not supported"),
    ] {
        assert_eq!(lab.append(wrong, file), Err(Errno::Invalid));
        let log = lab.cat("error_log");
        assert!(log.contains(&format!("hist:kprobes:e: error: {error}\n")), "{log}");
    }
}

#[test]
fn markers_are_events_too() {
    let mut lab = Lab::new();
    lab.append("hist:keys=buf", "events/ftrace/print/trigger").unwrap();
    lab.append("snapshot", "events/ftrace/print/trigger").unwrap();
    for text in ["one", "two", "one", "two"] {
        lab.echo(text, "trace_marker").unwrap();
    }
    let hist = lab.cat("events/ftrace/print/hist");
    assert_eq!(lines(&hist, "hitcount:          2").len(), 2, "{hist}");
    assert_eq!(lines(&lab.cat("snapshot"), ": two").len(), 2);
    assert_eq!(lines(&lab.cat("trace"), ": one").len(), 2);
}

#[test]
fn commands_of_functions_switch_events() {
    let mut lab = Lab::new();
    lab.tree.declare("p:sched/switch kfree").unwrap();
    lab.append("schedule:enable_event:sched:switch:1", "set_ftrace_filter").unwrap();
    assert_eq!(lab.cat("events/sched/switch/enable"), "0*\n");
    hit(&mut lab, SCHEDULE);
    assert_eq!(lab.cat("events/sched/switch/enable"), "1*\n");
    lab.echo("0", "events/sched/switch/enable").unwrap();
    hit(&mut lab, SCHEDULE);
    assert_eq!(lab.cat("events/sched/switch/enable"), "0*\n");
    lab.append("!schedule:enable_event:sched:switch:0", "set_ftrace_filter").unwrap();
    assert_eq!(lab.cat("events/sched/switch/enable"), "0\n");
    assert_eq!(lab.cat("available_events"), "sched:switch\n");
    lab.echo("sched:*", "set_event").unwrap();
    assert_eq!(lab.cat("set_event"), "sched:switch\n");
    assert!(lab.tree.declare("p:sched/switch nothing").is_err());
}
