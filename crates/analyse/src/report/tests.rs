use sledge_trace::event::{Ending, EventKind, Nanos};

use super::*;
use crate::Format;
use crate::names::AsIs;
use crate::synthetic::{Script, directory};

fn rows(script: &Script, keys: &[SortKey]) -> Vec<Row> {
    let mut report = Report::new(Names::new(Box::new(AsIs)), By::Function);
    script.feed(&mut report);
    sledge_trace::event::Sink::finish(&mut report, &script.directory).unwrap();
    report.rows(keys)
}

fn written(rows: &[Row], format: Format, columns: &[Column]) -> String {
    let mut out = Vec::new();
    write(&mut out, rows, By::Function, format, columns).unwrap();
    String::from_utf8(out).unwrap()
}

/// main calls f twice, and f itself once.
fn recursive() -> Script {
    let mut script = Script::new(directory(&["main", "f"]));
    script.enter(0, 0, 0);
    script.enter(1_000, 0, 1).enter(2_000, 0, 1).end(3_000, 0).end(5_000, 0);
    script.enter(6_000, 0, 1).end(8_000, 0);
    script.end(10_000, 0);
    script
}

#[test]
fn recursion_counts_its_outermost_call_only() {
    let rows = rows(&recursive(), &SortKey::DEFAULT);
    let expected = "
  Total time   Self time       Calls    Avg time    Min time    Max time  Function
  ==========  ==========  ==========  ==========  ==========  ==========  ====================
   10.000 us    4.000 us           1   10.000 us   10.000 us   10.000 us  main
    6.000 us    6.000 us           3    2.333 us    1.000 us    4.000 us  f
";
    let columns = Column::parse_list("+avg,min,max").unwrap();
    assert_eq!(written(&rows, Format::Text, &columns), expected[1..]);
}

#[test]
fn json_and_csv_tell_the_same() {
    let mut script = Script::new(directory(&["f<a, \"b\">"]));
    script.enter(0, 0, 0).end(7, 0).enter(10, 0, 0).end(11, 0);
    let rows = rows(&script, &SortKey::DEFAULT);
    let json: serde_json::Value = serde_json::from_str(&written(&rows, Format::Json, &[])).unwrap();
    let expected = serde_json::json!({"functions": [{"function": "f<a, \"b\">", "module": "app",
        "calls": 2, "total_ns": 8, "self_ns": 8, "avg_ns": 4, "min_ns": 1, "max_ns": 7,
        "p50_ns": 1, "p90_ns": 7, "p99_ns": 7}]});
    assert_eq!(json, expected);
    let csv = "function,module,calls,total_ns,self_ns,avg_ns,min_ns,max_ns,p50_ns,p90_ns,p99_ns\n\
               \"f<a, \"\"b\"\">\",app,2,8,8,4,1,7,1,7,7\n";
    assert_eq!(written(&rows, Format::Csv, &[]), csv);
}

#[test]
fn rows_are_sorted_by_the_keys_in_turn() {
    let mut script = Script::new(directory(&["long", "often", "alike"]));
    script.enter(0, 0, 0).end(100, 0);
    script.enter(100, 0, 1).end(110, 0).enter(110, 0, 1).end(120, 0);
    script.enter(120, 0, 2).end(130, 0).enter(130, 0, 2).end(140, 0);
    let order = |keys: &str| {
        let rows = rows(&script, &SortKey::parse_list(keys).unwrap());
        rows.iter().map(|row| row.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order("total"), "long alike often");
    assert_eq!(order("call"), "alike often long");
    assert_eq!(order("call,func"), "alike often long");
    assert_eq!(order("func"), "alike long often");
    assert_eq!(order("max,func"), "long alike often");
    assert!(SortKey::parse_list("size").is_err());
}

#[test]
fn what_still_runs_counts_up_to_the_end_of_its_thread() {
    let mut script = Script::new(directory(&["main", "accept"]));
    script.enter(0, 0, 0).enter(10, 0, 1);
    script.push(100, 0, EventKind::ThreadEnd { open: 2 });
    script.enter(200, 1, 1);
    script.push(250, 2, EventKind::ThreadStart);
    let rows = rows(&script, &[SortKey::Function]);
    assert_eq!((rows[0].calls, rows[0].total), (2, 90 + 50));
    assert_eq!((rows[1].total, rows[1].own), (100, 10));
}

#[test]
fn an_exit_that_was_not_seen_is_a_call_without_time() {
    let mut script = Script::new(directory(&["vfork"]));
    script.enter(0, 0, 0).leave(0, 0, Ending::NotSeen).enter(5, 0, 0).end(6, 0);
    let rows = rows(&script, &SortKey::DEFAULT);
    assert_eq!((rows[0].calls, rows[0].total, rows[0].average(), rows[0].min()), (2, 1, 1, 1));
}

#[test]
fn an_exit_whose_entry_was_not_read_still_counts() {
    let mut script = Script::new(directory(&["f"]));
    script.enter(5, 0, 0).end(9, 0);
    script.events.remove(0);
    let rows = rows(&script, &SortKey::DEFAULT);
    assert_eq!((rows[0].calls, rows[0].total), (1, 4));
}

#[test]
fn functions_that_read_alike_share_a_row() {
    let mut script = Script::new(directory(&["f", "f"]));
    script.enter(0, 0, 0).enter(1, 0, 1).end(2, 0).end(4, 0);
    let rows = rows(&script, &SortKey::DEFAULT);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].calls, rows[0].total, rows[0].own), (2, 4, 4));
}

