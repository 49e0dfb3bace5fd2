//! The table of traced programs: what to build, how to run it, how it must end.

use crate::run::End;

/// One way to build and run a source in `programs/`.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Names the variant.
    pub name: &'static str,
    /// The file in `programs/`; its extension chooses the compiler.
    pub source: &'static str,
    /// Compiler flags; those that end in `.S` or `.c` name further sources in `programs/`.
    pub flags: &'static [&'static str],
    /// Arguments; `@name` is replaced by the path of that built program.
    pub arguments: &'static [&'static str],
    /// How it ends.
    pub end: End,
    /// A compiler other than the usual one.
    pub compiler: Option<&'static str>,
    /// A flag of `/proc/cpuinfo` that it needs to run.
    pub cpu: Option<&'static str>,
}

impl Program {
    const fn new(name: &'static str, source: &'static str, flags: &'static [&'static str]) -> Self {
        let end = End::Exited(0);
        Self { name, source, flags, arguments: &[], end, compiler: None, cpu: None }
    }

    /// A program that a test names itself: built as it is, with all calls in it.
    #[must_use]
    pub const fn named_source(name: &'static str, source: &'static str) -> Self {
        Self::new(name, source, DEEP)
    }

    const fn with(mut self, arguments: &'static [&'static str]) -> Self {
        self.arguments = arguments;
        self
    }

    const fn ends(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    const fn cpu(mut self, flag: &'static str) -> Self {
        self.cpu = Some(flag);
        self
    }

    const fn compiler(mut self, compiler: &'static str) -> Self {
        self.compiler = Some(compiler);
        self
    }
}

/// Recursion stays recursion, so that the numbers of calls are those of the source.
const ONE_CALL_EACH: &str = "-fno-optimize-sibling-calls";
const DEEP: &[&str] = &["-O2", ONE_CALL_EACH];
const LIBCXX: &[&str] =
    &["-O2", "-stdlib=libc++", "-rtlib=compiler-rt", "-unwindlib=libunwind", "-lunwind"];
const LIBCXX_STATIC: &[&str] = &[
    "-O2",
    "-stdlib=libc++",
    "-rtlib=compiler-rt",
    "-unwindlib=libunwind",
    "-static-libstdc++",
    "-static-libgcc",
];
const FENTRY: &[&str] = &[
    "-O2",
    ONE_CALL_EACH,
    "-pg",
    "-mfentry",
    "-mnop-mcount",
    "-mrecord-mcount",
    "-no-pie",
    "-fno-pie",
];

