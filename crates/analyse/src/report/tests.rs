use std::collections::BTreeMap;

use proptest::prelude::*;
use sledge_trace::event::{Ending, EventKind};

use super::*;
use crate::names::AsIs;
use crate::synthetic::{Script, directory};

fn rows(script: &Script, keys: &[SortKey]) -> Vec<Row> {
    let mut report = Report::new(Names::new(Box::new(AsIs)));
    script.feed(&mut report);
    report.rows(keys)
}

fn written(rows: &[Row], format: Format, columns: &[Column]) -> String {
    let mut out = Vec::new();
    write(&mut out, rows, format, columns).unwrap();
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
        "calls": 2, "total_ns": 8, "self_ns": 8, "avg_ns": 4, "min_ns": 1, "max_ns": 7}]});
    assert_eq!(json, expected);
    let csv = "function,module,calls,total_ns,self_ns,avg_ns,min_ns,max_ns\n\
               \"f<a, \"\"b\"\">\",app,2,8,8,4,1,7\n";
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
    script.push(0, 0, enter(0, 0)).push(10, 0, enter(1, 1)).push(20, 0, exit(0, 0, 0));
    script.push(30, 0, enter(2, 0)).push(40, 0, exit(1, 1, 10)).push(50, 0, exit(2, 0, 30));
    let rows = rows(&script, &[SortKey::Function]);
    let totals: Vec<_> = rows.iter().map(|row| (row.total, row.calls)).collect();
    assert_eq!(totals, [(20, 1), (30, 1), (20, 1)]);
}

/// A call and what it calls.
#[derive(Clone, Debug)]
struct Call {
    function: u32,
    /// Own time before each inner call, and after the last.
    pause: u64,
    inner: Vec<Call>,
}

impl Call {
    fn duration(&self) -> u64 {
        self.own() + self.inner.iter().map(Self::duration).sum::<u64>()
    }

    fn own(&self) -> u64 {
        self.pause * (self.inner.len() as u64 + 1)
    }

    fn run(&self, script: &mut Script, now: &mut u64) {
        script.enter(*now, 0, self.function);
        for call in &self.inner {
            *now += self.pause;
            call.run(script, now);
        }
        *now += self.pause;
        script.end(*now, 0);
    }

    /// The obvious way to a report: every number from the tree, for one function.
    fn add_up(&self, around: &[u32], totals: &mut BTreeMap<u32, Vec<(u64, u64, bool)>>) {
        let outermost = !around.contains(&self.function);
        let calls = totals.entry(self.function).or_default();
        calls.push((self.duration(), self.own(), outermost));
        let around = [around, &[self.function]].concat();
        self.inner.iter().for_each(|call| call.add_up(&around, totals));
    }
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let leaf = (0..5_u32, 0..50_u64);
    let leaf = leaf.prop_map(|(function, pause)| Call { function, pause, inner: Vec::new() });
    let call = leaf.prop_recursive(6, 60, 4, |call| {
        (0..5_u32, 0..50_u64, prop::collection::vec(call, 0..4))
            .prop_map(|(function, pause, inner)| Call { function, pause, inner })
    });
    prop::collection::vec(call, 0..4)
}

proptest! {
    #[test]
    fn a_report_is_what_the_tree_adds_up_to(calls in calls()) {
        let names = ["a", "b", "c", "d", "e"];
        let mut script = Script::new(directory(&names));
        let (mut now, mut expected) = (0, BTreeMap::new());
        for call in &calls {
            call.run(&mut script, &mut now);
            call.add_up(&[], &mut expected);
        }
        let rows = rows(&script, &[SortKey::Function]);
        prop_assert_eq!(rows.len(), expected.len());
        for (row, (function, calls)) in rows.iter().zip(&expected) {
            prop_assert_eq!(&*row.name, names[*function as usize]);
            prop_assert_eq!(row.calls, calls.len() as u64);
            let outermost = calls.iter().filter(|call| call.2);
            prop_assert_eq!(row.total, outermost.map(|call| call.0).sum::<u64>());
            prop_assert_eq!(row.own, calls.iter().map(|call| call.1).sum::<u64>());
            prop_assert_eq!(row.min(), calls.iter().map(|call| call.0).min().unwrap());
            prop_assert_eq!(row.max, calls.iter().map(|call| call.0).max().unwrap());
            let sum: u64 = calls.iter().map(|call| call.0).sum();
            prop_assert_eq!(row.average(), sum / calls.len() as u64);
        }
    }
}
