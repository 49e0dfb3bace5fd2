use sledge_trace::event::{Ending, EventKind};

use super::*;
use crate::names::{AsIs, Naming};
use crate::synthetic::{Script, directory};

fn replayed(script: &Script, style: Style, naming: Box<dyn Naming>) -> String {
    let mut out = Vec::new();
    let mut replay = Replay::new(&mut out, Names::new(naming), style);
    script.feed(&mut replay);
    replay.finish(&script.directory).unwrap();
    String::from_utf8(out).unwrap()
}

fn plain(script: &Script) -> String {
    replayed(script, Style::default(), Box::new(AsIs))
}

/// Only the code, without columns.
fn code(script: &Script) -> String {
    replayed(script, Style { fields: Vec::new(), colour: false }, Box::new(AsIs))
}

fn hello() -> Script {
    let mut script = Script::new(directory(&["main", "greet", "strlen", "puts"]));
    script.enter(0, 0, 0).enter(700, 0, 1);
    script.enter(800, 0, 2).end(2_004, 0);
    script.enter(2_100, 0, 3).end(13_970, 0);
    script.end(14_721, 0).end(15_333, 0);
    script
}

#[test]
fn calls_are_nested_code() {
    let expected = "\
# DURATION     TID      FUNCTION
            [ 4711] | main() {
            [ 4711] |   greet() {
   1.204 us [ 4711] |     strlen();
  11.870 us [ 4711] |     puts();
  14.021 us [ 4711] |   } /* greet */
  15.333 us [ 4711] | } /* main */
";
    assert_eq!(plain(&hello()), expected);
}

#[test]
fn another_threads_line_between_splits_a_leaf() {
    let mut script = Script::new(directory(&["wait", "work"]));
    script.enter(0, 0, 0).enter(10, 1, 1).end(20, 1).end(30, 0);
    let expected = "\
# DURATION     TID      FUNCTION
            [ 4711] | wait() {
   0.010 us [ 4712] | work();
   0.030 us [ 4711] | } /* wait */
";
    assert_eq!(plain(&script), expected);
}

#[test]
fn the_same_function_on_another_thread_is_no_leaf_of_this_one() {
    let mut script = Script::new(directory(&["f"]));
    script.enter(0, 0, 0).enter(1, 1, 0).end(2, 0).end(3, 1);
    assert_eq!(code(&script), "f() {\nf() {\n} /* f */\n} /* f */\n");
}

