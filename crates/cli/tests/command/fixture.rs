//! A small trace, and the command run on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sledge_trace::Writer;
use sledge_trace::event::{
    Ending, Function, FunctionId, Object, Op, Outcome, Process, Step, Thread, ThreadId, Ticks,
};
use tempfile::TempDir;

/// A directory with traces in it.
pub(crate) struct Place {
    directory: TempDir,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// With [`server`] as its `trace.sledge`.
    pub(crate) fn with_trace() -> Self {
        let place = Self::new();
        let mut writer = server(&place.path("trace.sledge"));
        writer.outcome(Outcome::Exited(0));
        writer.finish().unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `sledge` with these words, in this directory.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sledge"));
        command.args(words).current_dir(self.directory.path());
        command.env_remove("NO_COLOR").env("TERM", "xterm");
        command
    }

    pub(crate) fn sledge(&self, words: &str) -> Said {
        let words: Vec<&str> = words.split_whitespace().collect();
        Said::from(self.command(&words).output().unwrap())
    }

    /// Only the code of a replay with these options.
    pub(crate) fn code(&self, options: &str) -> String {
        let said = self.sledge(&format!("replay -f none {options}"));
        assert_eq!((said.stderr.as_str(), said.status), ("", Some(0)));
        said.stdout
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code(),
        }
    }
}

pub(crate) const MAIN: FunctionId = FunctionId(0);
pub(crate) const SERVE: FunctionId = FunctionId(1);
const BAR: FunctionId = FunctionId(2);
pub(crate) const PUTS: FunctionId = FunctionId(3);
const NAMELESS: FunctionId = FunctionId(4);

/// A program of two threads, where a tick is a nanosecond. The first serves, an exception passes
/// through; the second serves while the first waits in `puts`.
pub(crate) fn server(path: &Path) -> Writer {
    let (mut writer, first) = program(path);
    let second =
        Thread { process: sledge_trace::event::ProcessId(0), tid: 4712, name: "worker".into() };
    let second = writer.thread(&second, Ticks(4_000));
    let mut calls = Calls(Vec::new());
    calls.enter(0, MAIN).enter(1_000, SERVE);
    calls.enter(2_000, BAR).leave(2_500);
    calls.enter(3_000, PUTS).leave(15_000);
    calls.enter(15_500, NAMELESS).end(15_800, Ending::Unwound).end(16_000, Ending::Unwound);
    calls.leave(20_000);
    writer.steps(first, &calls.0).unwrap();
    let mut calls = Calls(Vec::new());
    calls.enter(4_000, SERVE).enter(5_000, BAR).leave(8_000).leave(9_000);
    writer.steps(second, &calls.0).unwrap();
    writer.thread_end(second, Ticks(10_000));
    writer.thread_end(first, Ticks(20_000));
    writer.clock(Ticks(1_000_000), 1_001_000);
    writer
}

/// A trace of a program with its functions and first thread, but no calls yet.
pub(crate) fn program(path: &Path) -> (Writer, ThreadId) {
    let mut writer = Writer::create(path).unwrap();
    writer.clock(Ticks(0), 1_000);
    let object = |path: &str| Object { path: path.into(), build_id: vec![1, 2, 3] };
    let app = writer.object(&object("/usr/bin/app"));
    let libc = writer.object(&object("/usr/lib/libc.so.6"));
    let names = [(app, "main"), (app, "serve"), (app, "_ZN3foo3barEii"), (libc, "puts"), (app, "")];
    for (index, (object, name)) in (0..).zip(names) {
        let address = 0x1000 + 0x100 * index;
        writer.function(&Function { object, address, size: 16, name: name.into() });
    }
    let process = Process {
        pid: 4711,
        parent: None,
        executable: "/usr/bin/app".into(),
        arguments: vec!["app".into()],
    };
    let process = writer.process(&process);
    let thread = Thread { process, tid: 4711, name: "app".into() };
    let thread = writer.thread(&thread, Ticks(0));
    (writer, thread)
}

/// Steps of a thread in the making.
pub(crate) struct Calls(pub(crate) Vec<Step>);

impl Calls {
    pub(crate) fn enter(&mut self, at: u64, function: FunctionId) -> &mut Self {
        self.0.push(Step { at: Ticks(at), op: Op::Enter(function) });
        self
    }

    pub(crate) fn end(&mut self, at: u64, ending: Ending) -> &mut Self {
        self.0.push(Step { at: Ticks(at), op: Op::Leave(ending) });
        self
    }

    pub(crate) fn leave(&mut self, at: u64) -> &mut Self {
        self.end(at, Ending::Returned)
    }
}
