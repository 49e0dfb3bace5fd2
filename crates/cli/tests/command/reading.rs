//! What the reading commands show.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::fixture::{Place, Said};

#[test]
fn replay_shows_nested_code() {
    let said = Place::with_trace().sledge("replay");
    let expected = "\
# DURATION     TID      FUNCTION
            [ 4711] | main() {
            [ 4711] |   serve() {
   0.500 us [ 4711] |     foo::bar();
            [ 4711] |     puts() {
            [ 4712] | serve() {
   3.000 us [ 4712] |   foo::bar();
   5.000 us [ 4712] | } /* serve */
  12.000 us [ 4711] |     } /* puts */
   0.300 us [ 4711] |     app+0x1400(); /* unwound */
  15.000 us [ 4711] |   } /* serve, unwound */
  20.000 us [ 4711] | } /* main */
";
    assert_eq!(said.stdout, expected);
    assert_eq!((said.stderr.as_str(), said.status), ("", Some(0)));
}

#[test]
fn names_are_demangled_as_asked() {
    let place = Place::with_trace();
    assert!(place.code("--demangle full").contains("    foo::bar(int, int);\n"));
    assert!(place.code("--demangle no").contains("    _ZN3foo3barEii();\n"));
}

#[test]
fn columns_are_chosen() {
    let said = Place::with_trace().sledge("replay -f +module,comm --tid 4712");
    let line = "   3.000 us [ 4712] app              worker           |   foo::bar();\n";
    assert!(said.stdout.contains(line), "{}", said.stdout);
}

#[test]
fn filters_choose_calls() {
    let place = Place::with_trace();
    let puts = "puts() {\n} /* puts */\n";
    let bar = "foo::bar();\n";
    assert_eq!(place.code("-F puts --tid 4711"), "puts();\n");
    assert_eq!(place.code("-F ^foo::bar$"), [bar, bar].concat());
    assert_eq!(place.code("-F p*s@libc --match glob"), "puts();\n");
    assert_eq!(place.code("-F app+0x14* --match glob"), "app+0x1400(); /* unwound */\n");
    assert_eq!(place.code("-N serve"), "main();\n");
    assert_eq!(place.code("-D 1 --tid 4712"), "serve();\n");
    let hidden = place.code("-H serve -N puts --tid 4711");
    assert_eq!(hidden, "main() {\n  foo::bar();\n  app+0x1400(); /* unwound */\n} /* main */\n");
    let long = place.code("-t 12us");
    assert_eq!(
        long,
        "main() {\n  serve() {\n    puts();\n  } /* serve, unwound */\n} /* main */\n"
    );
    let caller = place.code("-C puts");
    assert!(caller.ends_with("} /* main */\n") && !caller.contains("bar"), "{caller}");
    assert!(!caller.contains(puts));
}

#[test]
fn a_part_of_the_trace_is_chosen() {
    let place = Place::with_trace();
    // What is open at the beginning is entered then; what is open at the end stays so.
    let part = place.code("--from 2.6us --to 3500ns --tid 4711");
    assert_eq!(part, "main() {\n  serve() {\n    puts() {\n");
    assert_eq!(place.code("--to 900"), "main() {\n");
    assert_eq!(place.code("--thread worker -D 1"), "serve();\n");
    assert_eq!(place.code("--thread w.*r -D 1"), "serve();\n");
    assert_eq!(place.code("--pid 4711 --tid 4712 -D 1"), "serve();\n");
    let said = place.sledge("report --from 4us --to 16us --thread app --format csv");
    assert!(said.stdout.contains("\nputs,libc.so.6,1,12000,12000,"), "{}", said.stdout);
    for (words, expected) in [
        ("replay --from 2s --to 1s", "sledge: --from is not before --to\n"),
        ("report --from 2s", "sledge: nothing was recorded so late\n"),
        ("dump --thread nobody", "sledge: no thread named 'nobody' in the trace\n"),
        ("dump --pid 1", "sledge: no process 1 in the trace\n"),
    ] {
        let said = place.sledge(words);
        assert!(said.stderr.starts_with(expected), "{words}: {}", said.stderr);
        assert_ne!(said.status, Some(0));
    }
}

#[test]
fn report_adds_up() {
    let said = Place::with_trace().sledge("report -s self,func");
    let expected = "  Total time   Self time       Calls  Function
  ==========  ==========  ==========  ====================
   12.000 us   12.000 us           1  puts
   20.000 us    5.000 us           1  main
   20.000 us    4.200 us           2  serve
    3.500 us    3.500 us           2  foo::bar
    0.300 us    0.300 us           1  app+0x1400
";
    assert_eq!(said.stdout, expected);
    assert_eq!((said.stderr.as_str(), said.status), ("", Some(0)));
}