/// All programs that run by themselves.
pub const PROGRAMS: &[Program] = &[
    Program::new("nest-O0", "nest.c", &["-O0"]),
    Program::new("nest-O2", "nest.c", &["-O2"]),
    Program::new("rust_panic-debug", "rust_panic.rs", &["-Copt-level=0"]),
    Program::new("rust_panic-release", "rust_panic.rs", &["-Copt-level=3"]),
    Program::new("throw-O0", "throw.cpp", &["-O0"]),
    Program::new("throw-O2", "throw.cpp", DEEP),
    Program::new(
        "throw-static-runtime",
        "throw.cpp",
        &["-O2", "-static-libgcc", "-static-libstdc++"],
    ),
    Program::new("qsort_throw", "qsort_throw.cpp", &["-O2"]),
    Program::new("generator", "generator.c", DEEP),
    Program::new("returns", "returns.c", &["-O2"]),
    Program::new("returns-avx", "returns.c", &["-O2", "-mavx"]).cpu("avx"),
    Program::new("returns-avx512", "returns.c", &["-O2", "-mavx512f"]).cpu("avx512f"),
    Program::new("deep-5000", "deep.c", DEEP).with(&["5000"]),
    Program::new("deep-100000", "deep.c", DEEP).with(&["100000"]),
    Program::new("cancel", "cancel.c", DEEP),
    Program::new("sigjmp", "sigjmp.c", DEEP),
    Program::new("signals", "signals.c", &["-O2"]),
    Program::new("tail", "tail.c", &["-O2"]),
    Program::new("ipa", "ipa.c", &["-O2", "-fipa-ra"]),
    Program::new("registers", "registers.c", &["-O2", "registers.S"]),
    Program::new("registers-avx", "registers.c", &["-O2", "-mavx", "registers.S"]).cpu("avx"),
    Program::new("stackargs", "stackargs.c", &["-O2"]),
    Program::new("fork", "fork.c", DEEP),
    Program::new("shell", "shell.c", &["-O2"]),
    Program::new("vfork_exec", "vfork_exec.c", &["-O2"]),
    Program::new("threads4", "threads4.c", &["-O2"]),
    Program::new("kill9", "kill9.c", &["-O2"]).with(&["kill"]).ends(End::Killed(9)),
    Program::new("kill9-segv", "kill9.c", &["-O2"]).with(&["segv"]).ends(End::Killed(11)),
    Program::new("kill9-abort", "kill9.c", &["-O2"]).with(&["abort"]).ends(End::Killed(6)),
    Program::new("kill9-term", "kill9.c", &["-O2"]).with(&["term"]).ends(End::Killed(15)),
    Program::new("kill9-exit", "kill9.c", &["-O2"]).with(&["exit"]).ends(End::Exited(7)),
    Program::new("shortfns", "shortfns.c", &["-O2", "shortfns.S"]),
    Program::new("shortfns-no-pie", "shortfns.c", &["-O2", "-no-pie", "shortfns.S"]),
    Program::new(
        "patchable",
        "patchable.c",
        &["-O2", ONE_CALL_EACH, "-fpatchable-function-entry=5"],
    ),
    Program::new(
        "patchable-cet",
        "patchable.c",
        &["-O2", ONE_CALL_EACH, "-fcf-protection", "-fpatchable-function-entry=5"],
    ),
    Program::new(
        "patchable-before",
        "patchable.c",
        &["-O2", ONE_CALL_EACH, "-fpatchable-function-entry=16,11"],
    ),
    Program::new("patchable-fentry", "patchable.c", FENTRY),
    Program::new("patchable-pg", "patchable.c", &["-O2", ONE_CALL_EACH, "-pg"]),
    Program::new("dlopen", "dlopen.c", &["-O2"]).with(&["@plugin"]),
    Program::new("close_all_fds", "close_all_fds.c", DEEP),
    Program::new("environ", "environ.c", &["-O2"]).with(&["one", "two words", ""]),
    Program::new("exit", "exit_in_middle.c", DEEP).with(&["exit"]).ends(End::Exited(3)),
    Program::new("exit-quick", "exit_in_middle.c", DEEP).with(&["quick"]).ends(End::Exited(3)),
    Program::new("exit-raw", "exit_in_middle.c", DEEP).with(&["_exit"]).ends(End::Exited(3)),
    Program::new("exit-syscall", "exit_in_middle.c", DEEP).with(&["syscall"]).ends(End::Exited(3)),
    Program::new("exit-thread", "exit_in_middle.c", DEEP).with(&["thread"]).ends(End::Exited(3)),
    Program::new("exit-survivor", "exit_in_middle.c", DEEP)
        .with(&["survivor"])
        .ends(End::Exited(3)),
    Program::new("dynamic", "static.c", &["-O2"]),
    Program::new("static", "static.c", &["-O2", "-static"]),
    Program::new("static-pie", "static.c", &["-O2", "-static-pie"]),
    Program::new("static-stripped", "static.c", &["-O2", "-static", "-s"]),
    Program::new("static-throw", "throw.cpp", &["-O2", "-static"]),
    Program::new("static-pie-throw", "throw.cpp", &["-O2", "-static-pie"]),
    Program::new("static_unwind", "static_unwind.cpp", &["-O2", ONE_CALL_EACH, "-static"]),
    Program::new("static_unwind-O0", "static_unwind.cpp", &["-O0", "-static"]),
    Program::new("static_unwind-stripped", "static_unwind.cpp", &["-O2", "-static-pie", "-s"]),
    Program::new("static_unwind-pie", "static_unwind.cpp", &["-O2", ONE_CALL_EACH, "-static-pie"]),
    Program::new("static-musl", "static.c", &["-O2", "-static"]).compiler("musl-gcc"),
    Program::new("dynamic-musl", "environ.c", &["-O2"]).compiler("musl-gcc"),
    Program::new("stripped", "stripped.c", &["-O2", "-s"]),
    Program::new("stripped-O0-no-pie", "stripped.c", &["-O0", "-no-pie", "-s"]),
    Program::new("backtrace", "backtrace.c", &["-O2", ONE_CALL_EACH, "-rdynamic"]),
    Program::new("backtrace-O0", "backtrace.c", &["-O0", "-rdynamic"]),
    Program::new("tree", "tree.c", DEEP),
    Program::new("libunwind", "libunwind.cpp", LIBCXX).compiler("clang++"),
    Program::new("libunwind-static", "libunwind.cpp", LIBCXX_STATIC).compiler("clang++"),
];

/// What other programs and tests use.
pub const NOT_RUN_ALONE: &[Program] = &[
    Program::new("rounds", "rounds.c", &["-O2", "-fno-inline", "-pthread"]),
    Program::new("plugin", "plugin.c", &["-O2", "-shared", "-fPIC"]),
    Program::new("step", "step.c", &["-O2", "-g"]),
];

/// The program of that name.
///
/// # Panics
/// When there is none: the test is wrong.
#[must_use]
pub fn named(name: &str) -> &'static Program {
    let mut all = PROGRAMS.iter().chain(NOT_RUN_ALONE);
    all.find(|program| program.name == name).unwrap_or_else(|| panic!("no program {name}"))
}