#[test]
fn a_coroutine_that_outlives_its_caller_is_accounted_once() {
    let mut script = Script::new(directory(&["caller", "generator", "other"]));
    let enter = |function, depth| EventKind::Enter { function: FunctionId(function), depth };
    let exit = |function, depth, entered| EventKind::Exit {
        function: FunctionId(function),
        depth,
        entered: Nanos(entered),
        ending: Ending::Returned,
    };
    let switch = |stack| EventKind::Switch { stack };
    script.push(0, 0, enter(0, 0)).push(10, 0, switch(1)).push(10, 0, enter(1, 1));
    script.push(15, 0, switch(0)).push(20, 0, exit(0, 0, 0)).push(30, 0, enter(2, 0));
    script.push(35, 0, switch(1)).push(40, 0, exit(1, 1, 10)).push(45, 0, switch(0));
    script.push(50, 0, exit(2, 0, 30));
    let rows = rows(&script, &[SortKey::Function]);
    let times: Vec<_> = rows.iter().map(|row| (row.total, row.own)).collect();
    // Each moment belongs to one of them; between 40 and 45 the other stack waits to go on.
    assert_eq!(times, [(20, 15), (30, 10), (20, 15)]);
}

/// Runs in which `f` takes these times.
fn runs(times: &[&[u64]]) -> Vec<Vec<Row>> {
    let run = |times: &&[u64]| {
        let mut script = Script::new(directory(&["f", "same"]));
        let mut now = 0;
        for time in *times {
            script.enter(now, 0, 0).end(now + time, 0);
            now += time + 1;
        }
        script.enter(now, 0, 1).end(now + 5, 0);
        rows(&script, &SortKey::DEFAULT)
    };
    times.iter().map(run).collect()
}

fn verdict(before: &[&[u64]], after: &[&[u64]]) -> Verdict {
    let diff = Diff::new(&runs(before), &runs(after), Change::Total);
    diff.rows.iter().find(|row| &*row.name == "f").unwrap().verdict
}

#[test]
fn a_difference_counts_where_it_is_larger_than_that_between_runs() {
    assert_eq!(verdict(&[&[100], &[104], &[98]], &[&[103], &[97], &[105]]), Verdict::Noise);
    assert_eq!(verdict(&[&[100], &[104], &[98]], &[&[203], &[197], &[205]]), Verdict::Real);
    // With few runs that differ much, nothing can be said of the same means.
    assert_eq!(verdict(&[&[20], &[190]], &[&[120], &[290]]), Verdict::Noise);
    assert_eq!(verdict(&[&[20], &[20]], &[&[20], &[20]]), Verdict::Same);
}

#[test]
fn with_single_runs_the_spread_of_calls_decides() {
    assert_eq!(verdict(&[&[90, 110, 100, 95]], &[&[100, 120, 95, 90]]), Verdict::Noise);
    assert_eq!(verdict(&[&[90, 110, 100, 95]], &[&[200, 220, 195, 190]]), Verdict::Real);
    assert_eq!(verdict(&[&[]], &[&[5]]), Verdict::New);
    assert_eq!(verdict(&[&[5]], &[&[]]), Verdict::Gone);
}

#[test]
fn a_comparison_is_a_table_that_says_how_it_judges() {
    let diff = Diff::new(&runs(&[&[1000, 1000]]), &runs(&[&[4000, 2000]]), Change::Total);
    let mut out = Vec::new();
    write_diff(&mut out, &diff, By::Function, Format::Text).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("# total time before and after; 0 differences are within"), "{text}");
    let line = "    2.000 us    6.000 us    +4.000 us  +200.0 %         f\n";
    assert!(text.contains(line), "{text}");
    assert!(text.ends_with("  same   same\n"), "{text}");
}
