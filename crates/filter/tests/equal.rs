//! What is filtered while recording is what is filtered while replaying, and both are what a
//! plain recursive definition says.

use std::convert::Infallible;

use proptest::prelude::*;
use sledge_filter::{CallFilter, EventFilter, FilterSpec, Pattern, StepFilter, Syntax};
use sledge_trace::event::*;
use sledge_trace::{Selection, Trace, Writer};

const FUNCTIONS: u32 = 6;
const END: u64 = 1_000_000;

#[derive(Default)]
struct Keep(Vec<Event>);

impl Sink for Keep {
    type Error = Infallible;

    fn event(&mut self, _: &Directory, event: &Event) -> Result<(), Infallible> {
        self.0.push(*event);
        Ok(())
    }
}

/// A call: its function, the time before it begins and after its last call, and its calls.
#[derive(Clone, Debug)]
struct Tree {
    function: u32,
    time: u64,
    children: Vec<Tree>,
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = (0..FUNCTIONS, 0..40u64).prop_map(|(function, time)| Tree {
        function,
        time,
        children: Vec::new(),
    });
    leaf.prop_recursive(7, 60, 4, |inner| {
        (0..FUNCTIONS, 0..40u64, prop::collection::vec(inner, 0..4))
            .prop_map(|(function, time, children)| Tree { function, time, children })
    })
}

fn patterns() -> impl Strategy<Value = Vec<Pattern>> {
    prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::collection::vec(0..FUNCTIONS, 1..3).prop_map(|functions| {
            let pattern = |f| Pattern::new(&format!("f{f}"), Syntax::Regex).unwrap();
            functions.into_iter().map(pattern).collect()
        }),
    ]
}

fn spec() -> impl Strategy<Value = FilterSpec> {
    let threshold = prop::option::of((0..150u64).prop_map(Nanos));
    let lists = (patterns(), patterns(), patterns(), patterns());
    (lists, prop::option::of(0..4u32), threshold).prop_map(
        |((filter, notrace, caller, hide), depth, threshold)| FilterSpec {
            filter,
            notrace,
            caller,
            hide,
            depth,
            threshold,
        },
    )
}

fn call_filter(spec: &FilterSpec) -> CallFilter {
    let mut filter = CallFilter::new(spec.clone());
    for function in 0..FUNCTIONS {
        filter.learn(FunctionId(function), &[&format!("f{function}")], "app");
    }
    filter
}

fn walk(tree: &Tree, now: &mut u64, out: &mut Vec<Step>) {
    *now += tree.time;
    out.push(Step { at: Ticks(*now), op: Op::Enter(FunctionId(tree.function)) });
    for child in &tree.children {
        walk(child, now, out);
    }
    *now += tree.time + 1;
    out.push(Step { at: Ticks(*now), op: Op::Leave(Ending::Returned) });
}

/// Cuts the steps off, so that some calls never end.
fn steps_of(trees: &[Tree], cut: usize) -> Vec<Step> {
    let (mut now, mut out) = (1, Vec::new());
    trees.iter().for_each(|tree| walk(tree, &mut now, &mut out));
    out.truncate(out.len().saturating_sub(cut));
    out
}

/// Deals a thread's steps to two stacks, at random places.
fn with_stacks(steps: &[Step], other: &[Step], turns: &[usize]) -> Vec<Step> {
    let mut lanes = [steps.iter(), other.iter()];
    let (mut current, mut now, mut out) = (0, 0, Vec::new());
    for turn in turns.iter().chain(std::iter::repeat(&5)) {
        for _ in 0..*turn {
            let Some(step) = lanes[current].next() else { break };
            now += step.at.0 % 23;
            out.push(Step { at: Ticks(now), op: step.op });
        }
        if lanes.iter().all(|lane| lane.len() == 0) {
            return out;
        }
        current = 1 - current;
        out.push(Step { at: Ticks(now), op: Op::Switch(current as u32) });
    }
    out
}

fn record(lanes: &[Vec<Step>]) -> (tempfile::TempDir, Trace) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let mut writer = Writer::create(&path).unwrap();
    let object = writer.object(&Object { path: "/app".into(), build_id: Vec::new() });
    for function in 0..FUNCTIONS {
        let name = format!("f{function}");
        writer.function(&Function { object, address: u64::from(function), size: 1, name });
    }
    let (executable, arguments) = ("/app".to_owned(), Vec::new());
    let process = writer.process(&Process { pid: 1, parent: None, executable, arguments });
    for (tid, steps) in lanes.iter().enumerate() {
        let name = String::new();
        let thread = writer.thread(&Thread { process, tid: tid as u32, name }, Ticks(0));
        writer.steps(thread, steps).unwrap();
        writer.lost(thread, Ticks(90), Ticks(100), 3);
        writer.thread_end(thread, Ticks(END));
    }
    writer.finish().unwrap();
    let trace = Trace::open(&path).unwrap();
    (directory, trace)
}

fn filtered_steps(spec: &FilterSpec, steps: &[Step]) -> Vec<Step> {
    let filter = call_filter(spec);
    let mut thread = StepFilter::new(Ticks(spec.threshold.unwrap_or_default().0));
    let mut out = Vec::new();
    steps.iter().for_each(|&step| thread.push(&filter, step, &mut out));
    thread.finish(&mut out);
    out
}

