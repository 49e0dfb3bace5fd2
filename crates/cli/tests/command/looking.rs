//! What the commands show that look at a trace in other ways than as code.

use serde_json::Value;

use crate::fixture::Place;

fn json(place: &Place, words: &str) -> Value {
    let said = place.sledge(&format!("{words} --format json"));
    assert_eq!((said.stderr.as_str(), said.status), ("", Some(0)), "{words}");
    serde_json::from_str(&said.stdout).unwrap()
}

#[test]
fn graph_shows_every_way_of_calling() {
    let place = Place::with_trace();
    let said = place.sledge("graph --tid 4711");
    let expected = "  Total time   Self time       Calls  Function
  ==========  ==========  ==========  ====================
   20.000 us    5.000 us           1  main
   15.000 us    2.200 us           1    serve
   12.000 us   12.000 us           1      puts
    0.500 us    0.500 us           1      foo::bar
    0.300 us    0.300 us           1      app+0x1400
";
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), (expected, ""));
    let said = place.sledge("graph --least 1us --tid 4711");
    assert!(said.stdout.ends_with("puts\n# 2 lines below that are left out\n"), "{}", said.stdout);
}

#[test]
fn graph_of_a_function_shows_its_callers_and_callees() {
    let place = Place::with_trace();
    let said = place.sledge("graph serve").stdout;
    let callers = "   20.000 us    4.200 us           2  serve\n   15.000 us    0.000 us           1    main\n";
    assert!(said.starts_with("# callers\n") && said.contains(callers), "{said}");
    assert!(said.contains("# callees\n"), "{said}");
    assert_eq!(json(&place, "graph serve")["nodes"][0]["part"], "callers");
    let said = place.sledge("graph srve");
    assert!(said.stderr.starts_with("sledge: no function matches 'srve' in trace.sledge (did you"));
    assert_eq!(said.status, Some(1));
}

#[test]
fn flame_draws_folds_and_compares() {
    let place = Place::with_trace();
    let svg = place.sledge("flame -o out.svg");
    assert_eq!((svg.stdout.as_str(), svg.stderr.as_str(), svg.status), ("", "", Some(0)));
    let svg = std::fs::read_to_string(place.path("out.svg")).unwrap();
    assert!(svg.starts_with("<?xml") && svg.contains("main [app] (1 call, 20.000 us"), "{svg}");
    let folded = place.sledge("flame --format folded --tid 4711").stdout;
    assert!(folded.contains("\nmain;serve;puts 12000\n"), "{folded}");
    let compared = place.sledge("flame --format folded --diff trace.sledge --tid 4711").stdout;
    assert!(compared.contains("\nmain;serve;puts 12000 12000\n"), "{compared}");
    assert_eq!(json(&place, "flame --thread worker")["nodes"][0]["total_ns"], 5_000);
}

#[test]
fn latency_shows_the_slowest_calls_with_all_within_them() {
    let place = Place::with_trace();
    let said = place.sledge("latency serve -n 1");
    let expected = "# 2 calls of serve:
#   total 20.000 us, average 10.000 us, median 5.000 us
#   90 % 15.000 us, 99 % 15.000 us, slowest 15.000 us
  4.096 us ..   8.191 us           1  ########################################
  8.192 us ..  16.383 us           1  ########################################

# 1: at 0.000001000 s on thread app [4711]
# DURATION     TID      FUNCTION
            [ 4711] |   serve() {
   0.500 us [ 4711] |     foo::bar();
  12.000 us [ 4711] |     puts();
   0.300 us [ 4711] |     app+0x1400(); /* unwound */
  15.000 us [ 4711] |   } /* serve, unwound */
";
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), (expected, ""));
    let calls = json(&place, "latency serve")["calls"].as_array().unwrap().clone();
    let line = |call: &Value| format!("{} {} {}", call["rank"], call["level"], call["duration_ns"]);
    let lines: Vec<String> = calls.iter().map(line).collect();
    assert_eq!(lines, ["1 0 15000", "1 1 500", "1 1 12000", "1 1 300", "2 0 5000", "2 1 3000"]);
    let durations = &json(&place, "latency serve --histogram")["durations"];
    assert_eq!(durations[0]["calls"], 1);
}

#[test]
fn tree_shows_processes_and_threads() {
    let place = Place::with_trace();
    let said = place.sledge("tree").stdout;
    assert!(said.contains("  4711 app\n"), "{said}");
    let line = "    4.000 us   10.000 us           2           0    worker [4712]\n";
    assert!(said.ends_with(line), "{said}");
    assert_eq!(json(&place, "tree -F puts")["tree"][1]["calls"], 1);
}

#[test]
fn replay_has_rows_for_machines() {
    let place = Place::with_trace();
    let calls = json(&place, "replay --tid 4712");
    assert_eq!(calls["calls"][0]["function"], "foo::bar");
    let csv = place.sledge("replay --format csv --tid 4712").stdout;
    assert!(csv.ends_with("\n4000,5000,4711,4712,worker,0,serve,app,returned\n"), "{csv}");
}

#[test]
fn every_analysis_takes_every_format_and_part() {
    let place = Place::with_trace();
    let part = "--from 1us --to 18us --tid 4711,4712 -F serve@app";
    for command in ["replay", "report", "graph", "graph serve", "flame", "latency serve", "tree"] {
        for format in ["text", "json", "csv"] {
            let said = place.sledge(&format!("{command} --format {format} {part}"));
            assert_eq!((said.stderr.as_str(), said.status), ("", Some(0)), "{command} {format}");
            if format == "json" {
                serde_json::from_str::<Value>(&said.stdout).unwrap();
            }
            if format == "csv" {
                let commas = |line: &str| line.matches(',').count();
                let columns = commas(said.stdout.lines().next().unwrap());
                assert!(said.stdout.lines().all(|line| commas(line) == columns), "{command}");
            }
        }
    }
}
