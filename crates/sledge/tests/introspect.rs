//! What ftrace's files say, and names of generated code.
#![allow(missing_docs, reason = "tests")]

use sledge::{Ops, Registers, Tracer};
use std::ffi::c_void;
use std::hint::black_box;

#[inline(never)]
fn first(value: u64) -> u64 {
    black_box(value) + 1
}

#[inline(never)]
fn second(value: u64) -> u64 {
    black_box(value) + 2
}

#[unsafe(no_mangle)]
extern "C" fn seen_by_name(_: u64, _: u64, _: *mut c_void, _: *mut Registers) {}

extern "C" fn replacement(value: u64) -> u64 {
    black_box(value) + 1000
}

fn line<'a>(text: &'a str, function: &str) -> Option<&'a str> {
    text.lines().find(|line| line.starts_with(function))
}

#[test]
fn listings_are_those_of_ftrace() {
    let tracer = Tracer::current().unwrap();
    let available = tracer.available_filter_functions().unwrap();
    assert!(line(&available, "introspect::first").is_some());
    assert!(line(&available, "rand [libc.so.6]").is_some());
    // SAFETY: it does nothing.
    let raw = unsafe { Ops::raw(seen_by_name, std::ptr::null_mut()) };
    let raw = tracer.register(raw.filter("introspect::first")).unwrap();
    let enabled = tracer.enabled_functions().unwrap();
    let one = line(&enabled, "introspect::first").unwrap();
    let trampoline = one.split("tramp: ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(trampoline.starts_with("sledge_trampoline_"), "{one}");
    let expected = format!(
        "introspect::first (1)           \ttramp: {trampoline} (seen_by_name) ->seen_by_name"
    );
    assert_eq!(one, expected);
    let closure = Ops::entry(|_| ()).save_regs().filter("introspect::first");
    let closure = tracer.register(closure).unwrap();
    let enabled = tracer.enabled_functions().unwrap();
    let both = line(&enabled, "introspect::first").unwrap();
    assert!(both.starts_with("introspect::first (2) R         \ttramp: "), "{both}");
    assert!(both.contains("(introspect::listings_are_those_of_ftrace::{{closure}})"), "{both}");
    raw.unregister().unwrap();
    closure.unregister().unwrap();
    assert_eq!(line(&tracer.enabled_functions().unwrap(), "introspect::first"), None);
    let touched = tracer.touched_functions().unwrap();
    assert_eq!(line(&touched, "introspect::first"), Some("introspect::first (0)           "));
    // SAFETY: both take and return one integer.
    let replace = unsafe { Ops::replace(replacement as *const c_void) };
    let replace = tracer.register(replace.filter("introspect::second")).unwrap();
    assert_eq!(second(black_box(1)), 1001);
    let enabled = tracer.enabled_functions().unwrap();
    let redirected = line(&enabled, "introspect::second").unwrap();
    assert!(redirected.starts_with("introspect::second (1) R I     M \ttramp: "), "{redirected}");
    drop(replace);
    assert_eq!((first(black_box(1)), second(black_box(1))), (2, 3));
    let totals = tracer.totals().unwrap();
    let count = available.lines().count();
    assert!(totals.starts_with(&format!("{count} pages:")), "{totals}");
}

#[test]
fn generated_code_has_names() {
    let tracer = Tracer::current().unwrap();
    let path = format!("/tmp/perf-{}.map", std::process::id());
    std::fs::write(&path, "400000 20 of_a_compiler\n").unwrap();
    let ops = Ops::call(|_| Some(()), |_, ()| ()).filter("introspect::first");
    let ops = tracer.register(ops).unwrap();
    first(black_box(1));
    for _ in 0..2 {
        assert_eq!(tracer.write_perf_map().unwrap().to_str(), Some(path.as_str()));
        let text = std::fs::read_to_string(&path).unwrap();
        let named = |name: &str| {
            let lines = text.lines().filter(|line| line.contains(name));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(named("of_a_compiler"), ["400000 20 of_a_compiler"]);
        for name in ["sledge_thunk:introspect::first", "sledge_hooked:introspect::first"] {
            assert_eq!(named(name).len(), 1, "{name}: {text}");
        }
        assert!(!named("sledge_trampoline_").is_empty(), "{text}");
    }
    ops.unregister().unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let refused = tracer.write_perf_map().unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    assert!(refused.contains("perf map"), "{refused}");
}
