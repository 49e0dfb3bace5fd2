use clap::CommandFactory;

use super::*;

fn parsed(words: &[&str]) -> Arguments {
    Arguments::try_parse_from([&["sledge"], words].concat()).unwrap()
}

#[test]
fn the_definitions_hold_together() {
    Arguments::command().debug_assert();
}

#[test]
fn what_follows_the_program_is_the_programs() {
    let live = parsed(&["-F", "main", "./app", "-F", "x", "replay", "--", "--help"]).live;
    assert_eq!(live.record.program, ["./app", "-F", "x", "replay", "--", "--help"]);
    assert_eq!(live.record.filter.filter, ["main"]);
}

#[test]
fn a_program_named_like_a_command_stands_behind_two_dashes() {
    let arguments = parsed(&["--", "replay", "-i"]);
    assert!(arguments.command.is_none());
    assert_eq!(arguments.live.record.program, ["replay", "-i"]);
    assert!(matches!(parsed(&["replay"]).command, Some(Command::Replay(_))));
}

#[test]
fn recording_has_defaults() {
    let Some(Command::Record(args)) = parsed(&["record", "ls", "-l"]).command else {
        panic!("not a record command");
    };
    assert_eq!(args.program, ["ls", "-l"]);
    assert_eq!((args.buffer, args.follow, args.full), (4 << 20, Switch::On, Full::Wait));
    assert!(!args.libs && !args.no_libcall && args.output.is_none() && args.patch.is_empty());
}

#[test]
fn a_program_is_needed_to_run_or_record() {
    assert!(Arguments::try_parse_from(["sledge"]).is_err());
    assert!(Arguments::try_parse_from(["sledge", "record"]).is_err());
    assert!(Arguments::try_parse_from(["sledge", "-F", "main"]).is_err());
    assert!(parsed(&["--generate", "bash"]).generate.is_some());
}

#[test]
fn filters_become_a_specification() {
    let words = ["replay", "-F", "a", "-F", "b@libc", "-N", "c", "-C", "d", "-H", "e", "-D", "3"];
    let Some(Command::Replay(args)) = parsed(&words).command else {
        panic!("not a replay command");
    };
    let spec = args.filter.spec().unwrap();
    let texts = |patterns: &[Pattern]| -> Vec<String> {
        patterns.iter().map(|pattern| pattern.text().to_owned()).collect()
    };
    assert_eq!(texts(&spec.filter), ["a", "b@libc"]);
    assert_eq!(texts(&spec.notrace), ["c"]);
    assert_eq!(texts(&spec.caller), ["d"]);
    assert_eq!(texts(&spec.hide), ["e"]);
    assert_eq!((spec.depth, spec.threshold), (Some(3), None));
}

#[test]
fn a_time_has_a_unit() {
    let args = parsed(&["-t", "10us", "ls"]).live.record.filter;
    assert_eq!(args.time, Some(Nanos(10_000)));
}

#[test]
fn a_wrong_pattern_is_misuse() {
    let mut args = FilterArgs { filter: vec!["(".to_owned()], ..FilterArgs::default() };
    assert!(args.spec().is_err());
    args.syntax = Match::Glob;
    assert!(args.spec().is_ok());
}