#[test]
fn endings_are_told_apart() {
    let mut script = Script::new(directory(&["main", "try", "throw", "vfork"]));
    script.enter(0, 0, 0).enter(1, 0, 1).enter(2, 0, 2);
    script.leave(5, 0, Ending::Unwound).leave(5, 0, Ending::Unwound);
    script.enter(6, 0, 3).leave(6, 0, Ending::NotSeen);
    let expected = "\
# DURATION     TID      FUNCTION
            [ 4711] | main() {
            [ 4711] |   try() {
   0.003 us [ 4711] |     throw(); /* unwound */
   0.004 us [ 4711] |   } /* try, unwound */
            [ 4711] |   vfork();
";
    assert_eq!(plain(&script), expected);
}

#[test]
fn what_still_ran_at_the_end_stays_open() {
    let mut script = Script::new(directory(&["main", "accept"]));
    script.enter(0, 0, 0).enter(1, 0, 1);
    script.push(9, 0, EventKind::ThreadEnd { open: 2 });
    assert_eq!(code(&script), "main() {\n  accept() {\n");
}

#[test]
fn a_loss_stands_where_it_happened() {
    let mut script = Script::new(directory(&["main", "f"]));
    script.enter(0, 0, 0);
    script.push(5, 0, EventKind::Lost { count: 123, since: Nanos(1) });
    script.push(6, 1, EventKind::Lost { count: 1, since: Nanos(1) });
    script.end(7, 0);
    let expected = "main() {\n  /* 123 events lost */\n/* 1 event lost */\n} /* main */\n";
    assert_eq!(code(&script), expected);
}

#[test]
fn a_function_without_a_name_is_an_offset_in_its_module() {
    let mut script = Script::new(directory(&["main", ""]));
    script.enter(0, 0, 1).end(1, 0);
    assert_eq!(code(&script), "app+0x1010();\n");
}

#[test]
fn every_field_has_its_column_under_its_heading() {
    let fields = Field::parse_list("time,delta,elapsed,module,comm,tid").unwrap();
    let mut script = Script::new(directory(&["main", "f"]));
    script.enter(1_000, 0, 0).enter(2_500, 0, 1).end(2_750, 0).end(1_000_004_000, 0);
    let text = replayed(&script, Style { fields, colour: false }, Box::new(AsIs));
    let expected = "\
# TIMESTAMP         DELTA     ELAPSED    MODULE           COMM              TID      FUNCTION
     0.000001000   0.000 us   0.000 us app              thread-0         [ 4711] | main() {
     0.000002500   1.500 us   1.500 us app              thread-0         [ 4711] |   f();
     1.000004000   1.000  s   1.000  s app              thread-0         [ 4711] | } /* main */
";
    assert_eq!(text, expected);
}

#[test]
fn durations_are_coloured_by_magnitude_and_comments_are_grey() {
    let fields = vec![Field::Duration];
    let mut script = Script::new(directory(&["us", "ms", "s", "m"]));
    for (function, nanos) in [500, 5_000_000, 5_000_000_000, 90_000_000_000].iter().enumerate() {
        script.enter(0, 0, function as u32).end(*nanos, 0);
    }
    script.enter(0, 0, 0).enter(0, 0, 0).end(0, 0).end(0, 0);
    let text = replayed(&script, Style { fields, colour: true }, Box::new(AsIs));
    assert!(text.contains("   0.500 us | us();"), "{text}");
    assert!(text.contains("\x1b[32m  5.000 ms\x1b[0m | ms();"), "{text}");
    assert!(text.contains("\x1b[33m  5.000  s\x1b[0m | s();"), "{text}");
    assert!(text.contains("\x1b[31m  1.500  m\x1b[0m | m();"), "{text}");
    assert!(text.contains("} \x1b[90m/* us */\x1b[0m\n"), "{text}");
}

#[test]
fn wide_tids_widen_their_column_for_all() {
    let mut script = Script::new(directory(&["f"]));
    script.directory.threads[1].tid = 4_194_303;
    script.enter(0, 0, 0).end(1, 0).enter(2, 1, 0).end(3, 1);
    let expected = "\
# DURATION     TID        FUNCTION
   0.001 us [   4711] | f();
   0.001 us [4194303] | f();
";
    assert_eq!(plain(&script), expected);
}

#[test]
fn names_that_tell_their_parameters_get_no_second_brackets() {
    #[derive(Debug)]
    struct Full;
    impl Naming for Full {
        fn readable(&self, symbol: &str) -> String {
            symbol.replace("_Z1fi", "f(int)")
        }
        fn parameters(&self) -> bool {
            true
        }
    }
    let mut script = Script::new(directory(&["_Z1fi", "main"]));
    script.enter(0, 0, 1).enter(0, 0, 0).enter(0, 0, 1).end(1, 0).end(1, 0).end(1, 0);
    let text = replayed(&script, Style { fields: Vec::new(), colour: false }, Box::new(Full));
    assert_eq!(text, "main() {\n  f(int) {\n    main();\n  } /* f(int) */\n} /* main */\n");
}

#[test]
fn fields_are_words_appended_or_none() {
    use Field::{Delta, Duration, Tid, Time};
    assert_eq!(Field::parse_list("time,tid"), Ok(vec![Time, Tid]));
    assert_eq!(Field::parse_list("+time,delta"), Ok(vec![Duration, Tid, Time, Delta]));
    assert_eq!(Field::parse_list("+tid"), Ok(vec![Duration, Tid]));
    assert_eq!(Field::parse_list("none"), Ok(vec![]));
    let error = Field::parse_list("tid,colour").unwrap_err();
    assert!(error.to_string().starts_with("there is no field 'colour' (known: duration, tid"));
}

#[test]
fn an_empty_trace_has_only_its_heading() {
    let script = Script::new(directory(&[]));
    assert_eq!(plain(&script), "# DURATION     TID      FUNCTION\n");
}