/// A call as the definition sees it.
struct Judged<'t> {
    tree: &'t Tree,
    from: u64,
    to: u64,
    visible: bool,
    children: Vec<Judged<'t>>,
}

fn on(list: &[Pattern], function: u32) -> bool {
    list.iter().any(|pattern| pattern.text() == format!("f{function}"))
}

fn judge<'t>(
    spec: &FilterSpec,
    tree: &'t Tree,
    now: &mut u64,
    (mut inside, mut excluded, mut levels): (bool, bool, u32),
) -> Judged<'t> {
    *now += tree.time;
    let from = *now;
    excluded |= on(&spec.notrace, tree.function);
    if on(&spec.filter, tree.function) {
        (inside, levels) = (true, spec.depth.unwrap_or(99));
    }
    let visible = inside && !excluded && levels > 0 && !on(&spec.hide, tree.function);
    levels -= u32::from(visible);
    let children =
        tree.children.iter().map(|c| judge(spec, c, now, (inside, excluded, levels))).collect();
    *now += tree.time + 1;
    Judged { tree, from, to: *now, visible, children }
}

/// Whether the call or one within it is one that `-C` wants.
fn wanted(spec: &FilterSpec, call: &Judged<'_>) -> bool {
    spec.caller.is_empty()
        || call.visible && on(&spec.caller, call.tree.function)
        || call.children.iter().any(|child| wanted(spec, child))
}

fn tell(spec: &FilterSpec, call: &Judged<'_>, out: &mut Vec<Step>) {
    let long = call.to - call.from >= spec.threshold.unwrap_or_default().0;
    let shown = call.visible && long && wanted(spec, call);
    if shown {
        let op = Op::Enter(FunctionId(call.tree.function));
        out.push(Step { at: Ticks(call.from), op });
    }
    call.children.iter().for_each(|child| tell(spec, child, out));
    if shown {
        out.push(Step { at: Ticks(call.to), op: Op::Leave(Ending::Returned) });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_filter_does_what_its_definition_says(
        trees in prop::collection::vec(tree(), 1..4),
        spec in spec(),
    ) {
        let (mut now, mut expected) = (1, Vec::new());
        let outermost = (spec.filter.is_empty(), false, spec.depth.unwrap_or(99));
        for tree in &trees {
            let call = judge(&spec, tree, &mut now, outermost);
            tell(&spec, &call, &mut expected);
        }
        prop_assert_eq!(filtered_steps(&spec, &steps_of(&trees, 0)), expected);
    }

    #[test]
    fn recording_filtered_equals_replaying_filtered(
        trees in prop::collection::vec(prop::collection::vec(tree(), 1..4), 4),
        cuts in prop::collection::vec(0..9usize, 4),
        turns in prop::collection::vec(1..9usize, 0..20),
        spec in spec(),
    ) {
        let parts: Vec<Vec<Step>> =
            trees.iter().zip(&cuts).map(|(trees, &cut)| steps_of(trees, cut)).collect();
        let lanes = [
            parts[0].clone(),
            with_stacks(&parts[1], &parts[2], &turns),
            parts[3].clone(),
        ];
        let (_keep, whole) = record(&lanes);
        let mut replayed = Keep::default();
        let filter = call_filter(&spec);
        whole.events(&Selection::default(), &mut EventFilter::new(&filter, &mut replayed)).unwrap();

        let filtered = lanes.each_ref().map(|steps| filtered_steps(&spec, steps));
        let (_keep, part) = record(&filtered);
        let mut recorded = Keep::default();
        part.events(&Selection::default(), &mut recorded).unwrap();
        prop_assert_eq!(replayed.0, recorded.0);
    }
}

#[test]
fn a_call_is_written_as_soon_as_it_is_known_to_be_long_enough() {
    let spec = FilterSpec { threshold: Some(Nanos(100)), ..FilterSpec::default() };
    let filter = call_filter(&spec);
    let mut thread = StepFilter::new(Ticks(100));
    let mut out = Vec::new();
    let enter = |at| Step { at: Ticks(at), op: Op::Enter(FunctionId(0)) };
    let leave = |at| Step { at: Ticks(at), op: Op::Leave(Ending::Returned) };
    for step in [enter(10), enter(20), leave(30), enter(40)] {
        thread.push(&filter, step, &mut out);
    }
    assert_eq!(out, []);
    thread.push(&filter, enter(110), &mut out);
    assert_eq!(out, [enter(10)]);
    thread.finish(&mut out);
    assert_eq!(out, [enter(10), enter(40), enter(110)]);
}

#[test]
fn patterns_that_match_nothing_are_told() {
    let pattern = |text| Pattern::new(text, Syntax::Regex).unwrap();
    let spec = FilterSpec {
        filter: vec![pattern("f1"), pattern("f1@libc")],
        hide: vec![pattern("nothing.*")],
        ..FilterSpec::default()
    };
    let filter = call_filter(&spec);
    let unmatched: Vec<&str> = filter.unmatched().iter().map(|pattern| pattern.text()).collect();
    assert_eq!(unmatched, ["f1@libc", "nothing.*"]);
    assert!(!filter.is_empty());
    assert!(CallFilter::new(FilterSpec::default()).is_empty());
}
