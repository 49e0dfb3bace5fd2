use serde_json::Value;
use sledge_trace::event::{Ending, EventKind, Nanos};

use super::*;
use crate::names::AsIs;
use crate::synthetic::{Script, directory};

fn lines(script: &Script) -> Vec<Value> {
    let mut out = Vec::new();
    let mut dump = Dump::new(&mut out, Names::new(Box::new(AsIs)));
    script.feed(&mut dump);
    dump.finish(&script.directory).unwrap();
    let text = String::from_utf8(out).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_event_is_an_object_on_a_line() {
    let mut script = Script::new(directory(&["main", "odd\"name\n"]));
    script.push(0, 0, EventKind::ThreadStart);
    script.enter(10, 0, 0).enter(20, 0, 1).leave(50, 0, Ending::Unwound);
    script.push(60, 0, EventKind::Switch { stack: 3 });
    script.push(90, 0, EventKind::Lost { count: 7, since: Nanos(70) });
    script.push(99, 0, EventKind::ThreadEnd { open: 1 });
    let lines = lines(&script);
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thread", "entry", "entry", "exit", "switch", "lost", "thread_end"]);
    assert!(lines.iter().all(|line| line["tid"] == 4711 && line["pid"] == 4700));
    assert_eq!(lines[0]["name"], "thread-0");
    assert_eq!(lines[2]["func"], "odd\"name\n");
    assert_eq!(lines[2]["module"], "app");
    assert_eq!(lines[2]["depth"], 1);
    assert_eq!(lines[3]["ts_ns"], 50);
    assert_eq!(lines[3]["duration_ns"], 30);
    assert_eq!(lines[3]["ending"], "unwound");
    assert_eq!(lines[4]["stack"], 3);
    assert_eq!((&lines[5]["count"], &lines[5]["since_ns"]), (&7.into(), &70.into()));
    assert_eq!(lines[6]["open"], 1);
}

#[test]
fn an_exit_that_was_not_seen_has_no_duration() {
    let mut script = Script::new(directory(&["vfork"]));
    script.enter(10, 0, 0).leave(10, 0, Ending::NotSeen);
    let lines = lines(&script);
    assert!(lines[1]["duration_ns"].is_null());
    assert_eq!(lines[1]["ending"], "not_seen");
}
