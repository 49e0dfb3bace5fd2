//! One clear sentence on what, one on what to do.

use crate::fixture::Place;

/// The command fails with this status and exactly these lines.
fn fails(place: &Place, words: &str, status: i32, lines: &str) {
    let said = place.sledge(words);
    assert_eq!(said.stderr, lines, "sledge {words}");
    assert_eq!((said.stdout.as_str(), said.status), ("", Some(status)), "sledge {words}");
}

#[test]
fn a_missing_trace() {
    let expected = "\
sledge: cannot open trace.sledge: No such file or directory (os error 2)
        record one with: sledge record PROGRAM, or name another with -i FILE
";
    fails(&Place::new(), "replay", 1, expected);
    fails(&Place::new(), "report", 1, expected);
    fails(&Place::new(), "dump", 1, expected);
}

#[test]
fn a_file_that_is_no_trace() {
    let place = Place::new();
    std::fs::write(place.path("text"), "once upon a time there was a file\n".repeat(50)).unwrap();
    let expected = "\
sledge: text is not a trace
        name a file that sledge record has written with -i FILE
";
    fails(&place, "replay -i text", 1, expected);
}

#[test]
fn a_pattern_that_matches_nothing() {
    let expected = "\
sledge: no function matches 'sevre' in trace.sledge (did you mean 'serve'? 5 functions)
        see which there are: sledge report
";
    fails(&Place::with_trace(), "replay -F sevre", 1, expected);
}

#[test]
fn a_pattern_that_is_wrong() {
    let said = Place::with_trace().sledge("replay -F a(b");
    assert!(said.stderr.starts_with("sledge: "), "{}", said.stderr);
    assert!(said.stderr.contains("\n        a pattern is a regular expression"));
    assert_eq!(said.status, Some(2));
}

#[test]
fn a_thread_that_is_not_there() {
    let expected = "sledge: no thread 7 in the trace\n        there are: 4711, 4712\n";
    fails(&Place::with_trace(), "replay --tid 7", 1, expected);
}

#[test]
fn an_output_that_cannot_be_written() {
    let place = Place::with_trace();
    let expected = "\
sledge: cannot create no/such/file: No such file or directory (os error 2)
        give another file with -o FILE, or leave -o out
";
    fails(&place, "replay -o no/such/file", 1, expected);
    let full = "sledge: cannot write: No space left on device (os error 28)\n";
    for command in ["replay", "report", "dump"] {
        fails(&place, &format!("{command} -o /dev/full"), 1, full);
    }
}

#[test]
fn misuse_has_its_own_status() {
    let place = Place::new();
    let misuse = [
        "replay --nonsense",
        "replay -t soon",
        "report -s size",
        "-F main",
        "record --tid 1 true",
        "record",
        "",
    ];
    for words in misuse {
        let said = place.sledge(words);
        assert_eq!((said.stdout.as_str(), said.status), ("", Some(2)), "sledge {words}");
        assert!(!said.stderr.contains("error:"), "sledge {words}: {}", said.stderr);
    }
    assert!(place.sledge("replay -t soon").stderr.starts_with("sledge: invalid value 'soon'"));
}

#[test]
fn options_before_a_command_are_told() {
    let expected = "\
sledge: there is no program 'replay' in PATH
        options of a command stand behind it: sledge replay [OPTIONS]
";
    let place = Place::with_trace();
    let mut command = place.command(&["-F", "main", "replay"]);
    let output = command.env("PATH", place.path("")).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn sites_of_what_is_no_program() {
    let place = Place::with_trace();
    let expected = "\
sledge: trace.sledge is not an ELF file
        give an x86-64 program or shared library
";
    fails(&place, "sites trace.sledge", 1, expected);
    let expected = "\
sledge: ./missing does not exist
        give the path of a program or shared library
";
    fails(&place, "sites ./missing", 1, expected);
}

#[test]
fn help_and_generated_pages_go_to_stdout() {
    let place = Place::new();
    for words in ["--help", "-h", "replay --help", "--version", "--generate man", "--generate zsh"]
    {
        let said = place.sledge(words);
        assert_eq!((said.stderr.as_str(), said.status), ("", Some(0)), "sledge {words}");
        assert!(said.stdout.contains("sledge"), "sledge {words}");
    }
}
