use super::{Event, Kind, Outline, Tally, assert_balanced, calls_by_function};

/// Events of one thread, from lines as the dump writes them.
fn events(lines: &[&str]) -> Vec<Event> {
    let parse = |line: &&str| {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, more) = rest.split_once(' ').unwrap_or((rest, ""));
        let comma = if more.is_empty() { "" } else { "," };
        let json = format!(r#"{{"kind":"{kind}","tid":7,"pid":7,"func":"{name}"{comma}{more}}}"#);
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
    };
    lines.iter().map(parse).collect()
}

const WHOLE: [&str; 7] = [
    "thread",
    "entry main",
    "entry a",
    r#"exit a "ending":"unwound","duration_ns":5"#,
    "entry b",
    r#"exit b "ending":"returned""#,
    r#"thread_end  "open":1"#,
];

#[test]
fn a_whole_trace_is_balanced() {
    let events = events(&WHOLE);
    assert!(assert_balanced(&events).is_ok());
    assert_eq!(events[3].duration_ns, Some(5));
    assert_eq!(
        calls_by_function(&events).into_iter().collect::<Vec<_>>(),
        [("a", 1), ("b", 1), ("main", 1)]
    );
}

#[test]
fn what_is_not_balanced_is_said() {
    let wrongs: [(&str, &[&str]); 6] = [
        ("nothing", &["thread", r#"thread_end  "open":0"#]),
        ("had not begun", &["entry a", "exit b", r#"thread_end  "open":0"#]),
        ("had not begun", &["entry a", "exit a", "exit a", r#"thread_end  "open":0"#]),
        ("1 said open", &["entry a", "exit a", r#"thread_end  "open":1"#]),
        ("0 said open", &["entry a", r#"thread_end  "open":0"#]),
        ("3 events lost", &["entry a", "exit a", r#"lost  "count":3"#, r#"thread_end  "open":0"#]),
    ];
    for (wanted, lines) in wrongs {
        let said = assert_balanced(&events(lines)).map_err(|trouble| trouble.to_string());
        assert!(matches!(&said, Err(said) if said.contains(wanted)), "{lines:?}: {said:?}");
    }
    let endless = assert_balanced(&events(&["entry a", "exit a"]));
    assert!(endless.is_err_and(|trouble| trouble.to_string().contains("is not told")));
}

#[test]
fn outlines_show_nesting_and_endings() {
    let events = events(&WHOLE);
    assert_eq!(Outline::of(&events).text(), "main (open)\n  a (unwound)\n  b\n");
    assert_eq!(Outline::only(&events, |name| name != "main").text(), "a (unwound)\nb\n");
}

#[test]
fn kinds_it_does_not_know_are_passed_over() {
    let events = events(&["weather", "entry a", "exit a", r#"thread_end  "open":0"#]);
    assert_eq!(events[0].kind, Kind::Other);
    let mut tally = Tally::default();
    events.iter().for_each(|event| tally.add(event));
    assert_eq!((tally.entries, tally.balanced().is_ok()), (1, true));
}