#[test]
fn report_speaks_json_and_csv() {
    let place = Place::with_trace();
    let json: Value = serde_json::from_str(&place.sledge("report --format json").stdout).unwrap();
    let functions = json["functions"].as_array().unwrap();
    assert_eq!(functions.len(), 5);
    let puts = functions.iter().find(|row| row["function"] == "puts").unwrap();
    assert_eq!((&puts["module"], &puts["total_ns"]), (&"libc.so.6".into(), &12_000.into()));
    let csv = place.sledge("report --format csv -F puts").stdout;
    assert_eq!(
        csv.lines().nth(1),
        Some("puts,libc.so.6,1,12000,12000,12000,12000,12000,12000,12000,12000")
    );
}

#[test]
fn report_goes_by_module_and_thread_too() {
    let place = Place::with_trace();
    let by = |what: &str| place.sledge(&format!("report --format csv --by {what}")).stdout;
    assert!(by("module").contains("\nlibc.so.6,,1,12000,12000,"), "{}", by("module"));
    assert!(by("module").contains("\napp,,6,25000,13000,"), "{}", by("module"));
    assert!(by("thread").contains("\nworker [4712],,2,5000,5000,"), "{}", by("thread"));
    let said = place.sledge("report -f p50,p99 -F serve -D 1").stdout;
    let line = "    5.000 us   15.000 us  serve\n";
    assert!(said.contains("      Median        99 %  Function\n") && said.contains(line), "{said}");
}

#[test]
fn two_traces_are_compared() {
    let place = Place::with_trace();
    let said = place.sledge("report --diff trace.sledge,trace.sledge trace.sledge,trace.sledge");
    assert!(said.stdout.contains("judged by how 2 and 2 runs differ"), "{}", said.stdout);
    assert!(said.stdout.contains("+0.0 %  same   main\n"), "{}", said.stdout);
    let said = place.sledge("report --diff trace.sledge nothing.sledge");
    assert!(said.stderr.contains("cannot open nothing.sledge"), "{}", said.stderr);
    assert_eq!(said.status, Some(1));
}

#[test]
fn dump_is_one_object_a_line() {
    let said = Place::with_trace().sledge("dump --format jsonl");
    let lines: Vec<Value> =
        said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((count("thread"), count("entry"), count("exit")), (2, 7, 7));
    assert_eq!(count("thread_end"), 2);
    let times: Vec<u64> = lines.iter().map(|line| line["ts_ns"].as_u64().unwrap()).collect();
    assert!(times.is_sorted());
    let puts = lines.iter().find(|line| line["kind"] == "exit" && line["func"] == "puts").unwrap();
    let expected = serde_json::json!({"ts_ns": 15_000, "tid": 4711, "pid": 4711, "kind": "exit",
        "func": "puts", "module": "libc.so.6", "depth": 2, "duration_ns": 12_000,
        "ending": "returned"});
    assert_eq!(*puts, expected);
}

#[test]
fn output_goes_to_a_file() {
    let place = Place::with_trace();
    for command in ["replay", "report", "dump"] {
        let plain = place.sledge(command).stdout;
        let said = place.sledge(&format!("{command} -o out"));
        assert_eq!((said.stdout.as_str(), said.status), ("", Some(0)));
        assert_eq!(std::fs::read_to_string(place.path("out")).unwrap(), plain);
    }
}

#[test]
fn another_file_is_read() {
    let place = Place::with_trace();
    std::fs::rename(place.path("trace.sledge"), place.path("other")).unwrap();
    assert!(place.sledge("replay -i other").stdout.contains("main() {"));
}

#[test]
fn colour_is_for_terminals_or_on_demand() {
    let place = Place::with_trace();
    assert!(!place.sledge("replay").stdout.contains('\x1b'));
    assert!(place.sledge("replay --color always").stdout.contains("\x1b[90m/* main */\x1b[0m"));
    assert!(!place.sledge("replay --color never").stdout.contains('\x1b'));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let place = Place::new();
    let (mut writer, thread) = crate::fixture::program(&place.path("trace.sledge"));
    let mut calls = crate::fixture::Calls(Vec::new());
    for at in 0..100_000 {
        calls.enter(2 * at, crate::fixture::MAIN).leave(2 * at + 1);
    }
    writer.steps(thread, &calls.0).unwrap();
    writer.clock(sledge_trace::event::Ticks(1_000_000), 1_001_000);
    writer.finish().unwrap();
    for words in [["replay"], ["dump"]] {
        let mut command = place.command(&words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 16];
        child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        drop(child.stdout.take());
        let said = Said::from(child.wait_with_output().unwrap());
        assert_eq!((said.stderr.as_str(), said.status), ("", Some(0)));
    }
}
