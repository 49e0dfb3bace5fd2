use sledge_trace::event::EventKind;

use super::*;
use crate::Format;
use crate::synthetic::{Script, directory};

/// f is called with these durations, and calls g each time.
fn script(durations: &[u64]) -> Script {
    let mut script = Script::new(directory(&["main", "f", "g"]));
    script.enter(0, 0, 0);
    let mut now = 10;
    for duration in durations {
        script.enter(now, 0, 1).enter(now, 0, 2).end(now + 1, 0).end(now + duration, 0);
        now += duration + 1;
    }
    script
}

fn found(script: &Script, most: usize) -> Latencies {
    let mut latency = Latency::new(vec![false, true], most);
    script.feed(&mut latency);
    let Ok(()) = latency.finish(&script.directory);
    latency.found()
}

#[test]
fn the_slowest_are_kept_and_all_are_counted() {
    let found = found(&script(&[5, 100, 7, 300, 100, 20]), 3);
    let slowest: Vec<_> =
        found.slowest.iter().map(|slow| (slow.duration, slow.entered.0)).collect();
    assert_eq!(slowest, [(300, 10 + 5 + 100 + 7 + 3), (100, 16), (100, 426)]);
    assert_eq!((found.durations.total(), found.total, found.least), (6, 532, 5));
}

#[test]
fn what_still_runs_and_what_was_not_seen_is_told_apart() {
    let mut script = script(&[5]);
    script.enter(50, 0, 1).leave(50, 0, Ending::NotSeen).enter(60, 0, 1);
    script.push(1_000, 0, EventKind::ThreadEnd { open: 2 });
    let found = found(&script, 3);
    assert_eq!((found.durations.total(), found.unseen), (2, 1));
    assert_eq!((found.slowest[0].duration, found.slowest[0].open), (940, true));
    let line = headline("f", &found);
    assert!(line.starts_with("2 calls of f:\n#   total 0.945 us, average 0.472 us"), "{line}");
    assert!(line.ends_with("and 1 whose exit could not be seen"), "{line}");
}

#[test]
fn a_subtree_is_the_call_and_all_within_it() {
    let script = script(&[5, 100, 7]);
    let slow = found(&script, 1).slowest[0];
    let mut nested = Nested::new(10);
    script.feed(&mut Subtree::new(&slow, &mut nested));
    let calls: Vec<_> =
        nested.calls.iter().map(|call| (call.level, call.function.0, call.duration)).collect();
    assert_eq!(calls, [(0, 1, Some(100)), (1, 2, Some(1))]);
    let mut short = Nested::new(1);
    script.feed(&mut Subtree::new(&slow, &mut short));
    assert_eq!((short.calls.len(), short.left_out), (1, 1));
    let mut out = Vec::new();
    let mut names = crate::Names::new(Box::new(crate::AsIs));
    rows(&mut out, &script.directory, &mut names, &[(slow, nested)], Format::Csv).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("1,0,f,app,4711,16,100,0\n1,1,g,app,4711,16,1,0\n"), "{text}");
}

#[test]
fn a_histogram_has_a_line_for_each_doubling() {
    let mut out = Vec::new();
    histogram(&mut out, &found(&script(&[1_100, 1_200, 5_000]), 1), Format::Text).unwrap();
    let expected = "  1.024 us ..   2.047 us           2  ########################################
  2.048 us ..   4.095 us           0
  4.096 us ..   8.191 us           1  ####################
";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}
