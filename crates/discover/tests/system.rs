//! Real binaries: at least 98 % of their functions are traceable.

#![allow(clippy::print_stdout, reason = "says what it skips")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{check_invariants, open};
use sledge_discover::{EntryOnly, Returns};

const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

/// What a command prints, as a path.
fn printed(program: &str, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim())).filter(|path| path.is_file())
}

fn on_path(program: &str) -> Option<PathBuf> {
    printed("sh", &["-c", &format!("readlink -f \"$(command -v {program})\"")])
}

fn check(name: &str, path: Option<PathBuf>) {
    let Some(path) = path else {
        println!("skipped: there is no {name} here");
        return;
    };
    let object = open(&path);
    let summary = object.summary();
    println!("{name}: {:.2} % of {}", summary.percent(), summary.functions);
    assert!(summary.functions > 100, "{name}: {summary:#?}");
    assert!(summary.percent() >= 98.0, "{name}: {summary:#?}");
    check_invariants(&object);
}

#[test]
fn bash() {
    check("bash", on_path("bash"));
}

#[test]
fn the_c_library() {
    check("libc", Some(PathBuf::from(LIBC)).filter(|path| path.exists()));
}

#[test]
fn git() {
    check("git", on_path("git"));
}

#[test]
fn python() {
    let library = "import sysconfig, os; v = sysconfig.get_config_var; \
        print(os.path.join(v('LIBDIR'), v('INSTSONAME')))";
    let shared = printed("python3", &["-c", library]);
    check(
        "python3",
        shared.or_else(|| printed("python3", &["-c", "import sys; print(sys.executable)"])),
    );
}

#[test]
fn perl() {
    check("perl", on_path("perl"));
}

#[test]
fn node() {
    check("node", on_path("node"));
}

#[test]
fn cargo() {
    check("cargo", printed("rustup", &["which", "cargo"]).or_else(|| on_path("cargo")));
}

#[test]
fn itself() {
    check("this test", std::env::current_exe().ok());
}

#[test]
fn the_c_library_has_functions_that_return_twice() {
    if !Path::new(LIBC).exists() {
        println!("skipped: there is no {LIBC}");
        return;
    }
    let object = open(Path::new(LIBC));
    let returns = |name: &str| {
        let function = object.function_named(name).unwrap();
        function.verdict.as_ref().unwrap().returns
    };
    for name in ["setjmp", "_setjmp", "__sigsetjmp", "getcontext", "vfork", "swapcontext"] {
        assert_eq!(returns(name), Returns::EntryOnly(EntryOnly::ReturnsTwice), "{name}");
    }
    for name in ["dlopen", "dlsym"] {
        assert_eq!(returns(name), Returns::EntryOnly(EntryOnly::ReadsReturnAddress), "{name}");
    }
    let hooked = object.functions.iter().filter_map(|function| function.verdict.as_ref().ok());
    let entry_only = hooked.filter(|site| site.returns != Returns::Hooked).count();
    assert!(entry_only < 40, "{entry_only} of libc's functions would lose their exits");
    assert!(object.export("memcpy").unwrap().is_ifunc);
    assert!(!object.export("malloc").unwrap().is_ifunc);
}
